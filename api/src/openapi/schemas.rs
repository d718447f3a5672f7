//! Shapes that no wire type of ours describes: what clients send, what W3C and the log define.

use serde_json::{Value, json};

/// What clients send, and what W3C and the log define.
#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn request_schemas() -> Vec<(&'static str, Value)> {
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
