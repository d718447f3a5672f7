//! `decide`: from a document's state and a command to the events that follow, or a refusal.

use super::stage::Stage;
use super::state::Document;
use crate::event::{DocumentStageCompleted, DocumentStageFailed, DocumentUploaded, Event};
use crate::id::ContentDigest;

/// A request to change one document; it may be refused.
#[derive(Debug, Clone, PartialEq)]
pub enum DocumentCommand {
    /// Note that it came in.
    Upload(DocumentUploaded),
    /// Note that the same bytes came in once more, of which nothing came before: the document is
    /// begun anew, as this upload says.
    UploadAgain {
        /// What this upload says.
        uploaded: DocumentUploaded,
        /// The revision that the document was found at: of two who begin it anew, one does.
        found_at: u64,
    },
    /// Note that a stage is done.
    CompleteStage {
        /// What came of it.
        completed: DocumentStageCompleted,
        /// What it was done on: outputs of stages before it, which must still stand.
        rests_on: Vec<RestsOn>,
    },
    /// Note that a try at a stage failed.
    FailStage(DocumentStageFailed),
}

/// Content that a stage before put out, as it was when another worked on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestsOn {
    /// The stage that put it out.
    pub stage: Stage,
    /// Its name among that stage's outputs.
    pub output: &'static str,
    /// What it was.
    pub digest: ContentDigest,
}

/// Why a command to a document is refused. Nothing is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentRefusal {
    /// There is no such document.
    #[error("there is no such document")]
    NotFound,
    /// The document came in before.
    #[error("the document exists")]
    AlreadyExists,
    /// A stage before this one is not done.
    #[error("the stage {missing} must be done before {stage}")]
    StageMissing {
        /// The stage that was to be done.
        stage: Stage,
        /// The first before it that is not.
        missing: Stage,
    },
    /// What the stage was done on has changed meanwhile.
    #[error("what {changed} put out changed while {stage} was done on it: read it again")]
    InputChanged {
        /// The stage that was done.
        stage: Stage,
        /// The stage whose output is another now.
        changed: Stage,
    },
}

/// Decides what follows from a command. No events mean that everything is already as it was asked:
/// a stage that is done again on the same input, by the same version and with the same outcome.
///
/// # Errors
/// [`DocumentRefusal`].
pub fn decide(
    state: Option<&Document>,
    command: DocumentCommand,
) -> Result<Vec<Event>, DocumentRefusal> {
    match (command, state) {
        (DocumentCommand::Upload(_), Some(_)) => Err(DocumentRefusal::AlreadyExists),
        (DocumentCommand::Upload(uploaded), None) => Ok(vec![Event::DocumentUploaded(uploaded)]),
        (DocumentCommand::UploadAgain { uploaded, found_at }, Some(document)) => {
            if document.revision != found_at || !document.may_begin_anew() {
                return Err(DocumentRefusal::AlreadyExists);
            }
            Ok(vec![Event::DocumentUploaded(uploaded)])
        }
        (_, None) => Err(DocumentRefusal::NotFound),
        (
            DocumentCommand::CompleteStage {
                completed,
                rests_on,
            },
            Some(document),
        ) => {
            may_run(document, completed.stage)?;
            still_stands(document, completed.stage, &rests_on)?;
            let is_done = document.stages.get(&completed.stage).is_some_and(|done| {
                done.input == completed.input
                    && done.version == completed.version
                    && done.outputs == completed.outputs
            });
            Ok(if is_done {
                Vec::new()
            } else {
                vec![Event::DocumentStageCompleted(completed)]
            })
        }
        (DocumentCommand::FailStage(failed), Some(_)) => {
            Ok(vec![Event::DocumentStageFailed(failed)])
        }
    }
}

/// Whether what a stage was done on is what its document has now: a document may be cut anew while
/// vectors of its former chunks are being made.
fn still_stands(
    document: &Document,
    stage: Stage,
    rests_on: &[RestsOn],
) -> Result<(), DocumentRefusal> {
    let is_another = |input: &&RestsOn| {
        let now = document.output(input.stage, input.output);
        now.is_none_or(|now| now.digest != input.digest)
    };
    match rests_on.iter().find(is_another) {
        None => Ok(()),
        Some(input) => Err(DocumentRefusal::InputChanged {
            stage,
            changed: input.stage,
        }),
    }
}

/// Whether all before a stage is done.
///
/// # Errors
/// [`DocumentRefusal::StageMissing`] names the first that is not.
pub fn may_run(document: &Document, stage: Stage) -> Result<(), DocumentRefusal> {
    let missing = stage
        .before()
        .find(|before| !document.stages.contains_key(before));
    missing.map_or(Ok(()), |missing| {
        Err(DocumentRefusal::StageMissing { stage, missing })
    })
}
