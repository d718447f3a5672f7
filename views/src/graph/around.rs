//! What lies around a node.
//!
//! Breadth first, level by level, each level in the order of the nodes' ids. Invariant: what is
//! left out where an answer ends early is said, and no question looks at more edges than its limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stemma_domain::id::AnnotationId;
use stemma_domain::time::Timestamp;

use super::key::{self, Side};
use super::node::{EdgeType, Label, NodeId};
use super::row::{AnnotationNode, HubNode, NodeRow, ResourceNode};
use super::{Graph, GraphError};
use crate::key::after_prefix;
use crate::query::Archived;
use crate::store::{Direction, StoreError};

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

/// Edges that one question may still look at.
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
        let mut budget = Budget::of(query.rows_max);
        let mut seen = HashMap::from([(query.of.clone(), 0)]);
        let mut frontier = vec![query.of.clone()];
        let mut found = Neighborhood {
            nodes: Vec::new(),
            edges: Vec::new(),
            is_truncated: false,
        };
        let mut edges = BTreeSet::new();
        for depth in 1..=query.depth {
            let mut level = BTreeMap::new();
            for node in std::mem::take(&mut frontier) {
                let is_whole =
                    self.edges_of(&node, query.relation, &mut budget, |edge, other| {
                        if !seen.contains_key(&other) {
                            level.entry(other.to_string()).or_insert(other);
                        }
                        edges.insert(edge);
                    })?;
                found.is_truncated |= !is_whole;
            }
            for (_, id) in level {
                let node = self.read_node(&id)?;
                let is_wanted = |node: &Node| {
                    id.label() != Label::Resource || query.archived.takes(node.archived)
                };
                let Some(node) = node.filter(is_wanted) else {
                    continue;
                };
                if found.nodes.len() == query.limit {
                    found.is_truncated = true;
                    break;
                }
                seen.insert(id.clone(), depth);
                frontier.push(id);
                found.nodes.push((node, depth));
            }
            if found.is_truncated {
                break;
            }
        }
        let are_seen = |edge: &Edge| seen.contains_key(&edge.from) && seen.contains_key(&edge.to);
        found.edges = edges.into_iter().filter(are_seen).collect();
        found.edges.sort_by_cached_key(|edge| {
            (edge.edge_type, edge.from.to_string(), edge.to.to_string())
        });
        Ok(found)
    }

    /// Gives each edge of a node, and its other end; false when the budget did not last.
    pub(super) fn edges_of(
        &self,
        node: &NodeId,
        relation: Option<EdgeType>,
        budget: &mut Budget,
        mut met: impl FnMut(Edge, NodeId),
    ) -> Result<bool, StoreError> {
        for side in [Side::Out, Side::In] {
            let prefix = key::edges(node, side, relation);
            let to = after_prefix(&prefix);
            for pair in self.store().scan(&prefix, &to, Direction::Forward) {
                if !budget.take() {
                    return Ok(false);
                }
                let (key, _) = pair?;
                let (edge_type, other) = key::other_end(&key, node)?;
                let (from, to) = match side {
                    Side::Out => (node.clone(), other.clone()),
                    Side::In => (other.clone(), node.clone()),
                };
                let edge = Edge {
                    edge_type,
                    from,
                    to,
                };
                met(edge, other);
            }
        }
        Ok(true)
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
