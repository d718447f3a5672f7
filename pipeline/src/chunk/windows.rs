//! Chunks of one size, one after the other, that overlap to the code point.

use std::collections::VecDeque;

use unicode_segmentation::UnicodeSegmentation;

use super::{Chunking, Place, Span};

/// Cuts a text into chunks of `size` code points, fewer only where a grapheme cluster would be
/// cut. Each begins `overlap` code points before the end of the one before it, later only for the
/// same reason.
pub(super) fn cut(text: &str, settings: &Chunking, mut chunk: impl FnMut(Span)) {
    let (size, overlap) = (u64::from(settings.size()), u64::from(settings.overlap()));
    let mut start = Place::default();
    let mut at = Place::default();
    // The ends of clusters since `start`, the last one being `at`.
    let mut ends: VecDeque<Place> = VecDeque::new();
    let mut advance = |end: Place, at: Place, start: &mut Place, ends: &mut VecDeque<Place>| {
        if end.point - start.point <= size {
            return;
        }
        chunk(Span {
            start: *start,
            end: at,
        });
        let earliest = (at.point.saturating_sub(overlap)).max(end.point.saturating_sub(size));
        while let Some(next) = ends.pop_front() {
            *start = next;
            if next.point >= earliest {
                break;
            }
        }
    };
    for cluster in text.graphemes(true) {
        let end = at.after(cluster);
        if end.point - at.point <= size {
            advance(end, at, &mut start, &mut ends);
            at = end;
            ends.push_back(at);
            continue;
        }
        for c in cluster.chars() {
            let end = at.after(c.encode_utf8(&mut [0; 4]));
            advance(end, at, &mut start, &mut ends);
            at = end;
            ends.push_back(at);
        }
    }
    if at.byte > start.byte {
        chunk(Span { start, end: at });
    }
}
