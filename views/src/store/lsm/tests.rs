//! The store on real directories, its tables small enough to be many.

use std::collections::BTreeMap;

use proptest::prelude::*;

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
    let store = LsmStore::open(dir.path(), SMALL, false).unwrap();
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
    let store = LsmStore::open(dir.path(), SMALL, false).unwrap();
    let write = |store: &LsmStore, number| {
        store.make_room().unwrap();
        store.commit(batch(number)).unwrap();
    };
    (0..1_000).for_each(|number| write(&store, number));
    drop(store);
    let again = LsmStore::open(dir.path(), SMALL, false).unwrap();
    let found = rows(&again);
    let batches = batches_in(&found);
    assert!(batches > 0 && batches <= 1_000, "{batches}");
    assert_eq!(found, after(batches));
    (batches..batches + 500).for_each(|number| write(&again, number));
    again.flush().unwrap();
    drop(again);
    let flushed = LsmStore::open(dir.path(), SMALL, false).unwrap();
    assert_eq!(rows(&flushed), after(batches + 500));
}

/// A12: a table that cannot be written is told of, and opened anew the store goes on.
#[test]
fn a_write_that_failed_is_refused_until_the_store_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL, false).unwrap();
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
    let again = LsmStore::open(dir.path(), SMALL, false).unwrap();
    assert_eq!(rows(&again), after(3));
}

/// The engine names a version on the disk before it has made sure of that: what it then took for a
/// failure left a version that names tables of which it knew nothing, and they were removed.
#[test]
fn no_table_is_removed_while_the_disk_may_name_another_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL, true).unwrap();
    store.commit(batch(0)).unwrap();
    store.flush().unwrap();
    let tables = dir.path().join(TREE).join(TABLES);
    let taken: Vec<_> = (1..32).map(|id| tables.join(id.to_string())).collect();
    let taken: Vec<_> = taken.iter().filter(|path| !path.exists()).collect();
    taken.iter().for_each(|path| fs::create_dir(path).unwrap());
    let named_by_it = tables.join("9999");
    fs::write(&named_by_it, "a table").unwrap();
    let current = dir.path().join(TREE).join(CURRENT);
    let ours = fs::read(&current).unwrap();
    let mut next = ours.clone();
    next[0] += 1;
    fs::write(&current, next).unwrap();
    store.commit(batch(1)).unwrap();
    store.flush().unwrap_err();
    assert!(named_by_it.exists());
    taken.iter().for_each(|path| fs::remove_dir(path).unwrap());
    // What is opened then is what the disk has, or nothing at all.
    store.reopen().unwrap_err();
    fs::write(&current, ours).unwrap();
    store.reopen().unwrap();
    assert_eq!(rows(&store), after(1));
    assert!(!named_by_it.exists());
}

fn n_runs(store: &LsmStore) -> usize {
    let runs = store.with(|shared| Ok(shared.tree.l0_run_count()));
    runs.unwrap()
}

fn wait_for_runs_below(store: &LsmStore, count: usize) {
    let merged = store.with(|shared| shared.wait_until(|s| s.tree.l0_run_count() < count));
    merged.unwrap();
}

/// P3: while much is written tables are left as they are, up to a number of them; afterwards they
/// are merged, and rows are the same all along.
#[test]
fn tables_are_not_merged_while_merging_is_held_unless_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL, false).unwrap();
    let held = u32::try_from(RUNS_HELD_MAX).unwrap();
    store.hold_merging(true);
    for number in 0..held {
        store.commit(batch(number)).unwrap();
        store.flush().unwrap();
        assert_eq!(n_runs(&store), number as usize + 1);
    }
    assert_eq!(rows(&store), after(held));
    store.commit(batch(held)).unwrap();
    store.flush().unwrap();
    wait_for_runs_below(&store, RUNS_HELD_MAX);
    store.hold_merging(false);
    wait_for_runs_below(&store, 4);
    assert_eq!(rows(&store), after(held + 1));
}

/// A12: a merge that is broken off leaves all rows where they are, and what it had written is gone
/// after the next opening.
#[test]
fn a_merge_that_is_broken_off_changes_nothing_and_is_done_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL, true).unwrap();
    for number in 0..8 {
        store.commit(batch(number)).unwrap();
        store.flush().unwrap();
    }
    let tables = dir.path().join(TREE).join(TABLES);
    let broken_off = store.with(|shared| {
        shared.is_closing.store(true, Ordering::Release);
        Ok(shared.tree.compact(Arc::new(Leveled::default()), 0))
    });
    assert!(broken_off.unwrap().is_err());
    assert_eq!((n_runs(&store), rows(&store)), (8, after(8)));
    assert_eq!(fs::read_dir(&tables).unwrap().count(), 9, "one in part");
    drop(store);
    let again = LsmStore::open(dir.path(), SMALL, false).unwrap();
    wait_for_runs_below(&again, 4);
    assert_eq!(rows(&again), after(8));
    drop(again);
    let merged = LsmStore::open(dir.path(), SMALL, false).unwrap();
    let in_use = merged.with(|shared| Ok(shared.tree.table_count())).unwrap();
    assert_eq!(fs::read_dir(&tables).unwrap().count(), in_use);
}

/// A row of a long table: its value says nothing that could be compressed.
fn long_row(number: u32) -> Pair {
    let value = blake3::hash(&number.to_be_bytes());
    let key = format!("row {:08}", number * 2).into_bytes();
    (key, value.as_bytes().repeat(4))
}

/// P9: what is kept in memory of tables that were merged does not grow with their rows, nor are
/// these found by reading all of an index, also behind an opening; rows are found either way.
#[test]
fn long_tables_have_the_ends_of_their_indexes_in_memory_and_scans_are_those_of_a_map() {
    const ROWS: u32 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL, false).unwrap();
    for tenth in 0..10 {
        // Each table has rows from everywhere, so that they have to be merged.
        let rows = (0..ROWS / 10).map(|row| long_row(row * 10 + tenth));
        let changes = rows.map(|(key, value)| (key, Some(value))).collect();
        store.commit(changes).unwrap();
        store.flush().unwrap();
        store.make_room().unwrap();
    }
    wait_for_runs_below(&store, 4);
    drop(store);
    let store = LsmStore::open(dir.path(), SMALL, false).unwrap();
    store
        .with(|shared| {
            let version = shared.tree.current_version();
            let merged: Vec<_> = version
                .iter_levels()
                .skip(1)
                .flat_map(|l| l.iter())
                .collect();
            let tables = merged.iter().flat_map(|run| run.iter());
            let in_memory = tables.map(|table| {
                let index = table.pinned_block_index_size();
                assert!(index > 0, "it is read for each look");
                index + table.pinned_filter_size()
            });
            let in_memory: usize = in_memory.sum();
            assert!(
                in_memory > 0 && in_memory < ROWS as usize / 10,
                "{in_memory}"
            );
            Ok(())
        })
        .unwrap();
    for from in (0..ROWS).step_by(911) {
        let to = (from + 150).min(ROWS);
        let mut expected: Vec<Pair> = (from..to).map(long_row).collect();
        let (first, end) = (long_row(from).0, long_row(to).0);
        let scan = |direction| -> Vec<Pair> {
            let rows = store.scan(&first, &end, direction);
            rows.map(Result::unwrap).collect()
        };
        assert_eq!(scan(Direction::Forward), expected);
        expected.reverse();
        assert_eq!(scan(Direction::Backward), expected);
        assert_eq!(store.get(&first).unwrap(), Some(long_row(from).1));
        let between = format!("row {:08}", from * 2 + 1).into_bytes();
        assert_eq!(store.get(&between).unwrap(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A2: rows in memory over rows in tables are those of a map, by key and in either order,
    /// removed ones left out, whatever was written to the disk and merged between.
    #[test]
    fn the_store_is_a_map(
        batches in prop::collection::vec(
            (prop::collection::vec((prop::collection::vec(0_u8..5, 1..4), any::<Option<u8>>()), 1..12), 0..4_u8),
            1..40,
        ),
        (from, to) in (prop::collection::vec(0_u8..5, 0..3), prop::collection::vec(0_u8..5, 1..3)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = LsmStore::open(dir.path(), SMALL, false).unwrap();
        let mut model = BTreeMap::new();
        for (batch, then) in batches {
            let value = |value: Option<u8>| value.map(|byte| vec![byte; 300]);
            let changes: Vec<Change> = batch.into_iter().map(|(key, v)| (key, value(v))).collect();
            for (key, value) in &changes {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            store.make_room().unwrap();
            store.commit(changes).unwrap();
            match then {
                0 => store.flush().unwrap(),
                1 => {
                    store.flush().unwrap();
                    drop(store);
                    store = LsmStore::open(dir.path(), SMALL, false).unwrap();
                }
                _ => {}
            }
            let is_asked = |key: &[u8]| key >= from.as_slice() && key < to.as_slice();
            let mut expected: Vec<Pair> = model.clone().into_iter().collect();
            expected.retain(|(key, _)| is_asked(key));
            let scan = |direction| -> Vec<Pair> {
                store.scan(&from, &to, direction).map(Result::unwrap).collect()
            };
            prop_assert_eq!(&scan(Direction::Forward), &expected);
            expected.reverse();
            prop_assert_eq!(&scan(Direction::Backward), &expected);
        }
        for key in (0..5).flat_map(|a| (0..5).map(move |b| vec![a, b])) {
            let found = store.get(&key).unwrap();
            prop_assert_eq!(found.as_ref(), model.get(&key));
        }
    }
}
