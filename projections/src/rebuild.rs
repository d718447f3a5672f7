//! Making a model anew while the old one serves.
//!
//! A second store is filled from the log on the caller's thread. Close to the head it is handed to
//! the thread that applies, which keeps both at the same position from there on, compares them
//! slice by slice between batches, and swaps. Killed at any point, the live one is as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use stemma_event_log::ReadError;
use stemma_views::{Model, StateDigest, StoreError};

use crate::fill::fill_to;
use crate::generation::{GenerationError, Generations};
use crate::lockstep::Lockstep;
use crate::projection::{NotOfLog, Projection};

/// Records behind the head at which the store is handed over.
const HAND_OVER: u64 = 2000;

/// How a rebuild tells of itself, and how it is told to stop.
pub struct RebuildControl {
    /// Called now and then, from the threads that rebuild.
    pub progress: Box<dyn Fn(RebuildProgress) + Send>,
    /// Set to have the rebuild stop.
    pub cancel: Arc<AtomicBool>,
}

impl std::fmt::Debug for RebuildControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RebuildControl")
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    /// Records applied.
    pub applied: u64,
    /// Records there are.
    pub end: u64,
    /// What it is doing.
    pub phase: RebuildPhase,
}

/// What a rebuild is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildPhase {
    /// Folding the log.
    Filling,
    /// Holding the rows against the live ones.
    Comparing,
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildOutcome {
    /// The last position that both hold; none of an empty log.
    pub position: Option<u64>,
    /// The digest of the live rows. Where events came in meanwhile it is of the slices as
    /// they were compared, each at one position, and equal to the other's when the rows are. None
    /// where there were none, or where they cannot be read.
    pub digest_live: Option<StateDigest>,
    /// The digest of the rebuilt rows.
    pub digest_rebuilt: StateDigest,
    /// Whether they are the same; also where there were none before.
    pub equal: bool,
    /// Whether the rebuilt ones serve now.
    pub swapped: bool,
}

/// Why nothing was rebuilt. The live model is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// One is under way.
    #[error("a rebuild is under way")]
    Busy,
    /// Another process, or a projection in this one, has the rows.
    #[error("the projection is in use")]
    InUse,
    /// The rows there are hold what the log does not: it was cut back, or is another one.
    #[error(transparent)]
    NotOfLog(#[from] NotOfLog),
    /// A record cannot be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// It was told to stop.
    #[error("the rebuild was cancelled")]
    Cancelled,
    /// The projection was stopped.
    #[error("the projection is stopped")]
    Stopped,
    /// The directory cannot be used.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The new store cannot be opened.
    #[error("open new rows")]
    Open(#[from] stemma_views::OpenError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new index cannot be opened.
    #[error("open a new index")]
    OpenIndex(#[from] stemma_search::OpenError),
    /// An index failed, or is not open.
    #[error("the search index: {0}")]
    Index(String),
    /// What keeps the graph elsewhere cannot do its part.
    #[error("Neo4j: {0}")]
    Elsewhere(String),
    /// An event cannot be applied.
    #[error("event at position {position} cannot be applied: {reason}")]
    Apply {
        /// Where it stands.
        position: u64,
        /// Why.
        reason: String,
    },
}

/// The one place for a rebuild, given back when it is dropped.
pub(crate) struct Place<'a>(&'a AtomicBool);

impl<'a> Place<'a> {
    /// Takes it, if nobody has it.
    pub(crate) fn take(place: &'a AtomicBool) -> Option<Self> {
        let is_taken = place.swap(true, Ordering::AcqRel);
        (!is_taken).then_some(Self(place))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

pub(crate) fn run<M: Model>(
    projection: &Projection<M>,
    control: RebuildControl,
) -> Result<RebuildOutcome, RebuildError> {
    let shared = &projection.shared;
    let _place = Place::take(&shared.rebuilding).ok_or(RebuildError::Busy)?;
    let dir = Generations::at(&shared.settings.dir).next()?;
    fill_and_swap(projection, &dir, control)
}

fn fill_and_swap<M: Model>(
    projection: &Projection<M>,
    dir: &std::path::Path,
    control: RebuildControl,
) -> Result<RebuildOutcome, RebuildError> {
    let shared = &projection.shared;
    let model = M::open(dir, &shared.settings.views)?.model;
    model.discard_when_unused();
    model.hold_merging(true);
    fill_behind_head(projection, &model, &control)?;
    model.hold_merging(false);
    let (answer, answered) = mpsc::channel();
    projection.hand_over(Lockstep::new(model, dir.to_path_buf(), control, answer))?;
    answered.recv().unwrap_or(Err(RebuildError::Stopped))
}

/// Fills views from the log until they are close to its head, or come no closer because others
/// write as fast: from there on the thread that applies keeps both, at one pace.
fn fill_behind_head<M: Model>(
    projection: &Projection<M>,
    model: &M,
    control: &RebuildControl,
) -> Result<(), RebuildError> {
    let shared = &projection.shared;
    let reader = &shared.settings.reader;
    let behind = || reader.end().get().saturating_sub(model.end());
    let mut gap = behind();
    loop {
        let end = reader.end().get();
        let mut told = |applied| {
            (control.progress)(RebuildProgress {
                applied,
                end,
                phase: RebuildPhase::Filling,
            });
            if control.cancel.load(Ordering::Acquire) {
                return Err(RebuildError::Cancelled);
            }
            if shared.progress.stop.load(Ordering::Acquire) {
                return Err(RebuildError::Stopped);
            }
            Ok(())
        };
        told(model.end())?;
        fill_to(model, reader, end, &mut told)?;
        let gap_before = std::mem::replace(&mut gap, behind());
        if gap <= HAND_OVER || gap > gap_before / 2 {
            return Ok(());
        }
    }
}
