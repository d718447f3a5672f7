//! What a client is told when a request fails: the one place that decides status, code and title.
//!
//! Every failure is an RFC 9457 problem. Invariant: neither `detail` nor a field's detail ever
//! holds a path, a source error's text or a secret; what is for the log is kept apart.

use std::fmt;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use stemma_commands::{CommandError, HistoryError, TextError};
use stemma_content_store::{PutError, ReadError as ContentReadError};
use stemma_domain::annotation::FieldError;
use stemma_domain::document::DocumentRefusal;
use stemma_domain::job::JobRefusal;
use stemma_domain::resource::Refusal;
use stemma_event_log::{AppendError, ProofError, ReadError as LogReadError};
use stemma_jobs::JobsError;
use stemma_pipeline::stages::{CommitError, NotIndexed};
use stemma_views::{QueryError, StoreError};
use utoipa::ToSchema;

/// Media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($variant:ident $status:literal $name:literal $title:literal $explanation:literal;)+) => {
        /// What went wrong, as a stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $explanation] $variant,)+
        }

        impl Code {
            /// Every code, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The status that it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The problem's title.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What it means and what to do, for the documentation.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)+ }
            }
        }
    };
}

codes! {
    MalformedRequest 400 "MALFORMED_REQUEST" "Malformed request" "The request is not valid HTTP, or its body broke off.";
    MalformedJson 400 "MALFORMED_JSON" "Malformed JSON" "The body is not JSON; the detail says at which byte.";
    MalformedQuery 400 "MALFORMED_QUERY" "Malformed query string" "The query string is not percent-encoded UTF-8.";
    MalformedHeader 400 "MALFORMED_HEADER" "Malformed header" "A header that Stemma reads does not have the form of its standard, or a condition is one that the route cannot keep.";
    MalformedMultipart 400 "MALFORMED_MULTIPART" "Malformed multipart body" "The multipart body broke off, or its parts cannot be told apart.";
    InvalidPosition 400 "INVALID_POSITION" "Invalid position" "`after` of a stream is neither a position nor `start`.";
    TokenMissing 401 "TOKEN_MISSING" "Token is missing" "The server asks for a token: `Authorization: Bearer …`. `stemma token create` makes one.";
    TokenInvalid 401 "TOKEN_INVALID" "Token is invalid" "What was sent is no token that holds: it was never given out, was taken back, or is over.";
    RoleMissing 403 "ROLE_MISSING" "Role is missing" "The role of the token does not suffice for this; the detail names it.";
    GrantMissing 403 "GRANT_MISSING" "Grant is missing" "You may read the resource, and not do this to it: writing takes a writer's grant, and only the owner and admins say who may read and write it.";
    TenantNotServed 403 "TENANT_NOT_SERVED" "Tenant is not served" "The token is of a tenant that this server does not serve.";
    OriginRefused 403 "ORIGIN_REFUSED" "Origin refused" "The request comes from a page of somebody else's. A page of another origin sends its token in the header.";
    RouteNotFound 404 "ROUTE_NOT_FOUND" "No such route" "No route of the API has this path; `/docs` lists them.";
    ResourceNotFound 404 "RESOURCE_NOT_FOUND" "No such resource" "No resource has this id, or it was not there at the moment asked for.";
    AnnotationNotFound 404 "ANNOTATION_NOT_FOUND" "No such annotation" "The resource has no annotation of this id.";
    EventNotFound 404 "EVENT_NOT_FOUND" "No such event" "No event has this digest.";
    DocumentNotFound 404 "DOCUMENT_NOT_FOUND" "No such document" "No document has this id; a resource that was not uploaded as a document is none.";
    JobNotFound 404 "JOB_NOT_FOUND" "No such job" "No job has this id, or it was finished long ago.";
    TraceNotFound 404 "TRACE_NOT_FOUND" "No such trace" "Nothing that you may see belongs to this trace: it caused no event and no job, and no request of it is remembered: those that only read are kept when they failed, and all of them for a while.";
    TokenNotFound 404 "TOKEN_NOT_FOUND" "No such token" "No token has this id.";
    TenantNotFound 404 "TENANT_NOT_FOUND" "No such tenant" "The server has no tenant of this name.";
    TileNotFound 404 "TILE_NOT_FOUND" "No such tile" "The log has not so many events yet.";
    NodeNotFound 404 "NODE_NOT_FOUND" "No such node" "The graph has no node of this id.";
    NoPath 404 "NO_PATH" "No path" "No path of so few edges leads from one node to the other.";
    MethodNotAllowed 405 "METHOD_NOT_ALLOWED" "Method not allowed" "The route exists; the `Allow` header lists its methods.";
    NotAcceptable 406 "NOT_ACCEPTABLE" "Not acceptable" "None of the media types in `Accept` can be given.";
    RequestTimeout 408 "REQUEST_TIMEOUT" "Request timeout" "The head of the request did not come in time (`http.head_ms`), or its body came too slowly (`http.body_ms`, `http.body_bytes_per_s`). Nothing was written.";
    RevisionConflict 409 "REVISION_CONFLICT" "Revision conflict" "The resource is not at the expected revision. Nothing was written: read it and decide again.";
    AlreadyExists 409 "ALREADY_EXISTS" "Already exists" "A resource with this id exists, or a document with these bytes that others may see than was asked. Nothing was written.";
    AlreadyRunning 409 "ALREADY_RUNNING" "Already running" "Work of this kind is under way; wait for its job.";
    JobFinished 409 "JOB_FINISHED" "Job is finished" "The job has ended and cannot be cancelled.";
    JobNotRetryable 409 "JOB_NOT_RETRYABLE" "Job cannot be retried" "Only a job that failed or was cancelled is tried anew.";
    LeaseLost 409 "LEASE_LOST" "Lease is lost" "The fencing token's claim does not stand any more: another worker has the job, or it has ended. Nothing was written; the worker should drop the job.";
    StageMissing 409 "STAGE_MISSING" "Step is missing" "A step of the document that this rests on is not done; the detail names it.";
    InputChanged 409 "INPUT_CHANGED" "Input changed" "What the output was made from is not what the document has now: a step before was done anew meanwhile; the detail names it. Nothing was written and the job is as it was: read the text or the chunks again, and hand in what comes of them.";
    TenantInUse 409 "TENANT_IN_USE" "Tenant is in use" "The server was started for the tenant, or one of this name is being deleted: try again once requests that work on it have ended.";
    PreconditionFailed 412 "PRECONDITION_FAILED" "Precondition failed" "`If-Match` names none of the tags that the resource has now. Nothing was written.";
    BodyTooLarge 413 "BODY_TOO_LARGE" "Body too large" "The body exceeds the limit of its route. Content goes by multipart.";
    ContentTooLarge 413 "CONTENT_TOO_LARGE" "Content too large" "The content exceeds what one resource may hold.";
    TooManyEvents 413 "TOO_MANY_EVENTS" "Too many events" "The request would cause more events than one batch of the log holds. Nothing was written.";
    UnsupportedMediaType 415 "UNSUPPORTED_MEDIA_TYPE" "Unsupported media type" "The route does not take a body of this `Content-Type`.";
    RangeNotSatisfiable 416 "RANGE_NOT_SATISFIABLE" "Range not satisfiable" "No requested range lies within the content; `Content-Range` tells its length.";
    HostRefused 421 "HOST_REFUSED" "Host refused" "While the server has no tokens it answers to `localhost`, to addresses, and to the host of `public_url`, so that no page can reach it by a name of its own, and not by way of another server (`Forwarded`, `X-Forwarded-For`, `Via`).";
    InvalidFields 422 "INVALID_FIELDS" "Invalid fields" "Fields are missing, mistyped, unknown or break their rule; `errors` names each.";
    InvalidParameters 422 "INVALID_PARAMETERS" "Invalid parameters" "Parameters are unknown, repeated or break their rule; `errors` names each.";
    InvalidId 422 "INVALID_ID" "Invalid id" "An id in the path does not have the form of one.";
    InvalidCursor 422 "INVALID_CURSOR" "Invalid cursor" "The cursor is not one of this list with these filters.";
    InvalidAnnotation 422 "INVALID_ANNOTATION" "Invalid annotation" "The annotation breaks a rule of the W3C model or does not fit the text; `errors` names each place.";
    ItemNotInBody 422 "ITEM_NOT_IN_BODY" "Item not in body" "The annotation's body holds no item equal to the one named.";
    LimitExceeded 422 "LIMIT_EXCEEDED" "Limit exceeded" "There would be more of something than one resource may have.";
    KeyReused 422 "IDEMPOTENCY_KEY_REUSED" "Idempotency key reused" "The key came before with another request. Nothing was written.";
    NotHappenedYet 422 "NOT_HAPPENED_YET" "Not happened yet" "The moment of the past that was asked for lies ahead.";
    CypherSyntax 422 "CYPHER_SYNTAX" "Cypher syntax" "The query is not Cypher, or names what is not there; the detail says at which line and column.";
    CypherUnsupported 422 "CYPHER_UNSUPPORTED" "Cypher not supported" "The query is Cypher, and uses a clause, function or form that is not supported; the detail names it, `docs/graph.md` lists what is.";
    CypherWriteRefused 422 "CYPHER_WRITE_REFUSED" "Cypher write refused" "The query would write, call a procedure, load a file or tell of plans. Queries only read.";
    CypherRuntime 422 "CYPHER_RUNTIME" "Cypher runtime error" "The query went wrong while it ran: a value of a wrong type, a division by zero, a parameter that is missing.";
    NoSuchProof 422 "NO_SUCH_PROOF" "No such proof" "A size lies beyond the log's end, or the order of the two is wrong.";
    QueryLimit 422 "QUERY_LIMIT" "Query limit" "The answer would take more than one question may: ask for less, or from nearer.";
    IntegerOutOfRange 422 "INTEGER_OUT_OF_RANGE" "Integer out of range" "An integer does not fit 64 bits, or a number is not finite.";
    RepeatedKey 422 "REPEATED_KEY" "Repeated key" "A JSON object has a key twice.";
    TooDeep 422 "TOO_DEEP" "Nested too deeply" "The JSON body is nested more deeply than is taken.";
    CompleterMissing 422 "COMPLETER_MISSING" "No model that writes" "No model is configured that writes texts: set `complete.url` and `complete.model`.";
    InvalidOutput 422 "INVALID_OUTPUT" "Invalid output" "What the worker handed in is not what its stage puts out, or does not fit the document. Nothing was written.";
    UploadsExceeded 429 "UPLOADS_EXCEEDED" "Uploads exceeded" "As many documents were uploaded today (UTC) as one user may (`jobs.uploads_per_day_max`). Nothing was written.";
    QueueFull 429 "QUEUE_FULL" "Queue is full" "As many jobs wait as may (`jobs.queued_max`). Nothing was written.";
    HeadTooLarge 431 "HEAD_TOO_LARGE" "Head too large" "The head of the request has more than 128 KiB.";
    TooManyTickets 429 "TOO_MANY_TICKETS" "Too many tickets" "As many tickets were made in the last minute as are remembered, of all or of one tenant.";
    TooManyRequests 429 "TOO_MANY_REQUESTS" "Too many requests" "More requests came than one token or address may send a second (`limits.token_per_s`, `limits.address_per_s`, `limits.failures_per_s`); `Retry-After` says when one more is taken. Nothing was done.";
    StreamsExceeded 429 "STREAMS_EXCEEDED" "Streams exceeded" "As many live streams are open as one token or one tenant may have (`sse.token_streams_max`, `sse.tenant_streams_max`). Another can be opened once one has ended.";
    Internal 500 "INTERNAL" "Internal error" "A mistake of ours; the log of the server tells more under this trace id.";
    ContentDamaged 500 "CONTENT_DAMAGED" "Content is damaged" "The stored bytes are not what was written, and are not served. Run `stemma verify`.";
    LogDamaged 500 "LOG_DAMAGED" "Log is damaged" "Stored events are not what was written. Run `stemma verify`.";
    NotYet 503 "NOT_YET" "Not yet" "The views, the graph or the search index have not reached the position that is needed (`min_position`) in time (`timeout_ms`).";
    WrittenNotVisible 503 "WRITTEN_NOT_VISIBLE" "Written, not visible yet" "The write is durable, but the views do not hold it yet. Sent again with the same key it is not repeated.";
    ViewsUnavailable 503 "VIEWS_UNAVAILABLE" "Views unavailable" "The views cannot be read.";
    QueueNotReady 503 "QUEUE_NOT_READY" "Queue not ready" "The jobs of the log are being looked up, as after a start.";
    GraphOff 503 "GRAPH_OFF" "Graph is off" "The server keeps no graph (`graph.mode`).";
    GraphUnavailable 503 "GRAPH_UNAVAILABLE" "Graph unavailable" "The graph is being opened, or cannot be had: `GET /api/health` says why. Lists, writes and all else go on; `stemma rebuild graph` makes it anew while the server is down.";
    SearchOff 503 "SEARCH_OFF" "Search is off" "The server keeps no search index (`search.mode`).";
    SearchUnavailable 503 "SEARCH_UNAVAILABLE" "Search unavailable" "The search index is being opened, or cannot be had: `GET /api/health` says why. All else goes on.";
    ModelUnavailable 503 "MODEL_UNAVAILABLE" "Model unavailable" "The model that makes a vector of the query gave none; `mode=text` needs no model.";
    IssuerUnavailable 503 "ISSUER_UNAVAILABLE" "Issuer unavailable" "The token is of the issuer that the server trusts (`jwt.issuer`), whose keys cannot be had: `GET /api/health` says why (`jwt.jwks`). Tokens of the server's own go on.";
    StorageUnavailable 503 "STORAGE_UNAVAILABLE" "Storage unavailable" "The system failed to read or write. Nothing was written.";
    StorageFull 507 "STORAGE_FULL" "Storage is full" "The disk is full. Nothing was written; writing goes on once there is room.";
    OutcomeUnknown 503 "OUTCOME_UNKNOWN" "Outcome unknown" "A write or sync of the log failed, and whether the write is there shows once the log has been reopened; or it is there and its answer could not be read. Sent again with the same key it is not repeated.";
    LogRefusesWrites 503 "LOG_REFUSES_WRITES" "Log refuses writes" "An earlier write or sync failed, or stored events were found damaged. Nothing was written. `GET /api/health` says which; the log has to be reopened.";
    SigningKeyUnusable 503 "SIGNING_KEY_UNUSABLE" "Signing key unusable" "The key that signs checkpoints is not there or cannot be read. Bring it back from a copy; or take it away, and the next start makes a new one.";
    ReadOnly 503 "READ_ONLY" "Read only" "The server was started with `--read-only`. Nothing was written.";
    Contended 503 "CONTENDED" "Contended" "Others changed the same resources each time that this was tried. Nothing was written.";
    TenantUnavailable 503 "TENANT_UNAVAILABLE" "Tenant unavailable" "The tenant cannot be opened, made or deleted, or is not open yet; the log of the server tells why. Other tenants are not touched by it.";
    TooManyTenants 503 "TOO_MANY_TENANTS" "Too many tenants" "As many tenants are open as may be (`tenants.open_max`), and all of them are in use.";
    TooManyOutputs 503 "TOO_MANY_OUTPUTS" "Too many outputs" "As many bytes of what workers hand in are being read as the server holds in memory (`documents.outputs_bytes_max`). Nothing was read: send the same again once `Retry-After` has passed, and go on with heartbeats.";
    TooManyStreams 503 "TOO_MANY_STREAMS" "Too many streams" "As many live streams are open as the server takes.";
    ShuttingDown 503 "SHUTTING_DOWN" "Shutting down" "The server is being stopped. Nothing was written.";
}

impl Code {
    /// Whether the server, not the request, is what is not well.
    pub(crate) const fn is_of_the_server(self) -> bool {
        // A position that is only waited for is the client's wish.
        self.status() >= 500 && !matches!(self, Self::NotYet)
    }
}

/// One place in a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// A JSON pointer (RFC 6901) into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/operations/3/expected_revision")]
    pub pointer: Option<String>,
    /// The query parameter, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "limit")]
    pub parameter: Option<String>,
    /// A stable code.
    #[schema(example = "UNKNOWN_FIELD")]
    pub code: String,
    /// What is expected there.
    pub detail: String,
}

impl FieldProblem {
    /// A place in the body.
    pub fn at(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.to_owned(), detail.into());
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            code,
            detail,
        }
    }

    /// A query parameter.
    pub fn parameter(name: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.to_owned(), detail.into());
        Self {
            pointer: None,
            parameter: Some(name.into()),
            code,
            detail,
        }
    }
}

/// A problem as it goes over the wire (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    #[schema(example = "/docs#RESOURCE_NOT_FOUND")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The status, again.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// The stable code.
    #[schema(example = "RESOURCE_NOT_FOUND")]
    pub code: String,
    /// The trace that the request belongs to.
    pub trace_id: String,
    /// Each place that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// A request that failed.
#[derive(Clone)]
pub struct ApiError {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    code: Code,
    detail: String,
    fields: Vec<FieldProblem>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the server's log only.
    internal: Option<Arc<str>>,
}

impl ApiError {
    /// A failure; `detail` is told to the client.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut headers = Vec::new();
        // A server that keeps no graph has none in a while either.
        let after = match code {
            Code::GraphOff | Code::SearchOff => None,
            // The day is of UTC, and somebody else's queue is not known to move.
            Code::UploadsExceeded => Some("3600"),
            Code::QueueFull | Code::TooManyTickets | Code::StreamsExceeded => Some("10"),
            Code::TooManyOutputs => Some("2"),
            _ => (code.status() == 503).then_some("1"),
        };
        headers.extend(after.map(|after| (RETRY_AFTER, HeaderValue::from_static(after))));
        let (detail, fields) = (detail.into(), Vec::new());
        Self {
            inner: Box::new(Inner {
                code,
                detail,
                fields,
                headers,
                internal: None,
            }),
        }
    }

    /// A failure whose explanation says it all.
    pub fn of(code: Code) -> Self {
        Self::new(code, code.explanation())
    }

    /// A failure at these places.
    pub fn fields(code: Code, fields: Vec<FieldProblem>) -> Self {
        let detail = match fields.as_slice() {
            [only] => only.detail.clone(),
            many => format!("{} places are wrong", many.len()),
        };
        let mut error = Self::new(code, detail);
        error.inner.fields = fields;
        error
    }

    /// With a place that it concerns.
    #[must_use]
    pub fn at(mut self, field: FieldProblem) -> Self {
        self.inner.fields.push(field);
        self
    }

    /// With a header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner.headers.retain(|(known, _)| *known != name);
        self.inner.headers.push((name, value));
        self
    }

    /// With a cause, for the server's log only.
    #[must_use]
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(cause), |cause| cause.source());
        let texts: Vec<String> = causes.map(ToString::to_string).collect();
        self.inner.internal = Some(texts.join(": ").into());
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// The places that are wrong.
    pub fn places(&self) -> &[FieldProblem] {
        &self.inner.fields
    }

    /// What the server's log is told.
    pub(crate) fn internal(&self) -> Option<&str> {
        self.inner.internal.as_deref()
    }

    /// The problem as it goes over the wire.
    pub fn problem(&self, trace_id: &str) -> Problem {
        let code = self.inner.code;
        Problem {
            kind: format!("/docs#{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: self.inner.detail.clone(),
            code: code.name().to_owned(),
            trace_id: trace_id.to_owned(),
            errors: self.inner.fields.clone(),
        }
    }

    /// The answer.
    pub(crate) fn response(&self, trace_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        for (name, value) in &self.inner.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        response.body(self.body(trace_id))
    }

    /// The body of the answer.
    pub(crate) fn body(&self, trace_id: &str) -> Vec<u8> {
        serde_json::to_vec(&self.problem(trace_id)).expect("a problem is plain data")
    }

    /// What failed in carrying a request out; `place` is the pointer to operation `n` in the body,
    /// empty where the body is the operation.
    pub(crate) fn of_command(error: &CommandError, place: &dyn Fn(usize) -> String) -> Self {
        match error {
            CommandError::Refused { operation, refusal } => {
                Self::of_refusal(refusal, &place(*operation))
            }
            CommandError::PreconditionFailed {
                operation,
                revision,
            } => {
                let detail = format!("the resource is at revision {revision} now");
                let error = Self::new(Code::PreconditionFailed, detail.clone());
                error.in_batch(&place(*operation), "", detail)
            }
            CommandError::Conflict {
                operation,
                expected,
                actual,
            } => {
                let detail = match actual {
                    Some(actual) => format!("expected revision {expected}, it is {actual}"),
                    None => format!("expected revision {expected}, there is no such resource"),
                };
                let error = Self::new(Code::RevisionConflict, detail.clone());
                error.in_batch(&place(*operation), "/expected_revision", detail)
            }
            CommandError::TooManyEvents { events, events_max } => {
                let detail = format!("{events} events, at most {events_max} are taken");
                Self::new(Code::TooManyEvents, detail)
            }
            CommandError::KeyReused => Self::of(Code::KeyReused),
            CommandError::Contended { .. } => Self::of(Code::Contended).because(error),
            CommandError::Append(append) => Self::from(append),
            CommandError::Answer(_) => Self::of(Code::OutcomeUnknown).because(error),
            CommandError::Read(read) => Self::from(read.as_ref()),
            CommandError::Content(content) => Self::from(content.as_ref()),
            CommandError::Fold(_) => Self::of(Code::LogDamaged).because(error),
            _ => Self::of(Code::Internal).because(error),
        }
    }

    /// With the place of an operation in a batch; outside of one there is nothing to point at.
    fn in_batch(self, operation: &str, field: &str, detail: String) -> Self {
        if operation.is_empty() {
            return self;
        }
        let code = self.inner.code.name();
        self.at(FieldProblem::at(
            format!("{operation}{field}"),
            code,
            detail,
        ))
    }

    fn of_refusal(refusal: &Refusal, place: &str) -> Self {
        let detail = refusal.to_string();
        let refused =
            |code, field| Self::new(code, detail.clone()).in_batch(place, field, detail.clone());
        match refusal {
            Refusal::NotFound => refused(Code::ResourceNotFound, "/resource_id"),
            Refusal::NotGranted(_) => refused(Code::GrantMissing, "/resource_id"),
            Refusal::AlreadyExists => refused(Code::AlreadyExists, "/id"),
            Refusal::AnnotationNotFound => refused(Code::AnnotationNotFound, "/annotation_id"),
            Refusal::InvalidAnnotation(errors) => {
                let base = if place.is_empty() {
                    String::new()
                } else {
                    format!("{place}/annotation")
                };
                Self::of_annotation(errors, &base)
            }
            Refusal::BodyOperation(missing) => {
                let pointer = format!("{place}/operations/{}/{}", missing.index, missing.field);
                let field = FieldProblem::at(pointer, Code::ItemNotInBody.name(), detail.clone());
                Self::new(Code::ItemNotInBody, detail).at(field)
            }
            Refusal::Limit { .. } => refused(Code::LimitExceeded, ""),
            Refusal::Job(refusal) => Self::of_job(refusal),
            Refusal::Document(refusal) => Self::of_document(*refusal),
            _ => refused(Code::LimitExceeded, ""),
        }
    }

    /// Why a command to a job was refused.
    pub(crate) fn of_job(refusal: &JobRefusal) -> Self {
        let code = match refusal {
            JobRefusal::NotFound => Code::JobNotFound,
            JobRefusal::AlreadyExists => Code::AlreadyExists,
            JobRefusal::LeaseLost | JobRefusal::NotClaimable(_) => Code::LeaseLost,
            JobRefusal::NotRetryable(_) => Code::JobNotRetryable,
            _ => Code::JobFinished,
        };
        Self::new(code, refusal.to_string())
    }

    /// Why a command to a document was refused.
    pub(crate) fn of_document(refusal: DocumentRefusal) -> Self {
        let code = match refusal {
            DocumentRefusal::NotFound => Code::DocumentNotFound,
            DocumentRefusal::AlreadyExists => Code::AlreadyExists,
            DocumentRefusal::InputChanged { .. } => Code::InputChanged,
            _ => Code::StageMissing,
        };
        Self::new(code, refusal.to_string())
    }

    /// What is wrong with an annotation that stands at `base` in the body.
    pub(crate) fn of_annotation(errors: &[FieldError], base: &str) -> Self {
        let place = |error: &FieldError| {
            FieldProblem::at(
                format!("{base}{}", error.pointer),
                error.code,
                error.detail.clone(),
            )
        };
        Self::fields(Code::InvalidAnnotation, errors.iter().map(place).collect())
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        let mut out = f.debug_struct("ApiError");
        out.field("code", &inner.code)
            .field("detail", &inner.detail);
        out.field("fields", &inner.fields)
            .field("internal", &inner.internal)
            .finish()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.code.name(), self.inner.detail)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.inner.code.status()).expect("the table holds valid statuses")
    }

    /// Rendered anew by the middleware, which knows the trace id.
    fn error_response(&self) -> HttpResponse {
        self.response("")
    }
}

impl From<&AppendError> for ApiError {
    fn from(error: &AppendError) -> Self {
        let code = match error {
            AppendError::TooLarge { .. } | AppendError::Invalid { .. } => Code::TooManyEvents,
            AppendError::Full { .. } => Code::StorageFull,
            AppendError::Write { .. } | AppendError::Sync { .. } => Code::OutcomeUnknown,
            AppendError::Poisoned | AppendError::Damaged => Code::LogRefusesWrites,
            AppendError::Closed => Code::ShuttingDown,
            AppendError::ReadOnly => Code::ReadOnly,
            AppendError::KeyReused { .. } => Code::KeyReused,
            AppendError::Read { source } => return Self::from(source),
            _ => Code::Internal,
        };
        Self::of(code).because(error)
    }
}

impl From<&LogReadError> for ApiError {
    fn from(error: &LogReadError) -> Self {
        let code = match error {
            LogReadError::Damaged { .. } => Code::LogDamaged,
            _ => Code::StorageUnavailable,
        };
        Self::of(code).because(error)
    }
}

impl From<ProofError> for ApiError {
    fn from(error: ProofError) -> Self {
        match &error {
            ProofError::OutOfRange { .. } => Self::new(Code::NoSuchProof, error.to_string()),
            ProofError::Read(read) => Self::from(read),
            ProofError::Io(_) => Self::of(Code::StorageUnavailable).because(&error),
            _ => Self::of(Code::LogDamaged).because(&error),
        }
    }
}

impl From<LogReadError> for ApiError {
    fn from(error: LogReadError) -> Self {
        Self::from(&error)
    }
}

impl From<&ContentReadError> for ApiError {
    fn from(error: &ContentReadError) -> Self {
        let code = match error {
            ContentReadError::Damaged { .. } => Code::ContentDamaged,
            _ => Code::StorageUnavailable,
        };
        Self::of(code).because(error)
    }
}

impl From<ContentReadError> for ApiError {
    fn from(error: ContentReadError) -> Self {
        Self::from(&error)
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        let code = match &error {
            PutError::TooLarge { .. } => Code::ContentTooLarge,
            PutError::Full { .. } => Code::StorageFull,
            PutError::Closed => Code::ShuttingDown,
            PutError::ReadOnly => Code::ReadOnly,
            _ => Code::StorageUnavailable,
        };
        Self::of(code).because(&error)
    }
}

impl From<JobsError> for ApiError {
    fn from(error: JobsError) -> Self {
        match &error {
            JobsError::Refused(refusal) => Self::of_job(refusal),
            JobsError::Full { .. } => Self::new(Code::QueueFull, error.to_string()),
            JobsError::NotReady { .. } => Self::of(Code::QueueNotReady).because(&error),
            JobsError::Command(command) => Self::of_command(command, &|_| String::new()),
            _ => Self::of(Code::Internal).because(&error),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotFound => Self::of(Code::DocumentNotFound),
            CommitError::Output(output) => Self::new(Code::InvalidOutput, output.to_string()),
            CommitError::Jobs(jobs) => Self::from(jobs),
            CommitError::Put(put) => Self::from(put),
            CommitError::Read(read) => Self::from(read),
            CommitError::NotStored(_) => Self::of(Code::ContentDamaged).because(&error),
            CommitError::Refused(refusal) => Self::of_refusal(&refusal, ""),
            CommitError::NotIndexed(told @ NotIndexed::CatchingUp(_)) => {
                Self::new(Code::NotYet, told.to_string())
            }
            CommitError::NotIndexed(told) => Self::new(Code::SearchUnavailable, told.to_string()),
            other => Self::of(Code::Internal).because(&other),
        }
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match &error {
            HistoryError::Read(read) => Self::from(read),
            _ => Self::of(Code::LogDamaged).because(&error),
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        match &error {
            TextError::Read(read) => Self::from(read),
            _ => Self::of(Code::Internal).because(&error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::of(Code::ViewsUnavailable).because(&error)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Cursor(cursor) => {
                let detail = cursor.to_string();
                let field = FieldProblem::parameter("cursor", Code::InvalidCursor.name(), &detail);
                Self::new(Code::InvalidCursor, detail).at(field)
            }
            QueryError::Store(store) => Self::from(store),
            other => Self::of(Code::ViewsUnavailable).because(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_upper_snake_unique_and_has_an_error_status() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let name = code.name();
            assert!(
                name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{name}"
            );
            assert!(seen.insert(name), "{name} stands twice");
            assert!((400..=599).contains(&code.status()), "{name}");
            assert!(StatusCode::from_u16(code.status()).is_ok());
        }
    }

    #[test]
    fn a_problem_never_tells_what_is_for_the_log() {
        let cause = std::io::Error::other("/secret/place");
        let error = ApiError::of(Code::StorageUnavailable).because(&cause);
        let text = serde_json::to_string(&error.problem("t")).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(error.internal(), Some("/secret/place"));
        assert!(error.response("t").headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_refusal_in_a_batch_points_at_its_operation() {
        let conflict = CommandError::Conflict {
            operation: 3,
            expected: 1,
            actual: Some(2),
        };
        let error = ApiError::of_command(&conflict, &|n| format!("/operations/{n}"));
        let pointer = error.places()[0].pointer.as_deref();
        assert_eq!(pointer, Some("/operations/3/expected_revision"));
        assert_eq!(error.status_code(), 409);
        assert!(
            ApiError::of_command(&conflict, &|_| String::new())
                .places()
                .is_empty()
        );
    }
}
