//! A resource folded for deciding: what describes it, and where its annotations stand in the log.
//!
//! A resource may have a million annotations, and a command looks at one of them, or at none: an
//! annotation whose id was made for it is none of those that are there. So an annotation is kept as
//! the positions of the events that made it what it is, and read from there when it is asked for;
//! and of a resource that has many, these places are not kept either until a command asks for one.
//! In memory as a whole are those that a command works on, or that stand in the queue.
//!
//! Invariants: where places are kept, each annotation of the resource is kept as a place, as a
//! whole or as both, and where as both, they agree once its batch has landed; where none are kept,
//! each that stands in the queue is there as a whole, and none that has a place in the log is
//! changed or removed by what stands in the queue; places that were asked for stay.

use std::collections::HashMap;
use std::sync::Arc;

use stemma_domain::event::{Envelope, Event};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{AnnotationState, EvolveError, Resource};
use stemma_event_log::{Position, ReadLimit, Reader, Record};

use crate::aggregates::Landing;
use crate::error::FoldError;
use crate::history::{HistoryError, Pieces, annotation_of, envelope_of, event_of};
use crate::plan::UNPLACED;

/// Annotations that may be in memory as a whole before those that need not be are let go.
const WHOLE_MAX: usize = 8;
/// Places that are kept although no command has asked for one.
const UNASKED_MAX: usize = 64;

/// A resource with the annotations that are in memory, and where all stand that have landed.
#[derive(Debug)]
pub(crate) struct Folded {
    resource: Resource,
    /// None where there are many and no command has asked for one.
    places: Option<HashMap<AnnotationId, Place>>,
    are_places_asked: bool,
    /// While they are looked up: as far as that has come.
    seeking: Option<Box<Folding>>,
}

/// What a command wants to know of a resource's annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// Nothing.
    ForNone,
    /// Where some of them stand.
    ForSome,
}

/// A resource's stream on its way to a state.
#[derive(Debug)]
pub(crate) struct Folding {
    pieces: Pieces,
    looks: Looks,
    folded: Option<Folded>,
}

impl Folding {
    pub(crate) fn of(id: ResourceId, looks: Looks) -> Self {
        Self {
            pieces: Pieces::of(id),
            looks,
            folded: None,
        }
    }

    /// Whether it comes to know what somebody looks for.
    pub(crate) fn serves(&self, looks: Looks) -> bool {
        looks == Looks::ForNone || self.looks == looks
    }

    /// Takes the next piece of the stream in; says whether there may be another.
    pub(crate) fn step(&mut self, reader: &Reader) -> Result<bool, HistoryError> {
        for record in self.pieces.next(reader)?.unwrap_or_default() {
            self.take(&record)?;
        }
        Ok(self.pieces.go_on())
    }

    fn take(&mut self, record: &Record) -> Result<(), FoldError> {
        let misfit = |source| FoldError::Evolve {
            position: record.position().get(),
            source,
        };
        let (envelope, event) = (envelope_of(record), event_of(record)?);
        let Some(folded) = &mut self.folded else {
            let mut folded = Folded::start(&envelope, &event).map_err(misfit)?;
            folded.are_places_asked = self.looks == Looks::ForSome;
            self.folded = Some(folded);
            return Ok(());
        };
        folded.take(&envelope, &event).map_err(misfit)?;
        folded.let_go_of_places();
        Ok(())
    }

    /// The resource as far as it is folded; none of an empty stream.
    pub(crate) fn done(self) -> Option<Folded> {
        self.folded
    }
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
    /// The state after the first event of a stream.
    pub(crate) fn start(envelope: &Envelope<'_>, event: &Event) -> Result<Self, EvolveError> {
        Ok(Self {
            resource: Resource::start(envelope, event)?,
            places: Some(HashMap::new()),
            are_places_asked: false,
            seeking: None,
        })
    }

    /// Takes an event that the log holds: of an annotation, its place.
    fn take(&mut self, envelope: &Envelope<'_>, event: &Event) -> Result<(), EvolveError> {
        let misfit = |annotation_id, problem| EvolveError::Annotation {
            event_type: event.type_name(),
            annotation_id,
            problem,
        };
        let Some(id) = annotation_of(event) else {
            return self.resource.evolve(envelope, event);
        };
        let descriptor = &mut self.resource.descriptor;
        let Some(places) = &mut self.places else {
            return descriptor.evolve(envelope, event);
        };
        let is_added = matches!(event, Event::AnnotationAdded(_));
        match places.contains_key(&id) {
            true if is_added => return Err(misfit(id, "is there already")),
            false if !is_added => return Err(misfit(id, "is not there")),
            _ => descriptor.evolve(envelope, event)?,
        }
        if let Event::AnnotationRemoved(_) = event {
            places.remove(&id);
            return Ok(());
        }
        let added = places.get(&id).map(|place| place.added);
        let place = Place {
            added: added.unwrap_or(envelope.position),
            changed: added.map(|_| envelope.position),
            revision: envelope.revision,
        };
        places.insert(id, place);
        Ok(())
    }

    /// Moves on by an event that the log is yet to hold. Its annotation must be in memory.
    pub(crate) fn evolve(
        &mut self,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), EvolveError> {
        if let (Event::AnnotationAdded(added), Some(places)) = (event, &self.places)
            && places.contains_key(&added.annotation_id)
        {
            return Err(EvolveError::Annotation {
                event_type: event.type_name(),
                annotation_id: added.annotation_id,
                problem: "is there already",
            });
        }
        self.resource.evolve(envelope, event)?;
        if let (Event::AnnotationRemoved(removed), Some(places)) = (event, &mut self.places) {
            places.remove(&removed.annotation_id);
        }
        Ok(())
    }

    /// The resource, with the annotations that are in memory and no others.
    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// How many annotations are kept as places, and how many in memory.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let places = self.places.as_ref().map_or(0, HashMap::len);
        (places, self.resource.annotations.len())
    }

    /// Looks a piece further for the places, which are kept from there on; says whether there may be
    /// more to look at. What stands in the queue meanwhile is found, or will be noted when it lands.
    pub(crate) fn seek_places(
        &mut self,
        reader: &Reader,
        id: ResourceId,
    ) -> Result<bool, HistoryError> {
        self.are_places_asked = true;
        if self.places.is_some() {
            return Ok(false);
        }
        let begun = self.seeking.take();
        let mut seeking = begun.unwrap_or_else(|| Box::new(Folding::of(id, Looks::ForSome)));
        if seeking.step(reader)? {
            self.seeking = Some(seeking);
            return Ok(true);
        }
        self.places = seeking.done().and_then(|found| found.places);
        Ok(false)
    }

    /// The places, which whoever looks for annotations has had kept.
    fn places(&self) -> &HashMap<AnnotationId, Place> {
        let places = self.places.as_ref();
        places.expect("who looks for annotations locks the resource to do so")
    }

    /// Brings an annotation into memory, if it is there at all, and says how many bytes were read
    /// that it needs at the least.
    pub(crate) fn bring(
        &mut self,
        reader: &Reader,
        id: AnnotationId,
    ) -> Result<usize, HistoryError> {
        if self.resource.annotations.contains_key(&id) {
            return Ok(0);
        }
        let Some(place) = self.places().get(&id) else {
            return Ok(0);
        };
        let (state, bytes) = read_annotation(reader, id, *place)?;
        self.resource.annotations.insert(id, Arc::new(state));
        Ok(bytes)
    }

    /// Brings all annotations into memory, or as many as it takes for more than so many bytes, and
    /// says how many bytes that is.
    pub(crate) fn bring_all(
        &mut self,
        reader: &Reader,
        bytes_max: u64,
    ) -> Result<u64, HistoryError> {
        let ids: Vec<AnnotationId> = self.places().keys().copied().collect();
        let mut bytes = 0;
        for id in ids {
            bytes += self.bring(reader, id)? as u64;
            if bytes > bytes_max {
                break;
            }
        }
        Ok(bytes)
    }

    /// Fills in what only the log could tell of a batch, and notes the places of its annotations.
    pub(crate) fn settle(&mut self, landing: &Landing) {
        landing.settle(&mut self.resource);
        let Some(places) = &mut self.places else {
            return;
        };
        for (id, position, revision) in &landing.added {
            // One that a later batch takes away again is no longer in memory; one that was looked up
            // may have been changed since.
            let is_later = |place: &Place| place.revision >= *revision;
            if self.resource.annotations.contains_key(id) && !places.get(id).is_some_and(is_later) {
                let place = Place {
                    added: *position,
                    changed: None,
                    revision: *revision,
                };
                places.insert(*id, place);
            }
        }
        for (id, position, revision) in &landing.changed {
            // Without a place it is to be: its beginning has not landed yet, and it stays in memory.
            if let Some(place) = places.get_mut(id).filter(|p| p.revision < *revision) {
                place.changed = Some(*position);
                place.revision = *revision;
            }
        }
    }

    /// Lets go from memory what the log can tell, once it has become much.
    pub(crate) fn let_go(&mut self) {
        self.let_go_of_places();
        if self.resource.annotations.len() <= WHOLE_MAX {
            return;
        }
        let places = self.places.as_ref();
        self.resource
            .annotations
            .retain(|id, state| match places.map(|places| places.get(id)) {
                Some(place) => place.is_none_or(|place| place.revision != state.revision),
                None => state.added_position == UNPLACED,
            });
    }

    fn let_go_of_places(&mut self) {
        let are_many = |places: &HashMap<_, _>| places.len() > UNASKED_MAX;
        if !self.are_places_asked && self.places.as_ref().is_some_and(are_many) {
            self.places = None;
        }
    }
}

/// The annotation, and how many bytes the larger of the events holds that made it what it is.
fn read_annotation(
    reader: &Reader,
    id: AnnotationId,
    place: Place,
) -> Result<(AnnotationState, usize), HistoryError> {
    let added = record_at(reader, place.added)?;
    let Event::AnnotationAdded(event) = event_of(&added)? else {
        return Err(elsewhere(id, place.added));
    };
    let mut state = AnnotationState::start(&envelope_of(&added), &event);
    let mut bytes = added.data().len();
    if let Some(position) = place.changed {
        // Each change holds the whole body as it made it.
        let changed = record_at(reader, position)?;
        let Event::AnnotationBodyChanged(event) = event_of(&changed)? else {
            return Err(elsewhere(id, position));
        };
        state.change_body(&envelope_of(&changed), &event);
        bytes = bytes.max(changed.data().len());
    }
    Ok((state, bytes))
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
