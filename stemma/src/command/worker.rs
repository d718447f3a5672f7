//! `stemma worker`: a process of its own that takes documents' jobs on from a server.
//!
//! Invariant: a job that was taken on is completed, failed or given back, or, when the server
//! cannot be told, let run out; nothing is told of an attempt whose lease is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use stemma_domain::document::Stage;
use stemma_domain::value::WorkerName;
use stemma_pipeline::stages::{
    PROCESS, STEP, StageError, Tools, WARNING_BYTES_MAX, process_again, run as run_stage,
};
use stemma_telemetry::{Span, SpanKind};

use crate::api_client::{Refused, Server};
use crate::cli::{Common, Worker};
use crate::config::Settings;
use crate::exit::{Exit, Usage};
use crate::interrupt;
use crate::lease::{Attempt, Lease};
use crate::remote_desk::{DocumentJob, Patience, RemoteDesk, say};

/// How long the server is to hold a claim for which there is no job; one who is to end waits for
/// that.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// How long a claim may take beyond that.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(30);
/// The reason that a job is given back with.
const GIVEN_BACK: &str = "the worker stops";

/// What every slot works with.
struct Slots {
    server: Arc<Server>,
    tools: Tools,
    name: WorkerName,
}

/// A job that a slot has taken on.
struct Claimed {
    attempt: Attempt,
    job: Result<DocumentJob, String>,
    /// What kind of job it is, and the trace that it belongs to.
    kind: String,
    trace_id: String,
}

pub(crate) fn run(common: &Common, settings: &Settings, worker: &Worker) -> anyhow::Result<Exit> {
    let _exporter = crate::spans::export(settings)?;
    let server = Server::for_worker(common)?;
    let name = match &worker.name {
        Some(name) => name.clone(),
        None => format!("{}-{}", machine(), std::process::id()),
    };
    let name = WorkerName::new(&name)
        .map_err(|error| Usage(format!("--name is {name:?}: expected {error}")))?;
    let slots = Slots {
        server: Arc::new(server),
        tools: crate::tools::tools(settings)?,
        name,
    };
    tracing::info!(name = %slots.name, slots = worker.slots, "works for the server");
    let ended: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..worker.slots)
            .map(|index| {
                let named = std::thread::Builder::new().name(format!("slot-{index}"));
                named.spawn_scoped(scope, || slots.work())
            })
            .collect();
        let ended = threads.into_iter().map(|thread| {
            let joined = thread.context("start the thread of a slot")?.join();
            joined.unwrap_or_else(|_| Err(anyhow!("a slot ended by a mistake of ours")))
        });
        ended.collect()
    });
    ended.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(Exit::Done)
}

/// The machine's name.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "worker".to_owned(),
        name => name.to_owned(),
    }
}

impl Slots {
    /// Takes jobs on and does them, one at a time, until the process is to end.
    fn work(&self) -> anyhow::Result<()> {
        let mut patience = Patience::default();
        while interrupt::flow().is_continue() {
            let began = Instant::now();
            match self.claim() {
                Ok(Some(claimed)) => {
                    patience = Patience::default();
                    self.attempt(claimed)?;
                }
                // One that stops answers at once.
                Ok(None) if began.elapsed() < CLAIM_WAIT / 2 => interrupt::rest(patience.next()),
                Ok(None) => patience = Patience::default(),
                Err(error) => match error.downcast_ref::<Refused>() {
                    Some(refused) if !matches!(refused.status, 408 | 429) => return Err(error),
                    refused => {
                        let least = refused.and_then(|refused| refused.retry_after);
                        let wait = patience.next().max(least.unwrap_or_default());
                        tracing::warn!("{error:#}; asking again in {} ms", wait.as_millis());
                        interrupt::rest(wait);
                    }
                },
            }
        }
        Ok(())
    }

    fn claim(&self) -> anyhow::Result<Option<Claimed>> {
        let wait_ms = u64::try_from(CLAIM_WAIT.as_millis()).unwrap_or(u64::MAX);
        let body = json!({
            "worker": self.name.as_str(), "types": [PROCESS, STEP], "wait_ms": wait_ms,
        });
        let within = Some(CLAIM_WAIT + CLAIM_TIMEOUT);
        let body = body.to_string();
        let claimed = self
            .server
            .post("/api/workers/claim", body.as_bytes(), within)?;
        claimed.map(|claimed| read_claimed(&claimed)).transpose()
    }

    /// Does a job, and says what came of it.
    fn attempt(&self, claimed: Claimed) -> anyhow::Result<()> {
        let id = claimed.attempt.job_id.clone();
        let name = format!("job {}", claimed.kind);
        let mut span = Span::of(&claimed.trace_id, name, SpanKind::Consumer).enter();
        span.note("stemma.job_id", id.as_str());
        span.note("stemma.worker", self.name.as_str());
        let lease = Lease::keep(Arc::clone(&self.server), claimed.attempt)?;
        let bytes_max = self.tools.limits.bytes_max;
        let said = match &claimed.job {
            Ok(job) => self.do_job(&RemoteDesk::new(&self.server, &lease, job, bytes_max), job),
            Err(why) => Some(failed("INVALID_PAYLOAD", why)),
        };
        // Of a lost lease the job is told by the one who has it now.
        let Some((call, body)) = said.filter(|_| !lease.is_lost()) else {
            return Ok(());
        };
        if call == "fail" {
            span.fail(body["error"]["code"].as_str().unwrap_or_default());
        }
        match say(&self.server, &lease, call, body) {
            Ok(()) => tracing::info!(job = %id, "{call}"),
            Err(StageError::LeaseLost) => tracing::warn!(job = %id, "the lease was lost"),
            Err(error) => {
                tracing::warn!(job = %id, %error, "what came of it could not be told; it goes to another");
            }
        }
        Ok(())
    }

    /// Does a job; gives the call that says what came of it, and its body.
    fn do_job(&self, desk: &RemoteDesk<'_>, job: &DocumentJob) -> Option<(&'static str, Value)> {
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| {
            match job.step {
                Some(stage) => {
                    run_stage(desk, &self.tools, stage).map_err(|error| (Some(stage), error))
                }
                None => process_again(desk, &self.tools, job.again)
                    .map_err(|(stage, error)| (Some(stage), error)),
            }?;
            desk.summary().map_err(|error| (None, error))
        }));
        let error = match done {
            Ok(Ok(summary)) => {
                let result = summary.result(began.elapsed());
                let body = json!({ "result": result, "warnings": summary.warnings() });
                return Some(("complete", body));
            }
            Ok(Err((_, StageError::LeaseLost))) => return None,
            Ok(Err((_, StageError::Stopped))) => {
                return Some(("release", json!({ "reason": GIVEN_BACK })));
            }
            Ok(Err((stage, error))) => (stage, error),
            Err(_) => {
                let why = "the worker panicked; this is a mistake of ours";
                return Some(failed("INTERNAL", why));
            }
        };
        let (stage, error) = error;
        Some(told(stage, &error))
    }
}

/// A failure that no other try mends.
fn failed(code: &str, message: &str) -> (&'static str, Value) {
    told(None, &StageError::permanent(code, message))
}

fn told(stage: Option<Stage>, error: &StageError) -> (&'static str, Value) {
    let StageError::Failed {
        code,
        message,
        transient,
        after,
    } = error
    else {
        return ("release", json!({ "reason": GIVEN_BACK }));
    };
    // As long as the server takes a message.
    let message = &message[..message.floor_char_boundary(WARNING_BYTES_MAX)];
    let mut body = json!({
        "error": { "code": code, "message": message, "transient": transient },
    });
    if let Some(stage) = stage {
        body["error"]["stage"] = stage.name().into();
    }
    if let Some(after) = after {
        body["retry_after_ms"] = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into();
    }
    ("fail", body)
}

fn read_claimed(claimed: &Value) -> anyhow::Result<Claimed> {
    let job = &claimed["job"];
    let unclear = || anyhow!("the server's answer to a claim is none");
    let attempt = Attempt {
        job_id: job["id"].as_str().ok_or_else(unclear)?.to_owned(),
        token: claimed["fencing_token"].as_u64().ok_or_else(unclear)?,
        lease: Duration::from_millis(claimed["lease_ms"].as_u64().ok_or_else(unclear)?),
    };
    let payload = &job["payload"];
    let document_id = job["document_id"].as_str().and_then(|id| id.parse().ok());
    let step = payload["step"].as_str().map(str::parse::<Stage>);
    let job = match (document_id, step.transpose()) {
        (None, _) => Err("the job names no document".to_owned()),
        (_, Err(())) => Err("there is no such step".to_owned()),
        (Some(document_id), Ok(step)) => Ok(DocumentJob {
            document_id,
            step,
            again: payload["again"]
                .as_str()
                .and_then(|stage| stage.parse().ok()),
            chunking: serde_json::from_value(payload["chunking"].clone()).ok(),
        }),
    };
    let text = |name: &str| claimed["job"][name].as_str().unwrap_or_default().to_owned();
    Ok(Claimed {
        attempt,
        job,
        kind: text("type"),
        trace_id: text("trace_id"),
    })
}
