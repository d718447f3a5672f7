//! Questions to the graph: neighbors, paths, sizes; and resources by their entity types.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use stemma_commands::AsOf;
use stemma_domain::access::Sight;
use stemma_domain::resource::Descriptor;
use stemma_views::graph::{
    Edge, EdgeType, Graph, GraphError, NeighborsQuery, Node, NodeId, PathQuery,
};
use stemma_views::{Page, ResourceQuery};
use utoipa::ToSchema;

use crate::error::{ApiError, Code};
use crate::graph_gate::{GraphAt, GraphGate};
use crate::handlers::resources::{STEMMA_WARNING, archived, as_of, reflecting};
use crate::query::{MinPosition, Query};
use crate::state::{AppState, Reflected};
use crate::tenants::Served;

/// Edges away from the node, at the most.
const DEPTH_MAX: u32 = 5;
/// Most nodes of an answer.
const NODES_MAX: usize = 1000;
/// Nodes of an answer where none is said.
const NODES: usize = 100;
/// Most edges of a path.
const PATH_MAX: u32 = 10;
/// Edges of a path where none is said.
const PATH: u32 = 5;
/// Pages of the graph that one page of a list takes.
const PAGES_MAX: usize = 64;
/// Most edges that one question looks at.
const ROWS_MAX: usize = 100_000;

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NodeBody {
    /// A resource's UUID, or `annotation:`, `collection:`, `entity_type:` or `person:` and a name.
    #[schema(example = "entity_type:Person")]
    id: String,
    /// `Annotation`, `Collection`, `EntityType`, `Person` or `Resource`.
    label: &'static str,
    /// What it is called; annotations have no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether it is a resource that is archived.
    archived: bool,
    /// How many edges it is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
}

/// An edge.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EdgeBody {
    /// How one leads to the other.
    #[serde(rename = "type")]
    #[schema(example = "HAS_TYPE")]
    edge_type: &'static str,
    /// The node where it begins.
    from: String,
    /// The node where it ends.
    to: String,
}

/// What lies around a node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NeighborsBody {
    /// By distance, then by id.
    nodes: Vec<NodeBody>,
    /// Those that were met on the way, by type, start and end.
    edges: Vec<EdgeBody>,
    /// Whether there is more than is shown.
    truncated: bool,
}

/// A shortest way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PathBody {
    /// From one end to the other.
    nodes: Vec<NodeBody>,
    /// One between each two nodes.
    edges: Vec<EdgeBody>,
    /// How many edges.
    length: usize,
}

/// How much there is in the graph, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GraphStatsBody {
    /// Nodes by label; told to those who see all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<BTreeMap<&'static str, u64>>,
    /// Edges by type; told to those who see all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    edges: Option<BTreeMap<&'static str, u64>>,
    /// What holds it: `embedded` or `neo4j`.
    backend: &'static str,
    /// The last position that it holds.
    position: Option<u64>,
    /// What it lacks.
    lag: LagBody,
}

/// What a projection lacks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LagBody {
    /// Durable events that it does not hold.
    positions: u64,
    /// Age of the oldest of them.
    seconds: f64,
}

impl From<(Node, Option<u32>)> for NodeBody {
    fn from((node, depth): (Node, Option<u32>)) -> Self {
        Self {
            id: node.id.to_string(),
            label: node.id.label().as_str(),
            name: node.name,
            archived: node.archived,
            depth,
        }
    }
}

impl From<Edge> for EdgeBody {
    fn from(edge: Edge) -> Self {
        Self {
            edge_type: edge.edge_type.as_str(),
            from: edge.from.to_string(),
            to: edge.to.to_string(),
        }
    }
}

impl From<GraphError> for ApiError {
    fn from(error: GraphError) -> Self {
        match &error {
            GraphError::NoNode(_) => Self::new(Code::NodeNotFound, error.to_string()),
            GraphError::TooFar { .. } | GraphError::Limit(_) => {
                Self::new(Code::QueryLimit, error.to_string())
            }
            GraphError::Cursor(cursor) => stemma_views::QueryError::from(*cursor).into(),
            GraphError::Elsewhere(_) => Self::new(Code::GraphUnavailable, error.to_string()),
            _ => Self::of(Code::GraphUnavailable).because(&error),
        }
    }
}

pub(crate) fn gate(state: &AppState) -> Result<&GraphGate, ApiError> {
    state.graph().ok_or_else(|| ApiError::of(Code::GraphOff))
}

/// Of which moment a question to the graph is.
pub(crate) struct Moment {
    wait: MinPosition,
    as_of: Option<AsOf>,
}

impl Moment {
    pub(crate) fn of(query: &mut Query, state: &AppState) -> Self {
        Self {
            wait: query.min_position(state.options()),
            as_of: as_of(query, None),
        }
    }

    /// Whether it is as the graph is, and not as it was.
    pub(crate) fn is_now(&self) -> bool {
        self.as_of.is_none()
    }

    /// The graph of that moment.
    pub(crate) async fn graph(&self, state: &Served) -> Result<GraphAt, ApiError> {
        let gate = gate(state)?;
        match self.as_of {
            None => gate.at(self.wait, state.projection().end()).await,
            Some(as_of) => {
                // What is asked for may have been written just now.
                state.views_at(self.wait).await?;
                gate.past(as_of, state.commands().now().micros()).await
            }
        }
    }
}

fn node_id(text: &str) -> Result<NodeId, ApiError> {
    let read = text.parse();
    read.map_err(|error: stemma_views::graph::InvalidNodeId| {
        ApiError::new(Code::InvalidId, error.to_string())
    })
}

pub(crate) fn answer(at: &GraphAt) -> HttpResponseBuilder {
    let mut response = reflecting(StatusCode::OK, at.position());
    warn(&mut response, at.warning.as_deref());
    response
}

/// Says why an answer is not what it would be with a graph that follows.
pub(crate) fn warn(response: &mut HttpResponseBuilder, warning: Option<&str>) {
    let Some(warning) = warning else { return };
    // Reasons hold what events and systems said: a header takes less.
    let plain = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        }
    };
    let text: String = warning.chars().take(200).map(plain).collect();
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.insert_header((STEMMA_WARNING, value));
    }
}

/// `GET /api/graph/nodes/{node}/neighbors`
pub(crate) async fn neighbors(
    request: HttpRequest,
    node: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let of = node_id(&node)?;
    let mut query = Query::parse(request.query_string())?;
    let moment = Moment::of(&mut query, &state);
    let depth = query.up_to("depth", DEPTH_MAX);
    let limit = query.up_to("limit", NODES_MAX);
    let relation = query.read("relation", "a type of edges such as HAS_TYPE", |text| {
        text.parse::<EdgeType>().ok()
    });
    let archived = archived(&mut query);
    query.finish()?;
    let at = moment.graph(&state).await?;
    let graph = at.seen_by(&state);
    let asked = gate(&state)?.ask(&graph, move |graph| {
        graph.neighbors(&NeighborsQuery {
            of,
            depth: depth.unwrap_or(1),
            relation,
            archived,
            limit: limit.unwrap_or(NODES),
            rows_max: ROWS_MAX,
        })
    });
    let found = asked.await??;
    let nodes = found.nodes.into_iter();
    Ok(answer(&at).json(NeighborsBody {
        nodes: nodes
            .map(|(node, depth)| NodeBody::from((node, Some(depth))))
            .collect(),
        edges: found.edges.into_iter().map(EdgeBody::from).collect(),
        truncated: found.is_truncated,
    }))
}

/// `GET /api/graph/path`
pub(crate) async fn path(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let moment = Moment::of(&mut query, &state);
    let ends = ["from", "to"].map(|name| {
        if !query.has(name) {
            query.problem(name, "MISSING_PARAMETER", "expected a node's id");
        }
        query.read(name, "a node's id", |text| text.parse::<NodeId>().ok())
    });
    let depth = query.up_to("max_depth", PATH_MAX);
    query.finish()?;
    let [Some(from), Some(to)] = ends else {
        return Err(ApiError::of(Code::InvalidParameters));
    };
    let at = moment.graph(&state).await?;
    let graph = at.seen_by(&state);
    let asked = gate(&state)?.ask(&graph, move |graph| {
        graph.shortest_path(&PathQuery {
            from,
            to,
            depth_max: depth.unwrap_or(PATH),
            rows_max: ROWS_MAX,
        })
    });
    let found = asked.await??;
    let found = found.ok_or_else(|| ApiError::of(Code::NoPath))?;
    let nodes = found.nodes.into_iter();
    Ok(answer(&at).json(PathBody {
        nodes: nodes.map(|node| NodeBody::from((node, None))).collect(),
        length: found.edges.len(),
        edges: found.edges.into_iter().map(EdgeBody::from).collect(),
    }))
}

/// `GET /api/graph/stats`
pub(crate) async fn stats(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let moment = Moment::of(&mut query, &state);
    query.finish()?;
    let at = moment.graph(&state).await?;
    let gate = gate(&state)?;
    let graph = at.seen_by(&state);
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method's own type is of one lifetime alone"
    )]
    let stats = gate.ask(&graph, |graph| graph.stats()).await??;
    let status = gate.projection().status().filter(|_| moment.is_now());
    let now_us = state.commands().now().micros();
    let lag = status.map_or((0, 0.0), |status| {
        (status.lag_positions, status.lag_seconds(now_us))
    });
    let sees_all = *state.sight() == Sight::Everything;
    let nodes = stats.nodes.into_iter();
    let edges = stats.edges.into_iter();
    Ok(answer(&at).json(GraphStatsBody {
        nodes: sees_all.then(|| nodes.map(|(label, n)| (label.as_str(), n)).collect()),
        edges: sees_all.then(|| edges.map(|(edge, n)| (edge.as_str(), n)).collect()),
        backend: graph.backend(),
        position: stats.end.checked_sub(1),
        lag: LagBody {
            positions: lag.0,
            seconds: lag.1,
        },
    }))
}

/// A page of resources as the graph lists them and the views describe them, and the position that
/// it reflects; none where the graph has no part in the question. What the graph cannot answer now
/// is told, for the views to answer.
pub(crate) async fn listed(
    state: &AppState,
    at: &Reflected,
    asked: &ResourceQuery,
) -> Option<Result<(Page<Arc<Descriptor>>, Option<u64>), String>> {
    let gate = state.graph()?;
    if asked.narrowed_by.is_some() || !Graph::can_list(asked) {
        return None;
    }
    let graph = match gate.at_hand(at.end).await {
        Ok(graph) => graph,
        Err(why) => return Some(Err(why)),
    };
    match pages(gate, &graph, at, asked).await {
        Ok(Some(page)) => {
            let position = at.end.min(graph.end).checked_sub(1);
            Some(Ok((page, position)))
        }
        Ok(None) => None,
        Err(why) => Some(Err(why)),
    }
}

/// As many of the graph's pages as it takes to fill one with what is seen: either may be some
/// events ahead of the other, and not all may be seen. None where the views are to answer.
async fn pages(
    gate: &GraphGate,
    graph: &GraphAt,
    at: &Reflected,
    asked: &ResourceQuery,
) -> Result<Option<Page<Arc<Descriptor>>>, String> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    let mut rest = asked.clone();
    // Behind the last item of a full page. Whether more is seen behind it is looked at where not
    // all is seen: a cursor would tell of what is hidden.
    let mut full_at = None;
    for _ in 0..PAGES_MAX {
        rest.limit = match asked.limit.saturating_sub(items.len()) {
            0 => asked.limit,
            left => left,
        };
        let found = if graph.unseen().is_local() {
            graph.unseen().resources(&rest)
        } else {
            let rest = rest.clone();
            let asking = gate.ask(graph.unseen(), move |graph| graph.resources(&rest));
            asking.await.map_err(|error| error.to_string())?
        };
        let page = match found {
            Ok(page) => page,
            // The views refuse it with the same words.
            Err(GraphError::Cursor(_)) => return Ok(None),
            Err(error) => {
                gate.pass_over();
                tracing::warn!(%error, "the graph cannot be read; the views answer");
                return Err("the graph cannot be read".to_owned());
            }
        };
        for id in page.items {
            match at.views.resource_of_bytes(id) {
                Ok(found) => {
                    let found = found.filter(|(descriptor, _)| asked.takes(descriptor));
                    bytes += found.as_ref().map_or(0, |(_, bytes)| *bytes);
                    items.extend(found.map(|(descriptor, _)| descriptor));
                }
                // Asked again, the views tell what is wrong.
                Err(_) => return Ok(None),
            }
            // The views end a page at any item.
            if bytes >= at.views.page_bytes_max() {
                return Ok(None);
            }
        }
        rest.after = page.next;
        let is_full = items.len() >= asked.limit;
        if is_full && full_at.is_none() {
            full_at = rest.after.clone();
        }
        let looks_further = !is_full || (items.len() == asked.limit && !at.views.is_everything());
        if rest.after.is_none() || !looks_further {
            break;
        }
    }
    let has_more = items.len() > asked.limit;
    items.truncate(asked.limit);
    let next = match rest.after {
        None if !has_more => None,
        after => full_at.or(after),
    };
    Ok(Some(Page { items, next }))
}
