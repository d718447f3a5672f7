//! How a document waits for the search index.

use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};

use stemma_commands::{Commands, Request};
use stemma_domain::access::Sight;
use stemma_domain::document::{Chunking, Steps};
use stemma_domain::event::{DocumentStageCompleted, DocumentUploaded};
use stemma_domain::id::{ContentDigest, JobId};
use stemma_domain::value::FileName;
use stemma_jobs::{NewJob, Queue, Workers};
use uuid::Uuid;

use super::*;
use crate::stages::commit::Indexer;
use crate::stages::queued::queue;

/// How long the job is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

fn write(commands: &Commands, command: DocumentCommand, id: ResourceId) {
    let request = Request {
        operations: vec![Operation::of_document(id, command)],
        actor: "ada".to_owned(),
        sight: Sight::Everything,
        trace_id: "t".to_owned(),
        idempotency: None,
        bases: [].into(),
        pins: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let written = runtime.unwrap().block_on(commands.execute(request));
    written.unwrap();
}

fn upload(commands: &Commands, number: u128) -> ResourceId {
    let id = ResourceId::new(Uuid::from_u128(number));
    let uploaded = DocumentUploaded {
        byte_size: 3,
        chunking: Chunking::default(),
        collection: None,
        declared_media_type: None,
        digest: ContentDigest::from_bytes([7; 32]),
        file_name: FileName::new("a.txt").unwrap(),
        id,
        steps: Steps::Auto,
    };
    write(commands, DocumentCommand::Upload(uploaded), id);
    id
}

/// A document with all but the last stage done.
fn nearly_done(commands: &Commands) -> ResourceId {
    let id = upload(commands, 1);
    for stage in Stage::Index.before() {
        let completed = DocumentStageCompleted {
            document_id: id,
            figures: Metadata::new(),
            input: ContentDigest::from_bytes([1; 32]),
            job_id: JobId::new(Uuid::from_u128(1)),
            outputs: BTreeMap::new(),
            stage,
            took_ms: 1,
            version: 1,
            warnings: Vec::new(),
        };
        let complete = DocumentCommand::CompleteStage {
            completed,
            rests_on: Vec::new(),
        };
        write(commands, complete, id);
    }
    id
}

/// An index that catches up for a while, during which others write.
struct Slow {
    commands: Commands,
    waited_for: Mutex<Vec<u64>>,
}

impl Indexer for Slow {
    fn wait_for(
        &self,
        _: ResourceId,
        position: u64,
        _: &AtomicBool,
    ) -> Result<Metadata, NotIndexed> {
        let mut waited_for = self.waited_for.lock().unwrap();
        waited_for.push(position);
        upload(&self.commands, 100 + waited_for.len() as u128);
        match waited_for.len() {
            1..5 => Err(NotIndexed::CatchingUp("not yet".to_owned())),
            5 => Ok(Metadata::new()),
            _ => Err(NotIndexed::StandsStill("it stands".to_owned())),
        }
    }
}

/// Waits for the index once for each attempt, and tells what came of it.
struct Waiting {
    committer: Committer,
    document: ResourceId,
    ended: Mutex<mpsc::Sender<Result<(), StageError>>>,
}

impl Handler for Waiting {
    fn kinds(&self) -> Vec<JobKind> {
        vec![JobKind::new(STEP).unwrap()]
    }

    fn run(&self, work: &Work) -> Result<Outcome, (JobError, Option<Duration>)> {
        let desk = LocalDesk {
            work,
            committer: &self.committer,
            document_id: self.document,
            seen: RefCell::default(),
            began: Cell::new(Instant::now()),
        };
        let ended = desk.submit(Stage::Index, StageOutput::Indexed, Duration::ZERO);
        self.ended.lock().unwrap().send(ended).unwrap();
        Ok(Outcome::Done {
            result: Metadata::new(),
            warnings: Vec::new(),
        })
    }
}

fn submit(queue: &Queue, number: u128) {
    let new = NewJob {
        id: JobId::new(Uuid::from_u128(number)),
        kind: JobKind::new(STEP).unwrap(),
        payload: Metadata::new(),
        priority: 0,
        max_retries: Some(0),
        document_id: None,
        trace_id: "t".into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime.block_on(queue.submit(new, "ada", None)).unwrap();
}

/// After four waits the document had failed; and each of them was for all that others had written
/// meanwhile.
#[test]
fn a_document_waits_for_its_own_events_as_long_as_the_index_comes_closer() {
    let queue = queue();
    let commands = queue.commands().clone();
    let document = nearly_done(&commands);
    let last = commands.reader().end().get() - 1;
    let index = Arc::new(Slow {
        commands,
        waited_for: Mutex::default(),
    });
    let (sender, ended) = mpsc::channel();
    let handler: Arc<dyn Handler> = Arc::new(Waiting {
        committer: Committer::new(queue.clone(), index.clone()),
        document,
        ended: Mutex::new(sender),
    });
    submit(&queue, 2);
    let mut workers = Workers::start(&queue, &handler).unwrap();
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), Ok(()));
    assert_eq!(*index.waited_for.lock().unwrap(), [last; 5]);
    submit(&queue, 3);
    let stands = ended.recv_timeout(PATIENCE).unwrap().unwrap_err();
    workers.stop();
    let StageError::Failed {
        code, transient, ..
    } = &stands
    else {
        panic!("{stands:?}")
    };
    assert_eq!((code.as_str(), *transient), ("NOT_INDEXED", true));
}
