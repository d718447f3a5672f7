//! The excerpt shown of a passage, and what of it matched.
//!
//! Invariant: a snippet is one line of plain text, without control characters, of at most
//! [`SNIPPET_CHARS_MAX`] code points; its highlights are in order, do not overlap, and lie in it.

use std::ops::Range;

use crate::parse::{Parsed, Wanted};
use crate::words::{Analyzers, Word, is_unspaced};

/// Most code points of a snippet.
pub const SNIPPET_CHARS_MAX: usize = 240;
/// Code points of context before the first match, if there is as much.
const LEAD_CHARS: usize = 60;

/// An excerpt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snippet {
    pub(crate) text: String,
    pub(crate) highlights: Vec<(u32, u32)>,
}

/// A match: which of the things looked for, and its code points in the passage.
struct Match {
    wanted: usize,
    span: Range<usize>,
}

/// Makes excerpts for one query.
pub(crate) struct Highlighter<'a> {
    analyzers: &'a Analyzers,
    wanted: Vec<&'a Wanted>,
}

impl<'a> Highlighter<'a> {
    pub(crate) fn new(analyzers: &'a Analyzers, parsed: &'a Parsed) -> Self {
        let wanted = parsed.phrases.iter().chain(&parsed.words);
        Self {
            analyzers,
            wanted: wanted.collect(),
        }
    }

    /// The excerpt of a passage that holds the most different matches, else its beginning.
    pub(crate) fn snippet(&self, text: &str) -> Snippet {
        let chars: Vec<char> = text.chars().collect();
        let matches = self.matches(text);
        let window = window(&chars, &matches);
        flattened(&chars, window, &matches)
    }

    /// All matches in a text, by where they begin.
    fn matches(&self, text: &str) -> Vec<Match> {
        let words = self.analyzers.words(text);
        let mut at = (0, 0);
        let mut place = |byte: usize| {
            at = (byte, at.1 + text[at.0..byte].chars().count());
            at.1
        };
        let spans: Vec<_> = words
            .iter()
            .map(|word| place(word.from)..place(word.to))
            .collect();
        let mut matches = Vec::new();
        for first in 0..words.len() {
            for (wanted, sought) in self.wanted.iter().enumerate() {
                if let Some(count) = matched(sought, &words[first..]) {
                    let span = spans[first].start..spans[first + count - 1].end;
                    matches.push(Match { wanted, span });
                }
            }
        }
        matches
    }
}

/// How many words at the beginning of `words` are what is looked for.
fn matched(wanted: &Wanted, words: &[Word]) -> Option<usize> {
    match wanted {
        Wanted::Word { exact, stem } => {
            let word = &words[0];
            (word.exact == *exact || word.stem == *stem).then_some(1)
        }
        Wanted::Row(row) => {
            let found = words.get(..row.len())?;
            let is_row = found
                .iter()
                .zip(row)
                .all(|(word, sought)| word.exact == *sought);
            is_row.then_some(row.len())
        }
    }
}

/// The code points to show.
fn window(chars: &[char], matches: &[Match]) -> Range<usize> {
    if chars.len() <= SNIPPET_CHARS_MAX {
        return 0..chars.len();
    }
    let mut best = (0, 0..0);
    for (at, first) in matches.iter().enumerate() {
        let begin = first.span.start;
        let within = matches[at..]
            .iter()
            .take_while(|other| other.span.start < begin + SNIPPET_CHARS_MAX)
            .filter(|other| other.span.end <= begin + SNIPPET_CHARS_MAX);
        let mut seen = Vec::new();
        let (mut count, mut end) = (0, begin);
        for found in within {
            count += 1;
            end = end.max(found.span.end);
            if !seen.contains(&found.wanted) {
                seen.push(found.wanted);
            }
        }
        let worth = seen.len() * SNIPPET_CHARS_MAX + count;
        if worth > best.0 {
            best = (worth, begin..end);
        }
    }
    let (_, held) = best;
    let spare = SNIPPET_CHARS_MAX - held.len();
    let start = held.start.saturating_sub(spare.min(LEAD_CHARS));
    let start = start.min(chars.len() - SNIPPET_CHARS_MAX);
    let end = start + SNIPPET_CHARS_MAX;
    on_words(chars, start..end, &held)
}

/// The window without the words that its edges cut through, unless that would lose what it is to
/// hold.
fn on_words(chars: &[char], window: Range<usize>, held: &Range<usize>) -> Range<usize> {
    let is_inside = |at: usize| {
        let of_word = |c: char| c.is_alphanumeric() && !is_unspaced(c);
        at > 0 && at < chars.len() && of_word(chars[at - 1]) && of_word(chars[at])
    };
    let first = if held.is_empty() {
        window.end
    } else {
        held.start
    };
    let start = (window.start..=first).find(|at| !is_inside(*at));
    let start = start.unwrap_or(window.start);
    let last = held.end.max(start + 1);
    let end = (last..=window.end).rev().find(|at| !is_inside(*at));
    start..end.unwrap_or(window.end)
}

/// The window on one line, with what matched in it.
fn flattened(chars: &[char], window: Range<usize>, matches: &[Match]) -> Snippet {
    let mut text = String::new();
    let mut length = 0;
    // By code point of the window: where it stands in the text.
    let mut places = Vec::with_capacity(window.len() + 1);
    let mut gap = false;
    for &c in &chars[window.clone()] {
        if c.is_whitespace() || c.is_control() {
            gap = length > 0;
            places.push(length);
            continue;
        }
        if gap {
            text.push(' ');
            length += 1;
            gap = false;
        }
        places.push(length);
        text.push(c);
        length += 1;
    }
    places.push(length);
    let mut highlights: Vec<(u32, u32)> = Vec::new();
    for found in matches {
        let span = &found.span;
        if span.start < window.start || span.end > window.end || span.is_empty() {
            continue;
        }
        let start = places[span.start - window.start];
        let end = places[span.end - 1 - window.start] + 1;
        match highlights.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => highlights.push((start, end)),
        }
    }
    Snippet { text, highlights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use proptest::prelude::*;

    fn snippet(query: &str, text: &str) -> (Snippet, Vec<String>) {
        let analyzers = Analyzers::new();
        let parsed = parse(query, &analyzers).unwrap();
        let snippet = Highlighter::new(&analyzers, &parsed).snippet(text);
        let chars: Vec<char> = snippet.text.chars().collect();
        let shown = snippet.highlights.iter();
        let shown = shown.map(|(from, to)| chars[*from as usize..*to as usize].iter().collect());
        let shown = shown.collect();
        (snippet, shown)
    }

    #[test]
    fn matches_are_highlighted_by_word_stem_and_row() {
        let (_, shown) = snippet(
            "run \"red apple\" café",
            "Running: a Red\n apple, red CAFE apples",
        );
        assert_eq!(shown, ["Running", "Red apple", "CAFE"]);
        let (_, shown) = snippet("東京都", "これは東京都です");
        assert_eq!(shown, ["東京都"]);
    }

    #[test]
    fn the_window_is_where_most_words_are() {
        let text = format!(
            "apple {} apple and pear {}",
            "x ".repeat(400),
            "y ".repeat(400)
        );
        let (snippet, shown) = snippet("apple pear", &text);
        assert_eq!(shown, ["apple", "pear"]);
        assert!(snippet.text.starts_with("x x"));
        assert!(snippet.text.chars().count() <= SNIPPET_CHARS_MAX);
    }

    #[test]
    fn a_snippet_is_one_line_without_control_characters() {
        let (snippet, _) = snippet("b", "  a\u{0}\u{1b}\n\n\tb\u{2028}c  ");
        assert_eq!(snippet.text, "a b c");
        assert_eq!(snippet.highlights, [(2, 3)]);
    }

    #[test]
    fn words_are_not_cut_at_the_edges() {
        let text = "abcdefghij ".repeat(100);
        let (snippet, _) = snippet("nothing", &text);
        assert!(snippet.text.split(' ').all(|word| word == "abcdefghij"));
        assert!(snippet.text.len() > 200);
    }

    proptest! {
        #[test]
        fn highlights_lie_in_the_snippet_and_are_what_was_looked_for(
            text in "([ab東京é\u{1}\n .]{0,9}|word ){0,120}",
            query in "[abé東京 \"]{1,12}"
        ) {
            let analyzers = Analyzers::new();
            let parsed = parse(&query, &analyzers).unwrap();
            let (snippet, shown) = snippet(&query, &text);
            prop_assert!(snippet.text.chars().count() <= SNIPPET_CHARS_MAX);
            prop_assert!(!snippet.text.chars().any(char::is_control));
            prop_assert_eq!(snippet.text.trim(), snippet.text.as_str());
            let mut end = 0;
            for ((from, to), shown) in snippet.highlights.iter().zip(shown) {
                prop_assert!(*from >= end && to > from);
                end = *to;
                let words = analyzers.words(&shown);
                let is_wanted = (0..words.len()).any(|at| {
                    let mut all = parsed.words.iter().chain(&parsed.phrases);
                    all.any(|wanted| matched(wanted, &words[at..]).is_some())
                });
                prop_assert!(is_wanted, "{:?}", shown);
            }
            prop_assert!(end as usize <= snippet.text.chars().count());
        }
    }
}
