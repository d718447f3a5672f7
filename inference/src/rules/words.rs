//! What the rules know about words: given names, places, titles, marks of organizations.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

static GIVEN_NAMES: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let lines = include_str!("../../data/given_names.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).collect()
});

/// Each with whether it needs a cue before it.
static PLACES: LazyLock<HashMap<&str, bool>> = LazyLock::new(|| {
    let lines = include_str!("../../data/places.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| (line.trim_start_matches('~'), line.starts_with('~')))
        .collect()
});

/// Stand before a name and are no part of it.
const TITLES: &[&str] = &[
    "Mr",
    "Mrs",
    "Ms",
    "Mx",
    "Dr",
    "Prof",
    "Professor",
    "Sir",
    "Dame",
    "Lord",
    "Lady",
    "King",
    "Queen",
    "Prince",
    "Princess",
    "Emperor",
    "Empress",
    "Pope",
    "Bishop",
    "Archbishop",
    "Rabbi",
    "Imam",
    "Captain",
    "Colonel",
    "Lieutenant",
    "Sergeant",
    "Admiral",
    "President",
    "Chancellor",
    "Senator",
    "Governor",
    "Mayor",
    "Judge",
    "Ambassador",
    "Herr",
    "Frau",
    "Monsieur",
    "Madame",
    "Señor",
    "Señora",
    "Signor",
    "Signora",
];

/// End the name of an organization.
const ORGANIZATION_ENDS: &[&str] = &[
    "Inc",
    "Ltd",
    "LLC",
    "LLP",
    "PLC",
    "Plc",
    "Corp",
    "GmbH",
    "AG",
    "SA",
    "SpA",
    "BV",
    "NV",
    "AB",
    "Oy",
    "KG",
    "SE",
    "Company",
    "Corporation",
    "Incorporated",
    "Limited",
    "Holdings",
    "Group",
    "Bank",
    "University",
    "Institute",
    "College",
    "School",
    "Academy",
    "Observatory",
    "Society",
    "Association",
    "Union",
    "Federation",
    "Foundation",
    "Museum",
    "Library",
    "Agency",
    "Ministry",
    "Department",
    "Committee",
    "Commission",
    "Council",
    "Parliament",
    "Senate",
    "Court",
    "Laboratory",
    "Laboratories",
    "Hospital",
    "Orchestra",
    "Party",
    "Press",
    "Authority",
    "Bureau",
    "Consortium",
    "Mint",
    "Institution",
    "Airlines",
    "Airways",
    "Railway",
    "Army",
    "Navy",
];

/// Begin the name of an organization when "of" or "for" follows.
const ORGANIZATION_HEADS: &[&str] = &[
    "University",
    "Institute",
    "College",
    "School",
    "Academy",
    "Society",
    "Association",
    "Union",
    "Federation",
    "Museum",
    "Library",
    "Bank",
    "Ministry",
    "Department",
    "Council",
    "Court",
    "Bureau",
    "House",
    "Center",
    "Centre",
    "Office",
    "Board",
];

/// Begin the name of a place.
const PLACE_HEADS: &[&str] = &["Mount", "Lake", "Cape", "Fort", "Cerro", "Monte", "Isle"];

/// End the name of a place.
const PLACE_ENDS: &[&str] = &[
    "River",
    "Lake",
    "Mountain",
    "Mountains",
    "Island",
    "Islands",
    "Ocean",
    "Sea",
    "Bay",
    "Valley",
    "County",
    "Street",
    "Avenue",
    "Road",
    "Desert",
    "Peninsula",
    "Strait",
    "Square",
    "Canal",
];

/// End the name of a thing that may begin as that of a person does.
const THING_ENDS: &[&str] = &[
    "Act",
    "Award",
    "Bridge",
    "Building",
    "Catalog",
    "Catalogue",
    "Center",
    "Centre",
    "Church",
    "Comet",
    "Conference",
    "Cup",
    "Day",
    "Equation",
    "Fellowship",
    "Festival",
    "Hall",
    "House",
    "Law",
    "Lecture",
    "Line",
    "Lines",
    "Medal",
    "Park",
    "Prize",
    "Project",
    "Report",
    "Show",
    "Station",
    "Survey",
    "System",
    "Telescope",
    "Theorem",
    "Theory",
    "Treaty",
    "Trophy",
    "War",
];

/// Begin sentences, or are written with a capital, and are no part of a name in front of it.
const NO_NAMES: &[&str] = &[
    "A",
    "About",
    "Above",
    "According",
    "After",
    "Again",
    "Against",
    "All",
    "Almost",
    "Along",
    "Already",
    "Also",
    "Although",
    "Always",
    "Among",
    "An",
    "And",
    "Another",
    "Any",
    "Are",
    "Around",
    "As",
    "At",
    "Because",
    "Before",
    "Behind",
    "Below",
    "Beside",
    "Between",
    "Both",
    "But",
    "By",
    "Can",
    "Could",
    "Dear",
    "Despite",
    "Did",
    "Do",
    "Does",
    "Down",
    "During",
    "Each",
    "Early",
    "Either",
    "Even",
    "Every",
    "Few",
    "First",
    "For",
    "Former",
    "From",
    "Further",
    "Had",
    "Has",
    "Have",
    "He",
    "Hello",
    "Her",
    "Here",
    "Hers",
    "His",
    "How",
    "However",
    "I",
    "If",
    "In",
    "Indeed",
    "Inside",
    "Into",
    "Is",
    "It",
    "Its",
    "Just",
    "Last",
    "Late",
    "Later",
    "Let",
    "Like",
    "Many",
    "May",
    "Meanwhile",
    "More",
    "Most",
    "Much",
    "My",
    "Near",
    "Neither",
    "Never",
    "Next",
    "No",
    "None",
    "Nor",
    "Not",
    "Now",
    "Of",
    "Off",
    "Often",
    "On",
    "Once",
    "One",
    "Only",
    "Or",
    "Other",
    "Our",
    "Out",
    "Over",
    "Perhaps",
    "Please",
    "Second",
    "Several",
    "She",
    "Should",
    "Since",
    "So",
    "Some",
    "Soon",
    "Still",
    "Such",
    "Than",
    "That",
    "The",
    "Their",
    "Then",
    "There",
    "These",
    "They",
    "Third",
    "This",
    "Those",
    "Though",
    "Three",
    "Through",
    "Thus",
    "To",
    "Today",
    "Together",
    "Two",
    "Under",
    "Unlike",
    "Until",
    "Up",
    "Upon",
    "Very",
    "Was",
    "We",
    "Were",
    "What",
    "When",
    "Where",
    "Whether",
    "Which",
    "While",
    "Who",
    "Whose",
    "Why",
    "Will",
    "With",
    "Within",
    "Without",
    "Would",
    "Yes",
    "Yet",
    "You",
    "Your",
];

const CALENDAR: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Christmas",
    "Easter",
];

/// Join the parts of a person's name.
const PARTICLES: &[&str] = &[
    "von", "van", "der", "den", "de", "del", "della", "di", "da", "du", "la", "le", "al", "ibn",
    "bin", "zu", "zum", "ter", "ten",
];

/// Come before a place.
const PLACE_CUES: &[&str] = &[
    "in", "at", "near", "from", "to", "through", "across", "outside", "around", "of", "via",
    "between", "toward", "towards", "In", "At", "Near", "From", "Outside", "Across",
];

fn is_one_of(list: &[&str], word: &str) -> bool {
    list.contains(&word)
}

pub(super) fn is_given_name(word: &str) -> bool {
    word.len() <= 32 && GIVEN_NAMES.contains(word.to_lowercase().as_str())
}

/// Whether it is a place; `Some(true)` when a cue has to stand before it.
pub(super) fn place(name: &str) -> Option<bool> {
    PLACES.get(name).copied()
}

pub(super) fn is_title(word: &str) -> bool {
    is_one_of(TITLES, word)
}

pub(super) fn ends_organization(word: &str) -> bool {
    is_one_of(ORGANIZATION_ENDS, word)
}

pub(super) fn heads_organization(word: &str) -> bool {
    is_one_of(ORGANIZATION_HEADS, word)
}

pub(super) fn heads_place(word: &str) -> bool {
    is_one_of(PLACE_HEADS, word)
}

pub(super) fn ends_place(word: &str) -> bool {
    is_one_of(PLACE_ENDS, word)
}

pub(super) fn ends_thing(word: &str) -> bool {
    is_one_of(THING_ENDS, word)
}

pub(super) fn is_no_name(word: &str) -> bool {
    is_one_of(NO_NAMES, word) || is_one_of(CALENDAR, word)
}

pub(super) fn is_particle(word: &str) -> bool {
    is_one_of(PARTICLES, word)
}

pub(super) fn is_place_cue(word: &str) -> bool {
    is_one_of(PLACE_CUES, word)
}
