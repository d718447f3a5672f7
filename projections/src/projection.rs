//! The handle on a running projection: start, wait, ask how it is doing, rebuild, stop.
//!
//! Invariant: at most one process has the directory of the views, from the start of a projection
//! until its last handle is gone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use stemma_event_log::{Position, Reader};
use stemma_views::{CheckpointedStore, Model, OpenState, Views};

use crate::ahead::Ahead;
use crate::generation::{GenerationError, GenerationLock, Generations};
use crate::lockstep::Lockstep;
use crate::progress::{Progress, WaitError};
use crate::rebuild::{RebuildControl, RebuildError, RebuildOutcome};
use crate::runner::Runner;
use crate::status::{ProjectionMetrics, ProjectionStatus};

/// Where a projection finds its log and keeps its rows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The log.
    pub reader: Reader,
    /// The directory of the rows' generations.
    pub dir: PathBuf,
    /// How they are kept.
    pub views: stemma_views::Options,
}

/// Why a projection could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory cannot be used.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// No rows can be opened, not even none.
    #[error("open the projection")]
    Open(#[from] stemma_views::OpenError),
    /// Another process, or another handle in this one, has them.
    #[error("the projection is in use")]
    InUse,
    /// They hold what the log does not: it was cut back, or is another one.
    #[error(transparent)]
    NotOfLog(#[from] NotOfLog),
    /// The system refuses a thread.
    #[error("start the projection's thread")]
    Thread(#[source] std::io::Error),
}

/// A running projection; clones share it.
pub struct Projection<M: Model = Views> {
    pub(crate) shared: Arc<Shared<M>>,
}

impl<M: Model> Clone for Projection<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

pub(crate) struct Shared<M: Model> {
    pub(crate) settings: Settings,
    pub(crate) live: ArcSwap<M>,
    pub(crate) progress: Progress,
    commands: Mutex<Option<mpsc::Sender<Lockstep<M>>>>,
    pub(crate) rebuilding: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Behind the rows, so that it goes after them.
    _lock: GenerationLock,
}

impl<M: Model> std::fmt::Debug for Projection<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projection")
            .field("status", &self.status())
            .finish()
    }
}

/// Opens the generation in use, or makes the first.
fn open_current<M: Model>(
    settings: &Settings,
    ahead: Option<(PathBuf, M)>,
) -> Result<M, StartError> {
    let generations = Generations::at(&settings.dir);
    let current = match generations.current() {
        // Whatever it should have named is made anew.
        Err(error) if error.source.kind() == std::io::ErrorKind::InvalidData => None,
        current => current?,
    };
    let dir = if let Some(dir) = current {
        dir
    } else {
        let dir = generations.next()?;
        generations.switch_to(&dir)?;
        dir
    };
    generations.remove_others()?;
    if let Some((_, model)) = ahead.filter(|(generation, _)| *generation == dir) {
        must_be_of_log(&model, &settings.reader)?;
        return Ok(model);
    }
    let opened = M::open(&dir, &settings.views)?;
    if let OpenState::Replaced { reason, kept_as } = &opened.state {
        tracing::warn!(model = M::NAME, reason, kept_as = %kept_as.display(), "made anew");
    }
    must_be_of_log(&opened.model, &settings.reader)?;
    Ok(opened.model)
}

/// The views were folded from records that the log does not have. Only durable records are ever
/// applied, so the log lost some, or is not the one that the views are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the views were folded from {applied} events, and the log, which has {end}, does not hold the last of them: it lost events at its end, or is another log"
)]
pub struct NotOfLog {
    /// Records that the views have applied.
    pub applied: u64,
    /// Records of the log.
    pub end: u64,
}

/// Fails with [`NotOfLog`]; views that hold nothing are of any log.
pub(crate) fn must_be_of_log(views: &CheckpointedStore, reader: &Reader) -> Result<(), NotOfLog> {
    if is_of_log(views, reader) {
        return Ok(());
    }
    Err(NotOfLog {
        applied: views.end(),
        end: reader.end().get(),
    })
}

/// Whether views were folded from the records that this log has: the digest of the last one that
/// was applied names all before it.
fn is_of_log(views: &CheckpointedStore, reader: &Reader) -> bool {
    let Some(last) = views.end().checked_sub(1) else {
        return true;
    };
    match reader.read_one(Position::new(last)) {
        Ok(Some(record)) => views
            .last_applied()
            .is_ok_and(|d| d == Some(record.digest())),
        Ok(None) => false,
        // A record that cannot be read tells nothing of the views.
        Err(_) => true,
    }
}

impl<M: Model> Projection<M> {
    /// Opens the rows and starts to apply what they lack.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_with(settings, None)
    }

    /// The same, with rows of that directory that are open already.
    ///
    /// # Errors
    /// [`StartError`]; the rows are closed.
    pub fn start_with(settings: Settings, ahead: Option<Ahead<M>>) -> Result<Self, StartError> {
        let (lock, ahead) = match ahead {
            Some(ahead) => (ahead.lock, Some((ahead.generation, ahead.model))),
            None => {
                let lock = Generations::at(&settings.dir).lock()?;
                (lock.ok_or(StartError::InUse)?, None)
            }
        };
        let model: M = open_current(&settings, ahead)?;
        let (commands, inbox) = mpsc::channel();
        let shared = Arc::new(Shared {
            progress: Progress::at(model.end(), settings.reader.clone()),
            live: ArcSwap::from_pointee(model),
            settings,
            commands: Mutex::new(Some(commands)),
            rebuilding: AtomicBool::new(false),
            thread: Mutex::default(),
            _lock: lock,
        });
        let runner = Runner::new(Arc::clone(&shared), inbox);
        let thread = std::thread::Builder::new()
            .name(M::NAME.into())
            .spawn(move || runner.run());
        let thread = thread.map_err(StartError::Thread)?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { shared })
    }

    /// The model in use.
    pub fn model(&self) -> M {
        M::clone(&self.shared.live.load())
    }

    /// How many records are applied.
    pub fn end(&self) -> u64 {
        self.shared.progress.end()
    }

    /// Waits until `end` records are applied; gives how many are.
    ///
    /// # Errors
    /// [`WaitError`] when that will not be, or not in time.
    pub async fn wait_for(&self, end: u64, timeout: Duration) -> Result<u64, WaitError> {
        if !M::PACE.is_zero() {
            self.shared.progress.urge(end);
        }
        self.shared.progress.wait_for(end, timeout).await
    }

    /// The same for a thread that may block; ends with [`WaitError::Stopped`] soon after `stop` is
    /// set.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub fn wait_for_blocking(
        &self,
        end: u64,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<u64, WaitError> {
        self.shared.progress.urge(end);
        self.shared.progress.wait_for_blocking(end, timeout, stop)
    }

    /// How far it has come and what it is doing.
    pub fn status(&self) -> ProjectionStatus {
        self.shared.progress.status()
    }

    /// What it has done.
    pub fn metrics(&self) -> ProjectionMetrics {
        self.shared.progress.counters.snapshot()
    }

    /// Tries the event again at which it stopped.
    pub fn retry(&self) {
        self.shared.progress.retry.store(true, Ordering::Release);
    }

    /// Makes the model anew beside the live one and swaps it in. Blocks; one at a time.
    ///
    /// # Errors
    /// [`RebuildError`]; the live model is as it was.
    pub fn rebuild(&self, control: RebuildControl) -> Result<RebuildOutcome, RebuildError> {
        crate::rebuild::run(self, control)
    }

    /// Hands a store that has nearly caught up over to the thread that applies.
    pub(crate) fn hand_over(&self, lockstep: Lockstep<M>) -> Result<(), RebuildError> {
        let commands = self
            .shared
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_sent = commands
            .as_ref()
            .is_some_and(|commands| commands.send(lockstep).is_ok());
        drop(commands);
        // The thread follows the log; it looks around by itself while nothing is written.
        if is_sent {
            Ok(())
        } else {
            Err(RebuildError::Stopped)
        }
    }

    /// Stops applying, and waits until the thread has ended.
    pub fn stop(&self) {
        self.shared.progress.stop.store(true, Ordering::Release);
        self.shared
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(model = M::NAME, "its thread ended by a mistake of ours");
        }
        if let Err(error) = self.model().flush() {
            tracing::warn!(%error, model = M::NAME, "not flushed; the next start applies more");
        }
    }
}

impl Projection<Views> {
    /// The views in use.
    pub fn views(&self) -> Views {
        self.model()
    }
}
