//! Which positions are waited for, so that a batch is committed at once where somebody waits for
//! what it holds, and not where somebody waits for what comes much later.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long who waits can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Haste {
    /// Until a commit is worth it for all that there is by then.
    Shared,
    /// No longer than a commit takes.
    AtOnce,
}

/// The ends that are waited for, with how many wait for each.
#[derive(Default)]
pub(super) struct Wanted {
    ends: Mutex<BTreeMap<(u64, Haste), usize>>,
}

/// Somebody who waits, until it is dropped.
pub(super) struct Waiting<'a> {
    wanted: &'a Wanted,
    wait: (u64, Haste),
}

impl Wanted {
    /// Notes that somebody waits for so many records.
    pub(super) fn note(&self, end: u64, haste: Haste) -> Waiting<'_> {
        let wait = (end, haste);
        *self.ends().entry(wait).or_default() += 1;
        Waiting { wanted: self, wait }
    }

    /// Whether somebody waits for more than `visible` records, and `folded` would do: the greatest
    /// haste of those.
    pub(super) fn between(&self, visible: u64, folded: u64) -> Option<Haste> {
        if folded <= visible {
            return None;
        }
        let beyond = (visible + 1, Haste::Shared)..=(folded, Haste::AtOnce);
        let ends = self.ends();
        let waits = ends.range(beyond).map(|((_, haste), _)| *haste);
        waits.max()
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<(u64, Haste), usize>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut ends = self.wanted.ends();
        if let Some(count) = ends.get_mut(&self.wait) {
            *count -= 1;
            if *count == 0 {
                ends.remove(&self.wait);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_for_what_is_folded_and_not_visible_counts() {
        let wanted = Wanted::default();
        let two = (wanted.note(5, Haste::Shared), wanted.note(5, Haste::Shared));
        let shared = Some(Haste::Shared);
        assert_eq!(wanted.between(4, 5), shared);
        for (visible, folded) in [(5, 9), (2, 4), (9, 3), (5, 5)] {
            assert_eq!(wanted.between(visible, folded), None);
        }
        drop(two.0);
        assert_eq!(wanted.between(4, 5), shared);
        let hasty = wanted.note(4, Haste::AtOnce);
        assert_eq!(wanted.between(3, 6), Some(Haste::AtOnce));
        assert_eq!(wanted.between(4, 6), shared);
        drop(hasty);
        drop(two.1);
        assert_eq!(wanted.between(3, 6), None);
    }
}
