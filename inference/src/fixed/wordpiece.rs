//! Cutting text into the pieces of words that BERT's vocabulary has: WordPiece, uncased.
//!
//! Invariant: pieces are those that the reference tokenizer gives, except that the names of
//! special tokens, such as `[SEP]`, are text like any other here.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::table::{TOKEN_BYTES_MAX, Table};

/// Longest word in characters that is cut into pieces; a longer one is unknown.
const WORD_CHARS_MAX: usize = 100;

/// What a word is to the vocabulary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pieces<'a> {
    /// Rows of the table, in order.
    Known(&'a [u32]),
    /// It cannot be put together from the vocabulary.
    Unknown,
}

/// Calls `take` with each word of a text, as it is looked up: in lower case, without accents;
/// punctuation and Chinese characters are words of their own.
pub(super) fn words(table: &Table, text: &str, take: &mut dyn FnMut(&str, Pieces<'_>)) {
    let mut cut = Cutter {
        table,
        word: String::new(),
        pieces: Vec::new(),
        take,
    };
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest
            .bytes()
            .position(|b| !b.is_ascii())
            .unwrap_or(rest.len());
        for byte in rest[..ascii].bytes() {
            cut.ascii(byte);
        }
        rest = &rest[ascii..];
        let other = rest.bytes().position(|b| b.is_ascii());
        let other = other.unwrap_or(rest.len());
        for c in rest[..other].chars().filter(|c| !is_left_out(*c)).nfd() {
            cut.character(c);
        }
        rest = &rest[other..];
    }
    cut.end_word();
}

struct Cutter<'a> {
    table: &'a Table,
    word: String,
    pieces: Vec<u32>,
    take: &'a mut dyn FnMut(&str, Pieces<'_>),
}

impl Cutter<'_> {
    fn ascii(&mut self, byte: u8) {
        match byte {
            b'\t' | b'\n' | b'\r' | b' ' => self.end_word(),
            _ if byte.is_ascii_control() => {}
            _ if byte.is_ascii_punctuation() => self.alone(char::from(byte)),
            _ => self.word.push(char::from(byte.to_ascii_lowercase())),
        }
    }

    /// Takes a character of the decomposed text.
    fn character(&mut self, c: char) {
        if let Ok(byte) = u8::try_from(c)
            && byte.is_ascii()
        {
            return self.ascii(byte);
        }
        if c.is_whitespace() {
            return self.end_word();
        }
        let category = c.general_category();
        if category == GeneralCategory::NonspacingMark {
            return;
        }
        if is_chinese(c) || c.general_category_group() == GeneralCategoryGroup::Punctuation {
            return self.alone(c);
        }
        self.word.extend(c.to_lowercase());
    }

    fn alone(&mut self, c: char) {
        self.end_word();
        self.word.extend(c.to_lowercase());
        self.end_word();
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let pieces = if self.cut() {
            Pieces::Known(&self.pieces)
        } else {
            Pieces::Unknown
        };
        (self.take)(&self.word, pieces);
        self.word.clear();
    }

    /// Puts the word's pieces, each the longest possible, into `self.pieces`.
    fn cut(&mut self) -> bool {
        self.pieces.clear();
        let word = self.word.as_str();
        if word.len() > WORD_CHARS_MAX && word.chars().nth(WORD_CHARS_MAX).is_some() {
            return false;
        }
        let mut start = 0;
        while start < word.len() {
            let longest = word.floor_char_boundary(start + TOKEN_BYTES_MAX);
            let mut end = longest;
            let row = loop {
                if end == start {
                    return false;
                }
                if let Some(row) = self.table.row(&word[start..end], start > 0) {
                    break row;
                }
                end = word.floor_char_boundary(end - 1);
            };
            self.pieces.push(row);
            start = end;
        }
        true
    }
}

/// Characters that are taken out before anything else: what is neither text nor white space.
fn is_left_out(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        _ => matches!(
            c.general_category(),
            GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse
        ),
    }
}

/// The blocks that BERT takes for Chinese characters.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
