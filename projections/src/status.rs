//! How a projection is doing, for health and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a projection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It reads what was written before it started.
    CatchingUp,
    /// It follows the head.
    Live,
    /// It stopped at an event that it cannot apply; reads go on as of the position before.
    Quarantined {
        /// Where the event stands.
        position: u64,
        /// Its type.
        event_type: String,
        /// Why it cannot be applied.
        reason: String,
    },
    /// What keeps it cannot be reached; it goes on by itself once it can.
    Away {
        /// Why.
        reason: String,
    },
    /// It was stopped.
    Stopped,
}

/// How far a projection has come.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionStatus {
    /// What it is doing.
    pub phase: Phase,
    /// Records applied: the position of the next one.
    pub end: u64,
    /// Durable records that are not applied.
    pub lag_positions: u64,
    /// When the oldest of them was recorded, in microseconds since 1970; none without any.
    pub lacking_since_us: Option<i64>,
}

impl ProjectionStatus {
    /// Age in seconds of the oldest durable record that is not applied; 0 without any.
    pub fn lag_seconds(&self, now_us: i64) -> f64 {
        let lag_us = self
            .lacking_since_us
            .map_or(0, |since| now_us.saturating_sub(since).max(0));
        Duration::from_micros(lag_us.unsigned_abs()).as_secs_f64()
    }
}

/// Upper bounds of the buckets of [`ProjectionMetrics::apply_us`], in microseconds.
pub const APPLY_BOUNDS_US: [u64; 12] = [
    25, 50, 100, 200, 400, 800, 1_600, 6_400, 25_600, 102_400, 409_600, 1_638_400,
];

/// What a projection has done since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionMetrics {
    /// Batches applied.
    pub batches: u64,
    /// Records applied.
    pub events: u64,
    /// Times of the batches: counts by [`APPLY_BOUNDS_US`], one more for what is above.
    pub apply_us: Vec<u64>,
    /// All those times added up, in microseconds.
    pub apply_us_sum: u64,
}

/// The live counters behind [`ProjectionMetrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    batches: AtomicU64,
    events: AtomicU64,
    apply_us: [AtomicU64; APPLY_BOUNDS_US.len() + 1],
    apply_us_sum: AtomicU64,
}

impl Counters {
    pub(crate) fn record(&self, events: u64, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = APPLY_BOUNDS_US.partition_point(|bound| *bound < took);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
        self.apply_us[bucket].fetch_add(1, Ordering::Relaxed);
        self.apply_us_sum.fetch_add(took, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> ProjectionMetrics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProjectionMetrics {
            batches: load(&self.batches),
            events: load(&self.events),
            apply_us: self.apply_us.iter().map(load).collect(),
            apply_us_sum: load(&self.apply_us_sum),
        }
    }
}
