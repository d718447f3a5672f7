//! Text and vectors of documents, indexed and asked: passages, ranking, snippets.
//!
//! [`SearchIndex`] is the store of a projection: it knows nothing of events, and all that it holds
//! can be folded again. Rows and checkpoint change in one commit. Everything blocks: callers that
//! must not block ask from a thread of their own. What is on disk is in docs/format/search.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod change;
mod checkpoint;
mod cursor;
mod cut;
mod engine;
mod error;
mod fields;
mod find;
mod fuse;
mod index;
mod known;
mod list;
mod living;
mod matrix;
mod medium;
mod open;
mod options;
mod owned;
mod parse;
mod plan;
mod put;
mod query;
mod queued;
mod rank;
mod row;
mod scan;
mod snippet;
mod survey;
mod vector;
mod words;
mod write;

pub use change::{
    CHUNK_ID_BYTES_MAX, Change, Facets, MODEL_BYTES_MAX, MODELS_PER_PASSAGE_MAX, NOTE_BYTES_MAX,
    PASSAGE_BYTES_MAX, PASSAGES_PER_RESOURCE_MAX, Passage, PassageSource, PassageVector, Passages,
    ReadPassages, TakePassage, VECTOR_DIMENSION_MAX,
};
pub use checkpoint::Checkpoint;
pub use cursor::{Cursor, CursorError};
pub use error::{OpenError, OptionsError, SearchError};
pub use fuse::{FUSION_CONSTANT, FUSION_DEPTH};
pub use index::SearchIndex;
pub use open::{OpenState, Opened};
pub use options::Options;
pub use parse::{QUERY_BYTES_MAX, QUERY_TERMS_MAX};
pub use query::{Archived, HITS_MAX, Hit, Mode, Page, Query, QueryVector, Sees};
pub use snippet::SNIPPET_CHARS_MAX;
pub use survey::{Contents, ModelUse, Stats};
