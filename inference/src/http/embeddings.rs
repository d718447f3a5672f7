//! Vectors from `POST {url}/embeddings`.
//!
//! Invariant: a vector is given to the text that its `index` names; an answer that does not name
//! each text once is refused whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use crate::embedder::{DIMENSION_MAX, EMBED_BATCH_MAX, Embedder, ModelKind, ModelName, checked};
use crate::error::InferenceError;
use crate::stop::Stop;

/// Most bytes of one text; a longer one is refused before anything is sent.
pub const EMBED_TEXT_BYTES_MAX: usize = 1 << 20;

/// Embeds by a model behind HTTP.
#[derive(Debug)]
pub struct HttpEmbedder {
    endpoint: Endpoint,
    /// What the server calls the model.
    asked_for: String,
    model: ModelName,
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    /// Some servers leave it out and keep the order.
    index: Option<usize>,
    embedding: Numbers,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    /// A null in it is what some servers write for a number that is none.
    List(Vec<Option<f32>>),
    /// Base64 of little-endian 32-bit floats.
    Packed(String),
}

impl HttpEmbedder {
    /// An embedder whose model gives vectors of a known dimension; nothing is connected to.
    ///
    /// # Errors
    /// [`Dimension`](InferenceError::Dimension) for one outside 1 to [`DIMENSION_MAX`].
    pub fn new(endpoint: Endpoint, model: &str, dimension: u32) -> Result<Self, InferenceError> {
        if !(1..=DIMENSION_MAX).contains(&dimension) {
            return Err(InferenceError::Dimension {
                expected: DIMENSION_MAX,
                actual: dimension.into(),
            });
        }
        Ok(Self {
            endpoint,
            asked_for: model.to_owned(),
            model: ModelName {
                name: model.to_owned(),
                dimension,
                kind: ModelKind::Semantic,
            },
        })
    }

    /// Asks the model for one vector to learn its dimension.
    ///
    /// # Errors
    /// [`InferenceError`].
    pub fn probe(endpoint: Endpoint, model: &str, stop: &Stop) -> Result<Self, InferenceError> {
        let rows = ask(&endpoint, model, &["dimension"], stop)?;
        let length = rows.first().map_or(0, Vec::len);
        let dimension = u32::try_from(length).unwrap_or(u32::MAX);
        Self::new(endpoint, model, dimension)
    }
}

impl Embedder for HttpEmbedder {
    fn model(&self) -> &ModelName {
        &self.model
    }

    fn embed(&self, texts: &[&str], stop: &Stop) -> Result<Vec<Vec<f32>>, InferenceError> {
        if let Some(long) = texts.iter().find(|text| text.len() > EMBED_TEXT_BYTES_MAX) {
            return Err(InferenceError::TooLarge {
                bytes: long.len() as u64,
                bytes_max: EMBED_TEXT_BYTES_MAX as u64,
            });
        }
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(EMBED_BATCH_MAX) {
            for vector in ask(&self.endpoint, &self.asked_for, batch, stop)? {
                vectors.push(checked(vector, &self.model)?);
            }
        }
        Ok(vectors)
    }
}

/// One call: the vectors of a batch, in the order of its texts, not looked into yet.
fn ask(
    endpoint: &Endpoint,
    model: &str,
    input: &[&str],
    stop: &Stop,
) -> Result<Vec<Vec<f32>>, InferenceError> {
    let answer: Answer = endpoint.ask("/embeddings", &Question { model, input }, stop)?;
    if answer.data.len() != input.len() {
        return Err(InferenceError::garbage(format!(
            "{} vectors for {} texts",
            answer.data.len(),
            input.len()
        )));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; input.len()];
    for (place, row) in answer.data.into_iter().enumerate() {
        let free = vectors
            .get_mut(row.index.unwrap_or(place))
            .filter(|vector| vector.is_none());
        let Some(free) = free else {
            return Err(InferenceError::garbage(
                "vectors do not name each text once",
            ));
        };
        *free = Some(row.embedding.unpacked()?);
    }
    Ok(vectors.into_iter().flatten().collect())
}

impl Numbers {
    fn unpacked(self) -> Result<Vec<f32>, InferenceError> {
        let packed = match self {
            Self::List(list) => {
                return Ok(list.into_iter().map(|v| v.unwrap_or(f32::NAN)).collect());
            }
            Self::Packed(packed) => packed,
        };
        let bytes = STANDARD.decode(&packed).ok();
        let bytes = bytes.filter(|bytes| bytes.len().is_multiple_of(4));
        let bytes = bytes.ok_or_else(|| InferenceError::garbage("a vector is not base64"))?;
        let numbers = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().expect("chunks are of four bytes")));
        Ok(numbers.collect())
    }
}
