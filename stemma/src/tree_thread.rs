//! Keeping the tree's hashes close behind the log, so that a proof is there when it is asked for.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use stemma_event_log::ProofTree;

/// How often the log is looked at while the tree holds all of it, or cannot be written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A thread that takes up what the log has.
pub(crate) struct TreeThread {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl TreeThread {
    pub(crate) fn start(tree: ProofTree) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("tree".into())
            .spawn(move || {
                let mut wait = Duration::ZERO;
                while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    wait = match tree.advance() {
                        Ok(false) => Duration::ZERO,
                        Ok(true) => LOOK_EVERY,
                        Err(error) => {
                            tracing::debug!(%error, "the tree does not follow the log");
                            LOOK_EVERY
                        }
                    };
                }
            })?;
        Ok(Self { stop, thread })
    }

    /// Stops it, and waits until it has ended.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the tree ended by a mistake of ours");
        }
    }
}
