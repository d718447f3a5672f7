//! Cutting a text into chunks.
//!
//! Invariants: a chunk is the text between its offsets, at most `size` code points of it; every
//! code point that is not white space is in at least one chunk; the same text, structure and
//! settings give the same chunks with the same ids (`docs/format/chunks.md`). The time is linear
//! in the text.

mod abbreviations;
mod blocks;
mod packer;
mod sentences;
mod split;
mod windows;

use stemma_domain::id::ContentDigest;

pub use stemma_domain::document::{Chunk, Chunking, Strategy};

use crate::parse::{Heading, PageSpan, Structure};

/// The most chunks that one document is cut into. At the default size it is a text of some 450 MB.
pub const CHUNKS_MAX: usize = 500_000;

/// The code points of a heading that are kept with a chunk.
pub const HEADING_CODE_POINTS_MAX: usize = 200;

/// There would be more chunks than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {CHUNKS_MAX} chunks; a larger size or a smaller overlap makes fewer")]
pub struct TooManyChunks;

/// Cuts the text of a document.
///
/// `structure` tells of the headings and pages in `text`. White space at the ends of a chunk is
/// left out, but for [`Strategy::Size`], whose chunks follow each other to the code point. A
/// grapheme cluster is cut only when it is longer than a chunk may be.
///
/// # Errors
/// [`TooManyChunks`].
pub fn chunk(
    document: &ContentDigest,
    text: &str,
    structure: &Structure,
    settings: &Chunking,
) -> Result<Vec<Chunk>, TooManyChunks> {
    let headings = places_of_headings(text, &structure.headings);
    let mut chunks = Chunks {
        document,
        text,
        settings,
        headings: &headings,
        levels: Vec::new(),
        next_heading: 0,
        pages: &structure.pages,
        page: None,
        done: Vec::new(),
        too_many: false,
    };
    match settings.strategy() {
        Strategy::Size => windows::cut(text, settings, |span| chunks.push(span)),
        Strategy::Sentence => {
            let mut packer = packer::Packer::new(settings, |span| chunks.push(span));
            let all = Span::of(text);
            sentences::cut(text, all, settings.size(), &mut |span| {
                packer.push(span, false);
            });
            packer.finish();
        }
        Strategy::Markdown => {
            let mut packer = packer::Packer::new(settings, |span| chunks.push(span));
            let starts = headings.iter().map(|heading| heading.line);
            blocks::cut(text, starts, settings.size(), &mut packer);
            packer.finish();
        }
    }
    if chunks.too_many {
        return Err(TooManyChunks);
    }
    Ok(chunks.done)
}

/// A place in a text, in both units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    byte: usize,
    point: u64,
}

impl Place {
    /// The place after `text`, which begins here.
    fn after(self, text: &str) -> Self {
        Self {
            byte: self.byte + text.len(),
            point: self.point + text.chars().count() as u64,
        }
    }
}

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: Place,
    end: Place,
}

impl Span {
    fn of(text: &str) -> Self {
        let start = Place::default();
        let end = start.after(text);
        Self { start, end }
    }

    fn points(self) -> u64 {
        self.end.point - self.start.point
    }

    fn text(self, whole: &str) -> &str {
        &whole[self.start.byte..self.end.byte]
    }

    /// The span without the white space at its ends; `None` if there is nothing else.
    fn trimmed(self, whole: &str) -> Option<Self> {
        let text = self.text(whole);
        let rest = text.trim_start();
        let kept = rest.trim_end();
        if kept.is_empty() {
            return None;
        }
        let start = self.start.after(&text[..text.len() - rest.len()]);
        let cut = &rest[kept.len()..];
        let end = Place {
            byte: self.end.byte - cut.len(),
            point: self.end.point - cut.chars().count() as u64,
        };
        Some(Self { start, end })
    }
}

/// A heading, and where the line begins that it stands on: its marks are before its text.
struct PlacedHeading {
    level: u8,
    line: Place,
    text: String,
}

/// Where headings lie in bytes, in one pass over the text. Headings out of order or outside of the
/// text, which no reader of ours puts out, are left out.
fn places_of_headings(text: &str, headings: &[Heading]) -> Vec<PlacedHeading> {
    let mut placed: Vec<PlacedHeading> = Vec::with_capacity(headings.len());
    let mut at = Place::default();
    for heading in headings {
        let Some(distance) = heading.start.checked_sub(at.point) else {
            continue;
        };
        let rest = &text[at.byte..];
        let Some(bytes) = bytes_of(rest, distance) else {
            break;
        };
        let before = &rest[..bytes];
        let start = at.after(before);
        // A second heading on one line, which only a stranger's reader puts out, has the first's.
        let line = match (before.rfind('\n'), placed.last()) {
            (Some(newline), _) => at.after(&before[..=newline]),
            (None, Some(same)) => same.line,
            (None, None) => Place::default(),
        };
        let own = text[start.byte..].chars();
        let length = usize::try_from(heading.end.saturating_sub(heading.start));
        let own = own.take(length.unwrap_or(usize::MAX).min(HEADING_CODE_POINTS_MAX));
        placed.push(PlacedHeading {
            level: heading.level,
            line,
            text: own.collect(),
        });
        at = start;
    }
    placed
}

/// The bytes of the first code points of a text, if it has so many.
fn bytes_of(text: &str, points: u64) -> Option<usize> {
    let Ok(points) = usize::try_from(points) else {
        return None;
    };
    let mut ends = text.char_indices().map(|(byte, _)| byte);
    ends.nth(points)
        .or_else(|| (text.chars().count() == points).then_some(text.len()))
}

/// The chunks so far, and where they stand in the structure.
struct Chunks<'a> {
    document: &'a ContentDigest,
    text: &'a str,
    settings: &'a Chunking,
    headings: &'a [PlacedHeading],
    /// The headings in force, as places in `headings`.
    levels: Vec<usize>,
    next_heading: usize,
    pages: &'a [PageSpan],
    page: Option<u32>,
    done: Vec<Chunk>,
    too_many: bool,
}

impl Chunks<'_> {
    /// Takes the next chunk; their starts rise.
    fn push(&mut self, span: Span) {
        if self.done.len() == CHUNKS_MAX {
            self.too_many = true;
        }
        if self.too_many || span.text(self.text).trim().is_empty() {
            return;
        }
        let start = span.start.point;
        while let Some(heading) = self.headings.get(self.next_heading)
            && heading.line.point <= start
        {
            let higher = |index: &usize| self.headings[*index].level < heading.level;
            let kept = self.levels.iter().take_while(|index| higher(index)).count();
            self.levels.truncate(kept);
            self.levels.push(self.next_heading);
            self.next_heading += 1;
        }
        while let [page, rest @ ..] = self.pages
            && page.start <= start
        {
            self.page = Some(page.number);
            self.pages = rest;
        }
        let index = u32::try_from(self.done.len()).expect("CHUNKS_MAX fits");
        let texts = self.levels.iter().map(|index| &self.headings[*index].text);
        self.done.push(Chunk {
            id: chunk_id(
                self.document,
                self.settings,
                span.start.point,
                span.end.point,
            ),
            index,
            start,
            end: span.end.point,
            byte_start: span.start.byte as u64,
            byte_end: span.end.byte as u64,
            headings: texts.cloned().collect(),
            page: self.page,
        });
    }
}

/// The id of the chunk of a document that was cut by these settings, from one code point to
/// another; `docs/format/chunks.md` describes it.
pub fn chunk_id(document: &ContentDigest, settings: &Chunking, start: u64, end: u64) -> String {
    const CONTEXT: &[u8] = b"stemma chunk 1\n";
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONTEXT);
    hasher.update(document.as_bytes());
    hasher.update(&[number(settings.strategy())]);
    hasher.update(&settings.size().to_le_bytes());
    hasher.update(&settings.overlap().to_le_bytes());
    hasher.update(&start.to_le_bytes());
    hasher.update(&end.to_le_bytes());
    hasher.finalize().to_hex().to_string()
}

/// A strategy's number in the ids of chunks, for ever.
fn number(strategy: Strategy) -> u8 {
    match strategy {
        Strategy::Sentence => 1,
        Strategy::Markdown => 2,
        Strategy::Size => 3,
    }
}
