//! Tokens to the forms that look like functions or maps and are neither.

use crate::ast::{Expr, MapItem, Name, Quantifier};
use crate::error::Error;
use crate::parser::Parser;

impl Parser<'_> {
    /// `name IN list`, in front of a filter or a value.
    pub(crate) fn each(&mut self) -> Result<(Name, Box<Expr>), Error> {
        let name = self.variable()?;
        self.expect_word("IN")?;
        Ok((name, Box::new(self.expression()?)))
    }

    pub(crate) fn quantified(&mut self, quantifier: Quantifier) -> Result<Expr, Error> {
        self.expect("(")?;
        let (name, list) = self.each()?;
        self.expect_word("WHERE")?;
        let filter = Box::new(self.expression()?);
        self.expect(")")?;
        Ok(Expr::Quantified {
            quantifier,
            name,
            list,
            filter,
        })
    }

    pub(crate) fn reduce(&mut self) -> Result<Expr, Error> {
        self.expect("(")?;
        let total = self.variable()?;
        self.expect("=")?;
        let start = Box::new(self.expression()?);
        self.expect(",")?;
        let (name, list) = self.each()?;
        self.expect("|")?;
        let next = Box::new(self.expression()?);
        self.expect(")")?;
        Ok(Expr::Reduce {
            total,
            start,
            name,
            list,
            next,
        })
    }

    pub(crate) fn map(&mut self) -> Result<Expr, Error> {
        self.expect("{")?;
        let mut entries = Vec::new();
        while !self.is("}") {
            let key = self.name("a key")?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.take(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Expr::Map(entries))
    }

    pub(crate) fn map_projection(&mut self, of: Expr) -> Result<Expr, Error> {
        self.expect("{")?;
        let mut items = Vec::new();
        while !self.is("}") {
            let place = self.place();
            items.push(if self.take(".") {
                if self.take("*") {
                    MapItem::AllProperties
                } else {
                    MapItem::Property(self.name("a key")?)
                }
            } else {
                let key = self.name("a key")?;
                if self.take(":") {
                    MapItem::Entry(key, self.expression()?)
                } else {
                    MapItem::Variable(key, place)
                }
            });
            if !self.take(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Expr::Projected(Box::new(of), items))
    }
}
