//! Lists, page by page.
//!
//! A page looks at a bounded number of rows and then ends with a cursor, however few it found; it
//! is full as well once its items have so many bytes.
//! Invariant: pages of one query, joined, hold each item that was there all the time exactly once.

use std::sync::Arc;

use stemma_domain::access::Sight;
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::value::EntityType;
use uuid::Uuid;

use crate::cursor::Cursor;
use crate::key;
use crate::query::{
    Archived, EntityTypeRow, Page, ReferenceRelation, ReferencedBy, ResourceQuery, Sort,
};
use crate::row::{self, TypeRow};
use crate::store::{Direction, StoreError};
use crate::views::{QueryError, Views};
use crate::walk::Walk;

/// Rows that are looked at while nothing can be applied.
const SLICE_ROWS: usize = 256;

impl Views {
    /// A page of the resources that a query asks for.
    ///
    /// Walks the index with the fewest rows that fits; a page ends early, with a cursor, once it
    /// has looked at [`Options::page_rows_max`](crate::Options::page_rows_max) rows.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn resources(&self, query: &ResourceQuery) -> Result<Page<Arc<Descriptor>>, QueryError> {
        self.resources_for(query, &Sight::Everything)
    }

    /// The same, of what somebody sees.
    pub(crate) fn resources_for(
        &self,
        query: &ResourceQuery,
        sight: &Sight,
    ) -> Result<Page<Arc<Descriptor>>, QueryError> {
        let mark = query.mark();
        let after = query.after.as_ref();
        let after = after.map(|cursor| cursor.last(&mark)).transpose()?;
        let mut filling = self.filling(query.limit);
        filling.last = after.map(<[u8]>::to_vec);
        while filling.goes_on() {
            let rows_max = filling.left.min(SLICE_ROWS);
            self.fill_slice(query, rows_max, sight, &mut filling)?;
        }
        Ok(filling.into_page(&mark))
    }

    /// Fills a part of a page that looks at so many rows at the most, all as of one moment. Between
    /// two of them those who apply have their turn.
    fn fill_slice(
        &self,
        query: &ResourceQuery,
        rows_max: usize,
        sight: &Sight,
        filling: &mut Filling<Arc<Descriptor>>,
    ) -> Result<(), QueryError> {
        let _moment = self.moment();
        let (prefix, label) = self.narrowest(query)?;
        let after = filling.last.clone();
        let mut walk = Walk::new(
            self.store(),
            query,
            prefix,
            label.as_deref(),
            after.as_deref(),
        );
        for _ in 0..rows_max {
            let Some((order, id)) = walk.next()? else {
                filling.end();
                return Ok(());
            };
            let found = self.read_described(id)?;
            let bytes = found.as_ref().map_or(0, |described| described.bytes);
            let found = found.map(|described| described.descriptor);
            let is_wanted = |d: &Arc<Descriptor>| query.takes(d) && d.is_read_by(sight);
            filling.take(order, found.filter(is_wanted), bytes);
            if !filling.goes_on() {
                return Ok(());
            }
        }
        Ok(())
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
        self.read_annotations(id, limit, after)
    }

    /// To be called with the moment held.
    pub(crate) fn read_annotations(
        &self,
        id: ResourceId,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<AnnotationState>, QueryError> {
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
        self.referenced_by_for(id, archived, limit, after, &Sight::Everything)
    }

    /// The same, of what somebody sees.
    pub(crate) fn referenced_by_for(
        &self,
        id: ResourceId,
        archived: Archived,
        limit: usize,
        after: Option<&Cursor>,
        sight: &Sight,
    ) -> Result<Page<ReferencedBy>, QueryError> {
        let _moment = self.moment();
        let mark = format!("referenced_by {id} {archived:?}");
        self.page(&mark, &key::references(id), limit, after, |key, _| {
            let Some((source, relation, annotation_id)) = parse_reference(key) else {
                return Ok(None);
            };
            let descriptor = self.read_resource(source)?;
            let descriptor =
                descriptor.filter(|d| archived.takes(d.archived) && d.is_read_by(sight));
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
        self.entity_types_for(limit, after, |_, row| Some(row))
    }

    /// The same, each row as `seen` leaves it.
    pub(crate) fn entity_types_for(
        &self,
        limit: usize,
        after: Option<&Cursor>,
        seen: impl Fn(&EntityType, TypeRow) -> Option<TypeRow>,
    ) -> Result<Page<EntityTypeRow>, QueryError> {
        let _moment = self.moment();
        self.page(
            "entity_types",
            &key::entity_types(),
            limit,
            after,
            |key, value| {
                let row = row::decode_type(key, value)?;
                let name = std::str::from_utf8(&key[1..])
                    .ok()
                    .and_then(|n| EntityType::new(n).ok());
                Ok(name.and_then(|name| Some(seen(&name, row)?.shown(name))))
            },
        )
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
        let mut filling = self.filling(limit);
        let to = key::after_prefix(prefix);
        let mut rows = self.store().scan(&from, &to, Direction::Forward);
        while filling.goes_on() {
            let Some(pair) = rows.next() else {
                filling.end();
                break;
            };
            let (key, value) = pair?;
            let item = read(&key, &value)?;
            filling.take(key[prefix.len()..].to_vec(), item, value.len());
        }
        Ok(filling.into_page(mark))
    }

    /// A page of these views' that is empty yet.
    pub(crate) fn filling<T>(&self, limit: usize) -> Filling<T> {
        Filling::new(limit, self.page_rows_max(), self.page_bytes_max())
    }
}

/// A page that is being filled, row by row.
///
/// Once it is full, rows are looked at until another belongs to the list: that there is a next page
/// is told of rows that are shown there, not of such that are passed over, which may be hidden from
/// whoever asks.
pub(crate) struct Filling<T> {
    items: Vec<T>,
    limit: usize,
    /// How many more rows may be looked at.
    left: usize,
    /// How many more bytes of items there is room for.
    bytes_left: usize,
    /// The place of the row that was looked at last.
    last: Option<Vec<u8>>,
    /// The place of the last item, once the page is full.
    full_at: Option<Vec<u8>>,
    has_more: bool,
    is_at_end: bool,
}

impl<T> Filling<T> {
    fn new(limit: usize, rows_max: usize, bytes_max: usize) -> Self {
        Self {
            items: Vec::new(),
            limit,
            left: rows_max,
            bytes_left: bytes_max,
            last: None,
            full_at: None,
            has_more: false,
            is_at_end: false,
        }
    }

    /// Whether another row is to be looked at.
    pub(crate) fn goes_on(&self) -> bool {
        self.left > 0 && !self.has_more && !self.is_at_end
    }

    /// Takes a row's place in the order, and its item, of so many bytes, if it belongs to the list.
    pub(crate) fn take(&mut self, place: Vec<u8>, item: Option<T>, bytes: usize) {
        self.left -= 1;
        if self.full_at.is_some() {
            self.has_more = item.is_some();
        } else if let Some(item) = item {
            self.items.push(item);
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            let is_full = self.items.len() == self.limit || self.bytes_left == 0;
            self.full_at = is_full.then(|| place.clone());
        }
        self.last = Some(place);
    }

    /// Notes that there is no further row.
    pub(crate) fn end(&mut self) {
        self.is_at_end = true;
    }

    /// The page. Where no more rows may be looked at it has a cursor, however few items it has.
    pub(crate) fn into_page(self, mark: &str) -> Page<T> {
        let last = self.full_at.or(self.last).filter(|_| !self.is_at_end);
        Page {
            items: self.items,
            next: last.map(|place| Cursor::new(mark, &place)),
        }
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
    Some((
        ResourceId::new(Uuid::from_bytes(source)),
        relation,
        annotation,
    ))
}
