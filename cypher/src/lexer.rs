//! Text to tokens.

use crate::error::Error;

/// A token and where it starts and ends, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A keyword or a name.
    Word(String),
    /// A name in backticks, which is no keyword.
    Quoted(String),
    Integer(i64),
    Float(f64),
    Text(String),
    Parameter(String),
    /// One or two characters that are neither.
    Sign(&'static str),
    End,
}

/// Signs, the longer ones first.
const SIGNS: &[&str] = &[
    "..", "<>", "<=", ">=", "=~", "+=", "(", ")", "[", "]", "{", "}", ",", ":", ";", ".", "|", "=",
    "<", ">", "+", "-", "*", "/", "%", "^", "!", "&", "$",
];

/// A syntax error at a place.
pub(crate) fn wrong(text: &str, at: usize, problem: impl Into<String>) -> Error {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |place| place + 1);
    Error::Syntax {
        problem: problem.into(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// All tokens, the end among them.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.pass_space()?;
        let start = lexer.at;
        let kind = lexer.token()?;
        let is_end = kind == Kind::End;
        let end = lexer.at;
        tokens.push(Token { kind, start, end });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn pass_space(&mut self) -> Result<(), Error> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.at += blank;
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest.find("*/");
                self.at +=
                    end.ok_or_else(|| wrong(self.text, self.at, "a comment has no end"))? + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Kind, Error> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Kind::End);
        };
        let second = rest.chars().nth(1).unwrap_or(' ');
        if begins_word(first) {
            return Ok(Kind::Word(self.take_while(in_word).to_owned()));
        }
        if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit()) {
            return self.number();
        }
        match first {
            '\'' | '"' => return self.text_in(first).map(Kind::Text),
            '`' => return self.quoted().map(Kind::Quoted),
            '$' if in_word(second) => {
                self.at += 1;
                return Ok(Kind::Parameter(self.take_while(in_word).to_owned()));
            }
            '$' if second == '`' => {
                self.at += 1;
                return self.quoted().map(Kind::Parameter);
            }
            _ => {}
        }
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        let sign =
            sign.ok_or_else(|| wrong(self.text, self.at, format!("{first:?} is no Cypher")))?;
        self.at += sign.len();
        Ok(Kind::Sign(sign))
    }

    fn take_while(&mut self, takes: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !takes(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn number(&mut self) -> Result<Kind, Error> {
        let start = self.at;
        let bad = |at| wrong(self.text, at, "a number is malformed or too large");
        for (prefix, radix) in [("0x", 16), ("0o", 8)] {
            let begin = self.rest().get(..prefix.len());
            if begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix)) {
                let digits = &self.text[start + 2..];
                let end = digits.find(|c| !in_word(c)).unwrap_or(digits.len());
                let number = u64::from_str_radix(&digits[..end], radix);
                self.at += 2 + end;
                // As below, one too large stands behind a minus.
                return match number {
                    Ok(number) if number <= 1 << 63 => Ok(Kind::Integer(number.cast_signed())),
                    _ => Err(bad(start)),
                };
            }
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut is_float = false;
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            is_float = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let rest = self.rest();
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(|c: char| c.is_ascii_digit()) {
                is_float = true;
                self.at += rest.len() - digits.len();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        if self.rest().starts_with(begins_word) {
            return Err(wrong(
                self.text,
                start,
                "a number is malformed or too large",
            ));
        }
        let text = &self.text[start..self.at];
        if is_float {
            let number: f64 = text
                .parse()
                .map_err(|_| wrong(self.text, start, "malformed"))?;
            if !number.is_finite() {
                return Err(wrong(self.text, start, "a number is too large"));
            }
            return Ok(Kind::Float(number));
        }
        // The least integer is written with a minus before a number one too large.
        match text.parse::<u64>() {
            Ok(number) if number <= 1 << 63 => Ok(Kind::Integer(number.cast_signed())),
            _ => Err(wrong(self.text, start, "an integer does not fit 64 bits")),
        }
    }

    fn quoted(&mut self) -> Result<String, Error> {
        let start = self.at;
        self.at += 1;
        let mut name = String::new();
        loop {
            name.push_str(self.take_while(|c| c != '`'));
            let rest = self.rest();
            if rest.is_empty() {
                return Err(wrong(self.text, start, "a name in backticks has no end"));
            }
            self.at += 1;
            if !rest.starts_with("``") {
                break;
            }
            self.at += 1;
            name.push('`');
        }
        if name.is_empty() {
            return Err(wrong(self.text, start, "a name is empty"));
        }
        Ok(name)
    }

    fn text_in(&mut self, quote: char) -> Result<String, Error> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != quote && c != '\\'));
            let mut rest = self.rest().chars();
            match rest.next() {
                None => return Err(wrong(self.text, start, "a string has no end")),
                Some('\\') => self.escape(rest.next(), &mut text)?,
                Some(_) => {
                    self.at += 1;
                    return Ok(text);
                }
            }
        }
    }

    fn escape(&mut self, escaped: Option<char>, text: &mut String) -> Result<(), Error> {
        let bad = || wrong(self.text, self.at, "no such escape in a string");
        let escaped = escaped.ok_or_else(bad)?;
        let plain = match escaped {
            '\\' | '\'' | '"' | '`' => escaped,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' | 'U' => {
                let digits = if escaped == 'u' { 4 } else { 8 };
                let code = self.rest().get(2..2 + digits).ok_or_else(bad)?;
                let code = u32::from_str_radix(code, 16).ok();
                text.push(code.and_then(char::from_u32).ok_or_else(bad)?);
                self.at += 2 + digits;
                return Ok(());
            }
            _ => return Err(bad()),
        };
        text.push(plain);
        self.at += 2;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let mut kinds: Vec<_> = tokens(text).unwrap().into_iter().map(|t| t.kind).collect();
        assert_eq!(kinds.pop(), Some(Kind::End));
        kinds
    }

    #[test]
    fn words_numbers_texts_and_signs_are_told_apart() {
        let word = |text: &str| Kind::Word(text.to_owned());
        assert_eq!(
            kinds("MATCH /* a */ (ä:`x ``y`)-[*1..3]-> // end"),
            [
                word("MATCH"),
                Kind::Sign("("),
                word("ä"),
                Kind::Sign(":"),
                Kind::Quoted("x `y".to_owned()),
                Kind::Sign(")"),
                Kind::Sign("-"),
                Kind::Sign("["),
                Kind::Sign("*"),
                Kind::Integer(1),
                Kind::Sign(".."),
                Kind::Integer(3),
                Kind::Sign("]"),
                Kind::Sign("-"),
                Kind::Sign(">"),
            ]
        );
        assert_eq!(
            kinds("0x1F 0o17 1.5 .5 1e3 2E-1 $p $`a b` 'it\\'s \\u00e4'"),
            [
                Kind::Integer(31),
                Kind::Integer(15),
                Kind::Float(1.5),
                Kind::Float(0.5),
                Kind::Float(1000.0),
                Kind::Float(0.2),
                Kind::Parameter("p".to_owned()),
                Kind::Parameter("a b".to_owned()),
                Kind::Text("it's ä".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_no_token_is_placed_by_line_and_column() {
        for (text, line, column) in [
            ("RETURN\n 'a", 2, 2),
            ("RETURN 9223372036854775809", 1, 8),
            ("RETURN /* x", 1, 8),
            ("RETURN 12ab", 1, 8),
            ("RETURN 1e999", 1, 8),
            ("RETURN 'ä\\q'", 1, 10),
            ("RETURN `a", 1, 8),
            ("#", 1, 1),
        ] {
            let Err(Error::Syntax {
                line: l, column: c, ..
            }) = tokens(text)
            else {
                panic!("{text}");
            };
            assert_eq!((l, c), (line, column), "{text}");
        }
    }
}
