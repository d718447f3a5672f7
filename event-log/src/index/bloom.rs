//! A filter that tells quickly that a run does not know a key.
//!
//! Invariant: it may say "perhaps" wrongly (about one time in a hundred), never "no".

const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 7;

/// Ten bits for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bloom {
    words: Vec<u64>,
}

impl Bloom {
    pub(crate) fn for_keys(count: u64) -> Self {
        let words = crate::codec::to_usize((count * BITS_PER_KEY).div_ceil(64).max(1));
        Self {
            words: vec![0; words],
        }
    }

    pub(crate) fn insert(&mut self, key: u64) {
        for bit in probes(key, self.words.len()) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(crate) fn may_hold(&self, key: u64) -> bool {
        probes(key, self.words.len()).all(|bit| self.words[bit / 64] & (1 << (bit % 64)) != 0)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (rest.is_empty() && !words.is_empty()).then_some(Self { words })
    }
}

/// The bits of a key, which is a piece of a digest and so already evenly spread.
fn probes(key: u64, words: usize) -> impl Iterator<Item = usize> {
    let bits = words as u64 * 64;
    let step = key.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..PROBES).map(move |probe| {
        let mixed = key.wrapping_add(step.wrapping_mul(probe));
        // The upper half of the product: an even pick below `bits` without a division.
        crate::codec::to_usize(((u128::from(mixed) * u128::from(bits)) >> 64) as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others() {
        let key = |n: u64| crate::codec::prefix_u64(blake3::hash(&n.to_le_bytes()).as_bytes());
        let mut bloom = Bloom::for_keys(1_000);
        (0..1_000).for_each(|n| bloom.insert(key(n)));
        assert!((0..1_000).all(|n| bloom.may_hold(key(n))));
        let wrong = (1_000..11_000).filter(|n| bloom.may_hold(key(*n))).count();
        assert!(wrong < 300, "{wrong} of 10,000");
        let mut bytes = Vec::new();
        bloom.encode(&mut bytes);
        assert_eq!(Bloom::decode(&bytes), Some(bloom));
    }
}
