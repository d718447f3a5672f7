//! What a writer is told, and what readers then see.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use stemma_event_log::{
    AppendError, AppenderStatus, Check, Direction, EventDigest, ExpectedRevision, Fate,
    FileStorage, InvalidBatch, Log, MemoryStorage, OpenError, Operation, OperationKind, Options,
    Outcome, Position, ReadLimit, Record, Revision, StreamRange,
};
use support::*;

#[test]
fn an_acknowledged_batch_is_read_back_whole_and_linked() {
    let log = open(&MemoryStorage::new());
    let mut two = batch("thing-1", &["a", "b"]);
    two.events.push(event("other-1", "c"));
    two.proposed_at_us = 50;
    let committed = append(&log.appender, two).unwrap();
    assert_eq!((committed.first.get(), committed.last.get()), (0, 2));
    assert_eq!(committed.revisions, [0, 1, 0].map(Revision::new));
    assert_eq!(committed.outcome, Outcome::Appended);
    let records = all(&log.reader);
    assert_eq!(
        records.iter().map(Record::data).collect::<Vec<_>>(),
        [b"a", b"b", b"c"]
    );
    assert_eq!(records[0].previous(), EventDigest::from_bytes([0; 32]));
    assert_eq!(records[1].previous(), records[0].digest());
    assert_eq!(records[1].previous_in_stream(), Some(records[0].digest()));
    assert_eq!(records[2].previous_in_stream(), None);
    assert_eq!(records[2].batch_index(), 2);
    assert_eq!(log.reader.head().unwrap().digest, records[2].digest());
    assert_eq!(log.reader.root().0, 3);
}

#[test]
fn a_wrong_expectation_is_a_conflict_and_writes_nothing() {
    let log = open(&MemoryStorage::new());
    append(&log.appender, batch("thing-1", &["a"])).unwrap();
    for (expected, name) in [
        (ExpectedRevision::NoStream, "thing-1"),
        (exact(1), "thing-1"),
        (exact(0), "thing-2"),
    ] {
        let refused = append(
            &log.appender,
            expecting(batch("thing-1", &["b"]), name, expected),
        );
        let Err(AppendError::Conflict { stream, actual, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(stream.as_str(), name);
        assert_eq!(actual.is_some(), name == "thing-1");
    }
    assert_eq!(log.reader.end(), Position::new(1));
    append(
        &log.appender,
        expecting(batch("thing-1", &["b"]), "thing-1", exact(0)),
    )
    .unwrap();
    let guarded = expecting(
        batch("thing-3", &["c"]),
        "thing-2",
        ExpectedRevision::NoStream,
    );
    append(&log.appender, guarded).unwrap();
    assert_eq!(log.appender.stats().conflicts, 3);
}

#[test]
fn a_repeated_batch_gets_its_first_answer_also_after_a_restart() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    let original = expecting(
        batch("thing-1", &["a", "b"]),
        "thing-1",
        ExpectedRevision::NoStream,
    );
    let first = append(&log.appender, keyed(original.clone(), 1, 1)).unwrap();
    fill(&log.appender, 60);
    for log in [log, {
        open(&storage.after_crash(stemma_event_log::Loss::All, calm))
    }] {
        let again = append(&log.appender, keyed(original.clone(), 1, 1)).unwrap();
        assert_eq!(again.outcome, Outcome::Duplicate);
        assert_eq!((again.first, again.last), (first.first, first.last));
        assert_eq!(again.revisions, first.revisions);
        assert_eq!(again.recorded_at_us, first.recorded_at_us);
        let reused = append(&log.appender, keyed(original.clone(), 1, 2));
        assert!(
            matches!(reused, Err(AppendError::KeyReused { position }) if position == first.first)
        );
        let known = log.reader.idempotent(&[1; 32]).unwrap().unwrap();
        assert_eq!(
            (known.request, known.first, known.last),
            ([1; 32], first.first, first.last)
        );
        assert_eq!(log.reader.idempotent(&[9; 32]).unwrap(), None);
        assert_eq!(log.reader.end(), Position::new(62));
    }
}

#[test]
fn two_equal_keys_in_one_group_write_one_batch() {
    let log = open(&MemoryStorage::new());
    let (one, two) = block_on(async {
        let one = log
            .appender
            .enqueue(keyed(batch("thing-1", &["a"]), 7, 7))
            .await
            .unwrap();
        let two = log
            .appender
            .enqueue(keyed(batch("thing-1", &["a"]), 7, 7))
            .await
            .unwrap();
        (one.await.unwrap(), two.await.unwrap())
    });
    assert_eq!(
        (one.outcome, two.outcome),
        (Outcome::Appended, Outcome::Duplicate)
    );
    assert_eq!(one.first, two.first);
    assert_eq!(log.reader.end(), Position::new(1));
}

#[test]
fn the_recorded_time_never_goes_back() {
    let log = open(&MemoryStorage::new());
    for at in [500, 100, 900, 900] {
        let mut one = batch("thing-1", &["a"]);
        one.proposed_at_us = at;
        append(&log.appender, one).unwrap();
    }
    let times: Vec<i64> = all(&log.reader)
        .iter()
        .map(Record::recorded_at_us)
        .collect();
    assert_eq!(times, [500, 500, 900, 900]);
    let at = |us| log.reader.position_at_time(us).unwrap().map(Position::get);
    assert_eq!(
        [at(499), at(500), at(899), at(900), at(i64::MAX)],
        [None, Some(1), Some(1), Some(3), Some(3)]
    );
}

#[test]
fn a_batch_outside_the_limits_is_refused_with_its_reason() {
    let tight = Options {
        batch_bytes_max: 1024,
        batch_events_max: 2,
        ..options()
    };
    let log = Log::open(shared(&MemoryStorage::new()), tight).unwrap();
    let refused = |batch| append(&log.appender, batch).unwrap_err();
    let reason = |batch| match refused(batch) {
        AppendError::Invalid { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(batch("t-1", &[])), InvalidBatch::Empty);
    assert_eq!(
        reason(batch("t-1", &["", "", ""])),
        InvalidBatch::TooManyEvents {
            count: 3,
            count_max: 2
        }
    );
    let mut wordy = batch("t-1", &["a"]);
    wordy.metadata.actor = "x".repeat(256);
    assert!(matches!(
        reason(wordy),
        InvalidBatch::FieldTooLong { field: "actor", .. }
    ));
    let large = refused(batch("t-1", &[&"x".repeat(1024)]));
    assert!(
        matches!(
            large,
            AppendError::TooLarge {
                bytes_max: 1024,
                ..
            }
        ),
        "{large:?}"
    );
    assert_eq!(log.reader.end(), Position::new(0));
}

#[test]
fn a_group_larger_than_a_segment_gets_a_segment_of_its_own() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    let large = "x".repeat(40_000);
    append(&log.appender, batch("t-1", &[&large])).unwrap();
    append(&log.appender, batch("t-1", &["small"])).unwrap();
    append(&log.appender, batch("t-1", &[&large, &large])).unwrap();
    log.appender.close().unwrap();
    drop(log);
    let log = open(&storage);
    assert!(log.report.clean);
    let sizes: Vec<usize> = all(&log.reader).iter().map(|r| r.data().len()).collect();
    assert_eq!(sizes, [40_000, 5, 40_000, 40_000]);
}

#[test]
fn a_stream_is_read_both_ways_across_segments() {
    let log = open(&MemoryStorage::new());
    fill(&log.appender, 210);
    let read = |from, direction, records| {
        let range = StreamRange {
            from: Revision::new(from),
            direction,
            limit: ReadLimit {
                records,
                bytes: usize::MAX,
            },
        };
        let records = log.reader.read_stream(&stream("thing-3"), range).unwrap();
        assert!(records.iter().all(|r| r.stream() == "thing-3"));
        records
            .iter()
            .map(|r| r.revision().get())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        read(0, Direction::Forward, usize::MAX),
        (0..30).collect::<Vec<_>>()
    );
    assert_eq!(read(28, Direction::Forward, 10), [28, 29]);
    assert_eq!(read(5, Direction::Forward, 2), [5, 6]);
    assert_eq!(read(u64::MAX, Direction::Backward, 3), [29, 28, 27]);
    assert_eq!(read(1, Direction::Backward, 9), [1, 0]);
    assert_eq!(read(30, Direction::Forward, 9), [0_u64; 0]);
    assert_eq!(
        log.reader.stream_head(&stream("thing-3")).unwrap(),
        Some(Revision::new(29))
    );
    assert_eq!(log.reader.stream_head(&stream("nothing")).unwrap(), None);
    for record in all(&log.reader) {
        assert_eq!(
            log.reader.position_of(&record.digest()).unwrap(),
            Some(record.position())
        );
    }
    assert_eq!(
        log.reader
            .position_of(&EventDigest::from_bytes([1; 32]))
            .unwrap(),
        None
    );
}

/// What a batch wrote of a stream stands in a row and is read several records at once.
#[test]
fn a_row_of_a_stream_is_read_both_ways_as_far_as_its_bytes_are_asked_for() {
    let log = open(&MemoryStorage::new());
    let sizes: Vec<String> = (0..100).map(|n| "x".repeat(n % 7 * 100)).collect();
    let data: Vec<&str> = sizes.iter().map(String::as_str).collect();
    append(&log.appender, batch("t-1", &data)).unwrap();
    let records = all(&log.reader);
    for bytes in [1, 1000, 15_000, usize::MAX] {
        let limit = ReadLimit {
            records: usize::MAX,
            bytes,
        };
        for (direction, from) in [(Direction::Forward, 0), (Direction::Backward, 99)] {
            let range = StreamRange {
                from: Revision::new(from),
                direction,
                limit,
            };
            let read = log.reader.read_stream(&stream("t-1"), range).unwrap();
            let mut expected = records.clone();
            if direction == Direction::Backward {
                expected.reverse();
            }
            assert_eq!(read, expected[..read.len()], "{bytes} {direction:?}");
            let size = |read: &[Record]| read.iter().map(|r| r.bytes().len()).sum::<usize>();
            assert!(read.len() == 100 || size(&read) >= bytes);
            assert!(size(&read[..read.len() - 1]) < bytes);
        }
    }
}

#[test]
fn a_read_keeps_to_its_limits_from_memory_and_from_segments() {
    for tail_bytes_max in [0, 2_000, 1 << 20] {
        let options = Options {
            tail_bytes_max,
            ..options()
        };
        let log = Log::open(shared(&MemoryStorage::new()), options).unwrap();
        fill(&log.appender, 100);
        let read = |from, records, bytes| {
            let limit = ReadLimit { records, bytes };
            let records = log
                .reader
                .read_checked(Position::new(from), limit, Check::Digest)
                .unwrap();
            records
                .iter()
                .map(|r| r.position().get())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(0, 3, usize::MAX), [0, 1, 2]);
        assert_eq!(read(98, 9, usize::MAX), [98, 99]);
        assert_eq!(read(97, 9, 1), [97]);
        assert_eq!(read(3, 9, 1), [3]);
        assert_eq!(read(100, 9, 9), [0_u64; 0]);
        assert_eq!(read(u64::MAX, 9, 9), [0_u64; 0]);
        assert_eq!(
            read(0, usize::MAX, usize::MAX),
            (0..100).collect::<Vec<_>>()
        );
        assert_eq!(read(90, 0, 9), [0_u64; 0]);
    }
}

#[test]
fn many_writers_at_once_leave_a_dense_log_and_each_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(FileStorage::new(dir.path().join("log")));
    let log = Log::open(storage.clone(), options()).unwrap();
    let mut follow = log.reader.follow();
    let seen = block_on(async {
        let writers = (0..16).map(|writer| {
            let appender = log.appender.clone();
            async move {
                for n in 0..25 {
                    let name = format!("thing-{writer}");
                    let expected = if n == 0 {
                        ExpectedRevision::NoStream
                    } else {
                        exact(n - 1)
                    };
                    let one = expecting(batch(&name, &[&format!("{writer}/{n}")]), &name, expected);
                    let committed = appender.append(one).await.unwrap();
                    assert_eq!(committed.revisions, [Revision::new(n)]);
                }
            }
        });
        let reader = log.reader.clone();
        let reading = async {
            let mut seen = Vec::new();
            while seen.len() < 400 {
                follow.changed().await.unwrap();
                let limit = ReadLimit {
                    records: usize::MAX,
                    bytes: usize::MAX,
                };
                seen.extend(
                    reader
                        .read(Position::new(seen.len() as u64), limit)
                        .unwrap(),
                );
            }
            seen
        };
        let set = tokio::task::LocalSet::new();
        set.run_until(async {
            let handles: Vec<_> = writers.map(tokio::task::spawn_local).collect();
            let seen = reading.await;
            for handle in handles {
                handle.await.unwrap();
            }
            seen
        })
        .await
    });
    assert!(
        seen.iter()
            .zip(0..)
            .all(|(record, n)| record.position().get() == n)
    );
    let stats = log.appender.stats();
    assert_eq!((stats.batches, stats.events, stats.queued), (400, 400, 0));
    assert_eq!(stats.group_events.count(), stats.groups);
    assert!(stats.groups < 400, "groups commit together");
    log.appender.close().unwrap();
    drop(log);
    let log = Log::open(storage, options()).unwrap();
    assert!(log.report.clean);
    assert_eq!(all(&log.reader), seen);
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(FileStorage::new(dir.path().join("log")));
    let log = Log::open(storage.clone(), options()).unwrap();
    let second = Log::open(storage.clone(), options()).err().unwrap();
    assert!(matches!(second, OpenError::Locked { pid: Some(pid) } if pid == std::process::id()));
    drop(log);
    Log::open(storage, options()).unwrap();
}

#[test]
fn a_closed_log_takes_nothing_more() {
    let log = open(&MemoryStorage::new());
    log.appender.close().unwrap();
    log.appender.close().unwrap();
    assert!(matches!(
        append(&log.appender, batch("t-1", &["a"])),
        Err(AppendError::Closed)
    ));
    assert!(matches!(
        block_on(log.appender.reopen()),
        Err(OpenError::Closed)
    ));
}

/// Fails operations of one kind while switched on.
fn switchable(kind: OperationKind, fate: Fate) -> (MemoryStorage, Arc<AtomicBool>) {
    let on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&on);
    let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
        let hit = operation.kind == kind && !operation.name.starts_with("index/");
        if hit && on.load(Ordering::SeqCst) {
            fate
        } else {
            Fate::Proceed
        }
    });
    (storage, switch)
}

#[test]
fn a_failed_sync_poisons_until_the_log_is_reopened_in_place() {
    let (storage, failing) = switchable(OperationKind::Sync, Fate::Fail(io::ErrorKind::Other));
    let log = open(&storage);
    append(&log.appender, batch("t-1", &["kept"])).unwrap();
    failing.store(true, Ordering::SeqCst);
    let failed = append(&log.appender, keyed(batch("t-1", &["lost"]), 1, 1));
    assert!(
        matches!(failed, Err(AppendError::Sync { .. })),
        "{failed:?}"
    );
    failing.store(false, Ordering::SeqCst);
    // A sync that would succeed now proves nothing about the bytes of the failed one.
    assert!(matches!(
        append(&log.appender, batch("t-1", &["no"])),
        Err(AppendError::Poisoned)
    ));
    assert!(matches!(
        log.appender.status(),
        AppenderStatus::Poisoned { .. }
    ));
    assert_eq!(
        all(&log.reader).len(),
        1,
        "readers go on up to the durable head"
    );
    let report = block_on(log.appender.reopen()).unwrap();
    assert!(report.cut.is_some());
    assert_eq!(log.appender.status(), AppenderStatus::Ok);
    let retried = append(&log.appender, keyed(batch("t-1", &["lost"]), 1, 1)).unwrap();
    assert_eq!(
        (retried.first.get(), retried.outcome),
        (1, Outcome::Appended)
    );
    let crashed = storage.after_crash(stemma_event_log::Loss::All, calm);
    drop(log);
    assert_eq!(all(&open(&crashed).reader).len(), 2);
}

/// Reopening cut a group that was acknowledged and read badly, before it noticed that it was gone.
#[test]
fn reopening_in_place_never_cuts_what_was_acknowledged() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
        if operation.kind == OperationKind::Sync && fails.load(Ordering::SeqCst) {
            return Fate::Fail(io::ErrorKind::Other);
        }
        Fate::Proceed
    });
    let log = open(&storage);
    append(&log.appender, batch("t-1", &["acknowledged"])).unwrap();
    failing.store(true, Ordering::SeqCst);
    assert!(append(&log.appender, batch("t-1", &["not"])).is_err());
    failing.store(false, Ordering::SeqCst);
    let (name, mut bytes) = last_segment(&storage);
    let at = bytes
        .windows(12)
        .position(|w| w == b"acknowledged")
        .unwrap();
    bytes[at] ^= 1;
    storage.put_file(&name, bytes.clone());
    let reopened = block_on(log.appender.reopen());
    assert!(
        matches!(reopened, Err(OpenError::Damaged { .. })),
        "{reopened:?}"
    );
    assert_eq!(last_segment(&storage).1, bytes, "nothing was cut");
}

#[test]
fn what_stood_in_the_queue_is_dealt_with_once_it_is_settled() {
    let log = open(&MemoryStorage::new());
    block_on(async {
        for n in 0..50 {
            // Nobody waits for the answer.
            drop(log.appender.enqueue(batch("t-1", &[&n.to_string()])).await);
        }
        log.appender.settled().await;
    });
    assert_eq!(log.reader.end().get(), 50);
    log.appender.close().unwrap();
    block_on(log.appender.settled());
}

#[test]
fn a_full_disk_refuses_the_batch_and_goes_on_when_there_is_room() {
    for kind in [OperationKind::Create, OperationKind::Write] {
        let full = io::ErrorKind::StorageFull;
        let fate = Fate::Fail(full);
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let failures = Arc::clone(&left);
        let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
            // Fails once only: clearing the place afterwards succeeds.
            let hit = operation.kind == kind
                && !operation.name.starts_with("index/")
                && left.load(Ordering::SeqCst) == 0;
            if hit {
                left.store(usize::MAX, Ordering::SeqCst);
                return fate;
            }
            Fate::Proceed
        });
        let log = open(&storage);
        fill(&log.appender, 3);
        failures.store(0, Ordering::SeqCst);
        let mut refused = 0;
        for _ in 0..60 {
            match append(&log.appender, batch("t-1", &[&"x".repeat(300)])) {
                Ok(_) => {}
                Err(AppendError::Full { .. }) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(refused <= 1, "{kind:?}");
        assert_eq!(log.appender.status(), AppenderStatus::Ok);
        let end = log.reader.end();
        assert_eq!(end.get(), 63 - refused);
        drop(log);
        assert_eq!(
            open(&storage.after_crash(stemma_event_log::Loss::All, calm))
                .reader
                .end(),
            end
        );
    }
}
