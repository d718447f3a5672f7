//! Looking things up in all that does not change any more.
//!
//! Invariant: what a snapshot holds stays whole while it is used, whatever is merged meanwhile.

use std::sync::Arc;

use super::active::Active;
use super::run::{Run, RunFault};

use super::runs::Runs;
use crate::files::Files;

/// A consistent look at all that does not change.
pub(crate) struct Snapshot {
    pub(crate) frozen: Vec<Arc<Active>>,
    pub(crate) runs: Arc<Runs>,
}

impl Snapshot {
    /// Offsets of up to `count` records of the full segment that starts at `segment`.
    pub(crate) fn offsets(
        &self,
        files: &Files,
        segment: u64,
        position: u64,
        count: usize,
    ) -> Result<Option<Vec<u32>>, RunFault> {
        let frozen = self.frozen.iter().find(|frozen| frozen.holds(position));
        if let Some(frozen) = frozen {
            return Ok(Some(frozen.offsets(position, count)));
        }
        let run = self.runs.offsets.get(&segment);
        run.filter(|run| (run.header.first..run.header.end).contains(&position))
            .map(|run| run.offsets(files, position, count))
            .transpose()
    }

    /// Places of a stream's revisions in full segments, as revision and position.
    pub(crate) fn stream_range(
        &self,
        files: &Files,
        stream: u64,
        revisions: &std::ops::RangeInclusive<u32>,
    ) -> Result<Vec<(u32, u64)>, RunFault> {
        let mut found = Vec::new();
        for run in &self.runs.streams {
            run.range(files, stream, revisions.clone(), &mut found)?;
        }
        for frozen in &self.frozen {
            let within = frozen.newest_first(stream);
            found.extend(within.filter(|(revision, _)| revisions.contains(revision)));
        }
        Ok(found)
    }

    /// Candidates for a stream's last record, the newest first: at most one from each layer.
    pub(crate) fn stream_lasts(
        &self,
        files: &Files,
        stream: u64,
    ) -> Result<Vec<(u32, u64)>, RunFault> {
        let mut found = Vec::new();
        for frozen in self.frozen.iter().rev() {
            found.extend(frozen.newest_first(stream).next());
            if !found.is_empty() {
                return Ok(found);
            }
        }
        for run in self.runs.streams.iter().rev() {
            if let Some(revision) = run.last(files, stream, u32::MAX)? {
                run.range(files, stream, revision..=revision, &mut found)?;
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// Places of records whose digest starts so, in full segments.
    pub(crate) fn by_digest(&self, files: &Files, prefix: u64) -> Result<Vec<u64>, RunFault> {
        let mut found: Vec<u64> = self
            .frozen
            .iter()
            .flat_map(|frozen| frozen.by_digest(prefix))
            .collect();
        found.extend(keyed(files, &self.runs.digests, prefix)?);
        Ok(found)
    }

    /// Places of records whose idempotency key starts so, in full segments.
    pub(crate) fn by_key(&self, files: &Files, prefix: u64) -> Result<Vec<u64>, RunFault> {
        let mut found: Vec<u64> = self
            .frozen
            .iter()
            .flat_map(|frozen| frozen.by_key(prefix))
            .collect();
        found.extend(keyed(files, &self.runs.keys, prefix)?);
        Ok(found)
    }
}

fn keyed(files: &Files, runs: &[Arc<Run>], prefix: u64) -> Result<Vec<u64>, RunFault> {
    let mut found = Vec::new();
    for run in runs.iter().rev() {
        run.range(files, prefix, 0..=0, &mut found)?;
    }
    Ok(found.into_iter().map(|(_, position)| position).collect())
}
