//! Events: pages of the log, one by its digest, the history of a resource or an annotation.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;
use stemma_domain::access::Sight;
use stemma_domain::id::ResourceId;
use stemma_event_log::{
    Direction, EventDigest, Position, ReadLimit, Record, Revision, StreamId, StreamRange,
};
use stemma_views::Seen;

use super::annotations::annotation_id;
use super::resources::{find, reflecting, resource_id};
use crate::accept;
use crate::access::BY_CALLER;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::query::Query;
use crate::sse::Filter;
use crate::state::AppState;
use crate::tenants::Served;
use crate::wire::event::{Grants, render, render_cloud_event};

const JSON: &str = "application/json";
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";
/// Records that one page looks at, at the most.
const PAGE_RECORDS_MAX: usize = 10_000;
/// Records read at a time.
const STEP: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 4 << 20,
};

/// Bytes of events that fill a page, however few they are; one is always given.
pub(super) const PAGE_BYTES_MAX: usize = 16 << 20;

/// A page in the course of being filled.
#[derive(Default)]
struct Filling {
    items: Vec<Record>,
    bytes: usize,
    /// What `cursor` is to be for the next page.
    next: Option<u64>,
}

impl Filling {
    fn push(&mut self, record: Record) {
        self.bytes += record.bytes().len();
        self.items.push(record);
    }

    fn is_full(&self, limit: usize) -> bool {
        self.items.len() >= limit || self.bytes >= PAGE_BYTES_MAX
    }
}

/// `GET /api/events`
pub(crate) async fn list(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let limit = query.limit(state.options());
    let after = query.read("after", "a position, or start", after);
    let cursor = query.number("cursor").map(Some);
    let stream = query.read("stream", "a stream's name", |text| StreamId::new(text).ok());
    let filter = Filter::read(&mut query);
    query.finish()?;
    let media_type = accept::choose(&request, &[JSON, CLOUD_EVENTS])?;
    let at = state.views_at(wait).await?;
    let end = state.reader().end().get();
    let from = cursor
        .or(after)
        .flatten()
        .map_or(0, |after| after.saturating_add(1));
    let page = match stream {
        Some(stream) => page_of_stream(&state, &stream, from, limit, filter).await?,
        None => page_of_log(&state, from, limit, filter).await?,
    };
    let response = reflecting(StatusCode::OK, at.position().max(end.checked_sub(1)));
    send(response, &page, media_type, &context, &state.seen())
}

/// `start`, or a position.
#[expect(clippy::option_option, reason = "the inner one is an answer")]
pub(crate) fn after(text: &str) -> Option<Option<u64>> {
    if text == "start" {
        return Some(None);
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().map(Some)
}

async fn page_of_log(
    state: &Served,
    from: u64,
    limit: usize,
    mut filter: Filter,
) -> Result<Filling, ApiError> {
    let mut page = Filling::default();
    let (mut next, mut looked_at) = (from, 0);
    loop {
        let step = if filter.takes_all() {
            STEP.records.min(limit + 1)
        } else {
            STEP.records
        };
        let records = state.reader().read(
            Position::new(next),
            ReadLimit {
                records: step,
                ..STEP
            },
        )?;
        let Some(last) = records.last() else {
            return Ok(page);
        };
        let seen = state.seen_after(last.position().get() + 1).await?;
        for record in records {
            if page.is_full(limit) || looked_at == PAGE_RECORDS_MAX {
                page.next = next.checked_sub(1);
                return Ok(page);
            }
            next = record.position().get() + 1;
            looked_at += 1;
            let is_wanted = filter.takes_all() || filter.takes(&record, state.commands()).await?;
            if is_wanted && seen.shows(&record)? {
                let are_all = filter.takes_all() && seen.is_everything();
                page.push(if are_all { record } else { record.detached() });
            }
        }
        // Others have their turn before more is looked at.
        tokio::task::yield_now().await;
    }
}

async fn page_of_stream(
    state: &Served,
    stream: &StreamId,
    from: u64,
    limit: usize,
    mut filter: Filter,
) -> Result<Filling, ApiError> {
    let mut page = Filling::default();
    let mut revision = state.reader().revision_from(stream, Position::new(from))?;
    let resource = ResourceId::from_stream_name(stream.as_str());
    let (mut last, mut looked_at) = (from.checked_sub(1), 0);
    loop {
        let range = StreamRange {
            from: revision,
            direction: Direction::Forward,
            limit: STEP,
        };
        let records = state.reader().read_stream(stream, range)?;
        let Some(newest) = records.last() else {
            return Ok(page);
        };
        revision = newest.revision().next();
        let seen = state.seen_after(newest.position().get() + 1).await?;
        // Of what is hidden nothing is told, not where it ends nor how long it is.
        if let Some(id) = resource
            && !seen.is_everything()
            && !seen.sees(id)?
        {
            return Ok(page);
        }
        for record in records {
            if !seen.shows(&record)? {
                continue;
            }
            if page.is_full(limit) || looked_at == PAGE_RECORDS_MAX {
                page.next = last;
                return Ok(page);
            }
            last = Some(record.position().get());
            looked_at += 1;
            if filter.takes_all() {
                page.push(record);
            } else if filter.takes(&record, state.commands()).await? {
                page.push(record.detached());
            }
        }
        // Others have their turn before more is looked at.
        tokio::task::yield_now().await;
    }
}

fn send(
    mut response: actix_web::HttpResponseBuilder,
    page: &Filling,
    media_type: &'static str,
    context: &Context,
    seen: &Seen,
) -> Result<HttpResponse, ApiError> {
    response.insert_header((CONTENT_TYPE, media_type));
    let next = page
        .next
        .map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
    if media_type == CLOUD_EVENTS {
        let events = page.items.iter().map(|record| {
            let grants = Grants::for_whom(record, seen)?;
            Ok(render_cloud_event(record, context.base(), grants))
        });
        let events: Vec<String> = events.collect::<Result<_, ApiError>>()?;
        if page.next.is_some() {
            response.insert_header(("stemma-next-cursor", next.trim_matches('"')));
        }
        return Ok(response.body(format!("[{}]", events.join(","))));
    }
    let events = page.items.iter();
    let events = events.map(|record| Ok(render(record, Grants::for_whom(record, seen)?)));
    let events: Vec<String> = events.collect::<Result<_, ApiError>>()?;
    Ok(response.body(format!(
        r#"{{"items":[{}],"next_cursor":{next}}}"#,
        events.join(",")
    )))
}

/// `GET /api/events/{digest}`
pub(crate) async fn get(
    request: HttpRequest,
    digest: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let digest: EventDigest = digest
        .parse()
        .map_err(|error: stemma_event_log::DigestError| {
            ApiError::new(Code::InvalidId, error.to_string())
        })?;
    state.views_at(wait).await?;
    let position = state.reader().position_of(&digest)?;
    let record = position
        .map(|position| state.reader().read_one(position))
        .transpose()?
        .flatten();
    let record = record.ok_or_else(|| ApiError::of(Code::EventNotFound))?;
    let seen = state.seen_after(record.position().get() + 1).await?;
    if !seen.shows(&record)? {
        return Err(ApiError::of(Code::EventNotFound));
    }
    let mut response = reflecting(StatusCode::OK, Some(record.position().get()));
    response.insert_header((CONTENT_TYPE, JSON));
    response.insert_header((CACHE_CONTROL, "private, max-age=31536000, immutable"));
    response.insert_header((VARY, BY_CALLER));
    let grants = Grants::for_whom(&record, &seen)?;
    Ok(response.body(render(&record, grants)))
}

/// `GET /api/resources/{id}/events`
pub(crate) async fn of_resource(
    request: HttpRequest,
    id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let limit = query.limit(state.options());
    let after_revision = query.number("after_revision");
    let cursor = query.number("cursor");
    let order = query.read("order", "asc or desc", |text| match text {
        "asc" => Some(Direction::Forward),
        "desc" => Some(Direction::Backward),
        _ => None,
    });
    query.finish()?;
    let media_type = accept::choose(&request, &[JSON, CLOUD_EVENTS])?;
    let at = state.views_at(wait).await?;
    find(&at, id)?;
    let direction = order.unwrap_or(Direction::Forward);
    let page = history(&state, id, direction, after_revision, cursor, limit)?;
    let seen = still_seen(&state, id, &page).await?;
    let response = reflecting(StatusCode::OK, at.position());
    send(response, &page, media_type, &context, &seen)
}

/// A page of a resource's events. `after` leaves out what is older, `cursor` what was given.
fn history(
    state: &AppState,
    id: ResourceId,
    direction: Direction,
    after: Option<u64>,
    cursor: Option<u64>,
    limit: usize,
) -> Result<Filling, ApiError> {
    let stream = stream_of(id)?;
    let from = match (direction, cursor) {
        (Direction::Forward, cursor) => cursor
            .max(after)
            .map_or(0, |revision| revision.saturating_add(1)),
        (Direction::Backward, None) => u64::MAX,
        (Direction::Backward, Some(0)) => {
            return Ok(Filling::default());
        }
        (Direction::Backward, Some(cursor)) => cursor - 1,
    };
    let range = StreamRange {
        from: Revision::new(from),
        direction,
        limit: ReadLimit {
            records: limit + 1,
            bytes: PAGE_BYTES_MAX,
        },
    };
    let mut items = state.reader().read_stream(&stream, range)?;
    let is_cut = range.limit.is_reached_by(&items);
    let n_read = items.len();
    if direction == Direction::Backward {
        items.retain(|record| after.is_none_or(|after| record.revision().get() > after));
    }
    let has_more = is_cut && items.len() == n_read;
    let mut page = Filling::default();
    for record in items.into_iter().take(limit) {
        page.push(record);
    }
    let last = page.items.last().filter(|_| has_more);
    page.next = last.map(|record| record.revision().get());
    Ok(page)
}

/// The views as of the last of these events: a resource that was lost meanwhile is not there.
async fn still_seen(state: &Served, id: ResourceId, page: &Filling) -> Result<Seen, ApiError> {
    let ends = page.items.iter().map(|record| record.position().get() + 1);
    let seen = state.seen_after(ends.max().unwrap_or(0)).await?;
    if *seen.sight() != Sight::Everything && !seen.sees(id)? {
        return Err(ApiError::of(Code::ResourceNotFound));
    }
    Ok(seen)
}

pub(crate) fn stream_of(id: ResourceId) -> Result<StreamId, ApiError> {
    StreamId::new(id.stream_name()).map_err(|error| ApiError::of(Code::Internal).because(&error))
}

/// `GET /api/resources/{id}/annotations/{aid}/history`
pub(crate) async fn of_annotation(
    request: HttpRequest,
    place: Path<(String, String)>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let (id, annotation_id) = (resource_id(&place.0)?, annotation_id(&place.1)?);
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let limit = query.limit(state.options());
    let cursor = query.number("cursor");
    query.finish()?;
    let media_type = accept::choose(&request, &[JSON, CLOUD_EVENTS])?;
    let at = state.views_at(wait).await?;
    find(&at, id)?;
    let stream = stream_of(id)?;
    let wanted = annotation_id.to_string();
    let mut page = Filling::default();
    let mut revision = Revision::new(cursor.map_or(0, |cursor| cursor.saturating_add(1)));
    'pages: loop {
        let range = StreamRange {
            from: revision,
            direction: Direction::Forward,
            limit: STEP,
        };
        let records = state.reader().read_stream(&stream, range)?;
        let Some(newest) = records.last() else { break };
        revision = newest.revision().next();
        for record in records
            .into_iter()
            .filter(|record| is_of_annotation(record, &wanted))
        {
            if page.is_full(limit) {
                page.next = page
                    .items
                    .last()
                    .map(|record: &Record| record.revision().get());
                break 'pages;
            }
            page.push(record.detached());
        }
        // Others have their turn before more is looked at.
        tokio::task::yield_now().await;
    }
    if page.items.is_empty() && cursor.is_none() {
        return Err(ApiError::of(Code::AnnotationNotFound));
    }
    let seen = still_seen(&state, id, &page).await?;
    let response = reflecting(StatusCode::OK, at.position());
    send(response, &page, media_type, &context, &seen)
}

fn is_of_annotation(record: &Record, wanted: &str) -> bool {
    if !record.event_type().starts_with("annotation.") {
        return false;
    }
    let data: Result<Value, _> = serde_json::from_slice(record.data());
    data.is_ok_and(|data| data["annotation_id"] == wanted)
}
