//! The stages at work: what a worker does for each, and how its output is recorded.
//!
//! [`run`] does a stage over a [`Desk`], where the document lies and the output is handed in: inside
//! the server, or over HTTP. A [`Committer`] turns an output into content and events, all or none.

mod annotate;
mod commit;
mod desk;
mod handler;
mod output;
#[cfg(test)]
mod queued;
mod resources;
mod run;
mod stored;
mod summary;
mod wire;

pub use commit::{CommitError, CommitFuture, Committer, Indexer, NotIndexed, Submission};
pub use desk::{ChunkTexts, Desk, StageError, Task};
pub use handler::{PROCESS, Pipeline, STEP};
pub use output::{OutputError, StageOutput};
pub use resources::{AS_ADMIN, DETECT, GENERATE, is_as_admin};
pub use run::{Tools, process, process_again, run};
pub use summary::{Done, Summary};
pub use wire::{WARNING_BYTES_MAX, WARNINGS_MAX};
