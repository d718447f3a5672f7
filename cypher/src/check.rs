//! What can be told of a query before it runs: variables that are not there, or are there already
//! as something else, and aggregates where there is nothing to aggregate.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Clause, Expr, Inner, MapItem, Name, PathPattern, Projection, Union};
use crate::error::Error;
use crate::lexer::wrong;

/// What a variable is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node,
    Relationship,
    Path,
    Value,
}

type Scope = HashMap<Name, Kind>;

/// Fails at the first thing that is wrong; gives the names of the answer's columns.
pub(crate) fn check(text: &str, union: &Union) -> Result<Vec<Name>, Error> {
    let checker = Checker { text };
    let mut columns: Option<Vec<Name>> = None;
    for part in &union.parts {
        let found = checker.part(part)?;
        if columns.as_ref().is_some_and(|before| *before != found) {
            let problem = "all parts of a UNION must return columns of the same names";
            return Err(wrong(text, 0, problem));
        }
        columns = Some(found);
    }
    Ok(columns.unwrap_or_default())
}

struct Checker<'t> {
    text: &'t str,
}

impl Checker<'_> {
    fn wrong(&self, problem: String) -> Error {
        wrong(self.text, 0, problem)
    }

    fn part(&self, clauses: &[Clause]) -> Result<Vec<Name>, Error> {
        let mut scope = Scope::new();
        for clause in clauses {
            match clause {
                Clause::Match {
                    patterns, filter, ..
                } => {
                    self.patterns(patterns, &mut scope)?;
                    self.exprs(filter, &scope)?;
                }
                Clause::Unwind { list, name } => {
                    self.expr(list, &scope, false)?;
                    if scope.insert(Arc::clone(name), Kind::Value).is_some() {
                        return Err(self.wrong(format!("{name} is there already")));
                    }
                }
                Clause::Project(projection) => scope = self.projection(projection, &scope)?,
            }
        }
        let Some(Clause::Project(last)) = clauses.last() else {
            return Err(self.wrong("a query ends with RETURN".to_owned()));
        };
        Ok(columns(last, &scope))
    }

    fn projection(&self, projection: &Projection, scope: &Scope) -> Result<Scope, Error> {
        if projection.has_star && scope.is_empty() {
            return Err(self.wrong("there are no variables for *".to_owned()));
        }
        let mut after = if projection.has_star {
            scope.clone()
        } else {
            Scope::new()
        };
        for item in &projection.items {
            self.expr(&item.value, scope, true)?;
            let kind = match &item.value {
                Expr::Variable(name, _) => scope.get(name).copied(),
                _ => None,
            };
            // Beside a star rows are grouped by all variables, so that each is alike in a group.
            if has_aggregate(item) && !projection.has_star {
                let keys = projection.items.iter().filter(|item| !has_aggregate(item));
                let keys: Vec<&Expr> = keys.map(|item| &item.value).collect();
                let groups = Groups {
                    scope,
                    keys,
                    bound: Vec::new(),
                };
                if let Some(name) = groups.ungrouped(&item.value) {
                    let problem =
                        format!("{name} beside an aggregate is no column that rows are grouped by");
                    return Err(self.wrong(problem));
                }
            }
            let before = after.insert(Arc::clone(&item.name), kind.unwrap_or(Kind::Value));
            if before.is_some() && !projection.has_star {
                return Err(self.wrong(format!("two columns are called {}", item.name)));
            }
        }
        // What is ordered by sees what was there before, too, unless rows were put together.
        let is_grouped = projection.is_distinct || projection.items.iter().any(has_aggregate);
        let mut seen = if is_grouped {
            Scope::new()
        } else {
            scope.clone()
        };
        seen.extend(after.iter().map(|(name, kind)| (Arc::clone(name), *kind)));
        for (by, _) in &projection.order {
            self.expr(by, &seen, false)?;
        }
        for count in [&projection.skip, &projection.limit].into_iter().flatten() {
            self.expr(count, &Scope::new(), false)?;
        }
        self.exprs(&projection.filter, &after)?;
        Ok(after)
    }

    /// Adds what patterns name.
    fn patterns(&self, patterns: &[PathPattern], scope: &mut Scope) -> Result<(), Error> {
        let before = scope.clone();
        for pattern in patterns {
            let nodes = std::iter::once(&pattern.first);
            for node in nodes.chain(pattern.steps.iter().map(|(_, node)| node)) {
                if let Some(name) = &node.name {
                    self.name(name, Kind::Node, scope)?;
                }
            }
            for (relationship, _) in &pattern.steps {
                let Some(name) = &relationship.name else {
                    continue;
                };
                let kind = match relationship.length {
                    Some(_) => Kind::Value,
                    None => Kind::Relationship,
                };
                if scope.contains_key(name) {
                    let problem = format!("{name} is there already; a pattern binds relationships");
                    return Err(self.wrong(problem));
                }
                scope.insert(Arc::clone(name), kind);
            }
            if let Some(name) = &pattern.name
                && scope.insert(Arc::clone(name), Kind::Path).is_some()
            {
                return Err(self.wrong(format!("{name} is there already")));
            }
        }
        let seen = &*scope;
        for pattern in patterns {
            let nodes = std::iter::once(&pattern.first);
            for node in nodes.chain(pattern.steps.iter().map(|(_, node)| node)) {
                let Some(properties) = &node.properties else {
                    continue;
                };
                self.expr(properties, seen, false)?;
                // The order in which parts are matched is not the order of the text.
                self.expr(properties, &before, false).map_err(|_| {
                    let what = "a property in a pattern that speaks of another part of the same MATCH (WHERE may)";
                    Error::unsupported(what)
                })?;
            }
        }
        Ok(())
    }

    fn name(&self, name: &Name, kind: Kind, scope: &mut Scope) -> Result<(), Error> {
        match scope.get(name) {
            None => {
                scope.insert(Arc::clone(name), kind);
                Ok(())
            }
            Some(Kind::Relationship | Kind::Path) => Err(self.wrong(format!("{name} is no node"))),
            Some(_) => Ok(()),
        }
    }

    fn exprs<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        scope: &Scope,
    ) -> Result<(), Error> {
        exprs
            .into_iter()
            .try_for_each(|expr| self.expr(expr, scope, false))
    }

    fn expr(&self, expr: &Expr, scope: &Scope, may_aggregate: bool) -> Result<(), Error> {
        let one = |inner: &Expr| self.expr(inner, scope, may_aggregate);
        match expr {
            Expr::Literal(_) | Expr::Parameter(_) => Ok(()),
            Expr::Variable(name, place) => self.variable(name, *place, scope),
            Expr::Aggregate(_) if !may_aggregate => {
                Err(self.wrong("an aggregate stands in WITH or RETURN, and in no other".to_owned()))
            }
            Expr::Aggregate(aggregate) => self.exprs(&aggregate.of, scope),
            Expr::Projected(of, items) => {
                one(of)?;
                items.iter().try_for_each(|item| match item {
                    MapItem::Entry(_, value) => one(value),
                    MapItem::Variable(name, place) => self.variable(name, *place, scope),
                    MapItem::Property(_) | MapItem::AllProperties => Ok(()),
                })
            }
            Expr::Comprehension {
                name,
                list,
                filter,
                value,
            } => {
                one(list)?;
                let inner = with(scope, [name]);
                let parts = filter.iter().chain(value).map(|part| &**part);
                self.exprs(parts, &inner)
            }
            Expr::Quantified {
                name, list, filter, ..
            } => {
                one(list)?;
                self.exprs([&**filter], &with(scope, [name]))
            }
            Expr::Reduce {
                total,
                start,
                name,
                list,
                next,
            } => {
                one(start)?;
                one(list)?;
                self.exprs([&**next], &with(scope, [total, name]))
            }
            Expr::Exists(inner) | Expr::Count(inner) => self.inner(inner, scope).map(|_| ()),
            Expr::PatternComprehension(inner, value) => {
                let scope = self.inner(inner, scope)?;
                self.exprs([&**value], &scope)
            }
            other => children(other).into_iter().try_for_each(one),
        }
    }

    fn inner(&self, inner: &Inner, scope: &Scope) -> Result<Scope, Error> {
        let before = scope;
        let mut scope = scope.clone();
        self.patterns(&inner.patterns, &mut scope)?;
        let new = scope
            .keys()
            .filter(|name| !before.contains_key(*name))
            .min();
        if let Some(name) = new.filter(|_| !inner.may_bind) {
            return Err(self.wrong(format!("there is no variable {name}")));
        }
        self.exprs(&inner.filter, &scope)?;
        Ok(scope)
    }

    fn variable(&self, name: &Name, place: usize, scope: &Scope) -> Result<(), Error> {
        if scope.contains_key(name) {
            return Ok(());
        }
        Err(wrong(
            self.text,
            place,
            format!("there is no variable {name}"),
        ))
    }
}

fn with<'n>(scope: &Scope, names: impl IntoIterator<Item = &'n Name>) -> Scope {
    let mut scope = scope.clone();
    scope.extend(
        names
            .into_iter()
            .map(|name| (Arc::clone(name), Kind::Value)),
    );
    scope
}

/// The columns that a projection gives; a star gives all variables by name.
pub(crate) fn columns_of<'n>(
    projection: &Projection,
    scope: impl IntoIterator<Item = &'n Name>,
) -> Vec<Name> {
    let own: Vec<Name> = projection
        .items
        .iter()
        .map(|item| Arc::clone(&item.name))
        .collect();
    if !projection.has_star {
        return own;
    }
    let mut all: Vec<Name> = scope.into_iter().cloned().collect();
    all.sort();
    all.retain(|name| !own.contains(name));
    all.extend(own);
    all
}

fn columns(projection: &Projection, scope: &Scope) -> Vec<Name> {
    columns_of(projection, scope.keys())
}

/// Whether an aggregate stands anywhere in an expression.
pub(crate) fn has_aggregate(item: &crate::ast::Item) -> bool {
    aggregates(&item.value)
}

pub(crate) fn aggregates(expr: &Expr) -> bool {
    match expr {
        Expr::Aggregate(_) => true,
        Expr::Comprehension { list, .. } | Expr::Quantified { list, .. } => aggregates(list),
        Expr::Reduce { start, list, .. } => aggregates(start) || aggregates(list),
        Expr::Projected(of, items) => {
            aggregates(of)
                || items.iter().any(|item| match item {
                    MapItem::Entry(_, value) => aggregates(value),
                    _ => false,
                })
        }
        other => children(other).into_iter().any(aggregates),
    }
}

/// The parts of an expression that see the same variables as it does.
pub(crate) fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Property(of, _)
        | Expr::Not(of)
        | Expr::Negate(of)
        | Expr::IsNull(of, _)
        | Expr::HasLabels(of, _) => vec![of],
        Expr::Index(of, with) | Expr::Binary(_, of, with) => vec![of, with],
        Expr::Slice(of, from, to) => {
            let ends = from.iter().chain(to).map(|end| &**end);
            std::iter::once(&**of).chain(ends).collect()
        }
        Expr::List(values) | Expr::Call(_, values) => values.iter().collect(),
        Expr::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        Expr::Compared(first, others) => {
            let others = others.iter().map(|(_, other)| other);
            std::iter::once(&**first).chain(others).collect()
        }
        Expr::Case {
            subject,
            arms,
            otherwise,
        } => {
            let ends = subject.iter().chain(otherwise).map(|end| &**end);
            arms.iter()
                .flat_map(|(when, then)| [when, then])
                .chain(ends)
                .collect()
        }
        _ => Vec::new(),
    }
}

/// What an expression beside an aggregate may speak of.
struct Groups<'e> {
    scope: &'e Scope,
    /// What rows are grouped by.
    keys: Vec<&'e Expr>,
    /// What the expression itself names around the part that is looked at.
    bound: Vec<&'e Name>,
}

impl<'e> Groups<'e> {
    /// A variable that is different in rows of one group.
    fn ungrouped(&self, expr: &'e Expr) -> Option<&'e Name> {
        if self.keys.iter().any(|key| is_same(key, expr)) {
            return None;
        }
        let one = |expr: &'e Expr| self.ungrouped(expr);
        match expr {
            Expr::Aggregate(_) => None,
            Expr::Variable(name, _) => self.variable(name),
            Expr::Projected(of, items) => one(of).or_else(|| {
                items.iter().find_map(|item| match item {
                    MapItem::Entry(_, value) => one(value),
                    MapItem::Variable(name, _) => self.variable(name),
                    MapItem::Property(_) | MapItem::AllProperties => None,
                })
            }),
            Expr::Comprehension {
                name,
                list,
                filter,
                value,
            } => one(list).or_else(|| {
                let inner = self.with([name]);
                let mut parts = filter.iter().chain(value);
                parts.find_map(|part| inner.ungrouped(part))
            }),
            Expr::Quantified {
                name, list, filter, ..
            } => one(list).or_else(|| self.with([name]).ungrouped(filter)),
            Expr::Reduce {
                total,
                start,
                name,
                list,
                next,
            } => one(start)
                .or_else(|| one(list))
                .or_else(|| self.with([total, name]).ungrouped(next)),
            Expr::Exists(inner) | Expr::Count(inner) => self.inner(inner, None),
            Expr::PatternComprehension(inner, value) => self.inner(inner, Some(value)),
            other => children(other).into_iter().find_map(one),
        }
    }

    fn variable(&self, name: &'e Name) -> Option<&'e Name> {
        let is_key = |key: &&Expr| matches!(key, Expr::Variable(key, _) if key == name);
        let is_alike = self.bound.contains(&name) || self.keys.iter().any(is_key);
        (!is_alike).then_some(name)
    }

    fn inner(&self, inner: &'e Inner, value: Option<&'e Expr>) -> Option<&'e Name> {
        let (names, properties) = in_patterns(&inner.patterns);
        let is_outer = |name: &&Name| self.scope.contains_key(*name);
        let (outer, new): (Vec<_>, Vec<_>) = names.into_iter().partition(is_outer);
        let within = self.with(new);
        let found = outer.into_iter().find_map(|name| self.variable(name));
        let mut parts = properties.into_iter().chain(&inner.filter).chain(value);
        found.or_else(|| parts.find_map(|part| within.ungrouped(part)))
    }

    /// The same, where these names stand for something else.
    fn with(&self, names: impl IntoIterator<Item = &'e Name>) -> Self {
        let mut bound = self.bound.clone();
        bound.extend(names);
        let keys = self.keys.iter().copied();
        let keys = keys.filter(|key| !bound.iter().any(|name| mentions(key, name)));
        Self {
            scope: self.scope,
            keys: keys.collect(),
            bound,
        }
    }
}

/// What patterns name, and the properties that they ask for.
fn in_patterns(patterns: &[PathPattern]) -> (Vec<&Name>, Vec<&Expr>) {
    let (mut names, mut properties) = (Vec::new(), Vec::new());
    for pattern in patterns {
        names.extend(&pattern.name);
        names.extend(&pattern.first.name);
        properties.extend(&pattern.first.properties);
        for (edge, node) in &pattern.steps {
            names.extend(edge.name.iter().chain(&node.name));
            properties.extend(&node.properties);
        }
    }
    (names, properties)
}

/// Whether a variable stands in an expression that rows may be grouped by.
fn mentions(expr: &Expr, name: &Name) -> bool {
    matches!(expr, Expr::Variable(own, _) if own == name)
        || children(expr).into_iter().any(|part| mentions(part, name))
}

/// Whether an expression looks at the graph: what it comes to depends on which of its variables
/// are there, while any other one fails where a variable is missing.
pub(crate) fn looks(expr: &Expr) -> bool {
    match expr {
        Expr::Exists(_) | Expr::Count(_) | Expr::PatternComprehension(..) => true,
        Expr::Projected(of, items) => {
            looks(of)
                || items
                    .iter()
                    .any(|item| matches!(item, MapItem::Entry(_, value) if looks(value)))
        }
        Expr::Comprehension {
            list,
            filter,
            value,
            ..
        } => looks(list) || filter.iter().chain(value).any(|part| looks(part)),
        Expr::Quantified { list, filter, .. } => looks(list) || looks(filter),
        Expr::Reduce {
            start, list, next, ..
        } => looks(start) || looks(list) || looks(next),
        other => children(other).into_iter().any(looks),
    }
}

/// Whether two expressions are written alike, so that one may stand for the other.
pub(crate) fn is_same(one: &Expr, other: &Expr) -> bool {
    // Places in the text are no part of what is meant.
    match (one, other) {
        (Expr::Variable(a, _), Expr::Variable(b, _)) => a == b,
        (Expr::Property(a, x), Expr::Property(b, y)) => x == y && is_same(a, b),
        (Expr::Aggregate(a), Expr::Aggregate(b)) => {
            a.kind == b.kind
                && a.is_distinct == b.is_distinct
                && match (&a.of, &b.of) {
                    (None, None) => true,
                    (Some(a), Some(b)) => is_same(a, b),
                    _ => false,
                }
        }
        (Expr::Call(f, a), Expr::Call(g, b)) => {
            f == g && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        _ => false,
    }
}
