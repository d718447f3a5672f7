//! Where pieces of a page's text lie in it, whatever white space is between their signs.
//!
//! What is found begins and ends a line: a heading that is only part of one is none.

use std::ops::Range;

/// Places of one piece that are looked at.
const PLACES_MAX: usize = 1_000;

/// A page's text, for looking pieces up.
pub(super) struct Placing {
    /// Its lines, without the white space at their ends.
    lines: Vec<Range<usize>>,
    /// Its letters and digits, and the line that each byte of them is on.
    letters: String,
    line_of: Vec<u32>,
    taken: Vec<Range<usize>>,
}

impl Placing {
    pub(super) fn new(text: &str) -> Self {
        let mut placing = Self {
            lines: Vec::new(),
            letters: String::with_capacity(text.len()),
            line_of: Vec::with_capacity(text.len()),
            taken: Vec::new(),
        };
        for (index, line) in lines(text).enumerate() {
            for sign in text[line.clone()].chars() {
                push_letters(&mut placing.letters, sign);
            }
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            placing.line_of.resize(placing.letters.len(), index);
            placing.lines.push(line);
        }
        placing
    }

    /// Where a piece stands that nothing was found at yet: `nth` of its places, from 0, or the
    /// last one if there are not so many.
    pub(super) fn find(&mut self, piece: &str, nth: usize) -> Option<Range<usize>> {
        let piece = letters(piece);
        if piece.is_empty() {
            return None;
        }
        let mut found = None;
        let mut count = 0;
        for (start, _) in self.letters.match_indices(&piece).take(PLACES_MAX) {
            if let Some(range) = self.whole_lines(start, start + piece.len())
                && !self.taken.iter().any(|taken| overlap(taken, &range))
            {
                found = Some(range);
                if count == nth {
                    break;
                }
                count += 1;
            }
        }
        self.taken.extend(found.clone());
        found
    }

    /// Where a piece stands, if it stands at one place only.
    pub(super) fn only(&self, piece: &str) -> Option<Range<usize>> {
        let piece = letters(piece);
        if piece.is_empty() {
            return None;
        }
        let places = self.letters.match_indices(&piece).take(PLACES_MAX);
        let mut places =
            places.filter_map(|(start, _)| self.whole_lines(start, start + piece.len()));
        let only = places.next()?;
        places.next().is_none().then_some(only)
    }

    /// Takes a part of the text for something else.
    pub(super) fn take(&mut self, range: Range<usize>) {
        self.taken.push(range);
    }

    /// The lines that letters stand on, if no others stand there.
    fn whole_lines(&self, start: usize, end: usize) -> Option<Range<usize>> {
        let (first, last) = (self.line_of[start], self.line_of[end - 1]);
        let begins = start == 0 || self.line_of[start - 1] != first;
        let ends = self.line_of.get(end).is_none_or(|next| *next != last);
        let line = |index: u32| &self.lines[index as usize];
        (begins && ends).then(|| line(first).start..line(last).end)
    }
}

/// The lines of a text, without the white space at their ends.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    text.split('\n').map(move |line| {
        let start = at + line.len() - line.trim_start().len();
        let end = at + line.trim_end().len();
        at += line.len() + 1;
        start.min(end)..end
    })
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The letters and digits of a text.
pub(super) fn letters(text: &str) -> String {
    let mut letters = String::with_capacity(text.len());
    text.chars()
        .for_each(|sign| push_letters(&mut letters, sign));
    letters
}

/// Writes a sign if it is a letter or a digit, ligatures as what they are made of.
fn push_letters(letters: &mut String, sign: char) {
    match sign {
        '\u{fb00}' => letters.push_str("ff"),
        '\u{fb01}' => letters.push_str("fi"),
        '\u{fb02}' => letters.push_str("fl"),
        '\u{fb03}' => letters.push_str("ffi"),
        '\u{fb04}' => letters.push_str("ffl"),
        sign if sign.is_alphanumeric() => letters.push(sign),
        _ => {}
    }
}
