//! Storage in memory that tells synced bytes from unsynced ones and fails on demand.
//!
//! [`MemoryStorage::crash`] gives what a disk would hold after the power went: all that was
//! synced, and as much of the rest as the caller says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Directory, Listed, Storage, StorageFile};

/// Something asked of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Opening a file that is there.
    Open,
    /// Making a file.
    Create,
    /// Setting a file's length.
    SetLen,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Opening a directory.
    OpenDir,
    /// Syncing a directory.
    SyncDir,
}

/// Decides, for each operation on a file of this name, whether it fails and how.
pub type Fault = Box<dyn FnMut(Operation, &str) -> Option<io::ErrorKind> + Send>;

/// A directory in memory; clones share it.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Content>,
    /// The names that a crash leaves, with what they named when their directory was synced.
    durable: BTreeMap<String, Content>,
    fault: Option<Fault>,
    late_fault: Option<Fault>,
}

type Content = Arc<Mutex<Bytes>>;

#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Bytes that a failed sync lost: they are read, and no later sync brings them to the disk
    /// unless they are written again.
    lost: BTreeSet<usize>,
}

impl Bytes {
    fn durable(bytes: Vec<u8>) -> Self {
        Self {
            now: bytes.clone(),
            synced: bytes,
            lost: BTreeSet::new(),
        }
    }

    fn lose(&mut self) {
        let unsynced =
            (0..self.now.len()).filter(|at| self.synced.get(*at) != Some(&self.now[*at]));
        self.lost.extend(unsynced);
    }

    fn sync(&mut self) {
        let before = std::mem::replace(&mut self.synced, self.now.clone());
        for at in &self.lost {
            if let Some(byte) = self.synced.get_mut(*at) {
                *byte = before.get(*at).copied().unwrap_or_default();
            }
        }
    }
}

impl MemoryStorage {
    /// Has `fault` decide about every operation from now on.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.disk).fault = Some(fault);
    }

    /// Has `fault` decide, from now on, which operations are carried out and fail all the same.
    /// Reads, creations and openings never do.
    pub fn set_late_fault(&self, fault: Fault) {
        lock(&self.disk).late_fault = Some(fault);
    }

    /// Lets every operation succeed again.
    pub fn clear_fault(&self) {
        let mut disk = lock(&self.disk);
        disk.fault = None;
        disk.late_fault = None;
    }

    /// What a disk would hold if the power went now. `keep` is asked, for each file with unsynced
    /// bytes, whether the unsynced byte at an offset reached the disk.
    #[must_use]
    pub fn crash(&self, keep: &mut dyn FnMut(&str, usize) -> bool) -> Self {
        let disk = lock(&self.disk);
        let mut files = BTreeMap::new();
        for (name, content) in &disk.durable {
            let content = lock(content);
            let mut bytes = content.synced.clone();
            bytes.resize(content.now.len().max(bytes.len()), 0);
            for (at, byte) in bytes.iter_mut().enumerate() {
                let now = content.now.get(at).copied().unwrap_or(*byte);
                if now != *byte && keep(name, at) {
                    *byte = now;
                }
            }
            files.insert(name.clone(), Arc::new(Mutex::new(Bytes::durable(bytes))));
        }
        let disk = Disk {
            durable: files.clone(),
            files,
            fault: None,
            late_fault: None,
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// A file's bytes.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.disk)
            .files
            .get(name)
            .map(|content| lock(content).now.clone())
    }

    /// Puts a file's bytes, durably.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let content = Arc::new(Mutex::new(Bytes::durable(bytes)));
        let mut disk = lock(&self.disk);
        disk.files.insert(name.to_owned(), Arc::clone(&content));
        disk.durable.insert(name.to_owned(), content);
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        lock(&self.disk).files.keys().cloned().collect()
    }

    /// Whether an operation is carried out.
    fn check(&self, operation: Operation, name: &str) -> io::Result<()> {
        Self::ask(&mut lock(&self.disk).fault, operation, name)
    }

    /// What is told of an operation that was carried out.
    fn told(&self, operation: Operation, name: &str) -> io::Result<()> {
        Self::ask(&mut lock(&self.disk).late_fault, operation, name)
    }

    fn ask(fault: &mut Option<Fault>, operation: Operation, name: &str) -> io::Result<()> {
        let failed = fault.as_mut().and_then(|fault| fault(operation, name));
        failed.map_or(Ok(()), |kind| {
            Err(io::Error::new(kind, format!("{operation:?} {name}")))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn absent(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

/// The name inside the directory, when it stands right in it.
fn within<'a>(dir: &str, name: &'a str) -> Option<&'a str> {
    let rest = if dir.is_empty() {
        name
    } else {
        name.strip_prefix(dir)?.strip_prefix('/')?
    };
    (!rest.contains('/')).then_some(rest)
}

impl Storage for MemoryStorage {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn make_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Listed>> {
        let disk = lock(&self.disk);
        let listed = disk.files.iter().filter_map(|(name, content)| {
            let bytes =
                u64::try_from(lock(content).now.len()).expect("a length in memory fits 64 bits");
            Some(Listed {
                name: within(dir, name)?.to_owned(),
                bytes,
            })
        });
        Ok(listed.collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.check(Operation::Open, name)?;
        let content = lock(&self.disk)
            .files
            .get(name)
            .cloned()
            .ok_or_else(|| absent(name))?;
        Ok(Arc::new(MemoryFile {
            storage: self.clone(),
            name: name.to_owned(),
            content,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.check(Operation::Create, name)?;
        let content = Content::default();
        let mut disk = lock(&self.disk);
        if disk.files.contains_key(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                name.to_owned(),
            ));
        }
        disk.files.insert(name.to_owned(), Arc::clone(&content));
        Ok(Arc::new(MemoryFile {
            storage: self.clone(),
            name: name.to_owned(),
            content,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check(Operation::Rename, to)?;
        let mut disk = lock(&self.disk);
        let content = disk.files.remove(from).ok_or_else(|| absent(from))?;
        disk.files.insert(to.to_owned(), content);
        drop(disk);
        self.told(Operation::Rename, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check(Operation::Remove, name)?;
        let removed = lock(&self.disk).files.remove(name);
        removed.ok_or_else(|| absent(name))?;
        self.told(Operation::Remove, name)
    }

    fn open_dir(&self, dir: &str) -> io::Result<Box<dyn Directory>> {
        self.check(Operation::OpenDir, dir)?;
        Ok(Box::new(MemoryDirectory {
            storage: self.clone(),
            name: dir.to_owned(),
        }))
    }
}

struct MemoryDirectory {
    storage: MemoryStorage,
    name: String,
}

impl Directory for MemoryDirectory {
    fn sync(&self) -> io::Result<()> {
        let dir = &self.name;
        self.storage.check(Operation::SyncDir, dir)?;
        let mut disk = lock(&self.storage.disk);
        disk.durable.retain(|name, _| within(dir, name).is_none());
        let here = disk
            .files
            .iter()
            .filter(|(name, _)| within(dir, name).is_some());
        let here: Vec<_> = here
            .map(|(name, content)| (name.clone(), Arc::clone(content)))
            .collect();
        disk.durable.extend(here);
        drop(disk);
        self.storage.told(Operation::SyncDir, dir)
    }
}

struct MemoryFile {
    storage: MemoryStorage,
    name: String,
    content: Content,
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.storage.check(Operation::Read, &self.name)?;
        let content = lock(&self.content);
        let rest = content.now.get(place(offset)?..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.storage.check(Operation::Write, &self.name)?;
        let mut content = lock(&self.content);
        let start = place(offset)?;
        let end = start + bytes.len();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[start..end].copy_from_slice(bytes);
        content.lost.retain(|at| !(start..end).contains(at));
        drop(content);
        self.storage.told(Operation::Write, &self.name)
    }

    fn sync(&self) -> io::Result<()> {
        let verdict = self.storage.check(Operation::Sync, &self.name);
        let mut content = lock(&self.content);
        match &verdict {
            Ok(()) => content.sync(),
            Err(_) => content.lose(),
        }
        drop(content);
        verdict.and_then(|()| self.storage.told(Operation::Sync, &self.name))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.storage.check(Operation::SetLen, &self.name)?;
        lock(&self.content).now.resize(place(bytes)?, 0);
        self.storage.told(Operation::SetLen, &self.name)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(lock(&self.content).now.len()).expect("a length in memory fits 64 bits"))
    }
}
