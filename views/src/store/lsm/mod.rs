//! Views on lsm-tree 3: its sorted tables on the disk, ours in memory, and no journal.
//!
//! The log is the journal. What stands in memory when a process ends by force is folded again, at
//! most [`FILLED_MAX`] tables of it and the one that is being filled. Invariants: a table in memory
//! is replaced between two batches only, and tables are written out in the order in which they were
//! filled, so the disk holds a prefix of the batches; a number that a reader has taken is not below
//! what merging may forget; a table leaves memory once a reader finds it on the disk.

mod configured;
mod recent;
mod rows;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::JoinHandle;

use lsm_tree::compaction::Leveled;
use lsm_tree::{
    AbstractTree, AnyTree, Guard, InternalValue, SeqNo, SequenceNumberCounter, TableId, ValueType,
};

use self::configured::configured;
use self::recent::{Recent, Row, Tiers};
use self::rows::Rows;
use self::steps::{Merging, Steps};
use super::{Change, Direction, Engine, Scan, Show, Store, StoreError, directory_bytes};
use crate::share::{Share, give_way};

/// Most tables in memory that wait to be written; a commit waits beyond.
const FILLED_MAX: usize = 3;
/// Most runs of tables that wait to be merged; whoever makes room before a commit waits beyond. On
/// the disk the tree counts them in one byte: beyond 255 it could not be opened again.
const RUNS_MAX: usize = 20;
/// Most of them while merging is held: beyond, it begins all the same.
const RUNS_HELD_MAX: usize = 12;
/// The tree's own files, below the engine's directory.
const TREE: &str = "tree";
/// Tables, each in a file that has its number as its name, below the tree's directory.
const TABLES: &str = "tables";
/// The tree's file that names its version: the number, little-endian, and what proves its file.
const CURRENT: &str = "current";
/// The file whose lock says that the directory is in use.
const LOCK: &str = "lock";

pub(super) struct LsmStore {
    /// None only while it is being opened anew, or when that failed.
    open: RwLock<Option<Opened>>,
    dir: PathBuf,
    sizes: Sizes,
    _lock: File,
}

/// Bytes that the engine may keep in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Of blocks that were read.
    pub(super) cache: u64,
    /// Of a table that is being filled.
    pub(super) memtable: u64,
}

impl LsmStore {
    pub(super) fn open(dir: &Path, sizes: Sizes, holds_merging: bool) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        let lock = File::create(dir.join(LOCK)).map_err(|error| failed(error.into()))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked {
                engine: Engine::LsmTree,
            },
            TryLockError::Error(error) => failed(error.into()),
        })?;
        Ok(Self {
            open: RwLock::new(Some(Opened::at(dir, sizes, holds_merging)?)),
            dir: dir.to_path_buf(),
            sizes,
            _lock: lock,
        })
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&Arc<Shared>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let opened = open.as_ref().ok_or_else(|| StoreError::Engine {
            engine: Engine::LsmTree,
            source: "not opened again yet".into(),
        })?;
        ask(&opened.shared)
    }
}

impl Store for LsmStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|shared| {
            // One row is as it is; there is nothing that it could be seen apart from.
            if let Some(row) = shared.recent().get(key) {
                return Ok(row.value().map(<[u8]>::to_vec));
            }
            let value = shared.tree.get(key, SeqNo::MAX).map_err(failed)?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction) -> Scan<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        match self.with(|shared| Ok(shared.range(from, to, direction))) {
            Ok(rows) => Box::new(rows.map(|row| Ok(row.map_err(failed)?.to_pair()))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn show(&self, from: &[u8], to: &[u8], show: &mut Show<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        for row in self.with(|shared| Ok(shared.range(from, to, Direction::Forward)))? {
            let row = row.map_err(failed)?;
            if show(row.key(), row.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.with(|shared| shared.commit(&changes))
    }

    fn make_room(&self) -> Result<(), StoreError> {
        self.with(|shared| shared.make_room())
    }

    fn hold_merging(&self, holds: bool) {
        // Of a store that is not open there is nothing to merge.
        let _ = self.with(|shared| {
            shared.tell(|work| {
                work.is_merge_held = holds;
                work.is_merge_due = true;
            });
            Ok(())
        });
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.with(|shared| {
            let turn = shared.turn();
            shared.seal();
            drop(turn);
            let written = shared.wait_until(|shared| shared.recent().n_filled() == 0);
            // Whoever stops on a full disk has other things to write.
            written.inspect_err(|_| {
                shared.break_off();
                shared.remove_unfinished(0);
            })
        })
    }

    /// What could not be written is tried again, from memory; what was made of it on the disk goes.
    /// After a mistake of the engine's, and where the disk has another version of the tree than it
    /// has in memory, the tree is opened from the disk, and holds less.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.as_mut() {
            let failure = opened.shared.work().failure.clone();
            match failure {
                None => {
                    opened.shared.tell(|work| work.is_merge_due = true);
                    return Ok(());
                }
                Some(Failure::Full | Failure::Other(_)) => {
                    opened.shared.break_off();
                    opened.join();
                    // Where that cannot be told, readers go on with what there is.
                    if opened
                        .shared
                        .is_as_on_disk()
                        .map_err(|e| failed(e.into()))?
                    {
                        return opened.resume();
                    }
                }
                Some(Failure::Panicked) => {}
            }
        }
        *open = None;
        *open = Some(Opened::at(&self.dir, self.sizes, false)?);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        directory_bytes(&self.dir)
    }
}

/// A tree with the two threads that keep it; dropped, they have ended.
struct Opened {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Opened {
    fn at(dir: &Path, sizes: Sizes, holds_merging: bool) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::at(&dir.join(TREE), sizes, holds_merging)?);
        let mut opened = Self {
            shared,
            threads: Vec::new(),
        };
        opened.start()?;
        Ok(opened)
    }

    /// Goes on after a failure, with the tables that are in memory, once the threads have ended.
    fn resume(&mut self) -> Result<(), StoreError> {
        self.shared.is_closing.store(false, Ordering::Release);
        self.shared.remove_unfinished(0);
        self.shared.tell(|work| {
            work.failure = None;
            work.is_write_due = true;
            work.is_merge_due = true;
        });
        // Without them nothing would be written, and nobody told so.
        self.start().inspect_err(|error| {
            let failure = Failure::Other(error.to_string());
            self.shared.tell(|work| work.failure = Some(failure));
        })
    }

    fn start(&mut self) -> Result<(), StoreError> {
        for (name, keep) in [
            ("rows-write", Shared::keep_writing as fn(&Shared)),
            ("rows-merge", Shared::keep_merging),
        ] {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    // Requests are waited for; tables are only where there are too many.
                    give_way(Share::Little);
                    let kept = catch_unwind(AssertUnwindSafe(|| keep(&shared)));
                    if kept.is_err() {
                        shared.fail(Failure::Panicked);
                    }
                })
                .map_err(|error| failed(error.into()))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            thread.join().expect("it catches its own panics");
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shared.break_off();
        self.join();
    }
}

struct Shared {
    /// Of its own table in memory no use is made.
    tree: AnyTree,
    recent: RwLock<Recent>,
    memtable_bytes: usize,
    /// Numbers of batches, and of the tree's versions.
    numbers: SequenceNumberCounter,
    /// The first number that is not to be seen yet. Not the tree's own, which moves with versions
    /// also while a batch is half in.
    visible: AtomicU64,
    /// Ends the threads, and breaks off merging that is under way; told behind it.
    is_closing: Arc<AtomicBool>,
    /// Held by readers from taking a number until they hold a version of the tree, and alone by
    /// whoever decides what may be forgotten.
    taking: RwLock<()>,
    /// Whoever commits, or replaces the table in memory.
    turn: Mutex<()>,
    work: Mutex<Work>,
    changed: Condvar,
}

/// What is asked of the threads, and how they fare.
#[derive(Default)]
struct Work {
    is_write_due: bool,
    is_merge_due: bool,
    /// Threads that write or merge now.
    busy: usize,
    /// Whether merging waits until there are [`RUNS_HELD_MAX`] runs.
    is_merge_held: bool,
    /// Whether there was no room for what merging writes. Rows are taken all the same, until too
    /// many runs wait.
    is_merge_stuck: bool,
    failure: Option<Failure>,
}

/// Why a table could not be written; nothing is taken until the store is opened anew.
#[derive(Debug, Clone)]
enum Failure {
    Full,
    Other(String),
    /// By a mistake in the engine, whose locks are not to be trusted any more.
    Panicked,
}

impl From<lsm_tree::Error> for Failure {
    fn from(error: lsm_tree::Error) -> Self {
        if is_full(&error) {
            Self::Full
        } else {
            Self::Other(error.to_string())
        }
    }
}

impl Work {
    fn refuse(&self) -> Result<(), StoreError> {
        let engine = Engine::LsmTree;
        match &self.failure {
            None => Ok(()),
            Some(Failure::Full) => Err(StoreError::Full { engine }),
            Some(Failure::Other(told)) => Err(StoreError::Engine {
                engine,
                source: told.clone().into(),
            }),
            Some(Failure::Panicked) => Err(StoreError::Engine {
                engine,
                source: "a thread of its ended by a mistake".into(),
            }),
        }
    }
}

impl Shared {
    fn at(dir: &Path, sizes: Sizes, holds_merging: bool) -> Result<Self, StoreError> {
        let numbers = SequenceNumberCounter::default();
        let is_closing = Arc::new(AtomicBool::new(false));
        let merging = Merging {
            tables: dir.join(TABLES).into(),
            is_closing: Arc::clone(&is_closing),
        };
        let tree = configured(dir, &numbers, sizes.cache, merging)
            .open()
            .map_err(failed)?;
        let next = tree.get_highest_seqno().map_or(1, |last| last + 1);
        numbers.set(next);
        Ok(Self {
            tree,
            recent: RwLock::default(),
            memtable_bytes: usize::try_from(sizes.memtable).unwrap_or(usize::MAX),
            numbers,
            visible: AtomicU64::new(next),
            is_closing,
            taking: RwLock::new(()),
            turn: Mutex::new(()),
            work: Mutex::new(Work {
                is_merge_due: true,
                is_merge_held: holds_merging,
                ..Work::default()
            }),
            changed: Condvar::new(),
        })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was told.
    fn changed_since<'a>(&self, work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let changed = self.changed.wait(work);
        changed.unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.work());
        self.changed.notify_all();
    }

    fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent_alone(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
    ) -> Rows<impl Iterator<Item = impl Guard + use<>> + use<>> {
        let _taking = self.taking.read().unwrap_or_else(PoisonError::into_inner);
        // What is in memory first: a table that was written meanwhile is then met twice, not never.
        let recent = self.recent();
        let visible = self.visible.load(Ordering::Acquire);
        let in_memory = recent.range(from, to, direction);
        drop(recent);
        let mut in_tables = self.tree.range(from..to, visible, None);
        let in_tables = std::iter::from_fn(move || match direction {
            Direction::Forward => in_tables.next(),
            Direction::Backward => in_tables.next_back(),
        });
        Rows::over(in_memory, in_tables, direction)
    }

    /// The number below which nobody reads any more but through a version that they hold.
    fn forgettable(&self) -> SeqNo {
        let _alone = self.taking.write().unwrap_or_else(PoisonError::into_inner);
        self.visible.load(Ordering::Acquire)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let turn = self.turn();
        self.work().refuse()?;
        let number = self.numbers.next();
        let mut recent = self.recent_alone();
        recent.put(changes, number);
        self.visible.store(number + 1, Ordering::Release);
        let is_full = recent.filling_bytes() >= self.memtable_bytes;
        drop(recent);
        if is_full {
            self.seal();
        }
        drop(turn);
        Ok(())
    }

    fn make_room(&self) -> Result<(), StoreError> {
        self.thin_out();
        self.wait_until(|shared| shared.recent().n_filled() <= FILLED_MAX)?;
        let mut work = self.work();
        while self.tree.l0_run_count() > RUNS_MAX {
            work.refuse()?;
            if work.is_merge_stuck {
                return Err(StoreError::Full {
                    engine: Engine::LsmTree,
                });
            }
            work = self.changed_since(work);
        }
        Ok(())
    }

    /// Makes one of several runs in memory; readers and the disk go on meanwhile.
    fn thin_out(&self) {
        let turn = self.turn();
        let crowded = self.recent().crowded();
        let thinned = crowded.map(Tiers::thinned);
        let replaced = thinned.map(|thinned| self.recent_alone().replace(thinned));
        drop(turn);
        drop(replaced);
    }

    /// Begins another table in memory and has this one written. To be called by whose turn it is.
    fn seal(&self) {
        let is_filled = self.recent_alone().seal();
        if is_filled {
            self.tell(|work| work.is_write_due = true);
        }
    }

    /// Waits while the threads work; fails when they do.
    fn wait_until(&self, is_so: impl Fn(&Self) -> bool) -> Result<(), StoreError> {
        let mut work = self.work();
        loop {
            work.refuse()?;
            if is_so(self) {
                return Ok(());
            }
            work = self.changed_since(work);
        }
    }

    /// Waits for work of one kind and takes it; false when the store is closed or has failed.
    fn takes_work(&self, due: impl Fn(&mut Work) -> &mut bool) -> bool {
        let mut work = self.work();
        loop {
            if self.is_closing.load(Ordering::Acquire) || work.failure.is_some() {
                return false;
            }
            if std::mem::take(due(&mut work)) {
                work.busy += 1;
                return true;
            }
            work = self.changed_since(work);
        }
    }

    fn keep_writing(&self) {
        while self.takes_work(|work| &mut work.is_write_due) {
            match self.write_filled() {
                Ok(()) => self.tell(|work| work.busy -= 1),
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Writes the tables that are full, the oldest first.
    fn write_filled(&self) -> lsm_tree::Result<()> {
        loop {
            let Some(table) = self.recent().oldest() else {
                return Ok(());
            };
            let one_at_a_time = self.tree.get_flush_lock();
            let mut steps = Steps::of(self.tree.tree_config().path.join(TABLES).into());
            let rows = table.rows().into_iter().map(|row| {
                steps.wrote(row.bytes());
                Ok(stored(&row))
            });
            let written = self.tree.flush_to_tables(rows)?;
            if let Some((tables, _)) = written {
                let forgettable = self.forgettable();
                self.tree
                    .register_tables(&tables, None, None, &[], forgettable)?;
            }
            drop(one_at_a_time);
            self.forget()?;
            let let_go = self.recent_alone().forget_oldest();
            self.tell(|work| work.is_merge_due = true);
            drop((table, let_go));
        }
    }

    /// Shows the version that holds the tables just written, and lets go of those before it.
    fn forget(&self) -> lsm_tree::Result<()> {
        let turn = self.turn();
        self.visible.store(self.numbers.get(), Ordering::Release);
        drop(turn);
        let forgettable = self.forgettable();
        let mut versions = self.tree.get_version_history_lock();
        versions.maintenance(&self.tree.tree_config().path, forgettable)
    }

    fn keep_merging(&self) {
        while self.takes_work(|work| &mut work.is_merge_due) {
            let is_held = self.work().is_merge_held;
            if is_held && self.tree.l0_run_count() <= RUNS_HELD_MAX {
                self.tell(|work| work.busy -= 1);
                continue;
            }
            let before = self.tree.current_version().id();
            let first_table = self.tree.next_table_id();
            let merged = self
                .tree
                .compact(Arc::new(Leveled::default()), self.forgettable());
            match merged.and_then(|()| self.forget()) {
                // One step may make the next one due.
                Ok(()) => self.tell(|work| {
                    work.is_merge_due |= self.tree.current_version().id() != before;
                    work.is_merge_stuck = false;
                    work.busy -= 1;
                }),
                // Broken off: it is begun again by whoever opens the store next.
                Err(_) if self.is_closing.load(Ordering::Acquire) => {
                    self.tell(|work| work.busy -= 1);
                    return;
                }
                // It wants more room than a table does; tried again behind the next one.
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "rows are not merged for now");
                    self.tell(|work| {
                        work.is_merge_stuck = true;
                        work.busy -= 1;
                    });
                    // What it had written takes the room that others want.
                    self.remove_unfinished(first_table);
                }
                Err(error) => self.fail(error.into()),
            }
        }
    }

    fn fail(&self, failure: Failure) {
        tracing::warn!(?failure, "the rows take no more until they are opened anew");
        self.tell(|work| {
            work.failure.get_or_insert(failure);
            work.busy -= 1;
        });
    }

    /// Has the threads end, and the merge that is under way be broken off: readers may wait, and it
    /// takes as long as what it merges is large.
    fn break_off(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.tell(|_| ());
    }

    /// Whether the version of the tree in memory is the one on the disk. Where the engine could not
    /// make sure of the file that names it, the one on the disk may be the next.
    fn is_as_on_disk(&self) -> io::Result<bool> {
        let named = fs::read(self.tree.tree_config().path.join(CURRENT))?;
        let id = named.first_chunk().copied().map(u64::from_le_bytes);
        Ok(id == Some(self.tree.current_version().id()))
    }

    /// Removes what a failure left of tables from this number on that are in no version, once nobody
    /// writes any.
    fn remove_unfinished(&self, first: TableId) {
        let mut work = self.work();
        while work.busy > 0 {
            work = self.changed_since(work);
        }
        if !matches!(self.is_as_on_disk(), Ok(true)) {
            return;
        }
        let version = self.tree.current_version();
        let finished: HashSet<_> = version.iter_tables().map(lsm_tree::Table::id).collect();
        let tables = self.tree.tree_config().path.join(TABLES);
        for file in fs::read_dir(&tables).into_iter().flatten().flatten() {
            let id = file.file_name().to_str().and_then(|name| name.parse().ok());
            if id.is_some_and(|id| id >= first && !finished.contains(&id))
                && let Err(error) = fs::remove_file(file.path())
            {
                tracing::warn!(%error, file = %file.path().display(), "it stays until the next start");
            }
        }
    }
}

/// A row as the engine's tables have it.
fn stored(row: &Row) -> InternalValue {
    match row.to_slices() {
        (key, Some(value)) => {
            InternalValue::from_components(key, value, row.number, ValueType::Value)
        }
        (key, None) => InternalValue::new_tombstone(key, row.number),
    }
}

fn is_full(error: &lsm_tree::Error) -> bool {
    matches!(error, lsm_tree::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull)
}

fn failed(source: lsm_tree::Error) -> StoreError {
    let engine = Engine::LsmTree;
    if is_full(&source) {
        return StoreError::Full { engine };
    }
    StoreError::Engine {
        engine,
        source: Box::new(source),
    }
}
