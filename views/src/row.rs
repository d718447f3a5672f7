//! Rows to bytes and back: a format byte, then bincode (legacy layout, size-limited).
//!
//! bincode cannot carry JSON values, so metadata and annotations stand in their rows as JSON text.
//! Invariant: a row that cannot be read is an error that names it, and leads to a rebuild.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stemma_domain::event::{Reference, Relation};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{Access, AnnotationState, Descriptor};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{
    CollectionName, EntityType, LanguageTag, MediaType, PrincipalName, ResourceName,
};
use stemma_event_log::EventDigest;
use uuid::Uuid;

use crate::query::EntityTypeRow;
use crate::store::StoreError;

/// The form of the bytes of each row; with another one, the form of every model is another too.
pub(crate) const FORMAT_VERSION: u8 = 2;
/// Most bytes of one row.
const ROW_BYTES_MAX: usize = 64 << 20;
/// Bytes that most rows fit.
const ROW_BYTES_EXPECTED: usize = 1024;

#[derive(Serialize, Deserialize)]
struct ResourceRow {
    id: [u8; 16],
    name: String,
    media_type: String,
    digest: [u8; 32],
    byte_size: u64,
    revision: u64,
    content_revision: u64,
    entity_types: Vec<String>,
    language: Option<String>,
    archived: bool,
    derived_from: Option<[u8; 16]>,
    created_at: i64,
    created_by: String,
    updated_at: i64,
    annotation_count: u64,
    collection: Option<String>,
    metadata: String,
    visibility: String,
    readers: Vec<String>,
    writers: Vec<String>,
}

/// Written with texts that are borrowed, read with texts of its own.
#[derive(Serialize, Deserialize)]
struct AnnotationRow<Text> {
    id: [u8; 16],
    annotation: Text,
    references: Vec<(u8, [u8; 16])>,
    added_at: i64,
    added_by: Text,
    added_position: u64,
    modified_at: Option<i64>,
    revision: u64,
}

/// What is known of an entity type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TypeRow {
    pub(crate) description: Option<String>,
    pub(crate) registered: bool,
    /// Resources of the type that are not archived.
    pub(crate) count: u64,
    /// Archived resources of the type.
    pub(crate) archived: u64,
    /// Of `count`, those that are not open to everybody.
    pub(crate) restricted: u64,
    /// Of `archived`, those that are not open to everybody.
    pub(crate) restricted_archived: u64,
}

impl TypeRow {
    /// Adds or takes away one resource of the type; false where there is none to take away.
    pub(crate) fn step(&mut self, resource: &Descriptor, by: i64) -> bool {
        let (all, restricted) = if resource.archived {
            (&mut self.archived, &mut self.restricted_archived)
        } else {
            (&mut self.count, &mut self.restricted)
        };
        let restricted_by = if resource.access.is_open() { 0 } else { by };
        let moved = (
            all.checked_add_signed(by),
            restricted.checked_add_signed(restricted_by),
        );
        let (Some(moved_all), Some(moved_restricted)) = moved else {
            return false;
        };
        (*all, *restricted) = (moved_all, moved_restricted);
        true
    }

    /// The row as an answer shows it.
    pub(crate) fn shown(self, name: EntityType) -> EntityTypeRow {
        EntityTypeRow {
            name,
            description: self.description,
            registered: self.registered,
            count: self.count,
        }
    }

    /// Whether nothing is known of the type any more.
    pub(crate) fn is_unused(&self) -> bool {
        !self.registered && self.count == 0 && self.archived == 0
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    pub(crate) resources: u64,
    pub(crate) archived: u64,
    pub(crate) annotations: u64,
    pub(crate) entity_types: u64,
    /// Resources that are not open to everybody.
    pub(crate) restricted: u64,
}

impl Sizes {
    /// The sizes after these steps, in the order of the fields; none below zero.
    pub(crate) fn moved(self, steps: [i64; 5]) -> Option<Self> {
        let [resources, archived, annotations, types, restricted] = steps;
        Some(Self {
            resources: self.resources.checked_add_signed(resources)?,
            archived: self.archived.checked_add_signed(archived)?,
            annotations: self.annotations.checked_add_signed(annotations)?,
            entity_types: self.entity_types.checked_add_signed(types)?,
            restricted: self.restricted.checked_add_signed(restricted)?,
        })
    }
}

/// How far the rows have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Records applied.
    pub(crate) end: u64,
    /// The digest of the last of them, which names all before it.
    pub(crate) last: Option<EventDigest>,
}

pub(crate) fn relation_byte(relation: Relation) -> u8 {
    match relation {
        Relation::Body => b'b',
        Relation::Target => b't',
    }
}

/// The byte of a reference that is no annotation's: derived from.
pub(crate) const DERIVED_FROM: u8 = b'd';

pub(crate) fn encode(row: &impl Serialize) -> Vec<u8> {
    let config = bincode::config::legacy();
    let mut bytes = Vec::with_capacity(ROW_BYTES_EXPECTED);
    bytes.push(FORMAT_VERSION);
    bincode::serde::encode_into_std_write(row, &mut bytes, config).expect("rows are plain data");
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (format, body) = bytes.split_first().ok_or("empty")?;
    if *format != FORMAT_VERSION {
        return Err(format!("format {format}"));
    }
    let config = bincode::config::legacy().with_limit::<ROW_BYTES_MAX>();
    let (row, read) = bincode::serde::decode_from_slice(body, config).map_err(|e| e.to_string())?;
    if read != body.len() {
        return Err(format!("{} bytes too many", body.len() - read));
    }
    Ok(row)
}

pub(crate) fn unreadable(key: &[u8], problem: &dyn std::fmt::Display) -> StoreError {
    StoreError::Row {
        key: crate::key::hex(key),
        problem: problem.to_string(),
    }
}

pub(crate) fn encode_resource(descriptor: &Descriptor) -> Vec<u8> {
    encode(&ResourceRow {
        id: *descriptor.id.as_bytes(),
        name: descriptor.name.as_str().to_owned(),
        media_type: descriptor.media_type.as_str().to_owned(),
        digest: *descriptor.digest.as_bytes(),
        byte_size: descriptor.byte_size,
        revision: descriptor.revision,
        content_revision: descriptor.content_revision,
        entity_types: descriptor
            .entity_types
            .iter()
            .map(|t| t.as_str().to_owned())
            .collect(),
        language: descriptor
            .language
            .as_ref()
            .map(|tag| tag.as_str().to_owned()),
        archived: descriptor.archived,
        derived_from: descriptor.derived_from.map(|id| *id.as_bytes()),
        created_at: descriptor.created_at.micros(),
        created_by: descriptor.created_by.clone(),
        updated_at: descriptor.updated_at.micros(),
        annotation_count: descriptor.annotation_count,
        collection: descriptor
            .collection
            .as_ref()
            .map(|name| name.as_str().to_owned()),
        metadata: serde_json::to_string(&descriptor.metadata).expect("metadata has text keys"),
        visibility: descriptor.access.visibility().name().to_owned(),
        readers: names(descriptor.access.readers()),
        writers: names(descriptor.access.writers()),
    })
}

pub(crate) fn decode_resource(key: &[u8], bytes: &[u8]) -> Result<Descriptor, StoreError> {
    let row: ResourceRow = decode(bytes).map_err(|problem| unreadable(key, &problem))?;
    let types = row.entity_types.iter().map(|text| EntityType::new(text));
    let checked = || -> Result<Descriptor, Box<dyn std::error::Error>> {
        Ok(Descriptor {
            id: ResourceId::new(Uuid::from_bytes(row.id)),
            name: ResourceName::new(&row.name)?,
            media_type: MediaType::new(&row.media_type)?,
            digest: ContentDigest::from_bytes(row.digest),
            byte_size: row.byte_size,
            revision: row.revision,
            content_revision: row.content_revision,
            entity_types: types.collect::<Result<_, _>>()?,
            language: row.language.as_deref().map(LanguageTag::new).transpose()?,
            archived: row.archived,
            derived_from: row
                .derived_from
                .map(|id| ResourceId::new(Uuid::from_bytes(id))),
            created_at: Timestamp::from_micros(row.created_at),
            created_by: row.created_by.clone(),
            updated_at: Timestamp::from_micros(row.updated_at),
            annotation_count: row.annotation_count,
            collection: row
                .collection
                .as_deref()
                .map(CollectionName::new)
                .transpose()?,
            metadata: serde_json::from_str(&row.metadata)?,
            access: access(&row)?,
        })
    };
    checked().map_err(|problem| unreadable(key, &problem))
}

fn names(principals: &[PrincipalName]) -> Vec<String> {
    principals.iter().map(ToString::to_string).collect()
}

fn access(row: &ResourceRow) -> Result<Access, Box<dyn std::error::Error>> {
    let named = |names: &[String]| {
        let names = names.iter().map(|name| PrincipalName::new(name));
        names.collect::<Result<Vec<_>, _>>()
    };
    let visibility = row.visibility.parse()?;
    Ok(Access::new(
        visibility,
        named(&row.readers)?,
        named(&row.writers)?,
    )?)
}

pub(crate) fn encode_annotation(state: &AnnotationState) -> Vec<u8> {
    let reference = |r: &Reference| (relation_byte(r.relation), *r.resource_id.as_bytes());
    encode(&AnnotationRow {
        id: *state.id.as_bytes(),
        annotation: state.annotation.as_str(),
        references: state.references.iter().map(reference).collect(),
        added_at: state.added_at.micros(),
        added_by: state.added_by.as_str(),
        added_position: state.added_position,
        modified_at: state.modified_at.map(Timestamp::micros),
        revision: state.revision,
    })
}

pub(crate) fn decode_annotation(key: &[u8], bytes: &[u8]) -> Result<AnnotationState, StoreError> {
    let row: AnnotationRow<String> = decode(bytes).map_err(|problem| unreadable(key, &problem))?;
    let annotation = serde_json::from_str(&row.annotation);
    let reference = |(relation, id): &(u8, [u8; 16])| {
        let relation = match relation {
            b'b' => Relation::Body,
            b't' => Relation::Target,
            other => return Err(unreadable(key, &format!("relation {other}"))),
        };
        Ok(Reference {
            relation,
            resource_id: ResourceId::new(Uuid::from_bytes(*id)),
        })
    };
    Ok(AnnotationState {
        id: AnnotationId::new(Uuid::from_bytes(row.id)),
        annotation: annotation.map_err(|problem| unreadable(key, &problem))?,
        references: row
            .references
            .iter()
            .map(reference)
            .collect::<Result<_, _>>()?,
        added_at: Timestamp::from_micros(row.added_at),
        added_by: row.added_by,
        added_position: row.added_position,
        modified_at: row.modified_at.map(Timestamp::from_micros),
        revision: row.revision,
    })
}

pub(crate) fn encode_type(row: &TypeRow) -> Vec<u8> {
    encode(row)
}

pub(crate) fn decode_type(key: &[u8], bytes: &[u8]) -> Result<TypeRow, StoreError> {
    decode(bytes).map_err(|problem| unreadable(key, &problem))
}

/// A state with JSON inside it, as JSON text behind the usual format byte.
pub(crate) fn encode_state(state: &impl Serialize) -> Vec<u8> {
    encode(&serde_json::to_string(state).expect("states have text keys and finite numbers"))
}

pub(crate) fn decode_state<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let text: String = decode(bytes).map_err(|problem| unreadable(key, &problem))?;
    serde_json::from_str(&text).map_err(|problem| unreadable(key, &problem))
}

pub(crate) fn encode_sizes(sizes: &Sizes) -> Vec<u8> {
    encode(sizes)
}

pub(crate) fn decode_sizes(key: &[u8], bytes: &[u8]) -> Result<Sizes, StoreError> {
    decode(bytes).map_err(|problem| unreadable(key, &problem))
}

pub(crate) fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = checkpoint.end.to_le_bytes().to_vec();
    bytes.extend(checkpoint.last.iter().flat_map(EventDigest::as_bytes));
    bytes
}

pub(crate) fn decode_checkpoint(key: &[u8], bytes: &[u8]) -> Result<Checkpoint, StoreError> {
    let malformed = || unreadable(key, &"not a position and a digest");
    let (end, last) = bytes.split_first_chunk().ok_or_else(malformed)?;
    let last: [u8; 32] = last.try_into().map_err(|_| malformed())?;
    Ok(Checkpoint {
        end: u64::from_le_bytes(*end),
        last: Some(EventDigest::from_bytes(last)),
    })
}

/// A position as a row holds it.
pub(crate) fn decode_position(key: &[u8], bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes: [u8; 8] = bytes
        .try_into()
        .map_err(|_| unreadable(key, &"not eight bytes"))?;
    Ok(u64::from_le_bytes(bytes))
}
