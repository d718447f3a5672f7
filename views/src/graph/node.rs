//! Names of nodes and of what connects them.

use std::fmt;
use std::str::FromStr;

use stemma_domain::id::{AnnotationId, ResourceId};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// An annotation.
    Annotation,
    /// What resources are put into.
    Collection,
    /// A kind of thing that resources speak of.
    EntityType,
    /// Someone, or some program, that wrote.
    Person,
    /// A resource.
    Resource,
}

impl Label {
    /// All labels, by name.
    pub const ALL: [Self; 5] = [
        Self::Annotation,
        Self::Collection,
        Self::EntityType,
        Self::Person,
        Self::Resource,
    ];

    /// The label as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Annotation => "Annotation",
            Self::Collection => "Collection",
            Self::EntityType => "EntityType",
            Self::Person => "Person",
            Self::Resource => "Resource",
        }
    }
}

impl FromStr for Label {
    type Err = UnknownLabel;

    fn from_str(text: &str) -> Result<Self, UnknownLabel> {
        let named = |label: &Self| label.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(UnknownLabel)
    }
}

/// Not the name of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected Annotation, Collection, EntityType, Person or Resource")]
pub struct UnknownLabel;

/// How one node leads to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EdgeType {
    /// From an annotation to the resource that it was made in.
    Annotates,
    /// From a person to a resource or an annotation.
    Created,
    /// From a resource to the one it was made from.
    DerivedFrom,
    /// From a resource to an entity type.
    HasType,
    /// From a resource to its collection.
    InCollection,
    /// From an annotation to a resource that its body names.
    RefersTo,
    /// From an annotation to a resource that its target names.
    Targets,
}

impl EdgeType {
    /// All types, by name.
    pub const ALL: [Self; 7] = [
        Self::Annotates,
        Self::Created,
        Self::DerivedFrom,
        Self::HasType,
        Self::InCollection,
        Self::RefersTo,
        Self::Targets,
    ];

    /// The type as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Annotates => "ANNOTATES",
            Self::Created => "CREATED",
            Self::DerivedFrom => "DERIVED_FROM",
            Self::HasType => "HAS_TYPE",
            Self::InCollection => "IN_COLLECTION",
            Self::RefersTo => "REFERS_TO",
            Self::Targets => "TARGETS",
        }
    }

    /// Its place among all types, which rows and keys hold.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Annotates => 0,
            Self::Created => 1,
            Self::DerivedFrom => 2,
            Self::HasType => 3,
            Self::InCollection => 4,
            Self::RefersTo => 5,
            Self::Targets => 6,
        }
    }
}

impl FromStr for EdgeType {
    type Err = UnknownEdgeType;

    fn from_str(text: &str) -> Result<Self, UnknownEdgeType> {
        let named = |edge: &Self| edge.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(UnknownEdgeType)
    }
}

/// Not the name of a type of edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ANNOTATES, CREATED, DERIVED_FROM, HAS_TYPE, IN_COLLECTION, REFERS_TO or TARGETS")]
pub struct UnknownEdgeType;

/// A node's name, unique in its graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeId {
    /// `annotation:` and the annotation's UUID.
    Annotation(AnnotationId),
    /// `collection:` and its name.
    Collection(String),
    /// `entity_type:` and its name.
    EntityType(String),
    /// `person:` and the name by which events know the actor.
    Person(String),
    /// The resource's UUID.
    Resource(ResourceId),
}

/// Not a node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a resource's UUID, annotation:UUID, collection:NAME, entity_type:NAME or person:NAME"
)]
pub struct InvalidNodeId;

/// Longest name of a node after its prefix, in bytes.
const NAME_BYTES_MAX: usize = 4096;

impl NodeId {
    /// What the node is.
    pub const fn label(&self) -> Label {
        match self {
            Self::Annotation(_) => Label::Annotation,
            Self::Collection(_) => Label::Collection,
            Self::EntityType(_) => Label::EntityType,
            Self::Person(_) => Label::Person,
            Self::Resource(_) => Label::Resource,
        }
    }

    /// The name that the id itself holds.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Collection(name) | Self::EntityType(name) | Self::Person(name) => Some(name),
            Self::Annotation(_) | Self::Resource(_) => None,
        }
    }
}

impl From<ResourceId> for NodeId {
    fn from(id: ResourceId) -> Self {
        Self::Resource(id)
    }
}

impl From<AnnotationId> for NodeId {
    fn from(id: AnnotationId) -> Self {
        Self::Annotation(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation(id) => write!(f, "annotation:{id}"),
            Self::Collection(name) => write!(f, "collection:{name}"),
            Self::EntityType(name) => write!(f, "entity_type:{name}"),
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Resource(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        let Some((kind, name)) = text.split_once(':') else {
            let id = text.parse().map_err(|_| InvalidNodeId)?;
            return Ok(Self::Resource(id));
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(InvalidNodeId);
        }
        match kind {
            "annotation" => Ok(Self::Annotation(name.parse().map_err(|_| InvalidNodeId)?)),
            "collection" => Ok(Self::Collection(name.to_owned())),
            "entity_type" => Ok(Self::EntityType(name.to_owned())),
            "person" => Ok(Self::Person(name.to_owned())),
            _ => Err(InvalidNodeId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_read_back_and_others_are_refused() {
        let id = "019b0000-0000-7000-8000-000000000001";
        for text in [
            id,
            &format!("annotation:{id}"),
            "collection:letters: 1781",
            "entity_type:Person",
            "person:ada",
        ] {
            let read: NodeId = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "ada", "person:", "annotation:1", "thing:1", ":x"] {
            assert_eq!(text.parse::<NodeId>(), Err(InvalidNodeId), "{text}");
        }
    }

    #[test]
    fn types_of_edges_stand_in_the_order_of_their_numbers_and_names() {
        for (number, edge) in EdgeType::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(edge.number()), number);
            assert_eq!(edge.as_str().parse(), Ok(edge));
        }
        assert!(EdgeType::ALL.is_sorted_by_key(|edge| edge.as_str()));
        assert!(Label::ALL.is_sorted_by_key(|label| label.as_str()));
    }
}
