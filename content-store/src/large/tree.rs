//! BLAKE3's own tree at the level of blocks.
//!
//! Invariant: `root` of the values of all blocks is the digest of the whole blob, so a table of
//! values needs no other proof than the blob's name.

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::Digest;

/// Bytes in a block; a power of two and more than one BLAKE3 chunk, so that blocks are subtrees.
pub(crate) const BLOCK_BYTES: u64 = 128 * 1024;

/// The value of a block of a blob that has more than one.
pub(crate) fn block_value(block: &[u8], block_index: u64) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(block_index * BLOCK_BYTES);
    hasher.update(block);
    hasher.finalize_non_root()
}

/// The digest of a blob of `len` bytes with these values; the one value of a single block is the
/// digest itself. `None` when there are not as many values as blocks.
pub(crate) fn root(values: &[ChainingValue], len: u64) -> Option<Digest> {
    if u64::try_from(values.len()) != Ok(len.div_ceil(BLOCK_BYTES).max(1)) {
        return None;
    }
    let [first, .., _] = values else {
        return Some(Digest::from_bytes(*values.first()?));
    };
    debug_assert_eq!(first.len(), 32);
    let (left, right) = split(values, len);
    let hash = merge_subtrees_root(&merge(left.0, left.1), &merge(right.0, right.1), Mode::Hash);
    Some(Digest::from_bytes(*hash.as_bytes()))
}

type Part<'a> = (&'a [ChainingValue], u64);

fn split(values: &[ChainingValue], len: u64) -> (Part<'_>, Part<'_>) {
    let left_len = left_subtree_len(len);
    let n_left = usize::try_from(left_len / BLOCK_BYTES).expect("no more than there are values");
    let (left, right) = values.split_at(n_left);
    ((left, left_len), (right, len - left_len))
}

fn merge(values: &[ChainingValue], len: u64) -> ChainingValue {
    if let [one] = values {
        return *one;
    }
    let (left, right) = split(values, len);
    merge_subtrees_non_root(&merge(left.0, left.1), &merge(right.0, right.1), Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_block_values_is_the_digest_of_the_whole() {
        let block = usize::try_from(BLOCK_BYTES).unwrap();
        let lens = [
            block + 1,
            2 * block - 1,
            2 * block,
            2 * block + 1,
            3 * block,
            5 * block + 77,
            8 * block,
        ];
        for len in lens {
            let blob: Vec<u8> = (0..len)
                .map(|at| u8::try_from(at * 31 % 251).unwrap())
                .collect();
            let blocks = blob.chunks(block).zip(0..);
            let values: Vec<_> = blocks
                .map(|(bytes, index)| block_value(bytes, index))
                .collect();
            let len = u64::try_from(len).unwrap();
            assert_eq!(root(&values, len), Some(Digest::of(&blob)), "{len} bytes");
            assert_eq!(root(&values[1..], len), None);
        }
    }
}
