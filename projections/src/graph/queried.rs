//! The embedded graph as what Cypher is run over.

use std::collections::BTreeMap;
use std::sync::Arc;

use stemma_cypher::{Direction, Error, Relationship, Value};
use stemma_views::StoreError;
use stemma_views::graph::{Edge, EdgeType, Graph, Label, NodeId, Properties, Property};

/// A graph to run queries over. Each look at it sees the graph as it is then.
#[derive(Debug, Clone)]
pub(super) struct Queried(pub(super) Graph);

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it")]
fn failed(error: StoreError) -> Error {
    Error::Graph(error.to_string())
}

fn text(id: &NodeId) -> Arc<str> {
    Arc::from(id.to_string())
}

/// A node's id; none of a text that names none.
fn id_of(text: &str) -> Option<NodeId> {
    text.parse().ok()
}

/// The node that the value of a property names, if it is there; nothing where no node is found by
/// such a value.
pub(super) fn found(
    label: Option<&str>,
    key: &str,
    value: &Value,
    is_there: impl FnOnce(&NodeId) -> Result<bool, Error>,
) -> Result<Option<Vec<Arc<str>>>, Error> {
    let Value::String(wanted) = value else {
        return Ok(None);
    };
    let name = || wanted.to_string();
    let id = match (key, label.and_then(|label| label.parse().ok())) {
        ("id", _) => id_of(wanted),
        ("name", Some(Label::Collection)) => Some(NodeId::Collection(name())),
        ("name", Some(Label::EntityType)) => Some(NodeId::EntityType(name())),
        ("name", Some(Label::Person)) => Some(NodeId::Person(name())),
        _ => return Ok(None),
    };
    match id {
        Some(id) if is_there(&id)? => Ok(Some(vec![text(&id)])),
        _ => Ok(Some(Vec::new())),
    }
}

/// The labels of a node: the one that its id says.
pub(super) fn labels(id: &str) -> Vec<Arc<str>> {
    let label = id_of(id).map(|id| Arc::from(id.label().as_str()));
    label.into_iter().collect()
}

/// The types that are meant; none where none of them is one of the graph's.
pub(super) fn types(kinds: &[Arc<str>]) -> Vec<EdgeType> {
    let mut types: Vec<EdgeType> = kinds.iter().filter_map(|kind| kind.parse().ok()).collect();
    types.sort_unstable();
    types.dedup();
    types
}

/// Properties as queries see them.
pub(super) fn values(properties: Properties) -> BTreeMap<Arc<str>, Value> {
    let properties = properties.into_iter();
    properties
        .map(|(key, property)| (Arc::from(key), value(property)))
        .collect()
}

fn value(property: Property) -> Value {
    match property {
        Property::Boolean(truth) => Value::Boolean(truth),
        Property::Integer(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        Property::Text(text) => Value::text(&text),
        Property::Texts(texts) => Value::list(texts.iter().map(|text| Value::text(text)).collect()),
    }
}

impl stemma_cypher::Graph for Queried {
    fn nodes(
        &self,
        label: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, Error> {
        let label = match label.map(str::parse::<Label>) {
            None => None,
            Some(Ok(label)) => Some(label),
            // No node has a label that is none of the graph's.
            Some(Err(_)) => return Ok(Vec::new()),
        };
        let after = after.and_then(id_of);
        let page = self.0.nodes_after(label, after.as_ref(), limit);
        Ok(page.map_err(failed)?.iter().map(text).collect())
    }

    fn find(
        &self,
        label: Option<&str>,
        key: &str,
        value: &Value,
    ) -> Result<Option<Vec<Arc<str>>>, Error> {
        found(label, key, value, |id| self.0.has_node(id).map_err(failed))
    }

    fn labels(&self, id: &str) -> Vec<Arc<str>> {
        labels(id)
    }

    fn properties(&self, id: &str) -> Result<Option<BTreeMap<Arc<str>, Value>>, Error> {
        let Some(id) = id_of(id) else { return Ok(None) };
        Ok(self.0.properties(&id).map_err(failed)?.map(values))
    }

    fn relationships(
        &self,
        node: &str,
        direction: Direction,
        kinds: &[Arc<str>],
        after: Option<&Relationship>,
        limit: usize,
    ) -> Result<Vec<Relationship>, Error> {
        let Some(id) = id_of(node) else {
            return Ok(Vec::new());
        };
        let after = after.and_then(edge_of);
        // One that leads back to the node was met on the way out.
        let was_out = after
            .as_ref()
            .map(|edge| edge.from == id && direction != Direction::Incoming);
        let mut types: Vec<Option<EdgeType>> = types(kinds).into_iter().map(Some).collect();
        if kinds.is_empty() {
            types.push(None);
        }
        let mut found = Vec::new();
        for is_out in [true, false] {
            let is_wanted = match direction {
                Direction::Outgoing => is_out,
                Direction::Incoming => !is_out,
                Direction::Either => true,
            };
            // The page before may have ended on the other side, or with a later type.
            if !is_wanted || (was_out == Some(false) && is_out) {
                continue;
            }
            let after = after.as_ref().filter(|_| was_out == Some(is_out));
            for edge_type in &types {
                let is_behind = after.zip(*edge_type);
                if is_behind.is_some_and(|(after, edge_type)| edge_type < after.edge_type) {
                    continue;
                }
                let after = after.filter(|after| edge_type.is_none_or(|t| t == after.edge_type));
                let mut after = after.cloned();
                // What is passed over makes room for more.
                while found.len() < limit {
                    let left = limit - found.len();
                    let page = self
                        .0
                        .edges_after(&id, is_out, *edge_type, after.as_ref(), left);
                    let page = page.map_err(failed)?;
                    let is_last = page.len() < left;
                    after = page.last().cloned();
                    let is_met = |edge: &Edge| {
                        !is_out && direction == Direction::Either && edge.from == edge.to
                    };
                    found.extend(page.into_iter().filter(|edge| !is_met(edge)));
                    if is_last {
                        break;
                    }
                }
            }
        }
        Ok(found.iter().map(relationship).collect())
    }
}

fn edge_of(relationship: &Relationship) -> Option<Edge> {
    Some(Edge {
        edge_type: relationship.kind.parse().ok()?,
        from: id_of(&relationship.from)?,
        to: id_of(&relationship.to)?,
    })
}

fn relationship(edge: &Edge) -> Relationship {
    Relationship {
        kind: Arc::from(edge.edge_type.as_str()),
        from: text(&edge.from),
        to: text(&edge.to),
    }
}
