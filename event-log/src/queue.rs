//! The line in which batches wait for the writer.
//!
//! Invariant: batches are taken in the order in which they were put in; there are never more than
//! `queue_max` of them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};

use crate::batch::{Batch, Committed};
use crate::error::{AppendError, OpenError};
use crate::log::OpenReport;

/// A batch and the one who waits for its answer.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    /// The index's hash of each event's stream, in the order of the events.
    pub(crate) stream_hashes: Vec<u64>,
    pub(crate) queued_at: Instant,
    pub(crate) reply: oneshot::Sender<Result<Committed, AppendError>>,
}

/// Told once everything that stood in line before it was dealt with.
pub(crate) type Settled = oneshot::Sender<()>;

pub(crate) type ReopenReply = oneshot::Sender<Result<OpenReport, OpenError>>;

/// What the writer is told besides batches.
#[derive(Default)]
pub(crate) struct Orders {
    /// No batch comes any more.
    pub(crate) closing: bool,
    pub(crate) reopen: Vec<ReopenReply>,
    pub(crate) settle: Vec<Settled>,
}

impl Orders {
    fn is_empty(&self) -> bool {
        !self.closing && self.reopen.is_empty() && self.settle.is_empty()
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    orders: Orders,
    writer_sleeps: bool,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    places: Semaphore,
    places_max: usize,
}

impl Queue {
    pub(crate) fn new(queue_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            places: Semaphore::new(queue_max),
            places_max: queue_max,
        }
    }

    /// Puts a request in line, when there is a place for it.
    pub(crate) async fn put(&self, request: Request) -> Result<(), AppendError> {
        let place = self
            .places
            .acquire()
            .await
            .map_err(|_| AppendError::Closed)?;
        let mut state = self.guard();
        if state.orders.closing {
            return Err(AppendError::Closed);
        }
        place.forget();
        state.waiting.push_back(request);
        self.wake(state);
        Ok(())
    }

    /// Asks the writer to recover the log in place.
    pub(crate) fn reopen(&self, reply: ReopenReply) {
        let mut state = self.guard();
        // Dropping the reply tells the one who asked.
        if !state.orders.closing {
            state.orders.reopen.push(reply);
            self.wake(state);
        }
    }

    /// Asks to be told when everything that stands in line now was dealt with.
    pub(crate) fn settle(&self, reply: Settled) {
        let mut state = self.guard();
        // Dropping the reply tells the one who asked.
        if !state.orders.closing {
            state.orders.settle.push(reply);
            self.wake(state);
        }
    }

    /// Lets nothing more in.
    pub(crate) fn close(&self) {
        let mut state = self.guard();
        state.orders.closing = true;
        self.places.close();
        self.wake(state);
    }

    /// Lets nothing more in, and gives up what stands in line: those who wait are told by the drop
    /// of their replies.
    pub(crate) fn abandon(&self) {
        self.close();
        let mut state = self.guard();
        state.waiting.clear();
        state.orders.reopen.clear();
        state.orders.settle.clear();
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let sleeps = std::mem::take(&mut state.writer_sleeps);
        drop(state);
        if sleeps {
            self.filled.notify_one();
        }
    }

    /// Takes all that waits; with `sleep`, returns only when there is something.
    pub(crate) fn take(&self, into: &mut VecDeque<Request>, sleep: bool) -> Orders {
        let mut state = self.guard();
        loop {
            let idle = state.waiting.is_empty() && state.orders.is_empty();
            if !idle || !sleep {
                break;
            }
            state.writer_sleeps = true;
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_sleeps = false;
        into.append(&mut state.waiting);
        let closing = state.orders.closing;
        let orders = std::mem::take(&mut state.orders);
        state.orders.closing = closing;
        Orders { closing, ..orders }
    }

    /// Gives places free of requests that were taken and dealt with.
    pub(crate) fn free(&self, count: usize) {
        self.places.add_permits(count);
    }

    /// Requests that hold a place.
    pub(crate) fn n_queued(&self) -> u64 {
        self.places_max
            .saturating_sub(self.places.available_permits()) as u64
    }

    fn guard(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
