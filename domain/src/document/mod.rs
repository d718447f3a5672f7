//! The document: a resource that came in by upload, and how far its processing is.

mod blobs;
mod chunking;
mod decide;
mod stage;
mod state;

pub use blobs::{
    BlobError, Chunk, Entities, EntityMention, Vectors, VectorsHeader, chunk_line, read_chunks,
};
pub use chunking::{CHUNK_SIZE_MAX, Chunking, ChunkingError, Strategy};
pub use decide::{DocumentCommand, DocumentRefusal, RestsOn, decide, may_run};
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
        assert_eq!(id.uuid().get_version_num(), 8);
        assert_eq!(from_stream_name(&stream_name(id)), Some(id));
    }
}
