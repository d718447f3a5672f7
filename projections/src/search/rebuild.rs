//! Making the index anew: filled in a directory of its own, compared, and put in the place of the
//! one before.
//!
//! A commit of the live index is looked at while others follow it. The new one is filled to exactly
//! where that commit is, both are digested on the caller's thread, and the thread that follows
//! brings it to the head and swaps. Killed at any point, the live one is as it was.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use stemma_event_log::Reader;
use stemma_search::{Contents, OpenState, SearchIndex};
use stemma_views::StateDigest;

use super::fold::{Fold, FoldError};
use super::follow::{READ_RECORDS, Swap};
use super::generation::{Made, is_of_log};
use super::{SearchProjection, SearchSettings};
use crate::generation::Generations;
use crate::rebuild::{
    Place, RebuildControl, RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress,
};
use crate::runner::{causes, read};

/// Records behind the head at which the index is handed over.
const HAND_OVER: u64 = 2000;

impl From<FoldError> for RebuildError {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::Apply(error) => Self::Apply {
                position: error.position,
                reason: causes(error.reason.as_ref()),
            },
            FoldError::Index(error) => Self::Index(causes(&error)),
        }
    }
}

/// Folds all records below `end`, and commits; `told` is told how far the fold is, and may break
/// off.
pub(super) fn fill_to(
    fold: &mut Fold,
    reader: &Reader,
    end: u64,
    told: &mut dyn FnMut(u64) -> Result<(), RebuildError>,
) -> Result<(), RebuildError> {
    while fold.end() < end {
        told(fold.end())?;
        let left = usize::try_from(end - fold.end()).unwrap_or(usize::MAX);
        for record in read(reader, fold.end(), left.min(READ_RECORDS))? {
            fold.take(&record)?;
            if fold.is_full() {
                fold.commit()?;
                told(fold.end())?;
            }
        }
    }
    fold.commit()?;
    Ok(())
}

/// See [`SearchProjection::rebuild`].
pub(super) fn run(
    projection: &SearchProjection,
    control: &RebuildControl,
) -> Result<RebuildOutcome, RebuildError> {
    let shared = &projection.shared;
    let _place = Place::take(&shared.rebuilding).ok_or(RebuildError::Busy)?;
    let live = projection
        .index()
        .ok_or_else(|| RebuildError::Index("it is not open".to_owned()))?;
    let made = Made::new(&shared.settings)?;
    let mut fold = Fold::of(made.index(), shared.settings.content.clone());
    let contents = fill_to_commit(projection, control, &live, &mut fold)?;
    let told = told(projection, control, contents.checkpoint().end);
    told(fold.end(), RebuildPhase::Comparing)?;
    let digest_rebuilt = made.index().digest();
    let digest_rebuilt = digest_rebuilt.map_err(FoldError::Index)?;
    told(fold.end(), RebuildPhase::Comparing)?;
    // What is live may be what made somebody ask for another one.
    let digest_live = contents.digest().inspect_err(|error| {
        tracing::warn!(%error, "the live index cannot be read; it is replaced");
    });
    drop(contents);
    let outcome = outcome(fold.end(), digest_live.ok().into(), digest_rebuilt);
    drop(live);
    fill_behind_head(projection, control, &mut fold)?;
    let (answer, answered) = mpsc::channel();
    let cancel = std::sync::Arc::clone(&control.cancel);
    projection.hand_over(Swap {
        made,
        fold,
        cancel,
        answer,
    })?;
    answered.recv().unwrap_or(Err(RebuildError::Stopped))?;
    Ok(outcome)
}

/// What tells how a rebuild is doing, and fails when it is to end.
fn told<'a>(
    projection: &'a SearchProjection,
    control: &'a RebuildControl,
    end: u64,
) -> impl Fn(u64, RebuildPhase) -> Result<(), RebuildError> + 'a {
    move |applied, phase| {
        (control.progress)(RebuildProgress {
            applied,
            end: end.max(applied),
            phase,
        });
        if control.cancel.load(Ordering::Acquire) {
            return Err(RebuildError::Cancelled);
        }
        if projection.shared.progress.stop.load(Ordering::Acquire) {
            return Err(RebuildError::Stopped);
        }
        Ok(())
    }
}

/// Fills an index to where a commit of the live one is, which is given; close to the head, or no
/// closer because others write as fast.
fn fill_to_commit(
    projection: &SearchProjection,
    control: &RebuildControl,
    live: &SearchIndex,
    fold: &mut Fold,
) -> Result<Contents, RebuildError> {
    let reader = &projection.shared.settings.reader;
    let mut gap = u64::MAX;
    loop {
        let contents = live.contents();
        let end = contents.checkpoint().end;
        let told = told(projection, control, end);
        told(fold.end(), RebuildPhase::Filling)?;
        fill_to(fold, reader, end, &mut |at| told(at, RebuildPhase::Filling))?;
        let behind = live.checkpoint().end.saturating_sub(end);
        let gap_before = std::mem::replace(&mut gap, behind);
        if gap <= HAND_OVER || gap > gap_before / 2 {
            return Ok(contents);
        }
    }
}

fn fill_behind_head(
    projection: &SearchProjection,
    control: &RebuildControl,
    fold: &mut Fold,
) -> Result<(), RebuildError> {
    let reader = &projection.shared.settings.reader;
    let behind = |fold: &Fold| reader.end().get().saturating_sub(fold.end());
    let mut gap = behind(fold);
    loop {
        let end = reader.end().get();
        let told = told(projection, control, end);
        fill_to(fold, reader, end, &mut |at| told(at, RebuildPhase::Filling))?;
        let gap_before = std::mem::replace(&mut gap, behind(fold));
        if gap <= HAND_OVER || gap > gap_before / 2 {
            return told(fold.end(), RebuildPhase::Filling);
        }
    }
}

/// The index that was there before.
#[derive(Debug, Clone, Copy)]
enum Before {
    Nothing,
    Unreadable,
    Of([u8; 32]),
}

impl From<Option<[u8; 32]>> for Before {
    fn from(digest: Option<[u8; 32]>) -> Self {
        digest.map_or(Self::Unreadable, Self::Of)
    }
}

/// What came of it.
fn outcome(end: u64, before: Before, rebuilt: [u8; 32]) -> RebuildOutcome {
    let (digest_live, equal) = match before {
        Before::Nothing => (None, true),
        Before::Unreadable => (None, false),
        Before::Of(digest) => (Some(StateDigest::from_bytes(digest)), digest == rebuilt),
    };
    let digest_rebuilt = StateDigest::from_bytes(rebuilt);
    if !equal {
        let live = digest_live.map(tracing::field::display);
        tracing::warn!(live, %digest_rebuilt, "the rebuilt search index differs");
    }
    RebuildOutcome {
        position: end.checked_sub(1),
        digest_live,
        digest_rebuilt,
        equal,
        swapped: true,
    }
}

/// Makes the index anew while no server keeps it; what is there is compared where it can be read
/// and brought as far.
///
/// # Errors
/// [`RebuildError`]; [`Cancelled`](RebuildError::Cancelled) when `progress` broke it off. What was
/// in use is, as it was.
pub fn rebuild_search(
    settings: &SearchSettings,
    progress: &mut dyn FnMut(RebuildProgress) -> ControlFlow<()>,
) -> Result<RebuildOutcome, RebuildError> {
    let generations = Generations::at(&settings.dir);
    let _lock = generations.lock()?.ok_or(RebuildError::InUse)?;
    let end = settings.reader.end().get();
    let current = generations.current().unwrap_or_default();
    let mut made = Made::new(settings)?;
    let mut fold = Fold::of(made.index(), settings.content.clone());
    let mut told = |applied, phase| match progress(RebuildProgress {
        applied,
        end,
        phase,
    }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(RebuildError::Cancelled),
    };
    fill_to(&mut fold, &settings.reader, end, &mut |at| {
        told(at, RebuildPhase::Filling)
    })?;
    told(end, RebuildPhase::Comparing)?;
    let digest_rebuilt = made.index().digest().map_err(FoldError::Index)?;
    // An index that cannot be read, and whatever panics over it, is no reason not to have a new one.
    let before = current.as_ref().filter(|dir| dir.is_dir()).map(|dir| {
        let digest = AssertUnwindSafe(|| digest_of(dir, settings, end));
        catch_unwind(digest).unwrap_or_default()
    });
    let before = before.map_or(Before::Nothing, Before::from);
    let outcome = outcome(end, before, digest_rebuilt);
    made.take_over(&settings.dir)?;
    drop((fold, made));
    generations.remove_others()?;
    Ok(outcome)
}

/// The digest of an index that is there, brought as far as the new one; none of one that cannot be
/// read, or is of another log.
fn digest_of(dir: &std::path::Path, settings: &SearchSettings, end: u64) -> Option<[u8; 32]> {
    let opened = SearchIndex::open(dir, &settings.options).ok()?;
    let is_of_log = is_of_log(opened.index.checkpoint(), &settings.reader);
    if opened.state != OpenState::Existing || !is_of_log {
        return None;
    }
    let mut fold = Fold::of(opened.index, settings.content.clone());
    fill_to(&mut fold, &settings.reader, end, &mut |_| Ok(())).ok()?;
    fold.index().digest().ok()
}
