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
use crate::tenants::{Deletion, Served, Tenants};

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
    let body = |(name, is_open): (TenantName, bool)| TenantBody {
        name: name.to_string(),
        is_open,
    };
    let page = Page::first_of(behind, limit, |(name, _)| name.to_string(), body);
    Ok(HttpResponse::Ok().json(page))
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

/// `DELETE /api/admin/tenants/{name}`: 202 while requests still work on it.
pub(crate) async fn delete(
    request: HttpRequest,
    name: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let name = TenantName::new(&name);
    let name = name.map_err(|error| ApiError::new(Code::InvalidId, error.to_string()))?;
    let tenants = tenants(&state)?;
    let deleted = blocking(move || tenants.delete(&name, &context.actor, &context.trace_id));
    Ok(match deleted.await?? {
        Deletion::Done => HttpResponse::NoContent().finish(),
        Deletion::UnderWay => HttpResponse::Accepted().finish(),
    })
}
