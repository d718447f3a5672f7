//! An operator's work that goes on after the request that asked for it: rebuilds, verifications.
//!
//! It is a job like any other, in the log and in the same lists, but that the server begins it
//! itself and at once. A log that takes no writes must not keep its operator from verifying it or
//! from making the views anew: then the job is in memory alone, and so is one of the whole server,
//! whose result is no tenant's to read. Invariant: every job's thread is owned here and is joined
//! when the server stops.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::Value;
use stemma_domain::id::JobId;
use stemma_domain::job::JobCommand;
use stemma_domain::time::Timestamp;
use stemma_domain::value::JobKind;
use stemma_jobs::{Begun, Queue};
use stemma_telemetry::{Span, SpanKind};
use tokio::sync::watch;

use crate::error::{ApiError, Code};
pub use crate::wire::job::{JobBody, JobError};

/// The statuses that a job ends with.
const ENDED: [&str; 3] = ["completed", "failed", "cancelled"];

/// All jobs that are remembered; clones share them.
#[derive(Debug, Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    kept_max: usize,
    jobs: Mutex<VecDeque<Job>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    state: Arc<watch::Sender<JobBody>>,
    cancel: Arc<AtomicBool>,
    /// Whether its work is over; that it has ended is recorded before it is told here.
    is_done: Arc<AtomicBool>,
    clock: Clock,
    is_of_server: bool,
}

/// Tells the time to jobs.
#[derive(Clone)]
pub(crate) struct Clock(pub(crate) Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// What a job's work gives: its result, or why it failed; none when it was cancelled.
pub(crate) type Done = Result<Option<Value>, JobError>;

/// What is asked of a new job.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) id: JobId,
    pub(crate) kind: &'static str,
    pub(crate) actor: String,
    pub(crate) trace_id: String,
    pub(crate) clock: Clock,
    /// Whether it is about more than the tenant whose log this is.
    pub(crate) is_of_server: bool,
}

impl Jobs {
    pub(crate) fn new(kept_max: usize, queue: Queue) -> Self {
        let shared = Shared {
            queue,
            kept_max,
            jobs: Mutex::default(),
            threads: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.shared
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts work on a thread of its own. Of each kind one job runs at a time.
    ///
    /// # Errors
    /// 409 while one of its kind runs; 503 when the system refuses a thread.
    pub(crate) fn start(
        &self,
        new: NewJob,
        work: impl FnOnce(&Job) -> Done + Send + 'static,
    ) -> Result<JobBody, ApiError> {
        let mut jobs = self.jobs();
        if let Some(running) = jobs
            .iter()
            .find(|job| !job.is_done() && job.body().kind == new.kind)
        {
            let detail = format!("job {} is under way", running.body().id);
            return Err(ApiError::new(Code::AlreadyRunning, detail));
        }
        let body = begun(&new);
        let job = Job {
            state: Arc::new(watch::Sender::new(body)),
            cancel: Arc::default(),
            is_done: Arc::default(),
            clock: new.clock,
            is_of_server: new.is_of_server,
        };
        let mirror = Mirror {
            queue: self.shared.queue.clone(),
            id: new.id,
            kind: new.kind,
            actor: new.actor,
            trace_id: new.trace_id,
        };
        let is_of_server = new.is_of_server;
        let own = job.clone();
        let name = format!("job {}", new.kind);
        let span = Span::of(&mirror.trace_id, name, SpanKind::Consumer);
        let thread = std::thread::Builder::new()
            .name(new.kind.to_owned())
            .spawn(move || {
                let recorded = if is_of_server { None } else { mirror.begin() };
                let mut span = span.enter();
                span.note("stemma.job_id", own.body().id);
                let done = work(&own);
                own.is_done.store(true, Ordering::Release);
                if let Err(error) = &done {
                    span.fail(&error.code);
                }
                drop(span);
                if let Some(recorded) = recorded {
                    recorded.end(&done);
                }
                own.end(done);
            });
        let thread =
            thread.map_err(|error| ApiError::of(Code::StorageUnavailable).because(&error))?;
        let body = job.body();
        jobs.push_back(job);
        while jobs.len() > self.shared.kept_max && jobs.front().is_some_and(|job| !job.is_running())
        {
            jobs.pop_front();
        }
        drop(jobs);
        let mut threads = self
            .shared
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(body)
    }

    /// A job that this process began, by its id.
    pub(crate) fn find(&self, id: &str) -> Option<Job> {
        let jobs = self.jobs();
        jobs.iter().find(|job| job.state.borrow().id == id).cloned()
    }

    /// Jobs, newest first, of a status and a kind where they are given; those of the server where
    /// they are asked for.
    pub(crate) fn list(
        &self,
        status: Option<&str>,
        kind: Option<&str>,
        with_server: bool,
    ) -> Vec<JobBody> {
        let jobs = self.jobs();
        let shown = jobs.iter().filter(|job| with_server || !job.is_of_server);
        let bodies = shown.rev().map(Job::body).collect::<Vec<_>>();
        drop(jobs);
        let fits = |job: &JobBody| {
            status.is_none_or(|status| job.status == status)
                && kind.is_none_or(|kind| job.kind == kind)
        };
        bodies.into_iter().filter(fits).collect()
    }

    /// Whether work of this process is under way.
    pub fn is_anything_running(&self) -> bool {
        let is_ended = |job: &Job| ENDED.contains(&job.state.borrow().status.as_str());
        !self.jobs().iter().all(is_ended)
    }

    /// Tells all work to stop, and waits until it has.
    pub fn stop(&self) {
        self.jobs()
            .iter()
            .for_each(|job| job.cancel.store(true, Ordering::Release));
        let mut threads = self
            .shared
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a job's thread ended by a mistake of ours");
            }
        }
    }
}

/// A job that begins now.
fn begun(new: &NewJob) -> JobBody {
    let now = new.clock.0().to_string();
    JobBody {
        id: new.id.to_string(),
        kind: new.kind.to_owned(),
        status: "processing".to_owned(),
        progress: 0,
        message: "started".to_owned(),
        payload: Value::Object(serde_json::Map::new()),
        document_id: None,
        priority: 0,
        result: None,
        error: None,
        warnings: Vec::new(),
        retry_count: 0,
        max_retries: 0,
        retry_at: None,
        cancel_requested: false,
        created_at: now.clone(),
        updated_at: now.clone(),
        started_at: Some(now),
        completed_at: None,
        trace_id: new.trace_id.clone(),
        owner: Some(new.actor.clone()),
        worker: None,
        attempts: Vec::new(),
    }
}

/// A job's likeness in the log.
struct Mirror {
    queue: Queue,
    id: JobId,
    kind: &'static str,
    actor: String,
    trace_id: String,
}

/// A job whose beginning is recorded.
struct Recorded {
    queue: Queue,
    begun: Begun,
    runtime: tokio::runtime::Runtime,
}

impl Mirror {
    /// Records that the work begins; none where the log takes no writes.
    fn begin(self) -> Option<Recorded> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .ok()?;
        let new = stemma_jobs::NewJob {
            id: self.id,
            kind: JobKind::new(self.kind).ok()?,
            payload: serde_json::Map::new(),
            priority: 0,
            max_retries: Some(0),
            document_id: None,
            trace_id: self.trace_id,
        };
        let begun = runtime.block_on(self.queue.begin(new, &self.actor, "operator"));
        match begun {
            Ok(begun) => Some(Recorded {
                queue: self.queue,
                begun,
                runtime,
            }),
            Err(error) => {
                tracing::info!(%error, job = %self.id, "the job is not recorded");
                None
            }
        }
    }
}

impl Recorded {
    fn end(self, done: &Done) {
        let token = self.begun.token;
        let job = &self.begun.job;
        let command = match done {
            Ok(Some(result)) => JobCommand::Complete {
                token,
                result: result.as_object().cloned().unwrap_or_default(),
                warnings: Vec::new(),
            },
            Ok(None) => JobCommand::ConfirmCancel { token },
            Err(error) => {
                let error = JobError::clone(error).into();
                self.queue.fail_command(job, token, error, None)
            }
        };
        let told = self.queue.command(job.id, command, "stemma", &job.trace_id);
        if let Err(error) = self.runtime.block_on(told) {
            tracing::warn!(%error, job = %job.id, "what came of a job is not recorded");
        }
    }
}

impl Job {
    /// The job as it is.
    pub(crate) fn body(&self) -> JobBody {
        self.state.borrow().clone()
    }

    /// Changes whenever the job tells of itself.
    pub(crate) fn follow(&self) -> watch::Receiver<JobBody> {
        self.state.subscribe()
    }

    /// Whether it is about more than one tenant.
    pub(crate) fn is_of_server(&self) -> bool {
        self.is_of_server
    }

    pub(crate) fn is_running(&self) -> bool {
        !ENDED.contains(&self.state.borrow().status.as_str())
    }

    /// Whether its work is over, so that the next of its kind may begin.
    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Set once the job is to stop.
    pub(crate) fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Tells the job to stop.
    ///
    /// # Errors
    /// 409 when it has ended.
    pub(crate) fn cancel(&self) -> Result<(), ApiError> {
        if !self.is_running() {
            return Err(ApiError::of(Code::JobFinished));
        }
        self.cancel.store(true, Ordering::Release);
        Ok(())
    }

    /// Tells how far the work is: `done` of `total`.
    pub(crate) fn progress(&self, done: u64, total: u64, message: &str) {
        let percent = done
            .saturating_mul(100)
            .checked_div(total)
            .unwrap_or(0)
            .min(99);
        let percent = u8::try_from(percent).unwrap_or(99);
        let now = self.clock.0().to_string();
        self.state.send_if_modified(|body| {
            if body.progress == percent && body.message == message {
                return false;
            }
            body.progress = percent;
            message.clone_into(&mut body.message);
            body.updated_at = now;
            true
        });
    }

    fn end(&self, done: Done) {
        let now = self.clock.0().to_string();
        self.state.send_modify(|body| {
            body.updated_at.clone_from(&now);
            body.completed_at = Some(now);
            let (status, message) = match done {
                Ok(Some(result)) => {
                    body.progress = 100;
                    body.result = Some(result);
                    ("completed", "done".to_owned())
                }
                Ok(None) => ("cancelled", "cancelled".to_owned()),
                Err(error) => {
                    let message = error.message.clone();
                    body.error = Some(error);
                    ("failed", message)
                }
            };
            status.clone_into(&mut body.status);
            body.message = message;
        });
    }
}
