//! Reading the log: by position, by stream, by identity and by time.
//!
//! Invariant: nothing past the durable end is ever seen, and no read waits for the writer.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use crate::batch::FirstUse;
use crate::codec::to_usize;
use crate::digest::{EventDigest, RootHash};
use crate::error::{OpenError, ReadError};
use crate::fetch::{ReadLimit, frame_bytes};
use crate::frame::{Check, stream_hash};
use crate::id::{LogId, Position, Revision};
use crate::record::Record;
use crate::segment::segment_first;
use crate::shared::Shared;
use crate::stream::StreamId;

/// Records of a stream that are read at once where they stand in a row.
const ROW_RECORDS: usize = 32;
/// The limit of whoever looks at one record.
const ONE: ReadLimit = ReadLimit {
    records: 1,
    bytes: 1,
};

/// Reads a log; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// The last durable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its position.
    pub position: Position,
    /// Its digest.
    pub digest: EventDigest,
    /// When it was recorded, in microseconds since 1970.
    pub recorded_at_us: i64,
}

/// Which way a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From older to newer.
    Forward,
    /// From newer to older.
    Backward,
}

/// A part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRange {
    /// The first revision that is returned. Backward, a revision behind the last means the last.
    pub from: Revision,
    /// Which way to go from there.
    pub direction: Direction,
    /// How much is returned at the most.
    pub limit: ReadLimit,
}

/// Records of a stream that were read.
struct OfStream {
    records: Vec<Record>,
    /// Whether every place that was come to was one of the stream's, and all are durable.
    is_whole: bool,
}

/// What the log takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// Segment files.
    pub segments: usize,
    /// Their bytes, room that is not used yet included.
    pub segment_bytes: u64,
    /// Bytes of derived indexes.
    pub index_bytes: u64,
    /// Bytes of torn tails that were kept.
    pub cut_bytes: u64,
    /// Bytes of everything else: a segment being prepared, the head mark, the lock.
    pub other_bytes: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The position that the next record will get: the number of durable records.
    pub fn end(&self) -> Position {
        Position::new(self.shared.end())
    }

    /// The last durable record.
    pub fn head(&self) -> Option<Head> {
        let chain = self
            .shared
            .head
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Some(Head {
            position: Position::new(chain.end.checked_sub(1)?),
            digest: EventDigest::from_bytes(chain.digest),
            recorded_at_us: chain.recorded_at_us,
        })
    }

    /// Tells the end each time it has moved; steps that nobody looked at are left out.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.shared.follow()
    }

    /// Records from a position on, never past the durable end; their checksums are checked.
    pub fn read(&self, from: Position, limit: ReadLimit) -> Result<Vec<Record>, ReadError> {
        self.read_checked(from, limit, Check::Checksum)
    }

    /// The same, looking at the records as closely as asked.
    pub fn read_checked(
        &self,
        from: Position,
        limit: ReadLimit,
        check: Check,
    ) -> Result<Vec<Record>, ReadError> {
        match self.shared.read(from.get(), limit, check) {
            // What stands before the damage is given; it is told when it comes first.
            Err(ReadError::Damaged { position, .. }) if position > from => {
                let before = usize::try_from(position.get() - from.get()).unwrap_or(usize::MAX);
                let records = limit.records.min(before);
                self.shared
                    .read(from.get(), ReadLimit { records, ..limit }, check)
            }
            read => read,
        }
    }

    /// The record at a position; none when it is not durable yet.
    pub fn read_one(&self, position: Position) -> Result<Option<Record>, ReadError> {
        if position.get() >= self.shared.end() {
            return Ok(None);
        }
        self.shared.record_at(position.get()).map(Some)
    }

    /// The digests of records from a position on, up to the durable end. They are read without the
    /// records and without a checksum: for whoever holds them against a root.
    pub(crate) fn digests(
        &self,
        from: Position,
        count: u64,
    ) -> Result<Vec<EventDigest>, ReadError> {
        self.shared.digests(from.get(), count)
    }

    /// What is told of a record that the one behind it does not name. The log takes no more writes.
    pub(crate) fn broken_link(&self, position: Position) -> Result<ReadError, ReadError> {
        self.shared.broken_link(position.get())
    }

    /// Records of one stream.
    pub fn read_stream(
        &self,
        stream: &StreamId,
        range: StreamRange,
    ) -> Result<Vec<Record>, ReadError> {
        let records_max = range.limit.records;
        if records_max == 0 {
            return Ok(Vec::new());
        }
        let count = u32::try_from(records_max - 1).unwrap_or(u32::MAX);
        let mut from = Shared::index_revision(range.from);
        let revisions = match range.direction {
            Direction::Forward => from..=from.saturating_add(count),
            Direction::Backward => {
                let Some(last) = self.stream_head(stream)? else {
                    return Ok(Vec::new());
                };
                from = from.min(Shared::index_revision(last));
                from.saturating_sub(count)..=from
            }
        };
        let hash = self.hash(stream);
        let places = self
            .shared
            .stream_places(hash, revisions.clone(), records_max)?;
        let is_dense = places.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1)
            && places
                .first()
                .is_none_or(|(first, _)| first == revisions.start());
        let found = self.records_of(stream, &places, range)?;
        if is_dense && found.is_whole {
            return Ok(found.records);
        }
        // A stream of another name has the same hash, and may have hidden older places.
        let places = self.shared.stream_places(hash, revisions, usize::MAX)?;
        Ok(self.records_of(stream, &places, range)?.records)
    }

    /// The last revision of a stream; none when it has no record.
    pub fn stream_head(&self, stream: &StreamId) -> Result<Option<Revision>, ReadError> {
        let last = self.shared.stream_last(stream, self.hash(stream))?;
        Ok(last.map(|record| record.revision()))
    }

    /// The first revision of a stream that does not stand before a position; the one behind the
    /// last where all do. It looks at as many records as the number of them has digits, in binary.
    pub fn revision_from(
        &self,
        stream: &StreamId,
        position: Position,
    ) -> Result<Revision, ReadError> {
        let last = self.shared.stream_last(stream, self.hash(stream))?;
        let Some(last) = last.filter(|_| position.get() > 0) else {
            return Ok(Revision::new(0));
        };
        if last.position() < position {
            return Ok(last.revision().next());
        }
        // All below `low` stand before the position, and `high` does not.
        let (mut low, mut high) = (0, last.revision().get());
        while low < high {
            let middle = u64::midpoint(low, high);
            let range = StreamRange {
                from: Revision::new(middle),
                direction: Direction::Forward,
                limit: ONE,
            };
            match self.read_stream(stream, range)?.pop() {
                Some(record) if record.position() < position => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(Revision::new(low))
    }

    /// Where the event with this identity stands.
    pub fn position_of(&self, digest: &EventDigest) -> Result<Option<Position>, ReadError> {
        Ok(self
            .shared
            .by_digest(digest.as_bytes())?
            .map(|record| record.position()))
    }

    /// The last position recorded at or before a time in microseconds since 1970.
    pub fn position_at_time(&self, at_us: i64) -> Result<Option<Position>, ReadError> {
        Ok(self.shared.position_at_time(at_us)?.map(Position::new))
    }

    /// The batch that used an idempotency key first.
    pub fn idempotent(&self, key: &[u8; 32]) -> Result<Option<FirstUse>, ReadError> {
        let Some(record) = self.shared.by_key(key)? else {
            return Ok(None);
        };
        let first = record.position();
        Ok(record.idempotency().map(|idempotency| FirstUse {
            request: idempotency.request,
            first,
            last: Position::new(first.get() + u64::from(record.batch_count()) - 1),
        }))
    }

    /// The Merkle root over all durable records, and how many they are.
    pub fn root(&self) -> (u64, RootHash) {
        let merkle = {
            let chain = self
                .shared
                .head
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            chain.merkle.clone()
        };
        (merkle.size(), RootHash::from_bytes(merkle.root()))
    }

    /// Which log this is.
    pub fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    /// What the log takes on disk now.
    pub fn disk(&self) -> io::Result<DiskUse> {
        let mut disk = DiskUse::default();
        for file in self.shared.files.storage().list()? {
            if segment_first(&file.name).is_some() {
                disk.segments += 1;
                disk.segment_bytes += file.bytes;
            } else if file.name.starts_with("index/") {
                disk.index_bytes += file.bytes;
            } else if file.name.starts_with("cut-") {
                disk.cut_bytes += file.bytes;
            } else {
                disk.other_bytes += file.bytes;
            }
        }
        Ok(disk)
    }

    /// Looks for what another process wrote since; returns the end. A reader that has its writer
    /// in the same process always sees everything and has nothing to do here.
    pub fn refresh(&self) -> Result<Position, OpenError> {
        crate::refresh::refresh(&self.shared)?;
        Ok(self.end())
    }

    /// Records at these places that are of the stream and durable, in the order of the range.
    fn records_of(
        &self,
        stream: &StreamId,
        places: &[(u32, u64)],
        range: StreamRange,
    ) -> Result<OfStream, ReadError> {
        let end = self.shared.end();
        let positions = places.iter().map(|(_, position)| *position);
        let mut positions: Vec<u64> = positions.filter(|position| *position < end).collect();
        if range.direction == Direction::Backward {
            positions.reverse();
        }
        let mut found = OfStream {
            is_whole: positions.len() == places.len(),
            records: Vec::with_capacity(positions.len()),
        };
        let mut left = range.limit.bytes;
        // What a batch wrote of one stream stands in a row, and is read at once, few at a time: who
        // keeps one record keeps the bytes of those that were read with it.
        let rows = positions.chunk_by(|before, position| match range.direction {
            Direction::Forward => before + 1 == *position,
            Direction::Backward => *position + 1 == *before,
        });
        for row in rows.flat_map(|row| row.chunks(ROW_RECORDS)) {
            let mut is_own = |record: &Record| {
                let is_own = record.stream_id() == stream;
                found.is_whole &= is_own;
                is_own
            };
            let limit = ReadLimit {
                records: row.len(),
                bytes: left,
            };
            let read = match range.direction {
                Direction::Forward => self.oldest_of(row[0], limit, &mut is_own)?,
                Direction::Backward => self.newest_of(row[row.len() - 1], limit, &mut is_own)?,
            };
            left = left.saturating_sub(frame_bytes(&read));
            found.records.extend(read);
            if left == 0 && !found.records.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The oldest of so many records in a row that are wanted, until they have so many bytes.
    fn oldest_of(
        &self,
        first: u64,
        limit: ReadLimit,
        is_wanted: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<Record>, ReadError> {
        let (end, mut next) = (first + limit.records as u64, first);
        let mut oldest = Vec::with_capacity(limit.records);
        while next < end && (oldest.is_empty() || frame_bytes(&oldest) < limit.bytes) {
            let bytes = limit.bytes.saturating_sub(frame_bytes(&oldest));
            oldest.extend(self.wanted_of(&mut next, end, bytes, is_wanted)?);
        }
        Ok(oldest)
    }

    /// The newest of so many records in a row that are wanted, the newest first, until they have so
    /// many bytes. Twice as many are held at the most, or two records.
    fn newest_of(
        &self,
        first: u64,
        limit: ReadLimit,
        is_wanted: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<Record>, ReadError> {
        let (end, mut next) = (first + limit.records as u64, first);
        let (mut newest, mut held) = (VecDeque::with_capacity(limit.records), 0);
        while next < end {
            let wanted = self.wanted_of(&mut next, end, limit.bytes, is_wanted)?;
            held += frame_bytes(&wanted);
            newest.extend(wanted);
            while let Some(oldest) = newest.front().map(|oldest: &Record| oldest.bytes().len())
                && newest.len() > 1
                && held - oldest >= limit.bytes
            {
                newest.pop_front();
                held -= oldest;
            }
        }
        Ok(newest.into_iter().rev().collect())
    }

    /// Reads on from `next` up to so many bytes, and gives what is wanted of it.
    fn wanted_of(
        &self,
        next: &mut u64,
        end: u64,
        bytes: usize,
        is_wanted: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<Record>, ReadError> {
        let records = to_usize(end - *next);
        let limit = ReadLimit { records, bytes };
        let mut read = self.shared.read(*next, limit, Check::Checksum)?;
        *next += read.len() as u64;
        read.retain(|record| is_wanted(record));
        Ok(read)
    }

    fn hash(&self, stream: &StreamId) -> u64 {
        stream_hash(self.shared.index.log_key(), stream.as_str())
    }
}
