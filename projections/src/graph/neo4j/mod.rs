//! The graph in Neo4j: fed from the log like rows of our own, and asked the same questions.
//!
//! `docs/format/neo4j.md` says what is written there. Invariant: what is there at a position is
//! what rows of our own hold at it; a lost connection, a lost answer, a kill on either side change
//! nothing but when it comes to be there.

mod ask;
mod client;
mod feed;
mod follow;
mod generation;
mod look;
mod nodes;
mod rebuild;
mod removal;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use self::ask::Neo4jStore;
use self::client::Client;
pub use self::client::{Neo4jError, Neo4jServer, Neo4jSettings};
use self::generation::Owner;
use self::rebuild::Making;
pub use self::rebuild::rebuild_neo4j;
pub use self::removal::remove_neo4j;
use super::GraphState;
use crate::progress::{Progress, WaitError};
use crate::rebuild::{RebuildControl, RebuildError, RebuildOutcome};
use crate::status::{Phase, ProjectionMetrics};

/// Connections of what follows, and of one rebuild.
const FOLLOWING_CONNECTIONS: usize = 2;
/// Most connections of those who ask.
const ASKING_CONNECTIONS: usize = 16;

/// The graph of a tenant, in Neo4j.
#[derive(Debug)]
pub(super) struct Neo4j {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    settings: Neo4jSettings,
    /// For what follows the log, and what is made anew.
    client: Client,
    /// For those who ask, so that however many they are, following goes on.
    readers: Client,
    owner: Owner,
    progress: Arc<Progress>,
    /// The label of the generation in use, once one was found or made.
    current: ArcSwapOption<String>,
    /// Why what is there cannot be used.
    unusable: watch::Sender<Option<String>>,
    makings: Mutex<Option<mpsc::Sender<Box<Making>>>>,
    rebuilding: AtomicBool,
    /// Whether a generation may be there that is of no use to anybody.
    has_leftovers: AtomicBool,
    /// Held while generations are made or removed.
    generations: Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Neo4j {
    pub(super) fn start(settings: Neo4jSettings) -> Result<Self, Neo4jError> {
        let (makings, inbox) = mpsc::channel();
        let shared = Arc::new(Shared {
            client: Client::new(&settings.server, FOLLOWING_CONNECTIONS)?,
            readers: Client::new(&settings.server, ASKING_CONNECTIONS)?,
            owner: Owner::of(&settings.tenant, &settings.reader),
            progress: Arc::new(Progress::at(0, settings.reader.clone())),
            settings,
            current: ArcSwapOption::empty(),
            unusable: watch::Sender::new(None),
            makings: Mutex::new(Some(makings)),
            rebuilding: AtomicBool::new(false),
            has_leftovers: AtomicBool::new(false),
            generations: Mutex::new(()),
        });
        let follower = follow::Follower::new(Arc::clone(&shared), inbox);
        let thread = std::thread::Builder::new()
            .name("graph-neo4j".to_owned())
            .spawn(move || follower.run());
        let thread =
            thread.map_err(|error| Neo4jError::Settings(format!("start a thread: {error}")))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn store(&self) -> Option<Neo4jStore> {
        let label = self.shared.current.load_full()?;
        Some(Neo4jStore {
            client: self.shared.readers.clone(),
            owner: self.shared.owner.clone(),
            label: label.to_string(),
            progress: Arc::clone(&self.shared.progress),
        })
    }

    pub(super) fn end(&self) -> u64 {
        self.shared.progress.end()
    }

    /// Waits until a graph was found or made there, or cannot be, or the time is up.
    pub(super) async fn opened(&self, timeout: Duration) {
        let is_settled = || {
            let phase = self.shared.progress.phase.borrow();
            self.shared.current.load().is_some()
                || self.shared.unusable.borrow().is_some()
                || matches!(*phase, Phase::Away { .. } | Phase::Stopped)
        };
        let mut phase = self.shared.progress.phase.subscribe();
        let mut unusable = self.shared.unusable.subscribe();
        let settled = async {
            while !is_settled() {
                let changed = tokio::select! {
                    changed = phase.changed() => changed,
                    changed = unusable.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        };
        // Whatever came of it shows in the state.
        let _ = tokio::time::timeout(timeout, settled).await;
    }

    pub(super) async fn wait_for(&self, end: u64, timeout: Duration) -> Result<u64, WaitError> {
        self.shared.progress.urge(end);
        self.shared.progress.wait_for(end, timeout).await
    }

    pub(super) fn state(&self) -> GraphState {
        if let Some(reason) = &*self.shared.unusable.borrow() {
            let reason = reason.clone();
            return GraphState::Failed { reason };
        }
        let status = self.shared.progress.status();
        if self.shared.current.load().is_none() && status.phase == Phase::CatchingUp {
            return GraphState::Opening;
        }
        GraphState::Running(status)
    }

    pub(super) fn out_of_reach(&self) -> Option<String> {
        let is_failed = self.shared.unusable.borrow().is_some();
        let phase = self.shared.progress.phase.borrow();
        let is_away = matches!(*phase, Phase::Away { .. } | Phase::Stopped);
        drop(phase);
        (is_failed || is_away).then(|| self.state().trouble())?
    }

    pub(super) fn metrics(&self) -> ProjectionMetrics {
        self.shared.progress.counters.snapshot()
    }

    pub(super) fn retry(&self) {
        self.shared.progress.retry.store(true, Ordering::Release);
    }

    pub(super) fn rebuild(&self, control: RebuildControl) -> Result<RebuildOutcome, RebuildError> {
        rebuild::run(&self.shared, control)
    }

    pub(super) fn stop(&self) {
        self.shared.progress.stop.store(true, Ordering::Release);
        self.shared.client.stop();
        self.shared.readers.stop();
        let makings = self.shared.makings.lock();
        makings.unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that feeds Neo4j ended by a mistake of ours");
        }
    }
}
