//! The vectors of a segment in memory, and how many of them are kept there.
//!
//! Segments never change, so a matrix is right for as long as its segment lives; which of its
//! passages live is asked of the segment each time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::index::SegmentId;
use tantivy::{DocId, SegmentReader, TantivyDocument, Term};

use crate::error::SearchError;
use crate::fields::{Fields, each_document};

/// Decompressed blocks that are kept while rows are read one after the other.
const BLOCKS_IN_ORDER: usize = 2;
/// What stands for a passage without a vector.
const NONE: u32 = u32::MAX;

/// Whose vectors are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelKey {
    /// The model's name.
    pub(crate) model: String,
    /// Numbers of each vector.
    pub(crate) dimension: usize,
    /// What they are indexed under.
    pub(crate) term: String,
}

impl ModelKey {
    /// # Errors
    /// [`SearchError::InvalidVector`] if either is out of bounds.
    pub(crate) fn new(model: &str, dimension: usize) -> Result<Self, SearchError> {
        Ok(Self {
            model: model.to_owned(),
            dimension,
            term: crate::vector::model_term(model, dimension)?,
        })
    }
}

/// All vectors of one model in one segment, one after the other.
pub(crate) struct Matrix {
    dimension: usize,
    /// By document: its vector's place.
    places: Vec<u32>,
    values: Vec<i16>,
}

impl Matrix {
    /// The vector of a document.
    pub(crate) fn of(&self, document: DocId) -> Option<&[i16]> {
        let place = *self.places.get(document as usize)?;
        let first = (place != NONE).then(|| place as usize * self.dimension)?;
        self.values.get(first..first + self.dimension)
    }

    fn load(
        reader: &SegmentReader,
        fields: &Fields,
        key: &ModelKey,
        count: usize,
    ) -> Result<Self, SearchError> {
        let mut matrix = Self {
            dimension: key.dimension,
            places: vec![NONE; reader.max_doc() as usize],
            values: Vec::with_capacity(count * key.dimension),
        };
        let mut place = 0;
        let store = reader.get_store_reader(BLOCKS_IN_ORDER)?;
        let term = Term::from_field_text(fields.model, &key.term);
        each_document(reader, &term, |document| {
            let row: TantivyDocument = store.get(document)?;
            let vectors = fields.vectors(&row)?;
            let Some(vector) = vectors.iter().find(|vector| is_of(vector, key)) else {
                return Ok(());
            };
            matrix.values.extend_from_slice(&vector.values);
            matrix.places[document as usize] = place;
            place += 1;
            Ok(())
        })?;
        Ok(matrix)
    }
}

fn is_of(vector: &crate::row::StoredVector, key: &ModelKey) -> bool {
    vector.model == key.model && vector.values.len() == key.dimension
}

/// Calls `each` for the vectors of some documents, in order, reading them from disk.
pub(crate) fn read_from_disk(
    reader: &SegmentReader,
    fields: &Fields,
    key: &ModelKey,
    documents: &[DocId],
    mut each: impl FnMut(DocId, &[i16]),
) -> Result<(), SearchError> {
    let store = reader.get_store_reader(BLOCKS_IN_ORDER)?;
    for &document in documents {
        let row: TantivyDocument = store.get(document)?;
        let vectors = fields.vectors(&row)?;
        if let Some(vector) = vectors.iter().find(|vector| is_of(vector, key)) {
            each(document, &vector.values);
        }
    }
    Ok(())
}

struct Held {
    segment: SegmentId,
    term: String,
    bytes: usize,
    matrix: Arc<Matrix>,
}

/// The matrices in memory, the one asked for last at the end.
pub(crate) struct Matrices {
    bytes_max: usize,
    held: Mutex<Vec<Held>>,
}

impl Matrices {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held: Mutex::new(Vec::new()),
        }
    }

    /// The vectors of a segment, loaded if they are not there yet; none if they do not fit.
    ///
    /// One load is done at a time, and others wait for it, so that memory is bounded.
    pub(crate) fn of(
        &self,
        reader: &SegmentReader,
        fields: &Fields,
        key: &ModelKey,
    ) -> Result<Option<Arc<Matrix>>, SearchError> {
        let term = Term::from_field_text(fields.model, &key.term);
        let count = reader.inverted_index(fields.model)?.doc_freq(&term)? as usize;
        let bytes =
            count * key.dimension * size_of::<i16>() + reader.max_doc() as usize * size_of::<u32>();
        if bytes > self.bytes_max {
            return Ok(None);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = reader.segment_id();
        let is_meant = |held: &Held| held.segment == segment && held.term == key.term;
        let found = if let Some(at) = held.iter().position(is_meant) {
            held.remove(at)
        } else {
            let mut total = held.iter().map(|held| held.bytes).sum::<usize>();
            while total + bytes > self.bytes_max && !held.is_empty() {
                total -= held.remove(0).bytes;
            }
            Held {
                segment,
                term: key.term.clone(),
                bytes,
                matrix: Arc::new(Matrix::load(reader, fields, key, count)?),
            }
        };
        let matrix = Arc::clone(&found.matrix);
        held.push(found);
        Ok(Some(matrix))
    }

    /// Forgets all but these segments.
    pub(crate) fn retain(&self, segments: &HashSet<SegmentId>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| segments.contains(&held.segment));
    }
}
