//! Runs are derived: whichever of them a crash leaves, no blob that is live is lost by it.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use stemma_content_store::{ContentStore, Digest, MemoryStorage, Operation};

use crate::{blob, open, put, read, small_packs};

const PACK: &str = "packs/0000000001.pack";
const RUN: &str = "index/0000000001.run";

/// More blobs than the first pack takes.
fn blobs() -> Vec<Bytes> {
    (0..6).map(|seed| blob(seed, 600)).collect()
}

fn filled(storage: &MemoryStorage) -> ContentStore {
    let (store, _) = open(storage);
    for bytes in blobs() {
        drop(put(&store, &bytes).unwrap());
    }
    store
}

/// What is there after a collection of the first blob whose mark of death is read and is not on the
/// disk, and after a start that made the run again from what it read. That run is on the disk.
fn with_a_run_of_before() -> MemoryStorage {
    let storage = MemoryStorage::default();
    drop(filled(&storage));
    // Opened again, no run of the pack is still being written.
    let (store, _) = open(&storage);
    let dead = Digest::of(&blobs()[0]);
    storage.set_fault(Box::new(|operation, name| {
        (operation == Operation::Sync && name == PACK).then_some(ErrorKind::Other)
    }));
    assert!(store.collect(&|digest| *digest != dead).is_err());
    drop(store);
    storage.clear_fault();
    let (store, report) = open(&storage);
    assert_eq!(report.runs_rebuilt, 1);
    assert_eq!(read(&store, &blobs()[0]), None);
    storage.put(RUN, storage.bytes(RUN).unwrap());
    storage.crash(&mut |_, _| false)
}

/// A start found the blob alive again and whoever put it was told that it is there. The next loss of
/// power brought back the run of before, by which it is not.
#[test]
fn a_run_that_was_made_again_is_not_replaced_by_the_one_before_when_the_power_goes() {
    let storage = with_a_run_of_before();
    let (store, report) = open(&storage);
    assert_eq!((report.runs_rebuilt, report.damage.len()), (1, 0));
    let again = put(&store, &blobs()[0]).unwrap();
    assert!(!again.new);
    let (store, _) = open(&storage.crash(&mut |_, _| false));
    for bytes in blobs() {
        assert_eq!(read(&store, &bytes), Some(bytes));
    }
}

/// The same where the start that made it ended before the directory was synced, and the next one
/// found it in its place.
#[test]
fn a_run_that_an_open_left_which_failed_is_durable_behind_the_next_one() {
    let storage = with_a_run_of_before();
    storage.set_fault(Box::new(|operation, name| {
        (operation == Operation::SyncDir && name == "index").then_some(ErrorKind::Other)
    }));
    assert!(ContentStore::open_on(Arc::new(storage.clone()), small_packs()).is_err());
    storage.clear_fault();
    let (store, report) = open(&storage);
    assert_eq!(report.runs_rebuilt, 0);
    assert!(!put(&store, &blobs()[0]).unwrap().new);
    let (store, _) = open(&storage.crash(&mut |_, _| false));
    assert_eq!(read(&store, &blobs()[0]).as_ref(), Some(&blobs()[0]));
}

/// The same where the new run cannot be written: then there is none.
#[test]
fn a_run_that_cannot_be_made_again_leaves_none_of_before() {
    let storage = with_a_run_of_before();
    storage.set_fault(Box::new(|operation, name| {
        let is_run = operation == Operation::Write && name.starts_with("tmp/run-");
        is_run.then_some(ErrorKind::StorageFull)
    }));
    let (store, _) = open(&storage);
    assert!(!put(&store, &blobs()[0]).unwrap().new);
    let (store, report) = open(&storage.crash(&mut |_, _| false));
    assert_eq!(report.runs_rebuilt, 1);
    assert_eq!(read(&store, &blobs()[0]).as_ref(), Some(&blobs()[0]));
}

/// Numbers of packs begin anew where all packs are gone.
#[test]
fn a_run_whose_pack_is_gone_is_left_to_no_other_of_its_number() {
    let of_before = with_a_run_of_before().bytes(RUN).unwrap();
    let storage = MemoryStorage::default();
    storage.put(RUN, of_before);
    drop(filled(&storage));
    // The file was cut to its length on the disk as well, and the new run's name is not there.
    storage.put(PACK, storage.bytes(PACK).unwrap());
    let (store, report) = open(&storage.crash(&mut |_, _| false));
    assert_eq!(report.damage, []);
    for bytes in blobs() {
        assert_eq!(read(&store, &bytes), Some(bytes));
    }
}

/// However a run came to leave out what lives, as one that was put back by hand: a verification said
/// "intact", and the next collection marked the blob as dead.
#[test]
fn a_blob_that_a_run_leaves_out_is_not_told_as_there_and_no_collection_takes_it() {
    let of_before = with_a_run_of_before().bytes(RUN).unwrap();
    let storage = MemoryStorage::default();
    drop(filled(&storage));
    storage.put(RUN, of_before);
    let (store, report) = open(&storage);
    assert_eq!((report.runs_rebuilt, report.damage.len()), (0, 0));
    let digests: HashSet<_> = blobs().iter().map(|bytes| Digest::of(bytes)).collect();
    let whole = |store: &ContentStore| {
        let mut whole = HashSet::new();
        let mut note = |digest: &Digest, _| _ = whole.insert(*digest);
        let read = store.verify(&mut |_| ControlFlow::Continue(()), &mut note);
        assert_eq!(read.unwrap().damage, []);
        whole
    };
    let left_out: Vec<_> = digests.difference(&whole(&store)).copied().collect();
    assert_eq!(left_out, [Digest::of(&blobs()[0])]);
    assert_eq!(read(&store, &blobs()[0]), None);
    let collected = store.collect(&|_| true).unwrap();
    assert_eq!((collected.blobs_removed, collected.packs_damaged), (0, 0));
    drop(store);
    for storage in [storage.crash(&mut |_, _| false), storage] {
        let (store, _) = open(&storage);
        assert_eq!(whole(&store), digests);
        assert_eq!(read(&store, &blobs()[0]).as_ref(), Some(&blobs()[0]));
        assert_eq!(store.collect(&|_| true).unwrap().blobs_removed, 0);
    }
}
