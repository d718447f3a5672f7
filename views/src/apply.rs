//! Applying records: the pure fold of the log into rows.
//!
//! Records of one batch are folded in memory over the rows they touch, each row read once and
//! written once, and committed together with the position after the last of them. Invariants: the
//! rows and that position change in one step; a record is applied at most once; the record that
//! cannot be applied stops the fold, and all before it are in.

use std::collections::HashMap;

use stemma_domain::event::{self, Envelope, Event, Reference};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::time::Timestamp;
use stemma_domain::value::EntityType;
use stemma_event_log::Record;

use crate::key;
use crate::row::{self, TypeRow};
use crate::store::{Change, Store, StoreError};

/// The record at which the fold stopped. All before it are applied.
#[derive(Debug, thiserror::Error)]
#[error("apply {event_type} at position {position}")]
pub struct ApplyError {
    /// Where the record stands.
    pub position: u64,
    /// Its type.
    pub event_type: String,
    /// Why it cannot be applied.
    #[source]
    pub reason: Box<dyn std::error::Error + Send + Sync>,
}

type Reason = Box<dyn std::error::Error + Send + Sync>;

/// A row as it was before the batch, and as it is after the records so far.
struct Touched<T> {
    before: Option<T>,
    now: Option<T>,
}

impl<T: Clone> Touched<T> {
    fn found(before: Option<T>) -> Self {
        Self { now: before.clone(), before }
    }
}

/// The rows that a batch touches.
pub(crate) struct Overlay<'a> {
    store: &'a dyn Store,
    cached: &'a dyn Fn(ResourceId) -> Option<Descriptor>,
    resources: HashMap<ResourceId, Touched<Descriptor>>,
    annotations: HashMap<(ResourceId, AnnotationId), Touched<AnnotationState>>,
    types: HashMap<EntityType, Touched<TypeRow>>,
    contents: Vec<Vec<u8>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        cached: &'a dyn Fn(ResourceId) -> Option<Descriptor>,
    ) -> Self {
        Self {
            store,
            cached,
            resources: HashMap::new(),
            annotations: HashMap::new(),
            types: HashMap::new(),
            contents: Vec::new(),
        }
    }

    /// Folds one record in.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        self.try_apply(record).map_err(|reason| ApplyError {
            position: record.position().get(),
            event_type: record.event_type().to_owned(),
            reason,
        })
    }

    fn try_apply(&mut self, record: &Record) -> Result<(), Reason> {
        let event = event::decode(record.event_type(), record.schema_version(), record.data())?;
        let envelope = Envelope {
            position: record.position().get(),
            revision: record.revision().get(),
            recorded_at: Timestamp::from_micros(record.recorded_at_us()),
            actor: record.actor(),
        };
        if let Event::EntityTypeRegistered(registered) = &event {
            let touched = self.entity_type(&registered.name)?;
            let mut row = touched.now.clone().unwrap_or_default();
            row.description.clone_from(&registered.description);
            row.registered = true;
            touched.now = Some(row);
            return Ok(());
        }
        let id = ResourceId::from_stream_name(record.stream()).ok_or_else(|| {
            Reason::from(format!("stream {} is not a resource's", record.stream()))
        })?;
        self.apply_to_resource(id, &envelope, &event)
    }

    /// Whatever is read or checked comes first; from the first change on nothing fails.
    fn apply_to_resource(
        &mut self,
        id: ResourceId,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Reason> {
        let annotation = match event {
            Event::AnnotationAdded(added) => {
                let is_there = self.annotation(id, added.annotation_id)?.now.is_some();
                if is_there {
                    return Err(format!("annotation {} is there already", added.annotation_id).into());
                }
                Some((added.annotation_id, Some(AnnotationState::start(envelope, added))))
            }
            Event::AnnotationBodyChanged(changed) => {
                let now = self.annotation(id, changed.annotation_id)?.now.clone();
                let mut state = now.ok_or_else(|| missing(changed.annotation_id))?;
                state.change_body(envelope, changed);
                Some((changed.annotation_id, Some(state)))
            }
            Event::AnnotationRemoved(removed) => {
                let now = &self.annotation(id, removed.annotation_id)?.now;
                now.as_ref().ok_or_else(|| missing(removed.annotation_id))?;
                Some((removed.annotation_id, None))
            }
            _ => None,
        };
        let before = self.resource(id)?.now.clone();
        let after = match before.clone() {
            None => Descriptor::start(envelope, event)?,
            Some(mut descriptor) => {
                descriptor.evolve(envelope, event)?;
                descriptor
            }
        };
        self.count_types(before.as_ref(), &after)?;
        if let Some(digest) = event.content() {
            self.contents.push(key::content(&digest));
        }
        self.resource(id)?.now = Some(after);
        if let Some((annotation_id, state)) = annotation {
            self.annotation(id, annotation_id)?.now = state;
        }
        Ok(())
    }

    fn count_types(&mut self, before: Option<&Descriptor>, after: &Descriptor) -> Result<(), Reason> {
        let unchanged = before
            .is_some_and(|b| b.archived == after.archived && b.entity_types == after.entity_types);
        if unchanged {
            return Ok(());
        }
        let counted = before.into_iter().flat_map(|b| b.entity_types.iter().map(|t| (t, b.archived)));
        for (entity_type, archived) in counted.collect::<Vec<_>>() {
            let row = self.entity_type(entity_type)?.now.get_or_insert_default();
            let count = if archived { &mut row.archived } else { &mut row.count };
            *count = count.checked_sub(1).ok_or("an entity type is counted below zero")?;
        }
        for entity_type in &after.entity_types {
            let row = self.entity_type(entity_type)?.now.get_or_insert_default();
            *if after.archived { &mut row.archived } else { &mut row.count } += 1;
        }
        Ok(())
    }

    fn resource(&mut self, id: ResourceId) -> Result<&mut Touched<Descriptor>, StoreError> {
        if !self.resources.contains_key(&id) {
            let found = match (self.cached)(id) {
                Some(descriptor) => Some(descriptor),
                None => {
                    let key = key::resource(id);
                    let bytes = self.store.get(&key)?;
                    bytes.map(|bytes| row::decode_resource(&key, &bytes)).transpose()?
                }
            };
            self.resources.insert(id, Touched::found(found));
        }
        Ok(self.resources.get_mut(&id).expect("put there just above"))
    }

    fn annotation(
        &mut self,
        id: ResourceId,
        annotation: AnnotationId,
    ) -> Result<&mut Touched<AnnotationState>, StoreError> {
        if !self.annotations.contains_key(&(id, annotation)) {
            let found = read_annotation(self.store, id, annotation)?;
            self.annotations.insert((id, annotation), Touched::found(found));
        }
        Ok(self.annotations.get_mut(&(id, annotation)).expect("put there just above"))
    }

    fn entity_type(&mut self, name: &EntityType) -> Result<&mut Touched<TypeRow>, StoreError> {
        if !self.types.contains_key(name) {
            let key = key::entity_type(name);
            let bytes = self.store.get(&key)?;
            let found = bytes.map(|bytes| row::decode_type(&key, &bytes)).transpose()?;
            self.types.insert(name.clone(), Touched::found(found));
        }
        Ok(self.types.get_mut(name).expect("put there just above"))
    }

    /// The changes of the whole batch, with the position after its last record, and the
    /// descriptors as they are now.
    pub(crate) fn finish(self, end: u64) -> (Vec<Change>, Vec<Descriptor>) {
        let mut changes: Vec<Change> = Vec::new();
        let mut descriptors = Vec::with_capacity(self.resources.len());
        for touched in self.resources.into_values() {
            let Some(now) = touched.now else { continue };
            let old = touched.before.as_ref().map(key::indexes).unwrap_or_default();
            let new = key::indexes(&now);
            changes.extend(old.iter().filter(|k| !new.contains(k)).map(|k| (k.clone(), None)));
            changes.extend(new.into_iter().filter(|k| !old.contains(k)).map(|k| (k, Some(vec![]))));
            if touched.before.is_none()
                && let Some(source) = now.derived_from
            {
                let key = key::reference(source, now.id, row::DERIVED_FROM, None);
                changes.push((key, Some(vec![])));
            }
            changes.push((key::resource(now.id), Some(row::encode_resource(&now))));
            descriptors.push(now);
        }
        for ((id, annotation_id), touched) in self.annotations {
            annotation_changes(id, annotation_id, &touched, &mut changes);
        }
        for (name, touched) in self.types {
            let Some(now) = touched.now else { continue };
            let is_used = now.registered || now.count + now.archived > 0;
            changes.push((key::entity_type(&name), is_used.then(|| row::encode_type(&now))));
        }
        changes.extend(self.contents.into_iter().map(|key| (key, Some(vec![]))));
        changes.push((key::END.to_vec(), Some(end.to_le_bytes().to_vec())));
        (changes, descriptors)
    }
}

fn missing(id: AnnotationId) -> Reason {
    format!("annotation {id} is not there").into()
}

fn annotation_changes(
    id: ResourceId,
    annotation_id: AnnotationId,
    touched: &Touched<AnnotationState>,
    changes: &mut Vec<Change>,
) {
    let reference_key = |r: &Reference| {
        let relation = row::relation_byte(r.relation);
        key::reference(r.resource_id, id, relation, Some(annotation_id))
    };
    let keys = |state: &Option<AnnotationState>| -> Vec<Vec<u8>> {
        let elsewhere = |r: &&Reference| r.resource_id != id;
        let references = state.iter().flat_map(|s| s.references.iter().filter(elsewhere));
        references.map(reference_key).collect()
    };
    let (old, new) = (keys(&touched.before), keys(&touched.now));
    changes.extend(old.iter().filter(|k| !new.contains(k)).map(|k| (k.clone(), None)));
    changes.extend(new.into_iter().filter(|k| !old.contains(k)).map(|k| (k, Some(vec![]))));
    let place = key::annotation_place(id, annotation_id);
    if let Some(before) = &touched.before {
        let moved = touched.now.as_ref().is_none_or(|n| n.added_position != before.added_position);
        if moved {
            changes.push((key::annotation(id, before.added_position), None));
        }
    }
    match &touched.now {
        Some(now) => {
            let row = row::encode_annotation(now);
            changes.push((key::annotation(id, now.added_position), Some(row)));
            changes.push((place, Some(now.added_position.to_le_bytes().to_vec())));
        }
        None if touched.before.is_some() => changes.push((place, None)),
        None => {}
    }
}

/// Reads an annotation by its id.
pub(crate) fn read_annotation(
    store: &dyn Store,
    id: ResourceId,
    annotation: AnnotationId,
) -> Result<Option<AnnotationState>, StoreError> {
    let place = key::annotation_place(id, annotation);
    let Some(position) = store.get(&place)? else { return Ok(None) };
    let key = key::annotation(id, row::decode_position(&place, &position)?);
    let bytes = store.get(&key)?;
    bytes.map(|bytes| row::decode_annotation(&key, &bytes)).transpose()
}
