//! Two models kept at one position, and compared while they move.
//!
//! Between two batches both hold the fold of the same records, so the rows of one span of keys can
//! be compared then, and a later batch changes both alike. Spans compared one after the other make
//! up the whole; nobody waits for the comparison.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use stemma_event_log::Reader;
use stemma_views::{CheckpointedStore, Model, StateHasher};

use crate::fill::fill_some;
use crate::generation::Generations;
use crate::projection::Settings;
use crate::rebuild::{RebuildControl, RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress};

/// Rows that are compared between two batches.
const SLICE_ROWS: usize = 1000;

/// Whether the live model goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// It will come to where the new one is.
    Follows,
    /// It is quarantined, so the new one cannot wait for it.
    Stopped,
}

/// A model that is being made, and how far it was compared.
pub(crate) struct Lockstep<M> {
    rebuilt: M,
    dir: PathBuf,
    control: RebuildControl,
    answer: mpsc::Sender<Result<RebuildOutcome, RebuildError>>,
    failed: Option<RebuildError>,
    live_hasher: StateHasher,
    /// Whether the live rows cannot be read: then the new ones are wanted all the more.
    live_failed: bool,
    rebuilt_hasher: StateHasher,
    /// The key up to which rows were compared; none before the first slice.
    compared_to: Option<Vec<u8>>,
}

impl<M: Model> Lockstep<M> {
    pub(crate) fn new(
        rebuilt: M,
        dir: PathBuf,
        control: RebuildControl,
        answer: mpsc::Sender<Result<RebuildOutcome, RebuildError>>,
    ) -> Self {
        Self {
            rebuilt,
            dir,
            control,
            answer,
            failed: None,
            live_hasher: StateHasher::default(),
            live_failed: false,
            rebuilt_hasher: StateHasher::default(),
            compared_to: None,
        }
    }

    /// Brings the model that is being made towards where the live one is, and not further; more
    /// at a time than the live one takes, so that it gets there while others write.
    pub(crate) fn follow(&mut self, end: u64, reader: &Reader) {
        if self.failed.is_none() && self.rebuilt.end() < end {
            self.failed = fill_some(&self.rebuilt, reader, end).err();
        }
    }

    /// Compares the next rows; true when all were compared, or no more can be.
    pub(crate) fn compare(&mut self, live: &M, pace: Live) -> Result<bool, RebuildError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.control.cancel.load(Ordering::Acquire) {
            return Err(RebuildError::Cancelled);
        }
        let is_ahead = self.rebuilt.end() > live.end();
        if self.rebuilt.end() != live.end() {
            return Ok(is_ahead && pace == Live::Stopped);
        }
        let after = self.compared_to.as_deref();
        let rows = self.rebuilt.rows_after(after, SLICE_ROWS)?;
        // The span ends where the new rows end; the last span takes in all that the live ones have.
        let to = if rows.len() == SLICE_ROWS {
            rows.last().map(|(key, _)| key.clone())
        } else {
            None
        };
        self.rebuilt_hasher.rows(&rows);
        if !self.live_failed {
            self.live_failed = !digest_live(live, after, to.as_deref(), &mut self.live_hasher);
        }
        (self.control.progress)(RebuildProgress {
            applied: self.rebuilt.end(),
            end: live.end(),
            phase: RebuildPhase::Comparing,
        });
        let is_done = to.is_none();
        self.compared_to = to;
        Ok(is_done)
    }

    /// Has the new model take over; `swap` puts it in the live one's place.
    pub(crate) fn finish(self, live: &M, settings: &Settings, swap: impl FnOnce(M)) {
        let digest_live = (!self.live_failed).then(|| self.live_hasher.finish());
        let digest_rebuilt = self.rebuilt_hasher.finish();
        let equal = digest_live == Some(digest_rebuilt) && self.rebuilt.end() == live.end();
        if !equal {
            let live = digest_live.map(tracing::field::display);
            tracing::warn!(model = M::NAME, live, %digest_rebuilt, "the rebuilt one differs");
        }
        let position = self.rebuilt.end().checked_sub(1);
        if let Err(error) = take_over(&self.rebuilt, &settings.dir, &self.dir) {
            return self.give_up(error);
        }
        live.discard_when_unused();
        swap(self.rebuilt);
        let outcome = RebuildOutcome {
            position,
            digest_live,
            digest_rebuilt,
            equal,
            swapped: true,
        };
        // Whoever asked may have gone.
        let _ = self.answer.send(Ok(outcome));
    }

    /// Ends without having changed anything; the new one is gone when this is told.
    pub(crate) fn give_up(self, error: RebuildError) {
        drop(self.rebuilt);
        let _ = self.answer.send(Err(error));
    }
}

/// Has a generation take over. Where that fails, whatever `CURRENT` names by then stays.
pub(crate) fn take_over(
    rebuilt: &CheckpointedStore,
    parent: &Path,
    dir: &Path,
) -> Result<(), RebuildError> {
    let generations = Generations::at(parent);
    rebuilt.flush()?;
    rebuilt.keep();
    let switched = generations.switch_to(dir);
    // The name may have been replaced although the sync behind it failed.
    if switched.is_err() && !matches!(generations.current(), Ok(Some(current)) if current == dir) {
        rebuilt.discard_when_unused();
    }
    Ok(switched?)
}

/// Digests a span of the live rows; false when the engine fails or panics over them.
fn digest_live(
    live: &CheckpointedStore,
    after: Option<&[u8]>,
    to: Option<&[u8]>,
    hasher: &mut StateHasher,
) -> bool {
    let digest = AssertUnwindSafe(|| live.digest_span(after, to, hasher));
    match catch_unwind(digest) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the live rows cannot be read; they are replaced");
            false
        }
        Err(_) => {
            tracing::warn!("reading the live rows panicked; they are replaced");
            false
        }
    }
}
