//! The limits of the queue, each with its default.

/// Limits of jobs and workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Workers inside the server, 2 by default; 0 leaves all work to workers outside.
    pub workers: usize,
    /// How long a lease lasts without a heartbeat, 30,000 ms by default.
    pub lease_ms: u64,
    /// Wait before the first retry, 3,000 ms by default; doubled for each further one, and drawn
    /// between nothing and that ("full jitter").
    pub retry_base_ms: u64,
    /// Longest wait before a retry, 300,000 ms by default.
    pub retry_cap_ms: u64,
    /// Retries of a job that asks for no other number, 3 by default.
    pub retries_max: u32,
    /// Jobs of one user that are worked on at a time, 5 by default; 0 for no limit.
    pub active_max: usize,
    /// Jobs that wait at most, 200,000 by default.
    pub queued_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            lease_ms: 30_000,
            retry_base_ms: 3_000,
            retry_cap_ms: 300_000,
            retries_max: 3,
            active_max: 5,
            queued_max: 200_000,
        }
    }
}
