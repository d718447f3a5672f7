//! Documents on the wire.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use stemma_domain::access::Sight;
use stemma_domain::document::{Chunk, Document, Stage};
use stemma_domain::job::{Job, JobStatus};
use stemma_domain::resource::Descriptor;
use utoipa::ToSchema;

use crate::wire::job::JobError;
use crate::wire::resource::ResourceBody;

/// A document as it goes over the wire: the resource that it is, and how far its steps are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DocumentBody {
    /// The resource.
    #[serde(flatten)]
    pub resource: ResourceBody,
    /// The file's name, made safe.
    pub file_name: String,
    /// The media type that the sender named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_media_type: Option<String>,
    /// How its text is cut.
    pub chunking: Value,
    /// Each step, by its name.
    pub steps: BTreeMap<String, StepBody>,
    /// How many chunks it has, once it is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_count: Option<u64>,
    /// What failed, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureBody>,
    /// Jobs about it that are not ended.
    pub active_jobs: Vec<String>,
    /// When it came.
    pub uploaded_at: String,
    /// Who sent it.
    pub uploaded_by: String,
}

/// How far a step of a document is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct StepBody {
    /// `pending`, `processing`, `completed` or `failed`.
    pub status: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// What can be counted of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Value>,
    /// What went less well than it should have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// A try at a step that failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FailureBody {
    /// The step.
    pub stage: String,
    /// The job.
    pub job_id: String,
    /// Which attempt of it.
    pub attempt: u32,
    /// Why.
    pub error: JobError,
    /// When.
    pub failed_at: String,
}

/// A chunk as it goes over the wire.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChunkBody {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its place among the chunks, from 0.
    pub index: u32,
    /// Where it begins, in code points of the document's text.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Its text.
    pub text: String,
    /// The headings that it stands under, the highest first.
    pub headings: Vec<String>,
    /// The page that it begins on, if the document has pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
}

/// What an upload is answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UploadBody {
    /// The job that processes it.
    pub job_id: String,
    /// The document.
    pub document_id: String,
    /// The status of the job.
    pub status: String,
    /// What is going on, for people.
    pub message: String,
    /// When the job was queued.
    pub created_at: String,
    /// Whether the document was there already, and nothing is done again.
    pub deduplicated: bool,
}

impl DocumentBody {
    /// A document with the jobs about it that are not ended.
    pub(crate) fn of(
        descriptor: &Descriptor,
        document: &Document,
        jobs: &[Job],
        sight: &Sight,
    ) -> Self {
        let chunk = document.stages.get(&Stage::Chunk);
        Self {
            resource: ResourceBody::of(descriptor, sight),
            file_name: document.file_name.as_str().to_owned(),
            declared_media_type: document
                .declared_media_type
                .as_ref()
                .map(|media_type| media_type.as_str().to_owned()),
            chunking: serde_json::to_value(document.chunking).unwrap_or_default(),
            steps: steps_of(document, jobs),
            chunk_count: chunk.and_then(|chunk| chunk.figures.get("chunk_count")?.as_u64()),
            failures: failures_of(document),
            active_jobs: jobs.iter().map(|job| job.id.to_string()).collect(),
            uploaded_at: document.uploaded_at.to_string(),
            uploaded_by: document.uploaded_by.clone(),
        }
    }
}

/// The steps of a document, by their names, with the jobs about it that are not ended.
pub(crate) fn steps_of(document: &Document, jobs: &[Job]) -> BTreeMap<String, StepBody> {
    let at_work = jobs
        .iter()
        .filter(|job| job.status == JobStatus::Processing)
        .find_map(|job| Some((stage_at_work(document, job)?, job)));
    let step = |stage: Stage| (stage.name().to_owned(), step_body(document, stage, at_work));
    Stage::ALL.into_iter().map(step).collect()
}

/// What failed of a document, the latest last.
pub(crate) fn failures_of(document: &Document) -> Vec<FailureBody> {
    document.failures.iter().map(FailureBody::from).collect()
}

/// The step that a job is at.
fn stage_at_work(document: &Document, job: &Job) -> Option<Stage> {
    let asked = job.payload.get("step").and_then(Value::as_str);
    let Some(step) = asked else {
        return document.next_stage();
    };
    let stage: Stage = step.parse().ok()?;
    // What this very job has done already is not at work any more.
    let done = document.stages.get(&stage);
    done.is_none_or(|done| done.job_id != job.id)
        .then_some(stage)
}

fn step_body(document: &Document, stage: Stage, at_work: Option<(Stage, &Job)>) -> StepBody {
    let mut body = StepBody {
        status: "pending".to_owned(),
        started_at: None,
        completed_at: None,
        figures: None,
        warnings: Vec::new(),
        error: None,
    };
    if let Some((_, job)) = at_work.filter(|(at, _)| *at == stage) {
        "processing".clone_into(&mut body.status);
        let before = stage
            .before()
            .filter_map(|before| document.stages.get(&before));
        let claimed = job.claim.as_ref().map(|claim| claim.claimed_at);
        let began = before.map(|done| done.completed_at).chain(claimed).max();
        body.started_at = began.map(|began| began.to_string());
        return body;
    }
    if let Some(done) = document.stages.get(&stage) {
        "completed".clone_into(&mut body.status);
        let took = i64::try_from(done.took_ms)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000);
        let began = done.completed_at.micros().saturating_sub(took);
        let began = stemma_domain::time::Timestamp::from_micros(began);
        body.started_at = Some(began.to_string());
        body.completed_at = Some(done.completed_at.to_string());
        body.figures = Some(Value::Object(done.figures.clone()));
        body.warnings.clone_from(&done.warnings);
        return body;
    }
    if let Some(failure) = document.failure_of(stage) {
        "failed".clone_into(&mut body.status);
        body.completed_at = Some(failure.failed_at.to_string());
        body.error = Some(JobError::from(&failure.error));
    }
    body
}

impl From<&stemma_domain::document::StageFailure> for FailureBody {
    fn from(failure: &stemma_domain::document::StageFailure) -> Self {
        Self {
            stage: failure.stage.name().to_owned(),
            job_id: failure.job_id.to_string(),
            attempt: failure.attempt,
            error: JobError::from(&failure.error),
            failed_at: failure.failed_at.to_string(),
        }
    }
}

impl From<(Chunk, String)> for ChunkBody {
    fn from((chunk, text): (Chunk, String)) -> Self {
        Self {
            id: chunk.id,
            index: chunk.index,
            start: chunk.start,
            end: chunk.end,
            text,
            headings: chunk.headings,
            page: chunk.page,
        }
    }
}
