//! What is looked for, made into queries of the engine.

use tantivy::Term;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhraseQuery, Query as EngineQuery, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use crate::fields::Fields;
use crate::parse::{Parsed, Wanted};
use crate::query::{Archived, Query};

/// What a match of the stem alone counts, beside 1 of the word itself.
const STEM_BOOST: f32 = 0.4;
/// What a match of the resource's name counts.
const NAME_BOOST: f32 = 1.5;
/// What passages that hold all words score on top: more than any sum of single matches.
const ALL_WORDS_SCORE: f32 = 100.0;

type Clause = (Occur, Box<dyn EngineQuery>);

/// The passages that hold what is looked for, scored.
pub(crate) fn by_words(fields: &Fields, query: &Query, parsed: &Parsed) -> BooleanQuery {
    let mut clauses = filters(fields, query);
    for phrase in &parsed.phrases {
        clauses.push((Occur::Must, wanted(fields, phrase)));
    }
    if parsed.words.is_empty() {
        return BooleanQuery::new(clauses);
    }
    let each = |occur| {
        let words = parsed.words.iter();
        words
            .map(|word| (occur, wanted(fields, word)))
            .collect::<Vec<Clause>>()
    };
    let mut any = each(Occur::Should);
    if parsed.words.len() > 1 {
        let all = Box::new(BooleanQuery::new(each(Occur::Must)));
        any.push((Occur::Should, scored(all, ALL_WORDS_SCORE)));
    }
    let occur = if parsed.phrases.is_empty() {
        Occur::Must
    } else {
        Occur::Should
    };
    clauses.push((occur, Box::new(BooleanQuery::new(any))));
    BooleanQuery::new(clauses)
}

/// The passages that have a vector of a model, not scored. What the text requires holds for them
/// too, if a text is given.
pub(crate) fn with_vector(
    fields: &Fields,
    query: &Query,
    parsed: Option<&Parsed>,
    model_term: &str,
) -> BooleanQuery {
    let mut clauses = filters(fields, query);
    clauses.push((Occur::Must, term(fields.model, model_term)));
    if let Some(parsed) = parsed {
        for phrase in &parsed.phrases {
            clauses.push((Occur::Must, wanted(fields, phrase)));
        }
    }
    BooleanQuery::new(clauses)
}

/// The passages that hold something excluded; none if nothing is.
pub(crate) fn excluded(fields: &Fields, parsed: &Parsed) -> Option<BooleanQuery> {
    let excluded = parsed.excluded.iter();
    let excluded = excluded.map(|excluded| (Occur::Should, wanted(fields, excluded)));
    let excluded: Vec<Clause> = excluded.collect();
    (!excluded.is_empty()).then(|| BooleanQuery::new(excluded))
}

fn filters(fields: &Fields, query: &Query) -> Vec<Clause> {
    let mut filters = Vec::new();
    let mut add = |filter| filters.push((Occur::Must, scored(filter, 0.0)));
    match query.archived {
        Archived::No => add(one(fields.archived_term(false))),
        Archived::Yes => add(one(fields.archived_term(true))),
        Archived::Any => {}
    }
    if let Some(collection) = &query.collection {
        add(term(fields.collection, collection.as_str()));
    }
    for entity_type in &query.entity_types {
        add(term(fields.entity_type, entity_type.as_str()));
    }
    filters
}

/// The passages that hold one thing, in their text or in the name of their resource.
fn wanted(fields: &Fields, wanted: &Wanted) -> Box<dyn EngineQuery> {
    let boosted = |query, boost| {
        let query: Box<dyn EngineQuery> = Box::new(BoostQuery::new(query, boost));
        (Occur::Should, query)
    };
    let clauses = match wanted {
        Wanted::Word { exact, stem } => vec![
            (Occur::Should, term(fields.text, exact)),
            boosted(term(fields.stem, stem), STEM_BOOST),
            boosted(term(fields.name, exact), NAME_BOOST),
        ],
        Wanted::Row(words) => vec![
            (Occur::Should, row(fields.text, words)),
            boosted(row(fields.name, words), NAME_BOOST),
        ],
    };
    Box::new(BooleanQuery::new(clauses))
}

fn row(field: Field, words: &[String]) -> Box<dyn EngineQuery> {
    match words {
        [word] => term(field, word),
        words => {
            let terms = words.iter().map(|word| Term::from_field_text(field, word));
            Box::new(PhraseQuery::new(terms.collect()))
        }
    }
}

fn term(field: Field, text: &str) -> Box<dyn EngineQuery> {
    one(Term::from_field_text(field, text))
}

fn one(term: Term) -> Box<dyn EngineQuery> {
    Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
}

fn scored(query: Box<dyn EngineQuery>, score: f32) -> Box<dyn EngineQuery> {
    Box::new(ConstScoreQuery::new(query, score))
}
