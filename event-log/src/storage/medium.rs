//! The few things the log asks of a disk, so that faults can be put in between.
//!
//! Invariant: names are relative to the log's directory; `index/` is its only subdirectory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// A directory of files.
pub trait Storage: Send + Sync {
    /// Creates the directory and `index/` in it, durably, unless they are there.
    fn create_dirs(&self) -> io::Result<()>;
    /// Creates an empty file, replacing one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>>;
    /// All files in the directory and in `index/`; nothing when the directory is missing.
    fn list(&self) -> io::Result<Vec<StoredFile>>;
    /// Gives a file another name, replacing one that has it. Durable after [`Storage::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`Storage::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names that were added, changed or removed in the directory durable. Of a storage whose
    /// [`Storage::create_dirs`] was called, nothing has to be opened for it.
    fn sync_dir(&self) -> io::Result<()>;
    /// Takes the exclusive lock on file `name`, and writes `holder` into it.
    fn lock(&self, name: &str, holder: &str) -> io::Result<LockOutcome>;
}

/// An open file. Places are given with each call, so that it can be shared.
pub trait StorageFile: Send + Sync {
    /// Reads into `bytes` from `offset`; fewer bytes only at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once all that was written is durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Sets the file's length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// The file's length.
    fn bytes(&self) -> io::Result<u64>;
}

/// What an open file may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name, with `index/` before it when it stands there.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// What came of an attempt to lock.
pub enum LockOutcome {
    /// The lock is held until the guard is dropped.
    Acquired(Box<dyn Send + Sync>),
    /// Another one holds it.
    Held {
        /// What that one wrote into the file.
        holder: String,
    },
}

/// Reads `count` bytes from `offset`, fewer at the end of the file.
pub(crate) fn read_bytes(file: &dyn StorageFile, offset: u64, count: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; count];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

/// Whether the system says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether the system is short of what it needs for looking at all: memory (ENOMEM) or file handles
/// (ENFILE, EMFILE). That tells nothing of what is on the medium.
pub(crate) fn is_short(error: &io::Error) -> bool {
    const NO_HANDLES: [i32; 2] = [23, 24];
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::OutOfMemory
        || code.is_some_and(|code| NO_HANDLES.contains(&code))
}
