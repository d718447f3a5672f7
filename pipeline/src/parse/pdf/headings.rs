//! Which lines of a PDF are headings: by its tags, by its outline, or by how they look.
//!
//! Each page says what might be a heading ([`Candidate`]); which of them are is decided when all
//! pages were read ([`decide`]), since only then it is known what most of the text looks like. A
//! false heading is worse than a missed one.

use std::collections::HashMap;

use super::cells::Bounds;
use super::lines::{Line, Run, is_size};
use super::numbers::{depth, without_number};
use super::outline::Bookmark;
use super::placed::letters;
use super::tree::TaggedHeading;

/// Candidates that are kept of one page, and of one document.
pub(super) const PAGE_CANDIDATES_MAX: usize = 200;
pub(super) const CANDIDATES_MAX: usize = 100_000;
/// Signs of a heading, and lines.
const SIGNS_MAX: u32 = 200;
const LINES_MAX: usize = 3;
/// Styles whose text is counted; those of further ones are no headings.
const STYLES_MAX: usize = 1_000;

/// What a line looks like: its size in tenths of a point, and whether it is bold.
type Style = (u32, bool);

/// Why a line might be a heading.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reason {
    Tag {
        level: u8,
    },
    /// The outline leads to it; if it looks like one too, that is what counts where the outline is
    /// not believed.
    Bookmark {
        level: u8,
        look: Option<Look>,
    },
    Look(Look),
}

impl Reason {
    fn look(&self) -> Option<&Look> {
        match self {
            Self::Tag { .. } => None,
            Self::Bookmark { look, .. } => look.as_ref(),
            Self::Look(look) => Some(look),
        }
    }
}

/// How a line that might be a heading looks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    size: f32,
    is_bold: bool,
    /// How deep the number is that it begins with; 1.2.3 is 3 deep, and 0 is none.
    depth: u8,
    /// How high on the page it stands.
    base: f32,
    /// Whether there is more space above it than between lines.
    is_apart: bool,
    /// What it says, without digits.
    says: u64,
}

/// A line, or some, that might be a heading.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) reason: Reason,
    /// What it says.
    pub(super) text: String,
    /// Where on the page it says so, if it stands there by itself.
    pub(super) bounds: Option<Bounds>,
    /// How many lines before it on the page say the same.
    pub(super) nth: usize,
}

/// How much of a document's text looks how, in signs.
#[derive(Debug, Default)]
pub(super) struct Styles(HashMap<Style, u64>);

impl Styles {
    pub(super) fn count(&mut self, lines: &[Line]) {
        for line in lines {
            let style = style_of(line);
            if self.0.len() < STYLES_MAX || self.0.contains_key(&style) {
                *self.0.entry(style).or_default() += u64::from(line.signs);
            }
        }
    }

    /// What most of the text looks like.
    fn body(&self) -> Option<Style> {
        let most = self
            .0
            .iter()
            .max_by_key(|(style, signs)| (**signs, **style));
        most.map(|(style, _)| *style)
    }

    fn share(&self, style: Style) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a share is rough")]
        let rough = |signs: u64| signs as f64;
        let all: u64 = self.0.values().sum();
        rough(self.0.get(&style).copied().unwrap_or(0)) / rough(all.max(1))
    }
}

fn style_of(line: &Line) -> Style {
    (tenths(line.size), line.is_bold)
}

/// A size to half a point, in tenths of one.
fn tenths(size: f32) -> u32 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are positive and cut"
    )]
    let halves = (size.clamp(0.0, 10_000.0) * 2.0).round() as u32;
    halves * 5
}

/// What the tags of a page call headings.
pub(super) fn by_tags(tagged: &[TaggedHeading], runs: &[Run]) -> Vec<Candidate> {
    let mut by_mark: HashMap<u32, Vec<&Run>> = HashMap::new();
    for run in runs {
        if let Some(mark) = run.mark {
            by_mark.entry(mark).or_default().push(run);
        }
    }
    let mut candidates = Vec::new();
    for heading in tagged.iter().take(PAGE_CANDIDATES_MAX) {
        let own = heading.marks.iter().filter_map(|mark| by_mark.get(mark));
        let own: Vec<&str> = own.flatten().map(|run| run.text.as_str()).collect();
        candidates.push(Candidate {
            reason: Reason::Tag {
                level: heading.level,
            },
            text: own.join(" "),
            bounds: None,
            nth: 0,
        });
    }
    candidates
}

/// Lines of a page that say what its bookmarks do.
pub(super) fn by_outline(bookmarks: &[Bookmark], lines: &[Line]) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    if bookmarks.is_empty() {
        return candidates;
    }
    let keys: Vec<String> = lines.iter().map(|line| key(&line.text)).collect();
    for bookmark in bookmarks.iter().take(PAGE_CANDIDATES_MAX) {
        let wanted = key(&bookmark.title);
        if wanted.is_empty() {
            continue;
        }
        let bare = key(without_number(&bookmark.title));
        let mut best: Option<(f64, usize, usize)> = None;
        for first in 0..lines.len() {
            let mut said = String::new();
            for last in first..lines.len().min(first + LINES_MAX) {
                if last > first && !follows(&lines[last - 1], &lines[last]) {
                    break;
                }
                said.push_str(&keys[last]);
                let is_same = said == wanted
                    || !bare.is_empty()
                        && said.ends_with(&bare)
                        && is_numbered(&lines[first..=last], &bare);
                if is_same {
                    let far = distance(bookmark, &lines[first]);
                    if best.is_none_or(|(least, _, _)| far < least) {
                        best = Some((far, first, last));
                    }
                }
                if said.len() > wanted.len() + NUMBER_BYTES_MAX {
                    break;
                }
            }
        }
        if let Some((_, first, last)) = best {
            let reason = Reason::Bookmark {
                level: bookmark.level,
                look: look(lines, first, last),
            };
            candidates.push(candidate(lines, first, last, reason));
        }
    }
    candidates
}

/// Bytes of what stands before the words of a heading: `Appendix`, and a number.
const NUMBER_BYTES_MAX: usize = 24;

/// Whether lines say `bare` behind a number, or without one.
fn is_numbered(lines: &[Line], bare: &str) -> bool {
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    key(without_number(&texts.join(" "))) == bare
}

/// How far a line is from where a bookmark leads; lines stand below that place. Without a place
/// the largest one is nearest.
fn distance(bookmark: &Bookmark, line: &Line) -> f64 {
    match bookmark.top {
        Some(top) => {
            let below = top - f64::from(line.base);
            if below < -f64::from(line.size) {
                1_000.0 - below
            } else {
                below.abs()
            }
        }
        None => 1_000.0 - f64::from(line.size) - if line.is_bold { 0.5 } else { 0.0 },
    }
}

/// Whether a line goes on with what the one above it says, by where it stands and how it looks.
fn follows(above: &Line, line: &Line) -> bool {
    let step = above.base - line.base;
    is_size(above.size, line.size)
        && above.is_bold == line.is_bold
        && step > 0.5 * line.size
        && step < 2.2 * line.size
}

/// Lines of a page that look like headings, to be judged when all of the text was seen.
pub(super) fn by_look(lines: &[Line]) -> Vec<Candidate> {
    // A page of few signs may be all headings.
    const FEW_SIGNS: u64 = 600;
    let mut own = Styles::default();
    own.count(lines);
    let body = own
        .body()
        .filter(|body| own.0.get(body).is_some_and(|signs| *signs >= FEW_SIGNS));
    let mut candidates = Vec::new();
    let mut first = 0;
    while first < lines.len() && candidates.len() < PAGE_CANDIDATES_MAX {
        let mut last = first;
        while last + 1 < lines.len() && goes_on(&lines[last], &lines[last + 1]) {
            last += 1;
        }
        let line = &lines[first];
        let looks = Some(style_of(line)) != body && last - first < LINES_MAX;
        if looks && let Some(look) = look(lines, first, last) {
            candidates.push(candidate(lines, first, last, Reason::Look(look)));
        }
        first = last + 1;
    }
    candidates
}

/// Whether a line goes on with a heading above it: a number begins another one.
fn goes_on(above: &Line, line: &Line) -> bool {
    follows(above, line) && depth(&line.text) == 0
}

/// How lines look, if they may be a heading.
fn look(lines: &[Line], first: usize, last: usize) -> Option<Look> {
    let own = &lines[first..=last];
    let signs: u32 = own.iter().map(|line| line.signs).sum();
    let texts: Vec<&str> = own.iter().map(|line| line.text.as_str()).collect();
    let text = texts.join(" ");
    let words = text.chars().filter(|sign| sign.is_alphabetic()).count();
    let ends_sentence = text.ends_with(['.', ',', ';']) || text.ends_with(" -");
    if signs > SIGNS_MAX || words < 2 || ends_sentence || own.iter().any(|line| line.is_mono) {
        return None;
    }
    // Leaders, as a list of contents has.
    if text.contains("...") || text.contains(". . .") || text.contains("\u{2026}") {
        return None;
    }
    let line = &lines[first];
    // Something beside it: a cell, or a term and what it means.
    let beside = |other: &Line| (other.base - line.base).abs() < 0.5 * line.size;
    let before = first.checked_sub(1).map(|index| &lines[index]);
    let after = lines.get(last + 1);
    if before.is_some_and(beside) || after.is_some_and(beside) {
        return None;
    }
    let above = before.map_or(f32::MAX, |before| before.base - line.base);
    Some(Look {
        size: line.size,
        is_bold: own.iter().all(|line| line.is_bold),
        depth: depth(&text),
        base: line.base,
        is_apart: above > 1.6 * line.size,
        says: says(&text),
    })
}

fn candidate(lines: &[Line], first: usize, last: usize, reason: Reason) -> Candidate {
    let texts: Vec<&str> = lines[first..=last]
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    let text = texts.join(" ");
    let same = letters(&lines[first].text);
    let before = lines[..first].iter();
    let nth = if first == last {
        before.filter(|line| letters(&line.text) == same).count()
    } else {
        0
    };
    let bounds = lines[first..=last].iter().map(|line| line.bounds);
    Candidate {
        reason,
        text,
        bounds: bounds.reduce(Bounds::with),
        nth,
    }
}

/// What a line says, for comparing: letters and digits, in small ones.
fn key(text: &str) -> String {
    letters(text).to_lowercase()
}

/// What a line says but for digits, as a number.
fn says(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let letters = key(text);
    letters.trim_matches(char::is_numeric).hash(&mut hasher);
    hasher.finish()
}

/// A candidate that was found in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found<P> {
    pub(super) reason: Reason,
    pub(super) place: P,
}

/// What a document says of itself, for judging its candidates.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) styles: Styles,
    /// Bookmarks whose page was read.
    pub(super) bookmarks: usize,
}

/// The candidates that are headings, each with its level, in the order that they came in.
///
/// Tags win over the outline, and that over looks. The outline is believed when most of its
/// bookmarks were found as lines.
pub(super) fn decide<P: Clone>(found: &[Found<P>], told: &Told) -> Vec<(u8, P)> {
    const BOOKMARKS_LEAST: usize = 3;
    let tags = |found: &&Found<P>| matches!(found.reason, Reason::Tag { .. });
    if found.iter().any(|found| tags(&found)) {
        return with_levels(found.iter().filter(tags));
    }
    let bookmarks = |found: &&Found<P>| matches!(found.reason, Reason::Bookmark { .. });
    let n_bookmarks = found.iter().filter(bookmarks).count();
    if n_bookmarks >= BOOKMARKS_LEAST && n_bookmarks * 2 >= told.bookmarks {
        return with_levels(found.iter().filter(bookmarks));
    }
    by_styles(found, &told.styles)
}

fn with_levels<'a, P: Clone + 'a>(found: impl Iterator<Item = &'a Found<P>>) -> Vec<(u8, P)> {
    let level = |found: &Found<P>| match found.reason {
        Reason::Tag { level } | Reason::Bookmark { level, .. } => level.clamp(1, 6),
        Reason::Look(_) => 1,
    };
    found
        .map(|found| (level(found), found.place.clone()))
        .collect()
}

/// The candidates that look like headings of this document, with levels by how large they are.
fn by_styles<P: Clone>(found: &[Found<P>], styles: &Styles) -> Vec<(u8, P)> {
    let Some(body) = styles.body() else {
        return Vec::new();
    };
    let looks: Vec<(&Found<P>, &Look, Style)> = found
        .iter()
        .filter_map(|found| {
            let look = found.reason.look()?;
            Some((found, look, (tenths(look.size), look.is_bold)))
        })
        .collect();
    let mut places: HashMap<(u64, Style), Vec<f32>> = HashMap::new();
    for (_, look, style) in &looks {
        let bases = places.entry((look.says, *style)).or_default();
        bases.push(look.base);
    }
    let judged = |(_, look, style): &&(&Found<P>, &Look, Style)| {
        is_heading(look, *style, &places[&(look.says, *style)], body, styles)
    };
    let headings: Vec<_> = looks.iter().filter(judged).collect();
    let mut ranks: Vec<Style> = headings.iter().map(|(_, _, style)| *style).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    ranks.dedup();
    let level = |style: &Style| {
        let rank = ranks.iter().position(|other| other == style).unwrap_or(0);
        u8::try_from(rank + 1).unwrap_or(6).min(6)
    };
    let headings = headings.into_iter();
    headings
        .map(|(found, _, style)| (level(style), found.place.clone()))
        .collect()
}

/// Whether a candidate looks like a heading: larger than the body, or bold; a bold one that is no
/// larger has a number, or stands apart. What stands on page after page is none.
fn is_heading(look: &Look, style: Style, bases: &[f32], body: Style, styles: &Styles) -> bool {
    const STYLE_SHARE_MAX: f64 = 0.12;
    const LARGER_PERCENT: u32 = 112;
    const REPEATED_LARGE: usize = 3;
    const REPEATED: usize = 2;
    if style == body || styles.share(style) > STYLE_SHARE_MAX {
        return false;
    }
    let is_larger = style.0 * 100 >= body.0 * LARGER_PERCENT;
    let is_here = |base: &&f32| (*base - look.base).abs() < 2.0;
    let same_height = bases.iter().filter(is_here).count();
    if same_height > REPEATED_LARGE || !is_larger && bases.len() > REPEATED {
        return false;
    }
    if is_larger {
        return true;
    }
    let is_bold = look.is_bold && !body.1 && style.0 * 100 >= body.0 * 97;
    is_bold && look.is_apart && look.depth > 0
}
