//! What a file is, and whether it may come in.
//!
//! The content decides what a file is. What the sender said of it, by media type and by name, can
//! only agree, choose among kinds of text, or be the reason for a refusal.

mod archive;
mod encoding;
mod file_name;
mod sniff;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use archive::{Archive, Counted, refusal};
pub(crate) use encoding::decode;
pub use file_name::{FILE_NAME_BYTES_MAX, safe_file_name};
use sniff::{Found, Kind};

use crate::{DocumentError, Limits};

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Portable Document Format.
    Pdf,
    /// A text document of Office Open XML.
    Docx,
    /// HTML, of any age.
    Html,
    /// CommonMark with tables and front matter.
    Markdown,
    /// Any other text.
    PlainText,
}

impl Format {
    /// The media type without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Docx => sniff::DOCX,
            Self::Html => "text/html",
            Self::Markdown => "text/markdown",
            Self::PlainText => "text/plain",
        }
    }

    /// Whether the file itself is text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Html | Self::Markdown | Self::PlainText)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
            Self::Html => "HTML",
            Self::Markdown => "Markdown",
            Self::PlainText => "plain text",
        })
    }
}

/// What the sender said of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared<'a> {
    /// The file's name, as it was sent.
    pub file_name: &'a str,
    /// The media type, with its parameters, if there was one.
    pub media_type: Option<&'a str>,
}

/// What a file that may come in was found to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validated {
    /// By which reader it is read.
    pub format: Format,
    /// Its media type without parameters.
    pub media_type: String,
    /// The encoding of a file that is text, by the name of the WHATWG's standard.
    pub encoding: Option<String>,
    /// Whether a file that is text begins with a byte order mark.
    pub byte_order_mark: bool,
    /// The pages of a PDF, as it counts them.
    pub page_count: Option<u32>,
    /// What is odd about the file, for people.
    pub warnings: Vec<String>,
}

/// Looks at a file and says what it is.
///
/// Blocks; a PDF's structure is read, and every entry of a DOCX is inflated once, piece by piece.
/// It is meant for the parser's process ([`child`](crate::child)).
///
/// # Errors
/// Why the file is refused: see [`DocumentError`]. All of them are permanent.
pub fn validate(
    bytes: &[u8],
    declared: &Declared<'_>,
    limits: &Limits,
) -> Result<Validated, DocumentError> {
    let validated = validate_outside(bytes, declared, limits)?;
    if validated.format != Format::Pdf {
        return Ok(validated);
    }
    crate::parse::open_pdf(bytes.to_vec(), validated, limits).map(|(validated, _)| validated)
}

/// The same, without opening a PDF.
pub(crate) fn validate_outside(
    bytes: &[u8],
    declared: &Declared<'_>,
    limits: &Limits,
) -> Result<Validated, DocumentError> {
    if bytes.is_empty() {
        return Err(DocumentError::Empty);
    }
    if bytes.len() as u64 > limits.bytes_max {
        return Err(DocumentError::TooLarge {
            bytes_max: limits.bytes_max,
        });
    }
    let found = sniff::sniff(bytes, limits)?;
    let (format, encoding) = match found {
        Found::Pdf => (Format::Pdf, None),
        Found::Docx => (Format::Docx, None),
        Found::Text { html } => (choose_text(declared, html), Some(declared)),
        Found::Other(found) => return Err(refuse(declared, found)),
    };
    agree(declared, format)?;
    let mut validated = Validated {
        format,
        media_type: format.media_type().to_owned(),
        encoding: None,
        byte_order_mark: false,
        page_count: None,
        warnings: Vec::new(),
    };
    if let Some(declared) = encoding {
        encoding::fill(bytes, declared, &mut validated)?;
    }
    if format == Format::Docx {
        Archive::open(bytes, limits)?.inflate_all(&mut validated.warnings)?;
    }
    Ok(validated)
}

/// As what a text is read. The media type goes first; `text/plain`, which programs send when they
/// know no better, leaves the choice of Markdown to the name.
fn choose_text(declared: &Declared<'_>, looks_like_html: bool) -> Format {
    let named = sniff::kind_of_name(declared.file_name);
    match declared.media_type.and_then(sniff::kind_of_media_type) {
        Some(Kind::Read(format)) if format == Format::Html || format == Format::Markdown => format,
        Some(Kind::Read(Format::PlainText)) => match named {
            Some(Kind::Read(Format::Markdown)) => Format::Markdown,
            _ => Format::PlainText,
        },
        _ => match named {
            Some(Kind::Read(format)) if format.is_text() => format,
            _ if looks_like_html => Format::Html,
            _ => Format::PlainText,
        },
    }
}

/// Refuses a file whose media type or name promised another format than it has.
fn agree(declared: &Declared<'_>, format: Format) -> Result<(), DocumentError> {
    let agrees = |kind: &Kind| match kind {
        Kind::Read(other) => *other == format || other.is_text() && format.is_text(),
        Kind::NotRead => false,
    };
    let by_media_type = declared.media_type.and_then(sniff::kind_of_media_type);
    let by_name = sniff::kind_of_name(declared.file_name);
    let said = if by_media_type.is_some_and(|kind| !agrees(&kind)) {
        declared.media_type.map(sniff::essence).unwrap_or_default()
    } else if by_name.is_some_and(|kind| !agrees(&kind)) {
        name_for_people(declared.file_name)
    } else {
        return Ok(());
    };
    Err(DocumentError::TypeMismatch {
        declared: said,
        found: format.media_type().to_owned(),
    })
}

/// The error for content that no reader reads.
fn refuse(declared: &Declared<'_>, found: String) -> DocumentError {
    let promised = |kind: Option<Kind>| matches!(kind, Some(Kind::Read(_)));
    if let Some(media_type) = declared
        .media_type
        .filter(|media_type| promised(sniff::kind_of_media_type(media_type)))
    {
        return DocumentError::TypeMismatch {
            declared: sniff::essence(media_type),
            found,
        };
    }
    if promised(sniff::kind_of_name(declared.file_name)) {
        return DocumentError::TypeMismatch {
            declared: name_for_people(declared.file_name),
            found,
        };
    }
    DocumentError::UnsupportedType { found }
}

/// A file by its extension.
fn name_for_people(file_name: &str) -> String {
    let extension = sniff::extension(file_name).unwrap_or_default();
    format!("a file named *.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], name: &str, media_type: Option<&str>) -> Result<Format, DocumentError> {
        let declared = Declared {
            file_name: name,
            media_type,
        };
        validate(bytes, &declared, &Limits::default()).map(|validated| validated.format)
    }

    #[test]
    fn a_program_named_like_a_pdf_is_refused_with_both_types_named() {
        let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
        program.resize(256, 0);
        let error = check(&program, "invoice.pdf", None).unwrap_err();
        let DocumentError::TypeMismatch { declared, found } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(declared, "a file named *.pdf");
        assert_eq!(found, "application/x-executable");
        let error = check(&program, "x", Some("application/pdf")).unwrap_err();
        assert_eq!(error.code(), "TYPE_MISMATCH");
        let error = check(&program, "program", None).unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED_TYPE");
    }

    #[test]
    fn a_picture_named_like_a_text_is_refused() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
        let error = check(png, "notes.txt", Some("text/plain")).unwrap_err();
        assert_eq!(error.code(), "TYPE_MISMATCH");
        assert!(error.to_string().contains("image/png"), "{error}");
    }

    #[test]
    fn text_sent_as_a_pdf_is_refused() {
        let error = check(b"just words", "a.pdf", Some("application/pdf")).unwrap_err();
        assert_eq!(error.code(), "TYPE_MISMATCH");
    }

    #[test]
    fn what_kind_of_text_it_is_is_told_by_type_then_by_name_then_by_looks() {
        let html = b"<!DOCTYPE html><p>x";
        let of = |bytes: &[u8], name: &str, media_type| check(bytes, name, media_type).unwrap();
        assert_eq!(of(html, "a", None), Format::Html);
        assert_eq!(of(html, "a.txt", Some("text/plain")), Format::PlainText);
        assert_eq!(
            of(html, "a.html", Some("text/html; charset=utf-8")),
            Format::Html
        );
        assert_eq!(of(b"# x", "a.md", Some("text/plain")), Format::Markdown);
        assert_eq!(
            of(b"# x", "a.MD", Some("application/octet-stream")),
            Format::Markdown
        );
        assert_eq!(of(b"# x", "a", Some("text/markdown")), Format::Markdown);
        assert_eq!(of(b"fn main() {}", "a.rs", None), Format::PlainText);
        assert_eq!(
            of(b"{}", "a.json", Some("application/json")),
            Format::PlainText
        );
        assert_eq!(
            of(b"MZ and BM are letters", "a.txt", None),
            Format::PlainText
        );
    }

    #[test]
    fn a_text_that_mentions_a_pdf_header_stays_a_text() {
        let text = b"Every PDF begins with\n%PDF-1.7\n";
        assert_eq!(check(text, "a.txt", None).unwrap(), Format::PlainText);
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert_eq!(check(b"", "a.txt", None).unwrap_err(), DocumentError::Empty);
        assert_eq!(
            check(b" \n\t ", "a.txt", None).unwrap_err(),
            DocumentError::Empty
        );
        let limits = Limits {
            bytes_max: 3,
            ..Limits::default()
        };
        let error = validate(b"four", &Declared::default(), &limits).unwrap_err();
        assert_eq!(error, DocumentError::TooLarge { bytes_max: 3 });
    }

    #[test]
    fn an_encrypted_office_file_is_told_from_an_old_one() {
        let mut file = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
        file.resize(1024, 0);
        let old = check(&file, "a.doc", None).unwrap_err();
        assert_eq!(old.code(), "UNSUPPORTED_TYPE");
        for unit in "EncryptedPackage".encode_utf16() {
            file.extend(unit.to_le_bytes());
        }
        let encrypted = check(&file, "a.docx", None).unwrap_err();
        assert_eq!(encrypted.code(), "ENCRYPTED");
    }
}
