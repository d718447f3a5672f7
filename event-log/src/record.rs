//! A recorded event, read from the bytes it is stored in.
//!
//! Invariant: the fields were checked when the record was read, so access cannot fail.

use std::fmt;

use bytes::Bytes;

use crate::batch::Idempotency;
use crate::codec::write_hex;
use crate::digest::EventDigest;
use crate::frame::{
    DIGEST_BYTES, FLAG_CAUSATION, FLAG_CORRELATION, FLAG_IDEMPOTENCY, FLAG_ORDER, FLAG_TRACE_HEX,
    FRAME_HEAD_BYTES, event_type_of,
};
use crate::id::{Position, Revision};
use crate::stream::{EventType, StreamId};

/// One recorded event. Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct Record {
    frame: Bytes,
    stream: StreamId,
    layout: Layout,
}

/// Where the fields stand in the body.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) recorded_at_us: i64,
    pub(crate) flags: u8,
    pub(crate) schema_version: u16,
    pub(crate) batch_index: u16,
    pub(crate) batch_count: u16,
    /// Where the fields that may be missing start.
    pub(crate) optional_at: u16,
    pub(crate) event_type: Span,
    pub(crate) actor: Span,
    pub(crate) trace_id: Span,
    pub(crate) causation_at: u16,
    pub(crate) correlation: Span,
    pub(crate) data_at: u16,
}

/// A short field of the body.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) at: u16,
    pub(crate) bytes: u8,
}

impl Span {
    pub(crate) fn of(self, body: &[u8]) -> &[u8] {
        let at = usize::from(self.at);
        &body[at..at + usize::from(self.bytes)]
    }

    /// The field's text, if it is text.
    pub(crate) fn text(self, body: &[u8]) -> Option<&str> {
        std::str::from_utf8(self.of(body)).ok()
    }
}

impl Record {
    pub(crate) fn new(frame: Bytes, stream: StreamId, layout: Layout) -> Self {
        Self {
            frame,
            stream,
            layout,
        }
    }

    /// The whole frame, sharing the record's memory.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// Place in the log.
    pub fn position(&self) -> Position {
        Position::new(self.layout.position)
    }

    /// Place in the stream.
    pub fn revision(&self) -> Revision {
        Revision::new(self.layout.revision)
    }

    /// Name of the stream.
    pub fn stream(&self) -> &str {
        self.stream.as_str()
    }

    /// The stream as a value, shared with the record.
    pub fn stream_id(&self) -> &StreamId {
        &self.stream
    }

    /// Name of the kind of event.
    pub fn event_type(&self) -> &str {
        self.text(self.layout.event_type)
    }

    /// The kind of event as a value.
    pub fn event_type_id(&self) -> EventType {
        event_type_of(self.event_type())
    }

    /// Shape number of the payload.
    pub fn schema_version(&self) -> u16 {
        self.layout.schema_version
    }

    /// When it was recorded, in microseconds since 1970; never earlier than the record before.
    pub fn recorded_at_us(&self) -> i64 {
        self.layout.recorded_at_us
    }

    /// Who acted.
    pub fn actor(&self) -> &str {
        self.text(self.layout.actor)
    }

    /// The trace the write belongs to.
    pub fn trace_id(&self) -> String {
        if self.layout.flags & FLAG_TRACE_HEX == 0 {
            return self.text(self.layout.trace_id).to_owned();
        }
        let mut text = String::with_capacity(32);
        write_hex(self.layout.trace_id.of(self.body()), &mut text)
            .expect("writing to a string cannot fail");
        text
    }

    /// The event that directly caused this one's batch.
    pub fn causation(&self) -> Option<EventDigest> {
        let at = usize::from(self.layout.causation_at);
        self.has(FLAG_CAUSATION)
            .then(|| EventDigest::from_bytes(self.array_at(at)))
    }

    /// The user action the event belongs to.
    pub fn correlation(&self) -> Option<&str> {
        self.has(FLAG_CORRELATION)
            .then(|| self.text(self.layout.correlation))
    }

    /// The event's identity.
    pub fn digest(&self) -> EventDigest {
        let bytes = self.frame[self.frame.len() - DIGEST_BYTES..].try_into();
        EventDigest::from_bytes(bytes.expect("a frame ends in its digest"))
    }

    /// Digest of the record before; zeros for the first.
    pub fn previous(&self) -> EventDigest {
        EventDigest::from_bytes(self.array_at(32))
    }

    /// Digest of the stream's record before; none for its first.
    pub fn previous_in_stream(&self) -> Option<EventDigest> {
        let at = usize::from(self.layout.optional_at);
        (self.layout.revision > 0).then(|| EventDigest::from_bytes(self.array_at(at)))
    }

    /// What makes its batch safe to repeat; only with the first record of a batch.
    pub fn idempotency(&self) -> Option<Idempotency> {
        let at = self.idempotency_at();
        self.has(FLAG_IDEMPOTENCY).then(|| Idempotency {
            key: self.array_at(at),
            request: self.array_at(at + 32),
        })
    }

    /// The sequence number that an outside order gave its batch.
    pub fn order(&self) -> Option<u64> {
        let at = self.idempotency_at() + if self.has(FLAG_IDEMPOTENCY) { 64 } else { 0 };
        self.has(FLAG_ORDER)
            .then(|| u64::from_le_bytes(self.array_at(at)))
    }

    /// The payload as it was handed in.
    pub fn data(&self) -> &[u8] {
        &self.body()[usize::from(self.layout.data_at)..]
    }

    /// The record with memory of its own. Whoever keeps one of many keeps the bytes of all that
    /// were read with it, up to a mebibyte.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            frame: Bytes::copy_from_slice(&self.frame),
            ..self.clone()
        }
    }

    /// The payload, sharing the record's memory.
    pub fn data_bytes(&self) -> Bytes {
        let at = FRAME_HEAD_BYTES + usize::from(self.layout.data_at);
        self.frame.slice(at..self.frame.len() - DIGEST_BYTES)
    }

    /// Place in its batch, from 0.
    pub fn batch_index(&self) -> u16 {
        self.layout.batch_index
    }

    /// Records of its batch.
    pub fn batch_count(&self) -> u16 {
        self.layout.batch_count
    }

    /// The whole frame as it is stored: length, checksum, body, digest.
    pub fn bytes(&self) -> &[u8] {
        &self.frame
    }

    fn body(&self) -> &[u8] {
        &self.frame[FRAME_HEAD_BYTES..self.frame.len() - DIGEST_BYTES]
    }

    fn has(&self, flag: u8) -> bool {
        self.layout.flags & flag != 0
    }

    fn idempotency_at(&self) -> usize {
        usize::from(self.layout.optional_at) + if self.layout.revision > 0 { 32 } else { 0 }
    }

    fn array_at<const N: usize>(&self, at: usize) -> [u8; N] {
        self.body()[at..at + N]
            .try_into()
            .expect("the fields were checked when it was read")
    }

    fn text(&self, span: Span) -> &str {
        span.text(self.body())
            .expect("the text was checked when it was read")
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("position", &self.layout.position)
            .field("stream", &self.stream.as_str())
            .field("revision", &self.layout.revision)
            .field("event_type", &self.event_type())
            .finish_non_exhaustive()
    }
}
