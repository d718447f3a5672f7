//! What is recognized by its form alone: addresses, dates, times, sums, shares, numbers to call.
//!
//! Every pattern is linear in the passage: no pattern looks around, and boundaries are checked
//! by hand, since those of Unicode would take the expressions off their fast path.

use std::sync::LazyLock;

use regex::Regex;

use crate::spans::{Found, is_whole_word};

const MONTH: &str = "(?:January|February|March|April|May|June|July|August|September|October|\
                     November|December|Jan\\.?|Feb\\.?|Mar\\.|Apr\\.?|Aug\\.?|Sept?\\.?|Oct\\.?|\
                     Nov\\.?|Dec\\.?)";

const WEEKDAY: &str = "(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,? )?";

struct Pattern {
    entity_type: &'static str,
    form: Regex,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let year = "(?:1[0-9]{3}|20[0-9]{2})";
    let day = "[0-3]?[0-9](?:st|nd|rd|th)?";
    let number = "[0-9]{1,3}(?:,[0-9]{3}){1,5}(?:\\.[0-9]{1,2})?|[0-9]{1,15}(?:\\.[0-9]{1,4})?";
    let large = "(?: ?(?:thousand|million|billion|trillion|bn|m|k))?";
    [
        ("Url", "(?:https?|ftp)://[^\\s<>\"“”]+".to_owned()),
        (
            "Date",
            format!(
                "{year}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])\
                 |(?:0?[1-9]|[12][0-9]|3[01])[./](?:0?[1-9]|[12][0-9]|3[01])[./]{year}\
                 |{WEEKDAY}{day}(?: of)? {MONTH}(?:,? {year})?\
                 |{WEEKDAY}{MONTH} {day}(?:,? {year})?\
                 |{MONTH},? {year}"
            ),
        ),
        (
            "Time",
            "(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?(?: ?(?:[ap]\\.m\\.|[ap]m|[AP]M))?\
             |(?:1[0-2]|[1-9]) ?(?:[ap]\\.m\\.|[ap]m|[AP]M)"
                .to_owned(),
        ),
        (
            "Money",
            format!(
                "(?:US\\$|[$€£¥])[ \u{a0}]?(?:{number}){large}\
                 |(?:USD|EUR|GBP|CHF|JPY) (?:{number}){large}\
                 |(?:{number}){large}[ \u{a0}](?:USD|EUR|GBP|CHF|JPY|dollars?|euros?|francs?|cents)\
                 |(?:{number})[ \u{a0}]?€"
            ),
        ),
        (
            "Percentage",
            format!("(?:{number})(?:[ \u{a0}]?%| percent| per cent)"),
        ),
        (
            "PhoneNumber",
            "\\+[0-9]{1,3}(?:[ .-]?\\(?[0-9]{1,5}\\)?){2,6}\
             |\\([0-9]{3}\\) ?[0-9]{3}-[0-9]{4}\
             |[0-9]{3}-[0-9]{3}-[0-9]{4}"
                .to_owned(),
        ),
        // A year on its own is one when the word before it says so.
        (
            "Year",
            format!("(?:[Ii]n|[Ss]ince|[Ff]rom|[Uu]ntil|[Bb]y|[Aa]round|[Dd]uring|[Aa]fter|[Bb]efore|of) {year}"),
        ),
    ]
    .into_iter()
    .map(|(entity_type, form)| Pattern {
        entity_type,
        form: Regex::new(&form).expect("the patterns are fixed and compile in a test"),
    })
    .collect()
});

/// All that has one of the forms; overlaps are left in.
pub(super) fn find(passage: &str) -> Vec<Found> {
    let mut found = email_addresses(passage);
    for pattern in PATTERNS.iter() {
        for hit in pattern.form.find_iter(passage) {
            let (mut start, mut end) = (hit.start(), hit.end());
            let mut entity_type = pattern.entity_type;
            if entity_type == "Url" {
                end = start + without_end_of_sentence(hit.as_str()).len();
            }
            if !is_whole_word(passage, start..end) || is_in_a_number(passage, start, end) {
                continue;
            }
            if entity_type == "Year" {
                // Four digits; their word was only looked at.
                start = end - 4;
                entity_type = "Date";
                if passage[end..].starts_with('s') {
                    continue;
                }
            }
            let digits = hit.as_str().bytes().filter(u8::is_ascii_digit).count();
            if entity_type == "PhoneNumber" && !(8..=15).contains(&digits) {
                continue;
            }
            found.push(Found {
                bytes: start..end,
                entity_type: entity_type.to_owned(),
            });
        }
    }
    found
}

/// Most bytes of an address before its `@`, and after it (RFC 5321, section 4.5.3.1).
const LOCAL_PART_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

/// Addresses, from each `@` outwards: an expression would begin one at every word.
fn email_addresses(passage: &str) -> Vec<Found> {
    let bytes = passage.as_bytes();
    let mut found: Vec<Found> = Vec::new();
    for at in memchr::memchr_iter(b'@', bytes) {
        let is_local = |b: &&u8| b.is_ascii_alphanumeric() || b"._%+-".contains(b);
        let before = bytes[..at].iter().rev().take(LOCAL_PART_BYTES_MAX + 1);
        let start = at - before.take_while(is_local).count();
        let is_domain = |b: &&u8| b.is_ascii_alphanumeric() || b".-".contains(b);
        let after = bytes[at + 1..].iter().take(DOMAIN_BYTES_MAX + 1);
        let end = at + 1 + after.take_while(is_domain).count();
        // Dots around it are punctuation.
        let local = passage[start..at].trim_start_matches(['.', '-', '+', '_', '%']);
        let domain = passage[at + 1..end].trim_end_matches(['.', '-']);
        let labels = domain
            .split('.')
            .filter(|label| label.len() <= 63 && !label.is_empty());
        let last = domain.rsplit('.').next().unwrap_or_default();
        let is_top =
            (2..=24).contains(&last.len()) && last.bytes().all(|b| b.is_ascii_alphabetic());
        let n_dots = domain.matches('.').count();
        let bytes = at - local.len()..at + 1 + domain.len();
        let is_sound = (1..=LOCAL_PART_BYTES_MAX).contains(&local.len())
            && (1..=8).contains(&n_dots)
            && labels.count() == n_dots + 1
            && is_top
            && is_whole_word(passage, bytes.clone());
        if is_sound {
            found.push(Found {
                bytes,
                entity_type: "EmailAddress".to_owned(),
            });
        }
    }
    found
}

/// Whether digits go on beyond a separator: 1.2.2020 is no part of 1.1.2.2020.
fn is_in_a_number(passage: &str, start: usize, end: usize) -> bool {
    let bytes = passage.as_bytes();
    let is_joint = |byte: Option<&u8>| byte.is_some_and(|b| b".,-/:+_".contains(b));
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let before = |n: usize| start.checked_sub(n).and_then(|at| bytes.get(at));
    let begins = is_digit(bytes.get(start)) && is_joint(before(1)) && is_digit(before(2));
    let ends = end > 0 && is_digit(bytes.get(end - 1));
    begins || (ends && is_joint(bytes.get(end)) && is_digit(bytes.get(end + 1)))
}

/// A URL without the punctuation that ends the sentence around it. A closing bracket stays when
/// its opening one is in the URL.
fn without_end_of_sentence(url: &str) -> &str {
    let mut url = url;
    // Each round takes one character off; brackets are counted once for all rounds.
    let mut surplus = url
        .matches(')')
        .count()
        .saturating_sub(url.matches('(').count());
    while let Some(last) = url.chars().next_back() {
        let is_end = ".,;:!?'’*_]}".contains(last) || (last == ')' && surplus > 0);
        if !is_end {
            break;
        }
        if last == ')' {
            surplus -= 1;
        }
        url = &url[..url.len() - last.len_utf8()];
    }
    url
}
