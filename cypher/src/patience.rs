//! How long one question may take, and whether anybody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::limits::Limits;

/// How long one question may take from when it was asked, and whether anybody waits for it. What
/// runs the question asks for it between small pieces of work, and so does a graph between the
/// pieces of a look that is a long one by itself.
#[derive(Debug, Clone)]
pub struct Patience {
    asked: Instant,
    time: Duration,
    is_cancelled: Arc<AtomicBool>,
}

impl Patience {
    /// As long as the limits say from now on, until `is_cancelled` becomes true.
    #[must_use]
    pub fn of(limits: &Limits, is_cancelled: Arc<AtomicBool>) -> Self {
        Self {
            asked: Instant::now(),
            time: limits.time,
            is_cancelled,
        }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`], and [`Error::Limit`] when the time is over.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if self.elapsed() < self.time {
            return Ok(());
        }
        Err(Error::Limit {
            what: "the query's time",
            limit: format!("{} ms", self.time.as_millis()),
        })
    }

    /// How long ago it was asked.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.asked.elapsed()
    }

    /// How much of its time is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.time.saturating_sub(self.elapsed())
    }

    /// Becomes true when nobody waits any more.
    #[must_use]
    pub fn cancel_flag(&self) -> &AtomicBool {
        &self.is_cancelled
    }
}
