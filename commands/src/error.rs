//! Why a request had no effect, or an effect that is not known.

use std::sync::Arc;

use stemma_content_store::ReadError as ContentReadError;
use stemma_domain::resource::{EvolveError, Refusal};
use stemma_event_log::{AppendError, ReadError};

use crate::history::HistoryError;

/// Why a request was not carried out.
///
/// Nothing was written, with two exceptions: after [`CommandError::Append`] with a failed write or
/// sync the outcome is unknown until the log has been reopened, and with [`CommandError::Answer`]
/// all of it was.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The operation is not allowed in the state that the resource is in.
    #[error("operation {operation} is refused: {refusal}")]
    Refused {
        /// Which operation, from 0.
        operation: usize,
        /// Why.
        refusal: Refusal,
    },
    /// The resource has none of the tags that the client named.
    #[error("operation {operation}: the resource has moved on to revision {revision}")]
    PreconditionFailed {
        /// Which operation, from 0.
        operation: usize,
        /// The revision that the resource is at.
        revision: u64,
    },
    /// The resource is not at the revision that the client expected.
    #[error("operation {operation} expected revision {expected}, not {actual:?}")]
    Conflict {
        /// Which operation, from 0.
        operation: usize,
        /// What was expected.
        expected: u64,
        /// What is so; none when there is no such resource.
        actual: Option<u64>,
    },
    /// The request would write more events than one batch holds.
    #[error("{events} events exceed the {events_max} that one request may cause")]
    TooManyEvents {
        /// How many there would be.
        events: usize,
        /// The limit.
        events_max: usize,
    },
    /// The idempotency key came before, with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Others changed the same resources each time that this request was tried.
    #[error("gave way to other writers {attempts} times")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// The log refused or failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The request was carried out and is durable, but what its answer tells could not be read.
    #[error("read what the answer tells")]
    Answer(#[source] Arc<HistoryError>),
    /// What decides could not be read.
    #[error("read the log")]
    Read(#[source] Arc<ReadError>),
    /// Content that an annotation points into could not be read.
    #[error("read content")]
    Content(#[source] Arc<ContentReadError>),
    /// A stream does not fold: it was written by something else, or damaged.
    #[error("fold a stream")]
    Fold(#[source] Arc<FoldError>),
}

/// A stream that cannot be folded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// A payload cannot be read.
    #[error("event at position {position}")]
    Decode {
        /// Where it stands.
        position: u64,
        /// What is wrong with it.
        #[source]
        source: stemma_domain::event::DecodeError,
    },
    /// An event does not fit the state before it.
    #[error("event at position {position}")]
    Evolve {
        /// Where it stands.
        position: u64,
        /// What does not fit.
        #[source]
        source: EvolveError,
    },
    /// An event of a job or a document does not fit what came before it.
    #[error("event at position {position}")]
    Short {
        /// Where it stands.
        position: u64,
        /// What does not fit.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<HistoryError> for CommandError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Read(source) => source.into(),
            HistoryError::Fold(source) => source.into(),
        }
    }
}

impl From<ReadError> for CommandError {
    fn from(source: ReadError) -> Self {
        Self::Read(Arc::new(source))
    }
}

impl From<ContentReadError> for CommandError {
    fn from(source: ContentReadError) -> Self {
        Self::Content(Arc::new(source))
    }
}

impl From<FoldError> for CommandError {
    fn from(source: FoldError) -> Self {
        Self::Fold(Arc::new(source))
    }
}
