//! Annotations on the wire: the W3C JSON as it is stored, with what we know of it beside.

use std::fmt::Write;

use serde_json::{Value, json};
use stemma_domain::annotation::{
    AnchorStatus, ORPHANED, OffsetUnit, TargetAnchor, TextIndex, anchors, translate,
};
use stemma_domain::event::Relation;
use stemma_domain::json_text::{JsonText, write_json};
use stemma_domain::resource::{AnnotationState, Descriptor};
use stemma_domain::time::Timestamp;
use uuid::Uuid;

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

/// A property of ours in an annotation as it is shown.
struct Own<'a> {
    name: &'static str,
    value: OwnValue<'a>,
    /// Whether a client's own property of that name comes back as it was sent.
    gives_way: bool,
}

/// Its value.
enum OwnValue<'a> {
    Json(&'a Value),
    Id(Uuid),
    /// The IRI of such an id.
    Iri(Uuid),
    Time(Timestamp),
    Number(u64),
}

impl OwnValue<'_> {
    /// Writes it as JSON; none of the texts has anything to escape.
    fn write(&self, out: &mut String) {
        let id = |uuid: &Uuid, before: &str, out: &mut String| {
            out.push_str(before);
            let mut digits = Uuid::encode_buffer();
            out.push_str(uuid.hyphenated().encode_lower(&mut digits));
            out.push('"');
        };
        match self {
            Self::Json(value) => write_json(value, out),
            Self::Id(uuid) => id(uuid, "\"", out),
            Self::Iri(uuid) => id(uuid, "\"urn:uuid:", out),
            Self::Time(time) => write!(out, "\"{time}\"").expect("a string takes all"),
            Self::Number(number) => write!(out, "{number}").expect("a string takes all"),
        }
    }
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
    let anchoring = if points_into(state, descriptor) {
        let anchored = match &stored {
            Some(fields) => target_of(fields),
            None => state.annotation.value(),
        };
        anchoring(&anchored, state, descriptor, texts, unit)
    } else {
        Value::Array(Vec::new())
    };
    let own = own(state, descriptor, &anchoring);
    let annotation = translated.as_ref().unwrap_or(&state.annotation);
    let fields = match &translated {
        Some(translated) => translated.plain_properties(),
        None => stored,
    };
    match fields {
        Some(fields) => {
            let bytes = annotation.as_str().len() + OWN_BYTES_EXPECTED;
            put_between(&fields, own, String::with_capacity(bytes))
        }
        None => put_into(annotation.value(), own),
    }
}

/// Whether any target of an annotation names its resource, or a passage in it.
fn points_into(state: &AnnotationState, descriptor: &Descriptor) -> bool {
    let mut targets = state.references.iter();
    targets.any(|r| r.relation == Relation::Target && r.resource_id == descriptor.id)
}

/// Whether an IRI in a target of an annotation names its resource.
fn is_of<'a>(state: &'a AnnotationState, descriptor: &Descriptor) -> impl Fn(&str) -> bool + 'a {
    let id = descriptor.id;
    move |iri| state.names(Relation::Target, iri) == Some(id)
}

/// The annotation with the author's positions in another unit.
fn translated(
    state: &AnnotationState,
    descriptor: &Descriptor,
    text: &TextIndex,
    unit: OffsetUnit,
) -> Option<JsonText> {
    let is_this = is_of(state, descriptor);
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
    let is_this = is_of(state, descriptor);
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
fn own<'a>(
    state: &AnnotationState,
    descriptor: &Descriptor,
    anchoring: &'a Value,
) -> impl Iterator<Item = Own<'a>> {
    let gives_way = |name, value| Own {
        name,
        value,
        gives_way: true,
    };
    let holds = |name, value| Own {
        name,
        value,
        gives_way: false,
    };
    let modified = state.modified_at.map(OwnValue::Time);
    let all = [
        Some(holds("anchoring", OwnValue::Json(anchoring))),
        Some(gives_way("annotation_id", OwnValue::Id(state.id.uuid()))),
        Some(gives_way("created", OwnValue::Time(state.added_at))),
        Some(holds("id", OwnValue::Iri(state.id.uuid()))),
        modified.map(|modified| holds("modified", modified)),
        Some(gives_way("resource_id", OwnValue::Id(descriptor.id.uuid()))),
        Some(gives_way("revision", OwnValue::Number(state.revision))),
    ];
    all.into_iter().flatten()
}

/// An object of these properties and ours, both in the order of their names.
fn put_between<'a>(
    fields: &[(&str, &str)],
    own: impl Iterator<Item = Own<'a>>,
    mut out: String,
) -> String {
    let begin = |name: &str, out: &mut String| {
        out.push_str(if out.is_empty() { "{\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
    };
    let put = |own: &Own<'_>, out: &mut String| {
        begin(own.name, out);
        own.value.write(out);
    };
    let mut own = own.peekable();
    for (name, json) in fields {
        while let Some(before) = own.next_if(|own| own.name < *name) {
            put(&before, &mut out);
        }
        match own.next_if(|own| own.name == *name) {
            Some(own) if !own.gives_way => put(&own, &mut out),
            _ => {
                begin(name, &mut out);
                out.push_str(json);
            }
        }
    }
    own.for_each(|own| put(&own, &mut out));
    out.push('}');
    out
}

/// The same for one that was written in another way.
fn put_into<'a>(mut annotation: Value, own: impl Iterator<Item = Own<'a>>) -> String {
    if let Some(fields) = annotation.as_object_mut() {
        for own in own {
            if own.gives_way && fields.contains_key(own.name) {
                continue;
            }
            let mut json = String::new();
            own.value.write(&mut json);
            // What we wrote can be parsed.
            let value = serde_json::from_str(&json).unwrap_or_default();
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
    use stemma_domain::value::{MediaType, ResourceName};

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

    /// A7: a target that names the resource is anchored in its text, however it is written.
    #[test]
    fn a_target_in_the_resource_is_told_where_it_stands() {
        let resource = "00000000-0000-0000-0000-000000000001";
        let target = format!(
            r#"{{"selector":{{"exact":"moons","type":"TextQuoteSelector"}},"source":"urn:uuid:{resource}"}}"#
        );
        let text = TextIndex::new("four moons");
        for annotation in [
            format!(r#"{{"target":{target}}}"#),
            format!(r#"{{ "target" : {target} }}"#),
        ] {
            let mut state = state(&annotation);
            let rendered = render_over(&state, &text);
            assert!(rendered.starts_with(r#"{"anchoring":[],"#), "{rendered}");
            state.references.push(Reference {
                relation: Relation::Target,
                resource_id: ResourceId::new(Uuid::from_u128(1)),
            });
            let expected = r#"{"anchoring":[{"end":10,"pointer":"/target","revision":0,"score":1.0,"start":5,"status":"moved","target":0}],"annotation_id":"#;
            let rendered = render_over(&state, &text);
            assert!(rendered.starts_with(expected), "{rendered}");
            assert!(rendered.ends_with(&format!(
                r#""resource_id":"{resource}","revision":2,"target":{target}}}"#
            )));
        }
    }

    fn render_in(state: &AnnotationState) -> String {
        render_with(state, TextsOf::default())
    }

    fn render_over(state: &AnnotationState, text: &TextIndex) -> String {
        let (now, then) = (Some(text), Some(text));
        render_with(state, TextsOf { now, then })
    }

    fn render_with(state: &AnnotationState, texts: TextsOf<'_>) -> String {
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
        render(state, &descriptor, texts, OffsetUnit::default())
    }
}
