//! Which blobs must not be collected although no event names them yet.
//!
//! Invariant: a blob that was pinned at any time while a collection ran is not taken by it. Its
//! event may have come, and its pin gone, between the moment the collection asked whether the blob
//! is live and the moment it would remove it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Digest;

/// Keeps a blob from collection until it and all its clones are dropped.
pub struct Pin {
    digest: Digest,
    pins: Arc<Pins>,
}

impl Pin {
    /// The blob it keeps.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        self.pins.pin(self.digest)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut table = self.pins.table();
        if let Some(count) = table.counts.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                table.counts.remove(&self.digest);
            }
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pin").field(&self.digest).finish()
    }
}

/// All pins of a store.
#[derive(Default)]
pub(crate) struct Pins {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    counts: HashMap<Digest, u64>,
    /// While a collection runs: all that was pinned since it began.
    touched: Option<HashSet<Digest>>,
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Self>, digest: Digest) -> Pin {
        let mut table = self.table();
        *table.counts.entry(digest).or_default() += 1;
        if let Some(touched) = &mut table.touched {
            touched.insert(digest);
        }
        Pin {
            digest,
            pins: Arc::clone(self),
        }
    }

    /// Begins a collection; it ends when the guard is dropped. Only one runs at a time.
    pub(crate) fn collecting(&self) -> Collecting<'_> {
        let mut table = self.table();
        assert!(table.touched.is_none(), "collections exclude each other");
        table.touched = Some(table.counts.keys().copied().collect());
        Collecting { pins: self }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collection under way.
pub(crate) struct Collecting<'a> {
    pins: &'a Pins,
}

impl Collecting<'_> {
    /// Whether the blob is or was pinned since the collection began.
    pub(crate) fn keeps(&self, digest: &Digest) -> bool {
        self.pins
            .table()
            .touched
            .as_ref()
            .is_some_and(|touched| touched.contains(digest))
    }

    /// Runs `remove` unless the blob is kept; nobody can pin it meanwhile.
    pub(crate) fn unless_kept(&self, digest: &Digest, remove: impl FnOnce()) -> bool {
        let table = self.pins.table();
        if table
            .touched
            .as_ref()
            .is_some_and(|touched| touched.contains(digest))
        {
            return false;
        }
        remove();
        true
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.pins.table().touched = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_kept_until_the_last_clone_of_its_pin_goes() {
        let pins = Arc::new(Pins::default());
        let digest = Digest::of(b"a");
        let first = pins.pin(digest);
        let second = first.clone();
        drop(first);
        assert!(pins.collecting().keeps(&digest));
        drop(second);
        assert!(!pins.collecting().keeps(&digest));
    }

    #[test]
    fn a_pin_that_came_and_went_during_a_collection_still_keeps_its_blob() {
        let pins = Arc::new(Pins::default());
        let digest = Digest::of(b"a");
        let collecting = pins.collecting();
        drop(pins.pin(digest));
        assert!(!collecting.unless_kept(&digest, || panic!("must not be removed")));
    }
}
