//! Storage in memory that tells synced bytes from unsynced ones and fails on demand.
//!
//! [`MemoryStorage::crash`] gives what a disk would hold after the power went: all that was synced,
//! and as much of the rest as the caller says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StorageFile};

/// Something asked of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Making a file.
    Create,
    /// Setting a file's length.
    SetLen,
    /// Renaming a file.
    Rename,
    /// Syncing the directory.
    SyncDir,
}

/// Decides, for each operation on a file of this name, whether it fails and how.
pub type Fault = Box<dyn FnMut(Operation, &str) -> Option<io::ErrorKind> + Send>;

/// A directory in memory; clones share it.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    shared: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Content>,
    /// The names that a crash leaves, with what they named when the directory was synced.
    durable_names: BTreeMap<String, Content>,
    fault: Option<Fault>,
}

type Content = Arc<Mutex<Bytes>>;

#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl MemoryStorage {
    /// Has `fault` decide about every operation from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.disk().fault = Some(fault);
    }

    /// Lets every operation succeed again.
    pub fn clear_fault(&self) {
        self.disk().fault = None;
    }

    /// What a disk would hold if the power went now. `keep` is asked, for each file, how many of
    /// its bytes that were written but not synced reached the disk, counted from the first one.
    pub fn crash(&self, keep: &mut dyn FnMut(&str, usize) -> usize) -> Self {
        let disk = self.disk();
        let mut files = BTreeMap::new();
        for (name, content) in &disk.durable_names {
            let content = lock(content);
            let mut bytes = content.synced.clone();
            let differs = |at: &usize| content.now.get(*at) != content.synced.get(*at);
            let unsynced: Vec<usize> = (0..content.now.len()).filter(differs).collect();
            let kept = keep(name, unsynced.len()).min(unsynced.len());
            for at in &unsynced[..kept] {
                if bytes.len() <= *at {
                    bytes.resize(at + 1, 0);
                }
                bytes[*at] = content.now[*at];
            }
            let content = Bytes { now: bytes.clone(), synced: bytes };
            files.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        let disk = Disk { durable_names: files.clone(), files, fault: None };
        Self { shared: Arc::new(Mutex::new(disk)) }
    }

    /// A file's bytes.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.disk().files.get(name).map(|content| lock(content).now.clone())
    }

    /// Puts a file's bytes, synced.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let content = Arc::new(Mutex::new(Bytes { now: bytes.clone(), synced: bytes }));
        let mut disk = self.disk();
        disk.files.insert(name.to_owned(), Arc::clone(&content));
        disk.durable_names.insert(name.to_owned(), content);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.shared)
    }

    fn check(&self, operation: Operation, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let failed = disk.fault.as_mut().and_then(|fault| fault(operation, name));
        failed.map_or(Ok(()), |kind| Err(io::Error::new(kind, format!("{operation:?} {name}"))))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn absent(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Storage for MemoryStorage {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().files.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let content = self.disk().files.get(name).cloned().ok_or_else(|| absent(name))?;
        Ok(Arc::new(MemoryFile { storage: self.clone(), name: name.to_owned(), content }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.check(Operation::Create, name)?;
        let content = Content::default();
        let mut disk = self.disk();
        if disk.files.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
        }
        disk.files.insert(name.to_owned(), Arc::clone(&content));
        Ok(Arc::new(MemoryFile { storage: self.clone(), name: name.to_owned(), content }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check(Operation::Rename, from)?;
        let mut disk = self.disk();
        let content = disk.files.remove(from).ok_or_else(|| absent(from))?;
        disk.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk().files.remove(name).map(|_| ()).ok_or_else(|| absent(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.check(Operation::SyncDir, "")?;
        let mut disk = self.disk();
        disk.durable_names = disk.files.clone();
        Ok(())
    }
}

struct MemoryFile {
    storage: MemoryStorage,
    name: String,
    content: Content,
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = lock(&self.content);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = content.now.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.storage.check(Operation::Write, &self.name)?;
        let mut content = lock(&self.content);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start + bytes.len();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.storage.check(Operation::Sync, &self.name)?;
        let mut content = lock(&self.content);
        content.synced = content.now.clone();
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.storage.check(Operation::SetLen, &self.name)?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        lock(&self.content).now.resize(length, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).now.len() as u64)
    }
}
