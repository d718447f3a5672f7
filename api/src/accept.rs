//! Which media type a client prefers (RFC 9110, section 12.5.1).

use actix_web::HttpRequest;
use actix_web::http::header::ACCEPT;

use crate::error::{ApiError, Code};

/// Of the media types that can be given, the one that the client likes best; the first when it does
/// not say, or likes several alike.
///
/// # Errors
/// 406 when it takes none of them.
pub(crate) fn choose(
    request: &HttpRequest,
    offers: &[&'static str],
) -> Result<&'static str, ApiError> {
    let values = request
        .headers()
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok());
    let accept: Vec<&str> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    best(&accept, offers).ok_or_else(|| {
        ApiError::new(
            Code::NotAcceptable,
            format!("can be given: {}", offers.join(", ")),
        )
    })
}

fn best(accept: &[&str], offers: &[&'static str]) -> Option<&'static str> {
    if accept.iter().all(|range| range.is_empty()) {
        return offers.first().copied();
    }
    let mut best: Option<(f32, &'static str)> = None;
    for offer in offers {
        let quality = quality(accept, offer);
        if quality > 0.0 && best.is_none_or(|(most, _)| quality > most) {
            best = Some((quality, offer));
        }
    }
    best.map(|(_, offer)| offer)
}

/// The quality of an offer: that of the most specific range that takes it.
fn quality(accept: &[&str], offer: &str) -> f32 {
    let kind = offer.split('/').next().unwrap_or_default();
    let mut found = (0, 0.0);
    for range in accept {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        let specificity = match name.as_str() {
            "*/*" => 1,
            name if name.strip_suffix("/*") == Some(kind) => 2,
            name if name == offer => 3,
            _ => 0,
        };
        if specificity > found.0 {
            found = (specificity, quality.unwrap_or(1.0).clamp(0.0, 1.0));
        }
    }
    found.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_that_is_liked_best_is_chosen() {
        let offers = ["application/json", "application/ld+json"];
        let chosen = |accept: &str| {
            best(
                &accept.split(',').map(str::trim).collect::<Vec<_>>(),
                &offers,
            )
        };
        for (accept, expected) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("application/ld+json", Some("application/ld+json")),
            (
                "application/*;q=0.5, application/ld+json",
                Some("application/ld+json"),
            ),
            ("application/json;q=0, */*", Some("application/ld+json")),
            ("text/html", None),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }
}
