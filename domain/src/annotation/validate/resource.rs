//! Bodies and targets: external web resources, textual bodies, specific resources, sets, agents.

use serde_json::{Map, Value};

use super::fields::{self, Findings, many};
use super::selector;
use crate::annotation::is_iri;

/// Most items of a Choice or another set.
const SET_ITEMS_MAX: usize = 1000;
/// How deep sets and sources may stand in each other.
const NESTING_MAX: usize = 16;

/// Whether a value stands as a body or as a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Body,
    Target,
}

pub(super) fn check_body(value: &Value, at: &str, findings: &mut Findings) {
    check_resource(value, at, Place::Body, NESTING_MAX, findings);
}

pub(super) fn check_target(value: &Value, at: &str, findings: &mut Findings) {
    check_resource(value, at, Place::Target, NESTING_MAX, findings);
}

fn check_resource(value: &Value, at: &str, place: Place, nesting: usize, findings: &mut Findings) {
    let fields = match value {
        Value::String(iri) => {
            if !is_iri(iri) {
                findings.wrong(at, "expected an IRI or an object");
            }
            return;
        }
        Value::Object(fields) => fields,
        _ => return findings.wrong(at, "expected an IRI or an object"),
    };
    let Some(nesting) = nesting.checked_sub(1) else {
        return findings.wrong(at, "stands too deep in other resources");
    };
    findings.optional(fields, at, "id", fields::iri);
    check_type(fields, at, findings);
    check_described(fields, at, findings);
    check_lifecycle(fields, at, findings);
    let kind = fields.get("type");
    let has_type = |name: &str| kind.is_some_and(|kind| super::holds(kind, name));
    let sets = ["Choice", "Composite", "List", "Independents"];
    if sets.into_iter().any(has_type) || fields.contains_key("items") {
        check_items(fields, at, place, nesting, findings);
    } else if has_type("SpecificResource") || fields.contains_key("source") {
        check_specific(fields, at, place, nesting, findings);
    } else if has_type("TextualBody") || (place == Place::Body && fields.contains_key("value")) {
        // 3.2.4 Embedded Textual Body.
        if place == Place::Target {
            findings.wrong(&format!("{at}/type"), "a TextualBody is no target");
        }
        findings.required(fields, at, "value", fields::text);
    } else if !fields.contains_key("id") {
        // 3.2.2 External Web Resources.
        findings.missing(&format!("{at}/id"));
    }
}

fn check_type(fields: &Map<String, Value>, at: &str, findings: &mut Findings) {
    findings.optional(fields, at, "type", many(fields::text));
}

/// 3.2.2 and 3.2.3: what describes a web resource.
fn check_described(fields: &Map<String, Value>, at: &str, findings: &mut Findings) {
    // Most are described by nothing, which one look at each name tells.
    let describes = |name: &String| {
        matches!(
            name.as_str(),
            "format"
                | "language"
                | "processingLanguage"
                | "textDirection"
                | "accessibility"
                | "purpose"
                | "created"
                | "modified"
                | "canonical"
                | "via"
        )
    };
    if !fields.keys().any(describes) {
        return;
    }
    findings.optional(fields, at, "format", many(fields::format));
    findings.optional(fields, at, "language", many(fields::language));
    findings.optional(fields, at, "processingLanguage", fields::language);
    findings.optional(fields, at, "textDirection", fields::direction);
    findings.optional(fields, at, "accessibility", many(fields::text));
    findings.optional(fields, at, "purpose", many(fields::motivation));
    for field in ["created", "modified"] {
        findings.optional(fields, at, field, fields::date_time);
    }
    findings.optional(fields, at, "canonical", fields::iri);
    findings.optional(fields, at, "via", many(fields::iri));
}

/// 3.3.1 to 3.3.6: who made it, whom it is for, under what terms.
pub(super) fn check_lifecycle(fields: &Map<String, Value>, at: &str, findings: &mut Findings) {
    let tells = |name: &String| {
        matches!(
            name.as_str(),
            "creator" | "generator" | "audience" | "rights"
        )
    };
    if !fields.keys().any(tells) {
        return;
    }
    for field in ["creator", "generator", "audience"] {
        let Some(value) = fields.get(field) else {
            continue;
        };
        let agents = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for agent in agents {
            check_agent(agent, &format!("{at}/{field}"), findings);
        }
    }
    findings.optional(fields, at, "rights", many(fields::iri));
}

fn check_agent(agent: &Value, at: &str, findings: &mut Findings) {
    if let Err(expected) = fields::iri_or_object(agent) {
        return findings.wrong(at, &expected);
    }
    let Value::Object(fields) = agent else { return };
    findings.optional(fields, at, "type", many(fields::text));
    findings.optional(fields, at, "name", many(fields::text));
    findings.optional(fields, at, "nickname", fields::text);
    findings.optional(fields, at, "email", many(fields::iri));
    findings.optional(fields, at, "email_sha1", many(fields::text));
    findings.optional(fields, at, "homepage", many(fields::iri));
}

/// 3.2.7 Choice, and the sets of the model's appendix.
fn check_items(
    fields: &Map<String, Value>,
    at: &str,
    place: Place,
    nesting: usize,
    findings: &mut Findings,
) {
    let at = format!("{at}/items");
    match fields.get("items") {
        None => findings.missing(&at),
        Some(Value::Array(items)) if (1..=SET_ITEMS_MAX).contains(&items.len()) => {
            for (index, item) in items.iter().enumerate() {
                check_resource(item, &format!("{at}/{index}"), place, nesting, findings);
            }
        }
        Some(_) => findings.wrong(
            &at,
            &format!("expected an array of 1 to {SET_ITEMS_MAX} items"),
        ),
    }
}

/// 4 Specific Resources.
fn check_specific(
    fields: &Map<String, Value>,
    at: &str,
    place: Place,
    nesting: usize,
    findings: &mut Findings,
) {
    match fields.get("source") {
        None => findings.missing(&format!("{at}/source")),
        Some(Value::Array(_)) => findings.wrong(&format!("{at}/source"), "expected one source"),
        Some(source) => check_resource(source, &format!("{at}/source"), place, nesting, findings),
    }
    if let Some(selectors) = fields.get("selector") {
        selector::check_all(selectors, &format!("{at}/selector"), findings);
    }
    if let Some(states) = fields.get("state") {
        selector::check_states(states, &format!("{at}/state"), findings);
    }
    findings.optional(fields, at, "styleClass", many(fields::text));
    findings.optional(fields, at, "renderedVia", many(fields::iri_or_object));
    findings.optional(fields, at, "scope", many(fields::iri_or_object));
}

/// 4.4: a style sheet by IRI, or embedded.
pub(super) fn stylesheet(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => match (fields.get("value"), fields.get("id")) {
            (Some(css), _) => fields::text(css),
            (None, Some(id)) => fields::iri(id),
            (None, None) => Err("expected an IRI, or an object with a value".to_owned()),
        },
        other => fields::iri(other),
    }
}
