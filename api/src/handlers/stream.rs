//! Streams: all events, or those of one resource, as they come.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};

use super::events::after;
use super::resources::resource_id;
use crate::error::{ApiError, Code};
use crate::query::Query;
use crate::sse::{Filter, Start, Subject, open};
use crate::tenants::Served;

/// `GET /api/events/stream`
pub(crate) async fn all(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    follow(&request, &state, Subject::Everything)
}

/// `GET /api/resources/{id}/events/stream`
pub(crate) async fn of_resource(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    if !state.seen().sees(id)? {
        return Err(ApiError::of(Code::ResourceNotFound));
    }
    follow(&request, &state, Subject::Resource(id))
}

fn follow(
    request: &HttpRequest,
    state: &Served,
    subject: Subject,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wanted = query
        .one("after")
        .map(|text| after(&text).ok_or_else(|| ApiError::of(Code::InvalidPosition)));
    // Who asks is known by now.
    let _ = query.one("ticket");
    let filter = Filter::read(&mut query);
    query.finish()?;
    let wanted = wanted.transpose()?;
    let start = match last_event_id(request) {
        Some(start) => start,
        None => wanted.map_or(Start::Now, Start::After),
    };
    let stream = open(state, subject, filter, start)?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, "text/event-stream"));
    response.insert_header((CACHE_CONTROL, "no-store"));
    response.insert_header(("x-accel-buffering", "no"));
    Ok(response.streaming(stream))
}

/// Where a client that comes back left off. A browser never tries again after a refusal, so what
/// cannot be used is told on the stream.
fn last_event_id(request: &HttpRequest) -> Option<Start> {
    let value: &HeaderValue = request.headers().get("last-event-id")?;
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return None;
    }
    match after(text) {
        Some(start) => Some(Start::After(start)),
        None => Some(Start::Gap("unusable_last_event_id")),
    }
}
