//! The log of Stemma: order and durability of records. It stores bytes and knows no event's
//! meaning. The layout of its files is drawn in `docs/format/event-log.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admit;
mod appender;
mod batch;
mod chain;
mod check;
mod codec;
mod digest;
mod error;
mod extent;
mod fetch;
mod files;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod heads;
mod id;
mod index;
mod indexer;
mod log;
mod mark;
mod merkle;
mod note;
mod options;
mod prepare;
mod proof;
mod proof_file;
mod proof_tree;
mod queue;
mod reader;
mod record;
mod recovery;
mod refresh;
mod scan;
mod segment;
mod segments;
mod shared;
mod stage;
mod stats;
mod storage;
mod stream;
mod tail;
mod torn;
mod verify;
mod verify_report;
mod verify_tree;
mod walk;
mod writer;

pub use appender::{Appender, PendingAppend};
pub use batch::{
    Batch, Committed, ExpectedRevision, FirstUse, Idempotency, METADATA_FIELD_BYTES_MAX, Metadata,
    NewEvent, Outcome,
};
pub use digest::{DigestError, EventDigest, RootHash};
pub use error::{
    AppendError, CloseError, DamageKind, InvalidBatch, OpenError, ReadError, VerifyError,
};
pub use extent::{Extent, Extents, extents};
pub use fetch::ReadLimit;
pub use frame::Check;
pub use id::{LogId, Position, Revision};
pub use log::{Log, OpenReport, WholePart};
pub use note::{Checkpoint, NoteError, NoteSigner, NoteVerifier};
pub use options::{Options, OptionsError};
pub use proof::{TreeHash, is_consistent, is_included};
pub use proof_file::{ProofFile, ProofFileError};
pub use proof_tree::{Inclusion, ProofError, ProofTree, TILE_HASHES};
pub use reader::{Direction, DiskUse, Head, Reader, StreamRange};
pub use record::Record;
pub use shared::AppenderStatus;
pub use stats::{AppendStats, Histogram, SIZE_BOUNDS, TIME_BOUNDS_US};
pub use storage::{
    Access, Fate, Faults, FileStorage, LockOutcome, Loss, MemoryStorage, Operation, OperationKind,
    Storage, StorageFile, StoredFile,
};
pub use stream::{EVENT_TYPE_BYTES_MAX, EventType, NameError, STREAM_BYTES_MAX, StreamId};
pub use torn::Cut;
pub use verify::verify;
pub use verify_report::{Damage, Progress, TornTail, VerifyReport};
