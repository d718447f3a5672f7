//! The values that expressions come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::graph::Relationship;

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing known.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number of 64 bits.
    Integer(i64),
    /// An IEEE double.
    Float(f64),
    /// A text.
    String(Arc<str>),
    /// Values in order.
    List(Arc<Vec<Value>>),
    /// Values by name.
    Map(Arc<BTreeMap<Arc<str>, Value>>),
    /// A node, by its id.
    Node(Arc<str>),
    /// A relationship.
    Relationship(Arc<Relationship>),
    /// Nodes, and the relationships between them.
    Path(Arc<PathValue>),
}

/// A path: one node more than relationships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathValue {
    /// The ids of its nodes.
    pub nodes: Vec<Arc<str>>,
    /// Its relationships.
    pub relationships: Vec<Arc<Relationship>>,
}

impl Value {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::String(Arc::from(text))
    }

    /// A list.
    pub fn list(values: Vec<Self>) -> Self {
        Self::List(Arc::new(values))
    }

    pub(crate) fn of_truth(truth: Option<bool>) -> Self {
        truth.map_or(Self::Null, Self::Boolean)
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What it is called in error messages.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Node(_) => "a node",
            Self::Relationship(_) => "a relationship",
            Self::Path(_) => "a path",
        }
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => 0,
            Self::String(text) | Self::Node(text) => text.len() + 16,
            Self::List(values) => values.iter().map(Self::bytes).sum::<usize>() + 40,
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| key.len() + 48 + value.bytes())
                .sum(),
            Self::Relationship(edge) => edge.from.len() + edge.to.len() + 96,
            Self::Path(path) => path.nodes.len() * 160,
        }
    }
}
