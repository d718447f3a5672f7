//! Detectors: what finds names, dates and the like in a passage.
//!
//! Invariant: what a detector returns stands in the passage at the place it says, in order and
//! without overlaps; and its type is a [`checked`](type_name) name.

use crate::error::InferenceError;
use crate::stop::Stop;

/// Most bytes of the name of a type that a detector returns.
pub const TYPE_BYTES_MAX: usize = 64;

/// Most bytes of an entity's text.
pub const ENTITY_BYTES_MAX: usize = 512;

/// Something that a passage names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// The text as it stands in the passage, from `start` to `end`.
    pub text: String,
    /// What kind of thing it is, such as `Person`: letters and digits, the first a capital one,
    /// at most [`TYPE_BYTES_MAX`] bytes.
    pub entity_type: String,
    /// Where it begins, in code points from the passage's beginning.
    pub start: u64,
    /// Where it ends, in code points; the first one that is no longer part of it.
    pub end: u64,
}

/// What a detector found in a passage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detected {
    /// In the order of the passage, without overlaps.
    pub entities: Vec<Entity>,
    /// How many more a model named that were not taken: they do not stand in the passage, overlap
    /// another one or break a rule. Repetitions are not counted.
    pub dropped: u32,
}

/// Finds entities.
pub trait Detector: Send + Sync {
    /// Its name, such as `stemma-rules`.
    fn name(&self) -> &str;

    /// A number that rises when the same passage may give another result.
    fn version(&self) -> u32;

    /// One sentence for people, saying what it is and what to expect of it.
    fn describe(&self) -> &str;

    /// What the passage names.
    ///
    /// # Errors
    /// [`InferenceError`]; nothing of the passage's entities is known then.
    fn detect(&self, passage: &str, stop: &Stop) -> Result<Detected, InferenceError>;
}

/// What other people call the types that we have names for.
const TYPE_NAMES: &[(&str, &str)] = &[
    ("Per", "Person"),
    ("People", "Person"),
    ("Org", "Organization"),
    ("Organisation", "Organization"),
    ("Company", "Organization"),
    ("Loc", "Place"),
    ("Location", "Place"),
    ("Gpe", "Place"),
];

/// The name of a type as we write it, from how a model wrote it: `WORK_OF_ART` is `WorkOfArt`,
/// `org` is `Organization`. None when no letter begins it or nothing is left.
pub fn type_name(written: &str) -> Option<String> {
    let written: String = written.chars().take(TYPE_BYTES_MAX * 2).collect();
    let mut name = String::new();
    for word in written.split(|c: char| !c.is_alphanumeric()) {
        let is_shouted = !word.chars().any(char::is_lowercase);
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        if is_shouted {
            name.extend(letters.flat_map(char::to_lowercase));
        } else {
            name.extend(letters);
        }
    }
    name.truncate(name.floor_char_boundary(TYPE_BYTES_MAX));
    if !name.starts_with(char::is_alphabetic) {
        return None;
    }
    let known = TYPE_NAMES.iter().find(|(other, _)| *other == name);
    Some(known.map_or(name, |(_, ours)| (*ours).to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_get_our_names_however_a_model_writes_them() {
        for (written, name) in [
            ("person", "Person"),
            ("PER", "Person"),
            ("WORK_OF_ART", "WorkOfArt"),
            ("work of art", "WorkOfArt"),
            ("CelestialBody", "CelestialBody"),
            ("gpe", "Place"),
            ("“organisation”\n", "Organization"),
            ("größe", "Größe"),
        ] {
            assert_eq!(type_name(written).as_deref(), Some(name), "{written}");
        }
        for nothing in ["", "  ", "\0", "3rd", "--", "<>"] {
            assert_eq!(type_name(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_of_a_type_is_short_and_of_letters_and_digits(written in "\\PC{0,200}") {
            if let Some(name) = type_name(&written) {
                prop_assert!((1..=TYPE_BYTES_MAX).contains(&name.len()));
                prop_assert!(name.starts_with(char::is_alphabetic), "{name}");
                // A capital may be written with a mark beside it, such as that of ŉ.
                prop_assert!(!name.contains(|c: char| c.is_control() || c.is_whitespace()));
            }
        }
    }
}
