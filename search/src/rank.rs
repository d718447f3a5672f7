//! Which hits are the best: the order of hits, and the few that are kept of many.
//!
//! Invariant: the order is total within an index, so pages behind a key neither repeat nor miss.
//! Every matching passage is scored in full: an engine that skips passages that cannot be among
//! the best adds up scores in another order, and equal passages would change places.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use stemma_domain::id::ResourceId;
use tantivy::columnar::Column;
use tantivy::query::Weight;
use tantivy::{DocAddress, DocId, Searcher, SegmentReader};
use uuid::Uuid;

use crate::error::SearchError;
use crate::fields::{PLACE, RESOURCE_HIGH, RESOURCE_LOW};
use crate::living::Living;
use crate::query::Sees;

/// What a hit is ordered by: score, the best first, then resource, then place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RankKey {
    pub(crate) score: f32,
    pub(crate) resource: u128,
    pub(crate) place: u64,
}

impl Eq for RankKey {}

impl Ord for RankKey {
    /// The better is the lesser.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score
            .then(self.resource.cmp(&other.resource))
            .then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for RankKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A hit and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ranked {
    pub(crate) key: RankKey,
    pub(crate) address: DocAddress,
}

/// The columns of a segment that its passages are ordered by.
pub(crate) struct Places {
    high: Column<u64>,
    low: Column<u64>,
    place: Column<u64>,
}

impl Places {
    pub(crate) fn of(reader: &SegmentReader) -> Result<Self, SearchError> {
        let columns = reader.fast_fields();
        Ok(Self {
            high: columns.u64(RESOURCE_HIGH)?,
            low: columns.u64(RESOURCE_LOW)?,
            place: columns.u64(PLACE)?,
        })
    }

    /// How many passages the columns are of, those that were deleted included.
    pub(crate) fn count(&self) -> u32 {
        self.high.num_docs()
    }

    fn key(&self, document: DocId, score: f32) -> RankKey {
        let of = |column: &Column<u64>| column.first(document).unwrap_or_default();
        RankKey {
            score,
            resource: u128::from(of(&self.high)) << 64 | u128::from(of(&self.low)),
            place: of(&self.place),
        }
    }
}

/// The best of all that is offered, behind a key.
pub(crate) struct Best<'a> {
    room: usize,
    after: Option<RankKey>,
    kept: BinaryHeap<Ranked>,
    sees: Option<Sees<'a>>,
    /// What was found out of resources so far.
    seen: HashMap<u128, bool>,
}

impl<'a> Best<'a> {
    pub(crate) fn new(room: usize, after: Option<RankKey>, sees: Option<Sees<'a>>) -> Self {
        Self {
            room,
            after,
            sees,
            seen: HashMap::new(),
            kept: BinaryHeap::new(),
        }
    }

    pub(crate) fn offer(&mut self, places: &Places, address: DocAddress, score: f32) {
        let is_before = self.after.is_some_and(|after| score > after.score);
        let worst = self.kept.peek().filter(|_| self.kept.len() >= self.room);
        if is_before || worst.is_some_and(|worst| score < worst.key.score) {
            return;
        }
        let key = places.key(address.doc_id, score);
        let ranked = Ranked { key, address };
        if self.after.is_some_and(|after| key <= after) {
            return;
        }
        // Asked last, of the few that would be kept.
        if !self.sees(key.resource) {
            return;
        }
        if self.kept.len() < self.room {
            self.kept.push(ranked);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && ranked < *worst
        {
            *worst = ranked;
        }
    }

    fn sees(&mut self, resource: u128) -> bool {
        let Some(sees) = self.sees else { return true };
        let of = |resource| sees(ResourceId::new(Uuid::from_u128(resource)));
        *self.seen.entry(resource).or_insert_with(|| of(resource))
    }

    /// The kept hits, the best first.
    pub(crate) fn into_sorted(self) -> Vec<Ranked> {
        self.kept.into_sorted_vec()
    }
}

/// Offers every living passage that a query matches and an exclusion does not.
pub(crate) fn offer_matches(
    best: &mut Best<'_>,
    searcher: &Searcher,
    weight: &dyn Weight,
    exclusion: Option<&dyn Weight>,
) -> Result<(), SearchError> {
    for (ordinal, reader) in (0..).zip(searcher.segment_readers()) {
        let places = Places::of(reader)?;
        let living = Living::of(reader, exclusion)?;
        weight.for_each(reader, &mut |document, score| {
            if living.has(document) {
                best.offer(&places, DocAddress::new(ordinal, document), score);
            }
        })?;
    }
    Ok(())
}
