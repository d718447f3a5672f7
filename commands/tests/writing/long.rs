//! Resources whose streams are long.

use std::pin::pin;

use stemma_domain::access::Sight;
use stemma_domain::resource::Access;
use stemma_domain::value::PrincipalName;

use super::*;

/// Events of the stream, several pieces of what is folded at a time.
const EVENTS: u64 = 1_000;

/// The write path after a restart, over a resource of so many events.
fn long_one(options: Options) -> Commands {
    long_one_on(&MemoryStorage::new(), options)
}

fn long_one_on(log: &MemoryStorage, options: Options) -> Commands {
    let before = commands(log);
    block_on(async {
        let made = create(&before, "text").await;
        before.execute(request(vec![made])).await.unwrap();
        let annotations: Vec<_> = (1..EVENTS).map(|n| annotate(n.into(), "x")).collect();
        for some in annotations.chunks(100) {
            before.execute(request(some.to_vec())).await.unwrap();
        }
        let renamed = request(vec![rename("last")]);
        before.execute(renamed).await.unwrap();
    });
    before.appender().close().unwrap();
    commands_with(log, options)
}

/// How often others had their turn on the thread until a question was answered that waits for
/// nothing but the log's bytes.
fn turns_during<T>(question: impl Future<Output = T>) -> (T, u32) {
    block_on(async {
        let (mut turns, answered) = (0, std::cell::Cell::new(false));
        let others = async {
            while !answered.get() {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        let question = async {
            let answer = question.await;
            answered.set(true);
            answer
        };
        // The question is asked first, so that a turn is one between its pieces.
        let (answer, ()) = tokio::join!(biased; question, others);
        (answer, turns)
    })
}

/// P9: a write to a resource with many events costs others no more than a piece of them.
#[test]
fn others_have_their_turn_while_a_long_stream_is_folded_for_a_write() {
    let commands = long_one(Options::default());
    let mut late = request(vec![rename("late")]);
    late.operations[0].expected_revision = Some(3);
    let (refused, turns) = turns_during(commands.execute(late.clone()));
    let actual = Some(EVENTS);
    assert!(
        matches!(refused, Err(CommandError::Conflict { actual: a, .. }) if a == actual),
        "{refused:?}"
    );
    assert_eq!(turns, 3, "one between two pieces");
    let (_, turns) = turns_during(commands.execute(late));
    assert_eq!(turns, 0, "it is known now");
}

/// A repeated request gets its first answer, whatever it was about, and costs others no more than a
/// piece of the stream.
#[test]
fn a_repeated_request_to_a_long_stream_gets_its_first_answer_and_others_have_their_turn() {
    let commands = long_one(Options::default());
    let annotation = |n| AnnotationId::new(Uuid::from_u128(n));
    let keyed = || {
        let mut keyed = request(vec![
            Command::RemoveAnnotation {
                annotation_id: annotation(5),
            },
            Command::ChangeAnnotationBody {
                annotation_id: annotation(7),
                operations: vec![BodyOperation::Add {
                    item: json!({ "type": "TextualBody", "value": "more" }),
                }],
            },
            rename("again"),
            annotate(5_000, "new"),
        ]);
        keyed.idempotency = Some(Idempotency {
            key: [7; 32],
            request: [8; 32],
        });
        keyed
    };
    let first = block_on(commands.execute(keyed())).unwrap();
    let (again, turns) = turns_during(commands.execute(keyed()));
    let again = again.unwrap();
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(turns, 3, "one behind each whole piece");
    assert_eq!(first.results.len(), again.results.len());
    for (first, again) in first.results.iter().zip(&again.results) {
        assert_eq!(first.descriptor, again.descriptor);
        assert_eq!(first.annotation, again.annotation);
        assert_eq!(first.annotation_id(), again.annotation_id());
    }
}

/// Whoever asks, and leaves once a first piece is folded.
fn leaves_behind_a_piece<T>(question: impl Future<Output = T>) {
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(pin!(question).poll(&mut context).is_pending());
}

/// Clients that have less patience than a long stream takes get there all the same: each goes on
/// where the one before left, and what they would have done is not done.
#[test]
fn a_fold_whose_client_leaves_is_gone_on_with_by_the_next() {
    let commands = long_one(Options::default());
    let late = || {
        let mut late = request(vec![rename("late")]);
        late.operations[0].expected_revision = Some(3);
        late
    };
    let remove = |id| {
        let annotation_id = AnnotationId::new(Uuid::from_u128(id));
        request(vec![Command::RemoveAnnotation { annotation_id }])
    };
    let end = commands.reader().end();
    for _ in 0..3 {
        leaves_behind_a_piece(commands.execute(late()));
    }
    let (_, turns) = turns_during(commands.execute(late()));
    assert_eq!(turns, 0, "three of four pieces were folded");
    // Where its annotations stand was not kept; it is looked up the same way.
    for _ in 0..3 {
        leaves_behind_a_piece(commands.execute(remove(7)));
    }
    assert_eq!(commands.reader().end(), end, "nothing was written");
    block_on(async {
        let mut more = request(vec![annotate(5_000, "between")]);
        more.operations[0].is_id_new = true;
        commands.execute(more).await.unwrap();
        commands.execute(remove(7)).await.unwrap();
        commands.execute(remove(5_000)).await.unwrap();
        commands.execute(remove(7)).await.unwrap_err();
    });
}

/// A clone with more annotations than a batch has events is refused before they are read.
#[test]
fn a_clone_with_more_annotations_than_a_batch_holds_is_refused_unread() {
    for (events_max, is_taken) in [(EVENTS - 1, false), (EVENTS, true)] {
        let reads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&reads);
        let log = MemoryStorage::with_faults(move |operation: DiskOperation<'_>| {
            if operation.kind == OperationKind::Read && operation.name.ends_with(".segment") {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Fate::Proceed
        });
        let options = Options {
            batch_events_max: usize::try_from(events_max).unwrap(),
            ..Options::default()
        };
        let commands = long_one_on(&log, options);
        let mut clone = request(vec![rename("unused")]);
        clone.operations[0].target = Target::Resource(ResourceId::new(Uuid::from_u128(8)));
        clone.operations[0].change = Change::CloneFrom {
            source: ID,
            name: None,
            collection: None,
            annotations: CloneAnnotations::Bring,
        };
        // Of what is hidden it is not told how much there is to clone.
        let private = Command::ChangeAccess(Access::private());
        block_on(commands.execute(request(vec![private]))).unwrap();
        let mut hidden = clone.clone();
        hidden.sight = Sight::Of(PrincipalName::new("nina").unwrap());
        let refused = block_on(commands.execute(hidden));
        let refusal = Refusal::NotFound;
        assert!(matches!(refused, Err(CommandError::Refused { refusal: r, .. }) if r == refusal));
        let before = reads.load(Ordering::Relaxed);
        match block_on(commands.execute(clone)) {
            Ok(written) => assert!(is_taken, "{written:?}"),
            Err(CommandError::TooManyEvents { events, .. }) => {
                assert_eq!((events as u64, is_taken), (EVENTS, false));
            }
            Err(other) => panic!("{other}"),
        }
        // All is folded by now; annotations are read one by one.
        let read = reads.load(Ordering::Relaxed) - before;
        assert_eq!(read >= EVENTS - 1, is_taken, "{read} reads");
    }
}

/// The past is what it was, whether or not the annotations of then are brought along.
#[test]
fn what_described_a_resource_is_that_of_the_whole_and_others_have_their_turn() {
    let commands = long_one(Options::default());
    for as_of in [0, 1, 255, 256, 257, EVENTS - 1, EVENTS].map(AsOf::Revision) {
        let (described, turns) = turns_during(commands.descriptor_at(ID, as_of));
        let (Past::Found(described), Past::Found(whole)) =
            (described.unwrap(), commands.resource_at(ID, as_of).unwrap())
        else {
            panic!("{as_of:?} is not there");
        };
        assert_eq!(described, whole.descriptor);
        let whole_pieces = u32::try_from((described.revision + 1) / 256).unwrap();
        assert_eq!(turns, whole_pieces, "one behind each whole piece");
    }
    let ahead = block_on(commands.descriptor_at(ID, AsOf::Revision(EVENTS + 1)));
    assert_eq!(ahead.unwrap(), Past::NotYet);
    let nobody = ResourceId::new(Uuid::from_u128(8));
    let absent = block_on(commands.descriptor_at(nobody, AsOf::Revision(0)));
    assert_eq!(absent.unwrap(), Past::Absent);
}
