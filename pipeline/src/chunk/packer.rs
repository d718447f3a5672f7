//! Packing what belongs together into chunks.

use std::collections::VecDeque;

use super::{Chunking, Span};

/// Takes pieces of at most a chunk's size in the order of the text and hands out chunks.
///
/// Invariant: what is kept is never longer than a chunk, and its last piece is in no chunk yet.
pub(super) struct Packer<F> {
    size: u64,
    overlap: u64,
    kept: VecDeque<Span>,
    chunk: F,
}

impl<F: FnMut(Span)> Packer<F> {
    pub(super) fn new(settings: &Chunking, chunk: F) -> Self {
        Self {
            size: u64::from(settings.size()),
            overlap: u64::from(settings.overlap()),
            kept: VecDeque::new(),
            chunk,
        }
    }

    /// Takes the next piece. With `begins`, a chunk begins with it, and nothing before it is
    /// repeated.
    pub(super) fn push(&mut self, piece: Span, begins: bool) {
        if let (Some(first), Some(last)) = (self.kept.front(), self.kept.back())
            && (begins || piece.end.point - first.start.point > self.size)
        {
            (self.chunk)(Span {
                start: first.start,
                end: last.end,
            });
            self.forget(piece, begins);
        }
        self.kept.push_back(piece);
    }

    /// Keeps of the last chunk what the next one repeats.
    fn forget(&mut self, piece: Span, begins: bool) {
        if begins {
            self.kept.clear();
            return;
        }
        self.kept.pop_front();
        while let (Some(first), Some(last)) = (self.kept.front(), self.kept.back()) {
            let repeated = last.end.point - first.start.point;
            let fits = piece.end.point - first.start.point <= self.size;
            if repeated <= self.overlap && fits {
                break;
            }
            self.kept.pop_front();
        }
    }

    /// Hands out the last chunk.
    pub(super) fn finish(mut self) {
        if let (Some(first), Some(last)) = (self.kept.front(), self.kept.back()) {
            (self.chunk)(Span {
                start: first.start,
                end: last.end,
            });
        }
    }
}
