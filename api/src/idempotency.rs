//! `Idempotency-Key`: what makes a write safe to send again.

use std::borrow::Cow;

use actix_web::HttpRequest;
use stemma_event_log::Idempotency;

use crate::context::Context;
use crate::error::{ApiError, Code};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The key of a request with what it asks, digested; none without the header.
///
/// `asked` is what the request's meaning rests on beside method, path, query and `If-Match`: its
/// body, or the digest of a body that was streamed.
///
/// # Errors
/// 400 when the key is none.
pub(crate) fn of(
    request: &HttpRequest,
    context: &Context,
    asked: &[&[u8]],
) -> Result<Option<Idempotency>, ApiError> {
    let mut keys = request.headers().get_all("idempotency-key");
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let key = key.to_str().ok().map(str::trim).filter(|key| {
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| (0x20..0x7f).contains(&b))
    });
    let Some(key) = key.filter(|_| keys.next().is_none()) else {
        let detail =
            format!("Idempotency-Key is one text of 1 to {KEY_BYTES_MAX} visible characters");
        return Err(ApiError::new(Code::MalformedHeader, detail));
    };
    let precondition = request
        .headers()
        .get("if-match")
        .map_or(&[][..], |v| v.as_bytes());
    let path = plain_path(request.path());
    let parts = [
        request.method().as_str().as_bytes(),
        path.as_bytes(),
        request.query_string().as_bytes(),
        precondition,
    ];
    Ok(Some(Idempotency {
        key: digest(&[context.actor.as_bytes(), key.as_bytes()]),
        request: digest(&[&parts[..], asked].concat()),
    }))
}

/// A path as it is written most plainly: characters that need no escape have none, and the escapes
/// of others are in capitals (RFC 3986, section 6.2.2). One that has no escapes is as it was.
fn plain_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3);
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(byte) = byte else {
            plain.push('%');
            rest = &rest[at + 1..];
            continue;
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            plain.push(char::from(byte));
        } else {
            plain.push_str(&format!("%{byte:02X}"));
        }
        rest = &rest[at + 3..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// A digest of parts that no other parts have.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_written_in_two_ways_is_one_path() {
        for (path, plain) in [
            ("/api/resources/a%62c", "/api/resources/abc"),
            ("/a/x%2fy", "/a/x%2Fy"),
            ("/a/%C3%a4%7E", "/a/%C3%A4~"),
            ("/a/%", "/a/%"),
            ("/a/%zz%4", "/a/%zz%4"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(plain_path(path), plain, "{path}");
        }
    }
}
