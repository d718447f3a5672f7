//! The views: one handle for applying records and for asking.
//!
//! Invariant: a question sees the rows of one moment; a long list is several.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use stemma_domain::event::{DecodeError, Event};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::value::EntityType;
use stemma_event_log::Record;

use crate::apply::{ApplyError, Overlay, Prepared, decode, read_annotation, read_sizes};
use crate::checkpointed::CheckpointedStore;
use crate::cursor::CursorError;
use crate::key;
use crate::model::Model;
use crate::open::Options;
use crate::query::EntityTypeRow;
use crate::row;
use crate::store::{Engine, StoreError};

/// The views of one log; clones share them.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

struct Shared {
    rows: CheckpointedStore,
    options: Options,
    descriptors: Cache<ResourceId, Described, RowPieces>,
    /// How many resources are not open to everybody, as of `end`.
    restricted: AtomicU64,
}

/// A descriptor, and how many bytes its row has.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) descriptor: Arc<Descriptor>,
    pub(crate) bytes: usize,
}

/// Bytes of a row that a kept descriptor counts once for.
const ROW_PIECE_BYTES: usize = 4096;

#[derive(Debug, Clone)]
struct RowPieces;

impl Weighter<ResourceId, Described> for RowPieces {
    fn weight(&self, _: &ResourceId, described: &Described) -> u64 {
        1 + (described.bytes / ROW_PIECE_BYTES) as u64
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

impl Deref for Views {
    type Target = CheckpointedStore;

    fn deref(&self) -> &CheckpointedStore {
        &self.shared.rows
    }
}

impl Model for Views {
    const NAME: &'static str = "views";
    const FORM: u8 = 3;
    const PACE: Duration = Duration::ZERO;

    fn over(rows: CheckpointedStore, options: &Options) -> Self {
        let restricted = AtomicU64::new(read_restricted(&rows));
        let shared = Shared {
            rows,
            restricted,
            options: options.clone(),
            descriptors: Cache::with_weighter(
                options.descriptors_max,
                options.descriptors_max as u64,
                RowPieces,
            ),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn apply(&self, records: &[Record]) -> Result<u64, ApplyError> {
        self.fold(records.iter().map(|record| (record, decode(record))))
    }

    fn apply_prepared(&self, records: Vec<Prepared>) -> Result<u64, ApplyError> {
        self.fold(records.into_iter().map(Prepared::into_parts))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.shared.rows.reopen(|| {
            self.shared.descriptors.clear();
            let restricted = read_restricted(&self.shared.rows);
            self.shared.restricted.store(restricted, Ordering::Release);
        })
    }
}

/// Where it cannot be told, not none of them.
fn read_restricted(rows: &CheckpointedStore) -> u64 {
    read_sizes(rows.store()).map_or(u64::MAX, |sizes| sizes.restricted)
}

impl Views {
    fn fold<R: Borrow<Record>>(
        &self,
        records: impl Iterator<Item = (R, Result<Event, DecodeError>)>,
    ) -> Result<u64, ApplyError> {
        let cached = |id| {
            let described = self.shared.descriptors.peek(&id);
            described.map(|described| described.descriptor)
        };
        let overlay = Overlay::new(self.store(), &cached);
        self.shared.rows.apply_each(overlay, records, |outcome| {
            for described in outcome.descriptors {
                let id = described.descriptor.id;
                self.shared.descriptors.insert(id, described);
            }
            // Before the end moves on: who sees that sees this.
            if let Some(restricted) = outcome.restricted {
                self.shared.restricted.store(restricted, Ordering::Release);
            }
            if !outcome.jobs.jobs.is_empty() {
                self.shared.options.job_feed.tell(outcome.jobs);
            }
        })
    }

    /// Whether every resource is open to everybody of the tenant.
    pub(crate) fn is_all_open(&self) -> bool {
        self.shared.restricted.load(Ordering::Acquire) == 0
    }

    /// Most rows that one page looks at.
    pub(crate) fn page_rows_max(&self) -> usize {
        self.shared.options.page_rows_max
    }

    /// Bytes of rows that fill a page.
    pub(crate) fn page_bytes_max(&self) -> usize {
        self.shared.options.page_bytes_max
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
        let described = self.read_described(id)?;
        Ok(described.map(|described| described.descriptor))
    }

    /// The same, with the bytes of its row.
    pub(crate) fn read_described(&self, id: ResourceId) -> Result<Option<Described>, StoreError> {
        if let Some(described) = self.shared.descriptors.get(&id) {
            return Ok(Some(described));
        }
        let key = key::resource(id);
        let Some(bytes) = self.store().get(&key)? else {
            return Ok(None);
        };
        let described = Described {
            descriptor: Arc::new(row::decode_resource(&key, &bytes)?),
            bytes: bytes.len(),
        };
        self.shared.descriptors.insert(id, described.clone());
        Ok(Some(described))
    }

    /// What is known of an entity type.
    pub(crate) fn read_type(&self, name: &EntityType) -> Result<Option<row::TypeRow>, StoreError> {
        let _moment = self.moment();
        self.type_row(name)
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
        self.read_annotation(id, annotation)
    }

    /// To be called with the moment held.
    pub(crate) fn read_annotation(
        &self,
        id: ResourceId,
        annotation: AnnotationId,
    ) -> Result<Option<AnnotationState>, StoreError> {
        read_annotation(self.store(), id, annotation)
    }

    /// An entity type, if it is used or described.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entity_type(&self, name: &EntityType) -> Result<Option<EntityTypeRow>, StoreError> {
        let row = self.read_type(name)?;
        Ok(row.map(|row| row.shown(name.clone())))
    }

    /// Whether any event below `end` ever named this content; true as well while the views hold
    /// less, as after an engine that failed was opened anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn may_name_content(&self, digest: &ContentDigest, end: u64) -> Result<bool, StoreError> {
        let _moment = self.moment();
        Ok(self.end() < end || self.store().get(&key::content(digest))?.is_some())
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

    /// Hits and misses of the descriptors that are kept decoded.
    pub fn descriptor_hits_and_misses(&self) -> (u64, u64) {
        (
            self.shared.descriptors.hits(),
            self.shared.descriptors.misses(),
        )
    }
}
