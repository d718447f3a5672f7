//! The views: one handle for applying records and for asking.
//!
//! Invariant: a question sees the rows of one moment; a long list is several. Applying a batch holds the lock that every
//! question shares, so nobody meets half a batch, nor an index without its row.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quick_cache::sync::Cache;
use stemma_domain::event::{DecodeError, Event};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::value::EntityType;
use stemma_event_log::{EventDigest, Record};

use crate::apply::{ApplyError, Folded, Overlay, Prepared, decode, read_annotation, read_sizes};
use crate::cursor::CursorError;
use crate::key;
use crate::open::Options;
use crate::query::EntityTypeRow;
use crate::row::{self, Checkpoint};
use crate::store::{Engine, Store, StoreError};

/// The views of one log; clones share them.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    options: Options,
    /// Held for reading by questions, for writing while a batch is committed.
    moment: RwLock<()>,
    end: AtomicU64,
    descriptors: Cache<ResourceId, Arc<Descriptor>>,
    /// Behind the store, so that it goes last.
    directory: Directory,
}

/// Where the views are, and whether they are to stay there.
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
            tracing::warn!(%error, path = %self.path.display(), "unused views stay on disk");
        }
    }
}

/// Why a question could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The cursor cannot be used.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sizes of the views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewsStats {
    /// Records applied.
    pub end: u64,
    /// Resources, archived ones included.
    pub resources: u64,
    /// Resources that are archived.
    pub archived: u64,
    /// Annotations.
    pub annotations: u64,
    /// Entity types used or described.
    pub entity_types: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// The engine.
    pub engine: Engine,
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views")
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Views {
    /// The views over a store below `dir`.
    pub(crate) fn over(
        store: Arc<dyn Store>,
        dir: &Path,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let checkpoint = read_checkpoint(store.as_ref())?;
        let shared = Shared {
            store,
            options: options.clone(),
            moment: RwLock::new(()),
            end: AtomicU64::new(checkpoint.end),
            descriptors: Cache::new(options.descriptors_max),
            directory: Directory {
                path: dir.to_path_buf(),
                is_unwanted: AtomicBool::new(false),
            },
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// How many records were applied: the position of the next one.
    pub fn end(&self) -> u64 {
        self.shared.end.load(Ordering::Acquire)
    }

    /// The digest of the last record that was applied; it names all records before it, so it tells
    /// whether the views are of one log or of another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_applied(&self) -> Result<Option<EventDigest>, StoreError> {
        Ok(read_checkpoint(self.store())?.last)
    }

    /// Has the directory removed once the last clone of these views is gone.
    pub fn discard_when_unused(&self) {
        self.shared
            .directory
            .is_unwanted
            .store(true, Ordering::Release);
    }

    /// Takes [`Views::discard_when_unused`] back.
    pub fn keep(&self) {
        self.shared
            .directory
            .is_unwanted
            .store(false, Ordering::Release);
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.shared.store.as_ref()
    }

    /// Most rows that one page looks at.
    pub(crate) fn page_rows_max(&self) -> usize {
        self.shared.options.page_rows_max
    }

    pub(crate) fn moment(&self) -> RwLockReadGuard<'_, ()> {
        self.shared
            .moment
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies records, which follow one another; those below [`Views::end`] are passed over.
    /// Gives the new end. To be called by one thread at a time.
    ///
    /// # Errors
    /// [`ApplyError`] at the first record that cannot be applied; all before it are applied, and
    /// the views stay at its position.
    ///
    /// # Panics
    /// When a record is missing before the first that is to be applied: positions are dense.
    pub fn apply(&self, records: &[Record]) -> Result<u64, ApplyError> {
        self.apply_each(records.iter().map(|record| (record, decode(record))))
    }

    /// As [`Views::apply`], with payloads that were read ahead.
    ///
    /// # Errors
    /// As [`Views::apply`].
    ///
    /// # Panics
    /// As [`Views::apply`].
    pub fn apply_prepared(&self, records: Vec<Prepared>) -> Result<u64, ApplyError> {
        self.apply_each(records.into_iter().map(Prepared::into_parts))
    }

    fn apply_each<R: Borrow<Record>>(
        &self,
        records: impl Iterator<Item = (R, Result<Event, DecodeError>)>,
    ) -> Result<u64, ApplyError> {
        let start = self.end();
        let cached = |id| self.shared.descriptors.peek(&id);
        let mut overlay = Overlay::new(self.store(), &cached);
        let mut end = start;
        let mut stopped = None;
        for (record, event) in records {
            let record = record.borrow();
            let position = record.position().get();
            if position < end {
                continue;
            }
            assert_eq!(position, end, "positions are dense");
            if let Err(error) = overlay.apply(record, event) {
                stopped = Some(error);
                break;
            }
            end += 1;
        }
        if end > start {
            self.commit(overlay, end).map_err(|source| ApplyError {
                position: start,
                event_type: "a batch of records".to_owned(),
                reason: source.into(),
            })?;
        }
        stopped.map_or(Ok(end), Err)
    }

    fn commit(&self, overlay: Overlay<'_>, end: u64) -> Result<(), StoreError> {
        let Folded {
            changes,
            descriptors,
        } = overlay.finish(end)?;
        let _alone = self
            .shared
            .moment
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.store().commit(changes)?;
        for descriptor in descriptors {
            self.shared.descriptors.insert(descriptor.id, descriptor);
        }
        self.shared.end.store(end, Ordering::Release);
        Ok(())
    }

    /// A resource as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resource(&self, id: ResourceId) -> Result<Option<Arc<Descriptor>>, StoreError> {
        let _moment = self.moment();
        self.read_resource(id)
    }

    /// To be called with the moment held, so that what is kept is never older than the rows.
    pub(crate) fn read_resource(
        &self,
        id: ResourceId,
    ) -> Result<Option<Arc<Descriptor>>, StoreError> {
        if let Some(descriptor) = self.shared.descriptors.get(&id) {
            return Ok(Some(descriptor));
        }
        let key = key::resource(id);
        let Some(bytes) = self.store().get(&key)? else {
            return Ok(None);
        };
        let descriptor = Arc::new(row::decode_resource(&key, &bytes)?);
        self.shared.descriptors.insert(id, Arc::clone(&descriptor));
        Ok(Some(descriptor))
    }

    pub(crate) fn type_row(
        &self,
        entity_type: &EntityType,
    ) -> Result<Option<row::TypeRow>, StoreError> {
        let key = key::entity_type(entity_type);
        let bytes = self.store().get(&key)?;
        bytes
            .map(|bytes| row::decode_type(&key, &bytes))
            .transpose()
    }

    /// An annotation as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn annotation(
        &self,
        id: ResourceId,
        annotation: AnnotationId,
    ) -> Result<Option<AnnotationState>, StoreError> {
        let _moment = self.moment();
        read_annotation(self.store(), id, annotation)
    }

    /// An entity type, if it is used or described.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entity_type(&self, name: &EntityType) -> Result<Option<EntityTypeRow>, StoreError> {
        let _moment = self.moment();
        let row = self.type_row(name)?;
        Ok(row.map(|row| EntityTypeRow {
            name: name.clone(),
            description: row.description,
            registered: row.registered,
            count: row.count,
        }))
    }

    /// Whether any event ever named this content.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn names_content(&self, digest: &ContentDigest) -> Result<bool, StoreError> {
        Ok(self.store().get(&key::content(digest))?.is_some())
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stats(&self) -> Result<ViewsStats, StoreError> {
        let disk_bytes = self.disk_bytes();
        let _moment = self.moment();
        let sizes = read_sizes(self.store())?;
        Ok(ViewsStats {
            end: self.end(),
            resources: sizes.resources,
            archived: sizes.archived,
            annotations: sizes.annotations,
            entity_types: sizes.entity_types,
            disk_bytes,
            engine: self.shared.options.engine,
        })
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.store().disk_bytes()
    }

    /// Hits and misses of the descriptors that are kept decoded.
    pub fn descriptor_hits_and_misses(&self) -> (u64, u64) {
        (
            self.shared.descriptors.hits(),
            self.shared.descriptors.misses(),
        )
    }

    /// Makes an engine whose write failed ready for writing again. The views may be at an earlier
    /// position afterwards, to be applied from there. No question is answered meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; to be tried again later.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let _alone = self
            .shared
            .moment
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.store().reopen()?;
        let checkpoint = read_checkpoint(self.store())?;
        self.shared.descriptors.clear();
        self.shared.end.store(checkpoint.end, Ordering::Release);
        Ok(())
    }

    /// Writes what is applied to the disk, so that opening need not apply it again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store().flush()
    }
}

fn read_checkpoint(store: &dyn Store) -> Result<Checkpoint, StoreError> {
    let bytes = store.get(key::END)?;
    let checkpoint = bytes.map(|bytes| row::decode_checkpoint(key::END, &bytes));
    Ok(checkpoint.transpose()?.unwrap_or_default())
}
