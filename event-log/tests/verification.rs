//! Every damage is found and told with its place.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use std::ops::ControlFlow;

use stemma_event_log::{
    Access, AppendError, AppenderStatus, DamageKind, Log, Loss, MemoryStorage, OpenError, Options,
    Position, Storage, VerifyError, VerifyReport, verify,
};
use support::*;

fn look(storage: &MemoryStorage) -> VerifyReport {
    verify(
        &shared(storage),
        &options(),
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    )
    .unwrap()
}

fn closed(records: u64) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log.appender, records);
    log.appender.close().unwrap();
    storage
}

#[test]
fn a_whole_log_is_found_whole_while_open_and_when_closed() {
    let storage = MemoryStorage::new();
    let nothing = verify(
        &shared(&storage),
        &options(),
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    );
    assert!(matches!(nothing, Err(VerifyError::Missing)));
    let log = open(&storage);
    fill(&log.appender, 120);
    let root = log.reader.root().1;
    for clean in [false, true] {
        let (mut seen, mut told) = (0, Vec::new());
        let report = verify(
            &shared(&storage),
            &options(),
            &mut |p| {
                told.push(p);
                ControlFlow::Continue(())
            },
            &mut |_| seen += 1,
        )
        .unwrap();
        assert_eq!(report.damages, []);
        assert_eq!((report.records, seen, report.clean), (120, 120, clean));
        assert_eq!((report.root, report.torn_tail), (Some(root), None));
        assert_eq!(report.head, log.reader.head());
        assert_eq!(
            told.last().unwrap().bytes_done,
            told.last().unwrap().bytes_total
        );
        log.appender.close().unwrap();
    }
}

#[test]
fn a_flip_of_any_byte_of_a_closed_log_is_told_with_its_file() {
    let storage = closed(14);
    let mut n_flips = 0;
    for file in storage.list().unwrap() {
        if file.name == "lock" {
            continue;
        }
        let bytes = storage.bytes_of(&file.name).unwrap();
        for (at, flipped) in flips(&bytes) {
            let copy = storage.after_crash(Loss::None, calm);
            copy.put_file(&file.name, flipped);
            let report = look(&copy);
            let told = report.damages.iter().any(|damage| damage.file == file.name);
            assert!(told, "{} byte {at}: {:?}", file.name, report.damages);
            n_flips += 1;
        }
    }
    assert!(n_flips > 5_000);
}

#[test]
fn all_damages_are_told_not_only_the_first() {
    let storage = closed(60);
    let (mut segments, copy) = (0, storage.after_crash(Loss::None, calm));
    for file in storage.list().unwrap() {
        if file.name.ends_with(".segment") {
            let mut bytes = storage.bytes_of(&file.name).unwrap();
            let group = last_group(&bytes);
            bytes[group.start + 60] ^= 1;
            copy.put_file(&file.name, bytes);
            segments += 1;
        }
    }
    let report = look(&copy);
    assert_eq!(report.damages.len(), segments, "{:?}", report.damages);
    assert!(
        report
            .damages
            .iter()
            .all(|d| d.kind == DamageKind::RecordChecksum)
    );
    assert!(
        report
            .damages
            .iter()
            .all(|d| d.position.is_some() && d.part == "log")
    );
    assert_eq!(report.records, 60 - segments as u64);
    assert_eq!(report.root, None);
}

#[test]
fn a_torn_tail_is_no_damage_and_files_that_were_cut_are_named() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log.appender, 5);
    let crashed = storage.after_crash(Loss::None, calm);
    let (name, mut bytes) = last_segment(&crashed);
    let group = last_group(&bytes);
    bytes[group.end - 5..].fill(0);
    crashed.put_file(&name, bytes);
    let report = look(&crashed);
    assert_eq!(report.damages, []);
    let torn = report.torn_tail.unwrap();
    assert_eq!((torn.file, torn.offset), (name, group.start as u64));
    assert_eq!(report.records, 4);
    drop(open(&crashed));
    let report = look(&crashed);
    assert_eq!((report.damages, report.torn_tail), (vec![], None));
    assert_eq!(report.cut_files.len(), 1);
}

#[test]
fn a_missing_segment_is_told() {
    let storage = closed(80);
    let copy = storage.after_crash(Loss::None, calm);
    let mut names: Vec<String> = copy
        .list()
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .filter(|name| name.ends_with(".segment"))
        .collect();
    names.sort();
    copy.remove(&names[1]).unwrap();
    let report = look(&copy);
    assert!(
        report
            .damages
            .iter()
            .any(|d| d.kind == DamageKind::SegmentMissing && d.file == names[1])
    );
}

/// A clean log of several segments with one bit of its first record's data turned; gives the name
/// and the place of the byte too.
fn flipped_in_a_sealed_segment() -> (MemoryStorage, String, usize) {
    let storage = closed(120);
    let name = storage.list().unwrap().into_iter().map(|file| file.name);
    let name = name.filter(|name| name.contains(".segment")).min().unwrap();
    let bytes = storage.bytes_of(&name).unwrap();
    let at = bytes.windows(7).position(|w| w == b"event 0").unwrap();
    flip(&storage, &name, at);
    (storage, name, at)
}

fn flip(storage: &MemoryStorage, name: &str, at: usize) {
    let file = storage.open(name, Access::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at as u64).unwrap();
    file.write_at(&[byte[0] ^ 1], at as u64).unwrap();
    file.sync_data().unwrap();
}

/// Options with which opening reads no sealed segment.
fn trusting() -> Options {
    Options {
        check_bytes_max: 0,
        ..options()
    }
}

#[test]
fn a_small_log_with_damage_in_a_sealed_segment_is_not_opened_for_writing() {
    let (storage, name, at) = flipped_in_a_sealed_segment();
    let before = storage.bytes_of(&name).unwrap();
    let refused = Log::open(shared(&storage), options());
    let Err(OpenError::Damaged { file, position, .. }) = refused.map(|log| log.report) else {
        panic!("it was opened");
    };
    assert_eq!((file, position), (name.clone(), Position::new(0)));
    assert_eq!(storage.bytes_of(&name).unwrap(), before);
    flip(&storage, &name, at);
    assert!(open(&storage).report.checked);
}

#[test]
fn damage_that_a_check_finds_stops_writes_until_a_reopen_finds_all_whole() {
    let (storage, name, at) = flipped_in_a_sealed_segment();
    let log = Log::open(shared(&storage), trusting()).unwrap();
    assert!(!log.report.checked);
    append(&log.appender, batch("thing-1", &["before"])).unwrap();
    let report = log.appender.check(&mut |_| ControlFlow::Continue(()));
    assert_eq!(report.unwrap().damages.len(), 1);
    let AppenderStatus::Damaged { damage } = log.appender.status() else {
        panic!("{:?}", log.appender.status());
    };
    assert!(damage.contains(&name), "{damage}");
    let refused = append(&log.appender, batch("thing-1", &["after"]));
    assert!(matches!(refused, Err(AppendError::Damaged)), "{refused:?}");
    assert!(block_on(log.appender.reopen()).is_err());
    flip(&storage, &name, at);
    block_on(log.appender.reopen()).unwrap();
    assert_eq!(log.appender.status(), AppenderStatus::Ok);
    append(&log.appender, batch("thing-1", &["mended"])).unwrap();
    assert_eq!(log.reader.end(), Position::new(122));
}

#[test]
fn damage_that_a_read_meets_stops_writes_too() {
    let (storage, _, _) = flipped_in_a_sealed_segment();
    let log = Log::open(shared(&storage), trusting()).unwrap();
    assert!(log.reader.read_one(Position::new(0)).is_err());
    let refused = append(&log.appender, batch("thing-1", &["after"]));
    assert!(matches!(refused, Err(AppendError::Damaged)), "{refused:?}");
    let after = log.reader.read_one(Position::new(119)).unwrap();
    assert!(after.is_some());
}
