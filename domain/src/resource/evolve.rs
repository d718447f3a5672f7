//! `evolve`: the state of a resource as a fold of its events.
//!
//! A [`Descriptor`] is all of a resource but its annotations, of which there may be very many;
//! views keep the two apart and apply the same functions. Invariant: an event that does not fit
//! the state is an error, never passed over, since it means that the log was misread.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::event::{
    AnnotationAdded, AnnotationBodyChanged, Envelope, Event, Metadata, Reference, Relation,
    ResourceCreated,
};
use crate::id::{AnnotationId, ContentDigest, ResourceId};
use crate::json_text::JsonText;
use crate::resource::Access;
use crate::time::Timestamp;
use crate::value::{CollectionName, EntityType, LanguageTag, MediaType, ResourceName};

/// All of a resource but its annotations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its identity.
    pub id: ResourceId,
    /// What people call it.
    pub name: ResourceName,
    /// The media type of its content.
    pub media_type: MediaType,
    /// The digest of its content.
    pub digest: ContentDigest,
    /// The length of its content in bytes.
    pub byte_size: u64,
    /// The revision of its last event.
    pub revision: u64,
    /// The revision that brought the present content.
    pub content_revision: u64,
    /// What it speaks of, in the order in which the types were added.
    pub entity_types: Vec<EntityType>,
    /// The language of its content.
    pub language: Option<LanguageTag>,
    /// Whether it is left out of lists.
    pub archived: bool,
    /// The resource it was made from.
    pub derived_from: Option<ResourceId>,
    /// When its first event was recorded.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When its last event was recorded.
    pub updated_at: Timestamp,
    /// How many annotations it holds.
    pub annotation_count: u64,
    /// The collection it is in.
    pub collection: Option<CollectionName>,
    /// The client's own properties.
    pub metadata: Metadata,
    /// Who may read and write it, beside who made it.
    pub access: Access,
}

/// One annotation as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotationState {
    /// Its identity.
    pub id: AnnotationId,
    /// The W3C annotation, without `id`.
    pub annotation: JsonText,
    /// The resources that it names.
    pub references: Vec<Reference>,
    /// When it was added.
    pub added_at: Timestamp,
    /// Who added it.
    pub added_by: String,
    /// Where in the log it was added: the order of annotations in lists.
    pub added_position: u64,
    /// When its body last changed, if it ever did.
    pub modified_at: Option<Timestamp>,
    /// The revision of the resource that last changed it.
    pub revision: u64,
}

/// A resource with its annotations, as the write path folds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// All but the annotations.
    pub descriptor: Descriptor,
    /// The annotations, looked up one at a time.
    pub annotations: HashMap<AnnotationId, Arc<AnnotationState>>,
}

/// An event that does not fit the state it should change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvolveError {
    /// A stream's first event must create.
    #[error("{event_type} cannot be the first event of a resource")]
    NotCreated {
        /// The event's type.
        event_type: &'static str,
    },
    /// A resource is created once.
    #[error("resource {id} is created a second time")]
    CreatedTwice {
        /// The resource.
        id: ResourceId,
    },
    /// The revision is not the one after the last.
    #[error("revision {found} of resource {id} follows revision {last}")]
    Gap {
        /// The resource.
        id: ResourceId,
        /// The last revision applied.
        last: u64,
        /// The revision found.
        found: u64,
    },
    /// The annotation is not there, or is there already.
    #[error("{event_type} of annotation {annotation_id}, which {problem}")]
    Annotation {
        /// The event's type.
        event_type: &'static str,
        /// The annotation.
        annotation_id: AnnotationId,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The event belongs to no resource.
    #[error("{event_type} is no event of a resource")]
    NotOfResource {
        /// The event's type.
        event_type: &'static str,
    },
}

impl Descriptor {
    /// The state after the first event of a stream.
    ///
    /// # Errors
    /// [`EvolveError::NotCreated`] when the event is not one that creates.
    pub fn start(envelope: &Envelope<'_>, event: &Event) -> Result<Self, EvolveError> {
        match event {
            Event::ResourceCreated(created) | Event::ResourceCloned(created) => {
                Ok(Self::from_created(envelope, created))
            }
            other => Err(EvolveError::NotCreated {
                event_type: other.type_name(),
            }),
        }
    }

    fn from_created(envelope: &Envelope<'_>, created: &ResourceCreated) -> Self {
        Self {
            id: created.id,
            name: created.name.clone(),
            media_type: created.media_type.clone(),
            digest: created.digest,
            byte_size: created.byte_size,
            revision: envelope.revision,
            content_revision: envelope.revision,
            entity_types: created.entity_types.clone(),
            language: created.language.clone(),
            archived: false,
            derived_from: created.derived_from,
            created_at: envelope.recorded_at,
            created_by: envelope.actor.to_owned(),
            updated_at: envelope.recorded_at,
            annotation_count: 0,
            collection: created.collection.clone(),
            metadata: created.metadata.clone(),
            access: created.access.clone(),
        }
    }

    /// Applies the stream's next event.
    ///
    /// # Errors
    /// [`EvolveError`]; the state is unchanged then.
    pub fn evolve(&mut self, envelope: &Envelope<'_>, event: &Event) -> Result<(), EvolveError> {
        if envelope.revision != self.revision + 1 {
            let (last, found) = (self.revision, envelope.revision);
            return Err(EvolveError::Gap {
                id: self.id,
                last,
                found,
            });
        }
        match event {
            Event::ResourceCreated(_) | Event::ResourceCloned(_) => {
                return Err(EvolveError::CreatedTwice { id: self.id });
            }
            Event::ResourceRevised(revised) => {
                self.digest = revised.digest;
                self.byte_size = revised.byte_size;
                self.media_type.clone_from(&revised.media_type);
                self.content_revision = envelope.revision;
            }
            Event::ResourceRenamed(renamed) => self.name.clone_from(&renamed.name),
            Event::ResourceLanguageChanged(changed) => self.language.clone_from(&changed.language),
            Event::ResourceMetadataChanged(changed) => self.metadata.clone_from(&changed.metadata),
            Event::ResourceCollectionChanged(changed) => {
                self.collection.clone_from(&changed.collection);
            }
            Event::ResourceAccessChanged(changed) => self.access.clone_from(&changed.access),
            Event::ResourceArchived(_) => self.archived = true,
            Event::ResourceUnarchived(_) => self.archived = false,
            Event::AnnotationAdded(_) => self.annotation_count += 1,
            Event::AnnotationBodyChanged(_) => {}
            Event::AnnotationRemoved(removed) => {
                self.annotation_count =
                    self.annotation_count
                        .checked_sub(1)
                        .ok_or(EvolveError::Annotation {
                            event_type: event.type_name(),
                            annotation_id: removed.annotation_id,
                            problem: "is not there",
                        })?;
            }
            Event::EntityTypeAdded(added) => {
                if !self.entity_types.contains(&added.entity_type) {
                    self.entity_types.push(added.entity_type.clone());
                }
            }
            Event::EntityTypeRemoved(removed) => {
                self.entity_types
                    .retain(|entity_type| *entity_type != removed.entity_type);
            }
            other => {
                return Err(EvolveError::NotOfResource {
                    event_type: other.type_name(),
                });
            }
        }
        self.revision = envelope.revision;
        self.updated_at = envelope.recorded_at;
        Ok(())
    }
}

impl AnnotationState {
    /// The resource that one of the annotation's IRIs names, as it was resolved when it was
    /// written: the URL that the server goes by may be another by now.
    pub fn names(&self, relation: Relation, iri: &str) -> Option<ResourceId> {
        let at_end = ResourceId::new(annotation::resource_at_end(iri)?);
        let is_it = |r: &&Reference| r.relation == relation && r.resource_id == at_end;
        self.references.iter().find(is_it).map(|r| r.resource_id)
    }

    /// The annotation as `annotation.added` made it.
    pub fn start(envelope: &Envelope<'_>, added: &AnnotationAdded) -> Self {
        Self {
            id: added.annotation_id,
            annotation: added.annotation.clone(),
            references: added.references.clone(),
            added_at: envelope.recorded_at,
            added_by: envelope.actor.to_owned(),
            added_position: envelope.position,
            modified_at: None,
            revision: envelope.revision,
        }
    }

    /// Applies `annotation.body_changed`.
    pub fn change_body(&mut self, envelope: &Envelope<'_>, changed: &AnnotationBodyChanged) {
        let mut annotation = self.annotation.value();
        if let Some(fields) = annotation.as_object_mut() {
            match &changed.body {
                Some(body) => fields.insert("body".to_owned(), body.clone()),
                None => fields.remove("body"),
            };
            fields.remove("bodyValue");
        }
        self.annotation = annotation.into();
        self.references.clone_from(&changed.references);
        self.modified_at = Some(envelope.recorded_at);
        self.revision = envelope.revision;
    }
}

impl Resource {
    /// The state after the first event of a stream.
    ///
    /// # Errors
    /// As [`Descriptor::start`].
    pub fn start(envelope: &Envelope<'_>, event: &Event) -> Result<Self, EvolveError> {
        let descriptor = Descriptor::start(envelope, event)?;
        Ok(Self {
            descriptor,
            annotations: HashMap::new(),
        })
    }

    /// Applies the stream's next event.
    ///
    /// # Errors
    /// [`EvolveError`]; the state is unchanged then.
    pub fn evolve(&mut self, envelope: &Envelope<'_>, event: &Event) -> Result<(), EvolveError> {
        let misfit = |annotation_id, problem| EvolveError::Annotation {
            event_type: event.type_name(),
            annotation_id,
            problem,
        };
        match event {
            Event::AnnotationAdded(added) => {
                if self.annotations.contains_key(&added.annotation_id) {
                    return Err(misfit(added.annotation_id, "is there already"));
                }
                self.descriptor.evolve(envelope, event)?;
                let state = AnnotationState::start(envelope, added);
                self.annotations
                    .insert(added.annotation_id, Arc::new(state));
            }
            Event::AnnotationBodyChanged(changed) => {
                let Some(state) = self.annotations.get_mut(&changed.annotation_id) else {
                    return Err(misfit(changed.annotation_id, "is not there"));
                };
                self.descriptor.evolve(envelope, event)?;
                Arc::make_mut(state).change_body(envelope, changed);
            }
            Event::AnnotationRemoved(removed) => {
                if !self.annotations.contains_key(&removed.annotation_id) {
                    return Err(misfit(removed.annotation_id, "is not there"));
                }
                self.descriptor.evolve(envelope, event)?;
                self.annotations.remove(&removed.annotation_id);
            }
            _ => self.descriptor.evolve(envelope, event)?,
        }
        Ok(())
    }
}
