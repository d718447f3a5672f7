//! The projection that keeps the views: a thread that catches up, then follows.
//!
//! Invariants: records are applied in order, once, by this thread alone; those who wait for a
//! position are woken once a batch; while a rebuild is in its last phase both stores are at the
//! same position whenever rows of them are compared.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use stemma_event_log::{Position, ReadLimit, Reader, Record};
use stemma_views::{ApplyError, OpenState, Views};
use tokio::sync::watch;

use crate::generation::{GenerationError, Generations};
use crate::lockstep::Lockstep;
use crate::rebuild::{RebuildControl, RebuildError, RebuildOutcome};
use crate::status::{Counters, Phase, ProjectionMetrics, ProjectionStatus};

/// Most records of one batch.
const BATCH_RECORDS: usize = 4096;
/// Bytes of records after which a batch takes no more.
const BATCH_BYTES: usize = 8 << 20;
/// How long the thread sleeps at most before it looks whether it is to stop or retry.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// Where a projection finds its log and keeps its views.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The log.
    pub reader: Reader,
    /// The directory of the views.
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
    /// No views can be opened, not even empty ones.
    #[error("open the views")]
    Open(#[from] stemma_views::OpenError),
    /// The system refuses a thread.
    #[error("start the views' thread")]
    Thread(#[source] std::io::Error),
}

/// Why a wait for a position ended without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was up.
    #[error("the views have applied {end} records")]
    NotYet {
        /// How far they have come.
        end: u64,
    },
    /// The projection stopped at an event that it cannot apply.
    #[error("the views are quarantined at position {position}")]
    Quarantined {
        /// Where it stopped.
        position: u64,
    },
    /// The projection was stopped.
    #[error("the views are stopped")]
    Stopped,
}

/// A running projection; clones share it.
#[derive(Clone)]
pub struct Projection {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) live: ArcSwap<Views>,
    end: watch::Sender<u64>,
    phase: watch::Sender<Phase>,
    stop: AtomicBool,
    retry: AtomicBool,
    counters: Counters,
    commands: Mutex<Option<mpsc::Sender<Lockstep>>>,
    pub(crate) rebuilding: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projection").field("status", &self.status()).finish()
    }
}

/// Opens the generation in use, or makes the first.
pub(crate) fn open_current(settings: &Settings) -> Result<Views, StartError> {
    let generations = Generations::at(&settings.dir);
    let dir = match generations.current()? {
        Some(dir) => dir,
        None => {
            let dir = generations.next()?;
            generations.switch_to(&dir)?;
            dir
        }
    };
    generations.remove_others()?;
    let mut opened = Views::open(&dir, &settings.views)?;
    if let OpenState::Replaced { reason, kept_as } = &opened.state {
        tracing::warn!(reason, kept_as = %kept_as.display(), "the views are made anew");
    }
    if opened.views.end() > settings.reader.end().get() {
        // Views of more events than there are belong to another log, or to one that was cut back.
        tracing::warn!("the views are ahead of the log and are made anew");
        drop(opened);
        let dir = generations.next()?;
        generations.switch_to(&dir)?;
        opened = Views::open(&dir, &settings.views)?;
        generations.remove_others()?;
    }
    Ok(opened.views)
}

impl Projection {
    /// Opens the views and starts to apply what they lack.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let views = open_current(&settings)?;
        let (commands, inbox) = mpsc::channel();
        let shared = Arc::new(Shared {
            end: watch::Sender::new(views.end()),
            live: ArcSwap::from_pointee(views),
            settings,
            phase: watch::Sender::new(Phase::CatchingUp),
            stop: AtomicBool::new(false),
            retry: AtomicBool::new(false),
            counters: Counters::default(),
            commands: Mutex::new(Some(commands)),
            rebuilding: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let runner = Runner { shared: Arc::clone(&shared), inbox, lockstep: None };
        let thread = std::thread::Builder::new().name("views".into()).spawn(move || runner.run());
        let thread = thread.map_err(StartError::Thread)?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { shared })
    }

    /// The views in use.
    pub fn views(&self) -> Views {
        Views::clone(&self.shared.live.load())
    }

    /// How many records are applied.
    pub fn end(&self) -> u64 {
        *self.shared.end.borrow()
    }

    /// Waits until `end` records are applied; gives how many are.
    ///
    /// # Errors
    /// [`WaitError`] when that will not be, or not in time.
    pub async fn wait_for(&self, end: u64, timeout: Duration) -> Result<u64, WaitError> {
        if self.end() >= end {
            return Ok(self.end());
        }
        let mut applied = self.shared.end.subscribe();
        let mut phase = self.shared.phase.subscribe();
        let reached = async {
            loop {
                let now = *applied.borrow_and_update();
                if now >= end {
                    return Ok(now);
                }
                match &*phase.borrow_and_update() {
                    Phase::Quarantined { position, .. } => {
                        return Err(WaitError::Quarantined { position: *position });
                    }
                    Phase::Stopped => return Err(WaitError::Stopped),
                    Phase::CatchingUp | Phase::Live => {}
                }
                tokio::select! {
                    changed = applied.changed() => changed.map_err(|_| WaitError::Stopped)?,
                    changed = phase.changed() => changed.map_err(|_| WaitError::Stopped)?,
                }
            }
        };
        let waited = tokio::time::timeout(timeout, reached).await;
        waited.unwrap_or_else(|_| Err(WaitError::NotYet { end: self.end() }))
    }

    /// How far it has come and what it is doing.
    pub fn status(&self) -> ProjectionStatus {
        let end = self.end();
        let reader = &self.shared.settings.reader;
        let lag_positions = reader.end().get().saturating_sub(end);
        let oldest = if lag_positions > 0 { reader.read_one(Position::new(end)).ok() } else { None };
        let newest = reader.head().map(|head| head.recorded_at_us);
        let lag_us = match (oldest.flatten(), newest) {
            (Some(oldest), Some(newest)) => newest.saturating_sub(oldest.recorded_at_us()),
            _ => 0,
        };
        let lag_seconds = Duration::from_micros(lag_us.unsigned_abs()).as_secs_f64();
        let phase = self.shared.phase.borrow().clone();
        ProjectionStatus { phase, end, lag_positions, lag_seconds }
    }

    /// What it has done.
    pub fn metrics(&self) -> ProjectionMetrics {
        self.shared.counters.snapshot()
    }

    /// Tries the event again at which it stopped.
    pub fn retry(&self) {
        self.shared.retry.store(true, Ordering::Release);
    }

    /// Makes the views anew beside the live ones and swaps them in. Blocks; one at a time.
    ///
    /// # Errors
    /// [`RebuildError`]; the live views are as they were.
    pub fn rebuild(&self, control: RebuildControl) -> Result<RebuildOutcome, RebuildError> {
        crate::rebuild::run(self, control)
    }

    /// Hands a store that has nearly caught up over to the thread that applies.
    pub(crate) fn hand_over(&self, lockstep: Lockstep) -> Result<(), RebuildError> {
        let commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = commands.as_ref().map(|commands| commands.send(lockstep));
        drop(commands);
        // The thread follows the log; it looks around by itself while nothing is written.
        sent.and_then(Result::ok).ok_or(RebuildError::Stopped)
    }

    /// Stops applying, and waits until the thread has ended.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the views' thread ended by a mistake of ours");
        }
        if let Err(error) = self.views().flush() {
            tracing::warn!(%error, "the views were not flushed; the next start applies more");
        }
    }
}

struct Runner {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Lockstep>,
    lockstep: Option<Lockstep>,
}

impl Runner {
    fn run(mut self) {
        let mut follow = self.shared.settings.reader.follow();
        let mut was_quarantined = false;
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.lockstep.is_none() {
                self.lockstep = self.inbox.try_recv().ok();
            }
            let retried = self.shared.retry.swap(false, Ordering::AcqRel);
            if was_quarantined && !retried {
                was_quarantined = true;
                self.advance_rebuild();
                self.rest(&mut follow);
                continue;
            }
            match self.apply_next() {
                Ok(0) => {
                    was_quarantined = false;
                    self.set_phase(Phase::Live);
                    if !self.advance_rebuild() {
                        self.rest(&mut follow);
                    }
                }
                Ok(_) => {
                    was_quarantined = false;
                    self.advance_rebuild();
                }
                Err(error) => {
                    was_quarantined = true;
                    self.quarantine(&error);
                }
            }
        }
        if let Some(lockstep) = self.lockstep.take() {
            lockstep.give_up(RebuildError::Stopped);
        }
        self.set_phase(Phase::Stopped);
    }

    /// Applies the next records to the live views, and to those that are being made; gives how
    /// many there were.
    fn apply_next(&mut self) -> Result<usize, ApplyError> {
        let views = self.shared.live.load_full();
        let records = read(&self.shared.settings.reader, views.end())?;
        if records.is_empty() {
            return Ok(0);
        }
        let started = Instant::now();
        let applied = views.apply(&records);
        self.shared.counters.record(records.len() as u64, started.elapsed());
        if let Some(lockstep) = &mut self.lockstep {
            lockstep.follow(views.end(), &self.shared.settings.reader);
        }
        self.shared.end.send_replace(views.end());
        applied.map(|_| records.len())
    }

    /// Compares some rows of both stores, or ends the rebuild; says whether there was such work.
    fn advance_rebuild(&mut self) -> bool {
        let Some(mut lockstep) = self.lockstep.take() else { return false };
        let views = self.shared.live.load_full();
        lockstep.follow(views.end(), &self.shared.settings.reader);
        match lockstep.compare(&views) {
            Ok(false) => self.lockstep = Some(lockstep),
            Ok(true) => {
                let shared = Arc::clone(&self.shared);
                lockstep.finish(&views, &shared.settings, |rebuilt| {
                    shared.live.store(Arc::new(rebuilt));
                    // A rebuild passes what the old views could not apply.
                    shared.retry.store(true, Ordering::Release);
                });
            }
            Err(error) => lockstep.give_up(error),
        }
        true
    }

    fn set_phase(&self, phase: Phase) {
        self.shared.phase.send_if_modified(|now| {
            let changes = *now != phase;
            *now = phase;
            changes
        });
    }

    fn quarantine(&self, error: &ApplyError) {
        let reason = causes(error.reason.as_ref());
        tracing::error!(position = error.position, event_type = error.event_type, reason, "the views stopped");
        self.set_phase(Phase::Quarantined {
            position: error.position,
            event_type: error.event_type.clone(),
            reason,
        });
    }

    /// Waits for the log to grow, or for a while.
    fn rest(&self, follow: &mut watch::Receiver<u64>) {
        let end = self.shared.live.load().end();
        let is_quarantined = matches!(*self.shared.phase.borrow(), Phase::Quarantined { .. });
        if *follow.borrow_and_update() > end && !is_quarantined {
            return;
        }
        wait_for_change(follow, LOOK_AROUND);
    }
}

/// The next records to apply.
pub(crate) fn read(reader: &Reader, end: u64) -> Result<Vec<Record>, ApplyError> {
    let limit = ReadLimit { records: BATCH_RECORDS, bytes: BATCH_BYTES };
    reader.read(Position::new(end), limit).map_err(|source| ApplyError {
        position: end,
        event_type: "a record".to_owned(),
        reason: Box::new(source),
    })
}

pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Blocks this thread until the watched value changes, or the time is up.
fn wait_for_change(follow: &mut watch::Receiver<u64>, timeout: Duration) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut changed = std::pin::pin!(follow.changed());
    let until = Instant::now() + timeout;
    while changed.as_mut().poll(&mut cx).is_pending() {
        let Some(left) = until.checked_duration_since(Instant::now()) else { return };
        std::thread::park_timeout(left);
    }
}
