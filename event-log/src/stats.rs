//! What the writer counts, for metrics.
//!
//! Invariant: counting never blocks and never allocates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets for times, in microseconds.
pub const TIME_BOUNDS_US: [u64; 16] = [
    25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600,
];
/// Upper bounds of the buckets for records in a group.
pub const SIZE_BOUNDS: [u64; 16] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 65_536,
];

/// Counters of a log's writer since it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendStats {
    /// Batches that were written.
    pub batches: u64,
    /// Records that were written.
    pub events: u64,
    /// Groups, each one write and one sync.
    pub groups: u64,
    /// Bytes of those groups.
    pub bytes: u64,
    /// Batches refused because a stream was not where they expected it.
    pub conflicts: u64,
    /// Batches that were found to be in the log before.
    pub duplicates: u64,
    /// Batches that failed for any other reason.
    pub failures: u64,
    /// Batches that wait for the writer now, each counted for every 16 KiB or part of them.
    pub queued: u64,
    /// From taking a place in the queue to the answer, microseconds.
    pub append_us: Histogram,
    /// Records of a group.
    pub group_events: Histogram,
    /// Time of a group's write, microseconds.
    pub write_us: Histogram,
    /// Time of a group's sync, microseconds.
    pub sync_us: Histogram,
}

/// Counts of values by size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bound of each bucket, the bound included; the last bucket of `counts` has none.
    pub bounds: &'static [u64],
    /// Values in each bucket, one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values added up.
    pub sum: u64,
}

impl Histogram {
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The live counters behind [`AppendStats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) append_us: Buckets,
    pub(crate) group_events: Buckets,
    pub(crate) write_us: Buckets,
    pub(crate) sync_us: Buckets,
}

#[derive(Default)]
pub(crate) struct Buckets {
    counts: [AtomicU64; 17],
    sum: AtomicU64,
}

impl Buckets {
    pub(crate) fn record(&self, bounds: &[u64; 16], value: u64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn record_time(&self, time: Duration) {
        self.record(
            &TIME_BOUNDS_US,
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        );
    }

    fn snapshot(&self, bounds: &'static [u64; 16]) -> Histogram {
        Histogram {
            bounds,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(&self, queued: u64) -> AppendStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AppendStats {
            batches: load(&self.batches),
            events: load(&self.events),
            groups: load(&self.groups),
            bytes: load(&self.bytes),
            conflicts: load(&self.conflicts),
            duplicates: load(&self.duplicates),
            failures: load(&self.failures),
            queued,
            append_us: self.append_us.snapshot(&TIME_BOUNDS_US),
            group_events: self.group_events.snapshot(&SIZE_BOUNDS),
            write_us: self.write_us.snapshot(&TIME_BOUNDS_US),
            sync_us: self.sync_us.snapshot(&TIME_BOUNDS_US),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let buckets = Buckets::default();
        for value in [1, 2, 3, 70_000] {
            buckets.record(&SIZE_BOUNDS, value);
        }
        let histogram = buckets.snapshot(&SIZE_BOUNDS);
        assert_eq!(histogram.counts[..4], [1, 1, 1, 0]);
        assert_eq!(histogram.counts[16], 1);
        assert_eq!((histogram.count(), histogram.sum), (4, 70_006));
    }
}
