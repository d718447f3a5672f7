//! `decide`: from a job's state and a command to the events that follow, or a refusal.
//!
//! Pure: times and waits are handed in. Invariant: only the holder of the claim that stands says
//! what becomes of an attempt; everyone else is told that the lease is lost.

use super::state::{Claim, Job, JobStatus};
use crate::event::{
    Event, JobCancelRequested, JobCancelled, JobClaimed, JobCompleted, JobError, JobFailed,
    JobQueued, JobReleased, JobRetried, JobRetryScheduled, Metadata,
};
use crate::time::Timestamp;
use crate::value::WorkerName;

/// Most bytes of a job's payload, as JSON.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a job's result, as JSON.
pub const RESULT_BYTES_MAX: usize = 256 * 1024;

/// The code of a failure by a worker that was not heard of within its lease.
pub const WORKER_LOST: &str = "WORKER_LOST";
/// How often a job that has retries is taken over from lost workers at least, for it is seldom the
/// job's fault; a job that brings each of its workers down ends all the same. Retries after
/// failures are held against [`Job::max_retries`] apart from that.
pub const LOST_RETRIES_MAX: u32 = 10;

/// A request to change one job; it may be refused.
#[derive(Debug, Clone, PartialEq)]
pub enum JobCommand {
    /// Ask for work.
    Queue(JobQueued),
    /// Take it on.
    Claim {
        /// Who does.
        worker: WorkerName,
        /// How long the lease lasts without a heartbeat.
        lease_ms: u64,
        /// The present instant: a job that waits for its next try is not to be had before it.
        now: Timestamp,
    },
    /// Nothing, but on condition that the claim stands: what is written in the same batch is
    /// written by its holder, or not at all.
    Hold {
        /// The fencing token.
        token: u64,
    },
    /// Say that the work is done.
    Complete {
        /// The fencing token.
        token: u64,
        /// What came of it.
        result: Metadata,
        /// What went less well than it should have.
        warnings: Vec<String>,
    },
    /// Say that the work is done, of a job that nobody had to take on.
    CompleteUnclaimed {
        /// What came of it.
        result: Metadata,
    },
    /// Say that the attempt failed.
    Fail {
        /// The fencing token.
        token: u64,
        /// Why.
        error: JobError,
        /// When to try again, if it is to be.
        retry_at: Timestamp,
    },
    /// Give it back untried.
    Release {
        /// The fencing token.
        token: u64,
        /// Why.
        reason: String,
    },
    /// Stop it.
    Cancel,
    /// Say that the attempt was stopped, as it was asked to.
    ConfirmCancel {
        /// The fencing token.
        token: u64,
    },
    /// Have one that ended without success tried anew.
    Retry,
}

/// Why a command to a job is refused. Nothing is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobRefusal {
    /// There is no such job.
    #[error("there is no such job")]
    NotFound,
    /// The id is taken.
    #[error("a job with this id exists")]
    AlreadyExists,
    /// The claim that the token names does not stand any more.
    #[error("the lease is lost: the job is with another worker, or has ended")]
    LeaseLost,
    /// A worker is at it, it has ended, or its time has not come.
    #[error("the job is {0}, and is not to be had")]
    NotClaimable(&'static str),
    /// It has ended.
    #[error("the job is {0} already")]
    Ended(&'static str),
    /// It has not ended, or ended well.
    #[error("the job is {0}: only one that failed or was cancelled is tried anew")]
    NotRetryable(&'static str),
}

/// Decides what follows from a command. No events mean that everything is already as it was asked.
///
/// # Errors
/// [`JobRefusal`].
pub fn decide(state: Option<&Job>, command: JobCommand) -> Result<Vec<Event>, JobRefusal> {
    match (command, state) {
        (JobCommand::Queue(queued), None) => Ok(vec![Event::JobQueued(queued)]),
        (_, None) => Err(JobRefusal::NotFound),
        (command, Some(job)) => decide_change(job, command),
    }
}

fn decide_change(job: &Job, command: JobCommand) -> Result<Vec<Event>, JobRefusal> {
    match command {
        JobCommand::Queue(_) => Err(JobRefusal::AlreadyExists),
        JobCommand::Claim {
            worker,
            lease_ms,
            now,
        } => decide_claim(job, worker, lease_ms, now),
        JobCommand::Hold { token } => holder(job, token).map(|_| Vec::new()),
        JobCommand::Complete {
            token,
            result,
            warnings,
        } => {
            holder(job, token)?;
            Ok(vec![Event::JobCompleted(JobCompleted { result, warnings })])
        }
        JobCommand::CompleteUnclaimed { result } => {
            if job.claim.is_some() || job.status.is_ended() {
                return Err(JobRefusal::NotClaimable(job.status.name()));
            }
            let warnings = Vec::new();
            Ok(vec![Event::JobCompleted(JobCompleted { result, warnings })])
        }
        JobCommand::Fail {
            token,
            error,
            retry_at,
        } => {
            holder(job, token)?;
            Ok(vec![decide_failed(job, error, retry_at)])
        }
        JobCommand::Release { token, reason } => {
            holder(job, token)?;
            let is_unwanted = job.cancel_requested;
            Ok(vec![if is_unwanted {
                Event::JobCancelled(JobCancelled {})
            } else {
                Event::JobReleased(JobReleased { reason })
            }])
        }
        JobCommand::Cancel if job.status.is_ended() => Err(JobRefusal::Ended(job.status.name())),
        JobCommand::Cancel if job.cancel_requested => Ok(Vec::new()),
        JobCommand::Cancel if job.claim.is_some() => {
            Ok(vec![Event::JobCancelRequested(JobCancelRequested {})])
        }
        JobCommand::Cancel => Ok(vec![Event::JobCancelled(JobCancelled {})]),
        JobCommand::ConfirmCancel { token } => {
            holder(job, token)?;
            Ok(vec![Event::JobCancelled(JobCancelled {})])
        }
        JobCommand::Retry => match job.status {
            JobStatus::Failed | JobStatus::Cancelled => Ok(vec![Event::JobRetried(JobRetried {})]),
            other => Err(JobRefusal::NotRetryable(other.name())),
        },
    }
}

/// The claim that stands, if it is the one that the token names.
fn holder(job: &Job, token: u64) -> Result<&Claim, JobRefusal> {
    let claim = job.claim.as_ref().filter(|claim| claim.token == token);
    claim.ok_or(JobRefusal::LeaseLost)
}

fn decide_claim(
    job: &Job,
    worker: WorkerName,
    lease_ms: u64,
    now: Timestamp,
) -> Result<Vec<Event>, JobRefusal> {
    let is_waiting = matches!(job.status, JobStatus::Queued | JobStatus::Retrying);
    let is_due = job.retry_at.is_none_or(|retry_at| retry_at <= now);
    if !is_waiting || !is_due {
        return Err(JobRefusal::NotClaimable(job.status.name()));
    }
    Ok(vec![Event::JobClaimed(JobClaimed {
        attempt: job.attempts + 1,
        lease_ms,
        worker,
    })])
}

fn decide_failed(job: &Job, error: JobError, retry_at: Timestamp) -> Event {
    let attempt = job.attempts;
    if job.cancel_requested {
        return Event::JobCancelled(JobCancelled {});
    }
    let retries = job.retries();
    let lost_max = match job.max_retries {
        0 => 0,
        most => most.max(LOST_RETRIES_MAX),
    };
    let (used, most) = if error.code == WORKER_LOST {
        (retries.lost, lost_max)
    } else {
        (retries.failed, job.max_retries)
    };
    if error.transient && used < most {
        return Event::JobRetryScheduled(JobRetryScheduled {
            attempt,
            error,
            retry_at,
        });
    }
    Event::JobFailed(JobFailed { attempt, error })
}
