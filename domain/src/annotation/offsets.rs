//! Positions in the units of the one who asks: code points, as the W3C model counts, or UTF-16
//! units, as browsers do.

use serde_json::Value;

use super::selector::{TextSelection, of_target, targets};
use super::text::TextIndex;
use super::validate::FieldError;

/// What a position counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetUnit {
    /// Unicode code points.
    #[default]
    CodePoint,
    /// UTF-16 code units.
    Utf16,
}

/// Translates the text positions of the targets that `is_this` says name this resource, between
/// code points and `unit`.
///
/// # Errors
/// Positions that are none in the text, each with its JSON pointer: beyond its end, or inside a
/// surrogate pair. The annotation may be translated in part then.
pub fn translate(
    annotation: &mut Value,
    is_this: &dyn Fn(&str) -> bool,
    text: &TextIndex,
    from: OffsetUnit,
    to: OffsetUnit,
) -> Result<(), Vec<FieldError>> {
    if from == to {
        return Ok(());
    }
    let convert = |place: usize| match from {
        OffsetUnit::CodePoint => text.utf16_of(place),
        OffsetUnit::Utf16 => text.code_point_of_utf16(place),
    };
    let positions: Vec<_> = targets(annotation)
        .into_iter()
        .filter_map(|placed| of_target(placed.target, is_this, &placed.pointer))
        .flat_map(TextSelection::positions)
        .collect();
    let mut errors = Vec::new();
    for position in positions {
        for (field, place) in [("start", position.start), ("end", position.end)] {
            let pointer = format!("{}/{field}", position.pointer);
            match (convert(place), annotation.pointer_mut(&pointer)) {
                (Some(converted), Some(value)) => *value = converted.into(),
                _ => errors.push(FieldError {
                    pointer,
                    code: "POSITION_BEYOND_TEXT",
                    detail: "not a place between two characters of the text".to_owned(),
                }),
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn positions_go_to_utf16_and_back() {
        let text = TextIndex::new("🪐 Saturn");
        let own = json!({ "target": { "source": "/this", "selector":
            { "type": "TextPositionSelector", "start": 2, "end": 8 } } });
        let mut annotation = own.clone();
        let (points, units) = (OffsetUnit::CodePoint, OffsetUnit::Utf16);
        translate(&mut annotation, &|_| true, &text, points, units).unwrap();
        assert_eq!(annotation["target"]["selector"]["start"], 3);
        translate(&mut annotation, &|_| true, &text, units, points).unwrap();
        assert_eq!(annotation, own);
    }

    #[test]
    fn a_place_inside_a_surrogate_pair_is_refused() {
        let mut annotation = json!({ "target": { "source": "/this", "selector":
            { "type": "TextPositionSelector", "start": 1, "end": 2 } } });
        let (points, units) = (OffsetUnit::CodePoint, OffsetUnit::Utf16);
        let text = TextIndex::new("🪐");
        let errors = translate(&mut annotation, &|_| true, &text, units, points).unwrap_err();
        assert_eq!(errors[0].pointer, "/target/selector/start");
    }
}
