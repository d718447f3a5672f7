//! What documents and jobs are done with, as the handlers see it.

use std::sync::Arc;

use stemma_inference::Embedder;
use stemma_jobs::Queue;
use stemma_pipeline::Limits;
use stemma_pipeline::stages::Committer;
use stemma_projections::SearchProjection;

/// The search index, and what makes vectors of queries; clones share them.
#[derive(Clone)]
pub struct Search {
    /// The index.
    pub projection: SearchProjection,
    /// The models that queries can be embedded by, the one that is configured first; at least one.
    pub embedders: Vec<Arc<dyn Embedder>>,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models = self.embedders.iter().map(|embedder| &embedder.model().name);
        f.debug_struct("Search")
            .field("models", &models.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Documents and jobs; clones share them.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The queue of jobs.
    pub queue: Queue,
    /// Records what stages put out.
    pub committer: Committer,
    /// The search index, where one is kept.
    pub search: Option<Search>,
    /// Whether a model is configured that writes.
    pub has_completer: bool,
    /// Limits.
    pub options: DocumentOptions,
}

/// Limits of uploads, each with its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentOptions {
    /// Bytes of a document, 25 MiB by default.
    pub bytes_max: u64,
    /// Bytes of what a worker outside hands in for one stage, 128 MiB by default. They are held in
    /// memory while they are read.
    pub output_bytes_max: usize,
    /// What a stage from outside may put out: as much as our own parser.
    pub limits: Limits,
    /// Documents that one user uploads a day (UTC), 10,000 by default; 0 for no limit.
    pub uploads_per_day_max: u64,
    /// How long a claim waits for a job at most, 60 s by default.
    pub claim_wait_ms_max: u64,
}

impl Default for DocumentOptions {
    fn default() -> Self {
        Self {
            bytes_max: 25 << 20,
            output_bytes_max: 128 << 20,
            limits: Limits::default(),
            uploads_per_day_max: 10_000,
            claim_wait_ms_max: 60_000,
        }
    }
}
