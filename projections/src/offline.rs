//! Making a model anew while nothing else runs.

use std::ops::ControlFlow;

use stemma_views::{Model, StateDigest};

use crate::fill::fill_to;
use crate::generation::Generations;
use crate::lockstep::take_over;
use crate::projection::{NotOfLog, Settings, must_be_of_log};
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
    let dir = generations.next()?;
    let model = M::open(&dir, &settings.views)?.model;
    model.discard_when_unused();
    let before = std::thread::scope(|scope| {
        let digested = scope.spawn(|| match &current {
            Some(dir) => digest_of::<M>(dir, settings, end),
            None => Ok(None),
        });
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
        Ok::<_, RebuildError>(digested.join().unwrap_or(Ok(None))?)
    })?;
    let digest_rebuilt = model.state_digest()?;
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

/// The digest of rows that are there, brought as far as the new ones will be; none of rows that
/// cannot be read.
fn digest_of<M: Model>(
    dir: &std::path::Path,
    settings: &Settings,
    end: u64,
) -> Result<Option<StateDigest>, NotOfLog> {
    let Ok(model) = M::open_existing(dir, &settings.views) else {
        return Ok(None);
    };
    must_be_of_log(&model, &settings.reader)?;
    let brought = || {
        fill_to(&model, &settings.reader, end, &mut |_| Ok(()))?;
        Ok::<_, RebuildError>(model.state_digest()?)
    };
    Ok(brought().ok())
}
