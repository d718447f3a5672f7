//! Vectors for words that the vocabulary does not know: from hashes of their characters.
//!
//! Equal words get equal vectors, words that share trigrams get near ones, and others are about
//! orthogonal to everything. Nothing is learnt in it; it makes names and other scripts findable.

/// Most trigrams of a word that count.
const TRIGRAMS_MAX: usize = 256;

/// Adds the vector of a word to a sum, with about the length given.
pub(super) fn add(word: &str, length: f32, sum: &mut [f32]) {
    // Blanks stand for the ends of the word.
    let framed: Vec<char> = std::iter::once(' ')
        .chain(word.chars())
        .chain(std::iter::once(' '))
        .take(TRIGRAMS_MAX + 2)
        .collect();
    let trigrams = framed.windows(3).map(hash);
    // The word itself counts as much as all its trigrams together.
    let whole = hash(&framed);
    let count = framed.len() - 2;
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most 256 trigrams, 4096 dimensions"
    )]
    let (count, dimension) = (count as f32, sum.len() as f32);
    let unit = length / dimension.sqrt() * std::f32::consts::FRAC_1_SQRT_2;
    add_signs(whole, unit, sum);
    for trigram in trigrams {
        add_signs(trigram, unit / count.sqrt(), sum);
    }
}

/// FNV-1a over code points.
fn hash(characters: &[char]) -> u64 {
    characters.iter().fold(0xcbf2_9ce4_8422_2325, |hash, c| {
        (hash ^ u64::from(u32::from(*c))).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Adds the unit or its opposite in each dimension, as the bits of SplitMix64 say.
fn add_signs(seed: u64, unit: f32, sum: &mut [f32]) {
    let mut state = seed;
    for values in sum.chunks_mut(64) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        for value in values {
            *value += if bits & 1 == 1 { unit } else { -unit };
            bits >>= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(word: &str) -> Vec<f32> {
        let mut sum = vec![0.0; 256];
        add(word, 1.0, &mut sum);
        crate::embedder::normalise(&mut sum);
        sum
    }

    fn near(a: &str, b: &str) -> f32 {
        vector(a).iter().zip(vector(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn words_are_as_near_as_they_look_alike() {
        assert!((near("обсерватория", "обсерватория") - 1.0).abs() < 1e-5);
        assert!(near("обсерватория", "обсерватории") > 0.3);
        assert!(near("обсерватория", "телескоп").abs() < 0.2);
        assert!(near("", "x").is_finite());
    }
}
