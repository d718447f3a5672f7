//! Content: the bytes of a resource, in whole and in ranges; and new ones.
//!
//! Invariant: bytes are given out only after they were checked against their digest, and nothing
//! that a browser would run is given out so that it runs as ours.

use std::ops::Range;
use std::sync::Arc;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE, RANGE, VARY,
};
use actix_web::web::{Bytes, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::{Stream, stream};
use stemma_commands::{AsOf, EntityTag};
use stemma_content_store::{Blob, Digest};
use stemma_domain::id::ContentDigest;
use stemma_domain::resource::{Command, Descriptor};
use stemma_domain::value::MediaType;

use super::grants::check_writable;
use super::resources::{changed, find, past, reflecting, resource_id};
use crate::access::BY_CALLER;
use crate::body::{self, blocking, essence};
use crate::conditional::{digest_tag, is_held, must_match, parse_tags, precondition};
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::idempotency;
use crate::json::{Fields, checked};
use crate::query::Query;
use crate::range::{Wanted, wanted};
use crate::state::AppState;
use crate::tenants::Served;
use crate::write::Write;

/// Types that a browser would run as a page; they are handed out as files.
const ACTIVE_TYPES: [&str; 5] = [
    "text/html",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/xml",
    "application/xml",
];
/// Nothing in handed-out content may run, load or frame.
const POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

/// `GET /api/resources/{id}/content`
pub(crate) async fn get(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let revision = query.number("revision");
    query.finish()?;
    let at = state.views_at(wait).await?;
    let descriptor = match revision {
        None => find(&at, id)?.as_ref().clone(),
        Some(revision) => past(&state, &at, id, AsOf::Revision(revision)).await?,
    };
    let mut response = reflecting(StatusCode::OK, at.position());
    head(&mut response, &descriptor, revision.is_some());
    let own = EntityTag::Digest(descriptor.digest);
    must_match(&request, own)?;
    if is_held(&request, own)? {
        return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
    }
    let digest = Digest::from_bytes(*descriptor.digest.as_bytes());
    let content = state.content().clone();
    let blob = content.open_blob(&digest)?;
    let blob = blob.ok_or_else(|| ApiError::of(Code::ContentDamaged))?;
    match ranges(&request, &descriptor, &state) {
        Wanted::Whole => {
            let whole = 0..descriptor.byte_size;
            send(&request, &mut response, blob, whole, &state).await
        }
        Wanted::Unsatisfiable => {
            let error = ApiError::of(Code::RangeNotSatisfiable);
            let length = format!("bytes */{}", descriptor.byte_size);
            let length =
                HeaderValue::from_str(&length).map_err(|_| ApiError::of(Code::Internal))?;
            Err(error.with_header(CONTENT_RANGE, length))
        }
        Wanted::Ranges(ranges) => match ranges.as_slice() {
            [(start, count)] => {
                response.status(StatusCode::PARTIAL_CONTENT);
                let span = *start..start + count;
                response.insert_header((CONTENT_RANGE, content_range(&span, descriptor.byte_size)));
                send(&request, &mut response, blob, span, &state).await
            }
            many => Ok(send_parts(&mut response, &descriptor, blob, many, &state)),
        },
    }
}

fn head(response: &mut HttpResponseBuilder, descriptor: &Descriptor, is_of_revision: bool) {
    response.insert_header((CONTENT_TYPE, descriptor.media_type.as_str()));
    response.insert_header((ETAG, digest_tag(&descriptor.digest)));
    response.insert_header((ACCEPT_RANGES, "bytes"));
    response.insert_header((CONTENT_SECURITY_POLICY, POLICY));
    let cache = if is_of_revision {
        "private, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    response.insert_header((CACHE_CONTROL, cache));
    response.insert_header((VARY, BY_CALLER));
    if ACTIVE_TYPES.contains(&descriptor.media_type.essence().as_str()) {
        response.insert_header((CONTENT_DISPOSITION, "attachment"));
    }
}

/// What is asked for; with an `If-Range` that does not hold, the whole.
fn ranges(request: &HttpRequest, descriptor: &Descriptor, state: &AppState) -> Wanted {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    // Ranges are for GET alone (RFC 9110, section 14.2).
    let is_get = request.method() == actix_web::http::Method::GET;
    let Some(range) = header(RANGE).filter(|_| is_get) else {
        return Wanted::Whole;
    };
    if let Some(condition) = header(IF_RANGE) {
        let own = (EntityTag::Digest(descriptor.digest), false);
        if parse_tags(condition).is_none_or(|tags| tags != [own]) {
            return Wanted::Whole;
        }
    }
    wanted(range, descriptor.byte_size, state.options().ranges_max)
}

fn content_range(span: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", span.start, span.end - 1)
}

/// Sends a span of content: a short one in one piece, a long one chunk by chunk.
async fn send(
    request: &HttpRequest,
    response: &mut HttpResponseBuilder,
    blob: Blob,
    span: Range<u64>,
    state: &AppState,
) -> Result<HttpResponse, ApiError> {
    let length = span.end - span.start;
    if request.method() == actix_web::http::Method::HEAD {
        response.insert_header((CONTENT_LENGTH, length));
        return Ok(response.body(Sized {
            length,
            chunks: stream::empty(),
        }));
    }
    if length <= state.options().content_inline_bytes_max as u64 {
        let whole = blob.read_at(span.start, in_memory(length))?;
        return Ok(response.body(whole));
    }
    // The first chunk comes before the head: where it is damaged, that can still be told.
    let chunk_bytes = state.options().content_chunk_bytes as u64;
    let (blob, first) = read_chunk(Arc::new(blob), span.start, chunk_bytes.min(length)).await?;
    let rest = span.start + first.len() as u64..span.end;
    let first = stream::iter([Ok(first)]);
    let chunks = futures_util::StreamExt::chain(first, chunks(blob, rest, chunk_bytes));
    Ok(response.body(Sized {
        length,
        chunks: Box::pin(chunks),
    }))
}

async fn read_chunk(
    blob: Arc<Blob>,
    start: u64,
    count: u64,
) -> Result<(Arc<Blob>, Bytes), ApiError> {
    let (blob, read) = blocking(move || {
        let read = blob.read_at(start, in_memory(count));
        (blob, read)
    })
    .await?;
    Ok((blob, read?))
}

/// Content as a stream; damage breaks it off, so that nobody takes it for the whole.
fn chunks(
    blob: Arc<Blob>,
    span: Range<u64>,
    chunk_bytes: u64,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    stream::try_unfold((blob, span), move |(blob, span)| async move {
        let count = chunk_bytes.min(span.end - span.start);
        if count == 0 {
            return Ok(None);
        }
        let (blob, read) = read_chunk(blob, span.start, count).await?;
        let rest = span.start + count..span.end;
        Ok(Some((read, (blob, rest))))
    })
}

/// A count of bytes that are read at once, which the options keep small.
fn in_memory(count: u64) -> usize {
    usize::try_from(count).expect("a chunk has at most 16 MiB")
}

/// A stream whose length is known, so that clients see progress and find a broken end out.
struct Sized<S> {
    length: u64,
    chunks: S,
}

impl<S: Stream<Item = Result<Bytes, ApiError>> + Unpin> MessageBody for Sized<S> {
    type Error = ApiError;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, ApiError>>> {
        std::pin::Pin::new(&mut self.chunks).poll_next(cx)
    }
}

/// Several ranges as `multipart/byteranges`.
fn send_parts(
    response: &mut HttpResponseBuilder,
    descriptor: &Descriptor,
    blob: Blob,
    ranges: &[(u64, u64)],
    state: &AppState,
) -> HttpResponse {
    let boundary = format!("stemma-{}", state.commands().new_id().simple());
    let total = descriptor.byte_size;
    let mut pieces: Vec<Result<Bytes, Range<u64>>> = Vec::new();
    let mut length = 0;
    for (start, count) in ranges {
        let span = *start..start + count;
        let head = format!(
            "--{boundary}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
            descriptor.media_type,
            content_range(&span, total)
        );
        length += head.len() as u64 + count + 2;
        pieces.push(Ok(head.into()));
        pieces.push(Err(span));
        pieces.push(Ok(Bytes::from_static(b"\r\n")));
    }
    let end = format!("--{boundary}--\r\n");
    length += end.len() as u64;
    pieces.push(Ok(end.into()));
    response.status(StatusCode::PARTIAL_CONTENT);
    let kind = format!("multipart/byteranges; boundary={boundary}");
    response.insert_header((CONTENT_TYPE, kind));
    let chunk_bytes = state.options().content_chunk_bytes as u64;
    let blob = Arc::new(blob);
    let parts = stream::iter(pieces);
    let body = futures_util::StreamExt::flat_map(parts, move |piece| {
        let (text, span) = match piece {
            Ok(text) => (Some(Ok(text)), 0..0),
            Err(span) => (None, span),
        };
        let text = stream::iter(text);
        futures_util::StreamExt::chain(text, chunks(Arc::clone(&blob), span, chunk_bytes))
    });
    response.body(Sized {
        length,
        chunks: Box::pin(body),
    })
}

/// `PUT /api/resources/{id}/content`
pub(crate) async fn put(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    Query::none(request.query_string())?;
    let precondition = precondition(&request)?;
    // Nothing is received for a resource that is not there, or is not theirs to change.
    check_writable(&state.seen(), id, Code::ResourceNotFound)?;
    let (stored, media_type, asked) = if essence(&request).as_deref() == Some("multipart/form-data")
    {
        let upload = body::upload(&request, payload, &state).await?;
        let (metadata, bytes) = upload
            .metadata
            .unwrap_or_else(|| (serde_json::json!({}), Bytes::new()));
        let mut fields = Fields::of(metadata, "/metadata")?;
        let media_type = fields.optional("media_type", checked(MediaType::new));
        fields.finish()?;
        let sent = upload
            .media_type
            .as_deref()
            .and_then(|sent| MediaType::new(sent).ok());
        let asked = [&bytes[..], &upload.described].concat();
        (upload.file, media_type.or(sent), Bytes::from(asked))
    } else {
        let sent = request.headers().get(CONTENT_TYPE).map(|value| {
            let text = value.to_str().unwrap_or_default();
            MediaType::new(text)
                .map_err(|error| ApiError::new(Code::MalformedHeader, error.to_string()))
        });
        let stored = body::receive(payload, body::broken_off, &state).await?;
        (stored, sent.transpose()?, Bytes::new())
    };
    let asked = [&asked[..], stored.digest.as_bytes(), request_type(&request)];
    let key = idempotency::of(&request, &context, &asked)?;
    let digest = ContentDigest::from_bytes(*stored.digest.as_bytes());
    let command = Command::Revise {
        digest,
        byte_size: stored.len,
        media_type,
    };
    let write = Write::one(id, command, precondition)
        .with_key(key)
        .with_pin(stored.pin);
    changed(&context, &state, write).await
}

/// The media type as it was sent, which is part of what is asked; of multipart not its boundary.
fn request_type(request: &HttpRequest) -> &[u8] {
    let sent = request
        .headers()
        .get(CONTENT_TYPE)
        .map_or(&[][..], HeaderValue::as_bytes);
    if sent.starts_with(b"multipart/") {
        &[]
    } else {
        sent
    }
}
