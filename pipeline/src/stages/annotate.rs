//! What a detector found, as annotations of the resource.
//!
//! Annotations of a detector carry it as their creator, and an id that is made from what they say,
//! so that detecting again adds only what is new and takes away only what is gone.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use serde_json::{Value, json};
use stemma_commands::Operation;
use stemma_domain::annotation;
use stemma_domain::document::EntityMention;
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{Command, ENTITY_TYPES_MAX, Resource};
use stemma_domain::value::EntityType;
use uuid::Uuid;

/// What the creators of our annotations begin with.
const CREATOR_PREFIX: &str = "urn:stemma:detector:";
/// Code points of context kept on each side of a quote.
const CONTEXT_CODE_POINTS: usize = 32;

/// Who found what, in which text.
pub(crate) struct Found<'a> {
    pub(crate) document: ResourceId,
    pub(crate) detector: &'a str,
    /// What the selectors point into: the resource itself, or its extracted text.
    pub(crate) source: String,
    pub(crate) text: &'a str,
    pub(crate) entities: &'a [EntityMention],
}

/// What is to change of a resource, so that it says what was found.
pub(crate) struct Changes {
    pub(crate) operations: Vec<Operation>,
    pub(crate) added: usize,
    pub(crate) removed: usize,
}

/// A name as it may stand in a URN (RFC 8141): models are named with spaces and brackets, too.
fn in_urn(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=/".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

impl Found<'_> {
    fn id(&self, entity: &EntityMention) -> AnnotationId {
        let mut hasher = blake3::Hasher::new_derive_key("stemma 2026-11 detected annotation id");
        hasher.update(self.document.as_bytes());
        for part in [
            self.detector,
            &self.source,
            &entity.entity_type,
            &entity.text,
        ] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&entity.start.to_le_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        AnnotationId::new(Uuid::new_v8(bytes))
    }

    fn annotation(&self, entity: &EntityMention, around: &(String, String)) -> Value {
        json!({
            "type": "Annotation",
            "motivation": ["identifying", "tagging"],
            "creator": {
                "id": format!("{CREATOR_PREFIX}{}", in_urn(self.detector)),
                "type": "Software",
                "name": self.detector,
            },
            "body": [
                { "type": "TextualBody", "purpose": "tagging", "value": entity.entity_type },
                { "type": "TextualBody", "purpose": "identifying", "value": entity.text },
            ],
            "target": {
                "source": self.source,
                "selector": [
                    { "type": "TextPositionSelector", "start": entity.start, "end": entity.end },
                    {
                        "type": "TextQuoteSelector",
                        "exact": entity.text,
                        "prefix": around.0,
                        "suffix": around.1,
                    },
                ],
            },
        })
    }

    /// What stands before and behind each entity; they are in the order of the text.
    fn contexts(&self) -> Vec<(String, String)> {
        let starts: Vec<usize> = self.text.char_indices().map(|(byte, _)| byte).collect();
        let byte = |place: usize| starts.get(place).copied().unwrap_or(self.text.len());
        let place = |place: u64| {
            usize::try_from(place)
                .unwrap_or(usize::MAX)
                .min(starts.len())
        };
        let around = |entity: &EntityMention| {
            let (start, end) = (place(entity.start), place(entity.end));
            let before = start.saturating_sub(CONTEXT_CODE_POINTS);
            let behind = (end + CONTEXT_CODE_POINTS).min(starts.len());
            (
                self.text[byte(before)..byte(start)].to_owned(),
                self.text[byte(end)..byte(behind)].to_owned(),
            )
        };
        self.entities.iter().map(around).collect()
    }

    /// The operations that make the resource say what was found, and no more than that.
    ///
    /// # Errors
    /// When an annotation is not a valid one, which would be a mistake of ours.
    pub(crate) fn changes(&self, resource: &Resource) -> Result<Changes, String> {
        let wanted: HashMap<AnnotationId, usize> = self
            .entities
            .iter()
            .enumerate()
            .map(|(index, entity)| (self.id(entity), index))
            .collect();
        let mut operations = Vec::new();
        for state in resource.annotations.values() {
            let value = state.annotation.value();
            let creator = value["creator"]["id"].as_str().unwrap_or_default();
            if creator.starts_with(CREATOR_PREFIX) && !wanted.contains_key(&state.id) {
                let annotation_id = state.id;
                let remove = Command::RemoveAnnotation { annotation_id };
                operations.push(Operation::of_resource(self.document, remove));
            }
        }
        let removed = operations.len();
        let mut new: Vec<(usize, AnnotationId)> = wanted
            .into_iter()
            .filter(|(id, _)| !resource.annotations.contains_key(id))
            .map(|(id, index)| (index, id))
            .collect();
        new.sort_unstable();
        let mut contexts = self.contexts();
        let cx = annotation::Context {
            resource: self.document.uuid(),
        };
        for (index, annotation_id) in &new {
            let around = std::mem::take(&mut contexts[*index]);
            let annotation = self.annotation(&self.entities[*index], &around);
            let annotation = annotation::validate(annotation, &cx)
                .map_err(|errors| format!("an annotation of ours is not valid: {errors:?}"))?;
            let add = Command::AddAnnotation {
                annotation_id: *annotation_id,
                annotation,
            };
            operations.push(Operation::of_resource(self.document, add));
        }
        operations.extend(self.types(resource));
        Ok(Changes {
            added: new.len(),
            removed,
            operations,
        })
    }

    /// The entity types that the resource does not have yet, as far as it may have more.
    fn types(&self, resource: &Resource) -> impl Iterator<Item = Operation> {
        let names: BTreeSet<&str> = self
            .entities
            .iter()
            .map(|e| e.entity_type.as_str())
            .collect();
        let has = &resource.descriptor.entity_types;
        let types = names
            .into_iter()
            .filter_map(|name| EntityType::new(name).ok());
        let new: Vec<EntityType> = types.filter(|name| !has.contains(name)).collect();
        let room = ENTITY_TYPES_MAX.saturating_sub(has.len());
        let document = self.document;
        new.into_iter()
            .take(room)
            .map(move |name| Operation::of_resource(document, Command::AddEntityType(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_detectors_stand_in_urns_whatever_they_hold() {
        assert_eq!(in_urn("gpt-4o:2024/x"), "gpt-4o:2024/x");
        assert_eq!(in_urn("by hand [Zī]%"), "by%20hand%20%5BZ%C4%AB%5D%25");
    }
}
