//! Annotations on the wire: the W3C JSON as it is stored, with what we know of it beside.

use serde_json::{Value, json};
use stemma_domain::annotation::{
    AnchorStatus, OffsetUnit, TargetAnchor, TextIndex, anchors, translate,
};
use stemma_domain::resource::{AnnotationState, Descriptor, IriNames};

/// Renders an annotation of a resource whose text is `text`, if it has one; positions count in
/// `unit`.
pub(crate) fn render(
    state: &AnnotationState,
    descriptor: &Descriptor,
    text: Option<&TextIndex>,
    names: IriNames<'_>,
    unit: OffsetUnit,
) -> Value {
    let mut annotation = state.annotation.clone();
    let is_this = |iri: &str| names.resolve(iri) == Some(descriptor.id);
    let found = text
        .map(|text| anchors(&annotation, &is_this, text))
        .unwrap_or_default();
    let anchoring: Vec<Value> = found
        .iter()
        .map(|found| anchor(found, descriptor.content_revision, text, unit))
        .collect();
    if let Some(text) = text {
        // The author's position may lie beyond today's text; it is then given as it was stored.
        let mut translated = annotation.clone();
        if translate(&mut translated, &is_this, text, OffsetUnit::CodePoint, unit).is_ok() {
            annotation = translated;
        }
    }
    annotation["id"] = state.id.iri().into();
    annotation["annotation_id"] = state.id.to_string().into();
    annotation["resource_id"] = descriptor.id.to_string().into();
    annotation["revision"] = state.revision.into();
    annotation["anchoring"] = anchoring.into();
    if annotation.get("created").is_none() {
        annotation["created"] = state.added_at.to_string().into();
    }
    if let Some(modified) = state.modified_at {
        annotation["modified"] = modified.to_string().into();
    }
    annotation
}

fn anchor(
    found: &TargetAnchor,
    revision: u64,
    text: Option<&TextIndex>,
    unit: OffsetUnit,
) -> Value {
    let status = match found.anchor.status {
        AnchorStatus::Exact => "exact",
        AnchorStatus::Moved => "moved",
        AnchorStatus::Fuzzy => "fuzzy",
        AnchorStatus::Orphaned => "orphaned",
    };
    let mut rendered = json!({
        "target": found.target,
        "status": status,
        "score": found.anchor.score,
        "revision": revision,
    });
    let place = |code_point: usize| match (unit, text) {
        (OffsetUnit::Utf16, Some(text)) => text.utf16_of(code_point),
        _ => Some(code_point),
    };
    if let Some((start, end)) = found.anchor.span {
        rendered["start"] = place(start).into();
        rendered["end"] = place(end).into();
    }
    rendered
}
