//! Projections: what follows the log and folds it into views.
//!
//! One thread applies records in order, in batches, and tells how far it has come. It never
//! appends. An event that it cannot apply stops it there: that is quarantine, and it is visible.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ahead;
mod fill;
mod generation;
mod graph;
mod lockstep;
mod offline;
mod progress;
mod projection;
mod rebuild;
mod runner;
mod search;
mod status;
mod verify;

pub use ahead::Ahead;
pub use generation::{GenerationError, GenerationLock, Generations};
pub use graph::{
    GraphProjection, GraphState, GraphStore, Neo4jError, Neo4jServer, Neo4jSettings, PastError,
    PastGraphs, PastSettings, SeenGraph, rebuild_neo4j, remove_neo4j,
};
pub use offline::rebuild_offline;
pub use progress::WaitError;
pub use projection::{NotOfLog, Projection, Settings, StartError};
pub use rebuild::{RebuildControl, RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress};
pub use search::{SearchProjection, SearchSettings, SearchState, rebuild_search};
pub use status::{APPLY_BOUNDS_US, Phase, ProjectionMetrics, ProjectionStatus};
pub use verify::{ViewDamage, verify_model};
