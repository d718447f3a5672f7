//! Rows in memory that are in no table on the disk yet.
//!
//! A batch becomes a sorted run. Runs are never changed: of [`FANOUT`] of about the same length one
//! is made, before the next batch and beside readers, so that a row is moved once for each factor of
//! [`FANOUT`] by which what is in memory grows, from one run into the next, where a tree would look
//! for its place anew. Whoever scans holds the runs as they were and stands in nobody's way. One row
//! is found by its hash. (The logarithmic method: Bentley and Saxe, "Decomposable searching problems
//! I", 1980.)
//!
//! Invariants: a key stands in a run once; of two rows of one key the one with the higher number
//! holds.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use byteview::ByteView;
use foldhash::fast::RandomState;
use lsm_tree::{SeqNo, Slice};

use super::super::{Change, Direction};

/// Runs of about one length of which one is made.
const FANOUT: usize = 4;
/// Bytes that a row takes beside its key and value: its places in a run and by hash, and what the
/// allocator adds.
const ROW_BYTES: usize = 128;

/// A row as a batch left it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The key, and behind it the value: what the engine's tables are made of, which take both
    /// without a copy.
    bytes: ByteView,
    key_bytes: u32,
    is_removed: bool,
    /// The number of the batch.
    pub(super) number: SeqNo,
}

impl Row {
    fn of((key, value): &Change, number: SeqNo) -> Self {
        Self {
            bytes: ByteView::fused(key, value.as_deref().unwrap_or_default()),
            key_bytes: u32::try_from(key.len()).expect("keys are short"),
            is_removed: value.is_none(),
            number,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    /// How long key and value are together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Key and value as the engine takes them; no value where the row is removed.
    pub(super) fn to_slices(&self) -> (Slice, Option<Slice>) {
        let key_bytes = self.key_bytes as usize;
        let value = (!self.is_removed).then(|| self.bytes.slice(key_bytes..).into());
        (self.bytes.slice(..key_bytes).into(), value)
    }

    /// None where the row is removed.
    pub(super) fn value(&self) -> Option<&[u8]> {
        (!self.is_removed).then(|| &self.bytes[self.key_bytes as usize..])
    }
}

/// By key alone, so that a set of rows is looked at by key.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Row {}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Borrow<[u8]> for Row {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

/// Rows in the order of their keys, each key once.
type Run = Arc<Vec<Row>>;

/// The rows of some batches that follow one another.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_key: HashSet<Row, RandomState>,
    /// At each place those whose length is about that power of the fan-out.
    tiers: Tiers,
    bytes: usize,
}

impl Table {
    /// A table that will hold about as many rows.
    fn with_room(rows: usize) -> Self {
        Self {
            by_key: HashSet::with_capacity_and_hasher(rows, RandomState::default()),
            ..Self::default()
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Run> + Clone {
        self.tiers.0.iter().flatten()
    }

    /// Its rows in order, each key once, removed ones too.
    pub(super) fn rows(&self) -> Vec<Row> {
        merged(self.runs())
    }
}

/// Rows in the order of their keys, of each key the latest; of one batch the one that stands first.
/// Runs that stand one behind the other are merged as runs: that is how the library's stable sort
/// goes about it.
fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let by_key = a.key().cmp(b.key());
        by_key.then_with(|| b.number.cmp(&a.number))
    });
    rows.dedup();
    rows
}

/// The rows of several runs as one.
fn merged<'a>(runs: impl Iterator<Item = &'a Run> + Clone) -> Vec<Row> {
    let mut rows = Vec::with_capacity(runs.clone().map(|run| run.len()).sum());
    runs.for_each(|run| rows.extend_from_slice(run));
    in_order(rows)
}

/// Runs by how long they are.
#[derive(Debug, Default, Clone)]
pub(super) struct Tiers(Vec<Vec<Run>>);

impl Tiers {
    fn add(&mut self, run: Run) {
        let tier = run.len().max(1).ilog(FANOUT) as usize;
        if self.0.len() <= tier {
            self.0.resize_with(tier + 1, Vec::new);
        }
        self.0[tier].push(run);
    }

    fn are_crowded(&self) -> bool {
        self.0.iter().any(|tier| tier.len() >= FANOUT)
    }

    /// The same rows in as few runs as there are to be.
    pub(super) fn thinned(mut self) -> Self {
        while let Some(crowded) = self.0.iter_mut().find(|tier| tier.len() >= FANOUT) {
            let run = merged(std::mem::take(crowded).iter());
            self.add(Arc::new(run));
        }
        self
    }
}

/// The table that is being filled and those that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Recent {
    filling: Table,
    /// The oldest first.
    filled: VecDeque<Arc<Table>>,
}

impl Recent {
    /// Puts a batch in.
    pub(super) fn put(&mut self, changes: &[Change], number: SeqNo) {
        let row = |change| Row::of(change, number);
        let rows = if changes.is_sorted_by(|(before, _), (key, _)| before < key) {
            changes.iter().map(row).collect()
        } else {
            // Of one key the last change holds.
            in_order(changes.iter().rev().map(row).collect())
        };
        let table = &mut self.filling;
        for row in &rows {
            // Rows written again count again: what is in memory has to be read from the log once
            // more after a crash, however few rows it comes to.
            table.bytes += row.bytes() + ROW_BYTES;
            table.by_key.replace(row.clone());
        }
        table.tiers.add(Arc::new(rows));
    }

    /// The runs of the table that is being filled, where there are too many of a length: to be
    /// thinned beside readers, and put back before another batch comes.
    pub(super) fn crowded(&self) -> Option<Tiers> {
        let tiers = &self.filling.tiers;
        tiers.are_crowded().then(|| tiers.clone())
    }

    /// Puts thinned runs back; gives those that were there, to be dropped where nobody waits for it.
    pub(super) fn replace(&mut self, thinned: Tiers) -> Tiers {
        std::mem::replace(&mut self.filling.tiers, thinned)
    }

    /// Bytes of the table that is being filled.
    pub(super) fn filling_bytes(&self) -> usize {
        self.filling.bytes
    }

    /// Begins another table; false where the one there is has no rows.
    pub(super) fn seal(&mut self) -> bool {
        if self.filling.by_key.is_empty() {
            return false;
        }
        let next = Table::with_room(self.filling.by_key.len());
        let filled = std::mem::replace(&mut self.filling, next);
        self.filled.push_back(Arc::new(filled));
        true
    }

    /// How many tables wait to be written.
    pub(super) fn n_filled(&self) -> usize {
        self.filled.len()
    }

    /// The table that is to be written next.
    pub(super) fn oldest(&self) -> Option<Arc<Table>> {
        self.filled.front().cloned()
    }

    /// Lets go of the oldest table, which was written.
    pub(super) fn forget_oldest(&mut self) -> Option<Arc<Table>> {
        self.filled.pop_front()
    }

    /// The row of a key, removed ones too; none where no table has one.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Row> {
        let newest_first = self.filled.iter().rev().map(Arc::as_ref);
        std::iter::once(&self.filling)
            .chain(newest_first)
            .find_map(|table| table.by_key.get(key))
    }

    /// The rows from `from` on and before `to` as they are now, removed ones too.
    pub(super) fn range(&self, from: &[u8], to: &[u8], direction: Direction) -> Merged {
        let filled = self.filled.iter().flat_map(|table| table.runs());
        let runs = self.filling.runs().chain(filled).cloned();
        Merged::of(runs, from, to, direction)
    }
}

/// The rows of several runs in order, of each key the latest.
pub(super) struct Merged {
    places: BinaryHeap<Place>,
}

/// A place in a run, at a row.
struct Place {
    run: Run,
    /// Which row comes next, and where those that come end; backwards the next is the last of them.
    next: usize,
    end: usize,
    direction: Direction,
}

impl Place {
    fn row(&self) -> &Row {
        match self.direction {
            Direction::Forward => &self.run[self.next],
            Direction::Backward => &self.run[self.end - 1],
        }
    }

    /// Goes on to the row behind; false where there is none.
    fn advance(&mut self) -> bool {
        match self.direction {
            Direction::Forward => self.next += 1,
            Direction::Backward => self.end -= 1,
        }
        self.next < self.end
    }
}

/// The greatest is the one that comes first: by key, and of one key the latest.
impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, others) = (self.row(), other.row());
        let by_key = own.key().cmp(others.key());
        let by_key = match self.direction {
            Direction::Forward => by_key.reverse(),
            Direction::Backward => by_key,
        };
        by_key.then(own.number.cmp(&others.number))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

impl Merged {
    fn of(runs: impl Iterator<Item = Run>, from: &[u8], to: &[u8], direction: Direction) -> Self {
        let place = |run: Run| {
            let next = run.partition_point(|row| row.key() < from);
            let end = run.partition_point(|row| row.key() < to);
            (next < end).then_some(Place {
                run,
                next,
                end,
                direction,
            })
        };
        Self {
            places: runs.filter_map(place).collect(),
        }
    }

    /// The row that comes next.
    pub(super) fn peek(&self) -> Option<&Row> {
        self.places.peek().map(Place::row)
    }
}

impl Iterator for Merged {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.places.peek()?.row().clone();
        // Earlier rows of the key, if there are any, come right behind it.
        while let Some(mut place) = self.places.peek_mut()
            && *place.row() == row
        {
            if !place.advance() {
                std::collections::binary_heap::PeekMut::pop(place);
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, (SeqNo, Option<Vec<u8>>)>;

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..4, 1..4)
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<Change>>> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3));
        let batch = proptest::collection::vec((keys(), value), 1..9);
        proptest::collection::vec(batch, 0..80)
    }

    fn of_model(model: &Model, from: &[u8], to: &[u8]) -> Vec<(Vec<u8>, SeqNo, Option<Vec<u8>>)> {
        model
            .iter()
            .filter(|(key, _)| (from..to).contains(&key.as_slice()))
            .map(|(key, (number, value))| (key.clone(), *number, value.clone()))
            .collect()
    }

    fn of_rows(rows: impl IntoIterator<Item = Row>) -> Vec<(Vec<u8>, SeqNo, Option<Vec<u8>>)> {
        let parts = |row: Row| {
            let value = row.value().map(<[u8]>::to_vec);
            (row.key().to_vec(), row.number, value)
        };
        rows.into_iter().map(parts).collect()
    }

    proptest! {
        /// A2: what is in memory is what a map would be, by key and in either order, however tables
        /// are begun and let go; who holds the rows of a moment keeps them.
        #[test]
        fn rows_in_memory_are_those_of_a_map(
            batches in batches(),
            sealed in proptest::collection::vec(any::<bool>(), 80),
            (from, to) in (keys(), keys()),
        ) {
            let (mut recent, mut model) = (Recent::default(), Model::new());
            let mut held = None;
            for (number, (batch, is_sealed)) in (1..).zip(batches.iter().zip(sealed)) {
                recent.put(batch, number);
                if number % 3 == 0 && let Some(crowded) = recent.crowded() {
                    recent.replace(crowded.thinned());
                }
                for (key, value) in batch {
                    model.insert(key.clone(), (number, value.clone()));
                }
                if number == 7 {
                    held = Some((recent.range(&from, &to, Direction::Forward), model.clone()));
                }
                if is_sealed {
                    prop_assert!(recent.seal());
                    prop_assert!(!recent.seal());
                }
            }
            let expected = of_model(&model, &from, &to);
            prop_assert_eq!(of_rows(recent.range(&from, &to, Direction::Forward)), expected.clone());
            let mut backward = of_rows(recent.range(&from, &to, Direction::Backward));
            backward.reverse();
            prop_assert_eq!(backward, expected);
            for (key, (number, _)) in &model {
                prop_assert_eq!(recent.get(key).map(|row| row.number), Some(*number));
            }
            prop_assert!(recent.get(b"none").is_none());
            if let Some((rows, then)) = held {
                prop_assert_eq!(of_rows(rows), of_model(&then, &from, &to));
            }
            // Let go of from the oldest on, what is left is what was written since.
            while let Some(oldest) = recent.oldest() {
                for (key, number, _) in of_rows(oldest.rows()) {
                    model.retain(|k, (n, _)| *k != key || *n != number);
                }
                recent.forget_oldest();
            }
            prop_assert_eq!(of_rows(recent.range(&[], &[9], Direction::Forward)), of_model(&model, &[], &[9]));
        }

        /// Scans stay cheap: few runs, each a good deal longer than those before it.
        #[test]
        fn runs_stay_few(lengths in proptest::collection::vec(1_u32..40, 1..300)) {
            let mut recent = Recent::default();
            let mut next = 0_u32;
            for (number, length) in (1..).zip(lengths) {
                let batch: Vec<Change> = (next..next + length)
                    .map(|key| (key.reverse_bits().to_be_bytes().to_vec(), Some(vec![])))
                    .collect();
                next += length;
                recent.put(&batch, number);
                if let Some(crowded) = recent.crowded() {
                    recent.replace(crowded.thinned());
                }
            }
            let tiers = next.ilog(4) as usize + 1;
            let runs = recent.filling.runs().count();
            prop_assert!(runs <= (FANOUT - 1) * tiers, "{} runs of {} rows", runs, next);
        }
    }
}
