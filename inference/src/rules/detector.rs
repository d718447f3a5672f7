//! Detecting by rules: patterns and names, put in order.
//!
//! Time and memory grow with the passage and not faster; the result depends on the passage alone.

use super::names::Names;
use super::patterns;
use super::sentence::Stretches;
use crate::detector::{Detected, Detector};
use crate::error::InferenceError;
use crate::spans::{Found, settle};
use crate::stop::Stop;

/// Most entities of a passage; further ones are dropped and counted.
pub const RULES_ENTITIES_MAX: usize = 250_000;

/// After how many stretches it is looked whether to stop.
const STRETCHES_PER_CHECK: usize = 1024;

/// About how many bytes of patterns are looked for before it is looked whether to stop.
const BYTES_PER_CHECK: usize = 1 << 20;

/// Finds entities by rules and word lists, without a model and offline.
#[derive(Debug, Clone, Copy, Default)]
pub struct RulesDetector;

impl RulesDetector {
    /// The detector; it has no settings.
    pub fn new() -> Self {
        Self
    }
}

impl Detector for RulesDetector {
    fn name(&self) -> &'static str {
        "stemma-rules"
    }

    fn version(&self) -> u32 {
        1
    }

    fn describe(&self) -> &'static str {
        "rules and word lists, no model: finds dates, times, sums, shares, addresses and numbers \
         by their form, and people, organizations and places by cues in English text; misses \
         many names rather than inventing some"
    }

    fn detect(&self, passage: &str, stop: &Stop) -> Result<Detected, InferenceError> {
        let mut found = Vec::new();
        let mut start = 0;
        while start < passage.len() {
            stop.check()?;
            let end = end_of_piece(passage, start);
            let shift = |one: Found| Found {
                bytes: one.bytes.start + start..one.bytes.end + start,
                ..one
            };
            found.extend(patterns::find(&passage[start..end]).into_iter().map(shift));
            start = end;
        }
        // Forms come before names: the month of a date is nobody.
        let mut names = Vec::new();
        let (mut stretches, mut words) = (Stretches::of(passage), Vec::new());
        let (mut finder, mut n_stretches) = (Names::default(), 0_usize);
        while stretches.next(&mut words) {
            if n_stretches.is_multiple_of(STRETCHES_PER_CHECK) {
                stop.check()?;
            }
            n_stretches += 1;
            finder.find(&words, &mut names);
        }
        found.sort_by_key(|one| one.bytes.start);
        let names = without_overlaps(names, &found);
        found.extend(names);
        let mut detected = settle(passage, found, 0);
        // What overlaps here was never somebody's claim.
        detected.dropped = 0;
        if let Some(surplus) = detected.entities.len().checked_sub(RULES_ENTITIES_MAX) {
            detected.entities.truncate(RULES_ENTITIES_MAX);
            detected.dropped = u32::try_from(surplus).unwrap_or(u32::MAX);
        }
        Ok(detected)
    }
}

/// Where the piece ends that begins at `start`: after a line feed if one is near, so that no form
/// is cut, else between two code points.
fn end_of_piece(passage: &str, start: usize) -> usize {
    let wanted = start.saturating_add(BYTES_PER_CHECK);
    if wanted >= passage.len() {
        return passage.len();
    }
    let limit = wanted.saturating_add(BYTES_PER_CHECK).min(passage.len());
    match memchr::memchr2(b'\n', b' ', &passage.as_bytes()[wanted..limit]) {
        Some(place) => wanted + place + 1,
        None => passage.floor_char_boundary(limit),
    }
}

/// The names that lie outside of the forms, both in order.
fn without_overlaps(names: Vec<Found>, forms: &[Found]) -> Vec<Found> {
    let mut at = 0;
    let mut kept = Vec::with_capacity(names.len());
    for name in names {
        while forms
            .get(at)
            .is_some_and(|form| form.bytes.end <= name.bytes.start)
        {
            at += 1;
        }
        let overlaps = forms
            .get(at)
            .is_some_and(|form| form.bytes.start < name.bytes.end);
        if !overlaps {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(passage: &str) -> Vec<(String, String)> {
        let detected = RulesDetector::new().detect(passage, &Stop::new()).unwrap();
        let pairs = detected.entities.into_iter();
        pairs
            .map(|entity| (entity.text, entity.entity_type))
            .collect()
    }

    fn check(passage: &str, expected: &[(&str, &str)]) {
        let found = found(passage);
        let found: Vec<_> = found
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(found, expected, "{passage}");
    }

    #[test]
    fn forms_are_recognized() {
        check(
            "Write to ann.lee+x@mail.example.org or see https://example.org/a_(b)?c=d#e.",
            &[
                ("ann.lee+x@mail.example.org", "EmailAddress"),
                ("https://example.org/a_(b)?c=d#e", "Url"),
            ],
        );
        check(
            "On 1 August 1786, March 3rd, 2001, 2024-02-29 and Monday, 5 May it began at 10:30 p.m.",
            &[
                ("1 August 1786", "Date"),
                ("March 3rd, 2001", "Date"),
                ("2024-02-29", "Date"),
                ("Monday, 5 May", "Date"),
                ("10:30 p.m.", "Time"),
            ],
        );
        check(
            "It cost $1,200.50, 3 million dollars, €5 or 12.5 % of it; call +49 (30) 1234567 now.",
            &[
                ("$1,200.50", "Money"),
                ("3 million dollars", "Money"),
                ("€5", "Money"),
                ("12.5 %", "Percentage"),
                ("+49 (30) 1234567", "PhoneNumber"),
            ],
        );
        check(
            "It was so in 1967 and until 2001.",
            &[("1967", "Date"), ("2001", "Date")],
        );
    }

    #[test]
    fn what_only_looks_like_a_form_is_left_alone() {
        for passage in [
            "version 1.2.3.4 of 10.0.0.1",
            "a@b and @handle and x@y.z",
            "in 1980s style",
            "order 12345678901234567890",
            "ratio 3:99, 31:00",
            "he may march",
            "2024-13-45",
            "ab2024-02-29x",
        ] {
            check(passage, &[]);
        }
    }

    #[test]
    fn people_are_known_by_titles_given_names_and_initials() {
        check(
            "There Dr. Quux met J. R. R. Tolkien, John D. Hooker and Joseph von Fraunhofer.",
            &[
                ("Quux", "Person"),
                ("J. R. R. Tolkien", "Person"),
                ("John D. Hooker", "Person"),
                ("Joseph von Fraunhofer", "Person"),
            ],
        );
    }

    #[test]
    fn a_name_is_cut_where_a_person_begins_and_things_are_no_people() {
        check(
            "The lights of Los Angeles Walter Baade saw; in Latin Nicolaus Copernicus of course.",
            &[
                ("Los Angeles", "Place"),
                ("Walter Baade", "Person"),
                ("Nicolaus Copernicus", "Person"),
            ],
        );
        check(
            "on Mount Wilson they used the Henry Draper Catalogue of Princess Margaret Hospital",
            &[
                ("Mount Wilson", "Place"),
                ("Henry Draper Catalogue", "Name"),
                ("Margaret Hospital", "Organization"),
            ],
        );
    }

    #[test]
    fn a_surname_is_known_after_the_whole_name() {
        check(
            "Fritz Zwicky saw it. Zwicky’s idea was new. Baade agreed.",
            &[("Fritz Zwicky", "Person"), ("Zwicky", "Person")],
        );
        check("Zwicky saw it.", &[]);
    }

    #[test]
    fn organizations_are_known_by_their_heads_and_ends() {
        check(
            "She left the University of Chicago for Acme Widgets Inc. and the Royal Society; the \
             American Academy of Arts and Sciences wrote.",
            &[
                ("University of Chicago", "Organization"),
                ("Acme Widgets Inc", "Organization"),
                ("Royal Society", "Organization"),
                ("American Academy of Arts and Sciences", "Organization"),
            ],
        );
    }

    #[test]
    fn places_are_known_by_the_list_and_by_where_they_stand() {
        check(
            "He was born in Lurgan, Northern Ireland, lived in New York and in Bath. France won.",
            &[
                ("Lurgan", "Place"),
                ("Northern Ireland", "Place"),
                ("New York", "Place"),
                ("Bath", "Place"),
                ("France", "Place"),
            ],
        );
        check("Bath salts. Jordan ran. Turkey is eaten.", &[]);
    }

    #[test]
    fn a_run_without_a_cue_is_a_name_only_within_a_sentence() {
        check("we saw the Milky Way there", &[("Milky Way", "Name")]);
        for nothing in [
            "Installation Guide",
            "# Getting Started\nSecond Part",
            "the XML HTTP API",
        ] {
            check(nothing, &[]);
        }
    }

    #[test]
    fn a_cancelled_detection_ends() {
        let stop = Stop::new();
        stop.cancel();
        let error = RulesDetector::new().detect("Ann", &stop).unwrap_err();
        assert_eq!(error.code(), "MODEL_CANCELLED");
    }

    #[test]
    fn the_places_are_those_of_the_whole_passage_beyond_a_piece_of_it() {
        let filling = "é word ".repeat(BYTES_PER_CHECK / 6);
        let passage = format!("{filling}in 1967 Fritz Zwicky{filling}\nat 10:30");
        let detected = RulesDetector::new().detect(&passage, &Stop::new()).unwrap();
        let characters: Vec<char> = passage.chars().collect();
        assert_eq!(detected.entities.len(), 3);
        for entity in detected.entities {
            let range =
                usize::try_from(entity.start).unwrap()..usize::try_from(entity.end).unwrap();
            assert_eq!(characters[range].iter().collect::<String>(), entity.text);
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_spans_that_stand_in_it(
            parts in proptest::collection::vec(
                prop_oneof![
                    "\\PC{0,12}",
                    Just("Mr. ".to_owned()), Just("Ann Lee".to_owned()), Just("in 1999".to_owned()),
                    Just(" of the ".to_owned()), Just("University".to_owned()), Just("’s ".to_owned()),
                    Just("http://é.x/)".to_owned()), Just("\n".to_owned()), Just("Paris, ".to_owned()),
                ],
                0..20,
            )
        ) {
            let passage = parts.concat();
            let characters: Vec<char> = passage.chars().collect();
            let mut last = 0;
            for entity in RulesDetector::new().detect(&passage, &Stop::new()).unwrap().entities {
                let range = usize::try_from(entity.start).unwrap()..usize::try_from(entity.end).unwrap();
                prop_assert!(range.start >= last && range.end > range.start);
                last = range.end;
                prop_assert_eq!(characters[range].iter().collect::<String>(), entity.text);
            }
        }
    }
}
