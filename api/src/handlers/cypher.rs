//! `POST /api/graph/query`: Cypher over the graph, reading only.
//!
//! Each query runs on a thread of its own, with a stack for what may be nested, and at most so many
//! at a time. Invariant: it ends with its limits, or as soon as nobody waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use stemma_cypher::{Error, Graph, Limits, Patience, Query, Value};
use stemma_domain::access::Sight;
use stemma_views::{Share, give_way};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::body;
use crate::error::{ApiError, Code};
use crate::graph_gate::{GivenUp, GraphAt, GraphGate};
use crate::handlers::cypher_answer::Writer;
use crate::handlers::graph::{Moment, answer, gate};
use crate::json::{Fields, natural, object, text};
use crate::query;
use crate::tenants::Served;

/// Queries that run at the same time; others wait.
const QUERIES_MAX: usize = 4;
/// How long a query waits for others to end.
const QUEUED: Duration = Duration::from_secs(30);
/// Stack of a query's thread, for expressions, patterns and values within each other.
const STACK_BYTES: usize = 64 << 20;
/// Bytes of answers that are kept.
const KEPT_BYTES: u64 = 16 << 20;
/// Answers that are kept, about.
const KEPT: usize = 4096;
/// Largest answer that is kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What runs queries, and keeps their answers by query and position.
pub(crate) struct Queries {
    running: Arc<Semaphore>,
    answers: Cache<[u8; 32], Bytes, ByBytes>,
    stopped: AtomicU64,
    /// How often the graph was replaced by another one of the same position.
    replaced: AtomicU64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<[u8; 32], Bytes> for ByBytes {
    fn weight(&self, _: &[u8; 32], answer: &Bytes) -> u64 {
        answer.len() as u64 + 64
    }
}

impl Queries {
    pub(crate) fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(QUERIES_MAX)),
            answers: Cache::with_weighter(KEPT, KEPT_BYTES, ByBytes),
            stopped: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        }
    }

    /// Answers that were kept and asked for again, and those that were not.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.answers.hits(), self.answers.misses())
    }

    /// Has no answer be given that was found in the graph so far.
    pub(crate) fn forget(&self) {
        self.replaced.fetch_add(1, Ordering::AcqRel);
    }

    /// Queries that were stopped at a limit.
    pub(crate) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What is asked.
struct Asked {
    query: String,
    parameters: BTreeMap<Arc<str>, Value>,
    limits: Limits,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Syntax { .. } => Code::CypherSyntax,
            Error::Unsupported { .. } => Code::CypherUnsupported,
            Error::WriteRefused { .. } => Code::CypherWriteRefused,
            Error::Runtime(_) => Code::CypherRuntime,
            Error::Limit { .. } => Code::QueryLimit,
            _ => return Self::of(Code::GraphUnavailable).because(&error),
        };
        Self::new(code, error.to_string())
    }
}

/// `POST /api/graph/query`
pub(crate) async fn query(
    request: HttpRequest,
    payload: Payload,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut parameters = query::Query::parse(request.query_string())?;
    let moment = Moment::of(&mut parameters, &state);
    parameters.finish()?;
    let gate = gate(&state)?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let asked = asked(value)?;
    // Before the graph is taken, so that an answer out of one that was replaced is not kept.
    let replaced = gate.queries().replaced.load(Ordering::Acquire);
    let at = moment.graph(&state).await?;
    let of = (replaced, moment.is_now());
    // What one sees another may not, and what was seen a moment ago may be hidden by now.
    let is_shared = *state.sight() == Sight::Everything;
    let kept = gate.queries().answers.get(&key(&bytes, at.end, of));
    if let Some(kept) = kept.filter(|_| is_shared) {
        return Ok(shown_as(&at, kept));
    }
    let running = Arc::clone(&gate.queries().running).acquire_owned();
    let permit = match tokio::time::timeout(QUEUED, running).await {
        Ok(permit) => permit.map_err(|error| ApiError::of(Code::Internal).because(&error))?,
        Err(_) => {
            let why = "as many queries as may are running; ask again in a while";
            return Err(ApiError::new(Code::GraphUnavailable, why.to_owned()));
        }
    };
    // Whoever waited takes the graph as it is by now: the one from before may have been replaced.
    let at = moment.graph(&state).await?;
    let key = key(&bytes, at.end, of);
    let given_up = GivenUp::new();
    let patience = Patience::of(&asked.limits, given_up.flag());
    let graph = at.seen_by(&state).queried(&patience);
    let answering = answered(gate, graph, asked, patience, permit);
    let body = tokio::select! {
        body = answering => body?,
        // A query may take longer than a stop waits: it ends with this request.
        () = state.shutdown().clone().begun() => return Err(ApiError::of(Code::ShuttingDown)),
    };
    // Each look at the graph sees it as it is then: of one position only if none came meanwhile.
    let is_kept = is_shared && body.len() <= KEPT_BYTES_MAX;
    if is_kept && at.unseen().end() == at.end {
        gate.queries().answers.insert(key, body.clone());
    }
    Ok(shown_as(&at, body))
}

fn shown_as(at: &GraphAt, body: Bytes) -> HttpResponse {
    let mut response = answer(at);
    response.insert_header((CONTENT_TYPE, "application/json"));
    response.body(body)
}

/// The request as it came, at a position of one graph, as it is or as it was: nothing that differs
/// has the same.
fn key(request: &[u8], end: u64, (replaced, is_now): (u64, bool)) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&replaced.to_le_bytes());
    hasher.update(&[u8::from(is_now)]);
    hasher.update(&end.to_le_bytes()).update(request);
    *hasher.finalize().as_bytes()
}

async fn answered(
    gate: &GraphGate,
    graph: Box<dyn Graph + Send>,
    asked: Asked,
    patience: Patience,
    permit: OwnedSemaphorePermit,
) -> Result<Bytes, ApiError> {
    let queries = gate.queries();
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("graph-query".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _permit = permit;
            // Others come first.
            give_way(Share::Little);
            // Whoever asked may have gone.
            let _ = answer.send(run(&*graph, &asked, &patience));
        });
    thread.map_err(|error| ApiError::of(Code::StorageUnavailable).because(&error))?;
    let answered = answered.await.map_err(|_| ApiError::of(Code::Internal))?;
    Ok(answered.inspect_err(|error| {
        if matches!(error, Error::Limit { .. }) {
            queries.stopped.fetch_add(1, Ordering::Relaxed);
        }
    })?)
}

fn run(graph: &dyn Graph, asked: &Asked, patience: &Patience) -> Result<Bytes, Error> {
    let query = Query::parse(&asked.query, &asked.limits)?;
    let answer = query.run(graph, &asked.parameters, &asked.limits, patience)?;
    let writer = Writer::new(graph, patience);
    Ok(Bytes::from(writer.answer(&answer)?))
}

/// Reads what is asked.
fn asked(value: serde_json::Value) -> Result<Asked, ApiError> {
    let limits = Limits::default();
    let mut fields = Fields::of(value, "")?;
    let query = fields.required("query", text);
    let parameters = fields.optional("parameters", object);
    let most = limits.rows as u64;
    let limit = fields.optional("limit", |value| {
        let limit = natural(value)?;
        let is_taken = (1..=most).contains(&limit);
        is_taken
            .then_some(limit)
            .ok_or("expected a whole number from 1 to 10000")
    });
    fields.finish()?;
    let query = query.ok_or_else(|| ApiError::of(Code::InvalidFields))?;
    let parameters = parameters.unwrap_or_default().into_iter();
    let rows = limit.and_then(|limit| usize::try_from(limit).ok());
    let parameters = parameters.map(|(name, value)| Ok((Arc::from(name), taken(value)?)));
    Ok(Asked {
        query,
        parameters: parameters.collect::<Result<_, ApiError>>()?,
        limits: Limits {
            rows: rows.unwrap_or(limits.rows),
            ..limits
        },
    })
}

/// A parameter's value.
fn taken(value: serde_json::Value) -> Result<Value, ApiError> {
    Ok(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Boolean(truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, _) if number.is_u64() => {
                let detail = format!("{number} is no integer of Cypher's, which have a sign");
                return Err(ApiError::new(Code::IntegerOutOfRange, detail));
            }
            (None, float) => Value::Float(float.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::text(&text),
        serde_json::Value::Array(values) => {
            let values = values.into_iter().map(taken);
            Value::list(values.collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter();
            let entries = entries.map(|(key, value)| Ok((Arc::from(key), taken(value)?)));
            Value::map(entries.collect::<Result<_, ApiError>>()?)
        }
    })
}
