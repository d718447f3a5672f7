//! Whether a resource stands in what is committed, told mostly without looking for it.
//!
//! Ids that are made in the order of time are larger than all of before: a segment whose ids do not
//! reach that far need not be asked, and asking costs more than laying a short text out.

use std::ops::RangeInclusive;

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
        let reaching = self
            .segments
            .iter()
            .filter(|(_, highs)| highs.contains(&high));
        for (reader, _) in reaching {
            let term = self.fields.resource_term(*resource.as_bytes());
            if reader.inverted_index(term.field())?.doc_freq(&term)? > 0 {
                return Ok(Some(term));
            }
        }
        Ok(None)
    }
}
