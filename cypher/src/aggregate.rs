//! Many values to one.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::ast::{Aggregate, AggregateKind, Operator};
use crate::compare::{Key, order};
use crate::error::Error;
use crate::eval::{Env, Row, numbers};
use crate::functions::count;
use crate::value::Value;

/// One aggregate of one group, as far as it has come.
#[derive(Debug)]
pub(crate) struct Gathered {
    seen: Option<BTreeSet<Key>>,
    number: usize,
    total: Value,
    values: Vec<Value>,
}

impl Gathered {
    pub(crate) fn new(aggregate: &Aggregate) -> Self {
        Self {
            seen: aggregate.is_distinct.then(BTreeSet::new),
            number: 0,
            total: match aggregate.kind {
                AggregateKind::Sum | AggregateKind::Average => Value::Integer(0),
                _ => Value::Null,
            },
            values: Vec::new(),
        }
    }

    /// Takes a row in; gives the bytes that it keeps of it.
    pub(crate) fn add(
        &mut self,
        aggregate: &Aggregate,
        env: &Env<'_>,
        row: &mut Row,
    ) -> Result<usize, Error> {
        let Some(of) = &aggregate.of else {
            self.number += 1;
            return Ok(0);
        };
        let value = env.eval(of, row)?;
        if value.is_null() {
            return Ok(0);
        }
        let mut kept = 0;
        if let Some(seen) = &mut self.seen {
            if !seen.insert(Key(vec![value.clone()])) {
                return Ok(0);
            }
            kept += value.bytes() + 64;
        }
        self.number += 1;
        match aggregate.kind {
            AggregateKind::Count => {}
            AggregateKind::Sum => self.total = added(&self.total, &value)?,
            // As doubles from the start, so that many large integers are no overflow.
            AggregateKind::Average => {
                let value = numbers(Operator::Multiply, &value, &Value::Float(1.0))?;
                self.total = added(&self.total, &value)?;
            }
            AggregateKind::Least => self.keep_if(Ordering::Less, value),
            AggregateKind::Greatest => self.keep_if(Ordering::Greater, value),
            AggregateKind::Collect => {
                kept += value.bytes();
                self.values.push(value);
            }
        }
        Ok(kept)
    }

    fn keep_if(&mut self, wanted: Ordering, value: Value) {
        if self.total.is_null() || order(&value, &self.total) == wanted {
            self.total = value;
        }
    }

    pub(crate) fn finish(self, kind: AggregateKind) -> Result<Value, Error> {
        Ok(match kind {
            AggregateKind::Count => count(self.number),
            AggregateKind::Collect => Value::list(self.values),
            AggregateKind::Average if self.number == 0 => Value::Null,
            AggregateKind::Average => numbers(Operator::Divide, &self.total, &count(self.number))?,
            AggregateKind::Sum | AggregateKind::Least | AggregateKind::Greatest => self.total,
        })
    }
}

fn added(total: &Value, value: &Value) -> Result<Value, Error> {
    match value {
        Value::Integer(_) | Value::Float(_) => numbers(Operator::Add, total, value),
        other => Err(Error::runtime(format!(
            "{} cannot be summed up",
            other.kind()
        ))),
    }
}
