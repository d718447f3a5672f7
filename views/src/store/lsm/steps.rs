//! Tables brought to the medium in steps, while they are written.
//!
//! The engine syncs a table once it is whole, some tens of megabytes at once; a group of the log that
//! is to be synced meanwhile stands behind all of them. In steps it stands behind a few. The engine
//! writes through a file of its own, so another handle on the same file does it. What fails here is
//! left to the engine's own sync, which decides.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// Bytes that are written between two steps.
const STEP_BYTES: usize = 4 << 20;
/// Tables that a step looks at. Two may be written at a time, and while one of them is merged some
/// of rows in memory are begun and ended; what was synced already costs a flush of
/// the device.
const LATEST: usize = 6;

/// Counts what is written, and brings it to the medium now and then.
pub(super) struct Steps {
    tables: Arc<Path>,
    unsynced: usize,
}

impl Steps {
    /// Of the tables in a directory.
    pub(super) fn of(tables: Arc<Path>) -> Self {
        Self {
            tables,
            unsynced: 0,
        }
    }

    /// So many bytes more were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.unsynced += bytes;
        if self.unsynced < STEP_BYTES {
            return;
        }
        self.unsynced = 0;
        for table in latest(&self.tables) {
            let synced = File::open(&table).and_then(|file| file.sync_data());
            if let Err(error) = synced {
                tracing::debug!(%error, table = %table.display(), "left to the engine's own sync");
            }
        }
    }
}

/// The tables that were begun last; they have numbers as names.
fn latest(tables: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(tables).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = files
        .filter_map(|file| file.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let last = numbers.iter().rev().take(LATEST);
    last.map(|number| tables.join(number.to_string())).collect()
}

/// Has tables that are made by merging synced in steps; breaks merging off when the store is closed,
/// or opened anew after a failure.
pub(super) struct Merging {
    pub(super) tables: Arc<Path>,
    pub(super) is_closing: Arc<AtomicBool>,
}

struct MergingSteps {
    steps: Steps,
    is_closing: Arc<AtomicBool>,
}

impl Factory for Merging {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(MergingSteps {
            steps: Steps::of(Arc::clone(&self.tables)),
            is_closing: Arc::clone(&self.is_closing),
        })
    }
}

impl CompactionFilter for MergingSteps {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.is_closing.load(Ordering::Acquire) {
            // Nothing was registered; what was written is removed by whoever opens the store next,
            // or goes on with it.
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        self.steps.wrote(item.key().len() + item.value()?.len());
        Ok(Verdict::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_that_were_begun_last_are_those_with_the_highest_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["9", "8", "10", "7", "2", "12", "11", "note"] {
            File::create(dir.path().join(name)).unwrap();
        }
        let names = ["12", "11", "10", "9", "8", "7"];
        assert_eq!(latest(dir.path()), names.map(|name| dir.path().join(name)));
        assert!(latest(&dir.path().join("none")).is_empty());
    }
}
