//! A log, a content store and a search index on disk, and what the tests write to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stemma_content_store::ContentStore;
use stemma_domain::document::{Chunk, Chunking, Stage, Steps, VectorsHeader, chunk_line};
use stemma_domain::event::{
    DocumentStageCompleted, DocumentUploaded, Event, Metadata as Properties, REQUESTS_STREAM,
    RequestAnswered, ResourceCreated, ResourceRevised, StageOutput,
};
use stemma_domain::id::{ContentDigest, JobId, ResourceId};
use stemma_domain::value::{FileName, MediaType, ResourceName};
use stemma_event_log::{Batch, EventType, FileStorage, Log, Metadata, NewEvent, StreamId};
use stemma_projections::{
    RebuildControl, RebuildProgress, SearchProjection, SearchSettings, WaitError,
};
use stemma_search::{Mode, Query, QueryVector};
use uuid::Uuid;

/// Longest wait of a test for another thread.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Searched {
    pub(crate) dir: tempfile::TempDir,
    log: Log,
    content: ContentStore,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Searched {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open_log(&dir.path().join("log"));
        let options = stemma_content_store::Options::default();
        let (content, _) = ContentStore::open(&dir.path().join("content"), options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        Self {
            dir,
            log,
            content,
            runtime,
        }
    }

    /// The same index and content, with another log.
    pub(crate) fn with_log(self, name: &str) -> Self {
        let log = open_log(&self.dir.path().join(name));
        Self { log, ..self }
    }

    pub(crate) fn end(&self) -> u64 {
        self.log.reader.end().get()
    }

    pub(crate) fn index_dir(&self) -> PathBuf {
        self.dir.path().join("search")
    }

    pub(crate) fn settings_in(&self, dir: PathBuf) -> SearchSettings {
        SearchSettings {
            reader: self.log.reader.clone(),
            content: self.content.clone(),
            dir,
            options: stemma_search::Options {
                writer_bytes: 16 << 20,
                ..stemma_search::Options::default()
            },
        }
    }

    pub(crate) fn settings(&self) -> SearchSettings {
        self.settings_in(self.index_dir())
    }

    pub(crate) fn start(&self) -> SearchProjection {
        SearchProjection::start(self.settings()).unwrap()
    }

    pub(crate) fn wait(&self, projection: &SearchProjection, end: u64) -> Result<u64, WaitError> {
        self.runtime.block_on(projection.wait_for(end, PATIENCE))
    }

    /// Waits for all that is written; there is an index then, also of nothing.
    pub(crate) fn catch_up(&self, projection: &SearchProjection) {
        until("the index to be open", || projection.index().is_some());
        self.wait(projection, self.end()).unwrap();
    }

    /// The digest of an index that is folded afresh, elsewhere.
    pub(crate) fn fresh_digest(&self) -> [u8; 32] {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let projection = SearchProjection::start(self.settings_in(dir.path().to_owned())).unwrap();
        self.catch_up(&projection);
        let digest = digest(&projection);
        projection.stop();
        digest
    }

    /// The generations on disk.
    pub(crate) fn generations(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.index_dir()).unwrap();
        let names = listed.map(|found| found.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("gen-")).collect();
        names.sort();
        names
    }

    /// Stores content.
    pub(crate) fn put(&self, bytes: &[u8]) -> StageOutput {
        let mut ingest = self.content.begin().unwrap();
        ingest.write(bytes).unwrap();
        let stored = ingest.finish().unwrap();
        StageOutput {
            byte_size: stored.len,
            digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
        }
    }

    /// Writes events, each to its stream, as one batch.
    pub(crate) fn append(&self, events: Vec<(String, Event)>) {
        let new = |(stream, event): (String, Event)| {
            let event = event.encode();
            NewEvent {
                stream: StreamId::new(&stream).unwrap(),
                event_type: EventType::new(event.event_type).unwrap(),
                schema_version: event.schema_version,
                data: event.data.into(),
            }
        };
        self.append_new(events.into_iter().map(new).collect());
    }

    pub(crate) fn append_new(&self, events: Vec<NewEvent>) {
        let batch = Batch {
            events,
            expected: vec![],
            idempotency: None,
            metadata: Metadata::default(),
            proposed_at_us: 1_700_000_000_000_000,
            order: None,
        };
        let appended = self.log.appender.append(batch);
        // Threads of a test write too.
        let runtime = tokio::runtime::Builder::new_current_thread();
        { runtime }.build().unwrap().block_on(appended).unwrap();
    }

    /// Writes an event of a resource.
    pub(crate) fn write(&self, number: u8, event: Event) {
        self.append(vec![(id(number).stream_name(), event)]);
    }

    pub(crate) fn create(&self, number: u8, name: &str, text: &str) {
        self.create_as(number, name, "text/plain", text.as_bytes());
    }

    pub(crate) fn create_as(&self, number: u8, name: &str, media_type: &str, bytes: &[u8]) {
        let stored = self.put(bytes);
        self.write(number, created(number, name, media_type, &stored));
    }

    pub(crate) fn revise(&self, number: u8, text: &str) {
        self.revise_as(number, text, "text/plain");
    }

    pub(crate) fn revise_as(&self, number: u8, text: &str, media_type: &str) {
        let stored = self.put(text.as_bytes());
        let revised = ResourceRevised {
            byte_size: stored.byte_size,
            digest: stored.digest,
            media_type: MediaType::new(media_type).unwrap(),
        };
        self.write(number, Event::ResourceRevised(revised));
    }

    /// A file comes in, to be processed.
    pub(crate) fn upload(&self, number: u8, name: &str, media_type: &str, bytes: &[u8]) {
        let stored = self.put(bytes);
        let created = created(number, name, media_type, &stored);
        self.append(vec![
            (id(number).stream_name(), created),
            (document(number), uploaded(number, name, &stored)),
        ]);
    }

    /// The same file comes in once more, to be begun anew.
    pub(crate) fn upload_again(&self, number: u8, name: &str, bytes: &[u8]) {
        let stored = self.put(bytes);
        self.append(vec![(document(number), uploaded(number, name, &stored))]);
    }

    pub(crate) fn complete(&self, number: u8, stage: Stage, output: (&str, StageOutput)) {
        let (name, output) = output;
        let completed = DocumentStageCompleted {
            document_id: id(number),
            figures: Properties::new(),
            input: ContentDigest::from_bytes([1; 32]),
            job_id: JobId::new(Uuid::from_u128(1)),
            outputs: BTreeMap::from([(name.to_owned(), output)]),
            stage,
            took_ms: 1,
            version: 1,
            warnings: vec![],
        };
        let event = Event::DocumentStageCompleted(completed);
        self.append(vec![(document(number), event)]);
    }

    pub(crate) fn parse(&self, number: u8, text: &str) {
        let stored = self.put(text.as_bytes());
        self.complete(number, Stage::Parse, ("text", stored));
    }

    /// Cuts a text behind each full stop, and puts out the chunks.
    pub(crate) fn chunk(&self, number: u8, text: &str) {
        let (mut lines, mut at, mut place) = (Vec::new(), 0, 0);
        for (index, sentence) in (0..).zip(text.split_inclusive('.')) {
            let (bytes, points) = (sentence.len() as u64, sentence.chars().count() as u64);
            lines.extend(chunk_line(&Chunk {
                id: format!("{number}-{index}"),
                index,
                start: place,
                end: place + points,
                byte_start: at,
                byte_end: at + bytes,
                headings: vec![],
                page: None,
            }));
            (at, place) = (at + bytes, place + points);
        }
        let stored = self.put(&lines);
        self.complete(number, Stage::Chunk, ("chunks", stored));
    }

    pub(crate) fn embed(&self, number: u8, model: &str, vectors: &[[f32; 2]]) {
        let header = VectorsHeader {
            model: model.to_owned(),
            dimension: 2,
            count: u32::try_from(vectors.len()).unwrap(),
        };
        let mut bytes = header.encode();
        bytes.extend(vectors.iter().flatten().flat_map(|n| n.to_le_bytes()));
        let stored = self.put(&bytes);
        self.complete(number, Stage::Embed, ("vectors", stored));
    }

    /// Writes an event that changes nothing in the index.
    pub(crate) fn answer_a_request(&self) {
        let answered = Event::RequestAnswered(RequestAnswered::default());
        self.append(vec![(REQUESTS_STREAM.to_owned(), answered)]);
    }
}

fn open_log(dir: &Path) -> Log {
    let storage = Arc::new(FileStorage::new(dir));
    Log::open(storage, stemma_event_log::Options::default()).unwrap()
}

pub(crate) fn created(number: u8, name: &str, media_type: &str, stored: &StageOutput) -> Event {
    Event::ResourceCreated(ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: stored.byte_size,
        collection: None,
        derived_from: None,
        digest: stored.digest,
        entity_types: vec![],
        id: id(number),
        language: None,
        media_type: MediaType::new(media_type).unwrap(),
        metadata: Properties::new(),
        name: ResourceName::new(name).unwrap(),
    })
}

fn uploaded(number: u8, name: &str, stored: &StageOutput) -> Event {
    Event::DocumentUploaded(DocumentUploaded {
        byte_size: stored.byte_size,
        chunking: Chunking::default(),
        collection: None,
        declared_media_type: None,
        digest: stored.digest,
        file_name: FileName::new(name).unwrap(),
        id: id(number),
        steps: Steps::Auto,
    })
}

pub(crate) fn id(number: u8) -> ResourceId {
    ResourceId::new(Uuid::from_u128(number.into()))
}

fn document(number: u8) -> String {
    stemma_domain::document::stream_name(id(number))
}

pub(crate) fn digest(projection: &SearchProjection) -> [u8; 32] {
    projection.index().unwrap().digest().unwrap()
}

/// The resources that are found, each once, in order of their numbers.
pub(crate) fn found(projection: &SearchProjection, query: &Query) -> Vec<u8> {
    let page = projection.search(query).unwrap().unwrap();
    let numbers = page.hits.iter().map(|hit| hit.resource.as_bytes()[15]);
    let numbers: std::collections::BTreeSet<_> = numbers.collect();
    numbers.into_iter().collect()
}

pub(crate) fn words(projection: &SearchProjection, text: &str) -> Vec<u8> {
    found(projection, &Query::words(text))
}

/// The text of the passage that is nearest to a vector; none if no passage has one of that model.
pub(crate) fn nearest(
    projection: &SearchProjection,
    model: &str,
    values: [f32; 2],
) -> Option<String> {
    let query = Query {
        vector: Some(QueryVector {
            model: model.to_owned(),
            values: values.to_vec(),
        }),
        mode: Mode::Vector,
        ..Query::words("")
    };
    let page = projection.search(&query).unwrap().unwrap();
    page.hits.first().map(|hit| hit.snippet.clone())
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
