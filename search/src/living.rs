//! Which passages of a segment may be hits: those that live and hold nothing excluded.
//!
//! Exclusions are worked out ahead, as a set. The engine's own way asks a phrase backwards, which
//! its scorer of phrases forbids (quickwit-oss/tantivy, issue 2811, is of that kind).

use tantivy::fastfield::AliveBitSet;
use tantivy::query::Weight;
use tantivy::{BitSet, DocId, SegmentReader};

use crate::error::SearchError;

/// The passages of a segment that may be hits.
pub(crate) struct Living<'a> {
    alive: Option<&'a AliveBitSet>,
    excluded: Option<BitSet>,
}

impl<'a> Living<'a> {
    pub(crate) fn of(
        reader: &'a SegmentReader,
        exclusion: Option<&dyn Weight>,
    ) -> Result<Self, SearchError> {
        let mut excluded = None;
        if let Some(exclusion) = exclusion {
            let mut set = BitSet::with_max_value(reader.max_doc());
            exclusion.for_each_no_score(reader, &mut |block| {
                for document in block {
                    set.insert(*document);
                }
            })?;
            excluded = Some(set);
        }
        Ok(Self {
            alive: reader.alive_bitset(),
            excluded,
        })
    }

    pub(crate) fn has(&self, document: DocId) -> bool {
        let is_excluded = |set: &BitSet| set.contains(document);
        self.alive.is_none_or(|alive| alive.is_alive(document))
            && !self.excluded.as_ref().is_some_and(is_excluded)
    }
}
