//! `decide`: from a resource's state and a command to the events that follow, or a refusal.
//!
//! Pure: what it needs beside the state (the text of the content, the bases of our own IRIs) is
//! handed in. Invariant: the events given fit the state (`Resource::evolve` takes them in order).

use std::sync::Arc;

use serde_json::Value;

use super::evolve::{AnnotationState, Resource};
use crate::annotation::{self, BodyOperation, BodyOperationError, FieldError, TextIndex};
use crate::document::DocumentRefusal;
use crate::event::{
    AnnotationAdded, AnnotationBodyChanged, AnnotationRemoved, EntityTypeChange, Event, Metadata,
    Reference, Relation, ResourceAccessChanged, ResourceArchived, ResourceCollectionChanged,
    ResourceCreated, ResourceLanguageChanged, ResourceMetadataChanged, ResourceRenamed,
    ResourceRevised, ResourceUnarchived,
};
use crate::id::{AnnotationId, ContentDigest, ResourceId};
use crate::job::JobRefusal;
use crate::json_text::JsonText;
use crate::resource::{Access, Descriptor};
use crate::value::{CollectionName, EntityType, LanguageTag, MediaType, ResourceName};

/// Most bytes of a resource's metadata, as JSON.
pub const METADATA_BYTES_MAX: usize = 256 * 1024;
/// Most entity types of one resource.
pub const ENTITY_TYPES_MAX: usize = 256;

/// A request to change one resource; it may be refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make the resource.
    Create(ResourceCreated),
    /// Make the resource from another. The annotations to bring along have ids of their own.
    Clone(CloneResource),
    /// Give it new content; without a media type it keeps the one it has.
    Revise {
        /// The new content, stored already.
        digest: ContentDigest,
        /// Its length in bytes.
        byte_size: u64,
        /// Its media type, when it changes.
        media_type: Option<MediaType>,
    },
    /// Have it say of the file that is its content what is known of that now; of a resource that
    /// has other content meanwhile nothing.
    FollowFile(FollowedFile),
    /// Change what describes it.
    Patch(ResourcePatch),
    /// Say who else may read and write it.
    ChangeAccess(Access),
    /// Annotate it with a validated annotation.
    AddAnnotation {
        /// The identity it gets.
        annotation_id: AnnotationId,
        /// The annotation, as [`annotation::validate`] gave it.
        annotation: Value,
    },
    /// Change an annotation's body.
    ChangeAnnotationBody {
        /// Which annotation.
        annotation_id: AnnotationId,
        /// What to do, in order.
        operations: Vec<BodyOperation>,
    },
    /// Take an annotation away.
    RemoveAnnotation {
        /// Which annotation.
        annotation_id: AnnotationId,
    },
    /// Say that it speaks of this kind of thing.
    AddEntityType(EntityType),
    /// Say that it no longer does.
    RemoveEntityType(EntityType),
}

/// What a clone is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct CloneResource {
    /// The first event's payload; `derived_from` names the source.
    pub created: ResourceCreated,
    /// The source's annotations to bring along, in order, each with its new id.
    pub annotations: Vec<(AnnotationId, Arc<AnnotationState>)>,
    /// The source.
    pub source: ResourceId,
}

/// What is known of a file that came as a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowedFile {
    /// The file.
    pub digest: ContentDigest,
    /// What it is.
    pub media_type: Option<MediaType>,
    /// The name that it takes on.
    pub naming: Option<Naming>,
}

/// The name that a file gives its resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Naming {
    /// The name that it takes on.
    pub name: ResourceName,
    /// The one that the file gave it before; one with another name was given that by somebody.
    pub before: ResourceName,
}

/// Changes of what describes a resource: the outer `Option` says whether to change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourcePatch {
    /// A new name.
    pub name: Option<ResourceName>,
    /// A language, or none.
    pub language: Option<Option<LanguageTag>>,
    /// A merge patch (RFC 7396) over the metadata; null removes all of it.
    pub metadata: Option<Value>,
    /// In or out of the lists.
    pub archived: Option<bool>,
    /// A collection, or none.
    pub collection: Option<Option<CollectionName>>,
}

/// How IRIs that name our own resources are recognised.
#[derive(Debug, Clone, Copy)]
pub struct IriNames<'a> {
    /// The URLs that this server goes by, such as `https://example.org`.
    pub bases: &'a [String],
}

impl IriNames<'_> {
    /// The resource that an IRI names, if it is one of ours.
    pub fn resolve(&self, iri: &str) -> Option<ResourceId> {
        annotation::resource_in_iri(iri, self.bases).map(ResourceId::new)
    }

    /// The resources that an annotation names, each once for each relation.
    pub fn references(&self, annotation: &Value) -> Vec<Reference> {
        let resolve = |iri: &str| annotation::resource_in_iri(iri, self.bases);
        let mut references: Vec<Reference> = annotation::references(annotation, &resolve)
            .into_iter()
            .map(|reference| Reference {
                relation: match reference.relation {
                    annotation::Relation::Body => Relation::Body,
                    annotation::Relation::Target => Relation::Target,
                },
                resource_id: ResourceId::new(reference.resource),
            })
            .collect();
        references.sort_unstable();
        references.dedup();
        references
    }
}

/// Why a command is refused. Nothing is to be written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such resource.
    #[error("there is no such resource")]
    NotFound,
    /// Whoever asks may read it, and may not do this to it.
    #[error("{0}")]
    NotGranted(&'static str),
    /// The id is taken.
    #[error("a resource with this id exists")]
    AlreadyExists,
    /// There is no such annotation.
    #[error("there is no such annotation in this resource")]
    AnnotationNotFound,
    /// The annotation breaks a rule; each place is named.
    #[error("the annotation is not valid")]
    InvalidAnnotation(Vec<FieldError>),
    /// A body operation cannot be done.
    #[error(transparent)]
    BodyOperation(#[from] BodyOperationError),
    /// A command to a job is refused.
    #[error(transparent)]
    Job(#[from] JobRefusal),
    /// A command to a document is refused.
    #[error(transparent)]
    Document(#[from] DocumentRefusal),
    /// There would be more than is allowed.
    #[error("{what} would exceed the limit of {max}")]
    Limit {
        /// What there would be too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// Decides what follows from a command.
///
/// No events mean that everything is already as it was asked. `text` is the text of the resource's
/// present content, where it has any; only annotating asks for it.
///
/// # Errors
/// [`Refusal`].
pub fn decide(
    state: Option<&Resource>,
    command: &Command,
    names: IriNames<'_>,
    text: Option<&TextIndex>,
) -> Result<Vec<Event>, Refusal> {
    match (command, state) {
        (Command::Create(_) | Command::Clone(_), Some(_)) => Err(Refusal::AlreadyExists),
        (Command::Create(created), None) => {
            check_metadata(&created.metadata)?;
            check_entity_types(created.entity_types.len())?;
            Ok(vec![Event::ResourceCreated(without_repeated_types(
                created.clone(),
            ))])
        }
        (Command::Clone(clone), None) => Ok(decide_clone(clone)),
        (_, None) => Err(Refusal::NotFound),
        (command, Some(state)) => decide_change(state, command, names, text),
    }
}

fn decide_change(
    state: &Resource,
    command: &Command,
    names: IriNames<'_>,
    text: Option<&TextIndex>,
) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::Create(_) | Command::Clone(_) => Err(Refusal::AlreadyExists),
        Command::Revise {
            digest,
            byte_size,
            media_type,
        } => {
            let now = &state.descriptor;
            let media_type = media_type.as_ref().unwrap_or(&now.media_type);
            let same = now.digest == *digest && now.media_type == *media_type;
            let revised = Event::ResourceRevised(ResourceRevised {
                byte_size: *byte_size,
                digest: *digest,
                media_type: media_type.clone(),
            });
            Ok(if same { vec![] } else { vec![revised] })
        }
        Command::FollowFile(file) => Ok(decide_follow(&state.descriptor, file)),
        Command::Patch(patch) => decide_patch(state, patch),
        Command::ChangeAccess(access) => {
            let same = *access == state.descriptor.access;
            let access = access.clone();
            let changed = Event::ResourceAccessChanged(ResourceAccessChanged { access });
            Ok(if same { vec![] } else { vec![changed] })
        }
        Command::AddAnnotation {
            annotation_id,
            annotation,
        } => decide_add_annotation(state, *annotation_id, annotation, names, text),
        Command::ChangeAnnotationBody {
            annotation_id,
            operations,
        } => {
            let annotation = find(state, *annotation_id)?;
            decide_change_body(state, annotation, operations, names)
        }
        Command::RemoveAnnotation { annotation_id } => {
            find(state, *annotation_id)?;
            Ok(vec![Event::AnnotationRemoved(AnnotationRemoved {
                annotation_id: *annotation_id,
            })])
        }
        Command::AddEntityType(entity_type) => {
            if state.descriptor.entity_types.contains(entity_type) {
                return Ok(vec![]);
            }
            check_entity_types(state.descriptor.entity_types.len() + 1)?;
            Ok(vec![Event::EntityTypeAdded(EntityTypeChange {
                entity_type: entity_type.clone(),
            })])
        }
        Command::RemoveEntityType(entity_type) => {
            if !state.descriptor.entity_types.contains(entity_type) {
                return Ok(vec![]);
            }
            Ok(vec![Event::EntityTypeRemoved(EntityTypeChange {
                entity_type: entity_type.clone(),
            })])
        }
    }
}

fn find(state: &Resource, annotation_id: AnnotationId) -> Result<&AnnotationState, Refusal> {
    state
        .annotations
        .get(&annotation_id)
        .map(AsRef::as_ref)
        .ok_or(Refusal::AnnotationNotFound)
}

fn without_repeated_types(mut created: ResourceCreated) -> ResourceCreated {
    let mut seen = std::collections::HashSet::new();
    created
        .entity_types
        .retain(|entity_type| seen.insert(entity_type.clone()));
    created
}

fn check_metadata(metadata: &Metadata) -> Result<(), Refusal> {
    let bytes = serde_json::to_vec(metadata)
        .expect("metadata has text keys")
        .len();
    if bytes > METADATA_BYTES_MAX {
        return Err(Refusal::Limit {
            what: "bytes of metadata",
            max: METADATA_BYTES_MAX,
        });
    }
    Ok(())
}

fn check_entity_types(count: usize) -> Result<(), Refusal> {
    if count > ENTITY_TYPES_MAX {
        return Err(Refusal::Limit {
            what: "entity types",
            max: ENTITY_TYPES_MAX,
        });
    }
    Ok(())
}

/// A clone's annotations speak of the clone: what named the source as target names the clone.
fn decide_clone(clone: &CloneResource) -> Vec<Event> {
    let CloneResource {
        created,
        annotations,
        source,
    } = clone;
    let (id, source) = (created.id, *source);
    let own_iri = format!("/api/resources/{id}");
    let mut events = vec![Event::ResourceCloned(created.clone())];
    events.extend(annotations.iter().map(|(annotation_id, state)| {
        let mut annotation = state.annotation.value();
        let is_source = |iri: &str| state.names(Relation::Target, iri) == Some(source);
        annotation::retarget(&mut annotation, &is_source, &own_iri);
        let mut references = state.references.clone();
        for reference in &mut references {
            if reference.relation == Relation::Target && reference.resource_id == source {
                reference.resource_id = id;
            }
        }
        references.sort_unstable();
        references.dedup();
        Event::AnnotationAdded(AnnotationAdded {
            annotation: annotation.into(),
            annotation_id: *annotation_id,
            references,
        })
    }));
    events
}

fn decide_follow(now: &Descriptor, file: &FollowedFile) -> Vec<Event> {
    if now.digest != file.digest {
        return Vec::new();
    }
    let naming = file.naming.as_ref();
    let naming = naming.filter(|naming| now.name == naming.before && naming.name != now.name);
    let renamed = naming.map(|naming| {
        let name = naming.name.clone();
        Event::ResourceRenamed(ResourceRenamed { name })
    });
    let media_type = file.media_type.as_ref();
    let media_type = media_type.filter(|media_type| **media_type != now.media_type);
    let revised = media_type.map(|media_type| {
        Event::ResourceRevised(ResourceRevised {
            byte_size: now.byte_size,
            digest: now.digest,
            media_type: media_type.clone(),
        })
    });
    renamed.into_iter().chain(revised).collect()
}

/// One event for each kind of change; what is already so gives none.
fn decide_patch(state: &Resource, patch: &ResourcePatch) -> Result<Vec<Event>, Refusal> {
    let now = &state.descriptor;
    let mut events = Vec::new();
    if let Some(name) = patch.name.as_ref().filter(|name| **name != now.name) {
        let name = name.clone();
        events.push(Event::ResourceRenamed(ResourceRenamed { name }));
    }
    let language = patch.language.as_ref();
    if let Some(language) = language.filter(|language| **language != now.language) {
        events.push(Event::ResourceLanguageChanged(ResourceLanguageChanged {
            language: language.clone(),
        }));
    }
    if let Some(changes) = &patch.metadata {
        let metadata = patch_metadata(&now.metadata, changes);
        check_metadata(&metadata)?;
        if metadata != now.metadata {
            events.push(Event::ResourceMetadataChanged(ResourceMetadataChanged {
                metadata,
            }));
        }
    }
    let collection = patch.collection.as_ref();
    if let Some(collection) = collection.filter(|collection| **collection != now.collection) {
        events.push(Event::ResourceCollectionChanged(
            ResourceCollectionChanged {
                collection: collection.clone(),
            },
        ));
    }
    match patch.archived.filter(|archived| *archived != now.archived) {
        Some(true) => events.push(Event::ResourceArchived(ResourceArchived {})),
        Some(false) => events.push(Event::ResourceUnarchived(ResourceUnarchived {})),
        None => {}
    }
    Ok(events)
}

fn patch_metadata(now: &Metadata, changes: &Value) -> Metadata {
    let mut metadata = Value::Object(now.clone());
    merge_patch(&mut metadata, changes);
    match metadata {
        Value::Object(metadata) => metadata,
        _ => Metadata::new(),
    }
}

/// JSON merge patch, RFC 7396, section 2.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else {
        unreachable!("made an object just above")
    };
    for (key, change) in changes {
        if change.is_null() {
            target.remove(key);
        } else {
            merge_patch(target.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

fn decide_add_annotation(
    state: &Resource,
    annotation_id: AnnotationId,
    annotation: &Value,
    names: IriNames<'_>,
    text: Option<&TextIndex>,
) -> Result<Vec<Event>, Refusal> {
    if state.annotations.contains_key(&annotation_id) {
        return Err(Refusal::AlreadyExists);
    }
    let completed = match text {
        Some(text) => {
            let is_this = |iri: &str| names.resolve(iri) == Some(state.descriptor.id);
            annotation::completed(annotation, &is_this, text).map_err(Refusal::InvalidAnnotation)?
        }
        None => None,
    };
    let annotation = completed.as_ref().unwrap_or(annotation);
    let references = names.references(annotation);
    Ok(vec![Event::AnnotationAdded(AnnotationAdded {
        annotation: JsonText::of(annotation),
        annotation_id,
        references,
    })])
}

fn decide_change_body(
    state: &Resource,
    annotation: &AnnotationState,
    operations: &[BodyOperation],
    names: IriNames<'_>,
) -> Result<Vec<Event>, Refusal> {
    let mut changed = annotation.annotation.value();
    let now = annotation::body_of(&changed);
    let body = annotation::apply_body_operations(now.as_ref(), operations)?;
    if body == now {
        return Ok(vec![]);
    }
    // First by themselves, for a client knows its own operations and not the body they make.
    annotation::validate_body_operations(operations).map_err(Refusal::InvalidAnnotation)?;
    if let Some(fields) = changed.as_object_mut() {
        fields.remove("bodyValue");
        match &body {
            Some(body) => fields.insert("body".to_owned(), body.clone()),
            None => fields.remove("body"),
        };
    }
    let cx = annotation::Context {
        resource: state.descriptor.id.uuid(),
    };
    let changed = annotation::validate(changed, &cx).map_err(Refusal::InvalidAnnotation)?;
    Ok(vec![Event::AnnotationBodyChanged(AnnotationBodyChanged {
        annotation_id: annotation.id,
        body,
        operations: annotation::body_operations_to_json(operations),
        references: references_after(annotation, &changed, names),
    })])
}

/// What an annotation names once its body was changed: new items name what they name now, all else
/// what it named when it was written.
fn references_after(
    before: &AnnotationState,
    changed: &Value,
    names: IriNames<'_>,
) -> Vec<Reference> {
    let resolve = |iri: &str| {
        let kept = before.names(Relation::Body, iri);
        kept.or_else(|| names.resolve(iri)).map(|id| id.uuid())
    };
    let is_target = |r: &&Reference| r.relation == Relation::Target;
    let targets = before.references.iter().filter(is_target).copied();
    let in_body = annotation::references(changed, &resolve)
        .into_iter()
        .filter(|reference| reference.relation == annotation::Relation::Body)
        .map(|reference| Reference {
            relation: Relation::Body,
            resource_id: ResourceId::new(reference.resource),
        });
    let mut references: Vec<Reference> = targets.chain(in_body).collect();
    references.sort_unstable();
    references.dedup();
    references
}
