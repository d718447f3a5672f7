//! Proofs over the Merkle tree of RFC 6962 (sections 2.1.1 and 2.1.2): made from the hashes of
//! complete subtrees, and checked with nothing but the proof.
//!
//! Invariant: what makes a proof and what checks it share the hashes of leaf and node, and no more.

use std::ops::Range;

use crate::digest::{EventDigest, RootHash};
use crate::merkle::{leaf, node};

/// A hash of the tree: of a leaf, or of two nodes below.
pub type TreeHash = [u8; 32];

/// Gives the hash of the complete subtree over leaves `index << level` to `(index + 1) << level`.
pub(crate) type Subtree<'a, E> = dyn Fn(u32, u64) -> Result<TreeHash, E> + 'a;

/// The hash over a range of leaves that starts at a multiple of the power of two that it splits at.
pub(crate) fn hash_of<E>(subtree: &Subtree<'_, E>, leaves: Range<u64>) -> Result<TreeHash, E> {
    let count = leaves.end - leaves.start;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return subtree(level, leaves.start >> level);
    }
    let middle = leaves.start + split(count);
    let left = hash_of(subtree, leaves.start..middle)?;
    Ok(node(&left, &hash_of(subtree, middle..leaves.end)?))
}

/// The largest power of two below a count of at least two.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The path from a leaf to the root of the tree of `size` leaves, lowest first.
pub(crate) fn inclusion<E>(
    subtree: &Subtree<'_, E>,
    position: u64,
    size: u64,
) -> Result<Vec<TreeHash>, E> {
    let mut path = Vec::new();
    let mut leaves = 0..size;
    while leaves.end - leaves.start > 1 {
        let middle = leaves.start + split(leaves.end - leaves.start);
        let (own, other) = halves(leaves, middle, position < middle);
        path.push(hash_of(subtree, other)?);
        leaves = own;
    }
    path.reverse();
    Ok(path)
}

/// What shows that the tree of `from` leaves is the beginning of that of `to`.
pub(crate) fn consistency<E>(
    subtree: &Subtree<'_, E>,
    from: u64,
    to: u64,
) -> Result<Vec<TreeHash>, E> {
    let mut path = Vec::new();
    let mut leaves = 0..to;
    // Whether the old tree is all that was looked at so far: its root is known to the one who asks.
    let mut is_known = true;
    while leaves.end != from {
        let middle = leaves.start + split(leaves.end - leaves.start);
        is_known &= from <= middle;
        let (own, other) = halves(leaves, middle, from <= middle);
        path.push(hash_of(subtree, other)?);
        leaves = own;
    }
    if !is_known {
        path.push(hash_of(subtree, leaves)?);
    }
    path.reverse();
    Ok(path)
}

/// The half that is gone into, and the other.
fn halves(leaves: Range<u64>, middle: u64, left: bool) -> (Range<u64>, Range<u64>) {
    let (first, second) = (leaves.start..middle, middle..leaves.end);
    if left {
        (first, second)
    } else {
        (second, first)
    }
}

/// Whether the event with this digest stands at `position` of the log whose first `size` events
/// have this root, by the path of a proof.
pub fn is_included(
    digest: &EventDigest,
    position: u64,
    size: u64,
    path: &[TreeHash],
    root: &RootHash,
) -> bool {
    if position >= size {
        return false;
    }
    let mut path = path.iter();
    let mut hash = leaf(digest.as_bytes());
    let (mut index, mut last) = (position, size - 1);
    while last > 0 {
        if index & 1 == 1 || index < last {
            let Some(other) = path.next() else {
                return false;
            };
            hash = if index & 1 == 1 {
                node(other, &hash)
            } else {
                node(&hash, other)
            };
        }
        index >>= 1;
        last >>= 1;
    }
    path.next().is_none() && hash == *root.as_bytes()
}

/// Whether the log whose first `from` events have the one root goes on to be the log whose first
/// `to` events have the other, by the path of a proof.
pub fn is_consistent(
    (from, from_root): (u64, &RootHash),
    (to, to_root): (u64, &RootHash),
    path: &[TreeHash],
) -> bool {
    if from == 0 || from > to {
        return false;
    }
    if from == to {
        return path.is_empty() && from_root == to_root;
    }
    // The old tree's last complete subtree: where both trees agree for certain.
    let level = from.trailing_zeros();
    let (mut index, mut last) = ((from - 1) >> level, (to - 1) >> level);
    let mut path = path.iter();
    let seed = if from.is_power_of_two() {
        Some(from_root.as_bytes())
    } else {
        path.next()
    };
    let Some(seed) = seed else { return false };
    let (mut old, mut new) = (*seed, *seed);
    while last > 0 {
        if index & 1 == 1 || index < last {
            let Some(other) = path.next() else {
                return false;
            };
            if index & 1 == 1 {
                old = node(other, &old);
                new = node(other, &new);
            } else {
                new = node(&new, other);
            }
        }
        index >>= 1;
        last >>= 1;
    }
    path.next().is_none() && old == *from_root.as_bytes() && new == *to_root.as_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop at what should not be")]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::merkle::Merkle;

    const SIZE_MAX: u64 = 70;

    fn digest(position: u64) -> [u8; 32] {
        *blake3::hash(&position.to_le_bytes()).as_bytes()
    }

    /// By its definition, without a store.
    fn subtree(level: u32, index: u64) -> Result<TreeHash, Infallible> {
        Ok(match level {
            0 => leaf(&digest(index)),
            _ => node(
                &subtree(level - 1, 2 * index)?,
                &subtree(level - 1, 2 * index + 1)?,
            ),
        })
    }

    /// By the log's own tree, which is kept another way.
    fn root(size: u64) -> RootHash {
        let mut tree = Merkle::default();
        (0..size).for_each(|position| tree.push(&digest(position)));
        RootHash::from_bytes(tree.root())
    }

    /// Every path that differs from this one by a bit, a hash too few or one too many.
    fn wrong(path: &[TreeHash]) -> Vec<Vec<TreeHash>> {
        let mut wrong = vec![[path, &[[7; 32]]].concat()];
        for at in 0..path.len() {
            let mut flipped = path.to_vec();
            flipped[at][at % 32] ^= 1;
            wrong.push(flipped);
            wrong.push([&path[..at], &path[at + 1..]].concat());
        }
        wrong
    }

    #[test]
    fn each_event_is_shown_to_be_included_at_every_size_and_nothing_else_is() {
        for size in 1..=SIZE_MAX {
            let root = root(size);
            for position in 0..size {
                let path = inclusion(&subtree, position, size).unwrap();
                let own = EventDigest::from_bytes(digest(position));
                assert!(is_included(&own, position, size, &path, &root));
                let other = EventDigest::from_bytes(digest(position + 1));
                assert!(!is_included(&other, position, size, &path, &root));
                assert!(!is_included(&own, position + 1, size, &path, &root));
                assert!(!is_included(&own, size, size, &path, &root));
                for path in wrong(&path) {
                    assert!(!is_included(&own, position, size, &path, &root));
                }
            }
        }
    }

    #[test]
    fn each_size_is_shown_to_be_the_beginning_of_every_later_one() {
        let roots: Vec<RootHash> = (0..=SIZE_MAX).map(root).collect();
        let at = |size: u64| (size, &roots[usize::try_from(size).unwrap()]);
        for to in 1..=SIZE_MAX {
            for from in 1..=to {
                let path = consistency(&subtree, from, to).unwrap();
                assert!(is_consistent(at(from), at(to), &path), "{from} {to}");
                for path in wrong(&path) {
                    assert!(!is_consistent(at(from), at(to), &path), "{from} {to}");
                }
                let (_, other) = at(from - 1);
                assert!(!is_consistent((from, other), at(to), &path));
                assert!(!is_consistent(at(from), (to, other), &path));
            }
            assert!(!is_consistent(at(0), at(to), &[]));
        }
    }
}
