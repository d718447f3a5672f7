//! A log in memory, and the records that events become in it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use stemma_domain::event::{Encoded, Event};
use stemma_event_log::{
    Batch, Committed, EventType, Log, MemoryStorage, Metadata, NewEvent, Options, Position,
    ReadLimit, Record, StreamId,
};

/// Who acts in these tests.
pub(crate) const ACTOR: &str = "tester";

/// The log.
pub(crate) struct Recorded {
    log: Log,
    runtime: tokio::runtime::Runtime,
    now_us: i64,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        let options = Options {
            segment_bytes_first: 64 << 10,
            ..Options::default()
        };
        let log = Log::open(Arc::new(MemoryStorage::new()), options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        Self {
            log,
            runtime,
            now_us: 1_700_000_000_000_000,
        }
    }

    /// Moves the clock on, so that the next batch has a later time.
    pub(crate) fn tick(&mut self) {
        self.now_us += 1;
    }

    pub(crate) fn append(&mut self, stream: &str, events: &[Event]) -> Committed {
        self.append_encoded(stream, events.iter().map(Event::encode).collect())
    }

    pub(crate) fn append_encoded(&mut self, stream: &str, events: Vec<Encoded>) -> Committed {
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
                actor: ACTOR.to_owned(),
                ..Metadata::default()
            },
            proposed_at_us: self.now_us,
            order: None,
        };
        self.runtime
            .block_on(self.log.appender.append(batch))
            .unwrap()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let limit = ReadLimit {
            records: 1_000_000,
            bytes: 1 << 30,
        };
        self.log.reader.read(Position::new(0), limit).unwrap()
    }
}
