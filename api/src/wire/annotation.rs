//! Annotations on the wire: the W3C JSON as it is stored, with what we know of it beside.

use serde_json::{Value, json};
use stemma_domain::annotation::{
    AnchorStatus, ORPHANED, OffsetUnit, TargetAnchor, TextIndex, anchors, translate,
};
use stemma_domain::event::Relation;
use stemma_domain::json_text::JsonText;
use stemma_domain::resource::{AnnotationState, Descriptor};

/// Bytes that our own properties mostly take.
const OWN_BYTES_EXPECTED: usize = 512;

/// The texts that an annotation's positions are about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TextsOf<'a> {
    /// What the resource holds now, if it is text: anchors count in it.
    pub(crate) now: Option<&'a TextIndex>,
    /// What it held when the annotation was made: the author's own positions count in it.
    pub(crate) then: Option<&'a TextIndex>,
}

/// A property of ours in an annotation as it is shown, with its JSON.
struct Own {
    name: &'static str,
    json: String,
    /// Whether a client's own property of that name comes back as it was sent.
    gives_way: bool,
}

/// Renders an annotation of a resource as JSON; positions count in `unit`.
pub(crate) fn render(
    state: &AnnotationState,
    descriptor: &Descriptor,
    texts: TextsOf<'_>,
    unit: OffsetUnit,
) -> String {
    let translated = texts
        .then
        .filter(|_| unit != OffsetUnit::CodePoint)
        .and_then(|text| translated(state, descriptor, text, unit));
    // Anchors are looked for where the author's positions are, as they are stored.
    let stored = state.annotation.plain_properties();
    let anchored = match &stored {
        Some(fields) => target_of(fields),
        None => state.annotation.value(),
    };
    let anchoring = anchoring(&anchored, state, descriptor, texts, unit);
    let own = own(state, descriptor, &anchoring);
    let annotation = translated.as_ref().unwrap_or(&state.annotation);
    let fields = match &translated {
        Some(translated) => translated.plain_properties(),
        None => stored,
    };
    match fields {
        Some(fields) => {
            let bytes = annotation.as_str().len() + OWN_BYTES_EXPECTED;
            put_between(&fields, &own, String::with_capacity(bytes))
        }
        None => put_into(annotation.value(), &own),
    }
}

/// The annotation with the author's positions in another unit.
fn translated(
    state: &AnnotationState,
    descriptor: &Descriptor,
    text: &TextIndex,
    unit: OffsetUnit,
) -> Option<JsonText> {
    let is_this = |iri: &str| state.names(Relation::Target, iri) == Some(descriptor.id);
    let mut annotation = state.annotation.value();
    // A position between the halves of a pair cannot be; were there one, all stay as stored.
    translate(&mut annotation, &is_this, text, OffsetUnit::CodePoint, unit).ok()?;
    Some(JsonText::of(&annotation))
}

/// An annotation of which only the targets are there.
fn target_of(fields: &[(&str, &str)]) -> Value {
    let target = fields.iter().find(|(name, _)| *name == "target");
    // What stands in a plain text can be parsed.
    let target = target.and_then(|(_, text)| serde_json::from_str::<Value>(text).ok());
    target.map_or(Value::Null, |target| json!({ "target": target }))
}

/// Where the targets are in today's text.
fn anchoring(
    annotation: &Value,
    state: &AnnotationState,
    descriptor: &Descriptor,
    texts: TextsOf<'_>,
    unit: OffsetUnit,
) -> Value {
    let is_this = |iri: &str| state.names(Relation::Target, iri) == Some(descriptor.id);
    // Where there is no text, no passage is found.
    let nothing = TextIndex::new("");
    let mut found = anchors(annotation, &is_this, texts.now.unwrap_or(&nothing));
    if texts.now.is_none() {
        found.iter_mut().for_each(|found| found.anchor = ORPHANED);
    }
    found
        .iter()
        .map(|found| anchor(found, descriptor.content_revision, texts.now, unit))
        .collect()
}

/// What we add, in the order of the names.
fn own(state: &AnnotationState, descriptor: &Descriptor, anchoring: &Value) -> Vec<Own> {
    let text = |text: &dyn std::fmt::Display| format!("\"{text}\"");
    let gives_way = |name, json| Own {
        name,
        json,
        gives_way: true,
    };
    let holds = |name, json| Own {
        name,
        json,
        gives_way: false,
    };
    let modified = state.modified_at.as_ref();
    let mut own = vec![
        holds("anchoring", anchoring.to_string()),
        gives_way("annotation_id", text(&state.id)),
        gives_way("created", text(&state.added_at)),
        holds("id", text(&state.id.iri())),
    ];
    own.extend(modified.map(|modified| holds("modified", text(modified))));
    own.push(gives_way("resource_id", text(&descriptor.id)));
    own.push(gives_way("revision", state.revision.to_string()));
    own
}

/// An object of these properties and ours, both in the order of their names.
fn put_between(fields: &[(&str, &str)], own: &[Own], mut out: String) -> String {
    let mut put = |name: &str, json: &str| {
        out.push_str(if out.is_empty() { "{\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
        out.push_str(json);
    };
    let mut own = own.iter().peekable();
    for (name, json) in fields {
        while let Some(before) = own.next_if(|own| own.name < *name) {
            put(before.name, &before.json);
        }
        match own.next_if(|own| own.name == *name) {
            Some(own) if !own.gives_way => put(name, &own.json),
            _ => put(name, json),
        }
    }
    own.for_each(|own| put(own.name, &own.json));
    out.push('}');
    out
}

/// The same for one that was written in another way.
fn put_into(mut annotation: Value, own: &[Own]) -> String {
    if let Some(fields) = annotation.as_object_mut() {
        for own in own {
            if own.gives_way && fields.contains_key(own.name) {
                continue;
            }
            // What we wrote can be parsed.
            let value = serde_json::from_str(&own.json).unwrap_or_default();
            fields.insert(own.name.to_owned(), value);
        }
    }
    annotation.to_string()
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

#[cfg(test)]
mod tests {
    use stemma_domain::event::{Envelope, Event, Reference, ResourceCreated};
    use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
    use stemma_domain::resource::Access;
    use stemma_domain::time::Timestamp;
    use stemma_domain::value::{MediaType, ResourceName};
    use uuid::Uuid;

    use super::*;

    fn state(annotation: &str) -> AnnotationState {
        AnnotationState {
            id: AnnotationId::new(Uuid::from_u128(7)),
            annotation: serde_json::from_str(annotation).unwrap(),
            references: Vec::<Reference>::new(),
            added_at: Timestamp::from_micros(0),
            added_by: "me".to_owned(),
            added_position: 3,
            modified_at: None,
            revision: 2,
        }
    }

    /// A8: however it is written, an annotation comes back with all that it has, and with ours.
    #[test]
    fn our_properties_stand_between_the_clients_and_give_way_where_they_may() {
        let id = "urn:uuid:00000000-0000-0000-0000-000000000007";
        let plain = r#"{"annotation_id":"mine","body":[],"created":null,"z":"\"","ä":1}"#;
        let odd =
            r#"{ "z":"\u0022", "body":[],"\u0061nnotation_id":"mine","created":null,"\u00e4":1}"#;
        for text in [plain, odd] {
            let rendered = render_in(&state(text));
            let value: Value = serde_json::from_str(&rendered).unwrap();
            let expected = json!({
                "anchoring": [], "annotation_id": "mine", "body": [], "created": null, "id": id,
                "resource_id": "00000000-0000-0000-0000-000000000001", "revision": 2, "z": "\"",
                "ä": 1,
            });
            assert_eq!(value, expected, "{text}");
            assert_eq!(rendered, expected.to_string(), "{text}");
        }
        let mut changed = state("{}");
        changed.modified_at = Some(Timestamp::from_micros(1));
        let names = r#"{"anchoring":[],"annotation_id":"00000000-0000-0000-0000-000000000007","created":"1970-01-01T00:00:00.000000Z","id":""#;
        let rendered = render_in(&changed);
        assert!(rendered.starts_with(names), "{rendered}");
        assert!(rendered.contains(r#","modified":"1970-01-01T00:00:00.000001Z","resource_id":"#));
    }

    fn render_in(state: &AnnotationState) -> String {
        let created = ResourceCreated {
            access: Access::default(),
            byte_size: 0,
            collection: None,
            derived_from: None,
            digest: ContentDigest::from_bytes([0; 32]),
            entity_types: vec![],
            id: ResourceId::new(Uuid::from_u128(1)),
            language: None,
            media_type: MediaType::new("text/plain").unwrap(),
            metadata: serde_json::Map::new(),
            name: ResourceName::new("n").unwrap(),
        };
        let envelope = Envelope {
            position: 0,
            revision: 0,
            recorded_at: Timestamp::from_micros(0),
            actor: "me",
        };
        let created = Event::ResourceCreated(created);
        let descriptor = Descriptor::start(&envelope, &created).unwrap();
        render(
            state,
            &descriptor,
            TextsOf::default(),
            OffsetUnit::default(),
        )
    }
}
