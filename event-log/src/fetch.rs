//! Getting records: from the tail in memory when they are there, else from the segments.
//!
//! Invariant: a record is handed out only if its checksum fits and it names the position that
//! was asked for.

use std::io;
use std::sync::{Arc, PoisonError};

use crate::batch::Committed;
use crate::codec::{prefix_u64, to_usize};
use crate::digest::EventDigest;
use crate::error::{DamageKind, ReadError};
use crate::frame::{Check, decode};
use crate::id::{Position, Revision};
use crate::index::RunFault;
use crate::record::Record;
use crate::segments::SegmentInfo;
use crate::shared::Shared;
use crate::storage::{StorageFile, read_bytes};
use crate::stream::StreamId;

/// Most records that are located at a time.
const LOCATE_RECORDS_MAX: usize = 4096;
/// Most bytes that are read from a segment at a time, unless one record is larger.
const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes that are asked for at once when a batch is read again.
const BATCH_BYTES: usize = 1 << 20;

/// How much one read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most this many records.
    pub records: usize,
    /// No further record once this many bytes of frames were read; one is always returned.
    pub bytes: usize,
}

impl ReadLimit {
    /// Whether what was read ended at this limit, so that there may be more.
    pub fn is_reached_by(&self, records: &[Record]) -> bool {
        records.len() >= self.records || self.bytes <= frame_bytes(records)
    }
}

/// Bytes of the frames of records.
pub(crate) fn frame_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| record.bytes().len()).sum()
}

impl Shared {
    /// Records from `from` up to the limit, never past the durable end.
    pub(crate) fn read(
        &self,
        from: u64,
        limit: ReadLimit,
        check: Check,
    ) -> Result<Vec<Record>, ReadError> {
        let end = self.end();
        let available = end.saturating_sub(from);
        let count = limit
            .records
            .min(usize::try_from(available).unwrap_or(usize::MAX));
        let mut records = Vec::with_capacity(count.min(LOCATE_RECORDS_MAX));
        let mut bytes = 0_usize;
        while records.len() < count && (records.is_empty() || bytes < limit.bytes) {
            let position = from + records.len() as u64;
            let left = ReadLimit {
                records: count - records.len(),
                bytes: limit.bytes.saturating_sub(bytes),
            };
            let before = records.len();
            if !self.read_tail(position, left, check, &mut records)? {
                let read = self.read_segment(position, left, check, &mut records);
                read.inspect_err(|error| self.stop_if_damaged(error))?;
            }
            bytes += frame_bytes(&records[before..]);
        }
        Ok(records)
    }

    /// Looks something up in the indexes. One that is wrong is made anew; damage that is met in its
    /// segment then stops the writes, as damage that is read does.
    fn looked_up<T>(&self, lookup: impl FnMut() -> Result<T, RunFault>) -> Result<T, ReadError> {
        let found = self.index.repairing(lookup);
        found.inspect_err(|error| self.stop_if_damaged(error))
    }

    /// The record at a position below the end.
    pub(crate) fn record_at(&self, position: u64) -> Result<Record, ReadError> {
        let limit = ReadLimit {
            records: 1,
            bytes: 1,
        };
        let mut records = self.read(position, limit, Check::Checksum)?;
        Ok(records.pop().expect("the position is below the end"))
    }

    /// Digests of records from `from` on, read without the records and without a checksum: for
    /// whoever holds them against a root.
    pub(crate) fn digests(&self, from: u64, count: u64) -> Result<Vec<EventDigest>, ReadError> {
        let count = to_usize(count.min(self.end().saturating_sub(from)));
        let mut digests = Vec::with_capacity(count.min(LOCATE_RECORDS_MAX));
        while digests.len() < count {
            let position = from + digests.len() as u64;
            let limit = ReadLimit {
                records: count - digests.len(),
                bytes: usize::MAX,
            };
            let mut records = Vec::new();
            if self.read_tail(position, limit, Check::Checksum, &mut records)? {
                digests.extend(records.iter().map(Record::digest));
            } else {
                self.digests_in_segment(position, limit.records, &mut digests)?;
            }
        }
        Ok(digests)
    }

    fn digests_in_segment(
        &self,
        from: u64,
        count: usize,
        digests: &mut Vec<EventDigest>,
    ) -> Result<(), ReadError> {
        let segment = self.segment_of(from);
        let unread = |source| ReadError::Io {
            file: segment.name.clone(),
            source: Arc::new(source),
        };
        let count = count.min(LOCATE_RECORDS_MAX);
        let offsets = self.offsets_in(&segment, from, count)?;
        let starts = offsets.unwrap_or_default();
        let starts = starts.split_last().map_or(&[][..], |(_, starts)| starts);
        let file = self.files.open(&segment.name).map_err(unread)?;
        let before = digests.len();
        for start in starts {
            match digest_at(&*file, u64::from(*start)).map_err(unread)? {
                Some(digest) => digests.push(digest),
                None => break,
            }
        }
        if digests.len() > before {
            return Ok(());
        }
        // The record tells where it is wrong, or the table of offsets is made anew.
        self.record_at(from)
            .map(|record| digests.push(record.digest()))
    }

    /// Stops the writes for a record that the one behind it does not name; gives what is told of it.
    pub(crate) fn broken_link(&self, position: u64) -> Result<ReadError, ReadError> {
        let segment = self.segment_of(position);
        let offsets = self.offsets_in(&segment, position, 1)?;
        let offset = offsets.and_then(|offsets| offsets.first().copied());
        let damage = ReadError::Damaged {
            file: segment.name.clone(),
            offset: u64::from(offset.unwrap_or(0)),
            position: Position::new(position),
            kind: DamageKind::Chain,
        };
        self.stop_for_damage(damage.to_string());
        Ok(damage)
    }

    fn read_tail(
        &self,
        from: u64,
        limit: ReadLimit,
        check: Check,
        records: &mut Vec<Record>,
    ) -> Result<bool, ReadError> {
        let groups = {
            let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
            tail.from(from, limit.records, limit.bytes)
        };
        let (mut taken, mut bytes) = (0, 0_usize);
        for group in &groups {
            for record in group.records_from(from + taken as u64) {
                if taken >= limit.records || (taken > 0 && bytes >= limit.bytes) {
                    return Ok(true);
                }
                // What this process wrote itself and still has in memory needs no checksum.
                if check == Check::Digest {
                    decode(record.frame(), Some(check)).map_err(|kind| ReadError::Damaged {
                        file: "memory".to_owned(),
                        offset: 0,
                        position: record.position(),
                        kind,
                    })?;
                }
                bytes = bytes.saturating_add(record.bytes().len());
                records.push(record.clone());
                taken += 1;
            }
        }
        Ok(taken > 0)
    }

    fn read_segment(
        &self,
        from: u64,
        limit: ReadLimit,
        check: Check,
        records: &mut Vec<Record>,
    ) -> Result<(), ReadError> {
        let segment = self.segment_of(from);
        let before = records.len();
        let fault = self.try_segment(&segment, from, limit, check, records)?;
        let Some((fault, offset)) = fault else {
            return Ok(());
        };
        // Perhaps only the table of offsets is wrong.
        records.truncate(before);
        self.index.rebuild_offsets(segment.first)?;
        if self
            .try_segment(&segment, from, limit, check, records)?
            .is_none()
        {
            return Ok(());
        }
        let position = Position::new(from + (records.len() - before) as u64);
        Err(ReadError::Damaged {
            file: segment.name.clone(),
            offset,
            position,
            kind: fault,
        })
    }

    /// Reads what one pass gives; a fault is returned with its place.
    fn try_segment(
        &self,
        segment: &Arc<SegmentInfo>,
        from: u64,
        limit: ReadLimit,
        check: Check,
        records: &mut Vec<Record>,
    ) -> Result<Option<(DamageKind, u64)>, ReadError> {
        let count = limit.records.min(LOCATE_RECORDS_MAX);
        let Some(offsets) = self.offsets_in(segment, from, count)? else {
            return Ok(Some((DamageKind::Index, 0)));
        };
        let budget = limit.bytes.min(READ_BYTES_MAX);
        let start = offsets[0];
        // The span of the first records whose bytes fit the budget, and one more.
        let fitting = offsets[1..].partition_point(|end| {
            end.checked_sub(start)
                .is_some_and(|bytes| (bytes as usize) < budget)
        });
        let taken = (fitting + 1).min(offsets.len() - 1);
        let Some(span) = offsets[taken].checked_sub(start) else {
            return Ok(Some((DamageKind::Index, u64::from(start))));
        };
        let unread = |source| ReadError::Io {
            file: segment.name.clone(),
            source: Arc::new(source),
        };
        let file = self.files.open(&segment.name).map_err(unread)?;
        let chunk = read_bytes(&*file, u64::from(start), span as usize).map_err(unread)?;
        for (index, offset) in offsets[..taken].iter().enumerate() {
            let at = offset
                .checked_sub(start)
                .map_or(usize::MAX, |at| at as usize);
            let record = match chunk.get(at..) {
                Some(_) => decode(&chunk.slice(at..), Some(check)),
                None => Err(DamageKind::Truncated),
            };
            match record {
                Ok(record) if record.position().get() == from + index as u64 => {
                    records.push(record);
                }
                Ok(_) => return Ok(Some((DamageKind::Chain, u64::from(*offset)))),
                Err(kind) => return Ok(Some((kind, u64::from(*offset)))),
            }
        }
        Ok(None)
    }

    /// Offsets of records of a segment from `from` on, and the end of the last.
    fn offsets_in(
        &self,
        segment: &SegmentInfo,
        from: u64,
        count: usize,
    ) -> Result<Option<Vec<u32>>, ReadError> {
        self.looked_up(|| {
            let (active, snapshot) = self
                .index
                .look(|active| active.holds(from).then(|| active.offsets(from, count)));
            match active {
                Some(offsets) => Ok(Some(offsets)),
                None => snapshot.offsets(&self.files, segment.first, from, count),
            }
        })
    }

    /// The stream's last record.
    pub(crate) fn stream_last(
        &self,
        stream: &StreamId,
        hash: u64,
    ) -> Result<Option<Record>, ReadError> {
        let newest = self.looked_up(|| {
            let (newest, snapshot) = self.index.look(|active| active.newest_first(hash).next());
            match newest {
                Some(newest) => Ok(vec![newest]),
                None => snapshot.stream_lasts(&self.files, hash),
            }
        })?;
        if newest.is_empty() {
            return Ok(None);
        }
        if let Some(record) = self.confirm(stream, newest.into_iter().rev())? {
            return Ok(Some(record));
        }
        // Another stream has the same hash: look at all candidates, the newest first.
        let mut all = self.stream_places(hash, 0..=u32::MAX, usize::MAX)?;
        all.sort_unstable_by_key(|(_, position)| *position);
        self.confirm(stream, all.into_iter().rev())
    }

    fn confirm(
        &self,
        stream: &StreamId,
        candidates: impl Iterator<Item = (u32, u64)>,
    ) -> Result<Option<Record>, ReadError> {
        let end = self.end();
        for (_, position) in candidates.filter(|(_, position)| *position < end) {
            let record = self.record_at(position)?;
            if record.stream_id() == stream {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Places of revisions under a stream's hash, sorted by revision.
    pub(crate) fn stream_places(
        &self,
        hash: u64,
        revisions: std::ops::RangeInclusive<u32>,
        count_max: usize,
    ) -> Result<Vec<(u32, u64)>, ReadError> {
        let mut found = self.looked_up(|| {
            let (mut found, snapshot) = self.index.look(|active| {
                let within = active.newest_first(hash);
                within
                    .filter(|(r, _)| revisions.contains(r))
                    .collect::<Vec<_>>()
            });
            // Revisions are dense: once as many as there can be are found, no run need be asked.
            if found.len() < count_max {
                found.extend(snapshot.stream_range(&self.files, hash, &revisions)?);
            }
            Ok(found)
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// The record with this idempotency key.
    pub(crate) fn by_key(&self, key: &[u8; 32]) -> Result<Option<Record>, ReadError> {
        let prefix = prefix_u64(key);
        let places = self.looked_up(|| {
            let (mut found, snapshot) = self.index.look(|active| active.by_key(prefix));
            found.extend(snapshot.by_key(&self.files, prefix)?);
            Ok(found)
        })?;
        self.first_match(places, |record| {
            record
                .idempotency()
                .is_some_and(|idempotency| idempotency.key == *key)
        })
    }

    /// The record with this digest.
    pub(crate) fn by_digest(&self, digest: &[u8; 32]) -> Result<Option<Record>, ReadError> {
        let prefix = prefix_u64(digest);
        let places = self.looked_up(|| {
            let (mut found, snapshot) = self.index.look(|active| active.by_digest(prefix));
            if found.is_empty() {
                found.extend(snapshot.by_digest(&self.files, prefix)?);
            }
            Ok(found)
        })?;
        self.first_match(places, |record| record.digest().as_bytes() == digest)
    }

    fn first_match(
        &self,
        mut places: Vec<u64>,
        matches: impl Fn(&Record) -> bool,
    ) -> Result<Option<Record>, ReadError> {
        places.sort_unstable();
        let end = self.end();
        for position in places.into_iter().filter(|position| *position < end) {
            let record = self.record_at(position)?;
            if matches(&record) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The answer that the batch starting with `first` got.
    pub(crate) fn committed(&self, first: u64) -> Result<Committed, ReadError> {
        let head = self.record_at(first)?;
        let count = usize::from(head.batch_count());
        let mut revisions = Vec::with_capacity(count);
        while revisions.len() < count {
            let limit = ReadLimit {
                records: count - revisions.len(),
                bytes: BATCH_BYTES,
            };
            let records = self.read(first + revisions.len() as u64, limit, Check::Checksum)?;
            assert!(!records.is_empty(), "a batch is durable whole");
            revisions.extend(records.iter().map(Record::revision));
        }
        Ok(Committed {
            first: Position::new(first),
            last: Position::new(first + count as u64 - 1),
            recorded_at_us: head.recorded_at_us(),
            revisions,
            outcome: crate::batch::Outcome::Duplicate,
        })
    }

    /// The last revision as a number the indexes use.
    pub(crate) fn index_revision(revision: Revision) -> u32 {
        u32::try_from(revision.get()).unwrap_or(u32::MAX)
    }

    /// The last position recorded at or before a time.
    pub(crate) fn position_at_time(&self, at_us: i64) -> Result<Option<u64>, ReadError> {
        let end = self.end();
        let (mut low, mut high) = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            // Each segment knows the time of the record before it.
            let behind = segments[1..].partition_point(|s| s.before_recorded_at_us <= at_us);
            let high = segments
                .get(behind + 1)
                .map_or(end, |segment| segment.first.min(end));
            (segments[behind].first.min(end), high)
        };
        // All below `low` are early enough, none from `high` on.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record_at(middle)?.recorded_at_us() <= at_us {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }
}

/// The digest of the record whose frame starts at an offset; none when the file ends before it.
fn digest_at(file: &dyn StorageFile, start: u64) -> io::Result<Option<EventDigest>> {
    let body = read_bytes(file, start, 4)?;
    let Some(body) = body.first_chunk() else {
        return Ok(None);
    };
    let digest = read_bytes(file, start + 8 + u64::from(u32::from_le_bytes(*body)), 32)?;
    Ok(digest.first_chunk().copied().map(EventDigest::from_bytes))
}
