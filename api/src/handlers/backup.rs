//! Backups of the whole server, for its operator.
//!
//! Invariant: nothing is written to but the targets that the configuration names.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::http::header::LOCATION;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::body;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::handlers::admin::start_of_server;
use crate::jobs::{JobBody, JobError};
use crate::json::{Fields, boolean, text};
use crate::query::Query;
use crate::state::{AppState, Tell};
use crate::tenants::Served;

/// The type of a backup's job.
pub(super) const KIND: &str = "backup";

/// Makes backups of a server.
pub trait Backups: Send + Sync {
    /// The names of the targets that may be written to, in order.
    fn targets(&self) -> Vec<String>;

    /// Makes a backup in a target of this name; none when it was told to stop. With `reads_all`
    /// content that the target has is read as well. Blocks until it is made.
    ///
    /// # Errors
    /// Why none was made. The one before it is as it was.
    fn back_up(
        &self,
        target: &str,
        reads_all: bool,
        tell: Tell<'_>,
    ) -> Result<Option<Value>, JobError>;
}

/// Where backups go, and the last one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupsBody {
    /// The targets that the configuration names.
    pub(crate) targets: Vec<String>,
    /// The backup under way, or the last one since the server was started.
    pub(crate) job: Option<JobBody>,
}

fn backups(state: &AppState) -> Result<Arc<dyn Backups>, ApiError> {
    let backups = state.backups().cloned();
    backups.ok_or_else(|| ApiError::of(Code::RouteNotFound))
}

/// `GET /api/admin/backup`
pub(crate) async fn get(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let targets = backups(&state)?.targets();
    let mut all = state.jobs().list(None, Some(KIND), true);
    let job = (!all.is_empty()).then(|| all.swap_remove(0));
    Ok(HttpResponse::Ok().json(BackupsBody { targets, job }))
}

/// `POST /api/admin/backup`
pub(crate) async fn make(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let bytes_max = state.options().json_bytes_max;
    let (value, _) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let target = fields.required("target", text);
    let is_quick = fields.optional("quick", boolean).unwrap_or(false);
    let backups = backups(&state)?;
    if let Some(target) = &target
        && !backups.targets().contains(target)
    {
        let detail = "no target of this name is configured (backup.targets)";
        fields.problem("target", "UNKNOWN_TARGET", detail);
    }
    fields.finish()?;
    let target = target.ok_or_else(|| ApiError::of(Code::Internal))?;
    let body = start_of_server(&state, &context, KIND, move |job| {
        let own = job.clone();
        let cancel = job.cancel_flag();
        backups.back_up(&target, !is_quick, &mut |done, total, message| {
            own.progress(done, total, message);
            if cancel.load(Ordering::Acquire) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    })?;
    let mut response = HttpResponse::Accepted();
    response.insert_header((LOCATION, "/api/admin/backup"));
    Ok(response.json(body))
}

/// `DELETE /api/admin/backup`
pub(crate) async fn stop(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    backups(&state)?;
    let all = state.jobs().list(None, Some(KIND), true);
    let newest = all.first().and_then(|body| state.jobs().find(&body.id));
    let newest = newest.ok_or_else(|| ApiError::of(Code::JobNotFound))?;
    newest.cancel()?;
    Ok(HttpResponse::Accepted().json(newest.body()))
}
