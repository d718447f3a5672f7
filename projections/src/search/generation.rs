//! The index in use: found, opened, and held against the log.

use std::path::{Path, PathBuf};

use stemma_event_log::{Position, Reader};
use stemma_search::{Checkpoint, OpenState, SearchIndex};

use super::SearchSettings;
use crate::generation::{GenerationError, Generations};
use crate::rebuild::RebuildError;

/// Why no index can be had for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error("open the index")]
    Open(#[from] stemma_search::OpenError),
}

/// Opens the index in use, or makes the first. One that holds what the log does not is of no use:
/// it is replaced by an empty one.
pub(super) fn attach(settings: &SearchSettings) -> Result<SearchIndex, AttachError> {
    let generations = Generations::at(&settings.dir);
    let dir = match current(&generations)? {
        Some(dir) => dir,
        None => first(&generations)?,
    };
    generations.remove_others()?;
    let index = open(&dir, settings)?;
    if is_of_log(index.checkpoint(), &settings.reader) {
        return Ok(index);
    }
    let Checkpoint { end, .. } = index.checkpoint();
    tracing::warn!(
        end,
        "the search index is of another log, or the log lost events; it is made anew"
    );
    let next = generations.next()?;
    let fresh = open(&next, settings)?;
    generations.switch_to(&next)?;
    if let Err(error) = index.discard() {
        tracing::warn!(%error, "what is left of the index is removed by the next start");
    }
    Ok(fresh)
}

fn first(generations: &Generations) -> Result<PathBuf, GenerationError> {
    let dir = generations.next()?;
    generations.switch_to(&dir)?;
    Ok(dir)
}

fn current(generations: &Generations) -> Result<Option<PathBuf>, GenerationError> {
    match generations.current() {
        // Whatever it should have named is made anew.
        Err(error) if error.source.kind() == std::io::ErrorKind::InvalidData => Ok(None),
        current => current,
    }
}

fn open(dir: &Path, settings: &SearchSettings) -> Result<SearchIndex, stemma_search::OpenError> {
    let opened = SearchIndex::open(dir, &settings.options)?;
    match &opened.state {
        OpenState::Replaced { reason, kept_as } => {
            let kept_as = kept_as.as_deref().unwrap_or(Path::new(""));
            tracing::warn!(reason, kept_as = %kept_as.display(), "the search index is made anew");
        }
        OpenState::WentBack { reason } => {
            let end = opened.index.checkpoint().end;
            tracing::warn!(
                reason,
                end,
                "the search index goes on from an earlier commit"
            );
        }
        OpenState::Fresh | OpenState::Existing => {}
    }
    Ok(opened.index)
}

/// Brings the newest commit to the medium. Where that fails the index is as good, until the machine
/// stops.
pub(super) fn sync(index: &SearchIndex) {
    if let Err(error) = index.sync() {
        tracing::warn!(%error, "the search index is not brought to the medium");
    }
}

/// Whether an index was folded from the records that this log has: the digest of the last one that
/// was folded names all before it.
pub(super) fn is_of_log(checkpoint: Checkpoint, reader: &Reader) -> bool {
    let Some(last) = checkpoint.end.checked_sub(1) else {
        return true;
    };
    match reader.read_one(Position::new(last)) {
        Ok(Some(record)) => checkpoint.last == Some(*record.digest().as_bytes()),
        Ok(None) => false,
        // A record that cannot be read tells nothing of the index.
        Err(_) => true,
    }
}

/// An index that is being made; it is gone with this, unless it took over.
pub(super) struct Made {
    index: SearchIndex,
    dir: PathBuf,
    is_kept: bool,
}

impl Made {
    /// An empty index beside the one in use.
    pub(super) fn new(settings: &SearchSettings) -> Result<Self, RebuildError> {
        let dir = Generations::at(&settings.dir).next()?;
        let index = open(&dir, settings)?;
        Ok(Self {
            index,
            dir,
            is_kept: false,
        })
    }

    /// The index.
    pub(super) fn index(&self) -> SearchIndex {
        self.index.clone()
    }

    /// Has it take over. Where that fails, whatever `CURRENT` names by then stays.
    pub(super) fn take_over(&mut self, parent: &Path) -> Result<(), GenerationError> {
        sync(&self.index);
        let generations = Generations::at(parent);
        let switched = generations.switch_to(&self.dir);
        // The name may have been replaced although the sync behind it failed.
        let current = generations.current();
        self.is_kept = switched.is_ok() || matches!(current, Ok(Some(dir)) if dir == self.dir);
        switched
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = self.index.discard() {
            tracing::warn!(%error, "what is left of a new index is removed by the next start");
        }
    }
}
