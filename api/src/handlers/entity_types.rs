//! Entity types: which there are, what they mean, how many resources are of them.

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use stemma_commands::{Change, Operation, Precondition, Target};
use stemma_domain::event::Event;
use stemma_domain::value::EntityType;

use super::resources::reflecting;
use crate::body;
use crate::conditional::no_precondition;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::idempotency;
use crate::json::{Fields, checked, text};
use crate::query::Query;
use crate::tenants::Served;
use crate::wire::resource::EntityTypeBody;
use crate::write::{Write, answer, execute};

/// `GET /api/entity_types`
pub(crate) async fn list(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let page = query.page(state.options(), state.cursors());
    query.finish()?;
    let at = state.views_at(wait).await?;
    let found = at.views.entity_types(page.limit, page.after.as_ref())?;
    let body = state.page(found, EntityTypeBody::from);
    Ok(reflecting(StatusCode::OK, at.position()).json(body))
}

/// `POST /api/entity_types`
pub(crate) async fn register(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    no_precondition(&request, "entity types have no tags")?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let name = fields.required("name", checked(EntityType::new));
    let is_described = fields.has("description");
    let description = fields.optional("description", text);
    fields.finish()?;
    let name = name.ok_or_else(|| ApiError::of(Code::Internal))?;
    // Views hold every registration that was acknowledged. What says nothing new is no event, and
    // what is silent about the description leaves it as it is.
    let row = || state.seen().entity_type(&name);
    let known = row()?.filter(|row| row.registered);
    let description = match &known {
        Some(known) if !is_described => known.description.clone(),
        _ => description,
    };
    let is_new = known.is_none_or(|known| known.description != description);
    let operation = Operation {
        target: Target::EntityTypes,
        change: Change::RegisterEntityType {
            name: name.clone(),
            description,
        },
        precondition: Precondition::None,
        expected_revision: None,
        is_id_new: false,
    };
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let write = Write {
        operations: Vec::from_iter(is_new.then_some(operation)),
        idempotency: key,
        pins: Vec::new(),
    };
    let written = execute(&state, &context, write, &|_| String::new()).await?;
    let row = row()?.ok_or_else(|| ApiError::of(Code::Internal))?;
    let mut body = EntityTypeBody::from(row);
    // What this request said, whatever was said since.
    let events = written.results.iter().flat_map(|result| &result.events);
    for event in events {
        if let Event::EntityTypeRegistered(registered) = event {
            body.description.clone_from(&registered.description);
        }
    }
    let mut response = answer(StatusCode::CREATED, &written);
    response.insert_header((LOCATION, "/api/entity_types"));
    Ok(response.json(body))
}
