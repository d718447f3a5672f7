//! What cannot be used is moved aside, what cannot be applied stops the fold, and pages end.
#![allow(missing_docs, clippy::unwrap_used)]

mod recorded;

use std::fs;

use recorded::Recorded;
use stemma_domain::event::{Encoded, Event, Metadata, ResourceCreated, ResourceRenamed};
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::value::{MediaType, ResourceName};
use stemma_views::{
    CursorError, Engine, Model, OpenError, OpenState, Options, QueryError, ResourceQuery, Sort,
    Views,
};
use uuid::Uuid;

fn options(engine: Engine) -> Options {
    Options {
        engine,
        cache_bytes: 8 << 20,
        ..Options::default()
    }
}

fn id(number: u128) -> ResourceId {
    ResourceId::new(Uuid::from_u128(number))
}

fn created(number: u128, name: &str) -> Event {
    Event::ResourceCreated(ResourceCreated {
        access: stemma_domain::resource::Access::default(),
        byte_size: 1,
        collection: None,
        derived_from: None,
        digest: ContentDigest::from_bytes([1; 32]),
        entity_types: vec![],
        id: id(number),
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: Metadata::new(),
        name: ResourceName::new(name).unwrap(),
    })
}

fn with_resources(count: u128) -> Recorded {
    let mut recorded = Recorded::new();
    for number in 1..=count {
        recorded.append(
            &id(number).stream_name(),
            &[created(number, &format!("r{number}"))],
        );
    }
    recorded
}

#[test]
fn a_store_that_does_not_open_is_moved_aside_and_the_views_are_empty() {
    for engine in Engine::ALL {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("gen-000001");
        let store = place.join(engine.to_string());
        fs::create_dir_all(place.join("x")).unwrap();
        // A file where the engine wants a directory.
        fs::write(&store, "rubbish").unwrap();
        let opened = Views::open(&place, &options(engine)).unwrap();
        let OpenState::Replaced { kept_as, .. } = opened.state else {
            panic!("{engine}: {:?}", opened.state)
        };
        assert_eq!(kept_as, dir.path().join("gen-000001.unusable-1"));
        assert_eq!(
            fs::read(kept_as.join(engine.to_string())).unwrap(),
            b"rubbish"
        );
        assert_eq!(opened.model.end(), 0);
        opened.model.apply(&with_resources(2).records()).unwrap();
        assert!(opened.model.resource(id(2)).unwrap().is_some());
    }
}

#[test]
fn views_that_are_open_elsewhere_are_left_alone() {
    for engine in Engine::ALL {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("gen-000001");
        let views = Views::open(&place, &options(engine)).unwrap().model;
        views.apply(&with_resources(1).records()).unwrap();
        let second = Views::open(&place, &options(engine)).unwrap_err();
        assert!(
            matches!(second, OpenError::Locked { .. }),
            "{engine}: {second:?}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(views.resource(id(1)).unwrap().is_some());
    }
}

#[test]
fn another_engine_starts_empty_and_clears_the_first_ones_rows() {
    let dir = tempfile::tempdir().unwrap();
    let views = Views::open(dir.path(), &options(Engine::Sled))
        .unwrap()
        .model;
    views.apply(&with_resources(3).records()).unwrap();
    drop(views);
    let opened = Views::open(dir.path(), &options(Engine::LsmTree)).unwrap();
    assert_eq!((opened.state, opened.model.end()), (OpenState::Fresh, 0));
    assert!(!dir.path().join("sled").exists());
}

#[test]
fn nothing_is_made_where_views_are_only_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Views::open_existing(&dir.path().join("none"), &options(Engine::Sled));
    assert!(matches!(missing.unwrap_err(), OpenError::Missing { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn discarded_views_answer_until_the_last_handle_is_gone_and_then_leave_the_disk() {
    for engine in Engine::ALL {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("gen-000001");
        let views = Views::open(&place, &options(engine)).unwrap().model;
        views.apply(&with_resources(1).records()).unwrap();
        let reader = views.clone();
        views.discard_when_unused();
        drop(views);
        assert!(reader.resource(id(1)).unwrap().is_some());
        assert!(place.exists());
        drop(reader);
        assert!(!place.exists(), "{engine}");
    }
}

#[test]
fn an_event_that_cannot_be_applied_stops_the_fold_and_all_before_it_are_in() {
    let unknown = Encoded {
        event_type: "resource.exploded",
        schema_version: 1,
        data: b"{}".into(),
    };
    let renamed = Event::ResourceRenamed(ResourceRenamed {
        name: ResourceName::new("x").unwrap(),
    });
    let strange: [(&str, Encoded); 4] = [
        // Unknown, malformed, not the first of a stream, and of another resource than its stream.
        (
            "resource-00000000-0000-0000-0000-000000000001",
            unknown.clone(),
        ),
        (
            "resource-00000000-0000-0000-0000-000000000001",
            Encoded {
                event_type: "resource.renamed",
                ..unknown
            },
        ),
        (
            "resource-00000000-0000-0000-0000-000000000009",
            renamed.encode(),
        ),
        (
            "resource-00000000-0000-0000-0000-000000000009",
            created(8, "x").encode(),
        ),
    ];
    for (stream, event) in strange {
        let dir = tempfile::tempdir().unwrap();
        let views = Views::open(dir.path(), &options(Engine::Sled))
            .unwrap()
            .model;
        let mut recorded = with_resources(2);
        recorded.append_encoded(stream, vec![event.clone()]);
        recorded.append(&id(3).stream_name(), &[created(3, "after")]);
        let error = views.apply(&recorded.records()).unwrap_err();
        assert_eq!(
            (error.position, error.event_type.as_str()),
            (2, event.event_type)
        );
        assert_eq!(views.end(), 2);
        assert!(views.resource(id(2)).unwrap().is_some());
        assert!(views.resource(id(3)).unwrap().is_none());
        let digest = views.state_digest().unwrap();
        assert!(views.apply(&recorded.records()).is_err());
        assert_eq!((views.end(), views.state_digest().unwrap()), (2, digest));
    }
}

#[test]
fn a_page_ends_after_so_many_rows_and_the_next_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        page_rows_max: 3,
        ..options(Engine::Sled)
    };
    let views = Views::open(dir.path(), &options).unwrap().model;
    views.apply(&with_resources(10).records()).unwrap();
    let mut query = ResourceQuery {
        name_contains: Some("r9".to_owned()),
        limit: 5,
        ..ResourceQuery::default()
    };
    let (mut pages, mut found) = (0, Vec::new());
    loop {
        let page = views.resources(&query).unwrap();
        pages += 1;
        found.extend(page.items.iter().map(|d| d.id));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (4, vec![id(9)]));
}

#[test]
fn a_page_is_full_once_its_items_have_so_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let open = |page_bytes_max| {
        let options = Options {
            page_bytes_max,
            ..options(Engine::Sled)
        };
        Views::open(dir.path(), &options).unwrap().model
    };
    let views = open(1);
    views.apply(&with_resources(4).records()).unwrap();
    let lengths = |views: &Views| {
        let mut query = ResourceQuery {
            limit: 3,
            ..ResourceQuery::default()
        };
        let (mut lengths, mut found) = (Vec::new(), Vec::new());
        loop {
            let page = views.resources(&query).unwrap();
            lengths.push(page.items.len());
            found.extend(page.items.iter().map(|d| d.id));
            query.after = page.next;
            if query.after.is_none() {
                found.sort_unstable();
                found.dedup();
                assert_eq!(found.len(), 4);
                return lengths;
            }
        }
    };
    assert_eq!(lengths(&views), [1, 1, 1, 1]);
    drop(views);
    assert_eq!(lengths(&open(1 << 20)), [3, 1]);
}

#[test]
fn a_cursor_of_another_list_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let views = Views::open(dir.path(), &options(Engine::Sled))
        .unwrap()
        .model;
    views.apply(&with_resources(3).records()).unwrap();
    let by_name = ResourceQuery {
        sort: Sort::Name,
        limit: 1,
        ..ResourceQuery::default()
    };
    let after = views.resources(&by_name).unwrap().next;
    assert!(after.is_some());
    let refused = views.resources(&ResourceQuery {
        sort: Sort::CreatedDescending,
        after,
        ..by_name
    });
    assert!(matches!(
        refused,
        Err(QueryError::Cursor(CursorError::OtherQuery))
    ));
}
