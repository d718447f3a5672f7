//! Embedding by the built-in table: the mean of the vectors of a text's pieces.
//!
//! The table was distilled from MiniLM (`inference/distil/`): each row is what the model makes of
//! a token on its own, weighted by how rare it is. There is no attention, so word order and
//! context do not count. A word that the vocabulary lacks, or has only letter by letter, gets a
//! hashed vector instead, so that it is at least found by itself.

use std::sync::LazyLock;

use super::hashed;
use super::table::Table;
use super::wordpiece::{Pieces, words};
use crate::embedder::{Embedder, ModelKind, ModelName, checked};
use crate::error::InferenceError;
use crate::stop::Stop;

/// The name of the built-in model. Another table gets another name.
pub const STATIC_MODEL: &str = "stemma-static-minilm-256-v1";

const BYTES: &[u8] = include_bytes!("../../model/static-minilm-256.bin");
const DIGEST: &str = include_str!("../../model/static-minilm-256.b3");

/// From how many pieces of one letter each a word counts as unknown.
const LETTERS_MIN: usize = 3;

/// Read once, at the first use.
static TABLE: LazyLock<Result<Table, String>> = LazyLock::new(|| {
    Table::read(STATIC_MODEL, BYTES, DIGEST.trim()).map_err(|error| error.to_string())
});

/// Embeds by the built-in table: offline, without any setting, some megabytes of text a second.
#[derive(Debug)]
pub struct StaticEmbedder {
    table: &'static Table,
    model: ModelName,
}

impl StaticEmbedder {
    /// Opens the table that is part of the program. The first call checks it, which takes some
    /// 20 ms; further ones are free.
    ///
    /// # Errors
    /// [`Damaged`](InferenceError::Damaged) when the program's bytes changed.
    pub fn open() -> Result<Self, InferenceError> {
        let table = TABLE.as_ref().map_err(|what| InferenceError::Damaged {
            name: STATIC_MODEL.to_owned(),
            what: what.clone(),
        })?;
        let dimension = u32::try_from(table.dimension()).expect("the header holds 32 bits");
        Ok(Self {
            table,
            model: ModelName {
                name: STATIC_MODEL.to_owned(),
                dimension,
                kind: ModelKind::Semantic,
            },
        })
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let mut sum = vec![0.0; self.table.dimension()];
        words(self.table, text, &mut |word, pieces| match pieces {
            Pieces::Known(rows) if !is_spelled_out(word, rows) => {
                for row in rows {
                    self.table.add(*row, &mut sum);
                }
            }
            _ => hashed::add(word, self.table.length(), &mut sum),
        });
        sum
    }
}

/// Whether the vocabulary has nothing but the letters of a word: what is known of it then is less
/// than its hash.
fn is_spelled_out(word: &str, rows: &[u32]) -> bool {
    rows.len() >= LETTERS_MIN && !word.is_ascii() && word.chars().count() == rows.len()
}

impl Embedder for StaticEmbedder {
    fn model(&self) -> &ModelName {
        &self.model
    }

    fn embed(&self, texts: &[&str], stop: &Stop) -> Result<Vec<Vec<f32>>, InferenceError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            stop.check()?;
            vectors.push(checked(self.vector(text), &self.model)?);
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn near(a: &str, b: &str) -> f32 {
        let embedder = StaticEmbedder::open().unwrap();
        let vectors = embedder.embed(&[a, b], &Stop::new()).unwrap();
        vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum()
    }

    /// A text's tokens by name, as the reference tokenizer names them.
    fn tokens(text: &str) -> Vec<String> {
        let table = StaticEmbedder::open().unwrap().table;
        let names = std::str::from_utf8(&BYTES[28..])
            .err()
            .map(|e| e.valid_up_to())
            .unwrap();
        let names: Vec<&str> = std::str::from_utf8(&BYTES[28..28 + names])
            .unwrap()
            .split('\n')
            .collect();
        let mut tokens = Vec::new();
        words(table, text, &mut |_, pieces| match pieces {
            Pieces::Known(rows) => {
                tokens.extend(rows.iter().map(|row| names[*row as usize].to_owned()));
            }
            Pieces::Unknown => tokens.push("[UNK]".to_owned()),
        });
        tokens
    }

    #[test]
    fn texts_are_cut_as_the_reference_tokenizer_cuts_them() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/tokens.json")).unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            assert_eq!(serde_json::json!(tokens(text)), case["tokens"], "{text:?}");
        }
    }

    #[test]
    fn meaning_counts_more_than_letters() {
        let query = "a woman who studied the stars";
        assert!(
            near(query, "female astronomer") > near(query, "a woman who studied the scars") - 0.6
        );
        assert!(near(query, "female astronomer") > near(query, "price of crude oil") + 0.2);
    }

    #[test]
    fn words_of_other_scripts_are_found_by_themselves() {
        let russian = "обсерватория в горах";
        assert!(near(russian, "новая обсерватория") > near(russian, "дешёвые билеты") + 0.2);
        assert!(near("ทดสอบ", "ทดสอบ") > 0.999);
        assert!(near("天文台", "天文学") > near("天文台", "猫犬鳥"));
    }

    #[test]
    fn a_text_without_words_has_a_vector_of_zeros() {
        let embedder = StaticEmbedder::open().unwrap();
        let vectors = embedder.embed(&["", " \n\u{200b}"], &Stop::new()).unwrap();
        assert!(vectors.iter().flatten().all(|value| *value == 0.0));
    }

    #[test]
    fn a_cancelled_call_gives_nothing() {
        let stop = Stop::new();
        stop.cancel();
        let error = StaticEmbedder::open()
            .unwrap()
            .embed(&["a"], &stop)
            .unwrap_err();
        assert_eq!(error.code(), "MODEL_CANCELLED");
    }

    proptest! {
        #[test]
        fn any_text_has_a_vector_and_the_same_one_again(text in "\\PC{0,60}") {
            let embedder = StaticEmbedder::open().unwrap();
            let vectors = embedder.embed(&[&text, &text], &Stop::new()).unwrap();
            prop_assert_eq!(&vectors[0], &vectors[1]);
        }
    }
}
