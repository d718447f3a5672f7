//! Proofs from a real log, at every size, and from files that were changed.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "tests stop at what should not be"
)]

mod support;

use stemma_event_log::{
    Access, Loss, MemoryStorage, Position, ProofError, ProofTree, ReadError, Reader, RootHash,
    Storage, is_consistent, is_included,
};
use support::*;

const EVENTS: u64 = 700;

/// A log of more events than a tile has hashes, with its root after each.
fn written(storage: &MemoryStorage) -> (Reader, Vec<RootHash>) {
    let log = open(storage);
    let mut roots = vec![log.reader.root().1];
    for n in 0..EVENTS {
        append(&log.appender, batch(&format!("thing-{}", n % 7), &["x"])).unwrap();
        roots.push(log.reader.root().1);
    }
    (log.reader, roots)
}

/// Holds sizes here and there, their neighbours at the borders of tiles included.
fn hold(tree: &ProofTree, reader: &Reader, roots: &[RootHash]) {
    let records = all(reader);
    let sizes = [1, 2, 3, 100, 255, 256, 257, 511, 512, 513, EVENTS];
    for to in sizes {
        let root = &roots[usize::try_from(to).unwrap()];
        assert_eq!(tree.root_at(to).unwrap(), *root);
        for position in [0, to / 2, to - 1] {
            let shown = tree.inclusion(position, to).unwrap();
            let digest = records[usize::try_from(position).unwrap()].digest();
            assert_eq!((shown.digest, shown.root), (digest, *root));
            assert!(is_included(&digest, position, to, &shown.path, root));
        }
        for from in sizes.into_iter().filter(|from| *from <= to) {
            let path = tree.consistency(from, to).unwrap();
            let before = &roots[usize::try_from(from).unwrap()];
            assert!(is_consistent((from, before), (to, root), &path));
        }
    }
}

#[test]
fn proofs_lead_to_the_roots_that_the_log_had() {
    let storage = MemoryStorage::new();
    let (reader, roots) = written(&storage);
    let tree = ProofTree::new(reader.clone(), shared(&storage));
    while !tree.advance().unwrap() {}
    hold(&tree, &reader, &roots);
    // And from the files of another time.
    hold(
        &ProofTree::new(reader.clone(), shared(&storage)),
        &reader,
        &roots,
    );
    let tile = tree.tile(0, 1, 256).unwrap();
    assert_eq!(tile.len(), 256 * 32);
    assert_eq!(tree.tile(1, 0, 2).unwrap().len(), 2 * 32);
    let first = tree.inclusion(256, EVENTS).unwrap();
    assert_eq!(tile[..32], first.leaf_hash);
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let storage = MemoryStorage::new();
    let (reader, _) = written(&storage);
    let tree = ProofTree::new(reader, shared(&storage));
    let refused = [
        tree.inclusion(EVENTS, EVENTS).err(),
        tree.inclusion(0, EVENTS + 1).err(),
        tree.inclusion(0, 0).err(),
        tree.consistency(0, 1).err(),
        tree.consistency(2, 1).err(),
        tree.consistency(1, EVENTS + 1).err(),
        tree.root_at(EVENTS + 1).err(),
        tree.tile(0, 2, 256).err(),
        tree.tile(0, 0, 0).err(),
        tree.tile(0, 0, 257).err(),
        tree.tile(1, 0, 3).err(),
        tree.tile(9, 0, 1).err(),
        tree.tile(u32::MAX, u64::MAX, 1).err(),
    ];
    for error in refused {
        assert!(
            matches!(error, Some(ProofError::OutOfRange { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn hashes_that_were_changed_or_lost_are_made_anew_and_never_proved_with() {
    let storage = MemoryStorage::new();
    let (reader, roots) = written(&storage);
    let tree = ProofTree::new(reader.clone(), shared(&storage));
    let name = "index/tree-1.hashes";
    while !tree.advance().unwrap() {}
    let hashes = || storage.open(name, Access::Write).unwrap();
    hashes().write_at(&[7; 64], 0).unwrap();
    hold(&tree, &reader, &roots);
    hashes().truncate(40).unwrap();
    hold(&tree, &reader, &roots);
    let crashed = storage.after_crash(Loss::All, calm);
    let log = open(&crashed);
    hold(
        &ProofTree::new(log.reader.clone(), shared(&crashed)),
        &log.reader,
        &roots,
    );
}

#[test]
fn leaves_that_an_earlier_version_kept_in_a_file_are_removed() {
    let storage = MemoryStorage::new();
    let (reader, roots) = written(&storage);
    let leaves = "index/tree-0.hashes";
    storage.put_file(leaves, vec![7; 700 * 32]);
    let tree = ProofTree::new(reader.clone(), shared(&storage));
    hold(&tree, &reader, &roots);
    let kept = storage.open(leaves, Access::Read);
    assert_eq!(kept.err().unwrap().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_leaf_whose_record_was_changed_is_not_proved_with_and_the_record_is_named() {
    let storage = MemoryStorage::new();
    let (reader, _) = written(&storage);
    let changed = reader.read_one(Position::new(3)).unwrap().unwrap();
    drop(reader);
    let log = open(&storage);
    let tree = ProofTree::new(log.reader.clone(), shared(&storage));
    while !tree.advance().unwrap() {}
    let (file, at) = place_of(&storage, changed.digest().as_bytes());
    let file = storage.open(&file, Access::Write).unwrap();
    file.write_at(&[!changed.digest().as_bytes()[0]], at)
        .unwrap();
    for refused in [
        tree.inclusion(2, EVENTS).map(drop),
        tree.consistency(2, EVENTS).map(drop),
        tree.tile(0, 0, 256).map(drop),
    ] {
        let Err(ProofError::Read(ReadError::Damaged { position, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(position.get(), 3);
    }
    // It is no part of other paths.
    assert!(tree.inclusion(600, EVENTS).is_ok());
}

/// Where bytes stand that are there once: in the record they belong to, before any link to it.
fn place_of(storage: &MemoryStorage, wanted: &[u8]) -> (String, u64) {
    for listed in storage.list().unwrap() {
        let file = storage.open(&listed.name, Access::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(listed.bytes).unwrap()];
        let read = file.read_at(&mut bytes, 0).unwrap();
        let found = bytes[..read]
            .windows(wanted.len())
            .position(|window| window == wanted);
        if let Some(at) = found.filter(|_| listed.name.ends_with(".segment")) {
            return (listed.name, at as u64);
        }
    }
    panic!("it is nowhere");
}
