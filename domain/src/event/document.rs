//! The payloads of a document's own events, in the stream `document-<id>`.
//!
//! They stand apart from the events of the resource that a document is, so that its processing
//! moves no revision that clients hold. Invariant: fields are declared in the order of their JSON
//! names, as in `payload`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::JobError;
use super::payload::Metadata;
use crate::document::{Chunking, Stage, Steps};
use crate::id::{ContentDigest, JobId, ResourceId};
use crate::value::{CollectionName, FileName, MediaType};

/// A resource came in by upload, to be processed. As a later event of its stream: the same bytes came
/// in once more, and the document, of which nothing had come, is begun anew as this one says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentUploaded {
    /// Length of the file in bytes.
    pub byte_size: u64,
    /// How its text is to be cut.
    pub chunking: Chunking,
    /// The collection that it was put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// The media type that the sender named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_media_type: Option<MediaType>,
    /// The file's digest.
    pub digest: ContentDigest,
    /// The file's name, made safe.
    pub file_name: FileName,
    /// The resource that the document is.
    pub id: ResourceId,
    /// Who decides which stage comes next.
    pub steps: Steps,
}

/// A stage is done, its effects recorded together with this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentStageCompleted {
    /// The document.
    pub document_id: ResourceId,
    /// What can be counted of it.
    pub figures: Metadata,
    /// What it worked on: a digest over its inputs and settings.
    pub input: ContentDigest,
    /// The job that it was done in.
    pub job_id: JobId,
    /// What it put out, by name.
    pub outputs: BTreeMap<String, StageOutput>,
    /// The stage.
    pub stage: Stage,
    /// When work on it began, in milliseconds before this was recorded.
    pub took_ms: u64,
    /// The version of what did it; another one may give another output.
    pub version: u32,
    /// What went less well than it should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Content that a stage put out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageOutput {
    /// Its length in bytes.
    pub byte_size: u64,
    /// Its digest.
    pub digest: ContentDigest,
}

/// A stage failed, in one attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentStageFailed {
    /// Which attempt of the job it was.
    pub attempt: u32,
    /// The document.
    pub document_id: ResourceId,
    /// Why.
    pub error: JobError,
    /// The job.
    pub job_id: JobId,
    /// The stage.
    pub stage: Stage,
    /// How long it was worked on; unknown of failures of workers outside, and of older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}
