//! Annotations on the wire: the W3C JSON as it is stored, with what we know of it beside.

use serde_json::{Value, json};
use stemma_domain::annotation::{
    AnchorStatus, ORPHANED, OffsetUnit, TargetAnchor, TextIndex, anchors, translate,
};
use stemma_domain::event::Relation;
use stemma_domain::resource::{AnnotationState, Descriptor};

/// The texts that an annotation's positions are about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TextsOf<'a> {
    /// What the resource holds now, if it is text: anchors count in it.
    pub(crate) now: Option<&'a TextIndex>,
    /// What it held when the annotation was made: the author's own positions count in it.
    pub(crate) then: Option<&'a TextIndex>,
}

/// Renders an annotation of a resource; positions count in `unit`.
pub(crate) fn render(
    state: &AnnotationState,
    descriptor: &Descriptor,
    texts: TextsOf<'_>,
    unit: OffsetUnit,
) -> Value {
    let mut annotation = state.annotation.value();
    let is_this = |iri: &str| state.names(Relation::Target, iri) == Some(descriptor.id);
    // Where there is no text, no passage is found.
    let nothing = TextIndex::new("");
    let mut found = anchors(&annotation, &is_this, texts.now.unwrap_or(&nothing));
    if texts.now.is_none() {
        found.iter_mut().for_each(|found| found.anchor = ORPHANED);
    }
    let anchoring: Vec<Value> = found
        .iter()
        .map(|found| anchor(found, descriptor.content_revision, texts.now, unit))
        .collect();
    if let Some(text) = texts.then.filter(|_| unit != OffsetUnit::CodePoint) {
        // A position between the halves of a pair cannot be; were there one, all stay as stored.
        let mut translated = annotation.clone();
        if translate(&mut translated, &is_this, text, OffsetUnit::CodePoint, unit).is_ok() {
            annotation = translated;
        }
    }
    // A client's own property of the same name comes back as it was sent.
    if let Some(fields) = annotation.as_object_mut() {
        let own = [
            ("annotation_id", Value::from(state.id.to_string())),
            ("resource_id", descriptor.id.to_string().into()),
            ("revision", state.revision.into()),
        ];
        for (name, value) in own {
            fields.entry(name).or_insert(value);
        }
    }
    annotation["id"] = state.id.iri().into();
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
        "pointer": found.pointer,
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
