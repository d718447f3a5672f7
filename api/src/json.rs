//! JSON bodies, read strictly.
//!
//! Invariant: what is parsed is what was sent. A key given twice, an integer that does not fit 64
//! bits, a field that nobody takes and a nesting beyond the limit are refused, never passed over.

use std::cell::Cell;
use std::fmt;

use memchr::memchr2;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use crate::error::{ApiError, Code, FieldProblem};

/// What the parser's own errors begin with when they are ours.
const REPEATED: &str = "repeated key at ";
const TOO_DEEP: &str = "nested too deeply at ";

/// Longest pointer that a refusal tells.
const POINTER_BYTES_MAX: usize = 4096;

/// Parses a body.
///
/// # Errors
/// 400 for what is not JSON; 422 for what Stemma does not take.
pub(crate) fn parse(body: &[u8], depth_max: usize) -> Result<Value, ApiError> {
    let has_float = Cell::new(false);
    let strict = Strict {
        place: Place::Root,
        depth_left: depth_max,
        has_float: &has_float,
    };
    // What is known to be text need not be looked at again, string by string.
    let parsed = match std::str::from_utf8(body) {
        Ok(text) => read(serde_json::Deserializer::from_str(text), strict),
        Err(_) => read(serde_json::Deserializer::from_slice(body), strict),
    };
    // The parser makes a double of an integer that is too wide.
    if (parsed.is_err() || has_float.get())
        && let Some(at) = wide_integer(body)
    {
        let detail = format!("the integer at byte {at} does not fit 64 bits");
        return Err(refused_at(&body[..at], depth_max, detail));
    }
    parsed.map_err(|error| refusal(&error, body, depth_max))
}

fn read<'de, R: serde_json::de::Read<'de>>(
    mut parser: serde_json::Deserializer<R>,
    strict: Strict<'_>,
) -> serde_json::Result<Value> {
    let value = strict.deserialize(&mut parser)?;
    parser.end().map(|()| value)
}

/// A refusal of the integer that begins, or stands, behind this much of the body.
fn refused_at(before: &[u8], depth_max: usize, detail: impl Into<String>) -> ApiError {
    // It may stand behind what the parser took, where nobody has seen how deep.
    let Some(pointer) = pointer_behind(before, depth_max) else {
        return ApiError::of(Code::TooDeep);
    };
    let (code, detail) = (Code::IntegerOutOfRange, detail.into());
    let field = FieldProblem::at(pointer, code.name(), detail.clone());
    ApiError::new(code, detail).at(field)
}

fn refusal(error: &serde_json::Error, body: &[u8], depth_max: usize) -> ApiError {
    let told = error.to_string();
    let place = |text: &str| {
        text.split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    if let Some(pointer) = told.strip_prefix(REPEATED).map(place) {
        let detail = "an object has this key twice";
        let field = FieldProblem::at(pointer, Code::RepeatedKey.name(), detail);
        return ApiError::new(Code::RepeatedKey, detail).at(field);
    }
    if let Some(pointer) = told.strip_prefix(TOO_DEEP).map(place) {
        let detail = Code::TooDeep.explanation();
        let field = FieldProblem::at(pointer, Code::TooDeep.name(), detail);
        return ApiError::new(Code::TooDeep, detail).at(field);
    }
    if told.starts_with("number out of range") {
        let mut lines = body.split_inclusive(|byte| *byte == b'\n');
        let lines_before = lines.by_ref().take(error.line().saturating_sub(1));
        let start: usize = lines_before.map(<[u8]>::len).sum();
        // The last byte that was read is the number's own, or the first behind it.
        let before = (start + error.column().saturating_sub(1)).min(body.len());
        let detail = Code::IntegerOutOfRange.explanation();
        return refused_at(&body[..before], depth_max, detail);
    }
    let detail = format!("not JSON: line {}, column {}", error.line(), error.column());
    ApiError::new(Code::MalformedJson, detail)
}

/// Where an integer stands that no 64-bit type holds.
fn wide_integer(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < body.len() {
        match body[at] {
            b'"' => at = end_of_string(body, at + 1),
            b'-' | b'0'..=b'9' => {
                let rest = &body[at..];
                let number = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let end = rest.iter().position(|b| !number(b)).unwrap_or(rest.len());
                let token = std::str::from_utf8(&rest[..end]).unwrap_or_default();
                let is_integer = !token.contains(['.', 'e', 'E']);
                if is_integer && token.parse::<i64>().is_err() && token.parse::<u64>().is_err() {
                    let digits = token.trim_start_matches('-');
                    if digits.len() > 18 {
                        return Some(at);
                    }
                }
                at += end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the quote stands that ends the string which begins here; the end where there is none.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if body[at] == b'"' {
            return at;
        }
        // Whatever follows is escaped.
        at += 2;
    }
    body.len()
}

/// The JSON pointer of the value that is under way behind this much of a body; none when it stands
/// deeper than is taken. A pointer that would be longer than anyone reads names the whole.
fn pointer_behind(before: &[u8], depth_max: usize) -> Option<String> {
    // What each open array or object is at: the index, or the key.
    let mut open: Vec<Result<usize, String>> = Vec::new();
    let mut text = Vec::new();
    let mut in_string = false;
    let mut bytes = before.iter().copied();
    while let Some(byte) = bytes.next() {
        if open.len() > depth_max {
            return None;
        }
        match byte {
            b'\\' if in_string => text.extend([byte, bytes.next().unwrap_or(b' ')]),
            b'"' => {
                in_string = !in_string;
                if in_string {
                    text.clear();
                }
            }
            _ if in_string => text.push(byte),
            b'[' => open.push(Ok(0)),
            b'{' => open.push(Err(String::new())),
            b']' | b'}' => _ = open.pop(),
            b',' => {
                if let Some(Ok(index)) = open.last_mut() {
                    *index += 1;
                }
            }
            b':' => {
                let key = serde_json::from_slice([b"\"", &text[..], b"\""].concat().as_slice());
                if let Some(Err(last)) = open.last_mut() {
                    *last = key.unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    let token = |at: &Result<usize, String>| match at {
        Ok(index) => format!("/{index}"),
        Err(key) => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
    };
    let pointer: String = open.iter().map(token).collect();
    Some(if pointer.len() <= POINTER_BYTES_MAX {
        pointer
    } else {
        String::new()
    })
}

/// A value in the course of being parsed.
struct Strict<'a> {
    place: Place<'a>,
    depth_left: usize,
    /// Whether a number was read as a double.
    has_float: &'a Cell<bool>,
}

/// Where a value stands: told only when it is refused.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Item(&'a Place<'a>, usize),
    Field(&'a Place<'a>, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Item(parent, index) => write!(f, "{parent}/{index}"),
            Self::Field(parent, key) => {
                let key = key.replace('~', "~0").replace('/', "~1");
                write!(f, "{parent}/{key}")
            }
        }
    }
}

impl Strict<'_> {
    fn below<'b, E: Error>(&'b self, place: Place<'b>) -> Result<Strict<'b>, E> {
        let depth_left = self.depth_left.checked_sub(1);
        let depth_left = depth_left.ok_or_else(|| E::custom(format!("{TOO_DEEP}{place}")))?;
        Ok(Strict {
            place,
            depth_left,
            has_float: self.has_float,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.has_float.set(true);
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let item = self.below(Place::Item(&self.place, items.len()))?;
            match sequence.next_element_seed(item)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let field = self.below(Place::Field(&self.place, &key))?;
            let value = entries.next_value_seed(field)?;
            match object.entry(key) {
                Entry::Vacant(vacant) => vacant.insert(value),
                Entry::Occupied(first) => {
                    let place = Place::Field(&self.place, first.key());
                    return Err(A::Error::custom(format!("{REPEATED}{place}")));
                }
            };
        }
        Ok(Value::Object(object))
    }
}

/// The fields of an object, each to be taken by name.
#[derive(Debug)]
pub(crate) struct Fields {
    left: Map<String, Value>,
    base: String,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// The fields of the object at `base`.
    pub(crate) fn of(value: Value, base: &str) -> Result<Self, ApiError> {
        if let Value::Object(fields) = value {
            Ok(Self {
                left: fields,
                base: base.to_owned(),
                problems: Vec::new(),
            })
        } else {
            let field = FieldProblem::at(base, "WRONG_TYPE", "expected an object");
            Err(ApiError::fields(Code::InvalidFields, vec![field]))
        }
    }

    /// A field as it is; null is a value here.
    pub(crate) fn raw(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// Puts a field in that was read already, in another form.
    pub(crate) fn put(&mut self, name: &str, value: Option<Value>) {
        self.left
            .extend(value.map(|value| (name.to_owned(), value)));
    }

    /// A field that may be left out or null, read by `read`.
    pub(crate) fn optional<T, E: fmt::Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.raw(name).filter(|value| !value.is_null())?;
        match read(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(name, "INVALID_VALUE", error.to_string());
                None
            }
        }
    }

    /// A field that must be there, read by `read`. None is noted as a problem.
    pub(crate) fn required<T, E: fmt::Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        if self.left.get(name).is_none_or(Value::is_null) {
            self.left.remove(name);
            self.problem(name, "MISSING_FIELD", "this field must be given");
            return None;
        }
        self.optional(name, read)
    }

    /// A field that may be left out, but not null: what it tells of cannot be taken away.
    pub(crate) fn not_null<T, E: fmt::Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        if self.is_null(name) {
            self.left.remove(name);
            self.problem(name, "INVALID_VALUE", "this cannot be removed");
        }
        self.optional(name, read)
    }

    /// The fields of an object that stands in this one, where there is one: what is wrong with them
    /// is to be noted here by [`take_problems`](Self::take_problems).
    pub(crate) fn nested(&mut self, name: &str) -> Option<Self> {
        let value = self.raw(name).filter(|value| !value.is_null())?;
        let Value::Object(left) = value else {
            self.problem(name, "WRONG_TYPE", "expected an object");
            return None;
        };
        Some(Self {
            left,
            base: format!("{}/{name}", self.base),
            problems: Vec::new(),
        })
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Whether a field is there and null.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(Value::is_null)
    }

    /// Whether a field was noted as wrong.
    pub(crate) fn is_noted(&self, name: &str) -> bool {
        if self.problems.is_empty() {
            return false;
        }
        let pointer = format!("{}/{name}", self.base);
        self.problems
            .iter()
            .any(|problem| problem.pointer.as_ref() == Some(&pointer))
    }

    /// Notes that a field is wrong.
    pub(crate) fn problem(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        self.problems.push(FieldProblem::at(
            format!("{}/{name}", self.base),
            code,
            detail,
        ));
    }

    /// Refuses what is wrong and what nobody took.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let problems = self.into_problems();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::fields(Code::InvalidFields, problems))
        }
    }

    /// Whether every field was taken and none was wrong.
    pub(crate) fn is_well(&self) -> bool {
        self.left.is_empty() && self.problems.is_empty()
    }

    /// Notes what is wrong elsewhere as wrong here.
    pub(crate) fn add_problems(&mut self, problems: &[FieldProblem]) {
        self.problems.extend_from_slice(problems);
    }

    /// Notes what is wrong with the fields of an object that stands in this one.
    pub(crate) fn take_problems(&mut self, nested: Self) {
        self.problems.extend(nested.into_problems());
    }

    /// What was noted, without what nobody took.
    pub(crate) fn into_only_problems(self) -> Vec<FieldProblem> {
        self.problems
    }

    /// All that is wrong.
    pub(crate) fn into_problems(mut self) -> Vec<FieldProblem> {
        for name in std::mem::take(&mut self.left)
            .into_iter()
            .map(|(name, _)| name)
        {
            self.problem(&name, "UNKNOWN_FIELD", "no such field here");
        }
        self.problems
    }
}

/// Reads a text.
pub(crate) fn text(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err("expected a text"),
    }
}

/// Reads a text that a checked type is made of.
pub(crate) fn checked<T, E: fmt::Display>(
    read: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(Value) -> Result<T, String> {
    |value| read(&text(value)?).map_err(|error| error.to_string())
}

/// Reads an object.
pub(crate) fn object(value: Value) -> Result<Map<String, Value>, &'static str> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err("expected an object"),
    }
}

/// Reads true or false.
#[expect(
    clippy::needless_pass_by_value,
    reason = "readers of fields take values"
)]
pub(crate) fn boolean(value: Value) -> Result<bool, &'static str> {
    value.as_bool().ok_or("expected true or false")
}

/// Reads a whole number from 0. As in JSON Schema, `4.0` is one: some clients' numbers are all
/// doubles. Beyond 2^53 a double names no whole number of its own.
#[expect(
    clippy::needless_pass_by_value,
    reason = "readers of fields take values"
)]
pub(crate) fn natural(value: Value) -> Result<u64, &'static str> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let double = || {
        let double = value.as_f64()?;
        let is_whole = double.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&double);
        // Whole and in range, so nothing is cut off.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        is_whole.then_some(double as u64)
    };
    let number = value.as_u64().or_else(double);
    number.ok_or("expected a whole number from 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> Code {
        parse(body.as_bytes(), 8).unwrap_err().code()
    }

    #[test]
    fn a_wide_integer_far_down_is_too_deep_and_its_pointer_is_no_longer_than_is_read() {
        let deep = format!("{}{}", "[".repeat(1 << 20), "9".repeat(20));
        assert_eq!(code(&deep), Code::TooDeep);
        let long = format!(r#"{{"{}":{}}}"#, "k".repeat(1 << 20), "9".repeat(20));
        let refused = parse(long.as_bytes(), 8).unwrap_err();
        assert_eq!(refused.code(), Code::IntegerOutOfRange);
        assert_eq!(refused.places()[0].pointer.as_deref(), Some(""));
        let near = parse(br#"{"a":[0,{"b":99999999999999999999}]}"#, 8).unwrap_err();
        assert_eq!(near.places()[0].pointer.as_deref(), Some("/a/1/b"));
    }

    #[test]
    fn a_double_that_is_whole_is_a_whole_number() {
        for (given, read) in [("4", 4), ("4.0", 4), ("0.0", 0), ("1e3", 1000)] {
            let value = parse(given.as_bytes(), 8).unwrap();
            assert_eq!(natural(value), Ok(read), "{given}");
        }
        for given in ["4.5", "-1.0", "1e300", "\"4\"", "null"] {
            let value = parse(given.as_bytes(), 8).unwrap();
            assert!(natural(value).is_err(), "{given}");
        }
    }

    #[test]
    fn json_is_taken_exactly_as_it_was_sent() {
        let body = r#"{"i":-9223372036854775808,"u":18446744073709551615,"f":1e300,"s":"123456789012345678901 \" 9","n":null}"#;
        assert_eq!(parse(body.as_bytes(), 8).unwrap().to_string(), {
            let mut same: Value = serde_json::from_str(body).unwrap();
            same.sort_all_objects();
            same.to_string()
        });
    }

    #[test]
    fn what_would_be_changed_in_silence_is_refused() {
        assert_eq!(code(r#"{"a":{"b":1,"b":2}}"#), Code::RepeatedKey);
        assert_eq!(code("[18446744073709551616]"), Code::IntegerOutOfRange);
        assert_eq!(code("[-9223372036854775809]"), Code::IntegerOutOfRange);
        assert_eq!(code("1e999"), Code::IntegerOutOfRange);
        assert_eq!(code("[[[[[[[[[1]]]]]]]]]"), Code::TooDeep);
        let repeated = parse(br#"{"a":{"b/c":1,"b/c":2}}"#, 8).unwrap_err();
        assert_eq!(repeated.places()[0].pointer.as_deref(), Some("/a/b~1c"));
    }

    #[test]
    fn a_number_or_a_depth_that_is_refused_is_pointed_at() {
        let wide = "18446744073709551616";
        for (body, pointer) in [
            (wide.to_owned(), ""),
            (
                format!(r#"{{"a":[1,{{"b/c":2,"d\"e":[0,{wide}]}}]}}"#),
                "/a/1/d\"e/1",
            ),
            (
                format!(r#"{{"a":{{"b":"{wide}, ["}},"c~":-{wide}}}"#),
                "/c~0",
            ),
            ("{\"a\":1,\n\"b\":[2,1e999]}".to_owned(), "/b/1"),
            ("{\"a\":1e999\n,\"b\":2}".to_owned(), "/a"),
            ("[1e999,1]".to_owned(), "/0"),
            (
                r#"{"a":[[[[[[[[1]]]]]]]]}"#.to_owned(),
                "/a/0/0/0/0/0/0/0/0",
            ),
        ] {
            let refused = parse(body.as_bytes(), 8).unwrap_err();
            assert_eq!(
                refused.places()[0].pointer.as_deref(),
                Some(pointer),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in ["", "{", "{'a':1}", "[1,]", "nul", "\"\u{1}\"", "{} x", "01"] {
            assert_eq!(code(body), Code::MalformedJson, "{body}");
        }
        assert_eq!(
            parse(b"\"\xff\"", 8).unwrap_err().code(),
            Code::MalformedJson
        );
    }

    #[test]
    fn fields_that_are_missing_wrong_or_unknown_are_all_named() {
        let mut fields = Fields::of(serde_json::json!({ "a": 1, "x": 2 }), "/op").unwrap();
        assert_eq!(fields.required("a", text), None);
        assert_eq!(fields.required("b", text), None);
        let error = fields.finish().unwrap_err();
        let told: Vec<_> = error
            .places()
            .iter()
            .map(|p| (p.pointer.as_deref().unwrap(), &*p.code))
            .collect();
        assert_eq!(
            told,
            [
                ("/op/a", "INVALID_VALUE"),
                ("/op/b", "MISSING_FIELD"),
                ("/op/x", "UNKNOWN_FIELD")
            ]
        );
    }
}
