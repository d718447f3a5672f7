//! Indexes are derived: gone or garbled, the answers stay the same.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stemma_event_log::{
    Direction, Fate, FileStorage, Log, Loss, MemoryStorage, OpenError, Operation, OperationKind,
    Options, ReadLimit, Reader, Record, Revision, Storage, StreamRange, VerifyReport, verify,
};
use support::*;

const RECORDS: u64 = 400;

fn filled() -> (MemoryStorage, Vec<Record>) {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    for n in 0..RECORDS {
        let data = format!("event {n} {}", "x".repeat(200));
        let one = batch(&format!("thing-{}", n % 7), &[&data]);
        let one = if n % 5 == 0 {
            keyed(one, (n / 5) as u8, 1)
        } else {
            one
        };
        append(&log.appender, one).unwrap();
    }
    let records = all(&log.reader);
    log.appender.close().unwrap();
    (storage, records)
}

fn index_files(storage: &MemoryStorage) -> Vec<String> {
    let files = storage.list().unwrap().into_iter().map(|file| file.name);
    files.filter(|name| name.starts_with("index/")).collect()
}

fn check(reader: &Reader, records: &[Record]) {
    assert_eq!(all(reader), records);
    for n in 0..7 {
        let range = StreamRange {
            from: Revision::new(0),
            direction: Direction::Forward,
            limit: ReadLimit {
                records: 1000,
                bytes: usize::MAX,
            },
        };
        let name = stream(&format!("thing-{n}"));
        let expected: Vec<Record> = records
            .iter()
            .filter(|r| r.stream_id() == &name)
            .cloned()
            .collect();
        assert_eq!(reader.read_stream(&name, range).unwrap(), expected);
        assert_eq!(
            reader.stream_head(&name).unwrap(),
            expected.last().map(Record::revision)
        );
    }
    for record in records.iter().step_by(11) {
        assert_eq!(
            reader.position_of(&record.digest()).unwrap(),
            Some(record.position())
        );
        assert_eq!(
            reader.read_one(record.position()).unwrap().as_ref(),
            Some(record)
        );
    }
    for n in 0..(RECORDS / 5) as u8 {
        let known = reader.idempotent(&[n; 32]).unwrap().unwrap();
        assert_eq!(known.first.get(), u64::from(n) * 5);
    }
    assert_eq!(reader.idempotent(&[255; 32]).unwrap(), None);
}

#[test]
fn runs_are_merged_and_few_stay() {
    let (storage, records) = filled();
    let log = open(&storage);
    assert!(log.report.indexes_rebuilt.is_empty());
    let segments = log.report.segments;
    let runs = index_files(&storage)
        .iter()
        .filter(|name| name.contains("streams"))
        .count();
    assert!(runs < segments / 2, "{runs} runs over {segments} segments");
    check(&log.reader, &records);
}

/// An index that could not be written stayed in memory behind newer ones on disk, and was asked
/// first where a stream ends: records were written at revisions that were taken.
#[test]
fn an_index_that_cannot_be_written_at_once_misleads_nobody() {
    let failures = AtomicU64::new(3);
    let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
        let is_index =
            operation.kind == OperationKind::Create && operation.name.starts_with("index/streams");
        let fails = is_index
            && failures
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        if fails {
            return Fate::Fail(std::io::ErrorKind::Other);
        }
        Fate::Proceed
    });
    let forgetful = Options {
        stream_heads_max: 2,
        ..options()
    };
    let log = Log::open(shared(&storage), forgetful).unwrap();
    fill(&log.appender, RECORDS);
    let records = all(&log.reader);
    for n in 0..7 {
        let name = stream(&format!("thing-{n}"));
        let revisions = records.iter().filter(|r| r.stream_id() == &name);
        let revisions: Vec<u64> = revisions.map(|r| r.revision().get()).collect();
        let count = revisions.len() as u64;
        assert_eq!(revisions, (0..count).collect::<Vec<_>>());
        assert_eq!(
            log.reader.stream_head(&name).unwrap(),
            Some(Revision::new(count - 1))
        );
    }
    log.appender.close().unwrap();
    let log = open(&storage);
    assert!(log.report.indexes_rebuilt.is_empty(), "they came later");
}

#[test]
fn missing_index_files_are_rebuilt_and_reported() {
    let (storage, records) = filled();
    for name in index_files(&storage) {
        let copy = storage.after_crash(Loss::None, calm);
        copy.remove(&name).unwrap();
        let log = open(&copy);
        assert!(!log.report.indexes_rebuilt.is_empty(), "{name}");
        check(&log.reader, &records);
    }
    let copy = storage.after_crash(Loss::None, calm);
    for name in index_files(&copy) {
        copy.remove(&name).unwrap();
    }
    check(&open(&copy).reader, &records);
}

#[test]
fn garbled_index_files_never_give_a_wrong_answer() {
    let (storage, records) = filled();
    for name in index_files(&storage) {
        let bytes = storage.bytes_of(&name).unwrap();
        for at in (0..bytes.len()).step_by(211) {
            let copy = storage.after_crash(Loss::None, calm);
            let mut garbled = bytes.clone();
            garbled[at] ^= 0x41;
            copy.put_file(&name, garbled);
            check(&open(&copy).reader, &records);
        }
        for length in [0, 1, 127, 128, bytes.len() / 2] {
            let copy = storage.after_crash(Loss::None, calm);
            copy.put_file(&name, bytes[..length].to_vec());
            check(&open(&copy).reader, &records);
        }
    }
}

#[test]
fn index_files_of_another_log_are_not_believed() {
    let (storage, records) = filled();
    let other = MemoryStorage::new();
    let log = open(&other);
    fill(&log.appender, RECORDS);
    drop(log);
    let copy = storage.after_crash(Loss::None, calm);
    for name in index_files(&other) {
        copy.put_file(&name, other.bytes_of(&name).unwrap());
    }
    check(&open(&copy).reader, &records);
}

/// A merge that went on beside a reopening gave an index its name: the draft that had been listed
/// was not there to be removed, which failed, and the index was not on the list.
#[test]
fn an_index_that_gets_its_name_while_a_log_is_opened_is_used() {
    let (storage, records) = filled();
    let name = index_files(&storage).swap_remove(0);
    let draft = format!("{name}.new");
    storage.rename(&name, &draft).unwrap();
    let merging = storage.clone();
    let watched = Watched::removing(&storage, move |removed| {
        if removed == draft {
            merging.rename(&draft, &name).unwrap();
        }
    });
    let log = Log::open(watched, options()).unwrap();
    let rebuilt = &log.report.indexes_rebuilt;
    assert!(rebuilt.is_empty(), "{rebuilt:?}");
    check(&log.reader, &records);
}

#[test]
fn a_read_only_reader_writes_nothing_and_sees_what_comes_after_refresh() {
    let storage = MemoryStorage::new();
    assert!(matches!(
        Log::open_read_only(shared(&storage), options()).err(),
        Some(OpenError::Missing)
    ));
    let log = open(&storage);
    fill(&log.appender, 50);
    let (reader, report) = Log::open_read_only(shared(&storage), options()).unwrap();
    assert_eq!(report.end.get(), 50);
    for _ in 0..20 {
        fill(&log.appender, 15);
        reader.refresh().unwrap();
        assert_eq!(all(&reader), all(&log.reader));
        assert_eq!(reader.root(), log.reader.root());
        let name = stream("thing-2");
        assert_eq!(
            reader.stream_head(&name).unwrap(),
            log.reader.stream_head(&name).unwrap()
        );
    }
    let names = |storage: &MemoryStorage| {
        storage
            .list()
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect::<Vec<_>>()
    };
    drop(log);
    let before = names(&storage);
    let copy = storage.after_crash(Loss::None, calm);
    for name in index_files(&copy) {
        copy.remove(&name).unwrap();
    }
    let (reader, _) = Log::open_read_only(shared(&copy), options()).unwrap();
    assert_eq!(all(&reader).len(), 350);
    assert!(index_files(&copy).is_empty());
    assert_eq!(names(&storage), before);
}

#[test]
fn a_log_is_opened_for_reading_at_any_moment_of_its_being_written() {
    const OPENED: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let storage = || -> Arc<dyn Storage> { Arc::new(FileStorage::new(dir.path())) };
    let log = Log::open(storage(), options()).unwrap();
    fill(&log.appender, 1);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                fill(&log.appender, 50);
            }
        });
        let mut ends = Vec::new();
        // A disk that is busy may take as long for one write as for all of the opens.
        while ends.len() < OPENED || ends.first() == ends.last() && !writer.is_finished() {
            let opened = Log::open_read_only(storage(), options());
            let end = opened.map(|(reader, _)| reader.end().get());
            is_done.fetch_or(end.is_err(), Ordering::Relaxed);
            ends.push(end.unwrap());
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(ends.is_sorted(), "{ends:?}");
        assert!(ends.first() < ends.last(), "nothing was written meanwhile");
    });
}

#[test]
fn indexes_of_another_version_are_made_anew_and_are_no_damage() {
    let (storage, records) = filled();
    for name in index_files(&storage) {
        let mut bytes = storage.bytes_of(&name).unwrap();
        // The version, and the checksum over the header.
        bytes[8] = 1;
        let checksum = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
        storage.put_file(&name, bytes);
    }
    let report = verified(&storage);
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    let (reader, _) = Log::open_read_only(shared(&storage), options()).unwrap();
    check(&reader, &records);
    let log = open(&storage);
    assert!(log.report.indexes_rebuilt.len() > 4, "{:?}", log.report);
    check(&log.reader, &records);
}

fn verified(storage: &MemoryStorage) -> VerifyReport {
    let go_on = &mut |_| ControlFlow::Continue(());
    verify(&shared(storage), &options(), go_on, &mut |_| {}).unwrap()
}
