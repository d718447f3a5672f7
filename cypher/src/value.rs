//! The values that expressions come to.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::graph::Relationship;

/// Most lists and maps within each other of one value. What compares, writes or drops a value calls
/// itself once for each, and a thread's stack is finite.
pub(crate) const VALUE_DEPTH_MAX: u32 = 1000;

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
    List(Arc<List>),
    /// Values by name.
    Map(Arc<Map>),
    /// A node, by its id.
    Node(Arc<str>),
    /// A relationship.
    Relationship(Arc<Relationship>),
    /// Nodes, and the relationships between them.
    Path(Arc<PathValue>),
}

/// Values in order. Invariant: its depth and its size are those of its values, counted when it is
/// made, so that nobody has to walk through them: a value may hold itself many times over, and is
/// then far larger than what is kept of it.
#[derive(Debug, Clone, Default)]
pub struct List {
    values: Vec<Value>,
    within: Within,
}

/// Values by name; its depth and size are known as those of a [`List`] are.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: BTreeMap<Arc<str>, Value>,
    within: Within,
}

/// What is known of the values in a list or map.
#[derive(Debug, Clone, Copy, Default)]
struct Within {
    /// Most lists and maps within each other.
    depth: u32,
    /// Bytes, about; never less because there are too many to count.
    bytes: usize,
}

impl Within {
    fn and(self, value: &Value, more: usize) -> Self {
        Self {
            depth: self.depth.max(value.depth()),
            bytes: self
                .bytes
                .saturating_add(value.bytes())
                .saturating_add(more),
        }
    }
}

impl From<Vec<Value>> for List {
    fn from(values: Vec<Value>) -> Self {
        let none = Within::default();
        let within = values.iter().fold(none, |within, v| within.and(v, 0));
        Self { values, within }
    }
}

impl Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.values
    }
}

impl From<BTreeMap<Arc<str>, Value>> for Map {
    fn from(entries: BTreeMap<Arc<str>, Value>) -> Self {
        let none = Within::default();
        let within = entries.iter().fold(none, |within, (key, value)| {
            within.and(value, key.len() + 48)
        });
        Self { entries, within }
    }
}

impl Deref for Map {
    type Target = BTreeMap<Arc<str>, Value>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
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
        Self::List(Arc::new(List::from(values)))
    }

    /// A map.
    pub fn map(entries: BTreeMap<Arc<str>, Self>) -> Self {
        Self::Map(Arc::new(Map::from(entries)))
    }

    /// Lists and maps within each other, itself among them.
    pub(crate) fn depth(&self) -> u32 {
        match self {
            Self::List(values) => values.within.depth.saturating_add(1),
            Self::Map(entries) => entries.within.depth.saturating_add(1),
            _ => 0,
        }
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

    /// Bytes that it takes, about, were nothing in it kept only once.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>().saturating_add(match self {
            Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => 0,
            Self::String(text) | Self::Node(text) => text.len() + 16,
            Self::List(values) => values.within.bytes.saturating_add(40),
            Self::Map(entries) => entries.within.bytes.saturating_add(40),
            Self::Relationship(edge) => edge.from.len() + edge.to.len() + 96,
            Self::Path(path) => path.nodes.len() * 160,
        })
    }
}

/// Bytes that values take together, about.
pub(crate) fn bytes_of<'v>(values: impl IntoIterator<Item = &'v Value>) -> usize {
    let bytes = values.into_iter().map(Value::bytes);
    bytes.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each look at the size walked through all of it, which took as long as it is large.
    #[test]
    fn the_depth_and_the_size_of_a_value_are_known_without_walking_through_it() {
        let mut value = Value::list(vec![Value::Integer(1)]);
        for _ in 0..200 {
            value = Value::list(vec![value.clone(), value]);
        }
        assert_eq!((value.depth(), value.bytes()), (201, usize::MAX));
        let small = Value::list(vec![Value::Null, Value::text("abc")]);
        assert_eq!(small.depth(), 1);
        assert_eq!(small.bytes(), 3 * size_of::<Value>() + 40 + 3 + 16);
        let entries = BTreeMap::from([(Arc::from("key"), small.clone())]);
        let map = Value::map(entries);
        assert_eq!(map.depth(), 2);
        assert!(map.bytes() > small.bytes());
    }
}
