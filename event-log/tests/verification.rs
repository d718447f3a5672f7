//! Every damage is found and told with its place.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use stemma_event_log::{
    Access, AppendError, AppenderStatus, DamageKind, Fate, LockOutcome, Log, Loss, MemoryStorage,
    OpenError, Operation, OperationKind, Options, Position, Storage, StorageFile, StoredFile,
    VerifyError, VerifyReport, verify,
};
use support::*;

/// Bytes that a system copies at a time.
const PAGE: usize = 4096;

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

/// What a reader may see of a file that is written to meanwhile: the first page of a group, and
/// zeros behind it.
struct Overtaken {
    of: MemoryStorage,
    reads: Arc<AtomicUsize>,
}

struct OvertakenFile {
    of: Arc<dyn StorageFile>,
    reads: Arc<AtomicUsize>,
}

impl StorageFile for OvertakenFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.of.read_at(bytes, offset)?;
        if bytes.len() > PAGE && self.reads.fetch_add(1, Ordering::Relaxed) == 0 {
            bytes[PAGE..].fill(0);
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.of.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.of.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.of.truncate(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.of.bytes()
    }
}

impl Storage for Overtaken {
    fn create_dirs(&self) -> io::Result<()> {
        self.of.create_dirs()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.of.create(name)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let of = self.of.open(name, access)?;
        if !name.ends_with(".segment") {
            return Ok(of);
        }
        let reads = Arc::clone(&self.reads);
        Ok(Arc::new(OvertakenFile { of, reads }))
    }

    fn list(&self) -> io::Result<Vec<StoredFile>> {
        self.of.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.of.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.of.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.of.sync_dir()
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<LockOutcome> {
        self.of.lock(name, holder)
    }
}

/// A group of several pages that was read while it was written was taken for damage, where it had
/// been written, and the next one too, by the time its place was looked behind.
#[test]
fn a_group_that_is_read_while_it_is_written_is_looked_at_again() {
    let storage = MemoryStorage::new();
    let large = Options {
        segment_bytes_first: 64 * 1024,
        segment_bytes_max: 64 * 1024,
        ..options()
    };
    let log = Log::open(shared(&storage), large).unwrap();
    append(
        &log.appender,
        batch("thing-1", &["x".repeat(3 * PAGE).as_str()]),
    )
    .unwrap();
    append(&log.appender, batch("thing-1", &["next"])).unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let overtaken: Arc<dyn Storage> = Arc::new(Overtaken {
        of: storage.clone(),
        reads: Arc::clone(&reads),
    });
    let mut go_on = |_| ControlFlow::Continue(());
    let report = verify(&overtaken, &options(), &mut go_on, &mut |_| {}).unwrap();
    assert!(reads.load(Ordering::Relaxed) > 1, "it was read anew");
    assert_eq!(report.damages, []);
    assert_eq!((report.records, report.torn_tail), (2, None));
}

/// Damage that was met while the log was poisoned was forgotten, and a reopening looked for none.
#[test]
fn damage_that_a_poisoned_log_meets_is_looked_for_by_a_reopening() {
    let (storage, name, at) = flipped_in_a_sealed_segment();
    let fails = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&fails);
    let storage = storage.after_crash(Loss::None, move |operation: Operation<'_>| {
        let is_sync = operation.kind == OperationKind::Sync && operation.name.ends_with(".segment");
        if is_sync && asked.load(Ordering::Relaxed) {
            Fate::Fail(io::ErrorKind::Other)
        } else {
            Fate::Proceed
        }
    });
    let log = Log::open(shared(&storage), trusting()).unwrap();
    append(&log.appender, batch("thing-1", &["before"])).unwrap();
    fails.store(true, Ordering::Relaxed);
    append(&log.appender, batch("thing-1", &["lost"])).unwrap_err();
    fails.store(false, Ordering::Relaxed);
    assert!(matches!(
        log.appender.status(),
        AppenderStatus::Poisoned { .. }
    ));
    let report = log.appender.check(&mut |_| ControlFlow::Continue(()));
    assert_eq!(report.unwrap().damages.len(), 1);
    assert!(block_on(log.appender.reopen()).is_err());
    flip(&storage, &name, at);
    block_on(log.appender.reopen()).unwrap();
    append(&log.appender, batch("thing-1", &["mended"])).unwrap();
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
