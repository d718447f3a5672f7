//! The layers of the index, and how records move from one to the next.
//!
//! Invariant: every durable record is known to exactly one layer: the index of the segment being
//! written, one in memory that waits to be written out, or the runs. All of it is derived.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::active::{Active, Entry};
use super::build::Sealed;
use super::build::{BuildError, MergeError, index_segment, merge, mergeable, runs_of};
use super::run::{Run, RunFault, RunKind, block_offset, parse_run_name};

use super::runs::{Place, Runs};
use super::snapshot::Snapshot;
use crate::error::ReadError;
use crate::files::Files;
use crate::id::LogId;
use crate::storage::{StoredFile, is_short};

/// Times a lookup is tried again after a wrong file was rebuilt.
const REPAIRS_MAX: usize = 4;

struct Layers {
    active: Active,
    /// Indexes of full segments whose files are not built yet, oldest first.
    frozen: Vec<Arc<Active>>,
    runs: Arc<Runs>,
    /// All full segments, oldest first.
    sealed: Vec<Sealed>,
}

/// The indexes of a log.
pub(crate) struct Index {
    files: Arc<Files>,
    place: Place,
    log_id: LogId,
    log_key: [u8; 32],
    merge_runs_min: usize,
    layers: RwLock<Layers>,
    /// Held while files are built, so that two do not build the same.
    building: Mutex<()>,
}

/// The key under which a log hashes its streams' names.
pub(crate) fn log_key(log_id: LogId) -> [u8; 32] {
    *blake3::hash(log_id.as_bytes()).as_bytes()
}

impl Index {
    pub(crate) fn new(
        files: Arc<Files>,
        place: Place,
        log_id: LogId,
        merge_runs_min: usize,
    ) -> Self {
        let layers = Layers {
            active: Active::new(0),
            frozen: Vec::new(),
            runs: Arc::default(),
            sealed: Vec::new(),
        };
        Self {
            files,
            place,
            log_id,
            log_key: log_key(log_id),
            merge_runs_min,
            layers: RwLock::new(layers),
            building: Mutex::default(),
        }
    }

    /// Takes up the runs that are there and right, builds those that are missing, and returns the
    /// names of the files that had to be built.
    pub(crate) fn load(
        &self,
        sealed: Vec<Sealed>,
        active: Active,
    ) -> Result<Vec<String>, ReadError> {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        // Listed now, when nothing is merged: a merge gives names and takes them.
        let listing = self.files.storage().list();
        let listing = listing.map_err(|source| ReadError::Io {
            file: "index".to_owned(),
            source: Arc::new(source),
        })?;
        let mut runs = self.usable_runs(&sealed, &listing)?;
        let mut built = Vec::new();
        for segment in &sealed {
            let missing: Vec<RunKind> = RunKind::ALL
                .into_iter()
                .filter(|kind| !runs.covers(*kind, segment))
                .collect();
            if missing.is_empty() {
                continue;
            }
            for run in self.build_runs(segment, &missing)? {
                built.push(run.name.clone());
                runs.install(run);
            }
        }
        let mut layers = self.write();
        *layers = Layers {
            active,
            frozen: Vec::new(),
            runs: Arc::new(runs),
            sealed,
        };
        Ok(built)
    }

    /// Makes the runs of a segment on disk, or in memory when the disk does not take them.
    fn build_runs(&self, segment: &Sealed, kinds: &[RunKind]) -> Result<Vec<Run>, ReadError> {
        let active = index_segment(&self.files, self.log_id, &self.log_key, segment)?;
        let build = |place| {
            runs_of(
                &self.files,
                place,
                self.log_id,
                &active,
                segment.end_digest,
                kinds,
            )
        };
        match build(self.place) {
            Err(BuildError { file, source }) if self.place == Place::Disk => {
                tracing::warn!(file, error = %source, "index stays in memory");
                build(Place::Memory).map_err(into_read)
            }
            runs => runs.map_err(into_read),
        }
    }

    /// The widest runs on disk that belong to this history of the log. None is given up because the
    /// system was short of what it needs to open it.
    fn usable_runs(&self, sealed: &[Sealed], listing: &[StoredFile]) -> Result<Runs, ReadError> {
        let ends: BTreeMap<u64, &Sealed> = sealed.iter().map(|s| (s.end, s)).collect();
        let mut named: Vec<(RunKind, u64, u64, &str)> = listing
            .iter()
            .filter_map(|file| {
                let (kind, first, end) = parse_run_name(&file.name)?;
                Some((kind, first, end, file.name.as_str()))
            })
            .collect();
        named.sort_by_key(|(kind, first, end, _)| (*kind, *first, u64::MAX - *end));
        let mut runs = Runs::default();
        let mut covered: BTreeMap<RunKind, u64> = BTreeMap::new();
        for (kind, first, end, name) in named {
            let behind = covered.entry(kind).or_default();
            let opened = (first >= *behind).then(|| self.open_run(name)).transpose();
            let run = opened
                .map_err(|source| ReadError::Io {
                    file: name.to_owned(),
                    source: Arc::new(source),
                })?
                .flatten()
                .filter(|run| {
                    let header = &run.header;
                    (header.kind, header.first, header.end) == (kind, first, end)
                        && header.log_id == self.log_id
                        && ends
                            .get(&end)
                            .is_some_and(|s| s.end_digest == header.end_digest)
                        && sealed.iter().any(|s| s.first == first)
                });
            match run {
                Some(run) => {
                    *behind = end;
                    runs.install(run);
                }
                None => self.discard(name),
            }
        }
        Ok(runs)
    }

    /// A run, if its file can be had and is one; an error only where nothing is told of it.
    fn open_run(&self, name: &str) -> io::Result<Option<Run>> {
        let opened = self.files.open(name);
        match opened.and_then(|file| Run::open(&file, name.to_owned(), false)) {
            Err(error) if is_short(&error) => Err(error),
            opened => Ok(opened.ok().flatten()),
        }
    }

    /// Removes an index file that nothing uses.
    fn discard(&self, name: &str) {
        self.files.forget(name);
        if self.place == Place::Disk
            && let Err(error) = self.files.storage().remove(name)
        {
            tracing::warn!(file = name, %error, "unused index file stays");
        }
    }

    /// Adds records of the segment being written.
    pub(crate) fn extend(&self, entries: &[Entry]) {
        let mut layers = self.write();
        for entry in entries {
            layers.active.push(entry);
        }
    }

    /// Starts the index of a new segment; the old one waits to be written out.
    pub(crate) fn freeze(&self, sealed: Sealed) {
        let mut layers = self.write();
        let frozen = std::mem::replace(&mut layers.active, Active::new(sealed.end));
        assert_eq!((frozen.first(), frozen.end()), (sealed.first, sealed.end));
        layers.frozen.push(Arc::new(frozen));
        layers.sealed.push(sealed);
    }

    /// Writes frozen indexes out. The oldest goes first and nothing overtakes it, for a stream's
    /// last record is looked for in what is frozen before it is in the runs. What fails is tried
    /// again with the next one.
    pub(crate) fn write_out(&self) {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((frozen, end_digest)) = self.oldest_frozen() {
            match runs_of(
                &self.files,
                self.place,
                self.log_id,
                &frozen,
                end_digest,
                &RunKind::ALL,
            ) {
                Ok(runs) => {
                    let mut layers = self.write();
                    for run in runs {
                        Arc::make_mut(&mut layers.runs).install(run);
                    }
                    layers.frozen.retain(|other| !Arc::ptr_eq(other, &frozen));
                }
                Err(error) => {
                    // The index stays in memory, where it serves as well.
                    tracing::warn!(?error, "index of a full segment not written");
                    return;
                }
            }
        }
    }

    /// The oldest index that waits to be written out, and the digest of its last record.
    fn oldest_frozen(&self) -> Option<(Arc<Active>, [u8; 32])> {
        let layers = self.read();
        let frozen = layers.frozen.first()?;
        let is_its = |sealed: &&Sealed| sealed.first == frozen.first();
        let sealed = layers.sealed.iter().rev().find(is_its);
        let sealed = sealed.expect("what is frozen is the index of a sealed segment");
        Some((Arc::clone(frozen), sealed.end_digest))
    }

    /// Merges runs once; false when there was nothing to merge. A run that is wrong is built anew,
    /// and fails with what is met in its segments.
    pub(crate) fn merge_once(&self) -> Result<bool, ReadError> {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = Arc::clone(&self.read().runs);
        for kind in [RunKind::Streams, RunKind::Digests, RunKind::Keys] {
            let Some(sources) = mergeable(&runs, kind, self.merge_runs_min) else {
                continue;
            };
            match merge(&self.files, self.place, &sources) {
                Ok(merged) => {
                    let mut layers = self.write();
                    let dropped = Arc::make_mut(&mut layers.runs).install(merged);
                    drop(layers);
                    for run in dropped {
                        self.discard(&run.name);
                    }
                    return Ok(true);
                }
                Err(MergeError::Source(fault)) => return self.rebuild(&fault).map(|()| true),
                Err(MergeError::Build(error)) => {
                    tracing::warn!(?error, "index runs not merged");
                }
            }
        }
        Ok(false)
    }

    /// Looks at the segment being written, and takes hold of all else at the same moment.
    pub(crate) fn look<T>(&self, active: impl FnOnce(&Active) -> T) -> (T, Snapshot) {
        let layers = self.read();
        let seen = active(&layers.active);
        (
            seen,
            Snapshot {
                frozen: layers.frozen.clone(),
                runs: Arc::clone(&layers.runs),
            },
        )
    }

    /// Runs a lookup, rebuilding wrong files that it meets.
    pub(crate) fn repairing<T>(
        &self,
        mut lookup: impl FnMut() -> Result<T, RunFault>,
    ) -> Result<T, ReadError> {
        let mut repairs = 0;
        loop {
            let fault = match lookup() {
                Ok(found) => return Ok(found),
                Err(fault) => fault,
            };
            repairs += 1;
            if repairs > REPAIRS_MAX {
                let source = fault
                    .source
                    .unwrap_or_else(|| io::ErrorKind::InvalidData.into());
                let file = fault.run.name.clone();
                return Err(ReadError::Io {
                    file,
                    source: Arc::new(source),
                });
            }
            let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
            self.rebuild(&fault)?;
        }
    }

    /// Builds the run anew from the segments it covers, unless it was replaced meanwhile.
    fn rebuild(&self, fault: &RunFault) -> Result<(), ReadError> {
        if !self.read().runs.holds(&fault.run) {
            return Ok(());
        }
        let header = &fault.run.header;
        tracing::warn!(
            file = fault.run.name,
            "index file is wrong; building it anew"
        );
        let segments: Vec<Sealed> = self
            .read()
            .sealed
            .iter()
            .filter(|s| header.first <= s.first && s.end <= header.end)
            .cloned()
            .collect();
        let mut built = Vec::new();
        for segment in &segments {
            built.extend(self.build_runs(segment, &[header.kind])?);
        }
        let replaced = built.iter().any(|run| run.name == fault.run.name);
        let mut layers = self.write();
        let runs = Arc::make_mut(&mut layers.runs);
        runs.drop_run(&fault.run);
        for run in built {
            runs.install(run);
        }
        drop(layers);
        if !replaced {
            self.discard(&fault.run.name);
        }
        Ok(())
    }

    /// Throws one segment's table of offsets away and builds it anew.
    pub(crate) fn rebuild_offsets(&self, first: u64) -> Result<(), ReadError> {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let run = self.read().runs.offsets.get(&first).cloned();
        run.map_or(Ok(()), |run| self.rebuild(&RunFault { run, source: None }))
    }

    pub(crate) fn log_key(&self) -> &[u8; 32] {
        &self.log_key
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn into_read(BuildError { file, source }: BuildError) -> ReadError {
    ReadError::Io {
        file,
        source: Arc::new(source),
    }
}

/// Reads every block of an index file: the places that are wrong, and the first position that its
/// name speaks of.
pub(crate) fn check_run_file(files: &Files, name: &str) -> io::Result<(Vec<u64>, Option<u64>)> {
    let named = parse_run_name(name);
    let first = named.map(|(_, first, _)| first);
    let file = files.open(name)?;
    let Some(run) = Run::open(&file, name.to_owned(), true)? else {
        if Run::is_of_another_version(&*file)? {
            return Ok((Vec::new(), first));
        }
        return Ok((vec![Run::wrong_at(&*file)?], first));
    };
    let header = &run.header;
    if named != Some((header.kind, header.first, header.end)) {
        return Ok((vec![0], first));
    }
    let run = Arc::new(run);
    let (wrong, is_whole) = run.wrong_blocks(files);
    if wrong.is_empty() && !is_whole {
        return Ok((vec![0], first));
    }
    Ok((wrong.into_iter().map(block_offset).collect(), first))
}
