//! At write time a text target is given the selector that it lacks: a position its quote, a quote
//! its position. The author's own selectors stay first and as they were.

use serde_json::{Value, json};

use super::anchor::{anchor, between, passage};
use super::selector::{Placed, Position, Quote, Range, TextSelection, of_target, targets};
use super::text::TextIndex;
use super::validate::FieldError;

/// Code points of context kept on each side of a quote.
pub(super) const CONTEXT_CODE_POINTS: usize = 32;
/// Most bytes of quotes that are added to one annotation: as many as a batch of events may have, so
/// that nothing is refused here which the log would take.
const ADDED_BYTES_MAX: usize = 16 << 20;

/// The annotation with those of its targets completed that `is_this` says name this resource,
/// whose text is `text`; none when they lack nothing.
///
/// # Errors
/// A position beyond the text, a quote that is not in it, two that disagree, and positions whose
/// quotes are too long together, each with the JSON pointer of the selector.
pub fn completed(
    annotation: &Value,
    is_this: &dyn Fn(&str) -> bool,
    text: &TextIndex,
) -> Result<Option<Value>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut missing = Vec::new();
    let mut added_bytes = 0;
    for Placed {
        pointer, target, ..
    } in targets(annotation)
    {
        let Some(selection) = of_target(target, is_this, &pointer) else {
            continue;
        };
        match missing_selector(&selection, text) {
            Ok(selector) => {
                let quote = selector.as_ref().and_then(|added| added["exact"].as_str());
                added_bytes += quote.map_or(0, str::len);
                missing.extend(selector.map(|selector| (pointer, selector)));
            }
            Err(error) => errors.push(error),
        }
        if added_bytes > ADDED_BYTES_MAX {
            errors.extend(missing.pop().map(|(pointer, _)| too_long(&pointer)));
            break;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let mut completed = annotation.clone();
    for (pointer, selector) in missing {
        if let Some(target) = completed.pointer_mut(&pointer) {
            add_selector(target, selector);
        }
    }
    Ok(Some(completed))
}

/// Completes an annotation where it is.
#[cfg(test)]
pub(super) fn complete(
    annotation: &mut Value,
    is_this: &dyn Fn(&str) -> bool,
    text: &TextIndex,
) -> Result<(), Vec<FieldError>> {
    if let Some(completed) = completed(annotation, is_this, text)? {
        *annotation = completed;
    }
    Ok(())
}

fn add_selector(target: &mut Value, selector: Value) {
    let own = target["selector"].take();
    target["selector"] = match own {
        Value::Array(mut selectors) => {
            selectors.push(selector);
            Value::Array(selectors)
        }
        own => json!([own, selector]),
    };
}

fn missing_selector(
    selection: &TextSelection,
    text: &TextIndex,
) -> Result<Option<Value>, FieldError> {
    for other in &selection.others {
        position_of(other, text)?;
    }
    for other in &selection.other_positions {
        check_position(other, text)?;
        let differs = |own: &Position| (own.start, own.end) != (other.start, other.end);
        if selection.position.as_ref().is_some_and(differs) {
            let detail = "another position of this target names other text";
            return Err(disagree(&other.pointer, detail));
        }
    }
    if let Some(range) = &selection.range {
        let place = check_range(range, selection.position.as_ref(), text)?;
        if selection.quote.is_none() && selection.inner.is_none() {
            return Ok(place.filter(|_| selection.position.is_none()));
        }
    }
    if let Some(inner) = &selection.inner {
        return check_refined(selection, inner, text).map(|()| None);
    }
    match (&selection.position, &selection.quote) {
        (None, None) => Ok(None),
        (Some(position), None) => {
            check_position(position, text)?;
            Ok(quote_at(position, text))
        }
        (Some(position), Some(quote)) => {
            check_position(position, text)?;
            if text.slice(position.start, position.end) != Some(&quote.exact) {
                let detail = "the text at the position is not the quote";
                return Err(disagree(&quote.pointer, detail));
            }
            if !stands_at(quote, position, text) {
                let detail = "what stands around the position is not the quote's prefix and suffix";
                return Err(disagree(&quote.pointer, detail));
            }
            Ok(None)
        }
        (None, Some(quote)) => position_of(quote, text).map(Some),
    }
}

fn too_long(target: &str) -> FieldError {
    FieldError {
        pointer: format!("{target}/selector"),
        code: "QUOTES_TOO_LONG",
        detail: format!(
            "what the positions select is kept as quotes, of {ADDED_BYTES_MAX} bytes together at most"
        ),
    }
}

fn disagree(pointer: &str, detail: &str) -> FieldError {
    FieldError {
        pointer: pointer.to_owned(),
        code: "SELECTORS_DISAGREE",
        detail: detail.to_owned(),
    }
}

/// Whether a quote has its prefix and suffix around this place.
fn stands_at(quote: &Quote, position: &Position, text: &TextIndex) -> bool {
    let before = text.slice(0, position.start);
    let after = text.slice(position.end, text.len());
    before.is_some_and(|before| before.ends_with(&quote.prefix))
        && after.is_some_and(|after| after.starts_with(&quote.suffix))
}

/// Holds a range against the text, and against a position beside it; gives its position.
fn check_range(
    range: &Range,
    position: Option<&Position>,
    text: &TextIndex,
) -> Result<Option<Value>, FieldError> {
    for end in [&range.start, &range.end] {
        missing_selector(end, text)?;
    }
    let [start, end] = [&range.start, &range.end].map(|end| anchor(end, text));
    if start.span.map(|span| span.0) > end.span.map(|span| span.0) {
        return Err(FieldError {
            pointer: format!("{}/endSelector", range.pointer),
            code: "END_BEFORE_START",
            detail: "the end comes before the start".to_owned(),
        });
    }
    let Some((start, end)) = between(start, end, position).span else {
        return Ok(None);
    };
    if position.is_some_and(|position| (position.start, position.end) != (start, end)) {
        let detail = "another selector of this target names other text";
        return Err(disagree(&range.pointer, detail));
    }
    let position = json!({ "type": "TextPositionSelector", "start": start, "end": end });
    Ok(Some(position))
}

/// Holds a refined selection against the text. It is kept as it is: another selector beside it would
/// select more.
fn check_refined(
    outer: &TextSelection,
    inner: &TextSelection,
    text: &TextIndex,
) -> Result<(), FieldError> {
    let plain = TextSelection {
        inner: None,
        ..outer.clone()
    };
    missing_selector(&plain, text)?;
    let Some(passage) = passage(&anchor(&plain, text), text) else {
        return Ok(());
    };
    missing_selector(inner, &passage).map(drop)
}

fn check_position(position: &Position, text: &TextIndex) -> Result<(), FieldError> {
    if position.end < position.start {
        return Err(FieldError {
            pointer: format!("{}/end", position.pointer),
            code: "END_BEFORE_START",
            detail: "the end comes before the start".to_owned(),
        });
    }
    if position.end <= text.len() {
        return Ok(());
    }
    Err(FieldError {
        pointer: format!("{}/end", position.pointer),
        code: "POSITION_BEYOND_TEXT",
        detail: format!("the text has {} code points", text.len()),
    })
}

fn quote_at(position: &Position, text: &TextIndex) -> Option<Value> {
    let (start, end) = (position.start, position.end);
    let before = start.saturating_sub(CONTEXT_CODE_POINTS);
    let after = (end + CONTEXT_CODE_POINTS).min(text.len());
    Some(json!({
        "type": "TextQuoteSelector",
        "exact": text.slice(start, end)?,
        "prefix": text.slice(before, start)?,
        "suffix": text.slice(end, after)?,
    }))
}

fn position_of(quote: &Quote, text: &TextIndex) -> Result<Value, FieldError> {
    // With its context as one: looked for by themselves, a short quote would be held against a long
    // context as often as it occurs.
    let whole = [&*quote.prefix, &quote.exact, &quote.suffix].concat();
    let found = text.text().find(&whole).filter(|_| !quote.exact.is_empty());
    let Some(start) = found.map(|start| start + quote.prefix.len()) else {
        return Err(FieldError {
            pointer: format!("{}/exact", quote.pointer),
            code: "QUOTE_NOT_FOUND",
            detail: "the text does not hold this quote between its prefix and suffix".to_owned(),
        });
    };
    let end = text.code_point_of(start + quote.exact.len());
    let start = text.code_point_of(start);
    Ok(json!({ "type": "TextPositionSelector", "start": start, "end": end }))
}

/// Makes every target that `is_source` says names the source name `iri` instead.
pub fn retarget(annotation: &mut Value, is_source: &dyn Fn(&str) -> bool, iri: &str) {
    fn rename(target: &mut Value, is_source: &dyn Fn(&str) -> bool, iri: &str) {
        match target {
            Value::String(named) if is_source(named) => iri.clone_into(named),
            Value::Array(targets) => {
                targets
                    .iter_mut()
                    .for_each(|target| rename(target, is_source, iri));
            }
            Value::Object(fields) => {
                for field in ["id", "source", "items"] {
                    if let Some(named) = fields.get_mut(field) {
                        rename(named, is_source, iri);
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(target) = annotation.get_mut("target") {
        rename(target, is_source, iri);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(selector: &Value, text: &str) -> Result<Value, Vec<FieldError>> {
        let mut annotation = json!({ "target": { "source": "/this", "selector": selector } });
        complete(
            &mut annotation,
            &|iri| iri == "/this",
            &TextIndex::new(text),
        )?;
        Ok(annotation["target"]["selector"].clone())
    }

    #[test]
    fn a_position_gets_its_quote_with_32_code_points_around_it() {
        let text = format!("{}🪐Saturn{}", "a".repeat(40), "b".repeat(40));
        let own = json!({ "type": "TextPositionSelector", "start": 41, "end": 47 });
        let selectors = completed(&own, &text).unwrap();
        assert_eq!(selectors[0], own);
        assert_eq!(selectors[1]["exact"], "Saturn");
        assert_eq!(selectors[1]["prefix"], format!("{}🪐", "a".repeat(31)));
        assert_eq!(selectors[1]["suffix"], "b".repeat(32));
    }

    #[test]
    fn a_quote_gets_its_position_and_its_context_chooses_among_several() {
        let own = json!({ "type": "TextQuoteSelector", "exact": "star", "prefix": "second " });
        let selectors = completed(&own, "first star, second star").unwrap();
        assert_eq!(
            selectors[1],
            json!({ "type": "TextPositionSelector", "start": 19, "end": 23 })
        );
    }

    #[test]
    fn a_quote_is_found_where_it_overlaps_one_without_its_context() {
        let quote =
            json!({ "type": "TextQuoteSelector", "exact": "aa", "prefix": "a", "suffix": "b" });
        let selectors = completed(&quote, "aa aaab aaab").unwrap();
        assert_eq!(
            (&selectors[1]["start"], &selectors[1]["end"]),
            (&json!(4), &json!(6))
        );
        let nothing = json!({ "type": "TextQuoteSelector", "exact": "", "suffix": "b" });
        let refused = completed(&nothing, "aab").unwrap_err();
        assert_eq!(refused[0].code, "QUOTE_NOT_FOUND");
    }

    /// A few positions over a long text became as many copies of it.
    #[test]
    fn positions_are_given_quotes_up_to_a_bound() {
        let text = TextIndex::new(&"a".repeat(ADDED_BYTES_MAX / 4));
        let over_all = json!({ "source": "/this", "selector":
            { "type": "TextPositionSelector", "start": 0, "end": text.len() } });
        let of = |count: usize| {
            let annotation = json!({ "target": vec![over_all.clone(); count] });
            super::completed(&annotation, &|_| true, &text)
        };
        assert!(of(4).unwrap().is_some());
        let refused = of(1000).unwrap_err();
        assert_eq!(
            (refused.len(), refused[0].code, &*refused[0].pointer),
            (1, "QUOTES_TOO_LONG", "/target/4/selector")
        );
    }

    #[test]
    fn what_does_not_fit_the_text_is_refused_with_its_place() {
        let code = |selector: Value| completed(&selector, "one star").unwrap_err().remove(0);
        let beyond = code(json!({ "type": "TextPositionSelector", "start": 4, "end": 9 }));
        assert_eq!(
            (beyond.code, &*beyond.pointer),
            ("POSITION_BEYOND_TEXT", "/target/selector/end")
        );
        let absent = code(json!({ "type": "TextQuoteSelector", "exact": "moon" }));
        assert_eq!(
            (absent.code, &*absent.pointer),
            ("QUOTE_NOT_FOUND", "/target/selector/exact")
        );
        let both = code(json!([
            { "type": "TextPositionSelector", "start": 0, "end": 3 },
            { "type": "TextQuoteSelector", "exact": "star" },
        ]));
        assert_eq!(
            (both.code, &*both.pointer),
            ("SELECTORS_DISAGREE", "/target/selector/1")
        );
    }

    #[test]
    fn a_second_position_and_the_context_of_a_quote_must_agree() {
        let disagrees = |selector: Value| {
            let error = completed(&selector, "one star, two stars")
                .unwrap_err()
                .remove(0);
            assert_eq!(error.code, "SELECTORS_DISAGREE");
            error.pointer
        };
        let at = |start: u64| json!({ "type": "TextPositionSelector", "start": start, "end": start + 4 });
        assert_eq!(disagrees(json!([at(4), at(14)])), "/target/selector/1");
        let quote = json!({ "type": "TextQuoteSelector", "exact": "star", "prefix": "two " });
        assert_eq!(disagrees(json!([at(4), quote])), "/target/selector/1");
        assert!(completed(&json!([at(14), quote, at(14)]), "one star, two stars").is_ok());
    }

    #[test]
    fn the_ends_of_a_range_are_held_against_the_text_and_it_gets_its_position() {
        let quote = |exact: &str| json!({ "type": "TextQuoteSelector", "exact": exact });
        let range = |start: &str, end: &str| json!({ "type": "RangeSelector", "startSelector": quote(start), "endSelector": quote(end) });
        let text = "from here to there";
        let own = range("here", "there");
        let place = json!({ "type": "TextPositionSelector", "start": 5, "end": 13 });
        let both = json!([own, place]);
        assert_eq!(completed(&own, text).unwrap(), both);
        assert_eq!(completed(&both, text).unwrap(), both);
        let elsewhere = json!([{ "type": "TextPositionSelector", "start": 5, "end": 12 }, own]);
        let error = completed(&elsewhere, text).unwrap_err().remove(0);
        assert_eq!(
            (error.code, &*error.pointer),
            ("SELECTORS_DISAGREE", "/target/selector/1")
        );
        let refused = |start, end| {
            let error = completed(&range(start, end), text).unwrap_err().remove(0);
            (error.code, error.pointer)
        };
        let absent = "/target/selector/startSelector/exact".to_owned();
        assert_eq!(refused("nowhere", "there"), ("QUOTE_NOT_FOUND", absent));
        let end = "/target/selector/endSelector".to_owned();
        assert_eq!(refused("there", "from"), ("END_BEFORE_START", end));
    }

    #[test]
    fn a_target_within_a_set_is_completed_in_its_place() {
        let quote = |exact: &str| json!({ "type": "TextQuoteSelector", "exact": exact });
        let item = |exact: &str| json!({ "source": "/this", "selector": quote(exact) });
        let list = json!({ "type": "List", "items": [item("one"), "/other"] });
        let set = json!({ "type": "Choice", "items": [list, item("two")] });
        let mut annotation = json!({ "target": ["/other", set] });
        let is_this = |iri: &str| iri == "/this";
        complete(&mut annotation, &is_this, &TextIndex::new("one two")).unwrap();
        let start =
            |pointer: &str| annotation.pointer(pointer).unwrap()["selector"][1]["start"].clone();
        assert_eq!(start("/target/1/items/0/items/0"), 0);
        assert_eq!(start("/target/1/items/1"), 4);
        let wrong = json!({ "target": { "type": "List", "items": [item("one"), item("three")] } });
        let error = complete(&mut wrong.clone(), &is_this, &TextIndex::new("one two")).unwrap_err();
        assert_eq!(error[0].pointer, "/target/items/1/selector/exact");
    }

    #[test]
    fn targets_elsewhere_and_refined_ones_are_left_alone() {
        for target in [
            json!({ "source": "/other", "selector": { "type": "TextQuoteSelector", "exact": "x" } }),
            json!({ "source": "/this", "selector": { "type": "XPathSelector", "value": "/p",
                "refinedBy": { "type": "TextPositionSelector", "start": 900, "end": 901 } } }),
            json!("/this"),
        ] {
            let mut annotation = json!({ "target": [target.clone()] });
            complete(
                &mut annotation,
                &|iri| iri == "/this",
                &TextIndex::new("abc"),
            )
            .unwrap();
            assert_eq!(annotation["target"][0], target);
        }
    }
}
