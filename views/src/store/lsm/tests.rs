//! The store on real directories, its tables small enough to be many.

use std::collections::BTreeMap;

use super::*;
use crate::store::Pair;

/// Small tables, so that many are written and merged.
const SMALL: Sizes = Sizes {
    cache: 1 << 20,
    memtable: 16 << 10,
};

/// Batches after which every key was written, and the pattern comes again.
const ROUND: u32 = 40;

/// Rows whose value is the number of their batch.
fn batch(number: u32) -> Vec<Change> {
    let keys = (0..32).map(|row| format!("{:02}", (row * 7 + number) % ROUND));
    keys.chain(["last".to_owned()])
        .map(|key| (key.into_bytes(), Some(number.to_be_bytes().to_vec())))
        .collect()
}

/// The rows as they are after some batches.
fn after(batches: u32) -> Vec<Pair> {
    let last_ones = batches.saturating_sub(2 * ROUND)..batches;
    let rows: BTreeMap<_, _> = last_ones.flat_map(batch).collect();
    rows.into_iter()
        .map(|(key, value)| (key, value.expect("none is removed")))
        .collect()
}

fn rows(store: &LsmStore) -> Vec<Pair> {
    let rows = store.scan(&[0], &[u8::MAX], Direction::Forward);
    rows.map(Result::unwrap).collect()
}

fn batches_in(rows: &[Pair]) -> u32 {
    let number = |(_, last): &Pair| u32::from_be_bytes(last.as_slice().try_into().unwrap());
    rows.last().map_or(0, |last| number(last) + 1)
}

/// A2: a reader sees whole batches, while tables are replaced, written and merged below.
#[test]
fn a_scan_sees_some_number_of_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..3_000 {
                store.commit(batch(number)).unwrap();
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let rows = rows(&store);
            let batches = batches_in(&rows);
            assert!(batches >= seen, "{batches} after {seen}");
            assert_eq!(rows, after(batches), "{batches} batches");
            seen = batches;
        }
    });
    assert_eq!(rows(&store), after(3_000));
}

/// A12: without a journal, what was not written out is missing at the end and nowhere else.
#[test]
fn a_store_that_was_left_unwritten_holds_the_first_batches_and_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL).unwrap();
    (0..1_000).for_each(|number| store.commit(batch(number)).unwrap());
    drop(store);
    let again = LsmStore::open(dir.path(), SMALL).unwrap();
    let found = rows(&again);
    let batches = batches_in(&found);
    assert!(batches > 0 && batches <= 1_000, "{batches}");
    assert_eq!(found, after(batches));
    (batches..batches + 500).for_each(|number| again.commit(batch(number)).unwrap());
    again.flush().unwrap();
    drop(again);
    let flushed = LsmStore::open(dir.path(), SMALL).unwrap();
    assert_eq!(rows(&flushed), after(batches + 500));
}

/// A12: a table that cannot be written is told of, and opened anew the store goes on.
#[test]
fn a_write_that_failed_is_refused_until_the_store_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL).unwrap();
    store.commit(batch(0)).unwrap();
    store.flush().unwrap();
    // Directories stand where the next tables would go.
    let tables = dir.path().join(TREE).join(TABLES);
    let taken: Vec<_> = (0..32).map(|id| tables.join(id.to_string())).collect();
    let taken: Vec<_> = taken.iter().filter(|path| !path.exists()).collect();
    taken.iter().for_each(|path| fs::create_dir(path).unwrap());
    store.commit(batch(1)).unwrap();
    let refused = store.flush().unwrap_err();
    let left = fs::read_dir(&tables).unwrap().count();
    assert_eq!(left, 1 + taken.len(), "nothing half-written");
    assert!(matches!(refused, StoreError::Engine { .. }), "{refused:?}");
    store.commit(batch(2)).unwrap_err();
    assert_eq!(batches_in(&rows(&store)), 2, "reading goes on");
    taken.iter().for_each(|path| fs::remove_dir(path).unwrap());
    store.reopen().unwrap();
    assert_eq!(rows(&store), after(2), "nothing was lost");
    store.commit(batch(2)).unwrap();
    store.flush().unwrap();
    drop(store);
    let again = LsmStore::open(dir.path(), SMALL).unwrap();
    assert_eq!(rows(&again), after(3));
}

/// P3: while much is written tables are left as they are, up to a number of them; afterwards they
/// are merged, and rows are the same all along.
#[test]
fn tables_are_not_merged_while_merging_is_held_and_are_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL).unwrap();
    let tables = |store: &LsmStore| store.with(|shared| Ok(shared.tree.l0_run_count())).unwrap();
    store.hold_merging(true);
    for number in 0..u32::try_from(RUNS_HELD_MAX).unwrap() {
        store.commit(batch(number)).unwrap();
        store.flush().unwrap();
        assert_eq!(tables(&store), number as usize + 1);
    }
    let batches = u32::try_from(RUNS_HELD_MAX).unwrap();
    assert_eq!(rows(&store), after(batches));
    store.hold_merging(false);
    let merged = store.with(|shared| shared.wait_until(|shared| shared.tree.l0_run_count() < 4));
    merged.unwrap();
    assert_eq!(rows(&store), after(batches));
}

/// A12: who closes does not wait for a merge to end, and what it had written is gone afterwards.
#[test]
fn a_store_that_is_closed_while_it_merges_is_as_it_was_and_merges_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL).unwrap();
    store.hold_merging(true);
    for number in 0..8 {
        store.commit(batch(number)).unwrap();
        store.flush().unwrap();
    }
    store.hold_merging(false);
    drop(store);
    let again = LsmStore::open(dir.path(), SMALL).unwrap();
    assert_eq!(rows(&again), after(8));
    let merged = again.with(|shared| shared.wait_until(|shared| shared.tree.l0_run_count() < 4));
    merged.unwrap();
    assert_eq!(rows(&again), after(8));
    let in_use = again.with(|shared| Ok(shared.tree.table_count())).unwrap();
    let tables = dir.path().join(TREE).join(TABLES);
    again
        .with(|shared| shared.forget().map_err(failed))
        .unwrap();
    assert_eq!(fs::read_dir(tables).unwrap().count(), in_use);
}
