//! The OpenAPI 3.1 document: shapes from the wire types, codes from the table of errors, routes
//! from the table, which is held against the router by a test.

mod access;
mod document;
mod operation;
mod routes;
mod schemas;

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::context::TRACE_ID_BYTES_MAX;
use crate::error::{Code, FieldProblem, Problem};
use crate::handlers::access::{TicketBody, TokenBody};
use crate::handlers::backup::BackupsBody;
use crate::handlers::graph::{
    EdgeBody, GraphStatsBody, LagBody, NeighborsBody, NodeBody, PathBody,
};
use crate::handlers::health::{
    FailedTenant, HealthBody, Part, Parts, Store, TenantHealth, TenantsBody,
};
use crate::handlers::proofs::{ConsistencyBody, InclusionBody};
use crate::handlers::search::HitBody;
use crate::handlers::tenants::TenantBody;
use crate::handlers::traced_stages::TracedStageBody;
use crate::handlers::traces::{ErrorBody, ErrorsBody, TraceBody, TracedEventBody, TracedJobBody};
use crate::requests::RequestBody;
use crate::wire::batch::{BatchBody, BatchResultBody};
use crate::wire::document::{ChunkBody, DocumentBody, FailureBody, StepBody, UploadBody};
use crate::wire::grants::AccessBody;
use crate::wire::job::{AttemptBody, JobBody, JobError};
use crate::wire::resource::{EntityTypeBody, ReferencedByBody, RepresentationBody, ResourceBody};
use routes::{Answer, Body, Route};
use schemas::{query_schemas, request_schemas};

#[derive(OpenApi)]
#[openapi(components(schemas(
    ResourceBody,
    AccessBody,
    RepresentationBody,
    ReferencedByBody,
    EntityTypeBody,
    BatchBody,
    BatchResultBody,
    JobBody,
    JobError,
    AttemptBody,
    DocumentBody,
    StepBody,
    FailureBody,
    ChunkBody,
    UploadBody,
    HitBody,
    InclusionBody,
    ConsistencyBody,
    NodeBody,
    EdgeBody,
    NeighborsBody,
    PathBody,
    GraphStatsBody,
    LagBody,
    HealthBody,
    TokenBody,
    TicketBody,
    TenantBody,
    TraceBody,
    TracedEventBody,
    TracedJobBody,
    TracedStageBody,
    RequestBody,
    ErrorsBody,
    ErrorBody,
    BackupsBody,
    Parts,
    Store,
    TenantsBody,
    TenantHealth,
    FailedTenant,
    Part,
    Problem,
    FieldProblem
)))]
struct Schemas;

/// The document.
pub fn document() -> Value {
    let schemas = serde_json::to_value(Schemas::openapi()).expect("the document is plain data");
    let mut components = schemas["components"].clone();
    for (name, schema) in request_schemas()
        .into_iter()
        .chain(query_schemas())
        .chain(document::request_schemas())
        .chain(access::request_schemas())
    {
        components["schemas"][name] = schema;
    }
    components["securitySchemes"] = access::schemes();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::all() {
        let path = readable(route.path);
        let path = paths.entry(path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
        if route.method == "get" {
            path["head"] = head_of(&path["get"], route);
        }
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

/// A path without what only the router needs to know of its names.
fn readable(path: &str) -> String {
    path.replace(":.*}", "}")
}

fn operation(route: &Route) -> Value {
    let path = readable(route.path);
    let in_path = path.split(['{', '}']).skip(1).step_by(2).map(|name| {
        let schema = match name {
            "id" | "aid" => json!({ "type": "string", "format": "uuid" }),
            "trace_id" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:+=@-]+$", "maxLength": TRACE_ID_BYTES_MAX }),
            "digest" => json!({ "type": "string", "pattern": "^blake3:[0-9a-f]{64}$" }),
            name if document::in_path(name).is_some() => document::in_path(name).unwrap_or_default(),
            "level" => json!({ "type": "integer", "minimum": 0, "maximum": 63 }),
            "tile" => json!({ "type": "string", "pattern": r"^(x[0-9]{3}/)*[0-9]{3}(\.p/([1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?$" }),
            "type" => schemas::label(),
            "node" => schemas::node(),
            "name" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" }),
            _ => json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let others = route
        .parameters
        .iter()
        .map(|name| parameter(name, route.path));
    let mut operation = json!({
        "operationId": format!("{} {}", route.method, route.path),
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": in_path.chain(others).collect::<Vec<_>>(),
        "responses": responses(route),
    });
    access::secure(&mut operation, route.method, route.path);
    match route.body {
        Body::None => {}
        Body::Json(schema, example) => {
            let example: Value = serde_json::from_str(example).expect("examples are JSON");
            let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
            operation["requestBody"] = json!({
                "required": !route.path.ends_with("/clone") && !route.path.ends_with("/{step}"),
                "content": { "application/json": { "schema": schema, "example": example } },
            });
            let content = &mut operation["requestBody"]["content"];
            match (route.method, route.path) {
                ("post", "/api/resources") => {
                    content["multipart/form-data"] = json!({ "schema": {
                        "type": "object",
                        "required": ["file"],
                        "additionalProperties": false,
                        "properties": { "metadata": { "$ref": "#/components/schemas/NewFile" }, "file": { "type": "string", "format": "binary" } },
                    }, "encoding": { "metadata": { "contentType": "application/json" } } });
                }
                ("patch", "/api/resources/{id}") => {
                    content["application/merge-patch+json"] = json!({ "schema": schema });
                }
                _ => {}
            }
        }
        Body::Upload => {
            operation["requestBody"] = json!({ "required": true, "content": { "multipart/form-data": { "schema": document::upload() } } });
        }
        Body::Content => {
            operation["requestBody"] = json!({ "required": true, "content": { "application/octet-stream": { "schema": {} }, "text/plain": { "schema": {} } }, "description": "Bytes of any media type" });
        }
    }
    operation
}

/// `HEAD` is `GET` without the body.
fn head_of(get: &Value, route: &Route) -> Value {
    let mut head = get.clone();
    head["operationId"] = format!("head {}", route.path).into();
    head["summary"] = format!("{}: only the head of the answer", route.summary).into();
    let responses = head["responses"].as_object_mut();
    for response in responses.into_iter().flat_map(Map::values_mut) {
        if let Some(response) = response.as_object_mut() {
            response.remove("content");
        }
    }
    head
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
        let mut content = content;
        // The other forms that a route gives to who asks for them.
        let other = match (route.method, route.path, answer) {
            ("get", "/api/resources/{id}", Answer::Schema(_)) => Some("application/ld+json"),
            ("get", "/api/events" | "/api/resources/{id}/events", _) => {
                Some("application/cloudevents-batch+json")
            }
            ("get", path, _) if path.starts_with("/api/resources/{id}/annotations") => {
                Some(if path.ends_with("/history") {
                    "application/cloudevents-batch+json"
                } else {
                    "application/ld+json"
                })
            }
            _ => None,
        };
        if let Some(other) = other {
            content[other] = json!({ "schema": {} });
        }
        let mut response = json!({ "description": described });
        if tells_position(route) {
            response["headers"] = json!({ "Stemma-Position": position() });
        }
        if content != json!({}) {
            response["content"] = content;
        }
        responses.insert(status.to_string(), response);
    }
    // Whatever writes may find the disk full.
    let writes = route.method != "get" && route.problems.contains(&503);
    let full = writes.then_some(&507);
    // Whatever takes a body may find it too slow.
    let slow = (!matches!(route.body, Body::None)).then_some(&408);
    let refused = access::refusals(route.method, route.path);
    for status in route.problems.iter().chain(full).chain(slow).chain(refused) {
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

/// Whether an answer tells a position: that of a read, which can be made to wait for one, and that
/// of a write.
fn tells_position(route: &Route) -> bool {
    let telling = ["min_position", "Idempotency-Key"];
    route.parameters.iter().any(|name| telling.contains(name))
}

/// The header that tells it.
fn position() -> Value {
    json!({
        "description": "Of a read: the position that it reflects. Of a write: the position from which on reads reflect it. Left out while the log is empty",
        "schema": { "type": "integer", "minimum": 0 },
    })
}

/// A list of entity tags (RFC 9110, section 8.8.3), or any.
const ENTITY_TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$"#;

/// A query parameter or header by its name.
#[expect(clippy::too_many_lines, reason = "one table")]
fn parameter(name: &str, path: &str) -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
    let many = || json!({ "type": "array", "items": schemas::label() });
    let tags = || json!({ "type": "string", "minLength": 1, "pattern": ENTITY_TAGS });
    let (schema, description) = match name {
        "limit" if path.starts_with("/api/graph/") => (
            json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 }),
            "Most nodes of the answer",
        ),
        "limit" => (
            json!({ "type": "integer", "minimum": 1, "maximum": 500, "default": 50 }),
            "Most items of the page. One of resources, annotations, jobs or events is full as well once its items have 16 MiB",
        ),
        "cursor" => (
            json!({ "type": "string", "minLength": 1, "pattern": "^[0-9a-f]+$" }),
            "`next_cursor` of the page before",
        ),
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
        "after" => (
            json!({ "type": "string", "minLength": 1, "pattern": "^(start|0|[1-9][0-9]{0,18})$" }),
            "Behind this position; `start` for everything",
        ),
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
        "collection" => (schemas::label(), "The collection that it must be in"),
        "q" if path == "/api/search" => (
            json!({ "type": "string", "minLength": 1, "maxLength": 4096, "pattern": r"\S" }),
            "Words; \"words in a row\" must stand there, -word must not",
        ),
        "mode" => (
            json!({ "enum": ["text", "vector", "hybrid"], "default": "hybrid" }),
            "By words, by meaning, or by both",
        ),
        "q" => (text(), "What its name or its text contains"),
        "type" if path == "/api/jobs" => (
            json!({ "type": "string", "pattern": "^[a-z][a-z0-9._-]{0,63}$" }),
            "A type of jobs",
        ),
        "type" => (
            json!({ "type": "array", "items": { "type": "string", "pattern": r"^[a-z_]+\.([a-z_]+|\*)$" } }),
            "Types of events, or all that begin alike, such as `resource.*`",
        ),
        "document_id" => (
            json!({ "type": "string", "format": "uuid" }),
            "Jobs about this document",
        ),
        "kind" => (json!({ "enum": ["request", "job"] }), "What failed"),
        "code" => (text(), "The code that it failed with"),
        "before" => (
            json!({ "type": "string", "format": "date-time" }),
            "What failed before this moment",
        ),
        "trace_id" => (
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:+/=@-]+$", "maxLength": TRACE_ID_BYTES_MAX }),
            "Jobs that the request of this trace queued",
        ),
        "status" => (
            json!({ "enum": ["queued", "processing", "retrying", "completed", "failed", "cancelled"] }),
            "A status of jobs",
        ),
        "Idempotency-Key" => (
            json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
            "The same key with the same request writes once",
        ),
        "If-Match" => (tags(), "Tags of which the resource must have one"),
        "If-None-Match" => (tags(), "Tags that the client holds"),
        "from" | "to" if path == "/api/graph/path" => (schemas::node(), "A node's id"),
        "depth" => (
            json!({ "type": "integer", "minimum": 1, "maximum": 5, "default": 1 }),
            "How many edges away at the most",
        ),
        "max_depth" => (
            json!({ "type": "integer", "minimum": 1, "maximum": 10, "default": 5 }),
            "Most edges of the path",
        ),
        "relation" => (
            json!({ "enum": stemma_views::graph::EdgeType::ALL.map(stemma_views::graph::EdgeType::as_str) }),
            "Only along edges of this type",
        ),
        "size" | "to" => (number(), "A number of events; by default all there are"),
        "position" => (number(), "A position of the log"),
        "from" => (number(), "A number of events"),
        "stream" => (
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-,.-~][!-~]*$" }),
            "A stream, such as `resource-` and a resource's id",
        ),
        "Last-Event-ID" => (text(), "The last position that was seen"),
        _ => (text(), ""),
    };
    let place = if name.starts_with(char::is_uppercase) {
        "header"
    } else {
        "query"
    };
    let required = matches!(
        (name, path),
        ("position" | "from", _) | ("to", "/api/graph/path") | ("q", "/api/search")
    );
    json!({ "name": name, "in": place, "required": required, "schema": schema, "description": description })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_router_is_documented_and_every_documented_one_is_there() {
        let router = include_str!("../router.rs");
        let literals = router.split('"').skip(1).step_by(2);
        let routed: std::collections::BTreeSet<&str> = literals
            .filter(|text| text.starts_with('/') && text.len() > 1 && !text.starts_with("/docs/"))
            .collect();
        let documented = routes::all().map(|route| route.path).collect();
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
