//! Tokens to clauses.

use std::sync::Arc;

use crate::ast::{Clause, Expr, Item, Projection, Union};
use crate::check::is_same;
use crate::error::Error;
use crate::lexer::wrong;
use crate::parser::Parser;

/// Most clauses of a query.
const CLAUSES_MAX: usize = 100;

impl Parser<'_> {
    pub(crate) fn union(&mut self) -> Result<Union, Error> {
        let mut union = Union {
            parts: vec![self.single()?],
            is_distinct: false,
        };
        let mut is_all = None;
        while self.take_word("UNION") {
            let all = self.take_word("ALL");
            if is_all.is_some_and(|before| before != all) {
                let problem = "UNION and UNION ALL cannot be mixed";
                return Err(wrong(self.text, self.place(), problem));
            }
            is_all = Some(all);
            union.parts.push(self.single()?);
        }
        union.is_distinct = is_all == Some(false);
        Ok(union)
    }

    fn single(&mut self) -> Result<Vec<Clause>, Error> {
        let mut clauses = Vec::new();
        loop {
            if let Some(refused) = self.refused() {
                return Err(refused);
            }
            self.clauses += 1;
            if self.clauses > CLAUSES_MAX {
                return Err(Error::Limit {
                    what: "the number of clauses",
                    limit: CLAUSES_MAX.to_string(),
                });
            }
            if self.take_word("RETURN") {
                clauses.push(Clause::Project(self.projection(true)?));
                return Ok(clauses);
            }
            clauses.push(self.clause()?);
        }
    }

    fn clause(&mut self) -> Result<Clause, Error> {
        let is_optional = self.take_word("OPTIONAL");
        if is_optional || self.is_word("MATCH") {
            self.expect_word("MATCH")?;
            let patterns = self.patterns()?;
            let filter = self.filter()?;
            return Ok(Clause::Match {
                is_optional,
                patterns,
                filter,
            });
        }
        if self.take_word("UNWIND") {
            let list = self.expression()?;
            self.expect_word("AS")?;
            let name = self.variable()?;
            return Ok(Clause::Unwind { list, name });
        }
        if self.take_word("WITH") {
            return Ok(Clause::Project(self.projection(false)?));
        }
        Err(self.unexpected("MATCH, OPTIONAL MATCH, UNWIND, WITH or RETURN"))
    }

    pub(crate) fn filter(&mut self) -> Result<Option<Expr>, Error> {
        if self.take_word("WHERE") {
            return self.expression().map(Some);
        }
        Ok(None)
    }

    fn projection(&mut self, is_return: bool) -> Result<Projection, Error> {
        let is_distinct = self.take_word("DISTINCT");
        let has_star = self.take("*");
        let mut items = Vec::new();
        while !has_star || self.take(",") {
            items.push(self.item(is_return)?);
            if !has_star && !self.take(",") {
                break;
            }
        }
        let mut order = Vec::new();
        if self.take_word("ORDER") {
            self.expect_word("BY")?;
            loop {
                let by = self.expression()?;
                let is_descending = self.take_word("DESC") || self.take_word("DESCENDING");
                if !is_descending && !self.take_word("ASC") {
                    self.take_word("ASCENDING");
                }
                order.push((in_columns(by, &items), is_descending));
                if !self.take(",") {
                    break;
                }
            }
        }
        let mut count = |words: &[&str]| -> Result<Option<Expr>, Error> {
            let is_there = words.iter().any(|word| self.take_word(word));
            is_there.then(|| self.expression()).transpose()
        };
        let skip = count(&["SKIP", "OFFSET"])?;
        let limit = count(&["LIMIT"])?;
        let filter = if is_return { None } else { self.filter()? };
        Ok(Projection {
            is_distinct,
            has_star,
            items,
            order,
            skip,
            limit,
            filter,
        })
    }

    fn item(&mut self, is_return: bool) -> Result<Item, Error> {
        let start = self.place();
        let value = self.expression()?;
        let end = self.tokens[self.at - 1].end;
        let name = if self.take_word("AS") {
            self.variable()?
        } else if let Expr::Variable(name, _) = &value {
            Arc::clone(name)
        } else if is_return {
            Arc::from(&self.text[start..end])
        } else {
            return Err(self.unexpected("AS and a name for what WITH passes on"));
        };
        Ok(Item { value, name })
    }
}

/// An expression with every part that is a column replaced by the column: what is ordered by may
/// speak of what was put together. The name of a column is that column, also where another column
/// has for its value what had the name before.
fn in_columns(expr: Expr, items: &[Item]) -> Expr {
    let named = items
        .iter()
        .find(|item| matches!(&expr, Expr::Variable(name, _) if *name == item.name));
    let alike = || items.iter().find(|item| is_same(&item.value, &expr));
    if let Some(item) = named.or_else(alike) {
        return Expr::Column(Arc::clone(&item.name));
    }
    let one = |inner: Box<Expr>| Box::new(in_columns(*inner, items));
    match expr {
        Expr::Binary(operator, left, right) => Expr::Binary(operator, one(left), one(right)),
        Expr::Not(inner) => Expr::Not(one(inner)),
        Expr::Negate(inner) => Expr::Negate(one(inner)),
        Expr::Call(name, arguments) => {
            let arguments = arguments.into_iter();
            Expr::Call(
                name,
                arguments.map(|inner| in_columns(inner, items)).collect(),
            )
        }
        Expr::Compared(first, others) => {
            let others = others.into_iter();
            let others = others.map(|(comparison, other)| (comparison, in_columns(other, items)));
            Expr::Compared(one(first), others.collect())
        }
        other => other,
    }
}
