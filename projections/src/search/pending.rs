//! What a batch changes, gathered by resource, so that each is written once.
//!
//! Invariant: a resource that the batch touched is described here as all records of the batch leave
//! it; together with what is in the index, that is what folding the records one by one would leave.
//! Of a document only where it is read from is kept, not its text.

use std::collections::BTreeMap;
use std::sync::Arc;

use stemma_domain::id::ResourceId;
use stemma_search::{Change, Facets, Passages, ReadPassages};

use super::content::DocumentSource;
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
    text: Text,
    /// Bytes that writing it goes through, and those of them that are in memory.
    bytes: usize,
    held_bytes: usize,
}

/// The text of a resource.
pub(super) enum Text {
    /// That of its content.
    Whole(String),
    /// What the stages of a document put out, and its bytes.
    Stages(DocumentSource, usize),
    /// The one that is in the index, and its bytes.
    AsIs(usize),
}

/// The changes of a batch.
#[derive(Default)]
pub(super) struct Pending {
    touched: BTreeMap<ResourceId, Touched>,
    bytes: usize,
    held_bytes: usize,
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

    /// Bytes of text and vectors that are to be written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those of them that are in memory until then.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A resource as the batch leaves it; none if the batch did not touch it.
    pub(super) fn described(&self, resource: ResourceId) -> Option<&Described> {
        let touched = self.touched.get(&resource)?;
        Some(&touched.described)
    }

    /// Puts a resource in the place of all that there was of it, with a text of its own or the one
    /// that is in the index.
    pub(super) fn put(&mut self, resource: ResourceId, described: Described, text: Text) {
        let (bytes, held_bytes) = match &text {
            Text::Whole(text) => (text.len(), text.len()),
            Text::Stages(_, bytes) | Text::AsIs(bytes) => (*bytes, 0),
        };
        self.touch(
            resource,
            Touched {
                described,
                text,
                bytes,
                held_bytes,
            },
        );
    }

    /// Describes a resource anew, of which the batch has the text, or that of the index stays.
    pub(super) fn describe<E>(
        &mut self,
        resource: ResourceId,
        described: Described,
        text: impl FnOnce() -> Result<Text, E>,
    ) -> Result<(), E> {
        if let Some(touched) = self.touched.get_mut(&resource) {
            touched.described = described;
        } else {
            self.put(resource, described, text()?);
        }
        Ok(())
    }

    fn touch(&mut self, resource: ResourceId, touched: Touched) {
        self.bytes += touched.bytes;
        self.held_bytes += touched.held_bytes;
        if let Some(before) = self.touched.insert(resource, touched) {
            self.bytes -= before.bytes;
            self.held_bytes -= before.held_bytes;
        }
    }

    /// The changes as the index takes them.
    pub(super) fn into_changes(self) -> Vec<Change> {
        let changes = self.touched.into_iter().map(|(resource, touched)| {
            let mut facets = touched.described.facets;
            facets.note = touched.described.origin.to_note();
            let passages = match touched.text {
                Text::AsIs(_) => return Change::Describe { resource, facets },
                Text::Whole(text) => Passages::Text(text),
                Text::Stages(source, _) => Passages::Read(ReadPassages::new(Arc::new(source))),
            };
            Change::Put {
                resource,
                facets,
                passages,
            }
        });
        changes.collect()
    }
}
