//! Random lives of resources: the graph holds just the nodes and edges that the plain fold of the
//! events has (A6, A7), lists what the views list with cursors good for both (A4), and answers for
//! neighbors and paths as a search over all edges does.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_imports)]

mod recorded;
mod written;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use recorded::ACTOR;
use stemma_domain::event::Relation;
use stemma_domain::id::ResourceId;
use stemma_event_log::Record;
use stemma_views::graph::{EdgeType, Graph, Label, NeighborsQuery, NodeId, PathQuery};
use stemma_views::{Archived, Engine, Model, Options, ResourceQuery, Sort, StateDigest, Views};
use written::*;

const CASES: u32 = 24;
const ENOUGH: usize = 100_000;

type Link = (EdgeType, NodeId, NodeId);

/// Every edge, by the definition in docs/graph.md; those to resources that are not there too.
fn links(plain: &Plain) -> BTreeSet<Link> {
    let mut links = BTreeSet::new();
    let person = NodeId::Person(ACTOR.to_owned());
    for resource in plain.resources.values() {
        let d = &resource.descriptor;
        let this = NodeId::Resource(d.id);
        links.insert((EdgeType::Created, person.clone(), this.clone()));
        for name in &d.entity_types {
            let entity_type = NodeId::EntityType(name.as_str().to_owned());
            links.insert((EdgeType::HasType, this.clone(), entity_type));
        }
        if let Some(name) = &d.collection {
            let collection = NodeId::Collection(name.as_str().to_owned());
            links.insert((EdgeType::InCollection, this.clone(), collection));
        }
        if let Some(source) = d.derived_from {
            links.insert((
                EdgeType::DerivedFrom,
                this.clone(),
                NodeId::Resource(source),
            ));
        }
        for annotation in resource.annotations.values() {
            let noted = NodeId::Annotation(annotation.id);
            links.insert((EdgeType::Created, person.clone(), noted.clone()));
            links.insert((EdgeType::Annotates, noted.clone(), this.clone()));
            for reference in &annotation.references {
                let named = NodeId::Resource(reference.resource_id);
                if reference.relation == Relation::Body {
                    links.insert((EdgeType::RefersTo, noted.clone(), named));
                } else if named != this {
                    links.insert((EdgeType::Targets, noted.clone(), named));
                }
            }
        }
    }
    links
}

/// Every node that is there.
fn nodes(plain: &Plain, links: &BTreeSet<Link>) -> BTreeSet<NodeId> {
    let ends = links.iter().flat_map(|(_, from, to)| [from, to]).cloned();
    let mut nodes: BTreeSet<NodeId> = ends
        .filter(|id| !matches!(id, NodeId::Resource(_)))
        .collect();
    nodes.extend(plain.resources.keys().copied().map(NodeId::Resource));
    let registered = plain.registered.keys();
    nodes.extend(registered.map(|name| NodeId::EntityType(name.as_str().to_owned())));
    nodes
}

struct Plainly<'a> {
    links: BTreeSet<Link>,
    nodes: BTreeSet<NodeId>,
    plain: &'a Plain,
}

impl<'a> Plainly<'a> {
    fn of(plain: &'a Plain) -> Self {
        let links = links(plain);
        Self {
            nodes: nodes(plain, &links),
            links,
            plain,
        }
    }

    fn is_archived(&self, id: &NodeId) -> bool {
        let NodeId::Resource(id) = id else {
            return false;
        };
        self.plain
            .resources
            .get(id)
            .is_some_and(|r| r.descriptor.archived)
    }

    /// Distances from a node, through wanted nodes only.
    fn distances(
        &self,
        from: &NodeId,
        relation: Option<EdgeType>,
        is_wanted: impl Fn(&NodeId) -> bool,
    ) -> BTreeMap<NodeId, u32> {
        let mut distances = BTreeMap::from([(from.clone(), 0)]);
        let mut waiting = VecDeque::from([from.clone()]);
        while let Some(node) = waiting.pop_front() {
            let next = distances[&node] + 1;
            for (edge, one, other) in &self.links {
                if relation.is_some_and(|wanted| wanted != *edge) {
                    continue;
                }
                let far = match () {
                    () if *one == node => other,
                    () if *other == node => one,
                    () => continue,
                };
                if self.nodes.contains(far) && is_wanted(far) && !distances.contains_key(far) {
                    distances.insert(far.clone(), next);
                    waiting.push_back(far.clone());
                }
            }
        }
        distances
    }

    fn check(&self, graph: &Graph) {
        let stats = graph.stats().unwrap();
        for (label, count) in stats.nodes {
            let expected = self.nodes.iter().filter(|id| id.label() == label).count();
            assert_eq!(count, expected as u64, "{label:?}");
        }
        for (edge, count) in stats.edges {
            let expected = self.links.iter().filter(|link| link.0 == edge).count();
            assert_eq!(count, expected as u64, "{edge:?}");
        }
        for id in &self.nodes {
            let node = graph.node(id).unwrap().unwrap();
            assert_eq!(node.archived, self.is_archived(id));
            for (depth, relation, archived) in [
                (1, None, Archived::Any),
                (2, None, Archived::No),
                (5, Some(EdgeType::RefersTo), Archived::Any),
            ] {
                self.check_neighbors(graph, id, (depth, relation, archived));
            }
        }
        for who in 0..RESOURCES {
            let id = NodeId::Resource(resource_id(who));
            let is_there = graph.node(&id).unwrap().is_some();
            assert_eq!(is_there, self.nodes.contains(&id));
        }
        self.check_paths(graph);
    }

    fn check_neighbors(
        &self,
        graph: &Graph,
        of: &NodeId,
        (depth, relation, archived): (u32, Option<EdgeType>, Archived),
    ) {
        let is_wanted = |id: &NodeId| archived == Archived::Any || !self.is_archived(id);
        let distances = self.distances(of, relation, is_wanted);
        let near = distances.iter().filter(|(_, d)| (1..=depth).contains(*d));
        let mut expected: Vec<_> = near.map(|(id, d)| (*d, id.to_string())).collect();
        expected.sort();
        let query = NeighborsQuery {
            of: of.clone(),
            depth,
            relation,
            archived,
            limit: ENOUGH,
            rows_max: ENOUGH,
        };
        let found = graph.neighbors(&query).unwrap();
        let listed = found
            .nodes
            .iter()
            .map(|(node, d)| (*d, node.id.to_string()));
        assert!(
            listed.eq(expected.iter().cloned()),
            "{of} {expected:?} {found:?}"
        );
        let met = |(edge, from, to): &Link| {
            let ends = [from, to].map(|end| distances.get(end).copied());
            relation.is_none_or(|wanted| wanted == *edge)
                && ends.iter().all(|d| d.is_some_and(|d| d <= depth))
                && ends.iter().any(|d| d.is_some_and(|d| d < depth))
        };
        let edges: BTreeSet<Link> = found
            .edges
            .iter()
            .map(|edge| (edge.edge_type, edge.from.clone(), edge.to.clone()))
            .collect();
        let expected_edges = self.links.iter().filter(|link| met(link)).cloned();
        assert_eq!(edges, expected_edges.collect::<BTreeSet<_>>(), "{of}");
        // The same with room for two: the first two, that there are more, and their edges.
        let few = graph
            .neighbors(&NeighborsQuery { limit: 2, ..query })
            .unwrap();
        assert_eq!(few.nodes, found.nodes[..found.nodes.len().min(2)]);
        assert_eq!(few.is_truncated, found.nodes.len() > 2);
        let shown = |id: &NodeId| id == of || few.nodes.iter().any(|(node, _)| node.id == *id);
        let expanded = |id: &NodeId| {
            let depth = few.nodes.iter().find(|(node, _)| node.id == *id);
            let deepest = few.nodes.last().map_or(1, |(_, depth)| *depth);
            id == of || depth.is_some_and(|(_, depth)| *depth < deepest.max(1))
        };
        for edge in &found.edges {
            if shown(&edge.from) && shown(&edge.to) && (expanded(&edge.from) || expanded(&edge.to))
            {
                assert!(few.edges.contains(edge), "{edge:?} {few:?}");
            }
        }
    }

    fn check_paths(&self, graph: &Graph) {
        for from in self.nodes.iter().step_by(3) {
            let distances = self.distances(from, None, |_| true);
            for to in self.nodes.iter().step_by(2) {
                let query = PathQuery {
                    from: from.clone(),
                    to: to.clone(),
                    depth_max: 4,
                    rows_max: ENOUGH,
                };
                let found = graph.shortest_path(&query).unwrap();
                let expected = distances.get(to).filter(|d| **d <= 4);
                let found_ids = found.as_ref().map(|way| {
                    let ids = way.nodes.iter().map(|node| node.id.to_string());
                    ids.collect::<Vec<_>>()
                });
                assert_eq!(found_ids, expected.map(|_| self.first_path(from, to)));
                for (edge, ends) in found
                    .iter()
                    .flat_map(|way| way.edges.iter().zip(way.nodes.windows(2)))
                {
                    let link = (edge.edge_type, edge.from.clone(), edge.to.clone());
                    assert!(self.links.contains(&link));
                    let ends = BTreeSet::from([&ends[0].id, &ends[1].id]);
                    assert_eq!(ends, BTreeSet::from([&edge.from, &edge.to]));
                }
            }
        }
    }

    /// Of all shortest paths the one whose ids sort first.
    fn first_path(&self, from: &NodeId, to: &NodeId) -> Vec<String> {
        let to_go = self.distances(to, None, |_| true);
        let (mut path, mut at) = (vec![from.to_string()], from.clone());
        while at != *to {
            let next = self.distances(&at, None, |_| true);
            let next = next.iter().filter(|(_, d)| **d == 1).map(|(id, _)| id);
            let nearer = next.filter(|id| to_go.get(*id) == Some(&(to_go[&at] - 1)));
            at = nearer.min_by_key(ToString::to_string).unwrap().clone();
            path.push(at.to_string());
        }
        path
    }
}

/// Lists as the views do, page by page, each page from the other one of the two.
fn check_lists(graph: &Graph, views: &Views, plain: &Plain) {
    for entity_types in [vec![entity_type(0)], vec![entity_type(1), entity_type(0)]] {
        for archived in [Archived::No, Archived::Yes, Archived::Any] {
            for sort in [Sort::CreatedAscending, Sort::CreatedDescending] {
                for collection in [None, Some(collection_name(0))] {
                    let mut query = ResourceQuery {
                        entity_types: entity_types.clone(),
                        archived,
                        sort,
                        collection,
                        limit: 1,
                        ..ResourceQuery::default()
                    };
                    assert!(Graph::can_list(&query));
                    let mut by_graph = false;
                    let found: Vec<ResourceId> = all(|after| {
                        query.after = after;
                        by_graph = !by_graph;
                        if by_graph {
                            return graph.resources(&query).unwrap();
                        }
                        let page = views.resources(&query).unwrap();
                        stemma_views::Page {
                            items: page.items.iter().map(|d| d.id).collect(),
                            next: page.next,
                        }
                    });
                    let expected = plain.listed(&query);
                    assert!(found.iter().eq(expected.iter().map(|d| &d.id)), "{query:?}");
                }
            }
        }
    }
}

fn folded(engine: Engine, records: &[Record], cuts: &[usize], plain: &Plain) -> StateDigest {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        engine,
        cache_bytes: 8 << 20,
        ..Options::default()
    };
    let graph = Graph::open(&dir.path().join("graph"), &options)
        .unwrap()
        .model;
    let views = Views::open(&dir.path().join("views"), &options)
        .unwrap()
        .model;
    views.apply(records).unwrap();
    let mut cuts = cuts.iter().cycle();
    let mut left = records;
    while !left.is_empty() {
        let (batch, rest) = left.split_at(left.len().min(*cuts.next().unwrap()));
        graph.apply(batch).unwrap();
        left = rest;
    }
    Plainly::of(plain).check(&graph);
    check_lists(&graph, &views, plain);
    let digest = graph.state_digest().unwrap();
    // Once more: nothing changes.
    assert_eq!(graph.apply(records).unwrap(), records.len() as u64);
    assert_eq!(graph.state_digest().unwrap(), digest);
    assert_eq!(graph.stats().unwrap().end, records.len() as u64);
    digest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn the_graph_is_what_the_events_say_on_every_engine_and_in_any_batches(
        steps in proptest::collection::vec(step(), 1..60),
        cuts in proptest::collection::vec(1_usize..8, 1..6),
    ) {
        let (records, plain) = live(&steps);
        let at_once = folded(Engine::Sled, &records, &[records.len().max(1)], &plain);
        let cut = folded(Engine::LsmTree, &records, &cuts, &plain);
        prop_assert_eq!(at_once, cut);
    }
}

#[test]
fn a_question_that_leads_too_far_ends_early_and_says_so() {
    let steps: Vec<Step> = (0..RESOURCES)
        .map(|who| Step::Create {
            who,
            name: 0,
            types: vec![0],
            collection: None,
            from: None,
            access: 0,
        })
        .collect();
    let (records, plain) = live(&steps);
    let dir = tempfile::tempdir().unwrap();
    let graph = Graph::open(dir.path(), &Options::default()).unwrap().model;
    graph.apply(&records).unwrap();
    let hub = NodeId::Person(ACTOR.to_owned());
    let query = NeighborsQuery {
        of: hub.clone(),
        depth: 1,
        relation: None,
        archived: Archived::Any,
        limit: ENOUGH,
        rows_max: 3,
    };
    let found = graph.neighbors(&query).unwrap();
    assert!(found.is_truncated && found.nodes.len() == 3, "{found:?}");
    let query = PathQuery {
        from: hub,
        to: NodeId::EntityType(entity_type(0).as_str().to_owned()),
        depth_max: 5,
        rows_max: 3,
    };
    let refused = graph.shortest_path(&query).unwrap_err().to_string();
    assert_eq!(refused, "the answer lies behind more than 3 edges");
    assert_eq!(
        Plainly::of(&plain)
            .nodes
            .iter()
            .filter(|id| id.label() == Label::Resource)
            .count(),
        6
    );
}
