//! What the log has come to: how many records, the last digest and time, and the tree.
//!
//! Invariant: a record is taken only if it continues what is there.

use crate::error::DamageKind;
use crate::frame::Check;
use crate::merkle::Merkle;
use crate::record::Record;

/// Recorded time of a log without records: any time may follow.
const BEFORE_ALL_TIME_US: i64 = i64::MIN;

/// State of the log behind its last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Number of records.
    pub(crate) end: u64,
    /// Digest of the last record; zeros when there is none.
    pub(crate) digest: [u8; 32],
    /// Recorded time of the last record.
    pub(crate) recorded_at_us: i64,
    pub(crate) merkle: Merkle,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            end: 0,
            digest: [0; 32],
            recorded_at_us: BEFORE_ALL_TIME_US,
            merkle: Merkle::default(),
        }
    }
}

impl Chain {
    /// Takes up a record that was just made.
    pub(crate) fn push(&mut self, digest: [u8; 32], recorded_at_us: i64) {
        self.merkle.push(&digest);
        self.step(digest, recorded_at_us);
    }

    fn step(&mut self, digest: [u8; 32], recorded_at_us: i64) {
        self.digest = digest;
        self.recorded_at_us = recorded_at_us;
        self.end += 1;
    }

    /// Takes up a record that was read, if it continues the chain. With [`Check::Checksum`] the
    /// tree is left behind and must be replaced by one that is known.
    pub(crate) fn accept(&mut self, record: &Record, check: Check) -> Result<(), DamageKind> {
        if record.position().get() != self.end || record.previous().as_bytes() != &self.digest {
            return Err(DamageKind::Chain);
        }
        if record.recorded_at_us() < self.recorded_at_us {
            return Err(DamageKind::Time);
        }
        let digest = *record.digest().as_bytes();
        match check {
            Check::Digest => self.push(digest, record.recorded_at_us()),
            Check::Checksum => self.step(digest, record.recorded_at_us()),
        }
        Ok(())
    }
}
