//! The log's directory in memory, where a crash and every fault can be played.
//!
//! Invariant: what was not synced is kept apart, so that a crash can lose any part of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Access, LockOutcome, Storage, StorageFile, StoredFile};
use crate::codec::to_usize;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What is about to be done to a file.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// The kind of operation.
    pub kind: OperationKind,
    /// The file; empty for the directory itself.
    pub name: &'a str,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: usize,
}

/// The kinds of operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Creating a file.
    Create,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Making a file's bytes durable.
    Sync,
    /// Setting a file's length.
    Truncate,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Making the directory durable.
    SyncDir,
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Proceed,
    /// It fails. A sync that fails loses what it should have made durable, as real ones may.
    Fail(io::ErrorKind),
    /// A write puts down its first `keep` bytes, then fails.
    Tear {
        /// Bytes that are written.
        keep: usize,
        /// The error that is reported.
        error: io::ErrorKind,
    },
}

/// Decides over each operation.
pub trait Faults: Send + Sync {
    /// Called before the operation is carried out.
    fn before(&self, operation: Operation<'_>) -> Fate;
}

impl<F: Fn(Operation<'_>) -> Fate + Send + Sync> Faults for F {
    fn before(&self, operation: Operation<'_>) -> Fate {
        self(operation)
    }
}

/// What a crash does to writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of them are lost, and so are names that were not synced.
    All,
    /// None of them are lost: only the process died.
    None,
    /// Each sector and each name is lost or not, as this seed has it.
    Some {
        /// Start of the pseudo-random sequence.
        seed: u64,
    },
}

/// Files in memory.
#[derive(Clone)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    faults: Arc<dyn Faults>,
}

#[derive(Default)]
struct Disk {
    live: BTreeMap<String, Arc<Mutex<Content>>>,
    durable: BTreeMap<String, Arc<Mutex<Content>>>,
    holder: Option<String>,
}

#[derive(Default, Clone)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

struct MemoryFile {
    name: String,
    content: Arc<Mutex<Content>>,
    faults: Arc<dyn Faults>,
}

struct MemoryLock(Arc<Mutex<Disk>>);

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(faults: &dyn Faults, kind: OperationKind, name: &str) -> io::Result<()> {
    match faults.before(Operation {
        kind,
        name,
        offset: 0,
        bytes: 0,
    }) {
        Fate::Proceed => Ok(()),
        Fate::Fail(error) | Fate::Tear { error, .. } => Err(error.into()),
    }
}

fn put(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty directory without faults.
    pub fn new() -> Self {
        Self::with_faults(|_: Operation<'_>| Fate::Proceed)
    }

    /// An empty directory whose operations `faults` decides over.
    pub fn with_faults(faults: impl Faults + 'static) -> Self {
        Self {
            disk: Arc::default(),
            faults: Arc::new(faults),
        }
    }

    /// The same files, with other faults from here on and a lock of its own.
    #[must_use]
    pub fn after_crash(&self, loss: Loss, faults: impl Faults + 'static) -> Self {
        let disk = guard(&self.disk);
        let mut dice = Dice::new(loss);
        let names = if dice.keep() {
            &disk.live
        } else {
            &disk.durable
        };
        let files: BTreeMap<String, Arc<Mutex<Content>>> = names
            .iter()
            .map(|(name, content)| {
                let bytes = guard(content).survivors(&mut dice);
                let content = Content {
                    live: bytes.clone(),
                    durable: bytes,
                    pending: Vec::new(),
                };
                (name.clone(), Arc::new(Mutex::new(content)))
            })
            .collect();
        let disk = Disk {
            live: files.clone(),
            durable: files,
            holder: None,
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            faults: Arc::new(faults),
        }
    }

    /// The bytes of a file as they are now.
    pub fn bytes_of(&self, name: &str) -> Option<Vec<u8>> {
        let disk = guard(&self.disk);
        disk.live
            .get(name)
            .map(|content| guard(content).live.clone())
    }

    /// Puts a file down as if it had always been there.
    pub fn put_file(&self, name: &str, bytes: Vec<u8>) {
        let content = Content {
            live: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        };
        let content = Arc::new(Mutex::new(content));
        let mut disk = guard(&self.disk);
        disk.live.insert(name.to_owned(), Arc::clone(&content));
        disk.durable.insert(name.to_owned(), content);
    }

    fn file(&self, name: &str, content: &Arc<Mutex<Content>>) -> Arc<dyn StorageFile> {
        Arc::new(MemoryFile {
            name: name.to_owned(),
            content: Arc::clone(content),
            faults: Arc::clone(&self.faults),
        })
    }
}

/// Decides sector by sector what survives.
struct Dice {
    loss: Loss,
    state: u64,
}

impl Dice {
    fn new(loss: Loss) -> Self {
        let state = if let Loss::Some { seed } = loss {
            seed
        } else {
            0
        };
        Self { loss, state }
    }

    fn keep(&mut self) -> bool {
        match self.loss {
            Loss::All => false,
            Loss::None => true,
            Loss::Some { .. } => {
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = self.state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (mixed ^ (mixed >> 31)) & 1 == 0
            }
        }
    }
}

impl Content {
    fn survivors(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for pending in &self.pending {
            match pending {
                Pending::Truncate(length) if dice.keep() => bytes.resize(*length, 0),
                Pending::Truncate(_) => {}
                Pending::Write {
                    offset,
                    bytes: written,
                } => {
                    let mut at = 0;
                    while at < written.len() {
                        let sector_end = (offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
                        let end = written.len().min(sector_end - offset);
                        if dice.keep() {
                            put(&mut bytes, offset + at, &written[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        bytes
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.live, offset, bytes);
        self.pending.push(Pending::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, bytes } => put(&mut self.durable, offset, &bytes),
                Pending::Truncate(length) => self.durable.resize(length, 0),
            }
        }
    }
}

impl Storage for MemoryStorage {
    fn create_dirs(&self) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        refuse(&*self.faults, OperationKind::Create, name)?;
        let content = Arc::<Mutex<Content>>::default();
        guard(&self.disk)
            .live
            .insert(name.to_owned(), Arc::clone(&content));
        Ok(self.file(name, &content))
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let disk = guard(&self.disk);
        let content = disk.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(name, content))
    }

    fn list(&self) -> io::Result<Vec<StoredFile>> {
        let disk = guard(&self.disk);
        let files = disk.live.iter().map(|(name, content)| StoredFile {
            name: name.clone(),
            bytes: guard(content).live.len() as u64,
        });
        Ok(files.collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        refuse(&*self.faults, OperationKind::Rename, from)?;
        let mut disk = guard(&self.disk);
        let content = disk.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.live.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        refuse(&*self.faults, OperationKind::Remove, name)?;
        let removed = guard(&self.disk).live.remove(name);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        refuse(&*self.faults, OperationKind::SyncDir, "")?;
        let mut disk = guard(&self.disk);
        disk.durable = disk.live.clone();
        Ok(())
    }

    fn lock(&self, _name: &str, holder: &str) -> io::Result<LockOutcome> {
        let mut disk = guard(&self.disk);
        if let Some(holder) = &disk.holder {
            return Ok(LockOutcome::Held {
                holder: holder.clone(),
            });
        }
        disk.holder = Some(holder.to_owned());
        Ok(LockOutcome::Acquired(Box::new(MemoryLock(Arc::clone(
            &self.disk,
        )))))
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        guard(&self.0).holder = None;
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        refuse(&*self.faults, OperationKind::Read, &self.name)?;
        Ok(copy_from(&guard(&self.content).live, bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let kind = OperationKind::Write;
        let operation = Operation {
            kind,
            name: &self.name,
            offset,
            bytes: bytes.len(),
        };
        let fate = self.faults.before(operation);
        let mut content = guard(&self.content);
        match fate {
            Fate::Proceed => content.write(to_usize(offset), bytes),
            Fate::Fail(error) => return Err(error.into()),
            Fate::Tear { keep, error } => {
                content.write(to_usize(offset), &bytes[..keep.min(bytes.len())]);
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let refused = refuse(&*self.faults, OperationKind::Sync, &self.name);
        let mut content = guard(&self.content);
        match refused {
            Ok(()) => content.sync(),
            Err(_) => content.pending.clear(),
        }
        refused
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        refuse(&*self.faults, OperationKind::Truncate, &self.name)?;
        let mut content = guard(&self.content);
        content.live.resize(to_usize(bytes), 0);
        content.pending.push(Pending::Truncate(to_usize(bytes)));
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(guard(&self.content).live.len() as u64)
    }
}

fn copy_from(source: &[u8], bytes: &mut [u8], offset: u64) -> usize {
    let from = to_usize(offset).min(source.len());
    let count = bytes.len().min(source.len() - from);
    bytes[..count].copy_from_slice(&source[from..from + count]);
    count
}

/// A file without a directory: where a reader that must not write keeps an index it had to build.
#[derive(Default)]
pub(crate) struct Scratch(RwLock<Vec<u8>>);

impl StorageFile for Scratch {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(copy_from(&content, bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        put(&mut content, to_usize(offset), bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .resize(to_usize(bytes), 0);
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_synced_and_only_that() {
        let storage = MemoryStorage::new();
        let file = storage.create("a").unwrap();
        file.write_at(b"kept", 0).unwrap();
        file.sync_data().unwrap();
        storage.sync_dir().unwrap();
        file.write_at(b"lost", 4).unwrap();
        storage.create("b").unwrap();
        let calm = |_: Operation<'_>| Fate::Proceed;
        let after = storage.after_crash(Loss::All, calm);
        assert_eq!(after.bytes_of("a").unwrap(), b"kept");
        assert_eq!(after.bytes_of("b"), None);
        assert_eq!(
            storage.after_crash(Loss::None, calm).bytes_of("a").unwrap(),
            b"keptlost"
        );
    }

    #[test]
    fn a_sync_that_fails_loses_its_bytes_for_good() {
        let storage = MemoryStorage::with_faults(|operation: Operation<'_>| {
            if operation.kind == OperationKind::Sync && operation.name == "a" {
                return Fate::Fail(io::ErrorKind::Other);
            }
            Fate::Proceed
        });
        let file = storage.create("a").unwrap();
        storage.sync_dir().unwrap();
        file.write_at(b"x", 0).unwrap();
        assert!(file.sync_data().is_err());
        let after = storage.after_crash(Loss::None, |_: Operation<'_>| Fate::Proceed);
        assert_eq!(after.bytes_of("a").unwrap(), b"");
    }
}
