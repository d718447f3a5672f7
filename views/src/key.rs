//! The keys of all rows: the only place that builds one or takes one apart.
//!
//! Keys sort as bytes; `docs/format/views.md` draws them. Invariant: the texts in keys hold no
//! NUL (they are checked labels), so a NUL ends them and no key is another's prefix by accident.

use stemma_domain::id::{AnnotationId, ContentDigest, JobId, ResourceId};
use stemma_domain::job::{Job, JobStatus};
use stemma_domain::resource::Descriptor;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{EntityType, PrincipalName};
use uuid::Uuid;

/// Rows about the store itself; left out of the state's digest.
pub(crate) const META: u8 = b'm';
/// Resources by creation.
pub(crate) const BY_CREATED: u8 = b'c';
/// Resources by name.
pub(crate) const BY_NAME: u8 = b'n';
/// Resources by entity type, then creation.
pub(crate) const BY_TYPE: u8 = b't';
/// Resources by collection, then creation.
pub(crate) const BY_COLLECTION: u8 = b'k';
/// Jobs.
pub(crate) const JOB: u8 = b'j';
/// Documents.
pub(crate) const DOCUMENT: u8 = b'u';
/// Jobs by status.
const BY_STATUS: u8 = b'p';
/// Jobs by the document that they are about.
const BY_DOCUMENT: u8 = b'q';
/// Jobs by the trace of the request that queued them.
const BY_TRACE: u8 = b'x';
/// Batches by the trace that they belong to.
const TRACE: u8 = b'y';
/// Resources that are not open to everybody, by who may read them.
const GRANTED: u8 = b'g';
/// Most bytes of a name that take part in its order.
const NAME_BYTES: usize = 128;

/// How much there is.
pub(crate) const SIZES: &[u8] = b"s";
/// How many jobs there are of each status.
pub(crate) const JOB_COUNTS: &[u8] = b"w";
/// How many records were applied.
pub(crate) const END: &[u8] = b"mend";
/// The form of the rows.
pub(crate) const FORMAT: &[u8] = b"mformat";

/// Bytes as lower-case hex, for whoever is told of a key.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes all that is written
        hex
    })
}

fn with_id(prefix: u8, id: ResourceId) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(prefix);
    key.extend_from_slice(id.as_bytes());
    key
}

pub(crate) fn resource(id: ResourceId) -> Vec<u8> {
    with_id(b'r', id)
}

/// Where all annotations of a resource stand, in the order in which they were added.
pub(crate) fn annotations(id: ResourceId) -> Vec<u8> {
    with_id(b'a', id)
}

pub(crate) fn annotation(id: ResourceId, added_position: u64) -> Vec<u8> {
    let mut key = annotations(id);
    key.extend_from_slice(&added_position.to_be_bytes());
    key
}

/// Where an annotation's position is found by its id.
pub(crate) fn annotation_place(id: ResourceId, annotation: AnnotationId) -> Vec<u8> {
    let mut key = with_id(b'b', id);
    key.extend_from_slice(annotation.as_bytes());
    key
}

pub(crate) fn entity_types() -> Vec<u8> {
    vec![b'e']
}

pub(crate) fn entity_type(entity_type: &EntityType) -> Vec<u8> {
    let mut key = entity_types();
    key.extend_from_slice(entity_type.as_str().as_bytes());
    key
}

pub(crate) fn content(digest: &ContentDigest) -> Vec<u8> {
    let mut key = vec![b'd'];
    key.extend_from_slice(digest.as_bytes());
    key
}

/// Where everything stands that names a resource.
pub(crate) fn references(target: ResourceId) -> Vec<u8> {
    with_id(b'f', target)
}

/// One naming: from where, how, and by which annotation (none: sixteen zeros).
pub(crate) fn reference(
    target: ResourceId,
    source: ResourceId,
    relation: u8,
    annotation: Option<AnnotationId>,
) -> Vec<u8> {
    let mut key = references(target);
    key.extend_from_slice(source.as_bytes());
    key.push(relation);
    key.extend_from_slice(
        annotation
            .map(|id| *id.as_bytes())
            .unwrap_or_default()
            .as_slice(),
    );
    key
}

/// A job.
pub(crate) fn job(id: JobId) -> Vec<u8> {
    let mut key = vec![JOB];
    key.extend_from_slice(id.as_bytes());
    key
}

/// Where the jobs of a status stand, by their ids, which sort by when they were queued.
pub(crate) fn jobs_of_status(status: JobStatus) -> Vec<u8> {
    let index = JobStatus::ALL.iter().position(|s| *s == status);
    let index = index.and_then(|index| u8::try_from(index).ok());
    vec![BY_STATUS, index.expect("every status is among all of them")]
}

/// Where the jobs about a document stand.
pub(crate) fn jobs_of_document(id: ResourceId) -> Vec<u8> {
    with_id(BY_DOCUMENT, id)
}

/// Where the jobs stand that the request of a trace queued.
pub(crate) fn jobs_of_trace(trace_id: &str) -> Vec<u8> {
    let mut key = vec![BY_TRACE];
    key.extend_from_slice(trace_id.as_bytes());
    key.push(0);
    key
}

/// Where the batches of a trace stand, by the positions of their first records.
pub(crate) fn traces(trace_id: &str) -> Vec<u8> {
    let mut key = vec![TRACE];
    key.extend_from_slice(trace_id.as_bytes());
    key.push(0);
    key
}

/// A batch of a trace.
pub(crate) fn trace(trace_id: &str, position: u64) -> Vec<u8> {
    let mut key = traces(trace_id);
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// All index keys of a job as it is.
pub(crate) fn job_indexes(job: &Job) -> Vec<Vec<u8>> {
    let mut keys = vec![jobs_of_status(job.status), jobs_of_trace(&job.trace_id)];
    keys.extend(job.document_id.map(jobs_of_document));
    for key in &mut keys {
        key.extend_from_slice(job.id.as_bytes());
    }
    keys
}

/// The processing of a document.
pub(crate) fn document(id: ResourceId) -> Vec<u8> {
    with_id(DOCUMENT, id)
}

/// How many uploads an actor made on a day, counted in days since 1970.
pub(crate) fn uploads(day: u32, actor: &str) -> Vec<u8> {
    let mut key = vec![b'v'];
    key.extend_from_slice(&day.to_be_bytes());
    key.extend_from_slice(actor.as_bytes());
    key
}

/// The start of an index, up to what its order begins with.
pub(crate) fn index_start(prefix: u8, label: Option<&str>, archived: bool) -> Vec<u8> {
    let mut key = vec![prefix];
    if let Some(label) = label {
        key.extend_from_slice(label.as_bytes());
        key.push(0);
    }
    key.push(u8::from(archived));
    key
}

/// An instant so that its bytes sort as it does.
pub(crate) fn sortable(instant: Timestamp) -> [u8; 8] {
    (instant.micros().cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The instant and the resource that a place in the order of creation is of.
pub(crate) fn created_place(order: &[u8]) -> Option<(Timestamp, ResourceId)> {
    let (instant, id) = order.split_first_chunk::<8>()?;
    let id: [u8; 16] = id.try_into().ok()?;
    let micros = (u64::from_be_bytes(*instant) ^ (1 << 63)).cast_signed();
    Some((
        Timestamp::from_micros(micros),
        ResourceId::new(Uuid::from_bytes(id)),
    ))
}

fn by_created(mut start: Vec<u8>, descriptor: &Descriptor) -> Vec<u8> {
    start.extend_from_slice(&sortable(descriptor.created_at));
    start.extend_from_slice(descriptor.id.as_bytes());
    start
}

fn by_name(mut start: Vec<u8>, descriptor: &Descriptor) -> Vec<u8> {
    let name = descriptor.name.as_str().to_lowercase();
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    start.extend_from_slice(&name.as_bytes()[..end]);
    start.push(0);
    start.extend_from_slice(descriptor.id.as_bytes());
    start
}

/// All index keys of a resource as it is.
pub(crate) fn indexes(descriptor: &Descriptor) -> Vec<Vec<u8>> {
    let archived = descriptor.archived;
    let mut keys = vec![
        by_created(index_start(BY_CREATED, None, archived), descriptor),
        by_name(index_start(BY_NAME, None, archived), descriptor),
    ];
    for entity_type in &descriptor.entity_types {
        let start = index_start(BY_TYPE, Some(entity_type.as_str()), archived);
        keys.push(by_created(start, descriptor));
    }
    if let Some(collection) = &descriptor.collection {
        let start = index_start(BY_COLLECTION, Some(collection.as_str()), archived);
        keys.push(by_created(start, descriptor));
    }
    keys
}

/// Where the resources stand that somebody may read and not everybody may.
pub(crate) fn granted(principal: &str) -> Vec<u8> {
    let mut key = vec![GRANTED];
    key.extend_from_slice(principal.as_bytes());
    key.push(0);
    key
}

/// All keys of those who may read a resource that not everybody may.
pub(crate) fn grants(descriptor: &Descriptor) -> Vec<Vec<u8>> {
    let access = &descriptor.access;
    if access.is_open() {
        return Vec::new();
    }
    let named = access.readers().iter().chain(access.writers());
    let named = named.map(PrincipalName::as_str);
    let mut keys: Vec<_> = named
        .chain([descriptor.created_by.as_str()])
        .map(granted)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    for key in &mut keys {
        key.extend_from_slice(descriptor.id.as_bytes());
    }
    keys
}

/// The resource that an index key leads to: its last sixteen bytes.
pub(crate) fn indexed_resource(key: &[u8]) -> Option<ResourceId> {
    let bytes: [u8; 16] = key.get(key.len().checked_sub(16)?..)?.try_into().ok()?;
    Some(ResourceId::new(Uuid::from_bytes(bytes)))
}

/// The job that a key leads to: its last sixteen bytes.
pub(crate) fn indexed_job(key: &[u8]) -> Option<JobId> {
    indexed_resource(key).map(|id| JobId::new(id.uuid()))
}

/// The first key after all that begin with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Only for a prefix of 0xff bytes, which no key begins with.
    vec![u8::MAX; prefix.len() + 1]
}
