//! The machine stops: of what was not brought to the medium anything may be lost, and the index is
//! as of one commit all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use stemma_search::{Change, Checkpoint, Hit, OpenState, Query, SearchIndex};

use crate::fixture::{facets, id, open, put_text, put_vectors};

const LIST: &str = "meta.json";

/// What an event changes: something new, something rewritten, something described anew.
fn changes(end: u64) -> Vec<Change> {
    let number = u128::from(end);
    vec![
        put_vectors(
            number,
            facets("n", Some("c"), &["T"]),
            &[("one word", &[("m", &[1.0, 2.0])]), ("two words", &[])],
        ),
        put_text(1000 + number % 3, "name", &format!("rewritten at {end}")),
        Change::Describe {
            resource: id(number / 2),
            facets: facets("other name", None, &["U"]),
        },
    ]
}

fn apply(index: &SearchIndex, end: u64) {
    let last = Some([u8::try_from(end).unwrap(); 32]);
    let checkpoint = Checkpoint { end, last };
    index.apply(changes(end), checkpoint).unwrap();
}

/// All hits of some queries. How rare words are taken to be depends on what is deleted and not yet
/// gone, so their scores are not compared, nor their order, nor which of them come first.
fn found(index: &SearchIndex) -> Vec<Vec<String>> {
    let shown = |text| {
        let query = Query {
            limit: 500,
            ..Query::words(text)
        };
        let hits = index.search(&query).unwrap().hits;
        let unscored = |hit| format!("{:?}", Hit { score: 0.0, ..hit });
        let mut shown: Vec<_> = hits.into_iter().map(unscored).collect();
        shown.sort();
        shown
    };
    ["word", "words name", "rewritten", "other"]
        .map(shown)
        .to_vec()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The files as they are at one moment, while whoever has them open writes on: a merge may end
/// meanwhile, and then it is not the list that was copied that names what was.
fn copy(from: &Path, to: &Path) {
    let list = || fs::read(from.join(LIST)).unwrap();
    loop {
        fs::create_dir(to).unwrap();
        let before = list();
        let copied = names(from).into_iter().all(|name| {
            let bytes = fs::read(from.join(&name));
            bytes.is_ok_and(|bytes| fs::write(to.join(&name), bytes).is_ok())
        });
        if copied && list() == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
}

/// What became of a file.
#[derive(Debug, Clone)]
enum Fate {
    Whole,
    Missing,
    Empty,
    Zeroed,
    Cut(Index),
    /// A part of it was not written.
    Hole(Index, Index),
}

fn fate() -> impl Strategy<Value = Fate> {
    let at = any::<Index>;
    prop_oneof![
        6 => Just(Fate::Whole),
        1 => Just(Fate::Missing),
        1 => Just(Fate::Empty),
        1 => Just(Fate::Zeroed),
        1 => at().prop_map(Fate::Cut),
        1 => (at(), at()).prop_map(|(from, to)| Fate::Hole(from, to)),
    ]
}

fn suffer(path: &Path, fate: &Fate) {
    let mut bytes = fs::read(path).unwrap();
    match fate {
        Fate::Missing => return fs::remove_file(path).unwrap(),
        Fate::Empty => bytes.clear(),
        Fate::Zeroed => bytes.fill(0),
        Fate::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
        Fate::Hole(from, to) if !bytes.is_empty() => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            bytes[from.min(to)..=from.max(to)].fill(0);
        }
        Fate::Whole | Fate::Cut(_) | Fate::Hole(..) => {}
    }
    fs::write(path, bytes).unwrap();
}

/// What a stop leaves of the list: one of some moment, and where it was torn, what came before.
#[derive(Debug, Clone)]
struct ListFate {
    of: Index,
    torn_by: Option<(Index, Index)>,
    fate: Fate,
}

fn list_fate() -> impl Strategy<Value = ListFate> {
    let torn_by = prop::option::weighted(0.2, any::<(Index, Index)>());
    (any::<Index>(), torn_by, fate()).prop_map(|(of, torn_by, fate)| ListFate { of, torn_by, fate })
}

impl ListFate {
    fn leave(&self, dir: &Path, lists: &[Vec<u8>]) {
        let mut list = self.of.get(lists).clone();
        if let Some((other, at)) = &self.torn_by {
            let other = other.get(lists);
            let at = at.index(list.len());
            list.truncate(at);
            list.extend(other.iter().skip(at));
        }
        fs::write(dir.join(LIST), list).unwrap();
        suffer(&dir.join(LIST), &self.fate);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_index_after_the_machine_stopped_is_as_of_one_commit_and_ends_like_a_new_one(
        before in 0..4_u64,
        after in 1..6_u64,
        fates in prop::collection::vec(fate(), 1..12),
        list in list_fate(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (place, left) = (dir.path().join("search"), dir.path().join("left"));
        let index = open(&place).index;
        let mut digests = BTreeMap::from([(0, index.digest().unwrap())]);
        for end in 1..=before {
            apply(&index, end);
            digests.insert(end, index.digest().unwrap());
        }
        index.sync().unwrap();
        let synced = names(&place);
        let mut lists = vec![fs::read(place.join(LIST)).unwrap()];
        for end in before + 1..=before + after {
            apply(&index, end);
            digests.insert(end, index.digest().unwrap());
            lists.push(fs::read(place.join(LIST)).unwrap());
        }
        let expected = found(&index);

        copy(&place, &left);
        let unsynced = names(&left).into_iter().filter(|name| !synced.contains(name));
        for (name, fate) in unsynced.zip(fates.iter().cycle()) {
            suffer(&left.join(name), fate);
        }
        list.leave(&left, &lists);

        let opened = open(&left);
        let end = opened.index.checkpoint().end;
        match &opened.state {
            OpenState::Existing => {}
            OpenState::WentBack { .. } => prop_assert_eq!(end, before),
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(Some(&opened.index.digest().unwrap()), digests.get(&end));
        for end in end + 1..=before + after {
            apply(&opened.index, end);
        }
        prop_assert_eq!(Some(&opened.index.digest().unwrap()), digests.get(&(before + after)));
        prop_assert_eq!(found(&opened.index), expected);
        drop(opened);
        prop_assert_eq!(open(&left).state, OpenState::Existing);
    }
}

#[test]
fn an_index_whose_process_was_killed_is_as_of_its_newest_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (place, left) = (dir.path().join("search"), dir.path().join("left"));
    let index = open(&place).index;
    (1..=3).for_each(|end| apply(&index, end));
    copy(&place, &left);
    let opened = open(&left);
    assert_eq!(opened.state, OpenState::Existing);
    assert_eq!(opened.index.checkpoint(), index.checkpoint());
    assert_eq!(opened.index.digest().unwrap(), index.digest().unwrap());
}

#[test]
fn files_of_the_commit_on_the_medium_stay_until_another_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("search");
    let index = open(&place).index;
    let put = |end| {
        let texts = (0..9).map(|number| put_text(number, "name", &format!("text {end}")));
        let checkpoint = Checkpoint { end, last: None };
        index.apply(texts.collect(), checkpoint).unwrap();
    };
    put(1);
    index.sync().unwrap();
    let first = names(&place);
    (2..5).for_each(put);
    assert!(names(&place).is_superset(&first));
    index.sync().unwrap();
    assert!(!names(&place).is_superset(&first));
    let list = |name| fs::read(place.join(name)).unwrap();
    assert_eq!(list(LIST), list(".synced.json"));
}

#[test]
fn a_change_brings_a_commit_to_the_medium_when_none_was_for_as_long_as_the_options_say() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("search");
    let options = stemma_search::Options {
        sync_every: std::time::Duration::ZERO,
        ..stemma_search::Options::default()
    };
    let index = SearchIndex::open(&place, &options).unwrap().index;
    apply(&index, 1);
    let list = |name| fs::read(place.join(name)).unwrap();
    assert_eq!(list(LIST), list(".synced.json"));
}
