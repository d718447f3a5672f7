//! A query from its text to its rows.
//!
//! Rows flow from clause to clause as they are found; only what groups, sorts or leaves out what
//! was there keeps any, and counts what it keeps.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::aggregate::Gathered;
use crate::ast::{Aggregate, Clause, Expr, Item, MapItem, Name, Projection, Union};
use crate::check::{aggregates, check, columns_of, has_aggregate};
use crate::compare::{Key, order};
use crate::error::Error;
use crate::eval::{Env, Row, own_bytes};
use crate::graph::Graph;
use crate::limits::{Held, Limits, Meter};
use crate::matching::Flow;
use crate::parser::parse;
use crate::patience::Patience;
use crate::sorting::sorted;
use crate::value::{List, Value, bytes_of};

/// A query that was read and checked.
#[derive(Debug, Clone)]
pub struct Query {
    union: Union,
    columns: Vec<Name>,
}

/// The rows of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<Arc<str>>,
    /// The rows, each with a value for each column.
    pub rows: Vec<Vec<Value>>,
    /// Whether there are more than the limit.
    pub is_truncated: bool,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::Unsupported`], [`Error::WriteRefused`], [`Error::Limit`].
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, Error> {
        if text.len() > limits.text_bytes {
            return Err(Error::Limit {
                what: "the query's text",
                limit: format!("{} bytes", limits.text_bytes),
            });
        }
        let union = parse(text)?;
        let columns = check(text, &union)?;
        Ok(Self { union, columns })
    }

    /// Runs it, as long as there is patience.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Limit`], [`Error::Graph`], [`Error::Cancelled`].
    pub fn run(
        &self,
        graph: &dyn Graph,
        parameters: &BTreeMap<Arc<str>, Value>,
        limits: &Limits,
        patience: &Patience,
    ) -> Result<Answer, Error> {
        if parameters.len() > limits.parameters {
            return Err(Error::Limit {
                what: "the number of parameters",
                limit: limits.parameters.to_string(),
            });
        }
        let env = Env::new(graph, parameters, Meter::start(limits, patience));
        for value in parameters.values() {
            env.meter.made(value.clone())?;
            env.meter.keep(value.bytes())?;
        }
        let mut rows = Rows {
            env: &env,
            found: Vec::new(),
            seen: self.union.is_distinct.then(BTreeSet::new),
            is_truncated: false,
        };
        for clauses in &self.union.parts {
            let mut stages = Stage::of(clauses);
            for stage in &mut stages {
                if let Stage::Project(projecting) = stage {
                    projecting.counts(&env)?;
                }
            }
            let flow = feed(&env, &mut stages, &mut rows, &mut Row::default())?;
            // A LIMIT in the middle stops what comes before it, and not what comes behind.
            if flow.is_continue() || !rows.is_truncated {
                finish(&env, &mut stages, &mut rows)?;
            }
        }
        Ok(Answer {
            columns: self.columns.clone(),
            rows: rows.found,
            is_truncated: rows.is_truncated,
        })
    }
}

/// The rows of the answer, as they come.
struct Rows<'a> {
    env: &'a Env<'a>,
    found: Vec<Vec<Value>>,
    seen: Option<BTreeSet<Key>>,
    is_truncated: bool,
}

impl Rows<'_> {
    fn take(&mut self, row: &Row) -> Result<Flow, Error> {
        let values: Vec<Value> = row.values.iter().map(|(_, value)| value.clone()).collect();
        if let Some(seen) = &mut self.seen {
            self.env.meter.look_up(row.bytes(), seen.len())?;
            if !seen.insert(Key(values.clone())) {
                return Ok(Flow::Continue(()));
            }
            self.env.meter.keep(row.bytes())?;
        }
        if self.found.len() >= self.env.meter.limits.rows {
            self.is_truncated = true;
            return Ok(Flow::Break(()));
        }
        self.env.meter.keep(row.bytes())?;
        self.found.push(values);
        Ok(Flow::Continue(()))
    }
}

/// A clause, and what it keeps while rows flow through it.
enum Stage<'q> {
    /// One that keeps nothing.
    Plain(&'q Clause),
    Project(Box<Projecting<'q>>),
}

struct Projecting<'q> {
    projection: &'q Projection,
    /// All aggregates in it; where there are any, rows are put into groups.
    aggregates: Vec<&'q Aggregate>,
    is_grouped: bool,
    groups: BTreeMap<Key, Group>,
    seen: BTreeSet<Key>,
    /// Bytes that the meter counts for what was seen.
    seen_bytes: usize,
    sorted: Vec<Sorted>,
    /// How many are to be passed over, and taken; none before the first row.
    counts: Option<(usize, Option<usize>)>,
    passed: usize,
    taken: usize,
}

/// Rows that are alike in what is no aggregate.
struct Group {
    first: Row,
    gathered: Vec<Gathered>,
    /// Bytes that the meter counts for its key and first row.
    kept: usize,
}

impl Group {
    fn bytes(&self) -> usize {
        let gathered = self.gathered.iter().map(|gathered| gathered.kept);
        gathered.fold(self.kept, usize::saturating_add)
    }
}

/// A row that waits to be sorted, and the values by which it is.
struct Sorted {
    keys: Vec<Value>,
    row: Row,
}

impl Sorted {
    fn bytes(&self) -> usize {
        let own = size_of::<Self>() + self.row.bytes();
        own.saturating_add(bytes_of(&self.keys))
    }
}

impl<'q> Stage<'q> {
    fn of(clauses: &'q [Clause]) -> Vec<Self> {
        clauses
            .iter()
            .map(|clause| match clause {
                Clause::Project(projection) => Self::Project(Box::new(Projecting::new(projection))),
                clause => Self::Plain(clause),
            })
            .collect()
    }
}

/// Takes a row through the clauses.
fn feed(
    env: &Env<'_>,
    stages: &mut [Stage<'_>],
    rows: &mut Rows<'_>,
    row: &mut Row,
) -> Result<Flow, Error> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        return rows.take(row);
    };
    match stage {
        Stage::Project(projecting) => {
            projecting.feed(env, row, &mut |row| feed(env, rest, rows, row))
        }
        Stage::Plain(Clause::Unwind { list, name }) => {
            let found = env.eval(list, row)?;
            let _held = env.held(list, &found)?;
            let values = match found {
                Value::Null => return Ok(Flow::Continue(())),
                Value::List(values) => values,
                single => Arc::new(List::from(vec![single])),
            };
            for value in values.iter() {
                env.meter.tick()?;
                let before = row.values.len();
                row.push(name, value.clone());
                let flow = feed(env, rest, rows, row);
                row.values.truncate(before);
                if flow?.is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            Ok(Flow::Continue(()))
        }
        Stage::Plain(Clause::Match {
            is_optional,
            patterns,
            filter,
        }) => {
            let mut is_found = false;
            let flow = env.find(patterns, filter.as_ref(), row, &mut |row| {
                is_found = true;
                feed(env, rest, rows, row)
            })?;
            if is_found || !is_optional {
                return Ok(flow);
            }
            let before = row.values.len();
            for name in named(patterns) {
                if row.get(name).is_none() {
                    row.push(name, Value::Null);
                }
            }
            let flow = feed(env, rest, rows, row);
            row.values.truncate(before);
            flow
        }
        Stage::Plain(Clause::Project(_)) => Ok(Flow::Continue(())),
    }
}

/// Tells the clauses in order that no more rows come.
fn finish(env: &Env<'_>, stages: &mut [Stage<'_>], rows: &mut Rows<'_>) -> Result<(), Error> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        return Ok(());
    };
    if let Stage::Project(projecting) = stage {
        projecting.finish(env, &mut |row| feed(env, rest, rows, row))?;
    }
    finish(env, rest, rows)
}

/// Every variable that patterns name.
fn named(patterns: &[crate::ast::PathPattern]) -> impl Iterator<Item = &Name> {
    patterns.iter().flat_map(|pattern| {
        let steps = pattern.steps.iter();
        let steps = steps.flat_map(|(edge, node)| [edge.name.as_ref(), node.name.as_ref()]);
        let ends = [pattern.name.as_ref(), pattern.first.name.as_ref()];
        ends.into_iter().chain(steps).flatten()
    })
}

type Emit<'e> = &'e mut dyn FnMut(&mut Row) -> Result<Flow, Error>;

impl<'q> Projecting<'q> {
    fn new(projection: &'q Projection) -> Self {
        let mut found = Vec::new();
        for item in &projection.items {
            gather(&item.value, &mut found);
        }
        Self {
            is_grouped: !found.is_empty(),
            aggregates: found,
            projection,
            groups: BTreeMap::new(),
            seen: BTreeSet::new(),
            seen_bytes: 0,
            sorted: Vec::new(),
            counts: None,
            passed: 0,
            taken: 0,
        }
    }

    fn feed(&mut self, env: &Env<'_>, row: &mut Row, emit: Emit<'_>) -> Result<Flow, Error> {
        if !self.is_grouped {
            let (projected, _held) = self.project(env, row)?;
            return self.projected(env, row, projected, emit);
        }
        let (mut key, mut held) = (Vec::new(), env.meter.holding());
        for item in self.keys() {
            let value = env.eval(&item.value, row)?;
            held.more(own_bytes(&item.value, &value))?;
            key.push(value);
        }
        drop(held);
        if self.projection.has_star {
            key.extend(row.values.iter().map(|(_, value)| value.clone()));
        }
        let key_bytes = bytes_of(&key);
        env.meter.look_up(key_bytes, self.groups.len())?;
        let mut kept = 0;
        let aggregates = &self.aggregates;
        let group = self.groups.entry(Key(key)).or_insert_with(|| {
            kept = key_bytes.saturating_add(row.bytes()).saturating_add(128);
            Group {
                first: row.clone(),
                gathered: aggregates.iter().map(|a| Gathered::new(a)).collect(),
                kept,
            }
        });
        env.meter.keep(kept)?;
        for (aggregate, gathered) in aggregates.iter().zip(&mut group.gathered) {
            gathered.add(aggregate, env, row)?;
        }
        Ok(Flow::Continue(()))
    }

    /// The items that rows are grouped by.
    fn keys(&self) -> impl Iterator<Item = &'q Item> + use<'q> {
        self.projection
            .items
            .iter()
            .filter(|item| !has_aggregate(item))
    }

    /// The row of the right columns; what is new in it is counted as long as it is on its way.
    fn project<'m, 'a>(
        &self,
        env: &'m Env<'a>,
        row: &mut Row,
    ) -> Result<(Row, Held<'m, 'a>), Error> {
        let (mut projected, mut held) = (Row::default(), env.meter.holding());
        if self.projection.has_star {
            let scope: BTreeMap<Name, Value> = row.values.iter().cloned().collect();
            let all = columns_of(self.projection, scope.keys());
            for name in &all {
                if let Some(value) = scope.get(name) {
                    projected.push(name, value.clone());
                }
            }
        }
        for item in &self.projection.items {
            let value = env.eval(&item.value, row)?;
            held.more(own_bytes(&item.value, &value))?;
            projected.values.retain(|(name, _)| *name != item.name);
            projected.push(&item.name, value);
        }
        Ok((projected, held))
    }

    /// What is done with a row of the right columns: left out, kept to be sorted, or passed on.
    fn projected(
        &mut self,
        env: &Env<'_>,
        before: &mut Row,
        mut row: Row,
        emit: Emit<'_>,
    ) -> Result<Flow, Error> {
        if self.projection.is_distinct {
            let key = Key(row.values.iter().map(|(_, value)| value.clone()).collect());
            env.meter.look_up(row.bytes(), self.seen.len())?;
            if !self.seen.insert(key) {
                return Ok(Flow::Continue(()));
            }
            let bytes = row.bytes().saturating_add(64);
            env.meter.keep(bytes)?;
            self.seen_bytes += bytes;
        }
        if self.projection.order.is_empty() {
            return self.pass_on(env, &mut row, emit);
        }
        // What was projected hides what was there before.
        let length = before.values.len();
        before.values.extend(row.values.iter().cloned());
        let keys = env.each(self.projection.order.iter().map(|(by, _)| by), before);
        before.values.truncate(length);
        let waiting = Sorted { keys: keys?, row };
        env.meter.keep(waiting.bytes())?;
        self.sorted.push(waiting);
        let (skip, limit) = self.counts(env)?;
        if let Some(limit) = limit {
            let most = skip.saturating_add(limit);
            if self.sorted.len() >= most.saturating_mul(2).saturating_add(1024) {
                self.sort(env)?;
                let dropped = self.sorted.drain(most..).map(|row| row.bytes());
                env.meter.release(dropped.sum());
            }
        }
        Ok(Flow::Continue(()))
    }

    fn sort(&mut self, env: &Env<'_>) -> Result<(), Error> {
        let by = &self.projection.order;
        let rows = &self.sorted;
        let places = sorted(rows.len(), |one, other| {
            let pairs = rows[one].keys.iter().zip(&rows[other].keys);
            for ((one, other), (_, is_descending)) in pairs.zip(by) {
                env.meter.walk(one.bytes().min(other.bytes()))?;
                let order = order(one, other);
                if order.is_ne() {
                    return Ok(if *is_descending {
                        order.reverse()
                    } else {
                        order
                    });
                }
            }
            Ok(Ordering::Equal)
        })?;
        let rows = std::mem::take(&mut self.sorted).into_iter();
        let mut rows: Vec<Option<Sorted>> = rows.map(Some).collect();
        let places = places.into_iter();
        self.sorted = places.filter_map(|place| rows[place].take()).collect();
        Ok(())
    }

    fn counts(&mut self, env: &Env<'_>) -> Result<(usize, Option<usize>), Error> {
        if let Some(counts) = self.counts {
            return Ok(counts);
        }
        let count = |what: &str, expr: &Option<Expr>| -> Result<Option<usize>, Error> {
            let Some(expr) = expr else { return Ok(None) };
            match env.eval(expr, &mut Row::default())? {
                Value::Integer(number) if number >= 0 => {
                    Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
                }
                _ => Err(Error::runtime(format!(
                    "{what} takes a whole number from 0"
                ))),
            }
        };
        let skip = count("SKIP", &self.projection.skip)?.unwrap_or(0);
        let counts = (skip, count("LIMIT", &self.projection.limit)?);
        self.counts = Some(counts);
        Ok(counts)
    }

    fn pass_on(&mut self, env: &Env<'_>, row: &mut Row, emit: Emit<'_>) -> Result<Flow, Error> {
        let (skip, limit) = self.counts(env)?;
        if self.passed < skip {
            self.passed += 1;
            return Ok(Flow::Continue(()));
        }
        if limit.is_some_and(|limit| self.taken >= limit) {
            return Ok(Flow::Break(()));
        }
        self.taken += 1;
        if let Some(filter) = &self.projection.filter
            && !env.holds(filter, row)?
        {
            return Ok(Flow::Continue(()));
        }
        let flow = emit(row)?;
        let is_full = limit.is_some_and(|limit| self.taken >= limit);
        Ok(if is_full { Flow::Break(()) } else { flow })
    }

    /// Drops the rows that others were held against.
    fn forget_seen(&mut self, env: &Env<'_>) {
        self.seen.clear();
        env.meter.release(std::mem::take(&mut self.seen_bytes));
    }

    fn finish(&mut self, env: &Env<'_>, emit: Emit<'_>) -> Result<(), Error> {
        if self.is_grouped {
            let mut groups = std::mem::take(&mut self.groups);
            if groups.is_empty() && self.keys().next().is_none() && !self.projection.has_star {
                // Nothing at all is one group of no rows.
                let gathered = self.aggregates.iter().map(|a| Gathered::new(a)).collect();
                let first = Row::default();
                let kept = 0;
                groups.insert(
                    Key(Vec::new()),
                    Group {
                        first,
                        gathered,
                        kept,
                    },
                );
            }
            let mut groups = groups.into_values();
            while let Some(group) = groups.next() {
                env.meter.release(group.kept);
                let (mut row, mut held) = (group.first, env.meter.holding());
                held.more(row.bytes())?;
                for (aggregate, gathered) in self.aggregates.iter().zip(group.gathered) {
                    let value = gathered.finish(aggregate.kind, env)?;
                    held.more(value.bytes())?;
                    row.aggregates.push((aggregate.place, value));
                }
                let (projected, _held) = self.project(env, &mut row)?;
                if self.projected(env, &mut row, projected, emit)?.is_break() {
                    env.meter.release(groups.map(|group| group.bytes()).sum());
                    self.forget_seen(env);
                    return Ok(());
                }
            }
        }
        self.forget_seen(env);
        self.sort(env)?;
        let mut sorted = std::mem::take(&mut self.sorted).into_iter();
        for waiting in sorted.by_ref() {
            env.meter.release(waiting.bytes());
            let mut row = waiting.row;
            let mut held = env.meter.holding();
            held.more(row.bytes())?;
            if let ControlFlow::Break(()) = self.pass_on(env, &mut row, emit)? {
                break;
            }
        }
        env.meter.release(sorted.map(|row| row.bytes()).sum());
        Ok(())
    }
}

/// Every aggregate in an expression.
fn gather<'q>(expr: &'q Expr, found: &mut Vec<&'q Aggregate>) {
    if !aggregates(expr) {
        return;
    }
    match expr {
        Expr::Aggregate(aggregate) => found.push(aggregate),
        Expr::Comprehension { list, .. } | Expr::Quantified { list, .. } => gather(list, found),
        Expr::Reduce { start, list, .. } => {
            gather(start, found);
            gather(list, found);
        }
        Expr::Projected(of, items) => {
            gather(of, found);
            for item in items {
                if let MapItem::Entry(_, value) = item {
                    gather(value, found);
                }
            }
        }
        other => crate::check::children(other)
            .into_iter()
            .for_each(|child| gather(child, found)),
    }
}
