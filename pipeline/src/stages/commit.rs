//! Recording what a stage put out: content first, then one batch with all its effects.
//!
//! Invariants: the batch rests on the worker's claim, so nothing of a lost attempt is recorded; it
//! holds `document.stage_completed` together with every effect of the stage, so a crash leaves
//! both or neither.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_commands::{AsOf, Commands, Operation, PastState, Request, Written};
use stemma_content_store::{Blob, Digest, Pin, PutError, ReadError, Stored};
use stemma_domain::document::{
    Chunk, Chunking, Document, DocumentCommand, DocumentRefusal, Entities, EntityMention, RestsOn,
    Stage, chunk_line, may_run,
};
use stemma_domain::event::{DocumentStageCompleted, Metadata, StageOutput as Output};
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::job::Job;
use stemma_domain::resource::{Command, FollowedFile, Refusal};
use stemma_domain::value::MediaType;
use stemma_jobs::{JobsError, Queue};

use crate::chunk::chunk_id;
use crate::stages::annotate::Found;
use crate::stages::desk::chunking_of;
use crate::stages::output::{OutputError, StageOutput};
use crate::stages::stored::{StoredChunks, StoredOutput};
use crate::validate::Validated;

/// The version of what each stage does here; it rises when the same input may give another output.
const VERSION: u32 = 2;
/// Most bytes of content that a stage reads whole.
const READ_BYTES_MAX: u64 = 1 << 30;

/// Why a document is not searchable yet, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotIndexed {
    /// The index comes closer, and is worth waiting for.
    #[error("the search index is catching up: {0}")]
    CatchingUp(String),
    /// It stands still.
    #[error("the search index is behind: {0}")]
    StandsStill(String),
}

/// Waits until what is recorded is searchable.
pub trait Indexer: Send + Sync {
    /// Waits for a while until all up to a position is in the index; gives what can be counted of
    /// the document there.
    ///
    /// # Errors
    /// Why it is not; to be tried again.
    fn wait_for(
        &self,
        document: ResourceId,
        position: u64,
        stop: &AtomicBool,
    ) -> Result<Metadata, NotIndexed>;
}

/// Why an output was not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no such document.
    #[error("there is no such document")]
    NotFound,
    /// It is not what its stage puts out.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The claim does not stand, a stage before it is missing, or the write path failed.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// Content could not be stored, or a file that was to hold it until then not be written or read.
    #[error("store what the stage put out")]
    Put(#[from] PutError),
    /// Content could not be read.
    #[error("read what the stages before put out")]
    Read(#[from] ReadError),
    /// Content that an event names is not there.
    #[error("content {0} is not stored")]
    NotStored(Digest),
    /// A stage before it is missing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The index does not hold the document yet.
    #[error(transparent)]
    NotIndexed(#[from] NotIndexed),
    /// A mistake of ours.
    #[error("{0}")]
    Internal(String),
}

/// What is handed in.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The job that it was done in.
    pub job: &'a Job,
    /// The fencing token.
    pub token: u64,
    /// The document, as it was when the stage was done on it.
    pub document: &'a Document,
    /// What came of it.
    pub output: StageOutput,
    /// How long it took until it is handed in.
    pub took: Duration,
    /// Who hands it in, as the events will say.
    pub actor: &'a str,
}

/// Records what stages put out; clones share all of it.
#[derive(Clone)]
pub struct Committer {
    commands: Commands,
    queue: Queue,
    indexer: Arc<dyn Indexer>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

/// What a batch will hold.
#[derive(Default)]
struct Effects {
    outputs: BTreeMap<String, Output>,
    pins: Vec<Pin>,
    figures: Metadata,
    warnings: Vec<String>,
    operations: Vec<Operation>,
    /// What the stage worked on, beside its name.
    input: Vec<Vec<u8>>,
    /// What of that stages before put out.
    rests_on: Vec<RestsOn>,
}

impl Effects {
    fn keep(&mut self, name: &str, stored: Stored) {
        let output = Output {
            byte_size: stored.len,
            digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
        };
        self.outputs.insert(name.to_owned(), output);
        self.pins.push(stored.pin);
    }

    fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    fn rest_on(&mut self, part: impl AsRef<[u8]>) {
        self.input.push(part.as_ref().to_vec());
    }

    /// Notes that the stage worked on what another put out.
    fn rest_on_output(&mut self, document: &Document, stage: Stage, output: &'static str) {
        let digest = document.output(stage, output).map(|output| output.digest);
        let bytes = digest.map_or_else(Vec::new, |digest| digest.as_bytes().to_vec());
        self.input.push(bytes);
        self.must_stand(document, stage, output);
    }

    /// Has the output refused when this is another by the time that it is recorded, and leaves the
    /// digest of the input as it is: what was done before is to be known by it again.
    fn must_stand(&mut self, document: &Document, stage: Stage, output: &'static str) {
        let digest = document.output(stage, output).map(|output| output.digest);
        self.rests_on.extend(digest.map(|digest| RestsOn {
            stage,
            output,
            digest,
        }));
    }
}

impl Committer {
    /// Puts the recorder together.
    pub fn new(queue: Queue, indexer: Arc<dyn Indexer>) -> Self {
        Self {
            commands: queue.commands().clone(),
            queue,
            indexer,
        }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// A document as the log has it.
    ///
    /// # Errors
    /// [`CommitError::NotFound`], or what the log says.
    pub fn document(&self, id: ResourceId) -> Result<Document, CommitError> {
        let document = self.commands.document(id).map_err(JobsError::from)?;
        document.ok_or(CommitError::NotFound)
    }

    /// Content that a stage put out, whole.
    ///
    /// # Errors
    /// [`CommitError::Refused`] when the stage is not done.
    pub fn output(
        &self,
        document: &Document,
        stage: Stage,
        name: &str,
    ) -> Result<bytes::Bytes, CommitError> {
        let digest = output_digest(document, stage, name)?;
        let read = self.commands.content().read_all(&digest, READ_BYTES_MAX)?;
        read.ok_or_else(|| not_stored(&digest))
    }

    /// The chunks of a document with their texts, from the place `from` on, in their order; they
    /// are read as they are asked for.
    ///
    /// # Errors
    /// As [`output`](Self::output), here and in the last item.
    pub fn chunks(
        &self,
        document: &Document,
        from: usize,
    ) -> Result<impl Iterator<Item = Result<(Chunk, String), CommitError>> + use<>, CommitError>
    {
        let chunks = self.blob(&output_digest(document, Stage::Chunk, "chunks")?)?;
        let text = self.blob(&output_digest(document, Stage::Parse, "text")?)?;
        Ok(StoredChunks::new(chunks, text, from))
    }

    /// The file of a document, from its first byte on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn file(&self, document: &Document) -> Result<StoredOutput, CommitError> {
        let digest = Digest::from_bytes(*document.digest.as_bytes());
        Ok(StoredOutput::new(self.blob(&digest)?))
    }

    fn blob(&self, digest: &Digest) -> Result<Blob, CommitError> {
        let blob = self.commands.content().open_blob(digest)?;
        blob.ok_or_else(|| not_stored(digest))
    }

    /// The text of a document that is parsed.
    ///
    /// # Errors
    /// As [`output`](Self::output).
    pub fn text(&self, document: &Document) -> Result<String, CommitError> {
        let bytes = self.output(document, Stage::Parse, "text")?;
        let text = String::from_utf8(bytes.into());
        text.map_err(|error| CommitError::Internal(format!("the text is none: {error}")))
    }

    /// Records an output. Blocks for as long as content takes to be durable and, for `index`,
    /// until the index has caught up.
    ///
    /// # Errors
    /// [`CommitError`]; nothing of the output is recorded, with the exceptions of the write path.
    pub fn commit(
        &self,
        submission: Submission<'_>,
        stop: &AtomicBool,
        block_on: &dyn Fn(CommitFuture<'_>) -> Result<Written, JobsError>,
    ) -> Result<Written, CommitError> {
        let began = Instant::now();
        let document = submission.document;
        let stage = submission.output.stage();
        may_run(document, stage).map_err(Refusal::Document)?;
        let chunking = chunking_of(submission.job, document);
        let mut effects = self.effects(document, submission.output, chunking, stop)?;
        let completed = DocumentStageCompleted {
            document_id: document.id,
            figures: std::mem::take(&mut effects.figures),
            input: input_digest(stage, &effects.input),
            job_id: submission.job.id,
            outputs: effects.outputs,
            stage,
            // To store what came out, and to wait for the index, is work on it as well.
            took_ms: millis(submission.took.saturating_add(began.elapsed())),
            version: VERSION,
            warnings: effects.warnings,
        };
        let mut operations = effects.operations;
        let complete = DocumentCommand::CompleteStage {
            completed,
            rests_on: effects.rests_on,
        };
        operations.push(Operation::of_document(document.id, complete));
        let request = Request {
            sight: stemma_domain::access::Sight::Everything,
            operations,
            actor: submission.actor.to_owned(),
            trace_id: submission.job.trace_id.clone(),
            idempotency: None,
            bases: [].into(),
            pins: effects.pins,
        };
        let held = self
            .queue
            .execute_held(submission.job, submission.token, request);
        Ok(block_on(Box::pin(held))?)
    }

    fn effects(
        &self,
        document: &Document,
        output: StageOutput,
        chunking: Chunking,
        stop: &AtomicBool,
    ) -> Result<Effects, CommitError> {
        let mut effects = Effects::default();
        match output {
            StageOutput::Validated(validated) => {
                effects.rest_on(document.digest.as_bytes());
                effects
                    .operations
                    .extend(self.real_type(document, &validated)?);
                effects.figure("media_type", validated.media_type.clone());
                if let Some(pages) = validated.page_count {
                    effects.figure("page_count", pages);
                }
                effects.warnings.clone_from(&validated.warnings);
                let json = serde_json::to_vec(&validated).expect("plain data");
                effects.keep("validated", self.put(&json)?);
            }
            StageOutput::Parsed(parsed) => {
                effects.rest_on(document.digest.as_bytes());
                effects.figure("characters", parsed.text.chars().count());
                effects.figure("pages", parsed.structure.pages.len());
                effects.figure("headings", parsed.structure.headings.len());
                effects.figure("tables", parsed.structure.tables.len());
                effects.warnings.clone_from(&parsed.warnings);
                effects.keep("text", self.put(parsed.text.as_bytes())?);
                let json = serde_json::to_vec(&parsed.structure).expect("plain data");
                effects.keep("structure", self.put(&json)?);
            }
            StageOutput::Chunks(chunks) => self.cut(document, chunks, chunking, &mut effects)?,
            StageOutput::Vectors { header, file } => {
                effects.rest_on_output(document, Stage::Chunk, "chunks");
                // The same places in another text are other chunks.
                effects.must_stand(document, Stage::Parse, "text");
                effects.rest_on(&header.model);
                let count = document.stages.get(&Stage::Chunk);
                let count = count.and_then(|chunk| chunk.figures["chunk_count"].as_u64());
                if count != Some(u64::from(header.count)) {
                    let problem = format!("{} vectors for {count:?} chunks", header.count);
                    let stage = Stage::Embed;
                    return Err(OutputError { stage, problem }.into());
                }
                effects.figure("model", header.model);
                effects.figure("dimension", header.dimension);
                effects.figure("vector_count", header.count);
                effects.keep("vectors", self.put_file(file)?);
            }
            StageOutput::Entities {
                detector,
                version,
                entities,
                dropped,
            } => {
                let found = Entities {
                    detector,
                    version,
                    entities,
                    dropped,
                };
                self.entities(document, &found, &mut effects)?;
            }
            StageOutput::Indexed => {
                effects.rest_on_output(document, Stage::Chunk, "chunks");
                effects.rest_on_output(document, Stage::Embed, "vectors");
                let end = self.commands.document_end(document);
                let end = end.map_err(JobsError::from)?.ok_or(CommitError::NotFound)?;
                let figures = self.indexer.wait_for(document.id, end - 1, stop);
                effects.figures = figures?;
            }
        }
        Ok(effects)
    }

    /// Has the resource say what its content really is, where the sender did not or was wrong.
    fn real_type(
        &self,
        document: &Document,
        validated: &Validated,
    ) -> Result<Option<Operation>, CommitError> {
        let state = self
            .commands
            .resource_at(document.id, AsOf::Time(self.commands.now()));
        let PastState::Found(resource) = state.map_err(JobsError::from)? else {
            return Err(CommitError::NotFound);
        };
        let now = &resource.descriptor;
        if now.digest != document.digest || now.media_type.essence() == validated.media_type {
            return Ok(None);
        }
        let charset = validated.encoding.as_ref().filter(|name| *name != "UTF-8");
        let media_type = match charset {
            Some(charset) => format!("{}; charset={charset}", validated.media_type),
            None => validated.media_type.clone(),
        };
        let follow = MediaType::new(&media_type).ok().map(|media_type| {
            // It may be given other content before this is decided on.
            let follow = Command::FollowFile(FollowedFile {
                digest: document.digest,
                media_type: Some(media_type),
                naming: None,
            });
            Operation::of_resource(document.id, follow)
        });
        Ok(follow)
    }

    fn cut(
        &self,
        document: &Document,
        chunks: Vec<Chunk>,
        chunking: Chunking,
        effects: &mut Effects,
    ) -> Result<(), CommitError> {
        effects.rest_on_output(document, Stage::Parse, "text");
        effects.must_stand(document, Stage::Parse, "structure");
        effects.rest_on(serde_json::to_vec(&chunking).expect("plain data"));
        effects.figure("chunk_count", chunks.len());
        effects.figure("chunking", json!(chunking));
        let mut ingest = self.commands.content().begin()?;
        for mut chunk in chunks {
            if chunk.id.is_empty() {
                chunk.id = chunk_id(&document.digest, &chunking, chunk.start, chunk.end);
            }
            ingest.write(&chunk_line(&chunk))?;
        }
        effects.keep("chunks", ingest.finish()?);
        Ok(())
    }

    fn entities(
        &self,
        document: &Document,
        found: &Entities,
        effects: &mut Effects,
    ) -> Result<(), CommitError> {
        let text = self.text(document)?;
        check_mentions(&found.entities, &text)?;
        effects.rest_on_output(document, Stage::Parse, "text");
        effects.rest_on(format!("{} {}", found.detector, found.version));
        // By position: a clock that was set back would give it as it was.
        let last = self.commands.reader().end().get().saturating_sub(1);
        let state = self.commands.resource_at(document.id, AsOf::Position(last));
        let PastState::Found(resource) = state.map_err(JobsError::from)? else {
            return Err(CommitError::NotFound);
        };
        let is_the_content = document
            .output(Stage::Parse, "text")
            .is_some_and(|text| text.digest == resource.descriptor.digest);
        let source = if is_the_content {
            format!("urn:uuid:{}", document.id)
        } else {
            // Its positions count in the extracted text, not in the file.
            format!("/api/documents/{}/text", document.id)
        };
        let annotations = Found {
            document: document.id,
            detector: &found.detector,
            source,
            text: &text,
            entities: &found.entities,
        };
        let changes = annotations
            .changes(&resource)
            .map_err(CommitError::Internal)?;
        effects.figure("detector", found.detector.clone());
        effects.figure("entity_count", found.entities.len());
        effects.figure("annotations_added", changes.added);
        effects.figure("annotations_removed", changes.removed);
        effects.figure("dropped_spans", found.dropped);
        effects.operations = changes.operations;
        let json = serde_json::to_vec(found).expect("plain data");
        effects.keep("entities", self.put(&json)?);
        Ok(())
    }

    fn put(&self, bytes: &[u8]) -> Result<Stored, CommitError> {
        let mut ingest = self.commands.content().begin()?;
        ingest.write(bytes)?;
        Ok(ingest.finish()?)
    }

    fn put_file(&self, mut file: std::fs::File) -> Result<Stored, CommitError> {
        use std::io::{Seek, SeekFrom};
        let mut ingest = self.commands.content().begin()?;
        file.seek(SeekFrom::Start(0)).map_err(of_file)?;
        let mut piece = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut piece).map_err(of_file)?;
            if read == 0 {
                return Ok(ingest.finish()?);
            }
            ingest.write(&piece[..read])?;
        }
    }
}

/// Trouble with a file that holds an output until it is content: of the system, and none of the
/// output's.
pub(super) fn of_file(source: io::Error) -> CommitError {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let is_full = matches!(source.kind(), StorageFull | QuotaExceeded);
    let source = Arc::new(source);
    CommitError::Put(if is_full {
        PutError::Full { source }
    } else {
        PutError::Io { source }
    })
}

/// What [`Committer::commit`] has carried out.
pub type CommitFuture<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<Written, JobsError>> + 'a>>;

/// Whether every mention stands in the text where it says, in order.
fn check_mentions(entities: &[EntityMention], text: &str) -> Result<(), OutputError> {
    let stage = Stage::Detect;
    let mut places = text
        .char_indices()
        .map(|(byte, _)| byte)
        .chain([text.len()]);
    let (mut at, mut byte) = (0_u64, 0);
    let mut last = 0;
    for (index, entity) in entities.iter().enumerate() {
        let wrong = |problem: &str| OutputError {
            stage,
            problem: format!("entity {index} {problem}"),
        };
        if entity.start < last {
            return Err(wrong("comes before the one before it"));
        }
        last = entity.start;
        while at <= entity.start {
            byte = places
                .next()
                .ok_or_else(|| wrong("begins behind the text"))?;
            at += 1;
        }
        let len = entity.end.saturating_sub(entity.start);
        let stands = text[byte..].starts_with(&entity.text)
            && entity.text.chars().count() as u64 == len
            && len > 0;
        if !stands {
            return Err(wrong("is not what the text says there"));
        }
        if stemma_domain::value::EntityType::new(&entity.entity_type).is_err() {
            return Err(wrong("has no valid type"));
        }
    }
    Ok(())
}

/// The digest of what a stage put out.
fn output_digest(document: &Document, stage: Stage, name: &str) -> Result<Digest, CommitError> {
    let output = document.output(stage, name).ok_or_else(|| {
        let refusal = DocumentRefusal::StageMissing {
            stage: Stage::Index,
            missing: stage,
        };
        CommitError::Refused(Refusal::Document(refusal))
    })?;
    Ok(Digest::from_bytes(*output.digest.as_bytes()))
}

/// A time as events tell it.
pub(super) fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn not_stored(digest: &Digest) -> CommitError {
    CommitError::NotStored(*digest)
}

fn input_digest(stage: Stage, parts: &[Vec<u8>]) -> ContentDigest {
    let mut hasher = blake3::Hasher::new_derive_key("stemma 2026-11 stage input");
    hasher.update(stage.name().as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    ContentDigest::from_bytes(*hasher.finalize().as_bytes())
}
