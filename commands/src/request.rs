//! What is asked of the write path, and what it answers.

use std::sync::Arc;

use stemma_content_store::Pin;
use stemma_domain::access::Sight;
use stemma_domain::document::{Document, DocumentCommand};
use stemma_domain::event::Event;
use stemma_domain::id::{AnnotationId, ContentDigest, JobId, ResourceId};
use stemma_domain::job::{Job, JobCommand};
use stemma_domain::resource::{AnnotationState, Command, Descriptor};
use stemma_domain::value::{CollectionName, EntityType, ResourceName};
use stemma_event_log::Idempotency;

use crate::folded::Looks;
use crate::history::annotation_of;

/// Operations that take effect together or not at all.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do, in order; an operation sees what those before it did.
    pub operations: Vec<Operation>,
    /// Who asks.
    pub actor: String,
    /// What they see: what is hidden from them is not there for them, and what they may only read
    /// they do not change.
    pub sight: Sight,
    /// The trace that this belongs to.
    pub trace_id: String,
    /// Makes it safe to send the request again.
    pub idempotency: Option<Idempotency>,
    /// The URLs that this server goes by, for IRIs that name our resources.
    pub bases: Arc<[String]>,
    /// Holds the content that the operations name until they are recorded.
    pub pins: Vec<Pin>,
}

/// One change, with what its author believes to be so.
#[derive(Debug, Clone)]
pub struct Operation {
    /// What it changes.
    pub target: Target,
    /// The change.
    pub change: Change,
    /// What must hold of the target.
    pub precondition: Precondition,
    /// The revision that the target must be at, the operations before this one counted.
    pub expected_revision: Option<u64>,
    /// Whether the annotation that it adds has an id that was made for it
    /// ([`Ids::new_id`](crate::Ids::new_id)), so that it is not looked for among those of the
    /// resource, which takes a while where they are many. An id that is not new and is said to be
    /// leaves a stream that cannot be folded.
    pub is_id_new: bool,
}

/// The stream that an operation writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A resource.
    Resource(ResourceId),
    /// The entity types described for everyone.
    EntityTypes,
    /// A job.
    Job(JobId),
    /// The processing of a document.
    Document(ResourceId),
}

/// What to do with the target.
#[derive(Debug, Clone)]
pub enum Change {
    /// A command to the target resource.
    Resource(Box<Command>),
    /// Make the target resource from another.
    CloneFrom {
        /// The other.
        source: ResourceId,
        /// Its name, when it gets one of its own.
        name: Option<ResourceName>,
        /// Its collection, when it gets one of its own.
        collection: Option<CollectionName>,
        /// Ids for the source's annotations to come along; none to leave them.
        annotations: CloneAnnotations,
    },
    /// A command to the target job.
    Job(Box<JobCommand>),
    /// A command to the target document.
    Document(Box<DocumentCommand>),
    /// Describe an entity type.
    RegisterEntityType {
        /// The type.
        name: EntityType,
        /// What it means.
        description: Option<String>,
    },
}

/// Whether a clone brings the annotations of its source along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneAnnotations {
    /// It begins with none.
    Leave,
    /// It gets each of them, under a new id.
    Bring,
}

/// What must hold of a resource before it is changed (RFC 9110, section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// One of these tags must be the resource's.
    IfMatch(Vec<EntityTag>),
}

/// A tag that a client holds of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityTag {
    /// `*`: that there is such a resource.
    Any,
    /// The tag of a descriptor.
    Revision(u64),
    /// The tag of content.
    Digest(ContentDigest),
    /// A tag that none of ours can be.
    Foreign,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Written {
    /// The position after the last event that the answer reflects; views that have reached it
    /// hold the write.
    pub end: u64,
    /// The last event's position; none when all was already as asked.
    pub position: Option<u64>,
    /// One result for each operation, in order.
    pub results: Vec<OperationResult>,
    /// Whether this is the first answer to the same request, given again.
    pub replayed: bool,
}

/// What became of one operation.
#[derive(Debug, Clone)]
pub struct OperationResult {
    /// The resource right after this operation; none for entity types.
    pub descriptor: Option<Descriptor>,
    /// The annotation that it added or changed.
    pub annotation: Option<AnnotationState>,
    /// The job right after this operation, if that is what it was about.
    pub job: Option<Box<Job>>,
    /// The document right after this operation, if its processing is what it was about.
    pub document: Option<Box<Document>>,
    /// The events that it caused.
    pub events: Vec<Event>,
}

impl Operation {
    /// A command to a job.
    pub fn of_job(id: JobId, command: JobCommand) -> Self {
        Self::plain(Target::Job(id), Change::Job(Box::new(command)))
    }

    /// A command to a document.
    pub fn of_document(id: ResourceId, command: DocumentCommand) -> Self {
        let change = Change::Document(Box::new(command));
        Self::plain(Target::Document(id), change)
    }

    /// A command to a resource.
    pub fn of_resource(id: ResourceId, command: Command) -> Self {
        let change = Change::Resource(Box::new(command));
        Self::plain(Target::Resource(id), change)
    }

    fn plain(target: Target, change: Change) -> Self {
        Self {
            target,
            change,
            precondition: Precondition::None,
            expected_revision: None,
            is_id_new: false,
        }
    }

    /// What must be known of the annotations of the resource that it changes.
    pub(crate) fn looks_at_target(&self) -> Looks {
        if self.annotation_looked_for().is_some() {
            Looks::ForSome
        } else {
            Looks::ForNone
        }
    }

    /// The resource that it only reads, and what must be known of its annotations.
    pub(crate) fn looks_at_source(&self) -> Option<(ResourceId, Looks)> {
        match &self.change {
            Change::CloneFrom {
                source,
                annotations,
                ..
            } => Some(match annotations {
                CloneAnnotations::Bring => (*source, Looks::ForSome),
                CloneAnnotations::Leave => (*source, Looks::ForNone),
            }),
            _ => None,
        }
    }

    /// The annotation of the target that may be there already.
    pub(crate) fn annotation_looked_for(&self) -> Option<AnnotationId> {
        let Change::Resource(command) = &self.change else {
            return None;
        };
        match &**command {
            Command::AddAnnotation { annotation_id, .. } => {
                (!self.is_id_new).then_some(*annotation_id)
            }
            Command::ChangeAnnotationBody { annotation_id, .. }
            | Command::RemoveAnnotation { annotation_id } => Some(*annotation_id),
            _ => None,
        }
    }
}

impl Change {
    /// The annotation that the answer is about even when nothing changed.
    pub(crate) fn annotation_asked(&self) -> Option<AnnotationId> {
        match self {
            Self::Resource(command) => match &**command {
                Command::ChangeAnnotationBody { annotation_id, .. } => Some(*annotation_id),
                _ => None,
            },
            _ => None,
        }
    }
}

impl OperationResult {
    /// A result with nothing in it but what was written.
    pub(crate) fn of_events(events: Vec<Event>) -> Self {
        Self {
            descriptor: None,
            annotation: None,
            job: None,
            document: None,
            events,
        }
    }

    /// The annotation that the operation named, removed ones included.
    pub fn annotation_id(&self) -> Option<AnnotationId> {
        self.events.iter().find_map(annotation_of)
    }
}
