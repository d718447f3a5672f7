//! What a disk leaves that fails at names, seals and lengths and did a part, or all, of what it
//! refused.

use std::io::ErrorKind;

use bytes::Bytes;
use stemma_content_store::{MemoryStorage, Operation, PutError, StoreStatus};

use crate::{blob, open, put, read};

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
        assert_eq!(read(&store, bytes).as_ref(), Some(bytes));
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
