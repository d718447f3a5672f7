//! Working a request out: from locked states to the events of one batch.
//!
//! Invariant: after a refusal, every slot that was moved on forgets its state (by its drop); a state that the
//! log will never hold is never decided upon.

use std::borrow::Cow;
use std::sync::Arc;

use stemma_domain::access::Sight;
use stemma_domain::annotation::TextIndex;
use stemma_domain::document::{Document, DocumentRefusal};
use stemma_domain::entity_type;
use stemma_domain::event::{Envelope, Event, REQUESTS_STREAM, RequestAnswered, ResourceCreated};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::job::Job;
use stemma_domain::resource::{
    Access, AnnotationState, CloneResource, Command, IriNames, Refusal, Resource, decide,
};
use stemma_event_log::{
    AppendError, EventType, ExpectedRevision, NewEvent, Reader, Revision, StreamId,
};

use crate::aggregates::{Landing, LockedSlot, SlotState, UNRECORDED};
use crate::environment::Ids;
use crate::error::{CommandError, FoldError};
use crate::folded::{Folded, Looks};
use crate::history::stream_of;
use crate::request::{
    Change, CloneAnnotations, EntityTag, Operation, OperationResult, Precondition, Target,
};
use crate::short::{self, Decided, Short};

/// Why somebody who reads a resource does not change it.
const READ_ALONE: &str = "you may read the resource and not change it";
/// Stands for a position that the log has yet to give.
pub(crate) const UNPLACED: u64 = u64::MAX;

/// The events of a request, and what they make of each operation's target.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) events: Vec<NewEvent>,
    pub(crate) expected: Vec<(StreamId, ExpectedRevision)>,
    pub(crate) results: Vec<OperationResult>,
    /// For each resource that gets events: where they stand in the batch and in its stream.
    pub(crate) touched: Vec<Touched>,
}

/// One resource's part of a batch.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) id: ResourceId,
    stream: StreamId,
    pub(crate) first_revision: u64,
    pub(crate) last_revision: u64,
    /// Each with its event's index in the batch, and its revision.
    added: Vec<(AnnotationId, usize, u64)>,
    changed: Vec<(AnnotationId, usize, u64)>,
}

impl Touched {
    /// What the log told of this part, `first` being the batch's first position.
    pub(crate) fn landing(
        &self,
        first: u64,
        recorded_at: stemma_domain::time::Timestamp,
    ) -> Landing {
        let placed = |events: &[(AnnotationId, usize, u64)]| {
            let placed = |(id, index, revision): &(AnnotationId, usize, u64)| {
                (*id, first + *index as u64, *revision)
            };
            events.iter().map(placed).collect()
        };
        Landing {
            recorded_at,
            first_revision: self.first_revision,
            last_revision: self.last_revision,
            added: placed(&self.added),
            changed: placed(&self.changed),
        }
    }
}

/// What planning needs beside the request and the states.
pub(crate) struct Planner<'a> {
    pub(crate) actor: &'a str,
    pub(crate) sight: &'a Sight,
    pub(crate) names: IriNames<'a>,
    pub(crate) ids: &'a dyn Ids,
    pub(crate) reader: &'a Reader,
    /// Most events of the batch.
    pub(crate) events_max: usize,
    /// Most bytes of them.
    pub(crate) bytes_max: u64,
    pub(crate) slots: &'a mut [LockedSlot],
    pub(crate) jobs: short::Folded<Job>,
    pub(crate) documents: short::Folded<Document>,
    pub(crate) plan: Plan,
}

impl Planner<'_> {
    fn slot_index(&self, id: ResourceId) -> usize {
        self.slots
            .binary_search_by_key(&id, LockedSlot::id)
            .expect("every resource that a request names was locked, in order of id")
    }

    pub(crate) fn resource(&self, id: ResourceId) -> Option<&Resource> {
        self.slots[self.slot_index(id)].resource()
    }

    /// Works out one operation; `text` is the text of its resource's content when it annotates.
    pub(crate) fn operate(
        &mut self,
        index: usize,
        operation: &Operation,
        text: Option<&Arc<TextIndex>>,
    ) -> Result<(), CommandError> {
        let refused = |refusal| CommandError::Refused {
            operation: index,
            refusal,
        };
        let id = match (&operation.target, &operation.change) {
            (Target::EntityTypes, Change::RegisterEntityType { name, description }) => {
                let limit = |_| {
                    let max = entity_type::DESCRIPTION_BYTES_MAX;
                    refused(Refusal::Limit {
                        what: "bytes of description",
                        max,
                    })
                };
                let event =
                    entity_type::register(name.clone(), description.clone()).map_err(limit)?;
                self.register(event);
                return Ok(());
            }
            (Target::Job(id), Change::Job(command)) => {
                let command = (**command).clone();
                let decided = self.jobs.decide(self.reader, self.actor, *id, command)?;
                let decided = decided.map_err(refused)?;
                let result = self.plan.note(&Job::stream(*id), decided);
                self.plan.results.push(result.of_job());
                return Ok(());
            }
            (Target::Document(id), Change::Document(command)) => {
                self.check_document_granted(*id).map_err(refused)?;
                let command = (**command).clone();
                let decided = self
                    .documents
                    .decide(self.reader, self.actor, *id, command)?;
                let decided = decided.map_err(refused)?;
                let result = self.plan.note(&Document::stream(*id), decided);
                self.plan.results.push(result.of_document());
                return Ok(());
            }
            (Target::Resource(id), _) => *id,
            _ => return Err(refused(Refusal::NotFound)),
        };
        let events = self.decided(index, operation, id, text)?;
        self.apply(id, events, operation.change.annotation_asked())
    }

    /// What an operation on a resource comes to; nothing is moved on by it.
    pub(crate) fn decided(
        &mut self,
        index: usize,
        operation: &Operation,
        id: ResourceId,
        text: Option<&Arc<TextIndex>>,
    ) -> Result<Vec<Event>, CommandError> {
        let refused = |refusal| CommandError::Refused {
            operation: index,
            refusal,
        };
        self.check_granted(operation, id).map_err(refused)?;
        self.check(index, operation, id)?;
        self.bring(operation, id)?;
        let command = self.command(operation, id).map_err(refused)?;
        let text = text.map(AsRef::as_ref);
        decide(self.resource(id), &command, self.names, text).map_err(refused)
    }

    fn register(&mut self, event: Event) {
        let stream = StreamId::new(entity_type::STREAM).expect("a constant that is a stream id");
        self.plan.push(stream, &event);
        let result = OperationResult::of_events(vec![event]);
        self.plan.results.push(result);
    }

    /// Brings the annotations into memory that the operation is about.
    fn bring(&mut self, operation: &Operation, id: ResourceId) -> Result<(), CommandError> {
        let reader = self.reader;
        if let Some((source, Looks::ForSome)) = operation.looks_at_source() {
            // What is hidden is not there, and of what cannot be made nothing is brought.
            let Some(seen) = self.seen(source).filter(|_| self.resource(id).is_none()) else {
                return Ok(());
            };
            let annotations = seen.descriptor.annotation_count;
            let annotations = usize::try_from(annotations).unwrap_or(usize::MAX);
            // Each is to be an event, and a resource may have any number.
            if annotations >= self.events_max {
                return Err(CommandError::TooManyEvents {
                    events: annotations.saturating_add(1),
                    events_max: self.events_max,
                });
            }
            let bytes_max = self.bytes_max;
            if let Some(folded) = self.folded(source) {
                let bytes = folded.bring_all(reader, bytes_max)?;
                if bytes > bytes_max {
                    return Err(AppendError::TooLarge { bytes, bytes_max }.into());
                }
            }
        }
        if let Some(annotation) = operation.annotation_looked_for()
            && let Some(folded) = self.folded(id)
        {
            folded.bring(reader, annotation)?;
        }
        Ok(())
    }

    fn folded(&mut self, id: ResourceId) -> Option<&mut Folded> {
        let index = self.slot_index(id);
        self.slots[index].folded_mut()
    }

    /// The same, if whoever asks may know of it.
    fn seen(&self, id: ResourceId) -> Option<&Resource> {
        let found = self.resource(id);
        found.filter(|resource| resource.descriptor.is_read_by(self.sight))
    }

    /// Refuses a change of what is not there for whoever asks, and of what they may only read.
    /// That an id is taken is told of what they may not know too: there is no way around it.
    fn check_granted(&self, operation: &Operation, id: ResourceId) -> Result<(), Refusal> {
        let Change::Resource(command) = &operation.change else {
            return Ok(());
        };
        if matches!(**command, Command::Create(_) | Command::Clone(_)) {
            return Ok(());
        }
        // Before what is believed of it: of what is not there no revision is another one.
        let resource = self.seen(id).ok_or(Refusal::NotFound)?;
        let descriptor = &resource.descriptor;
        if !descriptor.is_written_by(self.sight) {
            return Err(Refusal::NotGranted(READ_ALONE));
        }
        let is_of_owner = matches!(**command, Command::ChangeAccess(_));
        if is_of_owner && !descriptor.is_owned_by(self.sight) {
            let why = "only the owner of the resource and admins may say who may read and write it";
            return Err(Refusal::NotGranted(why));
        }
        Ok(())
    }

    /// The same of a document, whose grants are those of the resource that it is. One that the
    /// batch makes is its uploader's by now; who sees everything, as the stages do, locked nothing.
    fn check_document_granted(&self, id: ResourceId) -> Result<(), Refusal> {
        if *self.sight == Sight::Everything {
            return Ok(());
        }
        let Some(resource) = self.resource(id) else {
            return Ok(());
        };
        if !resource.descriptor.is_read_by(self.sight) {
            return Err(Refusal::Document(DocumentRefusal::NotFound));
        }
        if !resource.descriptor.is_written_by(self.sight) {
            return Err(Refusal::NotGranted(READ_ALONE));
        }
        Ok(())
    }

    /// Holds the target against what the client believes of it.
    fn check(
        &self,
        index: usize,
        operation: &Operation,
        id: ResourceId,
    ) -> Result<(), CommandError> {
        // Of a clone, the client knows the source.
        let known = match &operation.change {
            Change::CloneFrom { source, .. } => *source,
            _ => id,
        };
        let now = self.seen(known).map(|resource| &resource.descriptor);
        if let Some(expected) = operation.expected_revision {
            let actual = now.map(|descriptor| descriptor.revision);
            if actual != Some(expected) {
                return Err(CommandError::Conflict {
                    operation: index,
                    expected,
                    actual,
                });
            }
        }
        let (Precondition::IfMatch(tags), Some(now)) = (&operation.precondition, now) else {
            return Ok(());
        };
        let holds = tags.iter().any(|tag| match tag {
            EntityTag::Any => true,
            EntityTag::Revision(revision) => *revision == now.revision,
            EntityTag::Digest(digest) => *digest == now.digest,
            EntityTag::Foreign => false,
        });
        if !holds {
            let revision = now.revision;
            return Err(CommandError::PreconditionFailed {
                operation: index,
                revision,
            });
        }
        Ok(())
    }

    fn command<'o>(
        &self,
        operation: &'o Operation,
        id: ResourceId,
    ) -> Result<Cow<'o, Command>, Refusal> {
        match &operation.change {
            Change::Resource(command) => Ok(Cow::Borrowed(command)),
            Change::RegisterEntityType { .. } | Change::Job(_) | Change::Document(_) => {
                Err(Refusal::NotFound)
            }
            Change::CloneFrom {
                source,
                name,
                collection,
                annotations,
            } => {
                let from = self.seen(*source).ok_or(Refusal::NotFound)?;
                let described = &from.descriptor;
                let created = ResourceCreated {
                    access: access_of_clone(&described.access),
                    byte_size: described.byte_size,
                    collection: collection.clone().or_else(|| described.collection.clone()),
                    derived_from: Some(*source),
                    digest: described.digest,
                    entity_types: described.entity_types.clone(),
                    id,
                    language: described.language.clone(),
                    media_type: described.media_type.clone(),
                    metadata: described.metadata.clone(),
                    name: name.clone().unwrap_or_else(|| described.name.clone()),
                };
                let annotations = self.annotations_to_clone(from, *annotations);
                Ok(Cow::Owned(Command::Clone(CloneResource {
                    created,
                    annotations,
                    source: *source,
                })))
            }
        }
    }

    fn annotations_to_clone(
        &self,
        from: &Resource,
        annotations: CloneAnnotations,
    ) -> Vec<(AnnotationId, Arc<AnnotationState>)> {
        if annotations == CloneAnnotations::Leave {
            return Vec::new();
        }
        let mut states: Vec<_> = from.annotations.values().collect();
        states.sort_unstable_by_key(|state| (state.added_position, state.id));
        let renamed = states
            .into_iter()
            .map(|state| (AnnotationId::new(self.ids.new_id()), Arc::clone(state)));
        renamed.collect()
    }

    /// Moves the state on by the events, and notes them for the batch.
    fn apply(
        &mut self,
        id: ResourceId,
        events: Vec<Event>,
        asked: Option<AnnotationId>,
    ) -> Result<(), CommandError> {
        let slot_index = self.slot_index(id);
        let last = self.plan.touched.last().filter(|last| last.id == id);
        let stream = last.map_or_else(|| stream_of(id), |last| last.stream.clone());
        for event in &events {
            let state = self.slots[slot_index].state_mut();
            let revision = match state {
                SlotState::Known(Some(folded)) => folded.resource().descriptor.revision + 1,
                _ => 0,
            };
            self.plan.touch(id, &stream, revision, event);
            let envelope = Envelope {
                position: UNPLACED,
                revision,
                recorded_at: UNRECORDED,
                actor: self.actor,
            };
            move_on(state, &envelope, event).map_err(|source| FoldError::Evolve {
                position: UNPLACED,
                source,
            })?;
            self.plan.push(stream.clone(), event);
        }
        let resource = self.slots[slot_index].resource();
        let annotation = events.iter().rev().find_map(|event| match event {
            Event::AnnotationAdded(added) => Some(added.annotation_id),
            Event::AnnotationBodyChanged(changed) => Some(changed.annotation_id),
            _ => None,
        });
        let result = OperationResult {
            descriptor: resource.map(|resource| resource.descriptor.clone()),
            annotation: annotation
                .or(asked)
                .and_then(|id| resource?.annotations.get(&id))
                .map(|state| (**state).clone()),
            ..OperationResult::of_events(events)
        };
        self.plan.results.push(result);
        Ok(())
    }
}

/// Who could not read the source cannot read its clone; and its owner, who is told of the clone's
/// grants, is not told of the source's.
fn access_of_clone(source: &Access) -> Access {
    if source.is_open() {
        Access::default()
    } else {
        Access::private()
    }
}

fn move_on(
    state: &mut SlotState,
    envelope: &Envelope<'_>,
    event: &Event,
) -> Result<(), stemma_domain::resource::EvolveError> {
    if let SlotState::Known(Some(folded)) = state {
        return folded.evolve(envelope, event);
    }
    *state = SlotState::Known(Some(Box::new(Folded::start(envelope, event)?)));
    Ok(())
}

/// What was decided about a short stream, on its way into an answer.
struct Noted<T> {
    events: Vec<Event>,
    now: Option<Box<T>>,
}

impl Noted<Job> {
    fn of_job(self) -> OperationResult {
        OperationResult {
            job: self.now,
            ..OperationResult::of_events(self.events)
        }
    }
}

impl Noted<Document> {
    fn of_document(self) -> OperationResult {
        OperationResult {
            document: self.now,
            ..OperationResult::of_events(self.events)
        }
    }
}

impl Plan {
    /// Notes what was decided about a short stream, and what it rests on.
    fn note<T>(&mut self, stream: &StreamId, decided: Decided<T>) -> Noted<T> {
        if let Some(expected) = decided.expected {
            self.expected.push((stream.clone(), expected));
        }
        for event in &decided.events {
            self.push(stream.clone(), event);
        }
        Noted {
            events: decided.events,
            now: decided.now.map(Box::new),
        }
    }

    /// Notes that the request changes nothing, on condition that all that it is about is as it was
    /// found, so that a repetition gets this answer and is not decided anew.
    pub(crate) fn note_answer(&mut self, slots: &[LockedSlot], answered: RequestAnswered) {
        self.rest_on(slots.iter());
        let stream = StreamId::new(REQUESTS_STREAM).expect("a constant that is a stream id");
        self.push(stream, &Event::RequestAnswered(answered));
    }

    /// Makes it a condition of the batch that these are as they were found.
    pub(crate) fn rest_on<'s>(&mut self, slots: impl Iterator<Item = &'s LockedSlot>) {
        for slot in slots {
            let expected = slot
                .resource()
                .map_or(ExpectedRevision::NoStream, |resource| {
                    ExpectedRevision::Exact(Revision::new(resource.descriptor.revision))
                });
            self.expected.push((stream_of(slot.id()), expected));
        }
    }

    /// Writes the batch's next event down.
    fn push(&mut self, stream: StreamId, event: &Event) {
        let encoded = event.encode();
        // Most events of a batch are of one type, whose name is shared.
        let event_type = match self.events.last() {
            Some(last) if last.event_type.as_str() == encoded.event_type => last.event_type.clone(),
            _ => EventType::new(encoded.event_type).expect("our types are valid"),
        };
        self.events.push(NewEvent {
            stream,
            event_type,
            schema_version: encoded.schema_version,
            data: encoded.data.into(),
        });
    }

    /// Notes that the batch's next event gives this resource this revision.
    fn touch(&mut self, id: ResourceId, stream: &StreamId, revision: u64, event: &Event) {
        let known = self.touched.iter().rposition(|touched| touched.id == id);
        let index = known.unwrap_or_else(|| {
            let expected = match revision.checked_sub(1) {
                None => ExpectedRevision::NoStream,
                Some(last) => ExpectedRevision::Exact(Revision::new(last)),
            };
            self.expected.push((stream.clone(), expected));
            self.touched.push(Touched {
                id,
                stream: stream.clone(),
                first_revision: revision,
                last_revision: revision,
                added: Vec::new(),
                changed: Vec::new(),
            });
            self.touched.len() - 1
        });
        let touched = &mut self.touched[index];
        touched.last_revision = revision;
        match event {
            Event::AnnotationAdded(added) => {
                let index = self.events.len();
                touched.added.push((added.annotation_id, index, revision));
            }
            Event::AnnotationBodyChanged(changed) => {
                let index = self.events.len();
                touched
                    .changed
                    .push((changed.annotation_id, index, revision));
            }
            _ => {}
        }
    }
}
