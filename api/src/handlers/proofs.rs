//! What the log shows to those who trust nothing but a key: checkpoints, proofs, tiles.
//!
//! Each answer but the key is of a number of events, and reflects the last of them.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use stemma_event_log::{Checkpoint, NoteSigner, ProofError, ProofTree, TILE_HASHES, TreeHash};
use utoipa::ToSchema;

use crate::body::blocking;
use crate::error::{ApiError, Code};
use crate::handlers::resources::reflecting;
use crate::query::Query;
use crate::tenants::Served;

const TEXT: &str = "text/plain; charset=utf-8";
/// Levels that a tile may be of.
const LEVEL_MAX: u32 = 63;

/// What proofs are given with.
#[derive(Debug, Clone)]
pub struct Proofs {
    /// The tree over the log.
    pub tree: ProofTree,
    /// The key that signs checkpoints, or why there is none.
    pub signer: Result<NoteSigner, String>,
}

impl Proofs {
    fn signer(&self) -> Result<&NoteSigner, ApiError> {
        let refused = |reason: &String| ApiError::new(Code::SigningKeyUnusable, reason.clone());
        self.signer.as_ref().map_err(refused)
    }
}

/// That an event is in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InclusionBody {
    /// Where the event stands.
    position: u64,
    /// How many events the tree has that the path leads to.
    size: u64,
    /// The event's digest.
    #[schema(example = "blake3:…")]
    digest: String,
    /// Its leaf in the tree, in base64.
    leaf_hash: String,
    /// The hashes from the leaf to the root, lowest first, in base64.
    path: Vec<String>,
}

/// That the log's beginning was not changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConsistencyBody {
    /// How many events the earlier tree has.
    from: u64,
    /// How many the later one has.
    to: u64,
    /// The hashes that lead to both roots, lowest first, in base64.
    path: Vec<String>,
}

/// `GET /api/log/checkpoint`
pub(crate) async fn checkpoint(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let size = query.number("size");
    query.finish()?;
    state.views_at(wait).await?;
    let proofs = state.proofs().clone();
    let signer = proofs.signer()?.clone();
    let (end, head) = state.reader().root();
    let (size, root) = match size {
        Some(size) => (size, blocking(move || proofs.tree.root_at(size)).await??),
        None => (end, head),
    };
    let origin = signer.verifier().name().to_owned();
    let note = signer.sign(&Checkpoint { origin, size, root });
    Ok(reflecting(StatusCode::OK, size.checked_sub(1))
        .insert_header((CONTENT_TYPE, TEXT))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(note))
}

/// `GET /api/log/key`
pub(crate) async fn key(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let key = state.proofs().signer()?.verifier().to_string();
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, TEXT))
        .body(format!("{key}\n")))
}

/// `GET /api/log/proof/inclusion`
pub(crate) async fn inclusion(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let position = required(&mut query, "position");
    let size = query.number("size");
    query.finish()?;
    state.views_at(wait).await?;
    let size = size.unwrap_or_else(|| state.reader().end().get());
    let tree = state.proofs().tree.clone();
    let shown = blocking(move || tree.inclusion(position, size)).await??;
    Ok(
        reflecting(StatusCode::OK, shown.size.checked_sub(1)).json(InclusionBody {
            position: shown.position,
            size: shown.size,
            digest: shown.digest.to_string(),
            leaf_hash: STANDARD.encode(shown.leaf_hash),
            path: in_base64(&shown.path),
        }),
    )
}

/// `GET /api/log/proof/consistency`
pub(crate) async fn consistency(
    request: HttpRequest,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let from = required(&mut query, "from");
    let to = query.number("to");
    query.finish()?;
    state.views_at(wait).await?;
    let to = to.unwrap_or_else(|| state.reader().end().get());
    let tree = state.proofs().tree.clone();
    let path = blocking(move || tree.consistency(from, to)).await??;
    let path = in_base64(&path);
    Ok(reflecting(StatusCode::OK, to.checked_sub(1)).json(ConsistencyBody { from, to, path }))
}

/// `GET /api/log/tile/{level}/{tile}`
pub(crate) async fn tile(
    request: HttpRequest,
    place: Path<(String, String)>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    query.finish()?;
    let (level, index, width) = tile_of(&place.0, &place.1).ok_or_else(|| {
        let form = "expected a level, then a number in groups of three digits such as `x001/234`, perhaps with `.p/` and 1 to 255";
        ApiError::new(Code::InvalidId, form)
    })?;
    state.views_at(wait).await?;
    let tree = state.proofs().tree.clone();
    let tile = blocking(move || tree.tile(level, index, width)).await?;
    let bytes = tile.map_err(|error| match error {
        // A tile that is not there yet is a thing that is not there.
        ProofError::OutOfRange { .. } => ApiError::new(Code::TileNotFound, error.to_string()),
        other => other.into(),
    })?;
    // Which tenant's tree it is of is told by the token, not by the URL.
    let kept = "private, max-age=31536000, immutable";
    Ok(reflecting(StatusCode::OK, last_below(level, index, width))
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CACHE_CONTROL, kept))
        .body(bytes))
}

/// A number that has to be given.
fn required(query: &mut Query, name: &str) -> u64 {
    let before = query.has(name);
    let number = query.number(name);
    if !before {
        query.problem(name, "MISSING_PARAMETER", "expected a whole number from 0");
    }
    number.unwrap_or_default()
}

fn in_base64(path: &[TreeHash]) -> Vec<String> {
    path.iter().map(|hash| STANDARD.encode(hash)).collect()
}

/// Reads where a tile is: its level, its number, and how many of its hashes are wanted.
fn tile_of(level: &str, tile: &str) -> Option<(u32, u64, u64)> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let plain = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let level = plain(level).then(|| level.parse().ok()).flatten()?;
    let (number, width) = match tile.split_once(".p/") {
        Some((number, width)) => {
            let width = plain(width).then(|| width.parse().ok()).flatten()?;
            (
                number,
                Some(width).filter(|width| (1..TILE_HASHES).contains(width))?,
            )
        }
        None => (tile, TILE_HASHES),
    };
    let mut groups = number.split('/').rev();
    let last = groups
        .next()
        .filter(|group| group.len() == 3 && digits(group))?;
    let mut all = last.to_owned();
    let mut first = last;
    for group in groups {
        first = group
            .strip_prefix('x')
            .filter(|group| group.len() == 3 && digits(group))?;
        all.insert_str(0, first);
    }
    // A number has one form.
    let is_shortest = all.len() == 3 || first != "000";
    let index = is_shortest.then(|| all.parse().ok()).flatten()?;
    (level <= LEVEL_MAX).then_some((level, index, width))
}

/// The position of the last event below the hashes of a tile; each stands for 256 of the level
/// below it, and those of level 0 for one event.
fn last_below(level: u32, index: u64, width: u64) -> Option<u64> {
    let hashes = index.checked_mul(TILE_HASHES)?.checked_add(width)?;
    let events = hashes.checked_mul(TILE_HASHES.checked_pow(level)?)?;
    events.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_reflects_the_last_event_below_it() {
        assert_eq!(last_below(0, 0, 1), Some(0));
        assert_eq!(last_below(0, 1, 256), Some(511));
        assert_eq!(last_below(1, 0, 2), Some(511));
        assert_eq!(last_below(2, 1, 3), Some((256 + 3) * 65_536 - 1));
        assert_eq!(last_below(63, 1, 1), None);
    }

    #[test]
    fn a_tile_has_one_name() {
        assert_eq!(tile_of("0", "000"), Some((0, 0, 256)));
        assert_eq!(tile_of("2", "067.p/8"), Some((2, 67, 8)));
        assert_eq!(tile_of("0", "x001/x234/067"), Some((0, 1_234_067, 256)));
        assert_eq!(tile_of("63", "x001/000.p/255"), Some((63, 1000, 255)));
        let wrong = [
            ("0", ""),
            ("0", "0"),
            ("0", "0000"),
            ("00", "000"),
            ("64", "000"),
            ("-1", "000"),
            ("0", "x000/001"),
            ("0", "001/002"),
            ("0", "x001"),
            ("0", "000.p/0"),
            ("0", "000.p/256"),
            ("0", "000.p/01"),
            ("0", "000.p"),
            ("0", "x99/000"),
            ("0", "../000"),
            ("data", "000"),
            ("0", "x999/x999/x999/x999/x999/x999/x999/999"),
        ];
        for (level, tile) in wrong {
            assert_eq!(tile_of(level, tile), None, "{level}/{tile}");
        }
    }
}
