//! The table of routes: what each takes, gives and answers when it fails.

/// One route of the document.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// Query parameters and headers, by name; see [`parameter`].
    pub(super) parameters: &'static [&'static str],
    pub(super) body: Body,
    pub(super) answers: &'static [(u16, Answer)],
    pub(super) problems: &'static [u16],
}

/// What a route takes.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    Json(&'static str, &'static str),
    Content,
    Upload,
}

/// What a route gives.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    Schema(&'static str),
    Page(&'static str),
    Stream,
    Bytes,
    Text(&'static str),
    Any,
    Empty,
}

const PROOFS: &str = "Proofs";
const WRITE: &[&str] = &["Idempotency-Key", "If-Match"];
/// Of every read.
pub(super) const READ: &[&str] = &["min_position", "timeout_ms"];
const PAGED: &[&str] = &["limit", "cursor", "min_position", "timeout_ms"];

pub(super) const fn route(
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

pub(super) const fn with(
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

const ACCESS: &str = r#"{"visibility":"shared","readers":["ada"],"writers":["bob"]}"#;
const NEW_RESOURCE: &str = r#"{"name":"A note","media_type":"text/plain","content":"Jupiter has four large moons.","entity_types":["Note"],"metadata":{"year":1610}}"#;
const PATCH: &str = r#"{"name":"Moons of Jupiter","metadata":{"checked":true,"year":null}}"#;
const ANNOTATION: &str = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"Seen in 1610"},"target":{"selector":{"type":"TextQuoteSelector","exact":"four large moons"}}}"#;
const BODY_OPERATIONS: &str = r#"{"operations":[{"op":"add","item":{"type":"TextualBody","value":"More","purpose":"commenting"}}]}"#;
const BATCH: &str = r#"{"operations":[{"op":"create_resource","id":"019a0000-0000-7000-8000-0000000000ab","name":"n","media_type":"text/plain","content":"c"},{"op":"add_entity_type","resource_id":"019a0000-0000-7000-8000-0000000000ab","entity_type":"Note","expected_revision":0}]}"#;
const GRAPH_QUERY: &str = r#"{"query":"MATCH (r:Resource)-[:HAS_TYPE]->(:EntityType {name: $type}) RETURN r.name ORDER BY r.name","parameters":{"type":"Note"},"limit":100}"#;
const ENTITY_TYPE: &str =
    r#"{"name":"Observatory","description":"A place from which the sky is watched"}"#;

const RESOURCE: &[(u16, Answer)] = &[(200, Answer::Schema("ResourceBody"))];
const CREATED: &[(u16, Answer)] = &[(201, Answer::Schema("ResourceBody"))];

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
            "If-Match",
            "If-None-Match",
        ],
        Body::None,
        &[(200, Answer::Schema("ResourceBody")), (304, Answer::Empty)],
        &[400, 404, 406, 412, 422, 503],
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
            "If-Match",
            "If-None-Match",
        ],
        Body::None,
        &[
            (200, Answer::Bytes),
            (206, Answer::Bytes),
            (304, Answer::Empty),
        ],
        &[400, 404, 412, 416, 422, 500, 503],
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
            "/api/resources/{id}/access",
            "Resources",
            "Say who may read and write a resource; for its owner and admins",
        ),
        WRITE,
        Body::Json("Access", ACCESS),
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
        &[400, 404, 409, 412, 415, 422, 503],
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
        &[400, 404, 409, 412, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/resources/{id}/clone",
            "Resources",
            "Make a resource from another; no bytes are copied",
        ),
        WRITE,
        Body::Json("Clone", r#"{"name":"A copy","with_annotations":true}"#),
        CREATED,
        &[400, 404, 409, 412, 413, 415, 422, 503],
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
            "/api/graph/nodes/{node}/neighbors",
            "Graph",
            "What lies around a node, along edges in both directions",
        ),
        &[
            "depth",
            "relation",
            "archived",
            "limit",
            "as_of_position",
            "as_of",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Schema("NeighborsBody"))],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/graph/path",
            "Graph",
            "The shortest path between two nodes; among equals the one whose ids sort first",
        ),
        &[
            "from",
            "to",
            "max_depth",
            "as_of_position",
            "as_of",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Schema("PathBody"))],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/graph/query",
            "Graph",
            "Ask in Cypher, reading only",
        ),
        &["as_of_position", "as_of", "min_position", "timeout_ms"],
        Body::Json("GraphQuery", GRAPH_QUERY),
        &[(200, Answer::Schema("GraphAnswer"))],
        &[400, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/graph/stats",
            "Graph",
            "How many nodes and edges there are, and how far the graph is",
        ),
        &["as_of_position", "as_of", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Schema("GraphStatsBody"))],
        &[400, 422, 503],
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
        &[400, 404, 409, 412, 415, 422, 503],
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
        READ,
        Body::None,
        &[(200, Answer::Schema("Event"))],
        &[400, 404, 422, 500, 503],
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
        route(
            "get",
            "/api/log/checkpoint",
            PROOFS,
            "The log's size and root, signed (C2SP)",
        ),
        &["size", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Text("text/plain"))],
        &[400, 422, 500, 503],
    ),
    with(
        route(
            "get",
            "/api/log/key",
            PROOFS,
            "The key that checks checkpoints",
        ),
        &[],
        Body::None,
        &[(200, Answer::Text("text/plain"))],
        &[400, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/log/proof/inclusion",
            PROOFS,
            "That an event is in the log",
        ),
        &["position", "size", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Schema("InclusionBody"))],
        &[400, 422, 500, 503],
    ),
    with(
        route(
            "get",
            "/api/log/proof/consistency",
            PROOFS,
            "That the log only grew",
        ),
        &["from", "to", "min_position", "timeout_ms"],
        Body::None,
        &[(200, Answer::Schema("ConsistencyBody"))],
        &[400, 422, 500, 503],
    ),
    with(
        route(
            "get",
            "/api/log/tile/{level}/{tile:.*}",
            PROOFS,
            "Hashes of the tree (C2SP tiles)",
        ),
        READ,
        Body::None,
        &[(200, Answer::Bytes)],
        &[400, 404, 422, 500, 503],
    ),
];

/// Every route.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    let documents = super::document::ROUTES;
    ROUTES
        .iter()
        .chain(documents)
        .chain(super::operation::ROUTES)
        .chain(super::access::ROUTES)
}
