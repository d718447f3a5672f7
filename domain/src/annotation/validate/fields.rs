//! Checks of single values, and where what they find is gathered.

use serde_json::{Map, Value};

use super::FieldError;
use crate::annotation::is_iri;
use crate::value::{LanguageTag, MediaType};

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<FieldError>);

impl Findings {
    pub(super) fn wrong(&mut self, pointer: &str, detail: &str) {
        let code = "INVALID_ANNOTATION";
        self.0.push(FieldError {
            pointer: pointer.to_owned(),
            code,
            detail: detail.to_owned(),
        });
    }

    pub(super) fn missing(&mut self, pointer: &str) {
        let code = "MISSING_FIELD";
        let detail = "the model demands this property".to_owned();
        self.0.push(FieldError {
            pointer: pointer.to_owned(),
            code,
            detail,
        });
    }

    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    /// Checks a property where it is there.
    pub(super) fn optional<F>(
        &mut self,
        fields: &Map<String, Value>,
        at: &str,
        name: &str,
        check: F,
    ) where
        F: Fn(&Value) -> Result<(), String>,
    {
        if let Some(value) = fields.get(name)
            && let Err(expected) = check(value)
        {
            self.wrong(&format!("{at}/{name}"), &expected);
        }
    }

    /// Checks a property that must be there.
    pub(super) fn required<F>(
        &mut self,
        fields: &Map<String, Value>,
        at: &str,
        name: &str,
        check: F,
    ) where
        F: Fn(&Value) -> Result<(), String>,
    {
        if fields.contains_key(name) {
            self.optional(fields, at, name, check);
        } else {
            self.missing(&format!("{at}/{name}"));
        }
    }
}

fn expect(holds: bool, expected: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("expected {expected}"))
    }
}

/// One value or an array of such values.
pub(super) fn many(
    check: impl Fn(&Value) -> Result<(), String>,
) -> impl Fn(&Value) -> Result<(), String> {
    move |value| match value {
        Value::Array(values) => values.iter().try_for_each(&check),
        one => check(one),
    }
}

pub(super) fn text(value: &Value) -> Result<(), String> {
    expect(value.is_string(), "one text")
}

pub(super) fn iri(value: &Value) -> Result<(), String> {
    expect(value.as_str().is_some_and(is_iri), "an IRI")
}

/// An IRI, or an object that describes what it names.
pub(super) fn iri_or_object(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => fields.get("id").map_or(Ok(()), iri),
        other => iri(other).map_err(|_| "expected an IRI or an object".to_owned()),
    }
}

/// The UTC time zone must be written as `Z` (3.3.1).
pub(super) fn date_time(value: &Value) -> Result<(), String> {
    let is_utc = |text: &str| {
        text.ends_with('Z') && text.contains('T') && text.parse::<jiff::Timestamp>().is_ok()
    };
    expect(
        value.as_str().is_some_and(is_utc),
        "a date and time in UTC such as 2026-01-31T12:00:00Z",
    )
}

pub(super) fn format(value: &Value) -> Result<(), String> {
    let is_media_type = |text: &str| MediaType::new(text).is_ok();
    expect(
        value.as_str().is_some_and(is_media_type),
        "a media type such as text/plain",
    )
}

pub(super) fn language(value: &Value) -> Result<(), String> {
    let is_tag = |text: &str| LanguageTag::new(text).is_ok();
    expect(
        value.as_str().is_some_and(is_tag),
        "a BCP 47 language tag such as en",
    )
}

pub(super) fn direction(value: &Value) -> Result<(), String> {
    let known = ["ltr", "rtl", "auto"];
    expect(
        value.as_str().is_some_and(|text| known.contains(&text)),
        "ltr, rtl or auto",
    )
}

/// 3.3.5: one of thirteen, or an extension by IRI or prefixed name.
pub(super) fn motivation(value: &Value) -> Result<(), String> {
    const KNOWN: [&str; 13] = [
        "assessing",
        "bookmarking",
        "classifying",
        "commenting",
        "describing",
        "editing",
        "highlighting",
        "identifying",
        "linking",
        "moderating",
        "questioning",
        "replying",
        "tagging",
    ];
    let is_motivation = |text: &str| KNOWN.contains(&text) || is_iri(text);
    expect(
        value.as_str().is_some_and(is_motivation),
        "one of the thirteen motivations of the model, or an IRI",
    )
}

pub(super) fn natural_number(value: &Value) -> Result<(), String> {
    expect(value.is_u64(), "a whole number, 0 or above")
}

pub(super) fn object(value: &Value) -> Result<(), String> {
    expect(value.is_object(), "an object")
}
