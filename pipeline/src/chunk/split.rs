//! Splitting what is longer than a chunk: at words, else at grapheme clusters, else at code points.

use unicode_segmentation::UnicodeSegmentation;

use super::{Place, Span};

/// Splits a span into pieces of at most `size` code points, in one pass over it.
pub(super) fn cut(whole: &str, span: Span, size: u32, piece: &mut dyn FnMut(Span)) {
    let size = u64::from(size);
    let text = span.text(whole);
    let mut words = text
        .split_word_bound_indices()
        .map(|(at, word)| at + word.len());
    let mut word_end = words.next();
    let mut start = span.start;
    let mut at = span.start;
    // The last place since `start` where a word ended together with a grapheme cluster.
    let mut between_words: Option<Place> = None;
    let mut emit = |start: Place, end: Place| {
        if let Some(trimmed) = (Span { start, end }).trimmed(whole) {
            piece(trimmed);
        }
    };
    for cluster in text.graphemes(true) {
        let end = at.after(cluster);
        if end.point - start.point > size {
            let cut = between_words.take().unwrap_or(at);
            if cut.byte > start.byte {
                emit(start, cut);
                start = cut;
            }
            // What is left since the last word may still be too long with this cluster.
            if end.point - start.point > size && at.byte > start.byte {
                emit(start, at);
                start = at;
            }
            if end.point - start.point > size {
                start = split_cluster(cluster, start, size, &mut emit);
            }
        }
        at = end;
        let bytes = at.byte - span.start.byte;
        while word_end.is_some_and(|word_end| word_end < bytes) {
            word_end = words.next();
        }
        if word_end == Some(bytes) {
            between_words = Some(at);
        }
    }
    emit(start, at);
}

/// Splits a cluster that is longer than a chunk; where its last piece begins is returned.
fn split_cluster(
    cluster: &str,
    start: Place,
    size: u64,
    emit: &mut impl FnMut(Place, Place),
) -> Place {
    let (mut from, mut at) = (start, start);
    for c in cluster.chars() {
        if at.point - from.point == size {
            emit(from, at);
            from = at;
        }
        at = at.after(c.encode_utf8(&mut [0; 4]));
    }
    from
}
