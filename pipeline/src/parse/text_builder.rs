//! Text that is put together piece by piece, with white space that collapses and spans that are
//! noted as it grows.
//!
//! Invariant: `count` is the number of code points written; white space that was asked for is
//! written only when text follows, so no span begins or ends with it.

use super::{Heading, PageSpan, Parsed, Structure, Table};
use crate::{DocumentError, Limits};

/// White space that stands between what was written and what comes next. A stronger one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    None,
    Space,
    Line,
    Paragraph,
}

/// A place in a text, in both units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    byte: usize,
    point: u64,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    start: Place,
    end: Place,
}

/// A text in the making.
pub(super) struct TextBuilder {
    text: String,
    count: u64,
    gap: Gap,
    structure: Structure,
    text_bytes_max: u64,
    spans_max: usize,
    overflown: bool,
    dropped: bool,
    warnings: Vec<String>,
}

impl TextBuilder {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            text: String::new(),
            count: 0,
            gap: Gap::None,
            structure: Structure::default(),
            text_bytes_max: limits.text_bytes_max,
            spans_max: usize::try_from(limits.spans_max).unwrap_or(usize::MAX),
            overflown: false,
            dropped: false,
            warnings: Vec::new(),
        }
    }

    /// Code points written so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the text has become longer than it may be; nothing is written any more.
    pub(super) fn is_full(&self) -> bool {
        self.overflown
    }

    /// Asks for white space before what comes next.
    pub(super) fn ask(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    /// What is asked for so far.
    pub(super) fn asked(&self) -> Gap {
        self.gap
    }

    /// Writes the white space that was asked for; where text will begin is returned.
    pub(super) fn settle(&mut self) -> u64 {
        let gap = std::mem::replace(&mut self.gap, Gap::None);
        let ends_line = self.text.is_empty() || self.text.ends_with('\n');
        match gap {
            Gap::Space if !ends_line && !self.text.ends_with([' ', '\t']) => self.append(" "),
            Gap::Line if !ends_line => self.append("\n"),
            Gap::Paragraph if !ends_line => self.append("\n\n"),
            Gap::Paragraph if !self.text.is_empty() && !self.text.ends_with("\n\n") => {
                self.append("\n");
            }
            _ => {}
        }
        self.count
    }

    /// Writes text as it is, after the white space that was asked for.
    pub(super) fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.settle();
        self.append(text);
    }

    /// Writes text with each run of white space as one space. No-break spaces stay.
    pub(super) fn write_collapsing(&mut self, text: &str) {
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
        let mut words = text.split(is_space).peekable();
        while let Some(word) = words.next() {
            self.write(word);
            if words.peek().is_some() {
                self.ask(Gap::Space);
            }
        }
    }

    /// Writes a tab, after the end of a line if one was asked for.
    pub(super) fn tab(&mut self) {
        if self.gap < Gap::Line {
            self.gap = Gap::None;
        }
        self.settle();
        self.append("\t");
    }

    fn append(&mut self, text: &str) {
        if self.overflown {
            return;
        }
        if (self.text.len() + text.len()) as u64 > self.text_bytes_max {
            self.overflown = true;
            return;
        }
        self.text.push_str(text);
        self.count += text.chars().count() as u64;
    }

    /// Notes a heading from `start` to here, unless nothing was written since.
    pub(super) fn heading(&mut self, level: u8, start: u64) {
        let end = self.count;
        if start >= end {
            return;
        }
        if self.structure.headings.len() < self.spans_max {
            let level = level.clamp(1, 6);
            self.structure.headings.push(Heading { level, start, end });
        } else {
            self.dropped = true;
        }
    }

    /// Where text will begin, after the white space that was asked for.
    pub(super) fn place(&mut self) -> Place {
        let point = self.settle();
        let byte = self.text.len();
        Place { byte, point }
    }

    /// What was written since `start`.
    pub(super) fn span(&self, start: Place) -> Span {
        let (byte, point) = (self.text.len(), self.count);
        let end = Place { byte, point };
        Span { start, end }
    }

    /// Makes a heading of what was written before; its lines become one. Headings come in the
    /// order of their starts.
    pub(super) fn heading_at(&mut self, level: u8, span: &Span) {
        let Span { start, end } = span;
        if start.point >= end.point {
            return;
        }
        if self.structure.headings.len() >= self.spans_max {
            self.dropped = true;
            return;
        }
        if self.text[start.byte..end.byte].contains('\n') {
            // As many bytes as before, so that all that is noted stays right.
            let flat = self.text[start.byte..end.byte].replace('\n', " ");
            self.text.replace_range(start.byte..end.byte, &flat);
        }
        self.structure.headings.push(Heading {
            level: level.clamp(1, 6),
            start: start.point,
            end: end.point,
        });
    }

    /// Takes a place for a table that begins here, so that outer tables come before inner ones.
    pub(super) fn begin_table(&mut self) -> Option<usize> {
        if self.structure.tables.len() >= self.spans_max {
            self.dropped = true;
            return None;
        }
        let start = self.settle();
        self.structure.tables.push(Table {
            start,
            end: start,
            rows: 0,
            columns: 0,
        });
        Some(self.structure.tables.len() - 1)
    }

    /// Fills in a table that began at its place.
    pub(super) fn end_table(&mut self, place: Option<usize>, rows: u32, columns: u32) {
        let end = self.count;
        if let Some(table) = place.and_then(|place| self.structure.tables.get_mut(place)) {
            table.end = end.max(table.start);
            table.rows = rows;
            table.columns = columns;
        }
    }

    /// Notes a page from `start` to here.
    pub(super) fn page(&mut self, number: u32, start: u64) {
        let end = self.count;
        if self.structure.pages.len() < self.spans_max {
            self.structure.pages.push(PageSpan { number, start, end });
        } else {
            self.dropped = true;
        }
    }

    /// Gives the document a title, unless it has one or this one is blank.
    pub(super) fn title(&mut self, title: &str) {
        const CHARACTERS_MAX: usize = 1_000;
        let words: Vec<&str> = title.split_whitespace().collect();
        if self.structure.title.is_none() && !words.is_empty() {
            let title = words.join(" ").chars().take(CHARACTERS_MAX).collect();
            self.structure.title = Some(title);
        }
    }

    /// Notes what could not be read.
    pub(super) fn warn(&mut self, warning: String) {
        const WARNINGS_MAX: usize = 100;
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    /// The finished text.
    ///
    /// # Errors
    /// [`DocumentError::TextTooLarge`].
    pub(super) fn finish(mut self) -> Result<Parsed, DocumentError> {
        if self.overflown {
            return Err(DocumentError::TextTooLarge {
                text_bytes_max: self.text_bytes_max,
            });
        }
        if self.dropped {
            let warning = format!(
                "only the first {} headings or tables are noted",
                self.spans_max
            );
            self.warnings.push(warning);
        }
        self.structure
            .tables
            .retain(|table| table.start < table.end);
        Ok(Parsed {
            text: self.text,
            structure: self.structure,
            warnings: self.warnings,
        })
    }
}
