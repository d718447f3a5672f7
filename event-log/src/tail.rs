//! The groups written last, kept in memory for those who follow the log.
//!
//! Invariant: the groups follow each other without a gap and reach up to the durable end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::to_usize;
use crate::record::Record;

/// One group as it was written.
pub(crate) struct TailGroup {
    pub(crate) first: u64,
    pub(crate) bytes: Bytes,
    /// Its records, which share `bytes`: read once for all who follow.
    pub(crate) records: Vec<Record>,
}

impl TailGroup {
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Bytes that it takes in memory.
    fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Record>()
    }

    /// The records from a position on.
    pub(crate) fn records_from(&self, position: u64) -> &[Record] {
        let index = position.checked_sub(self.first).map(to_usize);
        let records = index.and_then(|index| self.records.get(index..));
        records.unwrap_or_default()
    }
}

/// The groups written last.
pub(crate) struct Tail {
    groups: VecDeque<Arc<TailGroup>>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            groups: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn push(&mut self, group: TailGroup) {
        self.bytes += group.memory_bytes();
        self.groups.push_back(Arc::new(group));
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.groups.pop_front()
        {
            self.bytes -= oldest.memory_bytes();
        }
    }

    /// Groups from the one that holds `position` on, until they hold `records` or `bytes`.
    pub(crate) fn from(&self, position: u64, records: usize, bytes: usize) -> Vec<Arc<TailGroup>> {
        let mut found = Vec::new();
        if self
            .groups
            .front()
            .is_none_or(|oldest| position < oldest.first)
        {
            return found;
        }
        let index = self.groups.partition_point(|group| group.end() <= position);
        let mut held = (0_u64, 0_usize);
        for group in self.groups.range(index..) {
            if held.0 >= records as u64 || held.1 >= bytes {
                break;
            }
            held.0 += group.end() - group.first.max(position);
            // What stands before the position in the first group is not asked for.
            if group.first >= position {
                held.1 = held.1.saturating_add(group.bytes.len());
            }
            found.push(Arc::clone(group));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Metadata, NewEvent};
    use crate::frame::{Draft, decode, encode};
    use crate::stream::{EventType, StreamId};

    fn group(first: u64, count: u64) -> TailGroup {
        let event = NewEvent {
            stream: StreamId::new("s").unwrap(),
            event_type: EventType::new("x").unwrap(),
            schema_version: 1,
            data: Bytes::new(),
        };
        let record = |position: u64| {
            let mut out = Vec::new();
            let draft = Draft {
                position,
                revision: 0,
                recorded_at_us: 0,
                batch_index: 0,
                batch_count: 1,
                previous: &[0; 32],
                previous_in_stream: None,
                idempotency: None,
                order: None,
                metadata: &Metadata::default(),
                event: &event,
            };
            encode(&mut out, &draft);
            decode(&Bytes::from(out), None).unwrap()
        };
        TailGroup {
            first,
            bytes: Bytes::from(vec![0; to_usize(count) * 10]),
            records: (first..first + count).map(record).collect(),
        }
    }

    #[test]
    fn the_oldest_groups_go_and_the_rest_is_found_by_position() {
        let mut tail = Tail::new(2 * group(0, 4).memory_bytes() + 10);
        for first in [0, 4, 8] {
            tail.push(group(first, 4));
        }
        assert!(tail.from(3, 9, 999).is_empty(), "the first group had to go");
        let firsts = |from, records| {
            tail.from(from, records, 999)
                .iter()
                .map(|group| group.first)
                .collect::<Vec<_>>()
        };
        assert_eq!(firsts(4, 9), [4, 8]);
        assert_eq!(firsts(5, 3), [4]);
        assert_eq!(firsts(8, 1), [8]);
        assert!(firsts(12, 1).is_empty());
        let last = &tail.from(8, 1, 99)[0];
        assert_eq!(last.records_from(11)[0].position().get(), 11);
        assert!(last.records_from(12).is_empty() && last.records_from(7).is_empty());
    }
}
