//! Surroundings and shortest ways, found by walking: for a graph that shows only what somebody may
//! see, which what keeps it cannot search by itself.
//!
//! Invariant: what is found is what `stemma_views::graph` finds in a graph that lacks what is not
//! seen, order included. Edges to what is hidden count towards no limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use stemma_cypher::{Direction, Error, Graph, Relationship, Value};
use stemma_views::graph::{
    Edge, EdgeType, GraphError, Neighborhood, NeighborsQuery, Node, NodeId, PathQuery, ShortestPath,
};

use super::seen::{PAGE, SeenLook};

type Id = Arc<str>;

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it")]
fn failed(error: Error) -> GraphError {
    match error {
        Error::Limit { .. } => GraphError::Limit(error.to_string()),
        _ => GraphError::Elsewhere(error.to_string()),
    }
}

fn unreadable(what: &str) -> GraphError {
    GraphError::Elsewhere(format!("{what} is not of the graph's"))
}

impl SeenLook {
    pub(super) fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError> {
        let of: Id = Arc::from(query.of.to_string());
        if self.node(&of)?.is_none() {
            return Err(GraphError::NoNode(query.of.clone()));
        }
        let kinds: Vec<Id> = query
            .relation
            .iter()
            .map(|kind| Arc::from(kind.as_str()))
            .collect();
        let mut left = query.rows_max;
        let mut seen = BTreeSet::from([Arc::clone(&of)]);
        let mut frontier = vec![of];
        let mut edges: BTreeSet<Relationship> = BTreeSet::new();
        let (mut nodes, mut is_truncated) = (Vec::new(), false);
        for depth in 1..=query.depth {
            let mut level: BTreeMap<Id, Node> = BTreeMap::new();
            for id in std::mem::take(&mut frontier) {
                let is_whole = self.each_edge(&id, &kinds, &mut left, |edge, other| {
                    edges.insert(edge);
                    if seen.contains(&other) || level.contains_key(&other) {
                        return Ok(());
                    }
                    let found = self.node(&other)?.filter(|node| {
                        let is_resource = matches!(node.id, NodeId::Resource(_));
                        !is_resource || query.archived.takes(node.archived)
                    });
                    level.extend(found.map(|node| (other, node)));
                    Ok(())
                })?;
                is_truncated |= !is_whole;
            }
            for (id, node) in level {
                if nodes.len() == query.limit {
                    is_truncated = true;
                    break;
                }
                seen.insert(Arc::clone(&id));
                frontier.push(id);
                nodes.push((node, depth));
            }
            if is_truncated {
                break;
            }
        }
        edges.retain(|edge| seen.contains(&edge.from) && seen.contains(&edge.to));
        // Types are in the order of their names.
        let edges = edges.iter().map(edge_of).collect::<Result<_, _>>()?;
        Ok(Neighborhood {
            nodes,
            edges,
            is_truncated,
        })
    }

    pub(super) fn shortest_path(
        &self,
        query: &PathQuery,
    ) -> Result<Option<ShortestPath>, GraphError> {
        let [from, to]: [Id; 2] = [&query.from, &query.to].map(|id| Arc::from(id.to_string()));
        for (id, node) in [(&from, &query.from), (&to, &query.to)] {
            if self.node(id)?.is_none() {
                return Err(GraphError::NoNode(node.clone()));
            }
        }
        let Some(next) = self.ways_to(&from, &to, query)? else {
            return Ok(None);
        };
        let mut ids = vec![from];
        while let Some(last) = ids.last()
            && *last != to
        {
            let first = next.get(last).and_then(BTreeSet::first);
            ids.push(Arc::clone(first.ok_or_else(|| unreadable(last))?));
        }
        let mut way = ShortestPath {
            nodes: Vec::with_capacity(ids.len()),
            edges: Vec::with_capacity(ids.len()),
        };
        for (index, id) in ids.iter().enumerate() {
            way.nodes.extend(self.node(id)?);
            if let Some(following) = ids.get(index + 1) {
                way.edges.extend(self.edge_between(id, following)?);
            }
        }
        Ok(Some(way))
    }

    /// For each node on a shortest way, the nodes that may come next; none when there is no way of
    /// so few edges.
    fn ways_to(
        &self,
        from: &Id,
        to: &Id,
        query: &PathQuery,
    ) -> Result<Option<HashMap<Id, BTreeSet<Id>>>, GraphError> {
        let mut left = query.rows_max;
        let mut next: HashMap<Id, BTreeSet<Id>> = HashMap::new();
        let mut distances: HashMap<Id, u32> = HashMap::from([(Arc::clone(to), 0)]);
        let mut frontier = vec![Arc::clone(to)];
        for distance in 1..=query.depth_max {
            if distances.contains_key(from) {
                break;
            }
            let mut reached = Vec::new();
            for id in std::mem::take(&mut frontier) {
                let is_whole = self.each_edge(&id, &[], &mut left, |_, other| {
                    let known = distances.get(&other).copied();
                    if known.is_none() {
                        distances.insert(Arc::clone(&other), distance);
                        reached.push(Arc::clone(&other));
                    }
                    if known.is_none_or(|known| known == distance) {
                        next.entry(other).or_default().insert(Arc::clone(&id));
                    }
                    Ok(())
                })?;
                if !is_whole {
                    let rows_max = query.rows_max;
                    return Err(GraphError::TooFar { rows_max });
                }
            }
            frontier = reached;
        }
        Ok(distances.contains_key(from).then_some(next))
    }

    /// Gives each edge of a node, and its other end; false when the budget did not last.
    fn each_edge(
        &self,
        of: &Id,
        kinds: &[Id],
        left: &mut usize,
        mut met: impl FnMut(Relationship, Id) -> Result<(), GraphError>,
    ) -> Result<bool, GraphError> {
        let mut after = None;
        loop {
            let page = self.relationships(of, Direction::Either, kinds, after.as_ref(), PAGE);
            let page = page.map_err(failed)?;
            let is_last = page.len() < PAGE;
            after = page.last().cloned();
            for edge in page {
                if *left == 0 {
                    return Ok(false);
                }
                *left -= 1;
                let other = Arc::clone(if edge.from == *of {
                    &edge.to
                } else {
                    &edge.from
                });
                met(edge, other)?;
            }
            if is_last {
                return Ok(true);
            }
        }
    }

    /// The edge between two nodes, in either direction, whose type sorts first; of two of a type
    /// the one along the way.
    fn edge_between(&self, one: &Id, other: &Id) -> Result<Option<Edge>, GraphError> {
        // Of the two, resources and annotations have few edges.
        let is_thing = |id: &Id| id.parse().is_ok_and(|id: NodeId| id.name().is_none());
        let of = if is_thing(one) { one } else { other };
        let mut first: Option<(Relationship, bool)> = None;
        let mut left = usize::MAX;
        self.each_edge(of, &[], &mut left, |edge, _| {
            let is_along = edge.from == *one && edge.to == *other;
            let is_back = edge.from == *other && edge.to == *one;
            let rank = |edge: &Relationship, is_back: bool| (Arc::clone(&edge.kind), is_back);
            let is_better = first.as_ref().is_none_or(|(best, best_is_back)| {
                rank(&edge, is_back) < rank(best, *best_is_back)
            });
            if (is_along || is_back) && is_better {
                first = Some((edge, is_back));
            }
            Ok(())
        })?;
        first.map(|(edge, _)| edge_of(&edge)).transpose()
    }

    /// A node as an answer shows it, if it is there and seen.
    fn node(&self, id: &Id) -> Result<Option<Node>, GraphError> {
        let Some(properties) = self.properties(id).map_err(failed)? else {
            return Ok(None);
        };
        let text = |key: &str| match properties.get(key) {
            Some(Value::String(text)) => Some(text.to_string()),
            _ => None,
        };
        let created_at = text("created_at").map(|instant| instant.parse());
        let created_at = created_at.transpose().map_err(|_| unreadable(id))?;
        Ok(Some(Node {
            id: id.parse().map_err(|_| unreadable(id))?,
            name: text("name"),
            archived: matches!(properties.get("archived"), Some(Value::Boolean(true))),
            created_at,
        }))
    }
}

fn edge_of(edge: &Relationship) -> Result<Edge, GraphError> {
    let end = |id: &Id| id.parse().map_err(|_| unreadable(id));
    Ok(Edge {
        edge_type: edge
            .kind
            .parse::<EdgeType>()
            .map_err(|_| unreadable(&edge.kind))?,
        from: end(&edge.from)?,
        to: end(&edge.to)?,
    })
}
