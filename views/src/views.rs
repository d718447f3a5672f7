//! The views: one handle for applying records and for asking.
//!
//! Invariant: a question sees the rows of one moment. Applying a batch holds the lock that every
//! question shares, so nobody meets half a batch, nor an index without its row.

use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quick_cache::sync::Cache;
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::value::EntityType;
use stemma_event_log::Record;
use uuid::Uuid;

use crate::apply::{ApplyError, Overlay, read_annotation};
use crate::cursor::{Cursor, CursorError};
use crate::digest::{StateDigest, StateHasher};
use crate::key;
use crate::open::Options;
use crate::query::{
    Archived, EntityTypeRow, Page, ReferenceRelation, ReferencedBy, ResourceQuery, Sort,
};
use crate::row;
use crate::store::{Direction, Engine, Scan, Store, StoreError};

/// Rows that a digest takes at a time.
const DIGEST_ROWS: usize = 4096;

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
        f.debug_struct("Views").field("end", &self.end()).finish_non_exhaustive()
    }
}

impl Views {
    pub(crate) fn over(store: Arc<dyn Store>, options: &Options) -> Result<Self, StoreError> {
        let end = store.get(key::END)?;
        let end = end.map(|bytes| row::decode_position(key::END, &bytes)).transpose()?;
        let shared = Shared {
            store,
            options: options.clone(),
            moment: RwLock::new(()),
            end: AtomicU64::new(end.unwrap_or(0)),
            descriptors: Cache::new(options.descriptors_max),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How many records were applied: the position of the next one.
    pub fn end(&self) -> u64 {
        self.shared.end.load(Ordering::Acquire)
    }

    fn store(&self) -> &dyn Store {
        self.shared.store.as_ref()
    }

    fn moment(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.moment.read().unwrap_or_else(PoisonError::into_inner)
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
        let start = self.end();
        let cached = |id| self.shared.descriptors.peek(&id).map(|d| (*d).clone());
        let mut overlay = Overlay::new(self.store(), &cached);
        let mut end = start;
        let mut stopped = None;
        for record in records {
            let position = record.position().get();
            if position < end {
                continue;
            }
            assert_eq!(position, end, "positions are dense");
            if let Err(error) = overlay.apply(record) {
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
        let (changes, descriptors) = overlay.finish(end);
        let _alone = self.shared.moment.write().unwrap_or_else(PoisonError::into_inner);
        self.store().commit(changes)?;
        for descriptor in descriptors {
            self.shared.descriptors.insert(descriptor.id, Arc::new(descriptor));
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
    fn read_resource(&self, id: ResourceId) -> Result<Option<Arc<Descriptor>>, StoreError> {
        if let Some(descriptor) = self.shared.descriptors.get(&id) {
            return Ok(Some(descriptor));
        }
        let key = key::resource(id);
        let Some(bytes) = self.store().get(&key)? else { return Ok(None) };
        let descriptor = Arc::new(row::decode_resource(&key, &bytes)?);
        self.shared.descriptors.insert(id, Arc::clone(&descriptor));
        Ok(Some(descriptor))
    }

    /// A page of the resources that a query asks for.
    ///
    /// Walks the index with the fewest rows that fits; a page ends early, with a cursor, once it
    /// has looked at [`Options::page_rows_max`] rows.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn resources(&self, query: &ResourceQuery) -> Result<Page<Arc<Descriptor>>, QueryError> {
        let _moment = self.moment();
        let mark = query.mark();
        let after = query.after.as_ref().map(|cursor| cursor.last(&mark)).transpose()?;
        let (prefix, label) = self.narrowest(query)?;
        let mut walk = Walk::new(self.store(), query, prefix, label.as_deref(), after);
        let mut page = Page { items: Vec::new(), next: None };
        let mut looked_at = 0;
        let mut last: Option<Vec<u8>> = None;
        while let Some((order, id)) = walk.next()? {
            let is_full = page.items.len() == query.limit;
            if is_full || looked_at == self.shared.options.page_rows_max {
                page.next = last.map(|key| Cursor::new(&mark, &key));
                return Ok(page);
            }
            looked_at += 1;
            last = Some(order);
            if let Some(descriptor) = self.read_resource(id)?.filter(|d| query.takes(d)) {
                page.items.push(descriptor);
            }
        }
        Ok(page)
    }

    fn narrowest(&self, query: &ResourceQuery) -> Result<(u8, Option<String>), StoreError> {
        if query.sort == Sort::Name {
            return Ok((key::BY_NAME, None));
        }
        let mut rarest: Option<(u64, &EntityType)> = None;
        for entity_type in &query.entity_types {
            let row = self.type_row(entity_type)?;
            let count = row.map_or(0, |row| row.count + row.archived);
            if rarest.is_none_or(|(fewest, _)| count < fewest) {
                rarest = Some((count, entity_type));
            }
        }
        Ok(match (rarest, &query.collection) {
            (Some((_, entity_type)), _) => (key::BY_TYPE, Some(entity_type.as_str().to_owned())),
            (None, Some(collection)) => (key::BY_COLLECTION, Some(collection.as_str().to_owned())),
            (None, None) => (key::BY_CREATED, None),
        })
    }

    fn type_row(&self, entity_type: &EntityType) -> Result<Option<row::TypeRow>, StoreError> {
        let key = key::entity_type(entity_type);
        let bytes = self.store().get(&key)?;
        bytes.map(|bytes| row::decode_type(&key, &bytes)).transpose()
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

    /// A page of a resource's annotations, in the order in which they were added.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn annotations(
        &self,
        id: ResourceId,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<AnnotationState>, QueryError> {
        let _moment = self.moment();
        let mark = format!("annotations {id}");
        self.page(&mark, &key::annotations(id), limit, after, |key, value| {
            row::decode_annotation(key, value).map(Some)
        })
    }

    /// A page of what names a resource from elsewhere, by the naming resource's id.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn referenced_by(
        &self,
        id: ResourceId,
        archived: Archived,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<ReferencedBy>, QueryError> {
        let _moment = self.moment();
        let mark = format!("referenced_by {id} {archived:?}");
        self.page(&mark, &key::references(id), limit, after, |key, _| {
            let Some((source, relation, annotation_id)) = parse_reference(key) else {
                return Ok(None);
            };
            let descriptor = self.read_resource(source)?;
            let descriptor = descriptor.filter(|d| archived.takes(d.archived));
            Ok(descriptor.map(|descriptor| ReferencedBy {
                resource_id: source,
                name: descriptor.name.clone(),
                annotation_id,
                relation,
            }))
        })
    }

    /// A page of the entity types that are used or described, by name.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn entity_types(
        &self,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<EntityTypeRow>, QueryError> {
        let _moment = self.moment();
        self.page("entity_types", &key::entity_types(), limit, after, |key, value| {
            let row = row::decode_type(key, value)?;
            let name = std::str::from_utf8(&key[1..]).ok().and_then(|n| EntityType::new(n).ok());
            Ok(name.map(|name| EntityTypeRow {
                name,
                description: row.description,
                count: row.count,
            }))
        })
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
            count: row.count,
        }))
    }

    /// A page of the rows below a prefix; `read` may pass a row over.
    fn page<T>(
        &self,
        mark: &str,
        prefix: &[u8],
        limit: usize,
        after: Option<&Cursor>,
        read: impl Fn(&[u8], &[u8]) -> Result<Option<T>, StoreError>,
    ) -> Result<Page<T>, QueryError> {
        let mut from = prefix.to_vec();
        if let Some(cursor) = after {
            from.extend_from_slice(cursor.last(mark)?);
            from.push(0);
        }
        let mut page = Page { items: Vec::new(), next: None };
        let mut last: Option<Vec<u8>> = None;
        let to = key::after_prefix(prefix);
        let rows = self.store().scan(&from, &to, Direction::Forward);
        for (looked_at, pair) in rows.enumerate() {
            if page.items.len() == limit || looked_at == self.shared.options.page_rows_max {
                page.next = last.map(|key| Cursor::new(mark, &key));
                return Ok(page);
            }
            let (key, value) = pair?;
            page.items.extend(read(&key, &value)?);
            last = Some(key[prefix.len()..].to_vec());
        }
        Ok(page)
    }

    /// Whether any event ever named this content.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn names_content(&self, digest: &ContentDigest) -> Result<bool, StoreError> {
        Ok(self.store().get(&key::content(digest))?.is_some())
    }

    /// The digest of all rows. Meaningful while nothing is applied at the same time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state_digest(&self) -> Result<StateDigest, StoreError> {
        let mut hasher = StateHasher::default();
        let mut after = None;
        loop {
            after = self.digest_rows(after.as_deref(), DIGEST_ROWS, &mut hasher)?;
            if after.is_none() {
                return Ok(hasher.finish());
            }
        }
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
        let mut from = after.map(<[u8]>::to_vec).unwrap_or_default();
        if after.is_some() {
            from.push(0);
        }
        let mut last = None;
        for pair in self.store().scan(&from, &[u8::MAX], Direction::Forward).take(limit) {
            let (key, value) = pair?;
            hasher.row(&key, &value);
            last = Some(key);
        }
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
        let behind = |key: &[u8]| [key, &[0]].concat();
        let from = after.map(behind).unwrap_or_default();
        let to = to.map_or(vec![u8::MAX], behind);
        for pair in self.store().scan(&from, &to, Direction::Forward) {
            let (key, value) = pair?;
            hasher.row(&key, &value);
        }
        Ok(())
    }

    /// The next rows after a key, to be held against another's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_after(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut from = after.map(<[u8]>::to_vec).unwrap_or_default();
        if after.is_some() {
            from.push(0);
        }
        let rows = self.store().scan(&from, &[u8::MAX], Direction::Forward);
        let data = |pair: &Result<(Vec<u8>, _), StoreError>| {
            pair.as_ref().map_or(true, |(key, _)| key.first() != Some(&key::META))
        };
        rows.filter(data).take(limit).collect()
    }

    /// Sizes, counted now: it walks the resources' index.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stats(&self) -> Result<ViewsStats, StoreError> {
        let count = |prefix: &[u8]| -> Result<u64, StoreError> {
            let to = key::after_prefix(prefix);
            let rows = self.store().scan(prefix, &to, Direction::Forward);
            rows.map(|row| row.map(|_| 1)).sum()
        };
        let flagged = |archived| key::index_start(key::BY_CREATED, None, archived);
        let archived = count(&flagged(true))?;
        Ok(ViewsStats {
            end: self.end(),
            resources: count(&flagged(false))? + archived,
            archived,
            annotations: count(b"b")?,
            entity_types: count(&key::entity_types())?,
            disk_bytes: self.disk_bytes(),
            engine: self.shared.options.engine,
        })
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.store().disk_bytes()
    }

    /// Hits and misses of the descriptors that are kept decoded.
    pub fn descriptor_hits_and_misses(&self) -> (u64, u64) {
        (self.shared.descriptors.hits(), self.shared.descriptors.misses())
    }

    /// Writes what is applied to the disk, so that opening need not apply it again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store().flush()
    }
}

fn parse_reference(key: &[u8]) -> Option<(ResourceId, ReferenceRelation, Option<AnnotationId>)> {
    let source: [u8; 16] = key.get(17..33)?.try_into().ok()?;
    let relation = match key.get(33)? {
        b'b' => ReferenceRelation::Body,
        b't' => ReferenceRelation::Target,
        b'd' => ReferenceRelation::DerivedFrom,
        _ => return None,
    };
    let annotation: [u8; 16] = key.get(34..50)?.try_into().ok()?;
    let annotation = Uuid::from_bytes(annotation);
    let annotation = (!annotation.is_nil()).then(|| AnnotationId::new(annotation));
    Some((ResourceId::new(Uuid::from_bytes(source)), relation, annotation))
}

/// Walks an index, archived and not merged where both are asked for.
struct Walk<'a> {
    /// For each walk: the bytes before what orders, and the keys.
    walks: Vec<(usize, Peekable<Scan<'a>>)>,
    direction: Direction,
}

impl<'a> Walk<'a> {
    fn new(
        store: &'a dyn Store,
        query: &ResourceQuery,
        prefix: u8,
        label: Option<&str>,
        after: Option<&[u8]>,
    ) -> Self {
        let direction = query.direction();
        let walks = query.archived.flags().iter().map(|archived| {
            let start = key::index_start(prefix, label, *archived);
            let (mut from, mut to) = (start.clone(), key::after_prefix(&start));
            if let Some(earliest) = query.earliest() {
                from.extend_from_slice(&earliest);
            }
            if let Some(after) = after {
                let place = [start.as_slice(), after].concat();
                match direction {
                    Direction::Forward => from = [place.as_slice(), &[0]].concat().max(from),
                    Direction::Backward => to = place,
                }
            }
            (start.len(), store.scan(&from, &to, direction).peekable())
        });
        Self { walks: walks.collect(), direction }
    }

    /// The next place in the order, and the resource there.
    fn next(&mut self) -> Result<Option<(Vec<u8>, ResourceId)>, StoreError> {
        let mut heads = BinaryHeap::new();
        for (index, (start, walk)) in self.walks.iter_mut().enumerate() {
            if let Some(Ok((key, _))) = walk.peek() {
                let order = key[*start..].to_vec();
                heads.push((order, index));
            } else if let Some(Err(_)) = walk.peek() {
                heads.clear();
                let failed = walk.next().expect("peeked just above");
                return failed.map(|_| None);
            }
        }
        let heads = heads.into_sorted_vec();
        let next = match self.direction {
            Direction::Forward => heads.into_iter().next(),
            Direction::Backward => heads.into_iter().next_back(),
        };
        let Some((order, index)) = next else { return Ok(None) };
        self.walks[index].1.next();
        let id = key::indexed_resource(&order);
        let unreadable = || StoreError::Row {
            key: order.iter().map(|byte| format!("{byte:02x}")).collect(),
            problem: "does not end in a resource's id".to_owned(),
        };
        let id = id.ok_or_else(unreadable)?;
        Ok(Some((order, id)))
    }
}
