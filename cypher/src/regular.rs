//! Regular expressions: `text =~ pattern`, as long as the whole text fits.
//!
//! Invariant: nothing stops a match under way, so one is begun only where the worst that it may
//! take is a fraction of a second.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::error::Error;

/// Longest pattern, in bytes: each may name a class of some kilobytes, before anything counts them.
const PATTERN_BYTES_MAX: usize = 8 << 10;
/// Largest compiled pattern, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Longest text that is matched, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most that the bytes of a text times those of the compiled pattern may be. At worst each byte of
/// the text takes a step in each state of the pattern, which is 24 bytes or more of it, and a step
/// takes about 10 ns: 2^30 / 24 * 10 ns is 0.45 s. So a pattern of 1 MiB is for texts of 1 KiB, and
/// one of 16 KiB (some tens of letters, `.`, a class such as `[a-z]`) for texts of 64 KiB. `\w` is
/// all letters of Unicode and more than 45,000 bytes by itself, so it is for texts of a few KiB; to
/// have it for texts of 64 KiB, too, a match might take some seconds.
const WORK_MAX: usize = 1 << 30;

/// A compiled pattern, and the most bytes that it was compiled to.
pub(crate) struct Compiled {
    pattern: Arc<str>,
    regex: Regex,
    bytes_max: usize,
}

/// Whether a text fits a pattern; the pattern that was compiled last is kept.
pub(crate) fn matches(
    kept: &mut Option<Compiled>,
    text: &str,
    pattern: &Arc<str>,
) -> Result<bool, Error> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::Limit {
            what: "the text that a regular expression is matched with",
            limit: format!("{TEXT_BYTES_MAX} bytes"),
        });
    }
    // In powers of two, so that not every longer text has the pattern be compiled again.
    let bytes_max = WORK_MAX / text.len().next_power_of_two();
    let bytes_max = bytes_max.min(COMPILED_BYTES_MAX);
    if let Some(last) = kept
        && last.pattern == *pattern
        && last.bytes_max <= bytes_max
    {
        return Ok(last.regex.is_match(text));
    }
    let compiled = compiled(pattern, bytes_max)?;
    Ok(kept.insert(compiled).regex.is_match(text))
}

fn compiled(pattern: &Arc<str>, bytes_max: usize) -> Result<Compiled, Error> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Error::Limit {
            what: "a regular expression",
            limit: format!("{PATTERN_BYTES_MAX} bytes"),
        });
    }
    // The pattern by itself first: it must not close the group that is put around it.
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(bytes_max).build();
    let whole = format!("^(?:{pattern})$");
    let regex = compile(pattern).and_then(|_| compile(&whole));
    let regex = regex.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => Error::Limit {
            what: "a compiled regular expression for a text of this length",
            limit: format!("{bytes_max} bytes"),
        },
        error => Error::runtime(format!("regular expression: {error}")),
    })?;
    Ok(Compiled {
        pattern: Arc::clone(pattern),
        regex,
        bytes_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(text: &str, pattern: &str) -> bool {
        let answer = matches(&mut None, text, &Arc::from(pattern));
        matches!(answer, Err(Error::Limit { .. }))
    }

    /// Such a match went on for minutes, far beyond the time of its query.
    #[test]
    fn a_match_that_could_take_long_is_refused_before_it_begins() {
        let long = "a".repeat(TEXT_BYTES_MAX);
        assert!(is_refused(&long, "(?:a?){2000}b"));
        assert!(is_refused(&format!("{long}a"), "a*"));
        assert!(is_refused("a", &"a".repeat(PATTERN_BYTES_MAX + 1)));
        assert!(is_refused("a", r"\w{1000}"));
    }

    #[test]
    fn short_texts_are_matched_with_large_patterns_and_long_ones_with_small() {
        let mut kept = None;
        let mut fits =
            |text: &str, pattern: &str| matches(&mut kept, text, &Arc::from(pattern)).unwrap();
        assert!(fits(&"a".repeat(100), "(?:a?){2000}"));
        // The same pattern again, for a longer text, and then for a short one.
        assert!(fits("ab", "(?:a|b)+"));
        assert!(fits(&"ab".repeat(40_000), "(?:a|b)+"));
        assert!(!fits("abc", "(?:a|b)+"));
        assert!(fits("Grüße, Welt", "(?i)grüße, .*"));
    }

    #[test]
    fn a_class_of_unicode_is_for_texts_of_some_kib_and_one_of_ascii_for_longer_ones() {
        let text = "a".repeat(64 << 10);
        assert!(is_refused(&text, r".*\w+.*"));
        for (length, pattern) in [(4 << 10, r".*\w+.*"), (64 << 10, ".*[A-Za-z0-9_]+.*")] {
            let found = matches(&mut None, &text[..length], &Arc::from(pattern));
            assert_eq!(found, Ok(true), "{pattern}");
        }
    }
}
