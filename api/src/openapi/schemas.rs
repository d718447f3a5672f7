//! Shapes that no wire type of ours describes: what clients send, what W3C and the log define.

use serde_json::{Value, json};

/// A label: an entity type, a collection. Its limit is 256 bytes, so in some alphabets it is reached
/// by fewer characters.
pub(super) fn label() -> Value {
    let plain = r"[^\s\u0000-\u001f\u007f-\u009f]";
    let inner = r"[^\u0000-\u001f\u007f-\u009f]";
    json!({
        "type": "string", "minLength": 1, "maxLength": 256,
        "pattern": format!("^{plain}({inner}*{plain})?$"),
    })
}

/// A node's id.
pub(super) fn node() -> Value {
    let uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
    let named = "(collection|entity_type|person):.{1,1000}";
    json!({ "type": "string", "pattern": format!("^((annotation:)?{uuid}|{named})$") })
}

/// The same, or null.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it becomes part of the schema"
)]
fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

/// The id that a client chooses for what it makes: any but those that are made of bytes.
fn chosen_id() -> Value {
    let pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-79a-f][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$";
    json!({ "type": "string", "format": "uuid", "pattern": pattern,
        "description": "Not of version 8: those are made of a document's bytes" })
}

fn name() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^[^\s\u0000-\u001f\u007f-\u009f]([^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f])?$" })
}

fn media_type() -> Value {
    let token = "[A-Za-z0-9!#$%&'*+.^_`|~-]+";
    let quoted = r#""[ !#-:<-~]*""#;
    let parameter = format!(r"[ \t]*;[ \t]*{token}=({token}|{quoted})");
    let pattern = format!(r"^{token}/{token}({parameter})*[ \t]*$");
    json!({ "type": "string", "minLength": 3, "maxLength": 256, "pattern": pattern })
}

fn language() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$" })
}

/// An object of these properties and no others.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it becomes part of the schema"
)]
pub(super) fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
}

/// Content comes as text or in base64: one of them.
fn one_content(mut schema: Value) -> Value {
    schema["oneOf"] = json!([{ "required": ["content"] }, { "required": ["content_base64"] }]);
    schema
}

/// Whether content comes in the JSON or beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Inline,
    Beside,
}

fn new_resource(id: &str, content: Content) -> Value {
    // What may be left out may be null as well.
    let mut properties = json!({
        id: or_null(chosen_id()), "language": or_null(language()), "collection": or_null(label()),
        "derived_from": or_null(uuid()), "metadata": { "type": ["object", "null"] },
        "entity_types": { "type": ["array", "null"], "items": label(), "maxItems": 256 },
        "access": access(),
    });
    if content == Content::Inline {
        properties["name"] = name();
        properties["media_type"] = media_type();
        properties["content"] = json!({ "type": "string" });
        properties["content_base64"] = base64();
    } else {
        properties["name"] = or_null(name());
        properties["media_type"] = or_null(media_type());
    }
    properties
}

/// Who may read and write a resource.
fn access() -> Value {
    let principal = json!({ "type": "string", "pattern": "^[A-Za-z0-9._@-]{1,64}$" });
    let of = |visibilities: &[&str], most: u32| {
        let names = json!({ "type": ["array", "null"], "items": principal, "maxItems": most });
        let visibility = json!({ "enum": visibilities });
        object(
            &["visibility"],
            json!({ "visibility": visibility, "readers": names, "writers": names }),
        )
    };
    json!({ "anyOf": [of(&["shared"], 256), of(&["tenant", "private"], 0)] })
}

/// Bytes in base64, padded.
fn base64() -> Value {
    json!({ "type": "string", "contentEncoding": "base64", "pattern": "^([A-Za-z0-9+/]{4})*$" })
}

fn patch() -> Value {
    json!({
        "name": name(), "language": or_null(language()), "collection": or_null(label()),
        "archived": { "type": "boolean" }, "metadata": { "type": ["object", "null"] },
    })
}

/// A list of operations, each of one of these shapes.
fn operations(shapes: &[Value]) -> Value {
    let items = json!({ "anyOf": shapes });
    object(
        &["operations"],
        json!({ "operations": { "type": "array", "minItems": 1, "maxItems": 1000, "items": items } }),
    )
}

fn operation(op: &str, required: &[&str], mut properties: Value) -> Value {
    properties["op"] = json!({ "const": op });
    object(&[&["op"], required].concat(), properties)
}

fn body_operations() -> Vec<Value> {
    let item = || json!({ "type": ["object", "string"] });
    vec![
        operation("add", &["item"], json!({ "item": item() })),
        operation("remove", &["item"], json!({ "item": item() })),
        operation(
            "replace",
            &["old_item", "new_item"],
            json!({ "old_item": item(), "new_item": item() }),
        ),
    ]
}

fn batch_operations() -> Vec<Value> {
    let revision = || json!({ "type": ["integer", "null"], "minimum": 0, "maximum": i64::MAX });
    let about = |op: &str, required: &[&str], mut properties: Value| {
        properties["resource_id"] = uuid();
        properties["expected_revision"] = revision();
        operation(op, &[&["resource_id"], required].concat(), properties)
    };
    let annotation = json!({ "$ref": "#/components/schemas/Annotation" });
    let content = json!({
        "content": { "type": "string" }, "media_type": or_null(media_type()),
        "content_base64": base64(),
    });
    let create = |id: &str| {
        let mut properties = new_resource(id, Content::Inline);
        properties["expected_revision"] = revision();
        one_content(operation(
            "create_resource",
            &["name", "media_type"],
            properties,
        ))
    };
    vec![
        create("id"),
        create("resource_id"),
        one_content(about("revise_content", &[], content)),
        about(
            "patch_resource",
            &["patch"],
            json!({ "patch": object(&[], patch()) }),
        ),
        about(
            "add_annotation",
            &["annotation"],
            json!({ "annotation": annotation }),
        ),
        about(
            "remove_annotation",
            &["annotation_id"],
            json!({ "annotation_id": uuid() }),
        ),
        about(
            "add_entity_type",
            &["entity_type"],
            json!({ "entity_type": label() }),
        ),
        about(
            "remove_entity_type",
            &["entity_type"],
            json!({ "entity_type": label() }),
        ),
    ]
}

/// What is asked of the graph in Cypher, and what it answers.
pub(super) fn query_schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "GraphQuery",
            json!({
                "type": "object", "required": ["query"], "additionalProperties": false,
                "properties": {
                    "query": { "type": "string", "description": "Cypher, reading only" },
                    "parameters": { "type": ["object", "null"], "description": "Values for $names" },
                    "limit": { "type": ["integer", "null"], "minimum": 1, "maximum": 10000, "description": "Most rows" },
                },
            }),
        ),
        (
            "GraphAnswer",
            json!({
                "type": "object", "required": ["columns", "rows", "truncated", "took_ms"],
                "properties": {
                    "columns": { "type": "array", "items": { "type": "string" } },
                    "rows": { "type": "array", "items": { "type": "array", "items": {} } },
                    "truncated": { "type": "boolean", "description": "Whether there are more rows than the limit" },
                    "took_ms": { "type": "integer", "minimum": 0 },
                },
            }),
        ),
    ]
}

/// What clients send, and what W3C and the log define.
pub(super) fn request_schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "NewResource",
            one_content(object(
                &["name", "media_type"],
                new_resource("id", Content::Inline),
            )),
        ),
        ("NewFile", object(&[], new_resource("id", Content::Beside))),
        ("Patch", object(&[], patch())),
        ("Access", access()),
        (
            "Clone",
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { "id": or_null(chosen_id()), "name": or_null(name()), "collection": or_null(label()), "with_annotations": { "type": ["boolean", "null"] } },
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
        ("BodyOperations", operations(&body_operations())),
        ("Batch", operations(&batch_operations())),
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
