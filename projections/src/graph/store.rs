//! What is asked of a graph, whatever keeps it.

use std::fmt::Debug;

use stemma_cypher::Patience;
use stemma_views::ResourceQuery;
use stemma_views::graph::{
    Graph, GraphError, GraphStats, ListedResources, Neighborhood, NeighborsQuery, PathQuery,
    ShortestPath,
};

use super::queried::Queried;

/// A graph to ask. What is asked blocks; each look sees the graph as it is then.
///
/// The same question has the same answer on all that keep the graph of the same events, order
/// included: one suite is run on all of them.
pub trait GraphStore: Send + Sync + Debug {
    /// What keeps it: `embedded` or `neo4j`.
    fn backend(&self) -> &'static str;

    /// Whether it is asked without a way to another machine, so that no thread of its own is worth
    /// while for a short question.
    fn is_local(&self) -> bool;

    /// How many records it holds.
    fn end(&self) -> u64;

    /// What lies around a node, along edges in both directions.
    ///
    /// # Errors
    /// [`GraphError::NoNode`], and what keeps the graph fails with.
    fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError>;

    /// The shortest way between two nodes; of several the one whose ids sort first.
    ///
    /// # Errors
    /// [`GraphError::NoNode`] of an end, [`GraphError::TooFar`], and what keeps the graph fails
    /// with.
    fn shortest_path(&self, query: &PathQuery) -> Result<Option<ShortestPath>, GraphError>;

    /// A page of the resources of entity types, which [`Graph::can_list`].
    ///
    /// # Errors
    /// [`GraphError::Cursor`], and what keeps the graph fails with.
    fn resources(&self, query: &ResourceQuery) -> Result<ListedResources, GraphError>;

    /// How much there is.
    ///
    /// # Errors
    /// What keeps the graph fails with.
    fn stats(&self) -> Result<GraphStats, GraphError>;

    /// What one question of Cypher is run over. A look that may be a long one by itself, since it
    /// passes over what is hidden, ends with the patience of the question.
    fn queried(&self, patience: &Patience) -> Box<dyn stemma_cypher::Graph + Send>;
}

impl GraphStore for Graph {
    fn backend(&self) -> &'static str {
        "embedded"
    }

    fn is_local(&self) -> bool {
        true
    }

    fn end(&self) -> u64 {
        (**self).end()
    }

    fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError> {
        self.neighbors(query)
    }

    fn shortest_path(&self, query: &PathQuery) -> Result<Option<ShortestPath>, GraphError> {
        self.shortest_path(query)
    }

    fn resources(&self, query: &ResourceQuery) -> Result<ListedResources, GraphError> {
        self.resources(query)
    }

    fn stats(&self) -> Result<GraphStats, GraphError> {
        Ok(self.stats()?)
    }

    fn queried(&self, _patience: &Patience) -> Box<dyn stemma_cypher::Graph + Send> {
        Box::new(Queried(self.clone()))
    }
}
