//! What can go wrong, one type for each family of operations.

use std::io;
use std::sync::Arc;

use crate::{DamageKind, Digest, OptionsError};

/// A store could not be opened. Nothing was changed but what recovery had finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Another process has the store open for writing.
    #[error("content store is locked by process {}", .pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The process, when its lock file says so.
        pid: Option<u32>,
    },
    /// A file has a format version that this program does not know.
    #[error("{file} has format version {version}")]
    Unsupported {
        /// The file, relative to the store's directory.
        file: String,
        /// Its version.
        version: u32,
    },
    /// The file system refused.
    #[error("open {file}")]
    Io {
        /// The file, relative to the store's directory.
        file: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// Whether the system was short of memory or file handles, which tells nothing of what is stored.
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_short(source))
    }
}

/// A blob was not stored. It may be there all the same when the failure came late: as an orphan,
/// never half.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The blob has more bytes than a blob may have; nothing of it is left.
    #[error("blob exceeds the limit of {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The disk is full; nothing was stored, and the store goes on when there is room.
    #[error("disk is full")]
    Full {
        /// What the file system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file system refused; nothing was acknowledged.
    #[error("store a blob")]
    Io {
        /// What it said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write or sync failed earlier; the store takes no more until it is opened again.
    #[error("content store refuses writes since a failure: {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The store was closed.
    #[error("content store is closed")]
    Closed,
    /// The store was opened for reading only.
    #[error("content store is open for reading only")]
    ReadOnly,
}

impl PutError {
    /// Tells a full disk from any other failure.
    pub(crate) fn from_io(source: io::Error) -> Self {
        let (is_full, source) = (is_full(&source), Arc::new(source));
        if is_full {
            Self::Full { source }
        } else {
            Self::Io { source }
        }
    }
}

/// Whether the system is short of what it needs for looking at all: memory (ENOMEM) or file handles
/// (ENFILE, EMFILE). That tells nothing of what is stored.
pub(crate) fn is_short(error: &io::Error) -> bool {
    const NO_HANDLES: [i32; 2] = [23, 24];
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::OutOfMemory
        || code.is_some_and(|code| NO_HANDLES.contains(&code))
}

/// Whether what failed for want of room may succeed once there is some.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A blob could not be read. No byte of it was given out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stored bytes are not what was stored. Putting the same blob again heals it.
    #[error("{digest} is damaged in {file} at byte {offset}: {kind}")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// The file, relative to the store's directory.
        file: String,
        /// Where in the file the damaged part begins.
        offset: u64,
        /// What is wrong.
        kind: DamageKind,
    },
    /// The blob is longer than the caller would take.
    #[error("{digest} has {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its length.
        bytes: u64,
        /// What the caller would take.
        bytes_max: u64,
    },
    /// A file has a format version that this program does not know.
    #[error("{file} has format version {version}")]
    Unsupported {
        /// The file, relative to the store's directory.
        file: String,
        /// Its version.
        version: u32,
    },
    /// The file system refused.
    #[error("read {file}")]
    Io {
        /// The file, relative to the store's directory.
        file: String,
        /// What it said.
        #[source]
        source: Arc<io::Error>,
    },
}

impl ReadError {
    /// Whether the system was short of memory or file handles, which tells nothing of what is stored.
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_short(source))
    }

    pub(crate) fn io(file: &str, source: io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// A collection stopped. What it removed before stays removed; nothing live was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The file system refused.
    #[error("collect {file}")]
    Io {
        /// The file, relative to the store's directory.
        file: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The writer refused to mark or to move blobs.
    #[error(transparent)]
    Put(#[from] PutError),
    /// It could not be found out what is live. Nothing was removed.
    #[error("what is live is not known: {reason}")]
    Unsettled {
        /// Why not.
        reason: String,
    },
    /// It was told to stop. What was removed before stays removed.
    #[error("it was told to stop")]
    Stopped,
}

/// A verification could not go on; this says nothing about the bytes that it did not reach.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It was told to stop.
    #[error("verification was stopped")]
    Stopped,
    /// The file system refused.
    #[error("verify {file}")]
    Io {
        /// The file, relative to the store's directory.
        file: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}
