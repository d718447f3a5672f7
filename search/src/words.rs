//! What a word is: the one way in which texts, names and queries are cut and folded.
//!
//! A word is a run of letters, digits and marks, in lower case and without accents. Scripts that
//! put no spaces between words (Han, Kana, Hangul, Thai, …) give one word per character; a query
//! for several of them in a row asks for them in a row, so any part of a sentence is found.
//!
//! Invariant: the words of a text do not depend on where it stands: index, query and highlights
//! go through [`Analyzers`].

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer,
};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Characters of a word that count; longer words are found by their beginning.
const WORD_CHARS_MAX: usize = 64;

/// The two ways in which words are kept: as they are, and by their English stem.
#[derive(Clone)]
pub(crate) struct Analyzers {
    pub(crate) exact: TextAnalyzer,
    pub(crate) stem: TextAnalyzer,
}

impl Analyzers {
    pub(crate) fn new() -> Self {
        Self {
            exact: TextAnalyzer::builder(Words)
                .filter(AsciiFoldingFilter)
                .build(),
            stem: TextAnalyzer::builder(Words)
                .filter(AsciiFoldingFilter)
                .filter(Stemmer::new(Language::English))
                .build(),
        }
    }

    /// The words of a text, each as it is and by its stem.
    pub(crate) fn words(&self, text: &str) -> Vec<Word> {
        let mut exact = self.exact.clone();
        let mut stem = self.stem.clone();
        let mut stems = Vec::new();
        stem.token_stream(text)
            .process(&mut |token| stems.push(token.text.clone()));
        let mut words = Vec::with_capacity(stems.len());
        let mut stems = stems.into_iter();
        exact.token_stream(text).process(&mut |token| {
            words.push(Word {
                exact: token.text.clone(),
                stem: stems.next().unwrap_or_default(),
                from: token.offset_from,
                to: token.offset_to,
                is_unspaced: text[token.offset_from..]
                    .chars()
                    .next()
                    .is_some_and(is_unspaced),
            });
        });
        words
    }
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// In lower case, without accents.
    pub(crate) exact: String,
    /// The English stem of that.
    pub(crate) stem: String,
    /// The first byte.
    pub(crate) from: usize,
    /// The byte after the last.
    pub(crate) to: usize,
    /// Whether it is a character of a script without spaces.
    pub(crate) is_unspaced: bool,
}

/// The tokenizer: cuts and folds.
#[derive(Clone, Default)]
struct Words;

struct WordStream<'a> {
    text: &'a str,
    at: usize,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        WordStream {
            text,
            at: 0,
            token: Token::default(),
        }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some((skipped, first)) = rest.char_indices().find(|(_, c)| c.is_alphanumeric()) else {
            self.at = self.text.len();
            return false;
        };
        let from = self.at + skipped;
        let length = if is_unspaced(first) {
            first.len_utf8()
        } else {
            length_of_word(&self.text[from..])
        };
        self.at = from + length;
        self.token.offset_from = from;
        self.token.offset_to = self.at;
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text.clear();
        fold(&self.text[from..self.at], &mut self.token.text);
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

/// Bytes of the spaced word that a text begins with.
fn length_of_word(text: &str) -> usize {
    let plain = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    // Most words end before what is not ASCII.
    if text.as_bytes().get(plain).is_none_or(u8::is_ascii) {
        return plain;
    }
    text.find(|c: char| !continues(c)).unwrap_or(text.len())
}

/// Whether a character goes on with a word that is spaced.
fn continues(c: char) -> bool {
    (c.is_alphanumeric() && !is_unspaced(c)) || (!c.is_ascii() && is_combining_mark(c))
}

/// Whether a character is of a script that puts no spaces between words.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF // Thai, Lao
        | 0x1000..=0x109F // Myanmar
        | 0x1100..=0x11FF // Hangul, its parts
        | 0x1780..=0x17FF // Khmer
        | 0x3005..=0x3007 | 0x3040..=0x30FF | 0x31F0..=0x31FF // Kana
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF // Han
        | 0xAC00..=0xD7AF // Hangul
        | 0xFF66..=0xFF9F // Kana of half width
        | 0x20000..=0x323AF) // Han
}

fn fold(word: &str, into: &mut String) {
    if word.is_ascii() {
        into.push_str(&word[..word.len().min(WORD_CHARS_MAX)]);
        into.make_ascii_lowercase();
        return;
    }
    let kept = word.chars().take(WORD_CHARS_MAX);
    if word.chars().all(is_unspaced) {
        into.extend(kept.nfkc());
    } else {
        let plain = kept.nfkd().filter(|c| !is_accent(*c));
        let lower = plain.flat_map(char::to_lowercase);
        let lower = lower.filter(|c| !is_accent(*c));
        into.extend(lower.map(|c| if c == 'ς' { 'σ' } else { c }));
    }
    if into.is_empty() {
        // A word of marks alone is itself.
        into.extend(word.chars().take(WORD_CHARS_MAX));
    }
}

/// Marks that people leave out when they look for a word: accents, and the points of Hebrew and
/// Arabic. Vowel signs of Indic scripts are letters to their readers, and stay.
fn is_accent(c: char) -> bool {
    matches!(u32::from(c),
        0x0300..=0x036F | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF | 0xFE20..=0xFE2F
        | 0x0591..=0x05C7 | 0x064B..=0x065F | 0x0670)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(text: &str) -> Vec<String> {
        let words = Analyzers::new().words(text);
        words.into_iter().map(|word| word.exact).collect()
    }

    #[test]
    fn words_are_folded_alike_however_they_are_written() {
        assert_eq!(exact("Café CAFE\u{301} cafe"), ["cafe"; 3]);
        assert_eq!(exact("Straße ＦＵＬＬ Łódź"), ["strasse", "full", "lodz"]);
        assert_eq!(exact("ΟΔΟΣ οδός"), ["οδοσ"; 2]);
        assert_eq!(
            exact("don't stop-it 3.14"),
            ["don", "t", "stop", "it", "3", "14"]
        );
    }

    #[test]
    fn scripts_without_spaces_give_a_word_per_character() {
        assert_eq!(exact("東京tower塔"), ["東", "京", "tower", "塔"]);
        assert_eq!(exact("हिन्दी भाषा"), ["हिन्दी", "भाषा"]);
    }

    #[test]
    fn a_very_long_word_is_cut() {
        assert_eq!(exact(&"x".repeat(100_000)), ["x".repeat(64)]);
    }

    #[test]
    fn stems_are_english() {
        let words = Analyzers::new().words("Running connections");
        let stems: Vec<&str> = words.iter().map(|word| word.stem.as_str()).collect();
        assert_eq!(stems, ["run", "connect"]);
    }

    proptest! {
        #[test]
        fn words_stand_in_order_and_never_overlap(text in "\\PC{0,60}") {
            let mut at = 0;
            for word in Analyzers::new().words(&text) {
                prop_assert!(word.from >= at && word.to > word.from);
                prop_assert!(!word.exact.is_empty());
                at = word.to;
            }
            prop_assert!(at <= text.len());
        }
    }
}
