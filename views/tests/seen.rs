//! Random lives of resources that not everybody may read: what somebody sees of the views is what
//! there would be if the rest had never been.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_imports)]

mod recorded;
mod written;

use proptest::prelude::*;
use recorded::{ACTOR, Recorded};
use stemma_domain::access::Sight;
use stemma_domain::event::{Event, JobQueued, Metadata, REQUESTS_STREAM, RequestAnswered};
use stemma_domain::id::JobId;
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::value::{JobKind, PrincipalName};
use stemma_event_log::Record;
use stemma_views::{Archived, Cursor, Model, Options, Page, ResourceQuery, Seen, Sort, Views};
use uuid::Uuid;
use written::*;

const CASES: u32 = 48;

fn sights() -> Vec<Sight> {
    let of = |name: &str| Sight::Of(PrincipalName::new(name).unwrap());
    vec![
        Sight::Everything,
        of("rita"),
        of("nina"),
        of("otto"),
        of(ACTOR),
    ]
}

fn queries() -> Vec<ResourceQuery> {
    let mut queries = Vec::new();
    for entity_types in [vec![], vec![entity_type(0)]] {
        for collection in [None, Some(collection_name(0))] {
            for sort in [Sort::CreatedAscending, Sort::CreatedDescending, Sort::Name] {
                for archived in [Archived::No, Archived::Any] {
                    queries.push(ResourceQuery {
                        entity_types: entity_types.clone(),
                        collection: collection.clone(),
                        sort,
                        archived,
                        limit: 2,
                        ..ResourceQuery::default()
                    });
                }
            }
        }
    }
    queries
}

/// All items, page by page; that there is a cursor tells of items that are seen, and of no others.
fn all_seen<T>(mut page: impl FnMut(Option<Cursor>) -> Page<T>) -> Vec<T> {
    let mut is_first = true;
    all(|after| {
        let page = page(after);
        assert!(is_first || !page.items.is_empty(), "a cursor to nothing");
        is_first = false;
        page
    })
}

/// Holds what is seen against a model that lacks what is not; pages are as full as they can be.
fn check(seen: &Seen, model: &Plain, records: &[Record]) {
    for mut query in queries() {
        let expected = model.listed(&query);
        let mut pages = Vec::new();
        let found = all_seen(|after| {
            query.after = after;
            let page = seen.resources(&query).unwrap();
            pages.push(page.items.len());
            page
        });
        let found: Vec<Descriptor> = found.iter().map(|d| Descriptor::clone(d)).collect();
        assert_eq!(found, expected, "{query:?}");
        let full = pages.iter().take(expected.len() / 2);
        assert!(full.copied().all(|items| items == 2), "{pages:?}");
    }
    let listed = all_seen(|after| seen.entity_types(2, after.as_ref()).unwrap());
    assert_eq!(listed, model.types());
    for row in &listed {
        assert_eq!(seen.entity_type(&row.name).unwrap().as_ref(), Some(row));
    }
    for id in (0..RESOURCES).map(resource_id) {
        let resource = model.resources.get(&id);
        let found = seen.resource(id).unwrap();
        assert_eq!(found.as_deref(), resource.map(|r| &r.descriptor));
        let annotations = all(|after| seen.annotations(id, 2, after.as_ref()).unwrap());
        assert_eq!(
            annotations.len(),
            resource.map_or(0, |r| r.annotations.len())
        );
        for AnnotationState { id: annotation, .. } in &annotations {
            assert!(seen.annotation(id, *annotation).unwrap().is_some());
        }
        let named = all_seen(|after| {
            let page = seen.referenced_by(id, Archived::Any, 2, after.as_ref());
            page.unwrap()
        });
        assert_eq!(named, model.referenced_by(id, Archived::Any));
        let of_it = |record: &&Record| record.stream() == id.stream_name();
        for record in records.iter().filter(of_it) {
            assert_eq!(seen.shows(record).unwrap(), resource.is_some());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn what_somebody_sees_is_what_there_would_be_without_the_rest(
        steps in proptest::collection::vec(step(), 1..60),
        cuts in proptest::collection::vec(1_usize..8, 1..6),
    ) {
        let (records, model) = live(&steps);
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cache_bytes: 8 << 20, ..Options::default() };
        let views = Views::open(dir.path(), &options).unwrap().model;
        let mut cuts = cuts.iter().cycle();
        let mut left = records.as_slice();
        while !left.is_empty() {
            let (batch, rest) = left.split_at(left.len().min(*cuts.next().unwrap()));
            views.apply(batch).unwrap();
            left = rest;
        }
        for sight in sights() {
            check(&views.seen_by(&sight), &model.seen_by(&sight), &records);
        }
        let is_open = |d: &Descriptor| d.access.is_open();
        let nobody = views.seen_by(&sights()[3]);
        prop_assert_eq!(nobody.is_everything(), model.descriptors().all(is_open));
        // Opened again, it is known how many there are that not everybody may read.
        views.flush().unwrap();
        drop((views, nobody));
        let again = Views::open(dir.path(), &options).unwrap().model;
        let nobody = again.seen_by(&sights()[3]);
        prop_assert_eq!(nobody.is_everything(), model.descriptors().all(is_open));
    }
}

/// What a repeated upload found was told to the whole tenant, a document that is private too.
#[test]
fn an_answer_is_seen_by_those_who_see_what_it_names() {
    let mut recorded = Recorded::new();
    // The first is private, the second open.
    for (who, access) in [(0, 0), (1, 7)] {
        let made = Step::Create {
            who,
            name: 0,
            types: vec![],
            collection: None,
            from: None,
            access,
        };
        let (stream, events) = Plain::default().events(&made);
        recorded.append(&stream, &events);
    }
    let job = JobId::new(Uuid::from_u128(7));
    let queued = Event::JobQueued(JobQueued {
        document_id: Some(resource_id(0)),
        id: job,
        max_retries: 0,
        payload: Metadata::new(),
        priority: 0,
        trace_id: "trace".to_owned(),
        kind: JobKind::new("document.process").unwrap(),
    });
    recorded.append(&job.stream_name(), &[queued]);
    let answers = [
        (Some(0), Some(job)),
        (Some(0), None),
        (Some(1), Some(job)),
        (Some(1), None),
        (None, None),
    ];
    for (document, job_id) in answers {
        let found = RequestAnswered {
            document_id: document.map(resource_id),
            job_id,
        };
        recorded.append(REQUESTS_STREAM, &[Event::RequestAnswered(found)]);
    }
    let records = recorded.records();
    let dir = tempfile::tempdir().unwrap();
    let views = Views::open(dir.path(), &Options::default()).unwrap().model;
    views.apply(&records).unwrap();
    let shown = |sight: &Sight| {
        let seen = views.seen_by(sight);
        let of_answers = records.iter().filter(|r| r.stream() == REQUESTS_STREAM);
        let shown = of_answers.map(|record| seen.shows(record).unwrap());
        shown.collect::<Vec<_>>()
    };
    let sights = sights();
    let [everything, _, nina, _, owner] = &sights[..] else {
        panic!("five of them");
    };
    assert_eq!(shown(nina), [false, false, false, true, true]);
    assert_eq!(shown(owner), [true; 5]);
    assert_eq!(shown(everything), [true; 5]);
}
