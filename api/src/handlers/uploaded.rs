//! What an upload meets that is not new: bytes that are a document already, or a key that was
//! answered before.
//!
//! Invariant: an answer with an idempotency key rests on what the log holds up to it alone, so that a
//! repetition gets the same body; and bytes of which a document came are not processed again.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use stemma_commands::{Answered, Operation, Request, Written};
use stemma_domain::document::{Document, DocumentCommand};
use stemma_domain::event::{DocumentUploaded, RequestAnswered};
use stemma_domain::id::ResourceId;
use stemma_domain::job::{Job, JobStatus};
use stemma_domain::resource::{Access, Command, Descriptor, FollowedFile, Naming};
use stemma_domain::value::{FileName, ResourceName};
use stemma_event_log::Idempotency;
use stemma_views::JobQuery;

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::tenants::Served;
use crate::wire::document::UploadBody;
use crate::wire::job::JobBody;
use crate::write::answer;

/// Jobs about one document that are looked at for what is under way.
const JOBS_LOOKED_AT: usize = 100;

/// A document that is there.
pub(super) struct Known {
    document: Document,
    descriptor: Option<Arc<Descriptor>>,
    /// The newest job about it.
    job: Option<Job>,
    is_under_way: bool,
}

impl Known {
    /// A document with these bytes in this collection, as the views have it; refused where the
    /// upload asks for other grants than it has.
    pub(super) fn find(
        state: &Served,
        id: ResourceId,
        asked: Option<&Access>,
    ) -> Result<Option<Self>, ApiError> {
        let views = state.seen();
        let Some(document) = views.document(id)? else {
            return Ok(None);
        };
        let query = JobQuery {
            document_id: Some(id),
            limit: JOBS_LOOKED_AT,
            ..JobQuery::default()
        };
        let mut jobs = views.jobs(&query)?.items;
        let is_under_way = jobs.iter().any(|job| !job.status.is_ended());
        jobs.truncate(1);
        let known = Self {
            document,
            descriptor: views.resource(id)?,
            job: jobs.pop(),
            is_under_way,
        };
        known.check_access(asked)?;
        Ok(Some(known))
    }

    /// Refuses an upload that asks for other grants than hold: it would be answered as if it had
    /// got them. One that asks for none leaves them as they are.
    fn check_access(&self, asked: Option<&Access>) -> Result<(), ApiError> {
        let holds = self.descriptor.as_ref().map(|now| &now.access);
        if asked.is_none() || holds.is_none() || asked == holds {
            return Ok(());
        }
        let id = self.document.id;
        let detail = format!(
            "these bytes are the document {id} already, whose access is another; its owner and admins change it by PUT /api/resources/{id}/access"
        );
        Err(ApiError::new(Code::AlreadyExists, detail))
    }

    /// Whether the upload begins it anew: nothing came of it, and nothing is under way. One whose
    /// last job went well is fine, though somebody had it cut anew and did not go on.
    pub(super) fn may_begin_anew(&self) -> bool {
        let went_well = |job: &Job| job.status == JobStatus::Completed;
        let is_fine = !self.document.stages.is_empty() && self.job.as_ref().is_some_and(went_well);
        !self.is_under_way && !is_fine && self.document.may_begin_anew()
    }

    /// What begins it anew, before the job is queued. A resource that is still the file it came as
    /// takes on the name, unless somebody gave it another, and the media type that is said now.
    pub(super) fn begin_anew(&self, uploaded: DocumentUploaded) -> Vec<Operation> {
        let id = uploaded.id;
        let name = |file: &FileName| ResourceName::new(file.as_str()).ok();
        let names = name(&uploaded.file_name).zip(name(&self.document.file_name));
        let naming = names.map(|(name, before)| Naming { name, before });
        let follow = Command::FollowFile(FollowedFile {
            digest: uploaded.digest,
            media_type: uploaded.declared_media_type.clone(),
            naming,
        });
        let again = DocumentCommand::UploadAgain {
            uploaded,
            found_at: self.document.revision,
        };
        vec![
            Operation::of_resource(id, follow),
            Operation::of_document(id, again),
        ]
    }

    /// Answers an upload of its bytes, of which nothing is to be processed.
    pub(super) async fn deduplicated(
        &self,
        state: &Served,
        context: &Context,
        key: Option<Idempotency>,
    ) -> Result<HttpResponse, ApiError> {
        let Some(key) = key else {
            let body = upload_body(&self.document, self.job.as_ref(), CameOf::AsFound);
            let location = format!("/api/jobs/{}", body.job_id);
            let mut response = HttpResponse::Accepted();
            return Ok(response.insert_header((LOCATION, location)).json(body));
        };
        let found = RequestAnswered {
            document_id: Some(self.document.id),
            job_id: self.job.as_ref().map(|job| job.id),
        };
        let request = Request {
            operations: Vec::new(),
            actor: context.actor.clone(),
            sight: context.sight(),
            trace_id: context.trace_id.clone(),
            idempotency: Some(key),
            bases: [].into(),
            pins: Vec::new(),
        };
        let noted = state.commands().answer_found(&request, found).await;
        noted.map_err(|error| ApiError::of_command(&error, &|_| String::new()))?;
        let answered = answered(state, Some(&key)).await?;
        let answered = answered.ok_or_else(|| ApiError::of(Code::Internal))?;
        given(&answered, Replayed::No)
    }
}

/// Whether an answer was given before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replayed {
    Yes,
    No,
}

/// The first answer to a request with this key, if there was one; not found where its document has
/// been hidden from whoever asks since then.
pub(super) async fn answered(
    state: &Served,
    key: Option<&Idempotency>,
) -> Result<Option<Answered>, ApiError> {
    let answered = key.map(|key| state.commands().answered(key)).transpose();
    let answered = answered.map_err(|error| ApiError::of_command(&error, &|_| String::new()))?;
    let Some(answered) = answered.flatten() else {
        return Ok(None);
    };
    state.visible(answered.position + 1).await?;
    match answered.document.as_deref() {
        Some(document) if !state.seen().sees(document.id)? => {
            Err(ApiError::of(Code::DocumentNotFound))
        }
        _ => Ok(Some(answered)),
    }
}

/// An upload's answer, made of what the log holds.
pub(super) fn given(answered: &Answered, replayed: Replayed) -> Result<HttpResponse, ApiError> {
    let document = answered.document.as_deref();
    let document = document.ok_or_else(|| ApiError::of(Code::Internal))?;
    let came_of = if answered.is_as_found {
        CameOf::AsFound
    } else {
        CameOf::Begun
    };
    let body = upload_body(document, answered.job.as_deref(), came_of);
    let written = Written {
        end: answered.position + 1,
        position: Some(answered.position),
        results: Vec::new(),
        replayed: replayed == Replayed::Yes,
    };
    Ok(answer(StatusCode::ACCEPTED, &written)
        .insert_header((LOCATION, format!("/api/jobs/{}", body.job_id)))
        .json(body))
}

/// What came of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CameOf {
    /// The document that was there, as it was.
    AsFound,
    /// A document that is new, or begun anew.
    Begun,
}

fn upload_body(document: &Document, job: Option<&Job>, came_of: CameOf) -> UploadBody {
    let body = job.map(|job| JobBody::of(job, None));
    let (job_id, status, message, created_at) = match body {
        Some(body) => (body.id, body.status, body.message, body.created_at),
        None => Default::default(),
    };
    let deduplicated = came_of == CameOf::AsFound;
    let message = if deduplicated {
        "these bytes are a document of this collection already".to_owned()
    } else if document.revision > 0 {
        "these bytes came before, and nothing came of them: the document is begun anew".to_owned()
    } else {
        message
    };
    UploadBody {
        job_id,
        document_id: document.id.to_string(),
        status,
        message,
        created_at,
        deduplicated,
    }
}
