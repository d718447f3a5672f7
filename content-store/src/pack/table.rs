//! Which packs there are, and which of them are open for reading.
//!
//! Invariant: at most `open_max` files are held here; a file that a reader still holds stays
//! readable after it was let go or removed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::format::pack_name;
use crate::storage::{Storage, StorageFile};

/// What may happen to a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackPhase {
    /// Blobs are appended to it.
    Active,
    /// It takes no more.
    Sealed,
    /// It is damaged and has no seal: read as far as it can be, never written.
    Stuck,
}

/// What is known of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackState {
    pub(crate) phase: PackPhase,
    pub(crate) disk_bytes: u64,
    pub(crate) dead_bytes: u64,
    /// Where what is durable ends.
    pub(crate) end: u64,
}

/// All packs of a store.
pub(crate) struct Packs {
    table: Mutex<Table>,
    open_max: usize,
}

#[derive(Default)]
struct Table {
    states: BTreeMap<u32, PackState>,
    open: BTreeMap<u32, Open>,
    tick: u64,
}

struct Open {
    file: Arc<dyn StorageFile>,
    used: u64,
}

impl Packs {
    pub(crate) fn new(states: BTreeMap<u32, PackState>, open_max: usize) -> Self {
        Self {
            table: Mutex::new(Table {
                states,
                ..Table::default()
            }),
            open_max,
        }
    }

    /// A pack's file; none when there is no such pack any more.
    pub(crate) fn file(
        &self,
        storage: &dyn Storage,
        number: u32,
    ) -> io::Result<Option<Arc<dyn StorageFile>>> {
        let mut table = self.table();
        table.tick += 1;
        let tick = table.tick;
        if let Some(open) = table.open.get_mut(&number) {
            open.used = tick;
            return Ok(Some(Arc::clone(&open.file)));
        }
        let file = match storage.open(&pack_name(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if table.open.len() >= self.open_max
            && let Some(oldest) = table
                .open
                .iter()
                .min_by_key(|(_, open)| open.used)
                .map(|(number, _)| *number)
        {
            table.open.remove(&oldest);
        }
        table.open.insert(
            number,
            Open {
                file: Arc::clone(&file),
                used: tick,
            },
        );
        Ok(Some(file))
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.table().states.keys().copied().collect()
    }

    pub(crate) fn state(&self, number: u32) -> Option<PackState> {
        self.table().states.get(&number).copied()
    }

    pub(crate) fn states(&self) -> Vec<PackState> {
        self.table().states.values().copied().collect()
    }

    pub(crate) fn insert(&self, number: u32, state: PackState) {
        self.table().states.insert(number, state);
    }

    pub(crate) fn change(&self, number: u32, change: impl FnOnce(&mut PackState)) {
        if let Some(state) = self.table().states.get_mut(&number) {
            change(state);
        }
    }

    pub(crate) fn remove(&self, number: u32) {
        let mut table = self.table();
        table.states.remove(&number);
        table.open.remove(&number);
    }

    pub(crate) fn replace_all(&self, states: BTreeMap<u32, PackState>) {
        *self.table() = Table {
            states,
            ..Table::default()
        };
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
