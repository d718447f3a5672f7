//! Making the views anew while nothing else runs.

use std::ops::ControlFlow;

use stemma_views::{StateDigest, Views};

use crate::fill::fill_to;
use crate::generation::Generations;
use crate::lockstep::take_over;
use crate::projection::{NotOfLog, Settings, must_be_of_log};
use crate::rebuild::{RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress};

/// Folds the log into a new generation, compares it with the one before where that can be read and
/// is as far, and swaps.
///
/// # Errors
/// [`RebuildError`]; [`NotOfLog`](RebuildError::NotOfLog) when the views before hold events that the
/// log lost, since they are what shows it; [`Cancelled`](RebuildError::Cancelled) when `progress` broke it off; the
/// generation before is in use then, as it was.
pub fn rebuild_offline(
    settings: &Settings,
    progress: &mut dyn FnMut(RebuildProgress) -> ControlFlow<()>,
) -> Result<RebuildOutcome, RebuildError> {
    let generations = Generations::at(&settings.dir);
    let _lock = generations.lock()?.ok_or(RebuildError::InUse)?;
    let end = settings.reader.end().get();
    let current = generations.current()?;
    let dir = generations.next()?;
    let views = Views::open(&dir, &settings.views)?.views;
    views.discard_when_unused();
    let before = std::thread::scope(|scope| {
        let digested = scope.spawn(|| match &current {
            Some(dir) => digest_of(dir, settings, end),
            None => Ok(None),
        });
        fill_to(&views, &settings.reader, end, &mut |applied| {
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
        // An engine that panics over the old views is no reason not to have new ones.
        Ok::<_, RebuildError>(digested.join().unwrap_or(Ok(None))?)
    })?;
    let digest_rebuilt = views.state_digest()?;
    let digest_live = before.unwrap_or(digest_rebuilt);
    take_over(&views, &settings.dir, &dir)?;
    let position = views.end().checked_sub(1);
    drop(views);
    generations.remove_others()?;
    Ok(RebuildOutcome {
        position,
        digest_live,
        digest_rebuilt,
        equal: before.is_none_or(|before| before == digest_rebuilt),
        swapped: true,
    })
}

/// The digest of views that are there, brought as far as the new ones will be; none of views that
/// cannot be read.
fn digest_of(
    dir: &std::path::Path,
    settings: &Settings,
    end: u64,
) -> Result<Option<StateDigest>, NotOfLog> {
    let Ok(views) = Views::open_existing(dir, &settings.views) else {
        return Ok(None);
    };
    must_be_of_log(&views, &settings.reader)?;
    let brought = || {
        fill_to(&views, &settings.reader, end, &mut |_| Ok(()))?;
        Ok::<_, RebuildError>(views.state_digest()?)
    };
    Ok(brought().ok())
}
