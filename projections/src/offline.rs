//! Making a model anew while nothing else runs.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use stemma_views::{Model, Share, give_way};

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
    // Whoever opens them next merges beside their work; nobody waits for it here.
    let options = stemma_views::Options {
        holds_merging: true,
        ..settings.views.clone()
    };
    let was_there = current.is_some();
    let before = current.and_then(|dir| M::open_existing(&dir, &options).ok());
    if let Some(before) = &before {
        must_be_of_log(before, &settings.reader)?;
    }
    let dir = generations.next()?;
    let model = M::open(&dir, &options)?.model;
    model.discard_when_unused();
    let is_broken_off = AtomicBool::new(false);
    let (digest_live, digest_rebuilt) = std::thread::scope(|scope| {
        let digested = scope.spawn(|| {
            // The fold comes first: it is what takes longest, and is done by one thread.
            give_way(Share::Little);
            let before = before?;
            // They mostly are as far as the log already.
            let goes_on = || !is_broken_off.load(Ordering::Relaxed);
            let mut between = |_| goes_on().then_some(()).ok_or(RebuildError::Cancelled);
            fill_to(&before, &settings.reader, end, &mut between).ok()?;
            before.state_digest_while(&goes_on).ok()?
        });
        let rebuilt = fill_to(&model, &settings.reader, end, &mut |applied| {
            let told = progress(RebuildProgress {
                applied,
                end,
                phase: RebuildPhase::Filling,
            });
            if told.is_break() {
                return Err(RebuildError::Cancelled);
            }
            Ok(())
        });
        let rebuilt = rebuilt.and_then(|()| {
            // What is still in memory is written meanwhile; who takes over asks whether it could be.
            scope.spawn(|| model.flush());
            Ok(model.state_digest()?)
        });
        is_broken_off.store(rebuilt.is_err(), Ordering::Relaxed);
        // An engine that panics over the old rows is no reason not to have new ones.
        (digested.join().unwrap_or(None), rebuilt)
    });
    let digest_rebuilt = digest_rebuilt?;
    take_over(&model, &settings.dir, &dir)?;
    let position = model.end().checked_sub(1);
    drop(model);
    generations.remove_others()?;
    Ok(RebuildOutcome {
        position,
        digest_live,
        digest_rebuilt,
        equal: !was_there || digest_live == Some(digest_rebuilt),
        swapped: true,
    })
}
