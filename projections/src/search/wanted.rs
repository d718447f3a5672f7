//! Which positions are waited for, so that a batch is committed at once where somebody waits for
//! what it holds, and not where somebody waits for what comes much later.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The ends that are waited for, with how many wait for each.
#[derive(Default)]
pub(super) struct Wanted {
    ends: Mutex<BTreeMap<u64, usize>>,
}

/// Somebody who waits, until it is dropped.
pub(super) struct Waiting<'a> {
    wanted: &'a Wanted,
    end: u64,
}

impl Wanted {
    /// Notes that somebody waits for so many records.
    pub(super) fn note(&self, end: u64) -> Waiting<'_> {
        *self.ends().entry(end).or_default() += 1;
        Waiting { wanted: self, end }
    }

    /// Whether somebody waits for more than `visible` records, and `folded` would do.
    pub(super) fn between(&self, visible: u64, folded: u64) -> bool {
        let beyond = visible.saturating_add(1)..=folded.max(visible.saturating_add(1));
        folded > visible && self.ends().range(beyond).next().is_some()
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut ends = self.wanted.ends();
        if let Some(count) = ends.get_mut(&self.end) {
            *count -= 1;
            if *count == 0 {
                ends.remove(&self.end);
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
        let two = (wanted.note(5), wanted.note(5));
        assert!(wanted.between(4, 5));
        assert!(!wanted.between(5, 9) && !wanted.between(2, 4) && !wanted.between(9, 3));
        drop(two.0);
        assert!(wanted.between(4, 5));
        drop(two.1);
        assert!(!wanted.between(4, 5));
    }
}
