//! Small logs for tests: fixed identity, tiny segments, batches made in one line.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use stemma_event_log::{
    AppendError, Appender, Batch, Committed, EventType, ExpectedRevision, Fate, Idempotency, Log,
    LogId, MemoryStorage, Metadata, NewEvent, Operation, Options, Position, ReadLimit, Reader,
    Record, Revision, Storage, StreamId,
};

/// Tiny segments, so that a few records fill several.
pub(crate) fn options() -> Options {
    Options {
        log_id: Some(LogId::from_bytes(*b"stemma test log!")),
        segment_bytes_first: 8 * 1024,
        segment_bytes_max: 16 * 1024,
        merge_runs_min: 3,
        ..Options::default()
    }
}

pub(crate) fn calm(_: Operation<'_>) -> Fate {
    Fate::Proceed
}

pub(crate) fn open(storage: &MemoryStorage) -> Log {
    Log::open(shared(storage), options()).unwrap()
}

pub(crate) fn shared(storage: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(storage.clone())
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

pub(crate) fn event(name: &str, data: &str) -> NewEvent {
    NewEvent {
        stream: stream(name),
        event_type: EventType::new("test.happened").unwrap(),
        schema_version: 1,
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

/// A batch of one stream.
pub(crate) fn batch(name: &str, data: &[&str]) -> Batch {
    Batch {
        events: data.iter().map(|data| event(name, data)).collect(),
        expected: Vec::new(),
        idempotency: None,
        metadata: Metadata {
            actor: "ada".into(),
            ..Metadata::default()
        },
        proposed_at_us: 1_000,
        order: None,
    }
}

pub(crate) fn expecting(mut batch: Batch, name: &str, expected: ExpectedRevision) -> Batch {
    batch.expected.push((stream(name), expected));
    batch
}

pub(crate) fn keyed(mut batch: Batch, key: u8, request: u8) -> Batch {
    batch.idempotency = Some(Idempotency {
        key: [key; 32],
        request: [request; 32],
    });
    batch
}

pub(crate) fn exact(revision: u64) -> ExpectedRevision {
    ExpectedRevision::Exact(Revision::new(revision))
}

pub(crate) fn append(appender: &Appender, batch: Batch) -> Result<Committed, AppendError> {
    block_on(appender.append(batch))
}

/// Appends `count` single events over seven streams, each its own group.
pub(crate) fn fill(appender: &Appender, count: u64) {
    for n in 0..count {
        let data = format!("event {n} {}", "x".repeat(200));
        append(appender, batch(&format!("thing-{}", n % 7), &[&data])).unwrap();
    }
}

pub(crate) fn all(reader: &Reader) -> Vec<Record> {
    let limit = ReadLimit {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    reader.read(Position::new(0), limit).unwrap()
}

/// The last segment's name and bytes.
pub(crate) fn last_segment(storage: &MemoryStorage) -> (String, Vec<u8>) {
    let files = storage.list().unwrap().into_iter();
    let name = files
        .map(|file| file.name)
        .filter(|name| name.starts_with("000") && name.contains(".segment"))
        .max()
        .unwrap();
    let bytes = storage.bytes_of(&name).unwrap();
    (name, bytes)
}

/// Where the last group of a segment starts and where its bytes end.
pub(crate) fn last_group(segment: &[u8]) -> std::ops::Range<usize> {
    let start = (0..segment.len() - 4)
        .rev()
        .find(|at| &segment[*at..at + 4] == b"SGRP")
        .unwrap();
    let length = u32::from_le_bytes(segment[start + 4..start + 8].try_into().unwrap());
    start..start + length as usize
}

/// The bytes with one of them flipped, and which: each in turn, in long runs of zeros some.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let is_inside_zeros =
        |at: &usize| bytes[*at] == 0 && !at.is_multiple_of(61) && bytes[at.saturating_sub(1)] == 0;
    let places = (0..bytes.len()).filter(move |at| !is_inside_zeros(at));
    places.map(|at| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 0x20;
        (at, flipped)
    })
}
