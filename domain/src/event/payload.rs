//! The payload of every event, one struct a shape.
//!
//! Invariant: fields are declared in alphabetical order, so that a payload's JSON has its keys
//! sorted and one fact has one form (`codec` tests it). Adding an event: ARCHITECTURE.md, recipes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{DocumentStageCompleted, DocumentStageFailed, DocumentUploaded};
use super::job::{
    JobCancelRequested, JobCancelled, JobClaimed, JobCompleted, JobFailed, JobQueued, JobReleased,
    JobRetried, JobRetryScheduled,
};
use crate::id::{AnnotationId, ContentDigest, JobId, ResourceId};
use crate::json_text::JsonText;
use crate::resource::Access;
use crate::value::{CollectionName, EntityType, LanguageTag, MediaType, ResourceName};

/// A client's own properties of a resource: any JSON object.
pub type Metadata = serde_json::Map<String, Value>;

/// Something that happened, in the past tense; never changed once recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `resource.created`
    ResourceCreated(ResourceCreated),
    /// `resource.cloned`: a resource made from another; `derived_from` names the source.
    ResourceCloned(ResourceCreated),
    /// `resource.revised`
    ResourceRevised(ResourceRevised),
    /// `resource.renamed`
    ResourceRenamed(ResourceRenamed),
    /// `resource.language_changed`
    ResourceLanguageChanged(ResourceLanguageChanged),
    /// `resource.metadata_changed`
    ResourceMetadataChanged(ResourceMetadataChanged),
    /// `resource.collection_changed`
    ResourceCollectionChanged(ResourceCollectionChanged),
    /// `resource.access_changed`
    ResourceAccessChanged(ResourceAccessChanged),
    /// `resource.archived`
    ResourceArchived(ResourceArchived),
    /// `resource.unarchived`
    ResourceUnarchived(ResourceUnarchived),
    /// `annotation.added`
    AnnotationAdded(AnnotationAdded),
    /// `annotation.body_changed`
    AnnotationBodyChanged(AnnotationBodyChanged),
    /// `annotation.removed`
    AnnotationRemoved(AnnotationRemoved),
    /// `entity_type.added`
    EntityTypeAdded(EntityTypeChange),
    /// `entity_type.removed`
    EntityTypeRemoved(EntityTypeChange),
    /// `entity_type.registered`, in the stream [`crate::entity_type::STREAM`].
    EntityTypeRegistered(EntityTypeRegistered),
    /// `request.answered`, in the stream [`REQUESTS_STREAM`].
    RequestAnswered(RequestAnswered),
    /// `job.queued`
    JobQueued(JobQueued),
    /// `job.claimed`
    JobClaimed(JobClaimed),
    /// `job.released`
    JobReleased(JobReleased),
    /// `job.retry_scheduled`
    JobRetryScheduled(JobRetryScheduled),
    /// `job.completed`
    JobCompleted(JobCompleted),
    /// `job.failed`
    JobFailed(JobFailed),
    /// `job.cancel_requested`
    JobCancelRequested(JobCancelRequested),
    /// `job.cancelled`
    JobCancelled(JobCancelled),
    /// `job.retried`
    JobRetried(JobRetried),
    /// `document.uploaded`
    DocumentUploaded(DocumentUploaded),
    /// `document.stage_completed`
    DocumentStageCompleted(DocumentStageCompleted),
    /// `document.stage_failed`
    DocumentStageFailed(DocumentStageFailed),
}

/// What a stream of events is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A resource, `resource-<id>`.
    Resource,
    /// The processing of a document, `document-<id>`.
    Document,
    /// A job, `job-<id>`.
    Job,
    /// The entity types that were described for everyone.
    EntityTypes,
    /// Requests that found everything as they asked.
    Requests,
}

/// The one stream that holds every `request.answered`.
pub const REQUESTS_STREAM: &str = "requests-answered";

/// A request with an idempotency key found everything as it asked for. That is its first answer,
/// which a repetition gets again, whatever changed meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAnswered {
    /// The document that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<ResourceId>,
    /// The newest job about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// A resource came to be, with content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceCreated {
    /// Who may read and write it; nothing where it is open to the tenant.
    #[serde(default, skip_serializing_if = "Access::is_open")]
    pub access: Access,
    /// Length of the content in bytes.
    pub byte_size: u64,
    /// The collection it was put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// The resource it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<ResourceId>,
    /// The content's digest.
    pub digest: ContentDigest,
    /// What it speaks of, each type once, in the order given.
    pub entity_types: Vec<EntityType>,
    /// Its identity.
    pub id: ResourceId,
    /// The language of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<LanguageTag>,
    /// The media type of its content.
    pub media_type: MediaType,
    /// The client's own properties.
    #[serde(default)]
    pub metadata: Metadata,
    /// What people call it.
    pub name: ResourceName,
}

/// The resource got new content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRevised {
    /// Length of the new content in bytes.
    pub byte_size: u64,
    /// The new content's digest.
    pub digest: ContentDigest,
    /// The new content's media type.
    pub media_type: MediaType,
}

/// The resource got another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRenamed {
    /// The new name.
    pub name: ResourceName,
}

/// The language of the content was stated anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLanguageChanged {
    /// The language, or none.
    pub language: Option<LanguageTag>,
}

/// The client's own properties changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceMetadataChanged {
    /// All properties as they are now.
    pub metadata: Metadata,
}

/// The resource was moved to another collection, or out of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceCollectionChanged {
    /// The collection, or none.
    pub collection: Option<CollectionName>,
}

/// Others may read and write the resource from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceAccessChanged {
    /// The grants as they are now.
    pub access: Access,
}

/// The resource left the lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceArchived {}

/// The resource came back into the lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUnarchived {}

/// An annotation was made in this resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotationAdded {
    /// The W3C annotation, completed and without `id`.
    pub annotation: JsonText,
    /// Its identity.
    pub annotation_id: AnnotationId,
    /// The resources that its body and target name, resolved when it was written.
    pub references: Vec<Reference>,
}

/// An annotation's body changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotationBodyChanged {
    /// Which annotation.
    pub annotation_id: AnnotationId,
    /// The body as it is now; none when the last item went.
    pub body: Option<Value>,
    /// What was asked, for the history.
    pub operations: Value,
    /// All references of the annotation as they are now.
    pub references: Vec<Reference>,
}

/// An annotation was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationRemoved {
    /// Which annotation.
    pub annotation_id: AnnotationId,
}

/// The resource was, or is no longer, said to speak of this kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityTypeChange {
    /// The kind of thing.
    pub entity_type: EntityType,
}

/// An entity type was described for everyone; the latest description holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityTypeRegistered {
    /// What the type means, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The type.
    pub name: EntityType,
}

/// A resource that an annotation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// Where the annotation names it.
    pub relation: Relation,
    /// The resource named; it need not exist.
    pub resource_id: ResourceId,
}

/// Where an annotation names a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// In its body: the annotation speaks *with* it.
    Body,
    /// In its target: the annotation speaks *of* it.
    Target,
}

impl Event {
    /// The name of the type on the wire and in the log.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ResourceCreated(_) => "resource.created",
            Self::ResourceCloned(_) => "resource.cloned",
            Self::ResourceRevised(_) => "resource.revised",
            Self::ResourceRenamed(_) => "resource.renamed",
            Self::ResourceLanguageChanged(_) => "resource.language_changed",
            Self::ResourceMetadataChanged(_) => "resource.metadata_changed",
            Self::ResourceCollectionChanged(_) => "resource.collection_changed",
            Self::ResourceAccessChanged(_) => "resource.access_changed",
            Self::ResourceArchived(_) => "resource.archived",
            Self::ResourceUnarchived(_) => "resource.unarchived",
            Self::AnnotationAdded(_) => "annotation.added",
            Self::AnnotationBodyChanged(_) => "annotation.body_changed",
            Self::AnnotationRemoved(_) => "annotation.removed",
            Self::EntityTypeAdded(_) => "entity_type.added",
            Self::EntityTypeRemoved(_) => "entity_type.removed",
            Self::EntityTypeRegistered(_) => "entity_type.registered",
            Self::RequestAnswered(_) => "request.answered",
            Self::JobQueued(_) => "job.queued",
            Self::JobClaimed(_) => "job.claimed",
            Self::JobReleased(_) => "job.released",
            Self::JobRetryScheduled(_) => "job.retry_scheduled",
            Self::JobCompleted(_) => "job.completed",
            Self::JobFailed(_) => "job.failed",
            Self::JobCancelRequested(_) => "job.cancel_requested",
            Self::JobCancelled(_) => "job.cancelled",
            Self::JobRetried(_) => "job.retried",
            Self::DocumentUploaded(_) => "document.uploaded",
            Self::DocumentStageCompleted(_) => "document.stage_completed",
            Self::DocumentStageFailed(_) => "document.stage_failed",
        }
    }

    /// What the event's stream is about.
    pub fn subject(&self) -> Subject {
        match self {
            Self::EntityTypeRegistered(_) => Subject::EntityTypes,
            Self::RequestAnswered(_) => Subject::Requests,
            Self::JobQueued(_)
            | Self::JobClaimed(_)
            | Self::JobReleased(_)
            | Self::JobRetryScheduled(_)
            | Self::JobCompleted(_)
            | Self::JobFailed(_)
            | Self::JobCancelRequested(_)
            | Self::JobCancelled(_)
            | Self::JobRetried(_) => Subject::Job,
            Self::DocumentUploaded(_)
            | Self::DocumentStageCompleted(_)
            | Self::DocumentStageFailed(_) => Subject::Document,
            _ => Subject::Resource,
        }
    }

    /// The content that the event names, which must be durable before the event is.
    pub fn content(&self) -> Vec<ContentDigest> {
        match self {
            Self::ResourceCreated(created) | Self::ResourceCloned(created) => vec![created.digest],
            Self::ResourceRevised(revised) => vec![revised.digest],
            Self::DocumentUploaded(uploaded) => vec![uploaded.digest],
            Self::DocumentStageCompleted(completed) => {
                let digests = completed.outputs.values().map(|output| output.digest);
                digests.collect()
            }
            _ => Vec::new(),
        }
    }
}
