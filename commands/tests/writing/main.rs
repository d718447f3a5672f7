//! The write path against a model of the resource, and when clients leave or ask twice (rows A2, A5).

#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

mod long;
mod model;
mod queued;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

use queued::gated_log;
use serde_json::json;
use stemma_commands::{
    AsOf, Change, Clock, CloneAnnotations, CommandError, Commands, Dependencies, Ids, Operation,
    Options, Past, PastState, Precondition, Request, Target, Written,
};
use stemma_content_store::{
    ContentStore, MemoryStorage as ContentMemory, Options as ContentOptions,
};
use stemma_domain::annotation::BodyOperation;
use stemma_domain::event::ResourceCreated;
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{Command, FollowedFile, Naming, Refusal, ResourcePatch};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{EntityType, MediaType, ResourceName};
use stemma_event_log::{
    Fate, Idempotency, Log, MemoryStorage, Operation as DiskOperation, OperationKind,
    Options as LogOptions,
};
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

fn commands(log: &MemoryStorage) -> Commands {
    commands_with(log, Options::default())
}

fn commands_with(log: &MemoryStorage, options: Options) -> Commands {
    let log = Log::open(Arc::new(log.clone()), LogOptions::default()).unwrap();
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
    Commands::new(on, options)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

const ID: ResourceId = ResourceId::new(Uuid::from_u128(7));

fn request(changes: Vec<Command>) -> Request {
    let operation = |command| Operation {
        target: Target::Resource(ID),
        change: Change::Resource(Box::new(command)),
        precondition: Precondition::None,
        expected_revision: None,
        is_id_new: false,
    };
    Request {
        sight: stemma_domain::access::Sight::Everything,
        operations: changes.into_iter().map(operation).collect(),
        actor: "ada".into(),
        trace_id: "t".into(),
        idempotency: None,
        bases: [].into(),
        pins: Vec::new(),
    }
}

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

fn rename(text: &str) -> Command {
    Command::Patch(ResourcePatch {
        name: Some(name(text)),
        ..ResourcePatch::default()
    })
}

/// A creation of the resource with this text, stored already.
async fn create(commands: &Commands, text: &str) -> Command {
    let stored = commands
        .content()
        .put(text.to_owned().into())
        .await
        .unwrap();
    Command::Create(ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: stored.len,
        collection: None,
        derived_from: None,
        digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
        entity_types: Vec::new(),
        id: ID,
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: serde_json::Map::new(),
        name: name("first"),
    })
}

fn annotate(id: u128, value: &str) -> Command {
    let annotation = json!({
        "@context": "http://www.w3.org/ns/anno.jsonld", "type": "Annotation",
        "body": { "type": "TextualBody", "value": value }, "target": "http://example.org/",
    });
    Command::AddAnnotation {
        annotation_id: AnnotationId::new(Uuid::from_u128(id)),
        annotation,
    }
}

/// Once the state had been moved on and the client left before the batch stood in the queue, the
/// next command was decided on what the log never held: nothing was written, and it said it was.
#[test]
fn a_client_that_leaves_while_its_request_is_worked_out_leaves_no_trace() {
    let commands = commands(&MemoryStorage::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        // So long that its text is read on a thread of its own, for which planning waits.
        let made = create(&commands, &"long ".repeat(100_000)).await;
        commands.execute(request(vec![made])).await.unwrap();
        {
            let changes = vec![rename("second"), annotate(1, "a")];
            let mut leaving = Box::pin(commands.execute(request(changes)));
            let waker = std::task::Waker::noop();
            assert!(
                leaving
                    .as_mut()
                    .poll(&mut Context::from_waker(waker))
                    .is_pending()
            );
        }
        let written = commands
            .execute(request(vec![rename("second")]))
            .await
            .unwrap();
        assert_eq!(
            written.position,
            Some(1),
            "it was not done before, so it is done now"
        );
    });
}

/// Recorded time does not go back, so the present by a clock that was set back lay before all that
/// was written lately: a document that came in then was not there for its own processing.
#[test]
fn what_is_there_is_there_now_also_when_the_clock_was_set_back() {
    let log = MemoryStorage::new();
    let before = commands(&log);
    while before.now().micros() < 1000 {}
    block_on(async {
        let made = create(&before, "text").await;
        before.execute(request(vec![made])).await.unwrap();
    });
    before.appender().close().unwrap();
    let recorded = before.reader().head().unwrap().recorded_at_us;
    // Its clock begins anew.
    let commands = commands(&log);
    for _ in 0..2 {
        let now = commands.now();
        assert_eq!(now.micros(), recorded);
        let state = commands.resource_at(ID, AsOf::Time(now)).unwrap();
        assert!(matches!(state, PastState::Found(_)), "{state:?}");
        let renamed = request(vec![rename("after")]);
        block_on(commands.execute(renamed)).unwrap();
    }
}

/// A retry of what had changed nothing was decided anew, and undid what others did meanwhile.
#[test]
fn a_repeated_request_that_changed_nothing_gets_its_first_answer_and_undoes_nothing() {
    let commands = commands(&MemoryStorage::new());
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        let keyed = || Request {
            idempotency: Some(Idempotency {
                key: [1; 32],
                request: [2; 32],
            }),
            ..request(vec![rename("first")])
        };
        let first = commands.execute(keyed()).await.unwrap();
        let renamed = request(vec![rename("second")]);
        commands.execute(renamed).await.unwrap();
        let again = commands.execute(keyed()).await.unwrap();
        assert_eq!((first.replayed, again.replayed), (false, true));
        assert_eq!(first.position, again.position);
        assert_eq!(first.results[0].descriptor, again.results[0].descriptor);
        assert_eq!(
            model::stored(&commands, 1).name,
            "second",
            "it stays as it is"
        );
    });
}

/// Only some annotations of a resource are in memory; the others are read where the log has them,
/// and where that is, is looked up when somebody asks.
#[test]
fn an_annotation_that_memory_let_go_is_changed_removed_and_cloned_like_any_other() {
    for is_id_new in [false, true] {
        memory_lets_go_of_annotations(is_id_new);
    }
}

fn memory_lets_go_of_annotations(is_id_new: bool) {
    let commands = commands(&MemoryStorage::new());
    let id_of = |n: u128| AnnotationId::new(Uuid::from_u128(1000 + n));
    let change = |n: u128, value: &str| Command::ChangeAnnotationBody {
        annotation_id: id_of(n),
        operations: vec![BodyOperation::Add {
            item: json!({ "type": "TextualBody", "value": value }),
        }],
    };
    let clone = ResourceId::new(Uuid::from_u128(8));
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        for n in 0..200 {
            let mut added = request(vec![annotate(1000 + n, &format!("body {n}"))]);
            added.operations[0].is_id_new = is_id_new;
            commands.execute(added).await.unwrap();
        }
        for round in ["one", "two"] {
            for n in [3, 150, 199] {
                let changed = commands.execute(request(vec![change(n, round)])).await;
                let result = &changed.unwrap().results[0];
                let body = &result.annotation.as_ref().unwrap().annotation.value()["body"];
                assert_eq!(body.as_array().unwrap().last().unwrap()["value"], round);
            }
        }
        let again = commands
            .execute(request(vec![annotate(1007, "twice")]))
            .await;
        assert!(matches!(
            again,
            Err(CommandError::Refused {
                refusal: Refusal::AlreadyExists,
                ..
            })
        ));
        for n in [4, 199] {
            let annotation_id = id_of(n);
            let removed = request(vec![Command::RemoveAnnotation { annotation_id }]);
            commands.execute(removed).await.unwrap();
            let gone = commands.execute(request(vec![change(n, "late")])).await;
            let refusal = Refusal::AnnotationNotFound;
            assert!(matches!(gone, Err(CommandError::Refused { refusal: r, .. }) if r == refusal));
        }
        let mut cloned = request(vec![rename("unused")]);
        cloned.operations[0].target = Target::Resource(clone);
        cloned.operations[0].change = Change::CloneFrom {
            source: ID,
            name: None,
            collection: None,
            annotations: CloneAnnotations::Bring,
        };
        commands.execute(cloned).await.unwrap();
    });
    let bodies = |id| {
        let now = AsOf::Position(commands.reader().end().get() - 1);
        let PastState::Found(resource) = commands.resource_at(id, now).unwrap() else {
            panic!("it is there");
        };
        let bodies = resource
            .annotations
            .values()
            .map(|a| a.annotation.value()["body"].to_string());
        let mut bodies: Vec<String> = bodies.collect();
        bodies.sort_unstable();
        bodies
    };
    assert_eq!(bodies(ID).len(), 198);
    assert_eq!(bodies(ID), bodies(clone));
}

/// Where the annotations of a resource stand is looked up behind what stands in the queue, which
/// the log does not have yet.
#[test]
fn annotations_that_stand_in_the_queue_are_known_to_who_looks_for_others() {
    let (gate, log) = gated_log();
    let commands = commands(&log);
    let add = |ids: std::ops::Range<u128>| {
        let mut added = request(ids.map(|id| annotate(id, "x")).collect());
        let operations = added.operations.iter_mut();
        operations.for_each(|operation| operation.is_id_new = true);
        commands.execute(added)
    };
    let remove = |id: u128| {
        let annotation_id = AnnotationId::new(Uuid::from_u128(id));
        commands.execute(request(vec![Command::RemoveAnnotation { annotation_id }]))
    };
    let is_gone = |result| {
        let refusal = Refusal::AnnotationNotFound;
        matches!(result, Err(CommandError::Refused { refusal: r, .. }) if r == refusal)
    };
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        // Several pieces of what is folded at a time, between which batches land.
        add(0..600).await.unwrap();
        gate.set(true);
        // None is answered before the gate opens, and one of the two that are alike is refused.
        let opened = async { gate.set(false) };
        let (added, newest, oldest, twice, late, ()) = tokio::join!(
            add(600..602),
            remove(600),
            remove(5),
            remove(5),
            add(602..603),
            opened
        );
        for written in [added, newest, late] {
            written.unwrap();
        }
        let (taken, refused) = if oldest.is_ok() {
            (oldest, twice)
        } else {
            (twice, oldest)
        };
        taken.unwrap();
        assert!(is_gone(refused) && is_gone(remove(600).await) && is_gone(remove(5).await));
        for id in [6, 601, 602] {
            remove(id).await.unwrap();
        }
        let last = remove(99).await.unwrap();
        let described = last.results[0].descriptor.as_ref().unwrap();
        assert_eq!(described.annotation_count, 603 - 6);
        // What the log has can be folded, and is the same.
        let now = AsOf::Revision(described.revision);
        let PastState::Found(folded) = commands.resource_at(ID, now).unwrap() else {
            panic!("it is there");
        };
        assert_eq!(folded.annotations.len(), 603 - 6);
    });
}

/// The stage that finds out what a file is had read the resource before, and its client had been
/// told that the new content was there: the file's came back.
#[test]
fn what_is_found_out_of_a_file_changes_no_resource_that_has_other_content_or_another_name() {
    block_on(async {
        let commands = commands(&MemoryStorage::default());
        let created = create(&commands, "a file").await;
        let Command::Create(first) = &created else {
            unreachable!()
        };
        let follow = |media_type| {
            Command::FollowFile(FollowedFile {
                digest: first.digest,
                media_type: MediaType::new(media_type).ok(),
                naming: Some(Naming {
                    name: name("second"),
                    before: name("first"),
                }),
            })
        };
        let now = async |commands: &Commands, changes| {
            commands.execute(request(changes)).await.unwrap();
            let at = commands
                .resource_at(ID, AsOf::Time(commands.now()))
                .unwrap();
            let PastState::Found(found) = at else {
                panic!("{at:?}")
            };
            let now = found.descriptor;
            (now.name, now.media_type.to_string(), now.digest)
        };
        let digest = first.digest;
        let followed = now(&commands, vec![created.clone(), follow("text/markdown")]).await;
        assert_eq!(followed, (name("second"), "text/markdown".into(), digest));
        let named = now(&commands, vec![rename("mine"), follow("text/html")]).await;
        assert_eq!(named, (name("mine"), "text/html".into(), digest));

        let other = ContentDigest::from_bytes([9; 32]);
        let revise = Command::Revise {
            digest: other,
            byte_size: 1,
            media_type: None,
        };
        let revised = now(&commands, vec![rename("first"), revise]).await;
        assert_eq!(now(&commands, vec![follow("text/plain")]).await, revised);
        assert_eq!(revised, (name("first"), "text/html".into(), other));
    });
}
