//! When values are equal, which comes first, and which count as one.
//!
//! Three relations, as in the openCypher reference: equality knows "perhaps" (null); equivalence,
//! for DISTINCT and groups, does not; and the order for ORDER BY takes in every value.
//!
//! Nothing here looks at the clock: whoever compares counts the walk first ([`Meter::walk`]). Each
//! calls itself once for each list or map within another, of which there are at most
//! [`VALUE_DEPTH_MAX`].
//!
//! [`Meter::walk`]: crate::limits::Meter::walk
//! [`VALUE_DEPTH_MAX`]: crate::value::VALUE_DEPTH_MAX

use std::cmp::Ordering;

use crate::value::Value;

/// Whether two values are equal; none when that cannot be known.
pub(crate) fn equal(one: &Value, other: &Value) -> Option<bool> {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Some(false);
            }
            all_equal(a.iter().zip(b.iter()))
        }
        (Value::Map(a), Value::Map(b)) => {
            if !a.keys().eq(b.keys()) {
                return Some(false);
            }
            all_equal(a.values().zip(b.values()))
        }
        (Value::Float(a), Value::Float(b)) if a.is_nan() || b.is_nan() => Some(false),
        (Value::Integer(_), Value::Float(f)) | (Value::Float(f), Value::Integer(_))
            if f.is_nan() =>
        {
            Some(false)
        }
        _ => Some(rank(one) == rank(other) && order(one, other) == Ordering::Equal),
    }
}

/// Whether all pairs are equal. In a loop, here and below, not in closures within each other: so a
/// list within another takes one small frame of the stack.
fn all_equal<'v>(pairs: impl Iterator<Item = (&'v Value, &'v Value)>) -> Option<bool> {
    let mut result = Some(true);
    for (one, other) in pairs {
        match equal(one, other) {
            Some(false) => return Some(false),
            None => result = None,
            Some(true) => {}
        }
    }
    result
}

/// The order of the first pair that has one.
fn first_order<'v>(pairs: impl Iterator<Item = (&'v Value, &'v Value)>) -> Ordering {
    for (one, other) in pairs {
        let order = order(one, other);
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Whether all are true: a false decides, then a "perhaps".
pub(crate) fn all(truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(true);
    for truth in truths {
        match truth {
            Some(false) => return Some(false),
            None => result = None,
            Some(true) => {}
        }
    }
    result
}

/// Whether two values are numbers of which one is none: every comparison of them is false.
pub(crate) fn is_nan_among_numbers(one: &Value, other: &Value) -> bool {
    let is_number = |value: &Value| matches!(value, Value::Integer(_) | Value::Float(_));
    let is_nan = |value: &Value| matches!(value, Value::Float(f) if f.is_nan());
    is_number(one) && is_number(other) && (is_nan(one) || is_nan(other))
}

/// How two values compare with `<` and the like; none of values that have no order between them.
pub(crate) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Integer(_) | Value::Float(_), Value::Integer(_) | Value::Float(_)) => {
            let is_nan = |value: &Value| matches!(value, Value::Float(f) if f.is_nan());
            (!is_nan(one) && !is_nan(other)).then(|| order(one, other))
        }
        (Value::String(_), Value::String(_)) | (Value::Boolean(_), Value::Boolean(_)) => {
            Some(order(one, other))
        }
        (Value::List(a), Value::List(b)) => {
            for (a, b) in a.iter().zip(b.iter()) {
                match compare(a, b) {
                    Some(Ordering::Equal) => {}
                    decided => return decided,
                }
            }
            Some(a.len().cmp(&b.len()))
        }
        _ => None,
    }
}

/// The place of a kind of values in the order of all.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Map(_) => 0,
        Value::Node(_) => 1,
        Value::Relationship(_) => 2,
        Value::List(_) => 3,
        Value::Path(_) => 4,
        Value::String(_) => 5,
        Value::Boolean(_) => 6,
        Value::Integer(_) | Value::Float(_) => 7,
        Value::Null => 8,
    }
}

/// The order of all values; null is last, NaN the largest number.
pub(crate) fn order(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => floats(*a, *b),
        (Value::Integer(a), Value::Float(b)) => mixed(*a, *b),
        (Value::Float(a), Value::Integer(b)) => mixed(*b, *a).reverse(),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Node(a), Value::Node(b)) => a.cmp(b),
        (Value::Relationship(a), Value::Relationship(b)) => a.cmp(b),
        (Value::Path(a), Value::Path(b)) => {
            (&a.nodes, &a.relationships).cmp(&(&b.nodes, &b.relationships))
        }
        (Value::List(a), Value::List(b)) => {
            first_order(a.iter().zip(b.iter())).then_with(|| a.len().cmp(&b.len()))
        }
        (Value::Map(a), Value::Map(b)) => match a.keys().cmp(b.keys()) {
            Ordering::Equal => first_order(a.values().zip(b.values())),
            decided => decided,
        },
        _ => rank(one).cmp(&rank(other)),
    }
}

fn floats(one: f64, other: f64) -> Ordering {
    match (one.is_nan(), other.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => one.partial_cmp(&other).unwrap_or(Ordering::Equal),
    }
}

/// An integer against a double, without losing what a double cannot hold.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn mixed(integer: i64, float: f64) -> Ordering {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() || float >= TOO_LARGE {
        return Ordering::Less;
    }
    if float < -TOO_LARGE {
        return Ordering::Greater;
    }
    // Within range, the whole part is exact.
    let whole = float.trunc() as i64;
    integer.cmp(&whole).then_with(|| {
        0.0_f64
            .partial_cmp(&float.fract())
            .unwrap_or(Ordering::Equal)
    })
}

/// A value as a key of groups and of what is distinct.
#[derive(Debug, Clone)]
pub(crate) struct Key(pub(crate) Vec<Value>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let first = first_order(self.0.iter().zip(&other.0));
        first.then_with(|| self.0.len().cmp(&other.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[Value]) -> Value {
        Value::list(values.to_vec())
    }

    #[test]
    fn equality_knows_perhaps_and_numbers_of_both_kinds() {
        let (one, two) = (Value::Integer(1), Value::Integer(2));
        assert_eq!(equal(&one, &Value::Float(1.0)), Some(true));
        assert_eq!(equal(&one, &Value::text("1")), Some(false));
        assert_eq!(equal(&one, &Value::Null), None);
        let perhaps = list(&[one.clone(), Value::Null]);
        assert_eq!(equal(&perhaps, &list(&[one.clone(), two.clone()])), None);
        assert_eq!(equal(&perhaps, &list(&[two, Value::Null])), Some(false));
        assert_eq!(
            equal(&Value::Float(f64::NAN), &Value::Float(f64::NAN)),
            Some(false)
        );
        let large = Value::Integer((1 << 53) + 1);
        assert_eq!(
            equal(&large, &Value::Float(9_007_199_254_740_992.0)),
            Some(false)
        );
    }

    #[test]
    fn every_value_has_its_place_in_the_order() {
        let sorted = [
            Value::Map(std::sync::Arc::default()),
            Value::Node("a".into()),
            list(&[]),
            list(&[Value::Integer(1)]),
            Value::text("a"),
            Value::Boolean(false),
            Value::Boolean(true),
            Value::Float(f64::NEG_INFINITY),
            Value::Integer(i64::MIN),
            Value::Float(-0.5),
            Value::Integer(0),
            Value::Float(0.5),
            Value::Integer(i64::MAX),
            Value::Float(1e300),
            Value::Float(f64::NAN),
            Value::Null,
        ];
        for (i, one) in sorted.iter().enumerate() {
            for (j, other) in sorted.iter().enumerate() {
                assert_eq!(order(one, other), i.cmp(&j), "{one:?} {other:?}");
            }
        }
        assert_eq!(compare(&Value::Integer(1), &Value::text("a")), None);
        assert_eq!(compare(&Value::Null, &Value::Null), None);
    }
}
