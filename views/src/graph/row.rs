//! The rows of nodes: a format byte, then bincode, as the views' rows.

use serde::{Deserialize, Serialize};

use super::key;
use super::node::NodeId;
use crate::row::{decode, encode, unreadable};
use crate::store::{Store, StoreError};

/// A resource, as far as the graph knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResourceNode {
    pub(super) name: String,
    pub(super) media_type: String,
    pub(super) byte_size: u64,
    pub(super) language: Option<String>,
    pub(super) archived: bool,
    pub(super) collection: Option<String>,
    /// Each once, sorted.
    pub(super) entity_types: Vec<String>,
    pub(super) derived_from: Option<[u8; 16]>,
    pub(super) created_at: i64,
    pub(super) created_by: String,
}

/// An annotation, as far as the graph knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AnnotationNode {
    /// The resource that it was made in.
    pub(super) resource: [u8; 16],
    /// What its body and target name.
    pub(super) references: Vec<(u8, [u8; 16])>,
    pub(super) motivations: Vec<String>,
    pub(super) created_at: i64,
    pub(super) created_by: String,
}

/// A collection, entity type or person: there as long as an edge leads to it or from it, or it was
/// described.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HubNode {
    pub(super) description: Option<String>,
    pub(super) is_registered: bool,
    pub(super) edges: u64,
}

impl HubNode {
    pub(super) fn is_there(&self) -> bool {
        self.is_registered || self.edges > 0
    }
}

/// How many nodes and edges there are, in the order of their names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) nodes: [u64; 5],
    pub(super) edges: [u64; 7],
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
