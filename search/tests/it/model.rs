//! Random changes, against a model that is plain lists in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stemma_domain::value::{CollectionName, EntityType};
use stemma_search::{
    Archived, Change, Checkpoint, Facets, Hit, Mode, Options, Passages, Query, QueryVector,
    SearchIndex,
};

use crate::fixture::{self, facets, id, open, put_chunks, put_vectors};

const WORDS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "東京"];
const MODELS: [&str; 3] = ["m", "n", "o"];

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, Vec<Vec<u8>>),
    PutText(u8, u8, Vec<u8>),
    Describe(u8, u8),
    Vectors(u8, u8, Vec<(u8, i8)>),
    Remove(u8),
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let words = || prop::collection::vec(0..5_u8, 0..6);
    prop_oneof![
        3 => (0..6_u8, any::<u8>(), prop::collection::vec(words(), 0..4))
            .prop_map(|(id, facets, texts)| Step::Put(id, facets, texts)),
        2 => (0..6_u8, any::<u8>(), words()).prop_map(|(id, f, words)| Step::PutText(id, f, words)),
        2 => (0..6_u8, any::<u8>()).prop_map(|(id, facets)| Step::Describe(id, facets)),
        3 => (0..6_u8, 0..3_u8, prop::collection::vec((0..5_u8, any::<i8>()), 0..4))
            .prop_map(|(id, model, vectors)| Step::Vectors(id, model, vectors)),
        1 => (0..6_u8).prop_map(Step::Remove),
        4 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

fn facets_of(bits: u8) -> Facets {
    let types = [("P", 1), ("Q", 2)];
    let types: Vec<&str> = types
        .iter()
        .filter(|(_, bit)| bits & bit > 0)
        .map(|(t, _)| *t)
        .collect();
    Facets {
        archived: bits & 0b1100 == 0b1100,
        ..facets(
            "untitled",
            [None, Some("x")][usize::from(bits >> 4 & 1)],
            &types,
        )
    }
}

fn text_of(words: &[u8]) -> String {
    let words = words.iter().map(|word| WORDS[usize::from(*word)]);
    words.collect::<Vec<_>>().join(" ")
}

/// A passage: its chunk, its text, and models with what the second number of the vector is.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    chunk: Option<String>,
    text: String,
    vectors: Vec<(&'static str, i8)>,
}

type Model = BTreeMap<u8, (Facets, Vec<Kept>)>;

/// A resource of chunks put as the model has it, vectors included; none if it has none.
fn with_vectors(number: u8, (facets, kept): &(Facets, Vec<Kept>)) -> Option<Change> {
    let is_chunk = |kept: &Kept| kept.chunk.is_some();
    if !kept.iter().all(is_chunk) {
        return None;
    }
    let values = kept.iter().map(|kept| {
        let vectors = kept.vectors.iter();
        let vectors = vectors.map(|(name, value)| (*name, [1.0, f32::from(*value)]));
        vectors.collect::<Vec<_>>()
    });
    let values: Vec<_> = values.collect();
    let vectors = values.iter().map(|vectors| {
        let vectors = vectors.iter().map(|(name, values)| (*name, &values[..]));
        vectors.collect::<Vec<_>>()
    });
    let vectors: Vec<_> = vectors.collect();
    let given = kept.iter().zip(&vectors);
    let given = given.map(|(kept, vectors)| (kept.text.as_str(), &vectors[..]));
    let given: Vec<_> = given.collect();
    Some(put_vectors(number.into(), facets.clone(), &given))
}

/// The change of a step, done to the model too.
fn change(model: &mut Model, step: &Step) -> Option<Change> {
    Some(match step {
        Step::Put(number, bits, texts) => {
            let texts: Vec<String> = texts.iter().map(|words| text_of(words)).collect();
            let kept = (0..).zip(&texts).map(|(index, text)| Kept {
                chunk: Some(format!("c{index}")),
                text: text.clone(),
                vectors: Vec::new(),
            });
            model.insert(*number, (facets_of(*bits), kept.collect()));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            put_chunks(u128::from(*number), facets_of(*bits), &texts)
        }
        Step::PutText(number, bits, words) => {
            let kept = Kept {
                chunk: None,
                text: text_of(words),
                vectors: Vec::new(),
            };
            model.insert(*number, (facets_of(*bits), vec![kept]));
            Change::Put {
                resource: id(u128::from(*number)),
                facets: facets_of(*bits),
                passages: Passages::Text(text_of(words)),
            }
        }
        Step::Describe(number, bits) => {
            if let Some((facets, _)) = model.get_mut(number) {
                *facets = facets_of(*bits);
            }
            Change::Describe {
                resource: id(u128::from(*number)),
                facets: facets_of(*bits),
            }
        }
        Step::Vectors(number, name, given) => {
            let name = MODELS[usize::from(*name)];
            let given: BTreeMap<String, i8> = given
                .iter()
                .map(|(chunk, value)| (format!("c{chunk}"), *value))
                .collect();
            for kept in model.get_mut(number).into_iter().flat_map(|(_, kept)| kept) {
                if let Some(value) = kept.chunk.as_ref().and_then(|chunk| given.get(chunk)) {
                    kept.vectors.retain(|(model, _)| *model != name);
                    kept.vectors.push((name, *value));
                    let beyond = kept.vectors.len().saturating_sub(2);
                    kept.vectors.drain(..beyond);
                }
            }
            with_vectors(*number, model.get(number)?)?
        }
        Step::Remove(number) => {
            model.remove(number);
            Change::Remove {
                resource: id(u128::from(*number)),
            }
        }
        Step::Commit | Step::Reopen => return None,
    })
}

/// A filter, and what it takes.
type Filter = (Query, fn(&Facets) -> bool);

/// Filters, each with what it takes.
fn filters() -> Vec<Filter> {
    let all = Query {
        limit: 500,
        ..Query::words("")
    };
    vec![
        (all.clone(), |f| !f.archived),
        (
            Query {
                archived: Archived::Any,
                ..all.clone()
            },
            |_| true,
        ),
        (
            Query {
                archived: Archived::Yes,
                ..all.clone()
            },
            |f| f.archived,
        ),
        (
            Query {
                collection: Some(CollectionName::new("x").unwrap()),
                ..all.clone()
            },
            |f| !f.archived && f.collection.is_some(),
        ),
        (
            Query {
                entity_types: vec![EntityType::new("P").unwrap(), EntityType::new("Q").unwrap()],
                ..all
            },
            |f| !f.archived && f.entity_types.len() == 2,
        ),
    ]
}

fn found(index: &SearchIndex, query: &Query) -> Vec<(u8, Option<String>)> {
    let hits = index.search(query).unwrap().hits.into_iter();
    let number = |hit: &Hit| u8::try_from(fixture::number(hit)).unwrap();
    let mut found: Vec<_> = hits.map(|hit| (number(&hit), hit.chunk_id)).collect();
    found.sort();
    found
}

fn check(index: &SearchIndex, model: &Model) {
    let kept = |is_meant: &dyn Fn(&Facets, &Kept) -> bool| {
        let all = model
            .iter()
            .flat_map(|(n, (f, kept))| kept.iter().map(move |k| (*n, f, k)));
        let meant = all.filter(|(_, facets, kept)| is_meant(facets, kept));
        let mut meant: Vec<_> = meant.map(|(n, _, kept)| (n, kept.chunk.clone())).collect();
        meant.sort();
        meant
    };
    for (query, takes) in filters() {
        for word in WORDS {
            let text = format!("{word} nowhere");
            let query = Query {
                text,
                ..query.clone()
            };
            let expected = kept(&|facets, kept| takes(facets) && kept.text.contains(word));
            assert_eq!(found(index, &query), expected, "{word} {query:?}");
        }
        let phrase = Query {
            text: "\"alpha beta\" -gamma".to_owned(),
            ..query.clone()
        };
        let expected = kept(&|facets, kept| {
            let text = &kept.text;
            takes(facets) && text.contains("alpha beta") && !text.contains("gamma")
        });
        assert_eq!(found(index, &phrase), expected);
        let phrase = Query {
            text: "alpha -\"beta gamma\" -\"gamma beta\"".to_owned(),
            ..query.clone()
        };
        let expected = kept(&|facets, kept| {
            let text = &kept.text;
            let excluded = text.contains("beta gamma") || text.contains("gamma beta");
            takes(facets) && text.contains("alpha") && !excluded
        });
        assert_eq!(found(index, &phrase), expected);
        for name in MODELS {
            let query = Query {
                mode: Mode::Vector,
                vector: Some(QueryVector {
                    model: name.to_owned(),
                    values: vec![0.5, 0.5],
                }),
                ..query.clone()
            };
            let has = |kept: &Kept| kept.vectors.iter().any(|(model, _)| *model == name);
            let expected = kept(&|facets, kept| takes(facets) && has(kept));
            assert_eq!(found(index, &query), expected);
        }
    }
    let stats = index.stats().unwrap();
    let passages = || model.values().flat_map(|(_, kept)| kept);
    assert_eq!(stats.resources, model.len() as u64);
    assert_eq!(
        stats.passages,
        passages().filter(|kept| !kept.text.is_empty()).count() as u64
    );
    assert_eq!(
        stats.vectors,
        passages()
            .map(|kept| kept.vectors.len() as u64)
            .sum::<u64>()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_index_holds_what_the_model_holds(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("live");
        let mut index = open(&place).index;
        let mut model = Model::new();
        let mut waiting = Vec::new();
        let mut all = Vec::new();
        let mut end = 0;
        for step in steps.iter().chain([&Step::Reopen]) {
            if let Some(change) = change(&mut model, step) {
                all.push(change.clone());
                waiting.push(change);
            }
            if !matches!(step, Step::Commit | Step::Reopen) {
                continue;
            }
            end += 1;
            let checkpoint = Checkpoint { end, last: Some([u8::try_from(end).unwrap(); 32]) };
            index.apply(std::mem::take(&mut waiting), checkpoint).unwrap();
            if matches!(step, Step::Reopen) {
                drop(index);
                index = open(&place).index;
            }
            prop_assert_eq!(index.checkpoint(), checkpoint);
            check(&index, &model);
        }
        let rebuilt = SearchIndex::open(&dir.path().join("rebuilt"), &Options::default()).unwrap();
        rebuilt.index.apply(all, index.checkpoint()).unwrap();
        check(&rebuilt.index, &model);
        prop_assert_eq!(rebuilt.index.digest().unwrap(), index.digest().unwrap());
    }
}
