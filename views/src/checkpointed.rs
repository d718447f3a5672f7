//! Rows on an engine with the position up to which the log was folded into them.
//!
//! What every model shares: one moment for all questions, one commit for rows and checkpoint, the
//! digest of all rows, a directory that goes when nobody wants it. Invariant: nobody meets half a
//! batch, nor a checkpoint without its rows.

use std::borrow::Borrow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use stemma_domain::event::{DecodeError, Event};
use stemma_event_log::{EventDigest, Record};

use crate::apply::{ApplyError, Reason};
use crate::digest::{StateDigest, StateHasher};
use crate::key;
use crate::row::{self, Checkpoint};
use crate::store::{Change, Direction, Pair, Store, StoreError};

/// Rows that a digest takes at a time.
const DIGEST_ROWS: usize = 4096;

/// The rows of a model; the model derefs to it.
pub struct CheckpointedStore {
    store: Arc<dyn Store>,
    /// Held for reading by questions, for writing while a batch is committed.
    moment: RwLock<()>,
    end: AtomicU64,
    /// Behind the store, so that it goes last.
    directory: Directory,
}

/// Where the rows are, and whether they are to stay there.
struct Directory {
    path: PathBuf,
    is_unwanted: AtomicBool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_unwanted.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "unused rows stay on disk");
        }
    }
}

/// A batch of records on its way into the rows.
pub(crate) trait Fold {
    /// What is known once the batch is in, besides the rows.
    type Outcome;
    /// Folds one record in; one that cannot be applied leaves no trace.
    fn apply(&mut self, record: &Record, event: Event) -> Result<(), Reason>;
    /// The rows to write for the whole batch.
    fn finish(self) -> Result<(Vec<Change>, Self::Outcome), StoreError>;
}

impl CheckpointedStore {
    pub(crate) fn over(store: Arc<dyn Store>, dir: &Path) -> Result<Self, StoreError> {
        let checkpoint = read_checkpoint(store.as_ref())?;
        Ok(Self {
            store,
            moment: RwLock::new(()),
            end: AtomicU64::new(checkpoint.end),
            directory: Directory {
                path: dir.to_path_buf(),
                is_unwanted: AtomicBool::new(false),
            },
        })
    }

    /// How many records were applied: the position of the next one.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The digest of the last record that was applied; it names all records before it, so it tells
    /// whether the rows are of one log or of another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_applied(&self) -> Result<Option<EventDigest>, StoreError> {
        Ok(read_checkpoint(self.store())?.last)
    }

    /// Has the directory removed once the last clone of the model is gone.
    pub fn discard_when_unused(&self) {
        self.directory.is_unwanted.store(true, Ordering::Release);
    }

    /// Takes [`discard_when_unused`](Self::discard_when_unused) back.
    pub fn keep(&self) {
        self.directory.is_unwanted.store(false, Ordering::Release);
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Holds the rows as they are for a question.
    pub(crate) fn moment(&self) -> RwLockReadGuard<'_, ()> {
        self.moment.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.moment.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds records, which follow one another, and commits them with the position after the last;
    /// `committed` is told while nobody can ask.
    ///
    /// # Errors
    /// [`ApplyError`] at the first record that cannot be applied; all before it are applied.
    ///
    /// # Panics
    /// When a record is missing before the first that is to be applied: positions are dense.
    pub(crate) fn apply_each<F: Fold, R: Borrow<Record>>(
        &self,
        mut fold: F,
        records: impl Iterator<Item = (R, Result<Event, DecodeError>)>,
        committed: impl FnOnce(F::Outcome),
    ) -> Result<u64, ApplyError> {
        let start = self.end();
        let mut end = start;
        let (mut last, mut stopped) = (None, None);
        for (record, event) in records {
            let record = record.borrow();
            let position = record.position().get();
            if position < end {
                continue;
            }
            assert_eq!(position, end, "positions are dense");
            let applied = event
                .map_err(Reason::from)
                .and_then(|event| fold.apply(record, event));
            if let Err(reason) = applied {
                stopped = Some(ApplyError::at(record, reason));
                break;
            }
            last = Some(record.digest());
            end += 1;
        }
        if end > start {
            let checkpoint = Checkpoint { end, last };
            self.commit(fold, &checkpoint, committed)
                .map_err(|source| ApplyError {
                    position: start,
                    event_type: "a batch of records".to_owned(),
                    reason: source.into(),
                })?;
        }
        stopped.map_or(Ok(end), Err)
    }

    fn commit<F: Fold>(
        &self,
        fold: F,
        checkpoint: &Checkpoint,
        committed: impl FnOnce(F::Outcome),
    ) -> Result<(), StoreError> {
        let (mut changes, outcome) = fold.finish()?;
        changes.push((key::END.to_vec(), Some(row::encode_checkpoint(checkpoint))));
        // In order already, they are quickly put in while nobody can ask.
        changes.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.store.make_room()?;
        let _alone = self.alone();
        self.store.commit(changes)?;
        committed(outcome);
        self.end.store(checkpoint.end, Ordering::Release);
        Ok(())
    }

    /// Makes an engine whose write failed ready for writing again; `forget` drops what was kept of
    /// rows. No question is answered meanwhile.
    pub(crate) fn reopen(&self, forget: impl FnOnce()) -> Result<(), StoreError> {
        let _alone = self.alone();
        self.store.reopen()?;
        let checkpoint = read_checkpoint(self.store())?;
        forget();
        self.end.store(checkpoint.end, Ordering::Release);
        Ok(())
    }

    /// Writes what is applied to the disk, so that opening need not apply it again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    /// Says that much is about to be written and little read: what the engine writes is put in order
    /// later. Taken back with `false`; a store that is opened does not hold.
    pub fn hold_merging(&self, holds: bool) {
        self.store.hold_merging(holds);
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.store.disk_bytes()
    }

    /// The digest of all rows. Meaningful while nothing is applied at the same time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state_digest(&self) -> Result<StateDigest, StoreError> {
        let digest = self.state_digest_while(&|| true)?;
        Ok(digest.expect("it goes on to the end"))
    }

    /// The same, for as long as `goes_on` says so, which is asked now and then; none when it was
    /// broken off.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state_digest_while(
        &self,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<StateDigest>, StoreError> {
        let mut hasher = StateHasher::default();
        let mut after = None;
        while goes_on() {
            after = self.digest_rows(after.as_deref(), DIGEST_ROWS, &mut hasher)?;
            if after.is_none() {
                return Ok(Some(hasher.finish()));
            }
        }
        Ok(None)
    }

    /// Takes the next rows into a digest; gives the last key taken, none at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn digest_rows(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        hasher: &mut StateHasher,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut last, mut left) = (None, limit);
        self.store
            .show(&behind(after), &[u8::MAX], &mut |key, value| {
                hasher.row(key, value);
                left -= 1;
                if left > 0 {
                    return ControlFlow::Continue(());
                }
                last = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
        Ok(last)
    }

    /// Takes the rows behind `after`, up to and with `to` (to the end without it), into a digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn digest_span(
        &self,
        after: Option<&[u8]>,
        to: Option<&[u8]>,
        hasher: &mut StateHasher,
    ) -> Result<(), StoreError> {
        let from = behind(after);
        let to = to.map_or(vec![u8::MAX], |to| behind(Some(to)));
        self.store.show(&from, &to, &mut |key, value| {
            hasher.row(key, value);
            ControlFlow::Continue(())
        })
    }

    /// The next rows after a key, to be held against another's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_after(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let rows = self
            .store
            .scan(&behind(after), &[u8::MAX], Direction::Forward);
        let data = |pair: &Result<Pair, StoreError>| {
            pair.as_ref()
                .map_or(true, |(key, _)| key.first() != Some(&key::META))
        };
        rows.filter(data).take(limit).collect()
    }
}

/// The first key behind another; the first of all without one.
fn behind(key: Option<&[u8]>) -> Vec<u8> {
    key.map(|key| [key, &[0]].concat()).unwrap_or_default()
}

fn read_checkpoint(store: &dyn Store) -> Result<Checkpoint, StoreError> {
    let bytes = store.get(key::END)?;
    let checkpoint = bytes.map(|bytes| row::decode_checkpoint(key::END, &bytes));
    Ok(checkpoint.transpose()?.unwrap_or_default())
}
