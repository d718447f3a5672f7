//! The thread that writes indexes of full segments and merges them.
//!
//! Invariant: the writer never waits for it, except when more than a few segments have gathered.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use crate::shared::Shared;

/// Full segments whose indexes may wait in memory.
const FROZEN_MAX: usize = 4;

enum Job {
    WriteOut,
    /// Answers when all before it is done.
    Settle(SyncSender<()>),
}

/// Owner of the thread.
pub(crate) struct Indexer {
    running: Option<(SyncSender<Job>, JoinHandle<()>)>,
}

impl Indexer {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(FROZEN_MAX);
        let thread = std::thread::Builder::new()
            .name("log-index".to_owned())
            .spawn(move || work(&shared, &queue))?;
        Ok(Self {
            running: Some((jobs, thread)),
        })
    }

    pub(crate) fn write_out(&self) {
        if let Some((jobs, _)) = &self.running {
            // Without the thread the index stays in memory, where it serves as well.
            let _ = jobs.send(Job::WriteOut);
        }
    }

    /// Returns when every index that waits was written out, or could not be. Runs may still be
    /// merged.
    pub(crate) fn settle(&self) {
        if let Some((jobs, _)) = &self.running {
            let (done, settled) = sync_channel(1);
            if jobs.send(Job::Settle(done)).is_ok() {
                // An error means that the thread is gone, and so its work.
                let _ = settled.recv();
            }
        }
    }

    /// Finishes what waits and ends the thread.
    pub(crate) fn stop(&mut self) {
        if let Some((jobs, thread)) = self.running.take() {
            drop(jobs);
            if thread.join().is_err() {
                tracing::error!("index thread panicked; the next open rebuilds what is missing");
            }
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        carry_out(shared, job);
        // Merging fills the time in which no segment waits.
        loop {
            match jobs.try_recv() {
                Ok(job) => carry_out(shared, job),
                Err(TryRecvError::Empty) if merge(shared) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Merges runs once; false when there was nothing to merge, or it failed. Damage that is met in the
/// segments stops the writes, as for any who read them.
fn merge(shared: &Shared) -> bool {
    shared.index.merge_once().unwrap_or_else(|error| {
        tracing::warn!(%error, "index runs not merged");
        shared.stop_if_damaged(&error);
        false
    })
}

fn carry_out(shared: &Shared, job: Job) {
    match job {
        Job::WriteOut => shared.index.write_out(),
        // The one who asked may be gone.
        Job::Settle(done) => drop(done.send(())),
    }
}
