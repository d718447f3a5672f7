//! Why the queue did not do what was asked.

use stemma_commands::{CommandError, HistoryError};
use stemma_domain::job::JobRefusal;
use stemma_domain::resource::Refusal;

/// Why a request to the queue had no effect.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The job is not in a state for it; nothing was written.
    #[error(transparent)]
    Refused(#[from] JobRefusal),
    /// Too many jobs wait; nothing was written.
    #[error("{queued} jobs wait, which is the most that may")]
    Full {
        /// How many wait.
        queued: usize,
    },
    /// The jobs of the log are not known yet, or the views do not tell them.
    #[error("the queue is not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
    /// The write path refused or failed.
    #[error(transparent)]
    Command(CommandError),
}

impl JobsError {
    /// That the jobs of the log are not known yet.
    pub(crate) fn not_ready() -> Self {
        Self::NotReady {
            reason: "the jobs of the log are being looked up".to_owned(),
        }
    }
}

impl From<CommandError> for JobsError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused {
                refusal: Refusal::Job(refusal),
                ..
            } => Self::Refused(refusal),
            other => Self::Command(other),
        }
    }
}

impl From<HistoryError> for JobsError {
    fn from(error: HistoryError) -> Self {
        Self::Command(error.into())
    }
}
