//! Random graphs of which somebody may not see all: what they are answered is what the graph of a
//! log would answer that lacks what is hidden.
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

mod written;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use stemma_cypher::{Error, Limits, Patience, Query};
use stemma_domain::access::Sight;
use stemma_domain::event::{
    AnnotationAdded, Encoded, Event, Reference, Relation, ResourceAccessChanged, ResourceCreated,
};
use stemma_domain::id::{AnnotationId, ContentDigest};
use stemma_domain::resource::Access;
use stemma_domain::value::{CollectionName, EntityType, MediaType, PrincipalName, ResourceName};
use stemma_projections::{GraphProjection, GraphStore, Projection, SeenGraph};
use stemma_views::graph::{EdgeType, GraphError, NeighborsQuery, NodeId, PathQuery};
use stemma_views::{Archived, Engine};
use uuid::Uuid;
use written::{PATIENCE, Written, id};

const CASES: u32 = 12;
const RESOURCES: u64 = 7;

#[derive(Debug, Clone)]
struct Made {
    number: u64,
    is_hidden: bool,
    kind: Option<u8>,
    collection: Option<u8>,
    from: Option<u64>,
    /// What each of its annotations names.
    names: Vec<u64>,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let one = |number| {
        let other = || 1..=RESOURCES;
        let from = proptest::option::of(other());
        let names = proptest::collection::vec(other(), 0..3);
        let (kind, collection) = (proptest::option::of(0..3_u8), proptest::option::of(0..2_u8));
        (any::<bool>(), kind, collection, from, names).prop_map(
            move |(is_hidden, kind, collection, from, names)| Made {
                number,
                is_hidden,
                kind,
                collection,
                from,
                names,
            },
        )
    };
    (1..=RESOURCES).map(one).collect::<Vec<_>>()
}

fn annotation(of: u64, index: usize) -> AnnotationId {
    AnnotationId::new(Uuid::from_u128(1000 + 10 * u128::from(of) + index as u128))
}

fn events(made: &Made) -> Vec<Encoded> {
    let label = |prefix: &str, number: u8| format!("{prefix} {number}");
    let access = if made.is_hidden {
        Access::private()
    } else {
        Access::default()
    };
    let kinds = made
        .kind
        .map(|kind| EntityType::new(&label("kind", kind)).unwrap());
    let collection = made
        .collection
        .map(|n| CollectionName::new(&label("place", n)).unwrap());
    let created = Event::ResourceCreated(ResourceCreated {
        access,
        byte_size: 1,
        collection,
        derived_from: made.from.map(id),
        digest: ContentDigest::from_bytes([1; 32]),
        entity_types: kinds.into_iter().collect(),
        id: id(made.number),
        language: None,
        media_type: MediaType::new("text/plain").unwrap(),
        metadata: serde_json::Map::new(),
        name: ResourceName::new(&format!("resource {}", made.number)).unwrap(),
    });
    let mut events = vec![created.encode()];
    events.extend(made.names.iter().enumerate().map(|(index, named)| {
        let reference = Reference {
            relation: Relation::Body,
            resource_id: id(*named),
        };
        let added = AnnotationAdded {
            annotation: json!({ "type": "Annotation", "motivation": "linking" }).into(),
            annotation_id: annotation(made.number, index),
            references: vec![reference],
        };
        Event::AnnotationAdded(added).encode()
    }));
    events
}

/// A log of some of what was made, and the graph and views of it.
fn folded<'m>(made: impl Iterator<Item = &'m Made>) -> (Written, GraphProjection, Projection) {
    let written = Written::new();
    let writer = written.writer();
    for made in made {
        writer.append_as("tester", &id(made.number).stream_name(), events(made));
    }
    let end = written.reader().end().get();
    let settings = |name: &str| stemma_projections::Settings {
        dir: written.beside(name),
        ..written.settings(Engine::LsmTree)
    };
    let graph = GraphProjection::embedded(settings("graph")).unwrap();
    let views = Projection::start(settings("views")).unwrap();
    written.runtime.block_on(graph.opened(PATIENCE));
    written
        .runtime
        .block_on(graph.wait_for(end, PATIENCE))
        .unwrap();
    written
        .runtime
        .block_on(views.wait_for(end, PATIENCE))
        .unwrap();
    (written, graph, views)
}

/// All that a graph is asked, without the times, which differ between two logs.
fn told(graph: &dyn GraphStore, nodes: &[NodeId]) -> Vec<String> {
    let mut told = Vec::new();
    let missing = |error: GraphError| match error {
        GraphError::NoNode(_) => "none".to_owned(),
        error => panic!("{error}"),
    };
    for of in nodes {
        for (relation, limit) in [(None, 100), (Some(EdgeType::Created), 100), (None, 3)] {
            let around = graph.neighbors(&NeighborsQuery {
                of: of.clone(),
                depth: 3,
                relation,
                archived: Archived::No,
                limit,
                rows_max: 10_000,
            });
            told.push(around.map_or_else(missing, |around| {
                let nodes = around.nodes.iter();
                let nodes: Vec<_> = nodes
                    .map(|(n, at)| (n.id.clone(), n.name.clone(), *at))
                    .collect();
                format!("{nodes:?} {:?} {}", around.edges, around.is_truncated)
            }));
        }
        for to in nodes {
            let way = graph.shortest_path(&PathQuery {
                from: of.clone(),
                to: to.clone(),
                depth_max: 6,
                rows_max: 10_000,
            });
            told.push(way.map_or_else(missing, |way| {
                let ids = |way: stemma_views::graph::ShortestPath| {
                    let nodes: Vec<_> = way.nodes.into_iter().map(|node| node.id).collect();
                    format!("{nodes:?} {:?}", way.edges)
                };
                way.map_or_else(|| "no way".to_owned(), ids)
            }));
        }
    }
    let patience = Patience::of(&Limits::default(), Arc::default());
    let queried = graph.queried(&patience);
    for text in [
        "MATCH (n) RETURN n.id, n.name ORDER BY n.id",
        "MATCH (a)-[r]-(b) RETURN a.id, type(r), b.id ORDER BY a.id, type(r), b.id",
        "MATCH (c:Collection {name: 'place 0'})<-[r]-(b) RETURN count(b)",
        "MATCH (p:Person)-->(x) RETURN p.name, count(x) ORDER BY p.name",
    ] {
        let limits = Limits::default();
        let answer = Query::parse(text, &limits).and_then(|query| {
            query.run(
                &*queried,
                &std::collections::BTreeMap::new(),
                &limits,
                &patience,
            )
        });
        told.push(format!("{text}: {:?}", answer.map(|answer| answer.rows)));
    }
    told
}

fn asked_about() -> Vec<NodeId> {
    let resources = (1..=RESOURCES).map(|number| NodeId::Resource(id(number)));
    let annotations = (1..=3).map(|number| NodeId::Annotation(annotation(number, 0)));
    let hubs = [
        NodeId::Person("tester".to_owned()),
        NodeId::Collection("place 0".to_owned()),
        NodeId::EntityType("kind 1".to_owned()),
    ];
    resources.chain(annotations).chain(hubs).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn a_graph_is_answered_from_as_if_what_is_hidden_had_never_been(made in made()) {
        let nodes = asked_about();
        let (_all, graph, views) = folded(made.iter());
        let (_rest, without, _) = folded(made.iter().filter(|made| !made.is_hidden));
        let nina = Sight::Of(PrincipalName::new("nina").unwrap());
        let whole = graph.store().unwrap();
        let seen = SeenGraph::of(Arc::clone(&whole), &views, &nina);
        let expected = told(&*without.store().unwrap(), &nodes);
        for (seen, expected) in told(&*seen, &nodes).iter().zip(&expected) {
            prop_assert_eq!(seen, expected);
        }
        // Whoever sees everything is answered by the graph itself.
        let everything = SeenGraph::of(Arc::clone(&whole), &views, &Sight::Everything);
        prop_assert_eq!(told(&*everything, &nodes), told(&*whole, &nodes));
        graph.stop();
        without.stop();
        views.stop();
    }
}

/// One look that passes over much that is hidden ends as its question does.
#[test]
fn whoever_sees_little_of_a_graph_is_asked_no_longer_than_they_wait() {
    let hidden = |number| Made {
        number,
        is_hidden: true,
        kind: Some(1),
        collection: Some(0),
        from: None,
        names: vec![1],
    };
    let made: Vec<Made> = (1..=3).map(hidden).collect();
    let (_written, graph, views) = folded(made.iter());
    let nina = Sight::Of(PrincipalName::new("nina").unwrap());
    let seen = SeenGraph::of(graph.store().unwrap(), &views, &nina);
    let hurried = Limits {
        time: std::time::Duration::ZERO,
        ..Limits::default()
    };
    let is_over = |error: &Error| matches!(error, Error::Limit { .. });
    let is_gone = |error: &Error| *error == Error::Cancelled;
    let gone = Patience::of(&Limits::default(), Arc::new(true.into()));
    let late = Patience::of(&hurried, Arc::default());
    let hub = "collection:place 0";
    for (patience, is_expected) in [(&late, is_over as fn(&Error) -> bool), (&gone, is_gone)] {
        let look = seen.queried(patience);
        let nodes = look.nodes(None, None, 10).unwrap_err();
        assert!(is_expected(&nodes), "{nodes:?}");
        let either = stemma_cypher::Direction::Either;
        let edges = look.relationships(hub, either, &[], None, 10).unwrap_err();
        assert!(is_expected(&edges), "{edges:?}");
        // Whether a hub is seen is a walk of its own, along all that lead there.
        let properties = look.properties(hub).unwrap_err();
        assert!(is_expected(&properties), "{properties:?}");
    }
    let patient = Patience::of(&Limits::default(), Arc::default());
    assert!(seen.queried(&patient).properties(hub).unwrap().is_none());
    graph.stop();
    views.stop();
}

/// What was seen when it was asked about first is not shown any more once it is hidden.
#[test]
fn what_is_hidden_while_a_query_runs_is_hidden_from_the_rest_of_it() {
    let open = |number| Made {
        number,
        is_hidden: false,
        kind: None,
        collection: None,
        from: None,
        names: vec![],
    };
    // One that is hidden already has what is seen looked at.
    let hidden = Made {
        is_hidden: true,
        ..open(2)
    };
    let (written, graph, views) = folded([open(1), hidden].iter());
    let nina = Sight::Of(PrincipalName::new("nina").unwrap());
    let seen = SeenGraph::of(graph.store().unwrap(), &views, &nina);
    let patience = Patience::of(&Limits::default(), Arc::default());
    let look = seen.queried(&patience);
    let shown = || look.properties(&id(1).to_string()).unwrap().is_some();
    assert!(shown());
    let changed = Event::ResourceAccessChanged(ResourceAccessChanged {
        access: Access::private(),
    });
    let stream = id(1).stream_name();
    let writer = written.writer();
    writer.append_as("tester", &stream, vec![changed.encode()]);
    let end = written.reader().end().get();
    let waited = written.runtime.block_on(views.wait_for(end, PATIENCE));
    waited.unwrap();
    assert!(!shown());
    graph.stop();
    views.stop();
}
