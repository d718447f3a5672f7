//! Workers inside the server: threads that take jobs on, have a handler do them, and say what came
//! of it.
//!
//! Invariant: every thread is owned by [`Workers`] and joined by its stop; as many take jobs on as
//! the options say; a job that a thread took on is completed, failed, cancelled or given back, or
//! its claim is let run out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stemma_commands::{Commands, Request, Written};
use stemma_domain::event::{JobError, Metadata};
use stemma_domain::job::{Job, JobCommand, JobRefusal};
use stemma_domain::value::JobKind;
use stemma_telemetry::{Entered, Span, SpanKind};
use tokio::runtime::Runtime;

use crate::error::JobsError;
use crate::queue::{Claimant, Claimed, Queue, local_name};
use crate::ticker;

/// How long a worker waits for a job before it looks whether it is to stop.
const LOOK_AROUND: Duration = Duration::from_millis(200);
/// How long a worker rests after the write path refused it.
const REST: Duration = Duration::from_millis(500);

/// Jobs of which nothing is left but to wait, for which others took their workers' places; further
/// ones keep a place until they are done.
const ASIDE_MAX: usize = 16;

/// What does jobs of some kinds.
pub trait Handler: Send + Sync {
    /// The kinds that it does.
    fn kinds(&self) -> Vec<JobKind>;

    /// Does a job. It looks at [`Work::is_stopped`] from time to time, and gives
    /// [`Outcome::Stopped`] soon after that says so.
    ///
    /// # Errors
    /// Why the attempt failed, and how long to wait at least before another.
    fn run(&self, work: &Work) -> Result<Outcome, (JobError, Option<Duration>)>;
}

/// What came of an attempt that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The work is done.
    Done {
        /// What came of it.
        result: Metadata,
        /// What went less well than it should have.
        warnings: Vec<String>,
    },
    /// It was stopped before it was done: cancelled, or the server stops.
    Stopped,
}

/// A job that a worker is at.
pub struct Work {
    /// The job.
    pub job: Job,
    token: u64,
    queue: Queue,
    stop: Arc<AtomicBool>,
    runtime: Runtime,
    crew: Arc<Crew>,
    index: usize,
    /// Whether another has taken the worker's place.
    is_aside: AtomicBool,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("job", &self.job.id)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl Work {
    /// Whether the attempt should end: it was cancelled, another has the job, or the server stops.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Set once the attempt should end, for those who look at a flag.
    pub fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// What every write of the attempt rests on.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The queue that the job is of.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Tells how far it is.
    pub fn progress(&self, percent: u8, message: &str) {
        // One who has lost the job is told so by what it writes next.
        let _ = self
            .queue
            .progress(self.job.id, self.token, percent, message);
    }

    /// Carries out operations that only the holder of this job may, all or none.
    ///
    /// # Errors
    /// [`JobRefusal::LeaseLost`] when another has the job, else as the write path.
    pub fn execute(&self, request: Request) -> Result<Written, JobsError> {
        let held = self.queue.execute_held(&self.job, self.token, request);
        self.runtime.block_on(held)
    }

    /// Runs something asynchronous to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Lets another worker take the place of this one, which only waits for somebody else from here
    /// on: so a few workers can wait for many jobs.
    pub fn step_aside(&self) {
        if !self.is_aside.load(Ordering::Relaxed) && Crew::replace(&self.crew, self.index) {
            self.is_aside.store(true, Ordering::Relaxed);
        }
    }

    /// The write path.
    pub fn commands(&self) -> &Commands {
        self.queue.commands()
    }
}

/// The threads that do jobs, and the one that looks at the time.
pub struct Workers {
    crew: Arc<Crew>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

/// What the threads share.
struct Crew {
    queue: Queue,
    handler: Arc<dyn Handler>,
    stop: Arc<AtomicBool>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    threads: Vec<JoinHandle<()>>,
    /// Those whose place another has.
    n_aside: usize,
}

impl Members {
    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(name).spawn(run)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Crew {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn_worker(self: &Arc<Self>, members: &mut Members, index: usize) -> std::io::Result<()> {
        let crew = Arc::clone(self);
        members.spawn(format!("worker-{index}"), move || run(&crew, index))
    }

    /// Has another thread take a worker's place; false when that cannot be.
    fn replace(self: &Arc<Self>, index: usize) -> bool {
        let mut members = self.members();
        if self.stop.load(Ordering::Acquire) || members.n_aside == ASIDE_MAX {
            return false;
        }
        let ended = members
            .threads
            .extract_if(.., |thread| thread.is_finished());
        ended.for_each(|thread| drop(thread.join()));
        if let Err(error) = self.spawn_worker(&mut members, index) {
            tracing::warn!(%error, "no other worker can take the place of one that waits");
            return false;
        }
        members.n_aside += 1;
        true
    }
}

impl Workers {
    /// Starts the ticker, and as many workers as the options say.
    ///
    /// # Errors
    /// When the system refuses a thread; those that were started are stopped again.
    pub fn start(queue: &Queue, handler: &Arc<dyn Handler>) -> std::io::Result<Self> {
        let crew = Arc::new(Crew {
            queue: queue.clone(),
            handler: Arc::clone(handler),
            stop: Arc::default(),
            members: Mutex::default(),
        });
        // Dropped on the way, it stops those that were started.
        let workers = Self {
            crew: Arc::clone(&crew),
        };
        let mut members = crew.members();
        let ticking = (queue.clone(), Arc::clone(&crew.stop));
        let ticker = move || ticker::run(&ticking.0, &ticking.1);
        let mut started = members.spawn("jobs-ticker".to_owned(), ticker);
        for index in 0..queue.options().workers {
            started = started.and_then(|()| crew.spawn_worker(&mut members, index));
        }
        drop(members);
        started.map(|()| workers)
    }

    /// Has every worker give back what it has, and waits until all have ended.
    pub fn stop(&mut self) {
        let crew = &self.crew;
        crew.stop.store(true, Ordering::Release);
        crew.queue.stop_all();
        loop {
            // None comes any more, but from one that is waited for here.
            let Some(thread) = crew.members().threads.pop() else {
                return;
            };
            if thread.join().is_err() {
                tracing::error!("a worker's thread ended by a mistake of ours");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads of its own needs nothing")
}

fn run(crew: &Arc<Crew>, index: usize) {
    let name = local_name(&index.to_string());
    let claimant = Claimant {
        worker: &name,
        actor: name.as_str(),
    };
    let (queue, kinds) = (&crew.queue, crew.handler.kinds());
    let waiting = runtime();
    let is_stopped = || crew.stop.load(Ordering::Acquire);
    while !is_stopped() {
        let claiming = queue.claim_while(claimant, &kinds, LOOK_AROUND, || !is_stopped());
        match waiting.block_on(claiming) {
            Ok(None) => {}
            Ok(Some(claimed)) => {
                if attempt(crew, claimed, index) == Place::Taken {
                    return;
                }
            }
            Err(error) => {
                if !matches!(error, JobsError::NotReady { .. }) {
                    tracing::warn!(%error, "no job can be taken on; trying again");
                }
                std::thread::park_timeout(REST);
            }
        }
    }
}

/// What became of a worker's place during an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Kept,
    /// Another has it.
    Taken,
}

fn attempt(crew: &Arc<Crew>, claimed: Claimed, index: usize) -> Place {
    let queue = &crew.queue;
    let name = format!("job {}", claimed.job.kind);
    let mut span = Span::of(&claimed.job.trace_id, name, SpanKind::Consumer).enter();
    span.note("stemma.job_id", claimed.job.id.to_string());
    span.note("stemma.attempt", claimed.job.attempts);
    let flag = queue.running(claimed.job.id, claimed.token);
    if crew.stop.load(Ordering::Acquire) {
        // All were told to stop just before this one was noted.
        flag.store(true, Ordering::Release);
    }
    let work = Work {
        job: claimed.job,
        token: claimed.token,
        queue: queue.clone(),
        stop: flag,
        runtime: runtime(),
        crew: Arc::clone(crew),
        index,
        is_aside: AtomicBool::new(false),
    };
    tell(queue, crew.handler.as_ref(), &work, &mut span);
    if work.is_aside.load(Ordering::Relaxed) {
        crew.members().n_aside -= 1;
        return Place::Taken;
    }
    Place::Kept
}

/// Has the job done, and says what came of it.
fn tell(queue: &Queue, handler: &dyn Handler, work: &Work, span: &mut Entered) {
    let outcome = catch_unwind(AssertUnwindSafe(|| handler.run(work)));
    let outcome = outcome.unwrap_or_else(|_| {
        let error = JobError {
            code: "INTERNAL".to_owned(),
            message: "the handler panicked; this is a mistake of ours".to_owned(),
            stage: None,
            transient: false,
        };
        Err((error, None))
    });
    let (id, token) = (work.job.id, work.token);
    queue.left(id);
    let command = match outcome {
        Ok(Outcome::Done { result, warnings }) => JobCommand::Complete {
            token,
            result,
            warnings,
        },
        Ok(Outcome::Stopped) => JobCommand::Release {
            token,
            reason: "the worker stops".to_owned(),
        },
        Err((error, after)) => {
            span.fail(&error.code);
            queue.fail_command(&work.job, token, error, after)
        }
    };
    let worker = work
        .job
        .claim
        .as_ref()
        .map_or("stemma", |c| c.worker.as_str());
    let told = queue.command(id, command, worker, &work.job.trace_id);
    match work.block_on(told) {
        Ok(_) | Err(JobsError::Refused(JobRefusal::LeaseLost)) => {}
        Err(error) => {
            tracing::warn!(job = %id, %error, "what came of a job could not be noted");
            queue.abandon(id);
        }
    }
}
