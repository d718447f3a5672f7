//! Where backups go: named files, each there whole or not at all.
//!
//! Invariant: names are those that the format gives, parts divided by `/`. Nothing here knows what
//! is in the files.

use std::io::{self, Read, Write};

/// A place of named files. A directory is one, a store of objects another.
pub trait Target: Send + Sync {
    /// What it is called, for people.
    fn told(&self) -> String;
    /// One of the names in it that neither a backup gave nor a file system or a desktop by itself,
    /// where no backup is yet. It is looked for before anything is written, the lock included. None
    /// where others may well have theirs: a prefix of a bucket is no directory.
    fn of_others(&self) -> io::Result<Option<String>>;
    /// Takes the right to write, until the guard is dropped.
    fn lock(&self) -> io::Result<LockOutcome>;
    /// Opens a file for reading; `NotFound` when there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// The length of a file; none when there is none.
    fn bytes(&self, name: &str) -> io::Result<Option<u64>>;
    /// Begins a file. It has its name once [`Draft::finish`] returned, and replaces one of that name.
    fn begin(&self, name: &str) -> io::Result<Box<dyn Draft>>;
    /// Notes what has a name now, for [`replace`](Self::replace).
    fn seen(&self, name: &str) -> io::Result<Seen>;
    /// Begins a file that takes its name only from what was seen there, if the target can tell.
    fn replace(&self, name: &str, seen: &Seen) -> io::Result<Box<dyn Draft>>;
    /// The names of all files below a directory, what was left unfinished included.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Removes a file; none need be there.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// What had a name when it was looked at. A target whose lock cannot be lost notes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(pub(crate) Option<String>);

/// A file that is being written.
pub trait Draft: Write + Send {
    /// Makes all that was written durable, and gives the file its name, durably.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What came of an attempt to lock.
pub enum LockOutcome {
    /// The lock is held until the guard is dropped.
    Acquired(Box<dyn Send + Sync>),
    /// Another one holds it.
    Held {
        /// Who, as far as it can be told.
        holder: String,
    },
}
