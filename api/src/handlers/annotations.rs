//! Annotations: add, list, read, change, remove; and the events of one.

mod rendering;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;
use stemma_domain::annotation::{
    self, OffsetUnit, TextIndex, body_operations_from_json, translate,
};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{Command, IriNames};
use stemma_event_log::Idempotency;

use self::rendering::{rendered, rendered_all};
use super::resources::{find, reflecting, resource_id};
use crate::accept;
use crate::body;
use crate::conditional::precondition;
use crate::context::Context;
use crate::error::{ApiError, Code, FieldProblem};
use crate::idempotency;
use crate::json::Fields;
use crate::page;
use crate::query::Query;
use crate::state::AppState;
use crate::tenants::Served;
use crate::wire::resource::path;
use crate::write::{Write, descriptor, execute_one, json_body, tagged};

/// Reads an annotation's id in a path: a UUID, or `urn:uuid:` and one.
pub(crate) fn annotation_id(text: &str) -> Result<AnnotationId, ApiError> {
    let id = text.strip_prefix("urn:uuid:").unwrap_or(text).parse();
    id.map_err(|error: stemma_domain::id::IdError| {
        ApiError::new(Code::InvalidId, error.to_string())
    })
}

/// `?offsets=`
fn unit(query: &mut Query) -> OffsetUnit {
    let read = query.read("offsets", "utf16 or codepoint", |text| match text {
        "utf16" => Some(OffsetUnit::Utf16),
        "codepoint" => Some(OffsetUnit::CodePoint),
        _ => None,
    });
    read.unwrap_or_default()
}

/// Validates an annotation that stands at `base` in the body.
pub(crate) fn validated(id: ResourceId, mut value: Value, base: &str) -> Result<Value, ApiError> {
    take_off_ours(&mut value);
    if value.get("anchoring").is_some() {
        let detail = "anchoring is told by the server; another name can be any extension's";
        let field = FieldProblem::at(format!("{base}/anchoring"), "RESERVED_NAME", detail);
        return Err(ApiError::fields(Code::InvalidAnnotation, vec![field]));
    }
    let cx = annotation::Context {
        resource: id.uuid(),
    };
    annotation::validate(value, &cx).map_err(|errors| ApiError::of_annotation(&errors, base))
}

/// An annotation that was read from us and is sent back, perhaps to another resource, is rid of what
/// we had added; properties of a client's own that only have those names stay.
fn take_off_ours(value: &mut Value) {
    let is_uuid = |name| {
        let text = value.get(name).and_then(Value::as_str);
        text.is_some_and(|text| text.parse::<AnnotationId>().is_ok())
    };
    let is_ours = value.get("anchoring").is_some_and(Value::is_array)
        && value.get("revision").is_some_and(Value::is_u64)
        && is_uuid("annotation_id")
        && is_uuid("resource_id");
    if let Some(fields) = value.as_object_mut().filter(|_| is_ours) {
        for name in ["anchoring", "revision", "annotation_id", "resource_id"] {
            fields.remove(name);
        }
    }
}

/// `application/ld+json` for who asks for it, which is the model's own media type.
fn media_type(request: &HttpRequest) -> Result<&'static str, ApiError> {
    accept::choose(request, &["application/json", "application/ld+json"])
}

/// Positions that came in UTF-16 units, in code points.
fn from_unit(
    annotation: &mut Value,
    unit: OffsetUnit,
    id: ResourceId,
    text: Option<&TextIndex>,
    names: IriNames<'_>,
) -> Result<(), ApiError> {
    let Some(text) = text else { return Ok(()) };
    let is_this = |iri: &str| names.resolve(iri) == Some(id);
    translate(annotation, &is_this, text, unit, OffsetUnit::CodePoint)
        .map_err(|errors| ApiError::of_annotation(&errors, ""))
}

/// `POST /api/resources/{id}/annotations`
pub(crate) async fn add(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let unit = unit(&mut query);
    query.finish()?;
    let precondition = precondition(&request)?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut annotation = validated(id, value, "")?;
    let key = idempotency::of(&request, &context, &[&bytes])?;
    // The first answer rests on the text as it was then.
    let is_repeated = match &key {
        Some(key) => is_repeated(&state, key)?,
        None => false,
    };
    if unit == OffsetUnit::Utf16 && !is_repeated {
        let names = IriNames {
            bases: &context.bases,
        };
        let described = state
            .seen()
            .resource(id)?
            .ok_or_else(|| ApiError::of(Code::ResourceNotFound))?;
        let text = state.commands().text_of(&described).await?;
        from_unit(&mut annotation, unit, id, text.as_deref(), names)?;
    }
    let annotation_id = AnnotationId::new(state.commands().new_id());
    let command = Command::AddAnnotation {
        annotation_id,
        annotation,
    };
    let write = Write::one(id, command, precondition)
        .of_new_ids()
        .with_key(key);
    let (written, result) = execute_one(&state, &context, write).await?;
    let described = descriptor(&result)?;
    let added = result
        .annotation
        .as_ref()
        .ok_or_else(|| ApiError::of(Code::Internal))?;
    let mut response = tagged(StatusCode::CREATED, &written, described);
    response.insert_header((LOCATION, format!("{}/annotations/{}", path(id), added.id)));
    let body = rendered(&state, added, described, unit).await?;
    Ok(json_body(response, body))
}

fn is_repeated(state: &AppState, key: &Idempotency) -> Result<bool, ApiError> {
    let repeated = state.commands().is_repeated(key);
    repeated.map_err(|error| ApiError::of_command(&error, &|_| String::new()))
}

/// `GET /api/resources/{id}/annotations`
pub(crate) async fn list(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let page = query.page(state.options(), state.cursors());
    let unit = unit(&mut query);
    query.finish()?;
    let kind = media_type(&request)?;
    let at = state.views_at(wait).await?;
    let descriptor = find(&at, id)?;
    let found = at.views.annotations(id, page.limit, page.after.as_ref())?;
    let items = rendered_all(&state, &found.items, &descriptor, unit).await?;
    let mut response = reflecting(StatusCode::OK, at.position());
    response.insert_header((CONTENT_TYPE, kind));
    let next_cursor = found.next.as_ref().map(|cursor| state.cursor(cursor));
    Ok(response.body(page::of_texts(&items, next_cursor.as_deref())))
}

/// `GET /api/resources/{id}/annotations/{aid}`
pub(crate) async fn get(
    request: HttpRequest,
    place: Path<(String, String)>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let (id, annotation_id) = (resource_id(&place.0)?, annotation_id(&place.1)?);
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let unit = unit(&mut query);
    query.finish()?;
    let kind = media_type(&request)?;
    let at = state.views_at(wait).await?;
    let descriptor = find(&at, id)?;
    let found = at.views.annotation(id, annotation_id)?;
    let found = found.ok_or_else(|| ApiError::of(Code::AnnotationNotFound))?;
    let body = rendered(&state, &found, &descriptor, unit).await?;
    let mut response = reflecting(StatusCode::OK, at.position());
    response.insert_header((CACHE_CONTROL, "no-cache"));
    response.insert_header((CONTENT_TYPE, kind));
    Ok(response.body(body))
}

/// `DELETE /api/resources/{id}/annotations/{aid}`
pub(crate) async fn remove(
    request: HttpRequest,
    place: Path<(String, String)>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let (id, annotation_id) = (resource_id(&place.0)?, annotation_id(&place.1)?);
    Query::none(request.query_string())?;
    let precondition = precondition(&request)?;
    let key = idempotency::of(&request, &context, &[])?;
    let command = Command::RemoveAnnotation { annotation_id };
    let write = Write::one(id, command, precondition).with_key(key);
    let (written, result) = execute_one(&state, &context, write).await?;
    Ok(tagged(StatusCode::NO_CONTENT, &written, descriptor(&result)?).finish())
}

/// `PATCH /api/resources/{id}/annotations/{aid}/body`
pub(crate) async fn change_body(
    request: HttpRequest,
    place: Path<(String, String)>,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let (id, annotation_id) = (resource_id(&place.0)?, annotation_id(&place.1)?);
    Query::none(request.query_string())?;
    let precondition = precondition(&request)?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let operations = fields.raw("operations").unwrap_or_default();
    fields.finish()?;
    let operations = body_operations_from_json(&operations).map_err(|errors| {
        let place = |e: &annotation::FieldError| {
            FieldProblem::at(e.pointer.clone(), e.code, e.detail.clone())
        };
        ApiError::fields(Code::InvalidFields, errors.iter().map(place).collect())
    })?;
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let command = Command::ChangeAnnotationBody {
        annotation_id,
        operations,
    };
    let write = Write::one(id, command, precondition).with_key(key);
    let (written, result) = execute_one(&state, &context, write).await?;
    let described = descriptor(&result)?;
    let changed = result
        .annotation
        .as_ref()
        .ok_or_else(|| ApiError::of(Code::Internal))?;
    let body = rendered(&state, changed, described, OffsetUnit::CodePoint).await?;
    Ok(json_body(tagged(StatusCode::OK, &written, described), body))
}
