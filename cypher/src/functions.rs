//! The functions that are no aggregates.

use std::sync::Arc;

use crate::error::Error;
use crate::eval::Env;
use crate::value::Value;

/// Name, fewest and most arguments.
const KNOWN: &[(&str, usize, usize)] = &[
    ("abs", 1, 1),
    ("ceil", 1, 1),
    ("coalesce", 1, 100),
    ("elementid", 1, 1),
    ("endnode", 1, 1),
    ("exp", 1, 1),
    ("floor", 1, 1),
    ("head", 1, 1),
    ("id", 1, 1),
    ("isempty", 1, 1),
    ("keys", 1, 1),
    ("labels", 1, 1),
    ("last", 1, 1),
    ("left", 2, 2),
    ("length", 1, 1),
    ("log", 1, 1),
    ("log10", 1, 1),
    ("ltrim", 1, 1),
    ("nodes", 1, 1),
    ("properties", 1, 1),
    ("range", 2, 3),
    ("relationships", 1, 1),
    ("replace", 3, 3),
    ("reverse", 1, 1),
    ("right", 2, 2),
    ("round", 1, 1),
    ("rtrim", 1, 1),
    ("sign", 1, 1),
    ("size", 1, 1),
    ("split", 2, 2),
    ("sqrt", 1, 1),
    ("startnode", 1, 1),
    ("substring", 2, 3),
    ("tail", 1, 1),
    ("toboolean", 1, 1),
    ("tofloat", 1, 1),
    ("tointeger", 1, 1),
    ("tolower", 1, 1),
    ("tostring", 1, 1),
    ("toupper", 1, 1),
    ("trim", 1, 1),
    ("type", 1, 1),
];

/// A function by its name in upper case.
pub(crate) fn known(upper: &str) -> Option<(&'static str, usize, usize)> {
    let lower = upper.to_ascii_lowercase();
    KNOWN.iter().copied().find(|(name, _, _)| *name == lower)
}

fn wrong(name: &str, value: &Value) -> Error {
    Error::runtime(format!("{name} does not take {}", value.kind()))
}

/// How much of a value is gone through at one go by what looks at each letter of a text, or at each
/// value of a list or map and at none within those.
pub(crate) fn length_bytes(value: &Value) -> usize {
    let count = match value {
        Value::String(text) => return text.len(),
        Value::List(values) => values.len(),
        Value::Map(entries) => entries.len(),
        _ => 0,
    };
    count.saturating_mul(size_of::<Value>())
}

/// Calls a function, after counting the work on its arguments: nothing in it looks at the clock.
pub(crate) fn call(env: &Env<'_>, name: &'static str, arguments: &[Value]) -> Result<Value, Error> {
    if name == "coalesce" {
        let first = arguments.iter().find(|value| !value.is_null());
        return Ok(first.cloned().unwrap_or(Value::Null));
    }
    if arguments.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    for argument in arguments {
        env.meter.walk(length_bytes(argument))?;
    }
    match arguments {
        [of] => one(env, name, of),
        [text, rest @ ..]
            if matches!(name, "left" | "right" | "substring" | "split" | "replace") =>
        {
            texts(env, name, text, rest)
        }
        _ => range(env, arguments),
    }
}

fn one(env: &Env<'_>, name: &'static str, of: &Value) -> Result<Value, Error> {
    match name {
        "id" | "elementid" => match of {
            Value::Node(id) => Ok(Value::String(Arc::clone(id))),
            Value::Relationship(edge) => Ok(Value::text(&format!(
                "{} {} {}",
                edge.from, edge.kind, edge.to
            ))),
            _ => Err(wrong(name, of)),
        },
        "labels" | "keys" | "properties" | "type" | "startnode" | "endnode" => {
            entity(env, name, of)
        }
        "nodes" | "relationships" | "length" => path(name, of),
        "size" | "head" | "last" | "tail" | "reverse" | "isempty" => collection(name, of),
        "tolower" | "toupper" | "trim" | "ltrim" | "rtrim" => match of {
            Value::String(text) => Ok(Value::text(&match name {
                "tolower" => text.to_lowercase(),
                "toupper" => text.to_uppercase(),
                "trim" => text.trim().to_owned(),
                "ltrim" => text.trim_start().to_owned(),
                _ => text.trim_end().to_owned(),
            })),
            _ => Err(wrong(name, of)),
        },
        "tointeger" | "tofloat" | "toboolean" | "tostring" => converted(name, of),
        _ => number(name, of),
    }
}

fn entity(env: &Env<'_>, name: &str, of: &Value) -> Result<Value, Error> {
    match (name, of) {
        ("labels", Value::Node(id)) => {
            let labels = env.graph.labels(id).into_iter().map(Value::String);
            Ok(Value::list(labels.collect()))
        }
        ("keys", Value::Node(id)) => {
            let keys = env
                .properties(id)?
                .keys()
                .cloned()
                .map(Value::String)
                .collect();
            Ok(Value::list(keys))
        }
        ("keys", Value::Map(entries)) => Ok(Value::list(
            entries.keys().cloned().map(Value::String).collect(),
        )),
        ("keys", Value::Relationship(_)) => Ok(Value::list(Vec::new())),
        ("properties", Value::Node(id)) => Ok(Value::Map(env.properties(id)?)),
        ("properties", Value::Map(_)) => Ok(of.clone()),
        ("properties", Value::Relationship(_)) => Ok(Value::Map(Arc::default())),
        ("type", Value::Relationship(edge)) => Ok(Value::String(Arc::clone(&edge.kind))),
        ("startnode", Value::Relationship(edge)) => Ok(Value::Node(Arc::clone(&edge.from))),
        ("endnode", Value::Relationship(edge)) => Ok(Value::Node(Arc::clone(&edge.to))),
        _ => Err(wrong(name, of)),
    }
}

fn path(name: &str, of: &Value) -> Result<Value, Error> {
    let Value::Path(path) = of else {
        return Err(wrong(name, of));
    };
    Ok(match name {
        "nodes" => Value::list(path.nodes.iter().cloned().map(Value::Node).collect()),
        "length" => count(path.relationships.len()),
        _ => {
            let edges = path.relationships.iter().cloned();
            Value::list(edges.map(Value::Relationship).collect())
        }
    })
}

pub(crate) fn count(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn collection(name: &str, of: &Value) -> Result<Value, Error> {
    Ok(match (name, of) {
        ("size", Value::List(values)) => count(values.len()),
        ("size", Value::String(text)) => count(text.chars().count()),
        ("isempty", Value::List(values)) => Value::Boolean(values.is_empty()),
        ("isempty", Value::String(text)) => Value::Boolean(text.is_empty()),
        ("isempty", Value::Map(entries)) => Value::Boolean(entries.is_empty()),
        ("head", Value::List(values)) => values.first().cloned().unwrap_or(Value::Null),
        ("last", Value::List(values)) => values.last().cloned().unwrap_or(Value::Null),
        ("tail", Value::List(values)) => Value::list(values.iter().skip(1).cloned().collect()),
        ("reverse", Value::List(values)) => Value::list(values.iter().rev().cloned().collect()),
        ("reverse", Value::String(text)) => Value::text(&text.chars().rev().collect::<String>()),
        _ => return Err(wrong(name, of)),
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "as the reference has it, within the range that is checked"
)]
fn converted(name: &str, of: &Value) -> Result<Value, Error> {
    Ok(match (name, of) {
        ("tointeger", Value::Integer(_))
        | ("tofloat", Value::Float(_))
        | ("toboolean", Value::Boolean(_))
        | ("tostring", Value::String(_)) => of.clone(),
        ("tointeger", Value::Float(float)) => whole(*float),
        ("tointeger", Value::Boolean(truth)) => Value::Integer(i64::from(*truth)),
        ("tointeger", Value::String(text)) => {
            let text = text.trim();
            match text.parse::<i64>() {
                Ok(integer) => Value::Integer(integer),
                Err(_) => float_in(text).map_or(Value::Null, whole),
            }
        }
        ("tofloat", Value::Integer(integer)) => Value::Float(*integer as f64),
        ("tofloat", Value::String(text)) => float_in(text.trim()).map_or(Value::Null, Value::Float),
        ("toboolean", Value::String(text)) => match text.trim().to_lowercase().as_str() {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            _ => Value::Null,
        },
        ("toboolean", Value::Integer(integer)) => Value::Boolean(*integer != 0),
        ("tostring", Value::Integer(integer)) => Value::text(&integer.to_string()),
        ("tostring", Value::Float(float)) => Value::text(&float_text(*float)),
        ("tostring", Value::Boolean(truth)) => Value::text(&truth.to_string()),
        _ => return Err(wrong(name, of)),
    })
}

/// The number that a text names: in digits, or as [`float_text`] names what has none. Rust itself
/// takes more names for those.
fn float_in(text: &str) -> Option<f64> {
    let name = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_name = matches!(name, "Infinity" | "NaN");
    let is_in_digits = name
        .chars()
        .all(|c| !c.is_alphabetic() || matches!(c, 'e' | 'E'));
    (is_name || is_in_digits).then(|| text.parse().ok())?
}

#[allow(clippy::cast_possible_truncation)]
fn whole(float: f64) -> Value {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if float.is_finite() && float.abs() < TOO_LARGE {
        return Value::Integer(float.trunc() as i64);
    }
    Value::Null
}

/// A float as Cypher prints it: always with a point or an exponent.
pub(crate) fn float_text(float: f64) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let text = format!("{float:?}");
    text.replace('e', "E")
}

#[allow(clippy::cast_precision_loss)]
fn number(name: &str, of: &Value) -> Result<Value, Error> {
    if let (Value::Integer(integer), "abs" | "sign") = (of, name) {
        if name == "sign" {
            return Ok(Value::Integer(integer.signum()));
        }
        let absolute = integer.checked_abs();
        return absolute
            .map(Value::Integer)
            .ok_or_else(|| Error::runtime("integer overflow"));
    }
    let float = match of {
        Value::Integer(integer) => *integer as f64,
        Value::Float(float) => *float,
        _ => return Err(wrong(name, of)),
    };
    Ok(match name {
        "abs" => Value::Float(float.abs()),
        "sign" => Value::Integer(if float > 0.0 {
            1
        } else {
            -i64::from(float < 0.0)
        }),
        "ceil" => Value::Float(float.ceil()),
        "floor" => Value::Float(float.floor()),
        // Halves go up, towards positive infinity.
        "round" => {
            let floor = float.floor();
            // Not by adding a half first: the sum is rounded itself, of large and of small ones.
            let is_up = float - floor >= 0.5;
            Value::Float(if is_up { floor + 1.0 } else { floor })
        }
        "sqrt" => Value::Float(float.sqrt()),
        "exp" => Value::Float(float.exp()),
        "log" => Value::Float(float.ln()),
        "log10" => Value::Float(float.log10()),
        _ => return Err(Error::unsupported(format!("the function {name}"))),
    })
}

fn index(name: &str, value: &Value) -> Result<usize, Error> {
    match value {
        Value::Integer(number) => usize::try_from(*number)
            .map_err(|_| Error::runtime(format!("{name} does not take a number below 0"))),
        other => Err(wrong(name, other)),
    }
}

fn texts(env: &Env<'_>, name: &str, text: &Value, rest: &[Value]) -> Result<Value, Error> {
    let Value::String(text) = text else {
        return Err(wrong(name, text));
    };
    match (name, rest) {
        ("left", [length]) => {
            let taken = text.chars().take(index(name, length)?);
            Ok(Value::text(&taken.collect::<String>()))
        }
        ("right", [length]) => {
            let passed = text.chars().count().saturating_sub(index(name, length)?);
            Ok(Value::text(&text.chars().skip(passed).collect::<String>()))
        }
        ("substring", [start, rest @ ..]) => {
            let from = text.chars().skip(index(name, start)?);
            let taken: String = match rest {
                [length] => from.take(index(name, length)?).collect(),
                _ => from.collect(),
            };
            Ok(Value::text(&taken))
        }
        ("split", [Value::String(by)]) => {
            env.meter.copied(text.len().saturating_mul(48))?;
            if by.is_empty() {
                let parts = text
                    .chars()
                    .map(|c| Value::text(c.encode_utf8(&mut [0; 4])));
                return Ok(Value::list(parts.collect()));
            }
            Ok(Value::list(text.split(&**by).map(Value::text).collect()))
        }
        ("replace", [Value::String(old), Value::String(new)]) => {
            let most = (text.len() + 1).saturating_mul(new.len() + 1);
            env.meter.copied(most)?;
            Ok(Value::text(&text.replace(&**old, new)))
        }
        (_, rest) => Err(wrong(name, rest.first().unwrap_or(&Value::Null))),
    }
}

fn range(env: &Env<'_>, arguments: &[Value]) -> Result<Value, Error> {
    let mut numbers = [0, 0, 1];
    for (number, argument) in numbers.iter_mut().zip(arguments) {
        let Value::Integer(given) = argument else {
            return Err(wrong("range", argument));
        };
        *number = *given;
    }
    let [from, to, step] = numbers;
    if step == 0 {
        return Err(Error::runtime("the step of a range is not 0"));
    }
    let mut values = Vec::new();
    let mut next = Some(from);
    while let Some(value) = next
        && (if step > 0 { value <= to } else { value >= to })
    {
        env.meter.tick()?;
        if values.len() % 4096 == 0 {
            env.meter
                .may_hold(values.len().saturating_mul(size_of::<Value>()))?;
        }
        values.push(Value::Integer(value));
        next = value.checked_add(step);
    }
    Ok(Value::list(values))
}
