//! Applying records: the pure fold of the log into rows.
//!
//! Records of one batch are folded in memory over the rows they touch, each row read once and
//! written once, and committed together with the position after the last of them. Invariants: the
//! rows and that position change in one step; a record is applied at most once; the record that
//! cannot be applied stops the fold, and all before it are in.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use stemma_domain::event::{self, DecodeError, Envelope, Event, Reference, Subject};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::time::Timestamp;
use stemma_domain::value::EntityType;
use stemma_event_log::Record;

use crate::checkpointed::Fold;
use crate::job_feed::ChangedJobs;
use crate::key;
use crate::processing::Processing;
use crate::row::{self, Sizes, TypeRow};
use crate::store::{Change, Store, StoreError};
use crate::touches::Touches;
use crate::traces;
use crate::views::Described;

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

/// Why a record cannot be applied.
pub type Reason = Box<dyn std::error::Error + Send + Sync>;

impl ApplyError {
    pub(crate) fn at(record: &Record, reason: Reason) -> Self {
        Self {
            position: record.position().get(),
            event_type: record.event_type().to_owned(),
            reason,
        }
    }
}

/// A record with its payload read, which needs no views and can be done ahead of applying.
#[derive(Debug)]
pub struct Prepared {
    record: Record,
    event: Result<Event, DecodeError>,
}

impl Prepared {
    /// Reads a record's payload; what is wrong with it is told when it is applied.
    pub fn of(record: Record) -> Self {
        let event = decode(&record);
        Self { record, event }
    }

    pub(crate) fn into_parts(self) -> (Record, Result<Event, DecodeError>) {
        (self.record, self.event)
    }
}

pub(crate) fn decode(record: &Record) -> Result<Event, DecodeError> {
    event::decode(record.event_type(), record.schema_version(), record.data())
}

/// A row as it was before the batch, and as it is after the records so far.
struct Touched<T> {
    before: Option<Arc<T>>,
    now: Option<Arc<T>>,
}

impl<T> Touched<T> {
    fn found(before: Option<Arc<T>>) -> Self {
        Self {
            now: before.clone(),
            before,
        }
    }

    /// By how much the number of such rows changes.
    fn step(&self) -> i64 {
        i64::from(self.now.is_some()) - i64::from(self.before.is_some())
    }
}

/// What a batch touched, as it is now.
pub(crate) struct Outcome {
    pub(crate) descriptors: Vec<Described>,
    pub(crate) jobs: ChangedJobs,
    /// How many resources are not open to everybody, where that changed.
    pub(crate) restricted: Option<u64>,
}

/// The rows that a batch touches.
pub(crate) struct Overlay<'a> {
    store: &'a dyn Store,
    cached: &'a dyn Fn(ResourceId) -> Option<Arc<Descriptor>>,
    resources: Touches<ResourceId, Touched<Descriptor>>,
    annotations: Touches<(ResourceId, AnnotationId), Touched<AnnotationState>>,
    types: HashMap<EntityType, Touched<TypeRow>>,
    contents: BTreeSet<ContentDigest>,
    processing: Processing<'a>,
    /// Rows of batches that their traces do not tell the time of.
    traces: Vec<Vec<u8>>,
}

impl Fold for Overlay<'_> {
    type Outcome = Outcome;

    fn apply(&mut self, record: &Record, event: Event) -> Result<(), Reason> {
        self.apply_event(record, &event)?;
        self.traces.extend(traces::row_of(record));
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<Change>, Self::Outcome), StoreError> {
        for touched in self.types.values_mut() {
            touched.now.take_if(|row| row.is_unused());
        }
        let expected = 8 * self.resources.len() + 3 * self.annotations.len();
        let mut changes: Vec<Change> = Vec::with_capacity(expected);
        let sizes = self.changed_sizes()?;
        let row = |sizes: &Sizes| (key::SIZES.to_vec(), Some(row::encode_sizes(sizes)));
        changes.extend(sizes.as_ref().map(row));
        let restricted = sizes.map(|sizes| sizes.restricted);
        let mut descriptors = Vec::with_capacity(self.resources.len());
        for (_, touched) in self.resources.into_pairs() {
            let Some(now) = touched.now else { continue };
            let bytes = resource_changes(touched.before.as_deref(), &now, &mut changes);
            descriptors.push(Described {
                descriptor: now,
                bytes,
            });
        }
        for ((id, annotation_id), touched) in self.annotations.into_pairs() {
            annotation_changes(id, annotation_id, &touched, &mut changes);
        }
        for (name, touched) in &self.types {
            let row = touched.now.as_deref().map(row::encode_type);
            if row.is_some() || touched.before.is_some() {
                changes.push((key::entity_type(name), row));
            }
        }
        changes.extend(
            self.contents
                .iter()
                .map(|digest| (key::content(digest), Some(vec![]))),
        );
        changes.extend(self.traces.into_iter().map(|key| (key, Some(vec![]))));
        let jobs = self.processing.finish(&mut changes)?;
        let outcome = Outcome {
            descriptors,
            jobs,
            restricted,
        };
        Ok((changes, outcome))
    }
}

impl Overlay<'_> {
    fn apply_event(&mut self, record: &Record, event: &Event) -> Result<(), Reason> {
        let envelope = Envelope {
            position: record.position().get(),
            revision: record.revision().get(),
            recorded_at: Timestamp::from_micros(record.recorded_at_us()),
            actor: record.actor(),
        };
        match event.subject() {
            Subject::Requests => return Ok(()),
            Subject::EntityTypes => return self.register(event),
            Subject::Job => return self.processing.job(record, &envelope, event),
            Subject::Document => {
                self.processing.document(record, &envelope, event)?;
                self.contents.extend(event.content());
                return Ok(());
            }
            Subject::Resource => {}
        }
        let id = ResourceId::from_stream_name(record.stream()).ok_or_else(|| {
            Reason::from(format!("stream {} is not a resource's", record.stream()))
        })?;
        self.apply_to_resource(id, &envelope, event)
    }
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        cached: &'a dyn Fn(ResourceId) -> Option<Arc<Descriptor>>,
    ) -> Self {
        Self {
            store,
            cached,
            resources: Touches::new(),
            annotations: Touches::new(),
            types: HashMap::new(),
            contents: BTreeSet::new(),
            processing: Processing::new(store),
            traces: Vec::new(),
        }
    }

    fn register(&mut self, event: &Event) -> Result<(), Reason> {
        let Event::EntityTypeRegistered(registered) = event else {
            return Err(format!("{} registers no type", event.type_name()).into());
        };
        let row = self.entity_type(&registered.name)?;
        let row = Arc::make_mut(row.now.get_or_insert_default());
        row.description.clone_from(&registered.description);
        row.registered = true;
        Ok(())
    }

    /// Whatever is read or checked comes first; from the first change on nothing fails.
    fn apply_to_resource(
        &mut self,
        id: ResourceId,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Reason> {
        let annotation = self.next_annotation(id, envelope, event)?;
        let now = &mut self.resource(id)?.now;
        match now {
            Some(descriptor) if !moves_counts(event) => {
                Arc::make_mut(descriptor).evolve(envelope, event)?;
            }
            _ => {
                let before = now.clone();
                let after = match before.as_deref() {
                    None => Descriptor::start(envelope, event)?,
                    Some(before) => {
                        let mut descriptor = before.clone();
                        descriptor.evolve(envelope, event)?;
                        descriptor
                    }
                };
                if after.id != id {
                    return Err(format!("it creates {} in the stream of {id}", after.id).into());
                }
                self.count_types(before.as_deref(), &after)?;
                self.resource(id)?.now = Some(Arc::new(after));
            }
        }
        self.contents.extend(event.content());
        if let Some((annotation_id, state)) = annotation {
            self.annotation(id, annotation_id)?.now = state;
        }
        Ok(())
    }

    /// The annotation that the event is about, as it will be.
    #[allow(clippy::type_complexity)]
    fn next_annotation(
        &mut self,
        id: ResourceId,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<Option<(AnnotationId, Option<Arc<AnnotationState>>)>, Reason> {
        let missing = |id: AnnotationId| Reason::from(format!("annotation {id} is not there"));
        Ok(match event {
            Event::AnnotationAdded(added) => {
                if self.annotation(id, added.annotation_id)?.now.is_some() {
                    return Err(
                        format!("annotation {} is there already", added.annotation_id).into(),
                    );
                }
                let state = AnnotationState::start(envelope, added);
                Some((added.annotation_id, Some(Arc::new(state))))
            }
            Event::AnnotationBodyChanged(changed) => {
                let now = self.annotation(id, changed.annotation_id)?.now.clone();
                let mut state = now.ok_or_else(|| missing(changed.annotation_id))?;
                Arc::make_mut(&mut state).change_body(envelope, changed);
                Some((changed.annotation_id, Some(state)))
            }
            Event::AnnotationRemoved(removed) => {
                let now = &self.annotation(id, removed.annotation_id)?.now;
                now.as_ref().ok_or_else(|| missing(removed.annotation_id))?;
                Some((removed.annotation_id, None))
            }
            _ => None,
        })
    }

    fn count_types(
        &mut self,
        before: Option<&Descriptor>,
        after: &Descriptor,
    ) -> Result<(), Reason> {
        let (old, new) = (before.map(types_of).unwrap_or_default(), types_of(after));
        if let Some(before) = before {
            for entity_type in &old {
                let row = self.entity_type(entity_type)?.now.as_deref();
                if row.is_none_or(|row| !row.clone().step(before, -1)) {
                    return Err(format!("entity type {entity_type} is counted below zero").into());
                }
            }
        }
        for entity_type in &new {
            self.entity_type(entity_type)?;
        }
        // Every row is at hand now, so nothing fails half-way.
        let stepped = before.map(|before| (before, &old, -1));
        for (resource, types, by) in stepped.into_iter().chain([(after, &new, 1)]) {
            for entity_type in types {
                let row = self.entity_type(entity_type)?.now.get_or_insert_default();
                Arc::make_mut(row).step(resource, by);
            }
        }
        Ok(())
    }

    fn resource(&mut self, id: ResourceId) -> Result<&mut Touched<Descriptor>, StoreError> {
        let (store, cached) = (self.store, self.cached);
        self.resources.find(id, || {
            let found = if let Some(descriptor) = cached(id) {
                Some(descriptor)
            } else {
                let key = key::resource(id);
                let row = store.get(&key)?;
                let row = row.map(|bytes| row::decode_resource(&key, &bytes));
                row.transpose()?.map(Arc::new)
            };
            Ok(Touched::found(found))
        })
    }

    fn annotation(
        &mut self,
        id: ResourceId,
        annotation: AnnotationId,
    ) -> Result<&mut Touched<AnnotationState>, StoreError> {
        let store = self.store;
        self.annotations.find((id, annotation), || {
            let found = read_annotation(store, id, annotation)?;
            Ok(Touched::found(found.map(Arc::new)))
        })
    }

    fn entity_type(&mut self, name: &EntityType) -> Result<&mut Touched<TypeRow>, StoreError> {
        Ok(match self.types.entry(name.clone()) {
            Entry::Occupied(touched) => touched.into_mut(),
            Entry::Vacant(vacant) => {
                let key = key::entity_type(name);
                let bytes = self.store.get(&key)?;
                let found = bytes
                    .map(|bytes| row::decode_type(&key, &bytes))
                    .transpose()?;
                vacant.insert(Touched::found(found.map(Arc::new)))
            }
        })
    }

    fn changed_sizes(&self) -> Result<Option<Sizes>, StoreError> {
        let those = |is: fn(&Descriptor) -> bool| -> i64 {
            let count = |d: &Option<Arc<Descriptor>>| i64::from(d.as_deref().is_some_and(is));
            let touched = self.resources.values();
            touched.map(|t| count(&t.now) - count(&t.before)).sum()
        };
        let steps = [
            self.resources.values().map(Touched::step).sum(),
            those(|descriptor| descriptor.archived),
            self.annotations.values().map(Touched::step).sum(),
            self.types.values().map(Touched::step).sum(),
            those(|descriptor| !descriptor.access.is_open()),
        ];
        if steps == [0; 5] {
            return Ok(None);
        }
        let sizes = read_sizes(self.store)?;
        let moved = sizes
            .moved(steps)
            .ok_or_else(|| row::unreadable(key::SIZES, &"below zero"))?;
        Ok(Some(moved))
    }
}

/// Whether an event can change how many resources there are of a type.
fn moves_counts(event: &Event) -> bool {
    !matches!(
        event,
        Event::ResourceRevised(_)
            | Event::ResourceRenamed(_)
            | Event::ResourceLanguageChanged(_)
            | Event::ResourceMetadataChanged(_)
            | Event::ResourceCollectionChanged(_)
            | Event::AnnotationAdded(_)
            | Event::AnnotationBodyChanged(_)
            | Event::AnnotationRemoved(_)
    )
}

/// The types of a resource, each once.
fn types_of(descriptor: &Descriptor) -> Vec<EntityType> {
    let mut types = descriptor.entity_types.clone();
    types.sort_unstable();
    types.dedup();
    types
}

/// Removes the keys that are no longer and adds those that are new.
pub(crate) fn key_changes(old: &[Vec<u8>], new: &[Vec<u8>], changes: &mut Vec<Change>) {
    let gone = old.iter().filter(|key| !new.contains(key));
    changes.extend(gone.map(|key| (key.clone(), None)));
    let come = new.iter().filter(|key| !old.contains(key));
    changes.extend(come.map(|key| (key.clone(), Some(vec![]))));
}

/// Gives the bytes of its row.
fn resource_changes(
    before: Option<&Descriptor>,
    now: &Descriptor,
    changes: &mut Vec<Change>,
) -> usize {
    let same_place = before.is_some_and(|before| {
        before.name == now.name
            && before.archived == now.archived
            && before.collection == now.collection
            && before.entity_types == now.entity_types
    });
    if !same_place {
        let old = before.map(key::indexes).unwrap_or_default();
        key_changes(&old, &key::indexes(now), changes);
    }
    if before.map(|before| &before.access) != Some(&now.access) {
        let old = before.map(key::grants).unwrap_or_default();
        key_changes(&old, &key::grants(now), changes);
    }
    if before.is_none()
        && let Some(source) = now.derived_from
    {
        let key = key::reference(source, now.id, row::DERIVED_FROM, None);
        changes.push((key, Some(vec![])));
    }
    let row = row::encode_resource(now);
    let bytes = row.len();
    changes.push((key::resource(now.id), Some(row)));
    bytes
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
    let keys = |state: &Option<Arc<AnnotationState>>| -> Vec<Vec<u8>> {
        let elsewhere = |r: &&Reference| r.resource_id != id;
        let references = state
            .iter()
            .flat_map(|s| s.references.iter().filter(elsewhere));
        let mut keys: Vec<_> = references.map(reference_key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    key_changes(&keys(&touched.before), &keys(&touched.now), changes);
    let place = key::annotation_place(id, annotation_id);
    let position = |state: &Option<Arc<AnnotationState>>| state.as_ref().map(|s| s.added_position);
    let (old, new) = (position(&touched.before), position(&touched.now));
    if let Some(old) = old
        && new != Some(old)
    {
        changes.push((key::annotation(id, old), None));
    }
    match &touched.now {
        Some(now) => {
            let row = row::encode_annotation(now);
            changes.push((key::annotation(id, now.added_position), Some(row)));
            if new != old {
                changes.push((place, Some(now.added_position.to_le_bytes().to_vec())));
            }
        }
        None if old.is_some() => changes.push((place, None)),
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
    let Some(position) = store.get(&place)? else {
        return Ok(None);
    };
    let key = key::annotation(id, row::decode_position(&place, &position)?);
    let bytes = store.get(&key)?;
    bytes
        .map(|bytes| row::decode_annotation(&key, &bytes))
        .transpose()
}

/// Reads how much there is.
pub(crate) fn read_sizes(store: &dyn Store) -> Result<Sizes, StoreError> {
    let bytes = store.get(key::SIZES)?;
    let sizes = bytes.map(|bytes| row::decode_sizes(key::SIZES, &bytes));
    Ok(sizes.transpose()?.unwrap_or_default())
}
