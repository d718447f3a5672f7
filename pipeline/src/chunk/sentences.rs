//! Where sentences end.
//!
//! Unicode's rules (UAX #29) find the candidates. Of these, what ends at a single line end in the
//! middle of a wrapped paragraph and what ends at an abbreviation's full stop is not a sentence.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::abbreviations::is_abbreviation;
use super::{Span, split};

/// Hands out the sentences of a span, without the white space at their ends. One that is longer
/// than `size` code points is split.
pub(super) fn cut(whole: &str, span: Span, size: u32, piece: &mut dyn FnMut(Span)) {
    let text = span.text(whole);
    let mut start = span.start;
    let mut at = span.start;
    for candidate in text.split_sentence_bounds() {
        at = at.after(candidate);
        if at.byte < span.end.byte && !is_end(whole, start.byte, at.byte) {
            continue;
        }
        if let Some(sentence) = (Span { start, end: at }).trimmed(whole) {
            if sentence.points() > u64::from(size) {
                split::cut(whole, sentence, size, piece);
            } else {
                piece(sentence);
            }
        }
        start = at;
    }
}

/// Whether a sentence that began at `start` ends at `end`, a candidate.
fn is_end(whole: &str, start: usize, end: usize) -> bool {
    let (before, after) = (&whole[start..end], &whole[end..]);
    let gap = &before[before.trim_end().len()..];
    let breaks = gap.matches('\n').count() + gap.matches('\u{2029}').count();
    if breaks > 1 || gap.contains('\u{2029}') {
        return true;
    }
    if breaks == 1 && after.starts_with(['\n', '\r']) {
        // The blank line comes with the next candidate, and this one ends there too.
        return false;
    }
    if breaks == 1 && begins_item(after) {
        return true;
    }
    let told = ends_with_stop(before);
    if breaks == 1 && !told || is_abbreviation(before, after) {
        return false;
    }
    GraphemeCursor::new(end, whole.len(), true)
        .is_boundary(whole, 0)
        .unwrap_or(false)
}

/// Whether text ends as sentences do: a mark of an end, with quotes and brackets behind it.
fn ends_with_stop(text: &str) -> bool {
    const BEHIND: [char; 12] = [
        '"', '\'', ')', ']', '}', '”', '’', '»', '“', '」', '』', '）',
    ];
    const STOPS: [char; 14] = [
        '.', '!', '?', '…', ':', ';', '。', '！', '？', '؟', '।', '။', '։', '．',
    ];
    let kept = text.trim_end().trim_end_matches(BEHIND);
    kept.ends_with(STOPS)
}

/// Whether a line begins a list's entry, a heading, or a row of a table.
fn begins_item(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = (1..=3).contains(&digits) && line[digits..].starts_with(['.', ')']);
    let marked = ["- ", "* ", "+ ", "• ", "#", "|", "> ", "```", "~~~"];
    numbered || marked.iter().any(|mark| line.starts_with(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        cut(text, Span::of(text), 1_000, &mut |span| {
            found.push(span.text(text));
        });
        found
    }

    #[test]
    fn abbreviations_and_initials_end_no_sentence() {
        assert_eq!(
            sentences("Dr. Smith met J. R. R. Tolkien, e.g. in Oxford. See No. 5 and Fig. 3. End."),
            [
                "Dr. Smith met J. R. R. Tolkien, e.g. in Oxford.",
                "See No. 5 and Fig. 3.",
                "End."
            ]
        );
        assert_eq!(
            sentences("Das gilt z. B. am 3. Oktober. Es kostet 3.50 Euro. Nein!"),
            [
                "Das gilt z. B. am 3. Oktober.",
                "Es kostet 3.50 Euro.",
                "Nein!"
            ]
        );
        assert_eq!(
            sentences("He said no. Then he left."),
            ["He said no.", "Then he left."]
        );
    }

    #[test]
    fn wrapped_lines_are_one_sentence_and_entries_are_many() {
        assert_eq!(
            sentences("One line\nand the next. Two.\nThree"),
            ["One line\nand the next.", "Two.", "Three"]
        );
        assert_eq!(
            sentences("Title\n\nText\r\n\r\nMore"),
            ["Title", "Text", "More"]
        );
        assert_eq!(
            sentences("- a\n- b\n1. c\n2. d"),
            ["- a", "- b", "1. c", "2. d"]
        );
    }

    #[test]
    fn sentences_of_other_scripts_end_too() {
        assert_eq!(
            sentences("我喜欢。你呢？是的！"),
            ["我喜欢。", "你呢？", "是的！"]
        );
        assert_eq!(sentences("यह है। वह है।"), ["यह है।", "वह है।"]);
    }
}
