//! Patterns to rows.
//!
//! A path is matched from the node that is known best, to both sides. Invariants: within one
//! `MATCH` no relationship is used twice; nothing is held of a node's relationships but a page of
//! them.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::ast::{
    Comparison, Expr, Inner, Name, NodePattern, Operator, PathPattern, RelationshipPattern, Shape,
};
use crate::check::looks;
use crate::error::Error;
use crate::eval::{Env, Row, own_bytes};
use crate::functions::count;
use crate::graph::{Direction, Relationship};
use crate::value::{PathValue, Value};

/// Nodes or relationships that are read at a time.
const PAGE: usize = 256;

/// Whether those who are told of rows want more.
pub(crate) type Flow = ControlFlow<()>;
/// Who is told of each row that fits.
pub(crate) type Found<'f> = &'f mut dyn FnMut(&mut Row) -> Result<Flow, Error>;

/// What one `MATCH` works with.
struct Match<'m, 'a> {
    env: &'m Env<'a>,
    patterns: &'m [PathPattern],
    /// Values that variables must have, by the conditions: `n.id = …` and the like.
    known: Vec<(&'m Name, &'m Name, Value)>,
}

/// What was found of one path so far.
#[derive(Clone)]
struct Partial {
    nodes: Vec<Option<Arc<str>>>,
    edges: Vec<Vec<Arc<Relationship>>>,
}

impl Env<'_> {
    /// Tells of every way in which the patterns fit, with the variables that they name.
    pub(crate) fn find(
        &self,
        patterns: &[PathPattern],
        filter: Option<&Expr>,
        row: &mut Row,
        found: Found<'_>,
    ) -> Result<Flow, Error> {
        let mut conditions = Vec::new();
        filter
            .into_iter()
            .for_each(|filter| known_in(filter, &mut conditions));
        let (mut known, mut held) = (Vec::new(), self.meter.holding());
        for (variable, key, expr) in conditions {
            // What cannot be told before a row is matched is no help in finding it, and neither is
            // what there is no room for beside the rest.
            if let Ok(value) = self.eval(expr, row)
                && held.more(own_bytes(expr, &value)).is_ok()
            {
                known.push((variable, key, value));
            }
        }
        let matching = Match {
            env: self,
            patterns,
            known,
        };
        let waiting: Vec<usize> = (0..patterns.len()).collect();
        matching.paths(&waiting, row, &mut Vec::new(), &mut |row| match filter {
            Some(filter) if !self.holds(filter, row)? => Ok(Flow::Continue(())),
            _ => found(row),
        })
    }

    pub(crate) fn exists(&self, inner: &Inner, row: &mut Row) -> Result<Value, Error> {
        let mut exists = false;
        self.inner(inner, row, &mut |_| {
            exists = true;
            Ok(Flow::Break(()))
        })?;
        Ok(Value::Boolean(exists))
    }

    pub(crate) fn count(&self, inner: &Inner, row: &mut Row) -> Result<Value, Error> {
        let mut number = 0;
        self.inner(inner, row, &mut |_| {
            number += 1;
            Ok(Flow::Continue(()))
        })?;
        Ok(count(number))
    }

    pub(crate) fn gathered(
        &self,
        inner: &Inner,
        value: &Expr,
        row: &mut Row,
    ) -> Result<Value, Error> {
        let (mut values, mut held) = (Vec::new(), self.meter.holding());
        self.inner(inner, row, &mut |row| {
            let value = self.eval(value, row)?;
            held.more(value.bytes())?;
            values.push(value);
            Ok(Flow::Continue(()))
        })?;
        drop(held);
        self.meter.list(values)
    }

    pub(crate) fn too_long(&self) -> Error {
        Error::Limit {
            what: "the length of a path",
            limit: format!("{} relationships", self.meter.limits.hops),
        }
    }

    /// Tells of the relationships of a node, page by page.
    pub(crate) fn edges(
        &self,
        node: &Arc<str>,
        direction: Direction,
        kinds: &[Name],
        each: &mut dyn FnMut(Arc<Relationship>) -> Result<Flow, Error>,
    ) -> Result<Flow, Error> {
        let mut after: Option<Arc<Relationship>> = None;
        loop {
            self.meter.tick()?;
            let graph = self.graph;
            let page = graph.relationships(node, direction, kinds, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for found in page {
                self.meter.tick()?;
                let found = Arc::new(found);
                after = Some(Arc::clone(&found));
                if each(found)?.is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            if is_last {
                return Ok(Flow::Continue(()));
            }
        }
    }

    fn inner(&self, inner: &Inner, row: &mut Row, found: Found<'_>) -> Result<(), Error> {
        let before = row.values.len();
        let done = self.find(&inner.patterns, inner.filter.as_ref(), row, found);
        row.values.truncate(before);
        done.map(|_| ())
    }
}

/// Conditions `variable.key = value` that must all hold.
fn known_in<'e>(filter: &'e Expr, known: &mut Vec<(&'e Name, &'e Name, &'e Expr)>) {
    match filter {
        Expr::Binary(Operator::And, one, other) => {
            known_in(one, known);
            known_in(other, known);
        }
        Expr::Compared(first, others) => {
            let [(Comparison::Equal, second)] = &**others else {
                return;
            };
            for (of, value) in [(&**first, second), (second, &**first)] {
                if let Expr::Property(variable, key) = of
                    && let Expr::Variable(variable, _) = &**variable
                    // It would name for itself what the patterns are to name.
                    && !looks(value)
                {
                    known.push((variable, key, value));
                }
            }
        }
        _ => {}
    }
}

impl Match<'_, '_> {
    /// Matches the patterns that wait, the one that is known best first; shortest paths behind all
    /// others, which say between which nodes they are.
    fn paths(
        &self,
        waiting: &[usize],
        row: &mut Row,
        used: &mut Vec<Arc<Relationship>>,
        found: Found<'_>,
    ) -> Result<Flow, Error> {
        let anchors = waiting.iter().map(|index| {
            let pattern = &self.patterns[*index];
            let is_shortest = pattern.shape != Shape::Plain;
            (is_shortest, self.anchor(pattern, row), *index)
        });
        let Some((_, (_, anchor), chosen)) = anchors.min() else {
            return found(row);
        };
        let rest: Vec<usize> = waiting
            .iter()
            .copied()
            .filter(|index| *index != chosen)
            .collect();
        let pattern = &self.patterns[chosen];
        let before = (row.values.len(), used.len());
        let mut next =
            |row: &mut Row, used: &mut Vec<Arc<Relationship>>| self.paths(&rest, row, used, found);
        let flow = if pattern.shape == Shape::Plain {
            self.plain(pattern, anchor, row, used, &mut next)
        } else {
            self.shortest(pattern, row, used, &mut next)
        };
        row.values.truncate(before.0);
        used.truncate(before.1);
        flow
    }

    /// How well the best known node of a path is known, and which it is.
    fn anchor(&self, pattern: &PathPattern, row: &Row) -> (u8, usize) {
        let rank = |node: &NodePattern| {
            let name = node.name.as_ref();
            let keys = match &node.properties {
                Some(Expr::Map(entries)) => entries.iter().map(|(key, _)| &**key).collect(),
                _ => Vec::new(),
            };
            let is_known = |key: &str| {
                keys.contains(&key)
                    || self
                        .known
                        .iter()
                        .any(|(v, k, _)| Some(*v) == name && &***k == key)
            };
            match () {
                () if name.is_some_and(|name| row.get(name).is_some()) => 0,
                () if is_known("id") => 1,
                () if is_known("name") && !node.labels.is_empty() => 2,
                () if !node.labels.is_empty() => 3,
                () => 4,
            }
        };
        let nodes =
            std::iter::once(&pattern.first).chain(pattern.steps.iter().map(|(_, node)| node));
        let ranked = nodes.enumerate().map(|(index, node)| (rank(node), index));
        ranked.min().unwrap_or((4, 0))
    }

    fn plain(
        &self,
        pattern: &PathPattern,
        anchor: usize,
        row: &mut Row,
        used: &mut Vec<Arc<Relationship>>,
        next: Next<'_>,
    ) -> Result<Flow, Error> {
        let partial = Partial {
            nodes: vec![None; pattern.steps.len() + 1],
            edges: vec![Vec::new(); pattern.steps.len()],
        };
        self.candidates(node_at(pattern, anchor), row, &mut |row, id| {
            let mut partial = partial.clone();
            partial.nodes[anchor] = Some(id);
            self.extend(pattern, anchor, &mut partial, row, used, next)
        })
    }

    /// Tells of every node that fits a pattern, with its variable bound.
    fn candidates(&self, node: &NodePattern, row: &mut Row, each: Each<'_>) -> Result<Flow, Error> {
        let bound = node.name.as_ref().and_then(|name| row.get(name)).cloned();
        match bound {
            Some(Value::Node(id)) => return self.candidate(node, row, id, each),
            Some(Value::Null) => return Ok(Flow::Continue(())),
            Some(other) => {
                return Err(Error::runtime(format!("{} is no node", other.kind())));
            }
            None => {}
        }
        let label = node.labels.first();
        if let Some(ids) = self.looked_up(node, row)? {
            for id in ids {
                if self.candidate(node, row, id, each)?.is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            return Ok(Flow::Continue(()));
        }
        let mut after: Option<Arc<str>> = None;
        loop {
            let label = label.map(|label| &**label);
            let page = self.env.graph.nodes(label, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            after = page.last().cloned();
            for id in page {
                if self.candidate(node, row, id, each)?.is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            if is_last {
                return Ok(Flow::Continue(()));
            }
        }
    }

    /// The nodes that a property tells at once, if one does.
    fn looked_up(&self, node: &NodePattern, row: &mut Row) -> Result<Option<Vec<Arc<str>>>, Error> {
        let label = node.labels.first().map(|label| &**label);
        let (mut wanted, mut held) = (Vec::new(), self.env.meter.holding());
        if let Some(Expr::Map(entries)) = &node.properties {
            for (key, expr) in entries {
                let value = self.env.eval(expr, row)?;
                held.more(own_bytes(expr, &value))?;
                wanted.push((key, value));
            }
        }
        let known = self
            .known
            .iter()
            .filter(|(name, _, _)| Some(*name) == node.name.as_ref());
        wanted.extend(known.map(|(_, key, value)| (*key, value.clone())));
        for (key, value) in wanted {
            if let Some(ids) = self.env.graph.find(label, key, &value)? {
                return Ok(Some(ids));
            }
        }
        Ok(None)
    }

    fn candidate(
        &self,
        node: &NodePattern,
        row: &mut Row,
        id: Arc<str>,
        each: Each<'_>,
    ) -> Result<Flow, Error> {
        self.env.meter.tick()?;
        let before = row.values.len();
        let flow = if self.fits(node, row, &id)? {
            each(row, id)
        } else {
            Ok(Flow::Continue(()))
        };
        row.values.truncate(before);
        flow
    }

    /// Whether a node fits a pattern; binds its variable when it does.
    fn fits(&self, node: &NodePattern, row: &mut Row, id: &Arc<str>) -> Result<bool, Error> {
        if let Some(name) = &node.name {
            match row.get(name) {
                Some(Value::Node(bound)) if bound == id => {}
                Some(_) => return Ok(false),
                None => row.push(name, Value::Node(Arc::clone(id))),
            }
        }
        if !node.labels.is_empty() {
            let labels = self.env.graph.labels(id);
            if !node.labels.iter().all(|wanted| labels.contains(wanted)) {
                return Ok(false);
            }
        }
        let Some(properties) = &node.properties else {
            return Ok(true);
        };
        let Value::Map(wanted) = self.env.eval(properties, row)? else {
            return Err(Error::runtime("the properties of a pattern are no map"));
        };
        let own = self.env.properties(id)?;
        for (key, value) in wanted.iter() {
            let own = own.get(key);
            let equal = own.map(|own| self.env.equal(own, value)).transpose()?;
            if equal.flatten() != Some(true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on from what is matched of a path: first to the right, then to the left.
    fn extend(
        &self,
        pattern: &PathPattern,
        anchor: usize,
        partial: &mut Partial,
        row: &mut Row,
        used: &mut Vec<Arc<Relationship>>,
        next: Next<'_>,
    ) -> Result<Flow, Error> {
        let right = (anchor..pattern.steps.len()).find(|step| partial.nodes[step + 1].is_none());
        let left = (0..anchor)
            .rev()
            .find(|step| partial.nodes[*step].is_none());
        let (step, from, to) = match (right, left) {
            (Some(step), _) => (step, step, step + 1),
            (None, Some(step)) => (step, step + 1, step),
            (None, None) => {
                if let Some(name) = &pattern.name {
                    row.push(name, path_of(partial));
                }
                return next(row, used);
            }
        };
        let Some(start) = partial.nodes[from].clone() else {
            return Ok(Flow::Continue(()));
        };
        let (edge, _) = &pattern.steps[step];
        let direction = if from < to {
            edge.direction
        } else {
            turned(edge.direction)
        };
        let (target, is_turned) = (node_at(pattern, to), from > to);
        let reached = &mut |row: &mut Row,
                            used: &mut Vec<Arc<Relationship>>,
                            id: &Arc<str>,
                            edges: &[Arc<Relationship>]| {
            let before = row.values.len();
            let mut flow = Ok(Flow::Continue(()));
            if self.fits(target, row, id)? {
                let mut edges = edges.to_vec();
                if is_turned {
                    edges.reverse();
                }
                if let Some(name) = &edge.name {
                    row.push(name, bound(edge, &edges));
                }
                partial.nodes[to] = Some(Arc::clone(id));
                partial.edges[step] = edges;
                flow = self.extend(pattern, anchor, partial, row, used, next);
                partial.nodes[to] = None;
            }
            row.values.truncate(before);
            flow
        };
        match edge.length {
            None => self.one_step(edge, direction, &start, row, used, reached),
            Some((least, most)) => {
                let walk = Walk {
                    edge,
                    direction,
                    least,
                    most,
                };
                self.walk(&walk, &start, &mut Vec::new(), row, used, reached)
            }
        }
    }

    fn one_step(
        &self,
        edge: &RelationshipPattern,
        direction: Direction,
        start: &Arc<str>,
        row: &mut Row,
        used: &mut Vec<Arc<Relationship>>,
        reached: Reached<'_>,
    ) -> Result<Flow, Error> {
        self.env.edges(start, direction, &edge.kinds, &mut |found| {
            if used.contains(&found) {
                return Ok(Flow::Continue(()));
            }
            let end = other_end(&found, start);
            used.push(Arc::clone(&found));
            let flow = reached(row, used, &end, &[found]);
            used.pop();
            flow
        })
    }

    fn walk(
        &self,
        walk: &Walk<'_>,
        at: &Arc<str>,
        way: &mut Vec<Arc<Relationship>>,
        row: &mut Row,
        used: &mut Vec<Arc<Relationship>>,
        reached: Reached<'_>,
    ) -> Result<Flow, Error> {
        let length = u32::try_from(way.len()).unwrap_or(u32::MAX);
        if length >= walk.least && reached(row, used, at, way)?.is_break() {
            return Ok(Flow::Break(()));
        }
        if walk.most.is_some_and(|most| length >= most) {
            return Ok(Flow::Continue(()));
        }
        let hops = self.env.meter.limits.hops;
        self.env
            .edges(at, walk.direction, &walk.edge.kinds, &mut |found| {
                if used.contains(&found) {
                    return Ok(Flow::Continue(()));
                }
                if length >= hops {
                    return Err(self.env.too_long());
                }
                let end = other_end(&found, at);
                used.push(Arc::clone(&found));
                way.push(found);
                let flow = self.walk(walk, &end, way, row, used, reached);
                way.pop();
                used.pop();
                flow
            })
    }

    fn shortest(
        &self,
        pattern: &PathPattern,
        row: &mut Row,
        used: &mut Vec<Arc<Relationship>>,
        next: Next<'_>,
    ) -> Result<Flow, Error> {
        let [(edge, last)] = &*pattern.steps else {
            return Err(Error::unsupported(
                "a shortestPath of several relationships",
            ));
        };
        self.candidates(&pattern.first, row, &mut |row, from| {
            self.candidates(last, row, &mut |row, to| {
                let mut held = self.env.meter.holding();
                for way in self
                    .env
                    .ways(edge, (&from, &to), pattern.shape, &mut held)?
                {
                    let before = row.values.len();
                    if let Some(name) = &edge.name {
                        row.push(name, bound(edge, &way));
                    }
                    if let Some(name) = &pattern.name {
                        let partial = Partial {
                            nodes: vec![Some(Arc::clone(&from)), Some(Arc::clone(&to))],
                            edges: vec![way],
                        };
                        row.push(name, path_of(&partial));
                    }
                    let flow = next(row, used)?;
                    row.values.truncate(before);
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
                Ok(Flow::Continue(()))
            })
        })
    }
}

/// Told of a node that may begin a path.
type Each<'e> = &'e mut dyn FnMut(&mut Row, Arc<str>) -> Result<Flow, Error>;
/// Told when a whole path is matched.
type Next<'n> = &'n mut dyn FnMut(&mut Row, &mut Vec<Arc<Relationship>>) -> Result<Flow, Error>;
/// Told of a node that was reached, and along which relationships.
type Reached<'r> = &'r mut dyn FnMut(
    &mut Row,
    &mut Vec<Arc<Relationship>>,
    &Arc<str>,
    &[Arc<Relationship>],
) -> Result<Flow, Error>;

/// A step of variable length.
struct Walk<'p> {
    edge: &'p RelationshipPattern,
    direction: Direction,
    least: u32,
    most: Option<u32>,
}

fn node_at(pattern: &PathPattern, index: usize) -> &NodePattern {
    match index.checked_sub(1) {
        None => &pattern.first,
        Some(step) => &pattern.steps[step].1,
    }
}

fn turned(direction: Direction) -> Direction {
    match direction {
        Direction::Outgoing => Direction::Incoming,
        Direction::Incoming => Direction::Outgoing,
        Direction::Either => Direction::Either,
    }
}

pub(crate) fn other_end(edge: &Relationship, one: &Arc<str>) -> Arc<str> {
    Arc::clone(if edge.from == *one {
        &edge.to
    } else {
        &edge.from
    })
}

/// What the variable of a step is: a relationship, or a list of them.
fn bound(edge: &RelationshipPattern, found: &[Arc<Relationship>]) -> Value {
    if edge.length.is_some() {
        return Value::list(found.iter().cloned().map(Value::Relationship).collect());
    }
    found
        .first()
        .cloned()
        .map_or(Value::Null, Value::Relationship)
}

fn path_of(partial: &Partial) -> Value {
    let first = partial.nodes.first().cloned().flatten();
    let mut path = PathValue {
        nodes: first.into_iter().collect(),
        relationships: Vec::new(),
    };
    for edge in partial.edges.iter().flatten() {
        if let Some(at) = path.nodes.last() {
            let end = other_end(edge, at);
            path.nodes.push(end);
        }
        path.relationships.push(Arc::clone(edge));
    }
    Value::Path(Arc::new(path))
}
