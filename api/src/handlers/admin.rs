//! What an operator asks for: rebuild, verify, collect, go on after a failure.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use stemma_content_store::Digest;
use stemma_domain::id::ContentDigest;
use stemma_projections::{RebuildControl, RebuildError, RebuildPhase};

use crate::body::blocking;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::jobs::{Clock, Done, Job, JobBody, JobError, NewJob};
use crate::query::Query;
use crate::state::AppState;

/// `POST /api/admin/rebuild/views`
pub(crate) async fn rebuild_views(
    request: HttpRequest,
    context: Context,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let projection = state.projection().clone();
    let body = start(&state, &context, "rebuild.views", move |job| {
        let own = job.clone();
        let control = RebuildControl {
            progress: Box::new(move |progress| {
                let message = match progress.phase {
                    RebuildPhase::Filling => "folding the log",
                    RebuildPhase::Comparing => "comparing with the live views",
                };
                own.progress(progress.applied, progress.end, message);
            }),
            cancel: job.cancel_flag(),
        };
        match projection.rebuild(control) {
            Ok(outcome) => Ok(Some(json!({
                "position": outcome.position,
                "digest_live": outcome.digest_live.to_string(),
                "digest_rebuilt": outcome.digest_rebuilt.to_string(),
                "equal": outcome.equal,
                "swapped": outcome.swapped,
            }))),
            Err(RebuildError::Cancelled) => Ok(None),
            Err(error) => Err(failure("REBUILD_FAILED", "rebuild", &error)),
        }
    })?;
    Ok(accepted(&body))
}

/// `POST /api/admin/verify`
pub(crate) async fn verify(
    request: HttpRequest,
    context: Context,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let Some(verify) = state.verifier().cloned() else {
        return Err(ApiError::of(Code::RouteNotFound));
    };
    let body = start(&state, &context, "verify", move |job| {
        let own = job.clone();
        let told = verify(&mut |done, total, message: &str| own.progress(done, total, message));
        told.map(Some).map_err(|message| JobError {
            code: "VERIFY_FAILED".to_owned(),
            message,
            stage: "verify".to_owned(),
            transient: true,
        })
    })?;
    Ok(accepted(&body))
}

/// `POST /api/admin/collect`
pub(crate) async fn collect(
    request: HttpRequest,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let collected = blocking(move || collect_content(&state)).await??;
    Ok(HttpResponse::Ok().json(collected))
}

/// Removes content that no event names and nothing under way needs.
///
/// # Errors
/// 503 when the views or the store cannot be read.
pub fn collect_content(state: &AppState) -> Result<serde_json::Value, ApiError> {
    let views = state.projection().views();
    // Where it cannot be told whether content lives, it does.
    let is_live = |digest: &Digest| {
        let digest = ContentDigest::from_bytes(*digest.as_bytes());
        views.names_content(&digest).unwrap_or(true)
    };
    let collected = state.content().collect(&is_live);
    let collected =
        collected.map_err(|error| ApiError::of(Code::StorageUnavailable).because(&error))?;
    Ok(json!({
        "blobs_removed": collected.blobs_removed,
        "bytes_removed": collected.bytes_removed,
        "packs_removed": collected.packs_removed,
        "disk_bytes_freed": collected.disk_bytes_freed,
    }))
}

/// `POST /api/admin/retry/views`: tries the event again at which the views stopped.
pub(crate) async fn retry_views(
    request: HttpRequest,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    state.projection().retry();
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(json!({ "retrying": true })))
}

/// `POST /api/admin/reopen/log`: has a log take writes again after a failed write or sync.
pub(crate) async fn reopen_log(
    request: HttpRequest,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let reopened = state.commands().appender().reopen().await;
    reopened.map_err(|error| ApiError::of(Code::LogRefusesWrites).because(&error))?;
    Ok(HttpResponse::Ok().json(json!({ "writable": true })))
}

fn start(
    state: &AppState,
    context: &Context,
    kind: &'static str,
    work: impl FnOnce(&Job) -> Done + Send + 'static,
) -> Result<JobBody, ApiError> {
    let commands = state.commands().clone();
    let id = commands.new_id().to_string();
    let clock = Clock(Arc::new(move || commands.now()));
    state.jobs().start(
        NewJob {
            id,
            kind,
            trace_id: context.trace_id.clone(),
            clock,
        },
        work,
    )
}

fn accepted(body: &JobBody) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::ACCEPTED);
    response.insert_header((LOCATION, format!("/api/jobs/{}", body.id)));
    response.json(body)
}

fn failure(code: &str, stage: &str, error: &(dyn std::error::Error + 'static)) -> JobError {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let message = causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    JobError {
        code: code.to_owned(),
        message,
        stage: stage.to_owned(),
        transient: false,
    }
}
