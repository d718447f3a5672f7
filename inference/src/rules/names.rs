//! Names of people, organizations and places, by the words in them and around them.
//!
//! A run of words with capitals is looked at whole. Its cue decides what it is; a run of several
//! words without any cue, in the middle of a sentence, is a `Name` of unknown kind, and a single
//! word without a cue is nothing.

use std::collections::HashSet;

use super::sentence::Word;
use super::words::{
    ends_organization, ends_place, ends_thing, heads_organization, heads_place, is_given_name,
    is_no_name, is_particle, is_place_cue, is_title, place,
};
use crate::spans::Found;

/// Most words of one name.
const NAME_WORDS_MAX: usize = 8;

/// Most surnames that are remembered within a passage.
const SURNAMES_MAX: usize = 20_000;

/// Finds names, and remembers surnames from the beginning of a passage to its end.
#[derive(Debug, Default)]
pub(super) struct Names {
    surnames: HashSet<String>,
}

/// What stands around a run of words.
#[derive(Debug, Clone, Copy)]
struct Around {
    /// A title before it.
    is_titled: bool,
    /// A word before it that places follow.
    is_cued: bool,
    /// Such a word before it, and the name of a place after it.
    is_in_place: bool,
    /// It begins a sentence.
    is_first: bool,
}

impl Names {
    /// Adds the names in a stretch of words to `found`.
    pub(super) fn find(&mut self, words: &[Word<'_>], found: &mut Vec<Found>) {
        let mut at = 0;
        while at < words.len() {
            let run = run_at(words, at);
            if run == at {
                at += 1;
                continue;
            }
            self.name(words, at, run, found);
            at = run;
        }
    }

    /// What the run from `start` to `end` is.
    fn name(&mut self, words: &[Word<'_>], start: usize, end: usize, found: &mut Vec<Found>) {
        let mut start = start;
        let mut is_titled = false;
        let is_first = words[start].is_first;
        while start < end && (is_no_name(words[start].text) || is_title(words[start].text)) {
            if spelled(&words[start..end]).is_some_and(|name| place(&name).is_some()) {
                break;
            }
            is_titled = is_title(words[start].text);
            start += 1;
        }
        // A person right after something else: "over Los Angeles Walter Baade".
        let whole = &words[start..end];
        let is_one = is_titled || is_person(whole) || is_organization(whole) || is_thing(whole);
        let person = (start + 1..end).find(|at| !is_one && is_person(&words[*at..end]));
        let run_end = person.unwrap_or(end);
        let run = &words[start..run_end];
        if run_end < end {
            self.take(&words[run_end..end], "Person", found);
            let before_it = spelled(run).and_then(|name| place(&name));
            if before_it.is_none() {
                return;
            }
        }
        let before = start.checked_sub(1).map(|at| words[at].text);
        let is_cued = before.is_some_and(is_place_cue);
        let is_in_place = is_cued && run_end == end && is_followed_by_place(words, end);
        let around = Around {
            is_titled,
            is_cued,
            is_in_place,
            is_first,
        };
        if let Some(entity_type) = self.kind(run, around) {
            self.take(run, entity_type, found);
        }
    }

    fn kind(&self, run: &[Word<'_>], around: Around) -> Option<&'static str> {
        let (first, last) = (run.first()?, run.last()?);
        if is_organization(run) {
            return Some("Organization");
        }
        if let Some(needs_cue) = spelled(run).and_then(|name| place(&name)) {
            return (around.is_cued || !needs_cue).then_some("Place");
        }
        let is_long = run.len() > 1;
        if is_long && (heads_place(first.text) || ends_place(last.text)) {
            return Some("Place");
        }
        if !is_thing(run) && (around.is_titled || is_person(run)) {
            return Some("Person");
        }
        if around.is_in_place {
            return Some("Place");
        }
        if !is_long {
            return self.surnames.contains(first.text).then_some("Person");
        }
        (!around.is_first && run.iter().all(is_like_a_name)).then_some("Name")
    }

    fn take(&mut self, run: &[Word<'_>], entity_type: &str, found: &mut Vec<Found>) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        if entity_type == "Person" {
            self.remember(run);
        }
        found.push(Found {
            bytes: first.start..last.end(),
            entity_type: entity_type.to_owned(),
        });
    }

    /// Keeps the last word of a person's name, by which the person is called further on.
    fn remember(&mut self, run: &[Word<'_>]) {
        let Some(last) = run.last().map(|word| word.text) else {
            return;
        };
        let is_telling = last.chars().count() > 3 && place(last).is_none() && !is_given_name(last);
        if is_telling && self.surnames.len() < SURNAMES_MAX {
            self.surnames.insert(last.to_owned());
        }
    }
}

/// The end of the run of words with capitals that begins at `start`; `start` when none does.
/// Words such as "of" or "von" are in it when a capital follows.
fn run_at(words: &[Word<'_>], start: usize) -> usize {
    if !words.get(start).is_some_and(Word::is_capital) {
        return start;
    }
    let mut end = start + 1;
    while end < words.len() && end - start < NAME_WORDS_MAX {
        let goes_on = |at: usize| at < words.len() && words[at].goes_on_after(&words[at - 1]);
        if !goes_on(end) {
            break;
        }
        if words[end].is_capital() {
            end += 1;
            continue;
        }
        let joins = words[end].text;
        let is_in_organization = matches!(joins, "of" | "for")
            && heads_organization(words[end - 1].text)
            || joins == "and"
                && words[start..end]
                    .iter()
                    .any(|w| matches!(w.text, "of" | "for"))
                && words[start..end].iter().any(|w| heads_organization(w.text));
        let mut next = end + 1;
        if is_in_organization && goes_on(next) && words[next].text == "the" {
            next += 1;
        }
        let is_joint = is_in_organization || is_particle(joins) && is_given_name(words[start].text);
        let particles_end = if is_particle(joins) && goes_on(next) && is_particle(words[next].text)
        {
            next + 1
        } else {
            next
        };
        if !is_joint || !goes_on(particles_end) || !words[particles_end].is_capital() {
            break;
        }
        end = particles_end + 1;
    }
    end.min(words.len())
}

/// Whether ", " and a place come next.
fn is_followed_by_place(words: &[Word<'_>], at: usize) -> bool {
    let next = words.get(at).filter(|next| next.gap == ", ");
    next.and_then(|_| spelled(&words[at..run_at(words, at)]))
        .is_some_and(|name| place(&name).is_some())
}

/// The words with single blanks between them; none for no words.
fn spelled(run: &[Word<'_>]) -> Option<String> {
    let (first, rest) = run.split_first()?;
    let mut name = first.text.to_owned();
    for word in rest {
        name.push_str(if word.gap == "\u{a0}" { " " } else { word.gap });
        name.push_str(word.text);
    }
    Some(name)
}

fn is_organization(run: &[Word<'_>]) -> bool {
    let ends = run.len() > 1 && run.last().is_some_and(|last| ends_organization(last.text));
    let heads = run
        .windows(2)
        .any(|two| heads_organization(two[0].text) && matches!(two[1].text, "of" | "for"));
    ends || heads
}

/// A thing or a place that may begin as a person's name does.
fn is_thing(run: &[Word<'_>]) -> bool {
    let ends = |last: &Word<'_>| ends_thing(last.text) || ends_place(last.text);
    run.len() > 1 && run.last().is_some_and(ends)
}

/// A given name or initials, and a surname.
fn is_person(run: &[Word<'_>]) -> bool {
    let [first, .., last] = run else {
        return false;
    };
    let has_given_name = is_given_name(first.text) || first.is_initial();
    let has_surname = last.text.chars().count() > 1 && is_like_a_name(last);
    let parts = run
        .iter()
        .all(|word| is_like_a_name(word) || word.is_initial() || is_particle(word.text));
    has_given_name && has_surname && parts && !is_only_initial_before_noun(run)
}

/// "A" and "I" begin sentences more often than names, and "X Window" is none: an initial counts
/// when a full stop follows it.
fn is_only_initial_before_noun(run: &[Word<'_>]) -> bool {
    run[0].is_initial() && !run[1].gap.starts_with('.')
}

/// Letters of which not all are capitals, or few: no acronym, no number.
fn is_like_a_name(word: &Word<'_>) -> bool {
    let has_lower = word.text.chars().any(char::is_lowercase);
    let is_clean = !word.text.chars().any(|c| c.is_ascii_digit() || c == '_');
    let is_roman = word.text.chars().all(|c| "IVX".contains(c));
    is_clean && (has_lower || is_roman) && !is_no_name(word.text)
}
