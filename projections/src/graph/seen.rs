//! A graph as somebody sees it, whatever keeps it: what they may not read is not there.
//!
//! What a resource is to whoever asks is asked of the views, which hold the grants as they are now,
//! of the past as well. Invariant: it is asked once the views have reached what was read of the
//! graph, so neither lag nor haste of the graph shows what is hidden; where nothing is hidden, the
//! graph answers by itself. Whatever is passed over, a question ends with its patience.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use stemma_cypher::{Direction, Error, Graph, Limits, Patience, Relationship, Value};
use stemma_domain::access::Sight;
use stemma_domain::id::ResourceId;
use stemma_views::graph::{
    EdgeType, GraphError, GraphStats, ListedResources, Neighborhood, NeighborsQuery, NodeId,
    PathQuery, ShortestPath,
};
use stemma_views::{ResourceQuery, Seen, Views};

use super::store::GraphStore;
use crate::projection::Projection;

/// How long a look waits for the views to reach the graph.
const VIEWS: Duration = Duration::from_secs(5);
/// Relationships that are looked at together.
pub(super) const PAGE: usize = 256;
/// Relationships of a collection, an entity type or a person that are looked at for one that is
/// seen; behind so many hidden ones it is hidden itself.
const HUB_EDGES_MAX: usize = 100_000;
/// Nodes of which it is remembered whether they are seen; beyond that it begins anew.
const REMEMBERED_MAX: usize = 100_000;

/// A graph that shows what somebody may see of it.
#[derive(Debug, Clone)]
pub struct SeenGraph {
    graph: Arc<dyn GraphStore>,
    views: Projection<Views>,
    sight: Sight,
}

impl SeenGraph {
    /// A graph as somebody sees it.
    pub fn of(
        graph: Arc<dyn GraphStore>,
        views: &Projection<Views>,
        sight: &Sight,
    ) -> Arc<dyn GraphStore> {
        if *sight == Sight::Everything {
            return graph;
        }
        Arc::new(Self {
            graph,
            views: views.clone(),
            sight: sight.clone(),
        })
    }

    /// The views once they hold what the graph holds by now, where they hide something.
    fn hidden_by(&self, patience: &Patience) -> Result<Option<Seen>, String> {
        let end = self.graph.end();
        let mut views = self.views.views();
        if views.end() < end {
            let wait = VIEWS.min(patience.left());
            let waited = self
                .views
                .wait_for_blocking(end, wait, patience.cancel_flag());
            waited.map_err(|error| format!("the views are behind the graph: {error}"))?;
            views = self.views.views();
        }
        let seen = views.seen_by(&self.sight);
        Ok((!seen.is_everything()).then_some(seen))
    }

    fn look(&self, patience: Patience) -> SeenLook {
        SeenLook {
            of: self.clone(),
            inner: self.graph.queried(&patience),
            patience,
            known: RefCell::default(),
        }
    }

    /// A look for what is walked here instead of where the graph is kept, within the time that a
    /// query has.
    fn walk(&self) -> SeenLook {
        self.look(patience())
    }

    /// What the graph itself answers, if nothing is hidden before and after.
    fn plainly<T>(
        &self,
        ask: impl FnOnce(&dyn GraphStore) -> Result<T, GraphError>,
    ) -> Option<Result<T, GraphError>> {
        let patience = patience();
        let hides = || self.hidden_by(&patience).map(|seen| seen.is_some());
        match hides() {
            Ok(false) => {}
            Ok(true) => return None,
            Err(why) => return Some(Err(GraphError::Elsewhere(why))),
        }
        let found = ask(&*self.graph);
        match hides() {
            Ok(false) => Some(found),
            Ok(true) => None,
            Err(why) => Some(Err(GraphError::Elsewhere(why))),
        }
    }
}

/// What is asked outside of a query has the time that a query has, and nobody who cancels it.
fn patience() -> Patience {
    Patience::of(&Limits::default(), Arc::default())
}

impl GraphStore for SeenGraph {
    fn backend(&self) -> &'static str {
        self.graph.backend()
    }

    fn is_local(&self) -> bool {
        self.graph.is_local()
    }

    fn end(&self) -> u64 {
        self.graph.end()
    }

    fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError> {
        let plainly = self.plainly(|graph| graph.neighbors(query));
        plainly.unwrap_or_else(|| self.walk().neighbors(query))
    }

    fn shortest_path(&self, query: &PathQuery) -> Result<Option<ShortestPath>, GraphError> {
        let plainly = self.plainly(|graph| graph.shortest_path(query));
        plainly.unwrap_or_else(|| self.walk().shortest_path(query))
    }

    fn resources(&self, query: &ResourceQuery) -> Result<ListedResources, GraphError> {
        let mut page = self.graph.resources(query)?;
        let hidden_by = self.hidden_by(&patience());
        let hidden_by = hidden_by.map_err(GraphError::Elsewhere)?;
        if let Some(seen) = hidden_by {
            let mut items = Vec::with_capacity(page.items.len());
            for id in page.items {
                if seen.sees(id)? {
                    items.push(id);
                }
            }
            page.items = items;
        }
        Ok(page)
    }

    /// How far the graph is. How much there is in all of it is for those who see all of it: a
    /// number that lacks what is hidden would have to be counted, one by one.
    fn stats(&self) -> Result<GraphStats, GraphError> {
        Ok(GraphStats {
            end: self.graph.end(),
            nodes: Vec::new(),
            edges: Vec::new(),
            disk_bytes: 0,
        })
    }

    fn queried(&self, patience: &Patience) -> Box<dyn Graph + Send> {
        Box::new(self.look(patience.clone()))
    }
}

/// Whether nodes are seen, as far as it was asked, as the views were at one end of theirs.
#[derive(Debug, Default)]
struct Known {
    end: u64,
    nodes: HashMap<Arc<str>, bool>,
}

/// One question's look at a graph, as somebody sees it.
pub(super) struct SeenLook {
    of: SeenGraph,
    inner: Box<dyn Graph + Send>,
    patience: Patience,
    known: RefCell<Known>,
}

impl SeenLook {
    /// The views, where they hide something of what was read so far.
    fn hidden_by(&self) -> Result<Option<Seen>, Error> {
        self.of.hidden_by(&self.patience).map_err(Error::Graph)
    }

    /// Those of a page that are seen, as the views are once it was read.
    fn shown<T>(
        &self,
        page: Vec<T>,
        is_seen: &impl Fn(&Seen, &T) -> Result<bool, Error>,
    ) -> Result<Vec<T>, Error> {
        let Some(seen) = self.hidden_by()? else {
            return Ok(page);
        };
        let mut shown = Vec::with_capacity(page.len());
        for one in page {
            if is_seen(&seen, &one)? {
                shown.push(one);
            }
        }
        Ok(shown)
    }

    /// As many as are asked for that are seen: what is passed over makes room for more, until there
    /// are none.
    fn filled<T: Clone>(
        &self,
        mut after: Option<T>,
        limit: usize,
        page: impl Fn(Option<&T>, usize) -> Result<Vec<T>, Error>,
        is_seen: impl Fn(&Seen, &T) -> Result<bool, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        while found.len() < limit {
            self.patience.check()?;
            let left = limit - found.len();
            let next = page(after.as_ref(), left)?;
            let is_last = next.len() < left;
            after = next.last().cloned();
            found.extend(self.shown(next, &is_seen)?);
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Whether a node is seen. What is not there is not hidden.
    fn sees(&self, seen: &Seen, id: &Arc<str>) -> Result<bool, Error> {
        if let Some(known) = self.known(seen, id) {
            return Ok(known);
        }
        let is_seen = match id.parse() {
            Ok(NodeId::Resource(resource)) => sees(seen, resource)?,
            Ok(NodeId::Annotation(_)) => self.sees_annotated(seen, id)?,
            Ok(_) => self.sees_any_end(seen, id)?,
            Err(_) => false,
        };
        let nodes = &mut self.known.borrow_mut().nodes;
        if nodes.len() >= REMEMBERED_MAX {
            nodes.clear();
        }
        nodes.insert(Arc::clone(id), is_seen);
        Ok(is_seen)
    }

    /// What is remembered of a node. Views that have gone on may hide what they showed before.
    fn known(&self, seen: &Seen, id: &Arc<str>) -> Option<bool> {
        let mut known = self.known.borrow_mut();
        if known.end != seen.end() {
            known.nodes.clear();
            known.end = seen.end();
        }
        known.nodes.get(id).copied()
    }

    /// Whether the resource is seen that an annotation was made in.
    fn sees_annotated(&self, seen: &Seen, annotation: &str) -> Result<bool, Error> {
        let annotates = [Arc::from(EdgeType::Annotates.as_str())];
        let out = Direction::Outgoing;
        let found = self
            .inner
            .relationships(annotation, out, &annotates, None, 1)?;
        match found.first().map(|edge| edge.to.parse()) {
            Some(Ok(NodeId::Resource(resource))) => sees(seen, resource),
            _ => Ok(false),
        }
    }

    /// Whether anything is seen that leads to a collection, an entity type or a person, or from
    /// it; or it was described for everyone.
    fn sees_any_end(&self, seen: &Seen, hub: &Arc<str>) -> Result<bool, Error> {
        let properties = self.inner.properties(hub)?.unwrap_or_default();
        if matches!(properties.get("registered"), Some(Value::Boolean(true))) {
            return Ok(true);
        }
        let (mut after, mut looked_at) = (None, 0);
        while looked_at < HUB_EDGES_MAX {
            self.patience.check()?;
            let either = Direction::Either;
            let page = self
                .inner
                .relationships(hub, either, &[], after.as_ref(), PAGE)?;
            for edge in &page {
                // Every relationship has a resource or an annotation at its other end.
                let other = if edge.from == *hub {
                    &edge.to
                } else {
                    &edge.from
                };
                if self.sees(seen, other)? {
                    return Ok(true);
                }
            }
            if page.len() < PAGE {
                break;
            }
            looked_at += page.len();
            after = page.into_iter().next_back();
        }
        Ok(false)
    }
}

fn sees(seen: &Seen, id: ResourceId) -> Result<bool, Error> {
    seen.sees(id)
        .map_err(|error| Error::Graph(error.to_string()))
}

impl Graph for SeenLook {
    fn nodes(
        &self,
        label: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, Error> {
        let page = |after: Option<&Arc<str>>, left| {
            self.inner.nodes(label, after.map(AsRef::as_ref), left)
        };
        let is_seen = |seen: &Seen, id: &Arc<str>| self.sees(seen, id);
        self.filled(after.map(Arc::from), limit, page, is_seen)
    }

    fn find(
        &self,
        label: Option<&str>,
        key: &str,
        value: &Value,
    ) -> Result<Option<Vec<Arc<str>>>, Error> {
        let Some(found) = self.inner.find(label, key, value)? else {
            return Ok(None);
        };
        self.shown(found, &|seen, id| self.sees(seen, id)).map(Some)
    }

    fn labels(&self, id: &str) -> Vec<Arc<str>> {
        self.inner.labels(id)
    }

    fn properties(&self, id: &str) -> Result<Option<BTreeMap<Arc<str>, Value>>, Error> {
        let Some(properties) = self.inner.properties(id)? else {
            return Ok(None);
        };
        let is_seen = match self.hidden_by()? {
            None => true,
            Some(seen) => self.sees(&seen, &Arc::from(id))?,
        };
        Ok(is_seen.then_some(properties))
    }

    fn relationships(
        &self,
        node: &str,
        direction: Direction,
        kinds: &[Arc<str>],
        after: Option<&Relationship>,
        limit: usize,
    ) -> Result<Vec<Relationship>, Error> {
        let page = |after: Option<&Relationship>, left| {
            self.inner
                .relationships(node, direction, kinds, after, left)
        };
        let is_seen = |seen: &Seen, edge: &Relationship| {
            Ok(self.sees(seen, &edge.from)? && self.sees(seen, &edge.to)?)
        };
        self.filled(after.cloned(), limit, page, is_seen)
    }
}
