//! Folds a log of annotations: `fold <directory> [views|graph] [annotations] [a batch]`.
//!
//! A small, repeatable load for counting what an event costs, without a server around it:
//! `valgrind --tool=callgrind --toggle-collect='*fold_all*'` tells instructions by function. The
//! log stands in memory; a hundred annotations are one batch of it, as in measure P1c.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]
#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use stemma_domain::event::{AnnotationAdded, Event, Metadata, ResourceCreated};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::value::{MediaType, ResourceName};
use stemma_event_log::{
    Batch, EventType, Log, MemoryStorage, NewEvent, Position, ReadLimit, Reader, StreamId,
};
use stemma_views::graph::Graph;
use stemma_views::{Engine, Model, Options, Views};
use uuid::Uuid;

/// Resources that are annotated, in turns.
const RESOURCES: u128 = 256;
/// Annotations of one batch of the log.
const BATCH: u128 = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = Path::new(arguments.get(1).expect("a directory"));
    let model = arguments.get(2).map_or("views", String::as_str);
    let number = |index: usize, default: usize| {
        let given = arguments.get(index);
        given.map_or(default, |text| text.parse().unwrap())
    };
    let (count, batch) = (number(3, 20_000), number(4, 4096));
    let reader = filled(count);
    let options = Options {
        engine: Engine::LsmTree,
        ..Options::default()
    };
    let started = Instant::now();
    let digest = match model {
        "graph" => fold_all(
            &Graph::open(directory, &options).unwrap().model,
            &reader,
            batch,
        ),
        _ => fold_all(
            &Views::open(directory, &options).unwrap().model,
            &reader,
            batch,
        ),
    };
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{model}: {rate:.0} events/s, state {digest}");
}

/// Folds all there is.
#[inline(never)]
fn fold_all<M: Model>(model: &M, reader: &Reader, batch: usize) -> String {
    let limit = ReadLimit {
        records: batch,
        bytes: 32 << 20,
    };
    loop {
        let records = reader.read(Position::new(model.end()), limit).unwrap();
        if records.is_empty() {
            return model.state_digest().unwrap().to_string();
        }
        model.apply(&records).unwrap();
    }
}

/// A log of resources and their annotations.
fn filled(count: usize) -> Reader {
    let storage = Arc::new(MemoryStorage::new());
    let log = Log::open(storage, stemma_event_log::Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let append = |events: Vec<NewEvent>| {
        let batch = Batch {
            events,
            expected: Vec::new(),
            idempotency: None,
            metadata: stemma_event_log::Metadata::default(),
            proposed_at_us: 1,
            order: None,
        };
        runtime.block_on(log.appender.append(batch)).unwrap();
    };
    append((0..RESOURCES).map(created).collect());
    let mut next = 0;
    while next < count as u128 {
        let resource = next / BATCH % RESOURCES;
        append((next..next + BATCH).map(|n| added(resource, n)).collect());
        next += BATCH;
    }
    log.reader.clone()
}

fn created(resource: u128) -> NewEvent {
    let id = ResourceId::new(Uuid::from_u128(resource));
    let created = ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: 28,
        collection: None,
        derived_from: None,
        digest: ContentDigest::from_bytes([7; 32]),
        entity_types: Vec::new(),
        id,
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: Metadata::new(),
        name: ResourceName::new("bench").unwrap(),
    };
    new_event(id, &Event::ResourceCreated(created))
}

fn added(resource: u128, number: u128) -> NewEvent {
    let value = (0..24).fold(String::new(), |value, n| {
        value + &format!("{:016x}", number * 31 + n)
    });
    let annotation = serde_json::json!({
        "@context": "http://www.w3.org/ns/anno.jsonld",
        "body": { "type": "TextualBody", "value": value },
        "motivation": "commenting",
        "target": "http://example.org/page",
        "type": "Annotation",
    });
    let added = AnnotationAdded {
        annotation: annotation.into(),
        annotation_id: AnnotationId::new(Uuid::from_u128(number << 32)),
        references: Vec::new(),
    };
    new_event(
        ResourceId::new(Uuid::from_u128(resource)),
        &Event::AnnotationAdded(added),
    )
}

fn new_event(id: ResourceId, event: &Event) -> NewEvent {
    let encoded = event.encode();
    NewEvent {
        stream: StreamId::new(id.stream_name()).unwrap(),
        event_type: EventType::new(encoded.event_type).unwrap(),
        schema_version: encoded.schema_version,
        data: encoded.data.into(),
    }
}
