//! The queue: what anybody may ask of jobs.
//!
//! Every change is a command to the write path, decided on what the log holds; the board only says
//! which job to try next and whose lease has run out. Invariant: nothing is told as done before it
//! is durable.

mod asked;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stemma_commands::{Commands, HistoryError, Operation, Request, Written};
use stemma_domain::event::{JobError, JobQueued, Metadata};
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::job::{Job, JobCommand, JobRefusal};
use stemma_domain::value::{JobKind, WorkerName};
use stemma_event_log::{Direction, ReadLimit, Revision, StreamId, StreamRange};
use stemma_views::{ChangedJobs, JobFeed};
use tokio::sync::watch;

use crate::backoff;
use crate::board::{Board, Held, LOCAL_PREFIX, Now};
use crate::bus::{Bus, Progress, Watching};
use crate::choice::{Choice, ChoiceEnd, LeftClaim};
use crate::error::JobsError;
use crate::options::Options;
use crate::totals::{Totals, TotalsTold};

pub use asked::Asking;

/// The event that makes a claim.
const CLAIMED: &str = "job.claimed";

/// The queue of one log; clones share it.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    commands: Commands,
    options: Options,
    board: Mutex<Board>,
    bus: Bus,
    /// Claims whose callers left while they were being written: nobody knows yet whether they are.
    left_claims: Mutex<Vec<LeftClaim>>,
    pub(crate) totals: Totals,
    /// The attempts of workers inside the server, each with the flag that stops it.
    running: Mutex<HashMap<JobId, Running>>,
    /// Changes when a job may have become one to be had, or a lease one to look at.
    woken: watch::Sender<u64>,
    /// Why no job is worked on.
    trouble: Mutex<Option<String>>,
}

/// An attempt of a worker inside the server.
#[derive(Debug)]
struct Running {
    token: u64,
    stop: Arc<AtomicBool>,
}

/// Work to be asked for.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its identity.
    pub id: JobId,
    /// What kind of work it is.
    pub kind: JobKind,
    /// What is asked.
    pub payload: Metadata,
    /// Jobs with more of it are done first; 0 is usual.
    pub priority: i32,
    /// How often it is tried again; [`Options::retries_max`] when not said.
    pub max_retries: Option<u32>,
    /// The document that it is about.
    pub document_id: Option<ResourceId>,
    /// The trace that it belongs to.
    pub trace_id: String,
}

/// Who takes jobs on.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// The worker, by the name that it gives itself.
    pub worker: &'a WorkerName,
    /// Who acts, as the claim's event will say; only they may say what becomes of the attempt.
    pub actor: &'a str,
}

/// A job that a worker has taken on.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The job as it is.
    pub job: Job,
    /// What every further call of the worker carries.
    pub token: u64,
    /// How long it may stay silent.
    pub lease: Duration,
    /// The position after the claim.
    pub end: u64,
}

/// A job that was queued and taken on in one step.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The job as it is.
    pub job: Job,
    /// The fencing token.
    pub token: u64,
    /// The position after the claim.
    pub end: u64,
}

/// What a heartbeat is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// How long the worker may stay silent from now on.
    pub lease: Duration,
    /// Whether it should stop, and say so.
    pub cancelled: bool,
}

impl From<Held> for Beat {
    fn from(held: Held) -> Self {
        Self {
            lease: held.lease,
            cancelled: held.cancel_requested,
        }
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// Jobs that wait for their next try.
    pub retrying: usize,
    /// Jobs that a worker is at.
    pub processing: usize,
}

impl Queue {
    /// An empty queue, to be [loaded](Self::load).
    pub fn new(commands: Commands, options: Options) -> Self {
        let shared = Shared {
            board: Mutex::new(Board::new(options.clone())),
            commands,
            options,
            bus: Bus::default(),
            left_claims: Mutex::default(),
            totals: Totals::default(),
            running: Mutex::default(),
            woken: watch::Sender::new(0),
            trouble: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Has the queue told of what changes. To be called before [`load`](Self::load).
    pub fn connect(&self, feed: &JobFeed) {
        let shared = Arc::downgrade(&self.shared);
        feed.connect(move |changed| {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            shared.told(&changed);
        });
    }

    /// Takes in the jobs that are not ended, as views that hold all of the log tell them. Says
    /// whether that is all of them; else they are to be looked up again, for more changed meanwhile
    /// than is remembered.
    #[must_use]
    pub fn load(&self, end: u64, jobs: Vec<Job>) -> bool {
        let now = self.shared.now();
        let is_loaded = self.shared.board().load(end, jobs, now);
        *self.shared.trouble() = None;
        self.shared.wake();
        is_loaded
    }

    /// Notes why no job is worked on, until the jobs of the log are loaded, or it is well again.
    pub fn note_trouble(&self, reason: String) {
        *self.shared.trouble() = Some(reason);
    }

    /// Notes that jobs are worked on.
    pub fn note_well(&self) {
        *self.shared.trouble() = None;
    }

    /// Why no job is worked on.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble().clone()
    }

    /// Whether the jobs of the log are known.
    pub fn is_loaded(&self) -> bool {
        self.shared.board().is_loaded()
    }

    /// Whether there is a job of one of these kinds that is not ended: one that waits for a worker
    /// or for its next try, or that a worker is at.
    pub fn has_any_of(&self, kinds: &[JobKind]) -> bool {
        self.shared.board().has_any_of(kinds)
    }

    /// The limits.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The write path.
    pub fn commands(&self) -> &Commands {
        &self.shared.commands
    }

    /// What came of jobs since this process has the queue.
    pub fn totals(&self) -> TotalsTold {
        self.shared.totals.told()
    }

    /// How many workers inside the server are at a job.
    pub fn n_busy(&self) -> usize {
        self.shared.running().len()
    }

    /// How much there is.
    pub fn stats(&self) -> QueueStats {
        let (queued, retrying, processing) = self.shared.board().counts();
        QueueStats {
            queued,
            retrying,
            processing,
        }
    }

    fn unlimited_operation(&self, new: NewJob) -> Operation {
        let id = new.id;
        let queued = JobQueued {
            document_id: new.document_id,
            id,
            max_retries: new.max_retries.unwrap_or(self.shared.options.retries_max),
            payload: new.payload,
            priority: new.priority,
            trace_id: new.trace_id,
            kind: new.kind,
        };
        Operation::of_job(id, JobCommand::Queue(queued))
    }

    /// Queues a job and takes it on at once, for work that the server itself has begun.
    ///
    /// # Errors
    /// [`JobsError`]; nothing was written, with the exceptions of the write path.
    pub async fn begin(&self, new: NewJob, actor: &str, worker: &str) -> Result<Begun, JobsError> {
        let (id, trace_id) = (new.id, new.trace_id.clone());
        let claim = self.claim_command(&local_name(worker));
        let operations = vec![self.unlimited_operation(new), Operation::of_job(id, claim)];
        let request = request(actor, &trace_id, operations);
        let mut written = self.shared.commands.execute(request).await?;
        let job = written.results.pop().and_then(|result| result.job);
        let job = *job.ok_or(JobRefusal::NotFound)?;
        self.shared.board().begin(&job, self.shared.now());
        let token = job.claim.as_ref().map_or(0, |claim| claim.token);
        let end = written.end;
        Ok(Begun { job, token, end })
    }

    fn claim_command(&self, worker: &WorkerName) -> JobCommand {
        JobCommand::Claim {
            worker: worker.clone(),
            lease_ms: self.shared.options.lease_ms,
            now: self.shared.commands.now(),
        }
    }

    /// Takes on the job of one of these kinds whose turn it is; none when there is none.
    ///
    /// # Errors
    /// [`JobsError::NotReady`] while the jobs of the log are not known, else as the write path.
    pub async fn claim(
        &self,
        claimant: Claimant<'_>,
        kinds: &[JobKind],
    ) -> Result<Option<Claimed>, JobsError> {
        loop {
            if !self.is_loaded() {
                return Err(JobsError::not_ready());
            }
            let (has_come_due, chosen) = {
                let mut board = self.shared.board();
                (board.let_come_due(Instant::now()), board.choose(kinds))
            };
            if has_come_due {
                self.shared.wake();
            }
            let Some(id) = chosen else {
                return Ok(None);
            };
            let mut choice = Choice {
                queue: self,
                id,
                end: ChoiceEnd::Failed,
            };
            let claimed = self.claim_one(&mut choice, claimant).await;
            choice.end = match &claimed {
                Ok(_) => ChoiceEnd::Claimed,
                Err(_) => ChoiceEnd::Failed,
            };
            drop(choice);
            match claimed {
                Ok(claimed) => return Ok(Some(claimed)),
                // Somebody was faster, or it is no more to be had: the views will tell.
                Err(JobsError::Refused(_)) => self.shared.caught_up(id)?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn claim_one(
        &self,
        choice: &mut Choice<'_>,
        by: Claimant<'_>,
    ) -> Result<Claimed, JobsError> {
        let id = choice.id;
        let known = self.shared.commands.job(id)?;
        let known = known.ok_or(JobRefusal::NotFound)?;
        choice.end = ChoiceEnd::Left(LeftClaim::of(&known, by.worker));
        let mut command = self.claim_command(by.worker);
        // By the monotonic clock its time has come, wherever the other one stands.
        if let (JobCommand::Claim { now, .. }, Some(retry_at)) = (&mut command, known.retry_at) {
            *now = (*now).max(retry_at);
        }
        let request = request(
            by.actor,
            &known.trace_id,
            vec![Operation::of_job(id, command)],
        );
        let (job, written) = self.one(request).await?;
        let claim = job.claim.as_ref().ok_or(JobRefusal::LeaseLost)?;
        Ok(Claimed {
            token: claim.token,
            lease: Duration::from_millis(claim.lease_ms),
            end: written.end,
            job,
        })
    }

    /// Takes on a job as [`claim`](Self::claim) does, waiting for one for so long.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_waiting(
        &self,
        claimant: Claimant<'_>,
        kinds: &[JobKind],
        wait: Duration,
    ) -> Result<Option<Claimed>, JobsError> {
        self.claim_while(claimant, kinds, wait, || true).await
    }

    /// The same, for as long as the worker goes on: what others give back when they stop is not
    /// for one that stops as well.
    pub(crate) async fn claim_while(
        &self,
        claimant: Claimant<'_>,
        kinds: &[JobKind],
        wait: Duration,
        goes_on: impl Fn() -> bool,
    ) -> Result<Option<Claimed>, JobsError> {
        let until = tokio::time::Instant::now() + wait;
        let mut woken = self.shared.woken.subscribe();
        loop {
            woken.borrow_and_update();
            if !goes_on() {
                return Ok(None);
            }
            match self.claim(claimant, kinds).await {
                Ok(Some(claimed)) => return Ok(Some(claimed)),
                // The jobs of the log may come to be known while it waits.
                Err(JobsError::NotReady { .. }) if !wait.is_zero() => {}
                Err(error) => return Err(error),
                Ok(None) => {}
            }
            let change = tokio::time::timeout_at(until, woken.changed());
            if !matches!(change.await, Ok(Ok(()))) {
                return Ok(None);
            }
        }
    }

    /// Who made the claim that a fencing token names: the token is the revision of its event. None
    /// when the job has no such event.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn claimed_by(&self, id: JobId, token: u64) -> Result<Option<String>, JobsError> {
        let stream = StreamId::new(id.stream_name());
        let stream = stream.expect("a job's stream name is a valid stream id");
        let range = StreamRange {
            from: Revision::new(token),
            direction: Direction::Forward,
            limit: ReadLimit {
                records: 1,
                bytes: 1,
            },
        };
        let records = self.shared.commands.reader().read_stream(&stream, range);
        let records = records.map_err(HistoryError::from)?;
        let claim = records.first();
        let claim = claim.filter(|record| record.event_type() == CLAIMED);
        Ok(claim.map(|record| record.actor().to_owned()))
    }

    /// Renews a worker's lease.
    ///
    /// # Errors
    /// [`JobRefusal::LeaseLost`] when another has the job, or it has ended;
    /// [`JobsError::NotReady`] while the jobs of the log are not known.
    pub fn heartbeat(&self, id: JobId, token: u64) -> Result<Beat, JobsError> {
        Ok(Shared::beat(&mut self.shared.board(), id, token)?.into())
    }

    /// Notes how far a worker is; a heartbeat as well.
    ///
    /// # Errors
    /// As [`heartbeat`](Self::heartbeat).
    pub fn progress(
        &self,
        id: JobId,
        token: u64,
        percent: u8,
        message: &str,
    ) -> Result<Beat, JobsError> {
        let mut board = self.shared.board();
        let held = Shared::beat(&mut board, id, token)?;
        // While the board is ours: once the views have told it that the job ended, the bus is told
        // so too, and nothing must come behind that.
        self.shared.bus.tell(id, token, percent, message);
        drop(board);
        Ok(held.into())
    }

    /// Carries out operations that only the holder of the claim may, all or none.
    ///
    /// # Errors
    /// [`JobRefusal::LeaseLost`] when the claim does not stand, else as the write path.
    pub async fn execute_held(
        &self,
        job: &Job,
        token: u64,
        mut request: Request,
    ) -> Result<Written, JobsError> {
        let hold = Operation::of_job(job.id, JobCommand::Hold { token });
        request.operations.insert(0, hold);
        let written = self.shared.commands.execute(request).await;
        Ok(written?)
    }

    /// Carries out a command to a job.
    ///
    /// # Errors
    /// [`JobsError`]; nothing was written, with the exceptions of the write path.
    pub async fn command(
        &self,
        id: JobId,
        command: JobCommand,
        actor: &str,
        trace_id: &str,
    ) -> Result<(Job, Written), JobsError> {
        let operations = vec![Operation::of_job(id, command)];
        self.one(request(actor, trace_id, operations)).await
    }

    /// Notes that an attempt failed; when it is to be tried again is drawn here.
    ///
    /// # Errors
    /// [`JobsError`]; nothing was written, with the exceptions of the write path.
    pub async fn fail(
        &self,
        job: &Job,
        token: u64,
        error: JobError,
        after: Option<Duration>,
    ) -> Result<(Job, Written), JobsError> {
        let command = self.fail_command(job, token, error, after);
        let worker = job.claim.as_ref().map_or("stemma", |c| c.worker.as_str());
        self.command(job.id, command, worker, &job.trace_id).await
    }

    /// The command that notes a failed attempt, for a batch with others; `after` is the least wait
    /// before the next try.
    pub fn fail_command(
        &self,
        job: &Job,
        token: u64,
        error: JobError,
        after: Option<Duration>,
    ) -> JobCommand {
        let bytes = *self.shared.commands.new_id().as_bytes();
        let dice = bytes
            .last_chunk()
            .map_or(0, |last| u64::from_le_bytes(*last));
        let wait = backoff::wait(&self.shared.options, job.retries().failed, dice);
        let longest = Duration::from_millis(self.shared.options.retry_cap_ms);
        let wait = wait.max(after.unwrap_or_default()).min(longest);
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        let now = self.shared.commands.now().micros();
        JobCommand::Fail {
            token,
            error,
            retry_at: stemma_domain::time::Timestamp::from_micros(now.saturating_add(micros)),
        }
    }

    /// Follows a job: its events, and what its worker tells.
    pub fn follow(&self, id: JobId) -> Watching {
        self.shared.bus.follow(id)
    }

    /// How far a job is, as its worker told.
    pub fn told(&self, id: JobId) -> Option<Progress> {
        self.shared.bus.progress(id)
    }

    /// Notes that a worker inside the server is at a job; the flag is set when it is to stop.
    pub(crate) fn running(&self, id: JobId, token: u64) -> Arc<AtomicBool> {
        let stop = Arc::<AtomicBool>::default();
        let running = Running {
            token,
            stop: Arc::clone(&stop),
        };
        self.shared.running().insert(id, running);
        stop
    }

    /// Notes that it no longer is.
    pub(crate) fn left(&self, id: JobId) {
        self.shared.running().remove(&id);
    }

    /// Stops those that were cancelled, or whose claim no longer stands.
    pub(crate) fn stop_unwanted(&self) {
        let running = self.shared.running();
        let board = self.shared.board();
        for (id, attempt) in running.iter() {
            let held = board.held(*id, attempt.token);
            if held.is_none_or(|held| held.cancel_requested) {
                attempt.stop.store(true, Ordering::Release);
            }
        }
    }

    /// Stops all of them.
    pub(crate) fn stop_all(&self) {
        let running = self.shared.running();
        let flags = running.values().map(|attempt| &attempt.stop);
        flags.for_each(|stop| stop.store(true, Ordering::Release));
    }

    /// Has a claim run out now: its worker could not say what became of it.
    pub(crate) fn abandon(&self, id: JobId) {
        self.shared.board().let_run_out(id, Instant::now());
        self.shared.wake();
    }

    /// Changes when there may be something to do.
    pub(crate) fn woken(&self) -> watch::Receiver<u64> {
        self.shared.woken.subscribe()
    }

    async fn one(&self, request: Request) -> Result<(Job, Written), JobsError> {
        let mut written = self.shared.commands.execute(request).await?;
        let job = written
            .results
            .first_mut()
            .and_then(|result| result.job.take());
        let job = *job.ok_or(JobRefusal::NotFound)?;
        // What is answered again tells how the job was, which may have ended and been forgotten.
        if !written.replayed {
            self.shared.board().refresh(&job, self.shared.now());
        }
        Ok((job, written))
    }
}

impl Shared {
    /// Renews a lease. One that is not known may be known once the jobs of the log are.
    fn beat(board: &mut Board, id: JobId, token: u64) -> Result<Held, JobsError> {
        let held = board.beat(id, token, Instant::now());
        held.ok_or_else(|| {
            if board.is_loaded() {
                JobRefusal::LeaseLost.into()
            } else {
                JobsError::not_ready()
            }
        })
    }

    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn left_claims(&self) -> MutexGuard<'_, Vec<LeftClaim>> {
        let left = self.left_claims.lock();
        left.unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<JobId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            wall: self.commands.now(),
        }
    }

    /// Takes in jobs that changed.
    fn told(&self, changed: &ChangedJobs) {
        let now = self.now();
        if self.board().told(changed.end, changed.jobs.clone(), now) {
            for job in &changed.jobs {
                let is_active = job.claim.is_some();
                self.bus.moved(job.id, job.revision, is_active);
                self.totals.count(job);
            }
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        self.woken
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes a job in as the log has it, for the views may not have told it yet.
    pub(crate) fn caught_up(&self, id: JobId) -> Result<(), JobsError> {
        let job = self.commands.job(id)?;
        let now = self.now();
        if let Some(job) = job {
            self.board().refresh(&job, now);
        }
        Ok(())
    }
}

/// The name of a worker inside the server.
pub(crate) fn local_name(name: &str) -> WorkerName {
    let name = format!("{LOCAL_PREFIX}{name}");
    WorkerName::new(&name).expect("names of our own workers are short labels")
}

fn request(actor: &str, trace_id: &str, operations: Vec<Operation>) -> Request {
    Request {
        sight: stemma_domain::access::Sight::Everything,
        operations,
        actor: actor.to_owned(),
        trace_id: trace_id.to_owned(),
        idempotency: None,
        bases: [].into(),
        pins: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
