//! Jobs: list, look at, follow, cancel.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use stemma_domain::id::ResourceId;

use crate::error::{ApiError, Code};
use crate::jobs::{Job, JobBody};
use crate::page::Page;
use crate::query::Query;
use crate::state::AppState;

const STATUSES: [&str; 6] = [
    "queued",
    "processing",
    "retrying",
    "completed",
    "failed",
    "cancelled",
];

/// `GET /api/jobs`
pub(crate) async fn list(
    request: HttpRequest,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let limit = query.limit(state.options());
    let status = query.read("status", "a status of jobs", |text| {
        STATUSES.contains(&text).then(|| text.to_owned())
    });
    let kind = query.one("type");
    let cursor = query.one("cursor");
    let wait = query.min_position(state.options());
    query.finish()?;
    // Jobs are no view, and are told of also where the views are not well.
    if wait.position.is_some() {
        state.views_at(wait).await?;
    }
    let jobs = state.jobs().list(status.as_deref(), kind.as_deref());
    let behind = match cursor {
        None => 0,
        Some(last) => {
            let place = jobs.iter().position(|job| job.id == last);
            place.ok_or_else(|| ApiError::of(Code::InvalidCursor))? + 1
        }
    };
    let items: Vec<JobBody> = jobs.iter().skip(behind).take(limit).cloned().collect();
    let has_more = jobs.len() > behind + items.len();
    let next_cursor = items.last().filter(|_| has_more).map(|job| job.id.clone());
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

/// The job of this id.
fn find(state: &AppState, id: &str) -> Result<Job, ApiError> {
    // Ids of jobs are made as those of resources are.
    id.parse::<ResourceId>()
        .map_err(|_| ApiError::new(Code::InvalidId, "expected the id of a job, a UUID"))?;
    state.jobs().find(id)
}

/// `GET /api/jobs/{id}`, also `…/status`
pub(crate) async fn get(
    request: HttpRequest,
    id: Path<String>,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let body = find(&state, &id)?.body();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(body))
}

/// `POST /api/jobs/{id}/cancel`
pub(crate) async fn cancel(
    request: HttpRequest,
    id: Path<String>,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let job = find(&state, &id)?;
    job.cancel()?;
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(job.body()))
}

/// `GET /api/jobs/{id}/events/stream`: `progress` whenever it tells of itself, then `completed`,
/// `failed` or `cancelled`, which ends the stream.
pub(crate) async fn follow(
    request: HttpRequest,
    id: Path<String>,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let options = &state.options().sse;
    let open = state.metrics().open_stream(options.streams_max);
    let open = open.ok_or_else(|| ApiError::of(Code::TooManyStreams))?;
    let changes = find(&state, &id)?.follow();
    let shutdown = state.shutdown().follow();
    let heartbeat = std::time::Duration::from_millis(options.heartbeat_ms);
    let first = Some(format!("retry: {}\n\n", options.retry_ms));
    let frames = stream::unfold(
        Some((changes, shutdown, first, true, open)),
        move |following| async move {
            let (mut changes, mut shutdown, first, is_new, open) = following?;
            if let Some(first) = first {
                let next = Some((changes, shutdown, None, true, open));
                return Some((Ok::<_, ApiError>(Bytes::from(first)), next));
            }
            if !is_new {
                tokio::select! {
                    changed = changes.changed() => changed.ok()?,
                    changed = shutdown.changed() => {
                        changed.ok()?;
                        return Some((Ok(Bytes::from_static(b": the server stops\n\n")), None));
                    }
                    () = tokio::time::sleep(heartbeat) => {
                        let beat = Bytes::from_static(b": heartbeat\n\n");
                        return Some((Ok(beat), Some((changes, shutdown, None, false, open))));
                    }
                }
            }
            let body = changes.borrow_and_update().clone();
            let name = match body.status.as_str() {
                ended @ ("completed" | "failed" | "cancelled") => ended,
                _ => "progress",
            };
            let data = serde_json::to_string(&body).expect("a job is plain data");
            let frame = Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
            let next = (name == "progress").then_some((changes, shutdown, None, false, open));
            Some((Ok(frame), next))
        },
    );
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, "text/event-stream"));
    response.insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.streaming(frames))
}
