//! The batches of one resource that stand in the log's queue.
//!
//! Invariant: who waits is kept waiting by those that took off before, and by no other: on a
//! resource that many write to there is always another one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The flights of one resource, by the numbers of their takeoffs.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    flights: Mutex<Flights>,
    landed: Notify,
}

#[derive(Debug, Default)]
struct Flights {
    next: u64,
    under_way: BTreeSet<u64>,
}

impl InFlight {
    /// One more takes off; gives its number.
    pub(crate) fn take_off(&self) -> u64 {
        let mut flights = self.flights();
        let number = flights.next;
        flights.next += 1;
        flights.under_way.insert(number);
        number
    }

    /// One has ended, whether or not it came to where it was bound.
    pub(crate) fn end(&self, number: u64) {
        self.flights().under_way.remove(&number);
        self.landed.notify_waiters();
    }

    /// Whether there are any.
    pub(crate) fn are_some(&self) -> bool {
        !self.flights().under_way.is_empty()
    }

    /// The number of the next to take off.
    pub(crate) fn next(&self) -> u64 {
        self.flights().next
    }

    /// Waits until all that took off before this number have ended.
    pub(crate) async fn ended_before(&self, number: u64) {
        loop {
            let landed = self.landed.notified();
            let first = self.flights().under_way.first().copied();
            if first.is_none_or(|first| first >= number) {
                return;
            }
            landed.await;
        }
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn those_that_take_off_later_keep_nobody_waiting() {
        let in_flight = InFlight::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(!in_flight.are_some());
        let (first, second) = (in_flight.take_off(), in_flight.take_off());
        let mut waiting = pin!(in_flight.ended_before(in_flight.next()));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let later = in_flight.take_off();
        in_flight.end(second);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        in_flight.end(first);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        assert!(in_flight.are_some());
        in_flight.end(later);
        assert!(!in_flight.are_some());
    }
}
