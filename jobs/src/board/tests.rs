//! The board beside a log of jobs that is looked at whole, through random days.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use stemma_domain::event::{Envelope, Event, JobQueued, Metadata};
use stemma_domain::job::Claim;
use stemma_domain::value::WorkerName;
use uuid::Uuid;

use super::*;

const ACTIVE_MAX: usize = 2;
const LEASE: Duration = Duration::from_secs(30);
const CAP: Duration = Duration::from_mins(5);
const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, Clone)]
enum Step {
    Queue {
        owner: u8,
        priority: i32,
    },
    Choose,
    /// Of those that were chosen, one comes to be claimed, or not.
    Claim(usize, bool),
    Fail {
        at_work: usize,
        wait_s: u64,
    },
    Complete(usize),
    Beat(usize),
    Pass {
        seconds: u64,
    },
    /// The wall clock alone.
    Jump {
        days: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u8, 0..3).prop_map(|(owner, priority)| Step::Queue { owner, priority }),
        6 => Just(Step::Choose),
        4 => (any::<usize>(), proptest::bool::weighted(0.8))
            .prop_map(|(chosen, comes_about)| Step::Claim(chosen, comes_about)),
        2 => (any::<usize>(), 0..400_u64)
            .prop_map(|(at_work, wait_s)| Step::Fail { at_work, wait_s }),
        1 => any::<usize>().prop_map(Step::Complete),
        1 => any::<usize>().prop_map(Step::Beat),
        3 => (0..60_u64).prop_map(|seconds| Step::Pass { seconds }),
        2 => (-2..=2_i64).prop_map(|days| Step::Jump { days }),
    ];
    proptest::collection::vec(step, 0..150)
}

/// The jobs as the log has them, and what time it is for each.
struct World {
    board: Board,
    jobs: Vec<Job>,
    end: u64,
    now: Now,
    chosen: Vec<JobId>,
    due: HashMap<JobId, Instant>,
    deadlines: HashMap<JobId, Instant>,
}

fn queued(id: u128, owner: u8, priority: i32, position: u64) -> Job {
    let queued = Event::JobQueued(JobQueued {
        document_id: None,
        id: JobId::new(Uuid::from_u128(id)),
        max_retries: 3,
        payload: Metadata::new(),
        priority,
        trace_id: "t".into(),
        kind: kind(),
    });
    let envelope = Envelope {
        position,
        revision: 0,
        recorded_at: Timestamp::from_micros(0),
        actor: &format!("owner {owner}"),
    };
    Job::start(&envelope, &queued).unwrap()
}

fn kind() -> JobKind {
    JobKind::new("test").unwrap()
}

impl World {
    fn new() -> Self {
        let options = Options {
            active_max: ACTIVE_MAX,
            retry_cap_ms: u64::try_from(CAP.as_millis()).unwrap(),
            ..Options::default()
        };
        let now = Now {
            instant: Instant::now(),
            wall: Timestamp::from_micros(10 * DAY_US),
        };
        let mut board = Board::new(options);
        board.load(0, Vec::new(), now);
        Self {
            board,
            jobs: Vec::new(),
            end: 0,
            now,
            chosen: Vec::new(),
            due: HashMap::new(),
            deadlines: HashMap::new(),
        }
    }

    /// Records a change of a job, and tells the board.
    fn change(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        let job = self.jobs.iter_mut().find(|job| job.id == id).unwrap();
        job.revision += 1;
        change(job);
        let job = job.clone();
        self.tell(job);
    }

    fn tell(&mut self, job: Job) {
        self.end += 1;
        assert!(self.board.told(self.end, vec![job], self.now));
    }

    fn at_work(&self, index: usize) -> Option<&Job> {
        let at_work: Vec<&Job> = self.jobs.iter().filter(|job| job.claim.is_some()).collect();
        at_work.get(index.checked_rem(at_work.len())?).copied()
    }

    /// Whether a job may be had now, as all that is known of it says.
    fn is_to_be_had(&self, job: &Job) -> bool {
        let is_waiting = matches!(job.status, JobStatus::Queued | JobStatus::Retrying);
        let is_due = self
            .due
            .get(&job.id)
            .is_none_or(|due| *due <= self.now.instant);
        let is_busy = |other: &&Job| {
            other.owner == job.owner && (other.claim.is_some() || self.chosen.contains(&other.id))
        };
        let at_work = self.jobs.iter().filter(is_busy).count();
        is_waiting && is_due && at_work < ACTIVE_MAX && !self.chosen.contains(&job.id)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Queue { owner, priority } => {
                let id = u128::try_from(self.jobs.len()).unwrap();
                let job = queued(id, owner, priority, self.end);
                self.jobs.push(job.clone());
                self.tell(job);
            }
            Step::Choose => self.choose(),
            Step::Claim(index, comes_about) => self.claim(index, comes_about),
            Step::Fail { at_work, wait_s } => self.fail(at_work, Duration::from_secs(wait_s)),
            Step::Complete(index) => {
                if let Some(id) = self.at_work(index).map(|job| job.id) {
                    self.deadlines.remove(&id);
                    self.change(id, |job| {
                        job.claim = None;
                        job.status = JobStatus::Completed;
                    });
                }
            }
            Step::Beat(index) => {
                if let Some(job) = self.at_work(index) {
                    let (id, token) = (job.id, job.claim.as_ref().unwrap().token);
                    let is_lost = self.deadlines[&id] <= self.now.instant;
                    let held = self.board.beat(id, token, self.now.instant);
                    assert_eq!(held.is_none(), is_lost);
                    assert_eq!(self.board.beat(id, token + 1, self.now.instant), None);
                    if !is_lost {
                        self.deadlines.insert(id, self.now.instant + LEASE);
                    }
                }
            }
            Step::Pass { seconds } => {
                self.now.instant += Duration::from_secs(seconds);
                let micros = i64::try_from(seconds).unwrap() * 1_000_000;
                self.now.wall = Timestamp::from_micros(self.now.wall.micros() + micros);
            }
            Step::Jump { days } => {
                self.now.wall = Timestamp::from_micros(self.now.wall.micros() + days * DAY_US);
            }
        }
    }

    fn choose(&mut self) {
        self.board.let_come_due(self.now.instant);
        let chosen = self.board.choose(&[kind()]);
        let urgent = self.jobs.iter().filter(|job| self.is_to_be_had(job));
        let most = urgent.map(|job| job.priority).max();
        let job = chosen.and_then(|id| self.jobs.iter().find(|job| job.id == id));
        assert!(job.is_none_or(|job| self.is_to_be_had(job)), "{job:?}");
        assert_eq!(job.map(|job| job.priority), most);
        self.chosen.extend(chosen);
    }

    fn claim(&mut self, index: usize, comes_about: bool) {
        let Some(index) = index.checked_rem(self.chosen.len()) else {
            return;
        };
        let id = self.chosen.swap_remove(index);
        if !comes_about {
            return self.board.unchoose(id);
        }
        self.due.remove(&id);
        self.deadlines.insert(id, self.now.instant + LEASE);
        let claimed_at = self.now.wall;
        self.change(id, |job| {
            job.status = JobStatus::Processing;
            job.retry_at = None;
            job.claim = Some(Claim {
                token: job.revision,
                worker: WorkerName::new("w").unwrap(),
                lease_ms: u64::try_from(LEASE.as_millis()).unwrap(),
                claimed_at,
            });
        });
        // Nothing is left to give back.
        self.board.unchoose(id);
    }

    fn fail(&mut self, index: usize, wait: Duration) {
        let Some(id) = self.at_work(index).map(|job| job.id) else {
            return;
        };
        self.deadlines.remove(&id);
        self.due.insert(id, self.now.instant + wait.min(CAP));
        let micros = i64::try_from(wait.as_micros()).unwrap();
        let retry_at = Timestamp::from_micros(self.now.wall.micros() + micros);
        self.change(id, |job| {
            job.claim = None;
            job.status = JobStatus::Retrying;
            job.retry_at = Some(retry_at);
        });
    }

    /// Nothing is lost, and nobody keeps what is not theirs.
    fn check(&self) {
        let (ready, later, at_work) = self.board.counts();
        // What is kept as it changes is what a walk through all of them counts.
        let held = self
            .board
            .jobs
            .values()
            .filter(|entry| entry.hold.is_some());
        assert_eq!(at_work, held.count());
        let waits = |entry: &&Entry| entry.hold.is_none() && entry.due.is_none();
        let waiting = self.board.jobs.values().filter(waits).count();
        assert_eq!(ready + self.board.claiming.len(), waiting);
        assert_eq!(self.board.waiting(), ready + later);
        let is_due = |entry: &&Entry| entry.due.is_some();
        assert_eq!(later, self.board.jobs.values().filter(is_due).count());
        let open = self.jobs.iter().filter(|job| !job.status.is_ended());
        assert_eq!(ready + later + at_work + self.chosen.len(), open.count());
        assert_eq!(at_work, self.deadlines.len());
        let run_out = self.board.run_out(self.now.instant);
        let run_out: HashSet<JobId> = run_out.into_iter().map(|(id, _)| id).collect();
        let over = |(_, deadline): &(&JobId, &Instant)| **deadline <= self.now.instant;
        let expected = self.deadlines.iter().filter(over).map(|(id, _)| *id);
        assert_eq!(run_out, expected.collect());
        let instants = self.due.values().chain(self.deadlines.values());
        assert!(self.board.next_change() <= instants.max().copied());
    }
}

proptest! {
    /// Whatever the wall clock does meanwhile.
    #[test]
    fn no_job_is_lost_chosen_twice_or_kept_from_who_may_have_it(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(&step);
            world.check();
        }
    }
}

#[test]
fn a_retry_waits_at_most_the_longest_wait_wherever_the_wall_clock_stands_at_the_start() {
    for days in [-1, 0, 1] {
        let mut world = World::new();
        let mut job = queued(1, 0, 0, 0);
        job.status = JobStatus::Retrying;
        let ahead = Timestamp::from_micros(world.now.wall.micros() + days * DAY_US + 1);
        job.retry_at = Some(ahead);
        world.board = Board::new(world.board.options.clone());
        world.board.load(1, vec![job.clone()], world.now);
        world.board.let_come_due(world.now.instant + CAP);
        assert_eq!(world.board.choose(&[kind()]), Some(job.id), "{days}");
    }
}

/// A verification that was begun while the jobs could not be looked up was recorded as lost with
/// its worker once they could be, and went on.
#[test]
fn of_claims_inside_the_server_only_those_of_a_process_before_run_out_when_jobs_are_looked_up() {
    let world = World::new();
    let local = |id| {
        let mut job = queued(id, 0, 0, 0);
        job.revision = 1;
        job.status = JobStatus::Processing;
        job.claim = Some(Claim {
            token: 1,
            worker: WorkerName::new(&format!("{LOCAL_PREFIX}w")).unwrap(),
            lease_ms: 60_000,
            claimed_at: world.now.wall,
        });
        job
    };
    let (before, ours, mut cancelled) = (local(1), local(2), local(3));
    let mut board = Board::new(world.board.options.clone());
    board.begin(&ours, world.now);
    // One of before that somebody asks to stop meanwhile stands on the board as well.
    cancelled.cancel_requested = true;
    board.refresh(&cancelled, world.now);
    let all = [&before, &ours, &cancelled].map(Job::clone);
    assert!(board.load(3, all.to_vec(), world.now));
    let run_out = board.run_out(world.now.instant);
    assert_eq!(run_out, [(before.id, 1), (cancelled.id, 1)]);
    assert!(board.beat(ours.id, 1, world.now.instant).is_some());
}

/// A worker inside the server could not say what became of its attempt. A cancel that came before its
/// claim was noted as lost had the claim stand for ever, and the job was never cancelled.
#[test]
fn a_claim_inside_the_server_that_is_to_run_out_does_though_its_job_is_asked_to_stop() {
    let mut world = World::new();
    let mut job = queued(1, 0, 0, 0);
    job.revision = 1;
    job.status = JobStatus::Processing;
    job.claim = Some(Claim {
        token: 1,
        worker: WorkerName::new(&format!("{LOCAL_PREFIX}w")).unwrap(),
        lease_ms: 60_000,
        claimed_at: world.now.wall,
    });
    world.tell(job.clone());
    assert_eq!(world.board.run_out(world.now.instant + CAP), []);
    world.board.let_run_out(job.id, world.now.instant);
    job.revision = 2;
    job.cancel_requested = true;
    world.tell(job.clone());
    let run_out = world.board.run_out(world.now.instant);
    assert_eq!(run_out, [(job.id, 1)]);
    // Another claim has nothing to do with that.
    job.revision = 3;
    job.claim.as_mut().unwrap().token = 3;
    world.tell(job);
    assert_eq!(world.board.run_out(world.now.instant + CAP), []);
}

/// Whoever claimed a job may be held up between its write and telling the board; once the job had
/// ended meanwhile, it stood on the board for good, held by nobody.
#[test]
fn who_tells_late_of_a_job_that_ended_brings_it_back_no_more() {
    let mut world = World::new();
    world.step(&Step::Queue {
        owner: 0,
        priority: 0,
    });
    world.step(&Step::Choose);
    world.step(&Step::Claim(0, true));
    let claimed = world.jobs[0].clone();
    world.step(&Step::Complete(0));
    world.board.refresh(&claimed, world.now);
    world.check();
    let token = claimed.claim.unwrap().token;
    assert_eq!(world.board.beat(claimed.id, token, world.now.instant), None);
    assert!(!world.board.has_any_of(&[kind()]));
    // Tried anew, it is a job as any.
    world.change(claimed.id, |job| job.status = JobStatus::Queued);
    assert_eq!(world.board.choose(&[kind()]), Some(claimed.id));
}

#[test]
fn of_jobs_that_ended_and_of_what_was_told_early_no_more_is_remembered_than_the_limits() {
    let mut world = World::new();
    let jobs = u128::try_from(ENDED_JOBS_MAX).unwrap() + 10;
    for id in 0..jobs {
        let mut job = queued(id, 0, 0, 0);
        job.status = JobStatus::Completed;
        world.tell(job);
    }
    assert_eq!(world.board.ended.len(), ENDED_JOBS_MAX);
    assert_eq!(world.board.ended_at.len(), ENDED_JOBS_MAX);

    let mut board = Board::new(Options::default());
    let told = u64::try_from(EARLY_JOBS_MAX).unwrap() + 10;
    for end in 1..=told {
        let job = queued(end.into(), 0, 0, end);
        assert!(board.told(end, vec![job], world.now));
    }
    assert_eq!(board.early_jobs, EARLY_JOBS_MAX);
    // Of what is as of before those that are forgotten nobody knows what is missing.
    assert!(!board.load(9, Vec::new(), world.now));
    assert!(!board.is_loaded());
    let there = (1..=10).map(|id| queued(id, 0, 0, 0)).collect();
    assert!(board.load(10, there, world.now));
    assert_eq!(u64::try_from(board.waiting()).unwrap(), told);
    assert_eq!(board.early_jobs, 0);
}
