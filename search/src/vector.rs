//! How a vector is kept and compared: unit vectors of 16-bit integers.
//!
//! A vector is brought to length 1 and each number multiplied by 32,767. Then the cosine of two
//! vectors is one sum of products of integers: the same on every machine, in a form that
//! processors do eight at a time without special code.
//!
//! Invariant: the sum fits 32 bits. A vector of n numbers is at most 32,767 + √n/2 long, and with
//! 4,096 numbers the square of that is half of what fits.

use crate::change::{MODEL_BYTES_MAX, VECTOR_DIMENSION_MAX};
use crate::error::SearchError;

/// What a number 1.0 is kept as.
const ONE: f64 = 32_767.0;

/// The kept form of a vector. Zeroes stay zeroes: they are like nothing.
///
/// # Errors
/// [`SearchError::InvalidVector`] if a number is not finite or there are too many or none.
pub(crate) fn kept(values: &[f32]) -> Result<Vec<i16>, SearchError> {
    let is_sound = (1..=VECTOR_DIMENSION_MAX).contains(&values.len())
        && values.iter().all(|value| value.is_finite());
    if !is_sound {
        return Err(invalid());
    }
    let length = values
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum::<f64>()
        .sqrt();
    let factor = if length > 0.0 { ONE / length } else { 0.0 };
    #[allow(clippy::cast_possible_truncation)] // within ±32,767
    let integer = |value: &f32| (f64::from(*value) * factor).round() as i16;
    Ok(values.iter().map(integer).collect())
}

/// The cosine of two kept vectors of one dimension, -1 to 1.
pub(crate) fn cosine(a: &[i16], b: &[i16]) -> f32 {
    let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
    let sum = f64::from(products.sum::<i32>());
    #[allow(clippy::cast_possible_truncation)] // 24 bits are enough for an order
    let cosine = (sum / (ONE * ONE)) as f32;
    cosine
}

/// The one text that a model and a dimension are indexed under.
///
/// # Errors
/// [`SearchError::InvalidVector`] if either is out of bounds.
pub(crate) fn model_term(model: &str, dimension: usize) -> Result<String, SearchError> {
    let is_sound = (1..=MODEL_BYTES_MAX).contains(&model.len())
        && (1..=VECTOR_DIMENSION_MAX).contains(&dimension);
    if is_sound {
        Ok(format!("{dimension} {model}"))
    } else {
        Err(invalid())
    }
}

fn invalid() -> SearchError {
    SearchError::InvalidVector {
        dimension_max: VECTOR_DIMENSION_MAX,
        model_bytes_max: MODEL_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for wrong in [vec![], vec![f32::NAN], vec![1.0; VECTOR_DIMENSION_MAX + 1]] {
            assert!(kept(&wrong).is_err());
        }
        assert_eq!(kept(&[0.0, -0.0]).unwrap(), [0, 0]);
        assert_eq!(kept(&[f32::MAX, 0.0]).unwrap(), [32_767, 0]);
    }

    #[test]
    fn the_largest_vectors_do_not_overflow() {
        for values in [vec![1.0_f32; 4096], vec![-0.3; 4096], vec![0.7; 3]] {
            let kept = kept(&values).unwrap();
            assert!((cosine(&kept, &kept) - 1.0).abs() < 1e-3);
        }
    }

    proptest! {
        #[test]
        fn cosines_are_those_of_the_given_numbers(
            pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 2..400)
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let lengths = (dot(&a, &a) * dot(&b, &b)).sqrt();
            prop_assume!(lengths > 1e-6);
            let found = f64::from(cosine(&kept(&a).unwrap(), &kept(&b).unwrap()));
            prop_assert!((found - dot(&a, &b) / lengths).abs() < 1e-3);
        }
    }
}
