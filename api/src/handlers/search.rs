//! `GET /api/search`: passages by words, by meaning, or by both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use stemma_domain::id::ResourceId;
use stemma_domain::value::{CollectionName, EntityType};
use stemma_inference::{Embedder, Stop};
use stemma_projections::{SearchProjection, SearchState, WaitError};
use stemma_search::{
    Archived, Cursor, Hit, Mode, Query as Asked, QueryVector, SearchError, SearchIndex, Sees,
};
use stemma_views::Seen;
use utoipa::ToSchema;

use crate::body::blocking;
use crate::context::Context;
use crate::documents::Search;
use crate::error::{ApiError, Code, FieldProblem};
use crate::handlers::resources::{STEMMA_WARNING, archived, reflecting};
use crate::page::Page;
use crate::query::Query;
use crate::tenants::Served;

/// How long the model that a query's vector is asked of may take.
const EMBED_TIMEOUT: Duration = Duration::from_secs(10);

/// A passage that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HitBody {
    /// The resource that it is of.
    resource_id: String,
    /// The same, where it is a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    document_id: Option<String>,
    /// The chunk, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_id: Option<String>,
    /// The resource's name.
    name: String,
    /// Higher is better; comparable within one query only.
    score: f32,
    /// An excerpt as plain text of one line.
    snippet: String,
    /// What matched in it: code points from and to, in order.
    highlights: Vec<[u32; 2]>,
    /// Where the passage begins in the text, in code points.
    start: u32,
    /// Where it ends.
    end: u32,
}

impl From<Hit> for HitBody {
    fn from(hit: Hit) -> Self {
        let resource_id = hit.resource.to_string();
        Self {
            document_id: hit.chunk_id.is_some().then(|| resource_id.clone()),
            resource_id,
            chunk_id: hit.chunk_id,
            name: hit.name,
            score: hit.score,
            snippet: hit.snippet,
            highlights: hit.highlights.into_iter().map(|(a, b)| [a, b]).collect(),
            start: hit.start,
            end: hit.end,
        }
    }
}

/// Who says how passages are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    /// Whoever asks.
    Here,
    /// The page before: a list goes on as it was begun.
    Before,
    /// Nobody: by both, or by words alone where that cannot be.
    Nowhere,
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "text" => Some(Mode::Text),
        "vector" => Some(Mode::Vector),
        "hybrid" => Some(Mode::Hybrid),
        _ => None,
    }
}

fn chosen(mode: Option<Mode>, after: Option<&Cursor>) -> (Mode, Chosen) {
    match (mode, after) {
        (Some(mode), _) => (mode, Chosen::Here),
        (None, Some(after)) => (after.mode(), Chosen::Before),
        (None, None) => (Mode::Hybrid, Chosen::Nowhere),
    }
}

/// `GET /api/search`
pub(crate) async fn search(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let text = query.one("q").unwrap_or_default();
    let mode = query.read("mode", "text, vector or hybrid", mode);
    let limit = query.limit(state.options());
    let collection = query.read("collection", "a collection's name", |text| {
        CollectionName::new(text).ok()
    });
    let mut entity_types = query.read_many("entity_type", EntityType::new);
    entity_types.extend(query.read_many("entityType", EntityType::new));
    let archived = match archived(&mut query) {
        stemma_views::Archived::No => Archived::No,
        stemma_views::Archived::Yes => Archived::Yes,
        stemma_views::Archived::Any => Archived::Any,
    };
    let after = query.read("cursor", "a cursor of this list", |text| text.parse().ok());
    if text.trim().is_empty() {
        query.problem("q", "MISSING_PARAMETER", "expected what to look for");
    }
    query.finish()?;
    let search = state.documents().search.as_ref();
    let search = search.ok_or_else(|| ApiError::of(Code::SearchOff))?;
    if let Some(position) = wait.position {
        reached(&search.projection, position, wait.timeout).await?;
    }
    // Records that change nothing in the index are passed without a commit.
    let passed = search.projection.end();
    let index = search.projection.index();
    let index = index.ok_or_else(|| unavailable(&search.projection))?;
    // Before the first question: what comes meanwhile may be in a part of the answer alone.
    let end = passed.max(index.checkpoint().end);
    let (mode, chosen) = chosen(mode, after.as_ref());
    let asked = Asked {
        text,
        vector: None,
        mode,
        collection,
        entity_types,
        archived,
        limit,
        after,
    };
    let span = context.span;
    let (search, seen) = (search.clone(), state.seen_after(end).await?);
    let answered = move || {
        let _followed = span.follow();
        answer(&search, &index, &seen, asked, chosen)
    };
    let (page, warning) = blocking(answered).await??;
    let hits = still_seen(&state, page.hits, page.checkpoint.end).await?;
    let mut response = reflecting(StatusCode::OK, end.checked_sub(1));
    if let Some(warning) = warning {
        response.insert_header((STEMMA_WARNING, warning));
    }
    Ok(response.json(Page {
        items: hits.into_iter().map(HitBody::from).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    }))
}

/// The hits that are seen: the index, which holds `end` records, may have been told of what the
/// views had yet to hear.
async fn still_seen(state: &Served, hits: Vec<Hit>, end: u64) -> Result<Vec<Hit>, ApiError> {
    let seen = state.seen_after(end).await?;
    if seen.is_everything() {
        return Ok(hits);
    }
    let mut shown = Vec::with_capacity(hits.len());
    for hit in hits {
        if seen.sees(hit.resource)? {
            shown.push(hit);
        }
    }
    Ok(shown)
}

/// Waits until a position is searchable.
async fn reached(
    projection: &SearchProjection,
    position: u64,
    timeout: Duration,
) -> Result<(), ApiError> {
    let end = position.saturating_add(1);
    match projection.wait_for(end, timeout).await {
        Ok(_) => Ok(()),
        Err(error @ WaitError::NotYet { .. }) => {
            let detail = format!("position {position} is not searchable yet");
            Err(ApiError::new(Code::NotYet, detail).because(&error))
        }
        Err(error) => Err(unavailable(projection).because(&error)),
    }
}

fn unavailable(projection: &SearchProjection) -> ApiError {
    match projection.state() {
        SearchState::Failed { reason } => ApiError::new(Code::SearchUnavailable, reason),
        _ => ApiError::of(Code::SearchUnavailable),
    }
}

/// Asks the index; by words alone where there can be no other way and none was chosen.
fn answer(
    search: &Search,
    index: &SearchIndex,
    seen: &Seen,
    mut asked: Asked,
    chosen: Chosen,
) -> Result<(stemma_search::Page, Option<String>), ApiError> {
    let mut warning = None;
    if chosen == Chosen::Before && asked.mode == Mode::Text {
        warning = Some("found by words alone, as the page before".to_owned());
    }
    if asked.mode != Mode::Text {
        match vector(search, index, &asked.text) {
            Ok(vector) => asked.vector = Some(vector),
            Err(error) if chosen == Chosen::Nowhere => {
                warning = Some(by_words_alone(&mut asked, &error));
            }
            Err(error) => return Err(error),
        }
    }
    // What cannot be looked up is not shown.
    let sees = |id: ResourceId| seen.sees(id).unwrap_or(false);
    let sees: Sees<'_> = &sees;
    let sees = (!seen.is_everything()).then_some(sees);
    let found = match index.search_for(&asked, sees) {
        Err(error) if chosen == Chosen::Nowhere && is_of_vector(&error) => {
            warning = Some(by_words_alone(&mut asked, &error.into()));
            index.search_for(&asked, sees)
        }
        found => found,
    };
    match found {
        Ok(page) => Ok((page, warning)),
        // Nothing but signs, or words that must not be there: nothing is found.
        Err(SearchError::EmptyQuery) => {
            let page = stemma_search::Page {
                hits: Vec::new(),
                next: None,
                checkpoint: index.checkpoint(),
            };
            Ok((page, Some("the query holds no word to look for".to_owned())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether it is the vector that a query cannot be answered by.
const fn is_of_vector(error: &SearchError) -> bool {
    matches!(
        error,
        SearchError::InvalidVector { .. } | SearchError::TooManyVectors { .. }
    )
}

/// Has words alone looked for; gives what is told of it.
fn by_words_alone(asked: &mut Asked, why: &ApiError) -> String {
    asked.mode = Mode::Text;
    asked.vector = None;
    format!("found by words alone: {}", why.code().name())
}

/// The vector of a query, by the model that has most of the passages: while another model's
/// vectors are being made, the one before it answers.
fn vector(search: &Search, index: &SearchIndex, text: &str) -> Result<QueryVector, ApiError> {
    let models = index.models()?;
    let of = |embedder: &Arc<dyn Embedder>| {
        let name = &embedder.model().name;
        let used = models.iter().find(|used| used.model == *name);
        used.map_or(0, |used| used.passages)
    };
    // The first is the one that is configured; of equals it is taken.
    let mut best = &search.embedders[0];
    for other in &search.embedders[1..] {
        if of(other) > of(best) {
            best = other;
        }
    }
    let stop = Stop::new().until(Instant::now() + EMBED_TIMEOUT);
    let vectors = best.embed(&[text], &stop);
    let vectors = vectors.map_err(|error| {
        let detail = format!("the model {} gave no vector: {error}", best.model().name);
        ApiError::new(Code::ModelUnavailable, detail)
    })?;
    let values = vectors.into_iter().next();
    let values = values.ok_or_else(|| ApiError::of(Code::Internal))?;
    Ok(QueryVector {
        model: best.model().name.clone(),
        values,
    })
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        let parameter = |name: &str, code: Code| {
            let field = FieldProblem::parameter(name, code.name(), error.to_string());
            Self::fields(code, vec![field])
        };
        match &error {
            SearchError::Cursor(_) => parameter("cursor", Code::InvalidCursor),
            SearchError::QueryTooLong { .. } | SearchError::TooManyTerms { .. } => {
                parameter("q", Code::InvalidParameters)
            }
            SearchError::TooManyVectors { .. } => Self::new(Code::QueryLimit, error.to_string()),
            _ => Self::of(Code::SearchUnavailable).because(&error),
        }
    }
}
