//! The body of a stage that is handed in, around its output.
//!
//! Invariant: the output is not made into values before it is known whose it is, and what stands
//! beside it takes no memory to speak of.

use std::time::Duration;

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stemma_domain::document::{Input, MadeFrom, Stage, read_tag};

use crate::error::{ApiError, Code, FieldProblem};
use crate::json::{self, Fields, boolean, checked, natural};

/// Most bytes of a number beside the output.
const NUMBER_BYTES_MAX: usize = 32;
/// Most bytes of the tags beside it.
const TAGS_BYTES_MAX: usize = 1024;
/// How deep those are nested, with some room to say what is wrong with them.
const TAGS_DEPTH_MAX: usize = 4;
/// Most bytes of what is told of a mistake; the rest is the sender's own text.
const PROBLEM_BYTES_MAX: usize = 256;

/// What is handed in.
#[derive(Debug)]
pub(super) struct HandedIn<'a> {
    pub(super) token: u64,
    pub(super) took: Duration,
    /// What it was made from, as far as that is said.
    pub(super) made_from: MadeFrom,
    /// The output, as it was sent.
    pub(super) output: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow, default)]
    fencing_token: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    took_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    made_from: Option<&'a RawValue>,
}

impl<'a> HandedIn<'a> {
    /// Reads a body that is handed in for a stage.
    ///
    /// # Errors
    /// 400 for what is not JSON, 422 for fields that are missing, wrong or none.
    pub(super) fn of(body: &'a [u8], stage: Stage) -> Result<Self, ApiError> {
        // The derived reader takes a list for a struct.
        if body.trim_ascii_start().first() == Some(&b'[') {
            let field = FieldProblem::at("", "WRONG_TYPE", "expected an object");
            return Err(ApiError::fields(Code::InvalidFields, vec![field]));
        }
        let wire: Wire<'a> = serde_json::from_slice(body).map_err(|error| refusal(&error))?;
        let mut beside = Map::new();
        for (name, raw) in [
            ("fencing_token", wire.fencing_token),
            ("took_ms", wire.took_ms),
        ] {
            beside.extend(raw.map(|raw| (name.to_owned(), number(raw))));
        }
        let output = wire
            .output
            .map(|_| ("output".to_owned(), Value::Bool(true)));
        beside.extend(output);
        if let Some(raw) = wire.made_from {
            beside.extend(tags(raw)?);
        }
        let mut fields = Fields::of(Value::Object(beside), "")?;
        let token = fields.required("fencing_token", natural);
        fields.required("output", boolean);
        let took_ms = fields.optional("took_ms", natural);
        let made_from = made_from(&mut fields, stage);
        fields.finish()?;
        let (Some(token), Some(output)) = (token, wire.output) else {
            return Err(ApiError::of(Code::Internal));
        };
        Ok(Self {
            token,
            took: Duration::from_millis(took_ms.unwrap_or(0)),
            made_from,
            output,
        })
    }
}

/// A short value as it is; a long one as what is no number.
fn number(raw: &RawValue) -> Value {
    let text = raw.get();
    let value = (text.len() <= NUMBER_BYTES_MAX).then(|| serde_json::from_str(text));
    value.and_then(Result::ok).unwrap_or(Value::Bool(false))
}

/// What the output was made from, as it stands in the body: read as strictly as bodies are.
fn tags(raw: &RawValue) -> Result<Map<String, Value>, ApiError> {
    let text = raw.get();
    if text.len() > TAGS_BYTES_MAX {
        let detail = format!("expected tags of at most {TAGS_BYTES_MAX} bytes");
        let field = FieldProblem::at("/made_from", "INVALID_VALUE", detail);
        return Err(ApiError::fields(Code::InvalidFields, vec![field]));
    }
    // In its place, for the pointer of what is wrong.
    let whole = format!("{{\"made_from\":{text}}}");
    match json::parse(whole.as_bytes(), TAGS_DEPTH_MAX)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn made_from(fields: &mut Fields, stage: Stage) -> MadeFrom {
    let mut made_from = MadeFrom::default();
    if let Some(mut named) = fields.nested("made_from") {
        for input in Input::ALL.into_iter().filter(|i| i.is_read_by(stage)) {
            made_from.note(input, named.optional(input.name(), checked(read_tag)));
        }
        fields.take_problems(named);
    }
    made_from
}

fn refusal(error: &serde_json::Error) -> ApiError {
    if error.classify() != Category::Data {
        let detail = format!("not JSON: line {}, column {}", error.line(), error.column());
        return ApiError::new(Code::MalformedJson, detail);
    }
    let mut told = error.to_string();
    told.truncate(told.floor_char_boundary(PROBLEM_BYTES_MAX));
    if told.starts_with("duplicate field") {
        return ApiError::new(Code::RepeatedKey, told);
    }
    let code = if told.starts_with("unknown field") {
        "UNKNOWN_FIELD"
    } else {
        "WRONG_TYPE"
    };
    ApiError::fields(Code::InvalidFields, vec![FieldProblem::at("", code, told)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_beside_an_output_is_read_strictly_and_the_output_left_as_it_is() {
        let body = br#" {"output": {"a": [1, 2] }, "fencing_token": 7, "took_ms": 3}"#;
        let read = HandedIn::of(body, Stage::Embed).unwrap();
        assert_eq!((read.token, read.output.get()), (7, r#"{"a": [1, 2] }"#));
        assert_eq!(read.took, Duration::from_millis(3));
        let long = format!(
            r#"{{"fencing_token": [{}1], "output": {{}}}}"#,
            "1,".repeat(99)
        );
        for (body, code) in [
            ("", Code::MalformedJson),
            (r#"{"output": {}, "fencing_token": 7"#, Code::MalformedJson),
            (
                r#"{"output": {}, "fencing_token": 7} 1"#,
                Code::MalformedJson,
            ),
            (
                r#"{"output": {}, "fencing_token": 7, "fencing_token": 8}"#,
                Code::RepeatedKey,
            ),
            (
                r#"{"output": {}, "fencing_token": 7, "more": 8}"#,
                Code::InvalidFields,
            ),
            (
                r#"{"output": null, "fencing_token": 7}"#,
                Code::InvalidFields,
            ),
            (
                r#"{"output": {}, "fencing_token": -7}"#,
                Code::InvalidFields,
            ),
            (r#"{"output": {}}"#, Code::InvalidFields),
            ("7", Code::InvalidFields),
            ("[7, {}, 3]", Code::InvalidFields),
            (&long, Code::InvalidFields),
        ] {
            assert_eq!(
                HandedIn::of(body.as_bytes(), Stage::Embed)
                    .unwrap_err()
                    .code(),
                code,
                "{body}"
            );
        }
    }

    fn naming(made_from: &str, stage: Stage) -> Result<MadeFrom, ApiError> {
        let body = format!(r#"{{"made_from": {made_from}, "output": {{}}, "fencing_token": 7}}"#);
        HandedIn::of(body.as_bytes(), stage).map(|read| read.made_from)
    }

    #[test]
    fn what_an_output_was_made_from_is_named_by_tags_of_what_its_stage_reads() {
        let tag = format!("blake3:{}", "ab".repeat(32));
        let digest = tag.parse().unwrap();
        let as_in_a_header = json!({ "text": null, "chunks": format!("\"{tag}\"") }).to_string();
        let named = naming(&as_in_a_header, Stage::Embed).unwrap();
        let named: Vec<_> = named.named().collect();
        assert_eq!(named, [(Input::Chunks, digest)]);
        for nothing in ["null", "{}"] {
            for stage in Stage::ALL {
                assert_eq!(naming(nothing, stage).unwrap(), MadeFrom::default());
            }
        }
        let own = json!({ "chunks": tag }).to_string();
        let long = json!({ "chunks": "a".repeat(TAGS_BYTES_MAX) }).to_string();
        let twice = format!(r#"{{"text": "{tag}", "text": "{tag}"}}"#);
        for (made_from, stage, code, pointer) in [
            // What is cut or made searchable is not made of chunks.
            (&*own, Stage::Chunk, "UNKNOWN_FIELD", "/made_from/chunks"),
            (&*own, Stage::Index, "UNKNOWN_FIELD", "/made_from/chunks"),
            (
                r#"{"vectors": ""}"#,
                Stage::Embed,
                "UNKNOWN_FIELD",
                "/made_from/vectors",
            ),
            (
                r#"{"text": "r3"}"#,
                Stage::Embed,
                "INVALID_VALUE",
                "/made_from/text",
            ),
            (
                r#"{"text": ["r3"]}"#,
                Stage::Embed,
                "INVALID_VALUE",
                "/made_from/text",
            ),
            (&*long, Stage::Embed, "INVALID_VALUE", "/made_from"),
            ("[]", Stage::Embed, "WRONG_TYPE", "/made_from"),
            (&*twice, Stage::Embed, "REPEATED_KEY", "/made_from/text"),
        ] {
            let refused = naming(made_from, stage).unwrap_err();
            let place = &refused.places()[0];
            assert_eq!(
                (&*place.code, place.pointer.as_deref()),
                (code, Some(pointer)),
                "{made_from}"
            );
        }
    }
}
