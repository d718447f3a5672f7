//! Entity tags: what clients hold of a resource, and what we give them (RFC 9110, section 8.8.3).

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use stemma_commands::{EntityTag, Precondition};
use stemma_domain::id::ContentDigest;

use crate::error::{ApiError, Code};

/// The tag of a resource at a revision, `"r<revision>"`.
pub(crate) fn revision_tag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"r{revision}\"")).expect("digits and quotes")
}

/// The tag of content, its digest.
pub(crate) fn digest_tag(digest: &ContentDigest) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{digest}\"")).expect("hex digits and quotes")
}

/// What `If-Match` demands before a write.
///
/// # Errors
/// 400 when it is not a list of entity tags, and for `If-None-Match`, which no write takes.
pub(crate) fn precondition(request: &HttpRequest) -> Result<Precondition, ApiError> {
    if request.headers().contains_key(IF_NONE_MATCH) {
        let detail = "a write takes If-Match, not If-None-Match";
        return Err(ApiError::new(Code::MalformedHeader, detail));
    }
    let tags = tags(request, &IF_MATCH)?;
    // A weak tag never matches where a strong one is asked for.
    let strong = |(tag, weak): (EntityTag, bool)| if weak { EntityTag::Foreign } else { tag };
    Ok(match tags {
        None => Precondition::None,
        Some(tags) => Precondition::IfMatch(tags.into_iter().map(strong).collect()),
    })
}

/// What `If-Match` demands before a read: that what is given has one of the tags, as whoever joins
/// ranges of one content wants (RFC 9110, section 13.1.1).
///
/// # Errors
/// 400 when it is not a list of entity tags, and 412 when none of them is this one.
pub(crate) fn must_match(request: &HttpRequest, own: EntityTag) -> Result<(), ApiError> {
    let Some(tags) = tags(request, &IF_MATCH)? else {
        return Ok(());
    };
    let is_met = |(tag, weak): &(EntityTag, bool)| *tag == EntityTag::Any || *tag == own && !weak;
    if tags.iter().any(is_met) {
        return Ok(());
    }
    let detail = "what is there now has none of the tags of If-Match; read it anew";
    Err(ApiError::new(Code::PreconditionFailed, detail))
}

/// Whether the client holds what has this tag, by `If-None-Match`.
///
/// # Errors
/// 400 when it is not a list of entity tags.
pub(crate) fn is_held(request: &HttpRequest, own: EntityTag) -> Result<bool, ApiError> {
    let tags = tags(request, &IF_NONE_MATCH)?.unwrap_or_default();
    Ok(tags
        .iter()
        .any(|(tag, _)| [EntityTag::Any, own].contains(tag)))
}

/// Refuses a condition where there is nothing yet whose tag could be known; a condition that was
/// passed over would have let a write through that the client did not want.
///
/// # Errors
/// 400 with the condition; `why` tells what to do.
pub(crate) fn no_precondition(request: &HttpRequest, why: &str) -> Result<(), ApiError> {
    let conditions = [IF_MATCH, IF_NONE_MATCH];
    if conditions
        .iter()
        .any(|name| request.headers().contains_key(name))
    {
        return Err(ApiError::new(Code::MalformedHeader, why));
    }
    Ok(())
}

/// The tags of a header, each with whether it is weak; none without the header.
///
/// # Errors
/// 400 when it is not a list of entity tags.
pub(crate) fn tags(
    request: &HttpRequest,
    name: &HeaderName,
) -> Result<Option<Vec<(EntityTag, bool)>>, ApiError> {
    let mut found = Vec::new();
    let mut is_there = false;
    for value in request.headers().get_all(name) {
        is_there = true;
        let text = value.to_str().ok();
        let parsed = text.and_then(parse_tags).ok_or_else(|| {
            let detail = format!("{name} is not a list of entity tags");
            ApiError::new(Code::MalformedHeader, detail)
        })?;
        found.extend(parsed);
    }
    Ok(is_there.then_some(found))
}

/// Reads `"a", W/"b"` or `*`.
pub(crate) fn parse_tags(text: &str) -> Option<Vec<(EntityTag, bool)>> {
    let mut rest = text.trim();
    if rest == "*" {
        return Some(vec![(EntityTag::Any, false)]);
    }
    let mut tags = Vec::new();
    loop {
        let weak = rest.starts_with("W/");
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (tag, behind) = quoted.split_once('"')?;
        tags.push((parse_tag(tag), weak));
        rest = behind.trim_start();
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

fn parse_tag(tag: &str) -> EntityTag {
    let revision = tag
        .strip_prefix('r')
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    if let Some(revision) = revision.and_then(|digits| digits.parse().ok()) {
        return EntityTag::Revision(revision);
    }
    tag.parse().map_or(EntityTag::Foreign, EntityTag::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_the_standard_writes_them() {
        let digest = ContentDigest::from_bytes([7; 32]);
        let text = format!("\"r5\" , W/\"{digest}\",\"x\"");
        let tags = [
            (EntityTag::Revision(5), false),
            (EntityTag::Digest(digest), true),
            (EntityTag::Foreign, false),
        ];
        assert_eq!(parse_tags(&text).unwrap(), tags);
        assert_eq!(parse_tags("*").unwrap(), [(EntityTag::Any, false)]);
        for bad in ["", "r5", "\"r5", "\"a\" \"b\"", "\"a\",", "w/\"a\""] {
            assert_eq!(parse_tags(bad), None, "{bad}");
        }
    }
}
