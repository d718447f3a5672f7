//! Logs changed by someone who can write the files and puts every checksum right (E2): records
//! dropped, swapped, doubled, replaced, logs spliced, the chain made anew.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

#[path = "support/forge.rs"]
mod forge;
mod support;

use std::ops::ControlFlow;

use forge::Segment;
use stemma_event_log::{
    Access, AppendError, Damage, DamageKind, Log, LogId, Loss, MemoryStorage, OpenError, Options,
    ProofError, ProofTree, ReadError, Storage, VerifyReport, is_consistent, is_included, verify,
};
use support::*;

const RECORDS: u64 = 60;

fn look(storage: &MemoryStorage) -> VerifyReport {
    let (mut on, mut seen) = (|_| ControlFlow::Continue(()), 0);
    verify(&shared(storage), &options(), &mut on, &mut |_| seen += 1).unwrap()
}

/// A clean log of several segments whose events say which log they are of.
fn closed(options: Options, who: &str) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let log = Log::open(shared(&storage), options).unwrap();
    for n in 0..RECORDS {
        let data = format!("{who} {n} {}", "x".repeat(200));
        append(&log.appender, batch(&format!("thing-{}", n % 7), &[&data])).unwrap();
    }
    log.appender.close().unwrap();
    storage
}

/// The log with one segment changed by `change`, at its old size, all its checksums right.
fn with(storage: &MemoryStorage, which: usize, change: impl Fn(&mut Segment)) -> MemoryStorage {
    let copy = storage.after_crash(Loss::None, calm);
    let mut segment = forge::segments(&copy).swap_remove(which);
    change(&mut segment);
    copy.put_file(&segment.name, segment.whole().0);
    copy
}

/// That the first damage in the named segment is at a position, of one of some kinds, and that a
/// log that reads itself whole at start does not open.
fn assert_found(
    storage: &MemoryStorage,
    file: &str,
    position: u64,
    kinds: &[DamageKind],
) -> Damage {
    let report = look(storage);
    let found = report.damages.iter().find(|damage| damage.file == file);
    let found = found.unwrap_or_else(|| panic!("{file} at {position}: {:?}", report.damages));
    assert_eq!(found.position.unwrap().get(), position, "{found:?}");
    assert!(kinds.contains(&found.kind), "{found:?}");
    assert_eq!((found.part, report.root), ("log", None), "{found:?}");
    let before: Vec<_> = forge::names(storage)
        .iter()
        .map(|name| storage.bytes_of(name))
        .collect();
    let opened = Log::open(shared(storage), options()).map(|log| log.report);
    assert!(
        matches!(opened, Err(OpenError::Damaged { .. })),
        "{opened:?}"
    );
    let after = forge::names(storage);
    let after: Vec<_> = after.iter().map(|name| storage.bytes_of(name)).collect();
    assert!(before == after, "a damaged log was written to");
    found.clone()
}

/// Every group of every segment, with the position of its only record.
fn places(storage: &MemoryStorage) -> Vec<(usize, usize, String, u64)> {
    let mut places = Vec::new();
    for (which, segment) in forge::segments(storage).into_iter().enumerate() {
        for (group, parts) in segment.groups.iter().enumerate() {
            assert_eq!(parts.records.len(), 1);
            places.push((which, group, segment.name.clone(), parts.first));
        }
    }
    assert_eq!(places.len() as u64, RECORDS);
    places
}

#[test]
fn taking_a_log_apart_and_putting_it_together_changes_no_byte() {
    let storage = closed(options(), "event");
    for segment in forge::segments(&storage) {
        assert!(segment.whole().0 == storage.bytes_of(&segment.name).unwrap());
    }
    let again = storage.after_crash(Loss::None, calm);
    forge::rechain(&again, forge::segments(&storage));
    for name in forge::names(&storage) {
        assert!(again.bytes_of(&name) == storage.bytes_of(&name), "{name}");
    }
    assert_eq!(look(&again).damages, []);
}

#[test]
fn every_record_that_is_dropped_is_missed_at_its_position() {
    let storage = closed(options(), "event");
    for (which, group, file, position) in places(&storage) {
        let dropped = with(&storage, which, |segment| {
            segment.groups.remove(group);
        });
        let is_last = position + 1 == RECORDS;
        if is_last {
            // Nothing follows it: the head mark of the clean stop misses it.
            let report = look(&dropped);
            let found = &report.damages[0];
            assert_eq!(
                (found.file.as_str(), found.kind),
                ("head", DamageKind::HeadMismatch)
            );
            continue;
        }
        let kinds = [DamageKind::Chain, DamageKind::Root];
        let found = assert_found(&dropped, &file, position, &kinds);
        let segment = forge::segments(&storage).swap_remove(which);
        assert!(found.offset >= segment.place_of_group(group), "{found:?}");
    }
}

#[test]
fn neighbours_that_are_swapped_are_found_where_they_stand() {
    let storage = closed(options(), "event");
    for (which, group, file, position) in places(&storage) {
        let segment = forge::segments(&storage).swap_remove(which);
        if group + 1 == segment.groups.len() {
            continue;
        }
        // As they are, so that both say another position; and with the positions put right.
        let swapped = with(&storage, which, |segment| {
            segment.groups.swap(group, group + 1);
        });
        assert_found(&swapped, &file, position, &[DamageKind::Chain]);
        let renumbered = with(&storage, which, |segment| {
            segment.groups.swap(group, group + 1);
            for (at, group) in [(position, group), (position + 1, group + 1)] {
                segment.groups[group].first = at;
                forge::set_position(&mut segment.groups[group].records[0], at);
            }
        });
        let found = assert_found(&renumbered, &file, position, &[DamageKind::Chain]);
        assert_eq!(found.offset, segment.place(group, 0));
    }
}

#[test]
fn a_record_that_is_there_twice_is_found_where_it_stands_again() {
    let storage = closed(options(), "event");
    for (which, group, file, position) in places(&storage) {
        let segment = forge::segments(&storage).swap_remove(which);
        let behind = segment.place_of_group(group) + {
            let bytes = segment.groups[group].records[0].len() + 40;
            bytes.next_multiple_of(8) as u64
        };
        let again = with(&storage, which, |segment| {
            let group_again = segment.groups[group].clone();
            segment.groups.insert(group + 1, group_again);
        });
        let found = assert_found(&again, &file, position, &[DamageKind::Chain]);
        assert_eq!(found.offset, behind);
        let renumbered = with(&storage, which, |segment| {
            let mut copy = segment.groups[group].clone();
            copy.first = position + 1;
            forge::set_position(&mut copy.records[0], position + 1);
            segment.groups.insert(group + 1, copy);
        });
        let kinds = [DamageKind::Chain];
        let found = assert_found(&renumbered, &file, position + 1, &kinds);
        assert_eq!(found.offset, behind + 40);
    }
}

#[test]
fn every_record_that_is_replaced_is_found_by_what_follows_it() {
    let storage = closed(options(), "event");
    for (which, group, file, position) in places(&storage) {
        let replaced = with(&storage, which, |segment| {
            forge::rewrite(&mut segment.groups[group].records[0]);
        });
        if position + 1 == RECORDS {
            let found = &look(&replaced).damages[0];
            assert_eq!(
                (found.file.as_str(), found.kind),
                ("head", DamageKind::HeadMismatch)
            );
            continue;
        }
        let segment = forge::segments(&storage).swap_remove(which);
        let is_last_of_segment = group + 1 == segment.groups.len();
        let kind = if is_last_of_segment {
            DamageKind::Root
        } else {
            DamageKind::Chain
        };
        assert_found(&replaced, &file, position + 1, &[kind]);
    }
}

#[test]
fn a_batch_of_which_a_record_is_taken_is_found() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    for n in 0..6 {
        append(
            &log.appender,
            batch(&format!("thing-{n}"), &["a", "b", "c"]),
        )
        .unwrap();
    }
    log.appender.close().unwrap();
    for taken in 0..3 {
        let cut = with(&storage, 0, |segment| {
            segment.groups[2].records.remove(taken);
        });
        let name = &forge::names(&storage)[0];
        // Its position is that of the record that stands in its place, or of the next group.
        assert_found(
            &cut,
            name,
            6 + taken as u64,
            &[DamageKind::Chain, DamageKind::GroupShape],
        );
    }
}

#[test]
fn logs_that_are_spliced_are_found_where_the_other_begins() {
    let (ours, theirs) = (closed(options(), "ours."), closed(options(), "other"));
    let names = forge::names(&ours);
    assert_eq!(names, forge::names(&theirs));
    for name in &names[1..] {
        // The same log id and the same sizes: a log that went two ways from one copy.
        let spliced = ours.after_crash(Loss::None, calm);
        for later in names.iter().filter(|later| *later >= name) {
            spliced.put_file(later, theirs.bytes_of(later).unwrap());
        }
        let first = name.trim_end_matches(".segment").parse().unwrap();
        assert_found(&spliced, name, first, &[DamageKind::Root]);
    }
    let stranger = Options {
        log_id: Some(LogId::from_bytes(*b"another test log")),
        ..options()
    };
    let strange = closed(stranger, "event");
    for name in &names[1..] {
        let spliced = ours.after_crash(Loss::None, calm);
        spliced.put_file(name, strange.bytes_of(name).unwrap());
        let first = name.trim_end_matches(".segment").parse().unwrap();
        assert_found(&spliced, name, first, &[DamageKind::ForeignSegment]);
    }
}

/// All that was signed of a log is its size and its root.
fn goes_on_from(storage: &MemoryStorage, (size, root): (u64, stemma_event_log::RootHash)) -> bool {
    let log = Log::open(shared(storage), options()).unwrap();
    let (end, now) = log.reader.root();
    let tree = ProofTree::new(log.reader.clone(), shared(storage));
    let Ok(path) = tree.consistency(size, end) else {
        return false;
    };
    is_consistent((size, &root), (end, &now), &path)
}

#[test]
fn a_chain_made_anew_from_the_middle_is_found_by_the_root_that_was_kept() {
    let storage = closed(options(), "event");
    let kept = look(&storage);
    let checkpoint = (kept.records, kept.root.unwrap());
    let whole = storage.after_crash(Loss::None, calm);
    assert!(goes_on_from(&whole, checkpoint));
    for (which, group, file, position) in places(&storage) {
        // Everything behind the change fits: digests, links, states, roots, seals, the head mark.
        let mut segments = forge::segments(&storage);
        forge::rewrite(&mut segments[which].groups[group].records[0]);
        let anew = storage.after_crash(Loss::None, calm);
        forge::rechain(&anew, segments);
        let report = look(&anew);
        assert_eq!(
            (report.damages, report.records),
            (vec![], RECORDS),
            "{file}"
        );
        assert_ne!(report.root, kept.root);
        assert!(!goes_on_from(&anew, checkpoint), "rewritten at {position}");
        // Only as far as the segment's end: the next one has kept the root.
        if which + 1 < forge::names(&storage).len() {
            let half = storage.after_crash(Loss::None, calm);
            half.put_file(&file, anew.bytes_of(&file).unwrap());
            let next = &forge::names(&storage)[which + 1];
            let first = next.trim_end_matches(".segment").parse().unwrap();
            assert_found(&half, next, first, &[DamageKind::Root]);
        }
    }
}

#[test]
fn a_clean_log_that_is_cut_at_any_byte_is_found_short() {
    let storage = closed(options(), "event");
    let (name, bytes) = last_segment(&storage);
    let end = last_group(&bytes).end;
    // Behind the end there are zeros, which a shorter file has not.
    let lengths = (0..end).chain((end..bytes.len()).step_by(97));
    for length in lengths {
        let cut = storage.after_crash(Loss::None, calm);
        cut.put_file(&name, bytes[..length].to_vec());
        let report = look(&cut);
        assert!(!report.damages.is_empty(), "cut to {length}");
        assert!(
            report
                .damages
                .iter()
                .all(|damage| damage.file == name || damage.file == "head")
        );
        let opened = Log::open(shared(&cut), options()).map(|log| log.report);
        assert!(
            matches!(opened, Err(OpenError::Damaged { .. })),
            "{length}: {opened:?}"
        );
        // The same tail overwritten with zeros, at the old length.
        let mut zeroed = bytes[..length].to_vec();
        zeroed.resize(bytes.len(), 0);
        if zeroed != bytes {
            cut.put_file(&name, zeroed);
            assert!(!look(&cut).damages.is_empty(), "zeros from {length}");
        }
    }
}

#[test]
fn every_byte_of_the_indexes_is_told_with_its_place() {
    let storage = closed(options(), "event");
    assert!(told_of_each_byte(&storage, ".run") > 7);
}

#[test]
fn every_byte_of_the_tree_is_told_with_its_place() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    let events = ["x"; 100];
    for n in 0..6 {
        append(&log.appender, batch(&format!("thing-{n}"), &events)).unwrap();
    }
    let tree = ProofTree::new(log.reader.clone(), shared(&storage));
    while !tree.advance().unwrap() {}
    log.appender.close().unwrap();
    assert_eq!(told_of_each_byte(&storage, ".hashes"), 1);
}

/// Flips each byte of the derived files of a kind, and looks for what is told; says how many files
/// there are.
fn told_of_each_byte(storage: &MemoryStorage, kind: &str) -> usize {
    let mut files = 0;
    for file in storage.list().unwrap() {
        if !file.name.starts_with("index/") || !file.name.ends_with(kind) {
            continue;
        }
        files += 1;
        let bytes = storage.bytes_of(&file.name).unwrap();
        for (at, flipped) in flips(&bytes) {
            let copy = storage.after_crash(Loss::None, calm);
            copy.put_file(&file.name, flipped);
            let report = look(&copy);
            let [found] = &*report.damages else {
                panic!("{} byte {at}: {:?}", file.name, report.damages);
            };
            let place = (found.file.as_str(), found.kind);
            assert_eq!(place, (file.name.as_str(), DamageKind::Index), "byte {at}");
            assert!(
                found.offset <= at as u64 && at as u64 - found.offset < 4096,
                "{found:?} {at}"
            );
            assert!(found.position.is_some(), "{found:?}");
        }
    }
    files
}

#[test]
fn a_forged_record_is_named_by_a_proof_that_meets_it_and_by_no_other() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    for n in 0..600 {
        append(&log.appender, batch(&format!("thing-{}", n % 7), &["x"])).unwrap();
    }
    let (end, root) = log.reader.root();
    log.appender.close().unwrap();
    let log = open(&storage);
    let tree = ProofTree::new(log.reader.clone(), shared(&storage));
    while !tree.advance().unwrap() {}
    // Another payload under its right digest and checksums, which the record behind does not name.
    let mut segment = forge::segments(&storage).swap_remove(1);
    let position = segment.groups[3].first;
    forge::rewrite(&mut segment.groups[3].records[0]);
    let file = storage.open(&segment.name, Access::Write).unwrap();
    file.write_at(&segment.whole().0, 0).unwrap();
    for _ in 0..2 {
        let met = tree.inclusion(position + 1, end).unwrap_err();
        let ProofError::Read(ReadError::Damaged {
            file,
            offset,
            position: at,
            kind,
        }) = &met
        else {
            panic!("{met:?}");
        };
        assert_eq!((at.get(), *kind), (position, DamageKind::Chain));
        assert_eq!((file, *offset), (&segment.name, segment.place(3, 0)));
        let other = tree.inclusion(300, end).unwrap();
        assert!(is_included(&other.digest, 300, end, &other.path, &root));
    }
    let refused = append(&log.appender, batch("thing-1", &["z"]));
    assert!(matches!(refused, Err(AppendError::Damaged)), "{refused:?}");
}

#[test]
fn a_tile_with_a_wrong_hash_is_not_handed_out() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    let events = ["x"; 1000];
    for n in 0..70 {
        append(&log.appender, batch(&format!("thing-{n}"), &events)).unwrap();
    }
    let tree = ProofTree::new(log.reader.clone(), shared(&storage));
    while !tree.advance().unwrap() {}
    let right = tree.tile(1, 0, 256).unwrap();
    let hashes = storage.open("index/tree-1.hashes", Access::Write).unwrap();
    hashes.write_at(&[7; 32], 100 * 32).unwrap();
    // It is made anew from the records.
    assert_eq!(tree.tile(1, 0, 256).unwrap(), right);
    assert_eq!(tree.tile(1, 0, 120).unwrap(), right[..120 * 32]);
}
