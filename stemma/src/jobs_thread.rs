//! The thread that brings the queue up: it waits until the views hold the log, tells the queue
//! which jobs are not ended, and starts the workers.
//!
//! Nothing waits for it: a server whose views lag answers, and takes jobs in, meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use stemma_jobs::{Handler, Queue, Workers};
use stemma_projections::Projection;

use crate::reembed::{Reembed, Standing};

/// How often the wait looks whether it is over.
const LOOK_AROUND: Duration = Duration::from_millis(200);
/// How long it rests after the views could not tell the jobs.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The thread, and the workers that it started.
pub(crate) struct JobsThread {
    standing: Arc<Standing>,
    /// Set once the jobs of the log are known and those are queued that another model asks for.
    is_settled: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl JobsThread {
    /// Starts the thread.
    pub(crate) fn start(
        queue: Queue,
        projection: Projection,
        handler: Arc<dyn Handler>,
        reembed: Option<Reembed>,
    ) -> anyhow::Result<Self> {
        let standing = Arc::<Standing>::default();
        let own = Arc::clone(&standing);
        let is_settled = Arc::<AtomicBool>::default();
        let settled = Arc::clone(&is_settled);
        let thread = std::thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || {
                let workers = begin(&queue, &projection, &handler, &own);
                let Some(mut workers) = workers else {
                    return;
                };
                if let Some(reembed) = reembed {
                    reembed.run(&queue, &|| projection.views(), &own);
                }
                if !own.is_stopped() {
                    settled.store(true, Ordering::Release);
                }
                while !own.is_stopped() {
                    std::thread::park();
                }
                workers.stop();
            })
            .context("start the thread of the jobs")?;
        Ok(Self {
            standing,
            is_settled,
            thread,
        })
    }

    /// Whether all work that there is stands in the queue, or finds no room there, or none will be
    /// done.
    pub(crate) fn is_settled(&self) -> bool {
        let is_settled = self.is_settled.load(Ordering::Acquire);
        let waits_for_room = self.standing.waits_for_room.load(Ordering::Acquire);
        is_settled || waits_for_room || self.thread.is_finished()
    }

    /// Has the workers give back what they have, and waits until they have ended. Says whether all
    /// work that there was stood in the queue.
    pub(crate) fn stop(self) -> bool {
        self.standing.is_stopped.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the jobs ended by a mistake of ours");
        }
        self.is_settled.load(Ordering::Acquire)
    }
}

/// Brings the queue up and starts the workers; none where that cannot be, or is no longer wanted.
fn begin(
    queue: &Queue,
    projection: &Projection,
    handler: &Arc<dyn Handler>,
    standing: &Standing,
) -> Option<Workers> {
    let is_stopped = || standing.is_stopped();
    // What comes from here on, the feed tells.
    let end = queue.commands().reader().end().get();
    while projection.views().end() < end {
        if is_stopped() {
            return None;
        }
        std::thread::park_timeout(LOOK_AROUND);
    }
    loop {
        match projection.views().active_jobs() {
            Ok((end, jobs)) => {
                if queue.load(end, jobs) {
                    break;
                }
            }
            Err(error) => {
                // The views may be made anew while the server runs.
                tracing::error!(%error, "the jobs cannot be looked up; none is worked on yet");
                queue.note_trouble(format!(
                    "the jobs cannot be looked up: {error}; none is worked on until the views are made anew"
                ));
                std::thread::park_timeout(TRY_AGAIN);
            }
        }
        if is_stopped() {
            return None;
        }
    }
    loop {
        match Workers::start(queue, handler) {
            Ok(workers) => {
                queue.note_well();
                return Some(workers);
            }
            Err(error) => {
                // The system may have no room for threads, for now.
                tracing::error!(%error, "no workers can be started; no job is worked on yet");
                queue.note_trouble(format!(
                    "no workers can be started: {error}; no job is worked on inside the server"
                ));
                std::thread::park_timeout(TRY_AGAIN);
            }
        }
        if is_stopped() {
            return None;
        }
    }
}
