//! Reading the whole log once behind a server's start, where opening did not.
//!
//! Opening takes what sealed segments hold at their seals' word, so that a large log opens at
//! once; what is wrong in them is found here and stops the writes.

use std::error::Error as _;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use stemma_event_log::{Appender, Progress, VerifyError};
use stemma_views::{Share, give_way};

/// A thread that reads the log.
pub(crate) struct LogCheck {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl LogCheck {
    /// Starts to read, at most so many bytes a second, which leaves the disk to the others, and
    /// where nobody else wants the processor, as far as the system goes along.
    pub(crate) fn start(appender: Appender, bytes_per_s: u64) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("log-check".into())
            .spawn(move || {
                give_way(Share::Least);
                check(&appender, &Pace::new(bytes_per_s), &stopped);
            })?;
        Ok(Self { stop, thread })
    }

    /// Breaks it off, and waits until it has ended.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that checks the log ended by a mistake of ours");
        }
    }
}

fn check(appender: &Appender, pace: &Pace, stopped: &Receiver<()>) {
    let mut go_on = |progress: Progress| match stopped.recv_timeout(pace.wait(progress.bytes_done))
    {
        Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    match appender.check(&mut go_on) {
        Ok(report) if report.damages.is_empty() => {
            tracing::info!(events = report.records, "all of the log was read: intact");
        }
        Ok(report) => {
            for damage in &report.damages {
                tracing::error!(
                    file = damage.file,
                    offset = damage.offset,
                    detail = damage.detail,
                    "log is damaged"
                );
            }
        }
        Err(VerifyError::Stopped) => {}
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            tracing::warn!(%error, cause, "the log could not be checked");
        }
    }
}

/// How fast it may go.
struct Pace {
    bytes_per_s: u64,
    begun: Instant,
}

impl Pace {
    fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            begun: Instant::now(),
        }
    }

    /// How long to wait after so many bytes.
    fn wait(&self, bytes_done: u64) -> Duration {
        let due_us = u128::from(bytes_done) * 1_000_000 / u128::from(self.bytes_per_s.max(1));
        let due = Duration::from_micros(u64::try_from(due_us).unwrap_or(u64::MAX));
        due.saturating_sub(self.begun.elapsed())
    }
}
