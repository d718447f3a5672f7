//! Which annotations are valid, and what a valid one is completed with.
//!
//! Everything that the W3C model allows is taken, in all its shapes; what it forbids is named,
//! every place at once. Properties that the model does not speak of are kept as they came.
//! Sections in comments are those of the Web Annotation Data Model.

mod fields;
mod resource;
mod selector;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::body::BodyOperation;
use super::weight::text_selectors;
use fields::Findings;

/// Most bodies, and most targets, of one annotation.
const ITEMS_MAX: usize = 1000;
/// Most text selectors of one annotation, those of all its targets together, within sets and within
/// each other: each may take a look through the whole text. What a target says in several ways, by a
/// position and by a quote, counts once.
const TEXT_SELECTORS_MAX: usize = 1000;
/// The JSON-LD context of annotations.
const CONTEXT: &str = "http://www.w3.org/ns/anno.jsonld";

/// A place in a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) to the place.
    pub pointer: String,
    /// A stable code for programs.
    pub code: &'static str,
    /// What is expected there, for people.
    pub detail: String,
}

/// What validation needs to know beside the annotation.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The resource that the annotation is made in.
    pub resource: Uuid,
}

/// Validates an annotation and fills in what a client may leave out: `@context`, `type`, and the
/// `source` of a target that is part of this resource. An `id` moves to `via`.
///
/// # Errors
/// Every place that is wrong.
pub fn validate(annotation: Value, cx: &Context) -> Result<Value, Vec<FieldError>> {
    let mut findings = Findings::default();
    let Value::Object(mut fields) = annotation else {
        findings.wrong("", "expected an object");
        return Err(findings.into_errors());
    };
    fill_in(&mut fields, cx, &mut findings);
    check(&fields, &mut findings);
    let errors = findings.into_errors();
    if errors.is_empty() {
        Ok(Value::Object(fields))
    } else {
        Err(errors)
    }
}

/// Validates what operations put into a body.
///
/// # Errors
/// Every place that is wrong, by its pointer into the request: `/operations/0/item/value`.
pub fn validate_body_operations(operations: &[BodyOperation]) -> Result<(), Vec<FieldError>> {
    let mut findings = Findings::default();
    for (index, operation) in operations.iter().enumerate() {
        let (item, field) = match operation {
            BodyOperation::Add { item } => (item, "item"),
            BodyOperation::Replace { new_item, .. } => (new_item, "new_item"),
            BodyOperation::Remove { .. } => continue,
        };
        resource::check_body(item, &format!("/operations/{index}/{field}"), &mut findings);
    }
    let errors = findings.into_errors();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn fill_in(fields: &mut Map<String, Value>, cx: &Context, findings: &mut Findings) {
    fields.entry("@context").or_insert_with(|| CONTEXT.into());
    fields.entry("type").or_insert_with(|| "Annotation".into());
    if let Some(id) = fields.remove("id") {
        if id.as_str().is_some_and(super::is_iri) {
            move_to_via(fields, id);
        } else {
            findings.wrong("/id", "expected an IRI");
        }
    }
    match fields.get_mut("target") {
        Some(Value::Array(targets)) => {
            targets
                .iter_mut()
                .for_each(|target| fill_in_source(target, cx));
        }
        Some(target) => fill_in_source(target, cx),
        None => {}
    }
}

/// The model keeps under `via` where an annotation came from (3.3.8, other identities).
fn move_to_via(fields: &mut Map<String, Value>, id: Value) {
    let via = match fields.remove("via") {
        None => id,
        Some(Value::Array(mut all)) => {
            if !all.contains(&id) {
                all.push(id);
            }
            Value::Array(all)
        }
        Some(one) if one == id => one,
        Some(one) => json!([one, id]),
    };
    fields.insert("via".to_owned(), via);
}

fn fill_in_source(target: &mut Value, cx: &Context) {
    let Value::Object(fields) = target else {
        return;
    };
    // Items of a set are targets like others.
    if let Some(Value::Array(items)) = fields.get_mut("items") {
        items.iter_mut().for_each(|item| fill_in_source(item, cx));
    }
    let names_something = ["id", "source", "items", "value"]
        .iter()
        .any(|f| fields.contains_key(*f));
    let is_part = fields
        .get("type")
        .is_none_or(|kind| holds(kind, "SpecificResource"));
    if is_part && !names_something {
        let source = format!("/api/resources/{}", cx.resource);
        fields.insert("source".to_owned(), source.into());
        fields
            .entry("type")
            .or_insert_with(|| "SpecificResource".into());
    }
}

/// 3.1 Annotations, 3.2 Bodies and Targets.
fn check(fields: &Map<String, Value>, findings: &mut Findings) {
    if !holds(&fields["@context"], CONTEXT) {
        findings.wrong(
            "/@context",
            &format!("expected {CONTEXT}, alone or in an array"),
        );
    }
    if !holds(&fields["type"], "Annotation") {
        findings.wrong("/type", "expected Annotation, alone or in an array");
    }
    match fields.get("target") {
        None => findings.missing("/target"),
        Some(Value::Array(targets)) if targets.is_empty() => {
            findings.wrong("/target", "expected at least one target");
        }
        Some(target) => {
            each(target, "/target", findings, resource::check_target);
            if text_selectors(target) > TEXT_SELECTORS_MAX {
                let expected =
                    format!("expected at most {TEXT_SELECTORS_MAX} text selectors in all");
                findings.wrong("/target", &expected);
            }
        }
    }
    if let Some(body) = fields.get("body") {
        each(body, "/body", findings, resource::check_body);
        if fields.contains_key("bodyValue") {
            findings.wrong(
                "/bodyValue",
                "an annotation has a body or a bodyValue, not both",
            );
        }
    }
    findings.optional(fields, "", "bodyValue", fields::text);
    findings.optional(fields, "", "motivation", fields::many(fields::motivation));
    check_others(fields, findings);
}

/// 3.3 Other Properties, of which most annotations have none.
fn check_others(fields: &Map<String, Value>, findings: &mut Findings) {
    let is_usual = |name: &String| {
        matches!(
            name.as_str(),
            "@context" | "type" | "motivation" | "body" | "bodyValue" | "target"
        )
    };
    if fields.keys().all(is_usual) {
        return;
    }
    for field in ["created", "modified", "generated"] {
        findings.optional(fields, "", field, fields::date_time);
    }
    resource::check_lifecycle(fields, "", findings);
    findings.optional(fields, "", "canonical", fields::iri);
    findings.optional(fields, "", "via", fields::many(fields::iri));
    findings.optional(fields, "", "stylesheet", resource::stylesheet);
}

fn holds(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(name) => name == wanted,
        Value::Array(names) => names.iter().any(|name| name == wanted),
        _ => false,
    }
}

fn each(
    value: &Value,
    pointer: &str,
    findings: &mut Findings,
    check: fn(&Value, &str, &mut Findings),
) {
    let Value::Array(items) = value else {
        return check(value, pointer, findings);
    };
    if items.len() > ITEMS_MAX {
        findings.wrong(pointer, &format!("expected at most {ITEMS_MAX}"));
        return;
    }
    for (index, item) in items.iter().enumerate() {
        check(item, &format!("{pointer}/{index}"), findings);
    }
}

#[cfg(test)]
mod tests;
