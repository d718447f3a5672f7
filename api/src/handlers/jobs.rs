//! Jobs: queue, list, look at, follow, cancel, retry.
//!
//! Jobs are read from the views, with what their workers told laid over; an operator's job that
//! this process runs is told of as it runs, also where the log took no note of it.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use actix_web::web::{Bytes, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream;
use serde_json::Value;
use stemma_domain::access::{Need, Sight};
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::job::{Job, JobCommand, JobStatus, PAYLOAD_BYTES_MAX};
use stemma_domain::value::JobKind;
use stemma_event_log::Idempotency;
use stemma_jobs::{Asking, NewJob, Watching};
use stemma_pipeline::stages::is_as_admin;
use stemma_views::{JobQuery, Seen};
use tokio::sync::watch;

use crate::body::{self, blocking};
use crate::conditional::no_precondition;
use crate::context::{Context, is_trace_id};
use crate::error::{ApiError, Code};
use crate::handlers::grants::check_writable;
use crate::handlers::resources::reflecting;
use crate::idempotency;
use crate::jobs::{Job as OwnJob, JobBody};
use crate::json::{Fields, checked, natural, object};
use crate::metrics::OpenStream;
use crate::page::Page;
use crate::query::Query;
use crate::state::AppState;
use crate::tenants::Served;
use crate::write::answer;

/// Most retries that a client may ask for.
const RETRIES_MAX: u64 = 100;
/// Most and least priority.
const PRIORITY_MAX: i32 = 1000;
/// Why a job is changed under no condition.
const NO_TAG: &str = "a job has no tag; what does not fit its status is refused by itself";

/// `GET /api/jobs`
pub(crate) async fn list(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let page = query.page(state.options(), state.cursors());
    let status: Option<JobStatus> =
        query.read("status", "a status of jobs", |text| text.parse().ok());
    let kind = query.read("type", "a type of jobs", |text| JobKind::new(text).ok());
    let document_id: Option<ResourceId> =
        query.read("document_id", "the id of a document", |text| {
            text.parse().ok()
        });
    let trace_id = query.read("trace_id", "a trace id", |text| {
        is_trace_id(text).then(|| text.to_owned())
    });
    query.finish()?;
    let asked = JobQuery {
        status,
        kind: kind.clone(),
        document_id,
        trace_id,
        limit: page.limit,
        after: page.after,
    };
    let at = state.views_at(wait).await?;
    let (views, query) = (at.views.clone(), asked.clone());
    let found = blocking(move || views.jobs(&query)).await??;
    let next_cursor = found.next.as_ref().map(|cursor| state.cursor(cursor));
    let mut items: Vec<JobBody> = found.items.iter().map(|job| body_of(&state, job)).collect();
    if asked.after.is_none() && document_id.is_none() && asked.trace_id.is_none() {
        let status = status.map(JobStatus::name);
        let kind = kind.as_ref().map(JobKind::as_str);
        let own = state.jobs().list(status, kind, tells_of_server(&state));
        let unrecorded = own
            .into_iter()
            .filter(|own| items.iter().all(|item| item.id != own.id))
            .filter(|own| is_unrecorded(&at.views, &own.id));
        let mut all: Vec<JobBody> = unrecorded.collect();
        all.append(&mut items);
        all.sort_by(|a, b| b.id.cmp(&a.id));
        items = all;
    }
    Ok(reflecting(StatusCode::OK, at.position()).json(Page { items, next_cursor }))
}

/// Whether jobs of the whole server are told of beside those of the tenant: to those who may do
/// everything. From the first token on its operator has a route for them.
fn tells_of_server(state: &AppState) -> bool {
    state.access().registry().is_unused()
}

/// A job that this process began.
fn own_job(state: &AppState, id: JobId) -> Option<OwnJob> {
    let own = state.jobs().find(&id.to_string())?;
    (!own.is_of_server() || tells_of_server(state)).then_some(own)
}

fn is_unrecorded(views: &Seen, id: &str) -> bool {
    let id = id.parse::<JobId>();
    id.is_ok_and(|id| views.job(id).is_ok_and(|job| job.is_none()))
}

/// A job as it goes over the wire: of one that runs here, as it runs.
fn body_of(state: &AppState, job: &Job) -> JobBody {
    match own_job(state, job.id) {
        Some(own) => own_body(&own, Some(job)),
        None => JobBody::of(job, state.documents().queue.told(job.id)),
    }
}

/// A job that this process began, beside what the views have of it. Its end is recorded before its
/// thread says so itself: what the views hold is never told as less than they hold.
fn own_body(own: &OwnJob, recorded: Option<&Job>) -> JobBody {
    match recorded {
        Some(job) if own.is_running() && job.status.is_ended() => JobBody::of(job, None),
        _ => own.body(),
    }
}

pub(crate) fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::new(Code::InvalidId, "expected the id of a job, a UUID"))
}

/// The job of this id, as the views have it, if what it is about is seen.
fn find(state: &AppState, views: &Seen, id: JobId) -> Result<JobBody, ApiError> {
    let recorded = views.job(id);
    if let Some(own) = own_job(state, id) {
        // An operator's jobs are told of also where the views are not well.
        return Ok(own_body(&own, recorded.ok().flatten().as_ref()));
    }
    let job = recorded?.ok_or_else(|| ApiError::of(Code::JobNotFound))?;
    Ok(body_of(state, &job))
}

/// `GET /api/jobs/{id}`, also `…/status`
pub(crate) async fn get(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let id = job_id(&id)?;
    let at = state.views_at(wait).await?;
    let job = find(&state, &at.views, id)?;
    Ok(reflecting(StatusCode::OK, at.position())
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(job))
}

/// `POST /api/jobs`
pub(crate) async fn submit(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    no_precondition(&request, "what is asked for is made anew and has no tag")?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let kind = fields.required("type", checked(JobKind::new));
    let asked = fields.optional("payload", object);
    let priority = fields.optional("priority", |value| {
        priority_of(&value).ok_or("expected a whole number from -1000 to 1000")
    });
    let max_retries = fields.optional("max_retries", |value| {
        let retries = natural(value)
            .ok()
            .filter(|retries| *retries <= RETRIES_MAX);
        let retries = retries.and_then(|retries| u32::try_from(retries).ok());
        retries.ok_or("expected a whole number from 0 to 100")
    });
    let is_ours = kind.as_ref().is_some_and(is_of_the_server);
    if is_ours {
        fields.problem(
            "type",
            "RESERVED",
            "jobs of this type are queued by their own routes",
        );
    }
    let asked = asked.unwrap_or_default();
    let size = serde_json::to_vec(&asked).map_or(0, |bytes| bytes.len());
    if size > PAYLOAD_BYTES_MAX {
        let detail = format!("a payload has at most {PAYLOAD_BYTES_MAX} bytes");
        fields.problem("payload", "TOO_LARGE", detail);
    }
    fields.finish()?;
    let new = NewJob {
        id: JobId::new(state.commands().new_id()),
        kind: kind.ok_or_else(|| ApiError::of(Code::Internal))?,
        payload: asked,
        priority: priority.unwrap_or(0),
        max_retries,
        document_id: None,
        trace_id: context.trace_id.clone(),
    };
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let queue = &state.documents().queue;
    let (job, written) = queue.submit(new, &context.actor, key).await?;
    state.visible(written.end).await?;
    Ok(answer(StatusCode::CREATED, &written)
        .insert_header((LOCATION, format!("/api/jobs/{}", job.id)))
        .json(JobBody::of(&job, None)))
}

/// A priority in its range; 75.0 is a whole number as well.
fn priority_of(value: &Value) -> Option<i32> {
    let whole = |double: f64| double.fract() == 0.0 && double.abs() <= f64::from(PRIORITY_MAX);
    let double = value.as_f64().filter(|double| whole(*double))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and within its range"
    )]
    let priority = double as i32;
    Some(priority)
}

/// Whether jobs of a kind are what an operator has the server do.
fn is_operators(kind: &JobKind) -> bool {
    let is_below = |prefix: &&str| kind.as_str().starts_with(*prefix);
    kind.as_str() == super::backup::KIND || ["rebuild.", "verify"].iter().any(is_below)
}

/// Whether jobs of a kind are the server's own.
fn is_of_the_server(kind: &JobKind) -> bool {
    let ours = ["document.", "resource."];
    is_operators(kind) || ours.iter().any(|prefix| kind.as_str().starts_with(prefix))
}

/// `POST /api/jobs/{id}/cancel`
pub(crate) async fn cancel(
    request: HttpRequest,
    id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    no_precondition(&request, NO_TAG)?;
    let id = job_id(&id)?;
    let key = idempotency::of(&request, &context, &[])?;
    if let Some(own) = own_job(&state, id) {
        may_change(&context, None)?;
        if key.is_some() {
            let detail =
                "an operator's job cannot keep idempotency-key; leave it out. Nothing was done";
            return Err(ApiError::new(Code::MalformedHeader, detail));
        }
        own.cancel()?;
        return Ok(HttpResponse::build(StatusCode::ACCEPTED).json(own.body()));
    }
    change(&state, &context, (id, JobCommand::Cancel), key).await
}

/// `POST /api/jobs/{id}/retry`
pub(crate) async fn retry(
    request: HttpRequest,
    id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    no_precondition(&request, NO_TAG)?;
    let id = job_id(&id)?;
    let key = idempotency::of(&request, &context, &[])?;
    find(&state, &state.seen(), id)?;
    let job = state.commands().job(id)?;
    let document_id = job.as_ref().and_then(|job| job.document_id);
    if context.sight() != Sight::Everything && job.as_ref().is_some_and(is_as_admin) {
        let detail = "it was asked for as an admin, and sees what an admin does: ask for it anew";
        return Err(ApiError::new(Code::RoleMissing, detail));
    }
    let is_own_route =
        own_job(&state, id).is_some() || job.is_some_and(|job| is_operators(&job.kind));
    if is_own_route {
        let detail = "an operator's job is begun again by its own route";
        return Err(ApiError::new(Code::JobNotRetryable, detail));
    }
    // What they may write may have changed since they queued it.
    if let Some(document_id) = document_id {
        check_writable(&state.seen(), document_id, Code::JobNotFound)?;
    }
    change(&state, &context, (id, JobCommand::Retry), key).await
}

/// Refuses those who are neither an admin nor the owner of the job.
fn may_change(context: &Context, owner: Option<&str>) -> Result<(), ApiError> {
    if owner == Some(&context.actor) || context.caller.may(Need::Administer) {
        return Ok(());
    }
    let detail = "the job is somebody else's; an admin may do that";
    Err(ApiError::new(Code::RoleMissing, detail))
}

async fn change(
    state: &Served,
    context: &Context,
    (id, command): (JobId, JobCommand),
    key: Option<Idempotency>,
) -> Result<HttpResponse, ApiError> {
    find(state, &state.seen(), id)?;
    let job = state.commands().job(id)?;
    let job = job.ok_or_else(|| ApiError::of(Code::JobNotFound))?;
    may_change(context, Some(&job.owner))?;
    let asking = Asking {
        actor: &context.actor,
        trace_id: &context.trace_id,
        idempotency: key,
    };
    let queue = &state.documents().queue;
    let (job, written) = queue.command_once(id, command, asking).await?;
    state.visible(written.end).await?;
    // What is answered again under a key is what the log holds, and nothing of what workers told.
    let body = match key {
        Some(_) => JobBody::of(&job, None),
        None => body_of(state, &job),
    };
    Ok(answer(StatusCode::ACCEPTED, &written).json(body))
}

/// Where news of a job come from.
enum News {
    /// From the log and its worker.
    Recorded(JobId, Watching),
    /// From the thread that runs it here.
    Own(watch::Receiver<JobBody>),
}

impl News {
    async fn changed(&mut self) -> bool {
        match self {
            Self::Recorded(_, watching) => watching.changed().await,
            Self::Own(changes) => changes.changed().await.is_ok(),
        }
    }

    fn body(&mut self, state: &Served) -> Result<JobBody, ApiError> {
        match self {
            Self::Recorded(id, watching) => {
                watching.progress();
                find(state, &state.seen(), *id)
            }
            Self::Own(changes) => Ok(changes.borrow_and_update().clone()),
        }
    }
}

/// `GET /api/jobs/{id}/events/stream`: `progress` whenever it tells of itself, then `completed`,
/// `failed` or `cancelled`, which ends the stream.
pub(crate) async fn follow(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    // Who asks is known by now.
    let _ = query.one("ticket");
    query.finish()?;
    let id = job_id(&id)?;
    let place = stream_place(&state)?;
    follow_job(&state, id, place, HttpResponse::Ok())
}

/// A place among the streams of the server. Whoever queues a job to be followed takes it first: one
/// who is refused has no job queued.
pub(crate) fn stream_place(state: &Served) -> Result<OpenStream, ApiError> {
    let place = state.metrics().open_stream(state.options().sse.streams_max);
    place.ok_or_else(|| ApiError::of(Code::TooManyStreams))
}

/// A job as a stream of server-sent events, with the head of the answer as it was begun.
pub(crate) fn follow_job(
    state: &Served,
    id: JobId,
    open: OpenStream,
    mut response: HttpResponseBuilder,
) -> Result<HttpResponse, ApiError> {
    let options = &state.options().sse;
    let news = match own_job(state, id) {
        Some(own) => News::Own(own.follow()),
        None => News::Recorded(id, state.documents().queue.follow(id)),
    };
    // Unknown ids are told of before the stream begins.
    find(state, &state.seen(), id)?;
    let shutdown = state.shutdown().follow();
    let heartbeat = std::time::Duration::from_millis(options.heartbeat_ms);
    let first = Some(format!("retry: {}\n\n", options.retry_ms));
    let state = state.clone();
    let frames = stream::unfold(
        Some((news, shutdown, first, true, open)),
        move |following| {
            let state = state.clone();
            async move {
                let (mut news, mut shutdown, first, is_new, open) = following?;
                if let Some(first) = first {
                    let next = Some((news, shutdown, None, true, open));
                    return Some((Ok::<_, ApiError>(Bytes::from(first)), next));
                }
                if !is_new {
                    tokio::select! {
                        changed = news.changed() => if !changed { return None },
                        changed = shutdown.changed() => {
                            changed.ok()?;
                            return Some((Ok(Bytes::from_static(b": the server stops\n\n")), None));
                        }
                        () = tokio::time::sleep(heartbeat) => {
                            let beat = Bytes::from_static(b": heartbeat\n\n");
                            return Some((Ok(beat), Some((news, shutdown, None, false, open))));
                        }
                    }
                }
                let body = news.body(&state).ok()?;
                let name = match body.status.as_str() {
                    ended @ ("completed" | "failed" | "cancelled") => ended.to_owned(),
                    _ => "progress".to_owned(),
                };
                let data = serde_json::to_string(&body).expect("a job is plain data");
                let frame = Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
                let next = (name == "progress").then_some((news, shutdown, None, false, open));
                Some((Ok(frame), next))
            }
        },
    );
    response.insert_header((CONTENT_TYPE, "text/event-stream"));
    response.insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.streaming(frames))
}
