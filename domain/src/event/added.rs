//! `annotation.added`, of which logs hold most, written and read without a tree or a second look.
//!
//! Invariant: what is written is what serde would write; what is read is what serde would read, and
//! what this does not know is left to serde.

use super::payload::AnnotationAdded;
use crate::json_skip::end_of_value;
use crate::json_text::JsonText;

const ANNOTATION: &str = r#"{"annotation":"#;
const ID: &str = r#","annotation_id":""#;
const REFERENCES: &str = r#"","references":"#;
/// Bytes of a UUID as text.
const UUID_BYTES: usize = 36;

/// Writes the payload.
pub(super) fn encode(added: &AnnotationAdded) -> Vec<u8> {
    let annotation = added.annotation.as_str();
    let fixed = ANNOTATION.len() + ID.len() + UUID_BYTES + REFERENCES.len() + "[]}".len();
    let mut data = Vec::with_capacity(fixed + annotation.len() + 96 * added.references.len());
    data.extend_from_slice(ANNOTATION.as_bytes());
    data.extend_from_slice(annotation.as_bytes());
    data.extend_from_slice(ID.as_bytes());
    let mut id = [0; UUID_BYTES];
    let id = added
        .annotation_id
        .uuid()
        .hyphenated()
        .encode_lower(&mut id);
    data.extend_from_slice(id.as_bytes());
    data.extend_from_slice(REFERENCES.as_bytes());
    if added.references.is_empty() {
        data.extend_from_slice(b"[]");
    } else {
        serde_json::to_writer(&mut data, &added.references).expect("references are plain data");
    }
    data.push(b'}');
    data
}

/// Reads a payload as it is usually written; none where it is not.
pub(super) fn decode(data: &[u8]) -> Option<AnnotationAdded> {
    let start = ANNOTATION.len();
    if !data.starts_with(ANNOTATION.as_bytes()) {
        return None;
    }
    let end = end_of_value(data, start)?;
    let annotation = std::str::from_utf8(&data[start..end]).ok()?;
    let rest = data[end..].strip_prefix(ID.as_bytes())?;
    let (id, rest) = rest.split_at_checked(UUID_BYTES)?;
    let annotation_id = std::str::from_utf8(id).ok()?.parse().ok()?;
    let references = rest
        .strip_prefix(REFERENCES.as_bytes())?
        .strip_suffix(b"}")?;
    let references = match references {
        b"[]" => Vec::new(),
        some => serde_json::from_slice(some).ok()?,
    };
    Some(AnnotationAdded {
        annotation: JsonText::of_checked(annotation),
        annotation_id,
        references,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::event::{Reference, Relation};
    use crate::id::{AnnotationId, ResourceId};

    fn added(references: usize, body: &str) -> AnnotationAdded {
        let reference = |n: usize| Reference {
            relation: if n == 0 {
                Relation::Body
            } else {
                Relation::Target
            },
            resource_id: ResourceId::new(Uuid::from_u128(n as u128)),
        };
        AnnotationAdded {
            annotation: json!({ "body": body, "target": ["urn:x", { "n": 1.5 }] }).into(),
            annotation_id: AnnotationId::new(Uuid::from_u128(7)),
            references: (0..references).map(reference).collect(),
        }
    }

    #[test]
    fn the_payload_is_written_and_read_as_serde_does_it() {
        for (references, body) in [(0, "plain"), (1, "a \"quote\" \\ and a\nline"), (3, "ä😀")] {
            let added = added(references, body);
            let data = encode(&added);
            assert_eq!(data, serde_json::to_vec(&added).unwrap());
            assert_eq!(decode(&data), Some(added));
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_serde() {
        let data = String::from_utf8(encode(&added(1, "control \u{1}"))).unwrap();
        let spaced = data.replace("\\u0001", "").replace(":[", ": [");
        let broken = data.replace("\\u0001", "").replace("urn:x\"", "urn:x");
        let cut = &broken[..broken.len() - 1];
        for other in [
            data.as_str(),
            spaced.as_str(),
            broken.as_str(),
            cut,
            "{}",
            "",
        ] {
            assert_eq!(decode(other.as_bytes()), None, "{other}");
        }
    }
}
