//! The line in which batches wait for the writer.
//!
//! It is made of a channel and a semaphore, and has no lock of its own to get wrong. Invariant:
//! batches are taken in the order in which they were put in; there are never more than `queue_max`
//! of them that were not dealt with.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::batch::{Batch, Committed};
use crate::error::{AppendError, OpenError};
use crate::log::OpenReport;

/// A batch and the one who waits for its answer.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    /// The index's hash of each event's stream, in the order of the events.
    pub(crate) stream_hashes: Vec<u64>,
    pub(crate) queued_at: Instant,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) result: Result<Committed, AppendError>,
    /// The batch again, so that whoever made it gives its memory back: for a thread that did not
    /// take it that costs more. Of batches that hold no place any more there are as many as the
    /// group under way has, and those whose answers nobody has looked at yet.
    pub(crate) _spent: Batch,
}

/// Told once everything that stood in line before it was dealt with.
pub(crate) type Settled = oneshot::Sender<()>;

pub(crate) type ReopenReply = oneshot::Sender<Result<OpenReport, OpenError>>;

/// What the writer is told besides batches.
#[derive(Default)]
pub(crate) struct Orders {
    /// No batch comes any more, and all that came were taken.
    pub(crate) closing: bool,
    pub(crate) reopen: Vec<ReopenReply>,
    pub(crate) settle: Vec<Settled>,
}

#[allow(clippy::large_enum_variant, reason = "almost all items are requests")]
enum Item {
    Request(Request),
    Reopen(ReopenReply),
    Settle(Settled),
    Close,
}

/// Where batches are put in line.
pub(crate) struct Queue {
    line: mpsc::UnboundedSender<Item>,
    /// Bounds the requests in line, and those that were taken and not dealt with.
    places: Semaphore,
    places_max: usize,
}

/// Where the writer takes them. Dropped, it lets nothing more in, and tells those who wait by the
/// drop of their replies.
pub(crate) struct Taker {
    line: mpsc::UnboundedReceiver<Item>,
}

impl Queue {
    pub(crate) fn new(queue_max: usize) -> (Self, Taker) {
        let (to, from) = mpsc::unbounded_channel();
        let queue = Self {
            line: to,
            places: Semaphore::new(queue_max),
            places_max: queue_max,
        };
        (queue, Taker { line: from })
    }

    /// Puts a request in line, when there is a place for it.
    pub(crate) async fn put(&self, request: Request) -> Result<(), AppendError> {
        let place = self.places.acquire().await;
        let place = place.map_err(|_| AppendError::Closed)?;
        let put = self.line.send(Item::Request(request));
        put.map_err(|_| AppendError::Closed)?;
        // Its place is free when the writer says so.
        place.forget();
        Ok(())
    }

    /// Asks the writer to recover the log in place.
    pub(crate) fn reopen(&self, reply: ReopenReply) {
        // Where nobody takes it any more, dropping the reply tells the one who asked.
        let _ = self.line.send(Item::Reopen(reply));
    }

    /// Asks to be told when everything that stands in line now was dealt with.
    pub(crate) fn settle(&self, reply: Settled) {
        // As for a reopening.
        let _ = self.line.send(Item::Settle(reply));
    }

    /// Lets nothing more in; what stands in line is still taken.
    pub(crate) fn close(&self) {
        self.places.close();
        // There may be no writer.
        let _ = self.line.send(Item::Close);
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
}

impl Taker {
    /// Takes all that waits; with `sleep`, returns only when there is something. Blocks the thread.
    pub(crate) fn take(&mut self, into: &mut VecDeque<Request>, sleep: bool) -> Orders {
        let mut orders = Orders::default();
        let mut next = if sleep {
            // None: whoever could put something in is gone.
            Ok(self.line.blocking_recv().unwrap_or(Item::Close))
        } else {
            self.line.try_recv()
        };
        while let Ok(item) = next {
            match item {
                Item::Request(request) => into.push_back(request),
                Item::Reopen(reply) => orders.reopen.push(reply),
                Item::Settle(reply) => orders.settle.push(reply),
                // Who has a place already may be about to put a request in: it comes or is refused.
                Item::Close => self.line.close(),
            }
            next = self.line.try_recv();
        }
        // Empty alone is not the end: somebody may be about to put in what has its place.
        orders.closing = next.is_err_and(|none| none == TryRecvError::Disconnected);
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> (Request, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        let batch = Batch {
            events: Vec::new(),
            expected: Vec::new(),
            idempotency: None,
            metadata: crate::Metadata::default(),
            proposed_at_us: 0,
            order: None,
        };
        let request = Request {
            batch,
            stream_hashes: Vec::new(),
            queued_at: Instant::now(),
            reply,
        };
        (request, answer)
    }

    #[tokio::test]
    async fn what_stands_in_line_at_the_close_is_taken_and_nothing_comes_behind_it() {
        let (queue, mut taker) = Queue::new(4);
        let mut taken = VecDeque::new();
        assert!(!taker.take(&mut taken, false).closing);
        assert!(queue.put(request().0).await.is_ok());
        queue.close();
        let (settled, answer) = oneshot::channel();
        queue.settle(settled);
        assert!(matches!(
            queue.put(request().0).await,
            Err(AppendError::Closed)
        ));
        let orders = taker.take(&mut taken, false);
        assert_eq!(
            (taken.len(), orders.settle.len(), orders.closing),
            (1, 1, true)
        );
        drop(orders);
        assert!(answer.await.is_err());
        assert!(taker.take(&mut taken, false).closing);
    }

    #[tokio::test]
    async fn a_place_is_free_when_its_request_was_dealt_with_and_not_when_it_was_taken() {
        let (queue, mut taker) = Queue::new(1);
        let mut taken = VecDeque::new();
        assert!(queue.put(request().0).await.is_ok());
        taker.take(&mut taken, false);
        let second = queue.put(request().0);
        let mut second = std::pin::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("there is no place"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(queue.n_queued(), 1);
        queue.free(1);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_for_a_writer_that_is_gone_is_told() {
        let (queue, taker) = Queue::new(4);
        let (waiting, answer) = request();
        assert!(queue.put(waiting).await.is_ok());
        drop(taker);
        assert!(answer.await.is_err());
        assert!(matches!(
            queue.put(request().0).await,
            Err(AppendError::Closed)
        ));
    }
}
