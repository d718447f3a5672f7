//! The graph in rows beside the views: opened when there is time, never waited for by a write.
//!
//! Invariant: nothing of it keeps a server from starting, a write from being acknowledged or the
//! views from answering. What is wrong with it is told as its state.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stemma_views::graph::Graph;
use stemma_views::{Share, give_way};
use tokio::sync::watch;

use super::GraphState;
use crate::projection::{Projection, Settings};
use crate::runner::causes;

/// The graph of a tenant, in rows beside the views.
#[derive(Debug)]
pub(super) struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    opened: OnceLock<Result<Projection<Graph>, String>>,
    /// Becomes true with `opened`.
    is_opened: watch::Sender<bool>,
    opener: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Has a thread open the graph's rows, and then follow the log.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(settings: Settings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            opened: OnceLock::new(),
            is_opened: watch::Sender::new(false),
            opener: Mutex::default(),
        });
        let opening = Arc::clone(&shared);
        let opener = std::thread::Builder::new()
            .name("graph-open".to_owned())
            .spawn(move || {
                // For all threads of the graph, which this one starts: writes and the views come
                // first.
                give_way(Share::Least);
                let started = Projection::<Graph>::start(settings).map_err(|error| {
                    let reason = causes(&error);
                    tracing::error!(reason, "the graph cannot be had; the views answer");
                    reason
                });
                // Nobody else sets it.
                let _ = opening.opened.set(started);
                opening.is_opened.send_replace(true);
            })?;
        *shared.opener.lock().unwrap_or_else(PoisonError::into_inner) = Some(opener);
        Ok(Self { shared })
    }

    /// What follows the log, once it is open.
    pub(super) fn get(&self) -> Option<&Projection<Graph>> {
        self.shared.opened.get()?.as_ref().ok()
    }

    /// Waits until it was opened, or cannot be, or the time is up.
    pub(super) async fn opened(&self, timeout: Duration) {
        let mut is_opened = self.shared.is_opened.subscribe();
        // Whatever came of it shows in the state.
        let _ = tokio::time::timeout(timeout, is_opened.wait_for(|is| *is)).await;
    }

    /// How it is.
    pub(super) fn state(&self) -> GraphState {
        match self.shared.opened.get() {
            None => GraphState::Opening,
            Some(Err(reason)) => GraphState::Failed {
                reason: reason.clone(),
            },
            Some(Ok(projection)) => GraphState::Running(projection.status()),
        }
    }

    /// Stops following, and waits until that is done.
    pub(super) fn stop(&self) {
        let opener = self
            .shared
            .opener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(opener) = opener
            && opener.join().is_err()
        {
            tracing::error!("opening the graph panicked");
        }
        if let Some(projection) = self.get() {
            projection.stop();
        }
    }
}
