//! The rows of nodes: a format byte, then bincode, as the views' rows.

use serde::{Deserialize, Serialize};

use super::key;
use super::node::NodeId;
use crate::row::{decode, encode, unreadable};
use crate::store::{Store, StoreError};

/// A resource, as far as the graph knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceNode {
    /// Its name.
    pub name: String,
    /// The type of its content.
    pub media_type: String,
    /// Bytes of its content.
    pub byte_size: u64,
    /// The language of its content.
    pub language: Option<String>,
    /// Whether it is archived.
    pub archived: bool,
    /// Where it was put.
    pub collection: Option<String>,
    /// Each once, sorted.
    pub entity_types: Vec<String>,
    /// What it was made from.
    pub derived_from: Option<[u8; 16]>,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
}

/// An annotation, as far as the graph knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationNode {
    /// The resource that it was made in.
    pub resource: [u8; 16],
    /// What its body and target name.
    pub references: Vec<(u8, [u8; 16])>,
    /// What it is for, in its order.
    pub motivations: Vec<String>,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
}

/// A collection, entity type or person: there as long as an edge leads to it or from it, or it was
/// described.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubNode {
    /// What an entity type was described as.
    pub description: Option<String>,
    /// Whether an entity type was described.
    pub is_registered: bool,
    /// How many edges lead to it or from it.
    pub edges: u64,
}

impl HubNode {
    /// Whether anything leads to it, or it was described.
    pub fn is_there(&self) -> bool {
        self.is_registered || self.edges > 0
    }
}

/// How many nodes and edges there are, in the order of their names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Nodes of each label.
    pub nodes: [u64; 5],
    /// Edges of each type.
    pub edges: [u64; 7],
}

/// A kind of row that a node can have.
pub(super) trait NodeRow: Serialize + serde::de::DeserializeOwned {
    fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    fn read(store: &dyn Store, id: &NodeId) -> Result<Option<Self>, StoreError> {
        let key = key::node(id);
        let bytes = store.get(&key)?;
        let decoded = bytes.map(|bytes| decode(&bytes));
        decoded
            .transpose()
            .map_err(|problem| unreadable(&key, &problem))
    }
}

impl NodeRow for ResourceNode {}
impl NodeRow for AnnotationNode {}
impl NodeRow for HubNode {}

pub(super) fn read_counts(store: &dyn Store) -> Result<Counts, StoreError> {
    let Some(bytes) = store.get(key::COUNTS)? else {
        return Ok(Counts::default());
    };
    decode(&bytes).map_err(|problem| unreadable(key::COUNTS, &problem))
}

pub(super) fn encode_counts(counts: &Counts) -> Vec<u8> {
    encode(counts)
}
