//! The bytes of one record: how they are laid out, written and checked.
//!
//! Invariant: the digest covers the whole body, the checksum the length, body and digest.
//! `docs/format/event-log.md` draws the layout.

use bytes::Bytes;

use crate::batch::{Idempotency, Metadata, NewEvent};
use crate::codec::{Fields, nibble, parse_hex, to_u32};
use crate::error::DamageKind;
use crate::record::{Layout, Record, Span};
use crate::stream::{EventType, StreamId, check_event_type};

/// Length and checksum before the body.
pub(crate) const FRAME_HEAD_BYTES: usize = 8;
/// The digest behind the body.
pub(crate) const DIGEST_BYTES: usize = 32;
/// Version of the body's layout.
pub(crate) const RECORD_VERSION: u8 = 1;
/// Fields that every body starts with, the previous digest included.
const BODY_FIXED_BYTES: usize = 64;
/// No body is longer; the options keep batches far below.
const BODY_BYTES_MAX: usize = 1 << 30;
/// Codec, key id and nonce of an encrypted payload.
const ENCRYPTION_BYTES: usize = 1 + 16 + 24;

pub(crate) const FLAG_IDEMPOTENCY: u8 = 1;
const FLAG_ENCRYPTED: u8 = 1 << 1;
pub(crate) const FLAG_ORDER: u8 = 1 << 2;
const FLAG_STREAM_UUID: u8 = 1 << 3;
pub(crate) const FLAG_TRACE_HEX: u8 = 1 << 4;
pub(crate) const FLAG_CAUSATION: u8 = 1 << 5;
pub(crate) const FLAG_CORRELATION: u8 = 1 << 6;
const FLAGS_UNKNOWN: u8 = 1 << 7;

/// How closely a record's bytes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The CRC-32C over the frame: finds accidents.
    Checksum,
    /// The BLAKE3 digest over the body as well: finds everything.
    Digest,
}

/// All that goes into one record.
pub(crate) struct Draft<'a> {
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) recorded_at_us: i64,
    pub(crate) batch_index: u16,
    pub(crate) batch_count: u16,
    pub(crate) previous: &'a [u8; 32],
    /// Digest of the stream's last record; present exactly when `revision` is not 0.
    pub(crate) previous_in_stream: Option<&'a [u8; 32]>,
    pub(crate) idempotency: Option<&'a Idempotency>,
    pub(crate) order: Option<u64>,
    pub(crate) metadata: &'a Metadata,
    pub(crate) event: &'a NewEvent,
}

/// Appends the record's frame to `out` and returns its digest.
pub(crate) fn encode(out: &mut Vec<u8>, draft: &Draft<'_>) -> [u8; 32] {
    assert_eq!(draft.revision > 0, draft.previous_in_stream.is_some());
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    encode_body(out, draft);
    let body_at = start + FRAME_HEAD_BYTES;
    let digest = *blake3::hash(&out[body_at..]).as_bytes();
    let length = to_u32(out.len() - body_at).to_le_bytes();
    out.extend_from_slice(&digest);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), &out[body_at..]);
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..body_at].copy_from_slice(&checksum.to_le_bytes());
    digest
}

fn encode_body(out: &mut Vec<u8>, draft: &Draft<'_>) {
    let event = draft.event;
    let metadata = draft.metadata;
    let stream = split_uuid(event.stream.as_str());
    let trace = parse_hex::<16>(&metadata.trace_id);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let flags = flag(draft.idempotency.is_some(), FLAG_IDEMPOTENCY)
        | flag(draft.order.is_some(), FLAG_ORDER)
        | flag(stream.is_some(), FLAG_STREAM_UUID)
        | flag(trace.is_some(), FLAG_TRACE_HEX)
        | flag(metadata.causation.is_some(), FLAG_CAUSATION)
        | flag(metadata.correlation.is_some(), FLAG_CORRELATION);
    out.extend_from_slice(&[RECORD_VERSION, flags]);
    out.extend_from_slice(&event.schema_version.to_le_bytes());
    out.extend_from_slice(&draft.position.to_le_bytes());
    out.extend_from_slice(&draft.revision.to_le_bytes());
    out.extend_from_slice(&draft.recorded_at_us.to_le_bytes());
    out.extend_from_slice(&draft.batch_index.to_le_bytes());
    out.extend_from_slice(&draft.batch_count.to_le_bytes());
    out.extend_from_slice(draft.previous);
    if let Some(previous) = draft.previous_in_stream {
        out.extend_from_slice(previous);
    }
    if let Some(idempotency) = draft.idempotency {
        out.extend_from_slice(&idempotency.key);
        out.extend_from_slice(&idempotency.request);
    }
    if let Some(order) = draft.order {
        out.extend_from_slice(&order.to_le_bytes());
    }
    match stream {
        Some((head, uuid)) => {
            put_short(out, head);
            out.extend_from_slice(&uuid);
        }
        None => put_short(out, event.stream.as_str()),
    }
    put_short(out, event.event_type.as_str());
    put_short(out, &metadata.actor);
    match trace {
        Some(bytes) => out.extend_from_slice(&bytes),
        None => put_short(out, &metadata.trace_id),
    }
    if let Some(causation) = &metadata.causation {
        out.extend_from_slice(causation.as_bytes());
    }
    if let Some(correlation) = &metadata.correlation {
        put_short(out, correlation);
    }
    out.extend_from_slice(&to_u32(event.data.len()).to_le_bytes());
    out.extend_from_slice(&event.data);
}

/// The most bytes the frame of `event` can take.
pub(crate) fn frame_bytes_max(event: &NewEvent, metadata: &Metadata) -> u64 {
    let names = event.stream.as_str().len() + event.event_type.as_str().len();
    let texts = metadata.actor.len()
        + metadata.trace_id.len()
        + metadata.correlation.as_ref().map_or(0, String::len);
    // Fixed part, link in the stream, idempotency, order, causation, five short lengths, payload length.
    let fixed = FRAME_HEAD_BYTES + BODY_FIXED_BYTES + 32 + 64 + 8 + 32 + 5 + 4 + DIGEST_BYTES;
    (fixed + names + texts) as u64 + event.data.len() as u64
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("short texts are checked before they are queued"));
    out.extend_from_slice(text.as_bytes());
}

/// Splits a name that ends in a dash and a lower-case hyphenated UUID.
fn split_uuid(name: &str) -> Option<(&str, [u8; 16])> {
    let (head, tail) = name.split_at_checked(name.len().checked_sub(36)?)?;
    let head = head.strip_suffix('-')?;
    if head.is_empty() {
        return None;
    }
    let tail = tail.as_bytes();
    let mut uuid = [0; 16];
    let mut at = 0;
    for (index, byte) in uuid.iter_mut().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            if tail[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = nibble(tail[at])? << 4 | nibble(tail[at + 1])?;
        at += 2;
    }
    Some((head, uuid))
}

fn join_uuid(head: &str, uuid: &[u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = String::with_capacity(head.len() + 37);
    name.push_str(head);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            name.push('-');
        }
        name.push(char::from(DIGITS[usize::from(byte >> 4)]));
        name.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    name
}

/// Bytes of the frame that starts `bytes`, when its length is there and possible.
pub(crate) fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let length = Fields::new(bytes).u32()? as usize;
    (BODY_FIXED_BYTES..=BODY_BYTES_MAX)
        .contains(&length)
        .then_some(FRAME_HEAD_BYTES + length + DIGEST_BYTES)
}

/// Reads the record that starts `bytes`, which may go on behind it.
pub(crate) fn decode(bytes: &Bytes, check: Option<Check>) -> Result<Record, DamageKind> {
    let length = frame_bytes(bytes).ok_or(DamageKind::RecordLength)?;
    if length > bytes.len() {
        return Err(DamageKind::RecordLength);
    }
    let frame = bytes.slice(..length);
    let body = &frame[FRAME_HEAD_BYTES..length - DIGEST_BYTES];
    if check.is_some() {
        let checksum =
            crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[FRAME_HEAD_BYTES..]);
        if checksum.to_le_bytes() != frame[4..FRAME_HEAD_BYTES] {
            return Err(DamageKind::RecordChecksum);
        }
    }
    if check == Some(Check::Digest)
        && blake3::hash(body).as_bytes()[..] != frame[length - DIGEST_BYTES..]
    {
        return Err(DamageKind::RecordDigest);
    }
    let version = body[0];
    if version != RECORD_VERSION {
        return Err(DamageKind::RecordVersion(version));
    }
    if body[1] & FLAG_ENCRYPTED != 0 {
        return Err(DamageKind::RecordEncrypted);
    }
    let (layout, stream) = read_body(body).ok_or(DamageKind::RecordFields)?;
    Ok(Record::new(frame, stream, layout))
}

/// The record of a frame that was just encoded, in the stream that it was encoded for.
pub(crate) fn written(frame: Bytes, stream: StreamId) -> Record {
    let body = &frame[FRAME_HEAD_BYTES..frame.len() - DIGEST_BYTES];
    let layout = read_layout(body, |fields, flags| {
        let bytes = usize::from(fields.u8()?);
        fields.take(bytes)?;
        fields.take(if flags & FLAG_STREAM_UUID == 0 { 0 } else { 16 })
    });
    let (layout, _) = layout.expect("what was just encoded can be read");
    Record::new(frame, stream, layout)
}

fn read_body(body: &[u8]) -> Option<(Layout, StreamId)> {
    read_layout(body, read_stream)
}

/// Where a body's fields stand, and what `stream` makes of its stream.
fn read_layout<'a, S>(
    body: &'a [u8],
    stream: impl FnOnce(&mut Fields<'a>, u8) -> Option<S>,
) -> Option<(Layout, S)> {
    let mut fields = Fields::new(body);
    let _version = fields.u8()?;
    let flags = fields.u8()?;
    if flags & FLAGS_UNKNOWN != 0 {
        return None;
    }
    let schema_version = fields.u16()?;
    let position = fields.u64()?;
    let revision = fields.u64()?;
    let recorded_at_us = fields.i64()?;
    let batch_index = fields.u16()?;
    let batch_count = fields.u16()?;
    if batch_index >= batch_count {
        return None;
    }
    let _previous = fields.take(32)?;
    let optional_at = offset(fields.at())?;
    fields.take(if revision > 0 { 32 } else { 0 })?;
    fields.take(if flags & FLAG_IDEMPOTENCY != 0 { 64 } else { 0 })?;
    fields.take(if flags & FLAG_ENCRYPTED != 0 {
        ENCRYPTION_BYTES
    } else {
        0
    })?;
    fields.take(if flags & FLAG_ORDER != 0 { 8 } else { 0 })?;
    let stream = stream(&mut fields, flags)?;
    let event_type = short(&mut fields)?;
    check_event_type(event_type.text(body)?).ok()?;
    let actor = short(&mut fields)?;
    actor.text(body)?;
    let trace_id = if flags & FLAG_TRACE_HEX != 0 {
        span(&mut fields, 16)?
    } else {
        let trace_id = short(&mut fields)?;
        trace_id.text(body)?;
        trace_id
    };
    let causation_at = offset(fields.at())?;
    fields.take(if flags & FLAG_CAUSATION != 0 { 32 } else { 0 })?;
    let correlation = if flags & FLAG_CORRELATION != 0 {
        let correlation = short(&mut fields)?;
        correlation.text(body)?;
        correlation
    } else {
        Span { at: 0, bytes: 0 }
    };
    let data_bytes = fields.u32()?;
    let data_at = offset(fields.at())?;
    fields.take(data_bytes as usize)?;
    let layout = Layout {
        position,
        revision,
        recorded_at_us,
        flags,
        schema_version,
        batch_index,
        batch_count,
        optional_at,
        event_type,
        actor,
        trace_id,
        causation_at,
        correlation,
        data_at,
    };
    fields.is_at_end().then_some((layout, stream))
}

fn read_stream(fields: &mut Fields<'_>, flags: u8) -> Option<StreamId> {
    let bytes = usize::from(fields.u8()?);
    let head = std::str::from_utf8(fields.take(bytes)?).ok()?;
    if flags & FLAG_STREAM_UUID == 0 {
        return StreamId::new(head).ok();
    }
    let uuid = fields.array::<16>()?;
    StreamId::new(join_uuid(head, &uuid)).ok()
}

fn offset(at: usize) -> Option<u16> {
    u16::try_from(at).ok()
}

fn span(fields: &mut Fields<'_>, bytes: u8) -> Option<Span> {
    let at = offset(fields.at())?;
    fields.take(usize::from(bytes))?;
    Some(Span { at, bytes })
}

fn short(fields: &mut Fields<'_>) -> Option<Span> {
    let bytes = fields.u8()?;
    span(fields, bytes)
}

/// The number the indexes know a stream by; keyed with the log so that nobody can choose names
/// that meet in every log.
pub(crate) fn stream_hash(log_key: &[u8; 32], stream: &str) -> u64 {
    crate::codec::prefix_u64(blake3::keyed_hash(log_key, stream.as_bytes()).as_bytes())
}

/// The event type as a value, for a record that was checked.
pub(crate) fn event_type_of(name: &str) -> EventType {
    EventType::new(name).expect("the name was checked when the record was read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::EventDigest;

    fn event(stream: &str) -> NewEvent {
        NewEvent {
            stream: StreamId::new(stream).unwrap(),
            event_type: EventType::new("resource.created").unwrap(),
            schema_version: 3,
            data: Bytes::from_static(b"{\"name\":\"x\"}"),
        }
    }

    fn draft<'a>(event: &'a NewEvent, metadata: &'a Metadata) -> Draft<'a> {
        Draft {
            position: 7,
            revision: 2,
            recorded_at_us: -5,
            batch_index: 1,
            batch_count: 4,
            previous: &[1; 32],
            previous_in_stream: Some(&[2; 32]),
            idempotency: Some(&Idempotency {
                key: [3; 32],
                request: [4; 32],
            }),
            order: Some(99),
            metadata,
            event,
        }
    }

    #[test]
    fn every_field_reads_back_as_it_was_written() {
        let names = [
            "resource-019a0000-0000-7000-8000-00000000abcd",
            "resource-019a0000-0000-7000-8000-00000000ABCD",
            "a-b-019a0000-0000-7000-8000-00000000abcd",
            "settings",
        ];
        for name in names {
            for trace_id in ["0123456789abcdef0123456789abcdef", "T", ""] {
                let event = event(name);
                let metadata = Metadata {
                    actor: "ada".into(),
                    trace_id: trace_id.into(),
                    causation: Some(EventDigest::from_bytes([5; 32])),
                    correlation: Some("c".into()),
                };
                let mut out = Vec::new();
                let digest = encode(&mut out, &draft(&event, &metadata));
                assert!(out.len() as u64 <= frame_bytes_max(&event, &metadata));
                let record = decode(&Bytes::from(out), Some(Check::Digest)).unwrap();
                assert_eq!(record.stream(), name);
                assert_eq!(record.trace_id(), trace_id);
                assert_eq!(record.digest(), EventDigest::from_bytes(digest));
                assert_eq!(record.previous(), EventDigest::from_bytes([1; 32]));
                assert_eq!(
                    record.previous_in_stream(),
                    Some(EventDigest::from_bytes([2; 32]))
                );
                assert_eq!(record.order(), Some(99));
                assert_eq!(record.idempotency().unwrap().request, [4; 32]);
                assert_eq!(record.causation(), metadata.causation);
                assert_eq!(record.correlation(), Some("c"));
                assert_eq!(record.actor(), "ada");
                assert_eq!(record.event_type(), "resource.created");
                assert_eq!(record.data(), &event.data[..]);
                assert_eq!((record.batch_index(), record.batch_count()), (1, 4));
                assert_eq!(record.recorded_at_us(), -5);
                assert_eq!(record.schema_version(), 3);
            }
        }
    }

    #[test]
    fn a_flip_of_any_byte_is_noticed() {
        let event = event("settings");
        let metadata = Metadata::default();
        let mut out = Vec::new();
        encode(&mut out, &draft(&event, &metadata));
        for index in 0..out.len() {
            let mut bytes = out.clone();
            bytes[index] ^= 0x10;
            assert!(
                decode(&Bytes::from(bytes), Some(Check::Checksum)).is_err(),
                "byte {index}"
            );
        }
        for length in 0..out.len() {
            let bytes = Bytes::copy_from_slice(&out[..length]);
            assert!(decode(&bytes, None).is_err());
        }
    }

    #[test]
    fn an_encrypted_payload_is_refused_by_name() {
        let event = event("settings");
        let metadata = Metadata::default();
        let mut out = Vec::new();
        encode(&mut out, &draft(&event, &metadata));
        out[FRAME_HEAD_BYTES + 1] |= FLAG_ENCRYPTED;
        assert_eq!(
            decode(&Bytes::from(out), None).unwrap_err(),
            DamageKind::RecordEncrypted
        );
    }
}
