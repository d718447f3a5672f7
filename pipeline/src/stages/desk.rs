//! Where a worker finds a document, and hands in what came of its stages.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;
use stemma_domain::document::{Chunking, Document, Stage};
use stemma_domain::event::JobError;
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::job::Job;
use stemma_inference::InferenceError;

use crate::error::DocumentError;
use crate::parse::Structure;
use crate::stages::output::StageOutput;

/// What a worker needs to know of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The document.
    pub document_id: ResourceId,
    /// Its file's digest.
    pub digest: ContentDigest,
    /// The file's name.
    pub file_name: String,
    /// The media type that the sender named.
    pub declared_media_type: Option<String>,
    /// The media type that was found in it, once it is validated.
    pub media_type: Option<String>,
    /// How its text is to be cut.
    pub chunking: Chunking,
    /// The chunks that it is cut into, once it is.
    pub chunk_count: Option<u64>,
    /// The stages that are done.
    pub done: BTreeSet<Stage>,
}

impl From<&Document> for Task {
    fn from(document: &Document) -> Self {
        let figure = |stage, name| document.stages.get(&stage)?.figures.get(name);
        Self {
            document_id: document.id,
            digest: document.digest,
            file_name: document.file_name.as_str().to_owned(),
            declared_media_type: document
                .declared_media_type
                .as_ref()
                .map(|media_type| media_type.as_str().to_owned()),
            chunking: document.chunking,
            media_type: figure(Stage::Validate, "media_type")
                .and_then(|media_type| Some(media_type.as_str()?.to_owned())),
            chunk_count: figure(Stage::Chunk, "chunk_count").and_then(Value::as_u64),
            done: document.stages.keys().copied().collect(),
        }
    }
}

/// The code of a stage that was made from what is no longer there.
const INPUT_CHANGED: &str = "INPUT_CHANGED";

/// How a document's text is to be cut in a job: as the job says, else as the upload did.
pub(crate) fn chunking_of(job: &Job, document: &Document) -> Chunking {
    let asked = job.payload.get("chunking");
    let asked = asked.and_then(|asked| serde_json::from_value(asked.clone()).ok());
    asked.unwrap_or(document.chunking)
}

/// Why a stage did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It failed.
    #[error("{code}: {message}")]
    Failed {
        /// A stable code.
        code: String,
        /// What happened, for people.
        message: String,
        /// Whether another try may mend it.
        transient: bool,
        /// The least wait before another.
        after: Option<Duration>,
    },
    /// It was stopped before it was done.
    #[error("stopped")]
    Stopped,
    /// Another worker has the job, or it has ended.
    #[error("the lease is lost")]
    LeaseLost,
}

impl StageError {
    /// A failure that another try may mend.
    pub fn transient(code: &str, message: impl std::fmt::Display) -> Self {
        Self::Failed {
            code: code.to_owned(),
            message: message.to_string(),
            transient: true,
            after: None,
        }
    }

    /// A failure that no other try mends.
    pub fn permanent(code: &str, message: impl std::fmt::Display) -> Self {
        Self::Failed {
            code: code.to_owned(),
            message: message.to_string(),
            transient: false,
            after: None,
        }
    }

    /// That what the stage was made from is not what the document has now.
    pub fn input_changed(message: impl std::fmt::Display) -> Self {
        Self::transient(INPUT_CHANGED, message)
    }

    /// Whether it is that: to be done again on what there is now, before anybody hears of it.
    pub fn is_input_changed(&self) -> bool {
        matches!(self, Self::Failed { code, .. } if code == INPUT_CHANGED)
    }

    /// The failure as the log keeps it; none when it was none.
    pub fn job_error(&self, stage: Stage) -> Option<(JobError, Option<Duration>)> {
        let Self::Failed {
            code,
            message,
            transient,
            after,
        } = self
        else {
            return None;
        };
        let error = JobError {
            code: code.clone(),
            message: message.clone(),
            stage: Some(stage.name().to_owned()),
            transient: *transient,
        };
        Some((error, *after))
    }
}

impl From<DocumentError> for StageError {
    fn from(error: DocumentError) -> Self {
        if matches!(error, DocumentError::Cancelled) {
            return Self::Stopped;
        }
        Self::Failed {
            code: error.code().to_owned(),
            message: error.to_string(),
            transient: error.transient(),
            after: None,
        }
    }
}

impl From<InferenceError> for StageError {
    fn from(error: InferenceError) -> Self {
        if matches!(error, InferenceError::Cancelled) {
            return Self::Stopped;
        }
        Self::Failed {
            code: error.code().to_owned(),
            message: error.to_string(),
            transient: error.is_transient(),
            after: error.retry_after(),
        }
    }
}

/// The texts of chunks, in their order; an error is the last of them.
pub type ChunkTexts<'a> = Box<dyn Iterator<Item = Result<String, StageError>> + 'a>;

/// A document on a worker's desk.
pub trait Desk {
    /// The document as it is now.
    ///
    /// # Errors
    /// When it cannot be had.
    fn task(&self) -> Result<Task, StageError>;

    /// The file.
    ///
    /// # Errors
    /// When it cannot be had.
    fn content(&self) -> Result<Box<dyn Read + Send + '_>, StageError>;

    /// The text, once it is parsed.
    ///
    /// # Errors
    /// When it cannot be had.
    fn text(&self) -> Result<String, StageError>;

    /// What stands where in the text, once it is parsed.
    ///
    /// # Errors
    /// When it cannot be had.
    fn structure(&self) -> Result<Structure, StageError>;

    /// The texts of the chunks, once it is cut, in their order. They are read as they are asked
    /// for, so that they are never in memory all at once.
    ///
    /// # Errors
    /// When they cannot be had.
    fn chunk_texts(&self) -> Result<ChunkTexts<'_>, StageError>;

    /// Hands in what a stage put out. When this returns it is recorded, with all its effects.
    ///
    /// # Errors
    /// When it is refused, or it is not known whether it was recorded: doing the stage again is
    /// safe.
    fn submit(&self, stage: Stage, output: StageOutput, took: Duration) -> Result<(), StageError>;

    /// Tells how far the work is, in percent.
    fn progress(&self, percent: u8, message: &str);

    /// Set once the work is to stop.
    fn stop(&self) -> &Arc<AtomicBool>;
}
