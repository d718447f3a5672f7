//! Expressions to values.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ast::{Comparison, Expr, MapItem, Name, Operator, Quantifier};
use crate::compare::{all, compare, equal, is_nan_among_numbers};
use crate::error::Error;
use crate::functions::{self, float_text};
use crate::graph::Graph;
use crate::limits::Meter;
use crate::value::Value;

/// Nodes whose properties are kept while a query runs.
const KEPT_NODES: usize = 4096;
/// Longest regular expression, compiled, in bytes.
const REGEX_BYTES: usize = 1 << 20;

/// What a running query works with.
pub(crate) struct Env<'a> {
    pub(crate) graph: &'a dyn Graph,
    pub(crate) parameters: &'a BTreeMap<Name, Value>,
    pub(crate) meter: Meter<'a>,
    nodes: RefCell<HashMap<Name, Arc<BTreeMap<Name, Value>>>>,
    /// The regular expression that was compiled last.
    regex: RefCell<Option<(Arc<str>, regex::Regex)>>,
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
        self.values
            .iter()
            .map(|(_, value)| 24 + value.bytes())
            .sum()
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
    pub(crate) fn properties(&self, id: &Name) -> Result<Arc<BTreeMap<Name, Value>>, Error> {
        if let Some(kept) = self.nodes.borrow().get(id) {
            return Ok(Arc::clone(kept));
        }
        self.meter.tick()?;
        let found = Arc::new(self.graph.properties(id)?.unwrap_or_default());
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
            Expr::Variable(name, _) => row
                .get(name)
                .cloned()
                .ok_or_else(|| Error::runtime(format!("there is no variable {name}"))),
            Expr::Property(of, key) => {
                let of = self.eval(of, row)?;
                self.property(&of, key)
            }
            Expr::Index(of, index) => {
                let (of, index) = (self.eval(of, row)?, self.eval(index, row)?);
                self.index(&of, &index)
            }
            Expr::Slice(of, from, to) => {
                let of = self.eval(of, row)?;
                let mut end = |end: &Option<Box<Expr>>| {
                    end.as_ref().map(|end| self.eval(end, row)).transpose()
                };
                let ends = (end(from)?, end(to)?);
                slice(&of, ends.0.as_ref(), ends.1.as_ref())
            }
            Expr::List(values) => {
                let values = values.iter().map(|value| self.eval(value, row));
                Ok(Value::list(values.collect::<Result<_, _>>()?))
            }
            Expr::Map(entries) => {
                let entries = entries.iter();
                let entries =
                    entries.map(|(key, value)| Ok((Arc::clone(key), self.eval(value, row)?)));
                Ok(Value::Map(Arc::new(entries.collect::<Result<_, Error>>()?)))
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
                let arguments = arguments.iter().map(|argument| self.eval(argument, row));
                let arguments: Vec<Value> = arguments.collect::<Result<_, _>>()?;
                functions::call(self, name, &arguments)
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
            } => {
                let mut so_far = self.eval(start, row)?;
                for value in self.values_of(list, row)?.iter() {
                    let before = row.values.len();
                    row.push(total, so_far);
                    row.push(name, value.clone());
                    let reduced = self.eval(next, row);
                    row.values.truncate(before);
                    so_far = reduced?;
                    self.meter.may_hold(so_far.bytes())?;
                }
                Ok(so_far)
            }
            Expr::Exists(inner) => self.exists(inner, row),
            Expr::Count(inner) => self.count(inner, row),
            Expr::PatternComprehension(inner, value) => self.gathered(inner, value, row),
        }
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
        let of = self.eval(of, row)?;
        if of.is_null() {
            return Ok(Value::Null);
        }
        let mut map = BTreeMap::new();
        for item in items {
            match item {
                MapItem::Property(key) => {
                    map.insert(Arc::clone(key), self.property(&of, key)?);
                }
                MapItem::AllProperties => {
                    let all = functions::call(self, "properties", std::slice::from_ref(&of))?;
                    if let Value::Map(all) = all {
                        map.extend(
                            all.iter()
                                .map(|(key, value)| (Arc::clone(key), value.clone())),
                        );
                    }
                }
                MapItem::Entry(key, value) => {
                    map.insert(Arc::clone(key), self.eval(value, row)?);
                }
                MapItem::Variable(name, place) => {
                    let value = Expr::Variable(Arc::clone(name), *place);
                    map.insert(Arc::clone(name), self.eval(&value, row)?);
                }
            }
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn binary(
        &self,
        operator: Operator,
        one: &Expr,
        other: &Expr,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let one = self.eval(one, row)?;
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
        let other = self.eval(other, row)?;
        match operator {
            Operator::In => is_in(&one, &other),
            Operator::StartsWith | Operator::EndsWith | Operator::Contains | Operator::Matches => {
                self.of_texts(operator, &one, &other)
            }
            _ => self.arithmetic(operator, &one, &other),
        }
    }

    fn of_texts(&self, operator: Operator, one: &Value, other: &Value) -> Result<Value, Error> {
        let (Value::String(text), Value::String(part)) = (one, other) else {
            return Ok(Value::Null);
        };
        Ok(Value::Boolean(match operator {
            Operator::StartsWith => text.starts_with(&**part),
            Operator::EndsWith => text.ends_with(&**part),
            Operator::Contains => text.contains(&**part),
            _ => self.matches(text, part)?,
        }))
    }

    fn matches(&self, text: &str, pattern: &Arc<str>) -> Result<bool, Error> {
        let mut kept = self.regex.borrow_mut();
        if let Some((last, regex)) = &*kept
            && last == pattern
        {
            return Ok(regex.is_match(text));
        }
        // The pattern by itself first: it must not close the group that is put around it.
        let compile = |pattern: &str| {
            regex::RegexBuilder::new(pattern)
                .size_limit(REGEX_BYTES)
                .build()
        };
        let whole = format!("^(?:{pattern})$");
        let regex = compile(pattern).and_then(|_| compile(&whole));
        let regex =
            regex.map_err(|error| Error::runtime(format!("regular expression: {error}")))?;
        let is_match = regex.is_match(text);
        *kept = Some((Arc::clone(pattern), regex));
        Ok(is_match)
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
        Ok(Value::list(
            one.iter().chain(other.iter()).cloned().collect(),
        ))
    }

    fn compared(
        &self,
        first: &Expr,
        others: &[(Comparison, Expr)],
        row: &mut Row,
    ) -> Result<Value, Error> {
        let mut left = self.eval(first, row)?;
        let mut truths = Vec::with_capacity(others.len());
        for (comparison, other) in others {
            let right = self.eval(other, row)?;
            truths.push(match comparison {
                Comparison::Equal => equal(&left, &right),
                Comparison::NotEqual => equal(&left, &right).map(|truth| !truth),
                _ if is_nan_among_numbers(&left, &right) => Some(false),
                Comparison::Less => compare(&left, &right).map(std::cmp::Ordering::is_lt),
                Comparison::LessOrEqual => compare(&left, &right).map(std::cmp::Ordering::is_le),
                Comparison::Greater => compare(&left, &right).map(std::cmp::Ordering::is_gt),
                Comparison::GreaterOrEqual => compare(&left, &right).map(std::cmp::Ordering::is_ge),
            });
            left = right;
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
        let subject = subject.map(|subject| self.eval(subject, row)).transpose()?;
        for (when, then) in arms {
            let is_chosen = match &subject {
                Some(subject) => equal(subject, &self.eval(when, row)?) == Some(true),
                None => self.holds(when, row)?,
            };
            if is_chosen {
                return self.eval(then, row);
            }
        }
        otherwise.map_or(Ok(Value::Null), |otherwise| self.eval(otherwise, row))
    }

    /// The values of a list; none of null.
    fn values_of(&self, list: &Expr, row: &mut Row) -> Result<Arc<Vec<Value>>, Error> {
        let list = self.eval(list, row)?;
        Ok(list_in(&list)?.cloned().unwrap_or_default())
    }

    fn comprehension(
        &self,
        name: &Name,
        list: &Expr,
        filter: Option<&Expr>,
        value: Option<&Expr>,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let list = self.eval(list, row)?;
        let Some(values) = list_in(&list)? else {
            return Ok(Value::Null);
        };
        let (mut found, mut bytes) = (Vec::new(), 0);
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
                bytes += value.bytes();
                self.meter.may_hold(bytes)?;
                found.push(value);
            }
        }
        Ok(Value::list(found))
    }

    fn quantified(
        &self,
        quantifier: Quantifier,
        name: &Name,
        list: &Expr,
        filter: &Expr,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let list = self.eval(list, row)?;
        let Some(values) = list_in(&list)? else {
            return Ok(Value::Null);
        };
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
fn list_in(value: &Value) -> Result<Option<&Arc<Vec<Value>>>, Error> {
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

fn is_in(one: &Value, list: &Value) -> Result<Value, Error> {
    let Some(values) = list_in(list)? else {
        return Ok(Value::Null);
    };
    let mut decided = Some(false);
    for value in values.iter() {
        match equal(one, value) {
            Some(true) => return Ok(Value::Boolean(true)),
            None => decided = None,
            Some(false) => {}
        }
    }
    Ok(Value::of_truth(decided))
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
                Operator::Modulo => a.checked_rem(*b),
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
