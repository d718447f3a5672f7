//! What the process takes of its machine, and what came of backups, for `/metrics`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use stemma_api::{Figure, FigureValue, Figures};

use crate::backups::ServerBackups;
use crate::cli::Common;
use crate::config::{Settings, data_dir};

/// Tells what the process takes.
pub(crate) struct ProcessFigures {
    data: PathBuf,
    backups: Arc<ServerBackups>,
}

#[allow(clippy::cast_precision_loss)] // no figure here comes near 2^53
fn gauge(name: &'static str, help: &'static str, value: u64) -> Figure {
    let value = FigureValue::Gauge(value as f64);
    Figure { name, help, value }
}

/// A figure of `/proc/self/status` in bytes; 0 where it is not told.
fn status_bytes(status: &str, key: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(key));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl ProcessFigures {
    pub(crate) fn of(common: &Common, settings: &Settings, backups: Arc<ServerBackups>) -> Self {
        Self {
            data: data_dir(common, Some(settings)),
            backups,
        }
    }

    fn disk(&self) -> [Figure; 2] {
        let told = rustix::fs::statvfs(&self.data);
        let of = |blocks: u64, size: u64| blocks.saturating_mul(size);
        let (free, all) = told.map_or((0, 0), |fs| {
            (of(fs.f_bavail, fs.f_frsize), of(fs.f_blocks, fs.f_frsize))
        });
        [
            gauge(
                "disk_free_bytes",
                "Bytes that are free where the data is",
                free,
            ),
            gauge("disk_bytes", "Bytes that there are where the data is", all),
        ]
    }
}

impl Figures for ProcessFigures {
    fn figures(&self) -> Vec<Figure> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let made = self.backups.made();
        let counter = |name, help, value| Figure {
            name,
            help,
            value: FigureValue::Counter(value),
        };
        let mut all = vec![
            gauge(
                "process_resident_bytes",
                "Bytes of memory that the process holds",
                status_bytes(&status, "VmRSS:"),
            ),
            gauge(
                "process_anonymous_bytes",
                "Bytes of them that are of no file",
                status_bytes(&status, "RssAnon:"),
            ),
            gauge(
                "process_open_files",
                "Files and connections that are open",
                open,
            ),
            gauge("process_open_files_limit", "How many may be", most),
            gauge(
                "backup_last_success_seconds",
                "When the last backup was made by this process, in seconds since 1970; 0 before",
                made.last_s,
            ),
            gauge(
                "backup_targets",
                "Targets of backups that are configured",
                made.n_targets,
            ),
            counter(
                "backups_made",
                "Backups that were made by this process",
                made.n_whole,
            ),
            counter(
                "backups_failed",
                "Backups that were begun by this process and failed",
                made.n_failed,
            ),
        ];
        all.extend(self.disk());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_tells_it() {
        let status = "Name:\tstemma\nVmRSS:\t    1024 kB\nRssAnon:\t      12 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), 1 << 20);
        assert_eq!(status_bytes(status, "RssAnon:"), 12 << 10);
        assert_eq!(status_bytes(status, "VmSwap:"), 0);
    }
}
