//! What is asked of the product, so that it can be asked again and told from the records alone.
//!
//! Invariant: what a request writes, if it writes anything, is known before it is sent.

use bytes::Bytes;
use serde_json::json;
use stemma_commands::{Change, Operation, Precondition, Request, Target};
use stemma_content_store::{Digest, Pin};
use stemma_domain::event::{REQUESTS_STREAM, ResourceCreated};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{Command, ResourcePatch};
use stemma_domain::value::{EntityType, MediaType, ResourceName};
use stemma_event_log::{
    Batch, EventType, ExpectedRevision, Idempotency, Metadata, NewEvent, Revision, StreamId,
};
use uuid::Uuid;

use crate::dice::Dice;

/// Bytes to be stored, made from a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) number: u64,
    pub(crate) bytes: usize,
}

impl Blob {
    pub(crate) fn make(self) -> Bytes {
        let mut dice = Dice::new(self.number);
        let mut bytes = format!("blob {} ", self.number).into_bytes();
        while bytes.len() < self.bytes {
            let text = dice.next().to_le_bytes().map(|byte| b' ' + byte % 64);
            bytes.extend_from_slice(&text);
        }
        bytes.truncate(self.bytes);
        bytes.into()
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::of(&self.make())
    }
}

/// A record that a request writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) stream: String,
    pub(crate) event_type: &'static str,
    /// The content that it names.
    pub(crate) blob: Option<Blob>,
}

/// How a request is made.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Through the write path.
    Commands(Vec<Operation>),
    /// Straight to the log, naming the revision of its first record's stream.
    Batch {
        expected: Option<u64>,
        data_bytes: usize,
    },
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Stands with each of its records as their trace.
    pub(crate) tag: String,
    pub(crate) way: Way,
    pub(crate) key: Option<Idempotency>,
    /// What it writes when it is carried out.
    pub(crate) writes: Vec<Planned>,
}

fn key(tag: &str) -> Idempotency {
    let mut dice = Dice::of(0, tag, 1);
    let mut array = [0; 32];
    array.fill_with(|| dice.next().to_le_bytes()[0]);
    Idempotency {
        key: array,
        request: array.map(|byte| !byte),
    }
}

impl Asked {
    pub(crate) fn commands(tag: String, is_keyed: Option<()>) -> Self {
        let key = is_keyed.map(|()| key(&tag));
        Self {
            tag,
            way: Way::Commands(Vec::new()),
            key,
            writes: Vec::new(),
        }
    }

    pub(crate) fn batch(tag: String, streams: &[String], expected: Option<u64>) -> Self {
        let writes = streams.iter().map(|stream| Planned {
            stream: stream.clone(),
            event_type: "raw.appended",
            blob: None,
        });
        Self {
            key: Some(key(&tag)),
            tag,
            way: Way::Batch {
                expected,
                data_bytes: 20,
            },
            writes: writes.collect(),
        }
    }

    fn add(&mut self, id: ResourceId, command: Command, event_type: &'static str) {
        self.add_with(id, command, event_type, None);
    }

    fn add_with(
        &mut self,
        id: ResourceId,
        command: Command,
        event_type: &'static str,
        blob: Option<Blob>,
    ) {
        let Way::Commands(operations) = &mut self.way else {
            return;
        };
        operations.push(Operation {
            target: Target::Resource(id),
            change: Change::Resource(Box::new(command)),
            precondition: Precondition::None,
            expected_revision: None,
            // Each annotation has its own; what is sent again has a key, and is answered from the log.
            is_id_new: true,
        });
        self.writes.push(Planned {
            stream: id.stream_name(),
            event_type,
            blob,
        });
    }

    fn name(&self) -> ResourceName {
        let name = format!("{} {}", self.tag, self.writes.len());
        ResourceName::new(&name).expect("a tag makes a name")
    }

    pub(crate) fn create(&mut self, id: ResourceId, blob: Blob) {
        let command = Command::Create(ResourceCreated {
            access: stemma_domain::resource::Access::default(),
            byte_size: u64::try_from(blob.bytes).expect("a length fits"),
            collection: None,
            derived_from: None,
            digest: ContentDigest::from_bytes(*blob.digest().as_bytes()),
            entity_types: Vec::new(),
            id,
            language: None,
            media_type: MediaType::new("text/plain").expect("it is one"),
            metadata: serde_json::Map::new(),
            name: self.name(),
        });
        self.add_with(id, command, "resource.created", Some(blob));
    }

    pub(crate) fn revise(&mut self, id: ResourceId, blob: Blob) {
        let command = Command::Revise {
            digest: ContentDigest::from_bytes(*blob.digest().as_bytes()),
            byte_size: u64::try_from(blob.bytes).expect("a length fits"),
            // Another one than at its creation, so that the same content is a change all the same.
            media_type: Some(MediaType::new("text/markdown").expect("it is one")),
        };
        self.add_with(id, command, "resource.revised", Some(blob));
    }

    pub(crate) fn rename(&mut self, id: ResourceId) {
        let command = Command::Patch(ResourcePatch {
            name: Some(self.name()),
            ..ResourcePatch::default()
        });
        self.add(id, command, "resource.renamed");
    }

    pub(crate) fn annotate(&mut self, id: ResourceId, annotation: Uuid, text_bytes: usize) {
        let annotation_id = AnnotationId::new(annotation);
        let body = json!({ "type": "TextualBody", "value": "x".repeat(text_bytes) });
        let annotation = json!({
            "@context": "http://www.w3.org/ns/anno.jsonld", "type": "Annotation",
            "body": body, "target": "http://example.org/",
        });
        let command = Command::AddAnnotation {
            annotation_id,
            annotation,
        };
        self.add(id, command, "annotation.added");
    }

    /// Asks for what is so already: with a key, that it was answered is all that is written.
    pub(crate) fn change_nothing(&mut self, id: ResourceId) {
        let nowhere = EntityType::new("Nowhere").expect("it is one");
        self.add(id, Command::RemoveEntityType(nowhere), "request.answered");
        if self.key.is_none() {
            self.writes.clear();
        }
        for planned in &mut self.writes {
            REQUESTS_STREAM.clone_into(&mut planned.stream);
        }
    }

    /// The streams that it is about, in the order of what it does to them.
    pub(crate) fn streams(&self) -> impl Iterator<Item = String> + '_ {
        let operations = match &self.way {
            Way::Commands(operations) => operations.as_slice(),
            Way::Batch { .. } => &[],
        };
        let resources = operations
            .iter()
            .filter_map(|operation| match operation.target {
                Target::Resource(id) => Some(id.stream_name()),
                Target::Job(id) => Some(id.stream_name()),
                Target::Document(id) => Some(stemma_domain::document::stream_name(id)),
                Target::EntityTypes => None,
            });
        let written = match &self.way {
            Way::Commands(_) => &[][..],
            Way::Batch { .. } => &self.writes[..],
        };
        resources.chain(written.iter().map(|planned| planned.stream.clone()))
    }

    /// Has the first operation expect a revision.
    pub(crate) fn expect(&mut self, revision: Option<u64>) {
        match &mut self.way {
            Way::Commands(operations) => {
                if let Some(first) = operations.first_mut() {
                    first.expected_revision = revision;
                }
            }
            Way::Batch { expected, .. } => *expected = revision,
        }
    }

    pub(crate) fn expected(&self) -> Option<u64> {
        match &self.way {
            Way::Commands(operations) => operations.first()?.expected_revision,
            Way::Batch { expected, .. } => *expected,
        }
    }

    pub(crate) fn blobs(&self) -> Vec<Blob> {
        self.writes
            .iter()
            .filter_map(|planned| planned.blob)
            .collect()
    }

    pub(crate) fn request(&self, operations: &[Operation], pins: Vec<Pin>) -> Request {
        Request {
            sight: stemma_domain::access::Sight::Everything,
            operations: operations.to_vec(),
            actor: "ada".to_owned(),
            trace_id: self.tag.clone(),
            idempotency: self.key,
            bases: [].into(),
            pins,
        }
    }

    pub(crate) fn to_batch(&self, expected: Option<u64>, data_bytes: usize) -> Batch {
        let stream = |name: &str| StreamId::new(name).expect("our streams have good names");
        let events = self.writes.iter().map(|planned| NewEvent {
            stream: stream(&planned.stream),
            event_type: EventType::new(planned.event_type).expect("our types are valid"),
            schema_version: 1,
            data: Bytes::from(self.tag.repeat(data_bytes / self.tag.len() + 1)),
        });
        let expected = expected.map(|revision| {
            let revision = Revision::new(revision);
            (
                stream(&self.writes[0].stream),
                ExpectedRevision::Exact(revision),
            )
        });
        Batch {
            events: events.collect(),
            expected: expected.into_iter().collect(),
            idempotency: self.key,
            metadata: Metadata {
                actor: "ada".to_owned(),
                trace_id: self.tag.clone(),
                causation: None,
                correlation: None,
            },
            proposed_at_us: 0,
            order: None,
        }
    }
}
