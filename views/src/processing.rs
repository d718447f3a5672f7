//! Jobs and documents: their rows, how they are folded, and what can be asked of them.
//!
//! The rows hold the states that `domain` folds; the indexes lead to jobs by status and by
//! document. Invariant: a job stands in the index of exactly the status that its row tells, and
//! the counts are those of the indexes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stemma_domain::document::{self, Document};
use stemma_domain::event::{Envelope, Event};
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::job::{Job, JobStatus};
use stemma_domain::time::Timestamp;
use stemma_domain::value::JobKind;
use stemma_event_log::Record;

use crate::apply::{Reason, key_changes};
use crate::cursor::{Cursor, CursorError};
use crate::job_feed::ChangedJobs;
use crate::key;
use crate::list::Filling;
use crate::query::Page;
use crate::row;
use crate::store::{Change, Direction, Store, StoreError};
use crate::views::{QueryError, Views};

const MICROS_A_DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// Jobs that are looked at while nothing can be applied.
const SLICE_ROWS: usize = 256;
/// Bytes of their rows after which others have their turn, however few they are.
const SLICE_BYTES: usize = 1 << 20;

/// Which jobs a list is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Jobs of this status.
    pub status: Option<JobStatus>,
    /// Jobs of this kind.
    pub kind: Option<JobKind>,
    /// Jobs about this document.
    pub document_id: Option<ResourceId>,
    /// Jobs that the request of this trace queued.
    pub trace_id: Option<String>,
    /// Most items of a page.
    pub limit: usize,
    /// Where the page begins.
    pub after: Option<Cursor>,
}

/// How far a page of jobs has come, from the newest on.
struct JobWalk {
    /// Where the jobs stand that it looks at.
    prefix: Vec<u8>,
    /// The place of the job that it looked at last; it goes on before it.
    to: Vec<u8>,
    /// How many more bytes of rows may be read for nothing. Those of its items fill the page.
    bytes_left: usize,
}

impl JobWalk {
    /// The walk of a query, from its cursor on.
    fn of(query: &JobQuery, mark: &str, bytes_left: usize) -> Result<Self, CursorError> {
        let prefix = match (query.document_id, &query.trace_id, query.status) {
            (Some(id), _, _) => key::jobs_of_document(id),
            (None, Some(trace), _) => key::jobs_of_trace(trace),
            (None, None, Some(status)) => key::jobs_of_status(status),
            (None, None, None) => vec![key::JOB],
        };
        let to = match &query.after {
            Some(cursor) => [&prefix, cursor.last(mark)?].concat(),
            None => key::after_prefix(&prefix),
        };
        Ok(Self {
            prefix,
            to,
            bytes_left,
        })
    }
}

/// How many jobs there are of each status, in the order of [`JobStatus::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts([u64; 6]);

impl JobCounts {
    /// How many there are of a status.
    pub fn of(&self, status: JobStatus) -> u64 {
        let counts = JobStatus::ALL.iter().zip(self.0);
        counts.filter(|(s, _)| **s == status).map(|(_, n)| n).sum()
    }
}

/// The day that an instant falls on, in days since 1970, in UTC.
pub fn day_of(instant: Timestamp) -> u32 {
    u32::try_from(instant.micros().div_euclid(MICROS_A_DAY)).unwrap_or(0)
}

/// States that a batch touches: as they were, and as they are after the records so far.
struct States<Id, T> {
    by_id: HashMap<Id, (Option<T>, Option<T>)>,
}

impl<Id: Copy + Eq + Hash, T: Clone + DeserializeOwned> States<Id, T> {
    fn new() -> Self {
        let by_id = HashMap::new();
        Self { by_id }
    }

    fn now(
        &mut self,
        store: &dyn Store,
        id: Id,
        key: impl Fn(Id) -> Vec<u8>,
    ) -> Result<&mut Option<T>, StoreError> {
        let (_, now) = match self.by_id.entry(id) {
            Entry::Occupied(touched) => touched.into_mut(),
            Entry::Vacant(vacant) => {
                let found: Option<T> = read(store, &key(id))?;
                vacant.insert((found.clone(), found))
            }
        };
        Ok(now)
    }
}

fn read<T: DeserializeOwned>(store: &dyn Store, key: &[u8]) -> Result<Option<T>, StoreError> {
    let bytes = store.get(key)?;
    bytes
        .map(|bytes| row::decode_state(key, &bytes))
        .transpose()
}

fn read_counts(store: &dyn Store) -> Result<JobCounts, StoreError> {
    let bytes = store.get(key::JOB_COUNTS)?;
    let counts = bytes.map(|bytes| row::decode(&bytes).map(JobCounts));
    let counts = counts.transpose();
    let counts = counts.map_err(|problem| row::unreadable(key::JOB_COUNTS, &problem))?;
    Ok(counts.unwrap_or_default())
}

/// The jobs and documents that a batch touches.
pub(crate) struct Processing<'a> {
    store: &'a dyn Store,
    jobs: States<JobId, Job>,
    /// The position after the last event of a job.
    jobs_end: u64,
    documents: States<ResourceId, Document>,
    uploads: HashMap<(u32, String), u64>,
}

impl<'a> Processing<'a> {
    pub(crate) fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            jobs: States::new(),
            jobs_end: 0,
            documents: States::new(),
            uploads: HashMap::new(),
        }
    }

    /// Folds a job's event in; one that does not fit leaves no trace.
    pub(crate) fn job(
        &mut self,
        record: &Record,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Reason> {
        let id = JobId::from_stream_name(record.stream())
            .ok_or_else(|| format!("stream {} is not a job's", record.stream()))?;
        let now = self.jobs.now(self.store, id, key::job)?;
        match now {
            Some(job) => job.evolve(envelope, event)?,
            None => {
                let job = Job::start(envelope, event)?;
                if job.id != id {
                    return Err(format!("it queues {} in the stream of {id}", job.id).into());
                }
                *now = Some(job);
            }
        }
        self.jobs_end = envelope.position + 1;
        Ok(())
    }

    /// Folds a document's own event in; one that does not fit leaves no trace.
    pub(crate) fn document(
        &mut self,
        record: &Record,
        envelope: &Envelope<'_>,
        event: &Event,
    ) -> Result<(), Reason> {
        let id = document::from_stream_name(record.stream())
            .ok_or_else(|| format!("stream {} is not a document's", record.stream()))?;
        // Looked up first: what cannot be read stops the fold before this event has left anything.
        let uploaded = match event {
            Event::DocumentUploaded(_) => Some(self.uploads_before(envelope)?),
            _ => None,
        };
        let now = self.documents.now(self.store, id, key::document)?;
        match now {
            Some(document) => document.evolve(envelope, event)?,
            None => {
                let document = Document::start(envelope, event)?;
                if document.id != id {
                    return Err(format!("it uploads {} in the stream of {id}", document.id).into());
                }
                *now = Some(document);
            }
        }
        if let Some((place, before)) = uploaded {
            self.uploads.insert(place, before + 1);
        }
        Ok(())
    }

    /// How many documents somebody has uploaded on the day of an event, before it.
    fn uploads_before(&self, envelope: &Envelope<'_>) -> Result<((u32, String), u64), StoreError> {
        let day = day_of(envelope.recorded_at);
        let place = (day, envelope.actor.to_owned());
        let before = match self.uploads.get(&place) {
            Some(count) => *count,
            None => read_uploads(self.store, day, envelope.actor)?,
        };
        Ok((place, before))
    }

    /// The rows to write, and the jobs that changed.
    pub(crate) fn finish(self, changes: &mut Vec<Change>) -> Result<ChangedJobs, StoreError> {
        let mut steps = [0i64; 6];
        for (id, (before, now)) in &self.jobs.by_id {
            let Some(now) = now else { continue };
            for (step, status) in steps.iter_mut().zip(JobStatus::ALL) {
                *step += i64::from(now.status == status);
                *step -= i64::from(before.as_ref().is_some_and(|job| job.status == status));
            }
            let old = before.as_ref().map(key::job_indexes).unwrap_or_default();
            key_changes(&old, &key::job_indexes(now), changes);
            changes.push(state(key::job(*id), now));
        }
        if steps != [0; 6] {
            let mut counts = read_counts(self.store)?;
            for (count, step) in counts.0.iter_mut().zip(steps) {
                let moved = count.checked_add_signed(step);
                *count = moved.ok_or_else(|| row::unreadable(key::JOB_COUNTS, &"below zero"))?;
            }
            changes.push((key::JOB_COUNTS.to_vec(), Some(row::encode(&counts.0))));
        }
        for (id, (_, now)) in &self.documents.by_id {
            changes.extend(now.as_ref().map(|now| state(key::document(*id), now)));
        }
        for ((day, actor), count) in &self.uploads {
            changes.push((key::uploads(*day, actor), Some(row::encode(count))));
        }
        let jobs = self.jobs.by_id.into_values().filter_map(|(_, now)| now);
        Ok(ChangedJobs {
            end: self.jobs_end,
            jobs: jobs.collect(),
        })
    }
}

fn state(key: Vec<u8>, state: &impl Serialize) -> Change {
    (key, Some(row::encode_state(state)))
}

fn read_uploads(store: &dyn Store, day: u32, actor: &str) -> Result<u64, StoreError> {
    let key = key::uploads(day, actor);
    let Some(bytes) = store.get(&key)? else {
        return Ok(0);
    };
    row::decode(&bytes).map_err(|problem| row::unreadable(&key, &problem))
}

impl Views {
    /// A job as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let _moment = self.moment();
        read(self.store(), &key::job(id))
    }

    /// A document's processing as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn document(&self, id: ResourceId) -> Result<Option<Document>, StoreError> {
        let _moment = self.moment();
        self.read_document(id)
    }

    /// To be called with the moment held.
    pub(crate) fn read_document(&self, id: ResourceId) -> Result<Option<Document>, StoreError> {
        read(self.store(), &key::document(id))
    }

    /// The documents behind one, in the order of their ids, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn documents_after(
        &self,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let _moment = self.moment();
        let mut from = after.map_or_else(|| vec![key::DOCUMENT], key::document);
        // The first key behind it.
        from.extend(after.map(|_| 0));
        let to = key::after_prefix(&[key::DOCUMENT]);
        let rows = self.store().scan(&from, &to, Direction::Forward);
        let read = rows.take(limit).map(|pair| {
            let (key, value) = pair?;
            row::decode_state(&key, &value)
        });
        read.collect()
    }

    /// How many documents an actor uploaded on a day ([`day_of`]).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn uploads_on(&self, day: u32, actor: &str) -> Result<u64, StoreError> {
        let _moment = self.moment();
        read_uploads(self.store(), day, actor)
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn job_counts(&self) -> Result<JobCounts, StoreError> {
        let _moment = self.moment();
        read_counts(self.store())
    }

    /// A page of jobs, those that were queued last first. It looks at a bounded number of rows, and
    /// passes over a bounded number of their bytes, and then ends, with a cursor, however few it
    /// found.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn jobs(&self, query: &JobQuery) -> Result<Page<Job>, QueryError> {
        self.jobs_for(query, |_| Ok(true))
    }

    /// The same, of those that are seen, which is asked with the moment held.
    pub(crate) fn jobs_for(
        &self,
        query: &JobQuery,
        is_seen: impl Fn(&Job) -> Result<bool, StoreError>,
    ) -> Result<Page<Job>, QueryError> {
        let mark = query.mark();
        let mut walk = JobWalk::of(query, &mark, self.page_bytes_max())?;
        let mut filling = self.filling(query.limit);
        while filling.goes_on() && walk.bytes_left > 0 {
            self.fill_jobs(query, &is_seen, &mut walk, &mut filling)?;
        }
        Ok(filling.into_page(&mark))
    }

    /// Fills a part of a page, all as of one moment. Between two of them those who apply have their
    /// turn: a row is a text to be read, and there may be many.
    fn fill_jobs(
        &self,
        query: &JobQuery,
        is_seen: &impl Fn(&Job) -> Result<bool, StoreError>,
        walk: &mut JobWalk,
        filling: &mut Filling<Job>,
    ) -> Result<(), QueryError> {
        let _moment = self.moment();
        let mut slice_bytes = 0;
        let mut rows = self
            .store()
            .scan(&walk.prefix, &walk.to, Direction::Backward);
        for _ in 0..SLICE_ROWS {
            let Some(pair) = rows.next() else {
                filling.end();
                return Ok(());
            };
            let (key, value) = pair?;
            let (job, bytes) = match walk.prefix[0] {
                key::JOB => (Some(row::decode_state(&key, &value)?), value.len()),
                _ => self
                    .indexed(&key)?
                    .map_or((None, 0), |(job, n)| (Some(job), n)),
            };
            let job = match job.filter(|job| query.takes(job)) {
                Some(job) if is_seen(&job)? => Some(job),
                _ => None,
            };
            if job.is_none() {
                walk.bytes_left = walk.bytes_left.saturating_sub(bytes);
            }
            slice_bytes += bytes;
            filling.take(key[walk.prefix.len()..].to_vec(), job, bytes);
            walk.to = key;
            if slice_bytes >= SLICE_BYTES || walk.bytes_left == 0 || !filling.goes_on() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The job that a row of an index names, and the bytes of its row.
    fn indexed(&self, key: &[u8]) -> Result<Option<(Job, usize)>, StoreError> {
        let Some(key) = key::indexed_job(key).map(key::job) else {
            return Ok(None);
        };
        let row = self.store().get(&key)?;
        let read = |row: &[u8]| Ok((row::decode_state(&key, row)?, row.len()));
        row.as_deref().map(read).transpose()
    }

    /// Every job that is not ended, with the position that the answer reflects: one look at all
    /// of them, for whoever follows the log from there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn active_jobs(&self) -> Result<(u64, Vec<Job>), StoreError> {
        let _moment = self.moment();
        let mut jobs = Vec::new();
        for status in JobStatus::ALL.into_iter().filter(|s| !s.is_ended()) {
            let prefix = key::jobs_of_status(status);
            let to = key::after_prefix(&prefix);
            for pair in self.store().scan(&prefix, &to, Direction::Forward) {
                jobs.extend(self.indexed(&pair?.0)?.map(|(job, _)| job));
            }
        }
        Ok((self.end(), jobs))
    }
}

impl JobQuery {
    fn mark(&self) -> String {
        let document = self.document_id.map(|id| id.to_string());
        format!(
            "jobs {:?} {:?} {:?} {:?}",
            self.status.map(JobStatus::name),
            self.kind.as_ref().map(JobKind::as_str),
            document,
            self.trace_id
        )
    }

    fn takes(&self, job: &Job) -> bool {
        self.status.is_none_or(|status| job.status == status)
            && self.kind.as_ref().is_none_or(|kind| job.kind == *kind)
            && self.trace_id.as_ref().is_none_or(|id| job.trace_id == *id)
    }
}

#[cfg(test)]
mod tests;
