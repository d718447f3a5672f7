//! Files that readers keep open, up to a limit.
//!
//! Invariant: the file used longest ago is closed first; a file in use stays open by its owner.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::storage::{Access, Storage, StorageFile};

type Opened = VecDeque<(String, Arc<dyn StorageFile>)>;

/// Open files by name.
pub(crate) struct Files {
    storage: Arc<dyn Storage>,
    open_max: usize,
    /// The file used last comes last.
    opened: Mutex<Opened>,
}

impl Files {
    pub(crate) fn new(storage: Arc<dyn Storage>, open_max: usize) -> Self {
        Self {
            storage,
            open_max,
            opened: Mutex::default(),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        if let Some(file) = self.find(name) {
            return Ok(file);
        }
        let file = self.storage.open(name, Access::Read)?;
        let mut opened = self.guard();
        opened.push_back((name.to_owned(), Arc::clone(&file)));
        if opened.len() > self.open_max {
            opened.pop_front();
        }
        Ok(file)
    }

    /// Closes a file that was removed or replaced.
    pub(crate) fn forget(&self, name: &str) {
        self.guard().retain(|(other, _)| other != name);
    }

    fn find(&self, name: &str) -> Option<Arc<dyn StorageFile>> {
        let mut opened = self.guard();
        let index = opened.iter().rposition(|(other, _)| other == name)?;
        if index + 1 < opened.len() {
            let found = opened.remove(index)?;
            opened.push_back(found);
        }
        opened.back().map(|(_, file)| Arc::clone(file))
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
