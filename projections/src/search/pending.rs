//! What a batch of records changes, one change for each resource.
//!
//! Invariant: applied to the index as it was before the batch, the changes leave what the records
//! leave one after the other.

use std::collections::BTreeMap;

use stemma_domain::id::ResourceId;
use stemma_search::{Change, Facets, Passage, Passages};

use super::content::ModelVectors;
use super::origin::Origin;

/// A resource as far as the next event of it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// Its facets; what they note is made of `origin` when they are written.
    pub(super) facets: Facets,
    /// What its text is taken from.
    pub(super) origin: Origin,
}

/// What became of one resource.
struct Touched {
    described: Described,
    /// Its text, where it has another.
    passages: Option<Passages>,
    /// The vectors given since, the latest last, once for each model.
    vectors: Vec<ModelVectors>,
}

/// The changes of a batch.
#[derive(Default)]
pub(super) struct Pending {
    touched: BTreeMap<ResourceId, Touched>,
    bytes: usize,
}

impl Pending {
    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// How many resources change.
    pub(super) fn resources(&self) -> usize {
        self.touched.len()
    }

    /// Bytes of text and vectors that were taken in, those that others replaced since included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A resource as the batch leaves it; none if the batch did not touch it.
    pub(super) fn described(&self, resource: ResourceId) -> Option<&Described> {
        let touched = self.touched.get(&resource)?;
        Some(&touched.described)
    }

    /// Puts a resource in the place of all that there was of it.
    pub(super) fn put(&mut self, resource: ResourceId, described: Described, passages: Passages) {
        self.bytes += bytes_of(&passages);
        let touched = Touched {
            described,
            passages: Some(passages),
            vectors: Vec::new(),
        };
        self.touched.insert(resource, touched);
    }

    /// Describes a resource anew.
    pub(super) fn describe(&mut self, resource: ResourceId, described: Described) {
        self.touch(resource, described);
    }

    /// Gives a resource vectors, in the place of those of the same model.
    pub(super) fn embed(
        &mut self,
        resource: ResourceId,
        described: Described,
        vectors: ModelVectors,
    ) {
        self.bytes += vectors.bytes();
        let touched = self.touch(resource, described);
        touched.vectors.retain(|old| old.model != vectors.model);
        touched.vectors.push(vectors);
    }

    fn touch(&mut self, resource: ResourceId, described: Described) -> &mut Touched {
        let touched = self.touched.entry(resource).or_insert_with(|| Touched {
            described: described.clone(),
            passages: None,
            vectors: Vec::new(),
        });
        touched.described = described;
        touched
    }

    /// The changes as the index takes them.
    pub(super) fn into_changes(self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.touched.len());
        for (resource, touched) in self.touched {
            let mut facets = touched.described.facets;
            facets.note = touched.described.origin.to_note();
            changes.push(match touched.passages {
                Some(passages) => Change::Put {
                    resource,
                    facets,
                    passages,
                },
                None => Change::Describe { resource, facets },
            });
            changes.extend(touched.vectors.into_iter().map(|vectors| Change::Vectors {
                resource,
                model: vectors.model,
                dimension: vectors.dimension,
                vectors: vectors.by_chunk,
            }));
        }
        changes
    }
}

fn bytes_of(passages: &Passages) -> usize {
    match passages {
        Passages::Text(text) => text.len(),
        Passages::Chunks(chunks) => chunks
            .iter()
            .map(|chunk| chunk.text.len() + chunk.chunk_id.len() + size_of::<Passage>())
            .sum(),
    }
}
