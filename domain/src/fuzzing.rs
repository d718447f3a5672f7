//! What a fuzzer, and the test that replays its corpus, may ask of every reader of this crate.
//!
//! Each function panics when a reader does, or when what it read does not come back.

use serde_json::Value;
use uuid::Uuid;

use crate::annotation::{
    Context, OffsetUnit, TextIndex, anchors, completed, is_iri, references, resource_in_iri,
    translate, validate,
};
use crate::event::{self, Event};
use crate::json_text::JsonText;

/// The types of events, in the order in which the first byte picks them.
const TYPES: [&str; 16] = [
    "resource.created",
    "resource.cloned",
    "resource.revised",
    "resource.renamed",
    "resource.language_changed",
    "resource.metadata_changed",
    "resource.collection_changed",
    "resource.archived",
    "resource.unarchived",
    "annotation.added",
    "annotation.body_changed",
    "annotation.removed",
    "entity_type.added",
    "entity_type.removed",
    "entity_type.registered",
    "resource.access_changed",
];

/// Payloads of events: the first byte says of which type.
pub fn events(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let event_type = TYPES[usize::from(*kind) % TYPES.len()];
    let version = u16::from(*kind) / 16 % 3;
    let Ok(event) = event::decode(event_type, version, bytes) else {
        return;
    };
    let encoded = event.encode();
    assert_eq!(encoded.event_type, event_type);
    let again = event::decode(event_type, encoded.schema_version, &encoded.data);
    let again: Event = again.expect("it was written by us");
    assert_eq!(again.encode(), encoded, "the same fact has the same bytes");
}

/// Annotations as clients send them: the first byte tells in which unit positions are, the second
/// how long the text before the annotation is that it may point into.
pub fn annotations(data: &[u8]) {
    let [unit, length, rest @ ..] = data else {
        return;
    };
    let (text, annotation) = rest.split_at(rest.len().min(usize::from(*length)));
    let text = TextIndex::new(&String::from_utf8_lossy(text));
    let Ok(value) = serde_json::from_slice::<Value>(annotation) else {
        assert!(serde_json::from_slice::<JsonText>(annotation).is_err());
        return;
    };
    let read: JsonText = serde_json::from_slice(annotation).expect("it could be parsed");
    assert_eq!(read.value(), value);
    let resource = Uuid::from_u128(7);
    let is_this = |iri: &str| is_iri(iri) && iri.len().is_multiple_of(2);
    let Ok(mut annotation) = validate(value, &Context { resource }) else {
        return;
    };
    let unit = if unit.is_multiple_of(2) {
        OffsetUnit::CodePoint
    } else {
        OffsetUnit::Utf16
    };
    let _ = translate(
        &mut annotation,
        &is_this,
        &text,
        unit,
        OffsetUnit::CodePoint,
    );
    let Ok(completed) = completed(&annotation, &is_this, &text) else {
        return;
    };
    let annotation = completed.unwrap_or(annotation);
    let count = text.text().chars().count();
    for found in anchors(&annotation, &is_this, &text) {
        let span = found.anchor.span;
        assert!(span.is_none_or(|(start, end)| start <= end && end <= count));
    }
    let bases = ["http://a".to_owned()];
    let _ = references(&annotation, &|iri| resource_in_iri(iri, &bases));
}
