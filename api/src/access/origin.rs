//! Requests that a page of somebody else's makes in a browser of ours.
//!
//! A browser sends its cookies, and reaches a server on its own machine, for whatever page it
//! shows. So what changes something must come from a page of our own, or from no page at all; and
//! while nobody is asked for a token, the name that the server is asked by must be one that no
//! stranger can point at it.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, ORIGIN};

use crate::error::{ApiError, Code};

/// Refuses what changes something and comes from a page of somebody else's.
pub(super) fn check(request: &HttpRequest, bases: &[String]) -> Result<(), ApiError> {
    if matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS") {
        return Ok(());
    }
    let text = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    let is_own = |origin: &str| bases.iter().any(|base| base == origin);
    let is_foreign = match text(ORIGIN.as_str()) {
        Some(origin) => !is_own(origin),
        None => matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")),
    };
    if is_foreign {
        return Err(ApiError::of(Code::OriginRefused));
    }
    Ok(())
}

/// Refuses to be asked by a name that a stranger could have given to this machine.
pub(super) fn check_host(request: &HttpRequest, public_url: Option<&str>) -> Result<(), ApiError> {
    let Some(host) = request.headers().get(HOST) else {
        return Ok(());
    };
    let host = host.to_str().unwrap_or_default();
    if public_url.is_some_and(|url| authority(url) == host) || is_of_this_machine(host) {
        return Ok(());
    }
    Err(ApiError::of(Code::HostRefused))
}

/// The host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Whether a host, with a port or without, is `localhost` or an address.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_pages_of_our_own_change_something() {
        let bases = ["http://127.0.0.1:8470".to_owned()];
        let asked = |request: TestRequest| check(&request.to_http_request(), &bases).is_ok();
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
    fn a_name_that_a_stranger_may_own_is_not_ours() {
        for ours in [
            "localhost",
            "127.0.0.1:80",
            "[::1]:8470",
            "10.1.2.3",
            "a.localhost:1",
        ] {
            assert!(is_of_this_machine(ours), "{ours}");
        }
        for strange in [
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil",
            "",
            "[::1",
        ] {
            assert_eq!(is_of_this_machine(strange), strange == "[::1", "{strange}");
        }
        assert_eq!(authority("https://stemma.example:1/x"), "stemma.example:1");
    }
}
