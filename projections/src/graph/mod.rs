//! The graph beside the views, and what keeps it: rows of our own, or Neo4j.
//!
//! Invariant: nothing of it keeps a server from starting, a write from being acknowledged or the
//! views from answering. What is wrong with it is told as its state.

mod embedded;
mod neo4j;
mod past;
mod queried;
mod seen;
mod store;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use self::embedded::Embedded;
use self::neo4j::Neo4j;
pub use self::neo4j::{Neo4jError, Neo4jServer, Neo4jSettings, rebuild_neo4j, remove_neo4j};
pub use self::past::{PastError, PastGraphs, PastSettings};
pub use self::seen::SeenGraph;
pub use self::store::GraphStore;
use crate::progress::WaitError;
use crate::projection::{Projection, Settings};
use crate::rebuild::{RebuildControl, RebuildError, RebuildOutcome};
use crate::status::{Phase, ProjectionMetrics, ProjectionStatus};

/// The graph of a tenant; clones share it.
#[derive(Clone, Debug)]
pub struct GraphProjection {
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Kept {
    Embedded(Arc<Embedded>),
    Neo4j(Arc<Neo4j>),
}

/// How the graph is.
#[derive(Debug, Clone, PartialEq)]
pub enum GraphState {
    /// It is being opened.
    Opening,
    /// It cannot be had, and why.
    Failed {
        /// Why.
        reason: String,
    },
    /// It is there, at some position.
    Running(ProjectionStatus),
}

impl GraphState {
    /// Why the graph cannot be expected to follow; none when it does.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Opening => Some("the graph is being opened".to_owned()),
            Self::Failed { reason } => Some(format!("the graph cannot be had: {reason}")),
            Self::Running(status) => match &status.phase {
                Phase::Quarantined {
                    position,
                    event_type,
                    reason,
                } => Some(format!(
                    "the graph stopped at {event_type}, position {position}: {reason}"
                )),
                Phase::Away { reason } => Some(format!("the graph is out of reach: {reason}")),
                Phase::Stopped => Some("the graph is stopped".to_owned()),
                Phase::CatchingUp | Phase::Live => None,
            },
        }
    }
}

impl GraphProjection {
    /// Has a thread open the graph's rows, and then follow the log.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn embedded(settings: Settings) -> std::io::Result<Self> {
        let kept = Kept::Embedded(Arc::new(Embedded::start(settings)?));
        Ok(Self { kept })
    }

    /// Has a thread follow the log into Neo4j, whenever that can be reached.
    ///
    /// # Errors
    /// When the settings cannot be used, or the system refuses a thread.
    pub fn neo4j(settings: Neo4jSettings) -> Result<Self, Neo4jError> {
        let kept = Kept::Neo4j(Arc::new(Neo4j::start(settings)?));
        Ok(Self { kept })
    }

    /// What keeps it: `embedded` or `neo4j`.
    pub fn backend(&self) -> &'static str {
        match &self.kept {
            Kept::Embedded(_) => "embedded",
            Kept::Neo4j(_) => "neo4j",
        }
    }

    /// What can be asked, once it is open.
    pub fn store(&self) -> Option<Arc<dyn GraphStore>> {
        match &self.kept {
            Kept::Embedded(embedded) => Some(Arc::new(embedded.get()?.model())),
            Kept::Neo4j(neo4j) => Some(Arc::new(neo4j.store()?)),
        }
    }

    /// How many records it holds; 0 until it is open.
    pub fn end(&self) -> u64 {
        match &self.kept {
            Kept::Embedded(embedded) => embedded.get().map_or(0, Projection::end),
            Kept::Neo4j(neo4j) => neo4j.end(),
        }
    }

    /// Waits until it was opened, or cannot be, or the time is up.
    pub async fn opened(&self, timeout: Duration) {
        match &self.kept {
            Kept::Embedded(embedded) => embedded.opened(timeout).await,
            Kept::Neo4j(neo4j) => neo4j.opened(timeout).await,
        }
    }

    /// Waits until `end` records are applied; gives how many are.
    ///
    /// # Errors
    /// [`WaitError`] when that will not be, or not in time.
    pub async fn wait_for(&self, end: u64, timeout: Duration) -> Result<u64, WaitError> {
        match &self.kept {
            Kept::Embedded(embedded) => {
                let opened = embedded.get().ok_or(WaitError::Away)?;
                opened.wait_for(end, timeout).await
            }
            Kept::Neo4j(neo4j) => neo4j.wait_for(end, timeout).await,
        }
    }

    /// How it is.
    pub fn state(&self) -> GraphState {
        match &self.kept {
            Kept::Embedded(embedded) => embedded.state(),
            Kept::Neo4j(neo4j) => neo4j.state(),
        }
    }

    /// Why it cannot be asked at all now, where it is kept elsewhere; none while it can.
    pub fn out_of_reach(&self) -> Option<String> {
        match &self.kept {
            Kept::Embedded(_) => None,
            Kept::Neo4j(neo4j) => neo4j.out_of_reach(),
        }
    }

    /// How far it is and what it is doing; none until it is open.
    pub fn status(&self) -> Option<ProjectionStatus> {
        match self.state() {
            GraphState::Running(status) => Some(status),
            GraphState::Opening | GraphState::Failed { .. } => None,
        }
    }

    /// What it has done; none until it is open.
    pub fn metrics(&self) -> Option<ProjectionMetrics> {
        match &self.kept {
            Kept::Embedded(embedded) => embedded.get().map(Projection::metrics),
            Kept::Neo4j(neo4j) => Some(neo4j.metrics()),
        }
    }

    /// Tries the event again at which it stopped.
    pub fn retry(&self) {
        match &self.kept {
            Kept::Embedded(embedded) => {
                if let Some(graph) = embedded.get() {
                    graph.retry();
                }
            }
            Kept::Neo4j(neo4j) => neo4j.retry(),
        }
    }

    /// Makes it anew beside the live one and swaps it in. Blocks; one at a time.
    ///
    /// # Errors
    /// [`RebuildError`]; the live one is as it was.
    pub fn rebuild(&self, control: RebuildControl) -> Result<RebuildOutcome, RebuildError> {
        match &self.kept {
            Kept::Embedded(embedded) => {
                let opened = embedded.get().ok_or(RebuildError::Stopped)?;
                opened.rebuild(control)
            }
            Kept::Neo4j(neo4j) => neo4j.rebuild(control),
        }
    }

    /// Stops following, and waits until that is done.
    pub fn stop(&self) {
        match &self.kept {
            Kept::Embedded(embedded) => embedded.stop(),
            Kept::Neo4j(neo4j) => neo4j.stop(),
        }
    }
}
