//! The log of Stemma: order and durability of records. It stores bytes and knows no event's
//! meaning. The layout of its files is drawn in `docs/format/event-log.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod codec;
mod digest;
mod error;
mod frame;
mod id;
mod merkle;
mod options;
mod record;
mod stats;
mod stream;

pub use batch::{
    Batch, Committed, ExpectedRevision, FirstUse, Idempotency, METADATA_FIELD_BYTES_MAX, Metadata,
    NewEvent, Outcome,
};
pub use digest::{DigestError, EventDigest, RootHash};
pub use error::{
    AppendError, CloseError, DamageKind, InvalidBatch, OpenError, ReadError, VerifyError,
};
pub use frame::Check;
pub use id::{LogId, Position, Revision};
pub use options::{Options, OptionsError};
pub use record::Record;
pub use stats::{AppendStats, Histogram, SIZE_BOUNDS, TIME_BOUNDS_US};
pub use stream::{EVENT_TYPE_BYTES_MAX, EventType, NameError, STREAM_BYTES_MAX, StreamId};
