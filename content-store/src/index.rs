//! Where each blob is said to stand, in memory.
//!
//! A slot holds eight bytes of the digest, so it is a hint: who follows it must find the digest in
//! the entry's own header. It costs 16 bytes, some 25 with the tree around it.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Digest;
use crate::pack::ALIGN_BYTES;

/// A place where a blob may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) prefix: u64,
    /// The pack, or 0 for a file of its own.
    pub(crate) pack: u32,
    /// The entry's offset divided by 8; of a file of its own: more of the digest.
    pub(crate) unit: u32,
}

impl Slot {
    pub(crate) fn packed(digest: &Digest, pack: u32, offset: u64) -> Self {
        let unit = u32::try_from(offset / ALIGN_BYTES).expect("a pack has at most 4 GiB");
        Self {
            prefix: digest.prefix(),
            pack,
            unit,
        }
    }

    pub(crate) fn large(digest: &Digest) -> Self {
        Self {
            prefix: digest.prefix(),
            pack: 0,
            unit: digest.infix(),
        }
    }

    pub(crate) fn is_large(&self) -> bool {
        self.pack == 0
    }

    /// Where the entry begins in its pack.
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.unit) * ALIGN_BYTES
    }
}

/// All slots of a store.
#[derive(Default)]
pub(crate) struct Index {
    slots: RwLock<BTreeSet<Slot>>,
}

impl Index {
    pub(crate) fn new(slots: BTreeSet<Slot>) -> Self {
        Self {
            slots: RwLock::new(slots),
        }
    }

    /// The slots that may hold the blob; nearly always one or none. The highest pack comes first.
    pub(crate) fn find(&self, digest: &Digest) -> Vec<Slot> {
        let prefix = digest.prefix();
        let from = Slot {
            prefix,
            pack: 0,
            unit: 0,
        };
        let to = Slot {
            prefix,
            pack: u32::MAX,
            unit: u32::MAX,
        };
        self.read().range(from..=to).rev().copied().collect()
    }

    pub(crate) fn contains(&self, slot: &Slot) -> bool {
        self.read().contains(slot)
    }

    /// Adds and removes in one step.
    pub(crate) fn change(&self, add: &[Slot], remove: &[Slot]) {
        let mut slots = self.write();
        for slot in remove {
            slots.remove(slot);
        }
        slots.extend(add);
    }

    /// Moves a blob, if it is still where it was.
    pub(crate) fn relocate(&self, from: &Slot, to: Slot) -> bool {
        let mut slots = self.write();
        let was_there = slots.remove(from);
        if was_there {
            slots.insert(to);
        }
        was_there
    }

    pub(crate) fn replace_all(&self, slots: BTreeSet<Slot>) {
        *self.write() = slots;
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeSet<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeSet<Slot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_with_equal_prefixes_keep_slots_of_their_own() {
        let one = Digest::from_bytes([7; 32]);
        let mut other = [7; 32];
        other[31] = 8;
        let other = Digest::from_bytes(other);
        let index = Index::default();
        let (first, second) = (Slot::packed(&one, 1, 64), Slot::packed(&other, 2, 64));
        index.change(&[first, second], &[]);
        assert_eq!(index.find(&one), [second, first]);
        index.change(&[], &[second]);
        assert_eq!(index.find(&other), [first]);
    }

    #[test]
    fn a_blob_that_was_removed_meanwhile_is_not_moved_back_in() {
        let digest = Digest::of(b"a");
        let index = Index::default();
        let (from, to) = (Slot::packed(&digest, 1, 64), Slot::packed(&digest, 2, 64));
        assert!(!index.relocate(&from, to));
        assert_eq!(index.len(), 0);
        index.change(&[from], &[]);
        assert!(index.relocate(&from, to));
        assert_eq!(index.find(&digest), [to]);
    }
}
