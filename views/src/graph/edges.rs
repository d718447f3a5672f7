//! Where the edges of a node are read.
//!
//! An edge stands at those of its ends that are no annotations: most edges are an annotation's, and
//! its own row tells what they are. Invariant: the keys of an annotation's edges are those that
//! rows at its end would have, in their order.

use super::Graph;
use super::around::Edge;
use super::delta::links_of_annotation;
use super::key::{self, Side};
use super::node::{Label, NodeId};
use super::row::{AnnotationNode, NodeRow};
use crate::store::{Direction, StoreError};

/// Keys of edges in order, as they are read.
pub(super) type Keys<'a> = Box<dyn Iterator<Item = Result<Vec<u8>, StoreError>> + 'a>;

/// The keys under which an edge is written.
pub(super) fn written(edge: &Edge) -> impl Iterator<Item = Vec<u8>> {
    let keys = key::edge(&edge.from, edge.edge_type, &edge.to);
    let ends = [edge.from.label(), edge.to.label()];
    let pairs = keys.into_iter().zip(ends);
    pairs
        .filter(|(_, end)| *end != Label::Annotation)
        .map(|(key, _)| key)
}

impl Graph {
    /// The keys of a node's edges on one side, from one on and before another. To be called with
    /// the moment held.
    pub(super) fn edge_keys(
        &self,
        node: &NodeId,
        side: Side,
        (from, to): (&[u8], &[u8]),
    ) -> Result<Keys<'_>, StoreError> {
        let NodeId::Annotation(id) = node else {
            let rows = self.store().scan(from, to, Direction::Forward);
            return Ok(Box::new(rows.map(|row| row.map(|(key, _)| key))));
        };
        let row = AnnotationNode::read(self.store(), node)?;
        let links = row.map(|row| links_of_annotation(*id, &row));
        let mut keys: Vec<_> = links
            .into_iter()
            .flatten()
            .filter_map(|edge| {
                let [out, into] = key::edge(&edge.from, edge.edge_type, &edge.to);
                match side {
                    Side::Out => (edge.from == *node).then_some(out),
                    Side::In => (edge.to == *node).then_some(into),
                }
            })
            .filter(|key| from <= key.as_slice() && key.as_slice() < to)
            .collect();
        keys.sort_unstable();
        Ok(Box::new(keys.into_iter().map(Ok)))
    }

    /// Whether an edge is there. To be called with the moment held.
    pub(super) fn has_edge(&self, edge: &Edge) -> Result<bool, StoreError> {
        // No edge has annotations at both of its ends.
        let key = written(edge).next();
        let row = key.map(|key| self.store().get(&key)).transpose()?;
        Ok(row.flatten().is_some())
    }
}
