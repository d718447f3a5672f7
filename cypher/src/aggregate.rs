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
    /// Bytes of all this, counted by the meter; whoever drops it gives them back.
    pub(crate) kept: usize,
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
            kept: 0,
        }
    }

    /// Takes a row in.
    pub(crate) fn add(
        &mut self,
        aggregate: &Aggregate,
        env: &Env<'_>,
        row: &mut Row,
    ) -> Result<(), Error> {
        let Some(of) = &aggregate.of else {
            self.number += 1;
            return Ok(());
        };
        let value = env.eval(of, row)?;
        if value.is_null() {
            return Ok(());
        }
        if let Some(seen) = &mut self.seen {
            env.meter.look_up(value.bytes(), seen.len())?;
            if !seen.insert(Key(vec![value.clone()])) {
                return Ok(());
            }
            self.keep(env, value.bytes().saturating_add(64))?;
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
            AggregateKind::Least => self.keep_if(Ordering::Less, value, env)?,
            AggregateKind::Greatest => self.keep_if(Ordering::Greater, value, env)?,
            AggregateKind::Collect => {
                self.keep(env, value.bytes())?;
                self.values.push(value);
            }
        }
        Ok(())
    }

    fn keep(&mut self, env: &Env<'_>, bytes: usize) -> Result<(), Error> {
        env.meter.keep(bytes)?;
        self.kept += bytes;
        Ok(())
    }

    /// Takes a value in the place of the one that is kept, if it comes before it, or behind.
    fn keep_if(&mut self, wanted: Ordering, value: Value, env: &Env<'_>) -> Result<(), Error> {
        let (before, bytes) = (self.total.bytes(), value.bytes());
        if self.total.is_null() {
            self.keep(env, bytes)?;
            self.total = value;
            return Ok(());
        }
        env.meter.walk(before.min(bytes))?;
        if order(&value, &self.total) == wanted {
            env.meter.release(before);
            self.kept = self.kept.saturating_sub(before);
            self.total = value;
            self.keep(env, bytes)?;
        }
        Ok(())
    }

    /// What it came to, after giving back what was counted.
    pub(crate) fn finish(self, kind: AggregateKind, env: &Env<'_>) -> Result<Value, Error> {
        env.meter.release(self.kept);
        Ok(match kind {
            AggregateKind::Count => count(self.number),
            AggregateKind::Collect => env.meter.list(self.values)?,
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
