//! Documents: upload, look at, read their text and chunks, run one step.

use actix_multipart::{Field, Multipart};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderValue, LOCATION};
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use stemma_commands::{Answered, CommandError, Operation, Request};
use stemma_content_store::Stored;
use stemma_domain::document::{
    Chunking, Document, DocumentCommand, DocumentRefusal, Input, Stage, Steps, Strategy,
    document_id, may_run, own_document_id,
};
use stemma_domain::event::{DocumentUploaded, ResourceCreated};
use stemma_domain::id::{ContentDigest, JobId, ResourceId};
use stemma_domain::job::{Job, JobCommand};
use stemma_domain::resource::{Access, Command, Refusal};
use stemma_domain::value::{CollectionName, FileName, JobKind, MediaType, ResourceName};
use stemma_event_log::Idempotency;
use stemma_jobs::NewJob;
use stemma_pipeline::stages::{PROCESS, STEP};
use stemma_pipeline::validate::safe_file_name;
use stemma_views::{JobQuery, day_of};

use crate::body::{self, blocking, malformed, part_bytes, receive_at_most};
use crate::conditional::{digest_tag, no_precondition};
use crate::context::Context;
use crate::error::{ApiError, Code, FieldProblem};
use crate::handlers::grants::check_writable;
use crate::handlers::resources::{find, reflecting, resource_id};
use crate::handlers::uploaded::{Known, Replayed, answered, given};
use crate::idempotency;
use crate::json::{Fields, checked, natural};
use crate::page::Page;
use crate::query::Query;
use crate::state::{AppState, Reflected};
use crate::tenants::Served;
use crate::wire::document::{ChunkBody, DocumentBody};
use crate::wire::grants::access as access_of;
use crate::wire::job::JobBody;
use crate::write::answer;

/// Most bytes of a field of an upload beside the file.
const FIELD_BYTES_MAX: usize = 4096;
/// The part of the form that is the file.
const FILE: &str = "file";
/// The fields of the form beside it. Each comes once at the most, so a form holds no more than all
/// of them together, however many parts are sent.
const FIELDS: [&str; 6] = [
    "access",
    "chunk_overlap",
    "chunk_size",
    "chunking_strategy",
    "collection",
    "steps",
];
/// Jobs about one document that are looked at for what is under way.
const JOBS_LOOKED_AT: usize = 100;
/// The job that stands for an upload whose steps the client runs.
const UPLOAD: &str = "document.upload";

/// What an upload says.
struct Upload {
    file: Stored,
    file_name: FileName,
    media_type: Option<MediaType>,
    collection: Option<CollectionName>,
    chunking: Chunking,
    steps: Steps,
    /// The grants that it asks for, if it says so.
    asked_access: Option<Access>,
}

impl Upload {
    /// The grants that a document gets which it makes.
    fn access(&self) -> Access {
        self.asked_access.clone().unwrap_or_default()
    }

    /// What is asked for beside the bytes, by which an idempotency key is held to one request.
    fn described(&self) -> String {
        let (access, collection) = (self.access(), &self.collection);
        let asked = format!(
            "{:?} {:?} {:?} {:?} {access:?}",
            self.file_name, self.media_type, self.chunking, self.steps
        );
        // Keys of before knew of none.
        let collection = collection.as_ref().map(|name| format!(" {name:?}"));
        asked + &collection.unwrap_or_default()
    }
}

/// The file of a form, with its media type and its name as they were sent.
type SentFile = (Stored, Option<MediaType>, Option<String>);

/// The parts of a form.
#[derive(Default)]
struct Form {
    file: Option<SentFile>,
    /// The fields beside it.
    fields: Map<String, Value>,
}

impl Form {
    /// Refuses a part that no upload has, or that came before, ahead of what is in it.
    fn check_part(&self, name: &str) -> Result<(), ApiError> {
        if name != FILE && !FIELDS.contains(&name) {
            return Err(wrong_part(name, "UNKNOWN_FIELD", "no such field here"));
        }
        if self.fields.contains_key(name) || (name == FILE && self.file.is_some()) {
            return Err(wrong_part(name, "REPEATED_FIELD", "may be given once"));
        }
        Ok(())
    }
}

/// `POST /api/documents/upload`
pub(crate) async fn upload(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let why = "what is made anew has no tag yet; bytes that are there already name their document";
    no_precondition(&request, why)?;
    // The key alone; what is asked is known once the body is.
    let key = idempotency::of(&request, &context, &[])?;
    check_uploads_today(&state, &context, key.as_ref())?;
    let form = read_form(&request, payload, &state).await?;
    let upload = read_upload(form)?;
    let digest = ContentDigest::from_bytes(*upload.file.digest.as_bytes());
    let id = id_of(&state, &context, &digest, &upload)?;
    let described = upload.described();
    let asked = [digest.as_bytes().as_slice(), described.as_bytes()];
    let key = idempotency::of(&request, &context, &asked)?;
    if let Some(first) = answered(&state, key.as_ref()).await? {
        return given(&first, Replayed::Yes);
    }
    let asked = upload.asked_access.clone();
    let known = Known::find(&state, id, asked.as_ref())?;
    if let Some(known) = known.as_ref().filter(|known| !known.may_begin_anew()) {
        return known.deduplicated(&state, &context, key).await;
    }
    let pin = upload.file.pin.clone();
    let request = Request {
        operations: operations(&state, &context, (id, known), upload, key.as_ref())?,
        actor: context.actor.clone(),
        sight: context.sight(),
        trace_id: context.trace_id.clone(),
        idempotency: key,
        bases: context.bases.clone(),
        pins: vec![pin.clone()],
    };
    let written = match state.commands().execute(request).await {
        Ok(written) => written,
        Err(error) if is_there_already(&error) => {
            // Somebody sent the same bytes just now.
            state.visible(state.reader().end().get()).await?;
            // Under the same key it was the same request, which has its answer by now.
            if let Some(first) = answered(&state, key.as_ref()).await? {
                return given(&first, Replayed::Yes);
            }
            let known = Known::find(&state, id, asked.as_ref())?;
            let known = known.ok_or_else(|| ApiError::of(Code::AlreadyExists))?;
            return known.deduplicated(&state, &context, key).await;
        }
        Err(error) => return Err(ApiError::of_command(&error, &|_| String::new())),
    };
    state.visible(written.end).await?;
    drop(pin);
    let results = &written.results;
    let first = Answered {
        position: written.end.saturating_sub(1),
        document: results.iter().find_map(|result| result.document.clone()),
        job: results.iter().rev().find_map(|result| result.job.clone()),
        is_as_found: false,
    };
    match answered(&state, key.as_ref().filter(|_| written.replayed)).await? {
        Some(before) => given(&before, Replayed::Yes),
        None => given(&first, Replayed::No),
    }
}

/// What the document is called. One that is not for everybody is its uploader's own, and so is one
/// of bytes that are somebody's already in secret: whether there is such a document is not told by
/// what is found to be there.
fn id_of(
    state: &Served,
    context: &Context,
    digest: &ContentDigest,
    upload: &Upload,
) -> Result<ResourceId, ApiError> {
    let collection = upload.collection.as_ref();
    let of_all = document_id(digest, collection);
    let there = state.projection().views().resource(of_all)?;
    let is_hidden = there.is_some_and(|there| !there.is_read_by(state.sight()));
    if upload.access().is_open() && !is_hidden {
        return Ok(of_all);
    }
    Ok(own_document_id(digest, collection, &context.actor))
}

/// Whether a command was refused because its document is there.
fn is_there_already(error: &CommandError) -> bool {
    let CommandError::Refused { refusal, .. } = error else {
        return false;
    };
    *refusal == Refusal::AlreadyExists
        || *refusal == Refusal::Document(DocumentRefusal::AlreadyExists)
}

/// Refuses an upload by somebody who made as many today as they may. One whose key came before is
/// answered as it was then, and makes none.
fn check_uploads_today(
    state: &AppState,
    context: &Context,
    key: Option<&Idempotency>,
) -> Result<(), ApiError> {
    let most = state.documents().options.uploads_per_day_max;
    if most == 0 {
        return Ok(());
    }
    let day = day_of(state.commands().now());
    let made = state.projection().views().uploads_on(day, &context.actor)?;
    // Looked up behind the count: the first of two that came at once may be the last one of today.
    if made >= most && !is_repeated(state, key)? {
        let detail = format!("{made} documents were uploaded today, at most {most} are taken");
        return Err(ApiError::new(Code::UploadsExceeded, detail));
    }
    Ok(())
}

async fn read_form(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
) -> Result<Form, ApiError> {
    if body::essence(request).as_deref() != Some("multipart/form-data") {
        let detail = "expected a body of type multipart/form-data with a part `file`";
        return Err(ApiError::new(Code::UnsupportedMediaType, detail));
    }
    let mut parts = Multipart::new(request.headers(), payload);
    let mut form = Form::default();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| malformed(&error))?;
        let name = part.name().unwrap_or_default().to_owned();
        form.check_part(&name)?;
        if name == FILE {
            form.file = Some(read_file(part, state).await?);
        } else {
            let bytes = part_bytes(part, FIELD_BYTES_MAX).await?;
            let text = String::from_utf8(bytes.into());
            let text = text.map_err(|_| wrong_part(&name, "INVALID_VALUE", "expected UTF-8"))?;
            form.fields.insert(name, Value::String(text));
        }
    }
    Ok(form)
}

/// That a part of the form is wrong, which is found before the rest of the form is read.
fn wrong_part(name: &str, code: &str, detail: impl Into<String>) -> ApiError {
    let field = FieldProblem::at(format!("/{name}"), code, detail);
    ApiError::fields(Code::InvalidFields, vec![field])
}

async fn read_file(part: Field, state: &AppState) -> Result<SentFile, ApiError> {
    let media_type = media_type_of(&part)?;
    let disposition = part.content_disposition();
    let name = disposition
        .and_then(|d| d.get_filename())
        .map(str::to_owned);
    let bytes_max = state.documents().options.bytes_max;
    let stored = receive_at_most(part, malformed, state, bytes_max).await?;
    Ok((stored, media_type, name))
}

/// The media type that a file came with. One that is none is refused: passed over, the file would be
/// taken for something else than it was sent as.
fn media_type_of(part: &Field) -> Result<Option<MediaType>, ApiError> {
    if !part.headers().contains_key(CONTENT_TYPE) {
        return Ok(None);
    }
    let sent = part.content_type().map(ToString::to_string);
    let media_type = MediaType::new(&sent.unwrap_or_default());
    let media_type = media_type.map_err(|error| error.to_string());
    let refused = |why| wrong_part(FILE, "INVALID_VALUE", why);
    media_type.map(Some).map_err(refused)
}

/// A number that comes as a text, as fields of forms do.
fn number(value: Value) -> Result<u32, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => natural(other).ok(),
    };
    let number = number.and_then(|number: u64| u32::try_from(number).ok());
    number.ok_or_else(|| "expected a whole number from 0".to_owned())
}

fn strategy(text: &str) -> Result<Strategy, &'static str> {
    text.parse()
        .map_err(|()| "expected sentence, markdown or size")
}

fn read_upload(form: Form) -> Result<Upload, ApiError> {
    let mut fields = Fields::of(Value::Object(form.fields), "")?;
    let collection = fields.optional("collection", checked(CollectionName::new));
    let chunking = read_chunking(&mut fields, None);
    let steps = fields.optional(
        "steps",
        checked(|text| match text {
            "auto" => Ok(Steps::Auto),
            "none" => Ok(Steps::None),
            _ => Err("expected auto or none"),
        }),
    );
    // Fields of forms are texts.
    let access = fields.optional("access", |value| {
        serde_json::from_str::<Value>(value.as_str().unwrap_or_default())
            .map_err(|_| "expected JSON such as {\"visibility\": \"private\"}")
    });
    let is_said = access.is_some();
    fields.put("access", access);
    let access = access_of(&mut fields);
    if form.file.is_none() {
        fields.problem(FILE, "MISSING_FIELD", "the part `file` must be given");
    }
    fields.finish()?;
    let (Some((file, media_type, name)), Some(chunking)) = (form.file, chunking) else {
        return Err(ApiError::of(Code::Internal));
    };
    let name = safe_file_name(name.as_deref().unwrap_or("document"));
    Ok(Upload {
        file,
        file_name: FileName::new(&name).map_err(|_| ApiError::of(Code::Internal))?,
        media_type,
        collection,
        chunking,
        steps: steps.unwrap_or(Steps::Auto),
        asked_access: is_said.then_some(access),
    })
}

/// How a text is to be cut, where that is said; else as `before`, else by default.
fn read_chunking(fields: &mut Fields, before: Option<Chunking>) -> Option<Chunking> {
    let asked = ["chunking_strategy", "chunk_size", "chunk_overlap"];
    let says = asked.iter().any(|name| fields.has(name));
    let strategy = fields.optional("chunking_strategy", checked(strategy));
    let size = fields.optional("chunk_size", number);
    let overlap = fields.optional("chunk_overlap", number);
    if !says {
        return Some(before.unwrap_or_default());
    }
    match Chunking::new(strategy.unwrap_or(Strategy::Sentence), size, overlap) {
        Ok(chunking) => Some(chunking),
        Err(error) => {
            fields.problem("chunk_size", "INVALID_FIELD", error.to_string());
            None
        }
    }
}

fn operations(
    state: &AppState,
    context: &Context,
    (id, known): (ResourceId, Option<Known>),
    upload: Upload,
    key: Option<&Idempotency>,
) -> Result<Vec<Operation>, ApiError> {
    let digest = ContentDigest::from_bytes(*upload.file.digest.as_bytes());
    let job_id = JobId::new(state.commands().new_id());
    let sent = upload.media_type.clone();
    let media_type = sent.unwrap_or_else(|| {
        MediaType::new("application/octet-stream").expect("a constant that is a media type")
    });
    let created = ResourceCreated {
        access: upload.access(),
        byte_size: upload.file.len,
        collection: upload.collection.clone(),
        derived_from: None,
        digest,
        entity_types: Vec::new(),
        id,
        language: None,
        media_type,
        metadata: Map::new(),
        name: ResourceName::new(upload.file_name.as_str())
            .map_err(|_| ApiError::of(Code::Internal))?,
    };
    let uploaded = DocumentUploaded {
        byte_size: upload.file.len,
        chunking: upload.chunking,
        collection: upload.collection,
        declared_media_type: upload.media_type,
        digest,
        file_name: upload.file_name,
        id,
        steps: upload.steps,
    };
    let is_auto = upload.steps == Steps::Auto;
    let new = NewJob {
        id: job_id,
        kind: kind(if is_auto { PROCESS } else { UPLOAD }),
        payload: payload(id, None),
        priority: 0,
        max_retries: None,
        document_id: Some(id),
        trace_id: context.trace_id.clone(),
    };
    let queue = &state.documents().queue;
    let mut operations = match known {
        Some(known) => known.begin_anew(uploaded),
        None => vec![
            Operation::of_resource(id, Command::Create(created)),
            Operation::of_document(id, DocumentCommand::Upload(uploaded)),
        ],
    };
    operations.push(queue.queue_operation(new, key)?);
    if !is_auto {
        // The upload was all of it; the client says what comes next.
        let result = payload(id, None);
        let complete = JobCommand::CompleteUnclaimed { result };
        operations.push(Operation::of_job(job_id, complete));
    }
    Ok(operations)
}

fn kind(name: &str) -> JobKind {
    JobKind::new(name).expect("a constant that is a kind")
}

fn payload(id: ResourceId, step: Option<Stage>) -> Map<String, Value> {
    let mut payload = Map::new();
    payload.insert("document_id".to_owned(), json!(id));
    if let Some(step) = step {
        payload.insert("step".to_owned(), json!(step));
    }
    payload
}

/// A document as the views have it.
pub(crate) fn document(at: &Reflected, id: ResourceId) -> Result<Document, ApiError> {
    let document = at.views.document(id)?;
    document.ok_or_else(|| ApiError::of(Code::DocumentNotFound))
}

/// `GET /api/documents/{id}`
pub(crate) async fn get(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let at = state.views_at(wait).await?;
    let document = document(&at, id)?;
    let descriptor = find(&at, id)?;
    let jobs = JobQuery {
        document_id: Some(id),
        limit: JOBS_LOOKED_AT,
        ..JobQuery::default()
    };
    let mut jobs = at.views.jobs(&jobs)?.items;
    jobs.retain(|job| !job.status.is_ended());
    let body = DocumentBody::of(&descriptor, &document, &jobs, state.sight());
    Ok(reflecting(StatusCode::OK, at.position()).json(body))
}

/// `GET /api/documents/{id}/text`
pub(crate) async fn text(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let at = state.views_at(wait).await?;
    let document = document(&at, id)?;
    let tag = tag(&document, Input::Text)?;
    let committer = state.documents().committer.clone();
    let text = blocking(move || committer.output(&document, Stage::Parse, "text")).await??;
    Ok(reflecting(StatusCode::OK, at.position())
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((ETAG, tag))
        .body(text))
}

/// `GET /api/documents/{id}/structure`
pub(crate) async fn structure(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let at = state.views_at(wait).await?;
    let document = document(&at, id)?;
    let tag = tag(&document, Input::Structure)?;
    let committer = state.documents().committer.clone();
    let read = move || committer.output(&document, Stage::Parse, "structure");
    let structure = blocking(read).await??;
    Ok(reflecting(StatusCode::OK, at.position())
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((ETAG, tag))
        .body(structure))
}

/// The tag of what is read, by which a worker says what it made an output from.
fn tag(document: &Document, input: Input) -> Result<HeaderValue, ApiError> {
    let tag = document.tag(input);
    let tag = tag.ok_or_else(|| missing(document, input.stage()))?;
    Ok(digest_tag(&tag))
}

/// What is answered when a step is not done that something rests on.
fn missing(document: &Document, stage: Stage) -> ApiError {
    let detail = match document.failure_of(stage) {
        Some(failure) => format!("the step {stage} failed: {}", failure.error.message),
        None => format!("the step {stage} is not done"),
    };
    ApiError::new(Code::StageMissing, detail)
}

/// `GET /api/documents/{id}/chunks`
pub(crate) async fn chunks(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let limit = query.limit(state.options());
    let cursor = query.one("cursor");
    query.finish()?;
    let at = state.views_at(wait).await?;
    let document = document(&at, id)?;
    let output = document.output(Stage::Chunk, "chunks");
    let output = output.ok_or_else(|| missing(&document, Stage::Chunk))?;
    let tag = tag(&document, Input::Chunks)?;
    // A cursor is of these chunks: of others, cut anew, it is refused.
    let mark = output.digest.to_string()[7..23].to_owned();
    let from = cursor.map_or(Ok(0), |cursor| read_cursor(&cursor, &mark))?;
    let committer = state.documents().committer.clone();
    let items = blocking(move || -> Result<Vec<ChunkBody>, ApiError> {
        let chunks = committer.chunks(&document, from)?.take(limit + 1);
        let bodies = chunks.map(|chunk| Ok(ChunkBody::from(chunk?)));
        bodies.collect()
    });
    let mut items = items.await??;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = has_more.then(|| format!("{mark}{:08x}", from + limit));
    Ok(reflecting(StatusCode::OK, at.position())
        .insert_header((ETAG, tag))
        .json(Page { items, next_cursor }))
}

fn read_cursor(cursor: &str, mark: &str) -> Result<usize, ApiError> {
    let place = cursor
        .strip_prefix(mark)
        .and_then(|place| usize::from_str_radix(place, 16).ok());
    place.ok_or_else(|| {
        let detail = Code::InvalidCursor.explanation();
        let field = FieldProblem::parameter("cursor", Code::InvalidCursor.name(), detail);
        ApiError::fields(Code::InvalidCursor, vec![field])
    })
}

/// `POST /api/documents/{id}/steps/{step}`
pub(crate) async fn step(
    request: HttpRequest,
    place: Path<(String, String)>,
    payload_in: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&place.0)?;
    let stage: Stage = place.1.parse().map_err(|()| {
        let names: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        let detail = format!("expected one of {}", names.join(", "));
        let field = FieldProblem::parameter("step", "INVALID_PARAMETER", detail);
        ApiError::fields(Code::InvalidParameters, vec![field])
    })?;
    Query::none(request.query_string())?;
    no_precondition(&request, "what is asked for is made anew and has no tag")?;
    let (value, bytes) = body::optional_json(&request, payload_in, &state).await?;
    let mut fields = Fields::of(value, "")?;
    check_writable(&state.seen(), id, Code::DocumentNotFound)?;
    let known = state.commands().document(id)?;
    let document = known.ok_or_else(|| ApiError::of(Code::DocumentNotFound))?;
    let says = ["chunking_strategy", "chunk_size", "chunk_overlap"]
        .iter()
        .any(|name| fields.has(name));
    if says && stage != Stage::Chunk {
        fields.problem(
            "chunk_size",
            "UNKNOWN_FIELD",
            "only the step chunk takes settings",
        );
    }
    let chunking = read_chunking(&mut fields, Some(document.chunking));
    fields.finish()?;
    let chunking = chunking.filter(|chunking| *chunking != document.chunking);
    let mut payload = payload(id, Some(stage));
    if let Some(chunking) = chunking {
        payload.insert("chunking".to_owned(), json!(chunking));
    }
    let key = idempotency::of(&request, &context, &[&bytes])?;
    if !is_repeated(&state, key.as_ref())? {
        may_run(&document, stage).map_err(ApiError::of_document)?;
        if let Some(answer) = done_or_under_way(&state, &document, stage, &payload)? {
            return Ok(answer);
        }
    }
    let new = NewJob {
        id: JobId::new(state.commands().new_id()),
        kind: kind(STEP),
        payload,
        priority: 0,
        // The client decides what comes after a failure.
        max_retries: Some(0),
        document_id: Some(id),
        trace_id: context.trace_id.clone(),
    };
    let (job, written) = state
        .documents()
        .queue
        .submit(new, &context.actor, key)
        .await?;
    state.visible(written.end).await?;
    Ok(answer(StatusCode::ACCEPTED, &written)
        .insert_header((LOCATION, format!("/api/jobs/{}", job.id)))
        .json(JobBody::of(&job, None)))
}

/// Whether the first answer to this key is the one to give.
fn is_repeated(state: &AppState, key: Option<&Idempotency>) -> Result<bool, ApiError> {
    let repeated = key.map(|key| state.commands().is_repeated(key)).transpose();
    let repeated = repeated.map_err(|error| ApiError::of_command(&error, &|_| String::new()))?;
    Ok(repeated.unwrap_or(false))
}

/// What is answered where nothing is to be queued: the job that the step was done in, as nothing
/// is processed twice, or the one that is at it with the same settings.
fn done_or_under_way(
    state: &AppState,
    document: &Document,
    stage: Stage,
    payload: &Map<String, Value>,
) -> Result<Option<HttpResponse>, ApiError> {
    if !payload.contains_key("chunking")
        && let Some(done) = document.stages.get(&stage)
    {
        let job = state.commands().job(done.job_id)?;
        let job = job.ok_or_else(|| ApiError::of(Code::JobNotFound))?;
        return Ok(Some(HttpResponse::Ok().json(JobBody::of(&job, None))));
    }
    let query = JobQuery {
        document_id: Some(document.id),
        limit: JOBS_LOOKED_AT,
        ..JobQuery::default()
    };
    let jobs = state.projection().views().jobs(&query)?.items;
    let same = |job: &&Job| {
        let is_at_it = !job.status.is_ended() && !job.cancel_requested;
        is_at_it && job.kind.as_str() == STEP && job.payload == *payload
    };
    Ok(jobs.iter().find(same).map(|job| {
        HttpResponse::Accepted()
            .insert_header((LOCATION, format!("/api/jobs/{}", job.id)))
            .json(JobBody::of(job, None))
    }))
}
