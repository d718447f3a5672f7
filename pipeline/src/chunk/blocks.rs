//! Cutting at headings, then between blocks.
//!
//! A section, from one heading to the next, that fits into a chunk stays whole, and such sections
//! share chunks. A longer one begins a chunk and is cut between its blocks: paragraphs, and fenced
//! code, which stays whole when it fits and is cut between its lines when it does not.

use super::packer::Packer;
use super::{Place, Span, sentences, split};

/// Cuts a text whose sections begin at `starts`, which rise.
pub(super) fn cut<F: FnMut(Span)>(
    text: &str,
    starts: impl Iterator<Item = Place>,
    size: u32,
    packer: &mut Packer<F>,
) {
    let mut start = Place::default();
    let mut after_long = false;
    let mut section = |start: Place, end: Place| {
        let Some(span) = (Span { start, end }).trimmed(text) else {
            return;
        };
        if span.points() <= u64::from(size) {
            packer.push(span, after_long);
            after_long = false;
            return;
        }
        let mut begins = true;
        blocks(text, span, size, &mut |piece| {
            packer.push(piece, begins);
            begins = false;
        });
        after_long = true;
    };
    for next in starts {
        if next.byte > start.byte {
            section(start, next);
            start = next;
        }
    }
    let end = start.after(&text[start.byte..]);
    section(start, end);
}

/// A fence that code stands behind: its character and how often it stands there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fence {
    mark: char,
    count: usize,
}

impl Fence {
    /// The fence that a line is, if it is one.
    fn of(line: &str) -> Option<Self> {
        let indented = line.trim_start_matches(' ');
        if line.len() - indented.len() > 3 {
            return None;
        }
        let mark = indented.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let rest = indented.trim_start_matches(mark);
        let count = indented.len() - rest.len();
        let opens = count >= 3 && !(mark == '`' && rest.contains('`'));
        opens.then_some(Self { mark, count })
    }

    fn is_closed_by(self, line: &str) -> bool {
        let bare = line.trim().chars().all(|c| c == self.mark);
        let fence = Self::of(line).filter(|fence| fence.mark == self.mark);
        bare && fence.is_some_and(|fence| fence.count >= self.count)
    }
}

/// Hands out the blocks of a section, and of a block that is too long its parts.
fn blocks(text: &str, section: Span, size: u32, piece: &mut dyn FnMut(Span)) {
    let mut block = section.start;
    let mut at = section.start;
    let mut fence: Option<Fence> = None;
    for line in section.text(text).split_inclusive('\n') {
        let before = at;
        at = at.after(line);
        match fence {
            Some(open) if open.is_closed_by(line) => {
                hand_out(text, block, at, size, true, piece);
                (block, fence) = (at, None);
            }
            Some(_) => {}
            None => {
                let opened = Fence::of(line);
                if opened.is_some() || line.trim().is_empty() {
                    hand_out(text, block, before, size, false, piece);
                    block = before;
                }
                fence = opened;
            }
        }
    }
    hand_out(text, block, at, size, fence.is_some(), piece);
}

/// Hands out one block, whole if it fits.
fn hand_out(
    text: &str,
    start: Place,
    end: Place,
    size: u32,
    is_code: bool,
    piece: &mut dyn FnMut(Span),
) {
    let Some(block) = (Span { start, end }).trimmed(text) else {
        return;
    };
    if block.points() <= u64::from(size) {
        piece(block);
    } else if is_code {
        lines(text, block, size, piece);
    } else {
        sentences::cut(text, block, size, piece);
    }
}

fn lines(text: &str, block: Span, size: u32, piece: &mut dyn FnMut(Span)) {
    let mut at = block.start;
    for line in block.text(text).split_inclusive('\n') {
        let start = at;
        at = at.after(line);
        if let Some(line) = (Span { start, end: at }).trimmed(text) {
            split::cut(text, line, size, piece);
        }
    }
}
