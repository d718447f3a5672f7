//! A blob that is open for reading.
//!
//! Invariant: every byte that is given out was hashed against the digest.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::large::LargeFile;
use crate::vault::Vault;
use crate::{Digest, ReadError};

/// A blob open for reading; stays readable even when the blob is collected meanwhile.
pub struct Blob {
    pub(crate) digest: Digest,
    pub(crate) source: Source,
    pub(crate) vault: Arc<Vault>,
}

pub(crate) enum Source {
    /// A small blob, read and checked whole.
    Packed(Bytes),
    Large(LargeFile),
}

impl Blob {
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match &self.source {
            Source::Packed(bytes) => {
                u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
            }
            Source::Large(file) => file.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `len` bytes from `offset` on, fewer only where the blob ends. What is read of a large
    /// blob is whole blocks of 128 KiB, of which the last is kept for the next read: read on in
    /// order, in pieces of whatever size.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when what it touches is; other parts may still be read.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        let len = u64::try_from(len).expect("a length in memory fits 64 bits");
        match &self.source {
            Source::Packed(bytes) => {
                let end = offset.saturating_add(len).min(self.len());
                let start = offset.min(end);
                let place = |n: u64| usize::try_from(n).expect("within a blob in memory");
                Ok(bytes.slice(place(start)..place(end)))
            }
            Source::Large(file) => file
                .read_at(offset, len)
                .inspect_err(|error| self.vault.note_damage(&self.digest, error)),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.digest)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
