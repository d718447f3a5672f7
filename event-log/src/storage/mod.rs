//! The files below the log, as a trait, so that a test can put a failing disk under it.
//!
//! Invariant: nothing outside this module touches the file system. All names are relative to the
//! log's directory; index files stand in `index/`.

mod file;
mod memory;

use std::io;
use std::sync::Arc;

pub use file::FileStorage;
pub use memory::{Fault, MemoryStorage, Operation};

/// A directory of the log's.
pub trait Storage: Send + Sync {
    /// Takes the right to write; fails with `WouldBlock`, the holder's process id as message,
    /// when another process has it. Held until the guard is dropped.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
    /// The names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Makes a file; fails when it is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: what was created, renamed and removed.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A file of the log's.
pub trait StorageFile: Send + Sync {
    /// Fills the buffer from an offset.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, its length included.
    fn sync(&self) -> io::Result<()>;
    /// Sets the length.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// The length.
    fn len(&self) -> io::Result<u64>;
}
