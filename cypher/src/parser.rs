//! Tokens to expressions, by recursive descent.
//!
//! Invariant: nothing is nested deeper than [`DEPTH_MAX`] here, and no expression is deeper than
//! [`HEIGHT_MAX`] for what checks, runs and drops it.

use std::sync::Arc;

use crate::ast::{Aggregate, AggregateKind, Comparison, Expr, Name, Operator, Quantifier, Union};
use crate::error::Error;
use crate::functions;
use crate::lexer::{Kind, Token, tokens, wrong};
use crate::value::Value;

/// How deep expressions may be nested.
pub(crate) const DEPTH_MAX: usize = 100;
/// How many parts of an expression may be within each other, operators in a row among them: each
/// stands within the next one. What runs an expression calls itself once for each.
const HEIGHT_MAX: usize = 500;

/// Clauses that write, call, load or tell of plans.
const REFUSED: &[&str] = &[
    "CREATE",
    "MERGE",
    "SET",
    "DELETE",
    "DETACH",
    "NODETACH",
    "REMOVE",
    "FOREACH",
    "CALL",
    "LOAD",
    "EXPLAIN",
    "PROFILE",
    "USE",
    "DROP",
    "ALTER",
    "GRANT",
    "REVOKE",
    "DENY",
    "START",
    "STOP",
    "TERMINATE",
    "INSERT",
    "RENAME",
    "ENABLE",
    "DRYRUN",
    "SHOW",
    "CYPHER",
];

/// Words that end an expression and so name nothing by themselves.
const RESERVED: &[&str] = &[
    "MATCH",
    "OPTIONAL",
    "WHERE",
    "WITH",
    "RETURN",
    "UNWIND",
    "UNION",
    "ORDER",
    "SKIP",
    "LIMIT",
    "OFFSET",
    "AS",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "IN",
    "IS",
    "STARTS",
    "ENDS",
    "CONTAINS",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "DISTINCT",
    "ASC",
    "ASCENDING",
    "DESC",
    "DESCENDING",
    "NULL",
    "TRUE",
    "FALSE",
];

pub(crate) struct Parser<'t> {
    pub(crate) text: &'t str,
    pub(crate) tokens: Vec<Token>,
    /// Of each token that opens a bracket, the one that closes it.
    closing: Vec<Option<usize>>,
    pub(crate) at: usize,
    depth: usize,
    /// At most so many parts are within each other of what was read since the operand, or what is
    /// nested, began.
    height: usize,
    pub(crate) clauses: usize,
    /// Brackets that were found to hold a plain list, so that none is read twice but once.
    pub(crate) lists: std::collections::HashSet<usize>,
}

/// One more operator in a row: chains are nested to the left. What they come to together, one
/// within the other, is counted by [`Parser::linked`].
fn one_more(links: usize) -> Result<usize, Error> {
    if links < DEPTH_MAX {
        return Ok(links + 1);
    }
    Err(Error::Limit {
        what: "the operators in a row",
        limit: DEPTH_MAX.to_string(),
    })
}

/// Reads a whole query.
pub(crate) fn parse(text: &str) -> Result<Union, Error> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        text,
        closing: closing(&tokens),
        tokens,
        at: 0,
        depth: 0,
        height: 0,
        clauses: 0,
        lists: std::collections::HashSet::new(),
    };
    let union = parser.union()?;
    parser.take(";");
    if parser.peek() != &Kind::End {
        return Err(parser.unexpected("the query's end"));
    }
    Ok(union)
}

/// Which token closes which.
fn closing(tokens: &[Token]) -> Vec<Option<usize>> {
    let mut closing = vec![None; tokens.len()];
    let mut open = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Sign("(" | "[" | "{") => open.push(index),
            Kind::Sign(")" | "]" | "}") => {
                if let Some(opening) = open.pop() {
                    closing[opening] = Some(index);
                }
            }
            _ => {}
        }
    }
    closing
}

impl Parser<'_> {
    /// Whether a parenthesis stands here that is a node with a relationship behind it: what leads
    /// from one node to another looks like nothing else.
    pub(crate) fn is_pattern(&self) -> bool {
        let Some(end) = self.closing[self.at].filter(|_| self.is("(")) else {
            return false;
        };
        let sign = |behind: usize| match self.tokens.get(end + behind).map(|token| &token.kind) {
            Some(Kind::Sign(sign)) => *sign,
            _ => "",
        };
        let at = if sign(1) == "<" { 2 } else { 1 };
        sign(at) == "-" && matches!(sign(at + 1), "-" | "[")
    }

    pub(crate) fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    pub(crate) fn peek_behind(&self, count: usize) -> &Kind {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + count).min(last)].kind
    }

    pub(crate) fn place(&self) -> usize {
        self.tokens[self.at].start
    }

    pub(crate) fn mark(&self) -> usize {
        self.at
    }

    pub(crate) fn go_back(&mut self, mark: usize) {
        self.at = mark;
    }

    pub(crate) fn advance(&mut self) -> Kind {
        let kind = self.tokens[self.at].kind.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        kind
    }

    pub(crate) fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Kind::Sign(found) if *found == sign)
    }

    pub(crate) fn take(&mut self, sign: &str) -> bool {
        let is_there = self.is(sign);
        if is_there {
            self.advance();
        }
        is_there
    }

    pub(crate) fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("{sign:?}")))
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(word);
        if is_there {
            self.advance();
        }
        is_there
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Result<(), Error> {
        if self.take_word(word) {
            return Ok(());
        }
        Err(self.unexpected(word))
    }

    /// An error at the next token: what clauses are refused by name, anything else is a mistake.
    pub(crate) fn unexpected(&self, expected: &str) -> Error {
        if let Some(refused) = self.refused() {
            return refused;
        }
        let token = &self.tokens[self.at];
        let found = match &token.kind {
            Kind::End => "the end".to_owned(),
            _ => format!("{:?}", &self.text[token.start..token.end]),
        };
        wrong(
            self.text,
            token.start,
            format!("expected {expected}, found {found}"),
        )
    }

    pub(crate) fn refused(&self) -> Option<Error> {
        let Kind::Word(word) = self.peek() else {
            return None;
        };
        let clause = word.to_ascii_uppercase();
        REFUSED
            .contains(&clause.as_str())
            .then_some(Error::WriteRefused { clause })
    }

    /// Goes one deeper for as long as `parse` takes.
    pub(crate) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.depth >= DEPTH_MAX {
            return Err(Error::Limit {
                what: "the query's nesting",
                limit: DEPTH_MAX.to_string(),
            });
        }
        self.depth += 1;
        let beside = std::mem::take(&mut self.height);
        let parsed = parse(self);
        self.depth -= 1;
        self.grow(beside, 0)?;
        parsed
    }

    /// Reads the right side of an operator: the left side, which was read last, and the right one
    /// are within it from now on.
    fn linked<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let left = std::mem::take(&mut self.height);
        let right = parse(self)?;
        self.grow(left, 1)?;
        Ok(right)
    }

    /// Puts what was just read into something that holds it, beside what was read before, which
    /// goes so much deeper by it.
    fn grow(&mut self, before: usize, deeper: usize) -> Result<(), Error> {
        self.height = (self.height + 1).max(before + deeper);
        if self.height <= HEIGHT_MAX {
            return Ok(());
        }
        Err(Error::Limit {
            what: "the depth of an expression",
            limit: HEIGHT_MAX.to_string(),
        })
    }

    /// A variable, key, label or type.
    pub(crate) fn name(&mut self, what: &str) -> Result<Name, Error> {
        match self.peek() {
            Kind::Word(_) | Kind::Quoted(_) => match self.advance() {
                Kind::Word(name) | Kind::Quoted(name) => Ok(Arc::from(name)),
                _ => Err(self.unexpected(what)),
            },
            _ => Err(self.unexpected(what)),
        }
    }

    /// A name that is no keyword.
    pub(crate) fn variable(&mut self) -> Result<Name, Error> {
        if self.is_keyword() {
            return Err(self.unexpected("a variable"));
        }
        self.name("a variable")
    }

    pub(crate) fn is_keyword(&self) -> bool {
        let Kind::Word(word) = self.peek() else {
            return false;
        };
        RESERVED
            .iter()
            .any(|reserved| reserved.eq_ignore_ascii_case(word))
    }

    /// An expression, from the operator that binds least.
    pub(crate) fn expression(&mut self) -> Result<Expr, Error> {
        self.nested(|parser| parser.joined(0))
    }

    /// `OR`, `XOR` and `AND`, each binding more than the one before.
    fn joined(&mut self, level: usize) -> Result<Expr, Error> {
        const LEVELS: [(&str, Operator); 3] = [
            ("OR", Operator::Or),
            ("XOR", Operator::Xor),
            ("AND", Operator::And),
        ];
        let Some((word, operator)) = LEVELS.get(level) else {
            return self.negation();
        };
        let mut left = self.joined(level + 1)?;
        let mut links = 0;
        while self.take_word(word) {
            links = one_more(links)?;
            let right = self.linked(|parser| parser.joined(level + 1))?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expr, Error> {
        if self.take_word("NOT") {
            let inner = self.nested(Self::negation)?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, Error> {
        let first = self.predicate()?;
        let mut others = Vec::new();
        loop {
            let comparison = match self.peek() {
                Kind::Sign("=") => Comparison::Equal,
                Kind::Sign("<>") => Comparison::NotEqual,
                Kind::Sign("<") => Comparison::Less,
                Kind::Sign("<=") => Comparison::LessOrEqual,
                Kind::Sign(">") => Comparison::Greater,
                Kind::Sign(">=") => Comparison::GreaterOrEqual,
                _ => break,
            };
            one_more(others.len())?;
            self.advance();
            others.push((comparison, self.linked(Self::predicate)?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        Ok(Expr::Compared(Box::new(first), others))
    }

    /// `IS NULL`, `IN`, `STARTS WITH` and the like.
    fn predicate(&mut self) -> Result<Expr, Error> {
        let mut left = self.sum()?;
        let mut links = 0;
        loop {
            links = one_more(links)?;
            if self.take_word("IS") {
                let is_not = self.linked(|parser| Ok(parser.take_word("NOT")))?;
                self.expect_word("NULL")?;
                left = Expr::IsNull(Box::new(left), !is_not);
                continue;
            }
            let operator = if self.take_word("IN") {
                Operator::In
            } else if self.take_word("CONTAINS") {
                Operator::Contains
            } else if self.take("=~") {
                Operator::Matches
            } else if self.take_word("STARTS") {
                self.expect_word("WITH")?;
                Operator::StartsWith
            } else if self.take_word("ENDS") {
                self.expect_word("WITH")?;
                Operator::EndsWith
            } else {
                return Ok(left);
            };
            let right = self.linked(Self::sum)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn sum(&mut self) -> Result<Expr, Error> {
        let signs = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.chain(&signs, Self::product)
    }

    fn product(&mut self) -> Result<Expr, Error> {
        let signs = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Modulo),
        ];
        self.chain(&signs, |parser| {
            parser.chain(&[("^", Operator::Power)], Self::signed)
        })
    }

    fn chain(
        &mut self,
        signs: &[(&str, Operator)],
        operand: impl Fn(&mut Self) -> Result<Expr, Error>,
    ) -> Result<Expr, Error> {
        let mut left = operand(self)?;
        let mut links = 0;
        while let Some((sign, operator)) = signs.iter().find(|(sign, _)| self.is(sign)) {
            links = one_more(links)?;
            self.expect(sign)?;
            let right = self.linked(&operand)?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Expr, Error> {
        if self.take("+") {
            return self.nested(Self::signed);
        }
        if self.take("-") {
            // The least integer has no positive counterpart.
            if self.peek() == &Kind::Integer(i64::MIN) {
                self.advance();
                return Ok(Expr::Literal(Value::Integer(i64::MIN)));
            }
            let inner = self.nested(Self::signed)?;
            return Ok(Expr::Negate(Box::new(inner)));
        }
        let atom = self.atom()?;
        self.suffixes(atom)
    }

    fn suffixes(&mut self, mut inner: Expr) -> Result<Expr, Error> {
        let mut links = 0;
        loop {
            links = one_more(links)?;
            if self.take(".") {
                let key = self.linked(|parser| parser.name("a property's key"))?;
                inner = Expr::Property(Box::new(inner), key);
            } else if self.take("[") {
                inner = self.linked(|parser| parser.indexed(inner))?;
            } else if self.is(":") && matches!(self.peek_behind(1), Kind::Word(_) | Kind::Quoted(_))
            {
                inner = self.linked(|parser| parser.labelled(inner))?;
            } else {
                return Ok(inner);
            }
        }
    }

    fn labelled(&mut self, inner: Expr) -> Result<Expr, Error> {
        let mut labels = Vec::new();
        while self.take(":") {
            labels.push(self.name("a label")?);
        }
        Ok(Expr::HasLabels(Box::new(inner), labels))
    }

    fn indexed(&mut self, inner: Expr) -> Result<Expr, Error> {
        let inner = Box::new(inner);
        let from = if self.is("..") {
            None
        } else {
            Some(Box::new(self.expression()?))
        };
        if !self.take("..") {
            self.expect("]")?;
            let index = from.ok_or_else(|| self.unexpected("an index"))?;
            return Ok(Expr::Index(inner, index));
        }
        let to = if self.is("]") {
            None
        } else {
            Some(Box::new(self.expression()?))
        };
        self.expect("]")?;
        Ok(Expr::Slice(inner, from, to))
    }

    fn atom(&mut self) -> Result<Expr, Error> {
        let place = self.place();
        match self.peek().clone() {
            Kind::Integer(i64::MIN) => {
                Err(wrong(self.text, place, "an integer does not fit 64 bits"))
            }
            Kind::Integer(number) => Ok(self.literal(Value::Integer(number))),
            Kind::Float(number) => Ok(self.literal(Value::Float(number))),
            Kind::Text(text) => Ok(self.literal(Value::text(&text))),
            Kind::Parameter(name) => {
                self.advance();
                Ok(Expr::Parameter(Arc::from(name)))
            }
            Kind::Sign("(") => self.parenthesized(),
            Kind::Sign("[") => self.bracketed(),
            Kind::Sign("{") => self.map(),
            Kind::Quoted(name) => {
                self.advance();
                Ok(Expr::Variable(Arc::from(name), place))
            }
            Kind::Word(word) => self.word(&word, place),
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn literal(&mut self, value: Value) -> Expr {
        self.advance();
        Expr::Literal(value)
    }

    fn word(&mut self, word: &str, place: usize) -> Result<Expr, Error> {
        let upper = word.to_ascii_uppercase();
        match upper.as_str() {
            "NULL" => return Ok(self.literal(Value::Null)),
            "TRUE" => return Ok(self.literal(Value::Boolean(true))),
            "FALSE" => return Ok(self.literal(Value::Boolean(false))),
            "CASE" => return self.case(),
            _ if self.is_keyword() => return Err(self.unexpected("an expression")),
            _ => {}
        }
        let opens = |sign| matches!(self.peek_behind(1), Kind::Sign(found) if *found == sign);
        if opens("{") && matches!(upper.as_str(), "EXISTS" | "COUNT" | "COLLECT") {
            self.advance();
            return self.subquery(&upper);
        }
        if opens("(") {
            self.advance();
            return self.call(&upper, place);
        }
        if matches!(self.peek_behind(1), Kind::Sign(".")) {
            // `date.truncate(…)`, `apoc.…(…)`: a function in a namespace.
            if let Some(name) = self.namespaced() {
                return Err(Error::unsupported(format!("the function {name}")));
            }
        }
        self.advance();
        let name: Name = Arc::from(word);
        if self.is("{") {
            return self.map_projection(Expr::Variable(name, place));
        }
        Ok(Expr::Variable(name, place))
    }

    fn namespaced(&self) -> Option<String> {
        let (mut name, mut count) = (String::new(), 0);
        loop {
            let Kind::Word(word) = self.peek_behind(count) else {
                return None;
            };
            name.push_str(word);
            match self.peek_behind(count + 1) {
                Kind::Sign(".") => name.push('.'),
                Kind::Sign("(") if count > 0 => return Some(name),
                _ => return None,
            }
            count += 2;
        }
    }

    fn case(&mut self) -> Result<Expr, Error> {
        self.advance();
        let subject = if self.is_word("WHEN") {
            None
        } else {
            Some(Box::new(self.expression()?))
        };
        let mut arms = Vec::new();
        while self.take_word("WHEN") {
            let when = self.expression()?;
            self.expect_word("THEN")?;
            arms.push((when, self.expression()?));
        }
        if arms.is_empty() {
            return Err(self.unexpected("WHEN"));
        }
        let otherwise = if self.take_word("ELSE") {
            Some(Box::new(self.expression()?))
        } else {
            None
        };
        self.expect_word("END")?;
        Ok(Expr::Case {
            subject,
            arms,
            otherwise,
        })
    }

    /// Behind the name of a function.
    fn call(&mut self, upper: &str, place: usize) -> Result<Expr, Error> {
        match upper {
            "ALL" => return self.quantified(Quantifier::All),
            "ANY" => return self.quantified(Quantifier::Any),
            "NONE" => return self.quantified(Quantifier::None),
            "SINGLE" => return self.quantified(Quantifier::Single),
            "REDUCE" => return self.reduce(),
            "SHORTESTPATH" | "ALLSHORTESTPATHS" => {
                return Err(Error::unsupported("shortestPath outside MATCH"));
            }
            "EXISTS" => return self.exists_call(),
            _ => {}
        }
        self.expect("(")?;
        let is_distinct = self.take_word("DISTINCT");
        if upper == "COUNT" && self.take("*") {
            self.expect(")")?;
            return Ok(Expr::Aggregate(Box::new(Aggregate {
                kind: AggregateKind::Count,
                is_distinct: false,
                of: None,
                place,
            })));
        }
        let mut arguments = Vec::new();
        if !self.is(")") {
            arguments.push(self.expression()?);
            while self.take(",") {
                arguments.push(self.expression()?);
            }
        }
        self.expect(")")?;
        let aggregate = match upper {
            "COUNT" => Some(AggregateKind::Count),
            "SUM" => Some(AggregateKind::Sum),
            "AVG" => Some(AggregateKind::Average),
            "MIN" => Some(AggregateKind::Least),
            "MAX" => Some(AggregateKind::Greatest),
            "COLLECT" => Some(AggregateKind::Collect),
            _ => None,
        };
        if let Some(kind) = aggregate {
            let one = <[Expr; 1]>::try_from(arguments);
            let problem = || wrong(self.text, place, "an aggregate takes one argument");
            let [of] = one.map_err(|_| problem())?;
            return Ok(Expr::Aggregate(Box::new(Aggregate {
                kind,
                is_distinct,
                of: Some(of),
                place,
            })));
        }
        let word = &self.text[place..];
        let word = &word[..upper.len()];
        let (name, least, most) = functions::known(upper)
            .ok_or_else(|| Error::unsupported(format!("the function {word}")))?;
        if is_distinct {
            return Err(wrong(self.text, place, format!("{word} takes no DISTINCT")));
        }
        if !(least..=most).contains(&arguments.len()) {
            let problem = format!("{word} takes {least} to {most} arguments");
            return Err(wrong(self.text, place, problem));
        }
        Ok(Expr::Call(name, arguments))
    }
}
