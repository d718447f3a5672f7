//! Expressions to values.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ast::{Comparison, Expr, MapItem, Name, Operator, Quantifier};
use crate::compare::{all, compare, equal, is_nan_among_numbers};
use crate::error::Error;
use crate::functions::{self, float_text};
use crate::graph::Graph;
use crate::limits::{Held, Meter};
use crate::regular;
use crate::value::{List, Map, Value};

/// Nodes whose properties are kept while a query runs.
const KEPT_NODES: usize = 4096;

/// What a running query works with.
pub(crate) struct Env<'a> {
    pub(crate) graph: &'a dyn Graph,
    pub(crate) parameters: &'a BTreeMap<Name, Value>,
    pub(crate) meter: Meter<'a>,
    nodes: RefCell<HashMap<Name, Arc<Map>>>,
    /// The regular expression that was compiled last.
    regex: RefCell<Option<regular::Compiled>>,
}

/// The variables of a row, and what its aggregates came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) values: Vec<(Name, Value)>,
    pub(crate) aggregates: Vec<(usize, Value)>,
}

impl Row {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let mut values = self.values.iter().rev();
        values
            .find(|(own, _)| &**own == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn push(&mut self, name: &Name, value: Value) {
        self.values.push((Arc::clone(name), value));
    }

    pub(crate) fn bytes(&self) -> usize {
        let bytes = self.values.iter().map(|(_, value)| value.bytes());
        bytes.fold(24 * self.values.len(), usize::saturating_add)
    }
}

impl<'a> Env<'a> {
    pub(crate) fn new(
        graph: &'a dyn Graph,
        parameters: &'a BTreeMap<Name, Value>,
        meter: Meter<'a>,
    ) -> Self {
        Self {
            graph,
            parameters,
            meter,
            nodes: RefCell::default(),
            regex: RefCell::default(),
        }
    }

    /// The properties of a node; none of one that has gone meanwhile.
    pub(crate) fn properties(&self, id: &Name) -> Result<Arc<Map>, Error> {
        if let Some(kept) = self.nodes.borrow().get(id) {
            return Ok(Arc::clone(kept));
        }
        self.meter.tick()?;
        let found = self.graph.properties(id)?.unwrap_or_default();
        let found = Arc::new(Map::from(found));
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() >= KEPT_NODES {
            nodes.clear();
        }
        nodes.insert(Arc::clone(id), Arc::clone(&found));
        Ok(found)
    }

    /// Whether a condition holds; "perhaps" does not.
    pub(crate) fn holds(&self, condition: &Expr, row: &mut Row) -> Result<bool, Error> {
        Ok(truth(&self.eval(condition, row)?)? == Some(true))
    }

    #[expect(clippy::too_many_lines, reason = "one arm a form")]
    pub(crate) fn eval(&self, expr: &Expr, row: &mut Row) -> Result<Value, Error> {
        self.meter.tick()?;
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Parameter(name) => self
                .parameters
                .get(name)
                .cloned()
                .ok_or_else(|| Error::runtime(format!("there is no parameter ${name}"))),
            Expr::Variable(name, _) | Expr::Column(name) => row
                .get(name)
                .cloned()
                .ok_or_else(|| Error::runtime(format!("there is no variable {name}"))),
            Expr::Property(of, key) => {
                let of = self.eval(of, row)?;
                self.property(&of, key)
            }
            Expr::Index(of, index) => {
                let (of, index) = self.both(of, index, row)?;
                self.index(&of, &index)
            }
            Expr::Slice(of, from, to) => {
                let list = self.eval(of, row)?;
                let _held = self.held(of, &list)?;
                let ends = from.iter().chain(to).map(|end| &**end);
                let mut ends = self.each(ends, row)?.into_iter();
                let from = from.is_some().then(|| ends.next()).flatten();
                self.meter.walk(functions::length_bytes(&list))?;
                let part = slice(&list, from.as_ref(), ends.next().as_ref())?;
                self.meter.made(part)
            }
            Expr::List(values) => {
                let values = self.each(values, row)?;
                self.meter.list(values)
            }
            Expr::Map(entries) => {
                let values = self.each(entries.iter().map(|(_, value)| value), row)?;
                let keys = entries.iter().map(|(key, _)| Arc::clone(key));
                self.meter.made(Value::map(keys.zip(values).collect()))
            }
            Expr::Projected(of, items) => self.projected(of, items, row),
            Expr::Not(of) => {
                let of = truth(&self.eval(of, row)?)?;
                Ok(Value::of_truth(of.map(|truth| !truth)))
            }
            Expr::Negate(of) => negated(&self.eval(of, row)?),
            Expr::Binary(operator, one, other) => self.binary(*operator, one, other, row),
            Expr::Compared(first, others) => self.compared(first, others, row),
            Expr::IsNull(of, wanted) => {
                let is_null = self.eval(of, row)?.is_null();
                Ok(Value::Boolean(is_null == *wanted))
            }
            Expr::HasLabels(of, wanted) => match self.eval(of, row)? {
                Value::Null => Ok(Value::Null),
                Value::Node(id) => {
                    let labels = self.graph.labels(&id);
                    let has = |label: &Name| labels.contains(label);
                    Ok(Value::Boolean(wanted.iter().all(has)))
                }
                Value::Relationship(edge) => {
                    Ok(Value::Boolean(wanted.iter().all(|kind| *kind == edge.kind)))
                }
                other => Err(Error::runtime(format!("{} has no labels", other.kind()))),
            },
            Expr::Case {
                subject,
                arms,
                otherwise,
            } => self.case(subject.as_deref(), arms, otherwise.as_deref(), row),
            Expr::Call(name, arguments) => {
                let arguments = self.each(arguments, row)?;
                self.meter.made(functions::call(self, name, &arguments)?)
            }
            Expr::Aggregate(aggregate) => {
                let mut found = row.aggregates.iter();
                let found = found.find(|(place, _)| *place == aggregate.place);
                let misplaced = || Error::runtime("an aggregate stands where there are no groups");
                found.map(|(_, value)| value.clone()).ok_or_else(misplaced)
            }
            Expr::Comprehension {
                name,
                list,
                filter,
                value,
            } => self.comprehension(name, list, filter.as_deref(), value.as_deref(), row),
            Expr::Quantified {
                quantifier,
                name,
                list,
                filter,
            } => self.quantified(*quantifier, name, list, filter, row),
            Expr::Reduce {
                total,
                start,
                name,
                list,
                next,
            } => self.reduced((total, &**start), (name, &**list), next, row),
            Expr::Exists(inner) => self.exists(inner, row),
            Expr::Count(inner) => self.count(inner, row),
            Expr::PatternComprehension(inner, value) => self.gathered(inner, value, row),
        }
    }

    /// Counts what an expression came to for as long as others are found beside it.
    pub(crate) fn held(&self, expr: &Expr, value: &Value) -> Result<Held<'_, 'a>, Error> {
        let mut held = self.meter.holding();
        held.more(own_bytes(expr, value))?;
        Ok(held)
    }

    /// Two values, of which the first is counted while the second is found.
    fn both(&self, one: &Expr, other: &Expr, row: &mut Row) -> Result<(Value, Value), Error> {
        let first = self.eval(one, row)?;
        let _held = self.held(one, &first)?;
        let second = self.eval(other, row)?;
        Ok((first, second))
    }

    /// The values of expressions, counted until all of them are there.
    pub(crate) fn each<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        row: &mut Row,
    ) -> Result<Vec<Value>, Error> {
        let (mut values, mut held) = (Vec::new(), self.meter.holding());
        for expr in exprs {
            let value = self.eval(expr, row)?;
            held.more(own_bytes(expr, &value))?;
            values.push(value);
        }
        Ok(values)
    }

    /// Whether two values are equal, after counting how long it takes to find that.
    pub(crate) fn equal(&self, one: &Value, other: &Value) -> Result<Option<bool>, Error> {
        self.meter.walk(one.bytes().min(other.bytes()))?;
        Ok(equal(one, other))
    }

    fn reduced(
        &self,
        (total, start): (&Name, &Expr),
        (name, list): (&Name, &Expr),
        next: &Expr,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let mut so_far = self.eval(start, row)?;
        let mut held = self.held(start, &so_far)?;
        let values = self.eval(list, row)?;
        let _held = self.held(list, &values)?;
        for value in list_in(&values)?
            .into_iter()
            .flat_map(|values| values.iter())
        {
            let before = row.values.len();
            row.push(total, so_far);
            row.push(name, value.clone());
            let reduced = self.eval(next, row);
            row.values.truncate(before);
            so_far = reduced?;
            held.only(so_far.bytes())?;
        }
        Ok(so_far)
    }

    pub(crate) fn property(&self, of: &Value, key: &Name) -> Result<Value, Error> {
        match of {
            Value::Null | Value::Relationship(_) => Ok(Value::Null),
            Value::Map(entries) => Ok(entries.get(key).cloned().unwrap_or(Value::Null)),
            Value::Node(id) => {
                let properties = self.properties(id)?;
                Ok(properties.get(key).cloned().unwrap_or(Value::Null))
            }
            other => Err(Error::runtime(format!(
                "{} has no property {key}",
                other.kind()
            ))),
        }
    }

    fn index(&self, of: &Value, index: &Value) -> Result<Value, Error> {
        match (of, index) {
            (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
            (Value::List(values), Value::Integer(index)) => {
                let place = position(*index, values.len());
                Ok(place
                    .and_then(|place| values.get(place))
                    .cloned()
                    .unwrap_or(Value::Null))
            }
            (Value::Map(_) | Value::Node(_), Value::String(key)) => self.property(of, key),
            (of, index) => Err(Error::runtime(format!(
                "{} cannot be looked up in {}",
                index.kind(),
                of.kind()
            ))),
        }
    }

    fn projected(&self, of: &Expr, items: &[MapItem], row: &mut Row) -> Result<Value, Error> {
        let expr = of;
        let of = self.eval(of, row)?;
        if of.is_null() {
            return Ok(Value::Null);
        }
        let mut held = self.held(expr, &of)?;
        let mut map = BTreeMap::new();
        let mut put = |key: &Name, value: Value| {
            held.more(value.bytes())?;
            map.insert(Arc::clone(key), value);
            Ok::<(), Error>(())
        };
        for item in items {
            match item {
                MapItem::Property(key) => put(key, self.property(&of, key)?)?,
                MapItem::AllProperties => {
                    let all = functions::call(self, "properties", std::slice::from_ref(&of))?;
                    if let Value::Map(all) = all {
                        for (key, value) in all.iter() {
                            put(key, value.clone())?;
                        }
                    }
                }
                MapItem::Entry(key, value) => put(key, self.eval(value, row)?)?,
                MapItem::Variable(name, place) => {
                    let value = Expr::Variable(Arc::clone(name), *place);
                    put(name, self.eval(&value, row)?)?;
                }
            }
        }
        drop(held);
        self.meter.made(Value::map(map))
    }

    fn binary(
        &self,
        operator: Operator,
        first: &Expr,
        other: &Expr,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let one = self.eval(first, row)?;
        if let Operator::Or | Operator::And | Operator::Xor = operator {
            let first = truth(&one)?;
            // What one side decides the other is not asked for.
            match (operator, first) {
                (Operator::And, Some(false)) => return Ok(Value::Boolean(false)),
                (Operator::Or, Some(true)) => return Ok(Value::Boolean(true)),
                _ => {}
            }
            let second = truth(&self.eval(other, row)?)?;
            return Ok(Value::of_truth(match operator {
                Operator::And => all([first, second].into_iter()),
                Operator::Or => {
                    all([first, second].into_iter().map(|t| t.map(|t| !t))).map(|none| !none)
                }
                _ => first.zip(second).map(|(first, second)| first != second),
            }));
        }
        let held = self.held(first, &one)?;
        let other = self.eval(other, row)?;
        drop(held);
        match operator {
            Operator::In => self.is_in(&one, &other),
            Operator::StartsWith | Operator::EndsWith | Operator::Contains | Operator::Matches => {
                self.of_texts(operator, &one, &other)
            }
            _ => self.arithmetic(operator, &one, &other),
        }
    }

    fn is_in(&self, one: &Value, list: &Value) -> Result<Value, Error> {
        let Some(values) = list_in(list)? else {
            return Ok(Value::Null);
        };
        let mut decided = Some(false);
        for value in values.iter() {
            match self.equal(one, value)? {
                Some(true) => return Ok(Value::Boolean(true)),
                None => decided = None,
                Some(false) => {}
            }
        }
        Ok(Value::of_truth(decided))
    }

    fn of_texts(&self, operator: Operator, one: &Value, other: &Value) -> Result<Value, Error> {
        let (Value::String(text), Value::String(part)) = (one, other) else {
            return Ok(Value::Null);
        };
        self.meter.walk(text.len().saturating_add(part.len()))?;
        Ok(Value::Boolean(match operator {
            Operator::StartsWith => text.starts_with(&**part),
            Operator::EndsWith => text.ends_with(&**part),
            Operator::Contains => text.contains(&**part),
            _ => {
                // One match takes as long as many other pieces of work.
                self.meter.look()?;
                regular::matches(&mut self.regex.borrow_mut(), text, part)?
            }
        }))
    }

    fn arithmetic(&self, operator: Operator, one: &Value, other: &Value) -> Result<Value, Error> {
        if let Operator::Add = operator {
            if let (Value::List(_), _) | (_, Value::List(_)) = (one, other) {
                return self.joined(one, other);
            }
            let joined = |a: &str, b: &str| {
                self.meter.copied(a.len() + b.len())?;
                Ok(Value::text(&format!("{a}{b}")))
            };
            match (one, other) {
                (Value::String(a), Value::String(b)) => return joined(a, b),
                (Value::String(a), Value::Integer(b)) => return joined(a, &b.to_string()),
                (Value::Integer(a), Value::String(b)) => return joined(&a.to_string(), b),
                (Value::String(a), Value::Float(b)) => return joined(a, &float_text(*b)),
                (Value::Float(a), Value::String(b)) => return joined(&float_text(*a), b),
                _ => {}
            }
        }
        numbers(operator, one, other)
    }

    fn joined(&self, one: &Value, other: &Value) -> Result<Value, Error> {
        if one.is_null() || other.is_null() {
            return Ok(Value::Null);
        }
        let values = |value: &Value| match value {
            Value::List(values) => Value::clone(&Value::List(Arc::clone(values))),
            single => Value::list(vec![single.clone()]),
        };
        let (Value::List(one), Value::List(other)) = (values(one), values(other)) else {
            return Ok(Value::Null);
        };
        let count = one.len() + other.len();
        self.meter
            .copied(count.saturating_mul(size_of::<Value>()))?;
        self.meter
            .list(one.iter().chain(other.iter()).cloned().collect())
    }

    fn compared(
        &self,
        first: &Expr,
        others: &[(Comparison, Expr)],
        row: &mut Row,
    ) -> Result<Value, Error> {
        let (mut left, mut of) = (self.eval(first, row)?, first);
        let mut truths = Vec::with_capacity(others.len());
        for (comparison, other) in others {
            let held = self.held(of, &left)?;
            let right = self.eval(other, row)?;
            drop(held);
            self.meter.walk(left.bytes().min(right.bytes()))?;
            truths.push(match comparison {
                Comparison::Equal => equal(&left, &right),
                Comparison::NotEqual => equal(&left, &right).map(|truth| !truth),
                _ if is_nan_among_numbers(&left, &right) => Some(false),
                Comparison::Less => compare(&left, &right).map(std::cmp::Ordering::is_lt),
                Comparison::LessOrEqual => compare(&left, &right).map(std::cmp::Ordering::is_le),
                Comparison::Greater => compare(&left, &right).map(std::cmp::Ordering::is_gt),
                Comparison::GreaterOrEqual => compare(&left, &right).map(std::cmp::Ordering::is_ge),
            });
            (left, of) = (right, other);
        }
        Ok(Value::of_truth(all(truths.into_iter())))
    }

    fn case(
        &self,
        subject: Option<&Expr>,
        arms: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let found = subject.map(|subject| self.eval(subject, row)).transpose()?;
        let subject = found.as_ref().zip(subject);
        let held = subject.map(|(subject, expr)| self.held(expr, subject));
        let _held = held.transpose()?;
        for (when, then) in arms {
            let is_chosen = match subject {
                Some((subject, _)) => {
                    let when = self.eval(when, row)?;
                    self.equal(subject, &when)? == Some(true)
                }
                None => self.holds(when, row)?,
            };
            if is_chosen {
                return self.eval(then, row);
            }
        }
        otherwise.map_or(Ok(Value::Null), |otherwise| self.eval(otherwise, row))
    }

    fn comprehension(
        &self,
        name: &Name,
        list: &Expr,
        filter: Option<&Expr>,
        value: Option<&Expr>,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let found = self.eval(list, row)?;
        let Some(values) = list_in(&found)? else {
            return Ok(Value::Null);
        };
        let (mut gathered, mut held) = (Vec::new(), self.held(list, &found)?);
        for each in values.iter() {
            let before = row.values.len();
            row.push(name, each.clone());
            let kept = filter.map_or(Ok(true), |filter| self.holds(filter, row));
            let mapped = kept.and_then(|kept| match (kept, value) {
                (false, _) => Ok(None),
                (true, None) => Ok(Some(each.clone())),
                (true, Some(value)) => self.eval(value, row).map(Some),
            });
            row.values.truncate(before);
            if let Some(value) = mapped? {
                held.more(value.bytes())?;
                gathered.push(value);
            }
        }
        drop(held);
        self.meter.list(gathered)
    }

    fn quantified(
        &self,
        quantifier: Quantifier,
        name: &Name,
        list: &Expr,
        filter: &Expr,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let found = self.eval(list, row)?;
        let Some(values) = list_in(&found)? else {
            return Ok(Value::Null);
        };
        let _held = self.held(list, &found)?;
        let (mut trues, mut falses, mut unknown) = (0_usize, 0_usize, 0_usize);
        for each in values.iter() {
            let before = row.values.len();
            row.push(name, each.clone());
            let found = self.eval(filter, row);
            row.values.truncate(before);
            match truth(&found?)? {
                Some(true) => trues += 1,
                Some(false) => falses += 1,
                None => unknown += 1,
            }
        }
        let decided = match quantifier {
            Quantifier::All if falses > 0 => Some(false),
            Quantifier::Any if trues > 0 => Some(true),
            Quantifier::None if trues > 0 => Some(false),
            Quantifier::Single if trues > 1 => Some(false),
            _ if unknown > 0 => None,
            Quantifier::All | Quantifier::None => Some(true),
            Quantifier::Any => Some(false),
            Quantifier::Single => Some(trues == 1),
        };
        Ok(Value::of_truth(decided))
    }
}

/// Bytes that an expression made; what a variable holds is counted where it was put there.
pub(crate) fn own_bytes(expr: &Expr, value: &Value) -> usize {
    match expr {
        Expr::Variable(..)
        | Expr::Column(_)
        | Expr::Parameter(_)
        | Expr::Literal(_)
        | Expr::Aggregate(_) => 0,
        _ => value.bytes(),
    }
}

/// A truth, or "perhaps".
pub(crate) fn truth(value: &Value) -> Result<Option<bool>, Error> {
    match value {
        Value::Null => Ok(None),
        Value::Boolean(truth) => Ok(Some(*truth)),
        other => Err(Error::runtime(format!(
            "{} is neither true nor false",
            other.kind()
        ))),
    }
}

/// The values of a list; none of null.
fn list_in(value: &Value) -> Result<Option<&Arc<List>>, Error> {
    match value {
        Value::Null => Ok(None),
        Value::List(values) => Ok(Some(values)),
        other => Err(Error::runtime(format!("{} is no list", other.kind()))),
    }
}

/// A place in a list; from the end when it is below 0.
fn position(index: i64, length: usize) -> Option<usize> {
    if index < 0 {
        let back = usize::try_from(index.unsigned_abs()).ok()?;
        return length.checked_sub(back);
    }
    usize::try_from(index).ok()
}

fn slice(of: &Value, from: Option<&Value>, to: Option<&Value>) -> Result<Value, Error> {
    let Some(values) = list_in(of)? else {
        return Ok(Value::Null);
    };
    let end = |end: Option<&Value>, default: usize| match end {
        None => Ok(Some(default)),
        Some(Value::Null) => Ok(None),
        Some(Value::Integer(index)) => {
            let place = position(*index, values.len()).unwrap_or(0);
            Ok(Some(place.min(values.len())))
        }
        Some(other) => Err(Error::runtime(format!(
            "{} is no place in a list",
            other.kind()
        ))),
    };
    let (Some(from), Some(to)) = (end(from, 0)?, end(to, values.len())?) else {
        return Ok(Value::Null);
    };
    Ok(Value::list(
        values.get(from..to).unwrap_or_default().to_vec(),
    ))
}

fn negated(value: &Value) -> Result<Value, Error> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Integer(integer) => integer
            .checked_neg()
            .map(Value::Integer)
            .ok_or_else(|| Error::runtime("integer overflow")),
        Value::Float(float) => Ok(Value::Float(-float)),
        other => Err(Error::runtime(format!("{} has no negative", other.kind()))),
    }
}

#[allow(clippy::cast_precision_loss, reason = "as the reference has it")]
pub(crate) fn numbers(operator: Operator, one: &Value, other: &Value) -> Result<Value, Error> {
    let overflow = || Error::runtime("integer overflow");
    let (a, b) = match (one, other) {
        (Value::Null, _) | (_, Value::Null) => return Ok(Value::Null),
        (Value::Integer(a), Value::Integer(b)) => {
            let result = match operator {
                Operator::Add => a.checked_add(*b),
                Operator::Subtract => a.checked_sub(*b),
                Operator::Multiply => a.checked_mul(*b),
                Operator::Divide | Operator::Modulo if *b == 0 => {
                    return Err(Error::runtime("division by zero"));
                }
                Operator::Divide => a.checked_div(*b),
                // The least integer by -1 has no quotient; what is left over is 0.
                Operator::Modulo => Some(a.wrapping_rem(*b)),
                _ => return Ok(Value::Float((*a as f64).powf(*b as f64))),
            };
            return result.map(Value::Integer).ok_or_else(overflow);
        }
        (Value::Integer(a), Value::Float(b)) => (*a as f64, *b),
        (Value::Float(a), Value::Integer(b)) => (*a, *b as f64),
        (Value::Float(a), Value::Float(b)) => (*a, *b),
        (one, other) => {
            let problem = format!(
                "there is no arithmetic of {} and {}",
                one.kind(),
                other.kind()
            );
            return Err(Error::runtime(problem));
        }
    };
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Modulo => a % b,
        _ => a.powf(b),
    }))
}
