//! Embedders: what turns texts into vectors, and what a vector has to be before it is handed on.
//!
//! Invariant: a vector that left an [`Embedder`] is finite, of the model's dimension, and of
//! length 1, or all zero for a text in which the model finds nothing.

use crate::error::InferenceError;
use crate::stop::Stop;

/// Most texts of one call to a model; more are split by the embedder itself.
pub const EMBED_BATCH_MAX: usize = 256;

/// Most dimensions of a vector.
pub const DIMENSION_MAX: u32 = 4096;

/// Which model made a vector. Vectors of different models are not comparable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName {
    /// Its name, with its version where it has one.
    pub name: String,
    /// How many numbers a vector has, 1 to [`DIMENSION_MAX`].
    pub dimension: u32,
    /// What nearness of vectors says.
    pub kind: ModelKind,
}

/// What nearness of two vectors says about their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// That they mean something similar.
    Semantic,
    /// That they share words or parts of words.
    Lexical,
}

impl ModelKind {
    /// `semantic` or `lexical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Semantic => "semantic",
            Self::Lexical => "lexical",
        }
    }
}

/// Turns texts into vectors.
pub trait Embedder: Send + Sync {
    /// The model behind it; the same for as long as the embedder lives.
    fn model(&self) -> &ModelName;

    /// One vector for each text, in their order. Takes any number of texts and asks the model
    /// for at most [`EMBED_BATCH_MAX`] at once.
    ///
    /// # Errors
    /// [`InferenceError`]; no part of an answer is handed on.
    fn embed(&self, texts: &[&str], stop: &Stop) -> Result<Vec<Vec<f32>>, InferenceError>;
}

/// Checks a vector that a model gave, and scales it to length 1.
///
/// # Errors
/// [`Dimension`](InferenceError::Dimension) and [`Garbage`](InferenceError::Garbage).
pub(crate) fn checked(mut vector: Vec<f32>, model: &ModelName) -> Result<Vec<f32>, InferenceError> {
    if vector.len() as u64 != u64::from(model.dimension) {
        return Err(InferenceError::Dimension {
            expected: model.dimension,
            actual: vector.len() as u64,
        });
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err(InferenceError::garbage(
            "a vector holds a number that is not finite",
        ));
    }
    normalise(&mut vector);
    Ok(vector)
}

/// Scales a finite vector to length 1; one that is all zero stays so.
pub(crate) fn normalise(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let length = squares.sqrt();
    if length > 0.0 {
        for value in vector {
            #[expect(clippy::cast_possible_truncation, reason = "between -1 and 1")]
            let scaled = (f64::from(*value) / length) as f32;
            *value = scaled;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(dimension: u32) -> ModelName {
        ModelName {
            name: "m".into(),
            dimension,
            kind: ModelKind::Semantic,
        }
    }

    #[test]
    fn vectors_of_another_length_or_without_finite_numbers_are_refused() {
        let wrong = checked(vec![1.0; 3], &model(4)).unwrap_err();
        assert_eq!(wrong.code(), "MODEL_DIMENSION");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let wrong = checked(vec![0.5, bad], &model(2)).unwrap_err();
            assert_eq!(wrong.code(), "MODEL_GARBAGE");
        }
    }

    #[test]
    fn a_vector_of_nothing_stays_nothing() {
        assert_eq!(checked(vec![0.0; 2], &model(2)).unwrap(), [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn any_finite_vector_gets_the_length_one(
            vector in proptest::collection::vec(proptest::num::f32::NORMAL, 1..40)
        ) {
            let dimension = u32::try_from(vector.len()).unwrap();
            let vector = checked(vector, &model(dimension)).unwrap();
            let length: f64 = vector.iter().map(|v| f64::from(*v).powi(2)).sum();
            prop_assert!((length - 1.0).abs() < 1e-4, "{length}");
        }
    }
}
