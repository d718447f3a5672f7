//! Query strings, read strictly.
//!
//! Invariant: no parameter is ignored. Every one is taken by name, and [`Query::finish`] refuses
//! what is left, what was repeated and what broke its rule, all at once.

use std::time::Duration;

use stemma_views::Cursor;

use crate::cursors::Cursors;
use crate::error::{ApiError, Code, FieldProblem};
use crate::options::Options;

/// A query string in the course of being read.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    problems: Vec<FieldProblem>,
}

/// What a read must reflect, and how long to wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinPosition {
    /// The position.
    pub(crate) position: Option<u64>,
    /// How long to wait.
    pub(crate) timeout: Duration,
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageOf {
    /// Most items.
    pub(crate) limit: usize,
    /// Where the page before ended.
    pub(crate) after: Option<Cursor>,
}

impl Query {
    /// Takes a query string apart.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self {
            pairs,
            problems: Vec::new(),
        })
    }

    /// Refuses any parameter, for routes that take none.
    pub(crate) fn none(text: &str) -> Result<(), ApiError> {
        Self::parse(text)?.finish()
    }

    /// All values of a parameter that may repeat.
    pub(crate) fn many(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition(|(n, _)| n == name);
        self.pairs = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Whether a parameter is there and was not taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, _)| n == name)
    }

    /// The value of a parameter that comes at most once.
    pub(crate) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.many(name);
        if values.len() > 1 {
            self.problem(name, "REPEATED_PARAMETER", "may be given once");
        }
        values.pop()
    }

    /// A parameter that is read by `read`; `expected` tells the client what is taken.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.one(name)?;
        let read = read(&value);
        if read.is_none() {
            self.problem(name, "INVALID_PARAMETER", format!("expected {expected}"));
        }
        read
    }

    /// A parameter that is a whole number from 0.
    pub(crate) fn number(&mut self, name: &str) -> Option<u64> {
        self.read(name, "a whole number from 0", parse_number)
    }

    /// A parameter that is a whole number from 1 to `max`.
    pub(crate) fn up_to<T>(&mut self, name: &str, max: T) -> Option<T>
    where
        T: TryFrom<u64> + From<u8> + PartialOrd + std::fmt::Display,
    {
        self.read(name, &format!("1 to {max}"), |text| {
            let number = T::try_from(parse_number(text)?).ok()?;
            (T::from(1)..=max).contains(&number).then_some(number)
        })
    }

    /// A parameter that may repeat, each value read by `read`.
    pub(crate) fn read_many<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for value in self.many(name) {
            match read(&value) {
                Ok(value) => all.push(value),
                Err(error) => self.problem(name, "INVALID_PARAMETER", error.to_string()),
            }
        }
        all
    }

    /// `limit`, in its range.
    pub(crate) fn limit(&mut self, options: &Options) -> usize {
        let limit = self.up_to("limit", options.page_limit_max);
        limit.unwrap_or(options.page_limit)
    }

    /// `limit` and `cursor`.
    pub(crate) fn page(&mut self, options: &Options, cursors: &Cursors) -> PageOf {
        let limit = self.limit(options);
        let after = self.one("cursor").and_then(|text| {
            let cursor = cursors.read(&text);
            if cursor.is_none() {
                let code = Code::InvalidCursor.name();
                self.problem("cursor", code, "expected a cursor that this list gave");
            }
            cursor
        });
        PageOf { limit, after }
    }

    /// `min_position` and `timeout_ms`.
    pub(crate) fn min_position(&mut self, options: &Options) -> MinPosition {
        let position = self.number("min_position");
        let max = options.wait_ms_max;
        let timeout_ms = self.read("timeout_ms", &format!("0 to {max}"), |text| {
            parse_number(text).filter(|ms| *ms <= max)
        });
        let timeout = Duration::from_millis(timeout_ms.unwrap_or(options.wait_ms));
        MinPosition { position, timeout }
    }

    /// Notes that a parameter is wrong.
    pub(crate) fn problem(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        self.problems
            .push(FieldProblem::parameter(name, code, detail));
    }

    /// Refuses what is wrong and what nobody took.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.problem(&name, "UNKNOWN_PARAMETER", "no such parameter here");
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        let is_cursor = |problem: &FieldProblem| problem.code == Code::InvalidCursor.name();
        let code = if self.problems.iter().all(is_cursor) {
            Code::InvalidCursor
        } else {
            Code::InvalidParameters
        };
        Err(ApiError::fields(code, self.problems))
    }
}

/// Digits only: no sign, no space.
fn parse_number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn decode(text: &str) -> Result<String, ApiError> {
    let mut escapes = text.split('%').skip(1);
    if !escapes.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit())) {
        return Err(ApiError::of(Code::MalformedQuery));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| ApiError::of(Code::MalformedQuery))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, read: impl FnOnce(&mut Query)) -> Vec<String> {
        let mut query = Query::parse(text).unwrap();
        read(&mut query);
        let error = query.finish().unwrap_err();
        assert_eq!(error.code(), Code::InvalidParameters);
        error
            .places()
            .iter()
            .map(|place| place.parameter.clone().unwrap())
            .collect()
    }

    #[test]
    fn unknown_repeated_and_bad_parameters_are_all_named() {
        let options = Options::default();
        let named = refused(
            "limit=0&x=1&min_position=-1&timeout_ms=1&timeout_ms=2",
            |query| {
                query.limit(&options);
                query.min_position(&options);
            },
        );
        assert_eq!(named, ["limit", "min_position", "timeout_ms", "x"]);
        assert_eq!(
            refused("limit=501", |query| _ = query.limit(&options)),
            ["limit"]
        );
        assert_eq!(
            refused("limit=", |query| _ = query.limit(&options)),
            ["limit"]
        );
    }

    #[test]
    fn a_cursor_that_cannot_be_read_has_a_code_of_its_own() {
        let options = Options::default();
        let refused = |text: &str| {
            let mut query = Query::parse(text).unwrap();
            query.page(&options, &Cursors::new(None));
            query.finish().unwrap_err().code()
        };
        assert_eq!(refused("cursor=zz"), Code::InvalidCursor);
        assert_eq!(refused("cursor=zz&limit=0"), Code::InvalidParameters);
    }

    #[test]
    fn values_are_decoded_and_must_be_utf8() {
        let mut query = Query::parse("q=a%20b+c&q=%C3%A9&").unwrap();
        assert_eq!(query.many("q"), ["a b c", "é"]);
        assert!(query.finish().is_ok());
        assert_eq!(
            Query::parse("q=%FF").unwrap_err().code(),
            Code::MalformedQuery
        );
    }
}
