//! Another model: documents that have vectors of the one before get new ones beside them.
//!
//! One job a document, behind all that people wait for. Queries go by the model that has most of
//! the passages, so the new one takes over when it has as many as the old one.

use std::time::Duration;

use serde_json::json;
use stemma_domain::document::{Document, Stage};
use stemma_domain::event::Metadata;
use stemma_domain::id::JobId;
use stemma_domain::value::JobKind;
use stemma_jobs::{JobsError, NewJob, Queue};
use stemma_pipeline::stages::PROCESS;
use stemma_projections::{Phase, SearchProjection};
use stemma_views::{JobQuery, Views};

/// Documents that are looked at at a time.
const DOCUMENTS: usize = 256;
/// Behind everything else.
const PRIORITY: i32 = -100;
/// How often the wait for the index looks whether it is over.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// What is to be looked for.
pub(crate) struct Reembed {
    /// The index, which knows what models there are vectors of.
    pub(crate) search: SearchProjection,
    /// The model that there should be vectors of.
    pub(crate) model: String,
}

impl Reembed {
    /// Queues a job for each document whose vectors are of another model. Goes on with the next
    /// start where it was stopped.
    pub(crate) fn run(&self, queue: &Queue, views: &Views, is_stopped: &dyn Fn() -> bool) {
        // One that is being filled does not know all the models that it will have.
        let end = queue.commands().reader().end().get();
        let index = loop {
            if is_stopped() {
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
        match index.models() {
            Ok(models) if models.iter().any(is_other) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the models of the index are not known");
                return;
            }
        }
        match self.queue_all(queue, views, is_stopped) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, model = self.model, "documents are embedded anew"),
            Err(error) => tracing::warn!(%error, "documents of another model were not all found"),
        }
    }

    fn queue_all(
        &self,
        queue: &Queue,
        views: &Views,
        is_stopped: &dyn Fn() -> bool,
    ) -> anyhow::Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (mut after, mut count) = (None, 0);
        loop {
            let documents = views.documents_after(after, DOCUMENTS)?;
            for document in documents.iter().filter(|document| self.is_old(document)) {
                if is_stopped() || has_active_job(views, document)? {
                    continue;
                }
                runtime.block_on(embed_again(queue, document))?;
                count += 1;
            }
            match documents.last() {
                Some(last) if documents.len() == DOCUMENTS => after = Some(last.id),
                _ => return Ok(count),
            }
        }
    }

    fn is_old(&self, document: &Document) -> bool {
        let embedded = document.stages.get(&Stage::Embed);
        let model = embedded.and_then(|done| done.figures.get("model")?.as_str());
        model.is_some_and(|model| model != self.model)
    }
}

fn has_active_job(views: &Views, document: &Document) -> anyhow::Result<bool> {
    let query = JobQuery {
        document_id: Some(document.id),
        limit: 8,
        ..JobQuery::default()
    };
    let jobs = views.jobs(&query)?.items;
    Ok(jobs.iter().any(|job| !job.status.is_ended()))
}

async fn embed_again(queue: &Queue, document: &Document) -> Result<(), JobsError> {
    let mut payload = Metadata::new();
    payload.insert("document_id".to_owned(), json!(document.id));
    payload.insert("again".to_owned(), json!(Stage::Embed));
    let commands = queue.commands();
    let new = NewJob {
        id: JobId::new(commands.new_id()),
        kind: JobKind::new(PROCESS).expect("a constant that is a kind"),
        payload,
        priority: PRIORITY,
        max_retries: None,
        document_id: Some(document.id),
        trace_id: commands.new_id().simple().to_string(),
    };
    queue.submit(new, "stemma", None).await?;
    Ok(())
}
