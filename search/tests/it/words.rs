//! What is found by words, in which order, and how it is shown.

use stemma_domain::value::{CollectionName, EntityType};
use stemma_search::{Archived, Change, CursorError, Query, SearchError};

use crate::fixture::{Fixture, facets, id, put_chunks, put_text};

#[test]
fn passages_that_hold_all_words_go_before_those_that_hold_one_often() {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_text(1, "one", "zebra zebra zebra zebra zebra"),
        put_text(
            2,
            "two",
            &format!("a zebra met a lion {}", "and so on ".repeat(60)),
        ),
        put_text(3, "three", "nothing of that"),
    ]);
    assert_eq!(fixture.words("zebra lion"), [2, 1]);
    assert_eq!(fixture.words("ZEBRA"), [1, 2]);
}

#[test]
fn phrases_are_required_and_in_order() {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_text(1, "one", "a red apple fell"),
        put_text(2, "two", "an apple, red as ever"),
        put_text(3, "three", "a pear"),
    ]);
    assert_eq!(fixture.words("\"red apple\""), [1]);
    assert_eq!(fixture.words("pear \"red apple\""), [1]);
    assert_eq!(fixture.words("\"apple red\""), [2]);
    assert_eq!(fixture.words("apple -fell"), [2]);
    assert_eq!(fixture.words("apple -\"apple red\""), [1]);
}

#[test]
fn words_are_found_by_stem_but_exact_ones_go_first() {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_text(1, "one", "connections were made"),
        put_text(2, "two", "connected they were"),
    ]);
    assert_eq!(fixture.words("connected"), [2, 1]);
    assert!(fixture.words("\"connected were\"").is_empty());
}

#[test]
fn scripts_without_spaces_are_found_by_any_part() {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_text(1, "one", "私は東京都に住んでいます。"),
        put_text(2, "two", "京都は古い都です。"),
        put_text(3, "three", "서울에서 만나요"),
    ]);
    assert_eq!(fixture.words("東京"), [1]);
    let mut both = fixture.words("京都");
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    assert_eq!(fixture.words("都"), [2, 1]);
    assert_eq!(fixture.words("서울"), [3]);
    assert_eq!(fixture.words("\"古い都\""), [2]);
}

#[test]
fn accents_and_cases_do_not_matter() {
    let fixture = Fixture::new();
    fixture.apply(vec![put_text(1, "one", "Crème BRÛLÉE in Zürich, Straße 5")]);
    for text in ["creme", "Brulee", "ZÜRICH", "strasse"] {
        assert_eq!(fixture.words(text), [1], "{text}");
    }
}

#[test]
fn a_resource_is_found_by_its_name_even_without_text() {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_text(1, "Annual report 2023", ""),
        put_text(2, "Other", "the annual report is mentioned"),
        put_chunks(3, facets("Report, annual", None, &[]), &[]),
    ]);
    let page = fixture
        .index
        .search(&Query::words("annual report"))
        .unwrap();
    assert_eq!(page.hits.len(), 3);
    let hit = page.hits.iter().find(|hit| hit.resource == id(1)).unwrap();
    assert_eq!((hit.snippet.as_str(), hit.chunk_id.as_ref()), ("", None));
    assert_eq!(fixture.words("\"annual report 2023\""), [1]);
}

#[test]
fn filters_hold_and_archived_resources_are_asked_for() {
    let fixture = Fixture::new();
    let archived = Change::Describe {
        resource: id(3),
        facets: stemma_search::Facets {
            archived: true,
            ..facets("c", None, &["Person"])
        },
    };
    fixture.apply(vec![
        put_chunks(
            1,
            facets("a", Some("books"), &["Person", "Place"]),
            &["word"],
        ),
        put_chunks(2, facets("b", Some("Books"), &["Person"]), &["word"]),
        put_chunks(3, facets("c", None, &["Person"]), &["word"]),
        archived,
    ]);
    let all = Query::words("word");
    let with = |change: fn(&mut Query)| {
        let mut query = all.clone();
        change(&mut query);
        fixture.found(&query)
    };
    assert_eq!(with(|_| {}), [1, 2]);
    assert_eq!(with(|q| q.archived = Archived::Any), [1, 2, 3]);
    assert_eq!(with(|q| q.archived = Archived::Yes), [3]);
    let books = |q: &mut Query| q.collection = Some(CollectionName::new("books").unwrap());
    assert_eq!(with(books), [1]);
    let both = |q: &mut Query| {
        q.entity_types = ["Place", "Person"]
            .map(|name| EntityType::new(name).unwrap())
            .to_vec();
    };
    assert_eq!(with(both), [1]);
}

#[test]
fn pages_joined_are_the_whole_list() {
    let fixture = Fixture::new();
    for batch in 0..5 {
        let numbers = batch * 10..batch * 10 + 10;
        let texts = numbers.map(|n| put_text(n, "n", &"word other ".repeat(1 + n as usize % 4)));
        fixture.apply(texts.collect());
    }
    let whole = fixture.index.search(&Query {
        limit: 500,
        ..Query::words("word other")
    });
    let whole = whole.unwrap();
    assert_eq!((whole.hits.len(), whole.next), (50, None));
    let mut joined = Vec::new();
    let mut query = Query {
        limit: 7,
        ..Query::words("word other")
    };
    loop {
        let page = fixture.index.search(&query).unwrap();
        joined.extend(page.hits);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(joined, whole.hits);
}

#[test]
fn a_cursor_of_another_query_is_refused() {
    let fixture = Fixture::new();
    fixture.apply((0..5).map(|n| put_text(n, "n", "word")).collect());
    let first = fixture.index.search(&Query {
        limit: 2,
        ..Query::words("word")
    });
    let other = fixture.index.search(&Query {
        after: first.unwrap().next,
        ..Query::words("words")
    });
    assert!(matches!(
        other,
        Err(SearchError::Cursor(CursorError::OtherQuery))
    ));
}

#[test]
fn odd_queries_are_answered_and_empty_ones_are_told() {
    let fixture = Fixture::new();
    fixture.apply(vec![put_text(1, "n", "field value and or not to")]);
    for odd in [
        "field:value",
        "(((",
        "a AND (b OR",
        "\"value",
        "to^2~3",
        "*",
        "-x y",
        "\\",
        "/re/",
    ] {
        match fixture.index.search(&Query::words(odd)) {
            Ok(_) | Err(SearchError::EmptyQuery) => {}
            other => panic!("{odd}: {other:?}"),
        }
    }
    for empty in ["", "  ", "\"\"", "-word", "!?"] {
        let answer = fixture.index.search(&Query::words(empty));
        assert!(matches!(answer, Err(SearchError::EmptyQuery)), "{empty}");
    }
    let none = Query {
        limit: 0,
        ..Query::words("a")
    };
    assert!(matches!(
        fixture.index.search(&none),
        Err(SearchError::Limit { .. })
    ));
}

#[test]
fn a_hit_says_where_its_passage_is_and_what_matched() {
    let fixture = Fixture::new();
    let text = format!("{}\n\nHier: das Mädchen.", "Füllung ist lang. ".repeat(65));
    fixture.apply(vec![put_text(1, "n", &text)]);
    let hit = fixture
        .index
        .search(&Query::words("madchen"))
        .unwrap()
        .hits
        .remove(0);
    let passage: String = text
        .chars()
        .skip(hit.start as usize)
        .take((hit.end - hit.start) as usize)
        .collect();
    assert!(passage.ends_with("das Mädchen."));
    let (from, to) = hit.highlights[0];
    let shown: String = hit
        .snippet
        .chars()
        .skip(from as usize)
        .take((to - from) as usize)
        .collect();
    assert_eq!(shown, "Mädchen");
}

#[test]
fn what_is_put_again_or_removed_is_no_longer_found() {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_text(1, "n", "old words"),
        put_text(2, "n", "old too"),
    ]);
    fixture.apply(vec![
        put_text(1, "n", "new words"),
        Change::Remove { resource: id(2) },
    ]);
    assert!(fixture.words("old").is_empty());
    assert_eq!(fixture.words("words"), [1]);
    let stats = fixture.index.stats().unwrap();
    assert_eq!((stats.resources, stats.passages, stats.vectors), (1, 1, 0));
}

#[test]
fn what_is_shown_and_noted_of_a_resource_is_read_back_and_too_long_a_note_is_refused() {
    let fixture = Fixture::new();
    let noted = |note: &[u8]| stemma_search::Facets {
        note: note.to_vec(),
        ..facets("a", Some("books"), &["Person", "Place"])
    };
    fixture.apply(vec![put_chunks(
        1,
        noted(b"first"),
        &["word", "other word"],
    )]);
    assert_eq!(fixture.index.facets(id(1)).unwrap(), Some(noted(b"first")));
    assert_eq!(fixture.index.facets(id(2)).unwrap(), None);
    let before = fixture.index.contents();
    let digest = before.digest().unwrap();
    let described = |facets| Change::Describe {
        resource: id(1),
        facets,
    };
    fixture.apply(vec![described(noted(b"second"))]);
    assert_eq!(fixture.index.facets(id(1)).unwrap(), Some(noted(b"second")));
    // What an earlier commit holds is looked at as it was.
    assert_eq!(
        (before.checkpoint().end, before.digest().unwrap()),
        (1, digest)
    );
    assert_ne!(fixture.index.digest().unwrap(), digest);
    let longest = vec![7; stemma_search::NOTE_BYTES_MAX];
    fixture.apply(vec![described(noted(&longest))]);
    let refused = fixture.index.apply(
        vec![described(noted(&[longest.clone(), vec![7]].concat()))],
        stemma_search::Checkpoint::default(),
    );
    assert!(
        matches!(refused, Err(SearchError::Note { bytes: 257, .. })),
        "{refused:?}"
    );
    assert_eq!(fixture.index.settled().unwrap().end, 3);
}

#[test]
fn passages_of_what_is_not_seen_are_as_if_they_were_not_there() {
    let fixture = Fixture::new();
    let put = |number| put_text(number, "a note", "moon and tide");
    fixture.apply((1..=6).map(put).collect());
    let sees = |resource| resource != id(2) && resource != id(5);
    let mut found = Vec::new();
    let mut query = Query {
        limit: 2,
        ..Query::words("moon")
    };
    loop {
        let page = fixture.index.search_for(&query, Some(&sees)).unwrap();
        found.extend(page.hits.iter().map(|hit| hit.resource));
        // Pages are full, and the last says that it is the last.
        assert_eq!(page.hits.len(), 2);
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert_eq!(found, [1, 3, 4, 6].map(id));
}
