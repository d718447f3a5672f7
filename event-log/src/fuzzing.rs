//! What a fuzzer, and the test that replays its corpus, may ask of every decoder of this crate.
//!
//! Checksums are put right first: a fuzzer does not find them, and behind them lies what is to be
//! tried. Each function panics when a decoder does, or when what it read does not come back.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use crate::codec::{to_u32, to_usize};
use crate::digest::EventDigest;
use crate::files::Files;
use crate::frame::{self, Check};
use crate::id::{LogId, Position, Revision};
use crate::index::try_run;
use crate::log::Log;
use crate::mark::Mark;
use crate::note::{NoteSigner, NoteVerifier};
use crate::options::Options;
use crate::proof::is_included;
use crate::proof_file::ProofFile;
use crate::proof_tree::{ProofTree, TILE_HASHES};
use crate::reader::{Direction, Reader, StreamRange};
use crate::segment::{GroupHeader, Seal, SegmentHeader};
use crate::storage::{Fate, Loss, MemoryStorage, Operation, Storage};
use crate::stream::{EventType, StreamId};
use crate::verify::verify;
use crate::{Batch, Metadata, NewEvent, ReadLimit, Record};

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

/// A whole small log, its indexes and the hashes of its tree, whose files were changed: the input
/// is a list of changes. Nothing panics, no record is found right that was not written, and where
/// nothing is told the log is whole, or ends earlier.
pub fn files(data: &[u8]) {
    static WHOLE: LazyLock<(MemoryStorage, Vec<EventDigest>)> = LazyLock::new(small_log);
    let (whole, digests) = &*WHOLE;
    let changed = whole.after_crash(Loss::None, |_: Operation<'_>| Fate::Proceed);
    let is_forged = change_files(&changed, data);
    let storage: Arc<dyn Storage> = Arc::new(changed);
    let mut read = Vec::new();
    let report = verify(
        &storage,
        &small(),
        &mut |_| ControlFlow::Continue(()),
        &mut |record| read.push(record.digest()),
    );
    assert!(read.iter().all(|digest| digests.contains(digest)));
    if report.is_ok_and(|report| report.damages.is_empty()) {
        assert!(digests.starts_with(&read), "a change went untold");
    }
    let Ok(part) = Log::open_whole_part(Arc::clone(&storage), small()) else {
        return;
    };
    let reader = part.log.reader;
    let limit = ReadLimit {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    let records = reader.read(Position::new(0), limit).unwrap_or_default();
    for (record, digest) in records.iter().zip(digests) {
        // Reads hold a record against its checksum; its digest is for verification.
        assert!(is_forged || record.digest() == *digest);
        let _ = reader.position_of(digest);
        let Ok(stream) = StreamId::new(record.stream()) else {
            continue;
        };
        let range = StreamRange {
            from: Revision::new(u64::MAX),
            direction: Direction::Backward,
            limit: ReadLimit {
                records: 5,
                bytes: 1000,
            },
        };
        let _ = reader.read_stream(&stream, range);
    }
    proofs_of(&reader, storage);
}

/// What is proved of a log is proved, whatever stands in the files of the tree.
fn proofs_of(reader: &Reader, storage: Arc<dyn Storage>) {
    let tree = ProofTree::new(reader.clone(), storage);
    let size = reader.end().get();
    let _ = tree.advance();
    let _ = tree.tile(0, 0, size.clamp(1, TILE_HASHES));
    let _ = tree.consistency(size / 2, size);
    if let Ok(of) = tree.inclusion(size / 3, size) {
        let (position, size) = (of.position, of.size);
        assert!(is_included(&of.digest, position, size, &of.path, &of.root));
    }
}

/// Segments so small that a few records fill several.
fn small() -> Options {
    Options {
        log_id: Some(LogId::from_bytes(*b"fuzzed small log")),
        segment_bytes_first: 8 * 1024,
        segment_bytes_max: 16 * 1024,
        ..Options::default()
    }
}

/// A log of several segments, its indexes and the hashes of its tree, and the digests of its events.
fn small_log() -> (MemoryStorage, Vec<EventDigest>) {
    let storage = MemoryStorage::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without threads");
    let log = Log::open(Arc::new(storage.clone()), small()).expect("an empty directory");
    for number in 0..130_u8 {
        let name = format!("thing-{}", number % 5);
        let event = |text: &str| NewEvent {
            stream: StreamId::new(&name).expect("a plain name"),
            event_type: EventType::new("test.happened").expect("a plain name"),
            schema_version: 1,
            data: Bytes::from(text.repeat(usize::from(number % 40))),
        };
        let batch = Batch {
            events: vec![event("one "), event("two ")],
            expected: Vec::new(),
            idempotency: None,
            metadata: Metadata::default(),
            proposed_at_us: i64::from(number),
            order: None,
        };
        let written = runtime.block_on(log.appender.append(batch));
        written.expect("nothing fails in memory");
    }
    let tree = ProofTree::new(log.reader.clone(), Arc::new(storage.clone()));
    while !tree.advance().expect("nothing fails in memory") {}
    let limit = ReadLimit {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    let records = log.reader.read(Position::new(0), limit);
    let records = records.expect("nothing fails in memory");
    let digests = records.iter().map(Record::digest).collect();
    log.appender.close().expect("nothing fails in memory");
    (storage, digests)
}

/// Carries out a list of changes; says whether checksums were put right behind one.
fn change_files(storage: &MemoryStorage, data: &[u8]) -> bool {
    let names: Vec<String> = storage
        .list()
        .unwrap_or_default()
        .into_iter()
        .map(|file| file.name)
        .filter(|name| name != "lock")
        .collect();
    let (mut rest, mut is_forged) = (data, false);
    while let [kind, file, at, at_high, length, tail @ ..] = rest {
        let name = &names[usize::from(*file) % names.len()];
        let mut bytes = storage.bytes_of(name).unwrap_or_default();
        let place = |number: u16| usize::from(number) % (bytes.len() + 1);
        let at = place(u16::from_le_bytes([*at, *at_high]));
        let length = usize::from(*length);
        rest = tail;
        match kind % 6 {
            0 => {
                let count = length.min(tail.len());
                bytes.truncate(bytes.len().max(at + count));
                bytes.resize(bytes.len().max(at + count), 0);
                bytes[at..at + count].copy_from_slice(&tail[..count]);
                rest = &tail[count..];
            }
            1 => bytes.truncate(at),
            2 => {
                let copied = bytes[at..bytes.len().min(at + length)].to_vec();
                bytes.splice(at..at, copied);
            }
            3 => {
                bytes.drain(at..bytes.len().min(at + length));
            }
            4 => {
                let other = &names[length % names.len()];
                bytes = storage.bytes_of(other).unwrap_or_default();
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= (kind / 6) | 1;
                }
                put_checksums_right(&mut bytes);
                is_forged = true;
            }
        }
        storage.put_file(name, bytes);
    }
    is_forged
}

/// Walks what looks like a segment, and gives its header, groups and records their checksums.
fn put_checksums_right(bytes: &mut [u8]) {
    let seal = |part: &mut [u8]| {
        let (covered, checksum) = part.split_at_mut(part.len() - 4);
        checksum.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
    };
    let number = |bytes: &[u8], at: usize| {
        let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
        part.map(|part| to_usize(u64::from(u32::from_le_bytes(part))))
    };
    let mut at = crate::segment::HEADER_BYTES;
    if let Some(header) = bytes.get_mut(..at) {
        seal(header);
    }
    while let Some(group) = bytes.get_mut(at..at + crate::segment::GROUP_HEADER_BYTES) {
        if !group.starts_with(crate::segment::GROUP_MAGIC) {
            break;
        }
        seal(group);
        let end = at + number(bytes, at + 4).unwrap_or(0);
        at += crate::segment::GROUP_HEADER_BYTES;
        while at < end {
            let Some(length) = number(bytes, at).filter(|length| *length > 0) else {
                return;
            };
            let Some(record) = bytes.get_mut(at..at + 8 + length + 32) else {
                return;
            };
            let checksum = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..]);
            record[4..8].copy_from_slice(&checksum.to_le_bytes());
            at += record.len();
        }
        at = at.next_multiple_of(8);
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
