//! The views as somebody sees them: what they may not read is not there.
//!
//! Invariant: every answer is what it would be if the resources that somebody may not read had
//! never been, with their annotations, documents and jobs. Where every resource is open to the
//! tenant, or all is seen, that is asked once and costs nothing further.

use std::collections::HashMap;
use std::sync::Arc;

use stemma_domain::access::Sight;
use stemma_domain::document::{self, Document};
use stemma_domain::entity_type;
use stemma_domain::event::{Event, REQUESTS_STREAM};
use stemma_domain::id::{AnnotationId, JobId, ResourceId};
use stemma_domain::job::Job;
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::value::EntityType;
use stemma_event_log::Record;

use crate::apply::decode;
use crate::cursor::Cursor;
use crate::key;
use crate::processing::JobQuery;
use crate::query::{Archived, EntityTypeRow, Page, ReferencedBy, ResourceQuery};
use crate::row::TypeRow;
use crate::store::{Direction, StoreError};
use crate::views::{QueryError, Views};

/// Rows that are looked at while nothing can be applied.
const SLICE_ROWS: usize = 256;

/// The views as one caller sees them; clones share them.
#[derive(Debug, Clone)]
pub struct Seen {
    views: Views,
    sight: Sight,
}

impl Views {
    /// The views as somebody sees them.
    pub fn seen_by(&self, sight: &Sight) -> Seen {
        Seen {
            views: self.clone(),
            sight: sight.clone(),
        }
    }
}

impl Seen {
    /// Who sees them so.
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Bytes of rows that fill a page.
    pub fn page_bytes_max(&self) -> usize {
        self.views.page_bytes_max()
    }

    /// How many records were applied.
    pub fn end(&self) -> u64 {
        self.views.end()
    }

    /// Whether there is nothing that is not seen, as of [`Seen::end`].
    pub fn is_everything(&self) -> bool {
        self.sight == Sight::Everything || self.views.is_all_open()
    }

    /// Whether a resource is there and seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sees(&self, id: ResourceId) -> Result<bool, StoreError> {
        Ok(self.resource(id)?.is_some())
    }

    /// The same, with the moment held: what is read in it is of the resource as it is seen.
    fn sees_now(&self, id: ResourceId) -> Result<bool, StoreError> {
        let found = self.views.read_resource(id)?;
        Ok(found.is_some_and(|descriptor| descriptor.is_read_by(&self.sight)))
    }

    /// A resource as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resource(&self, id: ResourceId) -> Result<Option<Arc<Descriptor>>, StoreError> {
        let found = self.resource_of_bytes(id)?;
        Ok(found.map(|(descriptor, _)| descriptor))
    }

    /// A resource as it is, and the bytes of its row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resource_of_bytes(
        &self,
        id: ResourceId,
    ) -> Result<Option<(Arc<Descriptor>, usize)>, StoreError> {
        let _moment = self.views.moment();
        let found = self.views.read_described(id)?;
        let found = found.filter(|found| found.descriptor.is_read_by(&self.sight));
        Ok(found.map(|found| (found.descriptor, found.bytes)))
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
        let _moment = self.views.moment();
        if !self.sees_now(id)? {
            return Ok(None);
        }
        self.views.read_annotation(id, annotation)
    }

    /// A page of the resources that a query asks for, as [`Views::resources`].
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn resources(&self, query: &ResourceQuery) -> Result<Page<Arc<Descriptor>>, QueryError> {
        self.views.resources_for(query, &self.sight)
    }

    /// A page of a resource's annotations, as [`Views::annotations`].
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn annotations(
        &self,
        id: ResourceId,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<AnnotationState>, QueryError> {
        let _moment = self.views.moment();
        if !self.sees_now(id)? {
            let items = Vec::new();
            return Ok(Page { items, next: None });
        }
        self.views.read_annotations(id, limit, after)
    }

    /// A page of what names a resource from elsewhere, as [`Views::referenced_by`].
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
        self.views
            .referenced_by_for(id, archived, limit, after, &self.sight)
    }

    /// A page of the entity types that are described, or used by what is seen, as
    /// [`Views::entity_types`].
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn entity_types(
        &self,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<EntityTypeRow>, QueryError> {
        let own = self.own_types()?;
        self.views
            .entity_types_for(limit, after, |name, row| self.seen_of(name, row, &own))
    }

    /// An entity type, if it is described or used by what is seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entity_type(&self, name: &EntityType) -> Result<Option<EntityTypeRow>, StoreError> {
        let own = self.own_types()?;
        let row = self.views.read_type(name)?;
        let seen = row.and_then(|row| self.seen_of(name, row, &own));
        Ok(seen.map(|row| row.shown(name.clone())))
    }

    /// What is seen of a type's row; `own` are the resources that not everybody sees.
    fn seen_of(&self, name: &EntityType, mut row: TypeRow, own: &OwnTypes) -> Option<TypeRow> {
        if !matches!(self.sight, Sight::Of(_)) {
            return Some(row);
        }
        let (count, archived) = own.get(name).copied().unwrap_or_default();
        row.count = row.count.saturating_sub(row.restricted) + count;
        row.archived = row.archived.saturating_sub(row.restricted_archived) + archived;
        (!row.is_unused()).then_some(row)
    }

    /// How many resources of each type are seen that not everybody sees, archived ones apart.
    fn own_types(&self) -> Result<OwnTypes, StoreError> {
        let mut own = OwnTypes::new();
        let Sight::Of(principal) = &self.sight else {
            return Ok(own);
        };
        if self.views.is_all_open() {
            return Ok(own);
        }
        let prefix = key::granted(principal.as_str());
        let to = key::after_prefix(&prefix);
        let mut from = prefix;
        loop {
            let _moment = self.views.moment();
            let rows = self.views.store().scan(&from, &to, Direction::Forward);
            let mut last = None;
            for (looked_at, pair) in rows.take(SLICE_ROWS).enumerate() {
                let (key, _) = pair?;
                let id = key::indexed_resource(&key);
                last = (looked_at + 1 == SLICE_ROWS).then_some(key);
                let Some(id) = id else { continue };
                let Some(descriptor) = self.views.read_resource(id)? else {
                    continue;
                };
                for entity_type in &descriptor.entity_types {
                    let (count, archived) = own.entry(entity_type.clone()).or_default();
                    *(if descriptor.archived { archived } else { count }) += 1;
                }
            }
            let Some(last) = last else { return Ok(own) };
            from = [&last[..], &[0]].concat();
        }
    }

    /// A document's processing as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn document(&self, id: ResourceId) -> Result<Option<Document>, StoreError> {
        let _moment = self.views.moment();
        if !self.sees_now(id)? {
            return Ok(None);
        }
        self.views.read_document(id)
    }

    /// A job as it is, if all resources are seen that it is about.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let Some(job) = self.views.job(id)? else {
            return Ok(None);
        };
        let _moment = self.views.moment();
        Ok(self.sees_job(&job)?.then_some(job))
    }

    /// A page of jobs, as [`Views::jobs`].
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn jobs(&self, query: &JobQuery) -> Result<Page<Job>, QueryError> {
        self.views.jobs_for(query, |job| self.sees_job(job))
    }

    /// Whether nothing is hidden of what a job is about. A resource that it has yet to make is not
    /// hidden. To be called with the moment held.
    fn sees_job(&self, job: &Job) -> Result<bool, StoreError> {
        if self.is_everything() {
            return Ok(true);
        }
        for id in job.resources() {
            let found = self.views.read_resource(id)?;
            if found.is_some_and(|descriptor| !descriptor.is_read_by(&self.sight)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether an event is seen: that of a resource, document or job if it is, and one of a stream
    /// that is none of theirs if all is that it names. What the views have yet to be told of is not
    /// seen, so they must have reached the event.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn shows(&self, record: &Record) -> Result<bool, StoreError> {
        if self.is_everything() {
            return Ok(true);
        }
        let stream = record.stream();
        if let Some(id) = JobId::from_stream_name(stream) {
            return Ok(self.job(id)?.is_some());
        }
        let id = ResourceId::from_stream_name(stream);
        if let Some(id) = id.or_else(|| document::from_stream_name(stream)) {
            return self.sees(id);
        }
        match stream {
            entity_type::STREAM => Ok(true),
            REQUESTS_STREAM => self.shows_answer(record),
            // What another one names nobody here knows.
            _ => Ok(false),
        }
    }

    /// Whether the answer to a request is seen, which may name a document and a job. One that cannot
    /// be read may name anything.
    fn shows_answer(&self, record: &Record) -> Result<bool, StoreError> {
        let Ok(Event::RequestAnswered(found)) = decode(record) else {
            return Ok(false);
        };
        if let Some(id) = found.document_id
            && !self.sees(id)?
        {
            return Ok(false);
        }
        match found.job_id {
            Some(id) => Ok(self.job(id)?.is_some()),
            None => Ok(true),
        }
    }

    /// Whether the grants that an event tells are for who sees it: for its resource's owner, and
    /// who sees everything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn shows_grants(&self, record: &Record) -> Result<bool, StoreError> {
        if self.sight == Sight::Everything || !tells_grants(record) {
            return Ok(true);
        }
        let Some(id) = ResourceId::from_stream_name(record.stream()) else {
            return Ok(true);
        };
        let found = self.resource(id)?;
        Ok(found.is_some_and(|descriptor| descriptor.is_owned_by(&self.sight)))
    }

    /// Positions of batches of a trace, as [`Views::traced`]; whether what stands there is seen
    /// [`Seen::shows`] tells.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn traced(&self, trace_id: &str, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.views.traced(trace_id, limit)
    }
}

/// Whether an event says who may read and write a resource.
pub fn tells_grants(record: &Record) -> bool {
    record.data().starts_with(GRANTS_FIRST)
}

/// How payloads begin that tell grants: their keys are in order, and no other comes first.
const GRANTS_FIRST: &[u8] = br#"{"access":"#;

/// Numbers of resources, and of archived ones, by type.
type OwnTypes = HashMap<EntityType, (u64, u64)>;
