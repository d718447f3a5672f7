//! The facts that Stemma records, and how they are written down.

mod added;
mod codec;
mod document;
mod job;
mod payload;
mod upcast;

pub use codec::{DecodeError, Encoded, decode};
pub use document::{DocumentStageCompleted, DocumentStageFailed, DocumentUploaded, StageOutput};
pub use job::{
    JobCancelRequested, JobCancelled, JobClaimed, JobCompleted, JobError, JobFailed, JobQueued,
    JobReleased, JobRetried, JobRetryScheduled,
};
pub use payload::{
    AnnotationAdded, AnnotationBodyChanged, AnnotationRemoved, EntityTypeChange,
    EntityTypeRegistered, Event, Metadata, REQUESTS_STREAM, Reference, Relation, RequestAnswered,
    ResourceAccessChanged, ResourceArchived, ResourceCollectionChanged, ResourceCreated,
    ResourceLanguageChanged, ResourceMetadataChanged, ResourceRenamed, ResourceRevised,
    ResourceUnarchived, Subject,
};
pub use upcast::{UpcastError, Upcaster};

use crate::time::Timestamp;

/// What the log knows about a recorded event beside its payload, as far as folding needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Place in the whole log.
    pub position: u64,
    /// Place in the event's stream.
    pub revision: u64,
    /// When the log recorded it; never goes back from one position to the next.
    pub recorded_at: Timestamp,
    /// Who acted.
    pub actor: &'a str,
}
