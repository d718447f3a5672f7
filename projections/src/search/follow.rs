//! The thread that keeps the index: it opens it, catches up, and follows.
//!
//! Invariants: records are folded in order by this thread alone; a batch is committed when it is
//! full, when somebody waits for what it holds and cannot wait longer, or when it is worth a commit;
//! whatever ends the thread, a panic too, is told as a phase.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use stemma_content_store as content;
use stemma_event_log::{ReadError, Record};
use stemma_search::SearchError;
use stemma_views::ApplyError;
use tokio::sync::watch;

use super::fold::{Fold, FoldError};
use super::generation::{Made, attach, sync};
use super::pace::Pace;
use super::wanted::Haste;
use super::{SearchState, Shared};
use crate::rebuild::RebuildError;
use crate::runner::{LOOK_AROUND, ROOM_EVERY, causes, read, unread, wait_for_change};
use crate::status::Phase;

/// Most records that are read at a time.
pub(super) const READ_RECORDS: usize = 4096;
/// How long changes are gathered at the least before they are committed, while nobody waits for them.
const PACE: Duration = Duration::from_millis(250);
/// How long records gather that are looked at together: most change nothing, and a thread that is
/// woken for each group of the log costs more than what it reads there.
const GATHER: Duration = Duration::from_millis(25);
/// How long changes are gathered while there is more to be caught up with.
const CATCH_UP_PACE: Duration = Duration::from_secs(5);
/// How long records that change nothing are passed before the checkpoint is moved behind them.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Longest time that the last commit may be likely to take when the thread is told to stop; what
/// takes longer is folded again by the next start.
const LAST_COMMIT_MAX: Duration = Duration::from_secs(2);
/// How long to wait before a new try to open the index, at first and at the most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// An index that was filled and compared, to be put in the place of the live one.
pub(super) struct Swap {
    pub(super) made: Made,
    pub(super) fold: Fold,
    pub(super) cancel: Arc<AtomicBool>,
    pub(super) answer: mpsc::Sender<Result<(), RebuildError>>,
}

pub(super) struct Follower {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Swap>,
    head: watch::Receiver<u64>,
    urged: watch::Receiver<u64>,
    pace: Pace,
    /// When the index was last committed.
    committed_at: Instant,
    /// When it last failed to be, while that is what stopped it.
    failed_at: Option<Instant>,
}

/// Tells that the thread has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.progress.set_phase(Phase::Stopped);
    }
}

/// What came of a turn.
enum Turn {
    /// There may be more to fold.
    More,
    /// All that there is is folded.
    All,
    /// There was nothing to fold.
    Nothing,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, inbox: mpsc::Receiver<Swap>) -> Self {
        Self {
            head: shared.settings.reader.follow(),
            urged: shared.progress.urged.subscribe(),
            shared,
            inbox,
            pace: Pace::default(),
            committed_at: Instant::now(),
            failed_at: None,
        }
    }

    pub(super) fn run(self) {
        let _ending = Ending(Arc::clone(&self.shared));
        let mut wait = BACKOFF.0;
        while !self.is_stopped() {
            let attached = catch_unwind(AssertUnwindSafe(|| attach(&self.shared.settings)));
            let reason = match attached {
                Ok(Ok(index)) => {
                    let fold = Fold::of(index, self.shared.settings.content.clone());
                    self.publish(&fold);
                    self.shared.progress.set_phase(Phase::CatchingUp);
                    return self.follow(fold);
                }
                Ok(Err(error)) => causes(&error),
                Err(_) => "opening it panicked".to_owned(),
            };
            tracing::error!(reason, "the search index cannot be opened; trying again");
            self.set_state(SearchState::Failed {
                reason: reason.clone(),
            });
            self.shared.progress.set_phase(Phase::Away { reason });
            self.rest_until_asked(wait);
            wait = (2 * wait).min(BACKOFF.1);
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.progress.stop.load(Ordering::Acquire)
    }

    fn set_state(&self, state: SearchState) {
        self.shared.state.send_replace(state);
    }

    /// Has an index be the one that is asked.
    fn publish(&self, fold: &Fold) {
        let index = Arc::new(fold.index().clone());
        self.shared.live.store(Some(index));
        self.set_state(SearchState::Running);
        self.show(fold);
    }

    /// Tells how far the index is. What is known to change nothing stays known.
    fn show(&self, fold: &Fold) {
        let end = fold.visible_end();
        self.shared.progress.end.send_if_modified(|shown| {
            let is_further = end > *shown;
            *shown = end.max(*shown);
            is_further
        });
    }

    /// Rests for so long, or until it is told to stop, or to try again.
    fn rest_until_asked(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.is_stopped()
            && !self.shared.progress.retry.swap(false, Ordering::AcqRel)
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            std::thread::park_timeout(left.min(LOOK_AROUND));
        }
    }

    fn follow(mut self, mut fold: Fold) {
        while !self.is_stopped() {
            if let Ok(swap) = self.inbox.try_recv() {
                self.swap(&mut fold, swap);
            }
            let is_retried = self.shared.progress.retry.swap(false, Ordering::AcqRel);
            let is_quarantined = self.is_quarantined();
            if is_quarantined && !is_retried && !self.may_have_room() {
                wait_for_change(&mut self.urged, LOOK_AROUND);
                continue;
            }
            let step = AssertUnwindSafe(|| self.turn(&mut fold, is_quarantined));
            match catch_unwind(step) {
                Ok(Ok(turn)) => self.rest(&fold, &turn),
                Ok(Err(error)) => self.quarantine(&mut fold, error),
                Err(_) => {
                    let position = fold.end();
                    let error = ApplyError {
                        position,
                        event_type: "a batch of records".to_owned(),
                        reason: "applying it panicked".into(),
                    };
                    self.quarantine(&mut fold, FoldError::Apply(error));
                }
            }
        }
        if !self.is_quarantined()
            && self.pace.likely(fold.gathered_bytes()) <= LAST_COMMIT_MAX
            && let Err(error) = self.commit(&mut fold)
        {
            tracing::warn!(?error, "not committed; the next start folds more");
        }
        sync(fold.index());
    }

    fn is_quarantined(&self) -> bool {
        let phase = self.shared.progress.phase.borrow();
        matches!(*phase, Phase::Quarantined { .. })
    }

    /// Whether it is time to see whether the disk, which may have been full, has room again.
    fn may_have_room(&mut self) -> bool {
        let is_due = self
            .failed_at
            .is_some_and(|since| since.elapsed() >= ROOM_EVERY);
        if is_due {
            self.failed_at = Some(Instant::now());
        }
        is_due
    }

    /// Folds what there is, as much as is read at a time, and commits where it is time to.
    fn turn(&mut self, fold: &mut Fold, is_tried_again: bool) -> Result<Turn, FoldError> {
        if is_tried_again {
            fold.settle().map_err(FoldError::Index)?;
        }
        let records = match read(&self.shared.settings.reader, fold.end(), READ_RECORDS) {
            Err(error @ ReadError::Io { .. }) => {
                tracing::warn!(%error, "the log cannot be read; trying again");
                std::thread::park_timeout(LOOK_AROUND);
                return Ok(Turn::More);
            }
            Err(damage) => return Err(FoldError::Apply(unread(fold.end(), damage))),
            Ok(records) => records,
        };
        self.take_all(fold, &records)?;
        let turn = match records.len() {
            0 => Turn::Nothing,
            READ_RECORDS.. => Turn::More,
            _ => Turn::All,
        };
        if self.is_due(fold, &turn) {
            self.commit(fold)?;
        }
        self.show(fold);
        if is_tried_again {
            self.failed_at = None;
            self.shared.progress.set_phase(Phase::CatchingUp);
        }
        if !matches!(turn, Turn::More) && fold.changed_since().is_none() {
            self.shared.progress.set_phase(Phase::Live);
        }
        Ok(turn)
    }

    fn take_all(&mut self, fold: &mut Fold, records: &[Record]) -> Result<(), FoldError> {
        for record in records {
            fold.take(record)?;
            if fold.is_full() {
                self.commit(fold)?;
                if self.is_stopped() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn is_due(&self, fold: &Fold, turn: &Turn) -> bool {
        let Some(since) = fold.changed_since() else {
            return fold.uncommitted() > 0 && self.committed_at.elapsed() >= CHECKPOINT_EVERY;
        };
        let least = match turn {
            Turn::More => CATCH_UP_PACE,
            Turn::All | Turn::Nothing => PACE,
        };
        since.elapsed() >= self.gather(fold, least)
    }

    /// How long the changes are to be gathered, at least `least` if nobody waits for them.
    fn gather(&self, fold: &Fold, least: Duration) -> Duration {
        let bytes = fold.gathered_bytes();
        match self.shared.wanted.between(fold.visible_end(), fold.end()) {
            Some(Haste::AtOnce) => Duration::ZERO,
            Some(Haste::Shared) => self.pace.gather_wanted(bytes),
            None => self.pace.gather_unwanted(bytes).max(least),
        }
    }

    fn commit(&mut self, fold: &mut Fold) -> Result<(), FoldError> {
        let started = Instant::now();
        let (bytes, changes) = (fold.gathered_bytes(), fold.changed_since().is_some());
        let count = fold.commit()?;
        if changes {
            self.pace.note(bytes, started.elapsed());
        }
        self.committed_at = Instant::now();
        if count > 0 {
            let counters = &self.shared.progress.counters;
            counters.record(count, started.elapsed());
        }
        self.show(fold);
        Ok(())
    }

    /// Waits for what there is to do next.
    fn rest(&mut self, fold: &Fold, turn: &Turn) {
        if matches!(turn, Turn::More) {
            return;
        }
        if let Err(error) = fold.index().remove_left_over() {
            tracing::warn!(%error, "files of the search index are left over");
        }
        match fold.changed_since() {
            Some(since) => {
                let left = self.gather(fold, PACE).saturating_sub(since.elapsed());
                wait_for_change(&mut self.urged, left.min(LOOK_AROUND));
            }
            None if matches!(turn, Turn::All) => wait_for_change(&mut self.urged, GATHER),
            None if *self.head.borrow_and_update() > fold.end() => {}
            None => wait_for_change(&mut self.head, LOOK_AROUND),
        }
    }

    /// Stops at a record, with all before it committed; or where the index is, if that failed.
    fn quarantine(&mut self, fold: &mut Fold, error: FoldError) {
        let error = match error {
            FoldError::Apply(error) => match self.commit(fold) {
                Ok(()) => {
                    self.failed_at = may_pass(error.reason.as_ref()).then(Instant::now);
                    error
                }
                Err(error) => self.failed(fold, error),
            },
            failed @ FoldError::Index(_) => self.failed(fold, failed),
        };
        let (position, event_type) = (error.position, error.event_type);
        let reason = causes(error.reason.as_ref());
        tracing::error!(position, event_type, reason, "the search index stopped");
        self.shared.progress.set_phase(Phase::Quarantined {
            position,
            event_type,
            reason,
        });
    }

    fn failed(&mut self, fold: &Fold, error: FoldError) -> ApplyError {
        match error {
            FoldError::Apply(error) => error,
            FoldError::Index(error) => {
                self.failed_at = may_pass(&error).then(Instant::now);
                ApplyError {
                    position: fold.end(),
                    event_type: "a batch of records".to_owned(),
                    reason: error.into(),
                }
            }
        }
    }

    /// Brings a new index to where the live one is, and has it take over.
    fn swap(&mut self, live: &mut Fold, swap: Swap) {
        let Swap {
            mut made,
            mut fold,
            cancel,
            answer,
        } = swap;
        let end = live.end().max(self.shared.progress.end());
        let filled = AssertUnwindSafe(|| {
            super::rebuild::fill_to(&mut fold, &self.shared.settings.reader, end, &mut |_| {
                if cancel.load(Ordering::Acquire) {
                    return Err(RebuildError::Cancelled);
                }
                Ok(())
            })
        });
        let filled = catch_unwind(filled)
            .unwrap_or_else(|_| Err(RebuildError::Index("filling it panicked".to_owned())));
        let taken = filled.and_then(|()| Ok(made.take_over(&self.shared.settings.dir)?));
        if let Err(error) = taken {
            drop(made);
            let _ = answer.send(Err(error));
            return;
        }
        let old = std::mem::replace(live, fold);
        self.publish(live);
        if let Err(error) = old.index().discard() {
            tracing::warn!(%error, "what is left of the old index is removed by the next start");
        }
        self.committed_at = Instant::now();
        // The new one may pass what the old one could not apply.
        self.shared.progress.retry.store(true, Ordering::Release);
        // Whoever asked may have gone.
        let _ = answer.send(Ok(()));
    }
}

/// Whether what stopped the index may go by itself: the system's trouble with the index, or with
/// content that it takes in. What is damaged does not mend itself.
fn may_pass(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| {
        (*error).source()
    });
    causes.any(|error| {
        matches!(error.downcast_ref(), Some(SearchError::Index(_)))
            || matches!(error.downcast_ref(), Some(content::ReadError::Io { .. }))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use stemma_content_store::Digest;
    use stemma_domain::id::ContentDigest;

    use super::super::content::ContentError;
    use super::*;

    /// A process that had too many files open for a moment searched nothing until somebody had it
    /// tried again.
    #[test]
    fn the_systems_trouble_with_content_may_pass_and_content_that_is_missing_does_not_come_back() {
        const EMFILE: i32 = 24;
        let digest = ContentDigest::from_bytes([1; 32]);
        let read = |source| ContentError::Read { digest, source };
        let io = |code| content::ReadError::Io {
            file: "large/1".into(),
            source: Arc::new(io::Error::from_raw_os_error(code)),
        };
        let too_large = content::ReadError::TooLarge {
            digest: Digest::from_bytes([1; 32]),
            bytes: 2,
            bytes_max: 1,
        };
        let within = |error: ContentError| SearchError::Passages(error.into());
        for (error, passes) in [
            (read(io(EMFILE)), true),
            (ContentError::Missing(digest), false),
            (read(too_large), false),
        ] {
            assert_eq!(may_pass(&error), passes, "{error}");
            assert_eq!(may_pass(&within(error)), passes);
        }
    }
}
