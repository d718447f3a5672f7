//! Making a model anew while nothing else runs.

use std::ops::ControlFlow;

use stemma_views::{Model, StateDigest};

use crate::fill::fill_to;
use crate::generation::Generations;
use crate::lockstep::take_over;
use crate::projection::{Settings, must_be_of_log};
use crate::rebuild::{RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress};

/// Folds the log into a new generation, compares it with the one before where that can be read and
/// is as far, and swaps.
///
/// # Errors
/// [`RebuildError`]; [`NotOfLog`](RebuildError::NotOfLog) when the rows before hold events that the
/// log lost, since they are what shows it; [`Cancelled`](RebuildError::Cancelled) when `progress` broke it off; the
/// generation before is in use then, as it was.
pub fn rebuild_offline<M: Model>(
    settings: &Settings,
    progress: &mut dyn FnMut(RebuildProgress) -> ControlFlow<()>,
) -> Result<RebuildOutcome, RebuildError> {
    let generations = Generations::at(&settings.dir);
    let _lock = generations.lock()?.ok_or(RebuildError::InUse)?;
    let end = settings.reader.end().get();
    let current = generations.current()?;
    let before = current.and_then(|dir| M::open_existing(&dir, &settings.views).ok());
    if let Some(before) = &before {
        must_be_of_log(before, &settings.reader)?;
    }
    let dir = generations.next()?;
    let model = M::open(&dir, &settings.views)?.model;
    model.discard_when_unused();
    // Whoever opens it next merges beside their work; nobody waits for it here.
    model.hold_merging(true);
    fill_to(&model, &settings.reader, end, &mut |applied| {
        let told = progress(RebuildProgress {
            applied,
            end,
            phase: RebuildPhase::Filling,
        });
        if told.is_break() {
            return Err(RebuildError::Cancelled);
        }
        Ok(())
    })?;
    // Filling keeps as many processors busy as there mostly are; a digest keeps one.
    let (before, digest_rebuilt) = std::thread::scope(|scope| {
        let digested = scope.spawn(|| before.and_then(|before| digest_of(&before, settings, end)));
        let rebuilt = model.state_digest();
        // An engine that panics over the old rows is no reason not to have new ones.
        (digested.join().unwrap_or(None), rebuilt)
    });
    let digest_rebuilt = digest_rebuilt?;
    let digest_live = before.unwrap_or(digest_rebuilt);
    take_over(&model, &settings.dir, &dir)?;
    let position = model.end().checked_sub(1);
    drop(model);
    generations.remove_others()?;
    Ok(RebuildOutcome {
        position,
        digest_live,
        digest_rebuilt,
        equal: before.is_none_or(|before| before == digest_rebuilt),
        swapped: true,
    })
}

/// The digest of rows that are there, brought as far as the new ones are; none of rows that cannot
/// be read.
fn digest_of<M: Model>(model: &M, settings: &Settings, end: u64) -> Option<StateDigest> {
    fill_to(model, &settings.reader, end, &mut |_| Ok(())).ok()?;
    model.state_digest().ok()
}
