//! What the store counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histograms' buckets, in microseconds; one more bucket takes the rest.
const BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_500, 3_000, 6_000, 12_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// The state and history of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentStats {
    /// Blobs stored.
    pub blobs: u64,
    /// Bytes in them; of large blobs with their tables, a four-thousandth more.
    pub bytes: u64,
    /// Pack files.
    pub pack_files: u64,
    /// Bytes of the pack files, what is prepared for later included.
    pub pack_bytes: u64,
    /// Bytes in packs that nothing needs any more.
    pub dead_bytes: u64,
    /// Blobs in files of their own.
    pub large_files: u64,
    /// Bytes of those files, their tables included.
    pub large_bytes: u64,
    /// Blobs found damaged since the store was opened and not healed.
    pub damaged: u64,
    /// Blobs put since the store was opened, duplicates included.
    pub puts: u64,
    /// Those of them that were there already.
    pub duplicates: u64,
    /// Groups written.
    pub groups: u64,
    /// Bytes in them.
    pub group_bytes: u64,
    /// Blobs opened for reading.
    pub reads: u64,
    /// How long a put of a small blob took, from call to answer.
    pub put_latency: Histogram,
    /// How long a group's write and sync took.
    pub sync_time: Histogram,
}

/// Durations, counted in buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds of the buckets, in microseconds; one more bucket takes the rest.
    pub bounds_us: &'static [u64],
    /// How many fell into each bucket.
    pub counts: Vec<u64>,
    /// Their sum, in microseconds.
    pub sum_us: u64,
    /// How many there were.
    pub count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            bounds_us: &BOUNDS_US,
            counts: vec![0; BOUNDS_US.len() + 1],
            sum_us: 0,
            count: 0,
        }
    }
}

#[derive(Default)]
pub(crate) struct Durations {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    pub(crate) fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let count = counts.iter().sum();
        Histogram {
            counts,
            count,
            sum_us: self.sum_us.load(Ordering::Relaxed),
            ..Histogram::default()
        }
    }
}

/// Counters that any thread adds to.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) packed_bytes: Level,
    pub(crate) large_files: Level,
    pub(crate) large_bytes: Level,
    pub(crate) puts: Level,
    pub(crate) duplicates: Level,
    pub(crate) groups: Level,
    pub(crate) group_bytes: Level,
    pub(crate) reads: Level,
    pub(crate) put_latency: Durations,
    pub(crate) sync_time: Durations,
}

/// A number that goes up and, some of them, down.
#[derive(Default)]
pub(crate) struct Level(AtomicU64);

impl Level {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Goes down, not below zero.
    pub(crate) fn take(&self, n: u64) {
        let lower = |level: u64| Some(level.saturating_sub(n));
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        for us in [0, 50, 51, 6_000_000] {
            durations.add(Duration::from_micros(us));
        }
        let histogram = durations.snapshot();
        assert_eq!((histogram.counts[0], histogram.counts[1]), (2, 1));
        assert_eq!(histogram.counts[BOUNDS_US.len()], 1);
        assert_eq!((histogram.count, histogram.sum_us), (4, 6_000_101));
    }
}
