//! What can go wrong: opening, changing and asking an index.

use std::path::PathBuf;

use crate::cursor::CursorError;

/// What stands behind an error: the library's own, or the system's.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Options that cannot be worked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The writer's memory is out of range.
    #[error("writer of {bytes} bytes; expected at least {bytes_min} and less than 4 GiB")]
    WriterBytes {
        /// What was asked for.
        bytes: usize,
        /// The least.
        bytes_min: usize,
    },
    /// No block of rows would be kept.
    #[error("at least one block of rows is to be cached")]
    RowCacheBlocks,
}

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The options cannot be worked with; nothing was touched.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The directory cannot be read, made or moved.
    #[error("prepare {}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process, or another handle in this one, has it open. Nothing was changed.
    #[error("{} is open elsewhere", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Not even an empty index can be made there.
    #[error("no index can be made in {}: {reason}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a change or a query did not succeed. Asking changes nothing; what a failed change left is
/// said where it is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The query holds nothing that could be looked for: no letter and no digit, or exclusions
    /// alone.
    #[error("the query holds no word to look for")]
    EmptyQuery,
    /// The query's text is too long.
    #[error("query of {bytes} bytes exceeds the limit of {bytes_max}")]
    QueryTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The query holds too many words.
    #[error("query of {terms} words exceeds the limit of {terms_max}")]
    TooManyTerms {
        /// Its words, each character of scripts without spaces being one.
        terms: usize,
        /// The limit.
        terms_max: usize,
    },
    /// A page of that many hits is not given.
    #[error("a page has 1 to {limit_max} hits, not {limit}")]
    Limit {
        /// What was asked for.
        limit: usize,
        /// The most.
        limit_max: usize,
    },
    /// The cursor cannot be used.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The mode asks for a vector and the query has none.
    #[error("a query by vector needs a vector")]
    NoVector,
    /// A vector that cannot be compared.
    #[error(
        "expected a vector of 1 to {dimension_max} finite numbers and a model of 1 to {model_bytes_max} bytes"
    )]
    InvalidVector {
        /// Most numbers of a vector.
        dimension_max: usize,
        /// Most bytes of a model's name.
        model_bytes_max: usize,
    },
    /// More passages pass the filters than vectors are compared for one query.
    #[error("more than {candidates_max} passages to compare; narrow the query by a filter")]
    TooManyVectors {
        /// The limit, `vectors_scanned_max` of the options.
        candidates_max: usize,
    },
    /// A passage's id is empty or too long. Nothing was written.
    #[error("expected a chunk id of 1 to {bytes_max} bytes, not of {bytes}")]
    ChunkId {
        /// Its bytes.
        bytes: usize,
        /// The most.
        bytes_max: usize,
    },
    /// What is noted of a resource is too long. Nothing was written.
    #[error("a note of {bytes} bytes exceeds the limit of {bytes_max}")]
    Note {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The index was discarded. Nothing was written.
    #[error("the index was discarded")]
    Discarded,
    /// Passages could not be read from where they come. Nothing was written.
    #[error("the passages of a resource cannot be read")]
    Passages(#[source] Source),
    /// A stored row cannot be read: the index is damaged and is to be rebuilt.
    #[error("a stored row cannot be read")]
    Row(#[source] Source),
    /// The index or its files failed.
    #[error("the index failed")]
    Index(#[source] Source),
    /// The index holds what its code did not expect: it is damaged and is to be rebuilt.
    #[error("the index is damaged: {message}")]
    Damaged {
        /// What was met.
        message: String,
    },
}

impl From<tantivy::TantivyError> for SearchError {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Index(error.into())
    }
}

impl From<std::io::Error> for SearchError {
    fn from(error: std::io::Error) -> Self {
        Self::Index(error.into())
    }
}
