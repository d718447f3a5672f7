//! Jobs and documents: streams so short that they are folded for each request.
//!
//! No lock and no cache: two requests about one job both fold what the log holds, and the log's
//! writer takes the first. Invariant: each stream that a decision rests on is named in the batch
//! with the revision that it was folded to, whether or not the batch writes to it.

use std::collections::HashMap;

use stemma_domain::document::{self, Document, DocumentCommand};
use stemma_domain::event::{Envelope, Event};
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::job::{self, Job, JobCommand};
use stemma_domain::resource::Refusal;
use stemma_domain::time::Timestamp;
use stemma_event_log::{
    Direction, ExpectedRevision, ReadLimit, Reader, Record, Revision, StreamId, StreamRange,
};

use crate::aggregates::UNRECORDED;
use crate::error::FoldError;
use crate::history::{HistoryError, envelope_of, event_of, record_at};
use crate::plan::UNPLACED;

/// Records of a stream that are read at a time.
const FOLD: ReadLimit = ReadLimit {
    records: 256,
    bytes: 4 << 20,
};

/// The position behind the event of a stream at a revision; none where there is none.
pub(crate) fn end_at(
    reader: &Reader,
    stream: &StreamId,
    revision: u64,
) -> Result<Option<u64>, HistoryError> {
    let record = record_at(reader, stream, revision)?;
    Ok(record.map(|record| record.position().get() + 1))
}

/// What a short stream folds to.
pub(crate) trait Short: Sized + Clone {
    /// What names it.
    type Id: Copy + Eq + std::hash::Hash;
    /// What may be asked of it.
    type Command;

    fn stream(id: Self::Id) -> StreamId;
    fn revision(&self) -> u64;
    fn decide(state: Option<&Self>, command: Self::Command) -> Result<Vec<Event>, Refusal>;
    fn step(
        state: &mut Option<Self>,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
    /// Fills in what only the log could tell.
    fn settle(&mut self, position: u64, recorded_at: Timestamp);
}

impl Short for Job {
    type Id = JobId;
    type Command = JobCommand;

    fn stream(id: JobId) -> StreamId {
        StreamId::new(id.stream_name()).expect("a job's stream name is a valid stream id")
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn decide(state: Option<&Self>, command: JobCommand) -> Result<Vec<Event>, Refusal> {
        Ok(job::decide(state, command)?)
    }

    fn step(
        state: &mut Option<Self>,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match state {
            Some(job) => job.evolve(envelope, event)?,
            None => *state = Some(Self::start(envelope, event)?),
        }
        Ok(())
    }

    fn settle(&mut self, position: u64, recorded_at: Timestamp) {
        let settle = |instant: &mut Timestamp| {
            if *instant == UNRECORDED {
                *instant = recorded_at;
            }
        };
        if self.queued_position == UNPLACED {
            self.queued_position = position;
        }
        settle(&mut self.created_at);
        settle(&mut self.updated_at);
        self.started_at.iter_mut().for_each(settle);
        self.completed_at.iter_mut().for_each(settle);
        if let Some(claim) = &mut self.claim {
            settle(&mut claim.claimed_at);
        }
        for attempt in &mut self.history {
            settle(&mut attempt.started_at);
            settle(&mut attempt.ended_at);
        }
    }
}

impl Short for Document {
    type Id = ResourceId;
    type Command = DocumentCommand;

    fn stream(id: ResourceId) -> StreamId {
        let name = document::stream_name(id);
        StreamId::new(name).expect("a document's stream name is a valid stream id")
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn decide(state: Option<&Self>, command: DocumentCommand) -> Result<Vec<Event>, Refusal> {
        Ok(document::decide(state, command)?)
    }

    fn step(
        state: &mut Option<Self>,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match state {
            Some(document) => document.evolve(envelope, event)?,
            None => *state = Some(Self::start(envelope, event)?),
        }
        Ok(())
    }

    fn settle(&mut self, _: u64, recorded_at: Timestamp) {
        let settle = |instant: &mut Timestamp| {
            if *instant == UNRECORDED {
                *instant = recorded_at;
            }
        };
        settle(&mut self.uploaded_at);
        self.stages
            .values_mut()
            .for_each(|stage| settle(&mut stage.completed_at));
        self.failures
            .iter_mut()
            .for_each(|failure| settle(&mut failure.failed_at));
    }
}

/// The short streams of one kind that a request is about, moved on by what was decided.
#[derive(Debug)]
pub(crate) struct Folded<T: Short> {
    by_id: HashMap<T::Id, Option<T>>,
}

impl<T: Short> Default for Folded<T> {
    fn default() -> Self {
        let by_id = HashMap::new();
        Self { by_id }
    }
}

/// What a command to a short stream came to.
pub(crate) struct Decided<T> {
    pub(crate) events: Vec<Event>,
    pub(crate) now: Option<T>,
    /// What the batch rests on, when this is the first that it hears of the stream.
    pub(crate) expected: Option<ExpectedRevision>,
}

impl<T: Short> Folded<T> {
    /// Decides a command and moves the state on.
    pub(crate) fn decide(
        &mut self,
        reader: &Reader,
        actor: &str,
        id: T::Id,
        command: T::Command,
    ) -> Result<Result<Decided<T>, Refusal>, HistoryError> {
        let mut expected = None;
        let state = match self.by_id.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(unknown) => {
                let folded = fold::<T>(reader, id, |_| true)?;
                expected = Some(folded.as_ref().map_or(ExpectedRevision::NoStream, |state| {
                    ExpectedRevision::Exact(Revision::new(state.revision()))
                }));
                unknown.insert(folded)
            }
        };
        let events = match T::decide(state.as_ref(), command) {
            Ok(events) => events,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for event in &events {
            let envelope = Envelope {
                position: UNPLACED,
                revision: state.as_ref().map_or(0, |state| state.revision() + 1),
                recorded_at: UNRECORDED,
                actor,
            };
            let misfit = |source| FoldError::Short {
                position: UNPLACED,
                source,
            };
            T::step(state, &envelope, event).map_err(misfit)?;
        }
        let now = state.clone();
        Ok(Ok(Decided {
            events,
            now,
            expected,
        }))
    }
}

/// Folds a short stream for as long as `keep` says yes to the next record.
pub(crate) fn fold<T: Short>(
    reader: &Reader,
    id: T::Id,
    keep: impl Fn(&Record) -> bool,
) -> Result<Option<T>, HistoryError> {
    let stream = T::stream(id);
    let mut state = None;
    let mut from = Revision::new(0);
    loop {
        let range = StreamRange {
            from,
            direction: Direction::Forward,
            limit: FOLD,
        };
        let records = reader.read_stream(&stream, range)?;
        for record in &records {
            if !keep(record) {
                return Ok(state);
            }
            step_record(&mut state, record)?;
        }
        let Some(last) = records.last().filter(|_| FOLD.is_reached_by(&records)) else {
            return Ok(state);
        };
        from = last.revision().next();
    }
}

/// Applies one record to what its stream has made so far.
pub(crate) fn step_record<T: Short>(
    state: &mut Option<T>,
    record: &Record,
) -> Result<(), FoldError> {
    let event = event_of(record)?;
    T::step(state, &envelope_of(record), &event).map_err(|source| FoldError::Short {
        position: record.position().get(),
        source,
    })
}
