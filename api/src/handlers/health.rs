//! Whether all is well: for people, for balancers, for Prometheus.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use stemma_content_store::StoreStatus;
use stemma_event_log::AppenderStatus;
use stemma_projections::{GraphState, Phase, ProjectionStatus, SearchState};
use utoipa::ToSchema;

use crate::body::blocking;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::graph_gate::GraphGate;
use crate::query::Query;
use crate::state::AppState;
use crate::tenant_metrics::TENANTS_MAX;
use crate::tenants::{Others, Served};

/// Events that the views may lack before that counts as degraded.
const LAG_EVENTS_MAX: u64 = 100_000;

/// How all parts are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthBody {
    /// The worst of the parts: `ok`, `degraded` or `down`.
    status: &'static str,
    /// Where reads are answered from: the views.
    database: Store,
    /// Where writes go: the log, and the content beside it.
    #[serde(rename = "eventStore")]
    event_store: Store,
    /// The graph.
    graph: Store,
    /// The queue of jobs.
    jobs: Store,
    /// Each part.
    parts: Parts,
    /// The other tenants; for whoever operates the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<TenantsBody>,
}

/// How something is, in a word.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Store {
    /// `ok`, `degraded` or `down`; `off` where there is none.
    status: &'static str,
    /// Why it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// How the tenants beside the first are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantsBody {
    /// How many of them are open.
    open: usize,
    /// Those that are open and not well, at most 200 of them.
    not_well: Vec<TenantHealth>,
    /// Those that could not be opened when they were last asked for, at most 200 of them.
    failed: Vec<FailedTenant>,
}

/// A tenant that is open.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantHealth {
    /// Its name.
    tenant: String,
    /// The worst of its parts: `degraded` or `down`.
    status: &'static str,
    /// Each part.
    parts: Parts,
}

/// A tenant that could not be opened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedTenant {
    /// Its name.
    tenant: String,
    /// Why.
    reason: String,
}

/// Each part.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Parts {
    /// The log.
    log: Part,
    /// The content store.
    content: Part,
    /// The views.
    views: Part,
    /// The graph; `off` where the server keeps none.
    graph: Part,
    /// The search index; `off` where the server keeps none.
    search: Part,
    /// The queue of jobs.
    jobs: Part,
    /// The log of tokens, of the whole server; `off` while there is none.
    tokens: Part,
    /// The keys of the issuer outside whose tokens count; `off` where there is none.
    issuer: Part,
}

/// How one part is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Part {
    /// `ok`, `degraded` or `down`; `off` of a graph that is not kept.
    status: &'static str,
    /// Why it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How many events it holds or has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    /// Durable events that it has not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
    /// Age of the oldest of them, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_seconds: Option<f64>,
}

impl Part {
    fn new(status: &'static str, reason: Option<String>) -> Self {
        Self {
            status,
            reason,
            end: None,
            lag: None,
            lag_seconds: None,
        }
    }
}

impl Store {
    /// The worse of these.
    fn of(parts: &[&Part]) -> Self {
        let worst = ["down", "degraded"].into_iter();
        let worst = worst.filter_map(|status| parts.iter().find(|part| part.status == status));
        let told = worst.chain(parts.first()).next();
        Self {
            status: told.map_or("ok", |part| part.status),
            reason: told.and_then(|part| part.reason.clone()),
        }
    }
}

impl Parts {
    /// The worst of the parts without which the tenant is of no use, where it is not ok.
    fn worst_that_matters(&self) -> Option<&'static str> {
        let all = [self.log.status, self.content.status, self.views.status];
        let worst = ["down", "degraded"].into_iter();
        worst.into_iter().find(|status| all.contains(status))
    }

    /// The worst of all parts; what can be gone without is never more than degraded.
    fn worst(&self) -> &'static str {
        let others = [
            self.graph.status,
            self.search.status,
            self.tokens.status,
            self.issuer.status,
            self.jobs.status,
        ];
        let rest = if others.contains(&"degraded") {
            "degraded"
        } else {
            "ok"
        };
        self.worst_that_matters().unwrap_or(rest)
    }
}

impl TenantsBody {
    fn of(others: Others, tokens: &Part) -> Self {
        let open = others.open.len();
        let looked_at = others.open.iter().map(|(name, used)| {
            let parts = parts(used.state(), tokens.clone());
            let (tenant, status) = (name.to_string(), parts.worst());
            TenantHealth {
                tenant,
                status,
                parts,
            }
        });
        let not_well = looked_at.filter(|tenant| tenant.status != "ok");
        let failed = others.failed.into_iter();
        let failed = failed.map(|(name, reason)| FailedTenant {
            tenant: name.to_string(),
            reason,
        });
        Self {
            open,
            not_well: not_well.take(TENANTS_MAX).collect(),
            failed: failed.take(TENANTS_MAX).collect(),
        }
    }

    fn is_well(&self) -> bool {
        self.not_well.is_empty() && self.failed.is_empty()
    }
}

fn parts(state: &AppState, tokens: Part) -> Parts {
    let now_us = state.commands().now().micros();
    let mut log = match state.commands().appender().status() {
        AppenderStatus::Ok => Part::new("ok", None),
        AppenderStatus::Poisoned { reason } => Part::new("down", Some(reason)),
        AppenderStatus::Damaged { damage } => {
            let reason = format!("{damage}; nothing more is written. Run stemma verify");
            Part::new("down", Some(reason))
        }
        AppenderStatus::ReadOnly { damage } => {
            let reason = damage.map_or_else(
                || "open for reading only".to_owned(),
                |damage| format!("open for reading only, up to the damage: {damage}"),
            );
            Part::new("degraded", Some(reason))
        }
    };
    log.end = Some(state.reader().end().get());
    let content = match state.content().status() {
        StoreStatus::Writable | StoreStatus::ReadOnly => match state.content().stats().damaged {
            0 => Part::new("ok", None),
            damaged => {
                let reason = format!("{damaged} blobs were found damaged; run stemma verify");
                Part::new("degraded", Some(reason))
            }
        },
        StoreStatus::Poisoned { reason } => Part::new("down", Some(reason)),
        _ => Part::new("down", Some("closed".to_owned())),
    };
    Parts {
        log,
        content,
        views: following(&state.projection().status(), now_us),
        graph: graph(state),
        search: search(state),
        jobs: jobs(state),
        tokens,
        issuer: issuer(state),
    }
}

/// How a projection is that follows the log.
fn following(status: &ProjectionStatus, now_us: i64) -> Part {
    let mut part = match &status.phase {
        Phase::Quarantined {
            position,
            event_type,
            reason,
        } => {
            let reason = format!("stopped at {event_type}, position {position}: {reason}");
            Part::new("down", Some(reason))
        }
        Phase::Away { reason } => Part::new("down", Some(format!("out of reach: {reason}"))),
        Phase::Stopped => Part::new("down", Some("stopped".to_owned())),
        Phase::CatchingUp | Phase::Live if status.lag_positions > LAG_EVENTS_MAX => {
            Part::new("degraded", Some("catching up".to_owned()))
        }
        Phase::CatchingUp | Phase::Live => Part::new("ok", None),
    };
    part.end = Some(status.end);
    part.lag = Some(status.lag_positions);
    part.lag_seconds = Some(status.lag_seconds(now_us));
    part
}

/// How the graph is: what it cannot answer the views do, so it is never more than degraded.
fn graph(state: &AppState) -> Part {
    let mut part = match state.graph().map(GraphGate::state) {
        None => return Part::new("off", None),
        // The views answer meanwhile; nothing is amiss.
        Some(GraphState::Opening) => Part::new("ok", Some("being opened".to_owned())),
        Some(GraphState::Failed { reason }) => Part::new("degraded", Some(reason)),
        Some(GraphState::Running(status)) => following(&status, state.commands().now().micros()),
    };
    if part.status == "down" {
        part.status = "degraded";
    }
    part
}

/// How the search index is: it is asked alone, so it is never more than degraded.
fn search(state: &AppState) -> Part {
    let Some(search) = &state.documents().search else {
        return Part::new("off", None);
    };
    let projection = &search.projection;
    let mut part = match projection.state() {
        SearchState::Opening => return Part::new("ok", Some("being opened".to_owned())),
        SearchState::Failed { reason } => return Part::new("degraded", Some(reason)),
        SearchState::Running => following(&projection.status(), state.commands().now().micros()),
    };
    if part.status == "down" {
        part.status = "degraded";
    }
    part
}

/// How the queue is: whether jobs are handed out.
fn jobs(state: &AppState) -> Part {
    let queue = &state.documents().queue;
    if let Some(trouble) = queue.trouble() {
        return Part::new("degraded", Some(trouble));
    }
    if queue.is_loaded() {
        return Part::new("ok", None);
    }
    let reason = "the jobs of the log are being looked up";
    Part::new("ok", Some(reason.to_owned()))
}

/// How the log of tokens is: without it tokens hold, and none are given out or taken back. Waits
/// for a change that is being written.
async fn tokens(state: &AppState) -> Result<Part, ApiError> {
    let registry = state.access().registry().clone();
    let reason = match blocking(move || registry.status()).await? {
        None => return Ok(Part::new("off", None)),
        Some(AppenderStatus::Ok) => return Ok(Part::new("ok", None)),
        Some(AppenderStatus::Poisoned { reason }) => {
            format!("{reason}; no token is given out or taken back until it is reopened")
        }
        Some(AppenderStatus::Damaged { damage }) => format!("{damage}; nothing more is written"),
        Some(AppenderStatus::ReadOnly { .. }) => "open for reading only".to_owned(),
    };
    Ok(Part::new("degraded", Some(reason)))
}

/// How the issuer outside is: without its keys its tokens let nobody in.
fn issuer(state: &AppState) -> Part {
    match state.access().registry().authority() {
        None => Part::new("off", None),
        Some(authority) => match authority.problem() {
            None => Part::new("ok", None),
            Some(problem) => {
                let reason = format!("its keys (jwt.jwks) cannot be had: {problem}");
                Part::new("degraded", Some(reason))
            }
        },
    }
}

/// `GET /api/health`: 503 when a part of the tenant that matters is not ok. The graph and the search
/// index only degrade, and so do other tenants.
pub(crate) async fn health(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let tokens = tokens(&state).await?;
    let parts = parts(&state, tokens.clone());
    let others = state.others(&context.caller);
    // It reads the views of each of them.
    let tenants = match others {
        Some(others) => Some(blocking(move || TenantsBody::of(others, &tokens)).await?),
        None => None,
    };
    let status = if parts.worst_that_matters().is_some() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let worst = match parts.worst() {
        "ok" if tenants.as_ref().is_some_and(|tenants| !tenants.is_well()) => "degraded",
        worst => worst,
    };
    let body = HealthBody {
        status: worst,
        database: Store::of(&[&parts.views]),
        event_store: Store::of(&[&parts.log, &parts.content]),
        graph: Store::of(&[&parts.graph]),
        jobs: Store::of(&[&parts.jobs]),
        parts,
        tenants,
    };
    Ok(HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(body))
}

/// `GET /api/health/live`: the process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(serde_json::json!({ "status": "ok" }))
}

/// `GET /api/health/ready`: requests are to be sent here.
pub(crate) async fn ready(state: Served) -> Result<HttpResponse, ApiError> {
    if state.shutdown().is_begun() {
        return Err(ApiError::of(Code::ShuttingDown));
    }
    Ok(live().await)
}

/// `GET /metrics`
pub(crate) async fn metrics(context: Context, state: Served) -> Result<HttpResponse, ApiError> {
    let others = state.others(&context.caller);
    // It reads the views of each tenant.
    let text = blocking(move || state.metrics().render(&state, others)).await?;
    let text = text.map_err(|error| ApiError::of(Code::Internal).because(&error))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, kind))
        .body(text))
}
