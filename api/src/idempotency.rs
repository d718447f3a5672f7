//! `Idempotency-Key`: what makes a write safe to send again.

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
    let parts = [
        request.method().as_str().as_bytes(),
        request.path().as_bytes(),
        request.query_string().as_bytes(),
        precondition,
    ];
    Ok(Some(Idempotency {
        key: digest(&[context.actor.as_bytes(), key.as_bytes()]),
        request: digest(&[&parts[..], asked].concat()),
    }))
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
