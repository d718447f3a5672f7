//! The routes of documents, and of those who work on them.

use serde_json::{Value, json};

use super::routes::{Answer, Body, READ, Route, route, with};
use super::schemas::{label, object};

const DOCUMENTS: &str = "Documents";
const WORKERS: &str = "Workers";

const NEW_JOB: &str =
    r#"{"type":"word.count","payload":{"text":"four large moons"},"max_retries":1}"#;
const GENERATE: &str = r#"{"prompt":"Sum up in three sentences","name":"Summary","context":["019a0000-0000-7000-8000-000000000001"]}"#;
const CLAIM: &str = r#"{"worker":"my-worker-1","types":["word.count"],"wait_ms":0}"#;
const TOKEN: &str = r#"{"fencing_token":1}"#;
const PROGRESS: &str = r#"{"fencing_token":1,"progress":40,"message":"counting"}"#;
const COMPLETE: &str = r#"{"fencing_token":1,"result":{"words":3}}"#;
const FAIL: &str = r#"{"fencing_token":1,"error":{"code":"TOO_DARK","message":"nothing was seen","transient":true}}"#;
const RELEASE: &str = r#"{"fencing_token":1,"reason":"the worker stops"}"#;
const OUTPUT: &str = r#"{"fencing_token":1,"output":{"chunks":[{"start":0,"end":4}]}}"#;

pub(super) const ROUTES: &[Route] = &[
    with(
        route(
            "post",
            "/api/documents/upload",
            DOCUMENTS,
            "Bring a document in; it is processed by a job",
        ),
        &["Idempotency-Key"],
        Body::Upload,
        &[(202, Answer::Schema("UploadBody"))],
        &[400, 409, 413, 415, 422, 429, 503],
    ),
    with(
        route(
            "get",
            "/api/documents/{id}",
            DOCUMENTS,
            "Read a document: the resource that it is, and how far each step is",
        ),
        READ,
        Body::None,
        &[(200, Answer::Schema("DocumentBody"))],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/documents/{id}/text",
            DOCUMENTS,
            "The text of a document that is parsed",
        ),
        READ,
        Body::None,
        &[(200, Answer::Text("text/plain"))],
        &[400, 404, 409, 422, 500, 503],
    ),
    with(
        route(
            "get",
            "/api/documents/{id}/structure",
            DOCUMENTS,
            "What stands where in the text: headings, pages, tables",
        ),
        READ,
        Body::None,
        &[(200, Answer::Any)],
        &[400, 404, 409, 422, 500, 503],
    ),
    with(
        route(
            "get",
            "/api/documents/{id}/chunks",
            DOCUMENTS,
            "The chunks of a document that is cut, with their texts",
        ),
        &["limit", "cursor", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Page("ChunkBody"))],
        &[400, 404, 409, 422, 500, 503],
    ),
    with(
        route(
            "post",
            "/api/documents/{id}/steps/{step}",
            DOCUMENTS,
            "Run one step; one that is done gives its result again",
        ),
        &["Idempotency-Key"],
        Body::Json("StepSettings", "{}"),
        &[
            (200, Answer::Schema("JobBody")),
            (202, Answer::Schema("JobBody")),
        ],
        &[400, 404, 409, 413, 415, 422, 429, 503],
    ),
    with(
        route(
            "post",
            "/api/resources/{id}/detect-annotations-stream",
            DOCUMENTS,
            "Find what a resource speaks of, and follow the job (Server-Sent Events)",
        ),
        &["Idempotency-Key", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Stream)],
        &[400, 404, 415, 422, 429, 503],
    ),
    with(
        route(
            "post",
            "/api/generate-resource-stream",
            DOCUMENTS,
            "Have a model write a resource, and follow the job (Server-Sent Events)",
        ),
        &["Idempotency-Key"],
        Body::Json("Generate", GENERATE),
        &[(200, Answer::Stream)],
        &[400, 404, 413, 415, 422, 429, 503],
    ),
    with(
        route(
            "post",
            "/api/jobs",
            "Jobs",
            "Queue a job for workers of your own",
        ),
        &["Idempotency-Key"],
        Body::Json("NewJob", NEW_JOB),
        &[(201, Answer::Schema("JobBody"))],
        &[400, 413, 415, 422, 429, 503],
    ),
    with(
        route(
            "post",
            "/api/jobs/{id}/retry",
            "Jobs",
            "Try a job anew that failed or was cancelled",
        ),
        &["Idempotency-Key"],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[400, 404, 409, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/search",
            "Search",
            "Find passages by words, by meaning, or by both",
        ),
        &[
            "q",
            "mode",
            "collection",
            "entity_type",
            "entityType",
            "archived",
            "limit",
            "cursor",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Page("HitBody"))],
        &[400, 422, 503],
    ),
    with(
        route("post", "/api/workers/claim", WORKERS, "Take a job on"),
        &[],
        Body::Json("Claim", CLAIM),
        &[(200, Answer::Schema("ClaimedBody")), (204, Answer::Empty)],
        &[400, 413, 415, 422, 503],
    ),
    of_job(
        "/api/workers/jobs/{id}/heartbeat",
        "Renew a lease",
        "Heartbeat",
        TOKEN,
    ),
    of_job(
        "/api/workers/jobs/{id}/progress",
        "Tell how far it is",
        "WorkerProgress",
        PROGRESS,
    ),
    of_job(
        "/api/workers/jobs/{id}/complete",
        "Say that it is done",
        "WorkerComplete",
        COMPLETE,
    ),
    of_job(
        "/api/workers/jobs/{id}/fail",
        "Say that it failed",
        "WorkerFail",
        FAIL,
    ),
    of_job(
        "/api/workers/jobs/{id}/release",
        "Give it back untried; one that was to be cancelled is",
        "WorkerRelease",
        RELEASE,
    ),
    of_job(
        "/api/workers/jobs/{id}/stages/{stage}",
        "Hand in what a stage of a document put out; `docs/workers.md` has the form of each",
        "StageOutput",
        OUTPUT,
    ),
];

const fn of_job(
    path: &'static str,
    summary: &'static str,
    body: &'static str,
    example: &'static str,
) -> Route {
    with(
        route("post", path, WORKERS, summary),
        &[],
        Body::Json(body, example),
        &[(200, Answer::Any)],
        &[400, 404, 409, 413, 415, 422, 503],
    )
}

fn stages() -> Value {
    json!({ "enum": ["validate", "parse", "chunk", "embed", "detect", "index"] })
}

/// A part of the path of these routes; none where the name is another's.
pub(super) fn in_path(name: &str) -> Option<Value> {
    ["step", "stage"].contains(&name).then(stages)
}

/// What an output was made from.
fn made_from() -> Value {
    let tag = json!({ "type": ["string", "null"],
        "pattern": "^(blake3:[0-9a-f]{64}|(W/)?\"blake3:[0-9a-f]{64}\")$" });
    json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": { "text": tag, "structure": tag, "chunks": tag },
        "description": "The ETags that GET /api/documents/{id}/text, …/structure and …/chunks gave with what the output was made from: text and structure for chunk, those and chunks for embed and detect. Where one of them is not what the document has now, the call is 409 INPUT_CHANGED and the job is as it was: read again. What is left out is not checked",
    })
}

/// The form of an upload.
pub(super) fn upload() -> Value {
    json!({
        "type": "object",
        "required": ["file"],
        "additionalProperties": false,
        "properties": {
            "file": { "type": "string", "format": "binary" },
            "collection": label(),
            "chunking_strategy": { "enum": ["sentence", "markdown", "size"] },
            "chunk_size": { "type": "integer", "minimum": 1, "maximum": 20000, "default": 1000,
                "description": "Code points; the overlap must be smaller" },
            "chunk_overlap": { "type": "integer", "minimum": 0, "maximum": 19999, "default": 100 },
            "steps": { "enum": ["auto", "none"], "default": "auto" },
            "access": { "type": "string", "contentMediaType": "application/json",
                "contentSchema": { "$ref": "#/components/schemas/Access" },
                "description": "Who may read and write it, as JSON. Where these bytes are a document already whose grants are others, the upload is refused (409 ALREADY_EXISTS): they are changed by PUT /api/resources/{id}/access" },
        },
    })
}

#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn request_schemas() -> Vec<(&'static str, Value)> {
    let token = || json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
    let message = || json!({ "type": ["string", "null"], "maxLength": 256 });
    let kind = || json!({ "type": "string", "pattern": "^x[a-z0-9._-]{0,62}$|^[a-z][a-z0-9._-]{0,63}$", "maxLength": 64 });
    let job_kind = json!({ "type": "string", "pattern": "^(?!document\\.|rebuild\\.|verify|resource\\.|backup$)[a-z][a-z0-9._-]{0,63}$" });
    let error = object(
        &["code", "message", "transient"],
        json!({
            "code": { "type": "string", "pattern": "^[A-Z0-9_]{1,64}$" },
            "message": { "type": "string", "maxLength": 1024 },
            "stage": message(),
            "transient": { "type": "boolean" },
        }),
    );
    vec![
        (
            "StepSettings",
            object(
                &[],
                json!({
                    "chunking_strategy": { "enum": ["sentence", "markdown", "size"] },
                    "chunk_size": { "type": ["integer", "null"], "minimum": 1, "maximum": 20000 },
                    "chunk_overlap": { "type": ["integer", "null"], "minimum": 0, "maximum": 19999 },
                }),
            ),
        ),
        (
            "NewJob",
            object(
                &["type"],
                json!({
                    "type": job_kind,
                    "payload": { "type": ["object", "null"] },
                    "priority": { "type": ["integer", "null"], "minimum": -1000, "maximum": 1000 },
                    "max_retries": { "type": ["integer", "null"], "minimum": 0, "maximum": 100 },
                }),
            ),
        ),
        (
            "Generate",
            object(
                &["prompt", "name"],
                json!({
                    "prompt": { "type": "string", "minLength": 1, "maxLength": 32768 },
                    "name": { "type": "string", "minLength": 1, "maxLength": 1024 },
                    "context": { "type": ["array", "null"], "items": { "type": "string", "format": "uuid" }, "maxItems": 16 },
                    "media_type": { "type": ["string", "null"] },
                    "collection": { "anyOf": [label(), { "type": "null" }] },
                }),
            ),
        ),
        (
            "Claim",
            object(
                &["worker", "types"],
                json!({
                    "worker": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" },
                    "types": { "type": "array", "items": kind(), "minItems": 1, "maxItems": 64 },
                    "wait_ms": { "type": ["integer", "null"], "minimum": 0, "maximum": 60000, "default": 0 },
                }),
            ),
        ),
        (
            "Heartbeat",
            object(&["fencing_token"], json!({ "fencing_token": token() })),
        ),
        (
            "WorkerProgress",
            object(
                &["fencing_token", "progress"],
                json!({
                    "fencing_token": token(), "message": message(),
                    "progress": { "type": "integer", "minimum": 0, "maximum": 100 },
                }),
            ),
        ),
        (
            "WorkerComplete",
            object(
                &["fencing_token"],
                json!({
                    "fencing_token": token(),
                    "result": { "type": ["object", "null"] },
                    "warnings": { "type": ["array", "null"], "items": { "type": "string", "maxLength": 1024 } },
                }),
            ),
        ),
        (
            "WorkerFail",
            object(
                &["fencing_token", "error"],
                json!({
                    "fencing_token": token(), "error": error,
                    "retry_after_ms": { "type": ["integer", "null"], "minimum": 0, "maximum": u64::MAX,
                        "description": "Least wait before the next try" },
                }),
            ),
        ),
        (
            "WorkerRelease",
            object(
                &["fencing_token"],
                json!({ "fencing_token": token(), "reason": message() }),
            ),
        ),
        (
            "StageOutput",
            object(
                &["fencing_token", "output"],
                json!({
                    "fencing_token": token(), "output": { "type": "object" },
                    "took_ms": { "type": ["integer", "null"], "minimum": 0, "maximum": u64::MAX },
                    "made_from": made_from(),
                }),
            ),
        ),
        (
            "ClaimedBody",
            json!({
                "type": "object",
                "required": ["job", "fencing_token", "lease_expires_at", "lease_ms"],
                "properties": {
                    "job": { "$ref": "#/components/schemas/JobBody" },
                    "fencing_token": token(),
                    "lease_expires_at": { "type": "string", "format": "date-time" },
                    "lease_ms": token(),
                },
            }),
        ),
    ]
}
