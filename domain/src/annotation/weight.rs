//! How much an annotation's text selectors may ask for, told before they are looked for.
//!
//! Invariant: what is told is never less than what a look takes, whatever the text is, but for a
//! factor that is the same for all: who decides where the work is done may rest on it.

use serde_json::Value;

use super::anchor::{CONTEXT_MAX, OCCURRENCES_MAX};
use super::selector::has_type;

/// The selectors that select text.
const KINDS: [&str; 3] = ["TextPositionSelector", "TextQuoteSelector", "RangeSelector"];
/// Where selectors stand in others.
const WITHIN: [&str; 3] = ["refinedBy", "startSelector", "endSelector"];
/// What a quote is made of.
const QUOTED: [&str; 3] = ["exact", "prefix", "suffix"];
/// Times that a text is gone through for one selector: to find it, to find it nearly, and to number
/// the passage that another one refines.
const PASSES: u64 = 3;
/// Characters of a quote that are held against a character of the text in one step.
const WORD: u64 = 64;

/// What the text selectors of an annotation, or of some of its targets, may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectorWeight {
    /// Looks through the text: one for each selector, and one more for each that it stands in.
    looks: u64,
    /// Bytes of quotes and of their contexts.
    bytes: u64,
}

impl SelectorWeight {
    /// That of an annotation.
    pub fn of(annotation: &Value) -> Self {
        let mut weight = Self::default();
        weight.add_target(&annotation["target"]);
        weight
    }

    /// That of targets as JSON, or more, where each selector is looked for once. They are not parsed
    /// for it: each selector is an object.
    pub fn at_most(target: &str) -> Self {
        let objects = target.bytes().filter(|byte| *byte == b'{').count() as u64;
        let bytes = if objects > 0 { target.len() as u64 } else { 0 };
        Self {
            looks: objects,
            bytes,
        }
    }

    /// About how many steps it takes at the most to look for all of them in a text of so many bytes:
    /// a step is a character compared, about a nanosecond.
    pub fn steps(self, text_bytes: u64) -> u64 {
        let looks = self.looks * PASSES + self.bytes / WORD;
        let around = self.bytes.min(self.looks * 2 * CONTEXT_MAX as u64);
        let occurrences = text_bytes.min(OCCURRENCES_MAX as u64);
        text_bytes
            .saturating_mul(looks)
            .saturating_add(occurrences.saturating_mul(around))
    }

    fn add_target(&mut self, target: &Value) {
        each_selector(target, &mut |selector| self.add(selector, 0));
    }

    fn add(&mut self, selector: &Value, around: u64) {
        if KINDS.iter().any(|kind| has_type(selector, kind)) {
            self.looks += 1 + around;
        }
        let quoted = QUOTED
            .iter()
            .filter_map(|name| selector.get(name)?.as_str());
        self.bytes += quoted.map(|text| text.len() as u64).sum::<u64>();
        for inner in within(selector) {
            self.add(inner, around + 1);
        }
    }
}

/// How many text selectors targets carry, those within sets and within each other included. Of what
/// a target says in several ways the way that takes most of them counts: then what is added to a
/// target that lacks a way counts for nothing, and what was read from us may be sent back.
pub(super) fn text_selectors(target: &Value) -> usize {
    match target {
        Value::Array(targets) => return targets.iter().map(text_selectors).sum(),
        Value::Object(_) => {}
        _ => return 0,
    }
    if let Some(items) = target.get("items").and_then(Value::as_array) {
        return items.iter().map(text_selectors).sum();
    }
    let mut ways = [0; KINDS.len()];
    each_selector(target, &mut |selector| {
        for (kind, count) in KINDS.iter().zip(&mut ways) {
            if has_type(selector, kind) {
                *count += count_of(selector);
            }
        }
    });
    ways.into_iter().max().unwrap_or(0)
}

/// How many text selectors one is, with those within it.
fn count_of(selector: &Value) -> usize {
    let is_text = KINDS.iter().any(|kind| has_type(selector, kind));
    usize::from(is_text) + within(selector).map(count_of).sum::<usize>()
}

/// The selectors that stand in another.
fn within(selector: &Value) -> impl Iterator<Item = &Value> {
    WITHIN.iter().filter_map(move |name| selector.get(name))
}

/// Shows each selector of targets that stands in no other.
fn each_selector<'a>(target: &'a Value, show: &mut impl FnMut(&'a Value)) {
    match target {
        Value::Array(targets) => {
            for target in targets {
                each_selector(target, show);
            }
        }
        Value::Object(fields) => match (fields.get("items"), fields.get("selector")) {
            (Some(items), _) => each_selector(items, show),
            (None, Some(Value::Array(selectors))) => selectors.iter().for_each(show),
            (None, Some(selector)) => show(selector),
            (None, None) => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quote(exact: &str) -> Value {
        json!({ "type": "TextQuoteSelector", "exact": exact })
    }

    fn target(selector: &Value) -> Value {
        json!({ "source": "/this", "selector": selector })
    }

    #[test]
    fn selectors_are_counted_wherever_they_stand() {
        let position = json!({ "type": "TextPositionSelector", "start": 0, "end": 1 });
        let range = json!({ "type": "RangeSelector", "startSelector": quote("a"),
            "endSelector": { "type": "TextQuoteSelector", "exact": "b", "refinedBy": quote("c") } });
        let of = |selector: Value| text_selectors(&target(&selector));
        assert_eq!(of(quote("a")), 1);
        // The position says what the quote says; a second quote is one more.
        assert_eq!(of(json!([quote("a"), position])), 1);
        assert_eq!(of(json!([quote("a"), quote("b"), position])), 2);
        assert_eq!(of(range.clone()), 4);
        assert_eq!(of(json!([range, position])), 4);
        assert_eq!(of(json!({ "type": "CssSelector", "value": "p" })), 0);
        let item = target(&quote("a"));
        let set = json!({ "type": "Choice", "items": [item, { "type": "List", "items": [item] }] });
        assert_eq!(text_selectors(&json!([set, item, "/other"])), 3);
    }

    #[test]
    fn a_weight_grows_with_selectors_their_lengths_and_what_they_stand_in() {
        let steps = |selector: &Value| {
            let annotation = json!({ "target": [target(selector), "/other"] });
            SelectorWeight::of(&annotation).steps(1000)
        };
        assert_eq!(steps(&json!({ "type": "CssSelector", "value": "p" })), 0);
        let one = steps(&quote("a"));
        assert!(one >= 1000, "{one}");
        assert!(steps(&json!([quote("a"), quote("a")])) >= 2 * one);
        assert!(steps(&quote(&"a".repeat(6400))) >= 100 * 1000);
        let refined = json!({ "type": "TextQuoteSelector", "exact": "a", "refinedBy": quote("a") });
        assert!(steps(&refined) > steps(&json!([quote("a"), quote("a")])));
        let weight = SelectorWeight {
            looks: u64::from(u32::MAX),
            bytes: u64::from(u32::MAX),
        };
        assert_eq!(weight.steps(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_weight_of_json_is_that_of_what_it_holds_or_more() {
        assert_eq!(SelectorWeight::at_most(r#""/this""#).steps(1000), 0);
        for target in [
            target(&quote("a")),
            json!([target(&json!([quote("a"), quote("bcd")])), "/other"]),
            json!({ "type": "Choice", "items": [target(&quote("{")), target(&quote("a"))] }),
        ] {
            let exact = SelectorWeight::of(&json!({ "target": target }));
            let rough = SelectorWeight::at_most(&target.to_string());
            assert!(rough.looks >= exact.looks && rough.bytes >= exact.bytes);
        }
    }
}
