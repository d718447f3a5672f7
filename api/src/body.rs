//! Bodies as they come in: JSON in one piece, content as a stream, multipart part by part.
//!
//! Invariant: no more of a body is held in memory than its limit says, and content of any size is
//! held in memory in chunks only.

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Bytes, BytesMut, Payload};
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use stemma_content_store::{Ingest, Stored};

use crate::access::is_denied;
use crate::error::{ApiError, Code, FieldProblem};
use crate::json;
use crate::pace::is_too_slow;
use crate::state::AppState;

/// The media types that a JSON body may have.
const JSON_TYPES: [&str; 3] = [
    "application/json",
    "application/ld+json",
    "application/merge-patch+json",
];

/// The media type of a body, without parameters, in lower case.
pub(crate) fn essence(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// Reads a JSON body and gives it with its bytes.
pub(crate) async fn json(
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
    state: &AppState,
) -> Result<(Value, Bytes), ApiError> {
    let bytes = json_bytes(request, payload, bytes_max).await?;
    let value = json::parse(&bytes, state.options().json_depth_max)?;
    Ok((value, bytes))
}

/// Reads a body that says it is JSON, as it is.
pub(crate) async fn json_bytes(
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<Bytes, ApiError> {
    let is_json = essence(request).is_some_and(|essence| JSON_TYPES.contains(&essence.as_str()));
    if !is_json {
        let detail = "expected a body of type application/json";
        return Err(ApiError::new(Code::UnsupportedMediaType, detail));
    }
    whole(payload, bytes_max).await
}

/// Reads a body that may be left out: nothing is an empty object.
pub(crate) async fn optional_json(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
) -> Result<(Value, Bytes), ApiError> {
    let bytes_max = state.options().json_bytes_max;
    if essence(request).is_some() {
        return json(request, payload, bytes_max, state).await;
    }
    let bytes = whole(payload, bytes_max).await?;
    if bytes.is_empty() {
        return Ok((Value::Object(serde_json::Map::new()), bytes));
    }
    let detail = "expected a body of type application/json, or none";
    Err(ApiError::new(Code::UnsupportedMediaType, detail))
}

/// Reads a body whole.
async fn whole(mut payload: Payload, bytes_max: usize) -> Result<Bytes, ApiError> {
    // Most come in one piece, which is not copied.
    let (mut first, mut body) = (Bytes::new(), BytesMut::new());
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| broken_off(&error))?;
        if first.len() + body.len() + chunk.len() > bytes_max {
            let detail = format!("at most {bytes_max} bytes are taken");
            return Err(ApiError::new(Code::BodyTooLarge, detail));
        }
        if first.is_empty() && body.is_empty() {
            first = chunk;
            continue;
        }
        body.extend_from_slice(&std::mem::take(&mut first));
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        return Ok(first);
    }
    Ok(body.freeze())
}

/// What a body is answered that did not come whole.
pub(crate) fn broken_off(error: &PayloadError) -> ApiError {
    if is_too_slow(error) {
        return ApiError::new(Code::RequestTimeout, "the body came too slowly");
    }
    if is_denied(error) {
        return ApiError::of(Code::TokenInvalid);
    }
    ApiError::of(Code::MalformedRequest).because(error)
}

/// Stores content that comes as a stream, in bounded memory; `broken` says what a failure of the
/// stream is answered.
pub(crate) async fn receive<E>(
    chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
    broken: impl Fn(&E) -> ApiError,
    state: &AppState,
) -> Result<Stored, ApiError> {
    receive_at_most(chunks, broken, state, state.options().content_bytes_max).await
}

/// The same, of at most so many bytes.
pub(crate) async fn receive_at_most<E>(
    mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
    broken: impl Fn(&E) -> ApiError,
    state: &AppState,
    bytes_max: u64,
) -> Result<Stored, ApiError> {
    let options = state.options();
    let bytes_max = bytes_max.min(options.content_bytes_max);
    let mut held = BytesMut::new();
    let mut ingest: Option<Ingest> = None;
    let mut received: u64 = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        received += chunk.len() as u64;
        if received > bytes_max {
            let detail = format!("at most {bytes_max} bytes are taken");
            return Err(ApiError::new(Code::ContentTooLarge, detail));
        }
        held.extend_from_slice(&chunk);
        let hold_max = match ingest {
            Some(_) => options.content_chunk_bytes,
            None => options.content_inline_bytes_max,
        };
        if held.len() > hold_max {
            let started = match ingest {
                Some(started) => started,
                None => state.content().begin()?,
            };
            ingest = Some(write(started, held.split().freeze()).await?);
        }
    }
    match ingest {
        None => Ok(state.content().put(held.freeze()).await?),
        Some(started) => {
            let ingest = write(started, held.freeze()).await?;
            blocking(move || ingest.finish())
                .await?
                .map_err(ApiError::from)
        }
    }
}

async fn write(mut ingest: Ingest, bytes: Bytes) -> Result<Ingest, ApiError> {
    blocking(move || ingest.write(&bytes).map(|()| ingest))
        .await?
        .map_err(ApiError::from)
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    web::block(work)
        .await
        .map_err(|error| ApiError::of(Code::Internal).because(&error))
}

/// A multipart body with a `file`, and perhaps `metadata`.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The part `metadata`, and its bytes.
    pub(crate) metadata: Option<(Value, Bytes)>,
    /// The part `file`, stored.
    pub(crate) file: Stored,
    /// The file's own media type.
    pub(crate) media_type: Option<String>,
    /// The file's own name.
    pub(crate) file_name: Option<String>,
    /// How the file's part described it, which is part of what is asked.
    pub(crate) described: Vec<u8>,
}

/// Reads a multipart body.
pub(crate) async fn upload(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
) -> Result<Upload, ApiError> {
    let mut parts = Multipart::new(request.headers(), payload);
    let (mut metadata, mut file) = (None, None);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| malformed(&error))?;
        let name = part.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "metadata" if metadata.is_none() => {
                let bytes = part_bytes(part, state.options().json_bytes_max).await?;
                metadata = Some((json::parse(&bytes, state.options().json_depth_max)?, bytes));
            }
            "file" if file.is_none() => {
                let media_type = part.content_type().map(ToString::to_string);
                let disposition = part.content_disposition();
                let file_name = disposition
                    .and_then(|d| d.get_filename())
                    .map(str::to_owned);
                let stored = receive(part, malformed, state).await?;
                file = Some((stored, media_type, file_name));
            }
            _ => {
                let detail = "expected one part `metadata` and one part `file`";
                let field = FieldProblem::at(format!("/{name}"), "UNKNOWN_FIELD", detail);
                return Err(ApiError::fields(Code::InvalidFields, vec![field]));
            }
        }
    }
    let Some((file, media_type, file_name)) = file else {
        let field = FieldProblem::at("/file", "MISSING_FIELD", "the part `file` must be given");
        return Err(ApiError::fields(Code::InvalidFields, vec![field]));
    };
    let described = format!("{media_type:?} {file_name:?}").into_bytes();
    Ok(Upload {
        metadata,
        file,
        media_type,
        file_name,
        described,
    })
}

pub(crate) async fn part_bytes(mut part: Field, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = part.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| malformed(&error))?);
        if bytes.len() > bytes_max {
            let detail = format!("a part beside `file` has at most {bytes_max} bytes");
            return Err(ApiError::new(Code::BodyTooLarge, detail));
        }
    }
    Ok(bytes.freeze())
}

pub(crate) fn malformed(error: &MultipartError) -> ApiError {
    if let MultipartError::Payload(error) = error
        && (is_too_slow(error) || is_denied(error))
    {
        return broken_off(error);
    }
    ApiError::new(
        Code::MalformedMultipart,
        Code::MalformedMultipart.explanation(),
    )
    .because(error)
}
