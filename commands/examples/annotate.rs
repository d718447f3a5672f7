//! Annotates a resource a hundred times a request, as measure P1c does: `annotate [requests]`.
//!
//! A small, repeatable load for counting what an event costs, without a server around it:
//! `valgrind --tool=callgrind --toggle-collect='*one_request*'` tells instructions by function of
//! the one who asks, `--separate-threads=yes` those of the log's writer. The log stands in memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;
use stemma_commands::{
    Change, Clock, Commands, Dependencies, Ids, Operation, Options, Precondition, Request, Target,
    Written,
};
use stemma_content_store::{ContentStore, MemoryStorage as ContentMemory};
use stemma_domain::annotation::{Context, validate};
use stemma_domain::event::{Metadata, ResourceCreated};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::Command;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{MediaType, ResourceName};
use stemma_event_log::{Log, MemoryStorage};
use uuid::Uuid;

/// The resource that is annotated.
const ID: ResourceId = ResourceId::new(Uuid::from_u128(7));
/// Annotations of one request.
const BATCH: u64 = 100;

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1)
    }
}

impl Ids for Ticks {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

fn main() {
    let requests = std::env::args().nth(1);
    let requests: u64 = requests.map_or(100, |text| text.parse().unwrap());
    let log = Log::open(
        Arc::new(MemoryStorage::new()),
        stemma_event_log::Options::default(),
    )
    .unwrap();
    let content = ContentStore::open_on(
        Arc::new(ContentMemory::default()),
        stemma_content_store::Options::default(),
    );
    let ticks = Arc::new(Ticks(AtomicU64::new(1)));
    let on = Dependencies {
        appender: log.appender,
        reader: log.reader,
        content: content.unwrap().0,
        clock: ticks.clone(),
        ids: ticks,
    };
    let commands = Commands::new(on, Options::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    runtime.block_on(create(&commands));
    let started = Instant::now();
    for number in 0..requests {
        let bodies: Vec<String> = (0..BATCH).map(|n| body(number * BATCH + n)).collect();
        runtime.block_on(one_request(&commands, &bodies));
    }
    println!(
        "{} annotations in {:?}",
        requests * BATCH,
        started.elapsed()
    );
}

/// Carries one request out.
#[inline(never)]
async fn one_request(commands: &Commands, bodies: &[String]) -> Written {
    let cx = Context {
        resource: ID.uuid(),
    };
    let command = |body: &String| {
        let annotation: Value = serde_json::from_str(body).unwrap();
        Command::AddAnnotation {
            annotation_id: AnnotationId::new(commands.new_id()),
            annotation: validate(annotation, &cx).unwrap(),
        }
    };
    let operations = bodies.iter().map(|body| operation(command(body)));
    let request = request(operations.collect());
    commands.execute(request).await.unwrap()
}

async fn create(commands: &Commands) {
    let text = "Jupiter has four large moons.";
    let stored = commands.content().put(text.into()).await.unwrap();
    let created = ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: stored.len,
        collection: None,
        derived_from: None,
        digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
        entity_types: Vec::new(),
        id: ID,
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: Metadata::new(),
        name: ResourceName::new("bench").unwrap(),
    };
    let request = request(vec![operation(Command::Create(created))]);
    commands.execute(request).await.unwrap();
}

fn operation(command: Command) -> Operation {
    Operation {
        target: Target::Resource(ID),
        change: Change::Resource(Box::new(command)),
        precondition: Precondition::None,
        expected_revision: None,
        is_id_new: true,
    }
}

fn request(operations: Vec<Operation>) -> Request {
    Request {
        sight: stemma_domain::access::Sight::Everything,
        operations,
        actor: "system".into(),
        trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
        idempotency: None,
        bases: [].into(),
        pins: Vec::new(),
    }
}

fn body(number: u64) -> String {
    let value = (0..24).fold(String::new(), |value, n| {
        value + &format!("{:016x}", number * 31 + n)
    });
    format!(
        r#"{{"motivation":"commenting","body":{{"type":"TextualBody","value":"{value}"}},"target":"http://example.org/page"}}"#
    )
}
