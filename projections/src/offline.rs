//! Making a model anew while nothing else runs.

use std::ops::ControlFlow;

use stemma_views::Model;

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
    let before = std::thread::scope(|scope| {
        // They mostly are as far as the log already.
        let brought = scope.spawn(|| before.filter(|rows| bring(rows, settings, end)));
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
        // An engine that panics over the old rows is no reason not to have new ones.
        Ok::<_, RebuildError>(brought.join().unwrap_or(None))
    })?;
    // Filling keeps as many processors busy as there mostly are; a digest keeps one.
    let (before, digest_rebuilt) = std::thread::scope(|scope| {
        let digested = scope.spawn(|| before?.state_digest().ok());
        let rebuilt = model.state_digest();
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

/// Brings rows that are there as far as the new ones will be; false where they cannot be.
fn bring<M: Model>(rows: &M, settings: &Settings, end: u64) -> bool {
    rows.hold_merging(true);
    fill_to(rows, &settings.reader, end, &mut |_| Ok(())).is_ok()
}
