//! Telling the queue of jobs what the views have just taken in.
//!
//! Views that are made anew beside the live ones tell the same again: whoever listens goes by the
//! position, which the live ones move on. Invariant: it is told behind the commit, before anybody
//! can ask, so an answer of the views and what was told never contradict each other.

use std::sync::{Arc, OnceLock};

use stemma_domain::job::Job;

/// Jobs that one batch of records changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangedJobs {
    /// The position after the last record that changed one.
    pub end: u64,
    /// The jobs as they are now.
    pub jobs: Vec<Job>,
}

type Listener = Box<dyn Fn(ChangedJobs) + Send + Sync>;

/// Where views tell of jobs; clones are the same place.
#[derive(Clone, Default)]
pub struct JobFeed {
    listener: Arc<OnceLock<Listener>>,
}

impl std::fmt::Debug for JobFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobFeed")
    }
}

/// Two feeds are the same when they are one place.
impl PartialEq for JobFeed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.listener, &other.listener)
    }
}

impl Eq for JobFeed {}

impl JobFeed {
    /// Has a listener told of all jobs that change from now on. It must be quick, and must not ask
    /// the views: they wait for it. Only the first listener is taken.
    pub fn connect(&self, listener: impl Fn(ChangedJobs) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    pub(crate) fn tell(&self, changed: ChangedJobs) {
        if let Some(listener) = self.listener.get() {
            listener(changed);
        }
    }
}
