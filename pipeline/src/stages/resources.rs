//! Jobs about any resource: finding what it speaks of, and writing a new one.

use std::time::Duration;

use serde_json::json;
use stemma_commands::{AsOf, CommandError, Operation, PastState, Request, TextError};
use stemma_content_store::{Digest, Stored};
use stemma_domain::access::Sight;
use stemma_domain::document::EntityMention;
use stemma_domain::event::{JobError, Metadata, ResourceCreated};
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::job::Job;
use stemma_domain::resource::{Access, Command, Refusal, Resource};
use stemma_domain::value::{CollectionName, MediaType, PrincipalName, ResourceName};
use stemma_inference::{Completer, Message, Prompt, Role, Stop};
use stemma_jobs::{JobsError, Outcome, Work};

use crate::stages::annotate::Found;
use crate::stages::commit::CommitError;
use crate::stages::desk::StageError;
use crate::stages::run::{Tools, mentions};

/// The job that finds what a resource speaks of.
pub const DETECT: &str = "resource.detect";
/// The job that has a model write a resource.
pub const GENERATE: &str = "resource.generate";

/// What the payload says of a job that an admin asked for: it sees everything when it runs.
pub const AS_ADMIN: &str = "as_admin";

/// Whether an admin asked for a job.
pub fn is_as_admin(job: &Job) -> bool {
    job.payload.get(AS_ADMIN) == Some(&json!(true))
}

/// Code points of each resource that a model is given as context.
const CONTEXT_CODE_POINTS_MAX: usize = 16_000;
/// Bytes of what a model wrote that are counted when its job is tried again.
const WRITTEN_BYTES_MAX: u64 = 1 << 20;
/// Most tokens that a model writes.
const TOKENS_MAX: u32 = 4096;

/// What is said to whoever asked for annotations where they may no more write any.
const NOT_WRITABLE: &str = "whoever asked for this may read the resource and not change it";

type Failed = (JobError, Option<Duration>);

/// The failure of a job that has no stages.
pub(crate) fn failed(error: &StageError, what: &str) -> Result<Outcome, Failed> {
    match error {
        StageError::Failed {
            code,
            message,
            transient,
            after,
        } => {
            let error = JobError {
                code: code.clone(),
                message: message.clone(),
                stage: Some(what.to_owned()),
                transient: *transient,
            };
            Err((error, *after))
        }
        StageError::Stopped | StageError::LeaseLost => Ok(Outcome::Stopped),
    }
}

/// What whoever asked for a job may see while it runs: what is granted to them by then, whatever
/// was when they asked. What was asked for as an admin sees everything, also once they are none;
/// only an admin has it tried again.
fn sight_of(job: &Job) -> Sight {
    if is_as_admin(job) {
        return Sight::Everything;
    }
    match PrincipalName::new(&job.owner) {
        Ok(owner) => Sight::Of(owner),
        // Whoever is no principal asked a server without tokens, where everybody is as an admin.
        Err(_) => Sight::Everything,
    }
}

fn resource_of(work: &Work, id: ResourceId) -> Result<Resource, StageError> {
    let now = AsOf::Time(work.commands().now());
    let state = work.commands().resource_at(id, now);
    let state = state.map_err(|error| CommitError::from(JobsError::from(error)))?;
    let sight = sight_of(&work.job);
    match state {
        PastState::Found(resource) if resource.descriptor.is_read_by(&sight) => Ok(*resource),
        _ => Err(StageError::permanent(
            "RESOURCE_NOT_FOUND",
            format!("{id} is not there"),
        )),
    }
}

/// The text of a resource's content.
fn text_of(work: &Work, resource: &Resource) -> Result<String, StageError> {
    let text = work.block_on(work.commands().text_of(&resource.descriptor));
    let text = text.map_err(of_text)?;
    let text = text.ok_or_else(|| {
        let why = format!("{} is no text, or too long", resource.descriptor.id);
        StageError::permanent("NO_TEXT", why)
    })?;
    Ok(text.text().to_owned())
}

/// Why a text could not be had: only content that is damaged stays so.
fn of_text(error: TextError) -> StageError {
    match error {
        TextError::Read(read) => CommitError::from(read).into(),
        other => StageError::permanent("CONTENT_DAMAGED", other),
    }
}

fn payload_id(work: &Work) -> Result<ResourceId, StageError> {
    let id = work
        .job
        .payload
        .get("resource_id")
        .and_then(|id| id.as_str());
    let id = id.and_then(|id| id.parse().ok());
    id.ok_or_else(|| StageError::permanent("INVALID_PAYLOAD", "the job names no resource"))
}

/// Finds what a resource speaks of, and annotates it.
pub(crate) fn detect(work: &Work, tools: &Tools) -> Result<Metadata, StageError> {
    let id = payload_id(work)?;
    work.progress(5, "reading");
    let resource = resource_of(work, id)?;
    if !resource.descriptor.is_written_by(&sight_of(&work.job)) {
        return Err(StageError::permanent("GRANT_MISSING", NOT_WRITABLE));
    }
    let text = text_of(work, &resource)?;
    let told = |done: usize, total: usize| {
        let percent = 10 + u8::try_from(80 * done / total.max(1)).unwrap_or(80);
        work.progress(percent, &format!("detecting entities: {done} of {total}"));
    };
    let digest = resource.descriptor.digest;
    let stop = Stop::by(work.stop_flag());
    let (entities, dropped) = mentions(tools, &digest, &text, &stop, &told)?;
    let found = Found {
        document: id,
        detector: tools.detector.name(),
        source: format!("urn:uuid:{id}"),
        text: &text,
        entities: &entities,
    };
    let changes = found
        .changes(&resource)
        .map_err(|error| StageError::permanent("INTERNAL", error))?;
    let mut result = Metadata::new();
    result.insert("resource_id".into(), json!(id));
    result.insert("detector".into(), json!(tools.detector.name()));
    result.insert("entity_count".into(), json!(entities.len()));
    result.insert("annotations_added".into(), json!(changes.added));
    result.insert("annotations_removed".into(), json!(changes.removed));
    result.insert("dropped_spans".into(), json!(dropped));
    if !changes.operations.is_empty() {
        execute(work, changes.operations, Vec::new())?;
    }
    Ok(result)
}

fn execute(
    work: &Work,
    operations: Vec<Operation>,
    pins: Vec<stemma_content_store::Pin>,
) -> Result<(), StageError> {
    let request = Request {
        sight: sight_of(&work.job),
        operations,
        actor: work.job.owner.clone(),
        trace_id: work.job.trace_id.clone(),
        idempotency: None,
        bases: [].into(),
        pins,
    };
    let Err(error) = work.execute(request) else {
        return Ok(());
    };
    // Grants may have changed while it was worked on.
    if let JobsError::Command(CommandError::Refused { refusal, .. }) = &error {
        match refusal {
            Refusal::NotFound => return Err(StageError::permanent("RESOURCE_NOT_FOUND", refusal)),
            Refusal::NotGranted(_) => {
                return Err(StageError::permanent("GRANT_MISSING", NOT_WRITABLE));
            }
            _ => {}
        }
    }
    Err(CommitError::from(error).into())
}

/// What a model is asked to write, and from what.
struct Asked {
    id: ResourceId,
    name: ResourceName,
    prompt: String,
    context: Vec<ResourceId>,
    media_type: MediaType,
    collection: Option<CollectionName>,
}

fn asked(payload: &Metadata) -> Option<Asked> {
    let text = |name: &str| payload.get(name).and_then(|value| value.as_str());
    let context = payload.get("context").and_then(|value| value.as_array());
    let context = context.into_iter().flatten();
    let context = context.filter_map(|id| id.as_str()?.parse().ok());
    Some(Asked {
        id: text("resource_id")?.parse().ok()?,
        name: ResourceName::new(text("name")?).ok()?,
        prompt: text("prompt")?.to_owned(),
        context: context.collect(),
        media_type: MediaType::new(text("media_type").unwrap_or("text/markdown")).ok()?,
        collection: text("collection").and_then(|name| CollectionName::new(name).ok()),
    })
}

/// What came of an attempt before, which was broken off behind what it wrote: that stands, and is
/// not written again. Its id is told to nobody before it is there.
fn written_before(work: &Work, asked: &Asked) -> Result<Option<Metadata>, StageError> {
    // The job itself stands there. A clock may have gone back since.
    let Some(last) = work.commands().reader().end().get().checked_sub(1) else {
        return Ok(None);
    };
    let state = work.commands().resource_at(asked.id, AsOf::Position(last));
    let state = state.map_err(|error| CommitError::from(JobsError::from(error)))?;
    let PastState::Found(resource) = state else {
        return Ok(None);
    };
    let descriptor = &resource.descriptor;
    let is_ours = descriptor.created_by == work.job.owner
        && descriptor.metadata.get("prompt") == Some(&json!(asked.prompt));
    let model = descriptor.metadata.get("model");
    let Some(model) = model.and_then(|model| model.as_str()).filter(|_| is_ours) else {
        let why = format!("another resource has the id {}", asked.id);
        return Err(StageError::permanent("ALREADY_EXISTS", why));
    };
    let digest = Digest::from_bytes(*descriptor.digest.as_bytes());
    let content = work.commands().content();
    let text = content.read_all(&digest, WRITTEN_BYTES_MAX);
    let text = text.map_err(CommitError::from)?.unwrap_or_default();
    Ok(Some(told(asked.id, model, &String::from_utf8_lossy(&text))))
}

/// What is told of a resource that was written.
fn told(id: ResourceId, model: &str, text: &str) -> Metadata {
    let mut result = Metadata::new();
    result.insert("resource_id".into(), json!(id));
    result.insert("model".into(), json!(model));
    result.insert("characters".into(), json!(text.chars().count()));
    result
}

/// Has a model write a resource, derived from the first that it was given as context.
pub(crate) fn generate(work: &Work, completer: &dyn Completer) -> Result<Metadata, StageError> {
    let asked = asked(&work.job.payload).ok_or_else(|| {
        StageError::permanent("INVALID_PAYLOAD", "the job says not what to write")
    })?;
    if let Some(result) = written_before(work, &asked)? {
        return Ok(result);
    }
    work.progress(5, "reading the context");
    let (prompt, access) = prompt(work, &asked)?;
    let stop = Stop::by(work.stop_flag());
    let mut written = 0;
    let mut on_delta = |delta: &str| {
        written += delta.chars().count();
        work.progress(50, &format!("writing: {written} characters"));
    };
    let completion = completer.complete(&prompt, &mut on_delta, &stop)?;
    let putting = work
        .commands()
        .content()
        .put(completion.text.clone().into());
    let stored: Stored = work.block_on(putting).map_err(CommitError::from)?;
    let mut metadata = Metadata::new();
    metadata.insert("model".into(), json!(completer.model()));
    metadata.insert("prompt".into(), json!(asked.prompt));
    let created = ResourceCreated {
        access,
        byte_size: stored.len,
        collection: asked.collection,
        derived_from: asked.context.first().copied(),
        digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
        entity_types: Vec::new(),
        id: asked.id,
        language: None,
        media_type: asked.media_type,
        metadata,
        name: asked.name,
    };
    let create = Operation::of_resource(asked.id, Command::Create(created));
    execute(work, vec![create], vec![stored.pin])?;
    Ok(told(asked.id, completer.model(), &completion.text))
}

/// What the model is asked, and who may see what it writes.
fn prompt(work: &Work, asked: &Asked) -> Result<(Prompt, Access), StageError> {
    let mut messages = Vec::new();
    let mut access = Access::default();
    for id in &asked.context {
        let resource = resource_of(work, *id)?;
        // What was not for everybody is not made known to everybody by what is written from it.
        if !resource.descriptor.access.is_open() {
            access = Access::private();
        }
        let text: String = text_of(work, &resource)?
            .chars()
            .take(CONTEXT_CODE_POINTS_MAX)
            .collect();
        messages.push(Message {
            role: Role::User,
            text: format!("# {}\n\n{text}", resource.descriptor.name),
        });
    }
    messages.push(Message {
        role: Role::User,
        text: asked.prompt.clone(),
    });
    let prompt = Prompt {
        system: "Write the text that is asked for and nothing around it. Rest on the context."
            .to_owned(),
        messages,
        tokens_max: TOKENS_MAX,
    };
    Ok((prompt, access))
}

/// What was found, in the order of the text, and how many spans were dropped.
pub(crate) type Mentions = (Vec<EntityMention>, u64);

#[cfg(test)]
mod tests;
