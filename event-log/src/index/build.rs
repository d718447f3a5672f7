//! Making index files: from the index in memory, from a segment, from smaller runs.
//!
//! Invariant: a file gets its final name only when it is whole; until then readers use what it
//! is made from.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use super::active::{Active, Entry};
use super::run::{Block, Run, RunEntry, RunFault, RunHeader, RunKind, relative, run_name};
use super::run_writer::RunWriter;
use super::runs::{Place as Target, Runs};
use crate::codec::to_usize;
use crate::error::{DamageKind, ReadError};
use crate::files::Files;
use crate::frame::Check;
use crate::id::{LogId, Position};
use crate::scan::{Scan, Step};
use crate::segment::HEADER_BYTES;
use crate::storage::{Scratch, StorageFile};

/// A segment that is full and what it leads up to.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) name: String,
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Digest of its last record.
    pub(crate) end_digest: [u8; 32],
}

/// Why a run could not be made.
#[derive(Debug)]
pub(crate) struct BuildError {
    pub(crate) file: String,
    pub(crate) source: io::Error,
}

/// Writes one run where the index keeps its files.
pub(crate) fn write_run(
    files: &Files,
    target: Target,
    header: RunHeader,
    entries: &mut dyn FnMut(&mut RunWriter<'_>) -> Result<(), BuildError>,
) -> Result<Run, BuildError> {
    let name = run_name(header.kind, header.first, header.end);
    let failed = |source| BuildError {
        file: name.clone(),
        source,
    };
    let draft = format!("{name}.new");
    let file: Arc<dyn StorageFile> = match target {
        Target::Disk => files.storage().create(&draft).map_err(failed)?,
        Target::Memory => Arc::new(Scratch::default()),
    };
    let mut writer = RunWriter::new(&*file, header);
    let written = entries(&mut writer).and_then(|()| {
        writer.finish().map_err(failed)?;
        if target == Target::Disk {
            // Synced before it has its name: a crash loses the file, never a part of it.
            file.sync_data().map_err(failed)?;
            files.storage().rename(&draft, &name).map_err(failed)?;
        }
        Ok(())
    });
    if target == Target::Disk {
        if written.is_err() {
            // Half a file is of no use, and may be what fills the disk.
            let _ = files.storage().remove(&draft);
        }
        files.forget(&name);
    }
    written?;
    let run = Run::open(&file, name.clone(), target == Target::Memory).map_err(failed)?;
    run.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

/// Makes the runs of one segment from its index in memory.
pub(crate) fn runs_of(
    files: &Files,
    target: Target,
    log_id: LogId,
    active: &Active,
    end_digest: [u8; 32],
    kinds: &[RunKind],
) -> Result<Vec<Run>, BuildError> {
    let count = active.end() - active.first();
    let mut runs = Vec::with_capacity(kinds.len());
    for kind in kinds.iter().copied() {
        let n_keys = match kind {
            RunKind::Offsets | RunKind::Digests => count,
            RunKind::Streams => active.n_streams(),
            RunKind::Keys => active.n_keys(),
        };
        let (first, end) = (active.first(), active.end());
        let header = RunHeader {
            kind,
            log_id,
            first,
            end,
            end_digest,
            level: 0,
            n_keys,
        };
        let entries = entries_of(active, kind);
        runs.push(write_run(files, target, header, &mut |writer| {
            entries
                .iter()
                .try_for_each(|entry| writer.push(*entry))
                .map_err(|source| BuildError {
                    file: run_name(kind, first, end),
                    source,
                })
        })?);
    }
    Ok(runs)
}

fn entries_of(active: &Active, kind: RunKind) -> Vec<RunEntry> {
    let keyed = |(key, at)| RunEntry {
        key: kind.kept(key),
        revision: 0,
        at,
    };
    let mut entries: Vec<RunEntry> = match kind {
        RunKind::Offsets => {
            let offsets = active.offsets(active.first(), usize::MAX);
            return offsets.into_iter().map(|at| keyed((0, at))).collect();
        }
        RunKind::Streams => active
            .stream_entries()
            .map(|(key, revision, at)| RunEntry { key, revision, at })
            .collect(),
        RunKind::Digests => active.digest_entries().map(keyed).collect(),
        RunKind::Keys => active.key_entries().map(keyed).collect(),
    };
    entries.sort_unstable();
    entries
}

/// Reads a full segment and makes its index in memory.
pub(crate) fn index_segment(
    files: &Files,
    log_id: LogId,
    log_key: &[u8; 32],
    sealed: &Sealed,
) -> Result<Active, ReadError> {
    let unread = |source| ReadError::Io {
        file: sealed.name.clone(),
        source: Arc::new(source),
    };
    let damaged = |offset, position, kind| ReadError::Damaged {
        file: sealed.name.clone(),
        offset,
        position: Position::new(position),
        kind,
    };
    let file = files.open(&sealed.name).map_err(unread)?;
    let mut scan = Scan::new(&*file, log_id.tag(), HEADER_BYTES as u64).map_err(unread)?;
    let mut active = Active::new(sealed.first);
    loop {
        let at = scan.at();
        match scan.step().map_err(unread)? {
            Step::Group(group) => {
                let mut fault = None;
                group.walk(Check::Checksum, &mut |place, record| {
                    let entry = record.and_then(|record| {
                        Entry::of(&record, place.offset, log_key).ok_or(DamageKind::RecordFields)
                    });
                    match entry {
                        Ok(entry) if place.position == active.end() => active.push(&entry),
                        Ok(_) => fault = Some((place, DamageKind::Chain)),
                        Err(kind) => fault = Some((place, kind)),
                    }
                    fault.is_none()
                });
                if let Some((place, kind)) = fault {
                    return Err(damaged(place.offset, place.position, kind));
                }
            }
            Step::Seal(seal) if seal.end == active.end() && seal.end == sealed.end => {
                return Ok(active);
            }
            Step::Seal(_) | Step::End => return Err(damaged(at, active.end(), DamageKind::Seal)),
            Step::Bad { kind, .. } => return Err(damaged(at, active.end(), kind)),
        }
    }
}

/// Merges runs of one kind that follow each other into one.
pub(crate) fn merge(files: &Files, target: Target, runs: &[Arc<Run>]) -> Result<Run, MergeError> {
    let (oldest, newest) = (&runs[0].header, &runs[runs.len() - 1].header);
    let header = RunHeader {
        end: newest.end,
        end_digest: newest.end_digest,
        level: oldest.level + 1,
        n_keys: runs.iter().map(|run| run.header.n_keys).sum(),
        ..oldest.clone()
    };
    let first = header.first;
    let mut sources: Vec<Source> = runs.iter().map(Source::new).collect();
    let mut heap = BinaryHeap::with_capacity(sources.len());
    for (index, source) in sources.iter_mut().enumerate() {
        heap.extend(
            source
                .next(files, first)?
                .map(|entry| Reverse((entry, index))),
        );
    }
    let mut fault = None;
    let name = run_name(header.kind, header.first, header.end);
    let merged = write_run(files, target, header, &mut |writer| {
        while let Some(Reverse((entry, index))) = heap.pop() {
            writer.push(entry).map_err(|source| BuildError {
                file: name.clone(),
                source,
            })?;
            match sources[index].next(files, first) {
                Ok(next) => heap.extend(next.map(|entry| Reverse((entry, index)))),
                Err(met) => {
                    fault = Some(met);
                    let source = io::ErrorKind::InvalidData.into();
                    return Err(BuildError {
                        file: name.clone(),
                        source,
                    });
                }
            }
        }
        Ok(())
    });
    match fault {
        Some(fault) => Err(MergeError::Source(fault)),
        None => merged.map_err(MergeError::Build),
    }
}

/// Why runs could not be merged.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// One of them is wrong and must be built again.
    Source(RunFault),
    Build(BuildError),
}

impl From<RunFault> for MergeError {
    fn from(fault: RunFault) -> Self {
        Self::Source(fault)
    }
}

/// Reads a run from its first entry to its last.
struct Source {
    run: Arc<Run>,
    next_block: usize,
    /// The last entry of the block before.
    last: Option<RunEntry>,
    entries: std::vec::IntoIter<RunEntry>,
}

impl Source {
    fn new(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            next_block: 0,
            last: None,
            entries: Vec::new().into_iter(),
        }
    }

    /// The next entry, its place counted from `first`.
    fn next(&mut self, files: &Files, first: u64) -> Result<Option<RunEntry>, RunFault> {
        let wrong = |run: &Arc<Run>| RunFault {
            run: Arc::clone(run),
            source: None,
        };
        let shift = relative(self.run.header.first, first);
        loop {
            if let Some(entry) = self.entries.next() {
                let at = entry.at.checked_add(shift);
                let at = at.ok_or_else(|| wrong(&self.run))?;
                return Ok(Some(RunEntry { at, ..entry }));
            }
            if self.next_block == self.run.n_blocks() {
                return Ok(None);
            }
            let block: Block = self.run.block(files, self.next_block)?;
            let entries = block.sorted_behind(self.last);
            let entries = entries.ok_or_else(|| wrong(&self.run))?;
            self.last = entries.last().copied().or(self.last);
            self.entries = entries.into_iter();
            self.next_block += 1;
        }
    }
}

/// Runs of one kind and level that follow each other, enough of them to be merged.
pub(crate) fn mergeable(runs: &Runs, kind: RunKind, runs_min: usize) -> Option<Vec<Arc<Run>>> {
    let all = runs.of(kind);
    let fits = |window: &[Arc<Run>]| {
        let level = window[0].header.level;
        let count = window[window.len() - 1].header.end - window[0].header.first;
        window.iter().all(|run| run.header.level == level)
            && window
                .windows(2)
                .all(|pair| pair[0].header.end == pair[1].header.first)
            && to_usize(count) < u32::MAX as usize
    };
    all.windows(runs_min)
        .find(|window| fits(window))
        .map(<[Arc<Run>]>::to_vec)
}
