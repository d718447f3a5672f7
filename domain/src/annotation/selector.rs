//! Which text an annotation's target selects, as far as positions and quotes say it.

use serde_json::Value;

/// What the selectors of one target say: a position, a quote, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TextSelection {
    pub(super) position: Option<Position>,
    pub(super) quote: Option<Quote>,
    /// Further quotes and positions: other ways to say the same.
    pub(super) others: Vec<Quote>,
    pub(super) other_positions: Vec<Position>,
    /// From where the one begins to where the other does.
    pub(super) range: Option<Box<Range>>,
    /// What is selected within this selection, its places counted from where this one begins.
    pub(super) inner: Option<Box<TextSelection>>,
}

/// Two selections that a range lies between, and where it stands in the target's JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: TextSelection,
    pub(super) end: TextSelection,
    pub(super) pointer: String,
}

/// A span in code points, and where it stands in the target's JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) pointer: String,
}

/// A passage with what stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) exact: String,
    pub(super) prefix: String,
    pub(super) suffix: String,
    pub(super) pointer: String,
}

/// The selection of a target that names a resource for which `is_this` says yes.
///
/// None when the target is another resource's, the whole resource, or selected by other means.
pub(super) fn of_target(
    target: &Value,
    is_this: &dyn Fn(&str) -> bool,
    pointer: &str,
) -> Option<TextSelection> {
    let source = match &target["source"] {
        Value::String(iri) => iri,
        Value::Object(source) => source.get("id")?.as_str()?,
        _ => return None,
    };
    if !is_this(source) {
        return None;
    }
    let mut selection = TextSelection::default();
    match &target["selector"] {
        Value::Array(selectors) => {
            for (index, selector) in selectors.iter().enumerate() {
                selection.take(selector, format!("{pointer}/selector/{index}"));
            }
        }
        selector => selection.take(selector, format!("{pointer}/selector")),
    }
    (selection != TextSelection::default()).then_some(selection)
}

impl TextSelection {
    /// Every position that is counted from the text's beginning.
    pub(super) fn positions(self) -> Vec<Position> {
        let mut positions: Vec<_> = self
            .position
            .into_iter()
            .chain(self.other_positions)
            .collect();
        if let Some(range) = self.range {
            positions.extend(range.start.positions());
            positions.extend(range.end.positions());
        }
        positions
    }

    /// Notes a selector; of several of one kind the first counts. Where the first is refined, it is
    /// the one that counts, for what others select is not refined.
    fn take(&mut self, selector: &Value, pointer: String) {
        if self.inner.is_some() {
            return;
        }
        let is_text = ["TextPositionSelector", "TextQuoteSelector", "RangeSelector"]
            .iter()
            .any(|kind| has_type(selector, kind));
        if let Some(refined) = selector.get("refinedBy") {
            let mut inner = Self::default();
            inner.take(refined, format!("{pointer}/refinedBy"));
            if !is_text || *self != Self::default() || inner == Self::default() {
                return;
            }
            self.inner = Some(Box::new(inner));
        }
        let text = |field: &str| selector[field].as_str().unwrap_or_default().to_owned();
        let place = |field: &str| {
            selector[field]
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
        };
        if has_type(selector, "TextPositionSelector") {
            if let (Some(start), Some(end)) = (place("start"), place("end")) {
                let position = Position {
                    start,
                    end,
                    pointer,
                };
                match &self.position {
                    None => self.position = Some(position),
                    Some(_) => self.other_positions.push(position),
                }
            }
        } else if has_type(selector, "RangeSelector") && self.range.is_none() {
            let (mut start, mut end) = (Self::default(), Self::default());
            start.take(
                &selector["startSelector"],
                format!("{pointer}/startSelector"),
            );
            end.take(&selector["endSelector"], format!("{pointer}/endSelector"));
            let nothing = Self::default();
            if start != nothing && end != nothing {
                self.range = Some(Box::new(Range {
                    start,
                    end,
                    pointer,
                }));
            }
        } else if has_type(selector, "TextQuoteSelector") {
            let (exact, prefix, suffix) = (text("exact"), text("prefix"), text("suffix"));
            let quote = Quote {
                exact,
                prefix,
                suffix,
                pointer,
            };
            match &self.quote {
                None => self.quote = Some(quote),
                Some(_) => self.others.push(quote),
            }
        }
    }
}

/// Whether an object is of a type, alone or among others.
pub(super) fn has_type(value: &Value, wanted: &str) -> bool {
    match &value["type"] {
        Value::String(name) => name == wanted,
        Value::Array(names) => names.iter().any(|name| name == wanted),
        _ => false,
    }
}

/// A target, alone or within a set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed<'a> {
    /// Which of the annotation's targets it is, or is within.
    pub(super) index: usize,
    pub(super) pointer: String,
    pub(super) target: &'a Value,
}

/// The targets of an annotation, those within a `Choice` or another set in their places.
pub(super) fn targets(annotation: &Value) -> Vec<Placed<'_>> {
    let mut placed = Vec::new();
    match &annotation["target"] {
        Value::Array(targets) => {
            for (index, target) in targets.iter().enumerate() {
                place(index, format!("/target/{index}"), target, &mut placed);
            }
        }
        target => place(0, "/target".to_owned(), target, &mut placed),
    }
    placed
}

/// Takes up a target, or those that it is a set of; how deep sets stand in each other is bounded
/// where annotations are validated.
fn place<'a>(index: usize, pointer: String, target: &'a Value, placed: &mut Vec<Placed<'a>>) {
    let Some(items) = target.get("items").and_then(Value::as_array) else {
        placed.push(Placed {
            index,
            pointer,
            target,
        });
        return;
    };
    for (at, item) in items.iter().enumerate() {
        place(index, format!("{pointer}/items/{at}"), item, placed);
    }
}
