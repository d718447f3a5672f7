//! The queue over a log in memory, told of jobs as the views would.

use std::sync::atomic::AtomicU64;
use std::task::Poll;

use stemma_commands::{Clock, Dependencies, Ids};
use stemma_content_store::{
    ContentStore, MemoryStorage as ContentMemory, Options as ContentOptions,
};
use stemma_domain::event::{Envelope, Event};
use stemma_domain::job::{Attempt, Claim, JobStatus, WORKER_LOST};
use stemma_domain::time::Timestamp;
use stemma_event_log::{Idempotency, Log, MemoryStorage, Options as LogOptions};
use uuid::Uuid;

use super::*;

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let tick = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_micros(i64::try_from(tick).unwrap())
    }
}

impl Ids for Ticks {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

fn commands() -> Commands {
    let log = Log::open(Arc::new(MemoryStorage::default()), LogOptions::default()).unwrap();
    let content = Arc::new(ContentMemory::default());
    let (content, _) = ContentStore::open_on(content, ContentOptions::default()).unwrap();
    let ticks = Arc::new(Ticks(AtomicU64::new(1)));
    let on = Dependencies {
        appender: log.appender,
        reader: log.reader,
        content,
        clock: ticks.clone(),
        ids: ticks,
    };
    Commands::new(on, stemma_commands::Options::default())
}

/// A job that a worker is at, with the token 1.
fn at_work(id: u64) -> Job {
    let queued = Event::JobQueued(JobQueued {
        document_id: None,
        id: JobId::new(Uuid::from_u128(id.into())),
        max_retries: 3,
        payload: Metadata::new(),
        priority: 0,
        trace_id: "t".into(),
        kind: JobKind::new("test").unwrap(),
    });
    let envelope = Envelope {
        position: id,
        revision: 0,
        recorded_at: Timestamp::from_micros(0),
        actor: "ada",
    };
    let mut job = Job::start(&envelope, &queued).unwrap();
    job.revision = 1;
    job.status = JobStatus::Processing;
    job.claim = Some(Claim {
        token: 1,
        worker: WorkerName::new("w").unwrap(),
        lease_ms: 60_000,
        claimed_at: Timestamp::from_micros(0),
    });
    job
}

/// A worker that told how far it was just when its job ended left the job a place on the bus,
/// which nobody took away any more.
#[test]
fn progress_that_is_told_while_its_job_ends_leaves_nothing_behind() {
    const ROUNDS: u64 = 200;
    let queue = Queue::new(commands(), Options::default());
    assert!(queue.load(0, Vec::new()));
    let tell = |end: u64, job: &Job| {
        let jobs = vec![job.clone()];
        queue.shared.told(&ChangedJobs { end, jobs });
    };
    for round in 1..=ROUNDS {
        let mut job = at_work(round);
        let id = job.id;
        tell(2 * round, &job);
        std::thread::scope(|scope| {
            scope.spawn(|| while queue.progress(id, 1, 7, "on").is_ok() {});
            while queue.told(id).is_none() {
                std::thread::yield_now();
            }
            job.revision = 2;
            job.status = JobStatus::Completed;
            job.claim = None;
            tell(2 * round + 1, &job);
        });
        assert_eq!(queue.shared.bus.len(), 0, "round {round}");
    }
}

/// Claims that may be written before they are looked at.
const CLAIMS_MAX: u64 = 10_000;

fn new_job(id: JobId) -> NewJob {
    NewJob {
        id,
        kind: JobKind::new("test").unwrap(),
        payload: Metadata::new(),
        priority: 0,
        max_retries: None,
        document_id: None,
        trace_id: "t".into(),
    }
}

/// A client whose answer got lost sent its request again, and was told that nothing was written
/// since the queue is full, though its job stood there. Told again of a job that had ended, the
/// queue took it for one that waits.
#[test]
fn what_is_asked_again_under_its_key_is_answered_though_the_queue_is_full_and_adds_no_job() {
    let runtime = runtime();
    let options = Options {
        queued_max: 1,
        ..Options::default()
    };
    let queue = Queue::new(commands(), options);
    assert!(queue.load(0, Vec::new()));
    let key = |n| {
        let (key, request) = ([n; 32], [n; 32]);
        Some(Idempotency { key, request })
    };
    let mut ids = (1..).map(|id| JobId::new(Uuid::from_u128(id)));
    let mut submit = |n| {
        let new = new_job(ids.next().unwrap());
        runtime.block_on(queue.submit(new, "ada", key(n)))
    };
    let (first, _) = submit(1).unwrap();
    let full = submit(2).unwrap_err();
    assert!(matches!(full, JobsError::Full { queued: 1 }), "{full:?}");
    let (again, written) = submit(1).unwrap();
    assert_eq!((again, written.replayed), (first.clone(), true));
    let cancel = |n| {
        let asking = Asking {
            actor: "ada",
            trace_id: "t",
            idempotency: key(n),
        };
        runtime.block_on(queue.command_once(first.id, JobCommand::Cancel, asking))
    };
    let (cancelled, _) = cancel(3).unwrap();
    let (again, written) = cancel(3).unwrap();
    assert_eq!((again, written.replayed), (cancelled, true));
    assert!(matches!(cancel(4), Err(JobsError::Refused(_))));
    // As after a start, when the board knows of no job that has ended.
    let started = Queue::new(queue.commands().clone(), Options::default());
    assert!(started.load(2, Vec::new()));
    let again = started.submit(new_job(JobId::new(Uuid::from_u128(9))), "ada", key(1));
    assert_eq!(runtime.block_on(again).unwrap().0, first);
    assert_eq!(started.stats().queued, 0);
}

/// A queue with one job, and the job.
fn with_a_job(runtime: &tokio::runtime::Runtime) -> (Queue, JobId) {
    let queue = Queue::new(commands(), Options::default());
    assert!(queue.load(0, Vec::new()));
    let id = JobId::new(Uuid::from_u128(77));
    let submitted = queue.submit(new_job(id), "ada", None);
    runtime.block_on(submitted).unwrap();
    (queue, id)
}

/// A worker outside was told that its lease is lost while a server that had just started looked its
/// job up, and threw away what it had done.
#[test]
fn whether_a_lease_is_lost_is_said_once_the_jobs_of_the_log_are_known() {
    let queue = Queue::new(commands(), Options::default());
    let job = at_work(1);
    let beats = || {
        [
            queue.heartbeat(job.id, 1),
            queue.progress(job.id, 1, 50, "half"),
        ]
    };
    let is_unknown = |beat: &_| matches!(beat, Err(JobsError::NotReady { .. }));
    assert!(beats().iter().all(is_unknown));
    assert!(queue.load(2, vec![job.clone()]));
    assert!(beats().iter().all(Result::is_ok));
    let lost = queue.heartbeat(job.id, 2).unwrap_err();
    assert!(
        matches!(lost, JobsError::Refused(JobRefusal::LeaseLost)),
        "{lost:?}"
    );
}

/// Health said that all was well while no job was worked on.
#[test]
fn why_jobs_cannot_be_looked_up_is_told_until_they_are() {
    let queue = Queue::new(commands(), Options::default());
    assert_eq!(queue.trouble(), None);
    queue.note_trouble("a row cannot be read".to_owned());
    assert_eq!(queue.trouble().as_deref(), Some("a row cannot be read"));
    assert!(queue.load(0, Vec::new()));
    assert_eq!(queue.trouble(), None);
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_time().build().unwrap()
}

fn claim(queue: &Queue, worker: &str) -> Option<Claimed> {
    let worker = WorkerName::new(worker).unwrap();
    let claimant = Claimant {
        worker: &worker,
        actor: worker.as_str(),
    };
    let kinds = [JobKind::new("test").unwrap()];
    runtime().block_on(queue.claim(claimant, &kinds)).unwrap()
}

fn release(queue: &Queue, id: JobId, token: u64) {
    let release = JobCommand::Release {
        token,
        reason: "not now".to_owned(),
    };
    let released = queue.command(id, release, "w", "t");
    runtime().block_on(released).unwrap();
}

/// Has the worker `w` ask for the job and leave while its claim is being written; gives the token
/// of that claim.
fn leave(queue: &Queue) -> u64 {
    let worker = WorkerName::new("w").unwrap();
    let claimant = Claimant {
        worker: &worker,
        actor: "w",
    };
    let kinds = [JobKind::new("test").unwrap()];
    // A claim that is written faster than it is looked at is given back, and asked for again.
    let mut n_written = 0;
    loop {
        let mut claim = Box::pin(queue.claim(claimant, &kinds));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(claimed) = claim.as_mut().poll(&mut context) else {
            return 1 + 2 * n_written;
        };
        let claimed = claimed.unwrap().unwrap();
        release(queue, claimed.job.id, claimed.token);
        n_written += 1;
        assert!(n_written < CLAIMS_MAX, "no claim was ever seen on its way");
    }
}

/// A worker that hung up while its claim was being written left the job to nobody until the lease
/// had run out, and a retry was used up.
#[test]
fn a_claim_whose_caller_leaves_while_it_is_written_is_given_back() {
    let runtime = runtime();
    let (queue, _) = with_a_job(&runtime);
    let left = leave(&queue);
    // Nobody has it before it is known what became of the claim.
    assert!(claim(&queue, "w").is_none());
    runtime.block_on(queue.give_back_left());
    let claimed = claim(&queue, "w").unwrap();
    // Given back, claimed.
    assert_eq!((claimed.token, claimed.job.retry_count), (left + 2, 0));
    assert_eq!(queue.stats().processing, 1);
}

/// Whatever claim stood when it was looked at was given back: also that of another, who had taken
/// the job on once the claim that was left had come to an end by itself.
#[test]
fn a_claim_that_was_left_takes_no_job_from_who_has_it_since() {
    let runtime = runtime();
    let (queue, id) = with_a_job(&runtime);
    let left = leave(&queue);
    runtime.block_on(queue.commands().appender().settled());
    release(&queue, id, left);
    for worker in ["other", "w"] {
        let claimed = claim(&queue, worker).unwrap();
        runtime.block_on(queue.give_back_left());
        let job = queue.commands().job(id).unwrap().unwrap();
        assert_eq!(job.claim.unwrap().token, claimed.token, "{worker}");
        assert_eq!(queue.stats().processing, 1);
        queue.shared.left_claims().push(LeftClaim::of(
            &Job {
                revision: left - 1,
                ..claimed.job
            },
            &WorkerName::new("w").unwrap(),
        ));
        release(&queue, id, claimed.token);
    }
}

/// Does jobs that all have to be under way at once before any of them is done.
struct Together {
    n_there: Mutex<usize>,
    came: std::sync::Condvar,
}

const TOGETHER: usize = 4;

impl crate::Handler for Together {
    fn kinds(&self) -> Vec<JobKind> {
        vec![JobKind::new("test").unwrap()]
    }

    fn run(&self, work: &crate::Work) -> Result<crate::Outcome, (JobError, Option<Duration>)> {
        work.step_aside();
        // Once is enough.
        work.step_aside();
        let mut n_there = self.n_there.lock().unwrap();
        *n_there += 1;
        self.came.notify_all();
        let missing = |n_there: &mut usize| *n_there < TOGETHER;
        let patience = Duration::from_mins(1);
        let waited = self.came.wait_timeout_while(n_there, patience, missing);
        assert!(
            !waited.unwrap().1.timed_out(),
            "the others wait for a worker"
        );
        Ok(crate::Outcome::Done {
            result: Metadata::new(),
            warnings: Vec::new(),
        })
    }
}

#[test]
fn one_worker_waits_for_many_jobs_that_need_nothing_of_it_but_to_wait() {
    let runtime = runtime();
    let options = Options {
        workers: 1,
        ..Options::default()
    };
    let queue = Queue::new(commands(), options);
    assert!(queue.load(0, Vec::new()));
    let handler: Arc<dyn crate::Handler> = Arc::new(Together {
        n_there: Mutex::default(),
        came: std::sync::Condvar::new(),
    });
    let mut workers = crate::Workers::start(&queue, &handler).unwrap();
    let ids = (0..TOGETHER as u128).map(|id| JobId::new(Uuid::from_u128(1000 + id)));
    let ids: Vec<JobId> = ids.collect();
    for id in &ids {
        let new = NewJob {
            id: *id,
            kind: JobKind::new("test").unwrap(),
            payload: Metadata::new(),
            priority: 0,
            max_retries: Some(0),
            document_id: None,
            trace_id: "t".into(),
        };
        runtime.block_on(queue.submit(new, "ada", None)).unwrap();
        queue.shared.wake();
    }
    for id in ids {
        let job = || queue.commands().job(id).unwrap().unwrap();
        let until = Instant::now() + Duration::from_mins(2);
        while !job().status.is_ended() {
            assert!(Instant::now() < until, "{:?}", job());
            std::thread::yield_now();
        }
        assert_eq!(job().status, JobStatus::Completed);
    }
    workers.stop();
    assert_eq!(queue.stats().processing, 0);
}

/// Ten workers that were killed had the first failure of a job wait as long as its eleventh.
#[test]
fn a_failure_waits_by_the_failures_before_it_and_not_by_the_workers_that_were_lost() {
    const BASE_MS: u64 = 1_000;
    const LOST: u32 = 10;
    let options = Options {
        retry_base_ms: BASE_MS,
        ..Options::default()
    };
    let queue = Queue::new(commands(), options);
    let mut job = at_work(1);
    job.retry_count = LOST;
    let lost = |attempt| Attempt {
        attempt,
        worker: WorkerName::new("w").unwrap(),
        started_at: Timestamp::from_micros(0),
        ended_at: Timestamp::from_micros(0),
        error: Some(error(WORKER_LOST)),
    };
    job.history = (1..=LOST).map(lost).collect();
    // Waits are drawn: of so many, one would be longer.
    for _ in 0..1_000 {
        let now = queue.commands().now().micros();
        let command = queue.fail_command(&job, 1, error("BUSY"), None);
        let JobCommand::Fail { retry_at, .. } = command else {
            panic!("{command:?} notes no failure");
        };
        let waited = u64::try_from(retry_at.micros() - now).unwrap();
        assert!(waited <= BASE_MS * 1_000 + 1_000, "{waited} µs");
    }
}

fn error(code: &str) -> JobError {
    JobError {
        code: code.to_owned(),
        message: String::new(),
        stage: None,
        transient: true,
    }
}
