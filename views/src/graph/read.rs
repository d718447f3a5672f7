//! Nodes and edges one page at a time, for whoever walks the graph by rules of his own.
//!
//! Invariant: the order of a page depends on the names alone, so that the next goes on behind the
//! last thing of the one before, whatever was written meanwhile.

use std::collections::BTreeMap;

use stemma_domain::time::Timestamp;

use super::Graph;
use super::around::{Edge, edge_at};
use super::key::{self, Side};
use super::node::{EdgeType, Label, NodeId};
use super::row::{AnnotationNode, HubNode, NodeRow, ResourceNode};
use crate::key::after_prefix;
use crate::store::{Direction, StoreError};

/// A property of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(u64),
    /// A text.
    Text(String),
    /// Texts in order.
    Texts(Vec<String>),
}

impl Graph {
    /// The next nodes of a label, or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn nodes_after(
        &self,
        label: Option<Label>,
        after: Option<&NodeId>,
        limit: usize,
    ) -> Result<Vec<NodeId>, StoreError> {
        let _moment = self.moment();
        let prefix = key::nodes(label);
        let mut from = after.map_or_else(|| prefix.clone(), key::node);
        if after.is_some() {
            from.push(0);
        }
        let to = after_prefix(&prefix);
        let rows = self
            .store()
            .scan(&from, &to, Direction::Forward)
            .take(limit);
        rows.map(|row| key::node_of(&row?.0)).collect()
    }

    /// The next edges of a node on one side, of one type or all; `after` is the last one before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn edges_after(
        &self,
        node: &NodeId,
        is_out: bool,
        edge_type: Option<EdgeType>,
        after: Option<&Edge>,
        limit: usize,
    ) -> Result<Vec<Edge>, StoreError> {
        let _moment = self.moment();
        let side = if is_out { Side::Out } else { Side::In };
        let prefix = key::edges(node, side, edge_type);
        let from = match after {
            None => prefix.clone(),
            Some(edge) => {
                let [out, into] = key::edge(&edge.from, edge.edge_type, &edge.to);
                let mut from = if is_out { out } else { into };
                from.push(0);
                from
            }
        };
        let to = after_prefix(&prefix);
        let mut edges = Vec::new();
        for key in self.edge_keys(node, side, (&from, &to))? {
            let (edge, other) = edge_at(&key?, node, side)?;
            // Only resources are named that need not be there.
            let is_named = matches!(other, NodeId::Resource(_));
            if is_named && self.read_node(&other)?.is_none() {
                continue;
            }
            edges.push(edge);
            if edges.len() == limit {
                break;
            }
        }
        Ok(edges)
    }

    /// Whether a node is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_node(&self, id: &NodeId) -> Result<bool, StoreError> {
        Ok(self.store().get(&key::node(id))?.is_some())
    }

    /// The properties of a node, as docs/graph.md lists them; none of one that is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn properties(&self, id: &NodeId) -> Result<Option<Properties>, StoreError> {
        let _moment = self.moment();
        let store = self.store();
        Ok(match id.label() {
            Label::Resource => ResourceNode::read(store, id)?.map(|row| row.properties(id)),
            Label::Annotation => AnnotationNode::read(store, id)?.map(|row| row.properties(id)),
            Label::Collection | Label::EntityType | Label::Person => {
                HubNode::read(store, id)?.map(|row| row.properties(id))
            }
        })
    }
}

/// The properties of a node by their names.
pub type Properties = BTreeMap<&'static str, Property>;

fn instant(micros: i64) -> Property {
    Property::Text(Timestamp::from_micros(micros).to_string())
}

fn own_id(id: &NodeId) -> (&'static str, Property) {
    ("id", Property::Text(id.to_string()))
}

impl ResourceNode {
    /// Its properties, as docs/graph.md lists them.
    pub fn properties(self, id: &NodeId) -> Properties {
        let mut properties = BTreeMap::from([
            own_id(id),
            ("archived", Property::Boolean(self.archived)),
            ("byte_size", Property::Integer(self.byte_size)),
            ("created_at", instant(self.created_at)),
            ("created_by", Property::Text(self.created_by)),
            ("entity_types", Property::Texts(self.entity_types)),
            ("media_type", Property::Text(self.media_type)),
            ("name", Property::Text(self.name)),
        ]);
        let texts = [("collection", self.collection), ("language", self.language)];
        let given = texts
            .into_iter()
            .filter_map(|(key, text)| Some((key, Property::Text(text?))));
        properties.extend(given);
        properties
    }
}

impl AnnotationNode {
    /// Its properties, as docs/graph.md lists them.
    pub fn properties(self, id: &NodeId) -> Properties {
        BTreeMap::from([
            own_id(id),
            ("created_at", instant(self.created_at)),
            ("created_by", Property::Text(self.created_by)),
            ("motivations", Property::Texts(self.motivations)),
        ])
    }
}

impl HubNode {
    /// Its properties, as docs/graph.md lists them.
    pub fn properties(self, id: &NodeId) -> Properties {
        let name = id.name().unwrap_or_default().to_owned();
        let mut properties = BTreeMap::from([own_id(id), ("name", Property::Text(name))]);
        if id.label() == Label::EntityType {
            properties.insert("registered", Property::Boolean(self.is_registered));
            let description = self.description.map(Property::Text);
            properties.extend(description.map(|text| ("description", text)));
        }
        properties
    }
}
