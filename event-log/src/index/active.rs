//! The index over one segment, in memory: the one being written, or one whose files are not
//! built yet.
//!
//! Invariant: entry `i` belongs to position `first + i`.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::codec::{prefix_u64, to_u32, to_usize};
use crate::record::Record;

/// No older entry of the same stream.
const NONE: u32 = u32::MAX;

/// What the index keeps of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stream: u64,
    pub(crate) digest: u64,
    /// Prefix of the idempotency key, when the record has one.
    pub(crate) key: Option<u64>,
    pub(crate) revision: u32,
    /// Where the frame starts and ends in the segment.
    pub(crate) offset: u32,
    pub(crate) end_offset: u32,
}

impl Entry {
    /// The entry of a record that was read at `offset`.
    pub(crate) fn of(record: &Record, offset: u64, log_key: &[u8; 32]) -> Option<Self> {
        let offset = u32::try_from(offset).ok()?;
        Some(Self {
            stream: crate::frame::stream_hash(log_key, record.stream()),
            digest: prefix_u64(record.digest().as_bytes()),
            key: record
                .idempotency()
                .map(|idempotency| prefix_u64(&idempotency.key)),
            revision: u32::try_from(record.revision().get()).ok()?,
            offset,
            end_offset: offset.checked_add(to_u32(record.bytes().len()))?,
        })
    }
}

struct Row {
    stream: u64,
    digest: u64,
    revision: u32,
    offset: u32,
    older: u32,
}

/// Leaves a number that is already a hash as it is.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type ByHash = HashMap<u64, u32, BuildHasherDefault<Identity>>;

/// Places by a prefix that may, very rarely, be shared.
#[derive(Default)]
struct Prefixes {
    newest: ByHash,
    shared: Vec<(u64, u32)>,
}

impl Prefixes {
    fn insert(&mut self, prefix: u64, index: u32) {
        if let Some(older) = self.newest.insert(prefix, index) {
            self.shared.push((prefix, older));
        }
    }

    fn get(&self, prefix: u64) -> Vec<u32> {
        let Some(newest) = self.newest.get(&prefix) else {
            return Vec::new();
        };
        let shared = self.shared.iter().filter(|(other, _)| *other == prefix);
        std::iter::once(*newest)
            .chain(shared.map(|(_, index)| *index))
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = (u64, u32)> {
        let newest = self.newest.iter().map(|(prefix, index)| (*prefix, *index));
        newest.chain(self.shared.iter().copied())
    }

    fn len(&self) -> usize {
        self.newest.len() + self.shared.len()
    }
}

/// The index over one segment.
pub(crate) struct Active {
    first: u64,
    rows: Vec<Row>,
    end_offset: u32,
    streams: ByHash,
    digests: Prefixes,
    keys: Prefixes,
}

impl Active {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            rows: Vec::new(),
            end_offset: 0,
            streams: ByHash::default(),
            digests: Prefixes::default(),
            keys: Prefixes::default(),
        }
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        let index = to_u32(self.rows.len());
        let older = self.streams.insert(entry.stream, index).unwrap_or(NONE);
        self.digests.insert(entry.digest, index);
        if let Some(key) = entry.key {
            self.keys.insert(key, index);
        }
        self.end_offset = entry.end_offset;
        self.rows.push(Row {
            stream: entry.stream,
            digest: entry.digest,
            revision: entry.revision,
            offset: entry.offset,
            older,
        });
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    pub(crate) fn holds(&self, position: u64) -> bool {
        (self.first..self.end()).contains(&position)
    }

    /// Where up to `count` records from `position` start, and where the last of them ends.
    pub(crate) fn offsets(&self, position: u64, count: usize) -> Vec<u32> {
        let from = to_usize(position - self.first);
        let to = self.rows.len().min(from.saturating_add(count));
        let starts = self.rows[from..to].iter().map(|row| row.offset);
        let end = self.rows.get(to).map_or(self.end_offset, |row| row.offset);
        starts.chain([end]).collect()
    }

    /// Entries with this stream's hash, the newest first, as revision and position.
    pub(crate) fn newest_first(&self, stream: u64) -> impl Iterator<Item = (u32, u64)> {
        let mut next = self.streams.get(&stream).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let index = next;
            let row = self.rows.get(index as usize)?;
            next = row.older;
            Some((row.revision, self.first + u64::from(index)))
        })
    }

    pub(crate) fn by_digest(&self, prefix: u64) -> Vec<u64> {
        self.digests
            .get(prefix)
            .into_iter()
            .map(|at| self.first + u64::from(at))
            .collect()
    }

    pub(crate) fn by_key(&self, prefix: u64) -> Vec<u64> {
        self.keys
            .get(prefix)
            .into_iter()
            .map(|at| self.first + u64::from(at))
            .collect()
    }

    /// Number of different streams.
    pub(crate) fn n_streams(&self) -> u64 {
        self.streams.len() as u64
    }

    pub(crate) fn n_keys(&self) -> u64 {
        self.keys.len() as u64
    }

    /// All entries as stream hash, revision and index in the segment, unsorted.
    pub(crate) fn stream_entries(&self) -> impl Iterator<Item = (u64, u32, u32)> {
        self.rows
            .iter()
            .zip(0..)
            .map(|(row, index)| (row.stream, row.revision, index))
    }

    /// All entries as digest prefix and index in the segment, unsorted.
    pub(crate) fn digest_entries(&self) -> impl Iterator<Item = (u64, u32)> {
        self.rows
            .iter()
            .zip(0..)
            .map(|(row, index)| (row.digest, index))
    }

    /// All idempotency keys as prefix and index in the segment, unsorted.
    pub(crate) fn key_entries(&self) -> impl Iterator<Item = (u64, u32)> {
        self.keys.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_stream_digest_key_and_position() {
        let mut active = Active::new(100);
        for n in 0..6_u32 {
            active.push(&Entry {
                stream: u64::from(n % 2),
                digest: u64::from(n / 2),
                key: (n == 3).then_some(77),
                revision: n / 2,
                offset: 4096 + n * 300,
                end_offset: 4096 + n * 300 + 290,
            });
        }
        assert_eq!(
            active.newest_first(1).collect::<Vec<_>>(),
            [(2, 105), (1, 103), (0, 101)]
        );
        assert_eq!(active.newest_first(9).count(), 0);
        assert_eq!(active.by_digest(1), [103, 102]);
        assert_eq!(active.by_key(77), [103]);
        assert_eq!(
            active.offsets(104, 9),
            [4096 + 1200, 4096 + 1500, 4096 + 1790]
        );
        assert_eq!(active.offsets(100, 1), [4096, 4396]);
    }
}
