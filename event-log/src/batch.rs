//! What a writer hands in and what it is told.
//!
//! Invariant: a batch becomes visible whole or not at all.

use bytes::Bytes;

use crate::digest::EventDigest;
use crate::id::{Position, Revision};
use crate::stream::{EventType, StreamId};

/// Longest actor, trace id or correlation in bytes.
pub const METADATA_FIELD_BYTES_MAX: usize = 255;

/// What the writer believes a stream's last revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// It does not matter.
    Any,
    /// The stream has no record yet.
    NoStream,
    /// The stream's last record has this revision.
    Exact(Revision),
}

/// One event that is to become a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// What kind of event it is.
    pub event_type: EventType,
    /// Shape number of `data`.
    pub schema_version: u16,
    /// The payload, stored as it is.
    pub data: Bytes,
}

/// Who and what caused a batch; stored with each of its records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Who acts; at most [`METADATA_FIELD_BYTES_MAX`] bytes.
    pub actor: String,
    /// The trace the write belongs to; same limit. 32 lower-case hexadecimal digits are stored
    /// in half the space.
    pub trace_id: String,
    /// The event that directly caused this batch.
    pub causation: Option<EventDigest>,
    /// The user action the batch belongs to; same limit.
    pub correlation: Option<String>,
}

/// What makes a batch safe to repeat: digests that the caller made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// Digest of the caller's key and of whatever scopes it.
    pub key: [u8; 32],
    /// Digest of the request, to tell a repetition from a key used for something else.
    pub request: [u8; 32],
}

/// Events that become visible together, and the conditions under which they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events in their order; at least one.
    pub events: Vec<NewEvent>,
    /// What must hold before the batch; streams that it does not write may be named as well.
    pub expected: Vec<(StreamId, ExpectedRevision)>,
    /// Makes the batch safe to repeat.
    pub idempotency: Option<Idempotency>,
    /// Who and what caused it.
    pub metadata: Metadata,
    /// Microseconds since 1970, proposed by the writer; raised to the last recorded time if that
    /// is later.
    pub proposed_at_us: i64,
    /// The sequence number that an outside order gave the batch.
    pub order: Option<u64>,
}

impl Batch {
    /// Whether an event, if there is one, is of the same stream as the one before it.
    pub(crate) fn is_same_stream(&self, index: usize) -> bool {
        let stream = |index: usize| self.events.get(index).map(|event| &event.stream);
        let before = index.checked_sub(1).and_then(stream);
        before.is_some() && before == stream(index)
    }
}

/// How a batch came to be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This call wrote it.
    Appended,
    /// An earlier batch with the same key and request wrote it; the positions are that batch's.
    Duplicate,
}

/// Where a batch stands; it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Position of its first record.
    pub first: Position,
    /// Position of its last record.
    pub last: Position,
    /// Recorded time of all its records, in microseconds since 1970.
    pub recorded_at_us: i64,
    /// The revision of each record, in the order of the events.
    pub revisions: Vec<Revision>,
    /// Whether this call wrote it.
    pub outcome: Outcome,
}

/// The batch that used an idempotency key first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstUse {
    /// Digest of the request that came with the key.
    pub request: [u8; 32],
    /// Position of the batch's first record.
    pub first: Position,
    /// Position of the batch's last record.
    pub last: Position,
}
