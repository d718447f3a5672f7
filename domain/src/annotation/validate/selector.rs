//! Selectors (4.2) and states (4.3), with their refinements.

use serde_json::{Map, Value};

use super::fields::{self, Findings};
use crate::annotation::is_iri;
use crate::annotation::selector::has_type;

/// Most selectors of one target.
const SELECTORS_MAX: usize = 100;
/// How deep selectors may refine each other.
const REFINEMENTS_MAX: usize = 16;

pub(super) fn check_all(value: &Value, at: &str, findings: &mut Findings) {
    check_many(value, at, REFINEMENTS_MAX, findings, check_selector);
}

pub(super) fn check_states(value: &Value, at: &str, findings: &mut Findings) {
    check_many(value, at, REFINEMENTS_MAX, findings, check_state);
}

type CheckOne = fn(&Map<String, Value>, &Value, &str, usize, &mut Findings);

/// Checks one or many selectors or states; an IRI names one that stands elsewhere.
fn check_many(value: &Value, at: &str, deeper: usize, findings: &mut Findings, check: CheckOne) {
    let one = |value: &Value, at: &str, findings: &mut Findings| match value {
        Value::Object(fields) => check(fields, value, at, deeper, findings),
        Value::String(iri) if is_iri(iri) => {}
        _ => findings.wrong(at, "expected an object or an IRI"),
    };
    match value {
        Value::Array(items) if items.is_empty() || items.len() > SELECTORS_MAX => {
            findings.wrong(at, &format!("expected 1 to {SELECTORS_MAX}"));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                one(item, &format!("{at}/{index}"), findings);
            }
        }
        value => one(value, at, findings),
    }
}

fn check_selector(
    fields: &Map<String, Value>,
    selector: &Value,
    at: &str,
    deeper: usize,
    findings: &mut Findings,
) {
    let is = |name: &str| has_type(selector, name);
    if is("TextQuoteSelector") {
        findings.required(fields, at, "exact", fields::text);
        findings.optional(fields, at, "prefix", fields::text);
        findings.optional(fields, at, "suffix", fields::text);
    } else if is("TextPositionSelector") || is("DataPositionSelector") {
        check_span(fields, at, findings);
    } else if is("FragmentSelector") {
        findings.required(fields, at, "value", fields::text);
        findings.optional(fields, at, "conformsTo", fields::iri);
    } else if is("CssSelector") || is("XPathSelector") {
        findings.required(fields, at, "value", fields::text);
    } else if is("SvgSelector") {
        if fields.contains_key("id") {
            findings.optional(fields, at, "id", fields::iri);
        } else {
            findings.required(fields, at, "value", fields::text);
        }
    } else if is("RangeSelector") {
        for end in ["startSelector", "endSelector"] {
            findings.required(fields, at, end, fields::object);
            if let (Some(nested @ Value::Object(own)), Some(deeper)) =
                (fields.get(end), deeper.checked_sub(1))
            {
                check_selector(own, nested, &format!("{at}/{end}"), deeper, findings);
            }
        }
    } else {
        check_other_type(fields, at, "selector", findings);
    }
    check_refined(fields, at, deeper, findings, check_selector);
}

fn check_span(fields: &Map<String, Value>, at: &str, findings: &mut Findings) {
    findings.required(fields, at, "start", fields::natural_number);
    findings.required(fields, at, "end", fields::natural_number);
    let place = |name: &str| fields.get(name).and_then(Value::as_u64);
    if let (Some(start), Some(end)) = (place("start"), place("end"))
        && start > end
    {
        findings.wrong(
            &format!("{at}/end"),
            "expected an end at or after the start",
        );
    }
}

/// Types beyond the model's are extensions, which are named by IRI or prefix.
fn check_other_type(fields: &Map<String, Value>, at: &str, what: &str, findings: &mut Findings) {
    let is_extension = |name: &Value| name.as_str().is_some_and(is_iri);
    let known = match fields.get("type") {
        None => return findings.missing(&format!("{at}/type")),
        Some(Value::Array(names)) => names.iter().any(is_extension),
        Some(name) => is_extension(name),
    };
    if !known {
        findings.wrong(
            &format!("{at}/type"),
            &format!("not a {what} of the model, nor an IRI"),
        );
    }
}

fn check_state(
    fields: &Map<String, Value>,
    state: &Value,
    at: &str,
    deeper: usize,
    findings: &mut Findings,
) {
    if has_type(state, "TimeState") {
        findings.optional(fields, at, "sourceDate", fields::many(fields::date_time));
        findings.optional(fields, at, "sourceDateStart", fields::date_time);
        findings.optional(fields, at, "sourceDateEnd", fields::date_time);
        findings.optional(fields, at, "cached", fields::many(fields::iri));
        let has = |name: &str| fields.contains_key(name);
        if has("sourceDateStart") != has("sourceDateEnd") {
            findings.wrong(at, "sourceDateStart and sourceDateEnd come together");
        } else if has("sourceDate") && has("sourceDateStart") {
            findings.wrong(at, "sourceDate stands alone or the two others do");
        }
    } else if has_type(state, "HttpRequestState") {
        findings.required(fields, at, "value", fields::text);
    } else {
        check_other_type(fields, at, "state", findings);
    }
    check_refined(fields, at, deeper, findings, check_any);
}

/// What refines a state may be a state or a selector.
fn check_any(
    fields: &Map<String, Value>,
    value: &Value,
    at: &str,
    deeper: usize,
    findings: &mut Findings,
) {
    let is_state = has_type(value, "TimeState") || has_type(value, "HttpRequestState");
    let check = if is_state {
        check_state
    } else {
        check_selector
    };
    check(fields, value, at, deeper, findings);
}

fn check_refined(
    fields: &Map<String, Value>,
    at: &str,
    deeper: usize,
    findings: &mut Findings,
    check: CheckOne,
) {
    let Some(refinement) = fields.get("refinedBy") else {
        return;
    };
    let at = format!("{at}/refinedBy");
    match deeper.checked_sub(1) {
        Some(deeper) => check_many(refinement, &at, deeper, findings, check),
        None => findings.wrong(&at, "too many refinements"),
    }
}
