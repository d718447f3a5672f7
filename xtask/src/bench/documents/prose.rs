//! Texts without end, the same ones in each run: sentences of the sample corpus, in which every few
//! words one is made up, so that there is as much to look for as in as many real texts.

use anyhow::Context;

use crate::run::root;

/// Of so many words of a sentence one is made up.
const MADE_UP_EVERY: u64 = 6;
/// Words that are made up; the one of rank k comes 1/k times as often as the first.
const VOCABULARY: f64 = 50_000.0;
const CONSONANTS: &[u8] = b"bdfgklmnprstvz";
const VOWELS: &[u8] = b"aeiou";

/// A source of sentences.
pub(super) struct Prose {
    sentences: Vec<Vec<String>>,
    state: u64,
}

impl Prose {
    /// Texts that differ by `seed`, which must not be 0.
    ///
    /// # Errors
    /// The corpus cannot be read.
    pub(super) fn new(seed: u64) -> anyhow::Result<Self> {
        let dir = root().join("stemma/demo/articles");
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .context("the sample corpus")?
            .map(|file| file.map(|file| file.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        let mut sentences = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            for sentence in text.split_inclusive(". ") {
                let words = sentence.split_whitespace().map(str::to_owned);
                sentences.push(words.collect());
            }
        }
        anyhow::ensure!(!sentences.is_empty(), "the sample corpus is empty");
        Ok(Self {
            sentences,
            state: seed,
        })
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// Puts one more sentence behind a text.
    pub(super) fn sentence(&mut self, text: &mut String) {
        let index = self.next() % self.sentences.len() as u64;
        let sentence = std::mem::take(&mut self.sentences[index as usize]);
        for word in &sentence {
            if self.next().is_multiple_of(MADE_UP_EVERY) {
                text.push_str(&self.word());
            } else {
                text.push_str(word);
            }
            text.push(' ');
        }
        self.sentences[index as usize] = sentence;
    }

    /// Puts one more paragraph behind a text.
    pub(super) fn paragraph(&mut self, text: &mut String) {
        for _ in 0..3 + self.next() % 4 {
            self.sentence(text);
        }
        text.push_str("\n\n");
    }

    /// A text of so many bytes, less what one more paragraph would be too much.
    pub(super) fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes);
        loop {
            let before = text.len();
            self.paragraph(&mut text);
            if text.len() > bytes {
                text.truncate(before);
                return text;
            }
        }
    }

    /// A made-up word; some are common, most are rare.
    fn word(&mut self) -> String {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        #[expect(clippy::cast_sign_loss, reason = "at least 1")]
        let rank = VOCABULARY.powf(share) as u64;
        made_up(rank)
    }
}

/// The made-up word of this rank.
pub(super) fn made_up(rank: u64) -> String {
    let syllables = (CONSONANTS.len() * VOWELS.len()) as u64;
    // A prime, so that neighbors have little in common.
    let mut number = rank * 7919 % syllables.pow(3);
    let mut word = String::new();
    for _ in 0..3 {
        let syllable = (number % syllables) as usize;
        number /= syllables;
        word.push(char::from(CONSONANTS[syllable / VOWELS.len()]));
        word.push(char::from(VOWELS[syllable % VOWELS.len()]));
    }
    word
}
