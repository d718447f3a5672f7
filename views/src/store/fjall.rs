//! Views on fjall 3.

use std::path::{Path, PathBuf};

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Change, Direction, Engine, Scan, Store, StoreError, directory_bytes};

/// The one keyspace that holds rows and checkpoint.
const KEYSPACE: &str = "rows";

pub(super) struct FjallStore {
    db: Database,
    rows: Keyspace,
    dir: PathBuf,
}

impl FjallStore {
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let db = Database::builder(dir)
            .cache_size(cache_bytes)
            // The log is what is durable: a journal that is behind costs a crash some folding.
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let rows = db
            .keyspace(KEYSPACE, KeyspaceCreateOptions::default)
            .map_err(failed)?;
        Ok(Self {
            db,
            rows,
            dir: dir.to_path_buf(),
        })
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
        Ok(self
            .rows
            .get(key)
            .map_err(failed)?
            .map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction) -> Scan<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let pairs = self.rows.range(from.to_vec()..to.to_vec());
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
        let mut batch = self.db.batch().durability(None);
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.commit().map_err(failed)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn disk_bytes(&self) -> u64 {
        directory_bytes(&self.dir)
    }
}
