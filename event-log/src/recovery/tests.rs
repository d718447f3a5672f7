//! A damage has one place, whoever meets it: a verification, or an opening.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::segment::{GROUP_HEADER_BYTES, GROUP_MAGIC, HEADER_BYTES, SEAL_BYTES};
use crate::{
    Batch, DamageKind, EventType, Fate, Log, LogId, Loss, MemoryStorage, Metadata, NewEvent,
    OpenError, Operation, Options, Position, Storage, StreamId, VerifyReport, extents, verify,
};

/// Segments so small that a few groups fill several.
fn options() -> Options {
    Options {
        log_id: Some(LogId::from_bytes(*b"stemma test log!")),
        segment_bytes_first: 8 * 1024,
        segment_bytes_max: 8 * 1024,
        ..Options::default()
    }
}

/// A log of several segments, its groups of three records each of a length of its own; with the mark
/// of a clean stop, or as a crash leaves it.
fn written(is_clean: bool) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let log = Log::open(Arc::new(storage.clone()), options()).unwrap();
    for number in 0..20_usize {
        let event = |text: &str| NewEvent {
            stream: StreamId::new(format!("thing-{}", number % 3)).unwrap(),
            event_type: EventType::new("test.happened").unwrap(),
            schema_version: 1,
            data: Bytes::from(text.repeat(number % 4 + 1)),
        };
        let batch = Batch {
            events: vec![event("one"), event("two, longer"), event("the third")],
            expected: Vec::new(),
            idempotency: None,
            metadata: Metadata::default(),
            proposed_at_us: 0,
            order: None,
        };
        runtime.block_on(log.appender.append(batch)).unwrap();
    }
    log.appender.close().unwrap();
    if !is_clean {
        storage.remove("head").unwrap();
    }
    storage
}

/// A place, as it is told: file, offset, position, kind.
type Place = (String, u64, u64, DamageKind);

fn place_of(error: OpenError) -> Place {
    match error {
        OpenError::Damaged {
            file,
            offset,
            position,
            kind,
        } => (file, offset, position.get(), kind),
        error => panic!("{error}"),
    }
}

fn copied(storage: &MemoryStorage) -> MemoryStorage {
    storage.after_crash(Loss::None, |_: Operation<'_>| Fate::Proceed)
}

/// The log with one segment replaced.
fn with(storage: &MemoryStorage, file: &str, bytes: Vec<u8>) -> MemoryStorage {
    let copy = copied(storage);
    copy.put_file(file, bytes);
    copy
}

fn verified(storage: &MemoryStorage) -> VerifyReport {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let mut go_on = |_| ControlFlow::Continue(());
    verify(&storage, &options(), &mut go_on, &mut |_| {}).unwrap()
}

/// What each way to open a log that is to be read whole tells of it.
fn refused(storage: &MemoryStorage) -> Vec<(&'static str, Place)> {
    let shared = || -> Arc<dyn Storage> { Arc::new(copied(storage)) };
    let written = Log::open(shared(), options()).map(|log| log.report);
    let mut told = vec![("written", place_of(written.unwrap_err()))];
    // The others read sealed segments when their records are asked for.
    let read = Log::open_read_only(shared(), options()).map(|(_, report)| report);
    told.extend(read.err().map(|error| ("read", place_of(error))));
    let part = Log::open_whole_part(shared(), options()).map(|part| part.damage);
    let damage = part.unwrap_or_else(Some);
    told.extend(damage.map(|error| ("shown", place_of(error))));
    let copy = extents(&*shared());
    told.extend(copy.err().map(|error| ("copied", place_of(error))));
    told
}

/// Holds what is told of a log to be one damage, at one place.
fn assert_told(storage: &MemoryStorage, expected: &Place, ways: usize, what: &str) {
    let report = verified(storage);
    let first = report.damages.first();
    let first = first.unwrap_or_else(|| panic!("{what}: {expected:?} went untold"));
    let position = first.position.map_or(0, Position::get);
    let found = (first.file.clone(), first.offset, position, first.kind);
    assert_eq!(found, *expected, "{what}, verified");
    let refused = refused(storage);
    assert!(refused.len() >= ways, "{what}: {refused:?}");
    for (way, told) in refused {
        assert_eq!(told, *expected, "{what}, {way}");
    }
}

fn number_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Where a group of a segment stands, and each of its records.
struct Group {
    at: usize,
    first: u64,
    records: Vec<usize>,
}

fn groups(bytes: &[u8]) -> Vec<Group> {
    let (mut groups, mut at) = (Vec::new(), HEADER_BYTES);
    while bytes[at..].starts_with(GROUP_MAGIC) {
        let (mut records, mut next) = (Vec::new(), at + GROUP_HEADER_BYTES);
        for _ in 0..number_at(bytes, at + 8) {
            records.push(next);
            next += 8 + number_at(bytes, next) + 32;
        }
        let first = number_at(bytes, at + 16) as u64;
        groups.push(Group { at, first, records });
        at = next.next_multiple_of(8);
    }
    groups
}

fn segments(storage: &MemoryStorage) -> Vec<(String, Vec<u8>)> {
    let names = storage.list().unwrap().into_iter().map(|file| file.name);
    let segments = names.filter(|name| name.starts_with('0') && name.ends_with(".segment"));
    let mut segments: Vec<_> = segments
        .map(|name| (name.clone(), storage.bytes_of(&name).unwrap()))
        .collect();
    segments.sort();
    assert!(segments.len() > 2);
    segments
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Found: the server told the beginning of the group for whatever was wrong in it, `stemma verify` the
/// record.
#[test]
fn a_byte_that_was_turned_is_told_at_one_offset_by_whoever_meets_it() {
    for is_clean in [true, false] {
        let storage = written(is_clean);
        let segments = segments(&storage);
        for (index, (file, bytes)) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            let groups = groups(bytes);
            assert!(groups.len() > 2 || is_last);
            for (number, group) in groups.iter().enumerate() {
                let what = |part| format!("{part} of group {number} of {file}, {is_clean}");
                if is_last && !is_clean && number + 1 == groups.len() {
                    assert_torn(&storage, file, bytes, group);
                    continue;
                }
                // Whoever writes reads all of a small log, and everybody the last segment.
                let ways = if is_last { 4 } else { 1 };
                let place = |at: usize, position: u64, kind| {
                    let position = group.first + position;
                    (file.clone(), at as u64, position, kind)
                };
                let header = place(group.at, 0, DamageKind::GroupHeader);
                for at in [1, 4, 17, 25, 39] {
                    let turned = with(&storage, file, flipped(bytes, group.at + at));
                    assert_told(&turned, &header, ways, &what("the header"));
                }
                for (position, at) in group.records.iter().enumerate() {
                    let told = place(*at, position as u64, DamageKind::RecordChecksum);
                    let end = at + 8 + number_at(bytes, *at) + 32;
                    // Its checksum, its fields, its payload, its digest.
                    for turned in [at + 4, at + 20, end - 34, end - 1] {
                        let turned = with(&storage, file, flipped(bytes, turned));
                        assert_told(&turned, &told, ways, &what("a record"));
                    }
                    let length = place(*at, position as u64, DamageKind::RecordLength);
                    let turned = with(&storage, file, flipped(bytes, at + 3));
                    assert_told(&turned, &length, ways, &what("a record's length"));
                }
            }
        }
    }
}

/// What nobody was told of is no damage, and is told at its group's beginning by both.
fn assert_torn(storage: &MemoryStorage, file: &str, bytes: &[u8], group: &Group) {
    for at in [group.at + 1, group.records[1] + 20] {
        let turned = with(storage, file, flipped(bytes, at));
        let report = verified(&turned);
        assert_eq!(report.damages, []);
        let torn = report.torn_tail.unwrap();
        let opened = Log::open(Arc::new(turned), options()).unwrap();
        let cut = opened.report.cut.unwrap();
        assert_eq!((torn.offset, torn.bytes), (cut.offset, cut.bytes));
        assert_eq!(torn.offset, group.at as u64);
    }
}

#[test]
fn a_seal_and_what_stands_behind_the_end_are_told_at_one_offset() {
    let storage = written(true);
    let segments = segments(&storage);
    let (file, bytes) = &segments[0];
    let at = bytes.len() - SEAL_BYTES;
    let end = segments[1].0.trim_end_matches(".segment").parse().unwrap();
    let seal = (file.clone(), at as u64, end, DamageKind::Seal);
    for within in [4, 50, SEAL_BYTES - 1] {
        let turned = with(&storage, file, flipped(bytes, at + within));
        assert_told(&turned, &seal, 4, "the seal");
    }
    let (file, bytes) = &segments[segments.len() - 1];
    let behind = groups(bytes).pop().unwrap();
    let last = behind.records[behind.records.len() - 1];
    let end = (last + 8 + number_at(bytes, last) + 32).next_multiple_of(8);
    let records = behind.first + behind.records.len() as u64;
    let after = (file.clone(), end as u64, records, DamageKind::AfterEnd);
    for at in [end + 100, bytes.len() - 1] {
        let turned = with(&storage, file, flipped(bytes, at));
        assert_told(&turned, &after, 4, "behind the end");
    }
    // A whole group that is not there any more: the mark is what shows it.
    let mut short = bytes.clone();
    short[behind.at..end].fill(0);
    let mark = ("head".to_owned(), 0, records, DamageKind::HeadMismatch);
    let short = with(&storage, file, short);
    assert_told(&short, &mark, 4, "the last group");
}

/// Found: a log that was cut within its last group opened for nobody, and was called intact.
#[test]
fn a_last_segment_that_was_cut_is_told_where_it_ends() {
    for is_clean in [true, false] {
        let storage = written(is_clean);
        let (file, bytes) = segments(&storage).pop().unwrap();
        let groups = groups(&bytes);
        let last = &groups[groups.len() - 1];
        let end = last.records[2] + 8 + number_at(&bytes, last.records[2]) + 32;
        let places = [
            (last.at, last.first),
            (last.at + 20, last.first),
            (last.records[1] + 30, last.first),
            (end.next_multiple_of(8) + 64, last.first + 3),
            (bytes.len() - 1, last.first + 3),
        ];
        for (length, records) in places {
            let cut = with(&storage, &file, bytes[..length].to_vec());
            let place = (file.clone(), length as u64, records, DamageKind::Truncated);
            assert_told(&cut, &place, 4, &format!("cut to {length}, {is_clean}"));
        }
    }
}

/// A last segment is as short as one that was cut when it is full, and the next has no name yet. What
/// stands behind a group that is not there is read all the same.
#[test]
fn a_full_last_segment_is_read_behind_a_group_that_is_not_there() {
    let storage = written(false);
    let segments = segments(&storage);
    for (file, _) in &segments[1..] {
        storage.remove(file).unwrap();
    }
    let (file, bytes) = &segments[0];
    let [_, gone, .., last] = &groups(bytes)[..] else {
        panic!("several groups");
    };
    let mut short = bytes.clone();
    short[gone.at..gone.at + GROUP_HEADER_BYTES].fill(0);
    let record = last.records[2];
    short[record + 20] ^= 1;
    let short = with(&storage, file, short);
    let told = verified(&short).damages;
    let told: Vec<_> = told.iter().map(|d| (d.kind, d.offset)).collect();
    let truncated = (DamageKind::Truncated, bytes.len() as u64);
    for expected in [
        truncated,
        (DamageKind::AfterEnd, gone.at as u64),
        (DamageKind::RecordChecksum, record as u64),
    ] {
        assert!(told.contains(&expected), "{expected:?} of {told:?}");
    }
    for (way, (_, offset, _, kind)) in refused(&short) {
        assert_eq!((kind, offset), truncated, "{way}");
    }
}
