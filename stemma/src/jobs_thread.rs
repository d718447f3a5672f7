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

use crate::reembed::Reembed;

/// How often the wait looks whether it is over.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// The thread, and the workers that it started.
pub(crate) struct JobsThread {
    stop: Arc<AtomicBool>,
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
        let stop = Arc::<AtomicBool>::default();
        let own = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || {
                let work = Working {
                    queue,
                    projection,
                    handler,
                    reembed,
                };
                work.run(&own);
            })
            .context("start the thread of the jobs")?;
        Ok(Self { stop, thread })
    }

    /// Has the workers give back what they have, and waits until they have ended.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the jobs ended by a mistake of ours");
        }
    }
}

struct Working {
    queue: Queue,
    projection: Projection,
    handler: Arc<dyn Handler>,
    reembed: Option<Reembed>,
}

impl Working {
    fn run(&self, stop: &AtomicBool) {
        let (queue, projection) = (&self.queue, &self.projection);
        let is_stopped = || stop.load(Ordering::Acquire);
        // What comes from here on, the feed tells.
        let end = queue.commands().reader().end().get();
        while projection.views().end() < end {
            if is_stopped() {
                return;
            }
            std::thread::park_timeout(LOOK_AROUND);
        }
        match projection.views().active_jobs() {
            Ok((end, jobs)) => queue.load(end, jobs),
            Err(error) => {
                tracing::error!(%error, "the jobs cannot be looked up; none is worked on");
                return;
            }
        }
        let mut workers = match Workers::start(queue, &self.handler) {
            Ok(workers) => workers,
            Err(error) => {
                tracing::error!(%error, "no workers can be started; no job is worked on");
                return;
            }
        };
        if let Some(reembed) = &self.reembed {
            reembed.run(queue, &projection.views(), &is_stopped);
        }
        while !is_stopped() {
            std::thread::park();
        }
        workers.stop();
    }
}
