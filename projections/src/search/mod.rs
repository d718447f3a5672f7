//! The search index: a projection with a thread of its own, which nothing waits for but who asks.
//!
//! Invariant: at most one process has the directory of the index, from the start of a projection
//! until its last handle is gone.

mod content;
mod fold;
mod follow;
mod generation;
mod origin;
mod pace;
mod pending;
mod rebuild;
mod wanted;

pub use rebuild::rebuild_search;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use stemma_content_store::ContentStore;
use stemma_event_log::Reader;
use stemma_search::{Page, Query, SearchError, SearchIndex};
use tokio::sync::watch;

use self::follow::{Follower, Swap};
use self::wanted::{Haste, Wanted};
use crate::generation::{GenerationLock, Generations};
use crate::progress::{Progress, WaitError};
use crate::projection::StartError;
use crate::rebuild::{RebuildControl, RebuildError, RebuildOutcome};
use crate::status::{ProjectionMetrics, ProjectionStatus};

/// Where a search projection finds what it folds, and keeps its index.
#[derive(Debug, Clone)]
pub struct SearchSettings {
    /// The log.
    pub reader: Reader,
    /// The content that events name.
    pub content: ContentStore,
    /// The directory of the index's generations.
    pub dir: PathBuf,
    /// How the index is kept.
    pub options: stemma_search::Options,
}

/// Whether there is an index to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchState {
    /// It is being opened, which takes as long as reading all of it.
    Opening,
    /// It is open; how far it is, the status tells.
    Running,
    /// It cannot be opened; that is tried again, now and then and by
    /// [`retry`](SearchProjection::retry).
    Failed {
        /// Why.
        reason: String,
    },
}

/// The running search projection; clones share it.
#[derive(Clone)]
pub struct SearchProjection {
    shared: Arc<Shared>,
}

struct Shared {
    settings: SearchSettings,
    /// The index that is asked; none before it is open.
    live: ArcSwapOption<SearchIndex>,
    progress: Progress,
    state: watch::Sender<SearchState>,
    wanted: Wanted,
    swaps: Mutex<Option<mpsc::Sender<Swap>>>,
    rebuilding: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Behind the index, so that it goes after it.
    _lock: GenerationLock,
}

impl std::fmt::Debug for SearchProjection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchProjection")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl SearchProjection {
    /// Starts the thread that opens the index and keeps it.
    ///
    /// # Errors
    /// [`StartError::InUse`], [`StartError::Generation`] and [`StartError::Thread`]. Whatever keeps
    /// the index from being opened is told by [`state`](Self::state).
    pub fn start(settings: SearchSettings) -> Result<Self, StartError> {
        let lock = Generations::at(&settings.dir).lock()?;
        let lock = lock.ok_or(StartError::InUse)?;
        let (swaps, inbox) = mpsc::channel();
        let shared = Arc::new(Shared {
            live: ArcSwapOption::empty(),
            progress: Progress::at(0, settings.reader.clone()),
            settings,
            state: watch::Sender::new(SearchState::Opening),
            wanted: Wanted::default(),
            swaps: Mutex::new(Some(swaps)),
            rebuilding: AtomicBool::new(false),
            thread: Mutex::default(),
            _lock: lock,
        });
        let follower = Follower::new(Arc::clone(&shared), inbox);
        let thread = std::thread::Builder::new()
            .name("search".to_owned())
            .spawn(move || follower.run());
        let thread = thread.map_err(StartError::Thread)?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { shared })
    }

    /// The index in use; none before it is open. A rebuild has another one take its place; who
    /// holds the one before is answered from it as it was then.
    pub fn index(&self) -> Option<SearchIndex> {
        let live = self.shared.live.load();
        live.as_deref().cloned()
    }

    /// Whether there is an index to be asked.
    pub fn state(&self) -> SearchState {
        self.shared.state.borrow().clone()
    }

    /// Answers a query from the index in use; none before it is open. Blocks.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub fn search(&self, query: &Query) -> Result<Option<Page>, SearchError> {
        let live = self.shared.live.load_full();
        live.map(|index| index.search(query)).transpose()
    }

    /// How many records are in the index or known to change nothing in it.
    pub fn end(&self) -> u64 {
        self.shared.progress.end()
    }

    /// Waits until `end` records are searchable; gives how many are. What it waits for is committed
    /// as soon as it is folded.
    ///
    /// # Errors
    /// [`WaitError`] when that will not be, or not in time.
    pub async fn wait_for(&self, end: u64, timeout: Duration) -> Result<u64, WaitError> {
        let _waiting = self.shared.wanted.note(end, Haste::AtOnce);
        self.shared.progress.urge(end);
        self.shared.progress.wait_for(end, timeout).await
    }

    /// The same for a thread that may block and has time: what it waits for is committed once it is
    /// worth a commit, which takes about as long as a commit does, so that others share it. Ends
    /// with [`WaitError::Stopped`] soon after `stop` is set.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub fn wait_for_blocking(
        &self,
        end: u64,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<u64, WaitError> {
        let _waiting = self.shared.wanted.note(end, Haste::Shared);
        self.shared.progress.urge(end);
        self.shared.progress.wait_for_blocking(end, timeout, stop)
    }

    /// How far it has come and what it is doing.
    pub fn status(&self) -> ProjectionStatus {
        self.shared.progress.status()
    }

    /// What it has done: batches are commits, events what they folded, times those of commits.
    pub fn metrics(&self) -> ProjectionMetrics {
        self.shared.progress.counters.snapshot()
    }

    /// Tries again what it stopped at: an event, or opening the index.
    pub fn retry(&self) {
        self.shared.progress.retry.store(true, Ordering::Release);
    }

    /// Makes the index anew beside the live one, compares both as of a commit of the live one, and
    /// swaps. Blocks; one at a time; queries go on.
    ///
    /// # Errors
    /// [`RebuildError`]; the live index is as it was.
    #[allow(clippy::needless_pass_by_value)] // as the others; the caller is done with it
    pub fn rebuild(&self, control: RebuildControl) -> Result<RebuildOutcome, RebuildError> {
        rebuild::run(self, &control)
    }

    /// Hands an index that has nearly caught up over to the thread that follows.
    fn hand_over(&self, swap: Swap) -> Result<(), RebuildError> {
        let swaps = self.shared.swaps.lock();
        let swaps = swaps.unwrap_or_else(PoisonError::into_inner);
        let is_sent = swaps.as_ref().is_some_and(|swaps| swaps.send(swap).is_ok());
        drop(swaps);
        // The thread has it soon, whatever it waits for.
        self.shared.progress.urged.send_modify(|waits| *waits += 1);
        if is_sent {
            Ok(())
        } else {
            Err(RebuildError::Stopped)
        }
    }

    /// Stops following, and waits until the thread has ended; what was folded is committed. The
    /// index can still be asked.
    pub fn stop(&self) {
        let shared = &self.shared;
        shared.progress.stop.store(true, Ordering::Release);
        shared.progress.urged.send_modify(|waits| *waits += 1);
        let swaps = &shared.swaps;
        swaps.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = shared.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the search index ended by a mistake of ours");
        }
    }
}
