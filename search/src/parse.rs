//! What people type, made into what is looked for.
//!
//! Words stand for themselves; `"words in a row"` must stand so; `-word` and `-"words"` must not
//! stand. Everything else is punctuation. There is no text that cannot be read.

use crate::error::SearchError;
use crate::words::{Analyzers, Word};

/// Most bytes of a query's text.
pub const QUERY_BYTES_MAX: usize = 4 << 10;
/// Most words of a query, a character of scripts without spaces being a word.
pub const QUERY_TERMS_MAX: usize = 128;

/// What opens and closes a phrase.
const QUOTES: [char; 4] = ['"', '“', '”', '„'];

/// One thing that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A word, or one of the same stem.
    Word { exact: String, stem: String },
    /// These words in a row, as they are. Never empty.
    Row(Vec<String>),
}

/// All that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parsed {
    /// Any of these; passages that hold all of them go first.
    pub(crate) words: Vec<Wanted>,
    /// Each of these.
    pub(crate) phrases: Vec<Wanted>,
    /// None of these.
    pub(crate) excluded: Vec<Wanted>,
}

impl Parsed {
    /// Whether nothing is looked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.phrases.is_empty()
    }
}

/// A part of the text that is to be read as one.
struct Piece<'a> {
    text: &'a str,
    is_phrase: bool,
    is_excluded: bool,
}

/// Reads a query's text.
///
/// # Errors
/// [`SearchError::QueryTooLong`], [`SearchError::TooManyTerms`]. An empty result is none.
pub(crate) fn parse(text: &str, analyzers: &Analyzers) -> Result<Parsed, SearchError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(SearchError::QueryTooLong {
            bytes: text.len(),
            bytes_max: QUERY_BYTES_MAX,
        });
    }
    let mut parsed = Parsed::default();
    let mut terms = 0;
    for piece in pieces(text) {
        let words = analyzers.words(piece.text);
        terms += words.len();
        if words.is_empty() {
            continue;
        }
        if piece.is_excluded {
            add(&mut parsed.excluded, row(words));
        } else if piece.is_phrase {
            add(&mut parsed.phrases, row(words));
        } else {
            for wanted in wanted(&words) {
                add(&mut parsed.words, wanted);
            }
        }
    }
    if terms > QUERY_TERMS_MAX {
        let terms_max = QUERY_TERMS_MAX;
        return Err(SearchError::TooManyTerms { terms, terms_max });
    }
    Ok(parsed)
}

fn add(to: &mut Vec<Wanted>, wanted: Wanted) {
    if !to.contains(&wanted) {
        to.push(wanted);
    }
}

fn row(words: Vec<Word>) -> Wanted {
    Wanted::Row(words.into_iter().map(|word| word.exact).collect())
}

/// Words each for itself; of scripts without spaces, each pair of neighbours.
fn wanted(words: &[Word]) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(words.len());
    let is_pair = |a: &Word, b: &Word| a.is_unspaced && b.is_unspaced && a.to == b.from;
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &words[before]);
        if let Some(next) = words.get(at + 1).filter(|next| is_pair(word, next)) {
            wanted.push(Wanted::Row(vec![word.exact.clone(), next.exact.clone()]));
        } else if !before.is_some_and(|before| is_pair(before, word)) {
            wanted.push(Wanted::Word {
                exact: word.exact.clone(),
                stem: word.stem.clone(),
            });
        }
    }
    wanted
}

/// Splits at white space and quotes. A quote that is not closed reaches to the end.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let bare = rest.strip_prefix('-');
        let is_excluded = bare.is_some();
        let body = bare.unwrap_or(rest);
        let is_phrase = body.starts_with(QUOTES);
        let (piece, after) = if is_phrase {
            let inner = body.trim_start_matches(|c| QUOTES.contains(&c));
            let inner = if inner.is_empty() {
                inner
            } else {
                after_first(body)
            };
            let end = inner.find(QUOTES).unwrap_or(inner.len());
            (&inner[..end], after_first(&inner[end..]))
        } else {
            let ends = |c: char| c.is_whitespace() || QUOTES.contains(&c);
            body.split_at(body.find(ends).unwrap_or(body.len()))
        };
        pieces.push(Piece {
            text: piece,
            is_phrase,
            is_excluded,
        });
        rest = after.trim_start();
    }
    pieces
}

fn after_first(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> String {
        let parsed = parse(text, &Analyzers::new()).unwrap();
        let list = |wanted: &[Wanted]| {
            let texts = wanted.iter().map(|wanted| match wanted {
                Wanted::Word { exact, .. } => exact.clone(),
                Wanted::Row(words) => words.join("+"),
            });
            texts.collect::<Vec<_>>().join(" ")
        };
        format!(
            "{} | {} | {}",
            list(&parsed.words),
            list(&parsed.phrases),
            list(&parsed.excluded)
        )
    }

    #[test]
    fn words_phrases_and_exclusions_are_told_apart() {
        assert_eq!(told("Red apples"), "red apples |  | ");
        assert_eq!(
            told("red \"green apple\" -pear"),
            "red | green+apple | pear"
        );
        assert_eq!(told("-\"rotten apple\" a"), "a |  | rotten+apple");
        assert_eq!(
            told("state-of-the-art -x-ray"),
            "state of the art |  | x+ray"
        );
        assert_eq!(told("a“b c”d"), "a d | b+c | ");
        assert_eq!(told("same SAME"), "same |  | ");
    }

    #[test]
    fn scripts_without_spaces_are_looked_for_in_pairs() {
        assert_eq!(told("東京都 水"), "東+京 京+都 水 |  | ");
        assert_eq!(told("\"東京都\""), " | 東+京+都 | ");
    }

    #[test]
    fn odd_texts_are_read_too() {
        for odd in [
            "\"",
            "\"\"",
            "-",
            "--",
            "- - \"",
            "-\"",
            "!!!",
            "AND OR ( ) * ~ ^2 field:",
            "",
        ] {
            told(odd);
        }
        assert_eq!(told("\"not closed"), " | not+closed | ");
        assert_eq!(
            told("field:value AND (x OR y)"),
            "field value and x or y |  | "
        );
    }

    #[test]
    fn the_limits_have_their_errors() {
        let analyzers = Analyzers::new();
        let long = "x".repeat(QUERY_BYTES_MAX + 1);
        assert!(matches!(
            parse(&long, &analyzers),
            Err(SearchError::QueryTooLong { .. })
        ));
        let many = "a ".repeat(QUERY_TERMS_MAX + 1);
        assert!(matches!(
            parse(&many, &analyzers),
            Err(SearchError::TooManyTerms { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[\"“” \\-a東]{0,40}|.{0,40}") {
            prop_assert!(parse(&text, &Analyzers::new()).is_ok());
        }
    }
}
