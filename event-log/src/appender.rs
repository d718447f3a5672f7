//! The handle through which batches come in.
//!
//! Invariant: a batch that stands in the queue is dealt with even if nobody waits for its answer.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::batch::{Batch, Committed, METADATA_FIELD_BYTES_MAX};
use crate::check::first_damage;
use crate::error::{AppendError, CloseError, InvalidBatch, OpenError, VerifyError};
use crate::frame::{frame_bytes_max, stream_hash};
use crate::log::OpenReport;
use crate::options::Options;
use crate::queue::{Queue, Reply, Request};
use crate::shared::{AppenderStatus, Shared};
use crate::stats::AppendStats;
use crate::verify::verify;
use crate::verify_report::{Progress, VerifyReport};

/// Appends to a log; cheap to clone. When the last clone is dropped the log is closed.
#[derive(Clone)]
pub struct Appender {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    limits: Limits,
    options: Options,
    writer: Mutex<Option<JoinHandle<Result<(), CloseError>>>>,
}

struct Limits {
    batch_bytes_max: u64,
    batch_events_max: usize,
}

/// The answer to a batch that stands in the queue. Dropping it does not take the batch back.
#[derive(Debug)]
pub struct PendingAppend {
    reply: oneshot::Receiver<Reply>,
}

impl Future for PendingAppend {
    type Output = Result<Committed, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply)
            .poll(context)
            .map(|reply| match reply {
                Ok(reply) => reply.result,
                // Without an answer the writer ended by a defect of ours: the outcome is unknown.
                Err(_) => {
                    let source = std::io::Error::other("writer thread ended early");
                    Err(AppendError::Write {
                        source: Arc::new(source),
                    })
                }
            })
    }
}

impl Appender {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        options: &Options,
        writer: JoinHandle<Result<(), CloseError>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                queue,
                limits: Limits::of(options),
                options: options.clone(),
                writer: Mutex::new(Some(writer)),
            }),
        }
    }

    /// An appender of a log that is open for reading only: it refuses every batch.
    pub(crate) fn refusing(shared: Arc<Shared>, options: &Options) -> Self {
        let (queue, _) = Queue::new(options.queue_max);
        queue.close();
        let queue = Arc::new(queue);
        Self {
            inner: Arc::new(Inner {
                shared,
                queue,
                limits: Limits::of(options),
                options: options.clone(),
                writer: Mutex::new(None),
            }),
        }
    }

    /// Appends a batch and returns once it is on disk.
    ///
    /// A batch whose idempotency key and request were seen before is not written again; its first
    /// positions are returned. Dropping the future after it was first polled leaves open whether
    /// the batch is appended.
    ///
    /// # Errors
    /// Each variant of [`AppendError`] says whether anything was written.
    pub async fn append(&self, batch: Batch) -> Result<Committed, AppendError> {
        self.enqueue(batch).await?.await
    }

    /// Most bytes that the records of one batch may take.
    pub fn batch_bytes_max(&self) -> u64 {
        self.inner.limits.batch_bytes_max
    }

    /// Puts a batch in line. Batches are admitted in the order in which this returned.
    pub async fn enqueue(&self, batch: Batch) -> Result<PendingAppend, AppendError> {
        let bytes = self.inner.limits.check(&batch)?;
        let key = self.inner.shared.index.log_key();
        let mut stream_hashes: Vec<u64> = Vec::with_capacity(batch.events.len());
        for (index, event) in batch.events.iter().enumerate() {
            let hash = match stream_hashes.last() {
                Some(hash) if batch.is_same_stream(index) => *hash,
                _ => stream_hash(key, event.stream.as_str()),
            };
            stream_hashes.push(hash);
        }
        let (reply, answer) = oneshot::channel();
        let request = Request {
            batch,
            stream_hashes,
            queued_at: Instant::now(),
            places: self.inner.queue.places_of(bytes),
            reply,
        };
        match self.inner.queue.put(request).await {
            Ok(()) => Ok(PendingAppend { reply: answer }),
            Err(AppendError::Closed)
                if matches!(self.status(), AppenderStatus::ReadOnly { .. }) =>
            {
                Err(AppendError::ReadOnly)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until every batch that stands in the queue now is durable or refused, whether or not
    /// anyone waits for its answer. Of a log that is closed there is nothing to wait for.
    pub async fn settled(&self) {
        let (reply, answer) = oneshot::channel();
        self.inner.queue.settle(reply);
        // Without an answer the log is closed, and its queue empty.
        let _ = answer.await;
    }

    /// Whether the log takes batches.
    pub fn status(&self) -> AppenderStatus {
        self.inner.shared.status()
    }

    /// Takes no more batches, since whoever read the log found this damage in it.
    pub fn stop_for_damage(&self, damage: String) {
        self.inner.shared.stop_for_damage(damage);
    }

    /// Reads all of the log, whoever reads or writes it meanwhile. From the first damage on, other
    /// than of derived indexes, the log takes no more batches: see [`AppenderStatus::Damaged`].
    /// `progress` may break it off.
    ///
    /// # Errors
    /// When the log cannot be read at all, when the system is short of memory or file handles, or when
    /// it was broken off. It takes batches as before then.
    pub fn check(
        &self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<VerifyReport, VerifyError> {
        let shared = &self.inner.shared;
        let report = verify(
            shared.files.storage(),
            &self.inner.options,
            progress,
            &mut |_| {},
        )?;
        if let Some(damage) = first_damage(&report) {
            shared.stop_for_damage(damage.to_string());
        }
        Ok(report)
    }

    /// Recovers a poisoned log in place: what was never acknowledged is cut (and kept aside), and
    /// batches are taken again. A log that was found damaged is read from its start.
    ///
    /// # Errors
    /// The log stays as it was, poisoned if it was poisoned. After
    /// [`OpenError::DamagedMeanwhile`] it is recovered, and takes no batches since it is damaged.
    pub async fn reopen(&self) -> Result<OpenReport, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.inner.queue.reopen(reply);
        answer.await.unwrap_or(Err(OpenError::Closed))
    }

    /// Finishes what is queued, leaves the head mark and ends the writer. Blocks until that is
    /// done. Batches that come later get [`AppendError::Closed`]; closing again does nothing.
    pub fn close(&self) -> Result<(), CloseError> {
        self.inner.close()
    }

    /// What the writer counted since the log was opened.
    pub fn stats(&self) -> AppendStats {
        self.inner
            .shared
            .counters
            .snapshot(self.inner.queue.n_held())
    }
}

impl Inner {
    fn close(&self) -> Result<(), CloseError> {
        self.queue.close();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match writer {
            Some(writer) => writer.join().unwrap_or(Err(CloseError::WriterGone)),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "log not closed cleanly");
        }
    }
}

impl Limits {
    fn of(options: &Options) -> Self {
        Self {
            batch_bytes_max: options.batch_bytes_max,
            batch_events_max: options.batch_events_max,
        }
    }

    /// The bytes that it takes at the most, if it is within the limits.
    fn check(&self, batch: &Batch) -> Result<u64, AppendError> {
        self.check_shape(batch)
            .map_err(|reason| AppendError::Invalid { reason })?;
        let bytes = batch
            .events
            .iter()
            .map(|event| frame_bytes_max(event, &batch.metadata))
            .sum();
        if bytes > self.batch_bytes_max {
            return Err(AppendError::TooLarge {
                bytes,
                bytes_max: self.batch_bytes_max,
            });
        }
        Ok(bytes)
    }

    fn check_shape(&self, batch: &Batch) -> Result<(), InvalidBatch> {
        let count_max = self.batch_events_max;
        let count = batch.events.len();
        if count == 0 {
            return Err(InvalidBatch::Empty);
        }
        if count > count_max {
            return Err(InvalidBatch::TooManyEvents { count, count_max });
        }
        let count = batch.expected.len();
        if count > count_max {
            return Err(InvalidBatch::TooManyConditions { count, count_max });
        }
        let metadata = &batch.metadata;
        let fields = [
            ("actor", metadata.actor.len()),
            ("trace_id", metadata.trace_id.len()),
            (
                "correlation",
                metadata.correlation.as_ref().map_or(0, String::len),
            ),
        ];
        let bytes_max = METADATA_FIELD_BYTES_MAX;
        match fields.into_iter().find(|(_, bytes)| *bytes > bytes_max) {
            Some((field, bytes)) => Err(InvalidBatch::FieldTooLong {
                field,
                bytes,
                bytes_max,
            }),
            None => Ok(()),
        }
    }
}
