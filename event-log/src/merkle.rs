//! The Merkle tree of RFC 6962 over the records' digests, kept as its right-hand edge.
//!
//! Invariant: there is one peak for each bit set in the size, the largest subtree first.

use sha2::{Digest as _, Sha256};

/// The tree's compact state: enough to add leaves and to tell the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Merkle {
    size: u64,
    peaks: Vec<[u8; 32]>,
}

/// More peaks than any size has.
pub(crate) const PEAKS_MAX: usize = 64;

impl Merkle {
    /// The state of a tree of `size` leaves; none when the number of peaks does not fit.
    pub(crate) fn from_peaks(size: u64, peaks: Vec<[u8; 32]>) -> Option<Self> {
        (size.count_ones() as usize == peaks.len()).then_some(Self { size, peaks })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn peaks(&self) -> &[[u8; 32]] {
        &self.peaks
    }

    /// Adds the leaf for a record's digest.
    pub(crate) fn push(&mut self, digest: &[u8; 32]) {
        self.push_seen(digest, |_, _| {});
    }

    /// Adds the leaf for a record's digest; `seen` is given every hash that is complete with it,
    /// and its height: 0 for the leaf.
    pub(crate) fn push_seen(&mut self, digest: &[u8; 32], mut seen: impl FnMut(u32, &[u8; 32])) {
        let mut hash = leaf(digest);
        seen(0, &hash);
        let (mut size, mut height) = (self.size, 0);
        while size & 1 == 1 {
            let left = self.peaks.pop().expect("a set bit has a peak");
            hash = node(&left, &hash);
            size >>= 1;
            height += 1;
            seen(height, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root over all leaves; SHA-256 of nothing for the empty tree.
    pub(crate) fn root(&self) -> [u8; 32] {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            Some(last) => peaks.fold(*last, |right, left| node(left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

pub(crate) fn leaf(data: &[u8; 32]) -> [u8; 32] {
    let mut input = [0; 33];
    input[1..].copy_from_slice(data);
    Sha256::digest(input).into()
}

pub(crate) fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut input = [1; 65];
    input[1..33].copy_from_slice(left);
    input[33..].copy_from_slice(right);
    Sha256::digest(input).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, section 2.1, word for word.
    fn reference(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => Sha256::digest([]).into(),
            [only] => leaf(only),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&reference(&leaves[..split]), &reference(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_definition_at_every_size() {
        let leaves: Vec<[u8; 32]> = (0_u8..70).map(|n| *blake3::hash(&[n]).as_bytes()).collect();
        let mut tree = Merkle::default();
        for size in 0..leaves.len() {
            assert_eq!(tree.root(), reference(&leaves[..size]), "size {size}");
            let again = Merkle::from_peaks(tree.size(), tree.peaks().to_vec());
            assert_eq!(again.as_ref(), Some(&tree));
            tree.push(&leaves[size]);
        }
    }

    #[test]
    fn peaks_that_do_not_fit_the_size_are_refused() {
        assert_eq!(Merkle::from_peaks(3, vec![[0; 32]]), None);
    }
}
