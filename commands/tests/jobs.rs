//! Jobs in the write path: one winner of a claim, fenced batches, repeated requests (rows B3, B4, A5).

#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stemma_commands::{
    Clock, CommandError, Commands, Dependencies, Ids, Operation, Options, Request,
};
use stemma_content_store::{
    ContentStore, MemoryStorage as ContentMemory, Options as ContentOptions,
};
use stemma_domain::event::{JobQueued, Metadata};
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::job::{JobCommand, JobRefusal, JobStatus};
use stemma_domain::resource::{Command, Refusal};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{EntityType, JobKind, WorkerName};
use stemma_event_log::{Idempotency, Log, MemoryStorage, Options as LogOptions};
use tokio::task::JoinSet;
use uuid::Uuid;

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let tick = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_micros(i64::try_from(tick).unwrap())
    }
}

impl Ids for Ticks {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

fn commands() -> Commands {
    let log = Log::open(Arc::new(MemoryStorage::default()), LogOptions::default()).unwrap();
    let content = ContentMemory::default();
    let (content, _) = ContentStore::open_on(Arc::new(content), ContentOptions::default()).unwrap();
    let ticks = Arc::new(Ticks(AtomicU64::new(1)));
    let on = Dependencies {
        appender: log.appender,
        reader: log.reader,
        content,
        clock: ticks.clone(),
        ids: ticks,
    };
    Commands::new(on, Options::default())
}

fn request(operations: Vec<Operation>) -> Request {
    Request {
        sight: stemma_domain::access::Sight::Everything,
        operations,
        actor: "ada".into(),
        trace_id: "t".into(),
        idempotency: None,
        bases: [].into(),
        pins: Vec::new(),
    }
}

fn queue(id: JobId) -> Operation {
    let queued = JobQueued {
        document_id: None,
        id,
        max_retries: 3,
        payload: Metadata::new(),
        priority: 0,
        trace_id: "t".into(),
        kind: JobKind::new("test").unwrap(),
    };
    Operation::of_job(id, JobCommand::Queue(queued))
}

fn claim(id: JobId, worker: &str) -> Operation {
    let command = JobCommand::Claim {
        worker: WorkerName::new(worker).unwrap(),
        lease_ms: 1000,
        now: Timestamp::from_micros(i64::MAX),
    };
    Operation::of_job(id, command)
}

const JOB: JobId = JobId::new(Uuid::from_u128(9));
const RESOURCE: ResourceId = ResourceId::new(Uuid::from_u128(7));

#[tokio::test]
async fn of_many_workers_that_claim_one_job_exactly_one_wins() {
    let commands = commands();
    commands.execute(request(vec![queue(JOB)])).await.unwrap();
    let mut claims = JoinSet::new();
    for worker in 0..32 {
        let commands = commands.clone();
        claims.spawn(async move {
            let claim = claim(JOB, &format!("worker {worker}"));
            commands.execute(request(vec![claim])).await
        });
    }
    let told = claims.join_all().await;
    let won: Vec<_> = told.iter().filter_map(|told| told.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    for lost in told.iter().filter_map(|told| told.as_ref().err()) {
        let refusal = Refusal::Job(JobRefusal::NotClaimable("processing"));
        assert!(matches!(lost, CommandError::Refused { refusal: r, .. } if *r == refusal));
    }
    let job = won[0].results[0].job.as_deref().unwrap();
    assert_eq!(commands.job(JOB).unwrap().as_ref(), Some(job));
    assert_eq!((job.status, job.attempts), (JobStatus::Processing, 1));
}

#[tokio::test]
async fn what_a_worker_writes_after_its_lease_is_lost_is_refused_with_all_of_its_batch() {
    let commands = commands();
    let stored = commands.content().put("text".into()).await.unwrap();
    let created = stemma_domain::event::ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: stored.len,
        collection: None,
        derived_from: None,
        digest: stemma_domain::id::ContentDigest::from_bytes(*stored.digest.as_bytes()),
        entity_types: Vec::new(),
        id: RESOURCE,
        language: None,
        media_type: stemma_domain::value::MediaType::new("text/plain").unwrap(),
        metadata: Metadata::new(),
        name: stemma_domain::value::ResourceName::new("n").unwrap(),
    };
    let create = Operation::of_resource(RESOURCE, Command::Create(created));
    commands
        .execute(request(vec![create, queue(JOB), claim(JOB, "first")]))
        .await
        .unwrap();
    let token = commands.job(JOB).unwrap().unwrap().claim.unwrap().token;
    let reason = "lost".to_owned();
    let release = Operation::of_job(JOB, JobCommand::Release { token, reason });
    commands
        .execute(request(vec![release, claim(JOB, "second")]))
        .await
        .unwrap();

    let tag = Command::AddEntityType(EntityType::new("Person").unwrap());
    let effect = Operation::of_resource(RESOURCE, tag);
    let fenced = |token| {
        let hold = Operation::of_job(JOB, JobCommand::Hold { token });
        request(vec![hold, effect.clone()])
    };
    let end = commands.reader().end();
    let late = commands.execute(fenced(token)).await.unwrap_err();
    let refusal = Refusal::Job(JobRefusal::LeaseLost);
    assert!(matches!(late, CommandError::Refused { refusal: r, .. } if r == refusal));
    assert_eq!(commands.reader().end(), end);
    let token = commands.job(JOB).unwrap().unwrap().claim.unwrap().token;
    let held = commands.execute(fenced(token)).await.unwrap();
    assert_eq!(held.position, Some(end.get()));
}

#[tokio::test]
async fn a_request_that_is_sent_again_queues_no_second_job_and_gets_its_first_answer() {
    let commands = commands();
    let keyed = |id| Request {
        idempotency: Some(Idempotency {
            key: [1; 32],
            request: [2; 32],
        }),
        ..request(vec![queue(id)])
    };
    let first = commands.execute(keyed(JOB)).await.unwrap();
    let other = JobId::new(Uuid::from_u128(10));
    let again = commands.execute(keyed(other)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.results[0].job, first.results[0].job);
    assert_eq!(again.results[0].job.as_ref().unwrap().id, JOB);
    assert_eq!(commands.job(other).unwrap(), None);
}
