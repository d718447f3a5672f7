//! The runs of a log and what each covers.
//!
//! Invariant: no two runs of a kind cover the same position.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::Sealed;
use super::run::{Run, RunKind};

/// Where new index files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into `index/`.
    Disk,
    /// Nowhere: for a reader that must not write.
    Memory,
}

/// The runs, sorted by what they cover; never two that cover the same position.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    pub(crate) offsets: BTreeMap<u64, Arc<Run>>,
    pub(crate) streams: Vec<Arc<Run>>,
    pub(crate) digests: Vec<Arc<Run>>,
    pub(crate) keys: Vec<Arc<Run>>,
}

impl Runs {
    pub(crate) fn of(&self, kind: RunKind) -> &[Arc<Run>] {
        match kind {
            RunKind::Offsets => &[],
            RunKind::Streams => &self.streams,
            RunKind::Digests => &self.digests,
            RunKind::Keys => &self.keys,
        }
    }

    /// Takes a run in and drops those it covers.
    pub(crate) fn install(&mut self, run: Run) -> Vec<Arc<Run>> {
        let (first, end) = (run.header.first, run.header.end);
        let run = Arc::new(run);
        let list = match run.header.kind {
            RunKind::Offsets => {
                return self.offsets.insert(first, run).into_iter().collect();
            }
            RunKind::Streams => &mut self.streams,
            RunKind::Digests => &mut self.digests,
            RunKind::Keys => &mut self.keys,
        };
        let covered = |other: &Arc<Run>| first <= other.header.first && other.header.end <= end;
        let (dropped, mut kept): (Vec<_>, Vec<_>) =
            std::mem::take(list).into_iter().partition(covered);
        kept.insert(
            kept.partition_point(|other| other.header.first < first),
            run,
        );
        *list = kept;
        dropped
    }

    pub(crate) fn drop_run(&mut self, run: &Arc<Run>) {
        let other = |candidate: &Arc<Run>| !Arc::ptr_eq(candidate, run);
        self.offsets.retain(|_, candidate| other(candidate));
        for list in [&mut self.streams, &mut self.digests, &mut self.keys] {
            list.retain(other);
        }
    }

    pub(crate) fn holds(&self, run: &Arc<Run>) -> bool {
        let same = |candidate: &Arc<Run>| Arc::ptr_eq(candidate, run);
        self.offsets.values().any(same)
            || [&self.streams, &self.digests, &self.keys]
                .into_iter()
                .flatten()
                .any(same)
    }

    pub(crate) fn covers(&self, kind: RunKind, sealed: &Sealed) -> bool {
        match kind {
            RunKind::Offsets => self
                .offsets
                .get(&sealed.first)
                .is_some_and(|run| run.header.end == sealed.end),
            _ => self
                .of(kind)
                .iter()
                .any(|run| run.header.first <= sealed.first && sealed.end <= run.header.end),
        }
    }
}
