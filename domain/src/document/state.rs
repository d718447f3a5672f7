//! `evolve`: how far a document is, as a fold of its own events.
//!
//! Invariant: a stage that is done rests on the outputs that stand; when one of them changes, the
//! stages that rest on it are to be done again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chunking::Chunking;
use super::stage::{Stage, Steps};
use crate::event::{
    DocumentStageCompleted, DocumentStageFailed, DocumentUploaded, Envelope, Event, JobError,
    Metadata, StageOutput,
};
use crate::id::{ContentDigest, JobId, ResourceId};
use crate::time::Timestamp;
use crate::value::{CollectionName, FileName, MediaType};

/// Most failures that a document remembers, the latest of them.
pub const FAILURES_MAX: usize = 32;

/// A stage that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    /// What it worked on.
    pub input: ContentDigest,
    /// The version of what did it.
    pub version: u32,
    /// What it put out, by name.
    pub outputs: BTreeMap<String, StageOutput>,
    /// What can be counted of it.
    pub figures: Metadata,
    /// What went less well than it should have.
    pub warnings: Vec<String>,
    /// The job that it was done in.
    pub job_id: JobId,
    /// How long it took.
    pub took_ms: u64,
    /// When it was done.
    pub completed_at: Timestamp,
}

/// A try at a stage that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFailure {
    /// The stage.
    pub stage: Stage,
    /// The job.
    pub job_id: JobId,
    /// Which attempt of it.
    pub attempt: u32,
    /// Why.
    pub error: JobError,
    /// When.
    pub failed_at: Timestamp,
}

/// A document as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The resource that it is.
    pub id: ResourceId,
    /// The revision of its last event, in its own stream.
    pub revision: u64,
    /// The file's name, made safe.
    pub file_name: FileName,
    /// The file's digest.
    pub digest: ContentDigest,
    /// Its length in bytes.
    pub byte_size: u64,
    /// The collection that it was put into.
    pub collection: Option<CollectionName>,
    /// The media type that the sender named.
    pub declared_media_type: Option<MediaType>,
    /// How its text is to be cut.
    pub chunking: Chunking,
    /// Who decides which stage comes next.
    pub steps: Steps,
    /// When it came.
    pub uploaded_at: Timestamp,
    /// Who sent it.
    pub uploaded_by: String,
    /// The stages that are done.
    pub stages: BTreeMap<Stage, StageState>,
    /// What failed, at most [`FAILURES_MAX`] of the latest.
    pub failures: Vec<StageFailure>,
}

/// An event that does not fit the state of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event_type} at revision {revision} does not fit the document's events before it")]
pub struct DocumentEvolveError {
    /// The event's type.
    pub event_type: &'static str,
    /// Its revision.
    pub revision: u64,
}

impl Document {
    /// The state after the first event of a stream.
    ///
    /// # Errors
    /// [`DocumentEvolveError`] when the event is no upload.
    pub fn start(envelope: &Envelope<'_>, event: &Event) -> Result<Self, DocumentEvolveError> {
        match event {
            Event::DocumentUploaded(uploaded) if envelope.revision == 0 => {
                Ok(Self::uploaded(envelope, uploaded))
            }
            other => Err(DocumentEvolveError {
                event_type: other.type_name(),
                revision: envelope.revision,
            }),
        }
    }

    fn uploaded(envelope: &Envelope<'_>, uploaded: &DocumentUploaded) -> Self {
        Self {
            id: uploaded.id,
            revision: envelope.revision,
            file_name: uploaded.file_name.clone(),
            digest: uploaded.digest,
            byte_size: uploaded.byte_size,
            collection: uploaded.collection.clone(),
            declared_media_type: uploaded.declared_media_type.clone(),
            chunking: uploaded.chunking,
            steps: uploaded.steps,
            uploaded_at: envelope.recorded_at,
            uploaded_by: envelope.actor.to_owned(),
            stages: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Applies the stream's next event.
    ///
    /// # Errors
    /// [`DocumentEvolveError`]; the state is unchanged then.
    pub fn evolve(
        &mut self,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), DocumentEvolveError> {
        let misfit = DocumentEvolveError {
            event_type: event.type_name(),
            revision: envelope.revision,
        };
        if envelope.revision != self.revision + 1 {
            return Err(misfit);
        }
        match event {
            Event::DocumentStageCompleted(completed) => self.complete(envelope, completed),
            Event::DocumentStageFailed(failed) => self.fail(envelope, failed),
            // The same bytes once more: nothing of before counts any more.
            Event::DocumentUploaded(uploaded)
                if uploaded.id == self.id && uploaded.digest == self.digest =>
            {
                *self = Self::uploaded(envelope, uploaded);
            }
            _ => return Err(misfit),
        }
        self.revision = envelope.revision;
        Ok(())
    }

    fn complete(&mut self, envelope: &Envelope<'_>, completed: &DocumentStageCompleted) {
        let state = StageState {
            input: completed.input,
            version: completed.version,
            outputs: completed.outputs.clone(),
            figures: completed.figures.clone(),
            warnings: completed.warnings.clone(),
            job_id: completed.job_id,
            took_ms: completed.took_ms,
            completed_at: envelope.recorded_at,
        };
        if let Some(chunking) = completed.figures.get("chunking")
            && let Ok(chunking) = serde_json::from_value(chunking.clone())
        {
            self.chunking = chunking;
        }
        let before = self.stages.insert(completed.stage, state);
        let is_as_before = before.is_some_and(|before| before.outputs == completed.outputs);
        if !is_as_before {
            for dependent in completed.stage.dependents() {
                self.stages.remove(dependent);
            }
        }
    }

    fn fail(&mut self, envelope: &Envelope<'_>, failed: &DocumentStageFailed) {
        if self.failures.len() == FAILURES_MAX {
            self.failures.remove(0);
        }
        self.failures.push(StageFailure {
            stage: failed.stage,
            job_id: failed.job_id,
            attempt: failed.attempt,
            error: failed.error.clone(),
            failed_at: envelope.recorded_at,
        });
    }

    /// Whether the same bytes, when they are sent once more, begin it anew, as far as its own events
    /// tell; not while a job is about it. So it is when it is not done, unless its client runs the
    /// steps and none of them failed.
    pub fn may_begin_anew(&self) -> bool {
        self.next_stage().is_some_and(|next| {
            self.steps == Steps::Auto || self.stages.is_empty() || self.failure_of(next).is_some()
        })
    }

    /// The first stage that is not done; none when all are.
    pub fn next_stage(&self) -> Option<Stage> {
        Stage::ALL
            .into_iter()
            .find(|stage| !self.stages.contains_key(stage))
    }

    /// Content that a stage which is done put out.
    pub fn output(&self, stage: Stage, name: &str) -> Option<&StageOutput> {
        self.stages.get(&stage)?.outputs.get(name)
    }

    /// Why a stage last failed, if it is not done since.
    pub fn failure_of(&self, stage: Stage) -> Option<&StageFailure> {
        if self.stages.contains_key(&stage) {
            return None;
        }
        self.failures
            .iter()
            .rev()
            .find(|failure| failure.stage == stage)
    }
}
