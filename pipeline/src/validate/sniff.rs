//! What the content of a file is, and what its name and media type say that it is.

use super::Format;
use super::archive::Archive;
use super::encoding;
use crate::{DocumentError, Limits};

/// The media type of a text document of Office Open XML.
pub(super) const DOCX: &str =
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

/// What marks an old Office file, and an encrypted new one.
const OLE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// Bytes in which a PDF's header may begin.
const PDF_HEADER_BYTES: usize = 1_024;

/// What content was found to be.
pub(super) enum Found {
    Pdf,
    Docx,
    Text { html: bool },
    Other(String),
}

/// What a name or a media type says of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A format that is read.
    Read(Format),
    /// Something that is certainly none of them.
    NotRead,
}

/// Tells what content is, by itself.
///
/// # Errors
/// Encrypted files, and archives that are broken or too large.
pub(super) fn sniff(bytes: &[u8], limits: &Limits) -> Result<Found, DocumentError> {
    if bytes.starts_with(b"%PDF-") {
        return Ok(Found::Pdf);
    }
    if bytes.starts_with(OLE) {
        return ole(bytes);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return zip(bytes, limits);
    }
    if encoding::is_text(bytes) {
        return Ok(Found::Text {
            html: looks_like_html(bytes),
        });
    }
    let head = &bytes[..bytes.len().min(PDF_HEADER_BYTES)];
    if head.windows(5).any(|window| window == b"%PDF-") {
        return Ok(Found::Pdf);
    }
    let media_type = infer::get(bytes).map_or("application/octet-stream", |kind| kind.mime_type());
    Ok(Found::Other(media_type.to_owned()))
}

/// An encrypted Office file has its package in a stream of that name.
fn ole(bytes: &[u8]) -> Result<Found, DocumentError> {
    const PACKAGE: &[u8] = b"E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0";
    if bytes.windows(PACKAGE.len()).any(|window| window == PACKAGE) {
        return Err(DocumentError::Encrypted {
            format: "office document".to_owned(),
            reason: "it has an encrypted package".to_owned(),
        });
    }
    Ok(Found::Other("application/x-ole-storage".to_owned()))
}

fn zip(bytes: &[u8], limits: &Limits) -> Result<Found, DocumentError> {
    let archive = match Archive::open(bytes, limits) {
        Ok(archive) => archive,
        Err(DocumentError::Broken { .. }) if !mentions_word(bytes) => {
            return Ok(Found::Other("application/zip".to_owned()));
        }
        Err(error) => return Err(error),
    };
    if archive.has(Archive::DOCUMENT) {
        return Ok(Found::Docx);
    }
    let media_type = infer::get(bytes).map_or("application/zip", |kind| kind.mime_type());
    Ok(Found::Other(if media_type == DOCX {
        "application/zip".to_owned()
    } else {
        media_type.to_owned()
    }))
}

/// Whether a broken archive was a DOCX, as the name of its main part in its first headers tells.
fn mentions_word(bytes: &[u8]) -> bool {
    let name = Archive::DOCUMENT.as_bytes();
    bytes.windows(name.len()).any(|window| window == name)
}

/// Whether text begins as HTML does: with its doctype or an early element, after white space and
/// comments (of the rules in the WHATWG's MIME Sniffing, 7.1).
fn looks_like_html(bytes: &[u8]) -> bool {
    const TAGS: [&str; 18] = [
        "<!doctype html",
        "<html",
        "<head",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<table",
        "<a",
        "<style",
        "<title",
        "<b",
        "<body",
        "<br",
        "<p",
        "<meta",
        "<article",
    ];
    const LOOKED_AT_BYTES: usize = 4_096;
    let head = encoding::head(bytes, LOOKED_AT_BYTES);
    let mut rest = head.trim_start();
    while let Some(comment) = rest.strip_prefix("<!--") {
        let Some((_, after)) = comment.split_once("-->") else {
            return true;
        };
        rest = after.trim_start();
    }
    if let Some(declaration) = rest.strip_prefix("<?xml") {
        let after = declaration.split_once("?>").map_or("", |(_, after)| after);
        rest = after.trim_start();
    }
    TAGS.iter().any(|tag| {
        let found = rest.get(..tag.len());
        let after = rest.as_bytes().get(tag.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(tag))
            && after.is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'>')
    })
}

/// A media type without its parameters, in lower case, no longer than people want to read.
pub(super) fn essence(media_type: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let visible = essence.chars().filter(|c| !c.is_control());
    visible
        .take(CHARACTERS_MAX)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// What a media type says; `None` if nothing.
pub(super) fn kind_of_media_type(media_type: &str) -> Option<Kind> {
    let essence = essence(media_type);
    let read = |format| Some(Kind::Read(format));
    match essence.as_str() {
        "application/pdf" | "application/x-pdf" => read(Format::Pdf),
        DOCX
        | "application/vnd.ms-word.document.macroenabled.12"
        | "application/vnd.openxmlformats-officedocument.wordprocessingml.template" => {
            read(Format::Docx)
        }
        "text/html" | "application/xhtml+xml" => read(Format::Html),
        "text/markdown" | "text/x-markdown" => read(Format::Markdown),
        "application/json"
        | "application/xml"
        | "application/yaml"
        | "application/toml"
        | "application/x-ndjson"
        | "application/javascript"
        | "application/x-sh"
        | "application/sql" => read(Format::PlainText),
        "text/rtf"
        | "application/rtf"
        | "application/msword"
        | "application/zip"
        | "application/gzip"
        | "application/x-msdownload"
        | "application/epub+zip" => Some(Kind::NotRead),
        _ => match essence.split('/').next() {
            Some("text") => read(Format::PlainText),
            Some("image" | "audio" | "video" | "font" | "model") => Some(Kind::NotRead),
            _ if essence.starts_with("application/vnd.openxmlformats-officedocument")
                || essence.starts_with("application/vnd.oasis.opendocument")
                || essence.starts_with("application/vnd.ms-") =>
            {
                Some(Kind::NotRead)
            }
            _ => None,
        },
    }
}

/// What follows the last dot of a file's name, in lower case, if it is short and of ASCII letters
/// and digits.
pub(super) fn extension(file_name: &str) -> Option<String> {
    const CHARACTERS_MAX: usize = 10;
    let (_, extension) = file_name.trim_end().rsplit_once('.')?;
    let plain = (1..=CHARACTERS_MAX).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| extension.to_ascii_lowercase())
}

/// What the extension of a file's name says; `None` if nothing.
pub(super) fn kind_of_name(file_name: &str) -> Option<Kind> {
    let format = match extension(file_name)?.as_str() {
        "pdf" => Format::Pdf,
        "docx" | "docm" | "dotx" => Format::Docx,
        "html" | "htm" | "xhtml" => Format::Html,
        "md" | "markdown" | "mdown" | "mkd" => Format::Markdown,
        "txt" | "text" | "log" | "csv" | "tsv" | "json" | "xml" | "yaml" | "yml" | "toml"
        | "rst" | "adoc" | "org" | "tex" | "srt" | "vtt" => Format::PlainText,
        "exe" | "dll" | "zip" | "gz" | "7z" | "rar" | "tar" | "png" | "jpg" | "jpeg" | "gif"
        | "webp" | "tif" | "tiff" | "bmp" | "mp3" | "mp4" | "wav" | "avi" | "doc" | "xls"
        | "xlsx" | "ppt" | "pptx" | "odt" | "ods" | "odp" | "epub" | "rtf" | "jar" | "iso" => {
            return Some(Kind::NotRead);
        }
        _ => return None,
    };
    Some(Kind::Read(format))
}
