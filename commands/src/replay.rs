//! The first answer to a request, given again from what it wrote.
//!
//! The log keeps no answers: an answer is a function of the request and of the events that it
//! caused, and both are at hand. Which events belong to which operation is found by deciding
//! again, from the states before the first of them.

use std::collections::{HashMap, HashSet};

use stemma_domain::document;
use stemma_domain::event::{Event, REQUESTS_STREAM};
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::resource::{Command, IriNames, Resource, decide};
use stemma_event_log::{FirstUse, ReadLimit, Reader, Record};

use crate::error::CommandError;
use crate::history::{HistoryError, annotation_of, event_of, fold_record, fold_some};
use crate::request::{Change, Operation, OperationResult, Request, Target, Written};
use crate::short::{self, Short};

/// Makes the first answer anew.
///
/// # Errors
/// [`CommandError::Read`] and [`CommandError::Fold`] when the log cannot be read.
pub(crate) async fn first_answer(
    reader: &Reader,
    request: &Request,
    first_use: &FirstUse,
) -> Result<Written, CommandError> {
    let (first, last) = (first_use.first.get(), first_use.last.get());
    let mut records = records_of(reader, first_use)?;
    // That a request was answered is no event of what it is about.
    records.retain(|record| record.stream() != REQUESTS_STREAM);
    let mut states = States::before(reader, first, request, &records).await?;
    let mut rest = records.as_slice();
    let mut results = Vec::with_capacity(request.operations.len());
    for (index, operation) in request.operations.iter().enumerate() {
        let is_last = index + 1 == request.operations.len();
        let taken = if is_last {
            rest.len()
        } else {
            states.events_of(request, operation, rest)
        };
        let (own, others) = rest.split_at(taken.min(rest.len()));
        results.push(states.result(operation, own)?);
        rest = others;
    }
    Ok(Written {
        end: last + 1,
        position: Some(last),
        results,
        replayed: true,
    })
}

/// What a request wrote.
///
/// # Errors
/// [`CommandError::Read`] when the log cannot be read.
pub(crate) fn records_of(
    reader: &Reader,
    first_use: &FirstUse,
) -> Result<Vec<Record>, CommandError> {
    let (first, last) = (first_use.first.get(), first_use.last.get());
    let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
    let mut records = Vec::with_capacity(count.min(1024));
    while records.len() < count {
        let from = stemma_event_log::Position::new(first + records.len() as u64);
        let limit = ReadLimit {
            records: count - records.len(),
            bytes: usize::MAX,
        };
        let read = reader.read(from, limit)?;
        if read.is_empty() {
            break;
        }
        records.extend(read);
    }
    Ok(records)
}

/// The resources as they were before the request, moved on record by record: all that it names, or
/// that it wrote to, each with the annotations that it was about and no others.
struct States<'a> {
    reader: &'a Reader,
    before: u64,
    by_id: HashMap<ResourceId, Option<Resource>>,
}

impl<'a> States<'a> {
    async fn before(
        reader: &'a Reader,
        before: u64,
        request: &Request,
        records: &[Record],
    ) -> Result<Self, CommandError> {
        let mut wanted = HashSet::new();
        let mut ids = HashSet::new();
        for operation in &request.operations {
            ids.extend(match operation.target {
                Target::Resource(id) => Some(id),
                _ => None,
            });
            wanted.extend(operation.annotation_looked_for());
        }
        for record in records {
            let written = ResourceId::from_stream_name(record.stream());
            if written.is_some() {
                wanted.extend(annotation_of(&event_of(record)?));
            }
            ids.extend(written);
        }
        let mut by_id = HashMap::with_capacity(ids.len());
        for id in ids {
            let keep = |record: &Record| record.position().get() < before;
            let folded = fold_some(reader, id, keep, &wanted).await;
            let folded = folded.map_err(|error| match error {
                HistoryError::Read(source) => source.into(),
                HistoryError::Fold(source) => CommandError::from(source),
            })?;
            by_id.insert(id, folded);
        }
        Ok(Self {
            reader,
            before,
            by_id,
        })
    }

    fn of(&mut self, id: ResourceId) -> &mut Option<Resource> {
        self.by_id.entry(id).or_default()
    }

    /// How many of the records that are left an operation caused.
    fn events_of(&mut self, request: &Request, operation: &Operation, rest: &[Record]) -> usize {
        let id = match operation.target {
            Target::Resource(id) => id,
            Target::EntityTypes => return 1,
            Target::Job(_) => return first_run(rest, JobId::from_stream_name),
            Target::Document(_) => return first_run(rest, document::from_stream_name),
        };
        let Change::Resource(command) = &operation.change else {
            // A clone is its creation and the annotations that come along, all in one stream.
            let stream = id.stream_name();
            return rest
                .iter()
                .take_while(|record| record.stream() == stream)
                .count();
        };
        if matches!(
            **command,
            Command::Create(_) | Command::AddAnnotation { .. }
        ) {
            return 1;
        }
        let names = IriNames {
            bases: &request.bases,
        };
        let state = self.of(id).as_ref();
        decide(state, command, names, None).map_or(0, |events| events.len())
    }

    fn result(
        &mut self,
        operation: &Operation,
        own: &[Record],
    ) -> Result<OperationResult, CommandError> {
        let mut events = Vec::with_capacity(own.len());
        for record in own {
            events.push(event_of(record)?);
        }
        let target = match operation.target {
            Target::EntityTypes => return Ok(OperationResult::of_events(events)),
            Target::Job(id) => {
                // The id may have been made anew for this request; the stream tells the first one.
                let id = of_stream(own, JobId::from_stream_name).unwrap_or(id);
                let job = self.as_it_was(own, id)?;
                return Ok(OperationResult {
                    job,
                    ..OperationResult::of_events(events)
                });
            }
            Target::Document(id) => {
                let document = self.as_it_was(own, id)?;
                return Ok(OperationResult {
                    document,
                    ..OperationResult::of_events(events)
                });
            }
            // The id may have been made anew for this request; the stream tells the first one.
            Target::Resource(id) => own
                .first()
                .and_then(|r| ResourceId::from_stream_name(r.stream()))
                .unwrap_or(id),
        };
        let state = self.of(target);
        for record in own {
            fold_record(state, record)?;
        }
        let annotation_id = events.iter().rev().find_map(|event| match event {
            Event::AnnotationAdded(added) => Some(added.annotation_id),
            Event::AnnotationBodyChanged(changed) => Some(changed.annotation_id),
            _ => None,
        });
        Ok(OperationResult {
            descriptor: state.as_ref().map(|resource| resource.descriptor.clone()),
            annotation: annotation_id
                .or(operation.change.annotation_asked())
                .and_then(|id| state.as_ref()?.annotations.get(&id))
                .map(|annotation| (**annotation).clone()),
            ..OperationResult::of_events(events)
        })
    }

    /// What a short stream was right after these records; as before the request without any.
    fn as_it_was<T: Short>(
        &self,
        own: &[Record],
        id: T::Id,
    ) -> Result<Option<Box<T>>, CommandError> {
        let end = own
            .last()
            .map_or(self.before, |last| last.position().get() + 1);
        let folded = short::fold::<T>(self.reader, id, |record| record.position().get() < end)?;
        Ok(folded.map(Box::new))
    }
}

/// What the stream of the first of these records is named after.
fn of_stream<T>(records: &[Record], named: impl Fn(&str) -> Option<T>) -> Option<T> {
    records.first().and_then(|record| named(record.stream()))
}

/// How many records at the beginning are of one stream, which must be of this kind.
fn first_run<T>(records: &[Record], named: impl Fn(&str) -> Option<T>) -> usize {
    if of_stream(records, named).is_none() {
        return 0;
    }
    let stream = records[0].stream();
    let is_same = |record: &&Record| record.stream() == stream;
    records.iter().take_while(is_same).count()
}
