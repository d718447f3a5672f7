//! Secrets: a key of a provider, kept out of everything that prints, and what looks like one.

use std::fmt;

/// A text that no `Debug`, message or log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What stands in the place of what looks like a secret.
const MASK: &str = "…";
/// What keys of providers and tokens begin with.
const PREFIXES: [&str; 9] = [
    "sk-", "pk-", "sk_", "hf_", "ghp_", "xai-", "gsk_", "eyJ", "stemma_",
];
/// What is said before a secret.
const BEFORE: [&str; 11] = [
    "bearer",
    "basic",
    "authorization",
    "api_key",
    "api-key",
    "apikey",
    "x-api-key",
    "key",
    "token",
    "secret",
    "password",
];
/// From this length on, letters and digits in one word are taken for a secret.
const RANDOM_CHARS_MIN: usize = 24;
/// Shortest word that is taken for a secret because of what is said before it.
const NAMED_CHARS_MIN: usize = 6;

/// A text of a stranger's server, without the words in it that look like keys or tokens: servers
/// repeat what they were sent, and the text is shown to those who do not have the key.
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = String::new();
    for piece in text.split_inclusive(|c: char| !is_of_a_word(c)) {
        let word = piece.trim_end_matches(|c: char| !is_of_a_word(c));
        if looks_secret(word, &before) {
            shown.push_str(MASK);
            shown.push_str(&piece[word.len()..]);
        } else {
            shown.push_str(piece);
        }
        if !word.is_empty() {
            before = word.to_ascii_lowercase();
        }
    }
    shown
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/*".contains(c)
}

fn looks_secret(word: &str, before: &str) -> bool {
    let has_digit = word.bytes().any(|b| b.is_ascii_digit());
    let has_letter = word.bytes().any(|b| b.is_ascii_alphabetic());
    let is_prefixed = PREFIXES.iter().any(|prefix| {
        let rest = word.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.len() >= NAMED_CHARS_MIN)
    });
    let is_named = BEFORE.contains(&before) && has_digit && word.len() >= NAMED_CHARS_MIN;
    let is_path = word.contains('/') && word.starts_with(['/', '.']);
    let is_random = has_digit && has_letter && word.len() >= RANDOM_CHARS_MIN && !is_path;
    is_prefixed || is_named || is_random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_key_is_masked_and_all_else_is_left() {
        for (said, shown) in [
            (
                "Incorrect API key provided: sk-abcdef***wxyz.",
                "Incorrect API key provided: …",
            ),
            ("Authorization: Bearer s3cr3t7", "Authorization: Bearer …"),
            ("{\"api_key\":\"hunter22\"}", "{\"api_key\":\"…\"}"),
            ("unknown word 0123456789abcdef0123456789", "unknown word …"),
            ("eyJhbGciOi.eyJzdWIi.c2ln was refused", "… was refused"),
            ("the key is missing", "the key is missing"),
            (
                "model llama3.2:70b not found, token limit 4096",
                "model llama3.2:70b not found, token limit 4096",
            ),
            ("", ""),
            ("äö 7", "äö 7"),
        ] {
            assert_eq!(masked(said), shown, "{said}");
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("sk-1"))),
            "Some(Secret(…))"
        );
    }
}
