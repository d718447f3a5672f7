//! What can be changed in an index, and what of it is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use stemma_domain::id::ResourceId;
use stemma_domain::value::{CollectionName, EntityType, ResourceName};

use crate::error::SearchError;

/// Most bytes of a chunk's id.
pub const CHUNK_ID_BYTES_MAX: usize = 256;
/// Most bytes of a model's name.
pub const MODEL_BYTES_MAX: usize = 256;
/// Most numbers of a vector.
pub const VECTOR_DIMENSION_MAX: usize = 4096;
/// Models whose vectors one passage keeps; a further model takes the place of the oldest.
pub const MODELS_PER_PASSAGE_MAX: usize = 2;
/// Bytes of a passage's text that are kept; what is beyond is neither found nor shown.
pub const PASSAGE_BYTES_MAX: usize = 64 << 10;
/// Passages of a resource that are kept; what is beyond is not found. A warning is logged.
pub const PASSAGES_PER_RESOURCE_MAX: usize = 100_000;

/// Most bytes of what is noted of a resource.
pub const NOTE_BYTES_MAX: usize = 256;

/// What is filtered by and shown of a resource, beside its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facets {
    /// What people call it; it is found by it too.
    pub name: ResourceName,
    /// Its collection.
    pub collection: Option<CollectionName>,
    /// The kinds of things it speaks of.
    pub entity_types: BTreeSet<EntityType>,
    /// Whether it is archived.
    pub archived: bool,
    /// What the caller keeps beside it, neither found nor shown; at most [`NOTE_BYTES_MAX`] bytes.
    pub note: Vec<u8>,
}

/// A span of a document's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The chunk's id, 1 to [`CHUNK_ID_BYTES_MAX`] bytes.
    pub chunk_id: String,
    /// Zero-based place among the document's chunks.
    pub index: u32,
    /// Where it begins: code points of the document's text.
    pub start: u32,
    /// Where it ends, exclusive.
    pub end: u32,
    /// Its text; [`PASSAGE_BYTES_MAX`] bytes of it are kept.
    pub text: String,
}

/// The text of a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Passages {
    /// Cut elsewhere.
    Chunks(Vec<Passage>),
    /// To be cut here, into passages of about 1,000 code points. Empty for a resource without
    /// text: it is found by its name.
    Text(String),
    /// Cut elsewhere, and read while they are written, so that they are never in memory all at
    /// once.
    Read(ReadPassages),
}

/// A vector of a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct PassageVector {
    /// Who made it, 1 to [`MODEL_BYTES_MAX`] bytes.
    pub model: String,
    /// 1 to [`VECTOR_DIMENSION_MAX`] finite numbers.
    pub values: Vec<f32>,
}

/// What is done with each passage that is read, and with its vectors, the oldest model first.
pub type TakePassage<'a> = dyn FnMut(Passage, Vec<PassageVector>) -> Result<(), SearchError> + 'a;

/// Where passages are read from.
pub trait PassageSource: Send + Sync {
    /// Gives all passages to `take`, in their order; ends with the first error of its own.
    ///
    /// # Errors
    /// What `take` said, or [`SearchError::Passages`].
    fn each(&self, take: &mut TakePassage<'_>) -> Result<(), SearchError>;
}

/// Passages that are read when they are written; clones share where from.
#[derive(Clone)]
pub struct ReadPassages(Arc<dyn PassageSource>);

impl ReadPassages {
    /// Those of a source.
    pub fn new(source: Arc<dyn PassageSource>) -> Self {
        Self(source)
    }

    pub(crate) fn each(&self, take: &mut TakePassage<'_>) -> Result<(), SearchError> {
        self.0.each(take)
    }
}

impl std::fmt::Debug for ReadPassages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadPassages").finish_non_exhaustive()
    }
}

impl PartialEq for ReadPassages {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// One change of one resource. A batch of changes becomes visible at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Puts a resource in the place of all that was there of it, vectors included.
    Put {
        /// Which.
        resource: ResourceId,
        /// Its facets.
        facets: Facets,
        /// Its text.
        passages: Passages,
    },
    /// Changes the facets alone; text and vectors stay. Nothing if the resource is not there.
    Describe {
        /// Which.
        resource: ResourceId,
        /// Its facets from now on.
        facets: Facets,
    },
    /// Removes a resource. Nothing if it is not there.
    Remove {
        /// Which.
        resource: ResourceId,
    },
}
