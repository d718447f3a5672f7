//! Pages of other origins that the configuration lets in (`http.cors_origins`).
//!
//! Invariants: a page that is not named reads nothing; cookies count for origins that are named,
//! never for `*`; and `*` lets nobody in while the server asks nobody for a token.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};

use super::origin::Origin;

/// What a page may send.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// With which headers, besides those that need no leave.
const HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-modified-since, if-none-match, if-range, last-event-id, range, traceparent, x-request-id";
/// What it may read of an answer's head, besides what needs no leave.
const EXPOSED: &str = "allow, content-disposition, content-range, etag, idempotency-replayed, link, location, retry-after, stemma-next-cursor, stemma-position, stemma-source, stemma-warning, www-authenticate, x-request-id";
/// How long a browser need not ask again, in seconds.
const MAX_AGE_S: &str = "600";

/// The origins that are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cors {
    /// Those that are named.
    Named(Vec<Origin>),
    /// All, without cookies.
    Any,
}

/// Leave for one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leave {
    origin: HeaderValue,
    is_named: bool,
}

impl Cors {
    /// Reads the origins of the configuration; none where it names none.
    ///
    /// # Errors
    /// The one that is no origin.
    pub(crate) fn read(origins: &[String]) -> Result<Option<Self>, String> {
        match origins {
            [] => return Ok(None),
            [only] if only == "*" => return Ok(Some(Self::Any)),
            _ => {}
        }
        let named = origins.iter().map(|text| {
            let origin = Origin::read(text).filter(Origin::is_of_the_web);
            origin
                .filter(|origin| origin.is_written_as(text))
                .ok_or_else(|| text.clone())
        });
        named
            .collect::<Result<_, _>>()
            .map(|named| Some(Self::Named(named)))
    }

    /// Whether pages of an origin are ours as far as changes by cookie go.
    pub(super) fn trusts(&self, origin: &Origin) -> bool {
        matches!(self, Self::Named(named) if named.contains(origin))
    }

    /// What the page that a request comes from may do. `asks_nobody` says that the server has no
    /// tokens.
    pub(crate) fn leave(&self, request: &HttpRequest, asks_nobody: bool) -> Option<Leave> {
        let value = request.headers().get(ORIGIN)?;
        match self {
            Self::Any => (!asks_nobody).then(|| Leave {
                origin: HeaderValue::from_static("*"),
                is_named: false,
            }),
            Self::Named(_) => {
                let origin = Origin::read(value.to_str().ok()?)?;
                self.trusts(&origin).then(|| Leave {
                    origin: value.clone(),
                    is_named: true,
                })
            }
        }
    }

    /// What every answer says: that others would be answered otherwise.
    pub(crate) fn vary(&self, headers: &mut HeaderMap) {
        if matches!(self, Self::Named(_)) {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

impl Leave {
    /// The answer to a browser that asks before it sends, if that is what this request is.
    pub(crate) fn preflight(request: &HttpRequest) -> Option<HttpResponse> {
        let asks = request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        (request.method() == Method::OPTIONS && asks).then(|| {
            HttpResponse::build(StatusCode::NO_CONTENT)
                .insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
                .insert_header((ACCESS_CONTROL_MAX_AGE, MAX_AGE_S))
                .finish()
        })
    }

    /// Says so in an answer.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        if self.is_named {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(origins: &[&str]) -> Result<Option<Cors>, String> {
        let origins: Vec<String> = origins.iter().map(|text| (*text).to_owned()).collect();
        Cors::read(&origins)
    }

    fn leave(cors: &Cors, origin: &'static str, asks_nobody: bool) -> Option<Leave> {
        let request = TestRequest::get().insert_header(("origin", origin));
        cors.leave(&request.to_http_request(), asks_nobody)
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_more() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["*"]), Ok(Some(Cors::Any)));
        assert!(read(&["https://a.example", "http://localhost:3000"]).is_ok());
        for wrong in [
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "null",
            "ftp://a",
            "https://*",
            "https://u@a.example",
            "",
        ] {
            assert_eq!(read(&[wrong]), Err(wrong.to_owned()));
        }
        // All and some is a mistake.
        assert_eq!(read(&["*", "https://a.example"]), Err("*".to_owned()));
    }

    #[test]
    fn cookies_are_for_named_origins_and_all_are_let_in_by_token_alone() {
        let named = read(&["https://a.example"]).unwrap().unwrap();
        assert!(leave(&named, "https://a.example", true).unwrap().is_named);
        for stranger in [
            "https://a.example:444",
            "http://a.example",
            "https://a.example.evil",
            "null",
        ] {
            assert_eq!(leave(&named, stranger, false), None, "{stranger}");
        }
        let all = Cors::Any;
        let leave_for_all = leave(&all, "https://a.example", false).unwrap();
        assert!(!leave_for_all.is_named);
        let mut headers = HeaderMap::new();
        leave_for_all.tell(&mut headers);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(leave(&all, "https://a.example", true), None);
        assert!(!all.trusts(&Origin::read("https://a.example").unwrap()));
    }
}
