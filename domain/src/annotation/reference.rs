//! Which resources of ours an annotation names.

use serde_json::Value;
use uuid::Uuid;

/// Where an annotation names something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// In its body.
    Body,
    /// In its target.
    Target,
}

/// One naming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IriReference {
    /// Where.
    pub relation: Relation,
    /// The resource.
    pub resource: Uuid,
}

const RESOURCES: &str = "/api/resources/";

/// The resource that an IRI names: `/api/resources/{id}`, the same below one of our own URLs, or
/// `urn:uuid:{id}`. A query or fragment behind it is passed over.
pub fn resource_in_iri(iri: &str, bases: &[String]) -> Option<Uuid> {
    let own = || {
        let mut bases = bases.iter().map(|base| base.trim_end_matches('/'));
        bases.find_map(|base| iri.strip_prefix(base)?.strip_prefix(RESOURCES))
    };
    let id = iri
        .strip_prefix("urn:uuid:")
        .or_else(|| iri.strip_prefix(RESOURCES))
        .or_else(own)?;
    parse(id.split(['#', '?']).next().unwrap_or_default())
}

/// The resource that an IRI names if the URL that it stands below is, or once was, one of ours.
pub fn resource_at_end(iri: &str) -> Option<Uuid> {
    let iri = iri.split(['#', '?']).next().unwrap_or_default();
    match iri.strip_prefix("urn:uuid:") {
        Some(id) => parse(id),
        None => parse(iri.rsplit_once(RESOURCES)?.1),
    }
}

fn parse(id: &str) -> Option<Uuid> {
    let hyphenated = id.len() == 36 && !id.bytes().any(|b| b.is_ascii_uppercase());
    hyphenated.then(|| Uuid::try_parse(id).ok()).flatten()
}

/// All namings of an annotation, in order, repeated ones included.
pub fn references(annotation: &Value, resolve: &dyn Fn(&str) -> Option<Uuid>) -> Vec<IriReference> {
    let mut found = Vec::new();
    for (field, relation) in [("body", Relation::Body), ("target", Relation::Target)] {
        each_iri(&annotation[field], &mut |iri| {
            found.extend(resolve(iri).map(|resource| IriReference { relation, resource }));
        });
    }
    found
}

/// Calls `take` with every IRI by which a body or target names something.
fn each_iri(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::String(iri) => take(iri),
        Value::Array(items) => items.iter().for_each(|item| each_iri(item, take)),
        Value::Object(fields) => {
            if let Some(Value::String(id)) = fields.get("id") {
                take(id);
            }
            for nested in ["source", "items"] {
                if let Some(nested) = fields.get(nested) {
                    each_iri(nested, take);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "019a0000-0000-7000-8000-00000000000a";

    #[test]
    fn a_resource_is_named_by_path_by_our_url_and_by_urn() {
        let bases = ["https://stemma.example/".to_owned()];
        let id = Uuid::try_parse(ID).ok();
        for iri in [
            format!("/api/resources/{ID}"),
            format!("/api/resources/{ID}#para-2"),
            format!("https://stemma.example/api/resources/{ID}?x=1"),
            format!("urn:uuid:{ID}"),
        ] {
            assert_eq!(resource_in_iri(&iri, &bases), id, "{iri}");
        }
        for iri in [
            format!("https://other.example/api/resources/{ID}"),
            format!("/api/resources/{}", ID.to_uppercase()),
            format!("/api/resources/{ID}/content"),
            ID.to_owned(),
        ] {
            assert_eq!(resource_in_iri(&iri, &bases), None, "{iri}");
        }
    }

    #[test]
    fn references_are_found_in_every_shape() {
        let iri = format!("urn:uuid:{ID}");
        let annotation = json!({
            "body": [{ "type": "Choice", "items": [iri, { "id": iri }] }, "urn:other:x"],
            "target": { "source": { "id": iri, "type": "Text" } },
        });
        let found = references(&annotation, &|iri| resource_in_iri(iri, &[]));
        let relations: Vec<_> = found.iter().map(|reference| reference.relation).collect();
        assert_eq!(
            relations,
            [Relation::Body, Relation::Body, Relation::Target]
        );
    }
}
