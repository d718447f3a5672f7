//! Cutting a passage into words, and words into stretches that a name may lie in.
//!
//! Invariant: a stretch is at most [`WORDS_MAX`] words, so what is held at once does not grow
//! with the passage.

use unicode_segmentation::{UnicodeSegmentation, UnicodeWordIndices};

use super::words::is_title;

/// Most words of a stretch; a longer sentence is cut.
const WORDS_MAX: usize = 400;

/// A word in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
    /// What stands between the word before and this one.
    pub(super) gap: &'a str,
    /// Whether a sentence, a line or a quotation may begin here.
    pub(super) is_first: bool,
}

impl Word<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Begins with a capital letter.
    pub(super) fn is_capital(&self) -> bool {
        self.text.starts_with(char::is_uppercase)
    }

    /// A capital letter alone, as in J. R. R.
    pub(super) fn is_initial(&self) -> bool {
        self.is_capital() && self.text.chars().nth(1).is_none()
    }

    /// Whether it goes on right after the word before: by a blank, a hyphen, or the full stop of
    /// an initial or a title.
    pub(super) fn goes_on_after(&self, before: &Word<'_>) -> bool {
        match self.gap {
            " " | "-" | "‐" | "–" | "\u{a0}" => true,
            ". " | "." | ".\u{a0}" => before.is_initial() || is_title(before.text),
            _ => false,
        }
    }
}

/// Stretches of a passage, one after the other.
pub(super) struct Stretches<'a> {
    passage: &'a str,
    words: UnicodeWordIndices<'a>,
    /// Where the last word ended.
    end: usize,
    /// The word that begins the next stretch.
    next: Option<Word<'a>>,
    last: Option<Word<'a>>,
}

impl<'a> Stretches<'a> {
    pub(super) fn of(passage: &'a str) -> Self {
        Self {
            passage,
            words: passage.unicode_word_indices(),
            end: 0,
            next: None,
            last: None,
        }
    }

    /// Puts the next stretch into `into`; false when there is none left.
    pub(super) fn next(&mut self, into: &mut Vec<Word<'a>>) -> bool {
        into.clear();
        into.extend(self.next.take());
        while into.len() < WORDS_MAX {
            let Some(word) = self.word() else {
                break;
            };
            if word.is_first && !into.is_empty() {
                self.next = Some(word);
                break;
            }
            into.push(word);
        }
        !into.is_empty()
    }

    fn word(&mut self) -> Option<Word<'a>> {
        let (start, text) = self.words.next()?;
        let gap = &self.passage[self.end..start];
        self.end = start + text.len();
        // The apostrophe of the genitive is no part of a name.
        let owner = text.strip_suffix("’s").or_else(|| text.strip_suffix("'s"));
        let mut word = Word {
            text: owner.unwrap_or(text),
            start,
            gap,
            is_first: false,
        };
        word.is_first = self.last.is_none_or(|last| {
            let breaks = |c: char| ".!?:;\n\r|•“\"«[(#*>".contains(c);
            gap.contains(breaks) && !word.goes_on_after(&last)
        });
        self.end = start + text.len();
        if owner.is_some() {
            self.end = word.end();
        }
        self.last = Some(word);
        Some(word)
    }
}
