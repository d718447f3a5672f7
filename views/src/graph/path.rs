//! The shortest way from one node to another.
//!
//! Two breadth-first searches meet in the middle, each time from the side with fewer nodes to go
//! on from: most nodes share a person or a type with thousands of others. Of all shortest ways the
//! one is given whose ids sort first, node by node.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::around::{Budget, Edge, Node};
use super::node::NodeId;
use super::{Graph, GraphError};
use crate::store::StoreError;

/// What is asked of a way.
#[derive(Debug, Clone)]
pub struct PathQuery {
    /// Where it begins.
    pub from: NodeId,
    /// Where it ends.
    pub to: NodeId,
    /// Most edges of it.
    pub depth_max: u32,
    /// Most edges that are looked at.
    pub rows_max: usize,
}

/// A way from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortestPath {
    /// The nodes, both ends among them.
    pub nodes: Vec<Node>,
    /// One edge between each two; of several the one whose type sorts first.
    pub edges: Vec<Edge>,
}

/// One side of the search.
struct Search {
    /// Nodes that were reached, with those before them on any shortest way.
    reached: HashMap<NodeId, BTreeSet<NodeId>>,
    frontier: Vec<NodeId>,
}

impl Search {
    fn from(node: &NodeId) -> Self {
        Self {
            reached: HashMap::from([(node.clone(), BTreeSet::new())]),
            frontier: vec![node.clone()],
        }
    }
}

impl Graph {
    /// The shortest way between two nodes, along edges in both directions; none when there is none
    /// of so few edges.
    ///
    /// # Errors
    /// [`GraphError::NoNode`] of an end, [`GraphError::TooFar`] when more edges would have to be
    /// looked at, and [`GraphError::Store`].
    pub fn shortest_path(&self, query: &PathQuery) -> Result<Option<ShortestPath>, GraphError> {
        let _moment = self.moment();
        for end in [&query.from, &query.to] {
            if self.read_node(end)?.is_none() {
                return Err(GraphError::NoNode(end.clone()));
            }
        }
        let mut budget = Budget::of(query.rows_max);
        let mut sides = [Search::from(&query.from), Search::from(&query.to)];
        let mut length = 0;
        let met = loop {
            let [ours, theirs] = &sides;
            let met: Vec<NodeId> = ours
                .frontier
                .iter()
                .filter(|node| theirs.reached.contains_key(node))
                .chain(
                    theirs
                        .frontier
                        .iter()
                        .filter(|node| ours.reached.contains_key(node)),
                )
                .cloned()
                .collect();
            if !met.is_empty() {
                break met;
            }
            let is_shorter = sides[0].frontier.len() <= sides[1].frontier.len();
            let side = &mut sides[usize::from(!is_shorter)];
            if length == query.depth_max || side.frontier.is_empty() {
                return Ok(None);
            }
            self.advance(side, &mut budget)?;
            length += 1;
        };
        Ok(Some(self.first_of(&sides, &met, query)?))
    }

    /// Goes one edge further on all ways.
    fn advance(&self, side: &mut Search, budget: &mut Budget) -> Result<(), GraphError> {
        let mut next: HashMap<NodeId, BTreeSet<NodeId>> = HashMap::new();
        for node in std::mem::take(&mut side.frontier) {
            let is_whole = self.edges_of(&node, budget, |_, other| {
                if !side.reached.contains_key(&other) {
                    next.entry(other).or_default().insert(node.clone());
                }
            })?;
            if !is_whole {
                let rows_max = budget.rows_max;
                return Err(GraphError::TooFar { rows_max });
            }
        }
        for (node, before) in next {
            // An edge may lead to what is not there: a resource that was only named.
            if self.read_node(&node)?.is_some() {
                side.frontier.push(node.clone());
                side.reached.insert(node, before);
            }
        }
        Ok(())
    }

    /// Of all ways through the nodes that both sides met at, the one whose ids sort first.
    fn first_of(
        &self,
        [ours, theirs]: &[Search; 2],
        met: &[NodeId],
        query: &PathQuery,
    ) -> Result<ShortestPath, StoreError> {
        // For each node on a shortest way, the nodes that may come next.
        let mut next: HashMap<&NodeId, BTreeMap<String, &NodeId>> = HashMap::new();
        for (search, is_ours) in [(ours, true), (theirs, false)] {
            let mut waiting: Vec<&NodeId> = met.iter().collect();
            let mut done = HashSet::new();
            while let Some(node) = waiting.pop() {
                if !done.insert(node) {
                    continue;
                }
                for before in search.reached.get(node).into_iter().flatten() {
                    let (first, second) = if is_ours {
                        (before, node)
                    } else {
                        (node, before)
                    };
                    next.entry(first)
                        .or_default()
                        .insert(second.to_string(), second);
                    waiting.push(before);
                }
            }
        }
        let mut ids = vec![&query.from];
        while let Some(last) = ids.last()
            && **last != query.to
            && let Some((_, following)) = next.get(last).and_then(BTreeMap::first_key_value)
        {
            ids.push(following);
        }
        let mut way = ShortestPath {
            nodes: Vec::with_capacity(ids.len()),
            edges: Vec::with_capacity(ids.len()),
        };
        for (index, id) in ids.iter().enumerate() {
            way.nodes.extend(self.read_node(id)?);
            if let Some(following) = ids.get(index + 1) {
                way.edges.extend(self.edge_between(id, following)?);
            }
        }
        Ok(way)
    }

    /// The edge between two nodes, in either direction, whose type sorts first.
    fn edge_between(&self, one: &NodeId, other: &NodeId) -> Result<Option<Edge>, StoreError> {
        for edge_type in super::EdgeType::ALL {
            for (from, to) in [(one, other), (other, one)] {
                if let Some(edge) = self.edge(from, edge_type, to)? {
                    return Ok(Some(edge));
                }
            }
        }
        Ok(None)
    }
}
