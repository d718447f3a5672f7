//! What is left of a log after crashes and accidents.

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
    AppendError, DamageKind, Fate, Log, Loss, MemoryStorage, OpenError, Operation, OperationKind,
    Position, ReadError, ReadLimit, Record, Storage,
};
use support::*;

fn crashed(records: u64) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log.appender, records);
    storage.after_crash(Loss::None, calm)
}

fn open_error(storage: &MemoryStorage) -> OpenError {
    Log::open(shared(storage), options()).err().unwrap()
}

fn damage(storage: &MemoryStorage) -> (String, u64, u64, DamageKind) {
    match open_error(storage) {
        OpenError::Damaged {
            file,
            offset,
            position,
            kind,
        } => (file, offset, position.get(), kind),
        other => panic!("{other:?}"),
    }
}

fn with(storage: &MemoryStorage, name: &str, bytes: Vec<u8>) -> MemoryStorage {
    let copy = storage.after_crash(Loss::None, calm);
    copy.put_file(name, bytes);
    copy
}

#[test]
fn a_group_torn_at_any_byte_is_cut_whole_and_kept_aside() {
    let storage = crashed(5);
    let (name, whole) = last_segment(&storage);
    let group = last_group(&whole);
    for length in 0..=group.len() {
        let mut torn = whole.clone();
        torn[group.start + length..].fill(0);
        let storage = with(&storage, &name, torn.clone());
        let log = open(&storage);
        let intact = torn == whole;
        assert_eq!(
            log.reader.end().get(),
            if intact { 5 } else { 4 },
            "torn at {length}"
        );
        assert!(!log.report.clean);
        let kept = torn[group.clone()]
            .iter()
            .rposition(|byte| *byte != 0)
            .map(|last| last + 1);
        match &log.report.cut {
            Some(cut) => {
                assert_eq!((cut.offset, cut.position.get()), (group.start as u64, 4));
                assert_eq!(Some(cut.bytes as usize), kept);
                let aside = storage.bytes_of(&cut.file).unwrap();
                assert_eq!(aside, torn[group.start..][..aside.len()]);
            }
            None => assert!(intact || kept.is_none(), "torn at {length}"),
        }
        fill(&log.appender, 2);
        log.appender.close().unwrap();
        drop(log);
        assert!(open(&storage).report.clean);
    }
}

#[test]
fn a_torn_tail_whose_clearing_failed_does_not_come_back_behind_what_is_written_later() {
    let whole = crashed(5);
    let (name, mut torn) = last_segment(&whole);
    let group = last_group(&torn);
    torn[group.start] ^= 1;
    let failed = Arc::new(AtomicBool::new(false));
    let once = Arc::clone(&failed);
    let storage = whole.after_crash(Loss::None, {
        let name = name.clone();
        move |operation: Operation<'_>| {
            let of_segment = operation.kind == OperationKind::Sync && operation.name == name;
            if of_segment && !once.swap(true, Ordering::SeqCst) {
                return Fate::Fail(io::ErrorKind::StorageFull);
            }
            Fate::Proceed
        }
    });
    storage.put_file(&name, torn);
    assert!(matches!(open_error(&storage), OpenError::Io { .. }));
    assert!(failed.load(Ordering::SeqCst), "clearing met the fault");

    // What is read now are zeros that are in memory only.
    let log = open(&storage);
    assert_eq!((log.reader.end().get(), log.report.cut), (4, None));
    let after = storage.after_crash(Loss::All, calm);
    let bytes = after.bytes_of(&name).unwrap();
    assert!(bytes[group.start..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_bad_group_with_a_good_one_behind_it_is_damage() {
    let storage = crashed(5);
    let (name, whole) = last_segment(&storage);
    let last = last_group(&whole);
    let before = last_group(&whole[..last.start]);
    for at in before.clone() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let (file, offset, position, _) = damage(&with(&storage, &name, bytes));
        // The group's header, or its only record behind it.
        let record = before.start + 40;
        let place = if at < record { before.start } else { record };
        assert_eq!(
            (file.as_str(), offset, position),
            (name.as_str(), place as u64, 3)
        );
    }
}

#[test]
fn after_a_clean_stop_even_the_last_byte_is_damage() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log.appender, 4);
    log.appender.close().unwrap();
    let (name, whole) = last_segment(&storage);
    for at in [
        last_group(&whole).start,
        last_group(&whole).end - 1,
        whole.len() - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let (file, ..) = damage(&with(&storage, &name, bytes));
        assert_eq!(file, name);
    }
    let mut short = whole.clone();
    let group = last_group(&whole);
    short[group].fill(0);
    assert_eq!(
        damage(&with(&storage, &name, short)).3,
        DamageKind::HeadMismatch
    );
    assert_eq!(
        damage(&with(&storage, &name, whole[..5000].to_vec())).3,
        DamageKind::Truncated
    );
    let mut head = storage.bytes_of("head").unwrap();
    head[20] ^= 1;
    assert_eq!(
        damage(&with(&storage, "head", head)).3,
        DamageKind::HeadMark
    );
}

#[test]
fn a_missing_or_foreign_segment_is_damage() {
    let storage = crashed(80);
    let mut names: Vec<String> = storage
        .list()
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .filter(|name| name.ends_with(".segment") && !name.starts_with("next"))
        .collect();
    names.sort();
    assert!(names.len() > 3);
    for name in &names[..names.len() - 1] {
        let copy = storage.after_crash(Loss::None, calm);
        copy.remove(name).unwrap();
        assert_eq!(damage(&copy).3, DamageKind::SegmentMissing);
    }
    let other = MemoryStorage::new();
    let mut foreign = options();
    foreign.log_id = Some(stemma_event_log::LogId::from_bytes([1; 16]));
    drop(Log::open(shared(&other), foreign).unwrap());
    let bytes = other.bytes_of(&names[0]).unwrap();
    assert!(matches!(
        damage(&with(&storage, &names[0], bytes)).3,
        DamageKind::ForeignSegment | DamageKind::Seal
    ));
}

#[test]
fn a_log_written_to_again_has_no_head_mark() {
    let storage = MemoryStorage::new();
    drop(open(&storage));
    assert!(storage.bytes_of("head").is_some());
    let log = open(&storage);
    assert!(log.report.clean && storage.bytes_of("head").is_some());
    fill(&log.appender, 1);
    assert!(storage.bytes_of("head").is_none());
    let crashed = storage.after_crash(Loss::All, calm);
    drop(log);
    let log = open(&crashed);
    assert!(!log.report.clean);
    assert_eq!(log.reader.end().get(), 1);
}

/// Appends until the fault strikes, recovers, goes on, and checks that no acknowledged batch is
/// lost and no other one came twice.
fn survive(nth: usize, kinds: &[OperationKind], fate: Fate, loss: Loss) {
    let kinds = kinds.to_vec();
    let left = Arc::new(AtomicUsize::new(nth));
    let counter = Arc::clone(&left);
    let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
        if !kinds.contains(&operation.kind) || operation.name.starts_with("index/") {
            return Fate::Proceed;
        }
        let before = counter.fetch_sub(1, Ordering::SeqCst);
        if before == 0 { fate } else { Fate::Proceed }
    });
    let Ok(log) = Log::open(shared(&storage), options()) else {
        // The fault struck while the log was made: nothing was acknowledged.
        open(&storage.after_crash(loss, calm));
        return;
    };
    let mut acknowledged = Vec::new();
    let mut failed_at = None;
    for n in 0..40_u64 {
        let data = format!("{n} {}", "y".repeat(300));
        match append(&log.appender, batch("thing-1", &[&data])) {
            Ok(_) => acknowledged.push(data),
            Err(AppendError::Poisoned) => break,
            Err(_) => {
                failed_at.get_or_insert(data);
            }
        }
    }
    let check = |records: &[Record]| {
        let data: Vec<String> = records
            .iter()
            .map(|r| String::from_utf8(r.data().to_vec()).unwrap())
            .collect();
        let known: Vec<&String> = data
            .iter()
            .filter(|data| Some(*data) != failed_at.as_ref())
            .collect();
        assert_eq!(
            known,
            acknowledged.iter().collect::<Vec<_>>(),
            "{nth} {fate:?} {loss:?}"
        );
        assert!(data.len() <= acknowledged.len() + 1);
    };
    let crashed = storage.after_crash(loss, calm);
    if block_on(log.appender.reopen()).is_ok() {
        check(&all(&log.reader));
    }
    drop(log);
    let log = open(&crashed);
    check(&all(&log.reader));
    append(&log.appender, batch("thing-1", &["after"])).unwrap();
    drop(log);
    assert!(open(&crashed).report.clean);
}

#[test]
fn whatever_single_operation_fails_nothing_acknowledged_is_lost() {
    let all = [
        OperationKind::Create,
        OperationKind::Write,
        OperationKind::Sync,
        OperationKind::Truncate,
        OperationKind::Rename,
        OperationKind::Remove,
        OperationKind::SyncDir,
    ];
    for nth in 0..130 {
        survive(nth, &all, Fate::Fail(io::ErrorKind::Other), Loss::All);
        survive(
            nth,
            &all,
            Fate::Fail(io::ErrorKind::StorageFull),
            Loss::Some { seed: nth as u64 },
        );
    }
    for nth in 0..60 {
        let error = io::ErrorKind::Other;
        for keep in [1, 39, 200, 700] {
            survive(
                nth,
                &[OperationKind::Write],
                Fate::Tear { keep, error },
                Loss::None,
            );
        }
    }
}

#[test]
fn a_crash_at_any_moment_keeps_exactly_what_was_acknowledged_or_one_batch_more() {
    for seed in 0..40 {
        let storage = MemoryStorage::new();
        let log = open(&storage);
        for n in 0..30 {
            fill(&log.appender, 1);
            if n % 3 == 0 {
                let crashed = storage.after_crash(
                    Loss::Some {
                        seed: seed * 100 + n,
                    },
                    calm,
                );
                let after = open(&crashed);
                assert_eq!(after.reader.end().get(), n + 1);
                assert_eq!(all(&after.reader), all(&log.reader));
            }
        }
    }
}

#[test]
fn what_stands_before_the_damage_is_read_and_nothing_is_changed() {
    let storage = crashed(80);
    let whole = all(&open(&storage.after_crash(Loss::None, calm)).reader);
    let names: Vec<String> = storage
        .list()
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .collect();
    let segments = names.iter().filter(|name| name.ends_with(".segment"));
    for name in segments {
        let bytes = storage.bytes_of(name).unwrap();
        let places = [0, 4096, 4096 + 700].into_iter();
        for (at, has_indexes) in places.flat_map(|at| [(at, true), (at, false)]) {
            // Behind the last group there is nothing that was acknowledged.
            if bytes[at..].iter().all(|byte| *byte == 0) {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let copy = with(&storage, name, damaged);
            // Those that are not there are made from the segments, damaged ones too.
            if !has_indexes {
                let indexes = names.iter().filter(|name| name.starts_with("index/"));
                indexes.for_each(|name| copy.remove(name).unwrap());
            }
            let opened = Log::open_whole_part(shared(&copy), options());
            let Ok(opened) = opened else {
                assert_eq!(name, "00000000000000000000.segment", "{opened:?}");
                assert_eq!(at, 0, "something of the first segment is whole");
                continue;
            };
            let mut read = Vec::new();
            let limit = ReadLimit {
                records: 1,
                bytes: usize::MAX,
            };
            // Damage in an older segment may show only when it is read.
            while let Ok(mut records) = opened
                .log
                .reader
                .read(Position::new(read.len() as u64), limit)
                && let Some(record) = records.pop()
            {
                read.push(record);
            }
            // A group's header is framing: the records behind it may still be whole.
            assert!(at == 4096 || read.len() < whole.len(), "{name} at {at}");
            assert!(
                read.iter().eq(whole.iter().take(read.len())),
                "{name} at {at}"
            );
            let refused = append(&opened.log.appender, batch("t-1", &["no"]));
            assert!(matches!(refused, Err(AppendError::ReadOnly)), "{refused:?}");
            drop(opened);
            let left = copy.list().unwrap().into_iter().map(|file| file.name);
            let is_left = |name: &&String| has_indexes || !name.starts_with("index/");
            assert!(
                left.eq(names.iter().filter(is_left).cloned()),
                "{name} at {at}"
            );
        }
    }
}

/// The verifier asked the headers which log they are of. One that could not be read at that moment
/// made the others foreign, and a log damaged that was not.
#[test]
fn a_read_that_fails_while_opening_is_not_taken_for_damage() {
    for records in [5, 40] {
        let whole = crashed(records);
        let nth_max = (0..10_000).find(|nth| !survive_read(&whole, records, *nth));
        assert!(nth_max.unwrap() > 5);
    }
}

/// Opens a log whose nth read fails; whether there was one.
fn survive_read(whole: &MemoryStorage, records: u64, nth: usize) -> bool {
    let left = AtomicUsize::new(nth);
    let failed = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&failed);
    let storage = whole.after_crash(Loss::None, move |operation: Operation<'_>| {
        let is_read = operation.kind == OperationKind::Read;
        if !is_read || left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Fate::Proceed;
        }
        told.store(true, Ordering::SeqCst);
        Fate::Fail(io::ErrorKind::Other)
    });
    match Log::open(shared(&storage), options()) {
        Ok(log) => assert_eq!(log.reader.end().get(), records, "read {nth}"),
        Err(OpenError::Io { .. } | OpenError::Index(ReadError::Io { .. })) => {}
        Err(other) => panic!("read {nth} of {records} records: {other:?}"),
    }
    let again = open(&storage.after_crash(Loss::None, calm));
    assert_eq!(all(&again.reader).len() as u64, records, "read {nth}");
    assert_eq!(again.report.cut, None, "read {nth}");
    failed.load(Ordering::SeqCst)
}
