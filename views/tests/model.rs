//! Random lives of resources: the views say what the plain fold of the events says, on every
//! engine, however the records are cut into batches, and applied again they change nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_imports)]

mod recorded;
mod written;

use proptest::prelude::*;
use stemma_domain::id::ResourceId;
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::time::Timestamp;
use stemma_event_log::Record;
use stemma_views::{
    Archived, Engine, Model, Options, ResourceQuery, Sort, StateDigest, Views, ViewsStats,
};
use uuid::Uuid;
use written::*;

const CASES: u32 = 24;
fn queries(middle: Option<Timestamp>) -> Vec<ResourceQuery> {
    let mut queries = Vec::new();
    for entity_types in [
        vec![],
        vec![entity_type(0)],
        vec![entity_type(1), entity_type(0)],
    ] {
        for collection in [None, Some(collection_name(0))] {
            for archived in [Archived::No, Archived::Yes, Archived::Any] {
                for sort in [Sort::CreatedAscending, Sort::CreatedDescending, Sort::Name] {
                    for name_contains in [None, Some("ÄTHER".to_owned())] {
                        for created_after in [None, middle] {
                            queries.push(ResourceQuery {
                                entity_types: entity_types.clone(),
                                name_contains: name_contains.clone(),
                                narrowed_by: None,
                                archived,
                                collection: collection.clone(),
                                created_after,
                                sort,
                                limit: 2,
                                after: None,
                            });
                        }
                    }
                }
            }
        }
    }
    queries
}

fn check(views: &Views, model: &Plain, engine: Engine) {
    for id in (0..RESOURCES).map(resource_id) {
        let resource = model.resources.get(&id);
        let found = views.resource(id).unwrap();
        assert_eq!(found.as_deref(), resource.map(|r| &r.descriptor));
        let mut expected: Vec<AnnotationState> = resource
            .map(|r| {
                r.annotations
                    .values()
                    .map(|state| AnnotationState::clone(state))
                    .collect()
            })
            .unwrap_or_default();
        expected.sort_by_key(|state| state.added_position);
        let listed = all(|after| views.annotations(id, 2, after.as_ref()).unwrap());
        assert_eq!(listed, expected);
        let who =
            |id: ResourceId| u8::try_from(Uuid::from_bytes(*id.as_bytes()).as_u128() - 1).unwrap();
        for annotation in (0..4).map(|n| annotation_id(who(id), n)) {
            let expected = expected.iter().find(|state| state.id == annotation);
            assert_eq!(views.annotation(id, annotation).unwrap().as_ref(), expected);
        }
        for archived in [Archived::No, Archived::Yes, Archived::Any] {
            let found = all(|after| {
                views
                    .referenced_by(id, archived, 2, after.as_ref())
                    .unwrap()
            });
            assert_eq!(
                found,
                model.referenced_by(id, archived),
                "{id} {archived:?}"
            );
        }
    }
    let middle = model
        .descriptors()
        .map(|d| d.created_at)
        .nth(model.resources.len() / 2);
    for mut query in queries(middle) {
        let found = all(|after| {
            query.after = after;
            views.resources(&query).unwrap()
        });
        let found: Vec<Descriptor> = found.iter().map(|d| Descriptor::clone(d)).collect();
        assert_eq!(found, model.listed(&query), "{query:?}");
    }
    assert_eq!(
        all(|after| views.entity_types(2, after.as_ref()).unwrap()),
        model.types()
    );
    for number in 0..8 {
        let digest = content(number);
        assert_eq!(
            views.may_name_content(&digest, views.end()).unwrap(),
            model.contents.contains(&digest)
        );
    }
    let stats = ViewsStats {
        disk_bytes: 0,
        ..views.stats().unwrap()
    };
    assert_eq!(stats, model.stats(views, engine));
}

/// Folds the records in batches of these sizes, over and over, and gives the digest.
fn folded(engine: Engine, records: &[Record], cuts: &[usize], model: &Plain) -> StateDigest {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        engine,
        cache_bytes: 8 << 20,
        ..Options::default()
    };
    let views = Views::open(dir.path(), &options).unwrap().model;
    let mut cuts = cuts.iter().cycle();
    let mut left = records;
    while !left.is_empty() {
        let (batch, rest) = left.split_at(left.len().min(*cuts.next().unwrap()));
        views.apply(batch).unwrap();
        left = rest;
    }
    check(&views, model, engine);
    let digest = views.state_digest().unwrap();
    // Once more, and the last again: nothing changes.
    assert_eq!(views.apply(records).unwrap(), records.len() as u64);
    views
        .apply(&records[records.len().saturating_sub(1)..])
        .unwrap();
    assert_eq!(views.state_digest().unwrap(), digest);
    views.flush().unwrap();
    drop(views);
    let again = Views::open(dir.path(), &options).unwrap().model;
    assert_eq!(again.end(), records.len() as u64);
    assert_eq!(
        again.last_applied().unwrap(),
        records.last().map(Record::digest)
    );
    check(&again, model, engine);
    assert_eq!(again.state_digest().unwrap(), digest);
    digest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn the_views_say_what_the_events_say_on_every_engine_and_in_any_batches(
        steps in proptest::collection::vec(step(), 1..60),
        cuts in proptest::collection::vec(1_usize..8, 1..6),
    ) {
        let (records, model) = live(&steps);
        let at_once = folded(Engine::Sled, &records, &[records.len().max(1)], &model);
        let cut = folded(Engine::Sled, &records, &cuts, &model);
        let on_lsm_tree = folded(Engine::LsmTree, &records, &cuts, &model);
        prop_assert_eq!(at_once, cut);
        prop_assert_eq!(at_once, on_lsm_tree);
    }
}
