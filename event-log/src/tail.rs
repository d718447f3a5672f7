//! The groups written last, kept in memory for those who follow the log.
//!
//! Invariant: the groups follow each other without a gap and reach up to the durable end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::to_usize;

/// One group as it was written.
pub(crate) struct TailGroup {
    pub(crate) first: u64,
    pub(crate) bytes: Bytes,
    /// Where each record starts in `bytes`.
    pub(crate) starts: Vec<u32>,
}

impl TailGroup {
    fn end(&self) -> u64 {
        self.first + self.starts.len() as u64
    }

    /// The bytes from a record on.
    pub(crate) fn record_at(&self, position: u64) -> Option<Bytes> {
        let index = to_usize(position.checked_sub(self.first)?);
        let start = self.starts.get(index)?;
        let end = self
            .starts
            .get(index + 1)
            .map_or(self.bytes.len(), |next| *next as usize);
        Some(self.bytes.slice(*start as usize..end))
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
        self.bytes += group.bytes.len();
        self.groups.push_back(Arc::new(group));
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.groups.pop_front()
        {
            self.bytes -= oldest.bytes.len();
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

    fn group(first: u64, records: u32) -> TailGroup {
        let bytes = Bytes::from(vec![0; records as usize * 10]);
        TailGroup {
            first,
            bytes,
            starts: (0..records).map(|n| n * 10).collect(),
        }
    }

    #[test]
    fn the_oldest_groups_go_and_the_rest_is_found_by_position() {
        let mut tail = Tail::new(100);
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
        assert_eq!(tail.from(8, 1, 99)[0].record_at(11).unwrap().len(), 10);
        assert!(tail.from(8, 1, 99)[0].record_at(12).is_none());
    }
}
