//! Views on sled 0.34.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Change, Direction, Engine, Scan, Store, StoreError, directory_bytes};

/// How often sled writes what is committed to the disk by itself.
const FLUSH_EVERY_MS: u64 = 1000;

pub(super) struct SledStore {
    db: sled::Db,
    dir: PathBuf,
    /// Whether a write has failed. From then on sled 0.34 may wait for ever for what it was to
    /// write, also while it is being dropped; the log has all of it.
    has_failed: AtomicBool,
}

impl SledStore {
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        Ok(Self {
            db: config.open().map_err(failed)?,
            dir: dir.to_path_buf(),
            has_failed: AtomicBool::new(false),
        })
    }
}

/// What sled 0.34 says when another handle has the directory; it has no variant for it.
const LOCKED: &str = "could not acquire lock";

fn failed(source: sled::Error) -> StoreError {
    if matches!(&source, sled::Error::Io(error) if error.to_string().contains(LOCKED)) {
        return StoreError::Locked {
            engine: Engine::Sled,
        };
    }
    if matches!(&source, sled::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull)
    {
        return StoreError::Full {
            engine: Engine::Sled,
        };
    }
    StoreError::Engine {
        engine: Engine::Sled,
        source: Box::new(source),
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if *self.has_failed.get_mut() {
            // One more handle than there is, so that sled is not dropped.
            std::mem::forget(self.db.clone());
        }
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .db
            .get(key)
            .map_err(failed)?
            .map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction) -> Scan<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let pairs = self.db.range(from.to_vec()..to.to_vec());
        let own = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
                .map_err(failed)
        };
        match direction {
            Direction::Forward => Box::new(pairs.map(own)),
            Direction::Backward => Box::new(pairs.rev().map(own)),
        }
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(|error| {
            self.has_failed.store(true, Ordering::Release);
            failed(error)
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        if self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.db.flush().map(|_| ()).map_err(failed)
    }

    fn disk_bytes(&self) -> u64 {
        directory_bytes(&self.dir)
    }
}
