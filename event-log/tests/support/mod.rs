//! Small logs for tests: fixed identity, tiny segments, batches made in one line.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use stemma_event_log::{
    Access, AppendError, Appender, Batch, Committed, EventType, ExpectedRevision, Fate,
    Idempotency, LockOutcome, Log, LogId, MemoryStorage, Metadata, NewEvent, Operation, Options,
    Position, ReadLimit, Reader, Record, Revision, Storage, StorageFile, StoredFile, StreamId,
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

type Opened = io::Result<Arc<dyn StorageFile>>;

/// Told of each file that is opened; gives what is to be had in its place.
type OnOpen = dyn Fn(&str, Arc<dyn StorageFile>) -> Opened + Send + Sync;

/// A storage in memory of which a test sees each file that is opened, and each name before it is
/// removed.
pub(crate) struct Watched {
    of: MemoryStorage,
    on_open: Box<OnOpen>,
    on_remove: Box<dyn Fn(&str) + Send + Sync>,
}

impl Watched {
    /// One that gives what `on_open` makes of each file that is there.
    pub(crate) fn opening(
        of: &MemoryStorage,
        on_open: impl Fn(&str, Arc<dyn StorageFile>) -> Opened + Send + Sync + 'static,
    ) -> Arc<dyn Storage> {
        Arc::new(Self {
            of: of.clone(),
            on_open: Box::new(on_open),
            on_remove: Box::new(|_| ()),
        })
    }

    /// One that does what `on_remove` says before each removal.
    pub(crate) fn removing(
        of: &MemoryStorage,
        on_remove: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<dyn Storage> {
        Arc::new(Self {
            of: of.clone(),
            on_open: Box::new(|_, file| Ok(file)),
            on_remove: Box::new(on_remove),
        })
    }
}

impl Storage for Watched {
    fn create_dirs(&self) -> io::Result<()> {
        self.of.create_dirs()
    }

    fn create(&self, name: &str) -> Opened {
        self.of.create(name)
    }

    fn open(&self, name: &str, access: Access) -> Opened {
        (self.on_open)(name, self.of.open(name, access)?)
    }

    fn list(&self) -> io::Result<Vec<StoredFile>> {
        self.of.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.of.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (self.on_remove)(name);
        self.of.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.of.sync_dir()
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<LockOutcome> {
        self.of.lock(name, holder)
    }
}
