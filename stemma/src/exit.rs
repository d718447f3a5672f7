//! Exit statuses, and how a failure is told.

use std::process::ExitCode;

use stemma_backup::{BackupError, RestoreError};
use stemma_content_store::VerifyError as ContentVerifyError;
use stemma_event_log::{OpenError, ReadError, VerifyError as LogVerifyError};
use stemma_projections::{NotOfLog, RebuildError, StartError};

use crate::interrupt::Interrupted;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: done in part, or not at all.
    Failed,
    /// 3: damage was found.
    Damaged,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Damaged => 3,
        })
    }
}

/// Usage or configuration is wrong: status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What is stored is damaged: status 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) String);

/// Whoever read the answer has gone, as `head` does: status 0, and nothing is said of it.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the answer any more")]
pub(crate) struct ReaderGone;

/// Whether a command ended because it was told to.
pub(crate) fn is_interruption(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Interrupted>().is_some()
        || matches!(error.downcast_ref(), Some(LogVerifyError::Stopped))
        || matches!(error.downcast_ref(), Some(ContentVerifyError::Stopped))
        || matches!(error.downcast_ref(), Some(RebuildError::Cancelled))
        || matches!(error.downcast_ref(), Some(BackupError::Stopped))
        || matches!(error.downcast_ref(), Some(RestoreError::Stopped))
}

/// Whether a command was not begun, because it was asked for what is not done.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<Usage>() || matches!(error.downcast_ref(), Some(BackupError::Occupied { .. }))
}

/// Whether a command ended because what is stored is damaged, whatever it was doing.
fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Damaged>()
            || cause.is::<NotOfLog>()
            || cause.downcast_ref().is_some_and(BackupError::is_damage)
            || cause.downcast_ref().is_some_and(RestoreError::is_damage)
            || matches!(cause.downcast_ref(), Some(ReadError::Damaged { .. }))
            || matches!(cause.downcast_ref(), Some(OpenError::Damaged { .. }))
            // Transparent errors are not links of the chain themselves.
            || matches!(cause.downcast_ref(), Some(StartError::NotOfLog(_)))
            || matches!(cause.downcast_ref(), Some(RebuildError::NotOfLog(_)))
    })
}

/// Tells what went wrong and gives the status for it.
#[allow(clippy::print_stderr)] // what a person at a terminal reads
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<ReaderGone>() {
        return Exit::Done.into();
    }
    eprintln!("stemma: {error:#}");
    let has = |found: bool, status: u8| found.then_some(ExitCode::from(status));
    has(is_usage(error), 2)
        .or_else(|| has(is_damage(error), 3))
        .or_else(|| has(is_interruption(error), 130))
        .unwrap_or(ExitCode::from(1))
}
