//! A log in memory with views on disk, and what the tests write to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stemma_domain::event::{
    Encoded, EntityTypeChange, Event, Metadata as Properties, ResourceCreated,
};
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::value::{EntityType, MediaType, ResourceName};
use stemma_event_log::{
    Appender, Batch, EventType, Log, MemoryStorage, Metadata, NewEvent, Reader, StreamId,
};
use stemma_projections::{Projection, RebuildControl, RebuildProgress, Settings, WaitError};
use stemma_views::{Engine, Model, Options, Views};
use uuid::Uuid;

/// Longest wait of a test for another thread.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A log, a directory, and a runtime to wait in.
pub(crate) struct Written {
    log: Log,
    dir: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Written {
    pub(crate) fn new() -> Self {
        let options = stemma_event_log::Options {
            segment_bytes_first: 64 << 10,
            ..stemma_event_log::Options::default()
        };
        Self {
            log: Log::open(Arc::new(MemoryStorage::new()), options).unwrap(),
            dir: tempfile::tempdir().unwrap(),
            runtime: runtime(),
        }
    }

    /// The same views, with another log.
    pub(crate) fn with_new_log(self) -> Self {
        Self {
            dir: self.dir,
            ..Self::new()
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        self.log.reader.clone()
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer {
            appender: self.log.appender.clone(),
            runtime: runtime(),
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().join("views")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn settings(&self, engine: Engine) -> Settings {
        Settings {
            reader: self.reader(),
            dir: self.dir(),
            views: options(engine),
        }
    }

    pub(crate) fn start(&self, engine: Engine) -> Projection {
        Projection::start(self.settings(engine)).unwrap()
    }

    pub(crate) fn wait(&self, projection: &Projection, end: u64) -> Result<u64, WaitError> {
        self.runtime.block_on(projection.wait_for(end, PATIENCE))
    }

    /// The generations on disk.
    pub(crate) fn generations(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.dir()).unwrap();
        let names = listed.map(|found| found.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("gen-")).collect();
        names.sort();
        names
    }

    /// The log folded afresh, elsewhere.
    pub(crate) fn folded(&self, engine: Engine) -> Views {
        let dir = self.beside("folded");
        let views = Views::open(&dir, &options(engine)).unwrap().model;
        views.discard_when_unused();
        let limit = stemma_event_log::ReadLimit {
            records: 1_000_000,
            bytes: 1 << 30,
        };
        let from = stemma_event_log::Position::new(0);
        views
            .apply(&self.log.reader.read(from, limit).unwrap())
            .unwrap();
        views
    }
}

/// Writes to the log, from any thread.
pub(crate) struct Writer {
    appender: Appender,
    runtime: tokio::runtime::Runtime,
}

impl Writer {
    pub(crate) fn create(&self, number: u64) {
        let events = vec![created(number).encode(), tagged(number).encode()];
        self.append(&id(number).stream_name(), events);
    }

    pub(crate) fn append(&self, stream: &str, events: Vec<Encoded>) {
        self.append_as("", stream, events);
    }

    pub(crate) fn append_as(&self, actor: &str, stream: &str, events: Vec<Encoded>) {
        let stream = StreamId::new(stream).unwrap();
        let new = |event: Encoded| NewEvent {
            stream: stream.clone(),
            event_type: EventType::new(event.event_type).unwrap(),
            schema_version: event.schema_version,
            data: event.data.into(),
        };
        let batch = Batch {
            events: events.into_iter().map(new).collect(),
            expected: vec![],
            idempotency: None,
            metadata: Metadata {
                actor: actor.to_owned(),
                ..Metadata::default()
            },
            proposed_at_us: 1_700_000_000_000_000,
            order: None,
        };
        self.runtime.block_on(self.appender.append(batch)).unwrap();
    }

    pub(crate) fn wait<M: Model>(
        &self,
        projection: &Projection<M>,
        end: u64,
    ) -> Result<u64, WaitError> {
        self.runtime.block_on(projection.wait_for(end, PATIENCE))
    }

    /// Writes an event that no version of the views knows.
    pub(crate) fn append_unknown(&self) {
        let (event_type, data) = ("resource.exploded", b"{}".to_vec());
        let unknown = Encoded {
            event_type,
            schema_version: 1,
            data,
        };
        self.append(&id(1).stream_name(), vec![unknown]);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

pub(crate) fn options(engine: Engine) -> Options {
    Options {
        engine,
        cache_bytes: 8 << 20,
        ..Options::default()
    }
}

pub(crate) fn id(number: u64) -> ResourceId {
    ResourceId::new(Uuid::from_u128(number.into()))
}

fn created(number: u64) -> Event {
    Event::ResourceCreated(ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: 1,
        collection: None,
        derived_from: None,
        digest: ContentDigest::from_bytes([1; 32]),
        entity_types: vec![],
        id: id(number),
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: Properties::new(),
        name: ResourceName::new(&format!("resource {number}")).unwrap(),
    })
}

fn tagged(number: u64) -> Event {
    let entity_type = EntityType::new(["Person", "Place"][usize::from(number.is_multiple_of(2))]);
    Event::EntityTypeAdded(EntityTypeChange {
        entity_type: entity_type.unwrap(),
    })
}

/// A rebuild that nobody watches.
pub(crate) fn unwatched() -> RebuildControl {
    watched(|_| {})
}

pub(crate) fn watched(progress: impl Fn(RebuildProgress) + Send + 'static) -> RebuildControl {
    RebuildControl {
        progress: Box::new(progress),
        cancel: Arc::new(AtomicBool::new(false)),
    }
}

/// Waits for what another thread is about to do.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain for: {what}");
        std::thread::yield_now();
    }
}

/// Changes rows of a generation behind Stemma's back.
pub(crate) fn damage(generation: &Path, change: impl FnOnce(&sled::Db)) {
    // sled gives its lock back on a thread of its own, some time after the last handle is gone.
    let end = Instant::now() + PATIENCE;
    let store = loop {
        match sled::open(generation.join("sled")) {
            Ok(store) => break store,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    };
    change(&store);
    store.flush().unwrap();
}

/// Takes from resource 7 the type that it was given.
pub(crate) fn untagged() -> Encoded {
    let Event::EntityTypeAdded(change) = tagged(7) else {
        unreachable!("made just so")
    };
    Event::EntityTypeRemoved(change).encode()
}
