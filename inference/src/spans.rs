//! Places in a passage: between bytes and code points, and from a text that a model claims to
//! have seen to where it stands.
//!
//! Invariant: a span that leaves here begins and ends between code points of its passage.

use std::collections::HashSet;
use std::ops::Range;

use memchr::memmem;

use crate::detector::{Detected, ENTITY_BYTES_MAX, Entity};

/// What a model says it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) text: String,
    pub(crate) entity_type: String,
    /// The code point at which it is said to begin.
    pub(crate) start: Option<u64>,
}

/// A typed range of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) bytes: Range<usize>,
    pub(crate) entity_type: String,
}

/// Puts each claim where its text stands in the passage: at the place it names if the text is
/// there, else at the nearest one, whole words before parts of words. Without a named place it is
/// the first one that no earlier claim of the same text took.
///
/// Returns what was found and how many claims were not.
pub(crate) fn anchor(passage: &str, claims: Vec<Claim>) -> (Vec<Found>, u32) {
    let mut found: Vec<Found> = Vec::new();
    let mut taken: HashSet<usize> = HashSet::new();
    let mut dropped = 0;
    for claim in claims {
        let text = claim.text.trim();
        let is_sound = (1..=ENTITY_BYTES_MAX).contains(&text.len());
        // White space that was cut off moves the place by as much.
        let cut = claim.text.chars().take_while(|c| c.is_whitespace()).count() as u64;
        let start = claim.start.map(|start| start.saturating_add(cut));
        let at = is_sound.then(|| nearest(passage, text, start, &taken));
        let Some(at) = at.flatten() else {
            dropped += 1;
            continue;
        };
        taken.insert(at);
        found.push(Found {
            bytes: at..at + text.len(),
            entity_type: claim.entity_type,
        });
    }
    (found, dropped)
}

fn nearest(passage: &str, text: &str, start: Option<u64>, taken: &HashSet<usize>) -> Option<usize> {
    let mut best: Option<((bool, bool, u64), usize)> = None;
    let (mut counted_bytes, mut counted) = (0, 0_u64);
    for at in memmem::find_iter(passage.as_bytes(), text.as_bytes()) {
        counted += passage[counted_bytes..at].chars().count() as u64;
        counted_bytes = at;
        if start == Some(counted) {
            return Some(at);
        }
        let is_part = !is_whole_word(passage, at..at + text.len());
        let rank = match start {
            Some(start) => (is_part, false, start.abs_diff(counted)),
            None => (is_part, taken.contains(&at), counted),
        };
        if best.is_none_or(|(other, _)| rank < other) {
            best = Some((rank, at));
        }
    }
    best.map(|(_, at)| at)
}

/// Whether no letter or digit continues on either side.
pub(crate) fn is_whole_word(passage: &str, bytes: Range<usize>) -> bool {
    let before = passage[..bytes.start].chars().next_back();
    let after = passage[bytes.end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

/// Orders what was found, takes out repetitions and overlaps, and counts code points. Of two that
/// overlap the one that begins first stays, of those the longer, of those the one whose type
/// comes first in the alphabet. `dropped` is what was lost before.
pub(crate) fn settle(passage: &str, mut found: Vec<Found>, dropped: u32) -> Detected {
    found.sort_by(|a, b| {
        let key = |f: &Found| (f.bytes.start, std::cmp::Reverse(f.bytes.end));
        key(a)
            .cmp(&key(b))
            .then_with(|| a.entity_type.cmp(&b.entity_type))
    });
    found.dedup();
    let mut detected = Detected {
        entities: Vec::with_capacity(found.len()),
        dropped,
    };
    let (mut counted_bytes, mut counted) = (0, 0);
    for Found { bytes, entity_type } in found {
        if bytes.start < counted_bytes {
            detected.dropped = detected.dropped.saturating_add(1);
            continue;
        }
        let start = counted + passage[counted_bytes..bytes.start].chars().count() as u64;
        let text = passage[bytes.clone()].to_owned();
        let end = start + text.chars().count() as u64;
        (counted_bytes, counted) = (bytes.end, end);
        detected.entities.push(Entity {
            text,
            entity_type,
            start,
            end,
        });
    }
    detected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(text: &str, start: Option<u64>) -> Claim {
        Claim {
            text: text.into(),
            entity_type: "Person".into(),
            start,
        }
    }

    fn starts(passage: &str, claims: Vec<Claim>) -> Vec<u64> {
        let (found, dropped) = anchor(passage, claims);
        let detected = settle(passage, found, dropped);
        detected
            .entities
            .iter()
            .map(|entity| entity.start)
            .collect()
    }

    #[test]
    fn a_wrong_place_is_put_right_to_the_nearest_one() {
        let passage = "é Ann, dann Ann, Ann";
        assert_eq!(starts(passage, vec![claim("Ann", Some(2))]), [2]);
        assert_eq!(starts(passage, vec![claim("Ann", Some(13))]), [12]);
        assert_eq!(starts(passage, vec![claim("Ann", Some(u64::MAX))]), [17]);
        assert_eq!(starts(passage, vec![claim(" Ann ", Some(1))]), [2]);
    }

    #[test]
    fn claims_without_a_place_take_one_after_the_other() {
        let claims = vec![claim("Ann", None), claim("Ann", None), claim("Ann", None)];
        assert_eq!(starts("Ann Annex Ann", claims), [0, 10]);
        let claims = vec![claim("Ann", None), claim("Ann", None)];
        assert_eq!(starts("Annex Annie", claims), [0, 6]);
    }

    #[test]
    fn what_does_not_stand_in_the_passage_is_dropped_and_counted() {
        let claims = vec![claim("Bob", Some(0)), claim("", None), claim("Ann", None)];
        let (found, dropped) = anchor("Ann", claims);
        assert_eq!((found.len(), dropped), (1, 2));
    }

    #[test]
    fn of_overlapping_finds_the_first_and_longest_stays() {
        let find = |bytes: Range<usize>, entity_type: &str| Found {
            bytes,
            entity_type: entity_type.into(),
        };
        let found = vec![
            find(4..7, "B"),
            find(0..3, "B"),
            find(0..5, "B"),
            find(0..5, "A"),
            find(0..5, "A"),
            find(5..7, "C"),
        ];
        let detected = settle("abcdefg", found, 0);
        let kept: Vec<_> = detected
            .entities
            .iter()
            .map(|e| (e.text.as_str(), e.entity_type.as_str()))
            .collect();
        assert_eq!(kept, [("abcde", "A"), ("fg", "C")]);
        assert_eq!(detected.dropped, 3);
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_the_result_stands_in_the_passage(
            passage in "[aé🪐 A]{0,30}",
            claims in proptest::collection::vec(("[aé🪐 A]{0,4}", proptest::option::of(0_u64..40)), 0..8),
        ) {
            let claims: Vec<Claim> = claims.iter().map(|(text, at)| claim(text, *at)).collect();
            let (found, dropped) = anchor(&passage, claims);
            let characters: Vec<char> = passage.chars().collect();
            let mut last = 0;
            for entity in settle(&passage, found, dropped).entities {
                let range = usize::try_from(entity.start).unwrap()..usize::try_from(entity.end).unwrap();
                let text: String = characters[range.clone()].iter().collect();
                prop_assert_eq!(text, entity.text);
                prop_assert!(range.start >= last && range.end > range.start);
                last = range.end;
            }
        }
    }
}
