//! The tries at the stages of a document that one job made, as the log has them.
//!
//! What is remembered with a document is how it stands: a stage that was done again, or anew,
//! leaves nothing of the try before. Invariant: each event of a stage is told under the job that
//! recorded it, and under no other.

use serde::Serialize;
use stemma_domain::document::{Stage, stream_name};
use stemma_domain::event::{Event, decode};
use stemma_domain::id::ResourceId;
use stemma_domain::job::Job;
use stemma_domain::time::Timestamp;
use stemma_event_log::{Direction, ReadLimit, Reader, Record, Revision, StreamId, StreamRange};
use stemma_views::Seen;
use utoipa::ToSchema;

use crate::error::{ApiError, Code};
use crate::wire::job::JobError;

/// Most records that are looked at for one trace, over all its jobs and their documents.
pub(super) const STAGE_RECORDS_MAX: usize = 20_000;
/// Records that are read at a time.
const STEP: ReadLimit = ReadLimit {
    records: 500,
    bytes: 4 << 20,
};

/// A try at a stage that is over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TracedStageBody {
    /// The stage.
    pub(crate) stage: String,
    /// `completed` or `failed`.
    pub(crate) status: String,
    /// Which attempt of the job it was; left out where the log tells of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// When it began: as whoever did it measured; else when what came before it in its attempt was
    /// recorded, the stage before or the claim, so that it began no earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<String>,
    /// When its outcome was recorded.
    pub(crate) ended_at: String,
    /// How long it was worked on, by the clock of whoever did; left out where nobody measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) took_ms: Option<u64>,
    /// Where the outcome stands in the log.
    pub(crate) position: u64,
    /// Who did it.
    pub(crate) worker: String,
    /// What went less well than it should have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<JobError>,
}

/// The outcome of a stage, as its event tells it.
struct Outcome {
    stage: Stage,
    took_ms: Option<u64>,
    warnings: Vec<String>,
    /// The attempt, where the event names it, and why it failed.
    failed: Option<(u32, JobError)>,
}

/// A claim of the job.
struct Claimed {
    position: u64,
    at: Timestamp,
    attempt: u32,
}

/// All tries of a job at stages of its document, in the order of their ends, as far as the views
/// hold them; and whether these are all. `left` is how many records may still be looked at.
pub(super) fn stages_of(
    reader: &Reader,
    views: &Seen,
    (job, document): (&Job, ResourceId),
    left: &mut usize,
) -> Result<(Vec<TracedStageBody>, bool), ApiError> {
    let first = job.queued_position;
    let (of_job, knows_claims) = records(reader, &job.id.stream_name(), first, left)?;
    let (of_document, is_complete) = records(reader, &stream_name(document), first, left)?;
    let claims = claims_of(&of_job)?;
    let mut stages = Vec::new();
    let mut before: Option<(u64, Timestamp)> = None;
    for record in &of_document {
        let position = record.position().get();
        if position >= views.end() {
            break;
        }
        let Some(outcome) = outcome_of(record, job)? else {
            continue;
        };
        let claimed = claims.partition_point(|claim| claim.position < position);
        let claim = claimed.checked_sub(1).map(|latest| &claims[latest]);
        // The stage before, if it was of the same attempt.
        let stage_before = before.filter(|(at, _)| claim.is_none_or(|claim| *at > claim.position));
        let known = stage_before.map(|(_, ended)| ended);
        let known = known.or(claim.map(|claim| claim.at));
        let body = body(record, outcome, claim, known);
        before = Some((position, Timestamp::from_micros(record.recorded_at_us())));
        stages.push(body);
    }
    Ok((stages, knows_claims && is_complete))
}

fn claims_of(records: &[Record]) -> Result<Vec<Claimed>, ApiError> {
    let mut claims = Vec::new();
    for record in records {
        if let Event::JobClaimed(claimed) = event_of(record)? {
            claims.push(Claimed {
                position: record.position().get(),
                at: Timestamp::from_micros(record.recorded_at_us()),
                attempt: claimed.attempt,
            });
        }
    }
    Ok(claims)
}

fn body(
    record: &Record,
    outcome: Outcome,
    claim: Option<&Claimed>,
    known: Option<Timestamp>,
) -> TracedStageBody {
    let ended = Timestamp::from_micros(record.recorded_at_us());
    let measured = outcome.took_ms.map(|took| {
        let took = i64::try_from(took).unwrap_or(i64::MAX).saturating_mul(1000);
        Timestamp::from_micros(ended.micros().saturating_sub(took))
    });
    let (attempt, error) = outcome.failed.unzip();
    TracedStageBody {
        stage: outcome.stage.name().to_owned(),
        status: if error.is_some() {
            "failed"
        } else {
            "completed"
        }
        .to_owned(),
        attempt: attempt.or(claim.map(|claim| claim.attempt)),
        started_at: measured.or(known).map(|at| at.to_string()),
        ended_at: ended.to_string(),
        took_ms: outcome.took_ms,
        position: record.position().get(),
        worker: record.actor().to_owned(),
        warnings: outcome.warnings,
        error,
    }
}

/// The outcome that a record tells of, if it is one that this job recorded.
fn outcome_of(record: &Record, job: &Job) -> Result<Option<Outcome>, ApiError> {
    Ok(match event_of(record)? {
        Event::DocumentStageCompleted(completed) if completed.job_id == job.id => Some(Outcome {
            stage: completed.stage,
            took_ms: Some(completed.took_ms),
            warnings: completed.warnings,
            failed: None,
        }),
        Event::DocumentStageFailed(failed) if failed.job_id == job.id => Some(Outcome {
            stage: failed.stage,
            took_ms: failed.took_ms,
            warnings: Vec::new(),
            failed: Some((failed.attempt, JobError::from(&failed.error))),
        }),
        _ => None,
    })
}

fn event_of(record: &Record) -> Result<Event, ApiError> {
    let event = decode(record.event_type(), record.schema_version(), record.data());
    event.map_err(|error| ApiError::of(Code::Internal).because(&error))
}

/// The records of a stream from a position on, in their order, and whether these are all: of more
/// than are looked at, the oldest are left out.
fn records(
    reader: &Reader,
    stream: &str,
    first: u64,
    left: &mut usize,
) -> Result<(Vec<Record>, bool), ApiError> {
    let stream = StreamId::new(stream);
    let stream = stream.map_err(|error| ApiError::of(Code::Internal).because(&error))?;
    let mut found = Vec::new();
    let mut next = Some(Revision::new(u64::MAX));
    while let Some(from) = next {
        if *left == 0 {
            break;
        }
        let page = reader.read_stream(
            &stream,
            StreamRange {
                from,
                direction: Direction::Backward,
                limit: ReadLimit {
                    records: STEP.records.min(*left),
                    ..STEP
                },
            },
        )?;
        *left -= page.len();
        let oldest = page.last().filter(|oldest| oldest.position().get() > first);
        next = oldest.and_then(|oldest| oldest.revision().get().checked_sub(1).map(Revision::new));
        let is_of_it = |record: &Record| record.position().get() >= first;
        found.extend(page.into_iter().filter(is_of_it));
    }
    found.reverse();
    Ok((found, next.is_none()))
}
