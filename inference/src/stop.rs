//! Stopping: how a caller ends a call to a model that it no longer waits for.
//!
//! Invariant: once a [`Stop`] is cancelled it stays so, and every clone of it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::InferenceError;

/// A flag that cancels, and a moment after which nobody waits any longer.
///
/// Clones share the flag. A call that is given one looks at it between pieces of its work and
/// while it waits for a network, some twenty times a second.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    is_cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Stop {
    /// One that nobody has cancelled and that has no deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is cancelled by a flag that others set.
    pub fn by(flag: &Arc<AtomicBool>) -> Self {
        Self {
            is_cancelled: Arc::clone(flag),
            deadline: None,
        }
    }

    /// The same flag with another deadline; the earlier one holds.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self {
            is_cancelled: Arc::clone(&self.is_cancelled),
            deadline: Some(self.deadline.map_or(deadline, |own| own.min(deadline))),
        }
    }

    /// Cancels what was given this, or a clone of it.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }

    /// Whether somebody cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// How long may still be worked; none without a deadline.
    pub fn left(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Nothing while the work may go on.
    ///
    /// # Errors
    /// [`InferenceError::Cancelled`], and [`InferenceError::Timeout`] after the deadline.
    pub fn check(&self) -> Result<(), InferenceError> {
        if self.is_cancelled() {
            return Err(InferenceError::Cancelled);
        }
        if self.left().is_some_and(|left| left.is_zero()) {
            return Err(InferenceError::Timeout {
                waited_for: "the deadline",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_with_a_deadline_is_cancelled_with_its_origin() {
        let origin = Stop::new();
        let clone = origin.until(Instant::now() + Duration::from_hours(1));
        assert!(clone.check().is_ok());
        origin.cancel();
        assert!(matches!(clone.check(), Err(InferenceError::Cancelled)));
    }

    #[test]
    fn of_two_deadlines_the_earlier_one_holds() {
        let now = Instant::now();
        let past = Stop::new().until(now).until(now + Duration::from_hours(1));
        assert!(matches!(past.check(), Err(InferenceError::Timeout { .. })));
    }
}
