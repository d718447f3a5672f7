//! Whether a resource stands in what is committed, told mostly without looking for it.
//!
//! Ids that are made in the order of time are larger than all of before: a segment whose ids do not
//! reach that far need not be asked, and asking costs more than laying a short text out.

use std::ops::RangeInclusive;

use tantivy::schema::Field;
use tantivy::{Searcher, SegmentReader, Term};

use stemma_domain::id::ResourceId;

use crate::error::SearchError;
use crate::fields::{Fields, RESOURCE_HIGH, halves};

/// The segments of a commit, each with the upper halves of the ids in it.
pub(crate) struct Known<'a> {
    fields: &'a Fields,
    segments: Vec<(&'a SegmentReader, RangeInclusive<u64>)>,
}

impl<'a> Known<'a> {
    pub(crate) fn of(fields: &'a Fields, searcher: &'a Searcher) -> Result<Self, SearchError> {
        let segment = |reader: &'a SegmentReader| {
            let column = reader.fast_fields().u64(RESOURCE_HIGH)?;
            Ok((reader, column.min_value()..=column.max_value()))
        };
        let readers = searcher.segment_readers().iter();
        Ok(Self {
            fields,
            segments: readers.map(segment).collect::<Result<_, SearchError>>()?,
        })
    }

    /// The term of a resource that stands there; those that are deleted count as well.
    pub(crate) fn term(&self, resource: ResourceId) -> Result<Option<Term>, SearchError> {
        let (high, _) = halves(*resource.as_bytes());
        let mut term = None;
        for (reader, highs) in &self.segments {
            if !highs.contains(&high) {
                continue;
            }
            let term = term.get_or_insert_with(|| self.fields.resource_term(*resource.as_bytes()));
            if stands(reader, self.fields.resource, term)? {
                return Ok(Some(term.clone()));
            }
        }
        Ok(None)
    }
}

fn stands(reader: &SegmentReader, field: Field, term: &Term) -> Result<bool, SearchError> {
    Ok(reader.inverted_index(field)?.doc_freq(term)? > 0)
}
