//! Rendered events, shared by all streams.
//!
//! Whoever comes first to a position near the head renders it; the others take the same bytes.
//! Invariant: the ring holds consecutive positions; what is older is read from the log again, so
//! nobody is ever skipped.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::web::Bytes;
use stemma_event_log::{Position, ReadError, ReadLimit, Reader, Record};

use crate::options::SseOptions;
use crate::wire::event::{self, Grants};

/// Most records that one step of a stream takes.
const STEP_RECORDS: usize = 1024;

/// An event as it goes over a stream.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) record: Record,
    pub(crate) bytes: Bytes,
}

impl Frame {
    /// Renders a record.
    pub(crate) fn of(record: Record) -> Self {
        let bytes = Self::rendered(&record, Grants::Told);
        Self { record, bytes }
    }

    /// The bytes for those whom the grants are not for that the event tells.
    pub(crate) fn without_grants(&self) -> Bytes {
        Self::rendered(&self.record, Grants::LeftOut)
    }

    fn rendered(record: &Record, grants: Grants) -> Bytes {
        let mut text = String::with_capacity(record.data().len() + 720);
        let (position, event_type) = (record.position(), record.event_type());
        write!(text, "id: {position}\nevent: {event_type}\ndata: ")
            .expect("writing to a string does not fail");
        event::render_into(&mut text, record, grants);
        text.push_str("\n\n");
        text.into()
    }

    pub(crate) fn position(&self) -> u64 {
        self.record.position().get()
    }
}

/// The newest frames.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: Reader,
    bytes_max: usize,
    step_bytes: usize,
    ring: RwLock<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
}

impl Ring {
    fn first(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.position())
    }

    fn take(&self, from: u64, step_bytes: usize) -> Vec<Arc<Frame>> {
        let skip = self.first().map_or(0, |first| from.saturating_sub(first));
        let mut bytes = 0;
        let frames = self
            .frames
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX));
        let within = frames.take(STEP_RECORDS).take_while(|frame| {
            let fits = bytes == 0 || bytes + frame.bytes.len() <= step_bytes;
            bytes += frame.bytes.len();
            fits
        });
        within.cloned().collect()
    }
}

impl Frames {
    pub(crate) fn new(reader: Reader, options: &SseOptions) -> Self {
        let (bytes_max, step_bytes) = (options.ring_bytes_max, options.chunk_bytes_max);
        Self {
            reader,
            bytes_max,
            step_bytes,
            ring: RwLock::default(),
        }
    }

    /// The next frames from a position on; none when it is the head's next.
    pub(crate) fn read(&self, from: u64) -> Result<Vec<Arc<Frame>>, ReadError> {
        if from >= self.reader.end().get() {
            return Ok(Vec::new());
        }
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let next = ring.frames.back().map(|frame| frame.position() + 1);
        if ring.first().is_some_and(|first| first <= from) && next.is_some_and(|next| from < next) {
            return Ok(ring.take(from, self.step_bytes));
        }
        let is_behind = ring.first().is_some_and(|first| from < first);
        drop(ring);
        let limit = ReadLimit {
            records: STEP_RECORDS,
            bytes: self.step_bytes,
        };
        if is_behind {
            let records = self.reader.read(Position::new(from), limit)?;
            return Ok(records
                .into_iter()
                .map(|record| Arc::new(Frame::of(record)))
                .collect());
        }
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        // Another stream may have rendered it while this one waited.
        let next = ring.frames.back().map(|frame| frame.position() + 1);
        if next != Some(from) {
            if ring.first().is_some_and(|first| first <= from)
                && next.is_some_and(|next| from < next)
            {
                return Ok(ring.take(from, self.step_bytes));
            }
            *ring = Ring::default();
        }
        for record in self.reader.read(Position::new(from), limit)? {
            let frame = Arc::new(Frame::of(record));
            ring.bytes += frame.bytes.len();
            ring.frames.push_back(frame);
        }
        let taken = ring.take(from, self.step_bytes);
        while ring.bytes > self.bytes_max && ring.frames.len() > 1 {
            let dropped = ring.frames.pop_front().map_or(0, |frame| frame.bytes.len());
            ring.bytes -= dropped;
        }
        Ok(taken)
    }
}
