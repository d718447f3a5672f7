//! What a disk leaves that fails at names, seals and lengths and did a part, or all, of what it
//! refused.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use stemma_content_store::{
    CollectError, ContentStore, MemoryStorage, Operation, PutError, StoreStatus,
};

use crate::{blob, open, put, read, small_packs};

const FIRST: &str = "packs/0000000001.pack";

/// Fails these operations on this file, carried out or not.
fn fail(storage: &MemoryStorage, is_late: bool, operation: Operation, file: &'static str) {
    let fault = Box::new(move |asked, name: &str| {
        (asked == operation && name == file).then_some(ErrorKind::Other)
    });
    if is_late {
        storage.set_late_fault(fault);
    } else {
        storage.set_fault(fault);
    }
}

/// Opens what is there, which must be without damage, and shows that it is fit.
fn opens_whole(storage: &MemoryStorage, kept: &[Bytes]) {
    let (store, report) = open(storage);
    assert_eq!(report.damage, []);
    for bytes in kept {
        assert!(read(&store, bytes).as_ref() == Some(bytes), "{report:?}");
    }
    let late = blob(99, 50);
    put(&store, &late).unwrap();
    assert_eq!(read(&store, &late), Some(late));
}

/// The crash simulation met a proper close after the rename of a pack had failed and been carried
/// out all the same: the mark named the pack before it, and the new one, without a seal, was taken
/// for a damaged one.
#[test]
fn a_pack_that_got_its_name_by_a_rename_that_failed_is_no_damage_after_a_close() {
    for is_late in [false, true] {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        fail(&storage, is_late, Operation::Rename, FIRST);
        assert!(matches!(
            put(&store, &blob(1, 100)),
            Err(PutError::Io { .. })
        ));
        assert_eq!(store.status(), StoreStatus::Writable);
        drop(store);
        storage.clear_fault();
        let after = storage.crash(&mut |_, _| false);
        opens_whole(&storage, &[]);
        opens_whole(&after, &[]);
    }
}

#[test]
fn a_name_of_a_pack_that_cannot_be_taken_back_lets_nothing_more_in() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    fail(&storage, true, Operation::Rename, FIRST);
    fail(&storage, false, Operation::Remove, FIRST);
    let refused = put(&store, &blob(1, 100));
    assert!(matches!(refused, Err(PutError::Poisoned { .. })));
    drop(store);
    storage.clear_fault();
    opens_whole(&storage, &[]);
}

/// A store whose first pack is full, and what is in it.
fn one_full_pack(storage: &MemoryStorage) -> (ContentStore, Vec<Bytes>) {
    let (store, _) = open(storage);
    let blobs: Vec<_> = (0..5).map(|seed| blob(seed, 600)).collect();
    for bytes in &blobs {
        put(&store, bytes).unwrap();
    }
    drop(store);
    assert_eq!(storage.bytes(FIRST).unwrap().len(), 4096);
    // Opened again, the writer knows the file by the name that it has.
    (open(storage).0, blobs)
}

/// A seal whose sync failed is read and may not be on the disk. The file was cut to end behind it
/// before it was written again: a loss of power between the two left a file too short for a pack
/// without a seal.
#[test]
fn a_file_is_cut_behind_its_seal_only_once_the_seal_is_on_the_disk() {
    for is_late in [false, true] {
        for failing in [Operation::Write, Operation::Sync, Operation::SetLen] {
            let storage = MemoryStorage::default();
            let (store, blobs) = one_full_pack(&storage);
            fail(&storage, false, Operation::Sync, FIRST);
            let refused = put(&store, &blob(9, 600));
            assert!(matches!(refused, Err(PutError::Poisoned { .. })));
            drop(store);
            storage.clear_fault();

            fail(&storage, is_late, failing, FIRST);
            assert!(ContentStore::open_on(Arc::new(storage.clone()), small_packs()).is_err());
            storage.clear_fault();
            opens_whole(&storage.crash(&mut |_, _| false), &blobs);
            opens_whole(&storage, &blobs);
        }
    }
}

/// A disk that is nearly full had room for a small pack and then for nothing in it; the next blob
/// was too large for it, so that it was sealed empty. The sync of that seal failed.
#[test]
fn the_seal_of_an_empty_pack_is_written_again_like_any_other() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let mut n_writes = 0;
    storage.set_fault(Box::new(move |operation, _| {
        n_writes += u32::from(operation == Operation::Write);
        // Four packs that are too long, then zeros and header of one that fits, then the blob.
        let fails = operation == Operation::Write && matches!(n_writes, 1..=4 | 7);
        fails.then_some(ErrorKind::StorageFull)
    }));
    let refused = put(&store, &blob(1, 10));
    assert!(matches!(refused, Err(PutError::Full { .. })));
    assert_eq!(storage.bytes(FIRST).unwrap().len(), 256);
    storage.clear_fault();
    drop(store);
    let (store, _) = open(&storage);
    fail(&storage, false, Operation::Sync, FIRST);
    let refused = put(&store, &blob(2, 600));
    assert!(matches!(refused, Err(PutError::Poisoned { .. })));
    drop(store);
    storage.clear_fault();

    // The seal is read, and the next pack begins behind it.
    let (store, report) = open(&storage);
    assert_eq!(report.damage, []);
    put(&store, &blob(2, 600)).unwrap();
    opens_whole(&storage.crash(&mut |_, _| false), &[blob(2, 600)]);
}

/// The mark of a proper close named a pack that the collection had removed, because the disk had
/// said that it had not.
#[test]
fn a_pack_that_went_by_a_removal_that_failed_is_not_missed_after_a_close() {
    for is_late in [false, true] {
        let storage = MemoryStorage::default();
        let (store, _) = one_full_pack(&storage);
        // The first pack is sealed, and there is none behind it.
        fail(&storage, false, Operation::Rename, "packs/0000000002.pack");
        assert!(put(&store, &blob(9, 600)).is_err());
        storage.clear_fault();
        fail(&storage, is_late, Operation::Remove, FIRST);
        let collected = store.collect(&|_| false);
        assert!(matches!(collected, Err(CollectError::Io { .. })));
        assert_eq!(storage.bytes(FIRST).is_none(), is_late);
        drop(store);
        storage.clear_fault();
        let after = storage.crash(&mut |_, _| false);
        opens_whole(&storage, &[]);
        opens_whole(&after, &[]);
    }
}

/// The rename of a large blob failed and was carried out. After a proper close the next open saw
/// its name, not durable, and told whoever put it again that it was there.
#[test]
fn a_large_blob_that_is_found_after_a_close_outlives_the_next_loss_of_power() {
    let bytes = blob(5, 9000);
    for is_late in [false, true] {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        let fault = Box::new(|operation, name: &str| {
            let is_large = operation == Operation::Rename && name.starts_with("blobs/");
            is_large.then_some(ErrorKind::Other)
        });
        if is_late {
            storage.set_late_fault(fault);
        } else {
            storage.set_fault(fault);
        }
        assert!(matches!(put(&store, &bytes), Err(PutError::Io { .. })));
        drop(store);
        storage.clear_fault();
        let (store, report) = open(&storage);
        assert!(report.clean);
        assert_eq!(put(&store, &bytes).unwrap().new, !is_late);
        opens_whole(
            &storage.crash(&mut |_, _| false),
            std::slice::from_ref(&bytes),
        );
    }
}
