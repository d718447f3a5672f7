//! What is left after a crash or a failing disk.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use stemma_content_store::{ContentStore, Digest, MemoryStorage, Operation, PutError, StoreStatus};

use crate::{blob, open, put, read, small_packs, verify};

const PACK: &str = "packs/0000000001.pack";
const HEADER: usize = 64;

fn entry_bytes(len: usize) -> usize {
    HEADER + len.next_multiple_of(8)
}

/// A disk on which these were put one by one, and the power went.
fn after_crash(blobs: &[Bytes]) -> MemoryStorage {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    for bytes in blobs {
        put(&store, bytes).unwrap();
    }
    storage.crash(&mut |_, _| false)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_nothing_else() {
    let blobs = [blob(1, 100), blob(2, 61)];
    let whole = after_crash(&blobs);
    let start = HEADER + entry_bytes(100);
    for torn in start..start + entry_bytes(61) - 3 {
        let disk = whole.crash(&mut |_, _| false);
        let mut bytes = disk.bytes(PACK).unwrap();
        bytes[torn..].fill(0);
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        disk.put(PACK, bytes);
        let (store, report) = open(&disk);
        assert_eq!(report.damage, [], "torn at {torn}");
        assert_eq!(read(&store, &blobs[0]).as_ref(), Some(&blobs[0]));
        assert_eq!(read(&store, &blobs[1]), None);
        if last >= start {
            let [cut] = &report.cut[..] else {
                panic!("{report:?}")
            };
            assert_eq!(
                (cut.offset, cut.bytes),
                (start as u64, (last + 1 - start) as u64)
            );
            assert_eq!(disk.bytes(&cut.kept).unwrap().len() as u64, cut.bytes);
            assert_eq!(verify(&store).cut_files, std::slice::from_ref(&cut.kept));
        }
        put(&store, &blobs[1]).unwrap();
        drop(store);
        let (store, report) = open(&disk);
        assert!(report.clean && report.cut.is_empty() && report.damage.is_empty());
        assert_eq!(read(&store, &blobs[1]).as_ref(), Some(&blobs[1]));
    }
}

#[test]
fn a_cut_whose_sync_failed_does_not_come_back_behind_what_is_written_later() {
    let blobs = [blob(1, 100), blob(2, 61)];
    let disk = after_crash(&blobs);
    let start = HEADER + entry_bytes(100);
    let mut bytes = disk.bytes(PACK).unwrap();
    bytes[start] ^= 1;
    disk.put(PACK, bytes);
    disk.set_fault(Box::new(|operation, name| {
        (operation == Operation::Sync && name == PACK).then_some(ErrorKind::StorageFull)
    }));
    assert!(ContentStore::open_on(Arc::new(disk.clone()), small_packs()).is_err());
    disk.clear_fault();

    // What is read now are zeros that are in memory only.
    let (store, report) = open(&disk);
    assert_eq!((report.cut, report.damage), (vec![], vec![]));
    assert_eq!(read(&store, &blobs[0]).as_ref(), Some(&blobs[0]));
    let after = disk.crash(&mut |_, _| false).bytes(PACK).unwrap();
    assert!(after[start..].iter().all(|byte| *byte == 0));
}

#[test]
fn unsynced_bytes_that_came_in_any_order_are_never_damage_nor_served_wrong() {
    let acknowledged = blob(1, 300);
    for seed in 0..150_u64 {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        put(&store, &acknowledged).unwrap();
        storage.set_fault(Box::new(|operation, name| {
            (operation == Operation::Sync && name.starts_with("tmp/")).then_some(ErrorKind::Other)
        }));
        let lost = [blob(2, 90), blob(3, 500)];
        let refused = put_unsynced(&storage, &store, &lost);
        assert!(refused);
        let mut state = seed;
        let disk = storage.crash(&mut |_, _| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(seed * 2 + 1);
            // From nothing to nearly everything, in runs and in single bytes.
            (state >> 33) % 100 < seed * 100 / 149
        });
        let (store, report) = open(&disk);
        assert_eq!(report.damage, [], "seed {seed}");
        assert_eq!(read(&store, &acknowledged).as_ref(), Some(&acknowledged));
        for bytes in &lost {
            assert!(read(&store, bytes).is_none_or(|found| found == *bytes));
        }
        assert_eq!(verify(&store).damage, [], "seed {seed}");
        assert!(put(&store, &lost[0]).is_ok());
    }
}

/// Puts with a disk that takes writes and refuses to sync them.
fn put_unsynced(storage: &MemoryStorage, store: &ContentStore, blobs: &[Bytes]) -> bool {
    // Held at its first sync, the writer then finds the others queued up behind it.
    storage.set_fault(Box::new(|operation, _| {
        (operation == Operation::Sync).then_some(ErrorKind::Other)
    }));
    blobs
        .iter()
        .all(|bytes| matches!(put(store, bytes), Err(PutError::Poisoned { .. })))
}

#[test]
fn after_a_failed_sync_nothing_is_taken_until_the_store_is_opened_again() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let good = blob(1, 10);
    put(&store, &good).unwrap();
    assert!(put_unsynced(&storage, &store, &[blob(2, 10)]));
    storage.clear_fault();
    assert!(matches!(
        put(&store, &blob(3, 10)),
        Err(PutError::Poisoned { .. })
    ));
    assert!(matches!(
        put(&store, &blob(3, 9000)),
        Err(PutError::Poisoned { .. })
    ));
    assert!(matches!(store.status(), StoreStatus::Poisoned { .. }));
    assert_eq!(read(&store, &good).as_ref(), Some(&good));
    assert_eq!(
        read(&store, &blob(2, 10)),
        None,
        "nobody sees what was not synced"
    );
    drop(store);
    let (store, report) = open(&storage);
    assert!(!report.clean);
    put(&store, &blob(3, 10)).unwrap();
    assert_eq!(read(&store, &good), Some(good));
}

#[test]
fn a_full_disk_refuses_what_waits_and_goes_on_when_there_is_room() {
    for failing in [Operation::Write, Operation::Create] {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        if failing == Operation::Write {
            put(&store, &blob(1, 10)).unwrap();
        }
        for len in [100, 9000] {
            // A pack that finds no room is tried smaller: it is refused when nothing is left at all.
            let mut left = if failing == Operation::Create {
                u32::MAX
            } else {
                1
            };
            storage.set_fault(Box::new(move |operation, _| {
                let fails = operation == failing && left > 0;
                left -= u32::from(fails);
                fails.then_some(ErrorKind::StorageFull)
            }));
            let bytes = blob(2, len);
            assert!(
                matches!(put(&store, &bytes), Err(PutError::Full { .. })),
                "{failing:?}"
            );
            storage.set_fault(Box::new(|_, _| None));
            assert_eq!(store.status(), StoreStatus::Writable);
            assert!(
                !storage.names().iter().any(|name| name.starts_with("tmp/")),
                "nothing is left"
            );
            put(&store, &bytes).unwrap();
        }
        let (store, report) = open(&storage.crash(&mut |_, _| false));
        assert!(
            report.damage.is_empty() && report.cut.is_empty(),
            "{report:?}"
        );
        assert_eq!(read(&store, &blob(2, 100)), Some(blob(2, 100)));
        assert_eq!(read(&store, &blob(2, 9000)), Some(blob(2, 9000)));
    }
}

#[test]
fn whatever_fails_while_a_large_blob_gets_its_name_nothing_half_is_seen() {
    let bytes = blob(5, 300_000);
    for failing in [
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
    ] {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        storage.set_fault(Box::new(move |operation, _| {
            (operation == failing).then_some(ErrorKind::Other)
        }));
        assert!(put(&store, &bytes).is_err(), "{failing:?}");
        storage.clear_fault();
        let (store, report) = open(&storage.crash(&mut |_, _| false));
        assert_eq!(report.damage, []);
        assert!(read(&store, &bytes).is_none_or(|found| found == bytes));
        put(&store, &bytes).unwrap();
        assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
    }
}

/// A directory was opened only when a name in it had been changed. Where too many files were open
/// that was a failed sync, and the store took nothing more.
#[test]
fn a_directory_that_cannot_be_opened_refuses_the_blob_and_nothing_more() {
    for (len, dirs) in [(100, "packs"), (9000, "blobs"), (9000, "blobs/")] {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        storage.set_fault(Box::new(move |operation, name| {
            let is_it = name == dirs || dirs.ends_with('/') && name.starts_with(dirs);
            (operation == Operation::OpenDir && is_it).then_some(ErrorKind::OutOfMemory)
        }));
        let bytes = blob(1, len);
        let refused = put(&store, &bytes);
        assert!(matches!(refused, Err(PutError::Io { .. })), "{dirs}");
        assert_eq!(store.status(), StoreStatus::Writable, "{dirs}");
        storage.clear_fault();
        put(&store, &bytes).unwrap();
        let (after, report) = open(&storage.crash(&mut |_, _| false));
        assert_eq!(report.damage, [], "{dirs}");
        assert_eq!(read(&after, &bytes).as_ref(), Some(&bytes), "{dirs}");
    }
}

/// The mark of the close said that nothing had been written since, and the blob's name came later.
#[test]
fn a_blob_that_is_still_taken_in_when_the_store_is_closed_gets_no_name() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let mut ingest = store.begin().unwrap();
    ingest.write(&blob(1, 300_000)).unwrap();
    store.close();
    assert!(storage.bytes("mark").is_some());
    assert!(matches!(ingest.finish(), Err(PutError::Closed)));
    let names = storage.names();
    assert!(
        !names.iter().any(|name| name.starts_with("blobs/")),
        "{names:?}"
    );
    let (store, report) = open(&storage);
    assert!(report.clean);
    put(&store, &blob(1, 300_000)).unwrap();
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_moment() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let blobs: Vec<_> = (0..60)
        .map(|seed| blob(seed, usize::try_from(seed * 37 % 1500).unwrap()))
        .collect();
    for n in 0..blobs.len() {
        put(&store, &blobs[n]).unwrap();
        let (after, report) = open(&storage.crash(&mut |_, _| false));
        assert_eq!(report.damage, [], "after {n}");
        for bytes in &blobs[..=n] {
            assert_eq!(read(&after, bytes).as_ref(), Some(bytes), "after {n}");
        }
    }
}

#[test]
fn a_bad_entry_with_a_later_group_behind_it_is_damage_and_not_cut() {
    let blobs = [blob(1, 100), blob(2, 100), blob(3, 100)];
    let disk = after_crash(&blobs);
    let second = HEADER + entry_bytes(100);
    let mut bytes = disk.bytes(PACK).unwrap();
    bytes[second + 30] ^= 1;
    disk.put(PACK, bytes.clone());
    let (store, report) = open(&disk);
    assert!(report.cut.is_empty());
    assert_eq!(report.damage.len(), 1);
    assert_eq!(
        (report.damage[0].file.as_str(), report.damage[0].offset),
        (PACK, second as u64)
    );
    for bytes in [&blobs[0], &blobs[2]] {
        assert_eq!(read(&store, bytes).as_ref(), Some(bytes));
    }
    put(&store, &blobs[1]).unwrap();
    assert_eq!(read(&store, &blobs[1]).as_ref(), Some(&blobs[1]));
    drop(store);
    assert_eq!(
        disk.bytes(PACK).unwrap(),
        bytes,
        "a damaged pack is not written to"
    );
}

#[test]
fn after_a_clean_stop_even_a_damaged_last_entry_is_not_cut() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    put(&store, &blob(1, 100)).unwrap();
    put(&store, &blob(2, 100)).unwrap();
    drop(store);
    let mut bytes = storage.bytes(PACK).unwrap();
    bytes[HEADER + entry_bytes(100) + 9] ^= 4;
    storage.put(PACK, bytes);
    let (store, report) = open(&storage);
    assert!(report.clean && report.cut.is_empty());
    assert_eq!(report.damage[0].offset, (HEADER + entry_bytes(100)) as u64);
    assert_eq!(read(&store, &blob(1, 100)), Some(blob(1, 100)));
}

#[test]
fn a_missing_or_foreign_run_is_made_again() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let blobs: Vec<_> = (0..40).map(|seed| blob(seed, 700)).collect();
    for bytes in &blobs {
        assert!(put(&store, bytes).unwrap().new);
    }
    drop(store);
    let runs: Vec<_> = storage
        .names()
        .into_iter()
        .filter(|name| name.starts_with("index/"))
        .collect();
    assert!(runs.len() >= 3, "{runs:?}");
    let first = storage.bytes(&runs[0]).unwrap();
    storage.put(&runs[1], first.clone());
    storage.put(&runs[2], first[..70].to_vec());
    let (store, report) = open(&storage);
    assert_eq!((report.runs_rebuilt, report.damage.len()), (2, 0));
    for bytes in &blobs {
        assert_eq!(read(&store, bytes).as_ref(), Some(bytes));
    }
    drop(store);
    assert_eq!(open(&storage).1.runs_rebuilt, 0);
}

#[test]
fn leftovers_of_unfinished_writes_are_removed_at_open() {
    let storage = MemoryStorage::default();
    storage.put("tmp/17", vec![1, 2, 3]);
    let (_store, report) = open(&storage);
    assert_eq!(report.temporaries_removed, 1);
    assert_eq!(storage.bytes("tmp/17"), None);
}

#[test]
fn a_store_of_a_later_format_is_refused_untouched() {
    let disk = after_crash(&[blob(1, 100)]);
    let mut bytes = disk.bytes(PACK).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[0..12]), &bytes[16..64]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    disk.put(PACK, bytes.clone());
    let refused = ContentStore::open_on(Arc::new(disk.clone()), small_packs());
    assert!(refused.is_err_and(|error| error.to_string().contains("version 2")));
    assert_eq!(disk.bytes(PACK).unwrap(), bytes);
    assert!(Digest::of(&bytes) == Digest::of(&disk.bytes(PACK).unwrap()));
}

/// The process ended between a write and its sync; the next one saw the blob in memory that never
/// reached the disk, and told whoever put it again that it was there.
#[test]
fn what_is_found_after_a_kill_is_durable_before_anyone_is_told_that_it_is_there() {
    let late = blob(2, 200);
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    put(&store, &blob(1, 100)).unwrap();
    storage.set_fault(Box::new(|operation, _| {
        (operation == Operation::Sync).then_some(ErrorKind::Other)
    }));
    assert!(put(&store, &late).is_err());
    storage.clear_fault();
    // A kill: all that was written can be read, synced or not.
    drop(store);
    let (store, _) = open(&storage);
    let stored = put(&store, &late).unwrap();
    assert!(!stored.new, "it was found where it had been written");
    // Then the power goes.
    let (store, report) = open(&storage.crash(&mut |_, _| false));
    assert_eq!(report.damage, []);
    assert_eq!(read(&store, &late).as_ref(), Some(&late));
}

#[test]
fn a_seal_of_which_only_the_header_came_to_the_disk_is_cut() {
    let blobs: Vec<_> = (0..40).map(|seed| blob(seed, 600)).collect();
    let disk = after_crash(&blobs);
    let names: Vec<_> = disk
        .names()
        .into_iter()
        .filter(|name| name.strip_suffix(".pack").is_some())
        .collect();
    assert!(names.len() > 1, "the first pack is sealed: {names:?}");
    let first = names.iter().min().unwrap();
    for name in names.iter().filter(|name| *name != first) {
        disk.put(name, Vec::new());
    }
    let sealed = disk.bytes(first).unwrap();
    for torn in 1..=40 {
        let copy = after_crash(&[]);
        let mut bytes = sealed.clone();
        let end = bytes.len();
        bytes[end - torn..].fill(0);
        if bytes == sealed {
            continue;
        }
        // A pack has its planned length until it is sealed.
        bytes.resize(end.next_multiple_of(8 * 1024), 0);
        copy.put(first, bytes);
        let (_, report) = open(&copy);
        assert_eq!(report.damage, [], "torn {torn}");
        assert_eq!(report.cut.len(), 1, "torn {torn}");
    }
}
