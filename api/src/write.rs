//! Carrying a write out: execute, wait until the views hold it, answer with its place.

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use stemma_commands::{
    Change, CommandError, Operation, OperationResult, Precondition, Request, Target, Written,
};
use stemma_content_store::Pin;
use stemma_domain::id::ResourceId;
use stemma_domain::resource::{Command, Descriptor};
use stemma_event_log::Idempotency;

use crate::conditional::revision_tag;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::state::{AppState, STEMMA_POSITION};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A write to be carried out.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) operations: Vec<Operation>,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) pins: Vec<Pin>,
}

impl Write {
    /// One command to one resource.
    pub(crate) fn one(id: ResourceId, command: Command, precondition: Precondition) -> Self {
        let change = Change::Resource(Box::new(command));
        let target = Target::Resource(id);
        let operation = Operation {
            target,
            change,
            precondition,
            expected_revision: None,
            is_id_new: false,
        };
        Self {
            operations: vec![operation],
            idempotency: None,
            pins: Vec::new(),
        }
    }

    /// Says that the ids of annotations that it adds were made for them.
    #[must_use]
    pub(crate) fn of_new_ids(mut self) -> Self {
        for operation in &mut self.operations {
            operation.is_id_new = true;
        }
        self
    }

    #[must_use]
    pub(crate) fn with_key(mut self, idempotency: Option<Idempotency>) -> Self {
        self.idempotency = idempotency;
        self
    }

    #[must_use]
    pub(crate) fn with_pin(mut self, pin: Pin) -> Self {
        self.pins.push(pin);
        self
    }
}

/// Executes a write and waits until the views hold it. `place` points to operation `n` in the body.
pub(crate) async fn execute(
    state: &AppState,
    context: &Context,
    write: Write,
    place: &dyn Fn(usize) -> String,
) -> Result<Written, ApiError> {
    // Held until the views hold the event: what names the content is known to live by then.
    let pins = write.pins.clone();
    let request = Request {
        operations: write.operations,
        actor: context.actor.clone(),
        sight: context.sight(),
        trace_id: context.trace_id.clone(),
        idempotency: write.idempotency,
        bases: context.bases.clone(),
        pins: write.pins,
    };
    let written = state.commands().execute(request).await;
    let written = written.map_err(|error: CommandError| ApiError::of_command(&error, place))?;
    state.visible(written.end).await?;
    drop(pins);
    Ok(written)
}

/// Executes a write whose body is its one operation.
pub(crate) async fn execute_one(
    state: &AppState,
    context: &Context,
    write: Write,
) -> Result<(Written, OperationResult), ApiError> {
    let mut written = execute(state, context, write, &|_| String::new()).await?;
    let result = written
        .results
        .pop()
        .ok_or_else(|| ApiError::of(Code::Internal))?;
    Ok((written, result))
}

/// The resource that an operation left behind.
pub(crate) fn descriptor(result: &OperationResult) -> Result<&Descriptor, ApiError> {
    result
        .descriptor
        .as_ref()
        .ok_or_else(|| ApiError::of(Code::Internal))
}

/// An answer that tells where the write stands.
pub(crate) fn answer(status: StatusCode, written: &Written) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    if let Some(position) = written.position.or_else(|| written.end.checked_sub(1)) {
        response.insert_header((STEMMA_POSITION, HeaderValue::from(position)));
    }
    if written.replayed {
        response.insert_header((IDEMPOTENCY_REPLAYED, "true"));
    }
    response
}

/// The same, with the resource's tag.
pub(crate) fn tagged(
    status: StatusCode,
    written: &Written,
    descriptor: &Descriptor,
) -> HttpResponseBuilder {
    let mut response = answer(status, written);
    response.insert_header((ETAG, revision_tag(descriptor.revision)));
    response
}

/// The answer with a JSON text as its body.
pub(crate) fn json_body(mut response: HttpResponseBuilder, text: String) -> HttpResponse {
    response.content_type("application/json").body(text)
}
