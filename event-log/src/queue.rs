//! The line in which batches wait for the writer.
//!
//! It is made of a channel and a semaphore, and has no lock of its own to get wrong. Invariant:
//! batches are taken in the order in which they were put in; those that were not dealt with never
//! hold more than `queue_max` places, one for each 16 KiB or part of them.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::batch::{Batch, Committed};
use crate::error::{AppendError, OpenError};
use crate::log::OpenReport;

/// Bytes of a batch that a place in line is for. A batch outlives its client there: without this,
/// clients that send large ones and leave while a sync takes its time would fill the memory.
const PLACE_BYTES: u64 = 16 << 10;

/// A batch and the one who waits for its answer.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    /// The index's hash of each event's stream, in the order of the events.
    pub(crate) stream_hashes: Vec<u64>,
    pub(crate) queued_at: Instant,
    /// The places that it holds, as [`Queue::places_of`] says.
    pub(crate) places: u32,
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
    places_max: u32,
}

/// Where the writer takes them. Dropped, it lets nothing more in, and tells those who wait by the
/// drop of their replies.
pub(crate) struct Taker {
    line: mpsc::UnboundedReceiver<Item>,
}

impl Queue {
    pub(crate) fn new(queue_max: usize) -> (Self, Taker) {
        let (to, from) = mpsc::unbounded_channel();
        let places_max = u32::try_from(queue_max).unwrap_or(u32::MAX);
        let queue = Self {
            line: to,
            places: Semaphore::new(places_max as usize),
            places_max,
        };
        (queue, Taker { line: from })
    }

    /// The places that a batch of so many bytes takes; a giant takes all, and is alone.
    pub(crate) fn places_of(&self, bytes: u64) -> u32 {
        let places = bytes.div_ceil(PLACE_BYTES);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        places.clamp(1, self.places_max)
    }

    /// Puts a request in line, when there is room for it.
    pub(crate) async fn put(&self, request: Request) -> Result<(), AppendError> {
        let places = self.places.acquire_many(request.places).await;
        let places = places.map_err(|_| AppendError::Closed)?;
        let put = self.line.send(Item::Request(request));
        put.map_err(|_| AppendError::Closed)?;
        // They are free when the writer says so.
        places.forget();
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
    pub(crate) fn free(&self, places: usize) {
        self.places.add_permits(places);
    }

    /// Places that are held.
    pub(crate) fn n_held(&self) -> u64 {
        let free = self.places.available_permits() as u64;
        u64::from(self.places_max).saturating_sub(free)
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
            places: 1,
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
        assert_eq!(queue.n_held(), 1);
        queue.free(1);
        assert!(second.await.is_ok());
    }

    /// 16,384 batches of 16 MiB each, whose clients had left, could wait in memory.
    #[tokio::test]
    async fn a_large_batch_takes_as_many_places_as_it_has_bytes_for_and_no_more_than_there_are() {
        let (queue, _taker) = Queue::new(8);
        let places = [
            0,
            1,
            PLACE_BYTES,
            PLACE_BYTES + 1,
            3 * PLACE_BYTES,
            u64::MAX,
        ];
        let places = places.map(|bytes| queue.places_of(bytes));
        assert_eq!(places, [1, 1, 1, 2, 3, 8]);
        let large = Request {
            places: 7,
            ..request().0
        };
        assert!(queue.put(large).await.is_ok());
        assert_eq!(queue.n_held(), 7);
        let second = Request {
            places: 2,
            ..request().0
        };
        let second = queue.put(second);
        let mut second = std::pin::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("there is one place"),
            () = std::future::ready(()) => {}
        }
        queue.free(7);
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
