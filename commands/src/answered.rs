//! What a request with an idempotency key was answered about a document and its job.
//!
//! Unlike [`replay`](crate::replay) this needs nothing of the request but its key: what it was
//! about is told by the streams that it wrote to, or by what it noted that it found.

use stemma_domain::document::{self, Document};
use stemma_domain::event::{Event, REQUESTS_STREAM};
use stemma_domain::id::JobId;
use stemma_domain::job::Job;
use stemma_event_log::{FirstUse, Idempotency, Reader};

use crate::error::CommandError;
use crate::history::event_of;
use crate::replay::records_of;
use crate::short;

/// The first answer to a request about a document.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The position of the last event that it rests on; views behind it hold them all.
    pub position: u64,
    /// The document, as it was then.
    pub document: Option<Box<Document>>,
    /// The job, as it was then.
    pub job: Option<Box<Job>>,
    /// Whether the request found all as it asked, and changed nothing.
    pub is_as_found: bool,
}

/// What the first request with this key was answered; none when the key is new.
///
/// # Errors
/// [`CommandError::KeyReused`] when that was another request, or what the log says.
pub(crate) fn by_key(
    reader: &Reader,
    idempotency: &Idempotency,
) -> Result<Option<Answered>, CommandError> {
    let Some(first_use) = reader.idempotent(&idempotency.key)? else {
        return Ok(None);
    };
    if first_use.request != idempotency.request {
        return Err(CommandError::KeyReused);
    }
    by_use(reader, &first_use).map(Some)
}

fn by_use(reader: &Reader, first_use: &FirstUse) -> Result<Answered, CommandError> {
    let position = first_use.last.get();
    let mut answered = Answered {
        position,
        document: None,
        job: None,
        is_as_found: false,
    };
    let (mut document_id, mut job_id) = (None, None);
    for record in records_of(reader, first_use)? {
        if record.stream() == REQUESTS_STREAM {
            answered.is_as_found = true;
            if let Event::RequestAnswered(found) = event_of(&record)? {
                (document_id, job_id) = (found.document_id, found.job_id);
            }
        } else if let Some(id) = document::from_stream_name(record.stream()) {
            document_id = Some(id);
        } else if let Some(id) = JobId::from_stream_name(record.stream()) {
            job_id = Some(id);
        }
    }
    if let Some(id) = document_id {
        let then = short::fold(reader, id, |record| record.position().get() <= position)?;
        answered.document = then.map(Box::new);
    }
    if let Some(id) = job_id {
        let then = short::fold(reader, id, |record| record.position().get() <= position)?;
        answered.job = then.map(Box::new);
    }
    Ok(answered)
}
