//! Small checked texts: names, tags, media types, languages, actors.
//!
//! Invariant: a value of one of these types obeys its rule. Each rule says what it takes, so that
//! a refusal tells a client what to send instead.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text that broke its type's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ValueError {
    /// What the type takes.
    pub expected: &'static str,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`ValueError`] says what is taken.
            pub fn new(text: &str) -> Result<Self, ValueError> {
                let check: fn(&str) -> bool = $check;
                if !check(text) {
                    return Err(ValueError { expected: $expected });
                }
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = ValueError;

            fn try_from(text: String) -> Result<Self, ValueError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text! {
    /// What people call a resource. At most [`NAME_BYTES_MAX`] bytes.
    ResourceName,
    "1 to 1024 bytes of text without control characters, not only white space",
    |text| is_label(text, NAME_BYTES_MAX)
}

checked_text! {
    /// The kind of thing a resource speaks of, such as `Person`. At most [`LABEL_BYTES_MAX`] bytes.
    EntityType,
    "1 to 256 bytes of text without control characters and without white space at its ends",
    |text| is_label(text, LABEL_BYTES_MAX) && text.trim() == text
}

checked_text! {
    /// The collection that a resource was put into. At most [`LABEL_BYTES_MAX`] bytes.
    CollectionName,
    "1 to 256 bytes of text without control characters and without white space at its ends",
    |text| is_label(text, LABEL_BYTES_MAX) && text.trim() == text
}

checked_text! {
    /// A media type with its parameters, `type/subtype; name=value` (RFC 9110, section 8.3.1).
    MediaType,
    "a media type such as text/markdown or text/html; charset=utf-8, at most 256 bytes",
    is_media_type
}

checked_text! {
    /// A language tag in the form of BCP 47.
    LanguageTag,
    "a BCP 47 language tag such as en or zh-Hant",
    is_language_tag
}

checked_text! {
    /// The kind of work that a job is, such as `document.process`. At most [`JOB_KIND_BYTES_MAX`]
    /// bytes.
    JobKind,
    "1 to 64 bytes of lower-case letters, digits, `.`, `_` and `-`, beginning with a letter",
    is_job_kind
}

checked_text! {
    /// Who works on a job. At most [`LABEL_BYTES_MAX`] bytes.
    WorkerName,
    "1 to 256 bytes of text without control characters and without white space at its ends",
    |text| is_label(text, LABEL_BYTES_MAX) && text.trim() == text
}

checked_text! {
    /// The name of a file, without a path. At most [`FILE_NAME_BYTES_MAX`] bytes.
    FileName,
    "1 to 255 bytes of text without control characters, `/` and `\\`, and not `.` or `..`",
    is_file_name
}

checked_text! {
    /// Whose token it is: a person or a program. At most [`PRINCIPAL_BYTES_MAX`] bytes.
    PrincipalName,
    "1 to 64 letters, digits, `.`, `_`, `@` and `-`, and not `anonymous` or `stemma`",
    is_principal
}

checked_text! {
    /// A tenant, which is also the name of its directory. At most [`TENANT_BYTES_MAX`] bytes.
    TenantName,
    "1 to 64 letters, digits, dashes and underscores",
    |text| (1..=TENANT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Most bytes of a [`PrincipalName`].
pub const PRINCIPAL_BYTES_MAX: usize = 64;
/// Most bytes of a [`TenantName`].
pub const TENANT_BYTES_MAX: usize = 64;
/// Most bytes of a [`JobKind`].
pub const JOB_KIND_BYTES_MAX: usize = 64;
/// Most bytes of a [`FileName`].
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Most bytes of a [`ResourceName`].
pub const NAME_BYTES_MAX: usize = 1024;
/// Most bytes of an [`EntityType`] or a [`CollectionName`].
pub const LABEL_BYTES_MAX: usize = 256;
/// Most bytes of a [`MediaType`].
pub const MEDIA_TYPE_BYTES_MAX: usize = 256;

/// Types of text whose names do not tell it.
const TEXT_TYPES: [&str; 7] = [
    "application/json",
    "application/xml",
    "application/javascript",
    "application/yaml",
    "application/toml",
    "application/x-tex",
    "application/x-sh",
];

impl MediaType {
    /// `type/subtype` without parameters, in lower case.
    pub fn essence(&self) -> String {
        self.essence_as_written().to_ascii_lowercase()
    }

    fn essence_as_written(&self) -> &str {
        self.as_str().split(';').next().unwrap_or_default().trim()
    }

    /// The `charset` parameter as it was written, without quotes.
    pub fn charset(&self) -> Option<&str> {
        self.as_str().split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("charset")
                .then(|| value.trim().trim_matches('"'))
        })
    }

    /// Whether content of this type is text that positions and quotes can point into.
    pub fn is_text(&self) -> bool {
        let essence = self.essence_as_written();
        let is = |part: Option<&str>, wanted: &str| {
            part.is_some_and(|part| part.eq_ignore_ascii_case(wanted))
        };
        let starts_with = |wanted: &str| is(essence.get(..wanted.len()), wanted);
        let ends_with = |wanted: &str| {
            let at = essence.len().checked_sub(wanted.len());
            is(at.and_then(|at| essence.get(at..)), wanted)
        };
        starts_with("text/")
            || ends_with("+json")
            || ends_with("+xml")
            || TEXT_TYPES.iter().any(|wanted| is(Some(essence), wanted))
    }
}

fn is_label(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len())
        && !text.trim().is_empty()
        && !text.chars().any(char::is_control)
}

fn is_job_kind(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    text.len() <= JOB_KIND_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(is_part)
}

/// Names that the server acts under itself are nobody's.
fn is_principal(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
    (1..=PRINCIPAL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(is_part)
        && !["anonymous", "stemma"].contains(&text.to_ascii_lowercase().as_str())
}

fn is_file_name(text: &str) -> bool {
    is_label(text, FILE_NAME_BYTES_MAX)
        && !text.contains(['/', '\\'])
        && ![".", ".."].contains(&text)
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// What may stand around the parts of a header's value; no other white space can be sent in one.
const BLANKS: [char; 2] = [' ', '\t'];

fn is_media_type(text: &str) -> bool {
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim_end_matches(BLANKS);
    let essence_ok = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    text.len() <= MEDIA_TYPE_BYTES_MAX && essence_ok && parts.all(is_media_type_parameter)
}

fn is_media_type_parameter(parameter: &str) -> bool {
    let Some((name, value)) = parameter.trim_matches(BLANKS).split_once('=') else {
        return false;
    };
    let quoted = value.len() >= 2
        && value.starts_with('"')
        && value.ends_with('"')
        && value[1..value.len() - 1]
            .bytes()
            .all(|b| (0x20..0x7f).contains(&b) && b != b'"');
    is_token(name) && (quoted || is_token(value))
}

fn is_language_tag(text: &str) -> bool {
    let mut subtags = text.split('-');
    let primary = subtags.next().unwrap_or_default();
    let primary_ok =
        (1..=8).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_alphabetic());
    text.len() <= 64
        && primary_ok
        && subtags
            .all(|s| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_any_script_and_refuse_control_characters_and_excess() {
        assert!(ResourceName::new("الصوفي 🪐").is_ok());
        for bad in ["", "   ", "a\nb", "a\0b", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(ResourceName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn media_types_are_checked_and_taken_apart() {
        let html = MediaType::new("Text/HTML; Charset=\"utf-8\"").unwrap();
        assert_eq!(
            (html.essence().as_str(), html.charset()),
            ("text/html", Some("utf-8"))
        );
        for (name, is_text) in [
            ("TEXT/markdown", true),
            ("application/ld+JSON; charset=utf-8", true),
            ("Application/XML", true),
            ("application/x-texinfo", false),
            ("application/atom+XML ;charset=utf-8", true),
            ("Text/plain;charset=utf-8", true),
            ("image/png", false),
            ("x/y", false),
        ] {
            assert_eq!(MediaType::new(name).unwrap().is_text(), is_text, "{name}");
        }
        for bad in [
            "",
            "text",
            "text/",
            "text/plain; x",
            "te xt/plain",
            "text/plain\r\nX: y",
            "text/plain\n",
            "text/plain;\r\na=b",
            "text/plain;\u{a0}a=b",
        ] {
            assert!(MediaType::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn principals_and_tenants_are_plain_and_never_the_servers_own() {
        for good in ["ada", "ada@example.org", "worker-7.eu_west"] {
            assert!(PrincipalName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "Anonymous",
            "stemma",
            "server:1",
            "\u{e4}da",
            &"a".repeat(65),
        ] {
            assert!(PrincipalName::new(bad).is_err(), "{bad}");
        }
        for bad in ["", "..", "a/b", "a.b", "\0", &"a".repeat(65)] {
            assert!(TenantName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn language_tags_have_the_form_of_bcp_47() {
        assert!(
            ["en", "zh-Hant", "de-CH-1996", "x-klingon"]
                .iter()
                .all(|t| LanguageTag::new(t).is_ok())
        );
        assert!(
            ["", "e n", "en_US", "en-", "-en"]
                .iter()
                .all(|t| LanguageTag::new(t).is_err())
        );
    }
}
