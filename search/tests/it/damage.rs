//! What is found at open: nothing, an index, one that is open elsewhere, and damage of any kind.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use stemma_search::{Checkpoint, OpenError, OpenState, Options, Query, SearchError, SearchIndex};
use tempfile::TempDir;

use crate::fixture::{Fixture, facets, open, put_text, put_vectors};

fn filled(dir: &Path) -> ([u8; 32], Checkpoint) {
    let index = open(dir).index;
    for end in 1..=3 {
        let number = u128::from(end);
        let changes = vec![
            put_text(number, "name", "some words of a text"),
            put_text(77, "name", &format!("rewritten {end}")),
            put_vectors(
                number + 10,
                facets("n", Some("c"), &["T"]),
                &[("one", &[("m", &[1.0, 2.0])]), ("two", &[])],
            ),
        ];
        let last = Some([7; 32]);
        index.apply(changes, Checkpoint { end, last }).unwrap();
    }
    (index.digest().unwrap(), index.checkpoint())
}

#[test]
fn an_index_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("search");
    assert_eq!(open(&dir).state, OpenState::Fresh);
    assert_eq!(open(&dir).state, OpenState::Existing);
    let (digest, checkpoint) = filled(&dir);
    let opened = open(&dir);
    assert_eq!(opened.state, OpenState::Existing);
    assert_eq!(opened.index.digest().unwrap(), digest);
    assert_eq!(opened.index.checkpoint(), checkpoint);
}

/// A process that was killed between a commit's files and the list that names them left a file of
/// deletions; the next one wrote under the same name, was refused, and took no more changes.
#[test]
fn a_commit_that_did_not_come_about_is_not_in_the_way_of_the_next() {
    // What the next one gathers need not be the same, nor are the numbers in the files' names.
    for n_more in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("search");
        let list = dir.join("meta.json");
        let rewrite = |index: &SearchIndex, n_more: u128| {
            let mut changes = vec![put_text(1, "name", "other words")];
            changes.extend((0..n_more).map(|n| put_text(30 + n, "name", "more words")));
            index.apply(changes, Checkpoint { end: 2, last: None })
        };
        let index = open(&dir).index;
        let changes = (1..20).map(|number| put_text(number, "name", "words"));
        let first = Checkpoint { end: 1, last: None };
        index.apply(changes.collect(), first).unwrap();
        let before = fs::read(&list).unwrap();
        rewrite(&index, 0).unwrap();
        drop(index);
        let is_deletions =
            |entry: fs::DirEntry| entry.path().extension().is_some_and(|e| e == "del");
        let mut files = fs::read_dir(&dir).unwrap().map(Result::unwrap);
        assert!(files.any(is_deletions));
        fs::write(&list, before).unwrap();
        let opened = open(&dir);
        assert_eq!(opened.state, OpenState::Existing);
        assert_eq!(opened.index.checkpoint(), first);
        rewrite(&opened.index, n_more).unwrap();
        let hits = opened.index.search(&Query::words("other")).unwrap().hits;
        assert_eq!(hits.len(), 1);
    }
}

/// A merge goes on when the index is dropped. What it wrote late stood against what the next
/// opening had read, and the index was empty.
#[test]
fn an_index_that_is_dropped_while_it_merges_holds_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("search");
    let put = |number: u64| put_text(number.into(), "name", &format!("words {number}"));
    let index = open(&dir).index;
    let first = Checkpoint { end: 0, last: None };
    index.apply((0..40).map(put).collect(), first).unwrap();
    let digest = index.digest().unwrap();
    drop(index);
    // What is put again is what is there, and one more segment: eight are merged.
    for end in 1..40 {
        let opened = open(&dir);
        assert_eq!(opened.state, OpenState::Existing);
        assert_eq!(opened.index.checkpoint().end, end - 1);
        assert_eq!(opened.index.digest().unwrap(), digest);
        let next = Checkpoint { end, last: None };
        opened.index.apply(vec![put(end % 40)], next).unwrap();
    }
}

#[test]
fn an_index_has_one_owner() {
    let fixture = Fixture::new();
    let again = SearchIndex::open(&fixture.dir.path().join("search"), &Options::default());
    assert!(matches!(again, Err(OpenError::Locked { .. })));
}

#[test]
fn options_that_cannot_be_worked_with_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        writer_bytes: 1,
        ..Options::default()
    };
    assert!(matches!(
        SearchIndex::open(dir.path(), &options),
        Err(OpenError::Options(_))
    ));
}

#[test]
fn a_discarded_index_is_gone_and_takes_no_changes() {
    let fixture = Fixture::new();
    fixture.apply(vec![put_text(1, "n", "word")]);
    let clone = fixture.index.clone();
    fixture.index.discard().unwrap();
    assert!(!fixture.dir.path().join("search").exists());
    assert_eq!(clone.search(&Query::words("word")).unwrap().hits.len(), 1);
    let answer = clone.apply(Vec::new(), Checkpoint::default());
    assert!(matches!(answer, Err(SearchError::Discarded)));
}

#[test]
fn an_index_of_another_format_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("search");
    filled(&dir);
    let list = dir.join("meta.json");
    let text = fs::read_to_string(&list).unwrap();
    // Lists had no seal then.
    let (text, _seal) = text.trim_end().rsplit_once('\n').unwrap();
    let other = text.replace("\\\"format\\\":5", "\\\"format\\\":2");
    assert_ne!(text, other);
    fs::write(&list, other).unwrap();
    let opened = open(&dir);
    let OpenState::Replaced { reason, kept_as } = opened.state else {
        panic!("{:?}", opened.state);
    };
    assert_eq!(
        (reason.as_str(), kept_as),
        ("rows of format 2, not 5", None)
    );
    assert_eq!(opened.index.checkpoint(), Checkpoint::default());
}

#[test]
fn a_directory_of_other_files_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("search");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("letter.txt"), "dear").unwrap();
    let OpenState::Replaced { kept_as, .. } = open(&dir).state else {
        panic!("not replaced");
    };
    assert_eq!(
        fs::read(kept_as.unwrap().join("letter.txt")).unwrap(),
        b"dear"
    );
}

/// An index that is made once and copied for each case.
struct Template {
    dir: TempDir,
    digest: [u8; 32],
    checkpoint: Checkpoint,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let (digest, checkpoint) = filled(dir.path());
    Template {
        dir,
        digest,
        checkpoint,
    }
});

/// One kind of damage to one file.
#[derive(Debug, Clone)]
enum Harm {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Remove,
    Fill(Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Harm::Cut),
        (any::<prop::sample::Index>(), 0_u8..8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        Just(Harm::Remove),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Harm::Fill),
    ]
}

fn damage(path: &Path, harm: &Harm) {
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Remove => return fs::remove_file(path).unwrap(),
        Harm::Fill(other) => bytes.clone_from(other),
        Harm::Cut(_) | Harm::Flip(..) if bytes.is_empty() => {}
        Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Harm::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
    }
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever happened to the files, an index opens, and holds all or nothing: what was brought to
    /// the medium here is the empty index.
    #[test]
    fn a_damaged_index_is_whole_or_empty(
        harms in prop::collection::vec((any::<prop::sample::Index>(), harm()), 1..3)
    ) {
        let template = &*TEMPLATE;
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("search");
        fs::create_dir(&dir).unwrap();
        for entry in fs::read_dir(template.dir.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for (file, harm) in &harms {
            let path = file.get(&files);
            if path.exists() {
                damage(path, harm);
            }
        }
        let opened = open(&dir);
        if opened.state == OpenState::Existing {
            prop_assert_eq!(opened.index.digest().unwrap(), template.digest);
            prop_assert_eq!(opened.index.checkpoint(), template.checkpoint);
        } else {
            prop_assert_eq!(opened.index.stats().unwrap().resources, 0);
            prop_assert_eq!(opened.index.checkpoint(), Checkpoint::default());
        }
        let next = Checkpoint { end: 9, last: None };
        opened.index.apply(vec![put_text(5, "n", "fresh")], next).unwrap();
        prop_assert_eq!(opened.index.search(&Query::words("fresh")).unwrap().hits.len(), 1);
    }
}
