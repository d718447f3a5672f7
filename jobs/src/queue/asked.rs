//! What others ask of the queue under a key: carried out once, however often it is sent.
//!
//! Invariant: a request that was carried out before gets its first answer again, whatever the
//! queue's limits and the job are by now.

use stemma_commands::{Operation, Request, Written};
use stemma_domain::id::JobId;
use stemma_domain::job::{Job, JobCommand};
use stemma_event_log::Idempotency;

use super::{NewJob, Queue, request};
use crate::error::JobsError;

/// Who asks, and under which key.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Who acts.
    pub actor: &'a str,
    /// The trace that it belongs to.
    pub trace_id: &'a str,
    /// Makes it safe to ask again.
    pub idempotency: Option<Idempotency>,
}

impl Queue {
    /// The operation that queues a job, for a batch with others that has this key.
    ///
    /// # Errors
    /// [`JobsError::Full`] when too many wait, unless the key was answered before: then the batch
    /// queues nothing.
    pub fn queue_operation(
        &self,
        new: NewJob,
        idempotency: Option<&Idempotency>,
    ) -> Result<Operation, JobsError> {
        let queued = self.shared.board().waiting();
        // Looked up behind the count: the first request may be what filled the queue just now.
        if queued >= self.shared.options.queued_max && !self.is_repeated(idempotency)? {
            return Err(JobsError::Full { queued });
        }
        Ok(self.unlimited_operation(new))
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`JobsError`]; nothing was written, with the exceptions of the write path.
    pub async fn submit(
        &self,
        new: NewJob,
        actor: &str,
        idempotency: Option<Idempotency>,
    ) -> Result<(Job, Written), JobsError> {
        let trace_id = new.trace_id.clone();
        let operation = self.queue_operation(new, idempotency.as_ref())?;
        let request = Request {
            idempotency,
            ..request(actor, &trace_id, vec![operation])
        };
        self.one(request).await
    }

    /// Carries out a command to a job as [`command`](Self::command) does, once for each key.
    ///
    /// # Errors
    /// [`JobsError`]; nothing was written, with the exceptions of the write path.
    pub async fn command_once(
        &self,
        id: JobId,
        command: JobCommand,
        asking: Asking<'_>,
    ) -> Result<(Job, Written), JobsError> {
        let operations = vec![Operation::of_job(id, command)];
        let request = Request {
            idempotency: asking.idempotency,
            ..request(asking.actor, asking.trace_id, operations)
        };
        match self.one(request.clone()).await {
            // What stands in the way may be what the same request did, if two came at once.
            Err(JobsError::Refused(_)) if self.is_repeated(request.idempotency.as_ref())? => {
                self.one(request).await
            }
            done => done,
        }
    }

    fn is_repeated(&self, idempotency: Option<&Idempotency>) -> Result<bool, JobsError> {
        let commands = &self.shared.commands;
        let repeated = idempotency.map(|key| commands.is_repeated(key));
        Ok(repeated.transpose()?.unwrap_or(false))
    }
}
