//! How far a log reaches: whole groups and seals, and nothing that may yet change.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use stemma_event_log::{
    Access, Extent, Extents, MemoryStorage, OpenError, Position, Storage, extents,
};
use support::*;

fn bytes(storage: &MemoryStorage, extent: &Extent) -> Vec<u8> {
    let file = storage.open(&extent.file, Access::Read).unwrap();
    let mut bytes = vec![0; extent.bytes as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn taken(storage: &MemoryStorage, found: &Extents) -> Vec<Vec<u8>> {
    let segments = found.segments.iter();
    segments.map(|extent| bytes(storage, extent)).collect()
}

#[test]
fn what_an_extent_holds_never_changes_and_the_next_one_goes_on_from_it() {
    let storage = MemoryStorage::new();
    assert!(matches!(extents(&storage), Err(OpenError::Missing)));
    let log = open(&storage);
    // A segment without a record may yet be replaced by a larger one.
    assert_eq!(extents(&storage).unwrap().segments, []);
    let mut before: Vec<(Extents, Vec<Vec<u8>>)> = Vec::new();
    for _ in 0..40 {
        fill(&log.appender, 7);
        let found = extents(&storage).unwrap();
        assert_eq!(found.end, log.reader.end());
        assert_eq!(found.log_id, log.reader.log_id());
        let last = found.segments.len() - 1;
        for (index, extent) in found.segments.iter().enumerate() {
            assert!(
                index == last || extent.planned_bytes.is_none(),
                "{extent:?}"
            );
            assert!(
                extent
                    .planned_bytes
                    .is_none_or(|planned| planned >= extent.bytes)
            );
        }
        let held = taken(&storage, &found);
        before.push((found, held));
    }
    assert!(before.last().unwrap().0.segments.len() > 3);
    log.appender.close().unwrap();
    for (found, held) in &before {
        assert!(taken(&storage, found) == *held, "up to {}", found.end);
    }
    let (last, _) = before.last().unwrap();
    assert_eq!(extents(&storage).unwrap(), *last);
}

#[test]
fn zeros_behind_a_seal_and_bytes_of_a_torn_group_are_left_out() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log.appender, 200);
    log.appender.close().unwrap();
    let whole = extents(&storage).unwrap();
    let sealed = storage
        .open(&whole.segments[0].file, Access::Write)
        .unwrap();
    // As a crash leaves it that comes before a full segment is cut to its size.
    sealed.truncate(whole.segments[0].bytes + 512).unwrap();
    storage.remove("head").unwrap();
    let last = whole.segments.last().unwrap();
    let file = storage.open(&last.file, Access::Write).unwrap();
    file.write_at(b"SGRP and no more", last.bytes).unwrap();
    assert_eq!(extents(&storage).unwrap(), whole);
}

#[test]
fn what_is_damaged_has_no_extents() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log.appender, 200);
    log.appender.close().unwrap();
    let whole = extents(&storage).unwrap();
    assert_eq!(whole.end, Position::new(200));
    let last = whole.segments.last().unwrap();
    let file = storage.open(&last.file, Access::Write).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, last.bytes - 40).unwrap(), 1);
    file.write_at(&[byte[0] ^ 1], last.bytes - 40).unwrap();
    let damaged = extents(&storage);
    assert!(
        matches!(damaged, Err(OpenError::Damaged { .. })),
        "{damaged:?}"
    );
}
