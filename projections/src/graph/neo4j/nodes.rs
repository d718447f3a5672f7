//! Nodes as Neo4j holds them, and as the fold knows them.

use neo4rs::Row;
use serde::Deserialize;
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::time::Timestamp;
use stemma_views::graph::{
    AnnotationNode, EdgeType, HubNode, Label, Node, NodeId, Properties, ResourceNode,
};

use super::client::Neo4jError;

/// The properties of a node of any label.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) id: String,
    name: Option<String>,
    media_type: Option<String>,
    byte_size: Option<i64>,
    language: Option<String>,
    archived: Option<bool>,
    collection: Option<String>,
    entity_types: Option<Vec<String>>,
    motivations: Option<Vec<String>>,
    created_at: Option<String>,
    created_by: Option<String>,
    description: Option<String>,
    registered: Option<bool>,
}

fn unreadable(what: &str, of: &str) -> Neo4jError {
    Neo4jError::Unreadable(format!("{what} of {of} is not what was written there"))
}

/// A node's id.
pub(super) fn id(text: &str) -> Result<NodeId, Neo4jError> {
    text.parse().map_err(|_| unreadable("the id", text))
}

/// A resource's id.
pub(super) fn resource_id(text: &str) -> Result<ResourceId, Neo4jError> {
    text.parse().map_err(|_| unreadable("the id", text))
}

impl Stored {
    /// The properties in a column of a row.
    pub(super) fn of(row: &Row, column: &str) -> Result<Self, Neo4jError> {
        Ok(row.get(column)?)
    }

    /// A node's id.
    pub(super) fn node_id(&self) -> Result<NodeId, Neo4jError> {
        id(&self.id)
    }

    fn micros(&self) -> Result<i64, Neo4jError> {
        let instant = self
            .created_at
            .as_deref()
            .and_then(|text| text.parse().ok());
        let instant: Timestamp = instant.ok_or_else(|| unreadable("created_at", &self.id))?;
        Ok(instant.micros())
    }

    /// A resource, made from another one or none.
    pub(super) fn resource(
        self,
        derived_from: Option<ResourceId>,
    ) -> Result<ResourceNode, Neo4jError> {
        let created_at = self.micros()?;
        let id = self.id.clone();
        let id = id.as_str();
        let byte_size = self.byte_size.and_then(|bytes| u64::try_from(bytes).ok());
        Ok(ResourceNode {
            byte_size: byte_size.ok_or_else(|| unreadable("byte_size", id))?,
            archived: self.archived.ok_or_else(|| unreadable("archived", id))?,
            name: self.name.ok_or_else(|| unreadable("name", id))?,
            media_type: self
                .media_type
                .ok_or_else(|| unreadable("media_type", id))?,
            created_by: self
                .created_by
                .ok_or_else(|| unreadable("created_by", id))?,
            language: self.language,
            collection: self.collection,
            entity_types: self.entity_types.unwrap_or_default(),
            derived_from: derived_from.map(|id| *id.as_bytes()),
            created_at,
        })
    }

    /// An annotation, made in a resource, with what it names.
    pub(super) fn annotation(
        self,
        resource: ResourceId,
        references: Vec<(u8, [u8; 16])>,
    ) -> Result<AnnotationNode, Neo4jError> {
        let created_at = self.micros()?;
        let by = || unreadable("created_by", &self.id);
        Ok(AnnotationNode {
            created_by: self.created_by.clone().ok_or_else(by)?,
            resource: *resource.as_bytes(),
            references,
            motivations: self.motivations.unwrap_or_default(),
            created_at,
        })
    }

    /// A collection, entity type or person with so many edges.
    pub(super) fn hub(self, edges: u64) -> HubNode {
        HubNode {
            description: self.description,
            is_registered: self.registered.unwrap_or(false),
            edges,
        }
    }

    /// Its properties, as docs/graph.md lists them.
    pub(super) fn properties(self) -> Result<(NodeId, Properties), Neo4jError> {
        let id = self.node_id()?;
        let properties = match id.label() {
            Label::Resource => self.resource(None)?.properties(&id),
            Label::Annotation => {
                // Where it was made is no property.
                let nowhere = ResourceId::new(uuid::Uuid::nil());
                self.annotation(nowhere, Vec::new())?.properties(&id)
            }
            Label::Collection | Label::EntityType | Label::Person => self.hub(0).properties(&id),
        };
        Ok((id, properties))
    }

    /// As answers show it.
    pub(super) fn node(self) -> Result<Node, Neo4jError> {
        let id = self.node_id()?;
        let created_at = match id.label() {
            Label::Resource | Label::Annotation => Some(Timestamp::from_micros(self.micros()?)),
            Label::Collection | Label::EntityType | Label::Person => None,
        };
        Ok(Node {
            id,
            name: self.name,
            archived: self.archived.unwrap_or(false),
            created_at,
        })
    }
}

/// Where an annotation was made, and what it names.
type Named = (ResourceId, Vec<(u8, [u8; 16])>);

/// What the relationships of an annotation say of it: where it was made, and what it names.
pub(super) fn references(
    annotation: AnnotationId,
    named: &[(String, String)],
) -> Result<Named, Neo4jError> {
    let mut resource = None;
    let mut references = Vec::with_capacity(named.len());
    for (kind, to) in named {
        let (kind, to) = (edge_type(kind)?, resource_id(to)?);
        if kind == EdgeType::Annotates {
            resource = Some(to);
        }
        references.extend(AnnotationNode::reference(kind, to));
    }
    let resource = resource.ok_or_else(|| unreadable("ANNOTATES", &annotation.to_string()))?;
    Ok((resource, references))
}

/// Types of relationships as a pattern names them.
pub(super) fn alternatives(types: &[EdgeType]) -> String {
    let names: Vec<&str> = types.iter().map(|kind| kind.as_str()).collect();
    names.join("|")
}

/// A relationship's type.
pub(super) fn edge_type(text: &str) -> Result<EdgeType, Neo4jError> {
    text.parse()
        .map_err(|_| unreadable("the type of a relationship", text))
}
