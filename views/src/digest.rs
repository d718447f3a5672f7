//! One digest of all that the views say, whatever engine holds it.
//!
//! BLAKE3 over every row in the order of its key: length and bytes of the key, length and bytes of
//! the value. Rows about the store itself are left out, so equal digests mean equal answers.

use std::fmt;

use crate::key;

/// The digest of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest([u8; 32]);

impl StateDigest {
    /// The digest of a state that was digested elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes that are hashed at a time: BLAKE3 hashes many kilobytes at once several times as fast as
/// one row after the other.
const HASHED_BYTES: usize = 128 << 10;

/// Takes rows in the order of their keys.
#[derive(Debug, Clone, Default)]
pub struct StateHasher {
    hasher: blake3::Hasher,
    /// What is yet to be hashed.
    waiting: Vec<u8>,
    rows: u64,
}

impl StateHasher {
    /// Takes the next row; rows about the store itself are passed over.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) {
        if key.first() == Some(&key::META) {
            return;
        }
        for part in [key, value] {
            self.waiting
                .extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.waiting.extend_from_slice(part);
        }
        if self.waiting.len() >= HASHED_BYTES {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
        self.rows += 1;
    }

    /// Takes rows that [`rows_after`](crate::CheckpointedStore::rows_after) gave.
    pub fn rows(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) {
        rows.iter().for_each(|(key, value)| self.row(key, value));
    }

    /// How many rows were taken.
    pub fn count(&self) -> u64 {
        self.rows
    }

    /// The digest of the rows taken.
    pub fn finish(&self) -> StateDigest {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.waiting);
        StateDigest(*hasher.finalize().as_bytes())
    }
}
