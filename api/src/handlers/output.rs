//! The body of a stage that is handed in, around its output.
//!
//! Invariant: the output is not made into values before it is known whose it is, and what stands
//! beside it takes no memory to speak of.

use std::time::Duration;

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{ApiError, Code, FieldProblem};
use crate::json::{Fields, boolean, natural};

/// Most bytes of a number beside the output.
const NUMBER_BYTES_MAX: usize = 32;
/// Most bytes of what is told of a mistake; the rest is the sender's own text.
const PROBLEM_BYTES_MAX: usize = 256;

/// What is handed in.
#[derive(Debug)]
pub(super) struct HandedIn<'a> {
    pub(super) token: u64,
    pub(super) took: Duration,
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
}

impl<'a> HandedIn<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 for what is not JSON, 422 for fields that are missing, wrong or none.
    pub(super) fn of(body: &'a [u8]) -> Result<Self, ApiError> {
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
        let mut fields = Fields::of(Value::Object(beside), "")?;
        let token = fields.required("fencing_token", natural);
        fields.required("output", boolean);
        let took_ms = fields.optional("took_ms", natural);
        fields.finish()?;
        let (Some(token), Some(output)) = (token, wire.output) else {
            return Err(ApiError::of(Code::Internal));
        };
        Ok(Self {
            token,
            took: Duration::from_millis(took_ms.unwrap_or(0)),
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
    use super::*;

    #[test]
    fn what_stands_beside_an_output_is_read_strictly_and_the_output_left_as_it_is() {
        let body = br#" {"output": {"a": [1, 2] }, "fencing_token": 7, "took_ms": 3}"#;
        let read = HandedIn::of(body).unwrap();
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
                HandedIn::of(body.as_bytes()).unwrap_err().code(),
                code,
                "{body}"
            );
        }
    }
}
