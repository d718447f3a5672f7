//! Waiting with an end: until a deadline, or until someone has had enough.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stemma_inference::Stop;

use crate::{Clock, DocumentError, Limits};

/// How often it is looked whether to stop: 20 milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What time is left for a document.
pub(super) struct Waiting {
    deadline: Instant,
    limit_ms: u64,
    stop: Stop,
}

impl Waiting {
    pub(super) fn new(limits: &Limits, cancelled: &Arc<AtomicBool>) -> Self {
        let limit_ms = limits.parser_timeout_ms;
        Self {
            deadline: Instant::now() + Duration::from_millis(limit_ms),
            limit_ms,
            stop: Stop::by(cancelled),
        }
    }

    /// What ends the waiting.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The time that is left.
    ///
    /// # Errors
    /// None is, or the caller has had enough.
    pub(super) fn left(&self) -> Result<Duration, DocumentError> {
        if self.stop.is_cancelled() {
            return Err(DocumentError::Cancelled);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(DocumentError::ParserTimeout {
                clock: Clock::Wall,
                limit_ms: self.limit_ms,
            });
        }
        Ok(left)
    }

    /// Waits; a time that is not left is not waited for.
    ///
    /// # Errors
    /// As [`left`](Self::left).
    pub(super) fn wait(&mut self, time: Duration) -> Result<(), DocumentError> {
        let end = Instant::now().checked_add(time).unwrap_or(self.deadline);
        if end >= self.deadline {
            return Err(DocumentError::ParserTimeout {
                clock: Clock::Wall,
                limit_ms: self.limit_ms,
            });
        }
        loop {
            self.left()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::park_timeout(left.min(LOOK_INTERVAL));
        }
    }
}
