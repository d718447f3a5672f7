//! The story of a trace: what was asked, the events that it caused, and the jobs; and all that
//! failed lately.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use stemma_domain::access::Need;
use stemma_domain::id::JobId;
use stemma_domain::job::{Job, JobStatus};
use stemma_domain::time::Timestamp;
use stemma_event_log::{Position, ReadLimit, Record};
use stemma_views::{JobQuery, Seen, TRACE_WINDOW_US, told_time};
use utoipa::ToSchema;

use crate::body::blocking;
use crate::context::{Context, is_trace_id};
use crate::error::{ApiError, Code};
use crate::handlers::events::PAGE_BYTES_MAX;
use crate::handlers::resources::reflecting;
use crate::handlers::traced_stages::{STAGE_RECORDS_MAX, TracedStageBody, stages_of};
use crate::query::Query;
use crate::requests::{RequestBody, RequestSeen};
use crate::state::AppState;
use crate::tenants::Served;
use crate::wire::document::{FailureBody, StepBody, failures_of, steps_of};
use crate::wire::job::{JobBody, JobError};

/// Most requests, events and jobs of one story, each.
const PARTS_MAX: usize = 500;
/// Records that are read at a time.
const STEP: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 4 << 20,
};
/// Most records that are looked at for those of a trace.
const LOOKED_AT_MAX: u64 = 500_000;
/// Most failed jobs that are looked at for a list of failures.
const JOBS_LOOKED_AT: usize = 1000;

/// What belongs to a trace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TraceBody {
    /// The trace.
    pub(crate) trace_id: String,
    /// Requests, the earliest first; those of the last time alone, since they are in memory.
    pub(crate) requests: Vec<RequestBody>,
    /// Events, in their order.
    pub(crate) events: Vec<TracedEventBody>,
    /// Jobs that were queued, the earliest first, with the documents that they are about.
    pub(crate) jobs: Vec<TracedJobBody>,
    /// Whether that is all there is: a story has at most 500 of each, and 16 MiB of events.
    pub(crate) is_complete: bool,
}

/// An event of a trace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TracedEventBody {
    /// Where it stands in the log.
    pub(crate) position: u64,
    /// The stream that it is of.
    pub(crate) stream: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// When it was recorded.
    pub(crate) recorded_at: String,
    /// Who caused it.
    pub(crate) actor: String,
}

/// A job of a trace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TracedJobBody {
    /// The job.
    #[serde(flatten)]
    pub(crate) job: JobBody,
    /// Its tries at stages of the document that it is about, in the order in which they ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stages: Vec<TracedStageBody>,
    /// The steps of the document as they are now, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) steps: BTreeMap<String, StepBody>,
    /// What of them failed in this job, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<FailureBody>,
}

/// Something that failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// When.
    pub(crate) at: String,
    /// `request` or `job`.
    pub(crate) kind: String,
    /// A stable code.
    pub(crate) code: String,
    /// What happened, for people.
    pub(crate) message: String,
    /// The trace that it belongs to.
    pub(crate) trace_id: String,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<String>,
    /// What the job was doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_id: Option<String>,
    /// The document that the job is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) document_id: Option<String>,
    /// The status of the request's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
}

/// The failures of a list, the latest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorsBody {
    /// The failures.
    pub(crate) items: Vec<ErrorBody>,
}

/// `GET /api/traces/{trace_id}`
pub(crate) async fn get(
    request: HttpRequest,
    trace_id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let trace_id = trace_id.into_inner();
    if !is_trace_id(&trace_id) {
        return Err(ApiError::new(Code::InvalidId, "expected a trace id"));
    }
    let at = state.views_at(wait).await?;
    let (own, views) = (state.clone(), at.views.clone());
    let told = blocking(move || story(&own, &views, &trace_id, &context)).await??;
    let is_empty = told.requests.is_empty() && told.events.is_empty() && told.jobs.is_empty();
    if is_empty {
        return Err(ApiError::of(Code::TraceNotFound));
    }
    Ok(reflecting(StatusCode::OK, at.position()).json(told))
}

fn story(
    state: &AppState,
    views: &Seen,
    trace_id: &str,
    context: &Context,
) -> Result<TraceBody, ApiError> {
    // Whoever is no admin sees what they caused themselves.
    let sees_all = context.caller.may(Need::Administer);
    let is_seen = |actor: &str| sees_all || actor == context.actor;
    let (mut records, mut is_complete) = records_of(state, views, trace_id)?;
    // What the views have yet to be told of they cannot say to whom it may be shown.
    records.retain(|record| sees_all || record.position().get() < views.end());
    let query = JobQuery {
        trace_id: Some(trace_id.to_owned()),
        limit: PARTS_MAX,
        ..JobQuery::default()
    };
    let page = views.jobs(&query)?;
    let (mut jobs, mut left) = (Vec::new(), STAGE_RECORDS_MAX);
    for job in page.items.iter().rev().filter(|job| is_seen(&job.owner)) {
        let (traced, is_whole) = traced_job(state, views, job, &mut left)?;
        is_complete &= is_whole;
        jobs.push(traced);
    }
    // Workers act in the name of whoever queued the job, under names of their own.
    let is_of_a_job = |record: &Record| {
        let own = record.stream().split_once('-').map(|(_, id)| id);
        jobs.iter().any(|traced: &TracedJobBody| {
            own == Some(traced.job.id.as_str()) || own == traced.job.document_id.as_deref()
        })
    };
    let is_event_seen = |record: &&Record| is_seen(record.actor()) || is_of_a_job(record);
    let mut events = Vec::new();
    for record in records.iter().filter(is_event_seen) {
        if views.shows(record)? {
            events.push(traced_event(record));
        }
    }
    let part_of_it = |asked: RequestSeen<'_>| {
        let is_of_it = asked.trace_id == trace_id && is_seen(asked.actor);
        is_of_it.then(|| RequestBody::from(asked))
    };
    let mut requests = state.requests().latest(PARTS_MAX, part_of_it);
    requests.reverse();
    Ok(TraceBody {
        trace_id: trace_id.to_owned(),
        requests,
        events,
        is_complete: is_complete && page.next.is_none(),
        jobs,
    })
}

fn traced_event(record: &Record) -> TracedEventBody {
    TracedEventBody {
        position: record.position().get(),
        stream: record.stream().to_owned(),
        event_type: record.event_type().to_owned(),
        recorded_at: Timestamp::from_micros(record.recorded_at_us()).to_string(),
        actor: record.actor().to_owned(),
    }
}

/// A job, and whether all tries at its stages are told.
fn traced_job(
    state: &AppState,
    views: &Seen,
    job: &Job,
    left: &mut usize,
) -> Result<(TracedJobBody, bool), ApiError> {
    let document = match job.document_id {
        Some(id) => views.document(id)?,
        None => None,
    };
    let mut traced = TracedJobBody {
        job: JobBody::of(job, None),
        stages: Vec::new(),
        steps: BTreeMap::new(),
        failures: Vec::new(),
    };
    let Some(document) = document else {
        return Ok((traced, true));
    };
    let (stages, is_whole) = stages_of(state.reader(), views, (job, document.id), left)?;
    traced.stages = stages;
    traced.steps = steps_of(&document, std::slice::from_ref(job));
    traced.failures = failures_of(&document);
    let own = traced.job.id.as_str();
    traced.failures.retain(|failure| failure.job_id == own);
    Ok((traced, is_whole))
}

/// Records of a trace, as many as there is room for: [`PARTS_MAX`], or as many bytes as fill a page
/// of events. Each has memory of its own, or it would hold all that was read with it.
struct Found {
    records: Vec<Record>,
    bytes: usize,
    /// Whether these are all.
    is_complete: bool,
}

impl Found {
    fn is_full(&self) -> bool {
        self.records.len() >= PARTS_MAX || self.bytes >= PAGE_BYTES_MAX
    }

    fn push(&mut self, record: &Record) {
        self.bytes += record.bytes().len();
        self.records.push(record.detached());
    }
}

/// The records of a trace, in their order, and whether these are all.
fn records_of(
    state: &AppState,
    views: &Seen,
    trace_id: &str,
) -> Result<(Vec<Record>, bool), ApiError> {
    let mut found = Found {
        records: Vec::new(),
        bytes: 0,
        is_complete: true,
    };
    if let Some(told) = told_time(trace_id) {
        by_time(state, trace_id, told, &mut found)?;
    }
    let rows = views.traced(trace_id, PARTS_MAX)?;
    found.is_complete &= rows.len() < PARTS_MAX;
    for first in rows {
        if found.is_full() {
            found.is_complete = false;
            break;
        }
        take_batch(state, first, &mut found)?;
    }
    let mut records = found.records;
    records.sort_by_key(|record| record.position().get());
    Ok((records, found.is_complete))
}

/// Takes in the batch that begins at a position, as far as there is room; its first record tells
/// how many it has.
fn take_batch(state: &AppState, first: u64, found: &mut Found) -> Result<(), ApiError> {
    let (mut next, mut end) = (first, first + 1);
    while next < end {
        let left = usize::try_from(end - next).unwrap_or(usize::MAX);
        let limit = ReadLimit {
            records: left.min(STEP.records),
            ..STEP
        };
        let records = state.reader().read(Position::new(next), limit)?;
        let Some(head) = records.first() else {
            found.is_complete = false;
            return Ok(());
        };
        end = first + u64::from(head.batch_count());
        for record in &records {
            if found.is_full() {
                found.is_complete = false;
                return Ok(());
            }
            next = record.position().get() + 1;
            found.push(record);
        }
    }
    Ok(())
}

/// Looks through the records of the moments behind a trace id's own time.
fn by_time(state: &AppState, trace_id: &str, told: i64, found: &mut Found) -> Result<(), ApiError> {
    let before = state.reader().position_at_time(told.saturating_sub(1))?;
    let first = before.map_or(0, |before| before.get() + 1);
    let mut next = first;
    loop {
        let records = state.reader().read(Position::new(next), STEP)?;
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            next = record.position().get() + 1;
            if record.recorded_at_us() >= told.saturating_add(TRACE_WINDOW_US) {
                return Ok(());
            }
            if next - first > LOOKED_AT_MAX || found.is_full() {
                found.is_complete = false;
                return Ok(());
            }
            if record.trace_id() == trace_id {
                found.push(record);
            }
        }
    }
}

/// `GET /api/errors`
pub(crate) async fn errors(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let limit = query.limit(state.options());
    let kind = query.read("kind", "request or job", |text| {
        ["request", "job"].contains(&text).then(|| text.to_owned())
    });
    let code = query.one("code");
    let before: Option<Timestamp> =
        query.read("before", "a time (RFC 3339)", |text| text.parse().ok());
    query.finish()?;
    let at = state.views_at(wait).await?;
    let is_of = |own: &str| kind.as_ref().is_none_or(|kind| kind == own);
    let fits = |error: &ErrorBody| {
        code.as_ref().is_none_or(|code| error.code == *code)
            && before.is_none_or(|before| error.at < before.to_string())
    };
    let mut items = Vec::new();
    if is_of("request") {
        let failed = |asked: RequestSeen<'_>| {
            let error = of_request(&asked, asked.code?);
            fits(&error).then_some(error)
        };
        items.extend(state.requests().latest(limit, failed));
    }
    if is_of("job") {
        let views = at.views.clone();
        let failed = blocking(move || failed_jobs(&views)).await??;
        items.extend(failed.values().map(of_job).filter(fits));
    }
    items.sort_by(|a, b| b.at.cmp(&a.at));
    items.truncate(limit);
    Ok(reflecting(StatusCode::OK, at.position()).json(ErrorsBody { items }))
}

/// The jobs that failed, and those that wait for their next try, which failed in the one before.
/// These are looked at first: one whose last try fails in between is met.
fn failed_jobs(views: &Seen) -> Result<BTreeMap<JobId, Job>, ApiError> {
    let mut failed = BTreeMap::new();
    for status in [JobStatus::Retrying, JobStatus::Failed] {
        let query = JobQuery {
            status: Some(status),
            limit: JOBS_LOOKED_AT,
            ..JobQuery::default()
        };
        let found = views.jobs(&query)?.items;
        failed.extend(found.into_iter().map(|job| (job.id, job)));
    }
    Ok(failed)
}

fn of_request(request: &RequestSeen<'_>, code: &str) -> ErrorBody {
    ErrorBody {
        at: request.at.to_string(),
        kind: "request".to_owned(),
        code: code.to_owned(),
        message: format!("{} {}", request.method, request.path),
        trace_id: request.trace_id.to_owned(),
        actor: Some(request.actor.to_owned()),
        stage: None,
        job_id: None,
        document_id: None,
        status: Some(request.status),
    }
}

fn of_job(job: &Job) -> ErrorBody {
    let body = JobBody::of(job, None);
    let error = body.error.unwrap_or(JobError {
        code: "UNKNOWN".to_owned(),
        message: body.message,
        stage: None,
        transient: false,
    });
    ErrorBody {
        at: body.completed_at.unwrap_or(body.updated_at),
        kind: "job".to_owned(),
        code: error.code,
        message: error.message,
        trace_id: body.trace_id,
        actor: body.owner,
        stage: error.stage,
        job_id: Some(body.id),
        document_id: body.document_id,
        status: None,
    }
}
