//! Tokens to patterns, and to expressions that hold patterns.

use crate::ast::{Expr, Inner, NodePattern, PathPattern, RelationshipPattern, Shape};
use crate::error::Error;
use crate::graph::Direction;
use crate::lexer::{Kind, wrong};
use crate::parser::Parser;

/// Most patterns of one `MATCH`.
const PATTERNS_MAX: usize = 100;

impl Parser<'_> {
    /// Patterns, with commas between them.
    pub(crate) fn patterns(&mut self) -> Result<Vec<PathPattern>, Error> {
        let mut patterns = vec![self.path_pattern()?];
        while self.take(",") {
            if patterns.len() == PATTERNS_MAX {
                return Err(Error::Limit {
                    what: "the patterns beside each other",
                    limit: PATTERNS_MAX.to_string(),
                });
            }
            patterns.push(self.path_pattern()?);
        }
        Ok(patterns)
    }

    fn path_pattern(&mut self) -> Result<PathPattern, Error> {
        let mut name = None;
        if !self.is("(") && !self.is_shortest() {
            name = Some(self.variable()?);
            self.expect("=")?;
        }
        let shape = if self.take_word("shortestPath") {
            Shape::Shortest
        } else if self.take_word("allShortestPaths") {
            Shape::AllShortest
        } else {
            Shape::Plain
        };
        if shape == Shape::Plain {
            let (first, steps) = self.chain_of_nodes()?;
            return Ok(PathPattern {
                name,
                shape,
                first,
                steps,
            });
        }
        let place = self.place();
        self.expect("(")?;
        let (first, steps) = self.chain_of_nodes()?;
        self.expect(")")?;
        if !matches!(&*steps, [(step, _)] if step.length.is_some()) {
            let problem = "shortestPath takes two nodes and one relationship of variable length";
            return Err(wrong(self.text, place, problem));
        }
        Ok(PathPattern {
            name,
            shape,
            first,
            steps,
        })
    }

    fn is_shortest(&self) -> bool {
        self.is_word("shortestPath") || self.is_word("allShortestPaths")
    }

    fn chain_of_nodes(
        &mut self,
    ) -> Result<(NodePattern, Vec<(RelationshipPattern, NodePattern)>), Error> {
        let first = self.node_pattern()?;
        let mut steps = Vec::new();
        while self.is("-") || self.is("<") {
            let relationship = self.relationship_pattern()?;
            steps.push((relationship, self.node_pattern()?));
            if steps.len() > crate::parser::DEPTH_MAX {
                return Err(Error::Limit {
                    what: "the length of a pattern",
                    limit: crate::parser::DEPTH_MAX.to_string(),
                });
            }
        }
        Ok((first, steps))
    }

    fn node_pattern(&mut self) -> Result<NodePattern, Error> {
        self.expect("(")?;
        let name = if self.is(":") || self.is("{") || self.is(")") || self.is("$") {
            None
        } else {
            Some(self.variable()?)
        };
        let mut labels = Vec::new();
        while self.take(":") {
            labels.push(self.name("a label")?);
            if self.is("|") || self.is("&") || self.is("!") {
                return Err(Error::unsupported("an expression of labels"));
            }
        }
        let properties = self.properties()?;
        if self.is_word("WHERE") {
            return Err(Error::unsupported("WHERE inside a pattern"));
        }
        self.expect(")")?;
        Ok(NodePattern {
            name,
            labels,
            properties,
        })
    }

    fn properties(&mut self) -> Result<Option<Expr>, Error> {
        if matches!(self.peek(), Kind::Parameter(_)) {
            return Err(Error::unsupported(
                "a parameter for all properties of a pattern",
            ));
        }
        if self.is("{") {
            return self.expression().map(Some);
        }
        Ok(None)
    }

    fn relationship_pattern(&mut self) -> Result<RelationshipPattern, Error> {
        let is_in = self.take("<");
        self.expect("-")?;
        let mut pattern = RelationshipPattern {
            name: None,
            kinds: Vec::new(),
            direction: Direction::Either,
            length: None,
        };
        if self.take("[") {
            if !self.is(":") && !self.is("]") && !self.is("*") && !self.is("{") {
                pattern.name = Some(self.variable()?);
            }
            if self.take(":") {
                pattern.kinds.push(self.name("a type")?);
                while self.take("|") {
                    self.take(":");
                    pattern.kinds.push(self.name("a type")?);
                }
            }
            if self.take("*") {
                pattern.length = Some(self.length()?);
            }
            if self.properties()?.is_some() {
                return Err(Error::unsupported(
                    "a property of a relationship in a pattern",
                ));
            }
            self.expect("]")?;
        }
        self.expect("-")?;
        let is_out = self.take(">");
        pattern.direction = match (is_in, is_out) {
            (true, false) => Direction::Incoming,
            (false, true) => Direction::Outgoing,
            _ => Direction::Either,
        };
        Ok(pattern)
    }

    fn length(&mut self) -> Result<(u32, Option<u32>), Error> {
        let count = |parser: &mut Self| match parser.peek() {
            Kind::Integer(number) => {
                let number = u32::try_from(*number);
                let place = parser.place();
                parser.advance();
                let problem = || wrong(parser.text, place, "no length of a path");
                number.map(Some).map_err(|_| problem())
            }
            _ => Ok(None),
        };
        let least = count(self)?;
        if !self.take("..") {
            return Ok((least.unwrap_or(1), least));
        }
        let most = count(self)?;
        Ok((least.unwrap_or(1), most))
    }

    /// What stands in parentheses: a pattern where a truth is wanted, or an expression.
    pub(crate) fn parenthesized(&mut self) -> Result<Expr, Error> {
        if self.is_pattern() {
            return self.pattern_predicate();
        }
        self.expect("(")?;
        let inner = self.expression()?;
        self.expect(")")?;
        Ok(inner)
    }

    fn pattern_predicate(&mut self) -> Result<Expr, Error> {
        let patterns = vec![self.unnamed()?];
        let filter = None;
        Ok(Expr::Exists(Box::new(Inner {
            patterns,
            filter,
            may_bind: false,
        })))
    }

    fn unnamed(&mut self) -> Result<PathPattern, Error> {
        let (first, steps) = self.nested(Self::chain_of_nodes)?;
        Ok(PathPattern {
            name: None,
            shape: Shape::Plain,
            first,
            steps,
        })
    }

    /// What stands in brackets: a comprehension over a list or over a pattern, or a list.
    pub(crate) fn bracketed(&mut self) -> Result<Expr, Error> {
        let mark = self.mark();
        if !self.lists.contains(&mark) {
            self.expect("[")?;
            if let Some(comprehension) = self.comprehension()? {
                self.expect("]")?;
                return Ok(comprehension);
            }
            self.lists.insert(mark);
            self.go_back(mark);
        }
        self.expect("[")?;
        let mut values = Vec::new();
        while !self.is("]") {
            values.push(self.expression()?);
            if !self.take(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(Expr::List(values))
    }

    /// What stands behind a bracket, if it is no list.
    fn comprehension(&mut self) -> Result<Option<Expr>, Error> {
        let mut name = None;
        if matches!(self.peek(), Kind::Word(_) | Kind::Quoted(_)) && !self.is_keyword() {
            let variable = self.variable()?;
            if self.take_word("IN") {
                return self.over_list(variable);
            }
            if !self.take("=") {
                return Ok(None);
            }
            name = Some(variable);
        }
        if !self.is_pattern() {
            return Ok(None);
        }
        let mut pattern = self.unnamed()?;
        pattern.name = name;
        let filter = self.filter()?;
        if !self.take("|") {
            return Ok(None);
        }
        let value = Box::new(self.expression()?);
        let patterns = vec![pattern];
        let inner = Box::new(Inner {
            patterns,
            filter,
            may_bind: true,
        });
        Ok(Some(Expr::PatternComprehension(inner, value)))
    }

    fn over_list(&mut self, name: crate::ast::Name) -> Result<Option<Expr>, Error> {
        let list = Box::new(self.expression()?);
        let filter = self.filter()?.map(Box::new);
        let value = if self.take("|") {
            Some(Box::new(self.expression()?))
        } else {
            None
        };
        // With more behind it, it is the truth of `x IN list`, the first thing of a list.
        Ok(self.is("]").then_some(Expr::Comprehension {
            name,
            list,
            filter,
            value,
        }))
    }

    /// Behind `EXISTS`, `COUNT` or `COLLECT`, where a brace stands.
    pub(crate) fn subquery(&mut self, word: &str) -> Result<Expr, Error> {
        if word == "COLLECT" {
            return Err(Error::unsupported("COLLECT { … }"));
        }
        self.expect("{")?;
        if let Some(refused) = self.refused() {
            return Err(refused);
        }
        self.take_word("MATCH");
        let patterns = self.nested(Self::patterns)?;
        let filter = self.filter()?;
        if ["RETURN", "WITH", "MATCH", "OPTIONAL", "UNION", "UNWIND"]
            .iter()
            .any(|clause| self.is_word(clause))
        {
            return Err(Error::unsupported(format!(
                "a whole query in {word} {{ … }}"
            )));
        }
        self.expect("}")?;
        let inner = Box::new(Inner {
            patterns,
            filter,
            may_bind: true,
        });
        Ok(if word == "EXISTS" {
            Expr::Exists(inner)
        } else {
            Expr::Count(inner)
        })
    }

    /// `exists(…)`: of a property, or of a pattern.
    pub(crate) fn exists_call(&mut self) -> Result<Expr, Error> {
        self.expect("(")?;
        let inner = if self.is_pattern() {
            self.pattern_predicate()?
        } else {
            Expr::IsNull(Box::new(self.expression()?), false)
        };
        self.expect(")")?;
        Ok(inner)
    }
}
