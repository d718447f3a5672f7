//! How many files the process may have open, and so how many connections it may take.

use std::thread::available_parallelism;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stemma_api::Options;

/// Files that are open besides connections: those of the log, of views and of content.
const OTHER_FILES: u64 = 2048;

/// Raises the process's limit to what it may be raised to; gives what holds then.
pub(crate) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let holds = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    holds.unwrap_or(u64::MAX)
}

/// Most connections of each worker: as configured, or fewer where the system lets the process open
/// fewer files. Beyond them new ones wait, and no file of ours fails to open.
pub(crate) fn connections_max(options: &Options, files: u64) -> usize {
    let workers = match options.workers {
        0 => available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let all = files.saturating_sub(OTHER_FILES).max(files / 2);
    let each = usize::try_from(all).unwrap_or(usize::MAX) / workers;
    if each < options.connections_max {
        tracing::info!(
            open_files = files,
            connections = each * workers,
            "the limit of open files bounds the connections; raise it (ulimit -n) for more"
        );
    }
    options.connections_max.min(each).max(1)
}
