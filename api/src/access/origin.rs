//! Requests that a page of somebody else's makes in a browser of ours.
//!
//! A browser sends its cookies, and reaches a server on its own machine, for whatever page it
//! shows. So what changes something must come from a page of our own, or from no page at all; and
//! while nobody is asked for a token, the name that the server is asked by must be one that no
//! stranger can point at it.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{
    FORWARDED, HOST, HeaderName, ORIGIN, VIA, X_FORWARDED_FOR, X_FORWARDED_HOST,
};

use super::cors::Cors;
use crate::error::{ApiError, Code};

/// Where a request comes from, as a browser sees it (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The last label of names that lead to this machine (RFC 6761, section 6.3).
const LOCALHOST: &str = "localhost";

/// Scheme, host and port, as a browser tells where a page is from: in lower case, the port left out
/// where it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// The origin of a URL, whatever path it has.
    pub(super) fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        Self::of(scheme, authority)
    }

    /// Whether pages can come from it.
    pub(super) fn is_of_the_web(&self) -> bool {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        matches!(self.scheme.as_str(), "http" | "https") && self.host.bytes().all(is_plain)
    }

    /// Whether a text is this origin and nothing more, such as a path.
    pub(super) fn is_written_as(&self, text: &str) -> bool {
        let authority = text.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.contains(['/', '?', '#']))
            && Self::read(text).as_ref() == Some(self)
    }

    fn of(scheme: &str, authority: &str) -> Option<Self> {
        let scheme = scheme.to_ascii_lowercase();
        let authority = authority.to_ascii_lowercase();
        // A colon inside brackets is part of an address.
        let port_at = authority
            .rfind(':')
            .filter(|at| !authority[*at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&authority[..at], Some(authority[at + 1..].parse().ok()?)),
            None => (authority.as_str(), None),
        };
        let own = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        (!host.is_empty()).then(|| Self {
            host: host.to_owned(),
            port: port.filter(|port| Some(*port) != own),
            scheme,
        })
    }
}

/// Where pages of our own come from: by the configured URL, else by the host that the request was
/// sent to.
fn own_origins(request: &HttpRequest, public_url: Option<&str>) -> Vec<Origin> {
    if let Some(own) = public_url.and_then(Origin::read) {
        return vec![own];
    }
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = ["http", "https"].map(|scheme| Origin::of(scheme, host));
    own.into_iter().flatten().collect()
}

/// Refuses what changes something and comes from a page of somebody else's, who is not let in by
/// the configuration either.
pub(super) fn check(
    request: &HttpRequest,
    public_url: Option<&str>,
    cors: Option<&Cors>,
) -> Result<(), ApiError> {
    if matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS") {
        return Ok(());
    }
    let text = |name: &HeaderName| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    let is_own = |text: &str| {
        let own = || own_origins(request, public_url);
        Origin::read(text).is_some_and(|from| {
            cors.is_some_and(|cors| cors.trusts(&from)) || own().contains(&from)
        })
    };
    let is_foreign = match text(&ORIGIN) {
        Some(origin) => !is_own(origin),
        None => matches!(text(&SEC_FETCH_SITE), Some("cross-site" | "same-site")),
    };
    if is_foreign {
        return Err(ApiError::of(Code::OriginRefused));
    }
    Ok(())
}

/// Refuses to be asked by a name that a stranger could have given to this machine, and by way of
/// somebody who passes requests on: where there are no tokens, nobody outside is let in.
pub(super) fn check_host(request: &HttpRequest, public_url: Option<&str>) -> Result<(), ApiError> {
    let is_passed_on = [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, VIA]
        .iter()
        .any(|name| request.headers().contains_key(name));
    let host = request.headers().get(HOST);
    let host = host.map(|host| host.to_str().unwrap_or_default());
    let is_public = |host: &str| {
        let public = public_url.and_then(Origin::read);
        public.is_some_and(|own| Origin::of("http", host).is_some_and(|at| at.host == own.host))
    };
    let is_ours = |host: &str| is_of_this_machine(host) || is_public(host);
    if is_passed_on || !host.is_none_or(is_ours) {
        return Err(ApiError::of(Code::HostRefused));
    }
    Ok(())
}

/// Whether a host, with a port or without, is `localhost` or an address.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case(LOCALHOST) || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_pages_of_our_own_change_something() {
        let asked_at = |url: &str, request: TestRequest| {
            let request = request.to_http_request();
            check(&request, Some(url), None).is_ok()
        };
        let asked = |request| asked_at("http://127.0.0.1:8470", request);
        assert!(asked(TestRequest::post()));
        assert!(asked(
            TestRequest::post().insert_header(("origin", "http://127.0.0.1:8470"))
        ));
        assert!(asked(
            TestRequest::post().insert_header(("sec-fetch-site", "none"))
        ));
        assert!(asked(
            TestRequest::get().insert_header(("origin", "http://evil.example"))
        ));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8471", ""] {
            let request = TestRequest::post().insert_header(("origin", origin));
            assert!(!asked(request), "{origin}");
        }
        let cross = TestRequest::delete().insert_header(("sec-fetch-site", "cross-site"));
        assert!(!asked(cross));
    }

    #[test]
    fn the_configured_url_may_have_a_path_a_port_and_capitals() {
        for url in [
            "https://X.example/stemma",
            "https://x.example:443",
            "HTTPS://x.example/",
        ] {
            let own = TestRequest::post().insert_header(("origin", "https://x.example"));
            let own = own.to_http_request();
            assert!(check(&own, Some(url), None).is_ok(), "{url}");
            let other = TestRequest::post().insert_header(("origin", "http://x.example"));
            let other = other.to_http_request();
            assert!(check(&other, Some(url), None).is_err(), "{url}");
        }
    }

    #[test]
    fn without_tokens_nobody_is_let_in_by_way_of_another_server() {
        let direct = TestRequest::get().insert_header(("host", "127.0.0.1:8470"));
        let direct = direct.to_http_request();
        assert!(check_host(&direct, None).is_ok());
        let passed_on = TestRequest::get()
            .insert_header(("host", "127.0.0.1:8470"))
            .insert_header(("x-forwarded-for", "203.0.113.7"));
        let passed_on = passed_on.to_http_request();
        assert!(check_host(&passed_on, None).is_err());
    }

    #[test]
    fn a_name_that_a_stranger_may_own_is_not_ours() {
        for ours in [
            "localhost",
            "127.0.0.1:80",
            "[::1]:8470",
            "10.1.2.3",
            "a.localhost:1",
            "LOCALHOST",
            "A.LocalHost:1",
        ] {
            assert!(is_of_this_machine(ours), "{ours}");
        }
        for strange in [
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil",
            "evillocalhost",
            "localhost.",
            "",
            "[::1",
        ] {
            assert_eq!(is_of_this_machine(strange), strange == "[::1", "{strange}");
        }
    }
}
