//! Workers outside the server: claim, heartbeat, progress, hand in, complete, fail, give back.
//!
//! Every call but the claim carries the fencing token of the attempt. Invariants: what a worker that
//! lost its lease sends, or anybody else than who made the claim, is refused with `LEASE_LOST`, and
//! nothing of it is recorded; events are written under the name of who asks, not of the worker. What
//! was made from what no longer stands is refused, and the job is as it was.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use stemma_domain::document::{DocumentCommand, Stage, may_run};
use stemma_domain::event::{DocumentStageFailed, JobError};
use stemma_domain::id::JobId;
use stemma_domain::job::{Job, JobCommand, JobRefusal, RESULT_BYTES_MAX};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{JobKind, WorkerName};
use stemma_jobs::{Claimant, Claimed, JobsError};
use stemma_pipeline::stages::{CommitFuture, StageOutput, Submission};

use crate::access::{ended, invalid};
use crate::body::{self, blocking};
use crate::context::Context;
use crate::documents::DocumentOptions;
use crate::error::{ApiError, Code};
use crate::handlers::jobs::job_id;
use crate::handlers::output::HandedIn;
use crate::json::{Fields, boolean, checked, natural, object, text};
use crate::query::Query;
use crate::state::AppState;
use crate::tenants::Served;
use crate::wire::job::JobBody;
use crate::write::answer;

/// Most kinds of one claim.
const KINDS_MAX: usize = 64;
/// Most characters of what a worker says meanwhile.
const MESSAGE_CHARS_MAX: usize = 256;
/// Most characters of an error or a warning, which is as much as a stage may put out.
const TOLD_CHARS_MAX: usize = stemma_pipeline::stages::WARNING_BYTES_MAX;
/// Most warnings of a job: those of two stages.
const WARNINGS_MAX: usize = 2 * stemma_pipeline::stages::WARNINGS_MAX;

/// `POST /api/workers/claim`
pub(crate) async fn claim(
    request: HttpRequest,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let bytes_max = state.options().json_bytes_max;
    let (value, _) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let worker = fields.required("worker", checked(worker_name));
    let kinds = fields.required("types", kinds);
    let wait_max = state.documents().options.claim_wait_ms_max;
    let wait_ms = fields.optional("wait_ms", |value| match natural(value) {
        Ok(wait) if wait <= wait_max => Ok(wait),
        _ => Err(format!("expected a whole number from 0 to {wait_max}")),
    });
    fields.finish()?;
    let (Some(worker), Some(kinds)) = (worker, kinds) else {
        return Err(ApiError::of(Code::Internal));
    };
    let wait = Duration::from_millis(wait_ms.unwrap_or(0));
    let queue = &state.documents().queue;
    let registry = state.access().registry();
    let mut shutdown = state.shutdown().follow();
    let claimant = Claimant {
        worker: &worker,
        actor: &context.actor,
    };
    let claimed = tokio::select! {
        biased;
        () = ended(&context.caller, registry) => return Err(invalid()),
        claimed = queue.claim_waiting(claimant, &kinds, wait) => claimed?,
        _ = shutdown.wait_for(|begun| *begun) => None,
    };
    let Some(claimed) = claimed else {
        return Ok(HttpResponse::NoContent().finish());
    };
    if !context.caller.is_still_admitted(registry) {
        give_back(&state, &claimed).await?;
        return Err(invalid());
    }
    Ok(HttpResponse::Ok().json(json!({
        "job": JobBody::of(&claimed.job, None),
        "fencing_token": claimed.token,
        "lease_expires_at": expires(&state, claimed.lease),
        "lease_ms": u64::try_from(claimed.lease.as_millis()).unwrap_or(u64::MAX),
    })))
}

/// Gives a job back whose worker's token ended while the claim was written.
async fn give_back(state: &AppState, claimed: &Claimed) -> Result<(), ApiError> {
    let release = JobCommand::Release {
        token: claimed.token,
        reason: "the worker's token does not hold any more".to_owned(),
    };
    let job = &claimed.job;
    let queue = &state.documents().queue;
    match queue
        .command(job.id, release, "stemma", &job.trace_id)
        .await
    {
        Ok(_) | Err(JobsError::Refused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn worker_name(name: &str) -> Result<WorkerName, String> {
    if name.starts_with("server:") {
        return Err("names that begin with `server:` are the server's own".to_owned());
    }
    WorkerName::new(name).map_err(|error| error.to_string())
}

fn kinds(value: Value) -> Result<Vec<JobKind>, String> {
    let expected = || format!("expected a list of 1 to {KINDS_MAX} types of jobs");
    let Value::Array(items) = value else {
        return Err(expected());
    };
    if !(1..=KINDS_MAX).contains(&items.len()) {
        return Err(expected());
    }
    let kind = |item: Value| {
        let name = text(item)?;
        JobKind::new(&name).map_err(|error| error.to_string())
    };
    items.into_iter().map(kind).collect()
}

fn expires(state: &AppState, lease: Duration) -> String {
    let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    let now = state.commands().now().micros();
    Timestamp::from_micros(now.saturating_add(lease)).to_string()
}

/// A worker's call about a job.
struct Call {
    job: Job,
    token: u64,
    fields: Fields,
    actor: String,
}

async fn call(
    request: &HttpRequest,
    id: &str,
    payload: Payload,
    (state, context): (&AppState, Context),
) -> Result<Call, ApiError> {
    Query::none(request.query_string())?;
    let id = job_id(id)?;
    let bytes_max = state.options().json_bytes_max;
    let (value, _) = body::json(request, payload, bytes_max, state).await?;
    let mut fields = Fields::of(value, "")?;
    let token = fields.required("fencing_token", natural);
    let Some(token) = token else {
        fields.finish()?;
        return Err(ApiError::of(Code::Internal));
    };
    let (job, held) = claimed(state, &context, id)?;
    if held != token {
        return Err(ApiError::of_job(&JobRefusal::LeaseLost));
    }
    Ok(Call {
        job,
        token,
        fields,
        actor: context.actor.clone(),
    })
}

/// A job that whoever asks has claimed, and the token of the claim.
fn claimed(state: &AppState, context: &Context, id: JobId) -> Result<(Job, u64), ApiError> {
    let job = state.commands().job(id)?;
    let job = job.ok_or_else(|| ApiError::of(Code::JobNotFound))?;
    let lost = || ApiError::of_job(&JobRefusal::LeaseLost);
    let token = job.claim.as_ref().ok_or_else(lost)?.token;
    let by = state.documents().queue.claimed_by(id, token)?;
    if by.as_ref() != Some(&context.actor) {
        return Err(lost());
    }
    Ok((job, token))
}

fn beaten(state: &AppState, beat: stemma_jobs::Beat) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "lease_expires_at": expires(state, beat.lease),
        "cancelled": beat.cancelled,
    }))
}

/// `POST /api/workers/jobs/{id}/heartbeat`
pub(crate) async fn heartbeat(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    let call = call(&request, &id, payload, (&state, context)).await?;
    call.fields.finish()?;
    let beat = state.documents().queue.heartbeat(call.job.id, call.token)?;
    Ok(beaten(&state, beat))
}

/// `POST /api/workers/jobs/{id}/progress`
pub(crate) async fn progress(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    let mut call = call(&request, &id, payload, (&state, context)).await?;
    let percent = call.fields.required("progress", |value| {
        let percent = natural(value)
            .ok()
            .and_then(|percent| u8::try_from(percent).ok());
        let percent = percent.filter(|percent| *percent <= 100);
        percent.ok_or("expected a whole number from 0 to 100")
    });
    let message = call.fields.optional("message", message);
    call.fields.finish()?;
    let (percent, message) = (percent.unwrap_or(0), message.unwrap_or_default());
    let queue = &state.documents().queue;
    let beat = queue.progress(call.job.id, call.token, percent, &message)?;
    Ok(beaten(&state, beat))
}

fn message(value: Value) -> Result<String, String> {
    of_at_most(MESSAGE_CHARS_MAX, value)
}

/// An error or a warning.
fn told(value: Value) -> Result<String, String> {
    of_at_most(TOLD_CHARS_MAX, value)
}

fn of_at_most(chars_max: usize, value: Value) -> Result<String, String> {
    let message = text(value)?;
    if message.chars().count() > chars_max {
        return Err(format!("a message has at most {chars_max} characters"));
    }
    Ok(message)
}

/// `POST /api/workers/jobs/{id}/complete`
pub(crate) async fn complete(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    let mut call = call(&request, &id, payload, (&state, context)).await?;
    let result = call.fields.optional("result", result_of);
    let warnings = call.fields.optional("warnings", warnings);
    call.fields.finish()?;
    check_whole(&state, &call.job)?;
    let command = JobCommand::Complete {
        token: call.token,
        result: result.unwrap_or_default(),
        warnings: warnings.unwrap_or_default(),
    };
    end(&state, &call.job, &call.actor, command).await
}

/// Refuses to take a document's job for done while stages that it is there for are not: nobody
/// would do them any more.
fn check_whole(state: &AppState, job: &Job) -> Result<(), ApiError> {
    let Some(document_id) = job.document_id else {
        return Ok(());
    };
    let document = state.commands().document(document_id)?;
    let document = document.ok_or_else(|| ApiError::of(Code::DocumentNotFound))?;
    let missing = match job.payload.get("step").and_then(Value::as_str) {
        Some(step) => step
            .parse()
            .ok()
            .filter(|s| !document.stages.contains_key(s)),
        None => document.next_stage(),
    };
    missing.map_or(Ok(()), |missing: Stage| {
        let detail = format!("the step {missing} is not done, so the job is not");
        Err(ApiError::new(Code::StageMissing, detail))
    })
}

fn result_of(value: Value) -> Result<Map<String, Value>, String> {
    let result = object(value)?;
    let size = serde_json::to_vec(&result).map_or(0, |bytes| bytes.len());
    if size > RESULT_BYTES_MAX {
        return Err(format!("a result has at most {RESULT_BYTES_MAX} bytes"));
    }
    Ok(result)
}

fn warnings(value: Value) -> Result<Vec<String>, String> {
    let Value::Array(items) = value else {
        return Err("expected a list of texts".to_owned());
    };
    if items.len() > WARNINGS_MAX {
        return Err(format!("a job has at most {WARNINGS_MAX} warnings"));
    }
    items.into_iter().map(told).collect()
}

/// `POST /api/workers/jobs/{id}/fail`
pub(crate) async fn fail(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    let mut call = call(&request, &id, payload, (&state, context)).await?;
    let error = call.fields.required("error", |value| {
        let nested = Fields::of(value, "/error");
        let mut nested = nested.map_err(|_| "expected an object".to_owned())?;
        let code = nested.required("code", code);
        let message = nested.required("message", told);
        let stage = nested.optional("stage", message_of_stage);
        let transient = nested.required("transient", boolean);
        match (code, message, transient, nested.finish()) {
            (Some(code), Some(message), Some(transient), Ok(())) => Ok(JobError {
                code,
                message,
                stage,
                transient,
            }),
            _ => Err("expected {code, message, stage?, transient}".to_owned()),
        }
    });
    let after = call.fields.optional("retry_after_ms", natural);
    call.fields.finish()?;
    let error = error.ok_or_else(|| ApiError::of(Code::Internal))?;
    let queue = &state.documents().queue;
    let held = (&call.job, call.token, call.actor.as_str());
    note_failed_stage(&state, held, &error).await;
    let after = after.map(Duration::from_millis);
    let command = queue.fail_command(&call.job, call.token, error, after);
    end(&state, &call.job, &call.actor, command).await
}

/// `POST /api/workers/jobs/{id}/release`: the job is queued again untried, or, when it was to be
/// cancelled, it is.
pub(crate) async fn release(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    let mut call = call(&request, &id, payload, (&state, context)).await?;
    let reason = call.fields.optional("reason", message);
    call.fields.finish()?;
    let command = JobCommand::Release {
        token: call.token,
        reason: reason.unwrap_or_else(|| "the worker gave it back".to_owned()),
    };
    end(&state, &call.job, &call.actor, command).await
}

fn message_of_stage(value: Value) -> Result<String, String> {
    message(value)
}

fn code(value: Value) -> Result<String, String> {
    let code = text(value)?;
    let is_code = (1..=64).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_code
        .then_some(code)
        .ok_or_else(|| "expected 1 to 64 of A-Z, 0-9 and _".to_owned())
}

/// Notes a document's failed stage with the document, as far as the job is one of a document.
async fn note_failed_stage(
    state: &AppState,
    (job, token, actor): (&Job, u64, &str),
    error: &JobError,
) {
    let stage: Option<Stage> = error.stage.as_deref().and_then(|stage| stage.parse().ok());
    let (Some(stage), Some(document_id)) = (stage, job.document_id) else {
        return;
    };
    let failed = DocumentStageFailed {
        attempt: job.attempts,
        document_id,
        error: error.clone(),
        job_id: job.id,
        stage,
        took_ms: None,
    };
    let operation =
        stemma_commands::Operation::of_document(document_id, DocumentCommand::FailStage(failed));
    let request = stemma_commands::Request {
        sight: stemma_domain::access::Sight::Everything,
        operations: vec![operation],
        actor: actor.to_owned(),
        trace_id: job.trace_id.clone(),
        idempotency: None,
        bases: [].into(),
        pins: Vec::new(),
    };
    let queue = &state.documents().queue;
    if let Err(unnoted) = queue.execute_held(job, token, request).await {
        tracing::debug!(%unnoted, "a failed stage was not noted with its document");
    }
}

async fn end(
    state: &AppState,
    job: &Job,
    actor: &str,
    command: JobCommand,
) -> Result<HttpResponse, ApiError> {
    let queue = &state.documents().queue;
    let (job, written) = queue.command(job.id, command, actor, &job.trace_id).await?;
    state.visible(written.end).await?;
    Ok(answer(StatusCode::OK, &written).json(JobBody::of(&job, None)))
}

/// Has the views hold what a worker is told to read again; what they do not hold in time is read as
/// it was, and what is made from it refused once more.
async fn readable_again(state: &AppState, refused: ApiError) -> ApiError {
    if refused.code() == Code::InputChanged {
        let _ = state.visible(state.reader().end().get()).await;
    }
    refused
}

/// `POST /api/workers/jobs/{id}/stages/{stage}`
pub(crate) async fn stage(
    request: HttpRequest,
    place: Path<(String, String)>,
    payload: Payload,
    state: Served,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let (id, stage) = place.into_inner();
    let id = job_id(&id)?;
    let stage: Stage = stage
        .parse()
        .map_err(|()| ApiError::new(Code::InvalidParameters, "there is no such stage"))?;
    // Before the body is taken, which may be most of the memory that there is.
    let (job, token) = claimed(&state, &context, id)?;
    let Some(document_id) = job.document_id else {
        let detail = "the job is not about a document";
        return Err(ApiError::new(Code::DocumentNotFound, detail));
    };
    let DocumentOptions {
        output_bytes_max,
        limits,
        ..
    } = state.documents().options.clone();
    let room = state.outputs().room(&request, output_bytes_max)?;
    let body = body::json_bytes(&request, payload, output_bytes_max).await?;
    let committer = state.documents().committer.clone();
    let runtime = tokio::runtime::Handle::current();
    let written = blocking(move || {
        let handed_in = HandedIn::of(&body, stage)?;
        if handed_in.token != token {
            return Err(ApiError::of_job(&JobRefusal::LeaseLost));
        }
        committer.queue().heartbeat(job.id, token)?;
        let document = committer.document(document_id)?;
        let made_from = handed_in.made_from;
        let allowed = may_run(&document, stage);
        // Before what was made from others is found not to fit these.
        let allowed = allowed.and_then(|()| made_from.check(&document, stage));
        allowed.map_err(ApiError::of_document)?;
        let text = match stage {
            Stage::Chunk => committer.text(&document)?,
            _ => String::new(),
        };
        let output = handed_in.output.get();
        let output = StageOutput::of_json(stage, output, &text, &limits);
        let took = handed_in.took;
        drop((text, body));
        // What waits for the search index holds nothing of the output any more.
        let room = (stage != Stage::Index).then_some(room);
        let submission = Submission {
            job: &job,
            token,
            document: &document,
            output: output?,
            took,
            actor: &context.actor,
        };
        let never = AtomicBool::new(false);
        let block_on = |future: CommitFuture<'_>| runtime.block_on(future);
        let written = committer.commit(submission, &never, &block_on)?;
        drop(room);
        Ok(written)
    });
    let written = match written.await? {
        Ok(written) => written,
        Err(refused) => return Err(readable_again(&state, refused).await),
    };
    state.visible(written.end).await?;
    let recorded: Bytes = Bytes::from_static(b"{\"recorded\":true}");
    Ok(answer(StatusCode::OK, &written)
        .content_type("application/json")
        .body(recorded))
}
