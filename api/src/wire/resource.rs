//! Resources on the wire.

use serde::Serialize;
use serde_json::{Map, Value, json};
use stemma_domain::access::Sight;
use stemma_domain::id::ResourceId;
use stemma_domain::resource::Descriptor;
use stemma_views::{EntityTypeRow, ReferenceRelation, ReferencedBy};
use utoipa::ToSchema;

use crate::wire::grants::AccessBody;

/// All of a resource but its annotations and its bytes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ResourceBody {
    /// Its identity.
    #[schema(example = "019a0000-0000-7000-8000-0000000000aa")]
    pub(crate) id: String,
    /// What people call it.
    #[schema(example = "Galileo Galilei")]
    pub(crate) name: String,
    /// The media type of its content.
    #[schema(example = "text/markdown")]
    pub(crate) media_type: String,
    /// The digest of its content.
    pub(crate) digest: String,
    /// The length of its content in bytes.
    pub(crate) byte_size: u64,
    /// The revision of its last event; its `ETag` is `"r<revision>"`.
    pub(crate) revision: u64,
    /// What it speaks of.
    pub(crate) entity_types: Vec<String>,
    /// The language of its content, as a BCP 47 tag.
    pub(crate) language: Option<String>,
    /// Whether it is left out of lists.
    pub(crate) archived: bool,
    /// The resource that it was made from.
    pub(crate) derived_from: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub(crate) created_at: String,
    /// Who made it.
    pub(crate) created_by: String,
    /// When its last event was recorded.
    #[schema(format = DateTime)]
    pub(crate) updated_at: String,
    /// How many annotations it holds.
    pub(crate) annotation_count: u64,
    /// The collection that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<String>,
    /// The client's own properties.
    #[schema(value_type = Object)]
    pub(crate) metadata: Map<String, Value>,
    /// The forms in which its content can be had.
    pub(crate) representations: Vec<RepresentationBody>,
    /// Who may read and write it; told to its owner and to admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<AccessBody>,
}

/// One form of a resource's content.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RepresentationBody {
    /// How the form came to be: `original`.
    pub(crate) rel: String,
    /// Its media type.
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: String,
    /// Its length in bytes.
    pub(crate) byte_size: u64,
    /// The revision that brought it.
    pub(crate) revision: u64,
}

impl ResourceBody {
    /// A resource as somebody sees it.
    pub(crate) fn of(descriptor: &Descriptor, sight: &Sight) -> Self {
        let is_owned = descriptor.is_owned_by(sight);
        let digest = descriptor.digest.to_string();
        let media_type = descriptor.media_type.to_string();
        let original = RepresentationBody {
            rel: "original".to_owned(),
            media_type: media_type.clone(),
            digest: digest.clone(),
            byte_size: descriptor.byte_size,
            revision: descriptor.content_revision,
        };
        Self {
            id: descriptor.id.to_string(),
            name: descriptor.name.to_string(),
            media_type,
            digest,
            byte_size: descriptor.byte_size,
            revision: descriptor.revision,
            entity_types: descriptor
                .entity_types
                .iter()
                .map(ToString::to_string)
                .collect(),
            language: descriptor.language.as_ref().map(ToString::to_string),
            archived: descriptor.archived,
            derived_from: descriptor.derived_from.as_ref().map(ToString::to_string),
            created_at: descriptor.created_at.to_string(),
            created_by: descriptor.created_by.clone(),
            updated_at: descriptor.updated_at.to_string(),
            annotation_count: descriptor.annotation_count,
            collection: descriptor.collection.as_ref().map(ToString::to_string),
            metadata: descriptor.metadata.clone(),
            representations: vec![original],
            access: is_owned.then(|| AccessBody::from(&descriptor.access)),
        }
    }
}

/// The path of a resource.
pub(crate) fn path(id: ResourceId) -> String {
    format!("/api/resources/{id}")
}

/// A resource as linked data, in the terms of schema.org.
pub(crate) fn json_ld(descriptor: &Descriptor, base: &str) -> Value {
    let iri = |id: ResourceId| format!("{base}{}", path(id));
    let mut types = vec![json!("CreativeWork")];
    types.extend(
        descriptor
            .entity_types
            .iter()
            .map(|t| json!(format!("stemma:{t}"))),
    );
    let mut document = json!({
        "@context": ["https://schema.org/", { "stemma": "urn:stemma:entity_type:" }],
        "@id": iri(descriptor.id),
        "@type": types,
        "identifier": descriptor.id.to_string(),
        "name": descriptor.name.as_str(),
        "encodingFormat": descriptor.media_type.as_str(),
        "contentSize": descriptor.byte_size.to_string(),
        "contentUrl": format!("{}/content", iri(descriptor.id)),
        "version": descriptor.revision,
        "dateCreated": descriptor.created_at.to_string(),
        "dateModified": descriptor.updated_at.to_string(),
        "creator": descriptor.created_by,
        "additionalProperty": [
            { "@type": "PropertyValue", "name": "digest", "value": descriptor.digest.to_string() },
        ],
    });
    if let Some(language) = &descriptor.language {
        document["inLanguage"] = language.as_str().into();
    }
    if let Some(source) = descriptor.derived_from {
        document["isBasedOn"] = json!({ "@id": iri(source) });
    }
    if let Some(collection) = &descriptor.collection {
        document["isPartOf"] = json!({ "@type": "Collection", "name": collection.as_str() });
    }
    document
}

/// Something that names a resource.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReferencedByBody {
    /// The resource that the naming is in.
    pub(crate) resource_id: String,
    /// Its name.
    pub(crate) name: String,
    /// The annotation that names, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) annotation_id: Option<String>,
    /// How it names: `body`, `target` or `derived_from`.
    pub(crate) relation: String,
}

impl From<ReferencedBy> for ReferencedByBody {
    fn from(reference: ReferencedBy) -> Self {
        let relation = match reference.relation {
            ReferenceRelation::Body => "body",
            ReferenceRelation::Target => "target",
            ReferenceRelation::DerivedFrom => "derived_from",
        };
        Self {
            resource_id: reference.resource_id.to_string(),
            name: reference.name.to_string(),
            annotation_id: reference.annotation_id.as_ref().map(ToString::to_string),
            relation: relation.to_owned(),
        }
    }
}

/// An entity type, and how many resources are of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct EntityTypeBody {
    /// The type.
    #[schema(example = "Person")]
    pub(crate) name: String,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// Resources of it that are not archived.
    pub(crate) count: u64,
}

impl From<EntityTypeRow> for EntityTypeBody {
    fn from(row: EntityTypeRow) -> Self {
        Self {
            name: row.name.to_string(),
            description: row.description,
            count: row.count,
        }
    }
}
