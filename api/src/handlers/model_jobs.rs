//! Jobs of models about resources: each is queued, and its stream is the answer.

use actix_web::http::StatusCode;
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use stemma_domain::access::Sight;
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::value::{CollectionName, JobKind, MediaType, ResourceName};
use stemma_jobs::NewJob;
use stemma_pipeline::stages::{AS_ADMIN, DETECT, GENERATE};

use crate::body;
use crate::conditional::no_precondition;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::handlers::grants::check_writable;
use crate::handlers::jobs::{follow_job, stream_place};
use crate::handlers::resources::{find, resource_id};
use crate::idempotency;
use crate::json::{Fields, checked, text};
use crate::query::Query;
use crate::tenants::Served;
use crate::write::answer;

/// Most bytes of what a model is asked to write.
const PROMPT_BYTES_MAX: usize = 32 << 10;
/// Most resources that a model is given.
const CONTEXT_MAX: usize = 16;

/// `POST /api/resources/{id}/detect-annotations-stream`
pub(crate) async fn detect(
    request: HttpRequest,
    id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    no_precondition(&request, "what is asked for is made anew and has no tag")?;
    let at = state.views_at(wait).await?;
    check_writable(&at.views, id, Code::ResourceNotFound)?;
    let descriptor = find(&at, id)?;
    if !descriptor.media_type.is_text() {
        let detail = format!(
            "{} is no text; upload it as a document",
            descriptor.media_type
        );
        return Err(ApiError::new(Code::InvalidParameters, detail));
    }
    let mut payload = Map::new();
    payload.insert("resource_id".to_owned(), json!(id));
    let key = idempotency::of(&request, &context, &[])?;
    begin(&state, &context, DETECT, payload, key).await
}

/// `POST /api/generate-resource-stream`
pub(crate) async fn generate(
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
    let prompt = fields.required("prompt", |value| {
        let prompt = text(value)?;
        if prompt.trim().is_empty() || prompt.len() > PROMPT_BYTES_MAX {
            return Err(format!("expected 1 to {PROMPT_BYTES_MAX} bytes of text"));
        }
        Ok(prompt)
    });
    let name = fields.required("name", checked(ResourceName::new));
    let media_type = fields.optional("media_type", checked(MediaType::new));
    let collection = fields.optional("collection", checked(CollectionName::new));
    let resources = fields.optional("context", ids);
    fields.finish()?;
    if !state.documents().has_completer {
        return Err(ApiError::of(Code::CompleterMissing));
    }
    let at = state.seen();
    let resources = resources.unwrap_or_default();
    for id in &resources {
        if at.resource(*id)?.is_none() {
            return Err(ApiError::new(
                Code::ResourceNotFound,
                format!("{id} is not there"),
            ));
        }
    }
    let id = ResourceId::new(state.commands().new_id());
    let asked = json!({
        "resource_id": id, "prompt": prompt, "name": name, "context": resources,
        "media_type": media_type, "collection": collection,
    });
    let asked = asked.as_object().cloned().unwrap_or_default();
    let asked = asked.into_iter().filter(|(_, value)| !value.is_null());
    let key = idempotency::of(&request, &context, &[&bytes])?;
    begin(&state, &context, GENERATE, asked.collect(), key).await
}

fn ids(value: Value) -> Result<Vec<ResourceId>, String> {
    let expected = || format!("expected a list of at most {CONTEXT_MAX} ids of resources");
    let Value::Array(items) = value else {
        return Err(expected());
    };
    if items.len() > CONTEXT_MAX {
        return Err(expected());
    }
    let id = |item: Value| text(item).ok()?.parse().ok();
    let ids: Option<Vec<ResourceId>> = items.into_iter().map(id).collect();
    ids.ok_or_else(expected)
}

async fn begin(
    state: &Served,
    context: &Context,
    kind: &str,
    mut payload: Map<String, Value>,
    key: Option<stemma_event_log::Idempotency>,
) -> Result<HttpResponse, ApiError> {
    if context.sight() == Sight::Everything {
        payload.insert(AS_ADMIN.to_owned(), json!(true));
    }
    let new = NewJob {
        id: JobId::new(state.commands().new_id()),
        kind: JobKind::new(kind).map_err(|_| ApiError::of(Code::Internal))?,
        payload,
        priority: 0,
        max_retries: None,
        document_id: None,
        trace_id: context.trace_id.clone(),
    };
    let place = stream_place(state)?;
    let queue = &state.documents().queue;
    let (job, written) = queue.submit(new, &context.actor, key).await?;
    state.visible(written.end).await?;
    follow_job(state, job.id, place, answer(StatusCode::OK, &written))
}
