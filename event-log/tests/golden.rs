//! Format version 1, byte for byte: a log made from fixed inputs, kept in `tests/golden/format-1`.
//!
//! These bytes must never change. Run with `STEMMA_GOLDEN=write` to make the files of a new
//! version.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use std::ops::ControlFlow;

use stemma_event_log::{
    Batch, Check, EventDigest, FileStorage, Log, MemoryStorage, Metadata, Position, ReadLimit,
    Storage, verify,
};
use support::*;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

fn batches() -> Vec<Batch> {
    let uuid = "resource-019a0b1c-2d3e-7f40-8a5b-6c7d8e9f0a1b";
    let full = Metadata {
        actor: "ada".into(),
        trace_id: "0123456789abcdef0123456789abcdef".into(),
        causation: Some(EventDigest::from_bytes([0x55; 32])),
        correlation: Some("import-1".into()),
    };
    let mut first = keyed(batch(uuid, &["{\"name\":\"Vega\"}", "{}"]), 1, 2);
    first.metadata = full;
    first.proposed_at_us = 1_763_900_000_000_000;
    first.order = Some(7);
    let mut plain = batch("settings", &[""]);
    plain.metadata.trace_id = "not hexadecimal".into();
    let large = "Lyra ".repeat(800);
    vec![
        first,
        plain,
        batch(uuid, &[&large]),
        batch(uuid, &[&large, "é"]),
        batch("a-b", &["end"]),
    ]
}

fn truth(name: &str) -> bool {
    name == "head" || name.ends_with(".segment")
}

#[test]
fn the_same_inputs_still_give_the_same_bytes() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    for one in batches() {
        append(&log.appender, one).unwrap();
    }
    log.appender.close().unwrap();
    let files: Vec<_> = storage
        .list()
        .unwrap()
        .into_iter()
        .filter(|file| truth(&file.name))
        .collect();
    assert!(files.len() >= 3);
    if std::env::var_os("STEMMA_GOLDEN").is_some_and(|value| value == "write") {
        fs::create_dir_all(golden()).unwrap();
        for file in &files {
            fs::write(
                golden().join(&file.name),
                storage.bytes_of(&file.name).unwrap(),
            )
            .unwrap();
        }
    }
    let mut kept: Vec<String> = fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(
        kept,
        files
            .iter()
            .map(|file| file.name.clone())
            .collect::<Vec<_>>()
    );
    for name in kept {
        let written = storage.bytes_of(&name).unwrap();
        assert!(
            written == fs::read(golden().join(&name)).unwrap(),
            "{name} differs"
        );
    }
}

#[test]
fn a_log_of_format_1_is_read_verified_and_written_on() {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::new(dir.path()));
    let report = verify(
        &storage,
        &options(),
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(
        (report.damages, report.records, report.clean),
        (vec![], 7, true)
    );
    let log = Log::open(storage, options()).unwrap();
    assert!(log.report.clean);
    let limit = ReadLimit {
        records: 100,
        bytes: usize::MAX,
    };
    let records = log
        .reader
        .read_checked(Position::new(0), limit, Check::Digest)
        .unwrap();
    let wanted = batches();
    let events: Vec<_> = wanted.iter().flat_map(|batch| &batch.events).collect();
    assert_eq!(records.len(), events.len());
    for (record, event) in records.iter().zip(events) {
        assert_eq!(record.stream_id(), &event.stream);
        assert_eq!(record.data(), &event.data[..]);
    }
    assert_eq!(records[0].correlation(), Some("import-1"));
    assert_eq!(records[1].order(), Some(7));
    assert_eq!(records[2].trace_id(), "not hexadecimal");
    assert_eq!(
        append(&log.appender, keyed(wanted[0].clone(), 1, 2))
            .unwrap()
            .first
            .get(),
        0
    );
    assert_eq!(
        append(&log.appender, batch("a-b", &["more"]))
            .unwrap()
            .first
            .get(),
        7
    );
}
