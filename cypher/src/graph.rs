//! What a query runs over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Error;
use crate::value::Value;

/// To which side relationships are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the node.
    Outgoing,
    /// To the node.
    Incoming,
    /// Both.
    Either,
}

/// A relationship; two with the same type and ends are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relationship {
    /// Its type.
    pub kind: Arc<str>,
    /// The id of the node that it starts at.
    pub from: Arc<str>,
    /// The id of the node that it ends at.
    pub to: Arc<str>,
}

/// A graph to read. Nodes are named by texts. What is given page by page is always in the same
/// order, so that a page goes on behind the last thing of the one before.
pub trait Graph {
    /// The next nodes of a label, or of all.
    ///
    /// # Errors
    /// [`Error::Graph`].
    fn nodes(
        &self,
        label: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, Error>;

    /// The nodes that have a property of this value, where that is found without looking at all;
    /// none where it is not.
    ///
    /// # Errors
    /// [`Error::Graph`].
    fn find(
        &self,
        label: Option<&str>,
        key: &str,
        value: &Value,
    ) -> Result<Option<Vec<Arc<str>>>, Error>;

    /// The labels of a node that is there.
    fn labels(&self, id: &str) -> Vec<Arc<str>>;

    /// The properties of a node, `id` among them; none of one that is not there.
    ///
    /// # Errors
    /// [`Error::Graph`].
    fn properties(&self, id: &str) -> Result<Option<BTreeMap<Arc<str>, Value>>, Error>;

    /// The next relationships of a node, of some types or all, whose other end is there; those
    /// that start at it first. One that leads back to the same node is given once.
    ///
    /// # Errors
    /// [`Error::Graph`].
    fn relationships(
        &self,
        node: &str,
        direction: Direction,
        kinds: &[Arc<str>],
        after: Option<&Relationship>,
        limit: usize,
    ) -> Result<Vec<Relationship>, Error>;
}

/// Labels and properties.
type StoredNode = (Vec<Arc<str>>, BTreeMap<Arc<str>, Value>);

/// A small graph in memory, for tests and for trying queries.
#[derive(Debug, Clone, Default)]
pub struct MemoryGraph {
    nodes: BTreeMap<Arc<str>, StoredNode>,
    relationships: BTreeSet<Relationship>,
}

impl MemoryGraph {
    /// Adds a node, or replaces it.
    pub fn add_node(&mut self, id: &str, labels: &[&str], properties: &[(&str, Value)]) {
        let id: Arc<str> = Arc::from(id);
        let own = (Arc::from("id"), Value::String(Arc::clone(&id)));
        let given = properties.iter();
        let given = given.map(|(key, value)| (Arc::from(*key), value.clone()));
        let labels = labels.iter().map(|label| Arc::from(*label)).collect();
        self.nodes
            .insert(id, (labels, given.chain([own]).collect()));
    }

    /// Adds a relationship.
    pub fn add_relationship(&mut self, from: &str, kind: &str, to: &str) {
        self.relationships.insert(Relationship {
            kind: Arc::from(kind),
            from: Arc::from(from),
            to: Arc::from(to),
        });
    }
}

impl Graph for MemoryGraph {
    fn nodes(
        &self,
        label: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, Error> {
        let is_wanted = |labels: &[Arc<str>]| {
            label.is_none_or(|wanted| labels.iter().any(|label| &**label == wanted))
        };
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, (labels, _))| is_wanted(labels));
        let ids = nodes.map(|(id, _)| id);
        let behind = ids.filter(|id| after.is_none_or(|after| ***id > *after));
        Ok(behind.take(limit).cloned().collect())
    }

    fn find(
        &self,
        _: Option<&str>,
        key: &str,
        value: &Value,
    ) -> Result<Option<Vec<Arc<str>>>, Error> {
        let (true, Value::String(id)) = (key == "id", value) else {
            return Ok(None);
        };
        Ok(Some(
            self.nodes
                .get_key_value(id)
                .map(|(id, _)| Arc::clone(id))
                .into_iter()
                .collect(),
        ))
    }

    fn labels(&self, id: &str) -> Vec<Arc<str>> {
        let node = self.nodes.get(id);
        node.map(|(labels, _)| labels.clone()).unwrap_or_default()
    }

    fn properties(&self, id: &str) -> Result<Option<BTreeMap<Arc<str>, Value>>, Error> {
        Ok(self.nodes.get(id).map(|(_, properties)| properties.clone()))
    }

    fn relationships(
        &self,
        node: &str,
        direction: Direction,
        kinds: &[Arc<str>],
        after: Option<&Relationship>,
        limit: usize,
    ) -> Result<Vec<Relationship>, Error> {
        let all = || {
            let edges = self.relationships.iter();
            edges.filter(|edge| kinds.is_empty() || kinds.contains(&edge.kind))
        };
        let out = all().filter(|edge| direction != Direction::Incoming && &*edge.from == node);
        let into = all().filter(|edge| {
            let is_loop = direction == Direction::Either && edge.from == edge.to;
            direction != Direction::Outgoing && &*edge.to == node && !is_loop
        });
        let mut edges = out.chain(into);
        if let Some(after) = after {
            edges.find(|edge| *edge == after);
        }
        Ok(edges.take(limit).cloned().collect())
    }
}
