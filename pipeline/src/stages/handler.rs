//! Documents as jobs, for the workers inside the server.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stemma_commands::{CommandError, Operation};
use stemma_content_store::ReadError;
use stemma_domain::document::{Document, DocumentCommand, Stage};
use stemma_domain::event::{DocumentStageFailed, JobError, Metadata};
use stemma_domain::id::ResourceId;
use stemma_domain::resource::Refusal;
use stemma_domain::value::JobKind;
use stemma_jobs::{Handler, JobsError, Outcome, Work};

use crate::parse::Structure;
use crate::stages::commit::{CommitError, CommitFuture, Committer, NotIndexed, Submission, millis};
use crate::stages::desk::{ChunkTexts, Desk, StageError, Task, chunking_of};
use crate::stages::output::StageOutput;
use crate::stages::resources::{self, DETECT, GENERATE};
use crate::stages::run::{Tools, process_again, run};
use crate::stages::summary::Summary;

/// The job that takes a document through all its stages.
pub const PROCESS: &str = "document.process";
/// The job that does one stage of a document.
pub const STEP: &str = "document.step";

/// What is said of a stage that was done on what no longer stands.
const CHANGED_MEANWHILE: &str =
    "the document was changed while the step was done; it is to be done again";

/// Does documents' jobs.
#[derive(Debug)]
pub struct Pipeline {
    committer: Committer,
    tools: Tools,
}

impl Pipeline {
    /// A handler with these tools.
    pub fn new(committer: Committer, tools: Tools) -> Self {
        Self { committer, tools }
    }
}

impl Handler for Pipeline {
    fn kinds(&self) -> Vec<JobKind> {
        let kind = |name| JobKind::new(name).expect("a constant that is a kind");
        [PROCESS, STEP, DETECT, GENERATE].map(kind).to_vec()
    }

    fn run(&self, work: &Work) -> Result<Outcome, (JobError, Option<Duration>)> {
        match work.job.kind.as_str() {
            DETECT => ended(resources::detect(work, &self.tools), "detect"),
            GENERATE => {
                let missing = || {
                    let why = "no model is configured that writes (complete.url)";
                    StageError::permanent("COMPLETER_MISSING", why)
                };
                let completer = self.tools.completer.as_deref().ok_or_else(missing);
                let written = completer.and_then(|completer| resources::generate(work, completer));
                ended(written, "generate")
            }
            _ => self.document(work),
        }
    }
}

/// What came of a job that has no stages.
fn ended(
    result: Result<Metadata, StageError>,
    what: &str,
) -> Result<Outcome, (JobError, Option<Duration>)> {
    match result {
        Ok(result) => Ok(Outcome::Done {
            result,
            warnings: Vec::new(),
        }),
        Err(error) => resources::failed(&error, what),
    }
}

impl Pipeline {
    fn document(&self, work: &Work) -> Result<Outcome, (JobError, Option<Duration>)> {
        let began = Instant::now();
        let Some(document_id) = work.job.document_id else {
            return Err((refused("the job names no document"), None));
        };
        let desk = LocalDesk {
            work,
            committer: &self.committer,
            document_id,
            seen: RefCell::default(),
            began: Cell::new(began),
        };
        let step = work.job.payload.get("step").and_then(|step| step.as_str());
        let ran = match step.map(str::parse::<Stage>) {
            None => {
                let again = work
                    .job
                    .payload
                    .get("again")
                    .and_then(|stage| stage.as_str());
                let again = again.and_then(|stage| stage.parse().ok());
                process_again(&desk, &self.tools, again)
            }
            Some(Ok(stage)) => desk
                .step(&self.tools, stage)
                .map_err(|error| (stage, error)),
            Some(Err(())) => return Err((refused("there is no such step"), None)),
        };
        match ran {
            Ok(()) => {
                let document = desk.document().ok();
                let summary = Summary::of(document_id, document.as_ref());
                Ok(Outcome::Done {
                    result: summary.result(began.elapsed()),
                    warnings: summary.warnings(),
                })
            }
            Err((stage, error)) => desk.failed(stage, &error),
        }
    }
}

fn refused(message: &str) -> JobError {
    JobError {
        code: "INVALID_PAYLOAD".to_owned(),
        message: message.to_owned(),
        stage: None,
        transient: false,
    }
}

/// A document on the desk of a worker inside the server.
struct LocalDesk<'a> {
    work: &'a Work,
    committer: &'a Committer,
    document_id: ResourceId,
    /// The document as it was when the stage was begun: what it is done on, and recorded for.
    seen: RefCell<Option<Document>>,
    /// When the stage was begun.
    began: Cell<Instant>,
}

impl From<CommitError> for StageError {
    fn from(error: CommitError) -> Self {
        use stemma_domain::job::JobRefusal;
        match error {
            CommitError::Jobs(JobsError::Refused(JobRefusal::LeaseLost)) => Self::LeaseLost,
            CommitError::NotFound => Self::permanent("DOCUMENT_NOT_FOUND", error),
            CommitError::Output(_) => Self::permanent("INVALID_OUTPUT", error),
            CommitError::Refused(_) => Self::permanent("STAGE_MISSING", error),
            CommitError::Jobs(JobsError::Command(CommandError::Refused {
                refusal: Refusal::Document(_),
                ..
            })) => Self::input_changed(CHANGED_MEANWHILE),
            CommitError::NotIndexed(_) => Self::transient("NOT_INDEXED", error),
            CommitError::Internal(_) => Self::permanent("INTERNAL", error),
            CommitError::Read(ref source @ ReadError::Io { .. }) => {
                Self::transient("STORAGE_UNAVAILABLE", format!("{error}: {source}"))
            }
            CommitError::NotStored(_) => Self::permanent("CONTENT_DAMAGED", error),
            CommitError::Read(ref source) => {
                Self::permanent("CONTENT_DAMAGED", format!("{error}: {source}"))
            }
            CommitError::Put(ref source) => {
                Self::transient("STORAGE_UNAVAILABLE", format!("{error}: {source}"))
            }
            CommitError::Jobs(_) => Self::transient("STORAGE_UNAVAILABLE", error),
        }
    }
}

impl LocalDesk<'_> {
    fn document(&self) -> Result<Document, CommitError> {
        self.committer.document(self.document_id)
    }

    /// Does one stage, unless it is done as it is asked for: two jobs may have been queued for it,
    /// or a person had one tried anew that was done since.
    fn step(&self, tools: &Tools, stage: Stage) -> Result<(), StageError> {
        let document = self.document()?;
        let is_as_asked = chunking_of(&self.work.job, &document) == document.chunking;
        if is_as_asked && document.stages.contains_key(&stage) {
            return Ok(());
        }
        run(self, tools, stage)
    }

    /// Notes a failure with the document, and gives it for the job.
    fn failed(
        &self,
        stage: Stage,
        error: &StageError,
    ) -> Result<Outcome, (JobError, Option<Duration>)> {
        // Of a lost lease the job is told by the one who has it now.
        let Some((error, after)) = error.job_error(stage) else {
            return Ok(Outcome::Stopped);
        };
        // What goes wrong while it is being stopped says nothing of the job.
        if error.transient && self.work.is_stopped() {
            return Ok(Outcome::Stopped);
        }
        let failed = DocumentStageFailed {
            attempt: self.work.job.attempts,
            document_id: self.document_id,
            error: error.clone(),
            job_id: self.work.job.id,
            stage,
            took_ms: Some(millis(self.began.get().elapsed())),
        };
        let fail = DocumentCommand::FailStage(failed);
        let request = stemma_commands::Request {
            sight: stemma_domain::access::Sight::Everything,
            operations: vec![Operation::of_document(self.document_id, fail)],
            actor: self.worker().to_owned(),
            trace_id: self.work.job.trace_id.clone(),
            idempotency: None,
            bases: [].into(),
            pins: Vec::new(),
        };
        if let Err(unnoted) = self.work.execute(request) {
            tracing::debug!(%unnoted, "a failed stage was not noted with its document");
        }
        Err((error, after))
    }

    fn worker(&self) -> &str {
        let claim = self.work.job.claim.as_ref();
        claim.map_or("stemma", |claim| claim.worker.as_str())
    }

    fn commit(&self, output: StageOutput, took: Duration) -> Result<(), CommitError> {
        let submission = Submission {
            job: &self.work.job,
            token: self.work.token(),
            document: &self.seen()?,
            output,
            took,
            actor: self.worker(),
        };
        let block_on = |future: CommitFuture<'_>| self.work.block_on(future);
        self.committer
            .commit(submission, self.work.stop_flag(), &block_on)?;
        Ok(())
    }

    fn output(&self, stage: Stage, name: &str) -> Result<bytes::Bytes, StageError> {
        Ok(self.committer.output(&self.seen()?, stage, name)?)
    }

    fn seen(&self) -> Result<Document, CommitError> {
        match &*self.seen.borrow() {
            Some(seen) => Ok(seen.clone()),
            None => self.document(),
        }
    }
}

impl Desk for LocalDesk<'_> {
    fn task(&self) -> Result<Task, StageError> {
        self.began.set(Instant::now());
        let document = self.document()?;
        let task = Task {
            chunking: chunking_of(&self.work.job, &document),
            ..Task::from(&document)
        };
        self.seen.replace(Some(document));
        Ok(task)
    }

    fn content(&self) -> Result<Box<dyn Read + Send + '_>, StageError> {
        Ok(Box::new(self.committer.file(&self.document()?)?))
    }

    fn text(&self) -> Result<String, StageError> {
        Ok(self.committer.text(&self.seen()?)?)
    }

    fn structure(&self) -> Result<Structure, StageError> {
        let bytes = self.output(Stage::Parse, "structure")?;
        serde_json::from_slice(&bytes).map_err(|error| StageError::permanent("BROKEN", error))
    }

    fn chunk_texts(&self) -> Result<ChunkTexts<'_>, StageError> {
        let chunks = self.committer.chunks(&self.seen()?, 0)?;
        Ok(Box::new(chunks.map(|chunk| Ok(chunk?.1))))
    }

    fn submit(&self, stage: Stage, output: StageOutput, took: Duration) -> Result<(), StageError> {
        if stage != Stage::Index {
            return Ok(self.commit(output, took)?);
        }
        // The search index does the rest: many documents wait for one commit of it.
        self.work.step_aside();
        let began = Instant::now();
        loop {
            let took = took.saturating_add(began.elapsed());
            match self.commit(StageOutput::Indexed, took) {
                // One that is made anew takes as long as it takes; no document has failed by that.
                Err(CommitError::NotIndexed(NotIndexed::CatchingUp(_)))
                    if !self.work.is_stopped() => {}
                ended => return Ok(ended?),
            }
        }
    }

    fn progress(&self, percent: u8, message: &str) {
        self.work.progress(percent, message);
    }

    fn stop(&self) -> &Arc<AtomicBool> {
        self.work.stop_flag()
    }
}

#[cfg(test)]
mod tests;
