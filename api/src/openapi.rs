//! The OpenAPI 3.1 document: shapes from the wire types, codes from the table of errors, routes
//! from the table below, which stands beside the router and is held against it by a test.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::error::{Code, FieldProblem, Problem};
use crate::handlers::health::{HealthBody, Part, Parts};
use crate::jobs::{JobBody, JobError};
use crate::wire::batch::{BatchBody, BatchResultBody};
use crate::wire::resource::{EntityTypeBody, ReferencedByBody, RepresentationBody, ResourceBody};

#[derive(OpenApi)]
#[openapi(components(schemas(
    ResourceBody,
    RepresentationBody,
    ReferencedByBody,
    EntityTypeBody,
    BatchBody,
    BatchResultBody,
    JobBody,
    JobError,
    HealthBody,
    Parts,
    Part,
    Problem,
    FieldProblem
)))]
struct Schemas;

/// One route of the document.
struct Route {
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    /// Query parameters and headers, by name; see [`parameter`].
    parameters: &'static [&'static str],
    body: Body,
    answers: &'static [(u16, Answer)],
    problems: &'static [u16],
}

/// What a route takes.
#[derive(Clone, Copy)]
enum Body {
    None,
    Json(&'static str, &'static str),
    Content,
}

/// What a route gives.
#[derive(Clone, Copy)]
enum Answer {
    Schema(&'static str),
    Page(&'static str),
    Stream,
    Bytes,
    Text(&'static str),
    Any,
    Empty,
}

const READ: &[&str] = &["min_position", "timeout_ms"];
const WRITE: &[&str] = &["Idempotency-Key", "If-Match"];
const PAGED: &[&str] = &["limit", "cursor", "min_position", "timeout_ms"];

const fn route(
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        tag,
        summary,
        parameters: &[],
        body: Body::None,
        answers: &[],
        problems: &[],
    }
}

const fn with(
    route: Route,
    parameters: &'static [&'static str],
    body: Body,
    answers: &'static [(u16, Answer)],
    problems: &'static [u16],
) -> Route {
    Route {
        parameters,
        body,
        answers,
        problems,
        ..route
    }
}

const NEW_RESOURCE: &str = r#"{"name":"A note","media_type":"text/plain","content":"Jupiter has four large moons.","entity_types":["Note"],"metadata":{"year":1610}}"#;
const PATCH: &str = r#"{"name":"Moons of Jupiter","metadata":{"checked":true,"year":null}}"#;
const ANNOTATION: &str = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"Seen in 1610"},"target":{"selector":{"type":"TextQuoteSelector","exact":"four large moons"}}}"#;
const BODY_OPERATIONS: &str = r#"{"operations":[{"op":"add","item":{"type":"TextualBody","value":"More","purpose":"commenting"}}]}"#;
const BATCH: &str = r#"{"operations":[{"op":"create_resource","id":"019a0000-0000-7000-8000-0000000000ab","name":"n","media_type":"text/plain","content":"c"},{"op":"add_entity_type","resource_id":"019a0000-0000-7000-8000-0000000000ab","entity_type":"Note","expected_revision":0}]}"#;
const ENTITY_TYPE: &str =
    r#"{"name":"Observatory","description":"A place from which the sky is watched"}"#;

const RESOURCE: &[(u16, Answer)] = &[(200, Answer::Schema("ResourceBody"))];
const CREATED: &[(u16, Answer)] = &[(201, Answer::Schema("ResourceBody"))];
const OPERATION: &str = "Operation";

const ROUTES: &[Route] = &[
    with(
        route(
            "post",
            "/api/resources",
            "Resources",
            "Make a resource, from JSON or from a multipart form with `metadata` and `file`",
        ),
        &["Idempotency-Key"],
        Body::Json("NewResource", NEW_RESOURCE),
        CREATED,
        &[400, 409, 413, 415, 422, 503],
    ),
    with(
        route("get", "/api/resources", "Resources", "List resources"),
        &[
            "entity_type",
            "entityType",
            "q",
            "archived",
            "collection",
            "created_after",
            "sort",
            "limit",
            "cursor",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Page("ResourceBody"))],
        &[400, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}",
            "Resources",
            "Read a resource, now or at a moment of the past; `application/ld+json` gives linked data",
        ),
        &[
            "as_of_revision",
            "as_of_position",
            "as_of",
            "min_position",
            "timeout_ms",
            "If-None-Match",
        ],
        Body::None,
        &[(200, Answer::Schema("ResourceBody")), (304, Answer::Empty)],
        &[400, 404, 406, 422, 503],
    ),
    with(
        route(
            "patch",
            "/api/resources/{id}",
            "Resources",
            "Change name, language, metadata, archived, collection (JSON merge patch)",
        ),
        WRITE,
        Body::Json("Patch", PATCH),
        RESOURCE,
        &[400, 404, 409, 412, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/content",
            "Resources",
            "Read the bytes, in whole or in ranges",
        ),
        &[
            "revision",
            "min_position",
            "timeout_ms",
            "Range",
            "If-Range",
            "If-None-Match",
        ],
        Body::None,
        &[
            (200, Answer::Bytes),
            (206, Answer::Bytes),
            (304, Answer::Empty),
        ],
        &[400, 404, 416, 422, 500, 503],
    ),
    with(
        route(
            "put",
            "/api/resources/{id}/content",
            "Resources",
            "Give new content, raw or as a multipart form with `file`",
        ),
        WRITE,
        Body::Content,
        RESOURCE,
        &[400, 404, 409, 412, 413, 415, 422, 503],
    ),
    with(
        route(
            "put",
            "/api/resources/{id}/entity_types/{type}",
            "Resources",
            "Say what a resource speaks of",
        ),
        WRITE,
        Body::None,
        RESOURCE,
        &[400, 404, 409, 412, 422, 503],
    ),
    with(
        route(
            "delete",
            "/api/resources/{id}/entity_types/{type}",
            "Resources",
            "Take an entity type away",
        ),
        WRITE,
        Body::None,
        RESOURCE,
        &[400, 404, 409, 412, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/resources/{id}/clone",
            "Resources",
            "Make a resource from another; no bytes are copied",
        ),
        &["Idempotency-Key"],
        Body::Json("Clone", r#"{"name":"A copy","with_annotations":true}"#),
        CREATED,
        &[400, 404, 409, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/referenced_by",
            "Resources",
            "What names a resource from elsewhere",
        ),
        &["archived", "limit", "cursor", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Page("ReferencedByBody"))],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/events",
            "Events",
            "The history of a resource",
        ),
        &[
            "after_revision",
            "order",
            "limit",
            "cursor",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Page("Event"))],
        &[400, 404, 406, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/events/stream",
            "Events",
            "Follow one resource (Server-Sent Events)",
        ),
        &[
            "after",
            "type",
            "entity_type",
            "entityType",
            "actor",
            "Last-Event-ID",
        ],
        Body::None,
        &[(200, Answer::Stream)],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/annotations",
            "Annotations",
            "List annotations with their anchors in today's text",
        ),
        &["offsets", "limit", "cursor", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Page("Annotation"))],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/resources/{id}/annotations",
            "Annotations",
            "Annotate (W3C Web Annotation)",
        ),
        &["offsets", "Idempotency-Key", "If-Match"],
        Body::Json("Annotation", ANNOTATION),
        &[(201, Answer::Schema("Annotation"))],
        &[400, 404, 409, 412, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/annotations/{aid}",
            "Annotations",
            "Read an annotation",
        ),
        &["offsets", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Schema("Annotation"))],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "delete",
            "/api/resources/{id}/annotations/{aid}",
            "Annotations",
            "Take an annotation away",
        ),
        WRITE,
        Body::None,
        &[(204, Answer::Empty)],
        &[400, 404, 409, 412, 422, 503],
    ),
    with(
        route(
            "patch",
            "/api/resources/{id}/annotations/{aid}/body",
            "Annotations",
            "Change an annotation's body item by item",
        ),
        WRITE,
        Body::Json("BodyOperations", BODY_OPERATIONS),
        &[(200, Answer::Schema("Annotation"))],
        &[400, 404, 409, 412, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/resources/{id}/annotations/{aid}/history",
            "Annotations",
            "The events of an annotation",
        ),
        PAGED,
        Body::None,
        &[(200, Answer::Page("Event"))],
        &[400, 404, 406, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/entity_types",
            "Resources",
            "Which entity types there are",
        ),
        PAGED,
        Body::None,
        &[(200, Answer::Page("EntityTypeBody"))],
        &[400, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/entity_types",
            "Resources",
            "Describe an entity type",
        ),
        &["Idempotency-Key"],
        Body::Json("NewEntityType", ENTITY_TYPE),
        &[(201, Answer::Schema("EntityTypeBody"))],
        &[400, 413, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/batch",
            "Resources",
            "Several writes, all or none",
        ),
        &["Idempotency-Key"],
        Body::Json("Batch", BATCH),
        &[(200, Answer::Schema("BatchBody"))],
        &[400, 404, 409, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/events",
            "Events",
            "Page through the log; `application/cloudevents-batch+json` gives CloudEvents 1.0",
        ),
        &[
            "after",
            "cursor",
            "limit",
            "type",
            "stream",
            "entity_type",
            "entityType",
            "actor",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Page("Event"))],
        &[400, 406, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/events/{digest}",
            "Events",
            "An event by its digest",
        ),
        &[],
        Body::None,
        &[(200, Answer::Schema("Event"))],
        &[404, 422, 500, 503],
    ),
    with(
        route(
            "get",
            "/api/events/stream",
            "Events",
            "Follow the log (Server-Sent Events)",
        ),
        &[
            "after",
            "type",
            "entity_type",
            "entityType",
            "actor",
            "Last-Event-ID",
        ],
        Body::None,
        &[(200, Answer::Stream)],
        &[400, 422, 503],
    ),
    with(
        route("get", "/api/jobs", "Jobs", "List jobs, newest first"),
        &["status", "type", "limit", "cursor"],
        Body::None,
        &[(200, Answer::Page("JobBody"))],
        &[400, 422],
    ),
    with(
        route("get", "/api/jobs/{id}", "Jobs", "Read a job"),
        &[],
        Body::None,
        &[(200, Answer::Schema("JobBody"))],
        &[404, 422],
    ),
    with(
        route("get", "/api/jobs/{id}/status", "Jobs", "Read a job"),
        &[],
        Body::None,
        &[(200, Answer::Schema("JobBody"))],
        &[404, 422],
    ),
    with(
        route(
            "get",
            "/api/jobs/{id}/events/stream",
            "Jobs",
            "Follow a job (Server-Sent Events)",
        ),
        &[],
        Body::None,
        &[(200, Answer::Stream)],
        &[404, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/jobs/{id}/cancel",
            "Jobs",
            "Tell a job to stop",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[404, 409, 422],
    ),
    with(
        route(
            "post",
            "/api/admin/rebuild/views",
            OPERATION,
            "Make the views anew beside the live ones, compare, swap",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[409, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/verify",
            OPERATION,
            "Hold all that is stored against itself",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[404, 409, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/collect",
            OPERATION,
            "Remove content that nothing names",
        ),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/retry/views",
            OPERATION,
            "Try the event again at which the views stopped",
        ),
        &[],
        Body::None,
        &[(202, Answer::Any)],
        &[422],
    ),
    with(
        route(
            "post",
            "/api/admin/reopen/log",
            OPERATION,
            "Take writes again after a failed write or sync",
        ),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[422, 503],
    ),
    with(
        route(
            "get",
            "/api/health",
            OPERATION,
            "How each part is; 503 when one that matters is not ok",
        ),
        &[],
        Body::None,
        &[
            (200, Answer::Schema("HealthBody")),
            (503, Answer::Schema("HealthBody")),
        ],
        &[422],
    ),
    with(
        route("get", "/api/health/live", OPERATION, "The process answers"),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[],
    ),
    with(
        route(
            "get",
            "/api/health/ready",
            OPERATION,
            "Requests are to be sent here",
        ),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[503],
    ),
    with(
        route("get", "/metrics", OPERATION, "Figures for Prometheus"),
        &[],
        Body::None,
        &[(200, Answer::Text("application/openmetrics-text"))],
        &[500],
    ),
    with(
        route("get", "/api/openapi.json", OPERATION, "This document"),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[],
    ),
    with(
        route("get", "/docs", OPERATION, "This document, for people"),
        &[],
        Body::None,
        &[(200, Answer::Text("text/html"))],
        &[],
    ),
];

/// The document.
pub fn document() -> Value {
    let schemas = serde_json::to_value(Schemas::openapi()).expect("the document is plain data");
    let mut components = schemas["components"].clone();
    for (name, schema) in request_schemas() {
        components["schemas"][name] = schema;
    }
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stemma",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An event-sourced document store. Every write is an event; reads tell the position that they reflect.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": components,
        "x-error-codes": Code::ALL.iter().map(|code| json!({
            "code": code.name(), "status": code.status(), "title": code.title(), "explanation": code.explanation(),
        })).collect::<Vec<_>>(),
    })
}

fn operation(route: &Route) -> Value {
    let in_path = route.path.split(['{', '}']).skip(1).step_by(2).map(|name| {
        let schema = match name {
            "id" | "aid" => json!({ "type": "string", "format": "uuid" }),
            "digest" => json!({ "type": "string", "pattern": "^blake3:[0-9a-f]{64}$" }),
            _ => json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let others = route.parameters.iter().map(|name| parameter(name));
    let mut operation = json!({
        "operationId": format!("{} {}", route.method, route.path),
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": in_path.chain(others).collect::<Vec<_>>(),
        "responses": responses(route),
    });
    match route.body {
        Body::None => {}
        Body::Json(schema, example) => {
            let example: Value = serde_json::from_str(example).expect("examples are JSON");
            let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
            operation["requestBody"] = json!({
                "required": !route.path.ends_with("/clone"),
                "content": { "application/json": { "schema": schema, "example": example } },
            });
        }
        Body::Content => {
            operation["requestBody"] =
                json!({ "required": true, "content": { "*/*": { "schema": {} } } });
        }
    }
    operation
}

fn responses(route: &Route) -> Map<String, Value> {
    let mut responses = Map::new();
    for (status, answer) in route.answers {
        let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let content = match answer {
            Answer::Schema(name) => json!({ "application/json": { "schema": reference(name) } }),
            Answer::Page(name) => json!({ "application/json": { "schema": {
                "type": "object",
                "required": ["items", "next_cursor"],
                "properties": {
                    "items": { "type": "array", "items": reference(name) },
                    "next_cursor": { "type": ["string", "null"] },
                },
            } } }),
            Answer::Stream => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
            Answer::Bytes => json!({ "*/*": { "schema": {} } }),
            Answer::Text(kind) => json!({ *kind: { "schema": { "type": "string" } } }),
            Answer::Any => json!({ "application/json": { "schema": { "type": "object" } } }),
            Answer::Empty => json!({}),
        };
        let described = if *status < 400 { "Done" } else { "Not well" };
        let mut response = json!({ "description": described });
        if content != json!({}) {
            response["content"] = content;
        }
        responses.insert(status.to_string(), response);
    }
    for status in route.problems {
        let codes = Code::ALL.iter().filter(|code| code.status() == *status);
        let codes: Vec<&str> = codes.map(|code| code.name()).collect();
        let problem = json!({
            "description": format!("One of {}", codes.join(", ")),
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        responses.entry(status.to_string()).or_insert(problem);
    }
    responses
}

/// A query parameter or header by its name.
fn parameter(name: &str) -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer", "minimum": 0 });
    let many = || json!({ "type": "array", "items": { "type": "string" } });
    let (schema, description) = match name {
        "limit" => (
            json!({ "type": "integer", "minimum": 1, "maximum": 500, "default": 50 }),
            "Most items of the page",
        ),
        "cursor" => (text(), "`next_cursor` of the page before"),
        "min_position" => (number(), "Wait until the answer reflects this position"),
        "timeout_ms" => (
            json!({ "type": "integer", "minimum": 0, "maximum": 60000, "default": 2000 }),
            "How long to wait for it",
        ),
        "as_of_revision" => (number(), "As it was right after this revision"),
        "as_of_position" => (number(), "As it was right after this position of the log"),
        "as_of" | "created_after" => (
            json!({ "type": "string", "format": "date-time" }),
            "An RFC 3339 instant",
        ),
        "after" => (text(), "Behind this position; `start` for everything"),
        "after_revision" | "revision" => (number(), "A revision of the resource"),
        "order" => (json!({ "enum": ["asc", "desc"] }), "Oldest or newest first"),
        "sort" => (
            json!({ "enum": ["created_at", "-created_at", "name"] }),
            "The order",
        ),
        "archived" => (
            json!({ "enum": ["false", "true", "any"] }),
            "Whether archived ones are wanted",
        ),
        "offsets" => (
            json!({ "enum": ["codepoint", "utf16"] }),
            "What positions count",
        ),
        "entity_type" | "entityType" => (many(), "Types that it must have"),
        "type" => (
            many(),
            "Types of events (or a prefix such as `resource.*`); of jobs one type",
        ),
        "status" => (
            json!({ "enum": ["queued", "processing", "retrying", "completed", "failed", "cancelled"] }),
            "A status of jobs",
        ),
        "Idempotency-Key" => (
            json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
            "The same key with the same request writes once",
        ),
        "If-Match" => (text(), "Tags of which the resource must have one"),
        "If-None-Match" => (text(), "Tags that the client holds"),
        "Last-Event-ID" => (text(), "The last position that was seen"),
        _ => (text(), ""),
    };
    let place = if name.starts_with(char::is_uppercase) {
        "header"
    } else {
        "query"
    };
    json!({ "name": name, "in": place, "required": false, "schema": schema, "description": description })
}

/// What clients send, and what W3C and the log define.
fn request_schemas() -> Vec<(&'static str, Value)> {
    let uuid = || json!({ "type": "string", "format": "uuid" });
    let label = || json!({ "type": "string", "minLength": 1, "maxLength": 256 });
    let nullable = || json!({ "type": ["string", "null"] });
    vec![
        (
            "NewResource",
            json!({
                "type": "object",
                "required": ["name", "media_type"],
                "additionalProperties": false,
                "properties": {
                    "id": uuid(), "name": { "type": "string", "minLength": 1, "maxLength": 1024 },
                    "media_type": label(), "content": { "type": "string" },
                    "content_base64": { "type": "string", "contentEncoding": "base64" },
                    "entity_types": { "type": "array", "items": label(), "maxItems": 256 },
                    "language": nullable(), "collection": nullable(), "derived_from": { "type": ["string", "null"], "format": "uuid" },
                    "metadata": { "type": "object" },
                },
            }),
        ),
        (
            "Patch",
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "name": { "type": "string", "minLength": 1, "maxLength": 1024 }, "language": nullable(),
                    "collection": nullable(), "archived": { "type": "boolean" }, "metadata": { "type": ["object", "null"] },
                },
            }),
        ),
        (
            "Clone",
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { "id": uuid(), "name": { "type": "string" }, "collection": { "type": "string" }, "with_annotations": { "type": "boolean" } },
            }),
        ),
        (
            "NewEntityType",
            json!({
                "type": "object", "required": ["name"], "additionalProperties": false,
                "properties": { "name": label(), "description": { "type": ["string", "null"], "maxLength": 4096 } },
            }),
        ),
        (
            "Annotation",
            json!({
                "type": "object",
                "required": ["target"],
                "description": "A W3C Web Annotation; extension properties are kept",
                "properties": { "target": {}, "body": {}, "motivation": {}, "anchoring": { "type": "array", "items": { "type": "object" }, "readOnly": true } },
            }),
        ),
        (
            "BodyOperations",
            json!({
                "type": "object", "required": ["operations"], "additionalProperties": false,
                "properties": { "operations": { "type": "array", "minItems": 1, "maxItems": 1000, "items": {
                    "type": "object", "required": ["op"],
                    "properties": { "op": { "enum": ["add", "remove", "replace"] }, "item": {}, "old_item": {}, "new_item": {} },
                } } },
            }),
        ),
        (
            "Batch",
            json!({
                "type": "object", "required": ["operations"], "additionalProperties": false,
                "properties": { "operations": { "type": "array", "minItems": 1, "maxItems": 1000, "items": {
                    "type": "object", "required": ["op"],
                    "properties": {
                        "op": { "enum": ["create_resource", "revise_content", "patch_resource", "add_annotation", "remove_annotation", "add_entity_type", "remove_entity_type"] },
                        "resource_id": uuid(), "expected_revision": { "type": "integer", "minimum": 0 },
                    },
                } } },
            }),
        ),
        (
            "Event",
            json!({
                "type": "object",
                "required": ["position", "revision", "stream", "type", "schema_version", "id", "previous", "previous_in_stream", "recorded_at", "actor", "trace_id", "data"],
                "properties": {
                    "position": { "type": "integer" }, "revision": { "type": "integer" }, "stream": { "type": "string" },
                    "type": { "type": "string" }, "schema_version": { "type": "integer" }, "id": { "type": "string" },
                    "previous": { "type": ["string", "null"] }, "previous_in_stream": { "type": ["string", "null"] },
                    "recorded_at": { "type": "string", "format": "date-time" }, "actor": { "type": "string" },
                    "trace_id": { "type": "string" }, "causation": { "type": "string" }, "correlation": { "type": "string" },
                    "data": { "type": "object" },
                },
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_router_is_documented_and_every_documented_one_is_there() {
        let router = include_str!("router.rs");
        let literals = router.split('"').skip(1).step_by(2);
        let routed: std::collections::BTreeSet<&str> = literals
            .filter(|text| text.starts_with('/') && text.len() > 1 && !text.starts_with("/docs/"))
            .collect();
        let documented = ROUTES.iter().map(|route| route.path).collect();
        assert_eq!(routed, documented);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}
