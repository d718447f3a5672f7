//! Where a plain text is cut into passages.
//!
//! Invariant: the text between a passage's offsets is the passage; passages do not overlap, and
//! between them there is only white space.

use std::ops::Range;

/// Code points that a passage has at most.
const CUT_CHARS_MAX: usize = 1_200;
/// Code points after which a good place to cut is looked for.
const CUT_CHARS_MIN: usize = 600;

/// A passage of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut<'a> {
    /// Code points of the text.
    pub(crate) span: Range<usize>,
    pub(crate) text: &'a str,
}

/// The passages of a text, one after the other.
pub(crate) struct Cuts<'a> {
    rest: &'a str,
    /// Code points before the rest.
    at: usize,
}

/// Cuts a text at the ends of paragraphs, else of sentences, else of words, else anywhere.
pub(crate) fn cut(text: &str) -> Cuts<'_> {
    Cuts { rest: text, at: 0 }
}

impl<'a> Iterator for Cuts<'a> {
    type Item = Cut<'a>;

    fn next(&mut self) -> Option<Cut<'a>> {
        let begun = self.rest.trim_start();
        let blank = &self.rest[..self.rest.len() - begun.len()];
        self.at += blank.chars().count();
        if begun.is_empty() {
            self.rest = begun;
            return None;
        }
        let bytes = place(begun);
        let text = begun[..bytes].trim_end();
        let span = self.at..self.at + text.chars().count();
        self.at = span.end;
        self.rest = &begun[text.len()..];
        Some(Cut { span, text })
    }
}

/// Bytes of the first passage of a text that begins with a word.
fn place(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((most, _)) = chars.nth(CUT_CHARS_MAX) else {
        return text.len();
    };
    let least = text.char_indices().nth(CUT_CHARS_MIN);
    let least = least.map_or(0, |(at, _)| at);
    let looked_at = &text[least..most];
    let paragraph = looked_at.rfind("\n\n").map(|at| at + 2);
    let found = paragraph
        .or_else(|| sentence_end(looked_at))
        .or_else(|| looked_at.rfind(char::is_whitespace));
    found.map_or(most, |at| least + at)
}

/// Where the last sentence of a text ends.
fn sentence_end(text: &str) -> Option<usize> {
    let mut previous = None;
    let mut end = None;
    for (at, c) in text.char_indices() {
        let ends = match previous {
            Some('.' | '!' | '?' | '…' | ':' | ';' | '"' | '”' | ')') => c.is_whitespace(),
            Some('。' | '！' | '？' | '．' | '।') => true,
            _ => c == '\n',
        };
        if ends {
            end = Some(at);
        }
        previous = Some(c);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str, span: &Range<usize>) -> String {
        text.chars().skip(span.start).take(span.len()).collect()
    }

    #[test]
    fn a_text_is_cut_where_a_paragraph_ends() {
        let first = "word ".repeat(160);
        let text = format!("{first}\n\n{}", "Next one. ".repeat(150));
        let cuts: Vec<_> = cut(&text).collect();
        assert_eq!(cuts[0].text, first.trim_end());
        assert!(cuts[1..].iter().all(|cut| cut.text.ends_with("one.")));
        assert!(cuts.iter().all(|cut| cut.span.len() <= CUT_CHARS_MAX));
    }

    #[test]
    fn a_text_without_spaces_is_cut_all_the_same() {
        let text = "あ".repeat(3_000);
        let spans: Vec<_> = cut(&text).map(|cut| cut.span.len()).collect();
        assert_eq!(spans, [1_200, 1_200, 600]);
    }

    #[test]
    fn white_space_alone_gives_no_passage() {
        assert_eq!(cut(" \n\t ").count(), 0);
    }

    proptest! {
        #[test]
        fn the_text_at_the_offsets_is_the_passage(
            words in prop::collection::vec(("[a-zé東。.\n ]{0,40}", 1_usize..60), 0..40)
        ) {
            let text: String = words.iter().map(|(word, n)| word.repeat(*n)).collect();
            let mut end = 0;
            for cut in cut(&text) {
                prop_assert_eq!(at(&text, &cut.span), cut.text);
                prop_assert!(cut.span.len() <= CUT_CHARS_MAX);
                prop_assert!(at(&text, &(end..cut.span.start)).trim().is_empty());
                prop_assert!(cut.span.end > cut.span.start);
                end = cut.span.end;
            }
            prop_assert!(text.chars().skip(end).all(char::is_whitespace));
        }
    }
}
