//! A resource folded for deciding: what describes it, and where its annotations stand in the log.
//!
//! A resource may have a hundred thousand annotations, and a command looks at one of them. So an
//! annotation is kept as the positions of the events that made it what it is, and read from there
//! when it is asked for; in memory as a whole are those that a command works on, or that stand in
//! the queue. Invariant: each annotation of the resource is kept in one of these ways or in both,
//! and where in both, they agree once its batch has landed.

use std::collections::HashMap;
use std::sync::Arc;

use stemma_domain::event::{Envelope, Event};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{AnnotationState, EvolveError, Resource};
use stemma_event_log::{Position, ReadLimit, Reader, Record};

use crate::aggregates::Landing;
use crate::error::FoldError;
use crate::history::{HistoryError, each_record, envelope_of, event_of};

/// Annotations that may be in memory as a whole before those that need not be are let go.
const WHOLE_MAX: usize = 64;

/// A resource with the annotations that are in memory, and the places of all that have landed.
#[derive(Debug)]
pub(crate) struct Folded {
    resource: Resource,
    places: HashMap<AnnotationId, Place>,
}

/// Where the log has what an annotation is: the event that added it and the last that changed it.
#[derive(Debug, Clone, Copy)]
struct Place {
    added: u64,
    changed: Option<u64>,
    /// The resource's revision of the later one.
    revision: u64,
}

impl Folded {
    /// Folds a resource's stream as the log holds it; none of an empty one.
    pub(crate) fn of_stream(reader: &Reader, id: ResourceId) -> Result<Option<Self>, HistoryError> {
        let mut folded: Option<Self> = None;
        each_record(reader, id, |record| {
            let misfit = |source| FoldError::Evolve {
                position: record.position().get(),
                source,
            };
            let (envelope, event) = (envelope_of(record), event_of(record)?);
            match &mut folded {
                None => folded = Some(Self::start(&envelope, &event).map_err(misfit)?),
                Some(folded) => folded.take(&envelope, &event).map_err(misfit)?,
            }
            Ok(true)
        })?;
        Ok(folded)
    }

    /// The state after the first event of a stream.
    pub(crate) fn start(envelope: &Envelope<'_>, event: &Event) -> Result<Self, EvolveError> {
        Ok(Self {
            resource: Resource::start(envelope, event)?,
            places: HashMap::new(),
        })
    }

    /// Takes an event that the log holds: of an annotation, its place.
    fn take(&mut self, envelope: &Envelope<'_>, event: &Event) -> Result<(), EvolveError> {
        let misfit = |annotation_id, problem| EvolveError::Annotation {
            event_type: event.type_name(),
            annotation_id,
            problem,
        };
        let descriptor = &mut self.resource.descriptor;
        match event {
            Event::AnnotationAdded(added) => {
                if self.places.contains_key(&added.annotation_id) {
                    return Err(misfit(added.annotation_id, "is there already"));
                }
                descriptor.evolve(envelope, event)?;
                let place = Place {
                    added: envelope.position,
                    changed: None,
                    revision: envelope.revision,
                };
                self.places.insert(added.annotation_id, place);
            }
            Event::AnnotationBodyChanged(changed) => {
                let place = self.places.get_mut(&changed.annotation_id);
                let place = place.ok_or_else(|| misfit(changed.annotation_id, "is not there"))?;
                descriptor.evolve(envelope, event)?;
                place.changed = Some(envelope.position);
                place.revision = envelope.revision;
            }
            Event::AnnotationRemoved(removed) => {
                if !self.places.contains_key(&removed.annotation_id) {
                    return Err(misfit(removed.annotation_id, "is not there"));
                }
                descriptor.evolve(envelope, event)?;
                self.places.remove(&removed.annotation_id);
            }
            _ => self.resource.evolve(envelope, event)?,
        }
        Ok(())
    }

    /// Moves on by an event that the log is yet to hold. Its annotation must be in memory.
    pub(crate) fn evolve(
        &mut self,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), EvolveError> {
        self.resource.evolve(envelope, event)?;
        if let Event::AnnotationRemoved(removed) = event {
            self.places.remove(&removed.annotation_id);
        }
        Ok(())
    }

    /// The resource, with the annotations that are in memory and no others.
    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// How many annotations are kept as places, and how many in memory.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.places.len(), self.resource.annotations.len())
    }

    /// Brings an annotation into memory, if it is there at all.
    pub(crate) fn bring(&mut self, reader: &Reader, id: AnnotationId) -> Result<(), HistoryError> {
        if self.resource.annotations.contains_key(&id) {
            return Ok(());
        }
        if let Some(place) = self.places.get(&id) {
            let state = read_annotation(reader, id, *place)?;
            self.resource.annotations.insert(id, Arc::new(state));
        }
        Ok(())
    }

    /// Brings all annotations into memory.
    pub(crate) fn bring_all(&mut self, reader: &Reader) -> Result<(), HistoryError> {
        let ids: Vec<AnnotationId> = self.places.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.bring(reader, id))
    }

    /// Fills in what only the log could tell of a batch, and notes the places of its annotations.
    pub(crate) fn settle(&mut self, landing: &Landing) {
        landing.settle(&mut self.resource);
        for (id, position, revision) in &landing.added {
            // One that a later batch takes away again is no longer in memory.
            if self.resource.annotations.contains_key(id) {
                let place = Place {
                    added: *position,
                    changed: None,
                    revision: *revision,
                };
                self.places.insert(*id, place);
            }
        }
        for (id, position, revision) in &landing.changed {
            // Without a place it is to be: its beginning has not landed yet, and it stays in memory.
            if let Some(place) = self.places.get_mut(id).filter(|p| p.revision < *revision) {
                place.changed = Some(*position);
                place.revision = *revision;
            }
        }
    }

    /// Lets go from memory what can be read from its place, once it has become much.
    pub(crate) fn let_go(&mut self) {
        if self.resource.annotations.len() <= WHOLE_MAX {
            return;
        }
        let places = &self.places;
        self.resource.annotations.retain(|id, state| {
            let place = places.get(id);
            place.is_none_or(|place| place.revision != state.revision)
        });
    }
}

fn read_annotation(
    reader: &Reader,
    id: AnnotationId,
    place: Place,
) -> Result<AnnotationState, HistoryError> {
    let added = record_at(reader, place.added)?;
    let Event::AnnotationAdded(event) = event_of(&added)? else {
        return Err(elsewhere(id, place.added));
    };
    let mut state = AnnotationState::start(&envelope_of(&added), &event);
    if let Some(position) = place.changed {
        // Each change holds the whole body as it made it.
        let changed = record_at(reader, position)?;
        let Event::AnnotationBodyChanged(event) = event_of(&changed)? else {
            return Err(elsewhere(id, position));
        };
        state.change_body(&envelope_of(&changed), &event);
    }
    Ok(state)
}

fn record_at(reader: &Reader, position: u64) -> Result<Record, HistoryError> {
    let limit = ReadLimit {
        records: 1,
        bytes: usize::MAX,
    };
    let records = reader.read(Position::new(position), limit)?;
    Ok(records
        .into_iter()
        .next()
        .expect("a position that the log gave is below its end"))
}

fn elsewhere(annotation_id: AnnotationId, position: u64) -> HistoryError {
    let source = EvolveError::Annotation {
        event_type: "an event",
        annotation_id,
        problem: "is not where the stream told",
    };
    FoldError::Evolve { position, source }.into()
}
