//! The built-in detector: rules, word lists and patterns, no model.

mod detector;
mod names;
mod patterns;
mod sentence;
mod words;

pub use detector::{RULES_ENTITIES_MAX, RulesDetector};
