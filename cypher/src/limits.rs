//! What one query may take, and the count of what it took.

use std::cell::Cell;
use std::time::Duration;

use crate::error::Error;
use crate::patience::Patience;
use crate::value::{VALUE_DEPTH_MAX, Value};

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
/// Bytes of values that are walked through in the time of one piece of work: some forty values.
const WALKED_BYTES: usize = 1024;

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

    /// Looks at the clock now, before a piece of work that takes longer than most.
    pub(crate) fn look(&self) -> Result<(), Error> {
        self.left.set(0);
        self.tick()
    }

    /// Counts a walk through values of so many bytes, before it: what compares values stops for
    /// nothing. One value is within what may be held, so no single walk is a long one.
    pub(crate) fn walk(&self, bytes: usize) -> Result<(), Error> {
        let pieces = u32::try_from(bytes / WALKED_BYTES).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(pieces));
        self.tick()
    }

    /// Counts a look for a key of so many bytes among others that are sorted.
    pub(crate) fn look_up(&self, bytes: usize, others: usize) -> Result<(), Error> {
        let compared = (others + 1).ilog2() as usize + 1;
        self.walk(bytes.saturating_mul(compared))
    }

    /// Lets a list or map that was made be one: it is not too deep, and may be held.
    pub(crate) fn made(&self, value: Value) -> Result<Value, Error> {
        if value.depth() > VALUE_DEPTH_MAX {
            return Err(Error::Limit {
                what: "the depth of lists and maps within each other",
                limit: VALUE_DEPTH_MAX.to_string(),
            });
        }
        self.may_hold(value.bytes())?;
        Ok(value)
    }

    /// Makes a list.
    pub(crate) fn list(&self, values: Vec<Value>) -> Result<Value, Error> {
        self.made(Value::list(values))
    }

    /// Counts what is held as long as this is.
    pub(crate) fn holding(&self) -> Held<'_, 'a> {
        Held {
            meter: self,
            bytes: 0,
        }
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

/// What is held for a while, and given back when this is dropped.
pub(crate) struct Held<'m, 'a> {
    meter: &'m Meter<'a>,
    bytes: usize,
}

impl Held<'_, '_> {
    /// Holds so much more.
    pub(crate) fn more(&mut self, bytes: usize) -> Result<(), Error> {
        self.meter.keep(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Holds so much in the place of what was held.
    pub(crate) fn only(&mut self, bytes: usize) -> Result<(), Error> {
        self.meter.release(std::mem::take(&mut self.bytes));
        self.more(bytes)
    }
}

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        self.meter.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between two looks at the clock there were so many comparisons, however long each was.
    #[test]
    fn a_long_walk_through_values_counts_before_it_begins() {
        let limits = Limits {
            time: Duration::ZERO,
            ..Limits::default()
        };
        let patience = Patience::of(&limits, std::sync::Arc::default());
        let started = || Meter::start(&limits, &patience);
        assert!(started().tick().is_ok());
        assert!(started().walk(1 << 10).is_ok());
        assert!(started().walk(1 << 20).is_err());
        assert!(started().look_up(1 << 10, 1 << 20).is_ok());
        assert!(started().look_up(1 << 16, 1 << 20).is_err());
        assert!(started().look().is_err());
    }

    #[test]
    fn what_is_held_is_given_back_when_nobody_holds_it() {
        let limits = Limits {
            bytes: 100,
            ..Limits::default()
        };
        let patience = Patience::of(&limits, std::sync::Arc::default());
        let meter = Meter::start(&limits, &patience);
        let mut held = meter.holding();
        assert!(held.more(60).is_ok());
        assert!(held.more(60).is_err());
        assert!(meter.may_hold(60).is_err());
        assert!(held.only(90).is_ok());
        drop(held);
        assert!(meter.keep(100).is_ok());
    }
}
