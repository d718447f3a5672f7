//! Changing an annotation's body item by item.

use serde_json::{Value, json};

use super::validate::FieldError;

/// Most operations of one request.
const BODY_OPERATIONS_MAX: usize = 1000;

/// One change of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyOperation {
    /// Put an item at the end.
    Add {
        /// The item.
        item: Value,
    },
    /// Take an item away.
    Remove {
        /// The item, as it stands there.
        item: Value,
    },
    /// Put an item in another's place.
    Replace {
        /// The item, as it stands there.
        old_item: Value,
        /// The other.
        new_item: Value,
    },
}

/// The item to remove or replace is not in the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body holds no such item")]
pub struct BodyOperationError {
    /// Which operation, from 0.
    pub index: usize,
    /// The operation's field that names the item.
    pub field: &'static str,
}

/// An annotation's body; `bodyValue` is a textual body by another name.
pub fn body_of(annotation: &Value) -> Option<Value> {
    if let Some(body) = annotation.get("body") {
        return Some(body.clone());
    }
    let value = annotation.get("bodyValue")?;
    Some(json!({ "type": "TextualBody", "value": value, "format": "text/plain" }))
}

/// Applies operations in order. A body of one item is that item; an array stays an array until its
/// last item goes.
///
/// # Errors
/// [`BodyOperationError`] at the first operation that names an item that is not there.
pub fn apply(
    body: Option<&Value>,
    operations: &[BodyOperation],
) -> Result<Option<Value>, BodyOperationError> {
    let was_array = body.is_some_and(Value::is_array);
    let mut items: Vec<Value> = match body {
        None => Vec::new(),
        Some(Value::Array(items)) => items.clone(),
        Some(item) => vec![item.clone()],
    };
    for (index, operation) in operations.iter().enumerate() {
        let find = |items: &[Value], wanted: &Value, field| {
            let place = items.iter().position(|item| same(item, wanted));
            place.ok_or(BodyOperationError { index, field })
        };
        match operation {
            BodyOperation::Add { item } => items.push(item.clone()),
            BodyOperation::Remove { item } => {
                items.remove(find(&items, item, "item")?);
            }
            BodyOperation::Replace { old_item, new_item } => {
                let place = find(&items, old_item, "old_item")?;
                items[place] = new_item.clone();
            }
        }
    }
    Ok(match items.len() {
        0 => None,
        1 if !was_array => items.pop(),
        _ => Some(Value::Array(items)),
    })
}

/// Equality of JSON values: numbers by what they are worth, objects without regard to order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || x.as_f64() == y.as_f64() && is_exact(x, y)
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            let has = |(key, x): (&String, &Value)| y.get(key).is_some_and(|y| same(x, y));
            x.len() == y.len() && x.iter().all(has)
        }
        _ => a == b,
    }
}

/// Whether comparing as doubles is fair: not for two integers, which are compared exactly.
fn is_exact(x: &serde_json::Number, y: &serde_json::Number) -> bool {
    x.is_f64() || y.is_f64()
}

/// Reads `{"operations": […]}`'s list.
///
/// # Errors
/// Every malformed operation with its JSON pointer.
pub fn from_json(operations: &Value) -> Result<Vec<BodyOperation>, Vec<FieldError>> {
    let error = |pointer: String, detail: &str| FieldError {
        pointer,
        code: "INVALID_OPERATION",
        detail: detail.to_owned(),
    };
    let Some(list) = operations
        .as_array()
        .filter(|l| (1..=BODY_OPERATIONS_MAX).contains(&l.len()))
    else {
        let detail = format!("expected an array of 1 to {BODY_OPERATIONS_MAX} operations");
        return Err(vec![error("/operations".to_owned(), &detail)]);
    };
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    for (index, operation) in list.iter().enumerate() {
        let pointer = format!("/operations/{index}");
        let fields: &[&str] = match operation["op"].as_str() {
            Some("add" | "remove") => &["op", "item"],
            Some("replace") => &["op", "old_item", "new_item"],
            _ => {
                errors.push(error(
                    format!("{pointer}/op"),
                    "expected add, remove or replace",
                ));
                continue;
            }
        };
        let found = operation
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys());
        let unknown = found.filter(|key| !fields.contains(&key.as_str()));
        errors.extend(unknown.map(|key| error(format!("{pointer}/{key}"), "unknown field")));
        let missing = fields
            .iter()
            .filter(|field| operation.get(**field).is_none());
        errors.extend(missing.map(|field| error(format!("{pointer}/{field}"), "missing field")));
        let take = |field: &str| operation[field].clone();
        read.push(match operation["op"].as_str() {
            Some("add") => BodyOperation::Add { item: take("item") },
            Some("remove") => BodyOperation::Remove { item: take("item") },
            _ => BodyOperation::Replace {
                old_item: take("old_item"),
                new_item: take("new_item"),
            },
        });
    }
    if errors.is_empty() {
        Ok(read)
    } else {
        Err(errors)
    }
}

/// Writes operations as [`from_json`] reads them.
pub fn to_json(operations: &[BodyOperation]) -> Value {
    let write = |operation: &BodyOperation| match operation {
        BodyOperation::Add { item } => json!({ "op": "add", "item": item }),
        BodyOperation::Remove { item } => json!({ "op": "remove", "item": item }),
        BodyOperation::Replace { old_item, new_item } => {
            json!({ "op": "replace", "old_item": old_item, "new_item": new_item })
        }
    };
    Value::Array(operations.iter().map(write).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(body: &Value, operations: &Value) -> Result<Option<Value>, BodyOperationError> {
        let body = Some(body).filter(|body| !body.is_null());
        apply(body, &from_json(operations).unwrap())
    }

    #[test]
    fn a_body_grows_and_shrinks_in_a_sensible_shape() {
        let add = json!([{ "op": "add", "item": "urn:b" }]);
        assert_eq!(applied(&Value::Null, &add), Ok(Some(json!("urn:b"))));
        assert_eq!(
            applied(&json!("urn:a"), &add),
            Ok(Some(json!(["urn:a", "urn:b"])))
        );
        let remove = json!([{ "op": "remove", "item": "urn:b" }]);
        assert_eq!(
            applied(&json!(["urn:a", "urn:b"]), &remove),
            Ok(Some(json!(["urn:a"])))
        );
        assert_eq!(applied(&json!("urn:b"), &remove), Ok(None));
        let replace = json!([{ "op": "replace", "old_item": { "n": 1.0 }, "new_item": "urn:c" }]);
        assert_eq!(
            applied(&json!([{ "n": 1 }]), &replace),
            Ok(Some(json!(["urn:c"])))
        );
    }

    #[test]
    fn an_item_that_is_not_there_is_an_error_that_names_the_operation() {
        let operations = json!([{ "op": "add", "item": "x:y" }, { "op": "remove", "item": "x:z" }]);
        let error = applied(&Value::Null, &operations).unwrap_err();
        assert_eq!(
            error,
            BodyOperationError {
                index: 1,
                field: "item"
            }
        );
        let near = json!([{ "op": "remove", "item": 9_007_199_254_740_993_u64 }]);
        assert!(applied(&json!([9_007_199_254_740_992_u64]), &near).is_err());
    }

    #[test]
    fn malformed_operations_are_all_named() {
        let errors =
            from_json(&json!([{ "op": "swap" }, { "op": "add", "items": 1 }])).unwrap_err();
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/operations/0/op",
                "/operations/1/items",
                "/operations/1/item"
            ]
        );
        assert!(from_json(&json!([])).is_err() && from_json(&json!(null)).is_err());
    }
}
