//! What an operator asks for: rebuild, verify, collect, go on after a failure.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use stemma_content_store::{CollectError, Digest, PutError};
use stemma_domain::id::{ContentDigest, JobId};
use stemma_event_log::AppenderStatus;
use stemma_projections::{
    GraphProjection, GraphState, RebuildControl, RebuildError, RebuildOutcome, RebuildPhase,
};
use stemma_views::Views;
use tokio::runtime::Handle;

use crate::body::blocking;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::graph_gate::GraphGate;
use crate::jobs::{Clock, Done, Job, JobBody, JobError, NewJob};
use crate::query::Query;
use crate::state::AppState;
use crate::tenants::Served;

/// How long an operator waits for the graph to be opened.
const GRAPH_WAIT: Duration = Duration::from_secs(10);
/// How long a collection waits for the views to hold all events; else nothing is collected.
const COLLECT_WAIT: Duration = Duration::from_secs(10);

/// `POST /api/admin/rebuild/views`
pub(crate) async fn rebuild_views(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let projection = state.projection().clone();
    let rebuilt = move |control| projection.rebuild(control);
    rebuild(&state, &context, "rebuild.views", rebuilt)
}

/// `POST /api/admin/rebuild/graph`
pub(crate) async fn rebuild_graph(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let graph = graph_of(&state).await?.clone();
    let own = state.clone();
    let rebuilt = move |control| {
        let outcome = graph.rebuild(control)?;
        if let Some(gate) = own.graph() {
            gate.queries().forget();
        }
        Ok(outcome)
    };
    rebuild(&state, &context, "rebuild.graph", rebuilt)
}

/// `POST /api/admin/rebuild/search`
pub(crate) async fn rebuild_search(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let search = state.documents().search.as_ref();
    let search = search.ok_or_else(|| ApiError::of(Code::SearchOff))?;
    let projection = search.projection.clone();
    let rebuilt = move |control| projection.rebuild(control);
    rebuild(&state, &context, "rebuild.search", rebuilt)
}

/// `POST /api/admin/retry/search`: tries again what the search index stopped at.
pub(crate) async fn retry_search(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let search = state.documents().search.as_ref();
    let search = search.ok_or_else(|| ApiError::of(Code::SearchOff))?;
    search.projection.retry();
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(json!({ "retrying": true })))
}

/// The graph's projection, once it is open.
async fn graph_of(state: &AppState) -> Result<&GraphProjection, ApiError> {
    let graph = state.graph().map(GraphGate::projection);
    let graph = graph.ok_or_else(|| ApiError::of(Code::GraphOff))?;
    graph.opened(GRAPH_WAIT).await;
    match graph.state() {
        // Kept in rows, it cannot be had at all; kept elsewhere, what is there can be replaced.
        GraphState::Failed { reason } if graph.backend() == "embedded" => {
            Err(ApiError::new(Code::GraphUnavailable, reason))
        }
        GraphState::Opening => Err(ApiError::of(Code::GraphUnavailable)),
        GraphState::Failed { .. } | GraphState::Running(_) => Ok(graph),
    }
}

fn rebuild(
    state: &AppState,
    context: &Context,
    kind: &'static str,
    rebuilt: impl FnOnce(RebuildControl) -> Result<RebuildOutcome, RebuildError> + Send + 'static,
) -> Result<HttpResponse, ApiError> {
    let body = start(state, context, kind, move |job| {
        let own = job.clone();
        let control = RebuildControl {
            progress: Box::new(move |progress| {
                let message = match progress.phase {
                    RebuildPhase::Filling => "folding the log",
                    RebuildPhase::Comparing => "comparing with what is live",
                };
                own.progress(progress.applied, progress.end, message);
            }),
            cancel: job.cancel_flag(),
        };
        match rebuilt(control) {
            Ok(outcome) => Ok(Some(json!({
                "position": outcome.position,
                "digest_live": outcome.digest_live.map(|digest| digest.to_string()),
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
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let Some(verify) = state.verifier().cloned() else {
        return Err(ApiError::of(Code::RouteNotFound));
    };
    let body = start(&state, &context, "verify", move |job| {
        let own = job.clone();
        let cancel = job.cancel_flag();
        let told = verify(&mut |done, total, message: &str| {
            own.progress(done, total, message);
            if cancel.load(Ordering::Acquire) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        told.map_err(|message| JobError {
            code: "VERIFY_FAILED".to_owned(),
            message,
            stage: Some("verify".to_owned()),
            transient: true,
        })
    })?;
    Ok(accepted(&body))
}

/// `POST /api/admin/collect`
pub(crate) async fn collect(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let runtime = Handle::current();
    // Whoever asked may go: what was begun is done.
    let collected = blocking(move || {
        let goes_on = || !state.shutdown().is_begun();
        collect_content(&state, &runtime, &goes_on)
    });
    let collected = collected.await??;
    Ok(HttpResponse::Ok().json(collected))
}

/// Removes content that no event names and nothing under way needs. Blocks for as long as `goes_on`
/// says so, which is asked before each pack and each large blob, once the views have settled;
/// `runtime` is one that others drive.
///
/// # Errors
/// 503 when it was to end; and when the views or the store cannot be read, or it cannot be told what
/// events name: while the log refuses writes, or the views do not follow it. Nothing was removed then.
pub fn collect_content(
    state: &AppState,
    runtime: &Handle,
    goes_on: &dyn Fn() -> bool,
) -> Result<serde_json::Value, ApiError> {
    let views = OnceLock::new();
    let settle = || {
        let caught_up = runtime.block_on(settled_views(state))?;
        views.get_or_init(|| (caught_up.end(), caught_up));
        Ok(())
    };
    // Where it cannot be told whether content lives, it does.
    let is_live = |digest: &Digest| {
        let digest = ContentDigest::from_bytes(*digest.as_bytes());
        views.get().is_none_or(|(end, views): &(u64, Views)| {
            views.may_name_content(&digest, *end).unwrap_or(true)
        })
    };
    let content = state.content();
    let collected = content.collect_while(&settle, &is_live, goes_on);
    let collected = collected.map_err(|error| match &error {
        CollectError::Unsettled { reason } => {
            ApiError::new(Code::NotYet, format!("nothing was collected: {reason}"))
        }
        CollectError::Put(PutError::ReadOnly) => ApiError::of(Code::ReadOnly),
        _ => ApiError::of(Code::StorageUnavailable).because(&error),
    })?;
    Ok(json!({
        "blobs_removed": collected.blobs_removed,
        "bytes_removed": collected.bytes_removed,
        "packs_removed": collected.packs_removed,
        "disk_bytes_freed": collected.disk_bytes_freed,
    }))
}

/// Views that hold every event that stands in the log or in its queue now. A batch whose client has
/// gone is in no one's hands but the queue's, and what it names is not pinned.
async fn settled_views(state: &AppState) -> Result<Views, String> {
    let appender = state.commands().appender();
    appender.settled().await;
    // After a failed write or sync nobody knows which events a restart will find.
    if appender.status() != AppenderStatus::Ok {
        return Err("the log refuses writes".to_owned());
    }
    let end = state.reader().end().get();
    let projection = state.projection();
    let waited = projection.wait_for(end, COLLECT_WAIT).await;
    waited.map_err(|error| format!("the views do not hold all events: {error}"))?;
    Ok(projection.views())
}

/// `POST /api/admin/retry/views`: tries the event again at which the views stopped.
pub(crate) async fn retry_views(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    state.projection().retry();
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(json!({ "retrying": true })))
}

/// `POST /api/admin/retry/graph`: tries the event again at which the graph stopped.
pub(crate) async fn retry_graph(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    graph_of(&state).await?.retry();
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(json!({ "retrying": true })))
}

/// `POST /api/admin/reopen/log`: has a log take writes again after a failed write or sync.
pub(crate) async fn reopen_log(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let reopened = state.commands().appender().reopen().await;
    reopened.map_err(|error| ApiError::of(Code::LogRefusesWrites).because(&error))?;
    Ok(HttpResponse::Ok().json(json!({ "writable": true })))
}

/// `POST /api/admin/reopen/tokens`: the same of the log of tokens.
pub(crate) async fn reopen_tokens(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let registry = state.access().registry().clone();
    let reopened = blocking(move || registry.reopen()).await?;
    reopened.map_err(|error| ApiError::of(Code::LogRefusesWrites).because(&error))?;
    Ok(HttpResponse::Ok().json(json!({ "writable": true })))
}

/// Begins work on the tenant that is asked.
pub(crate) fn start(
    state: &AppState,
    context: &Context,
    kind: &'static str,
    work: impl FnOnce(&Job) -> Done + Send + 'static,
) -> Result<JobBody, ApiError> {
    begin(state, context, (kind, false), work)
}

/// Begins work on the whole server.
pub(crate) fn start_of_server(
    state: &AppState,
    context: &Context,
    kind: &'static str,
    work: impl FnOnce(&Job) -> Done + Send + 'static,
) -> Result<JobBody, ApiError> {
    begin(state, context, (kind, true), work)
}

fn begin(
    state: &AppState,
    context: &Context,
    (kind, is_of_server): (&'static str, bool),
    work: impl FnOnce(&Job) -> Done + Send + 'static,
) -> Result<JobBody, ApiError> {
    let commands = state.commands().clone();
    let id = JobId::new(commands.new_id());
    let clock = Clock(Arc::new(move || commands.now()));
    state.jobs().start(
        NewJob {
            id,
            kind,
            actor: context.actor.clone(),
            trace_id: context.trace_id.clone(),
            clock,
            is_of_server,
        },
        work,
    )
}

pub(crate) fn accepted(body: &JobBody) -> HttpResponse {
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
        stage: Some(stage.to_owned()),
        transient: false,
    }
}
