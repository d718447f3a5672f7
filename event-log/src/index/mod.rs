//! Where records are, by position, stream, digest and idempotency key. All of it is derived.

mod active;
mod bloom;
mod build;
mod layers;
mod packed;
mod run;
mod run_writer;
mod runs;
mod snapshot;

pub(crate) use active::{Active, Entry};
pub(crate) use build::Sealed;
pub(crate) use layers::{Index, check_run_file, log_key};
pub(crate) use run::{RunFault, try_run};
pub(crate) use runs::Place;
