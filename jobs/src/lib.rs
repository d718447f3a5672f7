//! The queue of jobs: claims, leases, retries, the loop of a worker.
//!
//! Jobs are events in the log, and what is kept here is made from them: which jobs wait, in what
//! order they are to be had, whose lease runs out when. A claim is an append at the revision that
//! the job is at, so the log elects one worker, whatever two of them believe. What a job is about
//! is known to its handler alone.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backoff;
mod board;
mod bus;
mod choice;
mod error;
mod options;
mod queue;
mod ready;
mod ticker;
mod totals;
mod worker;

pub use bus::{Progress, Watching};
pub use error::JobsError;
pub use options::Options;
pub use queue::{Asking, Beat, Begun, Claimant, Claimed, NewJob, Queue, QueueStats};
pub use totals::{BOUNDS_MS, TimesTold, TotalsTold};
pub use worker::{Handler, Outcome, Work, Workers};
