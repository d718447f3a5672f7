//! Events to stored payloads and back.
//!
//! Invariant: a payload is JSON in canonical form (keys sorted, no white space), so the same fact
//! has the same bytes. Reading refuses what it does not know: an unknown type is an error for the
//! caller to stop at, never an event to pass over.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::added;
use super::payload::{AnnotationAdded, Event};
use super::upcast::{UPCASTERS, UpcastError, current_version, upcast};

/// Bytes that most payloads fit.
const PAYLOAD_BYTES_EXPECTED: usize = 1024;

/// An event as the log stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The type's name.
    pub event_type: &'static str,
    /// The shape's number.
    pub schema_version: u16,
    /// Canonical JSON.
    pub data: Vec<u8>,
}

/// Why a stored payload cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a type that this Stemma knows.
    #[error("unknown event type {0}")]
    UnknownType(String),
    /// The shape is not one that can be read.
    #[error(transparent)]
    Version(#[from] UpcastError),
    /// The payload is not of its type's shape.
    #[error("payload of {event_type}")]
    Payload {
        /// The type.
        event_type: String,
        /// What the payload lacks.
        #[source]
        source: serde_json::Error,
    },
}

impl Event {
    /// Writes the event down.
    pub fn encode(&self) -> Encoded {
        let data = match self {
            Self::ResourceCreated(payload) | Self::ResourceCloned(payload) => to_json(payload),
            Self::ResourceRevised(payload) => to_json(payload),
            Self::ResourceRenamed(payload) => to_json(payload),
            Self::ResourceLanguageChanged(payload) => to_json(payload),
            Self::ResourceMetadataChanged(payload) => to_json(payload),
            Self::ResourceCollectionChanged(payload) => to_json(payload),
            Self::ResourceAccessChanged(payload) => to_json(payload),
            Self::ResourceArchived(payload) => to_json(payload),
            Self::ResourceUnarchived(payload) => to_json(payload),
            Self::AnnotationAdded(payload) => added::encode(payload),
            Self::AnnotationBodyChanged(payload) => to_json(payload),
            Self::AnnotationRemoved(payload) => to_json(payload),
            Self::EntityTypeAdded(payload) | Self::EntityTypeRemoved(payload) => to_json(payload),
            Self::EntityTypeRegistered(payload) => to_json(payload),
            Self::RequestAnswered(payload) => to_json(payload),
            Self::JobQueued(payload) => to_json(payload),
            Self::JobClaimed(payload) => to_json(payload),
            Self::JobReleased(payload) => to_json(payload),
            Self::JobRetryScheduled(payload) => to_json(payload),
            Self::JobCompleted(payload) => to_json(payload),
            Self::JobFailed(payload) => to_json(payload),
            Self::JobCancelRequested(payload) => to_json(payload),
            Self::JobCancelled(payload) => to_json(payload),
            Self::JobRetried(payload) => to_json(payload),
            Self::DocumentUploaded(payload) => to_json(payload),
            Self::DocumentStageCompleted(payload) => to_json(payload),
            Self::DocumentStageFailed(payload) => to_json(payload),
        };
        let event_type = self.type_name();
        Encoded {
            event_type,
            schema_version: current_version(UPCASTERS, event_type),
            data,
        }
    }
}

fn to_json(payload: &impl serde::Serialize) -> Vec<u8> {
    let mut data = Vec::with_capacity(PAYLOAD_BYTES_EXPECTED);
    serde_json::to_writer(&mut data, payload).expect("payloads have text keys and finite numbers");
    data
}

/// Reads a stored payload, through its upcasters when its shape is an old one.
///
/// # Errors
/// [`DecodeError`]; a projection stops at such an event and says so.
pub fn decode(event_type: &str, schema_version: u16, data: &[u8]) -> Result<Event, DecodeError> {
    let stored = Stored {
        event_type,
        schema_version,
        data,
    };
    Ok(match event_type {
        "resource.created" => Event::ResourceCreated(stored.read()?),
        "resource.cloned" => Event::ResourceCloned(stored.read()?),
        "resource.revised" => Event::ResourceRevised(stored.read()?),
        "resource.renamed" => Event::ResourceRenamed(stored.read()?),
        "resource.language_changed" => Event::ResourceLanguageChanged(stored.read()?),
        "resource.metadata_changed" => Event::ResourceMetadataChanged(stored.read()?),
        "resource.collection_changed" => Event::ResourceCollectionChanged(stored.read()?),
        "resource.access_changed" => Event::ResourceAccessChanged(stored.read()?),
        "resource.archived" => Event::ResourceArchived(stored.read()?),
        "resource.unarchived" => Event::ResourceUnarchived(stored.read()?),
        "annotation.added" => Event::AnnotationAdded(stored.read_added()?),
        "annotation.body_changed" => Event::AnnotationBodyChanged(stored.read()?),
        "annotation.removed" => Event::AnnotationRemoved(stored.read()?),
        "entity_type.added" => Event::EntityTypeAdded(stored.read()?),
        "entity_type.removed" => Event::EntityTypeRemoved(stored.read()?),
        "entity_type.registered" => Event::EntityTypeRegistered(stored.read()?),
        "request.answered" => Event::RequestAnswered(stored.read()?),
        "job.queued" => Event::JobQueued(stored.read()?),
        "job.claimed" => Event::JobClaimed(stored.read()?),
        "job.released" => Event::JobReleased(stored.read()?),
        "job.retry_scheduled" => Event::JobRetryScheduled(stored.read()?),
        "job.completed" => Event::JobCompleted(stored.read()?),
        "job.failed" => Event::JobFailed(stored.read()?),
        "job.cancel_requested" => Event::JobCancelRequested(stored.read()?),
        "job.cancelled" => Event::JobCancelled(stored.read()?),
        "job.retried" => Event::JobRetried(stored.read()?),
        "document.uploaded" => Event::DocumentUploaded(stored.read()?),
        "document.stage_completed" => Event::DocumentStageCompleted(stored.read()?),
        "document.stage_failed" => Event::DocumentStageFailed(stored.read()?),
        unknown => return Err(DecodeError::UnknownType(unknown.into())),
    })
}

struct Stored<'a> {
    event_type: &'a str,
    schema_version: u16,
    data: &'a [u8],
}

impl Stored<'_> {
    fn read_added(&self) -> Result<AnnotationAdded, DecodeError> {
        let is_current = self.schema_version == current_version(UPCASTERS, self.event_type);
        let read = is_current.then(|| added::decode(self.data)).flatten();
        read.map_or_else(|| self.read(), Ok)
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let malformed = |source| DecodeError::Payload {
            event_type: self.event_type.into(),
            source,
        };
        if self.schema_version == current_version(UPCASTERS, self.event_type) {
            return serde_json::from_slice(self.data).map_err(malformed);
        }
        let old: Value = serde_json::from_slice(self.data).map_err(malformed)?;
        let new = upcast(UPCASTERS, self.event_type, self.schema_version, old)?;
        serde_json::from_value(new).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Chunking, Stage, Steps};
    use crate::event::*;
    use crate::id::{AnnotationId, ContentDigest, JobId, ResourceId};
    use crate::resource::{Access, Visibility};
    use crate::time::Timestamp;
    use crate::value::{
        CollectionName, EntityType, FileName, JobKind, LanguageTag, MediaType, PrincipalName,
        ResourceName, WorkerName,
    };
    use serde_json::json;
    use uuid::Uuid;

    fn created() -> ResourceCreated {
        ResourceCreated {
            access: Access::default(),
            byte_size: 12,
            collection: Some(CollectionName::new("people").unwrap()),
            derived_from: Some(ResourceId::new(Uuid::from_u128(1))),
            digest: ContentDigest::from_bytes([7; 32]),
            entity_types: vec![EntityType::new("Person").unwrap()],
            id: ResourceId::new(Uuid::from_u128(2)),
            language: Some(LanguageTag::new("en").unwrap()),
            media_type: MediaType::new("text/plain").unwrap(),
            metadata: json!({ "z": 1, "a": { "y": 1.5, "b": null } })
                .as_object()
                .unwrap()
                .clone(),
            name: ResourceName::new("Ulugh Beg").unwrap(),
        }
    }

    fn shared() -> Access {
        let named = |name| vec![PrincipalName::new(name).unwrap()];
        Access::new(Visibility::Shared, named("rita"), named("will")).unwrap()
    }

    fn one_of_each() -> Vec<Event> {
        let annotation_id = AnnotationId::new(Uuid::from_u128(3));
        let reference = Reference {
            relation: Relation::Body,
            resource_id: created().id,
        };
        let change = || EntityTypeChange {
            entity_type: EntityType::new("Place").unwrap(),
        };
        vec![
            Event::ResourceCreated(created()),
            Event::ResourceCloned(created()),
            Event::ResourceRevised(ResourceRevised {
                byte_size: 1,
                digest: created().digest,
                media_type: created().media_type,
            }),
            Event::ResourceRenamed(ResourceRenamed {
                name: created().name,
            }),
            Event::ResourceLanguageChanged(ResourceLanguageChanged { language: None }),
            Event::ResourceMetadataChanged(ResourceMetadataChanged {
                metadata: created().metadata,
            }),
            Event::ResourceCollectionChanged(ResourceCollectionChanged { collection: None }),
            Event::ResourceAccessChanged(ResourceAccessChanged { access: shared() }),
            Event::ResourceArchived(ResourceArchived {}),
            Event::ResourceUnarchived(ResourceUnarchived {}),
            Event::AnnotationAdded(AnnotationAdded {
                annotation: json!({ "type": "Annotation", "target": "urn:x" }).into(),
                annotation_id,
                references: vec![reference],
            }),
            Event::AnnotationBodyChanged(AnnotationBodyChanged {
                annotation_id,
                body: Some(json!("urn:y")),
                operations: json!([{ "op": "add", "item": "urn:y" }]),
                references: vec![],
            }),
            Event::AnnotationRemoved(AnnotationRemoved { annotation_id }),
            Event::EntityTypeAdded(change()),
            Event::EntityTypeRemoved(change()),
            Event::EntityTypeRegistered(EntityTypeRegistered {
                description: Some("who".into()),
                name: EntityType::new("Person").unwrap(),
            }),
            Event::RequestAnswered(RequestAnswered::default()),
        ]
        .into_iter()
        .chain(one_of_each_of_jobs())
        .chain(one_of_each_of_documents())
        .collect()
    }

    fn error() -> JobError {
        JobError {
            code: "PARSER_TIMEOUT".into(),
            message: "the parser took more than 120 s".into(),
            stage: Some("parse".into()),
            transient: true,
        }
    }

    fn object(value: &Value) -> Metadata {
        value.as_object().unwrap().clone()
    }

    fn one_of_each_of_jobs() -> Vec<Event> {
        vec![
            Event::JobQueued(JobQueued {
                document_id: Some(ResourceId::new(Uuid::from_u128(2))),
                id: JobId::new(Uuid::from_u128(4)),
                max_retries: 3,
                payload: object(&json!({ "b": 1, "a": "x" })),
                priority: -1,
                trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
                kind: JobKind::new("document.process").unwrap(),
            }),
            Event::JobClaimed(JobClaimed {
                attempt: 1,
                lease_ms: 30_000,
                worker: WorkerName::new("host:1/0").unwrap(),
            }),
            Event::JobReleased(JobReleased {
                reason: "the worker stops".into(),
            }),
            Event::JobRetryScheduled(JobRetryScheduled {
                attempt: 1,
                error: error(),
                retry_at: Timestamp::from_micros(1_700_000_000_000_001),
            }),
            Event::JobCompleted(JobCompleted {
                result: object(&json!({ "chunk_count": 12 })),
                warnings: vec!["page 3 could not be read".into()],
            }),
            Event::JobFailed(JobFailed {
                attempt: 4,
                error: error(),
            }),
            Event::JobCancelRequested(JobCancelRequested {}),
            Event::JobCancelled(JobCancelled {}),
            Event::JobRetried(JobRetried {}),
        ]
    }

    fn one_of_each_of_documents() -> Vec<Event> {
        let (document_id, job_id) = (
            ResourceId::new(Uuid::from_u128(2)),
            JobId::new(Uuid::from_u128(4)),
        );
        let output = StageOutput {
            byte_size: 3,
            digest: ContentDigest::from_bytes([9; 32]),
        };
        vec![
            Event::DocumentUploaded(DocumentUploaded {
                byte_size: 12,
                chunking: Chunking::default(),
                collection: Some(CollectionName::new("papers").unwrap()),
                declared_media_type: Some(MediaType::new("application/pdf").unwrap()),
                digest: ContentDigest::from_bytes([7; 32]),
                file_name: FileName::new("Zīj.pdf").unwrap(),
                id: document_id,
                steps: Steps::Auto,
            }),
            Event::DocumentStageCompleted(DocumentStageCompleted {
                document_id,
                figures: object(&json!({ "pages": 2 })),
                input: ContentDigest::from_bytes([7; 32]),
                job_id,
                outputs: [("text".to_owned(), output)].into(),
                stage: Stage::Parse,
                took_ms: 12,
                version: 1,
                warnings: vec!["page 3 could not be read".into()],
            }),
            Event::DocumentStageFailed(DocumentStageFailed {
                attempt: 1,
                document_id,
                error: error(),
                job_id,
                stage: Stage::Parse,
                took_ms: None,
            }),
        ]
    }

    /// What was stored once is read for good: `tests/golden` holds a payload of each type and each
    /// schema version, byte for byte as it was first written.
    #[test]
    fn golden_payloads_of_every_version_are_read_and_the_current_ones_written() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        for event in one_of_each() {
            let encoded = event.encode();
            let name = format!("{}.{}.json", encoded.event_type, encoded.schema_version);
            let stored = std::fs::read(golden.join(&name)).expect(&name);
            let (is, was) = (String::from_utf8(encoded.data), String::from_utf8(stored));
            assert_eq!(is, was, "{name}");
        }
        for file in std::fs::read_dir(golden).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let (event_type, version) = name.rsplit_once('.').unwrap();
            let data = std::fs::read(&path).unwrap();
            let read = decode(event_type, version.parse().unwrap(), &data).expect(name);
            assert!(one_of_each().contains(&read), "{name} reads as {read:?}");
        }
    }

    /// Whoever hides the grants from those whom they are not for looks at how payloads begin.
    #[test]
    fn grants_come_first_in_a_payload_and_are_left_out_where_all_may() {
        let open = Event::ResourceCreated(created()).encode().data;
        assert!(open.starts_with(br#"{"byte_size":"#));
        let restricted = ResourceCreated {
            access: shared(),
            ..created()
        };
        for event in [
            Event::ResourceCreated(restricted.clone()),
            Event::ResourceCloned(restricted),
            Event::ResourceAccessChanged(ResourceAccessChanged { access: shared() }),
        ] {
            let encoded = event.encode();
            assert!(
                encoded
                    .data
                    .starts_with(br#"{"access":{"readers":["rita"],"#)
            );
            let read = decode(encoded.event_type, encoded.schema_version, &encoded.data);
            assert_eq!(read.unwrap(), event);
        }
    }

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        for event in one_of_each() {
            let Encoded {
                event_type,
                schema_version,
                data,
            } = event.encode();
            assert_eq!(decode(event_type, schema_version, &data).unwrap(), event);
        }
    }

    #[test]
    fn an_answer_that_names_what_was_found_reads_back() {
        let event = Event::RequestAnswered(RequestAnswered {
            document_id: Some(created().id),
            job_id: Some(JobId::new(Uuid::from_u128(4))),
        });
        let stored = event.encode();
        assert!(stored.data.starts_with(b"{\"document_id\":"));
        let read = decode(stored.event_type, stored.schema_version, &stored.data);
        assert_eq!(read.unwrap(), event);
    }

    /// The time was added later: failures of before are read without it (the golden payload).
    #[test]
    fn a_failed_stage_that_tells_how_long_it_took_reads_back() {
        let events = one_of_each_of_documents();
        let Some(Event::DocumentStageFailed(failed)) = events.last() else {
            panic!("the failure is the last of them");
        };
        let took_ms = Some(7);
        let event = Event::DocumentStageFailed(DocumentStageFailed {
            took_ms,
            ..failed.clone()
        });
        let stored = event.encode();
        assert!(stored.data.ends_with(br#""stage":"parse","took_ms":7}"#));
        let read = decode(stored.event_type, stored.schema_version, &stored.data);
        assert_eq!(read.unwrap(), event);
    }

    #[test]
    fn every_payload_is_canonical_json() {
        for event in one_of_each() {
            let data = event.encode().data;
            let value: Value = serde_json::from_slice(&data).unwrap();
            let mut sorted = value.clone();
            sorted.sort_all_objects();
            assert_eq!(String::from_utf8(data).unwrap(), sorted.to_string());
        }
    }

    #[test]
    fn an_unknown_type_and_a_wrong_shape_are_errors() {
        assert!(matches!(
            decode("resource.exploded", 1, b"{}"),
            Err(DecodeError::UnknownType(_))
        ));
        assert!(matches!(
            decode("resource.renamed", 1, b"{}"),
            Err(DecodeError::Payload { .. })
        ));
        assert!(matches!(
            decode("resource.renamed", 9, b"{}"),
            Err(DecodeError::Version(_))
        ));
    }
}
