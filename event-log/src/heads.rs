//! The last records of the streams written to lately.
//!
//! Invariant: an entry is always the stream's true last durable record; what is not here is
//! looked up in the indexes.

use std::collections::HashMap;

use crate::admit::StreamHead;
use crate::stream::StreamId;

/// Two generations: when the young one is full the old one is dropped and the young grows old.
pub(crate) struct Heads {
    young: HashMap<StreamId, StreamHead>,
    old: HashMap<StreamId, StreamHead>,
    young_max: usize,
}

impl Heads {
    pub(crate) fn new(heads_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_max: heads_max / 2,
        }
    }

    pub(crate) fn get(&mut self, stream: &StreamId) -> Option<StreamHead> {
        if let Some(head) = self.young.get(stream) {
            return Some(*head);
        }
        let (stream, head) = self.old.remove_entry(stream)?;
        self.put(stream, head);
        Some(head)
    }

    pub(crate) fn put(&mut self, stream: StreamId, head: StreamHead) {
        self.old.remove(&stream);
        self.young.insert(stream, head);
        if self.young.len() >= self.young_max {
            self.old = std::mem::take(&mut self.young);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_in_use_stay_and_the_number_is_bounded() {
        let mut heads = Heads::new(8);
        let stream = |n: u64| StreamId::new(format!("s-{n}")).unwrap();
        for n in 0..100 {
            heads.put(
                stream(n),
                StreamHead {
                    revision: n,
                    digest: [0; 32],
                },
            );
            heads.put(
                stream(0),
                StreamHead {
                    revision: n,
                    digest: [1; 32],
                },
            );
            assert_eq!(heads.get(&stream(0)).unwrap().revision, n);
            assert!(heads.young.len() + heads.old.len() <= 8);
        }
        assert_eq!(heads.get(&stream(1)), None);
        assert_eq!(heads.get(&stream(99)).unwrap().revision, 99);
    }
}
