//! Documents, jobs and search of a tenant, wired together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use stemma_api::{DocumentOptions, Documents, Search};
use stemma_domain::event::Metadata;
use stemma_domain::id::ResourceId;
use stemma_domain::value::JobKind;
use stemma_inference::{Embedder, StaticEmbedder};
use stemma_jobs::{Handler, Queue};
use stemma_pipeline::stages::{Committer, Indexer, NotIndexed, Pipeline, Tools};
use stemma_projections::{SearchProjection, SearchSettings, SearchState, WaitError};

use crate::config::Settings;
use crate::jobs_thread::JobsThread;
use crate::reembed::Reembed;
use crate::tools::{limits, tools};
use crate::wiring::{Places, Tenant, jobs_options, search_options};

/// What documents and jobs need, before anybody works on them.
pub(crate) struct Processing {
    /// For the handlers.
    pub(crate) documents: Documents,
    tools: Tools,
    /// What the workers in here do.
    kinds: Vec<JobKind>,
}

impl Processing {
    /// Puts all together; the queue hears of jobs from here on.
    pub(crate) fn begin(
        tenant: &Tenant,
        places: &Places,
        settings: &Settings,
        is_read_only: bool,
    ) -> anyhow::Result<Self> {
        let queue = Queue::new(tenant.commands.clone(), jobs_options(settings));
        queue.connect(&tenant.job_feed);
        let tools = tools(settings)?;
        // An index is made from all of the log, and nothing is made where nothing may be written.
        let search = if is_read_only {
            None
        } else {
            search(tenant, places, settings, &tools)?
        };
        let indexer = SearchIndexer(search.as_ref().map(|search| search.projection.clone()));
        let documents = Documents {
            committer: Committer::new(queue.clone(), Arc::new(indexer)),
            queue,
            search,
            has_completer: tools.completer.is_some(),
            options: document_options(settings),
        };
        let kinds = Pipeline::new(documents.committer.clone(), tools.clone()).kinds();
        Ok(Self {
            documents,
            tools,
            kinds,
        })
    }

    /// Has jobs worked on; nothing is where nothing may be written.
    pub(crate) fn work(
        &self,
        tenant: &Tenant,
        is_read_only: bool,
    ) -> anyhow::Result<Option<JobsThread>> {
        if is_read_only {
            return Ok(None);
        }
        let pipeline = Pipeline::new(self.documents.committer.clone(), self.tools.clone());
        let (queue, projection) = (self.documents.queue.clone(), tenant.projection.clone());
        let reembed = self.documents.search.as_ref().map(|search| Reembed {
            search: search.projection.clone(),
            model: self.tools.embedder.model().name.clone(),
        });
        JobsThread::start(queue, projection, Arc::new(pipeline), reembed).map(Some)
    }

    /// Whether there are jobs that workers in here do, now or at a later try.
    pub(crate) fn has_jobs(&self) -> bool {
        self.documents.queue.has_any_of(&self.kinds)
    }

    /// Ends the search index's thread; what it folded is kept.
    pub(crate) fn stop(&self) {
        if let Some(search) = &self.documents.search {
            search.projection.stop();
        }
    }
}

fn document_options(settings: &Settings) -> DocumentOptions {
    DocumentOptions {
        bytes_max: settings.number("documents.bytes_max"),
        output_bytes_max: settings.count("documents.output_bytes_max"),
        limits: limits(settings),
        uploads_per_day_max: settings.number("jobs.uploads_per_day_max"),
        ..DocumentOptions::default()
    }
}

/// The search index, unless there is to be none, and what makes vectors of queries.
fn search(
    tenant: &Tenant,
    places: &Places,
    settings: &Settings,
    tools: &Tools,
) -> anyhow::Result<Option<Search>> {
    if settings.text("search.mode") == Some("none") {
        return Ok(None);
    }
    let mut embedders = vec![Arc::clone(&tools.embedder)];
    // Vectors of the model that is built in answer until those of another are there.
    let built_in: Arc<dyn Embedder> = Arc::new(StaticEmbedder::open()?);
    if built_in.model() != tools.embedder.model() {
        embedders.push(built_in);
    }
    // Last: nothing that may fail comes behind a thread that would have to be ended then.
    let started = SearchProjection::start(SearchSettings {
        reader: tenant.commands.reader().clone(),
        content: tenant.commands.content().clone(),
        dir: places.search.clone(),
        options: search_options(settings),
    });
    Ok(Some(Search {
        projection: started.context("start the thread of the search index")?,
        embedders,
    }))
}

/// How long a document may take to become searchable once it is recorded, before it is said whether
/// the index comes closer.
const INDEX_WAIT: Duration = Duration::from_mins(1);

/// How often an index that stands still is looked at while it is waited for.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// Waits until documents are searchable; at once where no index is kept.
struct SearchIndexer(Option<SearchProjection>);

impl Indexer for SearchIndexer {
    fn wait_for(
        &self,
        _: ResourceId,
        position: u64,
        stop: &AtomicBool,
    ) -> Result<Metadata, NotIndexed> {
        let mut figures = Metadata::new();
        if let Some(projection) = &self.0 {
            let end = wait_for(projection, position + 1, stop)?;
            figures.insert("searchable_up_to".to_owned(), end.saturating_sub(1).into());
        }
        Ok(figures)
    }
}

/// Waits until an index holds so many events; also while it is being opened, and while what it
/// stopped at may go by itself, which is tried every few seconds.
fn wait_for(projection: &SearchProjection, end: u64, stop: &AtomicBool) -> Result<u64, NotIndexed> {
    let (before, until) = (projection.status().end, Instant::now() + INDEX_WAIT);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let error = match projection.wait_for_blocking(end, left, stop) {
            Ok(end) => return Ok(end),
            Err(error) => error,
        };
        match error {
            WaitError::Quarantined { .. } | WaitError::Away if !left.is_zero() => {
                if stop.load(Ordering::Acquire) {
                    return Err(NotIndexed::CatchingUp("the wait was broken off".to_owned()));
                }
                std::thread::park_timeout(LOOK_AROUND.min(left));
            }
            WaitError::NotYet { end } if end > before => {
                return Err(NotIndexed::CatchingUp(error.to_string()));
            }
            WaitError::NotYet { .. } if projection.state() == SearchState::Opening => {
                return Err(NotIndexed::CatchingUp("it is being opened".to_owned()));
            }
            WaitError::Stopped => return Err(NotIndexed::CatchingUp(error.to_string())),
            _ => return Err(NotIndexed::StandsStill(error.to_string())),
        }
    }
}
