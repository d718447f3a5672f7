//! When a batch is worth its commit.
//!
//! A commit costs time however small it is, and more for what is large; what is changed again right
//! behind it is written twice. So changes are gathered for about as long as committing them will
//! take, by what commits took so far, where somebody waits who has time: then those who come
//! together share a commit. Where nobody waits they are gathered for longer, so that the stages of a
//! large document are one batch. Invariant: whoever waits for a position
//! [at once](super::SearchProjection::wait_for) is not kept waiting by any of this.

use std::time::Duration;

/// Longest time that changes are gathered because committing them takes long.
pub(super) const GATHER_MAX: Duration = Duration::from_secs(30);
/// As many times as long as a commit is likely to take are changes gathered that nobody waits for.
const UNWANTED_TIMES: u32 = 3;
/// What the smallest commit is taken to cost before there was one.
const SMALL_COST: Duration = Duration::from_millis(100);
/// Bytes up to which a commit tells what a small one costs, and beyond which what bytes cost.
const SMALL_BYTES: usize = 1 << 20;
/// What a byte is taken to cost before a large commit was made: 4 MiB a second.
const BYTE_COST_NS: u64 = 240;

/// What commits cost.
#[derive(Debug)]
pub(super) struct Pace {
    small: Duration,
    byte_ns: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            small: SMALL_COST,
            byte_ns: BYTE_COST_NS,
        }
    }
}

impl Pace {
    /// Takes in what a commit of so many bytes cost; the last ones count the most.
    pub(super) fn note(&mut self, bytes: usize, took: Duration) {
        if bytes <= SMALL_BYTES {
            self.small = (3 * self.small + took) / 4;
            return;
        }
        let took = took.saturating_sub(self.small).as_nanos() / bytes as u128;
        let took = u64::try_from(took).unwrap_or(u64::MAX / 4);
        self.byte_ns = u64::midpoint(self.byte_ns, took);
    }

    /// How long a commit of so many bytes is likely to take.
    pub(super) fn likely(&self, bytes: usize) -> Duration {
        let of_bytes = Duration::from_nanos(self.byte_ns.saturating_mul(bytes as u64));
        self.small.saturating_add(of_bytes)
    }

    /// How long changes of so many bytes are gathered that somebody waits for who has time.
    pub(super) fn gather_wanted(&self, bytes: usize) -> Duration {
        self.likely(bytes).min(GATHER_MAX)
    }

    /// How long those are gathered that nobody waits for.
    pub(super) fn gather_unwanted(&self, bytes: usize) -> Duration {
        let likely = self.likely(bytes).min(GATHER_MAX);
        (UNWANTED_TIMES * likely).min(GATHER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    #[test]
    fn changes_are_gathered_for_as_long_as_commits_like_theirs_took_lately() {
        let mut pace = Pace::default();
        assert_eq!(pace.gather_wanted(0), SMALL_COST);
        for _ in 0..40 {
            pace.note(1000, Duration::from_millis(20));
            pace.note(10 * MB, Duration::from_millis(5_020));
        }
        let near = |bytes, ms: u64| {
            let gather = pace.gather_wanted(bytes);
            let off = gather.abs_diff(Duration::from_millis(ms));
            assert!(
                off <= Duration::from_millis(1 + ms / 50),
                "{gather:?} of {bytes}"
            );
            assert_eq!(pace.gather_unwanted(bytes), (3 * gather).min(GATHER_MAX));
        };
        near(0, 20);
        near(MB, 520);
        near(20 * MB, 10_020);
        assert_eq!(pace.gather_wanted(1000 * MB), GATHER_MAX);
    }

    #[test]
    fn a_commit_that_took_no_time_or_for_ever_is_no_trouble() {
        let mut pace = Pace::default();
        pace.note(usize::MAX, Duration::ZERO);
        pace.note(2 * SMALL_BYTES, Duration::MAX);
        pace.note(0, Duration::from_hours(1));
        assert_eq!(pace.gather_unwanted(usize::MAX), GATHER_MAX);
    }
}
