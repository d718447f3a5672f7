//! `evolve`: the state of a job as a fold of its events.
//!
//! Invariant: at most one claim stands at a time, and its fencing token is the revision of the
//! event that made it; whoever names another token has lost the job.

use serde::{Deserialize, Serialize};

use super::decide::WORKER_LOST;
use crate::event::{Envelope, Event, JobError, JobQueued, Metadata};
use crate::id::{JobId, ResourceId};
use crate::time::Timestamp;
use crate::value::{JobKind, WorkerName};

/// Most attempts that a job remembers, the latest of them.
pub const HISTORY_MAX: usize = 32;

/// What a job is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It waits for a worker.
    Queued,
    /// A worker is at it.
    Processing,
    /// An attempt failed; it waits for the next.
    Retrying,
    /// It is done.
    Completed,
    /// It failed for good: a dead letter.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// A worker's hold on a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The fencing token: the revision of the claim.
    pub token: u64,
    /// Who holds it.
    pub worker: WorkerName,
    /// How long without a heartbeat.
    pub lease_ms: u64,
    /// When it was taken.
    pub claimed_at: Timestamp,
}

/// One try that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// Who tried.
    pub worker: WorkerName,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it failed; none where it did not: done, stopped, or given back untried.
    pub error: Option<JobError>,
}

/// Retries of a job, by what ended the try before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// After a failure.
    pub failed: u32,
    /// After a worker that was lost.
    pub lost: u32,
}

/// A job as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its identity.
    pub id: JobId,
    /// What kind of work it is.
    pub kind: JobKind,
    /// What is asked.
    pub payload: Metadata,
    /// Jobs with more of it are done first.
    pub priority: i32,
    /// How often it is tried again.
    pub max_retries: u32,
    /// The document that it is about.
    pub document_id: Option<ResourceId>,
    /// Who asked for it.
    pub owner: String,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// The revision of its last event.
    pub revision: u64,
    /// The position of its first event, by which those of equal priority are ordered.
    pub queued_position: u64,
    /// What it is at.
    pub status: JobStatus,
    /// Tries begun so far, those before a person's retry included.
    pub attempts: u32,
    /// Retries since it was queued, or since a person had it tried anew, those after a worker that
    /// was lost included.
    pub retry_count: u32,
    /// Who is at it, while somebody is.
    pub claim: Option<Claim>,
    /// Whether it is to stop.
    pub cancel_requested: bool,
    /// When the next try may begin, while it waits for one.
    pub retry_at: Option<Timestamp>,
    /// Why it last failed; gone once it is done.
    pub error: Option<JobError>,
    /// What came of it.
    pub result: Option<Metadata>,
    /// What went less well than it should have.
    pub warnings: Vec<String>,
    /// The tries that are over, at most [`HISTORY_MAX`] of the latest.
    pub history: Vec<Attempt>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its last event was recorded.
    pub updated_at: Timestamp,
    /// When the first try began.
    pub started_at: Option<Timestamp>,
    /// When it ended, however it did.
    pub completed_at: Option<Timestamp>,
}

/// An event that does not fit the state of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event_type} at revision {revision} does not fit a job that {state}")]
pub struct JobEvolveError {
    /// The event's type.
    pub event_type: &'static str,
    /// Its revision.
    pub revision: u64,
    /// What the job is at.
    pub state: String,
}

impl JobStatus {
    /// Every status, in the order of their names' first use.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Processing,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The status as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more comes by itself.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl std::str::FromStr for JobStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.name() == text).ok_or(())
    }
}

impl Job {
    /// The resources that it is about: its document, and what the payload of one of the server's
    /// own kinds names.
    pub fn resources(&self) -> Vec<ResourceId> {
        let mut resources: Vec<ResourceId> = self.document_id.into_iter().collect();
        if self.kind.as_str().starts_with("resource.") {
            let named = self.payload.get("resource_id");
            let context = self.payload.get("context").and_then(|list| list.as_array());
            let texts = named.into_iter().chain(context.into_iter().flatten());
            resources.extend(texts.filter_map(|id| id.as_str()?.parse::<ResourceId>().ok()));
        }
        resources
    }

    /// Its retries, told apart; of a job that has not ended. One after a try that is no more
    /// remembered (there are at most [`HISTORY_MAX`]) counts as both.
    pub fn retries(&self) -> Retries {
        let known = usize::try_from(self.retry_count).unwrap_or(usize::MAX);
        // Each try that failed before a retry is there with its error, those given back have none.
        let errors = self.history.iter().rev().filter_map(|a| a.error.as_ref());
        let (mut failed, mut lost) = (0, 0);
        for error in errors.take(known) {
            if error.code == WORKER_LOST {
                lost += 1;
            } else {
                failed += 1;
            }
        }
        Retries {
            failed: self.retry_count - lost,
            lost: self.retry_count - failed,
        }
    }

    /// The state after the first event of a stream.
    ///
    /// # Errors
    /// [`JobEvolveError`] when the event is not one that queues.
    pub fn start(envelope: &Envelope<'_>, event: &Event) -> Result<Self, JobEvolveError> {
        match event {
            Event::JobQueued(queued) if envelope.revision == 0 => {
                Ok(Self::queued(envelope, queued))
            }
            other => Err(JobEvolveError {
                event_type: other.type_name(),
                revision: envelope.revision,
                state: "is not there".to_owned(),
            }),
        }
    }

    fn queued(envelope: &Envelope<'_>, queued: &JobQueued) -> Self {
        Self {
            id: queued.id,
            kind: queued.kind.clone(),
            payload: queued.payload.clone(),
            priority: queued.priority,
            max_retries: queued.max_retries,
            document_id: queued.document_id,
            owner: envelope.actor.to_owned(),
            trace_id: queued.trace_id.clone(),
            revision: envelope.revision,
            queued_position: envelope.position,
            status: JobStatus::Queued,
            attempts: 0,
            retry_count: 0,
            claim: None,
            cancel_requested: false,
            retry_at: None,
            error: None,
            result: None,
            warnings: Vec::new(),
            history: Vec::new(),
            created_at: envelope.recorded_at,
            updated_at: envelope.recorded_at,
            started_at: None,
            completed_at: None,
        }
    }

    /// Applies the stream's next event.
    ///
    /// # Errors
    /// [`JobEvolveError`]; the state is unchanged then.
    pub fn evolve(&mut self, envelope: &Envelope<'_>, event: &Event) -> Result<(), JobEvolveError> {
        let misfit = |job: &Self| JobEvolveError {
            event_type: event.type_name(),
            revision: envelope.revision,
            state: format!("is {} at revision {}", job.status.name(), job.revision),
        };
        if envelope.revision != self.revision + 1 {
            return Err(misfit(self));
        }
        let now = envelope.recorded_at;
        match event {
            Event::JobClaimed(claimed) if self.claim.is_none() && !self.status.is_ended() => {
                self.attempts = claimed.attempt;
                self.status = JobStatus::Processing;
                self.retry_at = None;
                self.started_at.get_or_insert(now);
                self.claim = Some(Claim {
                    token: envelope.revision,
                    worker: claimed.worker.clone(),
                    lease_ms: claimed.lease_ms,
                    claimed_at: now,
                });
            }
            Event::JobReleased(_) if self.claim.is_some() => {
                self.end_attempt(now, None);
                // It was not tried, so it does not count.
                self.attempts = self.attempts.saturating_sub(1);
                self.status = JobStatus::Queued;
            }
            Event::JobRetryScheduled(scheduled) if self.claim.is_some() => {
                self.end_attempt(now, Some(&scheduled.error));
                self.retry_count += 1;
                self.retry_at = Some(scheduled.retry_at);
                self.status = JobStatus::Retrying;
            }
            Event::JobCompleted(completed) if !self.status.is_ended() => {
                self.end_attempt(now, None);
                self.error = None;
                self.result = Some(completed.result.clone());
                self.warnings.clone_from(&completed.warnings);
                self.end(JobStatus::Completed, now);
            }
            Event::JobFailed(failed) if !self.status.is_ended() => {
                self.end_attempt(now, Some(&failed.error));
                self.error = Some(failed.error.clone());
                self.end(JobStatus::Failed, now);
            }
            Event::JobCancelRequested(_) if self.claim.is_some() => self.cancel_requested = true,
            Event::JobCancelled(_) if !self.status.is_ended() => {
                self.end_attempt(now, None);
                self.end(JobStatus::Cancelled, now);
            }
            Event::JobRetried(_) if self.status.is_ended() => {
                self.status = JobStatus::Queued;
                self.retry_count = 0;
                self.cancel_requested = false;
                self.completed_at = None;
            }
            _ => return Err(misfit(self)),
        }
        self.revision = envelope.revision;
        self.updated_at = now;
        Ok(())
    }

    fn end_attempt(&mut self, now: Timestamp, error: Option<&JobError>) {
        let Some(claim) = self.claim.take() else {
            return;
        };
        if let Some(error) = error {
            self.error = Some(error.clone());
        }
        if self.history.len() == HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(Attempt {
            attempt: self.attempts,
            worker: claim.worker,
            started_at: claim.claimed_at,
            ended_at: now,
            error: error.cloned(),
        });
    }

    fn end(&mut self, status: JobStatus, now: Timestamp) {
        self.status = status;
        self.retry_at = None;
        self.completed_at = Some(now);
    }
}
