//! The description of the API: for programs, and for people. Nothing is loaded from outside.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use actix_web::web::Bytes;

use crate::openapi;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /api/openapi.json`
pub(crate) async fn document() -> HttpResponse {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let text = DOCUMENT.get_or_init(|| openapi::document().to_string().into());
    send("application/json", text.clone())
}

/// `GET /docs`
pub(crate) async fn page() -> HttpResponse {
    send(
        "text/html; charset=utf-8",
        include_bytes!("../../ui/docs.html").as_slice(),
    )
}

/// `GET /docs/page.js`
pub(crate) async fn script() -> HttpResponse {
    send(
        "text/javascript; charset=utf-8",
        include_bytes!("../../ui/docs.js").as_slice(),
    )
}

/// `GET /docs/page.css`
pub(crate) async fn style() -> HttpResponse {
    send(
        "text/css; charset=utf-8",
        include_bytes!("../../ui/docs.css").as_slice(),
    )
}

/// `GET /`: leads to the description.
pub(crate) async fn home() -> HttpResponse {
    HttpResponse::Found()
        .insert_header((LOCATION, "/docs"))
        .finish()
}

fn send(kind: &'static str, body: impl Into<BytesOf>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, kind));
    response.insert_header((CONTENT_SECURITY_POLICY, POLICY));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    response.body(body.into().0)
}

/// Bytes, wherever they stand.
struct BytesOf(Bytes);

impl From<Bytes> for BytesOf {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&'static [u8]> for BytesOf {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes))
    }
}
