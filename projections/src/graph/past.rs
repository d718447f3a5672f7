//! The graph as it was: the log folded up to a moment, in rows that are thrown away again.
//!
//! A few are kept, since whoever looks at one moment looks at it more than once. Invariant: a
//! moment's graph is what the live one was at that position, whatever keeps the live one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stemma_event_log::Reader;
use stemma_views::graph::Graph;
use stemma_views::{Model, OpenError, Options};

use super::store::GraphStore;
use crate::fill::fill_to;
use crate::rebuild::RebuildError;

/// Moments that are kept.
const KEPT_MAX: usize = 4;
/// Bytes of the cache, and of what is gathered, of each.
const CACHE_BYTES: u64 = 4 << 20;

/// Where moments of the past are kept while they are asked about, and how much is done for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastSettings {
    /// The directory of their rows, emptied at the start; the system's for temporary files without
    /// it.
    pub dir: Option<PathBuf>,
    /// Most records that are folded for a question.
    pub events_max: u64,
}

impl Default for PastSettings {
    fn default() -> Self {
        Self {
            dir: None,
            events_max: 1_000_000,
        }
    }
}

/// Graphs of moments that are gone, by the records that they hold.
pub struct PastGraphs {
    reader: Reader,
    settings: PastSettings,
    kept: Mutex<VecDeque<(u64, Graph)>>,
    /// Held while one is being made: the machine has other things to do.
    making: Mutex<()>,
}

/// Why a moment's graph cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PastError {
    /// More records lie before it than are folded for a question.
    #[error("{end} events lie before that moment, and {events_max} are folded at the most")]
    TooFar {
        /// Records before it.
        end: u64,
        /// Most that are folded.
        events_max: u64,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for it")]
    Cancelled,
    /// There is no place for its rows.
    #[error("make a directory for the past")]
    Directory(#[from] std::io::Error),
    /// Its rows cannot be opened.
    #[error("open rows for the past")]
    Open(#[from] OpenError),
    /// The log cannot be folded up to there.
    #[error(transparent)]
    Fold(RebuildError),
}

impl std::fmt::Debug for PastGraphs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PastGraphs")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl PastGraphs {
    /// Nothing is folded yet, and nothing is left of what was before.
    pub fn new(reader: Reader, settings: PastSettings) -> Self {
        if let Some(dir) = &settings.dir
            && let Err(error) = std::fs::remove_dir_all(dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %dir.display(), "moments of the past cannot be removed");
        }
        Self {
            reader,
            settings,
            kept: Mutex::default(),
            making: Mutex::new(()),
        }
    }

    /// The graph when the log had `end` records. Blocks while it is made, until `is_cancelled`.
    ///
    /// # Errors
    /// [`PastError`]; nothing is left of what was begun.
    pub fn at(
        &self,
        end: u64,
        is_cancelled: &AtomicBool,
    ) -> Result<Arc<dyn GraphStore>, PastError> {
        if let Some(kept) = self.kept(end) {
            return Ok(kept);
        }
        let events_max = self.settings.events_max;
        if end > events_max {
            return Err(PastError::TooFar { end, events_max });
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have made it meanwhile.
        if let Some(kept) = self.kept(end) {
            return Ok(kept);
        }
        let graph = self.fold(end, is_cancelled)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((end, graph.clone()));
        kept.truncate(KEPT_MAX);
        Ok(Arc::new(graph))
    }

    fn kept(&self, end: u64) -> Option<Arc<dyn GraphStore>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(of, _)| *of == end)?;
        let found = kept.remove(place)?;
        let graph = found.1.clone();
        kept.push_front(found);
        Some(Arc::new(graph))
    }

    fn fold(&self, end: u64, is_cancelled: &AtomicBool) -> Result<Graph, PastError> {
        let options = Options {
            cache_bytes: CACHE_BYTES,
            memtable_bytes: CACHE_BYTES,
            ..Options::default()
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix("stemma-past-");
        let dir = match &self.settings.dir {
            None => builder.tempdir()?,
            Some(parent) => {
                std::fs::create_dir_all(parent)?;
                builder.tempdir_in(parent)?
            }
        };
        let graph = Graph::open(dir.path(), &options)?.model;
        // From here on the rows see to it themselves.
        graph.discard_when_unused();
        let _ = dir.keep();
        let filled = fill_to(&graph, &self.reader, end, &mut |_| {
            if is_cancelled.load(Ordering::Acquire) {
                return Err(RebuildError::Cancelled);
            }
            Ok(())
        });
        match filled {
            Ok(()) => Ok(graph),
            Err(RebuildError::Cancelled) => Err(PastError::Cancelled),
            Err(error) => Err(PastError::Fold(error)),
        }
    }
}
