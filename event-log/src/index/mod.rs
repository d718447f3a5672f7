//! Where records of a stream, of a digest, of an idempotency key stand.
//!
//! Derived from the segments: recent records in memory, older ones in sorted runs that are merged
//! as they gather. Invariant: runs and memory together cover every durable record once; a hit is
//! a hint, to be confirmed by the record itself, since only hashes are kept.

mod run;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

pub(crate) use run::{RUN_SUFFIX, Run};

use crate::record::Record;
use crate::storage::Storage;

/// Runs of one size that are merged into one.
const MERGE_RUNS: usize = 8;

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Digest,
    Key,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Stream, Kind::Digest, Kind::Key];

/// A record as an index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) hash: u64,
    pub(crate) position: u64,
    /// The record's revision, cut to 32 bits; a hint like all else here.
    pub(crate) revision: u32,
}

/// The hash of a stream's name.
pub(crate) fn hash_stream(stream: &str) -> u64 {
    hash_bytes(blake3::hash(stream.as_bytes()).as_bytes())
}

/// The hash of a digest, which needs no further hashing.
pub(crate) fn hash_bytes(digest: &[u8; 32]) -> u64 {
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// The entries of a record, by kind.
pub(crate) fn entries_of(record: &Record) -> [Option<Entry>; 3] {
    let position = record.position().get();
    let revision = u32::try_from(record.revision().get()).unwrap_or(u32::MAX);
    let entry = |hash| Entry { hash, position, revision };
    [
        Some(entry(hash_stream(record.stream()))),
        Some(entry(hash_bytes(record.digest().as_bytes()))),
        record.idempotency().map(|idempotency| entry(hash_bytes(&idempotency.key))),
    ]
}

/// The records that no run covers yet.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    first: u64,
    maps: [HashMap<u64, Vec<Entry>>; 3],
}

impl Recent {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(crate) fn add(&mut self, record: &Record) {
        for (map, entry) in self.maps.iter_mut().zip(entries_of(record)) {
            if let Some(entry) = entry {
                map.entry(entry.hash).or_default().push(entry);
            }
        }
    }

    /// All entries, sorted, by kind.
    pub(crate) fn sorted(&self) -> [Vec<Entry>; 3] {
        let sorted = |map: &HashMap<u64, Vec<Entry>>| {
            let mut entries: Vec<Entry> = map.values().flatten().copied().collect();
            entries.sort_unstable();
            entries
        };
        [sorted(&self.maps[0]), sorted(&self.maps[1]), sorted(&self.maps[2])]
    }
}

/// All look-ups of a log.
pub(crate) struct Index {
    storage: Arc<dyn Storage>,
    recent: RwLock<Vec<Recent>>,
    runs: RwLock<Vec<Arc<Run>>>,
}

impl Index {
    /// An index of runs that follow one another, and of what comes after them.
    pub(crate) fn new(storage: Arc<dyn Storage>, runs: Vec<Run>, recent: Vec<Recent>) -> Self {
        let runs = runs.into_iter().map(Arc::new).collect();
        Self { storage, recent: RwLock::new(recent), runs: RwLock::new(runs) }
    }

    /// Takes records that have become durable.
    pub(crate) fn add(&self, records: &[Record]) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        let newest = recent.last_mut().expect("there is always a newest part");
        records.iter().for_each(|record| newest.add(record));
    }

    /// From the next record on, entries are gathered for another run.
    pub(crate) fn roll(&self, first: u64) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.push(Recent::starting_at(first));
    }

    /// Every entry with this hash, oldest first.
    pub(crate) fn find(&self, kind: Kind, hash: u64) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        // The recent part is read first: what moves from it into a run meanwhile is found twice,
        // never not at all.
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let newer: Vec<Entry> = recent
            .iter()
            .filter_map(|part| part.maps[kind as usize].get(&hash))
            .flatten()
            .copied()
            .collect();
        drop(recent);
        for run in self.runs() {
            run.find(kind, hash, &mut found)?;
        }
        found.extend(newer);
        found.sort_unstable_by_key(|entry| entry.position);
        found.dedup_by_key(|entry| entry.position);
        Ok(found)
    }

    /// The newest entry with this hash. Looks at memory first, then at runs from the newest on.
    pub(crate) fn newest(&self, kind: Kind, hash: u64) -> io::Result<Option<Entry>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        for part in recent.iter().rev() {
            if let Some(entry) = part.maps[kind as usize].get(&hash).and_then(|found| found.last()) {
                return Ok(Some(*entry));
            }
        }
        drop(recent);
        let mut found = Vec::new();
        for run in self.runs().iter().rev() {
            run.find(kind, hash, &mut found)?;
            if let Some(entry) = found.last() {
                return Ok(Some(*entry));
            }
        }
        Ok(None)
    }

    fn runs(&self) -> Vec<Arc<Run>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes runs of what is complete in memory, and merges runs where many have gathered. To be
    /// called by one thread at a time; a failure leaves all as it was.
    pub(crate) fn tidy(&self) -> io::Result<()> {
        loop {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            let [oldest, next, ..] = recent.as_slice() else { break };
            let (first, end, entries) = (oldest.first, next.first, oldest.sorted());
            drop(recent);
            let run = run::write(self.storage.as_ref(), first, end, &entries)?;
            self.runs.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(run));
            self.recent.write().unwrap_or_else(PoisonError::into_inner).remove(0);
        }
        while let Some(start) = mergeable(&self.runs()) {
            let all = self.runs();
            let merged = run::merge(self.storage.as_ref(), &all[start..])?;
            let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
            runs.truncate(start);
            runs.push(Arc::new(merged));
            drop(runs);
            for old in &all[start..] {
                self.storage.remove(&old.name())?;
            }
        }
        Ok(())
    }

    /// Bytes of all runs.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.runs().iter().map(|run| run.bytes()).sum()
    }
}

/// Where the newest runs begin that are of one size and many.
fn mergeable(runs: &[Arc<Run>]) -> Option<usize> {
    let class = |run: &Run| (run.end() - run.first()).max(1).ilog2() / 3;
    let newest = class(runs.last()?);
    let of_one_size = runs.iter().rev().take_while(|run| class(run) <= newest).count();
    (of_one_size >= MERGE_RUNS).then(|| runs.len() - of_one_size)
}
