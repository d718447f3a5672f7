//! What one query may take, and the count of what it took.

use std::cell::Cell;
use std::time::Duration;

use crate::error::Error;
use crate::patience::Patience;

/// What one query may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time, 10 seconds by default.
    pub time: Duration,
    /// Rows of the answer, 10,000 by default; further ones are left out, and that is said.
    pub rows: usize,
    /// Bytes of rows and lists that are kept at the same time, about; 256 MiB by default.
    pub bytes: usize,
    /// Bytes of the query's text, 64 KiB by default.
    pub text_bytes: usize,
    /// Parameters, 1,000 by default.
    pub parameters: usize,
    /// Relationships of one path of variable length, 15 by default.
    pub hops: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            rows: 10_000,
            bytes: 256 << 20,
            text_bytes: 64 << 10,
            parameters: 1000,
            hops: 15,
        }
    }
}

/// Pieces of work between two looks at the clock.
const STRIDE: u32 = 256;

/// What a running query has taken.
pub(crate) struct Meter<'a> {
    pub(crate) limits: &'a Limits,
    patience: &'a Patience,
    left: Cell<u32>,
    bytes: Cell<usize>,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(limits: &'a Limits, patience: &'a Patience) -> Self {
        Self {
            limits,
            patience,
            left: Cell::new(STRIDE),
            bytes: Cell::new(0),
        }
    }

    /// Counts one small piece of work.
    pub(crate) fn tick(&self) -> Result<(), Error> {
        let left = self.left.get();
        if left > 0 {
            self.left.set(left - 1);
            return Ok(());
        }
        self.left.set(STRIDE);
        self.patience.check()
    }

    /// Counts a piece of work that takes as long as so many bytes do to be copied.
    pub(crate) fn copied(&self, bytes: usize) -> Result<(), Error> {
        self.may_hold(bytes)?;
        let pieces = u32::try_from(bytes / 4096).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(pieces));
        self.tick()
    }

    /// Counts what is kept from now on.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), Error> {
        self.may_hold(bytes)?;
        self.bytes.set(self.bytes.get() + bytes);
        Ok(())
    }

    /// Counts what is no longer kept.
    pub(crate) fn release(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    /// Whether so much more may be held for a moment.
    pub(crate) fn may_hold(&self, bytes: usize) -> Result<(), Error> {
        if self.bytes.get().saturating_add(bytes) <= self.limits.bytes {
            return Ok(());
        }
        Err(Error::Limit {
            what: "what the query keeps in memory",
            limit: format!("{} bytes", self.limits.bytes),
        })
    }
}
