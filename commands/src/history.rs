//! A resource as its stream makes it, now or at any moment of the past.
//!
//! Invariant: what is folded is what the log holds durably, in order, and all of it up to the
//! moment asked for.

use stemma_domain::event::{self, Envelope, Event};
use stemma_domain::id::ResourceId;
use stemma_domain::resource::{Descriptor, Resource};
use stemma_domain::time::Timestamp;
use stemma_event_log::{Direction, ReadError, Reader, Record, Revision, StreamId, StreamRange};

use crate::error::FoldError;

/// Records read at a time while folding.
const FOLD_RECORDS: usize = 1024;

/// A moment of a resource's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Right after this revision of the resource.
    Revision(u64),
    /// Right after this position of the log.
    Position(u64),
    /// At this instant: all that was recorded at or before it.
    Time(Timestamp),
}

/// What the past holds of a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum PastState {
    /// The resource as it was.
    Found(Box<Resource>),
    /// It was not there.
    Absent,
    /// The moment has not come.
    NotYet,
}

/// Why the past could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The log could not be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// The stream does not fold.
    #[error("fold a stream")]
    Fold(#[from] FoldError),
}

/// The stream of a resource.
pub(crate) fn stream_of(id: ResourceId) -> StreamId {
    StreamId::new(id.stream_name()).expect("a resource's stream name is a valid stream id")
}

/// The payload of a record.
pub(crate) fn event_of(record: &Record) -> Result<Event, FoldError> {
    event::decode(record.event_type(), record.schema_version(), record.data()).map_err(|source| {
        FoldError::Decode {
            position: record.position().get(),
            source,
        }
    })
}

/// The envelope of a record.
pub(crate) fn envelope_of(record: &Record) -> Envelope<'_> {
    Envelope {
        position: record.position().get(),
        revision: record.revision().get(),
        recorded_at: Timestamp::from_micros(record.recorded_at_us()),
        actor: record.actor(),
    }
}

/// Applies one record to what its stream has made so far.
pub(crate) fn fold_record(state: &mut Option<Resource>, record: &Record) -> Result<(), FoldError> {
    let event = event_of(record)?;
    let envelope = envelope_of(record);
    let misfit = |source| FoldError::Evolve {
        position: record.position().get(),
        source,
    };
    if let Some(resource) = state {
        resource.evolve(&envelope, &event).map_err(misfit)
    } else {
        *state = Some(Resource::start(&envelope, &event).map_err(misfit)?);
        Ok(())
    }
}

/// Reads a resource's stream from its start for as long as `take` says yes.
pub(crate) fn each_record(
    reader: &Reader,
    id: ResourceId,
    mut take: impl FnMut(&Record) -> Result<bool, FoldError>,
) -> Result<(), HistoryError> {
    let stream = stream_of(id);
    let mut from = Revision::new(0);
    loop {
        let range = StreamRange {
            from,
            direction: Direction::Forward,
            limit: FOLD_RECORDS,
        };
        let records = reader.read_stream(&stream, range)?;
        for record in &records {
            if !take(record)? {
                return Ok(());
            }
        }
        let Some(last) = records.last().filter(|_| records.len() == FOLD_RECORDS) else {
            return Ok(());
        };
        from = last.revision().next();
    }
}

/// Folds a resource's stream for as long as `keep` says yes to the next record.
pub(crate) fn fold_while(
    reader: &Reader,
    id: ResourceId,
    keep: impl Fn(&Record) -> bool,
) -> Result<Option<Resource>, HistoryError> {
    let mut state = None;
    each_record(reader, id, |record| {
        if !keep(record) {
            return Ok(false);
        }
        fold_record(&mut state, record)?;
        Ok(true)
    })?;
    Ok(state)
}

/// Folds a resource's stream up to a moment; `now` tells which moments have come.
///
/// # Errors
/// [`HistoryError`]; the past that can be read is not affected.
pub(crate) fn resource_at(
    reader: &Reader,
    now: Timestamp,
    id: ResourceId,
    as_of: AsOf,
) -> Result<PastState, HistoryError> {
    let folded = match as_of {
        AsOf::Revision(revision) => {
            let head = reader.stream_head(&stream_of(id))?;
            match head {
                None => return Ok(PastState::Absent),
                Some(head) if head.get() < revision => return Ok(PastState::NotYet),
                Some(_) => fold_while(reader, id, |record| record.revision().get() <= revision)?,
            }
        }
        AsOf::Position(position) if position >= reader.end().get() => return Ok(PastState::NotYet),
        AsOf::Position(position) => {
            fold_while(reader, id, |record| record.position().get() <= position)?
        }
        AsOf::Time(instant) if instant > now => return Ok(PastState::NotYet),
        AsOf::Time(instant) => fold_while(reader, id, |record| {
            record.recorded_at_us() <= instant.micros()
        })?,
    };
    Ok(folded.map_or(PastState::Absent, |resource| {
        PastState::Found(Box::new(resource))
    }))
}

/// A resource as it is now, but with each of the contents that it has had, oldest first, and the
/// position that brought it.
pub(crate) fn contents_of(
    reader: &Reader,
    now: &Descriptor,
) -> Result<Vec<(u64, Descriptor)>, HistoryError> {
    let mut contents = Vec::new();
    each_record(reader, now.id, |record| {
        if !brings_content(record) {
            return Ok(true);
        }
        let mut content = now.clone();
        match event_of(record)? {
            Event::ResourceCreated(created) | Event::ResourceCloned(created) => {
                content.digest = created.digest;
                content.byte_size = created.byte_size;
                content.media_type = created.media_type;
            }
            Event::ResourceRevised(revised) => {
                content.digest = revised.digest;
                content.byte_size = revised.byte_size;
                content.media_type = revised.media_type;
            }
            _ => return Ok(true),
        }
        content.content_revision = record.revision().get();
        contents.push((record.position().get(), content));
        Ok(true)
    })?;
    Ok(contents)
}

fn brings_content(record: &Record) -> bool {
    ["resource.created", "resource.cloned", "resource.revised"].contains(&record.event_type())
}
