//! What a document says: its text, and where its headings, pages and tables lie in it.
//!
//! Invariant: every span is ordered and inside the text, in code points ([`Parsed::check`]).

mod docx;
mod docx_parts;
mod html;
mod html_elements;
mod markdown;
mod pdf;
mod text_builder;

use serde::{Deserialize, Serialize};

use crate::validate::{Declared, Format, Validated, decode, validate_outside};
use crate::{DocumentError, Limits};

pub(crate) use pdf::open_pdf;

/// The text of a document, and its structure. All offsets are code points of `text`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// The text. Of plain text and Markdown in UTF-8 without a byte order mark it is the file
    /// itself, byte for byte (but for U+0000), so that offsets hold in the content too.
    pub text: String,
    /// What stands where in the text.
    #[serde(flatten)]
    pub structure: Structure,
    /// What could not be read, for people.
    pub warnings: Vec<String>,
}

/// Where the parts of a text lie. Lists are in the order of their starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Structure {
    /// The document's title, if it tells one.
    pub title: Option<String>,
    /// Its headings.
    pub headings: Vec<Heading>,
    /// Its pages, which do not overlap; none if the format has no pages.
    pub pages: Vec<PageSpan>,
    /// Its tables; one inside another comes after it.
    pub tables: Vec<Table>,
}

/// A heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// From 1, the highest, to 6; deeper ones count as 6.
    pub level: u8,
    /// Where its own text begins, in code points.
    pub start: u64,
    /// Where its own text ends, in code points.
    pub end: u64,
}

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSpan {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins, in code points.
    pub start: u64,
    /// Where it ends, in code points.
    pub end: u64,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Where it begins, in code points.
    pub start: u64,
    /// Where it ends, in code points.
    pub end: u64,
    /// Its rows, the head's included.
    pub rows: u32,
    /// The cells of its longest row.
    pub columns: u32,
}

impl Parsed {
    /// Whether every span is inside the text and in its order. What our own readers put out
    /// always is; what came from elsewhere is asked.
    pub fn check(&self) -> bool {
        let count = self.text.chars().count() as u64;
        let structure = &self.structure;
        let inside = |mut spans: Box<dyn Iterator<Item = (u64, u64)> + '_>| {
            let mut last = 0;
            spans.all(|(start, end)| {
                let ordered = last <= start && start <= end && end <= count;
                last = start;
                ordered
            })
        };
        let numbers = structure.pages.windows(2);
        let tell_pages =
            |pair: &[PageSpan]| pair[0].number < pair[1].number && pair[0].end <= pair[1].start;
        inside(Box::new(
            structure.headings.iter().map(|h| (h.start, h.end)),
        )) && inside(Box::new(structure.pages.iter().map(|p| (p.start, p.end))))
            && inside(Box::new(structure.tables.iter().map(|t| (t.start, t.end))))
            && structure
                .headings
                .iter()
                .all(|h| (1..=6).contains(&h.level))
            && numbers.into_iter().all(tell_pages)
    }
}

/// Reads a file that [`validate`](crate::validate::validate) let in.
///
/// Blocks, for as long as the document takes; it is meant for the parser's process
/// ([`child`](crate::child)). Takes the bytes, so that a text is not copied.
///
/// # Errors
/// What is wrong with the document. What can be read of a broken one is read, with warnings.
pub fn parse(
    bytes: Vec<u8>,
    validated: &Validated,
    limits: &Limits,
) -> Result<Parsed, DocumentError> {
    let parsed = match validated.format {
        Format::Pdf => {
            let (_, pdf) = open_pdf(bytes, validated.clone(), limits)?;
            pdf.read(limits)?
        }
        Format::Docx => docx::read(&bytes, limits)?,
        _ => read_text(bytes, validated, limits)?,
    };
    finish(parsed, limits)
}

/// Validates and parses, with a PDF opened but once.
///
/// # Errors
/// As [`validate`](crate::validate::validate) and [`parse`].
pub fn validate_and_parse(
    bytes: Vec<u8>,
    declared: &Declared<'_>,
    limits: &Limits,
) -> Result<(Validated, Parsed), DocumentError> {
    let validated = validate_outside(&bytes, declared, limits)?;
    if validated.format != Format::Pdf {
        let parsed = parse(bytes, &validated, limits)?;
        return Ok((validated, parsed));
    }
    let (validated, pdf) = open_pdf(bytes, validated, limits)?;
    let parsed = finish(pdf.read(limits)?, limits)?;
    Ok((validated, parsed))
}

fn read_text(
    bytes: Vec<u8>,
    validated: &Validated,
    limits: &Limits,
) -> Result<Parsed, DocumentError> {
    let mut warnings = Vec::new();
    let text = decode(bytes, validated, &mut warnings);
    let mut parsed = match validated.format {
        Format::Html => html::read(&text, limits)?,
        Format::Markdown => markdown::read(text, limits),
        _ => Parsed {
            text,
            ..Parsed::default()
        },
    };
    warnings.append(&mut parsed.warnings);
    parsed.warnings = warnings;
    Ok(parsed)
}

pub(crate) fn finish(parsed: Parsed, limits: &Limits) -> Result<Parsed, DocumentError> {
    if parsed.text.len() as u64 > limits.text_bytes_max {
        return Err(DocumentError::TextTooLarge {
            text_bytes_max: limits.text_bytes_max,
        });
    }
    if parsed.text.trim().is_empty() {
        return Err(DocumentError::NoText);
    }
    debug_assert!(parsed.check(), "spans are inside the text and ordered");
    Ok(parsed)
}
