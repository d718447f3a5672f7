//! A job while it is being claimed, and what becomes of it when whoever asked leaves meanwhile.
//!
//! Invariant: a job is held back from others until it is known whether it is claimed; a claim that
//! was written for somebody who has gone is given back, with no retry used up.

use stemma_domain::id::JobId;
use stemma_domain::job::{JobCommand, JobRefusal};

use crate::error::JobsError;
use crate::queue::Queue;

/// A job that is held back from others while it is claimed.
pub(crate) struct Choice<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) id: JobId,
    pub(crate) end: ChoiceEnd,
}

/// What became of a claim.
pub(crate) enum ChoiceEnd {
    /// The job is claimed.
    Claimed,
    /// It is not.
    Failed,
    /// Its caller left while it was being written.
    Left,
}

impl Drop for Choice<'_> {
    fn drop(&mut self) {
        let shared = &self.queue.shared;
        match self.end {
            ChoiceEnd::Claimed => return,
            ChoiceEnd::Failed => shared.board().unchoose(self.id),
            // Still held back: the ticker looks what the log holds.
            ChoiceEnd::Left => shared.left_claims().push(self.id),
        }
        shared.wake();
    }
}

impl Queue {
    /// Gives back the jobs whose claims were written although those who asked for them had left: as
    /// such a job is held back, a claim that stands is theirs.
    pub(crate) async fn give_back_left(&self) {
        let left = std::mem::take(&mut *self.shared.left_claims());
        for id in left {
            if let Err(error) = self.give_back(id).await {
                tracing::warn!(job = %id, %error, "a claim that was left is not dealt with yet");
                self.shared.left_claims().push(id);
            }
        }
    }

    async fn give_back(&self, id: JobId) -> Result<(), JobsError> {
        // Whether it is written shows once the log's queue is dealt with as it is now.
        self.commands().appender().settled().await;
        let job = self.commands().job(id)?.ok_or(JobRefusal::NotFound)?;
        if let Some(claim) = &job.claim {
            let release = JobCommand::Release {
                token: claim.token,
                reason: "whoever asked for it has gone".to_owned(),
            };
            match self.command(id, release, "stemma", &job.trace_id).await {
                Ok(_) => {}
                Err(JobsError::Refused(_)) => self.shared.caught_up(id)?,
                Err(error) => return Err(error),
            }
        }
        self.shared.board().unchoose(id);
        self.shared.wake();
        Ok(())
    }
}
