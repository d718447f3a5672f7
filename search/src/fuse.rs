//! How ranks by words and by vectors are made one: reciprocal rank fusion.
//!
//! G. Cormack, C. Clarke, S. Büttcher, "Reciprocal rank fusion outperforms Condorcet and
//! individual rank learning methods", SIGIR 2009: a passage scores the sum of 1 / (60 + rank) over
//! the lists that it stands in, ranks from 1. Scores of the lists, which cannot be compared with
//! each other, play no part.

use std::collections::HashMap;

use tantivy::DocAddress;

use crate::rank::{RankKey, Ranked};

/// The constant of the fusion, as in the paper.
pub const FUSION_CONSTANT: f32 = 60.0;
/// The best hits of each list that are fused.
pub const FUSION_DEPTH: usize = 1_000;

/// The hits of all lists, the best first.
pub(crate) fn fused(lists: &[Vec<Ranked>]) -> Vec<Ranked> {
    let mut scores: HashMap<DocAddress, RankKey> = HashMap::new();
    for list in lists {
        for (rank, hit) in (1_u16..).zip(list) {
            let gain = 1.0 / (FUSION_CONSTANT + f32::from(rank));
            let first = RankKey {
                score: 0.0,
                ..hit.key
            };
            scores.entry(hit.address).or_insert(first).score += gain;
        }
    }
    let ranked = scores.into_iter();
    let mut ranked: Vec<_> = ranked
        .map(|(address, key)| Ranked { key, address })
        .collect();
    ranked.sort_unstable();
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_in_both_lists_goes_before_who_leads_one() {
        let hit = |document: u32| Ranked {
            key: RankKey {
                score: 9.0,
                resource: document.into(),
                place: 0,
            },
            address: DocAddress::new(0, document),
        };
        let fused = fused(&[vec![hit(1), hit(3)], vec![hit(2), hit(3)]]);
        let order: Vec<u32> = fused.iter().map(|hit| hit.address.doc_id).collect();
        assert_eq!(order, [3, 1, 2]);
        assert!((fused[0].key.score - 2.0 / 62.0).abs() < 1e-6);
    }
}
