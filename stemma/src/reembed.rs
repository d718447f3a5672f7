//! Another model: documents that have vectors of the one before get new ones beside them.
//!
//! One job a document, behind all that people wait for. Queries go by the model that has most of
//! the passages, so the new one takes over when it has as many as the old one.
//!
//! Invariant: most of the queue stays free for people, however many documents there are.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use stemma_domain::document::{Document, Stage};
use stemma_domain::event::Metadata;
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::value::JobKind;
use stemma_jobs::{JobsError, NewJob, Queue};
use stemma_pipeline::stages::PROCESS;
use stemma_projections::{Phase, SearchProjection};
use stemma_views::{JobQuery, Views};

/// Documents that are looked at at a time.
const DOCUMENTS: usize = 256;
/// Behind everything else.
const PRIORITY: i32 = -100;
/// The part of the queue (`jobs.queued_max`) that may be taken when a job is added here: a tenth.
const QUEUE_PART: usize = 10;
/// How often a wait, for the index or for room in the queue, looks whether it is over.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// What is to be looked for.
pub(crate) struct Reembed {
    /// The index, which knows what models there are vectors of.
    pub(crate) search: SearchProjection,
    /// The model that there should be vectors of.
    pub(crate) model: String,
}

/// How whoever looks for documents stands to others.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Set by others: nothing more is to be looked for.
    pub(crate) is_stopped: AtomicBool,
    /// Set while nothing but room in the queue is waited for. That may last for ever: jobs may
    /// take it that nobody in here does.
    pub(crate) waits_for_room: AtomicBool,
}

impl Standing {
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Rests for a while where there is no room.
    fn wait_for_room(&self) {
        self.waits_for_room.store(true, Ordering::Release);
        std::thread::park_timeout(LOOK_AROUND);
    }

    /// There is room.
    fn go_on(&self) {
        self.waits_for_room.store(false, Ordering::Release);
    }
}

impl Reembed {
    /// Queues a job for each document whose vectors are of another model; waits where there is no
    /// room for it, which may take long, so that the views are asked for each time: they may be made
    /// anew meanwhile. Goes on with the next start where it was stopped.
    pub(crate) fn run(&self, queue: &Queue, views: &dyn Fn() -> Views, standing: &Standing) {
        // One that is being filled does not know all the models that it will have.
        let end = queue.commands().reader().end().get();
        let index = loop {
            if standing.is_stopped() {
                return;
            }
            let status = self.search.status();
            let stands_still = matches!(status.phase, Phase::Quarantined { .. });
            let index = self.search.index();
            if let Some(index) = index.filter(|_| stands_still || status.end >= end) {
                break index;
            }
            std::thread::park_timeout(LOOK_AROUND);
        };
        let is_other = |used: &stemma_search::ModelUse| used.model != self.model;
        let models = index.models();
        // One that is made anew is not to be kept for as long as there may be no room.
        drop(index);
        match models {
            Ok(models) if models.iter().any(is_other) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the models of the index are not known");
                return;
            }
        }
        match self.queue_all(queue, views, standing) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, model = self.model, "documents are embedded anew"),
            Err(error) => tracing::warn!(%error, "documents of another model were not all found"),
        }
    }

    fn queue_all(
        &self,
        queue: &Queue,
        views: &dyn Fn() -> Views,
        standing: &Standing,
    ) -> anyhow::Result<usize> {
        let (mut after, mut count) = (None, 0);
        loop {
            let documents = views().documents_after(after, DOCUMENTS)?;
            for document in documents.iter().filter(|document| self.is_old(document)) {
                match self.queue_one(queue, views, document.id, standing)? {
                    ControlFlow::Continue(queued) => count += queued,
                    ControlFlow::Break(()) => return Ok(count),
                }
            }
            match documents.last() {
                Some(last) if documents.len() == DOCUMENTS => after = Some(last.id),
                _ => return Ok(count),
            }
        }
    }

    /// Queues a job for a document once there is room, if it is of another model then; gives how
    /// many were queued. Breaks when it is stopped before.
    fn queue_one(
        &self,
        queue: &Queue,
        views: &dyn Fn() -> Views,
        id: ResourceId,
        standing: &Standing,
    ) -> anyhow::Result<ControlFlow<(), usize>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        loop {
            if standing.is_stopped() {
                return Ok(ControlFlow::Break(()));
            }
            if has_room(queue) {
                standing.go_on();
                // Much may have become of it meanwhile.
                let document = queue.commands().document(id)?;
                let is_old = document.is_some_and(|document| self.is_old(&document));
                if !is_old || has_active_job(&views(), id)? {
                    return Ok(ControlFlow::Continue(0));
                }
                match runtime.block_on(embed_again(queue, id)) {
                    Ok(()) => return Ok(ControlFlow::Continue(1)),
                    // Others have taken the room.
                    Err(JobsError::Full { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            standing.wait_for_room();
        }
    }

    fn is_old(&self, document: &Document) -> bool {
        let embedded = document.stages.get(&Stage::Embed);
        let model = embedded.and_then(|done| done.figures.get("model")?.as_str());
        model.is_some_and(|model| model != self.model)
    }
}

/// Whether there is room in the queue for another of these jobs.
fn has_room(queue: &Queue) -> bool {
    let stats = queue.stats();
    let most = (queue.options().queued_max / QUEUE_PART).max(1);
    stats.queued + stats.retrying < most
}

fn has_active_job(views: &Views, id: ResourceId) -> anyhow::Result<bool> {
    let query = JobQuery {
        document_id: Some(id),
        limit: 8,
        ..JobQuery::default()
    };
    let jobs = views.jobs(&query)?.items;
    Ok(jobs.iter().any(|job| !job.status.is_ended()))
}

async fn embed_again(queue: &Queue, id: ResourceId) -> Result<(), JobsError> {
    let mut payload = Metadata::new();
    payload.insert("document_id".to_owned(), json!(id));
    payload.insert("again".to_owned(), json!(Stage::Embed));
    let commands = queue.commands();
    let new = NewJob {
        id: JobId::new(commands.new_id()),
        kind: JobKind::new(PROCESS).expect("a constant that is a kind"),
        payload,
        priority: PRIORITY,
        max_retries: None,
        document_id: Some(id),
        trace_id: commands.new_id().simple().to_string(),
    };
    queue.submit(new, "stemma", None).await?;
    Ok(())
}
