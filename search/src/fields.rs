//! The fields of the index and how a stored passage is laid out in them.

use std::sync::Arc;

use tantivy::schema::{BytesOptions, NumericOptions};
use tantivy::schema::{
    Field, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value as _,
};
use tantivy::{DocId, Index, TantivyDocument, Term};

use crate::error::SearchError;
use crate::row::{self, Row, Stored, StoredVector};
use crate::vector;
use crate::words::Analyzers;

/// The name of the analyzer of words as they are.
const EXACT: &str = "stemma_exact";
/// The name of the analyzer of English stems.
const STEM: &str = "stemma_stem";

/// Columns by which passages of equal score are ordered.
pub(crate) const RESOURCE_HIGH: &str = "resource_high";
pub(crate) const RESOURCE_LOW: &str = "resource_low";
pub(crate) const PLACE: &str = "place";

/// Term of the field `kind` for one passage of each resource.
pub(crate) const KIND_FIRST: &str = "first";
/// Term of the field `kind` for passages that have text.
pub(crate) const KIND_TEXT: &str = "text";

/// The index's schema with its fields.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    pub(crate) analyzers: Arc<Analyzers>,
    pub(crate) resource: Field,
    pub(crate) text: Field,
    pub(crate) stem: Field,
    pub(crate) name: Field,
    pub(crate) collection: Field,
    pub(crate) entity_type: Field,
    pub(crate) archived: Field,
    pub(crate) model: Field,
    pub(crate) kind: Field,
    resource_high: Field,
    resource_low: Field,
    place: Field,
    row: Field,
    vectors: Field,
}

impl Fields {
    pub(crate) fn new() -> Self {
        let mut schema = Schema::builder();
        let words = |tokenizer: &str, kept| {
            let indexing = TextFieldIndexing::default();
            let indexing = indexing.set_tokenizer(tokenizer).set_index_option(kept);
            TextOptions::default().set_indexing_options(indexing)
        };
        let label = || {
            let indexing = TextFieldIndexing::default().set_tokenizer("raw");
            let indexing = indexing
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::Basic);
            TextOptions::default().set_indexing_options(indexing)
        };
        let column = || NumericOptions::default().set_fast();
        Self {
            resource: schema.add_bytes_field("resource", BytesOptions::default().set_indexed()),
            text: schema.add_text_field(
                "text",
                words(EXACT, IndexRecordOption::WithFreqsAndPositions),
            ),
            stem: schema.add_text_field("stem", words(STEM, IndexRecordOption::WithFreqs)),
            name: schema.add_text_field(
                "name",
                words(EXACT, IndexRecordOption::WithFreqsAndPositions),
            ),
            collection: schema.add_text_field("collection", label()),
            entity_type: schema.add_text_field("entity_type", label()),
            archived: schema.add_text_field("archived", label()),
            model: schema.add_text_field("model", label()),
            kind: schema.add_text_field("kind", label()),
            resource_high: schema.add_u64_field(RESOURCE_HIGH, column()),
            resource_low: schema.add_u64_field(RESOURCE_LOW, column()),
            place: schema.add_u64_field(PLACE, column()),
            row: schema.add_bytes_field("row", STORED),
            vectors: schema.add_bytes_field("vectors", STORED),
            schema: schema.build(),
            analyzers: Arc::new(Analyzers::new()),
        }
    }

    /// Makes the analyzers known to an index; without them it does not know what a word is.
    pub(crate) fn register(&self, index: &Index) {
        let known = index.tokenizers();
        known.register(EXACT, self.analyzers.exact.clone());
        known.register(STEM, self.analyzers.stem.clone());
    }

    pub(crate) fn resource_term(&self, resource: [u8; 16]) -> Term {
        Term::from_field_bytes(self.resource, &resource)
    }

    pub(crate) fn archived_term(&self, archived: bool) -> Term {
        Term::from_field_text(self.archived, if archived { "yes" } else { "no" })
    }

    /// The document of a passage; `is_first` for one passage of each resource.
    ///
    /// # Errors
    /// [`SearchError::InvalidVector`] if a stored vector is out of bounds.
    pub(crate) fn document(
        &self,
        stored: &Stored,
        kind: PassageKind,
    ) -> Result<TantivyDocument, SearchError> {
        let Stored { row, vectors } = stored;
        let mut document = TantivyDocument::new();
        document.add_bytes(self.resource, &row.resource);
        if !row.text.is_empty() {
            document.add_text(self.text, &row.text);
            document.add_text(self.stem, &row.text);
            document.add_text(self.kind, KIND_TEXT);
        }
        if kind == PassageKind::First {
            document.add_text(self.kind, KIND_FIRST);
        }
        document.add_text(self.name, &row.name);
        if let Some(collection) = &row.collection {
            document.add_text(self.collection, collection);
        }
        for entity_type in &row.entity_types {
            document.add_text(self.entity_type, entity_type);
        }
        document.add_text(self.archived, if row.archived { "yes" } else { "no" });
        for StoredVector { model, values } in vectors {
            document.add_text(self.model, vector::model_term(model, values.len())?);
        }
        let (high, low) = halves(row.resource);
        document.add_u64(self.resource_high, high);
        document.add_u64(self.resource_low, low);
        let place = u64::from(row.start) << 32 | u64::from(row.index);
        document.add_u64(self.place, place);
        document.add_bytes(self.row, &row::encode(row));
        if !vectors.is_empty() {
            document.add_bytes(self.vectors, &row::encode(vectors));
        }
        Ok(document)
    }

    /// The row of a document that was read.
    pub(crate) fn row(&self, document: &TantivyDocument) -> Result<Row, SearchError> {
        let bytes = document.get_first(self.row);
        row::decode(bytes.and_then(|value| value.as_bytes()).unwrap_or_default())
    }

    /// The vectors of a document that was read.
    pub(crate) fn vectors(
        &self,
        document: &TantivyDocument,
    ) -> Result<Vec<StoredVector>, SearchError> {
        let bytes = document.get_first(self.vectors);
        bytes
            .and_then(|value| value.as_bytes())
            .map_or(Ok(Vec::new()), row::decode)
    }

    /// The row of a document that was read, with its vectors.
    pub(crate) fn stored(&self, document: &TantivyDocument) -> Result<Stored, SearchError> {
        Ok(Stored {
            row: self.row(document)?,
            vectors: self.vectors(document)?,
        })
    }
}

/// Whether a passage stands for its resource when resources are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PassageKind {
    First,
    Further,
}

pub(crate) fn halves(resource: [u8; 16]) -> (u64, u64) {
    let bits = u128::from_be_bytes(resource);
    #[allow(clippy::cast_possible_truncation)] // the halves
    let halves = ((bits >> 64) as u64, bits as u64);
    halves
}

/// Calls `each` for every document that a term stands in, those that were deleted included.
pub(crate) fn each_document(
    reader: &tantivy::SegmentReader,
    term: &Term,
    mut each: impl FnMut(DocId) -> Result<(), SearchError>,
) -> Result<(), SearchError> {
    use tantivy::{DocSet as _, TERMINATED};
    let postings = reader
        .inverted_index(term.field())?
        .read_postings(term, IndexRecordOption::Basic)?;
    let Some(mut postings) = postings else {
        return Ok(());
    };
    let mut document = postings.doc();
    while document != TERMINATED {
        each(document)?;
        document = postings.advance();
    }
    Ok(())
}
