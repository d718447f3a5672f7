//! The thread that applies: it catches up, then follows.
//!
//! Invariants: records are applied in order, once, by this thread alone; those who wait for a
//! position are woken once a batch, and have a model that takes its time hurry; whatever ends the thread, a panic too, is told as a phase.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use stemma_event_log::{Position, ReadError, ReadLimit, Reader, Record};
use stemma_views::{ApplyError, CheckpointedStore, Model, StoreError};
use tokio::sync::watch;

use crate::lockstep::{Live, Lockstep};
use crate::projection::Shared;
use crate::rebuild::RebuildError;
use crate::status::Phase;

/// Most records of one batch of the live model, so that questions wait little for a commit.
const BATCH_RECORDS: usize = 4096;
/// Bytes of records after which a batch takes no more.
const BATCH_BYTES: usize = 32 << 20;
/// How long the thread sleeps at most before it looks whether it is to stop or retry.
pub(crate) const LOOK_AROUND: Duration = Duration::from_millis(100);
/// How often an engine that could not write is tried again: the disk may have room by then.
pub(crate) const ROOM_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Runner<M: Model> {
    shared: Arc<Shared<M>>,
    inbox: mpsc::Receiver<Lockstep<M>>,
    lockstep: Option<Lockstep<M>>,
    /// When the engine last failed to write, while that is what stopped the model.
    full_since: Option<Instant>,
}

/// Tells that the thread has ended, however it did.
struct Ending<M: Model>(Arc<Shared<M>>);

impl<M: Model> Drop for Ending<M> {
    fn drop(&mut self) {
        self.0.progress.phase.send_replace(Phase::Stopped);
    }
}

/// Why the next records were not applied.
enum Stop {
    /// They could not be read for now.
    Read(ReadError),
    /// One of them cannot be applied, or is damaged.
    Apply(ApplyError),
}

impl<M: Model> Runner<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, inbox: mpsc::Receiver<Lockstep<M>>) -> Self {
        Self {
            shared,
            inbox,
            lockstep: None,
            full_since: None,
        }
    }

    pub(crate) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        let mut follow = self.shared.settings.reader.follow();
        let mut urged = self.shared.progress.urged.subscribe();
        while !self.shared.progress.stop.load(Ordering::Acquire) {
            if self.lockstep.is_none() {
                self.lockstep = self.inbox.try_recv().ok();
            }
            let is_retried = self.shared.progress.retry.swap(false, Ordering::AcqRel);
            if is_retried {
                self.reopen();
            }
            if self.is_quarantined() && !is_retried && !self.may_have_room() {
                if !self.advance_rebuild() {
                    wait_for_change(&mut follow, LOOK_AROUND);
                }
                continue;
            }
            match self.apply_next() {
                Ok(0) => {
                    self.set_phase(Phase::Live);
                    if !self.advance_rebuild() {
                        self.rest(&mut follow);
                    }
                }
                Ok(count) => {
                    self.full_since = None;
                    if self.is_quarantined() {
                        self.set_phase(Phase::CatchingUp);
                    }
                    if !self.advance_rebuild() && count < BATCH_RECORDS && !M::PACE.is_zero() {
                        wait_for_change(&mut urged, M::PACE);
                    }
                }
                Err(Stop::Apply(error)) => {
                    // Of the event itself nothing was said.
                    self.full_since = is_of_engine(&error).then(Instant::now);
                    self.quarantine(&error);
                }
                // The system may do better in a while: nothing was applied, and nothing is lost.
                Err(Stop::Read(error)) => {
                    tracing::warn!(%error, "the log cannot be read; trying again");
                    std::thread::park_timeout(LOOK_AROUND);
                }
            }
        }
        if let Some(lockstep) = self.lockstep.take() {
            lockstep.give_up(RebuildError::Stopped);
        }
    }

    /// Whether it is time to see whether the disk, which was full, has room again.
    fn may_have_room(&mut self) -> bool {
        let is_due = self
            .full_since
            .is_some_and(|since| since.elapsed() >= ROOM_EVERY);
        if is_due {
            self.full_since = Some(Instant::now());
            self.reopen();
        }
        is_due
    }

    /// An engine whose write failed is made ready again; where it cannot be, applying tells.
    fn reopen(&self) {
        let views = self.shared.live.load_full();
        if let Err(error) = views.reopen() {
            tracing::warn!(%error, "the rows cannot be opened anew");
        }
        self.shared.progress.end.send_replace(views.end());
    }

    fn is_quarantined(&self) -> bool {
        matches!(
            *self.shared.progress.phase.borrow(),
            Phase::Quarantined { .. }
        )
    }

    /// Applies the next records to the live views, and to those that are being made; gives how
    /// many there were.
    fn apply_next(&mut self) -> Result<usize, Stop> {
        let views = self.shared.live.load_full();
        let reader = &self.shared.settings.reader;
        let records = match read(reader, views.end(), BATCH_RECORDS) {
            Err(error @ ReadError::Io { .. }) => return Err(Stop::Read(error)),
            Err(damage) => return Err(Stop::Apply(unread(views.end(), damage))),
            Ok(records) => records,
        };
        if records.is_empty() {
            return Ok(0);
        }
        let (before, started) = (views.end(), Instant::now());
        let applied = apply(&*views, &records);
        self.shared
            .progress
            .counters
            .record(views.end() - before, started.elapsed());
        if let Some(lockstep) = &mut self.lockstep {
            lockstep.follow(views.end(), reader);
        }
        self.shared.progress.end.send_replace(views.end());
        applied.map_err(Stop::Apply)?;
        Ok(records.len())
    }

    /// Compares some rows of both stores, or ends the rebuild; says whether there was such work.
    fn advance_rebuild(&mut self) -> bool {
        let Some(mut lockstep) = self.lockstep.take() else {
            return false;
        };
        let views = self.shared.live.load_full();
        lockstep.follow(views.end(), &self.shared.settings.reader);
        let pace = if self.is_quarantined() {
            Live::Stopped
        } else {
            Live::Follows
        };
        // An engine that panics over the new views is no reason to lose the old ones.
        let compare = AssertUnwindSafe(|| lockstep.compare(&views, pace));
        let compared = catch_unwind(compare).unwrap_or_else(|_| {
            Err(RebuildError::Apply {
                position: views.end(),
                reason: "comparing the rows panicked".to_owned(),
            })
        });
        match compared {
            Ok(false) => self.lockstep = Some(lockstep),
            Ok(true) => {
                let shared = &self.shared;
                lockstep.finish(&views, &shared.settings, |rebuilt| {
                    let end = rebuilt.end();
                    shared.live.store(Arc::new(rebuilt));
                    shared.progress.end.send_replace(end);
                    // New views may pass what the old ones could not apply.
                    shared.progress.retry.store(true, Ordering::Release);
                });
            }
            Err(error) => lockstep.give_up(error),
        }
        true
    }

    fn set_phase(&self, phase: Phase) {
        self.shared.progress.set_phase(phase);
    }

    fn quarantine(&self, error: &ApplyError) {
        let reason = causes(error.reason.as_ref());
        let (position, event_type) = (error.position, error.event_type.clone());
        tracing::error!(
            model = M::NAME,
            position,
            event_type,
            reason,
            "a projection stopped"
        );
        self.set_phase(Phase::Quarantined {
            position,
            event_type,
            reason,
        });
    }

    /// Waits for the log to grow, or for a while.
    fn rest(&self, follow: &mut watch::Receiver<u64>) {
        let end = self.shared.live.load().end();
        if *follow.borrow_and_update() > end {
            return;
        }
        wait_for_change(follow, LOOK_AROUND);
    }
}

/// Whether the engine, not the event, is why records were not applied.
fn is_of_engine(error: &ApplyError) -> bool {
    matches!(
        error.reason.downcast_ref::<StoreError>(),
        Some(StoreError::Engine { .. } | StoreError::Full { .. })
    )
}

/// The next records to apply, at most so many.
pub(crate) fn read(reader: &Reader, end: u64, count_max: usize) -> Result<Vec<Record>, ReadError> {
    let limit = ReadLimit {
        records: count_max,
        bytes: BATCH_BYTES,
    };
    reader.read(Position::new(end), limit)
}

/// A record that cannot be read, as one that cannot be applied.
pub(crate) fn unread(position: u64, source: ReadError) -> ApplyError {
    ApplyError {
        position,
        event_type: "a record".to_owned(),
        reason: Box::new(source),
    }
}

/// Applies records; a panic, of the engine or of ours, is an error like any other.
pub(crate) fn apply(model: &impl Model, records: &[Record]) -> Result<(), ApplyError> {
    apply_with(model, || model.apply(records))
}

/// The same, by whichever way records are applied.
pub(crate) fn apply_with(
    rows: &CheckpointedStore,
    apply: impl FnOnce() -> Result<u64, ApplyError>,
) -> Result<(), ApplyError> {
    let applied = catch_unwind(AssertUnwindSafe(apply));
    applied.map_or_else(
        |_| {
            Err(ApplyError {
                position: rows.end(),
                event_type: "a batch of records".to_owned(),
                reason: "applying it panicked".into(),
            })
        },
        |applied| applied.map(|_| ()),
    )
}

/// An error with all that led to it.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Blocks this thread until the watched value changes, or the time is up.
pub(crate) fn wait_for_change(follow: &mut watch::Receiver<u64>, timeout: Duration) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let until = Instant::now() + timeout;
    let changed = {
        let mut changed = std::pin::pin!(follow.changed());
        loop {
            if let std::task::Poll::Ready(changed) = changed.as_mut().poll(&mut cx) {
                break changed;
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            std::thread::park_timeout(left);
        }
    };
    if changed.is_err() {
        // The log is closed and will not change again: look around now and then, without spinning.
        std::thread::sleep(timeout);
    }
}
