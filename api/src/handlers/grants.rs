//! Who may read and write a resource: said by its owner and by admins.

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use stemma_domain::id::ResourceId;
use stemma_domain::resource::Command;
use stemma_views::Seen;

use super::resources::{changed, resource_id};
use crate::body;
use crate::conditional::precondition;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::idempotency;
use crate::json::Fields;
use crate::query::Query;
use crate::tenants::Served;
use crate::wire::grants::grants;
use crate::write::Write;

/// `PUT /api/resources/{id}/access`
pub(crate) async fn change(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    Query::none(request.query_string())?;
    let precondition = precondition(&request)?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let access = grants(&mut fields);
    fields.finish()?;
    let access = access.ok_or_else(|| ApiError::of(Code::Internal))?;
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let command = Command::ChangeAccess(access);
    let write = Write::one(id, command, precondition).with_key(key);
    changed(&context, &state, write).await
}

/// Refuses whoever may not change a resource, before anything is received or queued for it. What is
/// hidden from them is not there.
pub(crate) fn check_writable(seen: &Seen, id: ResourceId, missing: Code) -> Result<(), ApiError> {
    let descriptor = seen.resource(id)?.ok_or_else(|| ApiError::of(missing))?;
    if descriptor.is_written_by(seen.sight()) {
        return Ok(());
    }
    Err(ApiError::of(Code::GrantMissing))
}
