//! The files below the store, as a trait, so that a test can put a failing disk under it.
//!
//! Invariant: nothing outside this module touches the file system. All names are relative to the
//! store's directory and use `/`; the empty name is the directory itself.

mod file;
mod memory;

use std::io;
use std::sync::Arc;

pub use file::FileStorage;
pub use memory::{Fault, MemoryStorage, Operation};

/// A directory of the store's, with directories in it.
pub trait Storage: Send + Sync {
    /// Takes the right to write; fails with `WouldBlock`, the holder's process id as message, when
    /// another process has it. Held until the guard is dropped.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
    /// Makes a directory unless it is there. Durable once the directory that it stands in is synced.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// The files in a directory, in no order; none when there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<Listed>>;
    /// Opens a file for reading and, where that is allowed, writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Makes a file; fails when it is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Opens a directory that is there, to make the names in it durable. Whoever changes names opens
    /// their directory first: a system that has no file handles left refuses that, and nothing was
    /// changed yet.
    fn open_dir(&self, dir: &str) -> io::Result<Box<dyn Directory>>;
}

/// A directory of the store's that is open.
pub trait Directory: Send + Sync {
    /// Makes the names in it durable: what was created, renamed and removed.
    fn sync(&self) -> io::Result<()>;
}

/// A file as a directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in its directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A file of the store's.
pub trait StorageFile: Send + Sync {
    /// Reads from an offset until the buffer is full or the file ends; says how much.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, its length included.
    fn sync(&self) -> io::Result<()>;
    /// Sets the length.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// The length.
    fn len(&self) -> io::Result<u64>;
    /// Whether nothing is in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(storage: &dyn Storage, name: &str) -> io::Result<()> {
    match storage.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
