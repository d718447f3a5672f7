//! In which encoding a text is, and its bytes as a string.
//!
//! A byte order mark decides; then whether the bytes are UTF-8; then what was declared, outside
//! or in an HTML file's own head; then a guess by the frequency of letters.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::{Declared, Format, Validated};
use crate::DocumentError;

/// Bytes of an HTML file in which it may name its encoding, as browsers have it.
const META_BYTES: usize = 1_024;

/// Bytes that a guess is made from; more change nothing.
const GUESSED_FROM_BYTES: usize = 256 << 10;

/// Of so many bytes of a text at most one is a control character.
const BYTES_PER_CONTROL: usize = 200;

/// Whether bytes are text in some encoding: few control characters, and no marks of UTF-32.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    if bytes.starts_with(&[0xff, 0xfe, 0, 0]) || bytes.starts_with(&[0, 0, 0xfe, 0xff]) {
        return false;
    }
    if Encoding::for_bom(bytes).is_some() || utf16_without_mark(bytes).is_some() {
        return true;
    }
    let is_control = |byte: &u8| matches!(byte, 0..=7 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f);
    let controls = bytes.iter().filter(|byte| is_control(byte)).count();
    controls * BYTES_PER_CONTROL <= bytes.len()
}

/// UTF-16 of mostly Latin text has zeroes in every other byte and hardly any between.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    const LOOKED_AT_BYTES: usize = 4_096;
    let head = &bytes[..bytes.len().min(LOOKED_AT_BYTES)];
    if head.len() < 8 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let zeroes = |first: usize| {
        head.iter()
            .skip(first)
            .step_by(2)
            .filter(|b| **b == 0)
            .count()
    };
    let (even, odd, pairs) = (zeroes(0), zeroes(1), head.len() / 2);
    if odd * 2 > pairs && even * 20 < pairs {
        Some(UTF_16LE)
    } else if even * 2 > pairs && odd * 20 < pairs {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// The first characters of a text, for looking at.
pub(super) fn head(bytes: &[u8], bytes_max: usize) -> String {
    let head = &bytes[..bytes.len().min(bytes_max)];
    let encoding = utf16_without_mark(bytes).unwrap_or(UTF_8);
    encoding.decode(head).0.into_owned()
}

/// Notes the encoding of a text.
///
/// # Errors
/// [`DocumentError::Empty`] if there is nothing but white space.
pub(super) fn fill(
    bytes: &[u8],
    declared: &Declared<'_>,
    validated: &mut Validated,
) -> Result<(), DocumentError> {
    if let Some((encoding, mark_bytes)) = Encoding::for_bom(bytes) {
        if bytes.len() == mark_bytes {
            return Err(DocumentError::Empty);
        }
        validated.encoding = Some(encoding.name().to_owned());
        validated.byte_order_mark = true;
        return Ok(());
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(DocumentError::Empty);
    }
    let named = declared.media_type.and_then(charset).or_else(|| {
        let head = &bytes[..bytes.len().min(META_BYTES)];
        (validated.format == Format::Html).then(|| named_in_html(head))?
    });
    let named = named.and_then(|label| Encoding::for_label(label.as_bytes()));
    let escapes = bytes.contains(&0x1b);
    let encoding = if let Some(encoding) = utf16_without_mark(bytes) {
        encoding
    } else if std::str::from_utf8(bytes).is_ok() && !escapes {
        UTF_8
    } else if let Some(encoding) = named.filter(|named| usable(named, bytes)) {
        encoding
    } else if std::str::from_utf8(bytes).is_ok() {
        UTF_8
    } else {
        let encoding = guess(bytes);
        validated.warnings.push(format!(
            "the encoding is not UTF-8 and not declared; read as {}",
            encoding.name()
        ));
        encoding
    };
    validated.encoding = Some(encoding.name().to_owned());
    Ok(())
}

/// A declared encoding that bytes which are not UTF-8 may well be in.
fn usable(named: &'static Encoding, bytes: &[u8]) -> bool {
    let is_utf16 = named == UTF_16LE || named == UTF_16BE;
    !is_utf16 && named != encoding_rs::REPLACEMENT && (named != UTF_8 || mostly_utf8(bytes))
}

/// Whether bytes that are not UTF-8 are so in few places: a file with a scar, not another encoding.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut broken, mut whole) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    whole > 10 * broken
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    if mostly_utf8(bytes) {
        return UTF_8;
    }
    let first = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
    let from = first.saturating_sub(GUESSED_FROM_BYTES / 2);
    let to = bytes.len().min(from + GUESSED_FROM_BYTES);
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(&bytes[from..to], to == bytes.len());
    detector.guess(None, Utf8Detection::Allow)
}

/// The parameter `charset` of a media type.
fn charset(media_type: &str) -> Option<String> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// What an HTML file says of its encoding: what follows the first `charset=` in its head.
fn named_in_html(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let after = head.split_once("<meta")?.1.split_once("charset")?.1;
    let value = after.trim_start().strip_prefix('=')?.trim_start();
    let value = value.trim_start_matches(['"', '\'']);
    let end = value
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':')))
        .unwrap_or(value.len());
    Some(value[..end].to_owned())
}

/// The text of a file, without its byte order mark. UTF-8 is taken as it is, not copied.
///
/// What stands for no character, and U+0000, becomes U+FFFD, and a warning says how often.
pub(crate) fn decode(bytes: Vec<u8>, validated: &Validated, warnings: &mut Vec<String>) -> String {
    let label = validated.encoding.as_deref().unwrap_or("UTF-8");
    let encoding = Encoding::for_label(label.as_bytes()).unwrap_or(UTF_8);
    let whole = match String::from_utf8(bytes) {
        Ok(text) if encoding == UTF_8 && !validated.byte_order_mark => text,
        Ok(text) => decode_copying(text.as_bytes(), encoding, warnings),
        Err(error) => decode_copying(error.as_bytes(), encoding, warnings),
    };
    let zeroes = whole.bytes().filter(|byte| *byte == 0).count();
    if zeroes == 0 {
        return whole;
    }
    warnings.push(format!("{zeroes} zero bytes were replaced by U+FFFD"));
    whole.replace('\0', "\u{fffd}")
}

fn decode_copying(bytes: &[u8], encoding: &'static Encoding, warnings: &mut Vec<String>) -> String {
    let (text, _, broken) = encoding.decode(bytes);
    if broken {
        warnings.push(format!(
            "some bytes are not {} and were replaced by U+FFFD",
            encoding.name()
        ));
    }
    match text {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Declared, validate};
    use super::*;
    use crate::Limits;

    fn read(bytes: &[u8], name: &str, media_type: Option<&str>) -> (String, String, Vec<String>) {
        let declared = Declared {
            file_name: name,
            media_type,
        };
        let validated = validate(bytes, &declared, &Limits::default()).unwrap();
        let mut warnings = validated.warnings.clone();
        let text = decode(bytes.to_vec(), &validated, &mut warnings);
        (validated.encoding.unwrap(), text, warnings)
    }

    #[test]
    fn utf_8_stays_as_it_is() {
        let text = "Grüße, 世界 👩‍👩‍👧\r\n";
        let (encoding, read, warnings) = read(text.as_bytes(), "a.txt", None);
        assert_eq!((encoding.as_str(), read.as_str()), ("UTF-8", text));
        assert!(warnings.is_empty());
    }

    #[test]
    fn utf_16_is_read_with_its_mark_and_without() {
        let units: Vec<u16> = "Hello, wörld and more".encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|u| u.to_be_bytes()).collect();
        let marked = [&b"\xff\xfe"[..], &little].concat();
        for (bytes, name) in [
            (&little, "UTF-16LE"),
            (&big, "UTF-16BE"),
            (&marked, "UTF-16LE"),
        ] {
            let (encoding, text, _) = read(bytes, "a.txt", None);
            assert_eq!(
                (encoding.as_str(), text.as_str()),
                (name, "Hello, wörld and more")
            );
        }
    }

    #[test]
    fn a_lone_surrogate_is_replaced_with_a_warning() {
        let (_, text, warnings) = read(b"\xff\xfea\0\x00\xd8b\0", "a.txt", None);
        assert_eq!(text, "a\u{fffd}b");
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn what_is_declared_is_believed_where_utf_8_is_out() {
        let koi8 = b"\xf0\xd2\xc9\xd7\xc5\xd4";
        let (encoding, text, _) = read(koi8, "a.txt", Some("text/plain; charset=\"KOI8-R\""));
        assert_eq!((encoding.as_str(), text.as_str()), ("KOI8-R", "Привет"));
        let html = b"<html><meta charset='windows-1251'><p>\xcf\xf0\xe8\xe2\xe5\xf2";
        let (encoding, text, _) = read(html, "a.html", None);
        assert_eq!(encoding, "windows-1251");
        assert!(text.ends_with("Привет"));
    }

    #[test]
    fn an_old_encoding_is_guessed_and_said_to_be() {
        let latin = b"Die Stra\xdfe f\xfchrt \xfcber die Br\xfccke nach K\xf6ln.";
        let (encoding, text, warnings) = read(latin, "a.txt", None);
        assert_eq!(encoding, "windows-1252");
        assert_eq!(text, "Die Straße führt über die Brücke nach Köln.");
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn zero_bytes_in_a_text_keep_their_places() {
        let mut bytes = vec![b'a'; 1_000];
        bytes[5] = 0;
        let (_, text, warnings) = read(&bytes, "a.txt", None);
        assert_eq!(text.chars().count(), 1_000);
        assert_eq!(text.chars().nth(5), Some('\u{fffd}'));
        assert_eq!(warnings.len(), 1);
    }
}
