//! What stands in the log's queue is decided on like what the log holds (rows A2, A5).

use std::sync::{Condvar, Mutex};

use super::*;

/// Holds every sync back while it is closed.
#[derive(Default)]
pub(crate) struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap() = is_closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_closed = self.is_closed.lock().unwrap();
        drop(
            self.opened
                .wait_while(is_closed, |is_closed| *is_closed)
                .unwrap(),
        );
    }
}

/// A log whose syncs wait while the gate is closed, so that batches stand in its queue.
pub(crate) fn gated_log() -> (Arc<Gate>, MemoryStorage) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let log = MemoryStorage::with_faults(move |operation: DiskOperation<'_>| {
        if operation.kind == OperationKind::Sync && operation.name.ends_with(".segment") {
            held.pass();
        }
        Fate::Proceed
    });
    (gate, log)
}

#[test]
fn a_retry_while_the_first_request_stands_in_the_queue_gets_its_answer() {
    let (gate, log) = gated_log();
    let commands = commands(&log);
    block_on(async {
        let made = create(&commands, "text").await;
        let keyed = |command: &Command| Request {
            idempotency: Some(Idempotency {
                key: [1; 32],
                request: [2; 32],
            }),
            ..request(vec![command.clone()])
        };
        gate.set(true);
        let first = commands.execute(keyed(&made));
        let again = commands.execute(keyed(&made));
        let other = commands.execute(request(vec![made.clone()]));
        let open = async { gate.set(false) };
        let (first, again, other, ()) = tokio::join!(first, again, other, open);
        let (first, again): (Written, Written) = (first.unwrap(), again.unwrap());
        assert_eq!((first.position, first.replayed), (Some(0), false));
        assert_eq!((again.position, again.replayed), (Some(0), true));
        let refusal = other.unwrap_err();
        assert!(
            matches!(
                &refusal,
                CommandError::Refused {
                    refusal: Refusal::AlreadyExists,
                    ..
                }
            ),
            "another request is refused: {refusal:?}"
        );
    });
}

/// While a batch stood in the queue its resource's state could leave the cache. Who came next folded
/// another one without it, which then stayed: what the batch had done was not seen any more.
#[test]
fn a_resource_that_leaves_the_cache_while_its_batch_is_queued_is_not_decided_on_without_it() {
    let (gate, log) = gated_log();
    let small = Options {
        aggregate_cache_bytes: 16 * 1024,
        ..Options::default()
    };
    let commands = commands_with(&log, small);
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        gate.set(true);
        let renamed = commands.execute(request(vec![rename("second")]));
        let meanwhile = async {
            // Each asked for often enough to be kept before what is asked for less.
            for other in (100..200).flat_map(|other| [other; 4]) {
                let mut absent = request(vec![rename("x")]);
                absent.operations[0].target =
                    Target::Resource(ResourceId::new(Uuid::from_u128(other)));
                commands.execute(absent).await.unwrap_err();
            }
            // Changes nothing, and may be answered from before the batch as well as from behind it.
            let nothing = Command::RemoveEntityType(EntityType::new("T").unwrap());
            let mut beside = Box::pin(commands.execute(request(vec![nothing])));
            let waker = std::task::Waker::noop();
            let _ = beside.as_mut().poll(&mut Context::from_waker(waker));
            drop(beside);
            gate.set(false);
        };
        let (renamed, ()) = tokio::join!(renamed, meanwhile);
        renamed.unwrap();
        let again = request(vec![rename("first")]);
        let again = commands.execute(again).await.unwrap();
        let described = again.results[0].descriptor.as_ref().unwrap();
        assert!(again.position.is_some(), "{described:?}");
    });
}

/// Who waited for the batches of those who had left, and left too, took along what keeps their
/// resources in the cache.
#[test]
fn a_resource_stays_known_however_many_leave_while_its_batch_is_queued() {
    let (gate, log) = gated_log();
    let small = Options {
        aggregate_cache_bytes: 16 * 1024,
        ..Options::default()
    };
    let commands = commands_with(&log, small);
    let of = |id, command| {
        let mut asked = request(vec![command]);
        asked.operations[0].target = Target::Resource(ResourceId::new(Uuid::from_u128(id)));
        asked
    };
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        gate.set(true);
        let leaves = |request| {
            let mut left = Box::pin(commands.execute(request));
            let mut context = Context::from_waker(std::task::Waker::noop());
            let _ = left.as_mut().poll(&mut context);
        };
        leaves(request(vec![rename("second")]));
        leaves(of(99, rename("x")));
        for other in (100..200).flat_map(|other| [other; 4]) {
            leaves(of(other, rename("x")));
        }
        let nothing = Command::RemoveEntityType(EntityType::new("T").unwrap());
        leaves(request(vec![nothing]));
        gate.set(false);
        commands.appender().settled().await;
        let back = commands.execute(request(vec![rename("first")]));
        let back = back.await.unwrap();
        assert!(back.position.is_some(), "{back:?}");
    });
}

/// A part of a batch that found nothing to do rested on what stood in the queue and was refused: it
/// was acknowledged, and nobody had done it.
#[test]
fn what_a_batch_only_rests_on_is_a_condition_of_it() {
    let (gate, log) = gated_log();
    let commands = commands(&log);
    let other = ResourceId::new(Uuid::from_u128(8));
    let keyed = |request: Request, hash: u8| Request {
        idempotency: Some(Idempotency {
            key: [1; 32],
            request: [hash; 32],
        }),
        ..request
    };
    block_on(async {
        let made = create(&commands, "text").await;
        let Command::Create(mut created) = made.clone() else {
            panic!("it creates")
        };
        created.id = other;
        commands.execute(request(vec![made])).await.unwrap();
        let mut beside = request(vec![Command::Create(created)]);
        beside.operations[0].target = Target::Resource(other);
        commands.execute(beside).await.unwrap();
        let mut of_other = request(vec![rename("third")]);
        of_other.operations[0].target = Target::Resource(other);
        let mut both = request(vec![rename("second"), rename("fourth")]);
        both.operations[1].target = Target::Resource(other);
        gate.set(true);
        let first = commands.execute(keyed(of_other, 1));
        // The same key with another request: the log refuses it when the first has landed.
        let refused = commands.execute(keyed(request(vec![rename("second")]), 2));
        let resting = commands.execute(both);
        let open = async { gate.set(false) };
        let (first, refused, resting, ()) = tokio::join!(first, refused, resting, open);
        first.unwrap();
        let refused = refused.unwrap_err();
        assert!(matches!(refused, CommandError::KeyReused), "{refused:?}");
        resting.unwrap();
        let now = AsOf::Time(commands.now());
        let PastState::Found(resource) = commands.resource_at(ID, now).unwrap() else {
            panic!("it is there")
        };
        assert_eq!(resource.descriptor.name, name("second"));
    });
}

/// A resource's state that a refused request had moved on was folded anew from the log, without what
/// stood in the queue; and so was that of a batch whose client had left. Nothing brought it in later.
#[test]
fn what_stands_in_the_queue_is_decided_on_whoever_was_refused_or_left_meanwhile() {
    let (gate, log) = gated_log();
    let commands = commands(&log);
    let absent = || {
        let nothing = Command::RemoveAnnotation {
            annotation_id: AnnotationId::new(Uuid::from_u128(9)),
        };
        request(vec![rename("refused"), nothing])
    };
    let nothing = || {
        let absent = EntityType::new("T").unwrap();
        request(vec![Command::RemoveEntityType(absent)])
    };
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        for leaves in [false, true] {
            gate.set(true);
            let mut queued = Box::pin(commands.execute(request(vec![rename("second")])));
            let waker = std::task::Waker::noop();
            let mut context = Context::from_waker(waker);
            assert!(queued.as_mut().poll(&mut context).is_pending());
            let queued = (!leaves).then_some(queued);
            let refused = commands.execute(absent());
            let beside = commands.execute(nothing());
            let open = async { gate.set(false) };
            let queued = async {
                if let Some(queued) = queued {
                    queued.await.unwrap();
                }
            };
            let (refused, beside, (), ()) = tokio::join!(refused, beside, open, queued);
            refused.unwrap_err();
            beside.unwrap();
            commands.appender().settled().await;
            let back = commands.execute(request(vec![rename("first")]));
            let back = back.await.unwrap();
            assert!(back.position.is_some(), "leaves: {leaves}, {back:?}");
        }
    });
}

/// Who asked for what is there already waited for everybody who wrote to the resource later, and was
/// told in the end that too many did.
#[test]
fn what_changes_nothing_waits_for_what_it_rests_on_and_not_for_what_comes_later() {
    let (gate, log) = gated_log();
    let options = Options {
        attempts_max: 1,
        ..Options::default()
    };
    let commands = commands_with(&log, options);
    block_on(async {
        let made = create(&commands, "text").await;
        commands.execute(request(vec![made])).await.unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        gate.set(true);
        let mut first = Box::pin(commands.execute(request(vec![rename("second")])));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut nothing = Box::pin(commands.execute(request(vec![rename("second")])));
        assert!(nothing.as_mut().poll(&mut context).is_pending());
        // It is answered, and never looks at its answer while the other one waits.
        let mut later = Box::pin(commands.execute(request(vec![rename("third")])));
        assert!(later.as_mut().poll(&mut context).is_pending());
        gate.set(false);
        let first = first.await.unwrap();
        let nothing = nothing.await.unwrap();
        assert_eq!((first.position, nothing.position), (Some(1), None));
        assert_eq!(
            nothing.results[0].descriptor, first.results[0].descriptor,
            "with the times that the log told"
        );
        later.await.unwrap();
    });
}

/// A retry that came while the batch of the client who had left stood in the queue was refused for
/// what that very batch had done.
#[test]
fn a_retry_behind_a_client_that_left_gets_the_first_answer() {
    let (gate, log) = gated_log();
    let commands = commands(&log);
    block_on(async {
        let made = create(&commands, "text").await;
        let keyed = || Request {
            idempotency: Some(Idempotency {
                key: [1; 32],
                request: [2; 32],
            }),
            ..request(vec![made.clone()])
        };
        gate.set(true);
        let mut first = Box::pin(commands.execute(keyed()));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        drop(first);
        let again = commands.execute(keyed());
        let open = async { gate.set(false) };
        let (again, ()) = tokio::join!(again, open);
        let again = again.unwrap();
        assert_eq!((again.position, again.replayed), (Some(0), true));
    });
}
