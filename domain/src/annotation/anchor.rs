//! Where a target's passage stands in the text as it is now.
//!
//! A pure function of the author's selectors and the text: an orphan whose passage comes back is
//! anchored again. Invariant: nothing moves silently; anything but the same place says so. What one
//! quote costs has a bound beyond a look through the text, however long the quote is and however
//! often it occurs.

use super::selector::{Position, Quote, Range, TextSelection, of_target, targets};
use super::text::TextIndex;
use serde_json::Value;

/// Nearly a quote: at least this share of it is unchanged.
const FUZZY_SCORE_MIN: f64 = 0.7;
/// Longest quote, in code points, that is searched for approximately.
const FUZZY_QUOTE_MAX: usize = 4096;
/// Most steps (code points of text times words of quote) of one approximate search; a longer text
/// is searched around the old place only.
const FUZZY_STEPS_MAX: usize = 4_000_000;
/// Most occurrences of a quote that are weighed against each other.
pub(super) const OCCURRENCES_MAX: usize = 10_000;
/// Most bytes of them: each is found by a search of its own, which looks at the whole quote. Of a
/// quote of more bytes one occurrence is taken.
const OCCURRENCE_BYTES_MAX: usize = 1 << 20;
/// Most code points on each side of an occurrence that are held against a quote's context; of a
/// longer context the nearest part counts.
pub(super) const CONTEXT_MAX: usize = 256;

/// How a passage was found again, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnchorStatus {
    /// At the same place.
    Exact,
    /// The same quote, elsewhere.
    Moved,
    /// Nearly the quote.
    Fuzzy,
    /// Not at all.
    Orphaned,
}

/// Where a passage stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// How it was found.
    pub status: AnchorStatus,
    /// The share of the quote that is unchanged: 1 when all of it is, 0 when it was not found.
    pub score: f64,
    /// Its first code point and the one after its last; none when it was not found.
    pub span: Option<(usize, usize)>,
}

/// The anchor of one of an annotation's targets.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetAnchor {
    /// Which target, from 0.
    pub target: usize,
    /// Where in the annotation it stands, as a JSON pointer: within a set there are several.
    pub pointer: String,
    /// Where its passage stands.
    pub anchor: Anchor,
}

/// Anchors each text target that `is_this` says names the resource whose text is `text`.
pub fn anchors(
    annotation: &Value,
    is_this: &dyn Fn(&str) -> bool,
    text: &TextIndex,
) -> Vec<TargetAnchor> {
    let selections = targets(annotation).into_iter().filter_map(|placed| {
        let selection = of_target(placed.target, is_this, &placed.pointer)?;
        Some((placed, selection))
    });
    selections
        .map(|(placed, selection)| TargetAnchor {
            target: placed.index,
            pointer: placed.pointer,
            anchor: anchor(&selection, text),
        })
        .collect()
}

/// The anchor of a passage that is not there.
pub const ORPHANED: Anchor = Anchor {
    status: AnchorStatus::Orphaned,
    score: 0.0,
    span: None,
};

/// The text of an anchor's span, for what is selected within it.
pub(super) fn passage(anchor: &Anchor, text: &TextIndex) -> Option<TextIndex> {
    let (start, end) = anchor.span?;
    text.slice(start, end).map(TextIndex::new)
}

/// Anchors a selection, and what it selects within itself: the worse of both is told.
pub(super) fn anchor(selection: &TextSelection, text: &TextIndex) -> Anchor {
    let outer = anchor_plain(selection, text);
    let Some(inner) = &selection.inner else {
        return outer;
    };
    let Some((passage, (start, _))) = passage(&outer, text).zip(outer.span) else {
        return ORPHANED;
    };
    let inner = anchor(inner, &passage);
    let Some(span) = inner.span else {
        return ORPHANED;
    };
    Anchor {
        status: outer.status.max(inner.status),
        score: outer.score * inner.score,
        span: Some((start + span.0, start + span.1)),
    }
}

fn anchor_plain(selection: &TextSelection, text: &TextIndex) -> Anchor {
    if let (Some(range), None) = (&selection.range, &selection.quote) {
        return anchor_range(range, selection.position.as_ref(), text);
    }
    match (&selection.position, &selection.quote) {
        (None, None) => ORPHANED,
        (Some(Position { start, end, .. }), None) if *end <= text.len() => Anchor {
            status: AnchorStatus::Exact,
            score: 1.0,
            span: Some((*start, *end)),
        },
        (Some(_), None) => ORPHANED,
        (position, Some(quote)) => anchor_quote(quote, position.as_ref(), text),
    }
}

fn anchor_range(range: &Range, position: Option<&Position>, text: &TextIndex) -> Anchor {
    let [start, end] = [&range.start, &range.end].map(|end| anchor(end, text));
    between(start, end, position)
}

/// From the beginning of the one to the beginning of the other (W3C Web Annotation Data Model,
/// 4.2.9): the end is not part of the range.
pub(super) fn between(start: Anchor, end: Anchor, position: Option<&Position>) -> Anchor {
    let span = match (start.span, end.span) {
        (Some((from, _)), Some((to, _))) if from <= to => (from, to),
        _ => return ORPHANED,
    };
    let status = start.status.max(end.status);
    // Its ends may not know where they were, and the range does.
    let stayed = position.is_some_and(|position| (position.start, position.end) == span);
    Anchor {
        status: match status {
            AnchorStatus::Moved if stayed => AnchorStatus::Exact,
            status => status,
        },
        score: start.score * end.score,
        span: Some(span),
    }
}

fn anchor_quote(quote: &Quote, position: Option<&Position>, text: &TextIndex) -> Anchor {
    if let Some(Position { start, end, .. }) = position
        && text.slice(*start, *end) == Some(&quote.exact)
    {
        return Anchor {
            status: AnchorStatus::Exact,
            score: 1.0,
            span: Some((*start, *end)),
        };
    }
    let near = position.map(|position| position.start);
    if let Some(start) = best_occurrence(quote, near, text) {
        let length = quote.exact.chars().count();
        let (status, span) = (AnchorStatus::Moved, Some((start, start + length)));
        return Anchor {
            status,
            score: 1.0,
            span,
        };
    }
    fuzzy(&quote.exact, near.unwrap_or(0), text).unwrap_or(ORPHANED)
}

/// The bytes at which a quote occurs, overlapping occurrences included; an empty one occurs nowhere.
fn occurrences<'a>(text: &'a str, exact: &'a str) -> impl Iterator<Item = usize> + 'a {
    let first = exact.chars().next().map_or(1, char::len_utf8);
    let mut from = 0;
    std::iter::from_fn(move || {
        if exact.is_empty() {
            return None;
        }
        let found = from + text.get(from..)?.find(exact)?;
        from = found + first;
        Some(found)
    })
}

/// The occurrence with the most of its context around it, then the one nearest to the old place.
fn best_occurrence(quote: &Quote, near: Option<usize>, text: &TextIndex) -> Option<usize> {
    let whole = text.text();
    let near_byte = near.map(|place| text.byte_of(place.min(text.len())).unwrap_or(whole.len()));
    let distance = |byte: usize| near_byte.map_or(byte, |near| near.abs_diff(byte));
    let found = occurrences(whole, &quote.exact).take(occurrences_max(quote.exact.len()));
    let best = found.max_by_key(|byte| {
        let context = context_at(quote, whole, *byte);
        (context, std::cmp::Reverse(distance(*byte)))
    });
    best.map(|byte| text.code_point_of(byte))
}

/// How many occurrences of a quote of so many bytes are weighed.
fn occurrences_max(quote_bytes: usize) -> usize {
    (OCCURRENCE_BYTES_MAX / quote_bytes.max(1)).clamp(1, OCCURRENCES_MAX)
}

/// How many code points of its context stand around a quote that occurs at a byte, at most
/// [`CONTEXT_MAX`] on each side.
fn context_at(quote: &Quote, whole: &str, byte: usize) -> usize {
    let before = whole[..byte].chars().rev().zip(quote.prefix.chars().rev());
    let after = whole[byte + quote.exact.len()..]
        .chars()
        .zip(quote.suffix.chars());
    let before = before.take(CONTEXT_MAX).take_while(|(a, b)| a == b);
    let after = after.take(CONTEXT_MAX).take_while(|(a, b)| a == b);
    before.count() + after.count()
}

/// The span nearest to the quote in edit distance, if it is near enough.
fn fuzzy(exact: &str, near: usize, text: &TextIndex) -> Option<Anchor> {
    let quote: Vec<char> = exact.chars().collect();
    if quote.is_empty() || quote.len() > FUZZY_QUOTE_MAX {
        return None;
    }
    let words = quote.len().div_ceil(64);
    let span_max = FUZZY_STEPS_MAX / words;
    let start = if text.len() <= span_max {
        0
    } else {
        near.saturating_sub(span_max / 2).min(text.len() - span_max)
    };
    let end = (start + span_max).min(text.len());
    let window: Vec<char> = text.slice(start, end)?.chars().collect();
    let hint = (near + quote.len()).saturating_sub(start);
    let (found_end, distance) = nearest_end(&quote, &window, Anchoring::Free, hint)?;
    let length = u32::try_from(quote.len()).unwrap_or(u32::MAX);
    let score = 1.0 - f64::from(u32::try_from(distance).unwrap_or(u32::MAX)) / f64::from(length);
    if score < FUZZY_SCORE_MIN {
        return None;
    }
    let reversed: Vec<char> = quote.iter().rev().copied().collect();
    let reach = found_end.saturating_sub(quote.len() + distance);
    let before: Vec<char> = window[reach..found_end].iter().rev().copied().collect();
    let (taken, _) = nearest_end(&reversed, &before, Anchoring::AtStart, quote.len())?;
    let span = Some((start + found_end - taken, start + found_end));
    Some(Anchor {
        status: AnchorStatus::Fuzzy,
        score,
        span,
    })
}

/// Whether an approximate match may begin anywhere, or must begin with the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchoring {
    Free,
    AtStart,
}

/// The end, in `text`, of the match of `pattern` with the least edit distance, and that distance;
/// among equals the end nearest to `hint`.
///
/// Bit-parallel after G. Myers, "A fast bit-vector algorithm for approximate string matching based
/// on dynamic programming", J. ACM 46(3), 1999, in blocks of 64 rows.
fn nearest_end(
    pattern: &[char],
    text: &[char],
    anchoring: Anchoring,
    hint: usize,
) -> Option<(usize, usize)> {
    let words = pattern.len().div_ceil(64);
    let rows = Rows::of(pattern, words);
    let zeros = vec![0u64; words];
    let mut positive = vec![u64::MAX; words];
    let mut negative = vec![0u64; words];
    let last_bit = 1u64 << ((pattern.len() - 1) % 64);
    let mut distance = pattern.len();
    let mut best: Option<(usize, usize)> = None;
    for (index, character) in text.iter().enumerate() {
        let equal = rows.get(*character).unwrap_or(&zeros);
        let mut carry: i8 = i8::from(anchoring == Anchoring::AtStart);
        for word in 0..words {
            let high = if word + 1 == words { last_bit } else { 1 << 63 };
            let (pv, mv) = (positive[word], negative[word]);
            let xv = equal[word] | mv;
            let eq = equal[word] | u64::from(carry < 0);
            let xh = ((eq & pv).wrapping_add(pv) ^ pv) | eq;
            let mut ph = mv | !(xh | pv);
            let mut mh = pv & xh;
            let out = i8::from(ph & high != 0) - i8::from(mh & high != 0);
            ph = (ph << 1) | u64::from(carry > 0);
            mh = (mh << 1) | u64::from(carry < 0);
            positive[word] = mh | !(xv | ph);
            negative[word] = ph & xv;
            carry = out;
        }
        match carry {
            1 => distance += 1,
            -1 => distance -= 1,
            _ => {}
        }
        let end = index + 1;
        let better = best
            .is_none_or(|(at, least)| (distance, end.abs_diff(hint)) < (least, at.abs_diff(hint)));
        if better {
            best = Some((end, distance));
        }
    }
    best
}

/// For each character of a pattern, the rows in which it stands, as bits.
struct Rows {
    by_character: std::collections::HashMap<char, Vec<u64>>,
    ascii: Vec<Option<Vec<u64>>>,
}

impl Rows {
    fn of(pattern: &[char], words: usize) -> Self {
        let mut rows = Self {
            by_character: std::collections::HashMap::default(),
            ascii: vec![None; 128],
        };
        for (row, character) in pattern.iter().enumerate() {
            let bits = match rows.ascii.get_mut(*character as usize) {
                Some(bits) => bits.get_or_insert_with(|| vec![0; words]),
                None => rows
                    .by_character
                    .entry(*character)
                    .or_insert_with(|| vec![0; words]),
            };
            bits[row / 64] |= 1 << (row % 64);
        }
        rows
    }

    fn get(&self, character: char) -> Option<&Vec<u64>> {
        match self.ascii.get(character as usize) {
            Some(bits) => bits.as_ref(),
            None => self.by_character.get(&character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotation::complete;
    use proptest::prelude::*;
    use serde_json::json;

    const PASSAGE: &str = "the moons of Jupiter seen through his telescope";

    /// The anchor, in `after`, of the first occurrence of `exact` in `before`.
    fn anchored(exact: &str, before: &str, after: &str) -> Anchor {
        let selector = json!({ "type": "TextQuoteSelector", "exact": exact });
        let mut annotation = json!({ "target": { "source": "/this", "selector": selector } });
        let is_this = |iri: &str| iri == "/this";
        complete(&mut annotation, &is_this, &TextIndex::new(before)).unwrap();
        anchors(&annotation, &is_this, &TextIndex::new(after))[0].anchor
    }

    fn found<'a>(anchor: &Anchor, text: &'a str) -> &'a str {
        let (start, end) = anchor.span.unwrap();
        let index = TextIndex::new(text);
        let bytes = index.byte_of(start).unwrap()..index.byte_of(end).unwrap();
        &text[bytes]
    }

    #[test]
    fn a_range_goes_from_the_start_of_the_one_to_the_start_of_the_other() {
        let quote = |exact: &str| json!({ "type": "TextQuoteSelector", "exact": exact });
        let range = json!({ "type": "RangeSelector", "startSelector": quote("here"), "endSelector": quote("there") });
        let annotation = json!({ "target": { "type": "Choice", "items":
            [{ "source": "/this", "selector": range }] } });
        let of = |text: &str| {
            anchors(&annotation, &|iri| iri == "/this", &TextIndex::new(text)).remove(0)
        };
        let found = of("from here to there");
        assert_eq!((found.target, &*found.pointer), (0, "/target/items/0"));
        assert_eq!(found.anchor.span, Some((5, 13)));
        assert_eq!(of("now from here over to there").anchor.span, Some((9, 22)));
        for gone in ["from her", "there, then here"] {
            assert_eq!(of(gone).anchor, ORPHANED, "{gone}");
        }
    }

    #[test]
    fn a_passage_is_exact_moved_fuzzy_or_orphaned_and_comes_back() {
        let before = format!("In 1610 he drew {PASSAGE}, night after night.");
        let status = |after: &str| anchored(PASSAGE, &before, after).status;
        assert_eq!(status(&before), AnchorStatus::Exact);
        assert_eq!(status(&format!("Preface ♃. {before}")), AnchorStatus::Moved);
        let edited = before.replace("his telescope", "a telescope");
        let fuzzy = anchored(PASSAGE, &before, &edited);
        assert_eq!(fuzzy.status, AnchorStatus::Fuzzy);
        assert_eq!(
            found(&fuzzy, &edited),
            "the moons of Jupiter seen through a telescope"
        );
        assert!((0.9..1.0).contains(&fuzzy.score), "{}", fuzzy.score);
        let orphan = anchored(
            PASSAGE,
            &before,
            "In 1610 he drew nothing, night after night.",
        );
        assert_eq!(
            (orphan.status, orphan.score, orphan.span),
            (AnchorStatus::Orphaned, 0.0, None)
        );
        assert_eq!(status(&before), AnchorStatus::Exact);
    }

    #[test]
    fn a_refined_passage_is_anchored_within_the_one_that_it_refines() {
        let text = "a star; the red star, a star";
        let selector = json!({ "type": "TextQuoteSelector", "exact": "the red star",
            "refinedBy": { "type": "TextQuoteSelector", "exact": "star" } });
        let mut annotation = json!({ "target": { "source": "/this", "selector": selector } });
        let is_this = |iri: &str| iri == "/this";
        complete(&mut annotation, &is_this, &TextIndex::new(text)).unwrap();
        assert_eq!(annotation["target"]["selector"], selector, "kept as it was");
        let found = |text: &str| anchors(&annotation, &is_this, &TextIndex::new(text))[0].anchor;
        assert_eq!(found(text).span, Some((16, 20)));
        assert_eq!(found("the red star").span, Some((8, 12)));
        assert_eq!(found("a star").status, AnchorStatus::Orphaned);
        let absent = json!({ "target": { "source": "/this", "selector": {
            "type": "TextQuoteSelector", "exact": "the red star",
            "refinedBy": { "type": "TextQuoteSelector", "exact": "blue" } } } });
        let refused = complete(&mut absent.clone(), &is_this, &TextIndex::new(text)).unwrap_err();
        assert_eq!(refused[0].pointer, "/target/selector/refinedBy/exact");
    }

    #[test]
    fn of_several_occurrences_the_one_with_its_context_is_taken() {
        let before = "red star here; blue star there; white star far";
        let after = "a star, and white star far, and blue star there; red star here";
        let index = TextIndex::new(before);
        let start = index.code_point_of(before.find("star there").unwrap());
        let mut annotation = json!({ "target": { "source": "/this", "selector":
            { "type": "TextPositionSelector", "start": start, "end": start + 4 } } });
        complete(&mut annotation, &|_| true, &index).unwrap();
        let anchor = anchors(&annotation, &|_| true, &TextIndex::new(after))[0].anchor;
        assert_eq!(anchor.status, AnchorStatus::Moved);
        assert_eq!(anchor.span.unwrap().0, after.find("star there").unwrap());
    }

    /// Each of ten thousand occurrences was held against half a million code points.
    #[test]
    fn no_more_of_a_context_is_compared_than_its_nearest_part() {
        let text = "a".repeat(1_000_000);
        let a_quote = |exact: &str, prefix: &str, suffix: &str| Quote {
            exact: exact.to_owned(),
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            pointer: String::new(),
        };
        let half = "a".repeat(500_000);
        let quote = a_quote("a", &half, &half);
        assert_eq!(context_at(&quote, &text, 0), CONTEXT_MAX);
        assert_eq!(context_at(&quote, &text, 500_000), 2 * CONTEXT_MAX);
        // Within it nothing has changed: all that agrees counts, up to what does not.
        let quote = a_quote("star", "the red ", " of old");
        assert_eq!(context_at(&quote, "a red star of gold", 6), 5 + 4);
        let (exact, long) = ("star", "x".repeat(2 * CONTEXT_MAX));
        let text = format!("{exact}{long}, {exact}, {exact}y{long}");
        let selector =
            json!({ "type": "TextQuoteSelector", "exact": exact, "suffix": format!("y{long}") });
        let annotation = json!({ "target": { "source": "/this", "selector": selector } });
        let found = anchors(&annotation, &|_| true, &TextIndex::new(&text)).remove(0);
        let start = text.rfind(exact).unwrap();
        assert_eq!(found.anchor.span, Some((start, start + exact.len())));
    }

    #[test]
    fn of_a_long_quote_few_occurrences_are_weighed() {
        assert_eq!([1, 100].map(occurrences_max), [OCCURRENCES_MAX; 2]);
        assert_eq!(occurrences_max(OCCURRENCE_BYTES_MAX / 8), 8);
        assert_eq!(occurrences_max(OCCURRENCE_BYTES_MAX + 1), 1);
        let text = TextIndex::new(&"a".repeat(2 * OCCURRENCE_BYTES_MAX));
        let exact = "a".repeat(OCCURRENCE_BYTES_MAX + 1);
        let selector = json!({ "type": "TextQuoteSelector", "exact": exact });
        let annotation = json!({ "target": { "source": "/this", "selector": selector } });
        let found = anchors(&annotation, &|_| true, &text).remove(0).anchor;
        let expected = (AnchorStatus::Moved, Some((0, exact.len())));
        assert_eq!((found.status, found.span), expected);
    }

    #[test]
    fn a_long_quote_is_found_in_a_long_text_within_the_bound() {
        let quote = "Of the obliquity of the ecliptic and its slow diminution. ".repeat(8);
        let filler = "Observations follow, in the order of right ascension. ".repeat(10_000);
        let before = format!("{filler}{quote}{filler}");
        let after = before.replacen("slow diminution", "slow decrease", 1);
        let anchor = anchored(&quote, &before, &format!("Errata. {after}"));
        assert_eq!(anchor.status, AnchorStatus::Fuzzy);
        assert!(anchor.span.is_some());
    }

    proptest! {
        #[test]
        fn text_put_before_a_passage_moves_its_anchor_by_as_many_code_points(
            head in "[a-zé🪐 ]{0,40}", tail in "[a-zé🪐 ]{0,40}", put in "[A-Z𝄞 ]{1,40}",
        ) {
            let before = format!("{head}{PASSAGE}{tail}");
            let after = format!("{put}{before}");
            let anchor = anchored(PASSAGE, &before, &after);
            prop_assert_eq!(anchor.status, AnchorStatus::Moved);
            let start = put.chars().count() + head.chars().count();
            prop_assert_eq!(anchor.span, Some((start, start + PASSAGE.chars().count())));
        }

        #[test]
        fn the_bit_parallel_distance_is_the_edit_distance(
            pattern in "[ab]{1,150}", text in "[ab]{0,160}",
        ) {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            let expected = (1..=t.len()).map(|end| edit_distance(&p, &t[..end])).min();
            let got = nearest_end(&p, &t, Anchoring::AtStart, 0).map(|(_, distance)| distance);
            prop_assert_eq!(got, expected);
        }
    }

    fn edit_distance(a: &[char], b: &[char]) -> usize {
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let replaced = diagonal + usize::from(x != y);
                diagonal = row[j + 1];
                row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[b.len()]
    }
}
