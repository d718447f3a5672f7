//! A job while it is being claimed, and what becomes of it when whoever asked leaves meanwhile.
//!
//! Invariant: a job is held back from others until it is known whether it is claimed; a claim that
//! was written for somebody who has gone is given back, with no retry used up, and no other is.

use stemma_domain::id::JobId;
use stemma_domain::job::{Job, JobCommand, JobRefusal};
use stemma_domain::value::WorkerName;

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
    Left(LeftClaim),
}

/// A claim of which nobody knows whether it is written, and who would have had it has gone.
#[derive(Debug, Clone)]
pub(crate) struct LeftClaim {
    id: JobId,
    /// Its token, if it is written: the revision behind the one that the job was at.
    token: u64,
    worker: WorkerName,
}

impl LeftClaim {
    /// A claim that is about to be written.
    pub(crate) fn of(job: &Job, worker: &WorkerName) -> Self {
        Self {
            id: job.id,
            token: job.revision + 1,
            worker: worker.clone(),
        }
    }

    /// Whether it is the one that a job stands under now: it may have been lost or given back
    /// since, and another be there.
    fn stands(&self, job: &Job) -> bool {
        let claim = job.claim.as_ref();
        claim.is_some_and(|claim| claim.token == self.token && claim.worker == self.worker)
    }
}

impl Drop for Choice<'_> {
    fn drop(&mut self) {
        let shared = &self.queue.shared;
        match &self.end {
            ChoiceEnd::Claimed => return,
            ChoiceEnd::Failed => shared.board().unchoose(self.id),
            // Still held back: the ticker looks what the log holds.
            ChoiceEnd::Left(claim) => shared.left_claims().push(claim.clone()),
        }
        shared.wake();
    }
}

impl Queue {
    /// Gives back the jobs whose claims were written although those who asked for them had left.
    pub(crate) async fn give_back_left(&self) {
        let left = std::mem::take(&mut *self.shared.left_claims());
        for claim in left {
            if let Err(error) = self.give_back(&claim).await {
                tracing::warn!(job = %claim.id, %error, "a claim that was left is not dealt with yet");
                self.shared.left_claims().push(claim);
            }
        }
    }

    async fn give_back(&self, left: &LeftClaim) -> Result<(), JobsError> {
        let id = left.id;
        // Whether it is written shows once the log's queue is dealt with as it is now.
        self.commands().appender().settled().await;
        let job = self.commands().job(id)?.ok_or(JobRefusal::NotFound)?;
        if left.stands(&job) {
            let release = JobCommand::Release {
                token: left.token,
                reason: "whoever asked for it has gone".to_owned(),
            };
            match self.command(id, release, "stemma", &job.trace_id).await {
                Ok(_) | Err(JobsError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.shared.caught_up(id)?;
        if job.revision < left.token {
            // Nothing came of it: what holds the job back is what was left.
            self.shared.board().unchoose(id);
        }
        self.shared.wake();
        Ok(())
    }
}
