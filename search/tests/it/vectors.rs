//! What is found by vectors, by both ways together, and while models change.

use std::sync::Arc;

use stemma_domain::value::CollectionName;
use stemma_search::{
    Change, Checkpoint, Mode, ModelUse, Options, Passage, PassageSource, PassageVector, Passages,
    Query, QueryVector, ReadPassages, SearchError, TakePassage,
};

use crate::fixture::{Fixture, WithVectors, facets, id, number, put_chunks, put_text, put_vectors};

fn by_vector(model: &str, values: &[f32]) -> Query {
    Query {
        mode: Mode::Vector,
        vector: Some(QueryVector {
            model: model.to_owned(),
            values: values.to_vec(),
        }),
        ..Query::words("")
    }
}

fn three() -> Fixture {
    let fixture = Fixture::new();
    fixture.apply(vec![
        put_vectors(
            1,
            facets("a", Some("x"), &[]),
            &[
                ("apple pie", &[("m", &[1.0, 0.0])]),
                ("banana bread", &[("m", &[0.6, 0.8])]),
            ],
        ),
        put_vectors(
            2,
            facets("b", None, &[]),
            &[("apple tart", &[("m", &[0.0, 3.0])])],
        ),
        put_vectors(
            3,
            facets("c", None, &[]),
            &[("cherry cake", &[("m", &[-1.0, 0.1])])],
        ),
    ]);
    fixture
}

#[test]
fn passages_come_by_their_cosine() {
    let fixture = three();
    let page = fixture.index.search(&by_vector("m", &[5.0, 0.0])).unwrap();
    let hits = page.hits.iter();
    let hits: Vec<_> = hits
        .map(|hit| (number(hit), hit.chunk_id.clone().unwrap()))
        .collect();
    let expected = [(1, "c0"), (1, "c1"), (2, "c0"), (3, "c0")];
    assert_eq!(
        hits,
        expected.map(|(number, chunk)| (number, chunk.to_owned()))
    );
    for (hit, cosine) in page.hits.iter().zip([1.0, 0.6, 0.0, -0.995_037]) {
        assert!((hit.score - cosine).abs() < 1e-4, "{}", hit.score);
    }
}

#[test]
fn filters_and_pages_hold_for_vectors_too() {
    let fixture = three();
    let mut query = by_vector("m", &[0.0, 1.0]);
    query.collection = Some(CollectionName::new("x").unwrap());
    assert_eq!(fixture.found(&query), [1, 1]);
    let mut paged = by_vector("m", &[0.0, 1.0]);
    let whole = fixture.found(&paged);
    paged.limit = 1;
    let mut joined = Vec::new();
    loop {
        let page = fixture.index.search(&paged).unwrap();
        joined.extend(page.hits.iter().map(number));
        paged.after = page.next;
        if paged.after.is_none() {
            break;
        }
    }
    assert_eq!(joined, whole);
}

#[test]
fn another_model_or_dimension_finds_nothing() {
    let fixture = three();
    assert!(fixture.found(&by_vector("other", &[1.0, 0.0])).is_empty());
    assert!(fixture.found(&by_vector("m", &[1.0, 0.0, 0.0])).is_empty());
}

#[test]
fn a_new_model_stands_beside_the_old_one_and_the_oldest_of_three_goes() {
    let fixture = three();
    let used = |model: &str, passages| ModelUse {
        model: model.to_owned(),
        dimension: 2,
        passages,
    };
    let of_two: [(&str, &[f32]); 2] = [("m", &[1.0, 0.0]), ("n", &[0.0, 1.0])];
    let texts = [("apple pie", &of_two[..]), ("banana bread", &of_two[..])];
    fixture.apply(vec![put_vectors(1, facets("a", None, &[]), &texts)]);
    assert_eq!(
        fixture.index.models().unwrap(),
        [used("m", 4), used("n", 2)]
    );
    assert_eq!(fixture.found(&by_vector("m", &[1.0, 0.0])), [1, 1, 2, 3]);
    let of_three: [(&str, &[f32]); 3] = [of_two[0], of_two[1], ("o", &[0.0, 1.0])];
    let texts = [("apple pie", &of_three[..]), ("banana bread", &of_two[..])];
    fixture.apply(vec![put_vectors(1, facets("a", None, &[]), &texts)]);
    let models = fixture.index.models().unwrap();
    assert_eq!(models, [used("m", 3), used("n", 2), used("o", 1)]);
    assert_eq!(fixture.index.stats().unwrap().vectors, 6);
}

#[test]
fn facets_change_and_vectors_stay() {
    let fixture = three();
    fixture.apply(vec![Change::Describe {
        resource: id(2),
        facets: facets("renamed", Some("x"), &[]),
    }]);
    let mut query = by_vector("m", &[0.0, 1.0]);
    query.collection = Some(CollectionName::new("x").unwrap());
    assert_eq!(fixture.found(&query), [2, 1, 1]);
    assert_eq!(fixture.words("renamed"), [2]);
}

#[test]
fn putting_a_resource_again_drops_its_vectors() {
    let fixture = three();
    fixture.apply(vec![put_chunks(1, facets("a", None, &[]), &["apple pie"])]);
    assert_eq!(fixture.found(&by_vector("m", &[1.0, 0.0])), [2, 3]);
}

#[test]
fn wrong_vectors_are_refused_and_nothing_is_written() {
    let fixture = three();
    let before = (fixture.index.digest().unwrap(), fixture.index.checkpoint());
    let wrong: [(&str, &[f32]); 3] = [("m", &[f32::NAN, 0.0]), ("", &[1.0, 0.0]), ("m", &[])];
    for wrong in wrong {
        let wrong = put_vectors(1, facets("a", None, &[]), &[("apple", &[wrong])]);
        let changes = vec![put_text(9, "n", "word"), wrong];
        let answer = fixture.index.apply(changes, before.1);
        assert!(matches!(answer, Err(SearchError::InvalidVector { .. })));
    }
    assert_eq!(
        (fixture.index.digest().unwrap(), fixture.index.checkpoint()),
        before
    );
}

#[test]
fn more_passages_than_are_compared_is_an_error_and_a_filter_helps() {
    let fixture = Fixture::with(&Options {
        vectors_scanned_max: 2,
        ..Options::default()
    });
    fixture.apply(vec![
        put_vectors(
            1,
            facets("a", Some("x"), &[]),
            &[("one", &[("m", &[1.0])]), ("two", &[("m", &[1.0])])],
        ),
        put_vectors(2, facets("b", None, &[]), &[("three", &[("m", &[1.0])])]),
    ]);
    let mut query = by_vector("m", &[1.0]);
    let answer = fixture.index.search(&query);
    assert!(matches!(
        answer,
        Err(SearchError::TooManyVectors { candidates_max: 2 })
    ));
    query.collection = Some(CollectionName::new("x").unwrap());
    assert_eq!(fixture.found(&query), [1, 1]);
}

#[test]
fn vectors_that_do_not_fit_in_memory_are_read_from_disk() {
    let small = Fixture::with(&Options {
        vector_cache_bytes: 8,
        ..Options::default()
    });
    let large = three();
    for batch in 0..3 {
        let changes = || {
            (0..20_u8)
                .map(|n| {
                    let resource = u128::from(n) + 100 * batch;
                    let values = [f32::from(n), 7.0 - f32::from(n % 5)];
                    let one: [WithVectors<'_>; 1] = [("one", &[("m", &values)])];
                    put_vectors(resource, facets("a", None, &[]), &one)
                })
                .collect()
        };
        small.apply(changes());
        large.apply(changes());
    }
    large.apply(
        (1..=3)
            .map(|n| Change::Remove { resource: id(n) })
            .collect(),
    );
    small.apply(
        (1..=3)
            .map(|n| Change::Remove { resource: id(n) })
            .collect(),
    );
    let mut query = by_vector("m", &[0.3, 0.9]);
    query.limit = 100;
    let found = small.found(&query);
    assert_eq!(found.len(), 57);
    assert_eq!(found, large.found(&query));
    assert_eq!(found, large.found(&query));
}

#[test]
fn both_ways_together_rank_what_both_find_first() {
    let fixture = three();
    let mut query = by_vector("m", &[0.2, 1.0]);
    query.mode = Mode::Hybrid;
    query.text = "tart".to_owned();
    assert_eq!(fixture.found(&query)[0], 2);
    query.text = "apple -tart".to_owned();
    assert!(!fixture.found(&query).contains(&2));
    query.text = "\"banana bread\"".to_owned();
    assert_eq!(fixture.found(&query), [1]);
    query.text = "cherry".to_owned();
    let whole = fixture.found(&query);
    assert_eq!(whole.len(), 4);
    query.limit = 1;
    let mut joined = Vec::new();
    loop {
        let page = fixture.index.search(&query).unwrap();
        joined.extend(page.hits.iter().map(number));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(joined, whole);
}

#[test]
fn a_mode_by_vector_needs_one() {
    let fixture = three();
    for mode in [Mode::Vector, Mode::Hybrid] {
        let query = Query {
            mode,
            ..Query::words("apple")
        };
        assert!(matches!(
            fixture.index.search(&query),
            Err(SearchError::NoVector)
        ));
    }
}

/// Passages in a row, each with a vector of the model, until one of them cannot be read.
struct Given {
    count: u32,
    model: Option<&'static str>,
    broken_at: Option<u32>,
}

impl PassageSource for Given {
    fn each(&self, take: &mut TakePassage<'_>) -> Result<(), SearchError> {
        for index in 0..self.count {
            if self.broken_at == Some(index) {
                return Err(SearchError::Passages("it is not there".into()));
            }
            let passage = Passage {
                chunk_id: format!("c{index}"),
                index,
                start: index,
                end: index + 1,
                text: format!("passage{index} {}", "of the same book ".repeat(60)),
            };
            let vector = self.model.map(|model| PassageVector {
                model: model.to_owned(),
                values: vec![1.0, 2.0],
            });
            take(passage, vector.into_iter().collect())?;
        }
        Ok(())
    }
}

fn read(number: u128, given: Given) -> Change {
    Change::Put {
        resource: id(number),
        facets: facets("book", None, &[]),
        passages: Passages::Read(ReadPassages::new(Arc::new(given))),
    }
}

#[test]
fn passages_that_are_read_while_they_are_written_are_as_if_they_had_been_given() {
    // More bytes than wait for the engine's thread at a time.
    const COUNT: u32 = 6_000;
    let given = Fixture::new();
    let texts: Vec<_> = (0..COUNT)
        .map(|index| format!("passage{index} {}", "of the same book ".repeat(60)))
        .collect();
    let chunks = (0..).zip(&texts).map(|(index, text)| Passage {
        chunk_id: format!("c{index}"),
        index,
        start: index,
        end: index + 1,
        text: text.clone(),
    });
    given.apply(vec![Change::Put {
        resource: id(1),
        facets: facets("book", None, &[]),
        passages: Passages::Chunks(chunks.collect()),
    }]);
    let fixture = Fixture::new();
    let whole = Given {
        count: COUNT,
        model: None,
        broken_at: None,
    };
    fixture.apply(vec![read(1, whole)]);
    assert_eq!(
        fixture.index.digest().unwrap(),
        given.index.digest().unwrap()
    );
    let hits = fixture
        .index
        .search(&Query::words("passage4711"))
        .unwrap()
        .hits;
    assert_eq!(hits.len(), 1);
}

#[test]
fn passages_that_cannot_be_read_leave_the_index_as_it_was() {
    let fixture = Fixture::new();
    let whole = || Given {
        count: 3,
        model: Some("m"),
        broken_at: None,
    };
    fixture.apply(vec![read(1, whole())]);
    let before = fixture.index.digest().unwrap();
    let broken = Given {
        count: 9,
        model: Some("m"),
        broken_at: Some(7),
    };
    let end = fixture.index.checkpoint().end + 1;
    let applied = fixture
        .index
        .apply(vec![read(1, broken)], Checkpoint { end, last: None });
    assert!(
        matches!(applied, Err(SearchError::Passages(_))),
        "{applied:?}"
    );
    assert_eq!(fixture.index.settled().unwrap().end, end - 1);
    assert_eq!(fixture.index.digest().unwrap(), before);
    fixture.apply(vec![read(2, whole())]);
    assert_eq!(fixture.index.stats().unwrap().vectors, 3 + 3);
}
