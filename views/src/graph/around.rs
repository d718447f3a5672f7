//! What lies around a node.
//!
//! Breadth first, level by level, each level in the order of the nodes' ids. Invariant: what is
//! left out where an answer ends early is said, and no question looks at more edges than its limit,
//! those among them that it looks for and that are not there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stemma_domain::id::AnnotationId;
use stemma_domain::time::Timestamp;

use super::key::{self, Side};
use super::node::{EdgeType, Label, NodeId};
use super::row::{AnnotationNode, HubNode, NodeRow, ResourceNode};
use super::{Graph, GraphError};
use crate::key::after_prefix;
use crate::query::Archived;
use crate::store::StoreError;

/// A node as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The name of a resource, collection, entity type or person.
    pub name: Option<String>,
    /// Whether it is a resource that is archived.
    pub archived: bool,
    /// When a resource or an annotation was made.
    pub created_at: Option<Timestamp>,
}

/// An edge as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// How one leads to the other.
    pub edge_type: EdgeType,
    /// Where it begins.
    pub from: NodeId,
    /// Where it ends.
    pub to: NodeId,
}

/// What is asked of the surroundings of a node.
#[derive(Debug, Clone)]
pub struct NeighborsQuery {
    /// The node.
    pub of: NodeId,
    /// How many edges away at the most.
    pub depth: u32,
    /// Only along edges of this type.
    pub relation: Option<EdgeType>,
    /// Which resources are wanted; others are not passed through either.
    pub archived: Archived,
    /// Most nodes of the answer.
    pub limit: usize,
    /// Most edges that are looked at.
    pub rows_max: usize,
}

/// The surroundings of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighborhood {
    /// The nodes with their distances, by distance and then by id.
    pub nodes: Vec<(Node, u32)>,
    /// The edges that were met between them and with the node itself, by type, start and end.
    pub edges: Vec<Edge>,
    /// Whether there is more than is shown.
    pub is_truncated: bool,
}

/// Edges that one question may still look at, or for.
pub(super) struct Budget {
    pub(super) left: usize,
    pub(super) rows_max: usize,
}

impl Budget {
    pub(super) fn of(rows_max: usize) -> Self {
        Self {
            left: rows_max,
            rows_max,
        }
    }

    /// Takes one row; false when there is none left.
    fn take(&mut self) -> bool {
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// How a look at the edges of a node ended.
enum Run {
    /// There are no more.
    Ended,
    /// There are enough of one kind; the others are from this key on.
    PassedOver(Vec<u8>),
    /// No more may be looked at.
    Spent,
}

/// Edges of one kind at a node, of which not all were looked at.
struct Cut {
    node: NodeId,
    side: Side,
    edge_type: EdgeType,
    /// What they lead to.
    label: Label,
}

impl Cut {
    /// The one of them that leads to this node, should it be there.
    fn edge_to(&self, other: &NodeId) -> Edge {
        Edge::between(&self.node, self.side, self.edge_type, other)
    }
}

/// A search around a node, as far as it has come.
struct Around<'a> {
    graph: &'a Graph,
    query: &'a NeighborsQuery,
    budget: Budget,
    seen: HashMap<NodeId, u32>,
    edges: BTreeSet<Edge>,
    /// What was passed over, each kind at a node once: a node is expanded once, and what is left
    /// of a kind is not looked at again.
    cut: Vec<Cut>,
}

impl Around<'_> {
    /// Adds what lies next to a node to a level; false when the budget did not last.
    ///
    /// Edges to nodes of one label stand in the order of the ids, so no more of them are looked at
    /// than the answer may hold: a person who made a million resources is passed as fast as any.
    fn expand(
        &mut self,
        node: &NodeId,
        level: &mut BTreeMap<String, Node>,
    ) -> Result<bool, StoreError> {
        for side in [Side::Out, Side::In] {
            let prefix = key::edges(node, side, self.query.relation);
            let to = after_prefix(&prefix);
            let mut from = prefix;
            loop {
                match self.run(node, side, (&from, &to), level)? {
                    Run::Ended => break,
                    Run::PassedOver(next) => from = next,
                    Run::Spent => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Looks at edges from a key on, until there are enough of one kind.
    fn run(
        &mut self,
        node: &NodeId,
        side: Side,
        (from, to): (&[u8], &[u8]),
        level: &mut BTreeMap<String, Node>,
    ) -> Result<Run, StoreError> {
        let (mut kind, mut taken) = (None, 0);
        for key in self.graph.edge_keys(node, side, (from, to))? {
            if !self.budget.take() {
                return Ok(Run::Spent);
            }
            let (edge, other) = edge_at(&key?, node, side)?;
            if kind != Some((edge.edge_type, other.label())) {
                kind = Some((edge.edge_type, other.label()));
                taken = 0;
            }
            if self.seen.contains_key(&other) || level.contains_key(&other.to_string()) {
                self.edges.insert(edge);
                continue;
            }
            let Some(found) = self.graph.read_node(&other)? else {
                continue;
            };
            let is_resource = other.label() == Label::Resource;
            if is_resource && !self.query.archived.takes(found.archived) {
                continue;
            }
            level.insert(other.to_string(), found);
            taken += 1;
            // Names are not in the order of their keys, and lead from few nodes.
            let is_sorted = matches!(other, NodeId::Resource(_) | NodeId::Annotation(_));
            if is_sorted && taken > self.query.limit {
                self.cut.push(Cut {
                    node: node.clone(),
                    side,
                    edge_type: edge.edge_type,
                    label: other.label(),
                });
                let kind = key::edges_to(node, side, edge.edge_type, other.label());
                return Ok(Run::PassedOver(after_prefix(&kind)));
            }
            self.edges.insert(edge);
        }
        Ok(Run::Ended)
    }

    /// Looks for edges between nodes of the answer among those that were passed over; false when the
    /// budget did not last. An edge that is not there costs as much as one that is.
    ///
    /// A kind of edge is looked for on its own side and among the nodes of its label alone. What the
    /// other end has met already is not looked for.
    fn look_among_cut(&mut self) -> Result<bool, StoreError> {
        let mut ids: Vec<&NodeId> = self.seen.keys().collect();
        // In one order, so that no chance decides what is left out.
        ids.sort_unstable();
        for cut in &self.cut {
            for other in ids.iter().filter(|other| other.label() == cut.label) {
                let edge = cut.edge_to(other);
                if self.edges.contains(&edge) {
                    continue;
                }
                if !self.budget.take() {
                    return Ok(false);
                }
                if self.graph.has_edge(&edge)? {
                    self.edges.insert(edge);
                }
            }
        }
        Ok(true)
    }

    /// The edges that were met between nodes of the answer.
    fn into_edges(self) -> Vec<Edge> {
        let is_seen =
            |edge: &Edge| self.seen.contains_key(&edge.from) && self.seen.contains_key(&edge.to);
        let mut edges: Vec<Edge> = self.edges.into_iter().filter(is_seen).collect();
        edges.sort_by_cached_key(|edge| {
            (edge.edge_type, edge.from.to_string(), edge.to.to_string())
        });
        edges
    }
}

impl Edge {
    /// The edge of a type on one side of a node.
    fn between(node: &NodeId, side: Side, edge_type: EdgeType, other: &NodeId) -> Self {
        let (from, to) = match side {
            Side::Out => (node.clone(), other.clone()),
            Side::In => (other.clone(), node.clone()),
        };
        Self {
            edge_type,
            from,
            to,
        }
    }
}

/// The edge at a key, and its other end.
pub(super) fn edge_at(key: &[u8], node: &NodeId, side: Side) -> Result<(Edge, NodeId), StoreError> {
    let (edge_type, other) = key::other_end(key, node)?;
    Ok((Edge::between(node, side, edge_type, &other), other))
}

impl Graph {
    /// A node, if it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        let _moment = self.moment();
        self.read_node(id)
    }

    /// What lies around a node, along edges in both directions.
    ///
    /// # Errors
    /// [`GraphError::NoNode`] and [`GraphError::Store`].
    pub fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError> {
        let _moment = self.moment();
        if self.read_node(&query.of)?.is_none() {
            return Err(GraphError::NoNode(query.of.clone()));
        }
        let mut around = Around {
            graph: self,
            query,
            budget: Budget::of(query.rows_max),
            seen: HashMap::from([(query.of.clone(), 0)]),
            edges: BTreeSet::new(),
            cut: Vec::new(),
        };
        let mut frontier = vec![query.of.clone()];
        let mut found = Neighborhood {
            nodes: Vec::new(),
            edges: Vec::new(),
            is_truncated: false,
        };
        for depth in 1..=query.depth {
            let mut level = BTreeMap::new();
            for node in std::mem::take(&mut frontier) {
                found.is_truncated |= !around.expand(&node, &mut level)?;
            }
            for node in level.into_values() {
                if found.nodes.len() == query.limit {
                    found.is_truncated = true;
                    break;
                }
                around.seen.insert(node.id.clone(), depth);
                frontier.push(node.id.clone());
                found.nodes.push((node, depth));
            }
            if found.is_truncated {
                break;
            }
        }
        found.is_truncated |= !around.look_among_cut()?;
        found.edges = around.into_edges();
        Ok(found)
    }

    /// Gives each edge of a node, and its other end; false when the budget did not last.
    pub(super) fn edges_of(
        &self,
        node: &NodeId,
        budget: &mut Budget,
        mut met: impl FnMut(Edge, NodeId),
    ) -> Result<bool, StoreError> {
        for side in [Side::Out, Side::In] {
            let prefix = key::edges(node, side, None);
            let to = after_prefix(&prefix);
            for key in self.edge_keys(node, side, (&prefix, &to))? {
                if !budget.take() {
                    return Ok(false);
                }
                let (edge, other) = edge_at(&key?, node, side)?;
                met(edge, other);
            }
        }
        Ok(true)
    }

    /// An edge, if it is there. To be called with the moment held.
    pub(super) fn edge(
        &self,
        from: &NodeId,
        edge_type: EdgeType,
        to: &NodeId,
    ) -> Result<Option<Edge>, StoreError> {
        let edge = Edge {
            edge_type,
            from: from.clone(),
            to: to.clone(),
        };
        Ok(self.has_edge(&edge)?.then_some(edge))
    }

    /// To be called with the moment held.
    pub(super) fn read_node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        let store = self.store();
        let node = |name: Option<String>, archived, created_at: Option<i64>| Node {
            id: id.clone(),
            name,
            archived,
            created_at: created_at.map(Timestamp::from_micros),
        };
        Ok(match id.label() {
            Label::Resource => ResourceNode::read(store, id)?
                .map(|row| node(Some(row.name), row.archived, Some(row.created_at))),
            Label::Annotation => {
                AnnotationNode::read(store, id)?.map(|row| node(None, false, Some(row.created_at)))
            }
            Label::Collection | Label::EntityType | Label::Person => {
                HubNode::read(store, id)?.map(|_| node(id.name().map(str::to_owned), false, None))
            }
        })
    }

    /// The motivations of an annotation, if it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn motivations(&self, id: AnnotationId) -> Result<Option<Vec<String>>, StoreError> {
        let _moment = self.moment();
        let row = AnnotationNode::read(self.store(), &NodeId::Annotation(id))?;
        Ok(row.map(|row| row.motivations))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::edges::written;
    use super::*;
    use crate::model::Model;
    use crate::open::Options;

    fn resource(number: u128) -> NodeId {
        NodeId::Resource(stemma_domain::id::ResourceId::new(Uuid::from_u128(number)))
    }

    fn edge(edge_type: EdgeType, from: &NodeId, to: &NodeId) -> Edge {
        Edge::between(from, Side::Out, edge_type, to)
    }

    /// They were looked for with each type in each direction and among all nodes, and beside the
    /// budget: a million looks with the moment held.
    #[test]
    fn edges_that_were_passed_over_are_looked_for_within_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        let graph = Graph::open(dir.path(), &Options::default()).unwrap().model;
        let (ada, kind) = (
            NodeId::Person("ada".to_owned()),
            NodeId::EntityType("Star".to_owned()),
        );
        let there = edge(EdgeType::Created, &ada, &resource(7));
        let rows = written(&there).map(|key| (key, Some(Vec::new())));
        graph.store().commit(rows.collect()).unwrap();
        let query = NeighborsQuery {
            of: ada.clone(),
            depth: 2,
            relation: None,
            archived: Archived::Any,
            limit: 10,
            rows_max: 0,
        };
        let met = edge(EdgeType::Created, &ada, &resource(0));
        let looked = |rows_max: usize| {
            let others = (0..10).map(resource).chain([kind.clone()]);
            let mut around = Around {
                graph: &graph,
                query: &query,
                budget: Budget::of(rows_max),
                seen: others.map(|id| (id, 1)).chain([(ada.clone(), 0)]).collect(),
                edges: BTreeSet::from([met.clone()]),
                cut: vec![Cut {
                    node: ada.clone(),
                    side: Side::Out,
                    edge_type: EdgeType::Created,
                    label: Label::Resource,
                }],
            };
            let is_whole = around.look_among_cut().unwrap();
            (is_whole, around.budget.left, around.into_edges())
        };
        // Nine of the ten resources have yet to be met.
        let both = vec![met.clone(), there];
        assert_eq!(looked(100), (true, 91, both.clone()));
        assert_eq!(looked(9), (true, 0, both));
        assert_eq!(looked(6), (false, 0, vec![met]));
    }
}
