//! PDF as text, page by page, with its headings and tables.
//!
//! A page that cannot be read costs a warning. The reader is a stranger's code over strangers'
//! bytes: it runs in the parser's process, and its panics are caught where a page is lost by one.

mod around;
mod cells;
mod columns;
mod grid;
mod headings;
mod lines;
mod numbers;
mod objects;
mod outline;
mod placed;
mod read;
mod rules;
mod tree;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_oxide::PdfDocument;
use pdf_oxide::error::Error as PdfError;
use pdf_oxide::object::Object;

use self::cells::Cells;
use self::headings::{CANDIDATES_MAX, Found, Told, decide};
use self::objects::{Objects, text_string};
use self::outline::Bookmarks;
use self::read::{About, Page};
use self::tree::Tree;
use super::Parsed;
use super::text_builder::{Gap, Span, TextBuilder};
use crate::validate::{Format, Validated};
use crate::{DocumentError, Limits};

/// A PDF that was opened and may be read.
pub(crate) struct Pdf {
    document: PdfDocument,
    pages: u32,
}

/// Opens a PDF: looks for encryption, counts its pages.
///
/// # Errors
/// It needs a password, has more pages than are allowed, or no structure can be made out.
pub(crate) fn open_pdf(
    bytes: Vec<u8>,
    mut validated: Validated,
    limits: &Limits,
) -> Result<(Validated, Pdf), DocumentError> {
    let document = guarded(|| PdfDocument::from_bytes(bytes))?;
    let is_encrypted = document.is_encrypted();
    if is_encrypted && !guarded(|| Ok(document.is_authenticated()))? {
        return Err(encrypted());
    }
    let pages = guarded(|| document.page_count())?;
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    if pages > limits.pages_max {
        return Err(DocumentError::TooManyPages {
            pages,
            pages_max: limits.pages_max,
        });
    }
    if pages == 0 {
        return Err(broken("it has no pages"));
    }
    if is_encrypted {
        let warning =
            "the PDF is encrypted with an empty password; whom it restricts is not looked at";
        validated.warnings.push(warning.to_owned());
    }
    validated.page_count = Some(pages);
    Ok((validated, Pdf { document, pages }))
}

impl Pdf {
    /// Reads the text of every page, and what in it is a heading or a table.
    ///
    /// # Errors
    /// None of the pages could be read; the text is too long.
    pub(crate) fn read(&self, limits: &Limits) -> Result<Parsed, DocumentError> {
        let mut builder = TextBuilder::new(limits);
        let (tree, bookmarks) = self.structure(limits);
        if tree.is_cut {
            let warning = "its structure tree is so large that it was not read to its end";
            builder.warn(warning.to_owned());
        }
        let has_tags = tree.pages.values().any(|page| !page.headings.is_empty());
        let mut told = Told::default();
        let mut found = Vec::new();
        let mut failed = Vec::new();
        let mut first_failure = None;
        for index in 0..self.pages {
            let number = index + 1;
            builder.ask(Gap::Paragraph);
            let about = About {
                tagged: tree.pages.get(&index),
                bookmarks: bookmarks.get(&index).map_or(&[], Vec::as_slice),
                has_tags,
            };
            let page = guarded(|| read::page(&self.document, index as usize, about, &mut told));
            let page = page.unwrap_or_else(|failure| {
                failed.push(number);
                first_failure.get_or_insert(failure);
                Page::default()
            });
            let start = if page.text.is_empty() {
                builder.count()
            } else {
                builder.settle()
            };
            write(&mut builder, page, &mut found);
            builder.page(number, start);
            if builder.is_full() {
                break;
            }
        }
        match first_failure {
            Some(failure) if failed.len() == self.pages as usize => return Err(failure),
            Some(failure) => builder.warn(lost(&failed, &failure)),
            None => {}
        }
        if let Some(title) = self.title() {
            builder.title(&title);
        }
        for (level, span) in decide(&found, &told) {
            builder.heading_at(level, &span);
        }
        builder.finish()
    }

    /// The structure tree and the outline, as far as they can be read.
    fn structure(&self, limits: &Limits) -> (Tree, Bookmarks) {
        let read = || {
            let mut objects = Objects::new(&self.document);
            let pages = objects.pages(limits.pages_max);
            let tree = tree::tree(&mut objects, &pages);
            let bookmarks = outline::bookmarks(&mut objects, &pages);
            Ok((tree, bookmarks))
        };
        guarded(read).unwrap_or_default()
    }

    /// The title in the document's information dictionary.
    fn title(&self) -> Option<String> {
        guarded(|| {
            let trailer = self.document.trailer().as_dict();
            let Some(information) = trailer.and_then(|entries| entries.get("Info")) else {
                return Ok(None);
            };
            let information = self.document.resolve_object(information)?;
            let title = information
                .as_dict()
                .and_then(|entries| entries.get("Title"));
            let Some(title) = title else {
                return Ok(None);
            };
            Ok(match self.document.resolve_object(title)? {
                Object::String(bytes) => Some(text_string(&bytes)),
                _ => None,
            })
        })
        .ok()
        .flatten()
    }
}

/// Runs the reader and makes an error of its panic.
fn guarded<T>(read: impl FnOnce() -> Result<T, PdfError>) -> Result<T, DocumentError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(PdfError::EncryptedPdf)) => Err(encrypted()),
        Ok(Err(error)) => Err(broken(&error.to_string())),
        Err(_) => Err(broken("its structure made the reader panic")),
    }
}

fn encrypted() -> DocumentError {
    DocumentError::Encrypted {
        format: Format::Pdf.to_string(),
        reason: "it does not open without a password".to_owned(),
    }
}

fn broken(reason: &str) -> DocumentError {
    const CHARACTERS_MAX: usize = 300;
    DocumentError::Broken {
        format: Format::Pdf,
        reason: reason.chars().take(CHARACTERS_MAX).collect(),
    }
}

/// The warning for pages that were lost.
fn lost(failed: &[u32], failure: &DocumentError) -> String {
    const NAMED_MAX: usize = 20;
    let named: Vec<String> = failed.iter().take(NAMED_MAX).map(u32::to_string).collect();
    let more = if failed.len() > NAMED_MAX {
        ", …"
    } else {
        ""
    };
    format!(
        "pages {}{more} could not be read: {failure}",
        named.join(", ")
    )
}

/// Writes a page, its tables with a line for each row and tabs between cells, and notes where in
/// the text what might be headings lies.
fn write(builder: &mut TextBuilder, page: Page, found: &mut Vec<Found<Span>>) {
    let mut headings = page.headings.into_iter().peekable();
    let mut at = 0;
    let mut piece = |builder: &mut TextBuilder, from: usize, to: usize| {
        let mut at = from;
        while let Some((range, candidate)) = headings.next_if(|(range, _)| range.end <= to) {
            if range.start < at || found.len() == CANDIDATES_MAX {
                continue;
            }
            builder.write(&page.text[at..range.start]);
            let start = builder.place();
            builder.write(&page.text[range.clone()]);
            found.push(Found {
                reason: candidate.reason,
                place: builder.span(start),
            });
            at = range.end;
        }
        builder.write(page.text[at..to].trim_end());
    };
    for (range, rows) in page.tables {
        // Of two that stand at one place the second comes behind the white space, too.
        let start = range.start.max(at);
        let before = page.text[at..start].trim_end();
        piece(builder, at, at + before.len());
        write_table(builder, &rows);
        let end = range.end.max(start);
        at = page.text.len() - page.text[end..].trim_start().len();
    }
    piece(builder, at, page.text.len());
}

fn write_table(builder: &mut TextBuilder, rows: &Cells) {
    builder.ask(Gap::Paragraph);
    let place = builder.begin_table();
    for row in rows {
        builder.ask(Gap::Line);
        for (index, cell) in row.iter().enumerate() {
            if index > 0 {
                builder.tab();
            }
            builder.write(cell);
        }
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    builder.end_table(place, count(rows.len()), count(columns));
    builder.ask(Gap::Paragraph);
}
