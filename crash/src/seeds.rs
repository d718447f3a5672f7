//! Many seeds, on as many threads as there are processors.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::disk::Pace;
use crate::figures::Figures;
use crate::run::{Failure, Start, run_from};

/// A seed that takes longer hangs: a run takes less than a second.
const HANGS_AFTER: Duration = Duration::from_mins(2);

/// Runs a range of seeds. Stops at the first that fails, unless `all` are wanted; whatever fails
/// comes in the order of the seeds.
pub fn run_all(seeds: Range<u64>, pace: Pace, all: bool) -> (Figures, Vec<Box<Failure>>) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        let (mut figures, mut failures) = (Figures::default(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            match run_watched(seed, pace) {
                Ok(done) => figures += &done,
                Err(failure) => {
                    failures.push(failure);
                    stop.fetch_or(!all, Ordering::Relaxed);
                }
            }
        }
        (figures, failures)
    };
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(ScopedJoinHandle::join);
        joined
            .map(|worker| worker.expect("a worker only runs seeds, whose panics are caught"))
            .collect()
    });
    let (mut figures, mut failures) = (Figures::default(), Vec::new());
    for (own, mut failed) in done {
        figures += &own;
        failures.append(&mut failed);
    }
    failures.sort_by_key(|failure| failure.seed);
    (figures, failures)
}

/// Runs a seed on a thread of its own, so that one that panics or hangs is told with its number.
fn run_watched(seed: u64, pace: Pace) -> Result<Figures, Box<Failure>> {
    let (sender, answer) = mpsc::channel();
    let start = Start::of(seed, pace);
    let disk = start.disk.clone();
    let thread = thread::Builder::new()
        .name(format!("seed-{seed}"))
        .spawn(move || drop(sender.send(run_from(start))));
    let broken = |violation: &str| {
        Err(Box::new(Failure {
            seed,
            violation: violation.to_owned(),
            trace: disk.trace(),
        }))
    };
    let Ok(thread) = thread else {
        return broken("no thread to run it on");
    };
    match answer.recv_timeout(HANGS_AFTER) {
        Ok(done) => {
            // It has sent its answer; nothing is left to fail.
            let _ = thread.join();
            done
        }
        Err(RecvTimeoutError::Timeout) => broken("it hangs"),
        Err(RecvTimeoutError::Disconnected) => broken("it panicked"),
    }
}
