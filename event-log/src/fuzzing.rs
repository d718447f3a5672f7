//! What a fuzzer, and the test that replays its corpus, may ask of every decoder of this crate.
//!
//! Checksums are put right first: a fuzzer does not find them, and behind them lies what is to be
//! tried. Each function panics when a decoder does, or when what it read does not come back.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::to_u32;
use crate::files::Files;
use crate::frame::{self, Check};
use crate::index::try_run;
use crate::mark::Mark;
use crate::note::{NoteSigner, NoteVerifier};
use crate::proof_file::ProofFile;
use crate::segment::{GroupHeader, Seal, SegmentHeader};
use crate::storage::{MemoryStorage, Storage};

/// Segment headers, groups, records, seals, the head mark, index files: the first byte says which.
pub fn log(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => segment_header(bytes),
        1 => group_and_seal(bytes),
        2 => record(bytes),
        3 => record_of_any_length(bytes),
        4 => head_mark(bytes),
        _ => index_file(bytes),
    }
}

/// Signed checkpoints, keys and proof files: the first byte says which.
pub fn proofs(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let signer = NoteSigner::new("example.org/log", &[7; 32]).expect("a plain name");
    match kind % 4 {
        0 => {
            if let Ok(checkpoint) = signer.verifier().check(text) {
                let again = signer.sign(&checkpoint);
                assert_eq!(signer.verifier().check(&again), Ok(checkpoint));
            }
        }
        1 => {
            if let Ok(verifier) = NoteVerifier::parse(text) {
                let again = NoteVerifier::parse(&verifier.to_string());
                assert_eq!(again, Ok(verifier));
            }
        }
        2 => {
            if let Ok(signer) = NoteSigner::parse(text) {
                let again = NoteSigner::parse(&signer.secret()).expect("it was written by us");
                assert_eq!(again.verifier(), signer.verifier());
            }
        }
        _ => {
            if let Ok(proof) = ProofFile::parse(text) {
                assert_eq!(ProofFile::parse(&proof.to_string()), Ok(proof.clone()));
                // It shows nothing that this key did not sign.
                let _ = proof.check(signer.verifier());
            }
        }
    }
}

/// The bytes with the checksum over all but the last four put there.
fn with_checksum(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(length, 0);
    let checksum = crc32c::crc32c(&bytes[..length - 4]).to_le_bytes();
    bytes[length - 4..].copy_from_slice(&checksum);
    bytes
}

fn segment_header(bytes: &[u8]) {
    for bytes in [
        bytes.to_vec(),
        with_checksum(bytes, crate::segment::HEADER_BYTES),
    ] {
        if let Ok(header) = SegmentHeader::decode(&bytes) {
            assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }
    }
}

fn group_and_seal(bytes: &[u8]) {
    let part = |at: usize| bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    let number = |at: usize| {
        let part = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
        u64::from_le_bytes(part.unwrap_or_default())
    };
    let group = with_checksum(bytes, crate::segment::GROUP_HEADER_BYTES);
    let (tag, offset) = (part(12).unwrap_or_default(), number(24));
    if let Some(header) = GroupHeader::decode(&group, tag, offset) {
        assert_eq!(header.encode(tag, offset), group);
    }
    let seal = with_checksum(bytes, crate::segment::SEAL_BYTES);
    let (tag, offset) = (part(4).unwrap_or_default(), number(24));
    if let Some(read) = Seal::decode(&seal, tag, offset) {
        assert_eq!(
            Seal::decode(&read.encode(tag, offset), tag, offset),
            Some(read)
        );
    }
}

/// A record whose body is these bytes.
fn record(body: &[u8]) {
    let mut frame = to_u32(body.len()).to_le_bytes().to_vec();
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(body);
    frame.extend_from_slice(blake3::hash(body).as_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    let frame = Bytes::from(frame);
    let Ok(record) = frame::decode(&frame, Some(Check::Digest)) else {
        return;
    };
    assert_eq!(record.bytes(), &frame[..]);
    let _ = (record.position(), record.revision(), record.stream());
    let _ = (record.event_type_id(), record.schema_version());
    let _ = (record.recorded_at_us(), record.actor(), record.trace_id());
    let _ = (record.causation(), record.correlation(), record.digest());
    let _ = (record.previous(), record.previous_in_stream());
    let _ = (record.idempotency(), record.order(), record.data_bytes());
    assert!(record.batch_index() < record.batch_count());
}

fn record_of_any_length(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    for check in [None, Some(Check::Digest)] {
        if let Ok(record) = frame::decode(&bytes, check) {
            assert!(bytes.starts_with(record.bytes()));
        }
    }
}

fn head_mark(bytes: &[u8]) {
    Mark::try_bytes(&with_checksum(bytes, crate::mark::MARK_BYTES));
    Mark::try_bytes(bytes);
}

/// An index file: its header, its blocks, and what stands behind them, each with its checksum.
fn index_file(bytes: &[u8]) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let files = Files::new(Arc::clone(&storage), 8);
    try_run(&*storage, &files, bytes);
}
