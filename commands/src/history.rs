//! A resource as its stream makes it, now or at any moment of the past.
//!
//! Invariant: what is folded is what the log holds durably, in order, and all of it up to the
//! moment asked for.

use std::collections::HashSet;

use stemma_domain::event::{self, Envelope, Event};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{Descriptor, Resource};
use stemma_domain::time::Timestamp;
use stemma_event_log::{
    Direction, ReadError, ReadLimit, Reader, Record, Revision, StreamId, StreamRange,
};

use crate::error::FoldError;

/// Records of a piece of a stream: what is read and folded before others have their turn.
const PIECE: ReadLimit = ReadLimit {
    records: 256,
    bytes: 4 << 20,
};

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
pub enum Past<T> {
    /// The resource as it was, or what was asked of it.
    Found(T),
    /// It was not there.
    Absent,
    /// The moment has not come.
    NotYet,
}

/// A resource with all its annotations, as it was.
pub type PastState = Past<Box<Resource>>;

impl<T> Past<T> {
    fn of(folded: Option<T>) -> Self {
        folded.map_or(Self::Absent, Self::Found)
    }
}

impl AsOf {
    /// Whether a record of the resource's stream is not behind the moment.
    fn holds(self, record: &Record) -> bool {
        match self {
            Self::Revision(revision) => record.revision().get() <= revision,
            Self::Position(position) => record.position().get() <= position,
            Self::Time(instant) => record.recorded_at_us() <= instant.micros(),
        }
    }

    /// Whether the moment has not come.
    fn is_ahead(
        self,
        reader: &Reader,
        now: Timestamp,
        id: ResourceId,
    ) -> Result<bool, HistoryError> {
        Ok(match self {
            Self::Revision(revision) => {
                let head = reader.stream_head(&stream_of(id))?;
                head.is_some_and(|head| head.get() < revision)
            }
            Self::Position(position) => position >= reader.end().get(),
            Self::Time(instant) => instant > now,
        })
    }
}

/// A resource's stream, from its start, a piece at a time.
#[derive(Debug)]
pub(crate) struct Pieces {
    stream: StreamId,
    /// None behind the last one.
    next: Option<Revision>,
}

impl Pieces {
    pub(crate) fn of(id: ResourceId) -> Self {
        Self {
            stream: stream_of(id),
            next: Some(Revision::new(0)),
        }
    }

    /// The next piece; none at the end.
    pub(crate) fn next(&mut self, reader: &Reader) -> Result<Option<Vec<Record>>, HistoryError> {
        let Some(from) = self.next else {
            return Ok(None);
        };
        let range = StreamRange {
            from,
            direction: Direction::Forward,
            limit: PIECE,
        };
        let records = reader.read_stream(&self.stream, range)?;
        let last = records.last().filter(|_| PIECE.is_reached_by(&records));
        self.next = last.map(|last| last.revision().next());
        Ok(Some(records))
    }

    /// Whether there may be another piece.
    pub(crate) fn go_on(&self) -> bool {
        self.next.is_some()
    }
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

/// The record of a stream at a revision; none where there is none.
pub(crate) fn record_at(
    reader: &Reader,
    stream: &StreamId,
    revision: u64,
) -> Result<Option<Record>, HistoryError> {
    let range = StreamRange {
        from: Revision::new(revision),
        direction: Direction::Forward,
        limit: ReadLimit {
            records: 1,
            bytes: 1,
        },
    };
    Ok(reader.read_stream(stream, range)?.into_iter().next())
}

/// When the event of a resource at a revision was recorded; none where there is none.
pub(crate) fn recorded_at(
    reader: &Reader,
    id: ResourceId,
    revision: u64,
) -> Result<Option<Timestamp>, HistoryError> {
    let record = record_at(reader, &stream_of(id), revision)?;
    Ok(record.map(|record| envelope_of(&record).recorded_at))
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

/// The annotation that an event is about.
pub(crate) fn annotation_of(event: &Event) -> Option<AnnotationId> {
    match event {
        Event::AnnotationAdded(added) => Some(added.annotation_id),
        Event::AnnotationBodyChanged(changed) => Some(changed.annotation_id),
        Event::AnnotationRemoved(removed) => Some(removed.annotation_id),
        _ => None,
    }
}

/// Applies one record to what its stream has made so far.
pub(crate) fn fold_record(state: &mut Option<Resource>, record: &Record) -> Result<(), FoldError> {
    fold_wanted(state, record, |_| true)
}

/// The same; of annotations that are not wanted, what they do to the description alone.
fn fold_wanted(
    state: &mut Option<Resource>,
    record: &Record,
    is_wanted: impl Fn(AnnotationId) -> bool,
) -> Result<(), FoldError> {
    let (envelope, event) = (envelope_of(record), event_of(record)?);
    let evolved = match state {
        None => Resource::start(&envelope, &event).map(|start| *state = Some(start)),
        Some(resource) if annotation_of(&event).is_none_or(is_wanted) => {
            resource.evolve(&envelope, &event)
        }
        Some(resource) => resource.descriptor.evolve(&envelope, &event),
    };
    evolved.map_err(|source| FoldError::Evolve {
        position: record.position().get(),
        source,
    })
}

/// Reads a resource's stream from its start for as long as `take` says yes.
pub(crate) fn each_record(
    reader: &Reader,
    id: ResourceId,
    mut take: impl FnMut(&Record) -> Result<bool, FoldError>,
) -> Result<(), HistoryError> {
    let mut pieces = Pieces::of(id);
    while let Some(records) = pieces.next(reader)? {
        for record in &records {
            if !take(record)? {
                return Ok(());
            }
        }
    }
    Ok(())
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
    if as_of.is_ahead(reader, now, id)? {
        return Ok(Past::NotYet);
    }
    let folded = fold_while(reader, id, |record| as_of.holds(record))?;
    Ok(Past::of(folded.map(Box::new)))
}

/// What described a resource at a moment, without its annotations.
pub(crate) async fn descriptor_at(
    reader: &Reader,
    now: Timestamp,
    id: ResourceId,
    as_of: AsOf,
) -> Result<Past<Descriptor>, HistoryError> {
    if as_of.is_ahead(reader, now, id)? {
        return Ok(Past::NotYet);
    }
    let holds = |record: &Record| as_of.holds(record);
    let folded = fold_some(reader, id, holds, &HashSet::new()).await?;
    Ok(Past::of(folded.map(|resource| resource.descriptor)))
}

/// Folds a resource's stream for as long as `keep` says yes to the next record, of its annotations
/// only those that are wanted. A long stream is folded a piece at a time, and between them others
/// have their turn on this thread.
pub(crate) async fn fold_some(
    reader: &Reader,
    id: ResourceId,
    keep: impl Fn(&Record) -> bool,
    wanted: &HashSet<AnnotationId>,
) -> Result<Option<Resource>, HistoryError> {
    let mut state: Option<Resource> = None;
    let mut pieces = Pieces::of(id);
    while let Some(records) = pieces.next(reader)? {
        for record in &records {
            if !keep(record) {
                return Ok(state);
            }
            fold_wanted(&mut state, record, |id| wanted.contains(&id))?;
        }
        if pieces.go_on() {
            tokio::task::yield_now().await;
        }
    }
    Ok(state)
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
