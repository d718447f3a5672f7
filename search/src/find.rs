//! How a query is answered: what is looked for, the best of it, and the page made of that.

use tantivy::query::{EnableScoring, Query as EngineQuery, Weight};
use tantivy::{Searcher, TantivyDocument};

use stemma_domain::id::ResourceId;

use crate::checkpoint::Checkpoint;
use crate::cursor::Cursor;
use crate::error::SearchError;
use crate::fuse::{FUSION_DEPTH, fused};
use crate::matrix::ModelKey;
use crate::parse::{Parsed, parse};
use crate::plan;
use crate::query::{HITS_MAX, Hit, Mode, Page, Query};
use crate::rank::{Best, RankKey, Ranked, offer_matches};
use crate::scan::Scan;
use crate::snippet::Highlighter;
use crate::vector;

/// Answers a query from what the scan reads.
///
/// # Errors
/// As [`SearchIndex::search`](crate::SearchIndex::search).
pub(crate) fn find(
    scan: &Scan<'_>,
    query: &Query,
    checkpoint: Checkpoint,
) -> Result<Page, SearchError> {
    if !(1..=HITS_MAX).contains(&query.limit) {
        return Err(SearchError::Limit {
            limit: query.limit,
            limit_max: HITS_MAX,
        });
    }
    let after = query.after.as_ref();
    let after = after.map(|cursor| cursor.last(query)).transpose()?;
    let parsed = parsed(scan, query)?;
    let mut ranked = match query.mode {
        Mode::Text => by_words(scan, query, &parsed, query.limit + 1, after)?,
        Mode::Vector => by_vector(scan, query, None, query.limit + 1, after)?,
        Mode::Hybrid => {
            let words = by_words(scan, query, &parsed, FUSION_DEPTH, None)?;
            let vectors = by_vector(scan, query, Some(&parsed), FUSION_DEPTH, None)?;
            let mut ranked = fused(&[words, vectors]);
            ranked.retain(|hit| after.is_none_or(|after| hit.key > after));
            ranked
        }
    };
    let has_more = ranked.len() > query.limit;
    ranked.truncate(query.limit);
    let last = ranked.last().filter(|_| has_more);
    let next = last.map(|last| Cursor::new(query, &last.key));
    let highlighter = Highlighter::new(&scan.fields.analyzers, &parsed);
    let hits = ranked.iter().map(|ranked| hit(scan, &highlighter, ranked));
    Ok(Page {
        hits: hits.collect::<Result<_, _>>()?,
        next,
        checkpoint,
    })
}

/// What the text asks for; in a query by vector it only says what to highlight.
fn parsed(scan: &Scan<'_>, query: &Query) -> Result<Parsed, SearchError> {
    match (query.mode, parse(&query.text, &scan.fields.analyzers)) {
        (Mode::Vector, Err(SearchError::TooManyTerms { .. })) => Ok(Parsed::default()),
        (Mode::Text | Mode::Hybrid, Ok(parsed)) if parsed.is_empty() => {
            Err(SearchError::EmptyQuery)
        }
        (_, parsed) => parsed,
    }
}

fn by_words(
    scan: &Scan<'_>,
    query: &Query,
    parsed: &Parsed,
    room: usize,
    after: Option<RankKey>,
) -> Result<Vec<Ranked>, SearchError> {
    let searcher: &Searcher = scan.searcher;
    let plan = plan::by_words(scan.fields, query, parsed);
    let weight = plan.weight(EnableScoring::enabled_from_searcher(searcher))?;
    let mut best = Best::new(room, after, scan.sees);
    let exclusion = exclusion(scan, parsed)?;
    offer_matches(&mut best, searcher, weight.as_ref(), exclusion.as_deref())?;
    Ok(best.into_sorted())
}

fn by_vector(
    scan: &Scan<'_>,
    query: &Query,
    parsed: Option<&Parsed>,
    room: usize,
    after: Option<RankKey>,
) -> Result<Vec<Ranked>, SearchError> {
    let asked = query.vector.as_ref().ok_or(SearchError::NoVector)?;
    let kept = vector::kept(&asked.values)?;
    let key = ModelKey::new(&asked.model, kept.len())?;
    let filter = plan::with_vector(scan.fields, query, parsed, &key.term);
    let mut best = Best::new(room, after, scan.sees);
    let exclusion = parsed.map(|parsed| exclusion(scan, parsed)).transpose()?;
    let exclusion = exclusion.flatten();
    scan.offer_nearest(&mut best, &filter, exclusion.as_deref(), &key, &kept)?;
    Ok(best.into_sorted())
}

fn exclusion(scan: &Scan<'_>, parsed: &Parsed) -> Result<Option<Box<dyn Weight>>, SearchError> {
    let scoring = EnableScoring::disabled_from_searcher(scan.searcher);
    let excluded = plan::excluded(scan.fields, parsed);
    Ok(excluded
        .map(|excluded| excluded.weight(scoring))
        .transpose()?)
}

fn hit(
    scan: &Scan<'_>,
    highlighter: &Highlighter<'_>,
    ranked: &Ranked,
) -> Result<Hit, SearchError> {
    let document: TantivyDocument = scan.searcher.doc(ranked.address)?;
    let row = scan.fields.row(&document)?;
    let snippet = highlighter.snippet(&row.text);
    Ok(Hit {
        resource: ResourceId::new(uuid::Uuid::from_bytes(row.resource)),
        name: row.name,
        chunk_id: row.chunk_id,
        score: ranked.key.score,
        snippet: snippet.text,
        highlights: snippet.highlights,
        start: row.start,
        end: row.end,
    })
}
