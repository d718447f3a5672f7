//! Views on fjall 3.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use fjall::config::PinningPolicy;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Change, Direction, Engine, Scan, Store, StoreError, directory_bytes};

/// The one keyspace that holds rows and checkpoint.
const KEYSPACE: &str = "rows";

/// How long an engine that is being closed may hold its directory.
const CLOSING_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether it still does.
const CLOSING_LOOK: Duration = Duration::from_millis(5);

pub(super) struct FjallStore {
    /// None only while it is being opened anew, or when that failed.
    open: RwLock<Option<Opened>>,
    has_failed: AtomicBool,
    dir: PathBuf,
    /// Of the cache, and of a table in memory.
    bytes: (u64, u64),
}

#[derive(Clone)]
struct Opened {
    db: Database,
    rows: Keyspace,
}

impl Opened {
    fn at(dir: &Path, (cache_bytes, memtable_bytes): (u64, u64)) -> Result<Self, StoreError> {
        let db = Database::builder(dir)
            .cache_size(cache_bytes)
            // The log is what is durable: a journal that is behind costs a crash some folding.
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        // A table's filter is one block, a good part of a megabyte, on all levels but the last
        // ones, where it is cut up. Left to the cache, which takes no entry so large, it would be
        // read and checked whole for each look at a key. In memory it takes ten bits a row.
        let whole = PinningPolicy::new([true, true, true, false]);
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable_bytes)
                .filter_block_pinning_policy(whole.clone())
                .index_block_pinning_policy(whole.clone())
        };
        let rows = db.keyspace(KEYSPACE, options).map_err(failed)?;
        Ok(Self { db, rows })
    }
}

impl FjallStore {
    pub(super) fn open(dir: &Path, bytes: (u64, u64)) -> Result<Self, StoreError> {
        Ok(Self {
            open: RwLock::new(Some(Opened::at(dir, bytes)?)),
            has_failed: AtomicBool::new(false),
            dir: dir.to_path_buf(),
            bytes,
        })
    }

    fn opened(&self) -> Result<Opened, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| failed(fjall::Error::Poisoned))
    }
}

fn failed(source: fjall::Error) -> StoreError {
    if matches!(source, fjall::Error::Locked) {
        return StoreError::Locked {
            engine: Engine::Fjall,
        };
    }
    if matches!(&source, fjall::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull)
    {
        return StoreError::Full {
            engine: Engine::Fjall,
        };
    }
    StoreError::Engine {
        engine: Engine::Fjall,
        source: Box::new(source),
    }
}

impl Store for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.opened()?.rows.get(key).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction) -> Scan<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let opened = match self.opened() {
            Ok(opened) => opened,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let pairs = opened.rows.range(from.to_vec()..to.to_vec());
        let own = |guard: Guard| {
            guard
                .into_inner()
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .map_err(failed)
        };
        match direction {
            Direction::Forward => Box::new(pairs.map(own)),
            Direction::Backward => Box::new(pairs.rev().map(own)),
        }
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let Opened { db, rows } = self.opened()?;
        let mut batch = db.batch().durability(None);
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&rows, key, value),
                None => batch.remove(&rows, key),
            }
        }
        batch.commit().map_err(|error| {
            self.has_failed.store(true, Ordering::Release);
            failed(error)
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        let opened = self.opened()?;
        opened.db.persist(PersistMode::SyncAll).map_err(failed)
    }

    /// fjall takes nothing more after a write that failed, also once there is room again.
    fn reopen(&self) -> Result<(), StoreError> {
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // The directory is free when the last handle is gone, those of its threads included.
        *open = None;
        let until = Instant::now() + CLOSING_MAX;
        let opened = loop {
            match Opened::at(&self.dir, self.bytes) {
                Err(StoreError::Locked { .. }) if Instant::now() < until => {
                    std::thread::sleep(CLOSING_LOOK);
                }
                opened => break opened?,
            }
        };
        *open = Some(opened);
        self.has_failed.store(false, Ordering::Release);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        directory_bytes(&self.dir)
    }
}
