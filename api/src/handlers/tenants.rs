//! Tenants made, listed and deleted, for the operator of the server.

use std::sync::Arc;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use stemma_domain::value::TenantName;
use utoipa::ToSchema;

use crate::body::{self, blocking};
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::json::{Fields, checked};
use crate::page::Page;
use crate::query::Query;
use crate::tenants::{Served, TenantError, Tenants};

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantBody {
    /// Its name, which is also the name of its directory.
    pub(crate) name: String,
    /// Whether it is open; one that is not is opened when it is asked for.
    pub(crate) is_open: bool,
}

fn tenants(state: &Served) -> Result<Arc<dyn Tenants>, ApiError> {
    let tenants = state.tenants().cloned();
    tenants.ok_or_else(|| ApiError::of(Code::ReadOnly))
}

/// `GET /api/admin/tenants`
pub(crate) async fn list(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let limit = query.limit(state.options());
    let after: Option<TenantName> = query.read("cursor", "a cursor of this list", |text| {
        TenantName::new(text).ok()
    });
    query.finish()?;
    let tenants = tenants(&state)?;
    let all = blocking(move || tenants.list()).await??;
    let behind = all
        .into_iter()
        .filter(|(name, _)| after.as_ref().is_none_or(|a| name > a));
    let mut found: Vec<(TenantName, bool)> = behind.take(limit + 1).collect();
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|(name, _)| name.to_string());
    let body = |(name, is_open): (TenantName, bool)| TenantBody {
        name: name.to_string(),
        is_open,
    };
    let items: Vec<TenantBody> = found.into_iter().map(body).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

/// `POST /api/admin/tenants`
pub(crate) async fn create(
    request: HttpRequest,
    payload: Payload,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let bytes_max = state.options().json_bytes_max;
    let (value, _) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let name = fields.required("name", checked(TenantName::new));
    fields.finish()?;
    let name = name.ok_or_else(|| ApiError::of(Code::Internal))?;
    let (tenants, own) = (tenants(&state)?, name.clone());
    blocking(move || tenants.create(&own)).await??;
    Ok(HttpResponse::Created().json(TenantBody {
        name: name.to_string(),
        is_open: false,
    }))
}

/// `DELETE /api/admin/tenants/{name}`: its tokens are taken back first, then it is deleted.
pub(crate) async fn delete(
    request: HttpRequest,
    name: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let name = TenantName::new(&name);
    let name = name.map_err(|error| ApiError::new(Code::InvalidId, error.to_string()))?;
    if name == *state.access().tenant() {
        return Err(TenantError::Served.into());
    }
    let tenants = tenants(&state)?;
    let registry = state.access().registry().clone();
    let deleted = blocking(move || -> Result<(), ApiError> {
        if !tenants.list()?.iter().any(|(other, _)| *other == name) {
            return Err(TenantError::NotFound.into());
        }
        // A tenant of the same name that is made later must not be theirs.
        let own = registry
            .tokens()
            .into_iter()
            .filter(|token| token.tenant.as_ref() == Some(&name) && token.revoked_at.is_none());
        for token in own {
            registry.revoke(token.id, context.by())?;
        }
        Ok(tenants.delete(&name)?)
    });
    deleted.await??;
    Ok(HttpResponse::NoContent().finish())
}
