//! Putting, reading, opening again.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use stemma_content_store::{
    ContentStore, Digest, MemoryStorage, OpenError, Operation, Options, PutError, ReadError,
    StoreStatus,
};

use crate::{blob, open, put, read, small_packs, verify, wait};

const KIB: usize = 1024;
const LENS: [usize; 12] = [
    0,
    1,
    7,
    8,
    1023,
    1024,
    1025,
    20 * KIB,
    128 * KIB,
    128 * KIB + 1,
    256 * KIB,
    700 * KIB + 3,
];

#[test]
fn blobs_of_every_size_are_read_back_before_and_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let blobs: Vec<_> = (0..).zip(LENS).map(|(seed, len)| blob(seed, len)).collect();
    {
        let (store, _) = ContentStore::open(dir.path(), small_packs()).unwrap();
        for bytes in &blobs {
            let stored = put(&store, bytes).unwrap();
            assert_eq!((stored.digest, stored.new), (Digest::of(bytes), true));
            assert!(!put(&store, bytes).unwrap().new);
            assert_eq!(read(&store, bytes).as_ref(), Some(bytes));
        }
    }
    let (store, report) = ContentStore::open(dir.path(), small_packs()).unwrap();
    assert!(
        report.clean && report.damage.is_empty() && report.cut.is_empty(),
        "{report:?}"
    );
    for bytes in &blobs {
        assert_eq!(read(&store, bytes).as_ref(), Some(bytes));
        assert!(store.contains(&Digest::of(bytes)).unwrap());
        assert!(!put(&store, bytes).unwrap().new);
    }
    assert_eq!(read(&store, &blob(99, 5)), None);
    let stats = store.stats();
    assert_eq!(
        (stats.blobs, stats.large_files, stats.duplicates),
        (12, 6, 12)
    );
    assert_eq!(verify(&store).damage, []);
    assert_eq!(verify(&store).blobs, 12);
}

#[test]
fn an_ingest_in_odd_pieces_stores_the_same_blob_as_a_put() {
    for (seed, len) in (0..).zip(LENS) {
        let bytes = blob(seed, len);
        for piece in [1000, 128 * KIB, 333 * KIB] {
            let (store, _) = open(&MemoryStorage::default());
            let mut ingest = store.begin().unwrap();
            for part in bytes.chunks(piece) {
                ingest.write(part).unwrap();
            }
            let stored = ingest.finish().unwrap();
            assert_eq!(
                (stored.digest, stored.new),
                (Digest::of(&bytes), true),
                "{len} by {piece}"
            );
            assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
        }
    }
}

#[test]
fn any_range_of_a_blob_is_what_it_is_of_the_bytes() {
    let (store, _) = open(&MemoryStorage::default());
    for len in [900, 500 * KIB + 11] {
        let bytes = blob(1, len);
        let digest = put(&store, &bytes).unwrap().digest;
        let open = store.open_blob(&digest).unwrap().unwrap();
        let mut seed = 7_usize;
        for _ in 0..300 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let from = (seed >> 20) % (len + 10);
            let n = (seed >> 40) % (200 * KIB);
            let expected = bytes.get(from..(from + n).min(len)).unwrap_or_default();
            assert_eq!(
                open.read_at(u64::try_from(from).unwrap(), n).unwrap(),
                expected,
                "{n} from {from}"
            );
        }
        assert_eq!(open.read_at(u64::MAX, 5).unwrap(), "");
    }
}

/// The file of another ingest had the same name, and went with it.
#[test]
fn an_ingest_that_outlives_its_store_takes_nothing_from_who_opens_the_directory_again() {
    let storage = MemoryStorage::default();
    let open = || ContentStore::open_on(Arc::new(storage.clone()), small_packs()).unwrap();
    let (store, _) = open();
    let mut late = store.begin().unwrap();
    late.write(&blob(1, 200_000)).unwrap();
    store.close();
    let (store, _) = open();
    let mut ingest = store.begin().unwrap();
    ingest.write(&blob(2, 200_000)).unwrap();
    drop(late);
    let stored = ingest.finish().unwrap();
    assert!(stored.new);
    assert_eq!(
        store.read_all(&stored.digest, 200_000).unwrap(),
        Some(blob(2, 200_000))
    );
}

#[test]
fn an_ingest_over_the_limit_or_given_up_leaves_nothing() {
    let storage = MemoryStorage::default();
    let options = Options {
        upload_bytes_max: 200_000,
        ..small_packs()
    };
    let (store, _) = ContentStore::open_on(Arc::new(storage.clone()), options).unwrap();
    let mut ingest = store.begin().unwrap();
    ingest.write(&blob(1, 200_000)).unwrap();
    let names = storage.names();
    assert!(
        matches!(names.as_slice(), [name] if name.starts_with("tmp/")),
        "the first block is on disk: {names:?}"
    );
    for _ in 0..2 {
        assert!(matches!(
            ingest.write(b"x"),
            Err(PutError::TooLarge { bytes_max: 200_000 })
        ));
        assert_eq!(storage.names(), [""; 0]);
    }
    assert!(ingest.finish().is_err());
    let mut ingest = store.begin().unwrap();
    ingest.write(&blob(1, 200_000)).unwrap();
    assert_eq!(storage.names().len(), 1);
    drop(ingest);
    assert_eq!(storage.names(), [""; 0]);
    assert!(matches!(
        put(&store, &blob(1, 200_001)),
        Err(PutError::TooLarge { .. })
    ));
}

#[test]
fn an_ingest_writes_block_by_block_however_large_the_pieces_are() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let writes = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&writes);
    storage.set_fault(Box::new(move |operation, _| {
        *counted.lock().unwrap() += usize::from(operation == Operation::Write);
        None
    }));
    let mut ingest = store.begin().unwrap();
    ingest.write(&blob(1, 1024 * KIB)).unwrap();
    assert_eq!(
        *writes.lock().unwrap(),
        7,
        "all blocks but the last, which may be the end"
    );
}

#[test]
fn equal_bytes_put_at_the_same_time_are_stored_once() {
    for len in [500, 300 * KIB] {
        let (store, _) = open(&MemoryStorage::default());
        let bytes = blob(3, len);
        let putters: Vec<_> = (0..8)
            .map(|n| {
                let (store, bytes) = (store.clone(), bytes.clone());
                std::thread::spawn(move || {
                    if n % 2 == 0 {
                        return put(&store, &bytes).unwrap().new;
                    }
                    let mut ingest = store.begin().unwrap();
                    ingest.write(&bytes).unwrap();
                    ingest.finish().unwrap().new
                })
            })
            .collect();
        let new = putters
            .into_iter()
            .filter(|_| true)
            .map(|putter| putter.join().unwrap());
        assert_eq!(new.filter(|new| *new).count(), 1);
        assert_eq!(store.stats().blobs, 1);
        assert_eq!(verify(&store).blobs, 1, "one copy on disk");
        assert_eq!(read(&store, &bytes), Some(bytes));
    }
}

#[test]
fn all_that_wait_share_one_sync() {
    let storage = MemoryStorage::default();
    let (store, _) = ContentStore::open_on(Arc::new(storage.clone()), Options::default()).unwrap();
    put(&store, &blob(0, 10)).unwrap();
    let before = store.stats().groups;
    let (open_gate, gate) = mpsc::channel::<()>();
    storage.set_fault(Box::new(move |operation, _| {
        if operation == Operation::Sync {
            // Holds the first group until the test lets go; after that the channel is closed.
            let _ = gate.recv();
        }
        None
    }));
    wait(async {
        let mut puts = tokio::task::JoinSet::new();
        for seed in 1..=40 {
            let store = store.clone();
            puts.spawn(async move { store.put(blob(seed, 100)).await.unwrap().new });
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        drop(open_gate);
        assert!(puts.join_all().await.into_iter().all(|new| new));
    });
    let groups = store.stats().groups - before;
    assert!(groups <= 3, "40 puts took {groups} groups");
}

#[test]
fn more_packs_than_may_be_open_are_all_readable() {
    let (store, _) = open(&MemoryStorage::default());
    let blobs: Vec<_> = (0..200).map(|seed| blob(seed, 700)).collect();
    for bytes in &blobs {
        put(&store, bytes).unwrap();
    }
    assert!(store.stats().pack_files > 8, "{:?}", store.stats());
    for bytes in blobs.iter().chain(blobs.iter().rev()) {
        assert_eq!(read(&store, bytes).as_ref(), Some(bytes));
    }
}

#[test]
fn a_directory_that_is_open_for_writing_is_refused_naming_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = ContentStore::open(dir.path(), small_packs()).unwrap();
    let refused = ContentStore::open(dir.path(), small_packs()).map(|_| ());
    assert!(
        matches!(refused, Err(OpenError::Locked { pid: Some(pid) }) if pid == std::process::id())
    );
    store.close();
    assert!(ContentStore::open(dir.path(), small_packs()).is_ok());
}

#[test]
fn a_reader_beside_the_writer_sees_what_was_there_and_more_after_a_refresh() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = ContentStore::open(dir.path(), small_packs()).unwrap();
    let (first, second) = (blob(1, 100), blob(2, 5000));
    put(&store, &first).unwrap();
    let (reader, _) = ContentStore::open_read_only(dir.path(), small_packs()).unwrap();
    put(&store, &second).unwrap();
    assert_eq!(read(&reader, &first).as_ref(), Some(&first));
    assert!(!reader.contains(&Digest::of(&second)).unwrap());
    reader.refresh().unwrap();
    assert!(reader.contains(&Digest::of(&second)).unwrap());
    assert_eq!(verify(&reader).damage, []);
    assert_eq!(verify(&reader).blobs, 2);
    assert!(matches!(put(&reader, &first), Err(PutError::ReadOnly)));
    assert_eq!(reader.status(), StoreStatus::ReadOnly);
}

#[test]
fn a_closed_store_refuses_puts_and_still_reads() {
    let (store, _) = open(&MemoryStorage::default());
    let bytes = blob(1, 100);
    put(&store, &bytes).unwrap();
    store.close();
    assert_eq!(store.status(), StoreStatus::Closed);
    assert!(matches!(put(&store, &blob(2, 100)), Err(PutError::Closed)));
    assert!(matches!(store.begin(), Err(PutError::Closed)));
    assert_eq!(read(&store, &bytes), Some(bytes));
}

#[test]
fn a_blob_longer_than_the_reader_takes_is_refused_with_its_length() {
    let (store, _) = open(&MemoryStorage::default());
    let digest = put(&store, &blob(1, 2000)).unwrap().digest;
    let refused = store.read_all(&digest, 1999);
    assert!(matches!(
        refused,
        Err(ReadError::TooLarge {
            bytes: 2000,
            bytes_max: 1999,
            ..
        })
    ));
}

#[test]
fn what_is_large_under_one_configuration_is_found_under_another() {
    let storage = MemoryStorage::default();
    let bytes = blob(1, 800);
    let all_large = Options {
        pack_blob_bytes_max: 10,
        ..small_packs()
    };
    let (store, _) = ContentStore::open_on(Arc::new(storage.clone()), all_large).unwrap();
    put(&store, &bytes).unwrap();
    assert_eq!(store.stats().large_files, 1);
    drop(store);
    let (store, _) = open(&storage);
    assert!(!put(&store, &bytes).unwrap().new);
    assert_eq!(read(&store, &bytes), Some(bytes));
}
