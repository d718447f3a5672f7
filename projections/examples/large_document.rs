//! Brings a large document into a search index as its stages come: `large_document <directory>
//! [chunks] [seconds]`. Each of the two last stages takes so long. Prints commits, processor time
//! and memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stemma_content_store::ContentStore;
use stemma_domain::document::{Chunk, Chunking, Stage, Steps, VectorsHeader, chunk_line};
use stemma_domain::event::{
    DocumentStageCompleted, DocumentUploaded, Event, ResourceCreated, StageOutput,
};
use stemma_domain::id::{ContentDigest, JobId, ResourceId};
use stemma_domain::value::{FileName, MediaType, ResourceName};
use stemma_event_log::{Batch, EventType, FileStorage, Log, Metadata, NewEvent, StreamId};
use stemma_projections::{SearchProjection, SearchSettings};
use stemma_search::Query;
use uuid::Uuid;

/// Words of a chunk, some 880 bytes.
const CHUNK_WORDS: usize = 150;
const DIMENSION: u32 = 256;
const PATIENCE: Duration = Duration::from_mins(10);

fn id() -> ResourceId {
    ResourceId::new(Uuid::from_u128(1))
}

fn put(content: &ContentStore, bytes: &[u8]) -> StageOutput {
    let mut ingest = content.begin().unwrap();
    ingest.write(bytes).unwrap();
    let stored = ingest.finish().unwrap();
    StageOutput {
        byte_size: stored.len,
        digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
    }
}

fn append(log: &Log, events: Vec<(String, Event)>) {
    let new = |(stream, event): (String, Event)| {
        let event = event.encode();
        NewEvent {
            stream: StreamId::new(&stream).unwrap(),
            event_type: EventType::new(event.event_type).unwrap(),
            schema_version: event.schema_version,
            data: event.data.into(),
        }
    };
    let batch = Batch {
        events: events.into_iter().map(new).collect(),
        expected: vec![],
        idempotency: None,
        metadata: Metadata::default(),
        proposed_at_us: 1_700_000_000_000_000,
        order: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    runtime.block_on(log.appender.append(batch)).unwrap();
}

fn complete(log: &Log, stage: Stage, name: &str, output: StageOutput) {
    let completed = DocumentStageCompleted {
        document_id: id(),
        figures: serde_json::Map::new(),
        input: ContentDigest::from_bytes([1; 32]),
        job_id: JobId::new(Uuid::from_u128(1)),
        outputs: BTreeMap::from([(name.to_owned(), output)]),
        stage,
        took_ms: 1,
        version: 1,
        warnings: vec![],
    };
    let stream = stemma_domain::document::stream_name(id());
    append(
        log,
        vec![(stream, Event::DocumentStageCompleted(completed))],
    );
}

fn upload(log: &Log, stored: &StageOutput) {
    let created = ResourceCreated {
        byte_size: stored.byte_size,
        collection: None,
        derived_from: None,
        digest: stored.digest,
        entity_types: vec![],
        id: id(),
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: serde_json::Map::new(),
        name: ResourceName::new("large").unwrap(),
    };
    let uploaded = DocumentUploaded {
        byte_size: stored.byte_size,
        chunking: Chunking::default(),
        collection: None,
        declared_media_type: None,
        digest: stored.digest,
        file_name: FileName::new("large.txt").unwrap(),
        id: id(),
        steps: Steps::Auto,
    };
    append(
        log,
        vec![
            (id().stream_name(), Event::ResourceCreated(created)),
            (
                stemma_domain::document::stream_name(id()),
                Event::DocumentUploaded(uploaded),
            ),
        ],
    );
}

/// A number that looks random (splitmix64).
fn number(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A text, its chunks and their vectors, as the stages put them out.
fn outputs(content: &ContentStore, count: u32) -> [StageOutput; 3] {
    let (mut text, mut lines, mut state) = (String::new(), Vec::new(), 1);
    let header = VectorsHeader {
        model: "measured".to_owned(),
        dimension: DIMENSION,
        count,
    };
    let mut vectors = header.encode();
    for index in 0..count {
        let start = text.len();
        for _ in 0..CHUNK_WORDS {
            // Frequent words are shorter.
            let rank = number(&mut state) >> (40 + number(&mut state) % 22);
            write!(text, "w{rank:x} ").unwrap();
        }
        let (start, end) = (start as u64, text.len() as u64);
        lines.extend(chunk_line(&Chunk {
            id: format!("{index:064x}"),
            index,
            start,
            end,
            byte_start: start,
            byte_end: end,
            headings: vec![],
            page: None,
        }));
        for _ in 0..DIMENSION {
            let value = (number(&mut state) >> 48) as u16;
            vectors.extend((f32::from(value) / 65536.0 - 0.5).to_le_bytes());
        }
    }
    [
        put(content, text.as_bytes()),
        put(content, &lines),
        put(content, &vectors),
    ]
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// Processor time so far, in hundredths of a second.
fn processor() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.split_whitespace().collect();
    fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap();
    let dir = Path::new(&dir);
    let mut number = |default| arguments.next().map_or(default, |n| n.parse().unwrap());
    let (count, pause) = (number(29_703), Duration::from_secs(u64::from(number(10))));
    let storage = Arc::new(FileStorage::new(dir.join("log")));
    let log = Log::open(storage, stemma_event_log::Options::default()).unwrap();
    let options = stemma_content_store::Options::default();
    let (content, _) = ContentStore::open(&dir.join("content"), options).unwrap();
    let [text, chunks, vectors] = outputs(&content, count);
    println!("{} MB of text", text.byte_size / 1_000_000);
    // What the outputs took is not the index's.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let projection = SearchProjection::start(SearchSettings {
        reader: log.reader.clone(),
        content,
        dir: dir.join("search"),
        options: stemma_search::Options::default(),
    });
    let projection = projection.unwrap();
    println!("resident before: {} MiB", status("VmRSS"));
    let (begun, processor_before) = (Instant::now(), processor());
    let told = |what: &str| {
        let metrics = projection.metrics();
        println!(
            "{:5.1} s {what}: {} commits, processor {} s/100, at most {} MiB, now {} ({} anonymous)",
            begun.elapsed().as_secs_f32(),
            metrics.batches,
            processor() - processor_before,
            status("VmHWM"),
            status("VmRSS"),
            status("RssAnon"),
        );
    };
    upload(&log, &text);
    std::thread::sleep(Duration::from_secs(1));
    complete(&log, Stage::Parse, "text", text);
    std::thread::sleep(Duration::from_secs(1));
    complete(&log, Stage::Chunk, "chunks", chunks);
    std::thread::sleep(pause);
    told("embedded");
    complete(&log, Stage::Embed, "vectors", vectors);
    std::thread::sleep(pause);
    told("detected");
    let end = log.reader.end().get();
    let no = AtomicBool::new(false);
    projection.wait_for_blocking(end, PATIENCE, &no).unwrap();
    told("searchable");
    let hits = projection.search(&Query::words("w1")).unwrap().unwrap();
    assert!(!hits.hits.is_empty());
    projection.stop();
    told("stopped");
}
