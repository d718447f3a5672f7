//! Which passages are nearest to a vector: filtered first, then compared one by one.
//!
//! The comparison is exact for the kept form of vectors. It takes time in proportion to the
//! passages that pass the filters, which are limited and never silently left out.

use tantivy::query::{EnableScoring, Query as EngineQuery, Weight};
use tantivy::{DocAddress, DocId, Searcher};

use crate::error::SearchError;
use crate::fields::Fields;
use crate::living::Living;
use crate::matrix::{Matrices, ModelKey, read_from_disk};
use crate::query::Sees;
use crate::rank::{Best, Places};
use crate::vector::cosine;

/// What vectors are compared with, and within which limits.
pub(crate) struct Scan<'a> {
    pub(crate) searcher: &'a Searcher,
    pub(crate) fields: &'a Fields,
    pub(crate) matrices: &'a Matrices,
    pub(crate) candidates_max: usize,
    /// Which resources are seen; all without it.
    pub(crate) sees: Option<Sees<'a>>,
}

impl Scan<'_> {
    /// Offers every living passage that passes the filter, is not excluded and has a vector of
    /// the model.
    ///
    /// # Errors
    /// [`SearchError::TooManyVectors`] if more pass than are compared.
    pub(crate) fn offer_nearest(
        &self,
        best: &mut Best<'_>,
        filter: &dyn EngineQuery,
        exclusion: Option<&dyn Weight>,
        key: &ModelKey,
        vector: &[i16],
    ) -> Result<(), SearchError> {
        let candidates = self.candidates(filter, exclusion)?;
        let readers = (0..).zip(self.searcher.segment_readers());
        for ((ordinal, reader), documents) in readers.zip(candidates) {
            if documents.is_empty() {
                continue;
            }
            let places = Places::of(reader)?;
            let mut offer = |document, values: &[i16]| {
                let address = DocAddress::new(ordinal, document);
                best.offer(&places, address, cosine(vector, values));
            };
            let Some(matrix) = self.matrices.of(reader, self.fields, key)? else {
                read_from_disk(reader, self.fields, key, &documents, offer)?;
                continue;
            };
            for document in documents {
                if let Some(values) = matrix.of(document) {
                    offer(document, values);
                }
            }
        }
        Ok(())
    }

    /// The living passages of each segment that pass the filter.
    fn candidates(
        &self,
        filter: &dyn EngineQuery,
        exclusion: Option<&dyn Weight>,
    ) -> Result<Vec<Vec<DocId>>, SearchError> {
        let scoring = EnableScoring::disabled_from_searcher(self.searcher);
        let weight = filter.weight(scoring)?;
        let mut left = self.candidates_max;
        let mut candidates = Vec::new();
        for reader in self.searcher.segment_readers() {
            let living = Living::of(reader, exclusion)?;
            let mut documents = Vec::new();
            weight.for_each_no_score(reader, &mut |block| {
                if documents.len() <= left {
                    documents.extend(block.iter().copied().filter(|it| living.has(*it)));
                }
            })?;
            left = left
                .checked_sub(documents.len())
                .ok_or(SearchError::TooManyVectors {
                    candidates_max: self.candidates_max,
                })?;
            candidates.push(documents);
        }
        Ok(candidates)
    }
}
