//! The graph: resources, annotations, entity types, people and collections, and how they hang
//! together.
//!
//! A read model like the views, on rows of its own: `docs/graph.md` says what is in it,
//! `docs/format/graph.md` how it is stored. Invariant: every edge is found from either end, and is
//! written in one step with the nodes that it comes from.

mod around;
mod delta;
mod edges;
mod fold;
mod key;
mod list;
mod node;
mod path;
mod read;
mod row;

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use stemma_domain::event::{DecodeError, Event};
use stemma_event_log::Record;

pub use around::{Edge, Neighborhood, NeighborsQuery, Node};
pub use delta::{BelowZero, Delta, Edges, Folding, Source, Touched};
pub use list::ListedResources;
pub use node::{EdgeType, InvalidNodeId, Label, NodeId};
pub use path::{PathQuery, ShortestPath};
pub use read::{Properties, Property};
pub use row::{AnnotationNode, Counts, HubNode, ResourceNode};

use crate::apply::{ApplyError, Prepared, decode};
use crate::checkpointed::CheckpointedStore;
use crate::model::Model;
use crate::open::Options;
use crate::store::StoreError;

/// The graph of one log; clones share it.
#[derive(Clone)]
pub struct Graph {
    shared: Arc<Shared>,
}

struct Shared {
    rows: CheckpointedStore,
    options: Options,
}

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphStats {
    /// Records applied.
    pub end: u64,
    /// Nodes of each label.
    pub nodes: Vec<(Label, u64)>,
    /// Edges of each type.
    pub edges: Vec<(EdgeType, u64)>,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// Why a question to the graph has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A node that the question names is not there.
    #[error("there is no node {0}")]
    NoNode(NodeId),
    /// More rows would have to be looked at than one question may.
    #[error("the answer lies behind more than {rows_max} edges")]
    TooFar {
        /// Most edges that are looked at.
        rows_max: usize,
    },
    /// It would take more than one question may.
    #[error("{0}")]
    Limit(String),
    /// The cursor cannot be used.
    #[error(transparent)]
    Cursor(#[from] crate::cursor::CursorError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What keeps the graph elsewhere cannot be asked.
    #[error("the graph cannot be asked: {0}")]
    Elsewhere(String),
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph")
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Deref for Graph {
    type Target = CheckpointedStore;

    fn deref(&self) -> &CheckpointedStore {
        &self.shared.rows
    }
}

impl Model for Graph {
    const NAME: &'static str = "graph";
    const FORM: u8 = 2;
    const PACE: Duration = Duration::from_millis(25);

    fn over(rows: CheckpointedStore, options: &Options) -> Self {
        let options = options.clone();
        Self {
            shared: Arc::new(Shared { rows, options }),
        }
    }

    fn apply(&self, records: &[Record]) -> Result<u64, ApplyError> {
        self.fold(records.iter().map(|record| (record, decode(record))))
    }

    fn apply_prepared(&self, records: Vec<Prepared>) -> Result<u64, ApplyError> {
        self.fold(records.into_iter().map(Prepared::into_parts))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.shared.rows.reopen(|| ())
    }
}

impl Graph {
    fn fold<R: Borrow<Record>>(
        &self,
        records: impl Iterator<Item = (R, Result<Event, DecodeError>)>,
    ) -> Result<u64, ApplyError> {
        let fold = fold::Overlay::new(self.store());
        self.shared.rows.apply_each(fold, records, |()| ())
    }

    pub(crate) fn page_rows_max(&self) -> usize {
        self.shared.options.page_rows_max
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stats(&self) -> Result<GraphStats, StoreError> {
        let disk_bytes = self.disk_bytes();
        let _moment = self.moment();
        let Counts { nodes, edges } = row::read_counts(self.store())?;
        Ok(GraphStats {
            end: self.end(),
            nodes: Label::ALL.into_iter().zip(nodes).collect(),
            edges: EdgeType::ALL.into_iter().zip(edges).collect(),
            disk_bytes,
        })
    }
}
