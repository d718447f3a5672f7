//! What the job of a document says once it is done; the same wherever its worker ran.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use stemma_domain::document::{Document, Stage};
use stemma_domain::event::Metadata;
use stemma_domain::id::ResourceId;

use crate::stages::commit::millis;

/// What can be told of a document that was worked on.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The document.
    pub document_id: ResourceId,
    /// Its collection; none as well where the document could not be looked at again.
    pub collection: Option<String>,
    /// The stages that are done.
    pub stages: BTreeMap<Stage, Done>,
}

/// A stage that is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// What can be counted of it.
    pub figures: Metadata,
    /// What went less well than it should have.
    pub warnings: Vec<String>,
}

/// The figures that the result names, with the stage that each is of.
const NAMED: [(Stage, &str); 6] = [
    (Stage::Chunk, "chunk_count"),
    (Stage::Embed, "model"),
    (Stage::Embed, "vector_count"),
    (Stage::Detect, "detector"),
    (Stage::Detect, "entity_count"),
    (Stage::Detect, "dropped_spans"),
];

impl Summary {
    /// What a document tells of itself, as far as it could be looked at.
    pub fn of(document_id: ResourceId, document: Option<&Document>) -> Self {
        let stages = document.iter().flat_map(|document| &document.stages);
        let stages = stages.map(|(stage, done)| {
            let done = Done {
                figures: done.figures.clone(),
                warnings: done.warnings.clone(),
            };
            (*stage, done)
        });
        let collection = document.and_then(|document| document.collection.as_ref());
        Self {
            document_id,
            collection: collection.map(|name| name.as_str().to_owned()),
            stages: stages.collect(),
        }
    }

    /// The job's result: `document_id`, `collection`, `processing_time_ms`, and what was counted.
    pub fn result(&self, took: Duration) -> Metadata {
        let mut result = Metadata::new();
        result.insert("document_id".into(), json!(self.document_id));
        result.insert("processing_time_ms".into(), json!(millis(took)));
        if self.stages.is_empty() {
            return result;
        }
        let collection = self.collection.as_ref();
        result.insert(
            "collection".into(),
            collection.map_or(Value::Null, |name| json!(name)),
        );
        for (stage, name) in NAMED {
            let done = self.stages.get(&stage);
            if let Some(figure) = done.and_then(|done| done.figures.get(name)) {
                result.insert(name.into(), figure.clone());
            }
        }
        result
    }

    /// Every warning once, in the order of the stages.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for warning in self.stages.values().flat_map(|done| &done.warnings) {
            if !warnings.contains(warning) {
                warnings.push(warning.clone());
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_names_what_was_counted_and_each_warning_once() {
        let done = |figure: (&str, Value)| Done {
            figures: [(figure.0.to_owned(), figure.1)].into_iter().collect(),
            warnings: vec!["page 3 is a picture".to_owned()],
        };
        let summary = Summary {
            document_id: "0190b5d8-0000-7000-8000-000000000001".parse().unwrap(),
            collection: None,
            stages: [
                (Stage::Parse, done(("character_count", json!(9)))),
                (Stage::Chunk, done(("chunk_count", json!(2)))),
            ]
            .into_iter()
            .collect(),
        };
        let result = summary.result(Duration::from_millis(7));
        assert_eq!(
            Value::Object(result),
            json!({
                "document_id": "0190b5d8-0000-7000-8000-000000000001",
                "processing_time_ms": 7, "collection": null, "chunk_count": 2,
            })
        );
        assert_eq!(summary.warnings(), ["page 3 is a picture"]);
    }
}
