//! The search index follows the log: what is written is found, and nothing depends on how often it
//! was begun again.
#![allow(missing_docs, clippy::unwrap_used)]

mod searched;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use searched::{
    PATIENCE, Searched, created, digest, found, id, nearest, until, unwatched, watched, words,
};
use stemma_domain::document::Stage;
use stemma_domain::event::{
    EntityTypeChange, Event, ResourceArchived, ResourceCollectionChanged, ResourceRenamed,
    ResourceUnarchived, StageOutput,
};
use stemma_domain::id::ContentDigest;
use stemma_domain::value::{CollectionName, EntityType, ResourceName};
use stemma_event_log::{EventType, NewEvent, StreamId};
use stemma_projections::{
    Phase, RebuildError, RebuildPhase, SearchProjection, SearchState, StartError, WaitError,
    rebuild_search,
};
use stemma_search::{Archived, Query};

fn renamed(name: &str) -> Event {
    let name = ResourceName::new(name).unwrap();
    Event::ResourceRenamed(ResourceRenamed { name })
}

fn collected(name: Option<&str>) -> Event {
    let collection = name.map(|name| CollectionName::new(name).unwrap());
    Event::ResourceCollectionChanged(ResourceCollectionChanged { collection })
}

fn tag(name: &str) -> EntityTypeChange {
    EntityTypeChange {
        entity_type: EntityType::new(name).unwrap(),
    }
}

#[test]
fn what_is_written_is_found_by_its_text_or_by_its_name_alone() {
    let searched = Searched::new();
    searched.create(1, "observatory", "the stars of Samarkand");
    let projection = searched.start();
    searched.create_as(2, "map of Samarkand", "image/png", b"stars");
    searched.create_as(3, "broken", "text/plain", b"stars \xff");
    searched.create_as(4, "long", "text/plain", "stars ".repeat(3 << 20).as_bytes());
    searched.catch_up(&projection);
    assert_eq!(projection.state(), SearchState::Running);
    assert_eq!(words(&projection, "stars"), [1]);
    assert_eq!(words(&projection, "samarkand"), [1, 2]);
    assert_eq!(words(&projection, "broken long"), [3, 4]);
    searched.revise(1, "the moons of Jupiter");
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "stars"), [0_u8; 0]);
    assert_eq!(words(&projection, "moons"), [1]);
    until("the projection to be live", || {
        projection.status().phase == Phase::Live
    });
    let status = projection.status();
    assert_eq!((status.end, status.lag_positions), (5, 0));
    let metrics = projection.metrics();
    assert_eq!(metrics.events, 5);
    assert_eq!(metrics.apply_us.iter().sum::<u64>(), metrics.batches);
    projection.stop();
    assert_eq!(searched.wait(&projection, 6), Err(WaitError::Stopped));
    assert_eq!(words(&projection, "moons"), [1]);
}

#[test]
fn names_collections_types_and_archiving_change_what_is_found() {
    let searched = Searched::new();
    let projection = searched.start();
    searched.create(1, "first", "stars");
    searched.create(2, "second", "stars");
    searched.catch_up(&projection);
    searched.write(1, renamed("zij"));
    searched.write(1, collected(Some("papers")));
    searched.write(1, Event::EntityTypeAdded(tag("Person")));
    searched.write(1, Event::EntityTypeAdded(tag("Place")));
    searched.write(1, Event::EntityTypeRemoved(tag("Place")));
    searched.write(2, Event::ResourceArchived(ResourceArchived {}));
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "first"), [0_u8; 0]);
    assert_eq!(words(&projection, "zij"), [1]);
    let stars = || Query::words("stars");
    let of = |entity_type| Query {
        collection: Some(CollectionName::new("papers").unwrap()),
        entity_types: vec![EntityType::new(entity_type).unwrap()],
        ..stars()
    };
    assert_eq!(found(&projection, &of("Person")), [1]);
    assert_eq!(found(&projection, &of("Place")), [0_u8; 0]);
    let archived = Query {
        archived: Archived::Yes,
        ..stars()
    };
    assert_eq!(found(&projection, &archived), [2]);
    assert_eq!(words(&projection, "stars"), [1]);
    searched.write(2, Event::ResourceUnarchived(ResourceUnarchived {}));
    searched.write(1, collected(None));
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "stars"), [1, 2]);
    assert_eq!(found(&projection, &of("Person")), [0_u8; 0]);
    projection.stop();
}

const TEXT: &str = "Zīj-i Sulṭānī lists stars. The quadrant stood in Samarkand.";

#[test]
fn a_document_is_found_by_its_name_then_by_its_chunks_then_by_its_vectors() {
    let searched = Searched::new();
    let projection = searched.start();
    searched.upload(1, "catalogue.md", "text/markdown", b"# raw stars");
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "catalogue"), [1]);
    assert_eq!(words(&projection, "stars"), [0_u8; 0]);
    searched.parse(1, TEXT);
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [0_u8; 0]);
    searched.chunk(1, TEXT);
    searched.catch_up(&projection);
    let page = projection
        .search(&Query::words("quadrant"))
        .unwrap()
        .unwrap();
    let hit = &page.hits[0];
    assert_eq!(hit.chunk_id.as_deref(), Some("1-1"));
    assert_eq!(hit.snippet, "The quadrant stood in Samarkand.");
    let span: String = TEXT.chars().skip(hit.start as usize).collect();
    assert_eq!(span.trim_start(), hit.snippet);
    searched.embed(1, "m", &[[1.0, 0.0], [0.0, 1.0]]);
    searched.catch_up(&projection);
    let near = |values| nearest(&projection, "m", values).unwrap();
    assert!(near([0.9, 0.1]).starts_with("Zīj-i"));
    assert!(near([0.1, 0.9]).starts_with("The quadrant"));
    // Cut as before, the vectors stay; cut otherwise, they go.
    searched.chunk(1, TEXT);
    searched.catch_up(&projection);
    assert!(nearest(&projection, "m", [1.0, 0.0]).is_some());
    searched.parse(1, "Only one sentence.");
    searched.chunk(1, "Only one sentence.");
    searched.catch_up(&projection);
    assert_eq!(nearest(&projection, "m", [1.0, 0.0]), None);
    assert_eq!(words(&projection, "sentence"), [1]);
    // Revised, it is what it says itself, whatever is done on the file from before.
    searched.revise(1, "plain words");
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "plain"), [1]);
    assert_eq!(words(&projection, "quadrant sentence"), [0_u8; 0]);
    assert_eq!(digest(&projection), searched.fresh_digest());
    projection.stop();
}

/// What changes of a document is written from its content again, whatever was committed before.
#[test]
fn a_document_that_is_described_anew_keeps_its_chunks_and_the_vectors_of_two_models() {
    let searched = Searched::new();
    let projection = searched.start();
    searched.upload(1, "raw", "text/markdown", TEXT.as_bytes());
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.embed(1, "first", &[[1.0, 0.0], [0.0, 1.0]]);
    searched.catch_up(&projection);
    searched.embed(1, "second", &[[0.0, 1.0], [1.0, 0.0]]);
    searched.catch_up(&projection);
    searched.write(1, renamed("catalogue"));
    searched.write(1, Event::EntityTypeAdded(tag("Place")));
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "catalogue"), [1]);
    assert_eq!(words(&projection, "quadrant"), [1]);
    for (model, near) in [("first", [0.1, 0.9]), ("second", [0.9, 0.1])] {
        let found = nearest(&projection, model, near).unwrap();
        assert!(found.starts_with("The quadrant"), "{model}: {found}");
    }
    // Made anew by one of them they are the newest; a third takes the place of the other.
    searched.embed(1, "first", &[[0.0, 1.0], [1.0, 0.0]]);
    searched.embed(1, "third", &[[1.0, 0.0], [0.0, 1.0]]);
    searched.catch_up(&projection);
    assert_eq!(nearest(&projection, "second", [1.0, 0.0]), None);
    assert!(
        nearest(&projection, "first", [0.9, 0.1])
            .unwrap()
            .starts_with("The quadrant")
    );
    assert!(
        nearest(&projection, "third", [0.9, 0.1])
            .unwrap()
            .starts_with("Zīj-i")
    );
    assert_eq!(digest(&projection), searched.fresh_digest());
    projection.stop();
}

/// The same bytes, sent again because the document had failed.
#[test]
fn a_document_that_is_begun_anew_is_found_by_its_name_until_its_stages_are_done_again() {
    let searched = Searched::new();
    let projection = searched.start();
    searched.upload(1, "catalogue", "text/markdown", TEXT.as_bytes());
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [1]);
    searched.upload_again(1, "catalogue.md", TEXT.as_bytes());
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [0_u8; 0]);
    assert_eq!(words(&projection, "catalogue"), [1]);
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.embed(1, "m", &[[1.0, 0.0], [0.0, 1.0]]);
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [1]);
    assert_eq!(digest(&projection), searched.fresh_digest());
    projection.stop();
}

/// What it was had been forgotten: with its file again it was found by its name alone, for good, and
/// the same bytes sent once more put the text of the stages in the place of the content's.
#[test]
fn a_document_with_other_content_is_found_by_that_and_by_its_stages_once_it_has_its_file_again() {
    let searched = Searched::new();
    let projection = searched.start();
    searched.upload(1, "raw", "application/pdf", TEXT.as_bytes());
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.embed(1, "m", &[[1.0, 0.0], [0.0, 1.0]]);
    searched.revise(1, "plain words");
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [0_u8; 0]);
    searched.revise_as(1, TEXT, "application/pdf");
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [1]);
    assert!(nearest(&projection, "m", [1.0, 0.0]).is_some());
    searched.revise(1, "plain words");
    searched.catch_up(&projection);
    searched.upload_again(1, "raw", TEXT.as_bytes());
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "plain"), [1]);
    assert_eq!(words(&projection, "quadrant"), [0_u8; 0]);
    searched.revise_as(1, TEXT, "application/pdf");
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "quadrant"), [1]);
    assert_eq!(nearest(&projection, "m", [1.0, 0.0]), None);
    assert_eq!(digest(&projection), searched.fresh_digest());
    projection.stop();
}

/// Validation puts the media type right that a sender did not tell. Taken for new content, that
/// made the document one without chunks and vectors.
#[test]
fn a_document_whose_media_type_alone_is_put_right_stays_one() {
    let searched = Searched::new();
    let projection = searched.start();
    searched.upload(1, "raw", "application/octet-stream", TEXT.as_bytes());
    searched.revise_as(1, TEXT, "text/markdown");
    searched.parse(1, TEXT);
    searched.chunk(1, TEXT);
    searched.embed(1, "m", &[[1.0, 0.0], [0.0, 1.0]]);
    searched.catch_up(&projection);
    let page = projection.search(&Query::words("quadrant"));
    let page = page.unwrap().unwrap();
    assert_eq!(page.hits[0].chunk_id.as_deref(), Some("1-1"));
    assert!(nearest(&projection, "m", [1.0, 0.0]).is_some());
    assert_eq!(digest(&projection), searched.fresh_digest());
    projection.stop();
}

#[test]
fn content_that_is_missing_stops_the_index_until_it_is_there() {
    let searched = Searched::new();
    searched.create(1, "first", "stars");
    let lost = b"the comet of 1811";
    let missing = StageOutput {
        byte_size: lost.len() as u64,
        digest: ContentDigest::from_bytes(*stemma_content_store::Digest::of(lost).as_bytes()),
    };
    searched.write(2, created(2, "second", "text/plain", &missing));
    searched.create(3, "third", "moons");
    let projection = searched.start();
    assert_eq!(
        searched.wait(&projection, 3),
        Err(WaitError::Quarantined { position: 1 })
    );
    let status = projection.status();
    let Phase::Quarantined { reason, .. } = &status.phase else {
        panic!("{status:?}");
    };
    assert!(reason.contains("is not stored"), "{reason}");
    assert_eq!((status.end, status.lag_positions), (1, 2));
    assert_eq!(words(&projection, "stars"), [1]);
    let rebuilt = projection.rebuild(unwatched());
    assert!(
        matches!(rebuilt, Err(RebuildError::Apply { position: 1, .. })),
        "{rebuilt:?}"
    );
    searched.put(lost);
    projection.retry();
    until("the retry", || projection.end() == 3);
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "comet"), [2]);
    assert_eq!(words(&projection, "moons"), [3]);
    assert_eq!(digest(&projection), searched.fresh_digest());
    projection.stop();
}

#[test]
fn what_is_not_of_its_form_and_what_nobody_knows_stops_the_index_there() {
    let searched = Searched::new();
    searched.upload(1, "file.pdf", "application/pdf", b"%PDF");
    searched.parse(1, TEXT);
    searched.complete(1, Stage::Chunk, ("chunks", searched.put(b"{}\n")));
    let projection = searched.start();
    let waited = searched.wait(&projection, 4);
    assert_eq!(waited, Err(WaitError::Quarantined { position: 3 }));
    assert_eq!(words(&projection, "file"), [1]);
    projection.stop();

    let searched = Searched::new();
    searched.create(1, "first", "stars");
    searched.append_new(vec![NewEvent {
        stream: StreamId::new(id(1).stream_name()).unwrap(),
        event_type: EventType::new("resource.exploded").unwrap(),
        schema_version: 1,
        data: b"{}".as_slice().into(),
    }]);
    let projection = searched.start();
    let waited = searched.wait(&projection, 2);
    assert_eq!(waited, Err(WaitError::Quarantined { position: 1 }));
    projection.stop();

    let searched = Searched::new();
    searched.write(1, renamed("never made"));
    let projection = searched.start();
    let waited = searched.wait(&projection, 1);
    assert_eq!(waited, Err(WaitError::Quarantined { position: 0 }));
    projection.stop();
}

#[test]
fn an_index_of_another_log_is_emptied_and_filled_anew() {
    let searched = Searched::new();
    searched.create(1, "first", "stars");
    searched.create(2, "second", "stars");
    let projection = searched.start();
    searched.catch_up(&projection);
    projection.stop();
    drop(projection);
    // As many records, but others; then fewer.
    let searched = searched.with_log("as long");
    searched.create(3, "third", "stars");
    searched.create(4, "fourth", "stars");
    let projection = searched.start();
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "stars"), [3, 4]);
    projection.stop();
    drop(projection);
    let searched = searched.with_log("shorter");
    let projection = searched.start();
    until("the index to be open", || projection.index().is_some());
    assert_eq!(words(&projection, "stars"), [0_u8; 0]);
    assert_eq!(searched.generations(), ["gen-000003"]);
    projection.stop();
}

#[test]
fn an_index_that_cannot_be_opened_is_told_and_opened_once_it_can_be() {
    let searched = Searched::new();
    searched.create(1, "first", "stars");
    let in_the_way = searched.index_dir().join("gen-000001");
    std::fs::create_dir(searched.index_dir()).unwrap();
    std::fs::write(&in_the_way, "no directory").unwrap();
    std::fs::write(searched.index_dir().join("CURRENT"), "gen-000001").unwrap();
    let projection = searched.start();
    assert_eq!(searched.wait(&projection, 1), Err(WaitError::Away));
    assert!(matches!(projection.state(), SearchState::Failed { .. }));
    assert!(matches!(projection.status().phase, Phase::Away { .. }));
    assert_eq!(projection.search(&Query::words("stars")).unwrap(), None);
    let rebuilt = projection.rebuild(unwatched());
    assert!(
        matches!(rebuilt, Err(RebuildError::Index(_))),
        "{rebuilt:?}"
    );
    std::fs::remove_file(&in_the_way).unwrap();
    projection.retry();
    until("the index to be open", || projection.index().is_some());
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "stars"), [1]);
    projection.stop();
}

#[test]
fn waits_end_when_it_is_there_when_the_time_is_up_or_when_they_are_stopped() {
    let searched = Searched::new();
    let projection = searched.start();
    let no = AtomicBool::new(false);
    let wait = projection.wait_for(1, Duration::from_millis(1));
    let waited = searched.runtime.block_on(wait);
    assert_eq!(waited, Err(WaitError::NotYet { end: 0 }));
    let waited = projection.wait_for_blocking(1, Duration::from_millis(1), &no);
    assert_eq!(waited, Err(WaitError::NotYet { end: 0 }));
    let waited = projection.wait_for_blocking(1, PATIENCE, &AtomicBool::new(true));
    assert_eq!(waited, Err(WaitError::Stopped));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let waited = projection.wait_for_blocking(2, PATIENCE, &no);
            (waited, words(&projection, "stars"))
        });
        searched.create(1, "first", "stars");
        searched.answer_a_request();
        assert_eq!(waits.join().unwrap(), (Ok(2), vec![1]));
    });
    // What changes nothing is waited for as well.
    searched.answer_a_request();
    assert_eq!(searched.wait(&projection, 3), Ok(3));
    let second = SearchProjection::start(searched.settings());
    assert!(matches!(second, Err(StartError::InUse)));
    projection.stop();
}

#[test]
fn a_rebuild_while_others_search_and_write_gives_an_equal_index_and_swaps_it() {
    let searched = Searched::new();
    (1..=50).for_each(|number| searched.create(number, "a", "stars"));
    let projection = searched.start();
    searched.catch_up(&projection);
    let before = projection.index().unwrap();
    let is_over = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut n_reads = 0_u32;
            while !is_over.load(Ordering::Acquire) {
                let query = Query {
                    limit: 500,
                    ..Query::words("stars")
                };
                assert!(found(&projection, &query).len() >= 50);
                n_reads += 1;
            }
            n_reads
        });
        let writes = scope.spawn(|| {
            let mut number = 50;
            while !is_over.load(Ordering::Acquire) && number < 250 {
                number += 1;
                searched.create(number, "b", "stars");
                let no = AtomicBool::new(false);
                let waited = projection.wait_for_blocking(number.into(), PATIENCE, &no);
                assert!(waited.is_ok(), "{waited:?}");
            }
        });
        let outcome = projection.rebuild(unwatched());
        is_over.store(true, Ordering::Release);
        writes.join().unwrap();
        assert!(reads.join().unwrap() > 0);
        outcome.unwrap()
    });
    assert!(outcome.equal && outcome.swapped, "{outcome:?}");
    assert!(outcome.position >= Some(49));
    searched.catch_up(&projection);
    assert_eq!(searched.generations(), ["gen-000002"]);
    assert_eq!(digest(&projection), searched.fresh_digest());
    // Who held the one before is still answered.
    assert!(before.search(&Query::words("stars")).unwrap().hits.len() == 10);
    let after = digest(&projection);
    projection.stop();
    drop((projection, before));
    let projection = searched.start();
    searched.catch_up(&projection);
    assert_eq!(digest(&projection), after);
    projection.stop();
}

#[test]
fn a_cancelled_rebuild_leaves_everything_as_it_was() {
    let searched = Searched::new();
    (1..=5).for_each(|number| searched.create(number, "a", "stars"));
    let projection = searched.start();
    searched.catch_up(&projection);
    for cancelled_in in [RebuildPhase::Filling, RebuildPhase::Comparing] {
        let mut control = watched(|_| {});
        let cancel = control.cancel.clone();
        control.progress = Box::new(move |progress| {
            cancel.fetch_or(progress.phase == cancelled_in, Ordering::AcqRel);
        });
        let outcome = projection.rebuild(control);
        assert!(
            matches!(outcome, Err(RebuildError::Cancelled)),
            "{outcome:?}"
        );
        assert_eq!(searched.generations(), ["gen-000001"]);
    }
    assert_eq!(words(&projection, "stars"), [1, 2, 3, 4, 5]);
    let settings = searched.settings();
    let refused = rebuild_search(&settings, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(RebuildError::InUse)), "{refused:?}");
    projection.stop();
}

#[test]
fn an_offline_rebuild_compares_with_what_is_there_and_takes_its_place() {
    let searched = Searched::new();
    (1..=5).for_each(|number| searched.create(number, "a", "stars"));
    let projection = searched.start();
    searched.catch_up(&projection);
    projection.stop();
    drop(projection);
    searched.revise(3, "moons");
    let settings = searched.settings();
    let broken = rebuild_search(&settings, &mut |_| ControlFlow::Break(()));
    assert!(matches!(broken, Err(RebuildError::Cancelled)), "{broken:?}");
    assert_eq!(searched.generations(), ["gen-000001"]);
    let outcome = rebuild_search(&settings, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(outcome.equal && outcome.swapped, "{outcome:?}");
    assert_eq!(outcome.position, Some(5));
    assert_eq!(searched.generations(), ["gen-000002"]);
    let projection = searched.start();
    searched.catch_up(&projection);
    assert_eq!(words(&projection, "moons"), [3]);
    projection.stop();
}

/// What may happen to one of a few resources.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Revise(u8, u8),
    Rename(u8, u8),
    Collect(u8, bool),
    Tag(u8, bool),
    Archive(u8, bool),
    Upload(u8),
    Parse(u8, u8),
    Chunk(u8),
    Embed(u8, u8),
    Answer,
    /// What was written is waited for, and so committed.
    CatchUp,
    /// The projection is stopped and started again.
    Restart,
    /// The same, with the index as it was at the last restart: as it is when a process was killed
    /// before it committed more.
    Killed,
}

fn step() -> impl Strategy<Value = Step> {
    let (one, two) = (1..3_u8, 0..3_u8);
    prop_oneof![
        1 => one.clone().prop_map(Step::Create),
        1 => (one.clone(), two.clone()).prop_map(|(n, k)| Step::Revise(n, k)),
        1 => (one.clone(), two.clone()).prop_map(|(n, k)| Step::Rename(n, k)),
        1 => (one.clone(), any::<bool>()).prop_map(|(n, yes)| Step::Collect(n, yes)),
        1 => (one.clone(), any::<bool>()).prop_map(|(n, yes)| Step::Tag(n, yes)),
        1 => (one.clone(), any::<bool>()).prop_map(|(n, yes)| Step::Archive(n, yes)),
        4 => one.clone().prop_map(Step::Upload),
        4 => (one.clone(), two.clone()).prop_map(|(n, k)| Step::Parse(n, k)),
        4 => one.clone().prop_map(Step::Chunk),
        4 => (one, two).prop_map(|(n, k)| Step::Embed(n, k)),
        1 => Just(Step::Answer),
        4 => Just(Step::CatchUp),
        1 => Just(Step::Restart),
        1 => Just(Step::Killed),
    ]
}

/// What the steps made so far, so that only what can happen is written.
#[derive(Default)]
struct Made {
    created: [bool; 3],
    /// The text that was parsed, of those that were uploaded.
    parsed: [Option<String>; 3],
    uploaded: [bool; 3],
    chunked: [bool; 3],
}

impl Made {
    /// Writes a step, where it can happen.
    fn write(&mut self, searched: &Searched, step: &Step) {
        let text = |k: u8| TEXT.repeat(usize::from(k) + 1);
        match *step {
            Step::Create(n) if !self.created[usize::from(n)] => {
                searched.create(n, "resource", &text(0));
                self.created[usize::from(n)] = true;
            }
            Step::Upload(n) if !self.created[usize::from(n)] => {
                searched.upload(n, "file.md", "text/markdown", text(n).as_bytes());
                (self.created[usize::from(n)], self.uploaded[usize::from(n)]) = (true, true);
            }
            Step::Answer => searched.answer_a_request(),
            Step::Revise(n, k) if self.created[usize::from(n)] => searched.revise(n, &text(k)),
            Step::Rename(n, k) if self.created[usize::from(n)] => {
                searched.write(n, renamed(["a", "b", "c"][usize::from(k)]));
            }
            Step::Collect(n, yes) if self.created[usize::from(n)] => {
                searched.write(n, collected(yes.then_some("papers")));
            }
            Step::Tag(n, yes) if self.created[usize::from(n)] => {
                let change = if yes {
                    Event::EntityTypeAdded
                } else {
                    Event::EntityTypeRemoved
                };
                searched.write(n, change(tag("Place")));
            }
            Step::Archive(n, yes) if self.created[usize::from(n)] => {
                let event = if yes {
                    Event::ResourceArchived(ResourceArchived {})
                } else {
                    Event::ResourceUnarchived(ResourceUnarchived {})
                };
                searched.write(n, event);
            }
            Step::Parse(n, k) if self.uploaded[usize::from(n)] => {
                let parsed = Some(text(k));
                searched.parse(n, &text(k));
                let n = usize::from(n);
                self.chunked[n] &= self.parsed[n] == parsed;
                self.parsed[n] = parsed;
            }
            Step::Chunk(n) => {
                if let Some(text) = &self.parsed[usize::from(n)] {
                    searched.chunk(n, text);
                    self.chunked[usize::from(n)] = true;
                }
            }
            Step::Embed(n, k) if self.chunked[usize::from(n)] => {
                let text = self.parsed[usize::from(n)].as_ref().unwrap();
                let count = text.split_inclusive('.').count();
                let model = ["m", "n", "o"][usize::from(k)];
                searched.embed(n, model, &vec![[f32::from(n), 1.0]; count]);
            }
            _ => {}
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if let Err(error) = std::fs::copy(entry.path(), to) {
            // The engine's own threads may be at work a moment longer than its handle.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_stopped_and_killed_on_the_way_the_index_is_that_of_the_log(
        steps in prop::collection::vec(step(), 10..60)
    ) {
        let searched = Searched::new();
        let dir = |number: usize| searched.dir.path().join(format!("search-{number}"));
        let start = |number| SearchProjection::start(searched.settings_in(dir(number))).unwrap();
        // The directory in use, and the copy of it.
        let (mut index, mut kept) = (0, None);
        let mut made = Made::default();
        let mut projection = start(0);
        for (number, step) in (1..).zip(&steps) {
            match step {
                Step::Restart => {
                    projection.stop();
                    drop(projection);
                    copy(&dir(index), &dir(number));
                    kept = Some(number);
                    projection = start(index);
                }
                Step::Killed => {
                    projection.stop();
                    drop(projection);
                    index = kept.take().unwrap_or(number);
                    projection = start(index);
                }
                Step::CatchUp => searched.catch_up(&projection),
                step => made.write(&searched, step),
            }
        }
        searched.catch_up(&projection);
        prop_assert_eq!(digest(&projection), searched.fresh_digest());
        let outcome = projection.rebuild(unwatched()).unwrap();
        prop_assert!(outcome.equal);
        projection.stop();
    }
}
