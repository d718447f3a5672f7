//! JSON that is carried as the text it is stored as, and parsed only by whoever looks inside.
//!
//! Annotations pass from the log through the fold into rows and answers without anybody looking
//! into them: as a text they are shared, not copied, and cost no tree of allocations on the way.
//! Invariant: the text can be parsed, within serde_json's limits of depth and range; it is checked
//! when it comes in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json_skip::end_of_value;
pub use crate::json_write::{write_json, write_json_string};

/// Bytes that most texts fit.
const TEXT_BYTES_EXPECTED: usize = 1024;

/// A JSON value as text; clones share it. What differs in white space or order is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// The text of a value: keys sorted, no white space.
    pub fn of(value: &Value) -> Self {
        let mut text = String::with_capacity(TEXT_BYTES_EXPECTED);
        write_json(value, &mut text);
        Self(text.into())
    }

    /// A text of which it is known that it can be parsed.
    pub(crate) fn of_checked(text: &str) -> Self {
        Self(text.into())
    }

    /// The value, parsed anew by each call.
    ///
    /// # Panics
    /// Never: the text was checked when it came in.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.as_str()).expect("checked when it came in")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The properties of an object with their texts, where it is written as [`of`](Self::of) writes
    /// it: in the order of their names, none of which has to be escaped, without white space. None
    /// where it is written otherwise, or where it takes the parser to tell.
    pub fn plain_properties(&self) -> Option<Vec<(&str, &str)>> {
        let all: Result<Vec<_>, Unknown> = Properties::of(&self.0).ok()?.collect();
        let all = all.ok()?;
        let is_in_order = all.is_sorted_by(|(before, _), (name, _)| before < name);
        is_in_order.then_some(all)
    }

    /// The text of a property; none where there is no such property.
    ///
    /// # Errors
    /// When this is not an object.
    pub fn property(&self, name: &str) -> Result<Option<&str>, serde_json::Error> {
        match property(&self.0, name) {
            Ok(found) => Ok(found),
            Err(Unknown) => {
                let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(&self.0)?;
                Ok(fields.get(name).map(|value| value.get()))
            }
        }
    }
}

/// It takes the parser to tell.
struct Unknown;

/// The text of a property of an object that is written without white space and escaped keys.
fn property<'a>(text: &'a str, name: &str) -> Result<Option<&'a str>, Unknown> {
    for property in Properties::of(text)? {
        let (key, value) = property?;
        if key == name {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Names and texts of the properties of an object; breaks off at one that it does not know to read.
struct Properties<'a> {
    text: &'a str,
    /// Where the next name begins; none behind the last.
    at: Option<usize>,
}

impl<'a> Properties<'a> {
    fn of(text: &'a str) -> Result<Self, Unknown> {
        let at = match text.as_bytes() {
            [b'{', b'}'] => None,
            [b'{', ..] => Some(1),
            _ => return Err(Unknown),
        };
        Ok(Self { text, at })
    }

    fn read(&self, at: usize) -> Option<(&'a str, &'a str, Option<usize>)> {
        let (text, bytes) = (self.text, self.text.as_bytes());
        let key_end = end_of_value(bytes, at)?;
        let key = text.get(at..key_end)?.strip_prefix('"')?;
        let key = key.strip_suffix('"').filter(|key| !key.contains('\\'))?;
        let end = end_of_value(bytes, key_end + 1)?;
        let value = text.get(key_end + 1..end)?;
        match bytes.get(end)? {
            b',' => Some((key, value, Some(end + 1))),
            b'}' => Some((key, value, None)),
            _ => None,
        }
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Result<(&'a str, &'a str), Unknown>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at.take()?;
        let read = self.read(at);
        Some(read.map_or(Err(Unknown), |(key, value, next)| {
            self.at = next;
            Ok((key, value))
        }))
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self::of(&value)
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The text is passed over once more, which is how serde_json takes it as it is.
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let text = text.get();
        // A raw value was only skipped over: depth, range and escapes were not looked at.
        if end_of_value(text.as_bytes(), 0) != Some(text.len()) {
            serde_json::from_str::<Parsed>(text).map_err(serde::de::Error::custom)?;
        }
        Ok(Self(text.into()))
    }
}

/// Any value that [`Value`] can take, of which nothing is kept.
struct Parsed;

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parsed)
    }
}

impl<'de> Visitor<'de> for Parsed {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_key::<Key>()?.is_some() {
            fields.next_value::<Self>()?;
        }
        Ok(self)
    }
}

/// A key, decoded and let go.
struct Key;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_comes_back_from_its_text_and_the_text_is_canonical() {
        let value = json!({ "b": [1, -2, 1.5, null, true, "ä\u{1f600}\n"], "a": { "c": {} } });
        let text = JsonText::of(&value);
        assert!(text.as_str().starts_with(r#"{"a":{"c":{}},"b":[1,-2,1.5,"#));
        assert_eq!(text.value(), value);
        let read: JsonText = serde_json::from_str(text.as_str()).unwrap();
        assert_eq!(read, text);
        assert_eq!(serde_json::to_string(&read).unwrap(), text.as_str());
        assert_eq!(serde_json::from_value::<JsonText>(value).unwrap(), text);
    }

    #[test]
    fn a_property_is_found_however_the_object_is_written() {
        let plain = JsonText::of(&json!({ "a": 1, "b": { "c": "}" }, "e": [] }));
        let odd: JsonText =
            serde_json::from_str(r#"{ "\u0061" : 1,"b":{"c":"}"} , "e":[]}"#).unwrap();
        for text in [plain, odd] {
            assert_eq!(text.property("a").unwrap(), Some("1"));
            assert_eq!(text.property("b").unwrap(), Some(r#"{"c":"}"}"#));
            assert_eq!(text.property("e").unwrap(), Some("[]"));
            assert_eq!(text.property("c").unwrap(), None);
        }
        assert_eq!(JsonText::of(&json!({})).property("a").unwrap(), None);
        assert!(JsonText::of(&json!([1])).property("a").is_err());
    }

    #[test]
    fn plain_properties_are_told_apart_and_others_are_left_to_the_parser() {
        let text = JsonText::of(&json!({ "b": [1, { "c": "}" }], "a": "\"", "ä": null }));
        let plain = [("a", r#""\"""#), ("b", r#"[1,{"c":"}"}]"#), ("ä", "null")];
        assert_eq!(text.plain_properties().unwrap(), plain);
        assert_eq!(JsonText::of(&json!({})).plain_properties(), Some(vec![]));
        for other in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a" :1}"#,
            r#"{"a":1e3}"#,
            r#"{"\u0061":1}"#,
            r#"{"\n":1}"#,
            "[1]",
            "1",
        ] {
            let text: JsonText = serde_json::from_str(other).unwrap();
            assert_eq!(text.plain_properties(), None, "{other}");
        }
    }

    #[test]
    fn a_text_that_could_not_be_parsed_is_refused_when_it_comes_in() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for bad in [
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"\ud800":1}"#,
            deep.as_str(),
        ] {
            assert!(serde_json::from_str::<Value>(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<JsonText>(bad).is_err(), "{bad}");
        }
    }
}
