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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stemma_event_log::{
    Access, AppendError, Appender, AppenderStatus, DamageKind, Direction, Fate, Log, Loss,
    MemoryStorage, OpenError, Operation, OperationKind, Options, Position, Progress, ProofTree,
    ReadError, ReadLimit, Revision, Storage, StorageFile, StreamRange, VerifyError, VerifyReport,
    verify,
};
use support::*;

/// Bytes that a system copies at a time.
const PAGE: usize = 4096;
/// The system's number for too many open files.
const EMFILE: i32 = 24;
/// How long a thread beside may take for what is a moment's work.
const PATIENCE: Duration = Duration::from_secs(20);

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
    of: Arc<dyn StorageFile>,
    reads: Arc<AtomicUsize>,
}

impl StorageFile for Overtaken {
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
    let counted = Arc::clone(&reads);
    let overtaken = Watched::opening(&storage, move |name, of| {
        if !name.ends_with(".segment") {
            return Ok(of);
        }
        let reads = Arc::clone(&counted);
        Ok(Arc::new(Overtaken { of, reads }))
    });
    let mut go_on = |_| ControlFlow::Continue(());
    let report = verify(&overtaken, &options(), &mut go_on, &mut |_| {}).unwrap();
    assert!(reads.load(Ordering::Relaxed) > 1, "it was read anew");
    assert_eq!(report.damages, []);
    assert_eq!((report.records, report.torn_tail), (2, None));
}

/// The file was opened, and its header then read by its name, which the writer had given to a larger
/// one meanwhile: the empty file was taken for one that had been cut short.
#[test]
fn an_empty_last_segment_that_is_replaced_while_it_is_read_is_no_damage() {
    let (small, large) = (MemoryStorage::new(), MemoryStorage::new());
    let log = open(&small);
    let larger = Options {
        segment_bytes_first: 16 * 1024,
        ..options()
    };
    let _other = Log::open(shared(&large), larger).unwrap();
    let (name, replacement) = last_segment(&large);
    let n_opens = AtomicUsize::new(0);
    let replaced = small.clone();
    let watched = Watched::opening(&small, move |opened, file| {
        // The first one only asks which log it is.
        if opened == name && n_opens.fetch_add(1, Ordering::Relaxed) == 1 {
            replaced.put_file(opened, replacement.clone());
        }
        Ok(file)
    });
    let mut go_on = |_| ControlFlow::Continue(());
    let report = verify(&watched, &options(), &mut go_on, &mut |_| {}).unwrap();
    assert_eq!((report.damages, report.records), (vec![], 0));
    assert_eq!(last_segment(&small).1.len(), 16 * 1024, "it was replaced");
    drop(log);
}

/// A log in memory whose n-th opening of a file finds too many open, and whether there was one.
fn without_handle(of: &MemoryStorage, nth: usize) -> (Arc<dyn Storage>, Arc<AtomicBool>) {
    let (left, refused) = (AtomicUsize::new(nth), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&refused);
    let storage = Watched::opening(of, move |_, file| {
        if left.fetch_sub(1, Ordering::Relaxed) != 0 {
            return Ok(file);
        }
        told.store(true, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(EMFILE))
    });
    (storage, refused)
}

/// A segment that could not be opened, since too many files were open, was damage, and the log took
/// no more writes.
#[test]
fn a_check_that_finds_too_many_files_open_says_nothing_of_the_log() {
    let whole = MemoryStorage::new();
    let log = open(&whole);
    fill(&log.appender, 120);
    append(&log.appender, batch("thing-1", &["x"; 300])).unwrap();
    let tree = ProofTree::new(log.reader.clone(), shared(&whole));
    while !tree.advance().unwrap() {}
    log.appender.close().unwrap();
    let (mut nth, mut n_ended) = (0, 0);
    loop {
        let (storage, refused) = without_handle(&whole, nth);
        let mut go_on = |_| ControlFlow::Continue(());
        match verify(&storage, &options(), &mut go_on, &mut |_| {}) {
            Ok(report) => assert_eq!(report.damages, [], "opening {nth}"),
            Err(VerifyError::Io { source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(EMFILE));
                n_ended += 1;
            }
            Err(other) => panic!("opening {nth}: {other:?}"),
        }
        if !refused.load(Ordering::Relaxed) {
            break;
        }
        nth += 1;
    }
    assert!(n_ended + 1 >= nth && nth > 8, "{n_ended} of {nth}");
}

#[test]
fn damage_that_was_found_before_too_many_files_were_open_is_told() {
    let (whole, name, _) = flipped_in_a_sealed_segment();
    let is_damaged_later = |file: &str| file.ends_with(".segment") && file != name;
    let later = whole.list().unwrap().into_iter().map(|file| file.name);
    let second = later.filter(|file| is_damaged_later(file)).min().unwrap();
    let n_opens = AtomicUsize::new(0);
    let storage = Watched::opening(&whole, move |opened, file| {
        if opened == second && n_opens.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(file)
    });
    let mut go_on = |_| ControlFlow::Continue(());
    let report = verify(&storage, &options(), &mut go_on, &mut |_| {}).unwrap();
    let [found] = &*report.damages else {
        panic!("{:?}", report.damages);
    };
    assert_eq!(
        (&found.file, found.kind),
        (&name, DamageKind::RecordChecksum)
    );
    assert!(report.ended.is_some() && report.root.is_none());
}

#[test]
fn a_log_that_could_not_be_checked_takes_writes() {
    let is_short = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_short);
    let storage = Watched::opening(&closed(120), move |_, file| {
        if asked.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(file)
    });
    let log = Log::open(storage, trusting()).unwrap();
    is_short.store(true, Ordering::Relaxed);
    let checked = log.appender.check(&mut |_| ControlFlow::Continue(()));
    assert!(
        matches!(checked, Err(VerifyError::Io { .. })),
        "{checked:?}"
    );
    is_short.store(false, Ordering::Relaxed);
    assert_eq!(log.appender.status(), AppenderStatus::Ok);
    append(&log.appender, batch("thing-1", &["after"])).unwrap();
}

/// The indexes were read in one go: neither the pace of a check nor its end was heard meanwhile.
#[test]
fn a_check_tells_of_each_index_and_can_be_broken_off_there() {
    let storage = closed(120);
    let files = storage.list().unwrap();
    let bytes_of = |suffix: &str| {
        let of_kind = files.iter().filter(|file| file.name.ends_with(suffix));
        of_kind.map(|file| file.bytes).collect::<Vec<_>>()
    };
    let segment_bytes: u64 = bytes_of(".segment").iter().sum();
    let (mut told, indexes) = (Vec::new(), bytes_of(".run"));
    let mut on_progress = |p: Progress| {
        told.push(p.bytes_done);
        ControlFlow::Continue(())
    };
    verify(&shared(&storage), &options(), &mut on_progress, &mut |_| {}).unwrap();
    let mut expected: Vec<u64> = Vec::new();
    for bytes in &indexes {
        expected.push(expected.last().unwrap_or(&segment_bytes) + bytes);
    }
    expected.extend(expected.last().copied());
    assert!(
        indexes.len() > 4 && told == expected,
        "{told:?} {expected:?}"
    );
    let mut n_told = 0;
    let mut stop = |_| {
        n_told += 1;
        ControlFlow::Break(())
    };
    let stopped = verify(&shared(&storage), &options(), &mut stop, &mut |_| {});
    assert!(matches!(stopped, Err(VerifyError::Stopped)), "{stopped:?}");
    assert_eq!(n_told, 1);
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

/// A reopening that had found no damage and looked for none forgot what a check found beside it.
#[test]
fn damage_that_is_found_while_a_log_is_reopened_is_not_forgotten() {
    #[derive(Default)]
    struct Weather {
        fails: AtomicBool,
        finder: Mutex<Option<Appender>>,
    }
    let weather = Arc::new(Weather::default());
    let now = Arc::clone(&weather);
    let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
        let of_segment = operation.name.ends_with(".segment");
        match operation.kind {
            OperationKind::Sync if of_segment && now.fails.load(Ordering::Relaxed) => {
                return Fate::Fail(io::ErrorKind::Other);
            }
            OperationKind::Read if of_segment => {
                if let Some(finder) = &*now.finder.lock().unwrap() {
                    finder.stop_for_damage("what was met".to_owned());
                }
            }
            _ => {}
        }
        Fate::Proceed
    });
    let log = open(&storage);
    append(&log.appender, batch("thing-1", &["before"])).unwrap();
    weather.fails.store(true, Ordering::Relaxed);
    append(&log.appender, batch("thing-1", &["lost"])).unwrap_err();
    weather.fails.store(false, Ordering::Relaxed);
    *weather.finder.lock().unwrap() = Some(log.appender.clone());
    let reopened = block_on(log.appender.reopen());
    weather.finder.lock().unwrap().take();
    let told = OpenError::DamagedMeanwhile {
        damage: "what was met".to_owned(),
    };
    assert_eq!(reopened.unwrap_err().to_string(), told.to_string());
    let damage = "what was met".to_owned();
    assert_eq!(log.appender.status(), AppenderStatus::Damaged { damage });
    let refused = append(&log.appender, batch("thing-1", &["no"]));
    assert!(matches!(refused, Err(AppendError::Damaged)), "{refused:?}");
    // All of it is read now, and nothing is wrong.
    block_on(log.appender.reopen()).unwrap();
    append(&log.appender, batch("thing-1", &["after"])).unwrap();
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

/// Options with which no index is merged.
fn unmerging() -> Options {
    Options {
        merge_runs_min: 64,
        ..trusting()
    }
}

/// A log with a damaged record, and with indexes of which none that is looked into is right.
fn flipped_with_wrong_indexes() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let log = Log::open(shared(&storage), unmerging()).unwrap();
    fill(&log.appender, 120);
    log.appender.close().unwrap();
    let name = storage.list().unwrap().into_iter().map(|file| file.name);
    let name = name.filter(|name| name.contains(".segment")).min().unwrap();
    let bytes = storage.bytes_of(&name).unwrap();
    let at = bytes.windows(7).position(|w| w == b"event 0").unwrap();
    flip(&storage, &name, at);
    for file in storage.list().unwrap() {
        // A byte of their first block, which is not read when they are opened.
        if file.name.starts_with("index/") && file.bytes > 4096 {
            flip(&storage, &file.name, 200);
        }
    }
    storage
}

/// Only damage that a record's own read met stopped the writes, though an index that is made anew
/// reads records too.
#[test]
fn damage_that_a_lookup_meets_stops_writes_too() {
    let storage = flipped_with_wrong_indexes();
    let log = Log::open(shared(&storage), unmerging()).unwrap();
    assert_eq!(log.appender.status(), AppenderStatus::Ok);
    let range = StreamRange {
        from: Revision::new(0),
        direction: Direction::Forward,
        limit: ReadLimit {
            records: 9,
            bytes: usize::MAX,
        },
    };
    let read = log.reader.read_stream(&stream("thing-1"), range);
    assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
    let refused = append(&log.appender, batch("thing-1", &["after"]));
    assert!(matches!(refused, Err(AppendError::Damaged)), "{refused:?}");
}

#[test]
fn damage_that_merging_meets_stops_writes_too() {
    let storage = flipped_with_wrong_indexes();
    let log = Log::open(shared(&storage), trusting()).unwrap();
    let begun = Instant::now();
    while log.appender.status() == AppenderStatus::Ok {
        assert!(begun.elapsed() < PATIENCE, "nothing was merged");
        std::thread::yield_now();
    }
    let refused = append(&log.appender, batch("thing-1", &["after"]));
    assert!(matches!(refused, Err(AppendError::Damaged)), "{refused:?}");
}

/// It was an index that could not be built, and whoever opens what is whole did not know it again.
#[test]
fn damage_that_is_met_where_an_index_is_missing_is_damage_of_the_log() {
    let (storage, name, _) = flipped_in_a_sealed_segment();
    for file in storage.list().unwrap() {
        if file.name.starts_with("index/") {
            storage.remove(&file.name).unwrap();
        }
    }
    let written = Log::open(shared(&storage), trusting()).map(|log| log.report);
    let read = Log::open_read_only(shared(&storage), options()).map(|(_, report)| report);
    for opened in [written, read] {
        let Err(OpenError::Damaged { file, position, .. }) = opened else {
            panic!("{opened:?}");
        };
        assert_eq!((file.as_str(), position), (name.as_str(), Position::new(0)));
    }
}
