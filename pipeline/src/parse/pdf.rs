//! PDF as text, page by page.
//!
//! A page that cannot be read costs a warning. The reader is a stranger's code over strangers'
//! bytes: it runs in the parser's process, and its panics are caught where a page is lost by one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_oxide::PdfDocument;
use pdf_oxide::error::Error as PdfError;
use pdf_oxide::object::Object;

use super::Parsed;
use super::text_builder::{Gap, TextBuilder};
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
    /// Reads the text of every page.
    ///
    /// # Errors
    /// None of the pages could be read; the text is too long.
    pub(crate) fn read(&self, limits: &Limits) -> Result<Parsed, DocumentError> {
        let mut builder = TextBuilder::new(limits);
        let mut failed = Vec::new();
        let mut first_failure = None;
        for index in 0..self.pages {
            let number = index + 1;
            builder.ask(Gap::Paragraph);
            let page = guarded(|| self.document.extract_text(index as usize));
            let text = page.unwrap_or_else(|failure| {
                failed.push(number);
                first_failure.get_or_insert(failure);
                String::new()
            });
            let text = readable(&text);
            let start = if text.is_empty() {
                builder.count()
            } else {
                builder.settle()
            };
            builder.write(&text);
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
        builder.finish()
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

/// A page's text without control characters, without white space at its ends and at those of its
/// lines, with at most one blank line in a row.
fn readable(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    let mut blank = 0_u32;
    for line in text.split(['\n', '\r', '\u{c}', '\u{b}']) {
        let line = line.trim_end();
        if line.is_empty() {
            blank += 1;
            continue;
        }
        if !readable.is_empty() {
            readable.push_str(if blank > 0 { "\n\n" } else { "\n" });
        }
        blank = 0;
        readable.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
    }
    readable
}

/// A text string of PDF: UTF-16 or UTF-8 with a mark, else its own encoding, which is Latin-1
/// but for a few signs.
fn text_string(bytes: &[u8]) -> String {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
