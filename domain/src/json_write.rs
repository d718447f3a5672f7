//! JSON values written down: byte for byte as serde_json does it, strings in whole runs.
//!
//! serde_json looks at a string byte by byte; of a text without quotes that took a tenth of an
//! append. Invariant: what is written is what `serde_json::to_string` would write.

use std::fmt::Write;

use serde_json::Value;

use crate::json_skip::plain_bytes;

/// Writes a value at the end of a text: no white space, keys in the order of their object.
pub fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            // A text takes all that is written.
            let _ = write!(out, "{number}");
        }
        Value::String(text) => write_json_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_string(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

/// Writes a text as a JSON string at the end of another.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    loop {
        // What is not plain is ASCII, so this cuts between characters.
        let (plain, behind) = rest.split_at(plain_bytes(rest.as_bytes()));
        out.push_str(plain);
        let mut special = behind.chars();
        let Some(first) = special.next() else { break };
        rest = special.as_str();
        match first {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control => {
                // As above.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Number};

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i64>().prop_map(Number::from),
            any::<u64>().prop_map(Number::from),
            any::<f64>().prop_filter_map("finite", Number::from_f64),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number.prop_map(Value::Number),
            ".{0,40}".prop_map(Value::String),
            "[\u{0}-\u{80}]{0,40}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((".{0,12}", inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_written_as_serde_json_writes_it(value in any_json()) {
            let mut text = String::new();
            write_json(&value, &mut text);
            prop_assert_eq!(text, serde_json::to_string(&value).unwrap());
        }
    }
}
