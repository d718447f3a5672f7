//! What counts as an IRI: absolute ones, and paths that begin with a slash.

/// Longest IRI.
pub(super) const IRI_BYTES_MAX: usize = 8192;

/// Whether a text can be an IRI (RFC 3987, without its finer points) or an absolute path.
pub fn is_iri(text: &str) -> bool {
    if text.is_empty() || text.len() > IRI_BYTES_MAX || !text.chars().all(is_plain) {
        return false;
    }
    text.starts_with('/') || has_scheme(text)
}

fn is_plain(c: char) -> bool {
    match c {
        '<' | '>' | '"' | '{' | '}' | '|' | '\\' | '^' | '`' => false,
        '!'..='~' => true,
        other => !other.is_whitespace() && !other.is_control(),
    }
}

/// Whether a text begins with `scheme:` and goes on after it.
fn has_scheme(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut letters = scheme.bytes();
    letters.next().is_some_and(|b| b.is_ascii_alphabetic())
        && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iris_are_absolute_or_paths() {
        for good in [
            "http://example.org/a#b",
            "urn:uuid:1",
            "/api/resources/1",
            "did:web:x",
            "http://例え.jp/",
        ] {
            assert!(is_iri(good), "{good}");
        }
        for bad in [
            "",
            "plain",
            "a b:c",
            "http:",
            "1a:b",
            "http://a b",
            "<http://a>",
            "ab",
        ] {
            assert!(!is_iri(bad), "{bad}");
        }
    }
}
