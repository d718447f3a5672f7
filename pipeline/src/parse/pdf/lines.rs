//! What stands on a page of a PDF: runs of text in one style, and the lines that they make.
//!
//! Only upright text counts, and none that the document calls an artifact. Lengths are in points;
//! heights grow upward.

use std::ops::Range;

use pdf_oxide::layout::{FontWeight, TextSpan};
use pdf_oxide::structure::McidScope;

use super::cells::Bounds;

/// A run of text in one style.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) left: f32,
    pub(super) right: f32,
    /// The height of its baseline.
    pub(super) base: f32,
    pub(super) top: f32,
    pub(super) size: f32,
    pub(super) is_bold: bool,
    pub(super) is_mono: bool,
    /// The marked content that it is in, of the page's own stream.
    pub(super) mark: Option<u32>,
    pub(super) text: String,
    /// How wide each sign is, where that is known.
    widths: Vec<f32>,
}

impl Run {
    fn of(span: TextSpan) -> Option<Self> {
        let places = [
            span.bbox.x,
            span.bbox.y,
            span.bbox.width,
            span.bbox.height,
            span.font_size,
        ];
        let is_upright = span.rotation_degrees.abs() < 0.5 && span.wmode == 0;
        if !is_upright || places.iter().any(|place| !place.is_finite()) || span.font_size <= 0.0 {
            return None;
        }
        if span.artifact_type.is_some() || span.text.trim().is_empty() {
            return None;
        }
        let in_page = matches!(span.mcid_scope, None | Some(McidScope::Page(_)));
        Some(Self {
            left: span.bbox.x,
            right: span.bbox.x + span.bbox.width.max(0.0),
            base: span.bbox.y,
            top: span.bbox.y + span.bbox.height.max(0.0),
            size: span.font_size,
            is_bold: matches!(
                span.font_weight,
                FontWeight::SemiBold | FontWeight::Bold | FontWeight::ExtraBold | FontWeight::Black
            ),
            is_mono: span.is_monospace || is_typewriter(&span.font_name),
            mark: span.mcid.filter(|_| in_page),
            text: span.text,
            widths: span.char_widths,
        })
    }

    /// The run, cut at the white space that lies at some of these places, which rise: the reader
    /// of pages makes one run of words in cells that are near each other.
    pub(super) fn cut(&self, places: &[f32]) -> Vec<Self> {
        let is_inside = |place: &&f32| self.left < **place && **place < self.right;
        let mut places = places.iter().filter(is_inside).peekable();
        let total: f32 = self.widths.iter().sum();
        let is_known = self.widths.len() == self.text.chars().count() && total > 0.0;
        if places.peek().is_none() || !is_known {
            return vec![self.clone()];
        }
        let scale = (self.right - self.left) / total;
        let mut blanks = Vec::new();
        let mut at = self.left;
        for ((byte, sign), width) in self.text.char_indices().zip(&self.widths) {
            let next = at + width * scale;
            if sign.is_whitespace() {
                blanks.push((byte, at, next));
            }
            at = next;
        }
        let mut pieces = Vec::new();
        let mut rest = (0, self.left);
        for place in places {
            let near = |blank: &&(usize, f32, f32)| {
                let (byte, from, to) = **blank;
                let far = (from - place).max(place - to).max(0.0);
                byte > rest.0 && far < 0.5 * self.size
            };
            let Some((byte, from, to)) = blanks.iter().find(near).copied() else {
                continue;
            };
            pieces.push(self.piece(rest.0..byte, rest.1, from));
            rest = (byte, to);
        }
        pieces.push(self.piece(rest.0..self.text.len(), rest.1, self.right));
        pieces
    }

    fn piece(&self, text: Range<usize>, left: f32, right: f32) -> Self {
        Self {
            left,
            right: right.max(left),
            text: self.text[text].to_owned(),
            widths: Vec::new(),
            ..*self
        }
    }

    /// Whether another run stands on the same baseline, or nearly.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (self.base - other.base).abs() < 0.35 * self.size.min(other.size)
    }
}

/// Whether a font calls itself one whose letters are all of one width; many do not say it where
/// they should.
fn is_typewriter(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "Mono",
        "Courier",
        "CMTT",
        "CMSLTT",
        "SFTT",
        "Typewriter",
        "LMMono",
    ];
    NAMES.iter().any(|part| name.contains(part))
}

/// The runs of a page, from its top to its bottom, on a baseline from left to right.
pub(super) fn runs(spans: Vec<TextSpan>) -> Vec<Run> {
    let mut runs: Vec<Run> = spans.into_iter().filter_map(Run::of).collect();
    runs.sort_by(|a, b| b.base.total_cmp(&a.base));
    let mut start = 0;
    for index in 1..=runs.len() {
        if index == runs.len() || !runs[start].is_beside(&runs[index]) {
            runs[start..index].sort_by(|a, b| a.left.total_cmp(&b.left));
            start = index;
        }
    }
    runs
}

/// Text on one baseline, without a gap that a column would leave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) left: f32,
    pub(super) right: f32,
    pub(super) base: f32,
    /// The edges of all that is on it.
    pub(super) bounds: Bounds,
    /// The size of most of it.
    pub(super) size: f32,
    /// Whether all letters of it are bold.
    pub(super) is_bold: bool,
    /// Whether most of it is in letters of one width.
    pub(super) is_mono: bool,
    pub(super) text: String,
    /// Signs that are not white space.
    pub(super) signs: u32,
}

/// Makes lines of runs that [`runs`] ordered.
pub(super) fn lines(runs: &[Run]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    for index in 1..=runs.len() {
        let ends = index == runs.len()
            || !runs[index - 1].is_beside(&runs[index])
            || parts(&runs[start..index], &runs[index]);
        if ends && start < index {
            lines.push(line(&runs[start..index]));
            start = index;
        }
    }
    lines
}

/// Whether so much is between runs and the next that it is on a line of its own: more than
/// separates words, and behind a number more than separates it from what it numbers.
fn parts(runs: &[Run], next: &Run) -> bool {
    const WORDS_EMS: f32 = 1.8;
    const NUMBER_EMS: f32 = 4.0;
    const NUMBER_SIGNS: usize = 9;
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return false;
    };
    let gap = (next.left - last.right) / last.size.max(next.size);
    let text = first.text.trim();
    let is_number = runs.len() == 1
        && text.len() <= NUMBER_SIGNS
        && text.starts_with(|sign: char| sign.is_ascii_digit() || sign.is_ascii_uppercase())
        && text.contains(|sign: char| sign.is_ascii_digit());
    gap > if is_number { NUMBER_EMS } else { WORDS_EMS }
}

fn line(runs: &[Run]) -> Line {
    let mut text = String::new();
    let mut signs = 0;
    let (mut mono, mut plain) = (0, 0);
    let mut sizes: Vec<(f32, u32)> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let is_apart = index > 0 && run.left - runs[index - 1].right > 0.12 * run.size;
        if is_apart && !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(&run.text);
        let own = u32::try_from(run.text.chars().filter(|c| !c.is_whitespace()).count());
        let own = own.unwrap_or(u32::MAX);
        signs += own;
        mono += if run.is_mono { own } else { 0 };
        let has_letters = run.text.contains(char::is_alphanumeric);
        plain += if !run.is_bold && has_letters { own } else { 0 };
        match sizes.iter_mut().find(|(size, _)| is_size(*size, run.size)) {
            Some((_, count)) => *count += own,
            None => sizes.push((run.size, own)),
        }
    }
    let most = sizes.iter().max_by_key(|(_, count)| *count);
    Line {
        left: runs[0].left,
        right: runs.iter().map(|run| run.right).fold(f32::MIN, f32::max),
        base: runs[0].base,
        bounds: Bounds::of(runs.iter()),
        size: most.map_or(0.0, |(size, _)| *size),
        is_bold: plain == 0,
        is_mono: mono * 2 > signs,
        text: text.trim().to_owned(),
        signs,
    }
}

/// Whether two sizes are one, but for rounding.
pub(super) fn is_size(a: f32, b: f32) -> bool {
    (a - b).abs() < 0.03 * a.max(b)
}
