//! What came of jobs since this process has the queue: counted as the views tell of their ends.

use std::sync::atomic::{AtomicU64, Ordering};

use stemma_domain::job::{Job, JobStatus};
use stemma_domain::time::Timestamp;

/// Upper bounds of the buckets for the times of jobs, in milliseconds.
pub const BOUNDS_MS: [u64; 9] = [
    100, 500, 1000, 5000, 15_000, 60_000, 180_000, 600_000, 3_600_000,
];

/// Times, by how long they are.
#[derive(Debug, Default)]
struct Times {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

/// Times, as they were counted: by [`BOUNDS_MS`], those beyond last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimesTold {
    /// How many there are in each bucket.
    pub counts: [u64; BOUNDS_MS.len() + 1],
    /// Their sum, in milliseconds.
    pub sum_ms: u64,
}

/// What came of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TotalsTold {
    /// Jobs that are done.
    pub completed: u64,
    /// Jobs that failed for good.
    pub failed: u64,
    /// Jobs that were stopped.
    pub cancelled: u64,
    /// Attempts that failed and are to be tried again.
    pub retried: u64,
    /// Leases that ran out: workers that were not heard of any more.
    pub leases_lost: u64,
    /// From when jobs were asked for to when the first try began.
    pub waiting: TimesTold,
    /// From when the first try began to the end, of those that are done.
    pub processing: TimesTold,
}

#[derive(Debug, Default)]
pub(crate) struct Totals {
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    retried: AtomicU64,
    leases_lost: AtomicU64,
    waiting: Times,
    processing: Times,
}

fn between_ms(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to.micros() - from.micros()) / 1000).unwrap_or(0)
}

impl Times {
    fn add(&self, ms: u64) {
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound);
        let bucket = bucket.unwrap_or(BOUNDS_MS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn told(&self) -> TimesTold {
        let mut told = TimesTold {
            sum_ms: self.sum_ms.load(Ordering::Relaxed),
            ..TimesTold::default()
        };
        for (told, count) in told.counts.iter_mut().zip(&self.counts) {
            *told = count.load(Ordering::Relaxed);
        }
        told
    }
}

impl Totals {
    /// Counts a job that changed, by what it is now.
    pub(crate) fn count(&self, job: &Job) {
        let counter = match job.status {
            JobStatus::Completed => &self.completed,
            JobStatus::Failed => &self.failed,
            JobStatus::Cancelled => &self.cancelled,
            JobStatus::Retrying => &self.retried,
            JobStatus::Queued | JobStatus::Processing => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let (JobStatus::Completed, Some(started), Some(completed)) =
            (job.status, job.started_at, job.completed_at)
        else {
            return;
        };
        self.waiting.add(between_ms(job.created_at, started));
        self.processing.add(between_ms(started, completed));
    }

    pub(crate) fn lose_lease(&self) {
        self.leases_lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn told(&self) -> TotalsTold {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TotalsTold {
            completed: of(&self.completed),
            failed: of(&self.failed),
            cancelled: of(&self.cancelled),
            retried: of(&self.retried),
            leases_lost: of(&self.leases_lost),
            waiting: self.waiting.told(),
            processing: self.processing.told(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let times = Times::default();
        for ms in [0, 100, 101, 4_000_000] {
            times.add(ms);
        }
        let told = times.told();
        assert_eq!((told.counts[0], told.counts[1], told.counts[9]), (2, 1, 1));
        assert_eq!(told.sum_ms, 4_000_201);
    }
}
