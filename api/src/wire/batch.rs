//! Operations on the wire: how the fields of one become a command.
//!
//! The same readers serve the single routes and the batch, so both take the same fields and refuse
//! the same ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use stemma_domain::document::is_made_of_bytes;
use stemma_domain::event::{Metadata, ResourceCreated};
use stemma_domain::id::{ContentDigest, IdError, ResourceId};
use stemma_domain::resource::{Access, ResourcePatch};
use stemma_domain::value::{CollectionName, EntityType, LanguageTag, MediaType, ResourceName};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::json::{Fields, boolean, checked, object, text};
use crate::wire::grants::access;

/// What describes a resource that is to be made.
#[derive(Debug)]
pub(crate) struct NewResource {
    pub(crate) id: Option<ResourceId>,
    pub(crate) name: Option<ResourceName>,
    pub(crate) media_type: Option<MediaType>,
    pub(crate) entity_types: Vec<EntityType>,
    pub(crate) language: Option<LanguageTag>,
    pub(crate) collection: Option<CollectionName>,
    pub(crate) derived_from: Option<ResourceId>,
    pub(crate) metadata: Metadata,
    pub(crate) access: Access,
}

impl NewResource {
    /// Takes the fields that describe a resource; `id_field` is what its id is called.
    pub(crate) fn read(fields: &mut Fields, id_field: &str) -> Self {
        Self {
            id: fields.optional(id_field, checked(chosen_id)),
            name: fields.optional("name", checked(ResourceName::new)),
            media_type: fields.optional("media_type", checked(MediaType::new)),
            entity_types: entity_types(fields),
            language: fields.optional("language", checked(LanguageTag::new)),
            collection: fields.optional("collection", checked(CollectionName::new)),
            derived_from: fields.optional("derived_from", checked(str::parse)),
            metadata: fields.optional("metadata", object).unwrap_or_default(),
            access: access(fields),
        }
    }

    /// The payload of the event that makes it; none while name or media type are missing.
    pub(crate) fn created(
        self,
        id: ResourceId,
        digest: ContentDigest,
        byte_size: u64,
    ) -> Option<ResourceCreated> {
        Some(ResourceCreated {
            access: self.access,
            byte_size,
            collection: self.collection,
            derived_from: self.derived_from,
            digest,
            entity_types: self.entity_types,
            id,
            language: self.language,
            media_type: self.media_type?,
            metadata: self.metadata,
            name: self.name?,
        })
    }
}

/// Reads an id that a client chooses for what it makes.
pub(crate) fn chosen_id(text: &str) -> Result<ResourceId, String> {
    let id: ResourceId = text.parse().map_err(|error: IdError| error.to_string())?;
    if is_made_of_bytes(id) {
        return Err("ids of version 8 are those of documents, and are not chosen".to_owned());
    }
    Ok(id)
}

/// Takes `entity_types`; each that is none is noted at its own place.
fn entity_types(fields: &mut Fields) -> Vec<EntityType> {
    let names = fields.optional("entity_types", |value| match value {
        Value::Array(names) => Ok(names),
        _ => Err("expected an array of texts"),
    });
    let mut types = Vec::new();
    for (index, name) in names.unwrap_or_default().into_iter().enumerate() {
        match checked(EntityType::new)(name) {
            Ok(name) => types.push(name),
            Err(why) => fields.problem(&format!("entity_types/{index}"), "INVALID_VALUE", why),
        }
    }
    types
}

/// Takes `content` or `content_base64`, just one of them.
pub(crate) fn content(fields: &mut Fields) -> Option<Vec<u8>> {
    if fields.has("content") && fields.has("content_base64") {
        fields.raw("content");
        fields.raw("content_base64");
        fields.problem(
            "content_base64",
            "INVALID_VALUE",
            "give content or content_base64, not both",
        );
        return None;
    }
    if fields.has("content_base64") {
        return fields.required("content_base64", |value| {
            STANDARD
                .decode(text(value)?)
                .map_err(|_| "expected base64 with padding")
        });
    }
    fields.required("content", |value| text(value).map(String::into_bytes))
}

/// Takes the fields of a merge patch (RFC 7396); null removes.
pub(crate) fn patch(fields: &mut Fields) -> ResourcePatch {
    let mut patch = ResourcePatch {
        name: fields.not_null("name", checked(ResourceName::new)),
        archived: fields.not_null("archived", boolean),
        ..ResourcePatch::default()
    };
    if fields.has("language") {
        patch.language = Some(fields.optional("language", checked(LanguageTag::new)));
    }
    if fields.has("collection") {
        patch.collection = Some(fields.optional("collection", checked(CollectionName::new)));
    }
    match fields.raw("metadata") {
        None => {}
        Some(metadata @ (Value::Object(_) | Value::Null)) => patch.metadata = Some(metadata),
        Some(_) => fields.problem("metadata", "INVALID_VALUE", "expected an object or null"),
    }
    patch
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchBody {
    /// The position of its last event; null when all was already as asked in an empty log.
    pub(crate) position: Option<u64>,
    /// One result for each operation, in order.
    pub(crate) results: Vec<BatchResultBody>,
}

/// What became of one operation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResultBody {
    /// The resource.
    #[schema(value_type = String)]
    pub(crate) resource_id: Uuid,
    /// Its revision right after the operation.
    pub(crate) revision: u64,
    /// The annotation that the operation added or removed.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) annotation_id: Option<Uuid>,
}
