//! Collection takes what nothing needs, and never anything else.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use stemma_content_store::{CollectError, ContentStore, Digest, MemoryStorage};

use crate::{blob, open, put, read, small_packs, verify};

fn all(n: u64) -> Vec<Bytes> {
    (0..n)
        .map(|seed| blob(seed, if seed % 10 == 9 { 9000 } else { 600 }))
        .collect()
}

#[test]
fn the_dead_go_with_their_space_and_the_live_stay_through_reopen_and_crash() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let blobs = all(100);
    for bytes in &blobs {
        drop(put(&store, bytes).unwrap());
    }
    let live: HashSet<_> = blobs
        .iter()
        .step_by(3)
        .map(|bytes| Digest::of(bytes))
        .collect();
    let before = store.stats();
    let done = store.collect(&|digest| live.contains(digest)).unwrap();
    assert_eq!(done.blobs_removed, 66);
    assert!(
        done.packs_removed > 0 && done.disk_bytes_freed > 20_000,
        "{done:?}"
    );
    let after = store.stats();
    assert_eq!(
        (after.blobs, after.bytes),
        (34, before.bytes - done.bytes_removed)
    );
    assert!(after.pack_bytes < before.pack_bytes);
    let crashed = storage.crash(&mut |_, _| false);
    let check = |store: &ContentStore| {
        for bytes in &blobs {
            let expected = live.contains(&Digest::of(bytes)).then_some(bytes);
            assert_eq!(read(store, bytes).as_ref(), expected);
            assert_eq!(
                store.contains(&Digest::of(bytes)).unwrap(),
                expected.is_some()
            );
        }
        let report = verify(store);
        assert_eq!((report.damage.len(), report.blobs), (0, 34));
        assert_eq!(store.stats().blobs, 34);
    };
    check(&store);
    drop(store);
    check(&open(&storage).0);
    check(&open(&crashed).0);
    assert_eq!(
        open(&crashed)
            .0
            .collect(&|digest| live.contains(digest))
            .unwrap()
            .blobs_removed,
        0
    );
}

#[test]
fn what_was_collected_can_be_put_again() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    for bytes in all(20) {
        put(&store, &bytes).unwrap();
    }
    store.collect(&|_| false).unwrap();
    assert_eq!(store.stats().blobs, 0);
    for bytes in all(20) {
        assert!(put(&store, &bytes).unwrap().new);
    }
    drop(store);
    let (store, _) = open(&storage);
    for bytes in all(20) {
        assert_eq!(read(&store, &bytes), Some(bytes));
    }
}

#[test]
fn a_pinned_blob_is_kept_until_its_pin_goes() {
    let (store, _) = open(&MemoryStorage::default());
    for bytes in [blob(1, 100), blob(2, 9000)] {
        let stored = put(&store, &bytes).unwrap();
        assert_eq!(store.collect(&|_| false).unwrap().blobs_removed, 0);
        assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
        drop(stored);
        assert_eq!(store.collect(&|_| false).unwrap().blobs_removed, 1);
        assert_eq!(read(&store, &bytes), None);
    }
}

#[test]
fn a_blob_whose_event_came_while_the_collection_asked_is_kept() {
    // Once the answer "not live" was given, the blob was put again, its event applied and its pin
    // dropped, all before the collection acted: it must not act on the old answer.
    let (store, _) = open(&MemoryStorage::default());
    for bytes in [blob(1, 100), blob(2, 9000)] {
        drop(put(&store, &bytes).unwrap());
        let asked = AtomicBool::new(false);
        let done = store.collect(&|_| {
            asked.store(true, Ordering::Relaxed);
            drop(put(&store, &bytes).unwrap());
            false
        });
        assert!(asked.load(Ordering::Relaxed));
        assert_eq!(done.unwrap().blobs_removed, 0);
        assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
        store.collect(&|_| false).unwrap();
    }
}

#[test]
fn a_collection_that_is_told_to_stop_ends_before_the_next_blob_and_keeps_what_it_did() {
    let (store, _) = open(&MemoryStorage::default());
    // Large ones, which are files of their own, and small ones in a pack.
    for bytes in [blob(1, 9000), blob(2, 9000), blob(3, 100)] {
        drop(put(&store, &bytes).unwrap());
    }
    let left = AtomicU64::new(1);
    let goes_on = || left.fetch_sub(1, Ordering::Relaxed) > 0;
    let stopped = store.collect_while(&|| Ok(()), &|_| false, &goes_on);
    assert!(matches!(stopped, Err(CollectError::Stopped)));
    assert_eq!(store.stats().blobs, 2);
    assert_eq!(store.collect(&|_| false).unwrap().blobs_removed, 2);
}

#[test]
fn what_is_live_is_found_out_only_once_every_pin_is_watched() {
    // The event of a blob may be durable while whoever is asked what lives has not heard of it yet,
    // and its pin may go at any moment. A pin that goes after the collection began keeps its blob;
    // whatever went before, `settle` has waited for.
    for bytes in [blob(1, 100), blob(2, 9000)] {
        let (store, _) = open(&MemoryStorage::default());
        let stored = Mutex::new(Some(put(&store, &bytes).unwrap()));
        let settle = || {
            drop(stored.lock().unwrap().take());
            Ok(())
        };
        let done = store.collect_after(&settle, &|_| false).unwrap();
        assert_eq!(done.blobs_removed, 0);
        assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
        let unsettled = store.collect_after(&|| Err("the views are behind".into()), &|_| false);
        assert!(matches!(unsettled, Err(CollectError::Unsettled { .. })));
        assert_eq!(store.stats().blobs, 1);
    }
}

#[test]
fn puts_reads_and_ingests_beside_collections_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = ContentStore::open(dir.path(), small_packs()).unwrap();
    let live = Mutex::new(HashSet::new());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                store
                    .collect(&|digest| live.lock().unwrap().contains(digest))
                    .unwrap();
                rounds += 1;
            }
        });
        let putters: Vec<_> = (0..3_u64)
            .map(|putter| {
                let (store, live) = (&store, &live);
                scope.spawn(move || {
                    for n in 0..120 {
                        // Shared between the putters, so that duplicates race with collections.
                        let bytes = blob(n, if n % 20 == 0 { 5000 } else { 300 });
                        let stored = if n % 3 == putter {
                            let mut ingest = store.begin().unwrap();
                            ingest.write(&bytes).unwrap();
                            ingest.finish().unwrap()
                        } else {
                            put(store, &bytes).unwrap()
                        };
                        assert_eq!(read(store, &bytes).as_ref(), Some(&bytes));
                        if n % 2 == 0 {
                            live.lock().unwrap().insert(stored.digest);
                        }
                    }
                })
            })
            .collect();
        for putter in putters {
            putter.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        collector.join().unwrap();
    });
    let check = |store: &ContentStore| {
        for n in (0..120).step_by(2) {
            let bytes = blob(n, if n % 20 == 0 { 5000 } else { 300 });
            assert_eq!(read(store, &bytes), Some(bytes));
        }
        assert_eq!(verify(store).damage, []);
    };
    check(&store);
    drop(store);
    check(&ContentStore::open(dir.path(), small_packs()).unwrap().0);
}

#[test]
fn an_open_blob_stays_readable_after_it_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = ContentStore::open(dir.path(), small_packs()).unwrap();
    for bytes in [blob(1, 100), blob(2, 300_000)] {
        let digest = put(&store, &bytes).unwrap().digest;
        let open = store.open_blob(&digest).unwrap().unwrap();
        store.collect(&|_| false).unwrap();
        assert!(!store.contains(&digest).unwrap());
        assert_eq!(open.read_at(0, bytes.len()).unwrap(), bytes);
    }
}

#[test]
fn a_damaged_pack_is_neither_rewritten_nor_removed() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    for bytes in &all(20) {
        drop(put(&store, bytes).unwrap());
    }
    let name = "packs/0000000001.pack";
    let mut bytes = storage.bytes(name).unwrap();
    drop(store);
    bytes[64 + 10] ^= 1;
    storage.put(name, bytes.clone());
    let (store, _) = open(&storage);
    let done = store.collect(&|_| false).unwrap();
    assert_eq!(done.packs_damaged, 1);
    assert_eq!(storage.bytes(name).unwrap(), bytes);
}
