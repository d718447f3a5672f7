//! Making the views anew while nothing else runs.

use stemma_views::{StateDigest, Views};

use crate::generation::Generations;
use crate::projection::Settings;
use crate::rebuild::{RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress, fill_some};

/// Folds the log into a new generation, compares it with the one before where that can be read and
/// is as far, and swaps.
///
/// # Errors
/// [`RebuildError`]; the generation before is in use then, as it was.
pub fn rebuild_offline(
    settings: &Settings,
    progress: &mut dyn FnMut(RebuildProgress),
) -> Result<RebuildOutcome, RebuildError> {
    let generations = Generations::at(&settings.dir);
    let before = match generations.current()? {
        Some(dir) if dir.exists() => digest_of(&dir, settings),
        _ => None,
    };
    let dir = generations.next()?;
    let views = Views::open(&dir, &settings.views)?.views;
    let end = settings.reader.end().get();
    while fill_some(&views, &settings.reader)? {
        progress(RebuildProgress { applied: views.end(), end, phase: RebuildPhase::Filling });
    }
    let digest_rebuilt = views.state_digest()?;
    let digest_live = before.unwrap_or(digest_rebuilt);
    views.flush()?;
    let position = views.end().checked_sub(1);
    drop(views);
    generations.switch_to(&dir)?;
    generations.remove_others()?;
    Ok(RebuildOutcome {
        position,
        digest_live,
        digest_rebuilt,
        equal: before.is_none_or(|before| before == digest_rebuilt),
        swapped: true,
    })
}

/// The digest of views that are there, once they are as far as the log.
fn digest_of(dir: &std::path::Path, settings: &Settings) -> Option<StateDigest> {
    let views = Views::open(dir, &settings.views).ok()?.views;
    while fill_some(&views, &settings.reader).ok()? {}
    views.state_digest().ok()
}
