//! The payloads of a job's events, in the stream `job-<id>`.
//!
//! Invariant: fields are declared in the order of their JSON names, as in `payload`.

use serde::{Deserialize, Serialize};

use super::payload::Metadata;
use crate::id::{JobId, ResourceId};
use crate::time::Timestamp;
use crate::value::{JobKind, WorkerName};

/// Work was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobQueued {
    /// The document that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<ResourceId>,
    /// Its identity.
    pub id: JobId,
    /// How often it is tried again after failures that another try may mend.
    pub max_retries: u32,
    /// What is asked, for whoever does it.
    pub payload: Metadata,
    /// Jobs with more of it are done first; 0 is usual.
    pub priority: i32,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub kind: JobKind,
}

/// A worker took the job on: from here on it alone may say what becomes of it, for as long as the
/// lease lasts. This event's revision is the fencing token of the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobClaimed {
    /// Which try this is, from 1.
    pub attempt: u32,
    /// How long the lease lasts without a heartbeat.
    pub lease_ms: u64,
    /// Who took it.
    pub worker: WorkerName,
}

/// The worker gave the job back untried; another takes it on at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReleased {
    /// Why.
    pub reason: String,
}

/// The attempt failed, and another is to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRetryScheduled {
    /// The attempt that failed.
    pub attempt: u32,
    /// Why it failed.
    pub error: JobError,
    /// When the next one may begin.
    pub retry_at: Timestamp,
}

/// The work is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobCompleted {
    /// What came of it.
    pub result: Metadata,
    /// What went less well than it should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The work failed for good: it stays, as a dead letter, for a person to retry or leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailed {
    /// The attempt that failed; 0 where none began.
    pub attempt: u32,
    /// Why.
    pub error: JobError,
}

/// Somebody wants the job to stop while a worker is at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCancelRequested {}

/// The job was stopped, or never began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCancelled {}

/// A person has a job that ended without success tried anew, with all its retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRetried {}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable code, in upper snake case.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// What was being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Whether another try may mend it.
    pub transient: bool,
}
