//! The jobs that are not ended, as the log has them: who waits, who is at work, whose lease runs
//! out when.
//!
//! Times here are of the monotonic clock, so that a wall clock that jumps neither lets a lease run
//! out nor holds a retry back. Invariant: a job stands in exactly one of: to be had now, to be had
//! later, being claimed, at work.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use stemma_domain::id::JobId;
use stemma_domain::job::{Job, JobStatus};
use stemma_domain::time::Timestamp;
use stemma_domain::value::JobKind;

use crate::options::Options;
use crate::ready::{Place, Ready};

/// Jobs that changed before those of the log are known, which are remembered; when there are more,
/// the jobs of the log have to be looked up as of later.
pub(crate) const EARLY_JOBS_MAX: usize = 10_000;
/// Jobs that ended last, which are remembered: whoever carried out a command to one of them may come
/// late to tell of it.
pub(crate) const ENDED_JOBS_MAX: usize = 4096;

/// Workers inside the server are named with this; none outside may be.
pub(crate) const LOCAL_PREFIX: &str = "server:";

#[derive(Debug)]
struct Entry {
    place: Place,
    revision: u64,
    due: Option<Instant>,
    hold: Option<Hold>,
    cancel_requested: bool,
}

/// Who is at a job, as far as the lease goes.
#[derive(Debug, Clone, Copy)]
struct Hold {
    token: u64,
    lease: Duration,
    /// None for a worker inside the server, whose end is noticed without it, until its claim is to
    /// run out.
    deadline: Option<Instant>,
}

/// What a heartbeat is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lease: Duration,
    pub(crate) cancel_requested: bool,
}

/// The present instant by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Timestamp,
}

/// All jobs that are not ended.
#[derive(Debug)]
pub(crate) struct Board {
    options: Options,
    jobs: HashMap<JobId, Entry>,
    /// How many of these there are of each kind; none is not kept.
    kinds: HashMap<JobKind, usize>,
    ready: Ready,
    later: BTreeSet<(Instant, JobId)>,
    leases: BTreeSet<(Instant, JobId)>,
    claiming: HashSet<JobId>,
    /// How many jobs a worker is at.
    held: usize,
    /// Jobs that ended last, the oldest first, and the revision of each.
    ended: VecDeque<JobId>,
    ended_at: HashMap<JobId, u64>,
    /// Claims that were made inside the server before the jobs of the log were known.
    begun: HashSet<(JobId, u64)>,
    /// Jobs at work or being claimed, by owner.
    at_work: HashMap<String, usize>,
    /// The position after the last job event that was taken in; none before the first look.
    end: Option<u64>,
    /// What was told before the first look: the position behind it, and the jobs.
    early: VecDeque<(u64, Vec<Job>)>,
    early_jobs: usize,
    /// The position behind the last that was told and is not remembered.
    forgotten_end: u64,
}

impl Board {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            jobs: HashMap::new(),
            kinds: HashMap::new(),
            ready: Ready::default(),
            later: BTreeSet::new(),
            leases: BTreeSet::new(),
            claiming: HashSet::new(),
            held: 0,
            ended: VecDeque::new(),
            ended_at: HashMap::new(),
            begun: HashSet::new(),
            at_work: HashMap::new(),
            end: None,
            early: VecDeque::new(),
            early_jobs: 0,
            forgotten_end: 0,
        }
    }

    /// Whether the jobs of the log are known.
    pub(crate) fn is_loaded(&self) -> bool {
        self.end.is_some()
    }

    /// Takes in all jobs that were not ended at a position, and what was told since. Says whether
    /// that is all: when more was told meanwhile than is remembered, they are to be looked up again.
    pub(crate) fn load(&mut self, end: u64, jobs: Vec<Job>, now: Now) -> bool {
        if end < self.forgotten_end {
            return false;
        }
        self.end = Some(end);
        for job in jobs {
            self.take(&job, now);
            let is_of_before = job.claim.as_ref().is_some_and(|claim| {
                let is_local = claim.worker.as_str().starts_with(LOCAL_PREFIX);
                is_local && !self.begun.contains(&(job.id, claim.token))
            });
            if is_of_before {
                // That worker ended with the process that it was part of.
                self.let_run_out(job.id, now.instant);
            }
        }
        self.begun.clear();
        self.early_jobs = 0;
        for (end, jobs) in std::mem::take(&mut self.early) {
            self.told(end, jobs, now);
        }
        true
    }

    /// Remembers what is told before the jobs of the log are known.
    fn note_early(&mut self, end: u64, jobs: Vec<Job>) {
        self.early_jobs += jobs.len();
        self.early.push_back((end, jobs));
        while self.early_jobs > EARLY_JOBS_MAX
            && let Some((end, jobs)) = self.early.pop_front()
        {
            self.early_jobs -= jobs.len();
            self.forgotten_end = self.forgotten_end.max(end);
        }
    }

    /// Takes in jobs that changed. Views that are made anew tell old news, which is passed over.
    pub(crate) fn told(&mut self, end: u64, jobs: Vec<Job>, now: Now) -> bool {
        match self.end {
            None => self.note_early(end, jobs),
            Some(seen) if end <= seen => return false,
            Some(_) => {
                self.end = Some(end);
                jobs.iter().for_each(|job| self.take(job, now));
            }
        }
        true
    }

    /// Takes in one job as the log has it, ahead of what the views tell.
    pub(crate) fn refresh(&mut self, job: &Job, now: Now) {
        self.take(job, now);
    }

    /// Takes in a job that was queued and claimed inside the server at once.
    pub(crate) fn begin(&mut self, job: &Job, now: Now) {
        if !self.is_loaded() {
            let token = job.claim.as_ref().map(|claim| claim.token);
            self.begun.extend(token.map(|token| (job.id, token)));
        }
        self.take(job, now);
    }

    fn take(&mut self, job: &Job, now: Now) {
        let known = self.jobs.get(&job.id).map(|entry| entry.revision);
        let known = known.or_else(|| self.ended_at.get(&job.id).copied());
        if known.is_some_and(|revision| revision >= job.revision) {
            return;
        }
        let held = self.jobs.get(&job.id).and_then(|entry| entry.hold);
        self.forget(job.id);
        if job.status.is_ended() {
            self.note_ended(job);
            return;
        }
        let mut entry = Entry {
            place: Place::of(job),
            revision: job.revision,
            due: None,
            hold: None,
            cancel_requested: job.cancel_requested,
        };
        match (&job.claim, job.retry_at) {
            (Some(claim), _) => {
                let lease = Duration::from_millis(claim.lease_ms);
                let is_local = claim.worker.as_str().starts_with(LOCAL_PREFIX);
                let held = held.filter(|held| held.token == claim.token);
                let deadline = if is_local {
                    // A claim that is to run out does, whatever is told of its job meanwhile.
                    held.and_then(|held| held.deadline)
                } else {
                    Some(now.instant + lease)
                };
                self.leases.extend(deadline.map(|at| (at, job.id)));
                entry.hold = Some(Hold {
                    token: claim.token,
                    lease,
                    deadline,
                });
                self.held += 1;
                *self.at_work.entry(job.owner.clone()).or_default() += 1;
            }
            (None, Some(retry_at)) if job.status == JobStatus::Retrying => {
                let due = now.instant + self.wait_until(retry_at, now.wall);
                entry.due = Some(due);
                self.later.insert((due, job.id));
            }
            _ => self.ready.insert(&entry.place),
        }
        *self.kinds.entry(job.kind.clone()).or_default() += 1;
        self.jobs.insert(job.id, entry);
    }

    fn note_ended(&mut self, job: &Job) {
        if self.ended_at.insert(job.id, job.revision).is_none() {
            self.ended.push_back(job.id);
        }
        if self.ended.len() > ENDED_JOBS_MAX
            && let Some(id) = self.ended.pop_front()
        {
            self.ended_at.remove(&id);
        }
    }

    /// Whether there is a job of one of these kinds that is not ended.
    pub(crate) fn has_any_of(&self, kinds: &[JobKind]) -> bool {
        kinds.iter().any(|kind| self.kinds.contains_key(kind))
    }

    /// How long until an instant of the wall clock; never longer than the longest wait there is,
    /// wherever that clock went.
    fn wait_until(&self, instant: Timestamp, wall: Timestamp) -> Duration {
        let micros = instant.micros().saturating_sub(wall.micros());
        let wait = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        wait.min(Duration::from_millis(self.options.retry_cap_ms))
    }

    fn forget(&mut self, id: JobId) {
        let Some(entry) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(count) = self.kinds.get_mut(entry.place.kind()) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(entry.place.kind());
            }
        }
        let was_claiming = self.claiming.remove(&id);
        self.ready.remove(&entry.place);
        if let Some(due) = entry.due {
            self.later.remove(&(due, id));
        }
        if let Some(deadline) = entry.hold.and_then(|hold| hold.deadline) {
            self.leases.remove(&(deadline, id));
        }
        self.held -= usize::from(entry.hold.is_some());
        if was_claiming || entry.hold.is_some() {
            self.rest(entry.place.owner());
        }
    }

    fn rest(&mut self, owner: &str) {
        let left = self.at_work.get_mut(owner).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            self.at_work.remove(owner);
        }
    }

    /// Chooses a job of one of these kinds, and holds it back from others while it is claimed.
    pub(crate) fn choose(&mut self, kinds: &[JobKind]) -> Option<JobId> {
        let (active_max, at_work) = (self.options.active_max, &self.at_work);
        let may =
            |owner: &str| active_max == 0 || at_work.get(owner).copied().unwrap_or(0) < active_max;
        let id = self.ready.choose(kinds, may)?;
        let entry = self.jobs.get(&id)?;
        self.ready.remove(&entry.place);
        *self
            .at_work
            .entry(entry.place.owner().to_owned())
            .or_default() += 1;
        self.claiming.insert(id);
        Some(id)
    }

    /// Gives a job back that could not be claimed, or whose claim is not known to have come about.
    pub(crate) fn unchoose(&mut self, id: JobId) {
        if !self.claiming.remove(&id) {
            return;
        }
        if let Some(entry) = self.jobs.get(&id) {
            self.ready.insert(&entry.place);
            let owner = entry.place.owner().to_owned();
            self.rest(&owner);
        }
    }

    /// Puts those whose time has come among those that are to be had. Says whether there were any:
    /// then all who wait are to be woken, for the job may be of a kind that the caller does not do.
    pub(crate) fn let_come_due(&mut self, now: Instant) -> bool {
        let mut some = false;
        while let Some((due, id)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.remove(&(due, id));
            if let Some(entry) = self.jobs.get_mut(&id) {
                entry.due = None;
                self.ready.insert(&entry.place);
                some = true;
            }
        }
        some
    }

    /// Renews a lease; none when the token's claim does not stand.
    pub(crate) fn beat(&mut self, id: JobId, token: u64, now: Instant) -> Option<Held> {
        let entry = self.jobs.get_mut(&id)?;
        let hold = entry.hold.as_mut().filter(|hold| hold.token == token)?;
        if let Some(deadline) = hold.deadline {
            // One that has run out, but that nobody was told of yet, is lost all the same.
            if deadline <= now {
                return None;
            }
            self.leases.remove(&(deadline, id));
            hold.deadline = Some(now + hold.lease);
            self.leases.insert((now + hold.lease, id));
        }
        Some(Held {
            lease: hold.lease,
            cancel_requested: entry.cancel_requested,
        })
    }

    /// Whether the token's claim stands, and whether it is to stop.
    pub(crate) fn held(&self, id: JobId, token: u64) -> Option<Held> {
        let entry = self.jobs.get(&id)?;
        let hold = entry.hold.as_ref().filter(|hold| hold.token == token)?;
        Some(Held {
            lease: hold.lease,
            cancel_requested: entry.cancel_requested,
        })
    }

    /// Has a lease run out at an instant, whatever it was.
    pub(crate) fn let_run_out(&mut self, id: JobId, at: Instant) {
        let Some(hold) = self.jobs.get_mut(&id).and_then(|entry| entry.hold.as_mut()) else {
            return;
        };
        if let Some(deadline) = hold.deadline.replace(at) {
            self.leases.remove(&(deadline, id));
        }
        self.leases.insert((at, id));
    }

    /// The claims that have run out, each with its token.
    pub(crate) fn run_out(&self, now: Instant) -> Vec<(JobId, u64)> {
        let over = self
            .leases
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        let token = |id: &JobId| Some(self.jobs.get(id)?.hold?.token);
        over.filter_map(|(_, id)| Some((*id, token(id)?))).collect()
    }

    /// When the next lease runs out, or the next retry comes due.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let firsts = [self.later.first(), self.leases.first()];
        firsts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// How many wait now, wait for their next try, and are at work.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.ready.len(), self.later.len(), self.held)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len() + self.later.len()
    }
}

#[cfg(test)]
mod tests;
