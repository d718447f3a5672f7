//! A worker's hold on a job: a thread that renews the lease and tells how far the work is.
//!
//! Invariant: when the server says that the lease is lost or the job cancelled, or this process is
//! asked to end, the flag that stops the work is set; a server that is away stops nothing, for it
//! alone can say whose the job is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use stemma_telemetry::SpanContext;

use crate::api_client::{Refused, Server};
use crate::interrupt;

/// Least time between two words about how far the work is.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How often the thread looks whether the process is to end.
const LOOK_AROUND: Duration = Duration::from_millis(200);
/// Heartbeats in a lease: one may be lost, and another be late.
const BEATS: u32 = 3;
/// Shortest time between heartbeats, whatever the lease.
const BEAT_MIN: Duration = Duration::from_millis(10);
/// Most bytes of a message that is told.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The code of an answer to one who has lost a lease.
pub(crate) const LEASE_LOST: &str = "LEASE_LOST";
/// The code of an answer to one whose job is not there.
pub(crate) const JOB_NOT_FOUND: &str = "JOB_NOT_FOUND";

/// What names an attempt to the server.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) job_id: String,
    pub(crate) token: u64,
    /// How long the worker may stay silent.
    pub(crate) lease: Duration,
}

/// A lease that is kept until it is ended.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    server: Arc<Server>,
    attempt: Attempt,
    stop: Arc<AtomicBool>,
    is_lost: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    /// How far the work is, when that is not told yet.
    untold: Option<(u8, String)>,
}

impl Lease {
    /// Begins to keep a lease.
    ///
    /// # Errors
    /// When the system refuses a thread; the lease runs out then.
    pub(crate) fn keep(server: Arc<Server>, attempt: Attempt) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            server,
            attempt,
            stop: Arc::default(),
            is_lost: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&shared);
        let span = stemma_telemetry::current();
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || {
                let _followed = span.map(SpanContext::follow);
                own.run();
            })
            .context("start the thread that keeps a lease")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The attempt that it is of.
    pub(crate) fn attempt(&self) -> &Attempt {
        &self.shared.attempt
    }

    /// Set once the work is to stop.
    pub(crate) fn stop(&self) -> &Arc<AtomicBool> {
        &self.shared.stop
    }

    /// Whether the job is another's, or has ended.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.is_lost.load(Ordering::Acquire)
    }

    /// Notes that it is lost.
    pub(crate) fn lose(&self) {
        self.shared.lose();
    }

    /// Has the server told how far the work is, soon.
    pub(crate) fn tell(&self, percent: u8, message: &str) {
        let mut message = message.to_owned();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        self.shared.state().untold = Some((percent, message));
        self.shared.changed.notify_all();
    }
}

impl Drop for Lease {
    /// Ends the thread; what was not told is left untold.
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that keeps a lease ended by a mistake of ours");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.stop.store(true, Ordering::Release);
    }

    fn run(&self) {
        let beat_every = (self.attempt.lease / BEATS).max(BEAT_MIN);
        let mut last = Instant::now();
        loop {
            if interrupt::flow().is_break() {
                self.stop.store(true, Ordering::Release);
            }
            let told = {
                let mut state = self.state();
                if state.is_over || self.is_lost.load(Ordering::Acquire) {
                    return;
                }
                let (since, is_untold) = (last.elapsed(), state.untold.is_some());
                let due = if is_untold {
                    beat_every.min(TELL_EVERY)
                } else {
                    beat_every
                };
                if since < due {
                    let rest = due.saturating_sub(since).min(LOOK_AROUND);
                    let waited = self.changed.wait_timeout(state, rest);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                    continue;
                }
                state.untold.take()
            };
            last = Instant::now();
            self.beat(told.as_ref(), beat_every);
        }
    }

    fn beat(&self, told: Option<&(u8, String)>, within: Duration) {
        let (id, token) = (&self.attempt.job_id, self.attempt.token);
        let (call, body) = match told {
            None => ("heartbeat", json!({ "fencing_token": token })),
            Some((percent, message)) => (
                "progress",
                json!({ "fencing_token": token, "progress": percent, "message": message }),
            ),
        };
        let path = format!("/api/workers/jobs/{id}/{call}");
        let body = body.to_string();
        match self.server.post(&path, body.as_bytes(), Some(within)) {
            Ok(answer) => {
                let answer = answer.unwrap_or(Value::Null);
                if answer["cancelled"].as_bool() == Some(true) {
                    self.stop.store(true, Ordering::Release);
                }
            }
            Err(error) if is_lost(&error) => {
                tracing::warn!(job = %id, "the lease is lost: another worker has the job, or it has ended");
                self.lose();
            }
            Err(error) => tracing::debug!(job = %id, "no heartbeat: {error:#}"),
        }
    }
}

/// Whether an answer says that the attempt is over.
pub(crate) fn is_lost(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| [LEASE_LOST, JOB_NOT_FOUND].contains(&refused.code.as_str()))
}
