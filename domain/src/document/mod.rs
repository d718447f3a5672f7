//! The document: a resource that came in by upload, and how far its processing is.

mod blobs;
mod chunking;
mod decide;
mod made_from;
mod stage;
mod state;

pub use blobs::{
    BlobError, Chunk, Entities, EntityMention, Vectors, VectorsHeader, chunk_line, read_chunks,
};
pub use chunking::{CHUNK_SIZE_MAX, Chunking, ChunkingError, Strategy};
pub use decide::{DocumentCommand, DocumentRefusal, RestsOn, decide, may_run};
pub use made_from::{Input, MadeFrom, read_tag};
pub use stage::{Stage, Steps};
pub use state::{Document, DocumentEvolveError, FAILURES_MAX, StageFailure, StageState};

use uuid::Uuid;

use crate::id::{ContentDigest, ResourceId};
use crate::value::CollectionName;

/// The id of the document that these bytes are in this collection.
///
/// It is made from the two, so that the same bytes sent twice, at once or on two machines, cannot
/// become two documents: a UUID of version 8 over the first 16 bytes of
/// BLAKE3-derive-key("stemma 2026-11 document id", digest ‖ collection).
pub fn document_id(digest: &ContentDigest, collection: Option<&CollectionName>) -> ResourceId {
    let mut hasher = blake3::Hasher::new_derive_key("stemma 2026-11 document id");
    hasher.update(digest.as_bytes());
    if let Some(collection) = collection {
        hasher.update(collection.as_str().as_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    ResourceId::new(Uuid::new_v8(bytes))
}

/// The id of the document that these bytes are in this collection for one owner alone: of the same
/// bytes another has another document, and everybody together another still.
pub fn own_document_id(
    digest: &ContentDigest,
    collection: Option<&CollectionName>,
    owner: &str,
) -> ResourceId {
    let mut hasher = blake3::Hasher::new_derive_key("stemma 2026-11 own document id");
    hasher.update(digest.as_bytes());
    hasher.update(&(owner.len() as u64).to_le_bytes());
    hasher.update(owner.as_bytes());
    if let Some(collection) = collection {
        hasher.update(collection.as_str().as_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    ResourceId::new(Uuid::new_v8(bytes))
}

/// Whether an id is of the kind that is made of bytes. Nobody chooses such an id: whoever could
/// would be told whether somebody has the bytes, or would take the place of their document.
pub fn is_made_of_bytes(id: ResourceId) -> bool {
    id.uuid().get_version_num() == 8
}

/// The name of the stream that holds a document's own events, `document-<id>`.
pub fn stream_name(id: ResourceId) -> String {
    format!("{STREAM_PREFIX}{id}")
}

/// The document whose events a stream of this name holds, if it is a document's stream.
pub fn from_stream_name(stream: &str) -> Option<ResourceId> {
    stream.strip_prefix(STREAM_PREFIX)?.parse().ok()
}

const STREAM_PREFIX: &str = "document-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        DocumentStageCompleted, DocumentStageFailed, DocumentUploaded, Envelope, Event, JobError,
    };
    use crate::id::JobId;
    use crate::time::Timestamp;
    use crate::value::FileName;

    #[test]
    fn the_same_bytes_are_the_same_document_within_a_collection_and_another_outside() {
        let digest = ContentDigest::from_bytes([7; 32]);
        let name = CollectionName::new("papers").unwrap();
        let id = document_id(&digest, Some(&name));
        assert_eq!(id, document_id(&digest, Some(&name)));
        assert_ne!(id, document_id(&digest, None));
        assert_ne!(
            id,
            document_id(&ContentDigest::from_bytes([8; 32]), Some(&name))
        );
        let own = own_document_id(&digest, Some(&name), "ada");
        let others = [
            id,
            own_document_id(&digest, Some(&name), "bob"),
            own_document_id(&digest, None, "ada"),
        ];
        assert!(!others.contains(&own));
        assert!(is_made_of_bytes(id) && is_made_of_bytes(own));
        assert!(!is_made_of_bytes(ResourceId::new(Uuid::from_u128(7))));
        assert_eq!(from_stream_name(&stream_name(id)), Some(id));
    }

    fn uploaded(name: &str, steps: Steps) -> DocumentUploaded {
        let digest = ContentDigest::from_bytes([7; 32]);
        DocumentUploaded {
            byte_size: 3,
            chunking: Chunking::default(),
            collection: None,
            declared_media_type: None,
            digest,
            file_name: FileName::new(name).unwrap(),
            id: document_id(&digest, None),
            steps,
        }
    }

    fn completed(stage: Stage) -> Event {
        Event::DocumentStageCompleted(DocumentStageCompleted {
            document_id: uploaded("a", Steps::Auto).id,
            figures: serde_json::Map::new(),
            input: ContentDigest::from_bytes([1; 32]),
            job_id: JobId::new(Uuid::from_u128(1)),
            outputs: std::collections::BTreeMap::new(),
            stage,
            took_ms: 1,
            version: 1,
            warnings: Vec::new(),
        })
    }

    fn failed(stage: Stage) -> Event {
        Event::DocumentStageFailed(DocumentStageFailed {
            attempt: 1,
            document_id: uploaded("a", Steps::Auto).id,
            error: JobError {
                code: "TYPE_MISMATCH".to_owned(),
                message: "why".to_owned(),
                stage: Some(stage.name().to_owned()),
                transient: false,
            },
            job_id: JobId::new(Uuid::from_u128(1)),
            stage,
            took_ms: None,
        })
    }

    /// A document after these events, each by somebody else, a microsecond apart.
    fn folded(events: &[Event]) -> Document {
        let mut document: Option<Document> = None;
        for (revision, event) in (0..).zip(events) {
            let actor = format!("sender {revision}");
            let envelope = Envelope {
                position: revision,
                revision,
                recorded_at: Timestamp::from_micros(i64::try_from(revision).unwrap()),
                actor: &actor,
            };
            match &mut document {
                Some(document) => document.evolve(&envelope, event).unwrap(),
                None => document = Some(Document::start(&envelope, event).unwrap()),
            }
        }
        document.unwrap()
    }

    #[test]
    fn a_document_begins_anew_while_it_is_not_done_unless_its_client_runs_its_steps() {
        let first = |steps| Event::DocumentUploaded(uploaded("a.pdf", steps));
        let (auto, none) = (first(Steps::Auto), first(Steps::None));
        let (done, not) = (completed(Stage::Validate), failed(Stage::Parse));
        let all = Stage::ALL.map(completed);
        for (events, may) in [
            (vec![auto.clone()], true),
            (vec![auto.clone(), done.clone()], true),
            (vec![none.clone()], true),
            (vec![none.clone(), done.clone()], false),
            (vec![none, done, not], true),
            ([vec![auto], all.to_vec()].concat(), false),
        ] {
            let document = folded(&events);
            assert_eq!(document.may_begin_anew(), may, "{events:?}");
            let again = DocumentCommand::UploadAgain {
                uploaded: uploaded("a.md", Steps::Auto),
                found_at: document.revision,
            };
            assert_eq!(decide(Some(&document), again).is_ok(), may);
        }
    }

    #[test]
    fn a_document_that_is_begun_anew_is_as_the_new_upload_says_and_of_two_one_begins_it() {
        let mut events = vec![
            Event::DocumentUploaded(uploaded("a.pdf", Steps::None)),
            completed(Stage::Validate),
            failed(Stage::Parse),
        ];
        let again = |found_at| DocumentCommand::UploadAgain {
            uploaded: uploaded("a.md", Steps::Auto),
            found_at,
        };
        events.extend(decide(Some(&folded(&events)), again(2)).unwrap());
        let now = folded(&events);
        assert_eq!(
            (now.file_name.as_str(), now.steps, now.revision),
            ("a.md", Steps::Auto, 3)
        );
        assert_eq!(
            (now.uploaded_by.as_str(), now.uploaded_at.micros()),
            ("sender 3", 3)
        );
        assert!(now.stages.is_empty() && now.failures.is_empty());
        let refused = decide(Some(&now), again(2));
        assert_eq!(refused, Err(DocumentRefusal::AlreadyExists));
        assert_eq!(decide(None, again(0)), Err(DocumentRefusal::NotFound));
        // Other bytes are no upload of this document.
        let mut other = uploaded("a.md", Steps::Auto);
        other.digest = ContentDigest::from_bytes([8; 32]);
        let envelope = Envelope {
            position: 9,
            revision: 4,
            recorded_at: Timestamp::from_micros(9),
            actor: "x",
        };
        let mut document = now.clone();
        assert!(
            document
                .evolve(&envelope, &Event::DocumentUploaded(other))
                .is_err()
        );
        assert_eq!(document, now);
    }
}
