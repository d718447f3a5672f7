//! Bytes that rot are found and never served.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use stemma_content_store::{
    ContentStore, DamageKind, Digest, MemoryStorage, Operation, Options, ReadError, VerifyError,
};

use crate::{blob, open, put, read, small_packs, verify, verify_only};

/// Packs of half a kilobyte, so that every byte can be tried.
fn tiny() -> Options {
    Options {
        pack_blob_bytes_max: 64,
        pack_file_bytes_first: 512,
        pack_file_bytes_max: 512,
        ..Options::default()
    }
}

fn tiny_store() -> (MemoryStorage, Vec<Bytes>) {
    let storage = MemoryStorage::default();
    let (store, _) = ContentStore::open_on(Arc::new(storage.clone()), tiny()).unwrap();
    let blobs = vec![
        blob(1, 13),
        blob(2, 64),
        blob(3, 0),
        blob(4, 40),
        blob(5, 60),
        blob(6, 200),
    ];
    for bytes in &blobs {
        put(&store, bytes).unwrap();
    }
    drop(store);
    (storage, blobs)
}

#[test]
fn every_flipped_byte_is_found_and_no_wrong_byte_is_served() {
    let (storage, blobs) = tiny_store();
    let names: Vec<_> = storage.names();
    for part in ["packs/", "blobs/", "index/", "mark"] {
        assert!(names.iter().any(|name| name.starts_with(part)), "{names:?}");
    }
    for name in names {
        let good = storage.bytes(&name).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x20;
            storage.put(&name, bytes);
            let Ok((store, _)) = ContentStore::open_read_only_on(Arc::new(storage.clone()), tiny())
            else {
                continue;
            };
            assert!(!verify(&store).damage.is_empty(), "{name} byte {at}");
            for bytes in &blobs {
                if let Ok(Some(found)) = store.read_all(&Digest::of(bytes), u64::MAX) {
                    assert_eq!(found, bytes, "{name} byte {at}");
                }
            }
        }
        storage.put(&name, good);
    }
    assert_eq!(verify_only(&storage).damage, []);
}

/// A file that could not be opened, since too many were open, was damaged.
#[test]
fn a_verification_that_the_system_has_no_means_for_tells_of_no_damage() {
    let (storage, _) = tiny_store();
    let (store, _) = ContentStore::open_read_only_on(Arc::new(storage.clone()), tiny()).unwrap();
    for part in ["packs/", "blobs/", "index/", "mark"] {
        storage.set_fault(Box::new(move |operation, name| {
            let is_it = operation == Operation::Open && name.starts_with(part);
            is_it.then_some(ErrorKind::OutOfMemory)
        }));
        let go_on = &mut |_| ControlFlow::Continue(());
        let ended = store.verify(go_on, &mut |_, _| ());
        assert!(
            matches!(ended, Err(VerifyError::Io { .. })),
            "{part}: {ended:?}"
        );
    }
    storage.clear_fault();
    assert_eq!(verify(&store).damage, []);
}

/// It was lost with what could not be looked at.
#[test]
fn damage_that_was_found_before_the_system_had_no_means_is_told() {
    let (storage, _) = tiny_store();
    let (store, _) = ContentStore::open_read_only_on(Arc::new(storage.clone()), tiny()).unwrap();
    let packs = storage.names();
    let pack = packs.iter().find(|name| name.starts_with("packs/"));
    let pack = pack.unwrap();
    let mut bytes = storage.bytes(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    storage.put(pack, bytes);
    let all = verify(&store).damage;
    assert!(!all.is_empty());
    storage.set_fault(Box::new(|operation, name| {
        let is_it = operation == Operation::Open && name.starts_with("blobs/");
        is_it.then_some(ErrorKind::OutOfMemory)
    }));
    let go_on = &mut |_| ControlFlow::Continue(());
    let report = store.verify(go_on, &mut |_, _| ()).unwrap();
    assert_eq!(report.damage, all);
    assert!(report.ended.is_some_and(|ended| ended.contains("blobs/")));
}

#[test]
fn a_file_cut_short_at_any_byte_is_found() {
    let (storage, _) = tiny_store();
    for name in storage.names() {
        let good = storage.bytes(&name).unwrap();
        for len in 0..good.len() {
            storage.put(&name, good[..len].to_vec());
            let opened = ContentStore::open_read_only_on(Arc::new(storage.clone()), tiny());
            assert!(
                opened.is_err() || !verify(&opened.unwrap().0).damage.is_empty(),
                "{name} at {len}"
            );
        }
        storage.put(&name, good);
    }
}

#[test]
fn all_damage_is_reported_with_its_place_and_the_rest_is_whole() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let blobs: Vec<_> = (0..30).map(|seed| blob(seed, 700)).collect();
    let large = blob(99, 400_000);
    blobs
        .iter()
        .chain([&large])
        .for_each(|bytes| drop(put(&store, bytes).unwrap()));
    drop(store);
    for pack in ["packs/0000000001.pack", "packs/0000000002.pack"] {
        let mut bytes = storage.bytes(pack).unwrap();
        bytes[64 + 64 + 5] ^= 1;
        storage.put(pack, bytes);
    }
    let name = storage
        .names()
        .into_iter()
        .find(|name| name.starts_with("blobs/"))
        .unwrap();
    let mut bytes = storage.bytes(&name).unwrap();
    bytes[10] ^= 1;
    bytes[300_000] ^= 1;
    storage.put(&name, bytes);
    let report = verify_only(&storage);
    let found: Vec<_> = report
        .damage
        .iter()
        .map(|one| (one.kind, one.file.as_str(), one.offset))
        .collect();
    let expected = [
        (DamageKind::Payload, "packs/0000000001.pack", 64),
        (DamageKind::Payload, "packs/0000000002.pack", 64),
        (DamageKind::Block, name.as_str(), 0),
        (DamageKind::Block, name.as_str(), 262_144),
    ];
    assert_eq!(found, expected);
    assert!(report.damage.iter().all(|one| one.digest.is_some()));
    assert_eq!(report.blobs, 28);
}

#[test]
fn a_damaged_block_spoils_only_the_ranges_that_touch_it() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    let bytes = blob(1, 400_000);
    let digest = put(&store, &bytes).unwrap().digest;
    let name = storage
        .names()
        .into_iter()
        .find(|name| name.starts_with("blobs/"))
        .unwrap();
    let mut wrong = storage.bytes(&name).unwrap();
    wrong[131_072] ^= 1;
    storage.put(&name, wrong);
    let open = store.open_blob(&digest).unwrap().unwrap();
    assert_eq!(open.read_at(0, 131_072).unwrap(), bytes[..131_072]);
    assert_eq!(
        open.read_at(262_144, 1000).unwrap(),
        bytes[262_144..263_144]
    );
    for (from, len) in [(131_071, 2), (200_000, 1), (0, 400_000)] {
        let refused = open.read_at(from, len);
        assert!(matches!(
            refused,
            Err(ReadError::Damaged {
                offset: 131_072,
                kind: DamageKind::Block,
                ..
            })
        ));
    }
    assert_eq!(store.stats().damaged, 1);
}

#[test]
fn putting_a_damaged_blob_again_heals_it() {
    for len in [500, 300_000] {
        let storage = MemoryStorage::default();
        let (store, _) = open(&storage);
        let bytes = blob(1, len);
        put(&store, &bytes).unwrap();
        let is_it = |name: &String| name.starts_with(if len > 1024 { "blobs/" } else { "packs/" });
        let name = storage.names().into_iter().find(is_it).unwrap();
        let mut wrong = storage.bytes(&name).unwrap();
        wrong[200] ^= 1;
        storage.put(&name, wrong);
        drop(store);
        let (store, _) = open(&storage);
        assert!(store.read_all(&Digest::of(&bytes), u64::MAX).is_err());
        assert!(put(&store, &bytes).unwrap().new);
        assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
        assert_eq!(store.stats().damaged, 0);
        drop(store);
        let (store, _) = open(&storage);
        assert_eq!(read(&store, &bytes).as_ref(), Some(&bytes));
        assert_eq!(store.stats().blobs, 1);
        store.collect(&|_| true).unwrap();
        assert_eq!(verify(&store).damage, [], "the damaged copy is collected");
    }
}

#[test]
fn a_last_pack_that_is_gone_is_missed() {
    let storage = MemoryStorage::default();
    let (store, _) = open(&storage);
    put(&store, &blob(1, 100)).unwrap();
    drop(store);
    let others: Vec<_> = storage
        .names()
        .into_iter()
        .filter(|name| !name.starts_with("packs/"))
        .collect();
    let without = MemoryStorage::default();
    for name in &others {
        without.put(name, storage.bytes(name).unwrap());
    }
    assert_eq!(
        verify_only(&without)
            .damage
            .iter()
            .map(|one| one.kind)
            .collect::<Vec<_>>(),
        [DamageKind::Missing]
    );
    let (_store, report) = ContentStore::open_on(Arc::new(without), small_packs()).unwrap();
    assert_eq!(report.damage[0].kind, DamageKind::Missing);
}
