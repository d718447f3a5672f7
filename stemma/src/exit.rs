//! Exit statuses, and how a failure is told.

use std::process::ExitCode;

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

/// Tells what went wrong and gives the status for it.
#[allow(clippy::print_stderr)] // what a person at a terminal reads
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("stemma: {error:#}");
    let has = |found: bool, status: u8| found.then_some(ExitCode::from(status));
    has(error.downcast_ref::<Usage>().is_some(), 2)
        .or_else(|| has(error.downcast_ref::<Damaged>().is_some(), 3))
        .unwrap_or(ExitCode::from(1))
}
