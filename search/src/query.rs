//! What can be asked, and the shapes of the answers.

use stemma_domain::id::ResourceId;
use stemma_domain::value::{CollectionName, EntityType};

use crate::checkpoint::Checkpoint;
use crate::cursor::Cursor;

/// Most hits of one page.
pub const HITS_MAX: usize = 500;

/// How passages are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// By words.
    #[default]
    Text,
    /// By the query's vector; the text is only highlighted.
    Vector,
    /// By both, ranks fused. Phrases that are required and words that are excluded hold for all
    /// hits. Pages end after the hits that were fused, twice [`FUSION_DEPTH`](crate::FUSION_DEPTH)
    /// at most.
    Hybrid,
}

/// Which resources are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Archived {
    /// Those that are not archived.
    #[default]
    No,
    /// Those that are.
    Yes,
    /// All.
    Any,
}

/// Says whether a resource is seen by whoever asks.
pub type Sees<'a> = &'a dyn Fn(ResourceId) -> bool;

/// A query's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryVector {
    /// The model that made it; vectors of that model and of as many numbers are compared.
    pub model: String,
    /// Its numbers, all finite.
    pub values: Vec<f32>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Words, any of which may match; `"words in a row"` must stand there, `-word` must not.
    /// Anything is taken. At most [`QUERY_BYTES_MAX`](crate::QUERY_BYTES_MAX) bytes and
    /// [`QUERY_TERMS_MAX`](crate::QUERY_TERMS_MAX) words.
    pub text: String,
    /// The vector, for the modes that use one.
    pub vector: Option<QueryVector>,
    /// How passages are looked for.
    pub mode: Mode,
    /// Only resources of this collection.
    pub collection: Option<CollectionName>,
    /// Only resources of all these types.
    pub entity_types: Vec<EntityType>,
    /// Whether archived resources are asked for.
    pub archived: Archived,
    /// Hits of a page, 1 to [`HITS_MAX`].
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

impl Query {
    /// A query by words, of ten hits a page.
    pub fn words(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            vector: None,
            mode: Mode::Text,
            collection: None,
            entity_types: Vec::new(),
            archived: Archived::No,
            limit: 10,
            after: None,
        }
    }
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The resource that it is of.
    pub resource: ResourceId,
    /// The resource's name.
    pub name: String,
    /// The chunk, if the text was cut elsewhere.
    pub chunk_id: Option<String>,
    /// Higher is better; comparable within one query only.
    pub score: f32,
    /// An excerpt as plain text of one line; empty for a resource without text.
    pub snippet: String,
    /// What matched in the snippet: code points from and to (exclusive), in order.
    pub highlights: Vec<(u32, u32)>,
    /// Where the passage begins in the document's text, in code points.
    pub start: u32,
    /// Where it ends, exclusive.
    pub end: u32,
}

/// A page of hits, the best first; equal scores by resource, then by place.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The hits.
    pub hits: Vec<Hit>,
    /// Where the next page begins; none at the end.
    pub next: Option<Cursor>,
    /// The checkpoint that the page reflects.
    pub checkpoint: Checkpoint,
}
