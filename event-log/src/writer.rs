//! The one thread that makes records durable.
//!
//! Invariant: a group is written only after the one before it was synced, and answered only after
//! it was synced itself. A failed sync poisons: the pages it should have written may be lost though
//! they can still be read, so nothing more is accepted until the tail was read and written anew.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::batch::Outcome;
use crate::chain::Chain;
use crate::check::check_all;
use crate::error::{AppendError, CloseError, DamageKind, OpenError};
use crate::heads::Heads;
use crate::id::Position;
use crate::index::Sealed;
use crate::indexer::Indexer;
use crate::log::OpenReport;
use crate::mark::{MARK_NAME, Mark};
use crate::options::Options;
use crate::prepare::{clear, name_segment, prewrite, segment_bytes_for, write_header};
use crate::queue::{Queue, Reply, Request, Settled, Taker};
use crate::recovery::{Loaded, Mode, Tip, load};
use crate::segment::{HEADER_BYTES, SEAL_BYTES, SPARE_NAME, Seal, SegmentHeader, segment_name};
use crate::segments::SegmentInfo;
use crate::shared::{AppenderStatus, Shared};
use crate::stage::{Answer, Known, Stage};
use crate::stats::{SIZE_BOUNDS, add};
use crate::storage::{Storage, StorageFile, is_full};

/// A segment file being prepared by a thread of its own.
struct Spare {
    bytes: u64,
    thread: JoinHandle<io::Result<Arc<dyn StorageFile>>>,
}

/// Lets nobody wait for a writer that is gone, by a defect of ours.
struct Abandon {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the writer's thread panicked".to_owned();
            self.shared
                .refuse_batches(AppenderStatus::Poisoned { reason });
        }
        self.queue.close();
    }
}

/// Why a group is not durable.
enum Failure {
    /// Nothing of it is in the log, and the log goes on.
    NotWritten(AppendError),
    /// Nobody can tell what is on disk.
    Unknown(AppendError),
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    /// Dropped with the writer, it tells those who still wait.
    taker: Taker,
    storage: Arc<dyn Storage>,
    options: Options,
    indexer: Indexer,
    chain: Chain,
    tip: Option<Tip>,
    /// Where the last frame ends: first position of its segment and offset in it.
    stands: (u64, u64),
    next_bytes: u64,
    spare: Option<Spare>,
    heads: Heads,
    /// Whether the head mark is there.
    marked: bool,
    poisoned: bool,
    group_bytes_hint: usize,
    _lock: Box<dyn Send + Sync>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (queue, taker): (Arc<Queue>, Taker),
        options: Options,
        loaded: Loaded,
        lock: Box<dyn Send + Sync>,
    ) -> io::Result<Self> {
        let indexer = Indexer::start(Arc::clone(&shared))?;
        let mut writer = Self {
            storage: Arc::clone(shared.files.storage()),
            indexer,
            chain: Chain::default(),
            tip: None,
            stands: (0, 0),
            next_bytes: options.segment_bytes_first,
            spare: None,
            heads: Heads::new(options.stream_heads_max),
            marked: false,
            poisoned: false,
            group_bytes_hint: 4096,
            shared,
            queue,
            taker,
            options,
            _lock: lock,
        };
        writer.adopt(loaded);
        // Runs that were made at the opening, one for each segment, are merged as others are.
        writer.indexer.write_out();
        Ok(writer)
    }

    /// Goes on from a log that was just read.
    fn adopt(&mut self, loaded: Loaded) {
        let last = loaded
            .segments
            .last()
            .expect("a log has at least one segment");
        self.stands = (last.first, loaded.offset);
        self.next_bytes =
            (loaded.last_planned_bytes.saturating_mul(2)).min(self.options.segment_bytes_max);
        self.marked = loaded.clean && !loaded.created;
        self.chain = loaded.chain;
        self.tip = loaded.tip;
        self.heads.clear();
        self.poisoned = false;
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), CloseError> {
        let _abandon = Abandon {
            shared: Arc::clone(&self.shared),
            queue: Arc::clone(&self.queue),
        };
        let mut waiting = VecDeque::new();
        let mut answers = Vec::new();
        // Each with how many requests stand in line before it.
        let mut settling: Vec<(usize, Settled)> = Vec::new();
        loop {
            let sleep = waiting.is_empty() && answers.is_empty();
            // The next group is taken before the last one is answered: while those who waited
            // wake up, it is being written already.
            let orders = self.taker.take(&mut waiting, sleep);
            self.tell(&mut answers);
            settling.extend(
                orders
                    .settle
                    .into_iter()
                    .map(|reply| (waiting.len(), reply)),
            );
            for reply in orders.reopen {
                // Whoever asked may have gone; the log is recovered all the same.
                let _ = reply.send(self.reopen());
            }
            let before = waiting.len();
            if before > 0 {
                self.group(&mut waiting, &mut answers);
            } else if orders.closing {
                return self.finish();
            }
            let n_done = before - waiting.len();
            settling
                .iter_mut()
                .for_each(|(left, _)| *left = left.saturating_sub(n_done));
            for (_, reply) in settling.extract_if(.., |(left, _)| *left == 0) {
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
        }
    }

    fn tell(&self, answers: &mut Vec<Answer>) {
        let counters = &self.shared.counters;
        for Answer {
            reply,
            queued_at,
            result,
            batch,
        } in answers.drain(..)
        {
            match &result {
                Ok(committed) if committed.outcome == Outcome::Appended => {
                    add(&counters.batches, 1);
                }
                Ok(_) => add(&counters.duplicates, 1),
                Err(AppendError::Conflict { .. }) => add(&counters.conflicts, 1),
                Err(_) => add(&counters.failures, 1),
            }
            counters.append_us.record_time(queued_at.elapsed());
            // Whoever waited may have gone; the batch stays.
            let _ = reply.send(Reply {
                result,
                _spent: batch,
            });
        }
    }

    /// Makes one group of what waits.
    fn group(&mut self, waiting: &mut VecDeque<Request>, answers: &mut Vec<Answer>) {
        let refused = if self.poisoned {
            Some(AppendError::Poisoned)
        } else {
            self.shared.is_damaged().then_some(AppendError::Damaged)
        };
        if let Some(error) = refused {
            let places = waiting.iter().map(|request| request.places as usize);
            self.queue.free(places.sum());
            answers.extend(waiting.drain(..).map(|request| Answer {
                reply: request.reply,
                queued_at: request.queued_at,
                result: Err(error.clone()),
                batch: request.batch,
            }));
            return;
        }
        let mut stage = Stage::new(self.chain.clone(), self.group_bytes_hint);
        let mut known = Known {
            shared: &self.shared,
            heads: &mut self.heads,
        };
        let mut taken = 0;
        while stage.n_bytes() < self.options.group_bytes_max
            && let Some(request) = waiting.pop_front()
        {
            taken += request.places as usize;
            answers.push(stage.add(&mut known, request));
        }
        self.queue.free(taken);
        if stage.is_empty() {
            return;
        }
        self.group_bytes_hint = stage.n_bytes().next_power_of_two();
        match self.commit(stage) {
            Ok(()) => {}
            Err(Failure::NotWritten(error)) => refuse(answers, &error),
            Err(Failure::Unknown(error)) => {
                self.poison(&error);
                refuse(answers, &error);
            }
        }
    }

    /// Writes a group, syncs it and publishes it.
    fn commit(&mut self, mut stage: Stage) -> Result<(), Failure> {
        let bytes = stage.padded_bytes();
        self.make_room(bytes)?;
        self.drop_mark()?;
        let tip = self.tip.as_mut().expect("room was made");
        let offset = tip.offset;
        let counters = &self.shared.counters;
        let written_at = Instant::now();
        let frame = stage.seal_for(self.shared.log_id.tag(), offset);
        if let Err(error) = tip.file.write_at(frame, offset) {
            return Err(not_written(tip, offset + bytes, error));
        }
        let synced_at = Instant::now();
        tip.file.sync_data().map_err(|source| {
            Failure::Unknown(AppendError::Sync {
                source: Arc::new(source),
            })
        })?;
        counters.sync_us.record_time(synced_at.elapsed());
        counters.write_us.record_time(synced_at - written_at);
        counters
            .group_events
            .record(&SIZE_BOUNDS, stage.n_records());
        add(&counters.events, stage.n_records());
        add(&counters.groups, 1);
        add(&counters.bytes, bytes);
        tip.offset += bytes;
        self.stands = (tip.info.first, tip.offset);
        let half_full = tip.offset > tip.planned_bytes / 2;
        let published = stage.into_published(offset, &mut self.heads);
        self.chain.clone_from(&published.chain);
        self.shared
            .publish(&published.chain, &published.entries, Some(published.group));
        if half_full && self.spare.is_none() {
            self.prepare(self.next_bytes);
        }
        Ok(())
    }

    /// Sees to it that a group of this size fits the segment at the end.
    fn make_room(&mut self, group_bytes: u64) -> Result<(), Failure> {
        let fits = |tip: &Tip| tip.offset + group_bytes + SEAL_BYTES as u64 <= tip.planned_bytes;
        if self.tip.as_ref().is_some_and(fits) {
            return Ok(());
        }
        // First of all the place for the new one: without it nothing has changed.
        let needed = segment_bytes_for(group_bytes);
        let (file, planned_bytes) = self.take_spare(needed).map_err(|error| {
            let source = Arc::new(error);
            Failure::NotWritten(if is_full(&source) {
                AppendError::Full { source }
            } else {
                AppendError::Write { source }
            })
        })?;
        self.drop_mark()?;
        self.seal()?;
        let header = SegmentHeader {
            log_id: self.shared.log_id,
            planned_bytes,
            before: self.chain.clone(),
        };
        let unknown = |source| {
            Failure::Unknown(AppendError::Sync {
                source: Arc::new(source),
            })
        };
        write_header(&*file, &header).map_err(unknown)?;
        let first = self.chain.end;
        name_segment(&*self.storage, first).map_err(unknown)?;
        let name = segment_name(first);
        self.shared.files.forget(&name);
        let info = SegmentInfo {
            first,
            name,
            before_recorded_at_us: self.chain.recorded_at_us,
        };
        let info = Arc::new(info);
        self.shared.add_segment(Arc::clone(&info));
        let offset = HEADER_BYTES as u64;
        self.stands = (first, offset);
        self.tip = Some(Tip {
            info,
            file,
            offset,
            planned_bytes,
        });
        self.next_bytes = (planned_bytes.saturating_mul(2)).min(self.options.segment_bytes_max);
        Ok(())
    }

    /// Ends the segment at the end, unless it has no record yet and is to be replaced.
    fn seal(&mut self) -> Result<(), Failure> {
        let Some(tip) = self.tip.take_if(|tip| tip.info.first < self.chain.end) else {
            self.tip = None;
            return Ok(());
        };
        let seal = Seal::of(tip.info.first, &self.chain);
        let frame = seal.encode(self.shared.log_id.tag(), tip.offset);
        let unknown = |source| {
            Failure::Unknown(AppendError::Sync {
                source: Arc::new(source),
            })
        };
        tip.file.write_at(&frame, tip.offset).map_err(unknown)?;
        tip.file.sync_data().map_err(unknown)?;
        let end = tip.offset + SEAL_BYTES as u64;
        if let Err(error) = tip.file.truncate(end) {
            // The zeros behind the seal do no harm.
            tracing::warn!(segment = tip.info.name, %error, "sealed segment keeps its full size");
        }
        self.stands = (tip.info.first, end);
        self.shared.index.freeze(Sealed {
            name: tip.info.name.clone(),
            first: tip.info.first,
            end: self.chain.end,
            end_digest: self.chain.digest,
        });
        self.indexer.write_out();
        Ok(())
    }

    /// Starts writing the next segment file.
    fn prepare(&mut self, bytes: u64) {
        let storage = Arc::clone(&self.storage);
        let thread = std::thread::Builder::new()
            .name("log-segment".to_owned())
            .spawn(move || prewrite(&*storage, bytes));
        match thread {
            Ok(thread) => self.spare = Some(Spare { bytes, thread }),
            // It is prepared when it is needed.
            Err(error) => tracing::warn!(%error, "no thread to prepare the next segment"),
        }
    }

    /// A prepared file of at least the needed size: as large as is planned, or as the disk has room
    /// for, so that the last of the room is used before anything is refused.
    fn take_spare(&mut self, needed: u64) -> io::Result<(Arc<dyn StorageFile>, u64)> {
        let bytes = self.next_bytes.max(needed);
        if let Some(spare) = self.spare.take() {
            let prepared = spare
                .thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("thread panicked")));
            // What failed then may succeed now: the disk may have room again.
            if spare.bytes >= bytes
                && let Ok(file) = prepared
            {
                return Ok((file, spare.bytes));
            }
        }
        let mut bytes = bytes;
        loop {
            match prewrite(&*self.storage, bytes) {
                Err(error) if is_full(&error) && bytes > needed => bytes = (bytes / 2).max(needed),
                prepared => return prepared.map(|file| (file, bytes)),
            }
        }
    }

    /// From the first write on nothing vouches for the last byte.
    fn drop_mark(&mut self) -> Result<(), Failure> {
        if self.marked {
            // A mark that comes back after a crash would belie all that is written from here on.
            Mark::remove(&*self.storage).map_err(|source| {
                Failure::Unknown(AppendError::Write {
                    source: Arc::new(source),
                })
            })?;
            self.marked = false;
        }
        Ok(())
    }

    fn poison(&mut self, error: &AppendError) {
        let source = std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default();
        let reason = format!("{error}: {source}");
        tracing::error!(reason, "log refuses writes until it is reopened");
        self.poisoned = true;
        self.shared
            .refuse_batches(AppenderStatus::Poisoned { reason });
    }

    /// Reads the tail again, drops what was never acknowledged, and goes on.
    fn reopen(&mut self) -> Result<OpenReport, OpenError> {
        // Before anything is read: what is found from here on is not shown to be mended.
        let (n_found, is_damaged) = (self.shared.n_found(), self.shared.is_damaged());
        self.indexer.settle();
        if let Some(spare) = self.spare.take() {
            // Its file is removed with the other leftovers.
            let _ = spare.thread.join();
        }
        let durable = self.shared.end();
        let mode = Mode::Write {
            keep_end: Some(durable),
        };
        let mut loaded = load(&*self.storage, &self.options, mode)?;
        if is_damaged {
            check_all(&self.storage, &self.options)?;
        }
        if loaded.chain.end != durable {
            return Err(OpenError::Damaged {
                file: loaded
                    .segments
                    .last()
                    .map(|last| last.name.clone())
                    .unwrap_or_default(),
                offset: loaded.offset,
                position: Position::new(loaded.chain.end),
                kind: DamageKind::HeadMismatch,
            });
        }
        let active = std::mem::replace(&mut loaded.active, crate::index::Active::new(durable));
        let sealed = std::mem::take(&mut loaded.sealed);
        let rebuilt = self
            .shared
            .index
            .load(sealed, active)
            .map_err(OpenError::of_index)?;
        self.shared
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&loaded.segments);
        let report = OpenReport::of(&loaded, rebuilt);
        self.adopt(loaded);
        let taken = self.shared.take_batches(n_found);
        taken.map_err(|damage| OpenError::DamagedMeanwhile { damage })?;
        Ok(report)
    }

    fn finish(mut self) -> Result<(), CloseError> {
        if let Some(spare) = self.spare.take()
            && matches!(spare.thread.join(), Ok(Ok(_)))
            && let Err(error) = self.storage.remove(SPARE_NAME)
        {
            tracing::warn!(%error, "prepared segment stays until the next open");
        }
        self.indexer.stop();
        if self.poisoned {
            return Err(CloseError::Poisoned);
        }
        if self.marked {
            return Ok(());
        }
        let mark = Mark {
            log_id: self.shared.log_id,
            segment: self.stands.0,
            offset: self.stands.1,
            chain: self.chain.clone(),
        };
        mark.write(&*self.storage).map_err(|error| {
            tracing::warn!(file = MARK_NAME, %error, "no head mark: the next open reads the tail");
            CloseError::Mark(error)
        })
    }
}

fn refuse(answers: &mut [Answer], error: &AppendError) {
    // Conflicts too: they were found against records that are not in the log.
    for answer in answers {
        answer.result = Err(error.clone());
    }
}

/// A write that failed for want of room leaves nothing behind if its place can be cleared.
fn not_written(tip: &Tip, end: u64, error: io::Error) -> Failure {
    let full = is_full(&error);
    let source = Arc::new(error);
    let cleared = || clear(&*tip.file, tip.offset, end).and_then(|()| tip.file.sync_data());
    if full && cleared().is_ok() {
        Failure::NotWritten(AppendError::Full { source })
    } else {
        Failure::Unknown(AppendError::Write { source })
    }
}
