//! Jobs on the wire.

use serde::Serialize;
use serde_json::Value;
use stemma_domain::event::JobError as DomainError;
use stemma_domain::job::{Attempt, Job, JobStatus};
use stemma_domain::time::Timestamp;
use stemma_jobs::Progress;
use utoipa::ToSchema;

/// A job as it goes over the wire.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobBody {
    /// Its identity.
    pub id: String,
    /// What kind of work: `document.process`, `rebuild.views`, `verify`, or one of a client's own.
    #[serde(rename = "type")]
    #[schema(example = "document.process")]
    pub kind: String,
    /// `queued`, `processing`, `retrying`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// 0 to 100.
    pub progress: u8,
    /// What it is doing, for people.
    pub message: String,
    /// What was asked.
    pub payload: Value,
    /// The document that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_id: Option<String>,
    /// Jobs with more of it are done first.
    pub priority: i32,
    /// What came out, once completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed, or why the last attempt did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// What went less well than it should have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Retries so far.
    pub retry_count: u32,
    /// Retries allowed.
    pub max_retries: u32,
    /// When the next try may begin, while it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// Whether it was asked to stop while a worker is at it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
    /// When it was asked for.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who is at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The tries that are over, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptBody>,
}

/// A try at a job that is over.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AttemptBody {
    /// Its number, from 1.
    pub attempt: u32,
    /// Who tried.
    pub worker: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: String,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct JobError {
    /// A stable code.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// What it was doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Whether trying again may help.
    pub transient: bool,
}

impl From<&DomainError> for JobError {
    fn from(error: &DomainError) -> Self {
        Self {
            code: error.code.clone(),
            message: error.message.clone(),
            stage: error.stage.clone(),
            transient: error.transient,
        }
    }
}

impl From<JobError> for DomainError {
    fn from(error: JobError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            stage: error.stage,
            transient: error.transient,
        }
    }
}

impl From<&Attempt> for AttemptBody {
    fn from(attempt: &Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            worker: attempt.worker.as_str().to_owned(),
            started_at: attempt.started_at.to_string(),
            ended_at: attempt.ended_at.to_string(),
            error: attempt.error.as_ref().map(JobError::from),
        }
    }
}

impl JobBody {
    /// A job, with what its worker told.
    pub(crate) fn of(job: &Job, told: Option<Progress>) -> Self {
        let told = told.filter(|_| job.status == JobStatus::Processing);
        let (progress, message) = told_or_known(job, told);
        let time = |instant: &Option<Timestamp>| instant.as_ref().map(ToString::to_string);
        Self {
            id: job.id.to_string(),
            kind: job.kind.as_str().to_owned(),
            status: job.status.name().to_owned(),
            progress,
            message,
            payload: Value::Object(job.payload.clone()),
            document_id: job.document_id.map(|id| id.to_string()),
            priority: job.priority,
            result: job.result.clone().map(Value::Object),
            error: job.error.as_ref().map(JobError::from),
            warnings: job.warnings.clone(),
            retry_count: job.retry_count,
            max_retries: job.max_retries,
            retry_at: time(&job.retry_at),
            cancel_requested: job.cancel_requested && !job.status.is_ended(),
            created_at: job.created_at.to_string(),
            updated_at: job.updated_at.to_string(),
            started_at: time(&job.started_at),
            completed_at: time(&job.completed_at),
            trace_id: job.trace_id.clone(),
            owner: Some(job.owner.clone()),
            worker: job
                .claim
                .as_ref()
                .map(|claim| claim.worker.as_str().to_owned()),
            attempts: job.history.iter().map(AttemptBody::from).collect(),
        }
    }
}

fn told_or_known(job: &Job, told: Option<Progress>) -> (u8, String) {
    if let Some(told) = told
        && !told.message.is_empty()
    {
        return (told.percent, told.message);
    }
    let error = job.error.as_ref().map(|error| error.message.as_str());
    match job.status {
        JobStatus::Queued => (0, "waits for a worker".to_owned()),
        JobStatus::Processing => (0, "a worker is at it".to_owned()),
        JobStatus::Retrying => {
            let error = error.unwrap_or("the last attempt failed");
            (0, format!("waits for its next try: {error}"))
        }
        JobStatus::Completed => (100, "done".to_owned()),
        JobStatus::Failed => (0, error.unwrap_or("failed").to_owned()),
        JobStatus::Cancelled => (0, "cancelled".to_owned()),
    }
}
