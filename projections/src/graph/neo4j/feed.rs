//! Records into a generation: what they touch is read, folded, and written in one transaction with
//! how far the generation is.
//!
//! Invariant: a transaction holds only where the generation is just where the records begin, and
//! every statement of it comes to the same when it is done twice, so that a lost answer, a second
//! server or a restart in the middle changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use neo4rs::{BoltType, Query, query};
use stemma_domain::event::{self, Event};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_event_log::Record;
use stemma_views::graph::{
    AnnotationNode, BelowZero, Delta, Edge, EdgeType, Folding, HubNode, Label, NodeId, Properties,
    ResourceNode, Source, Touched,
};
use stemma_views::{ApplyError, Reason};

use super::client::{Client, Neo4jError, Written, bolt, list, map};
use super::generation::Generation;
use super::nodes::{Stored, references, resource_id};

/// How long what a batch is about may take to be read.
const READ: Duration = Duration::from_secs(10);
/// How long a batch may take to be written.
const BATCH: Duration = Duration::from_mins(2);

/// Why records are not in a generation.
#[derive(Debug)]
pub(super) enum FeedError {
    /// Neo4j did not do its part. Whether they are in must be looked up.
    Neo4j(Neo4jError),
    /// The generation is not where the records begin: somebody else wrote, or an answer was lost.
    Elsewhere,
    /// One cannot be applied; those before it are in.
    Apply(ApplyError),
}

impl From<Neo4jError> for FeedError {
    fn from(error: Neo4jError) -> Self {
        Self::Neo4j(error)
    }
}

impl From<BelowZero> for FeedError {
    fn from(error: BelowZero) -> Self {
        Self::Neo4j(Neo4jError::Unreadable(error.to_string()))
    }
}

/// Applies records to a generation, which begin where it is, and brings `generation` up to there.
pub(super) fn apply(
    client: &Client,
    generation: &mut Generation,
    records: &[Record],
) -> Result<(), FeedError> {
    let events: Vec<_> = records
        .iter()
        .map(|record| {
            let event = event::decode(record.event_type(), record.schema_version(), record.data());
            (record, event)
        })
        .collect();
    let known = events
        .iter()
        .filter_map(|(record, event)| Some((*record, event.as_ref().ok()?)));
    let mut folding = Folding::over(Before::read(client, generation, known)?);
    let (mut last, mut stopped) = (None, None);
    for (record, event) in events {
        let applied = event
            .map_err(Reason::from)
            .and_then(|event| folding.apply(record, event));
        if let Err(reason) = applied {
            stopped = Some(ApplyError {
                position: record.position().get(),
                event_type: record.event_type().to_owned(),
                reason,
            });
            break;
        }
        last = Some(record);
    }
    if let Some(last) = last {
        let edges = folding.edges();
        let mut hubs = read_hubs(client, generation, edges.hubs())?;
        let delta = edges.finish(generation.counts, |id| {
            Ok::<_, FeedError>(hubs.remove(&id.to_string()))
        })?;
        commit(client, generation, last, &delta)?;
    }
    stopped.map_or(Ok(()), |error| Err(FeedError::Apply(error)))
}

/// Nodes that a batch is about, as they were before it.
struct Before {
    resources: HashMap<ResourceId, ResourceNode>,
    annotations: HashMap<AnnotationId, AnnotationNode>,
}

impl Source for Before {
    fn resource(&self, id: ResourceId) -> Result<Option<ResourceNode>, Reason> {
        Ok(self.resources.get(&id).cloned())
    }

    fn annotation(&self, id: AnnotationId) -> Result<Option<AnnotationNode>, Reason> {
        Ok(self.annotations.get(&id).cloned())
    }
}

impl Before {
    fn read<'r>(
        client: &Client,
        generation: &Generation,
        events: impl Iterator<Item = (&'r Record, &'r Event)>,
    ) -> Result<Self, Neo4jError> {
        let (mut resources, mut annotations) = (BTreeSet::new(), BTreeSet::new());
        for (record, event) in events {
            resources.extend(ResourceId::from_stream_name(record.stream()));
            annotations.extend(match event {
                Event::AnnotationAdded(added) => Some(added.annotation_id),
                Event::AnnotationBodyChanged(changed) => Some(changed.annotation_id),
                Event::AnnotationRemoved(removed) => Some(removed.annotation_id),
                _ => None,
            });
        }
        Ok(Self {
            resources: read_resources(client, generation, &resources)?,
            annotations: read_annotations(client, generation, &annotations)?,
        })
    }
}

fn read_resources(
    client: &Client,
    generation: &Generation,
    ids: &BTreeSet<ResourceId>,
) -> Result<HashMap<ResourceId, ResourceNode>, Neo4jError> {
    let (label, waiting) = (&generation.label, generation.waiting());
    let text = format!(
        "UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) \
         RETURN properties(n) AS p, [(n)-[:DERIVED_FROM]->(source) | source.id] \
              + COLLECT {{ MATCH (w:`{waiting}` {{from: id}}) RETURN w.to }} AS sources"
    );
    let mut found = HashMap::new();
    for row in asked(client, ids, &text)? {
        let stored = Stored::of(&row, "p")?;
        let id = resource_id(&stored.id)?;
        let sources: Vec<String> = row.get("sources")?;
        let source = sources.first().map(|id| resource_id(id)).transpose()?;
        found.insert(id, stored.resource(source)?);
    }
    Ok(found)
}

fn read_annotations(
    client: &Client,
    generation: &Generation,
    ids: &BTreeSet<AnnotationId>,
) -> Result<HashMap<AnnotationId, AnnotationNode>, Neo4jError> {
    let (label, waiting) = (&generation.label, generation.waiting());
    let text = format!(
        "UNWIND $ids AS id MATCH (n:`{label}` {{id: 'annotation:' + id}}) \
         RETURN id, properties(n) AS p, [(n)-[e:ANNOTATES|REFERS_TO|TARGETS]->(named) | [type(e), named.id]] \
              + COLLECT {{ MATCH (w:`{waiting}` {{from: n.id}}) RETURN [w.type, w.to] }} AS named"
    );
    let mut found = HashMap::new();
    for row in asked(client, ids, &text)? {
        let id: String = row.get("id")?;
        let stored = Stored::of(&row, "p")?;
        let NodeId::Annotation(annotation) = stored.node_id()? else {
            return Err(Neo4jError::Unreadable(format!("annotation {id}")));
        };
        let named: Vec<(String, String)> = row.get("named")?;
        let (resource, references) = references(annotation, &named)?;
        found.insert(annotation, stored.annotation(resource, references)?);
    }
    Ok(found)
}

fn read_hubs<'i>(
    client: &Client,
    generation: &Generation,
    ids: impl Iterator<Item = &'i NodeId>,
) -> Result<HashMap<String, HubNode>, Neo4jError> {
    let label = &generation.label;
    let text = format!(
        "UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) \
         RETURN properties(n) AS p, COUNT {{ (n)-[:CREATED|HAS_TYPE|IN_COLLECTION]-() }} AS edges"
    );
    let ids: BTreeSet<&NodeId> = ids.collect();
    let mut found = HashMap::new();
    for row in asked(client, &ids, &text)? {
        let stored = Stored::of(&row, "p")?;
        let edges: i64 = row.get("edges")?;
        let id = stored.id.clone();
        found.insert(id, stored.hub(u64::try_from(edges).unwrap_or_default()));
    }
    Ok(found)
}

fn asked<I: ToString>(
    client: &Client,
    ids: &BTreeSet<I>,
    text: &str,
) -> Result<Vec<neo4rs::Row>, Neo4jError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = list(ids.iter().map(|id| id.to_string().into()));
    client.rows(query(text).param("ids", ids), READ)
}

fn commit(
    client: &Client,
    generation: &mut Generation,
    last: &Record,
    delta: &Delta,
) -> Result<(), FeedError> {
    let (end, digest) = (last.position().get() + 1, last.digest());
    let counts = delta.counts.unwrap_or(generation.counts);
    // What is read before a lock is had may be old: first the lock, by writing, then the look.
    let text = "MATCH (g:StemmaGraph {label: $label}) SET g.guard = $from \
                WITH g WHERE g.end = $from AND g.state <> 'retired' \
                SET g.end = $to, g.last = $last, g.nodes = $nodes, g.edges = $edges \
                RETURN g.end AS n";
    let guard = query(text)
        .param("label", generation.label.as_str())
        .param("from", signed(generation.end))
        .param("to", signed(end))
        .param("last", digest.to_string())
        .param("nodes", numbers(&counts.nodes))
        .param("edges", numbers(&counts.edges));
    match client.write(guard, statements(generation, delta), BATCH)? {
        Written::Guarded => return Err(FeedError::Elsewhere),
        Written::Done => {}
    }
    generation.end = end;
    generation.last = Some(digest);
    generation.counts = counts;
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn numbers(counts: &[u64]) -> BoltType {
    list(counts.iter().map(|count| signed(*count).into()))
}

/// All that a batch changes, as statements in the order in which they are to be done.
fn statements(generation: &Generation, delta: &Delta) -> Vec<Query> {
    let label = &generation.label;
    let mut nodes = Nodes::default();
    let mut made = Vec::new();
    for (id, touched) in &delta.resources {
        if touched.before.is_none() && touched.now.is_some() {
            made.push(BoltType::from(id.to_string()));
        }
        nodes.touched(&NodeId::Resource(*id), touched, ResourceNode::properties);
    }
    for (id, touched) in &delta.annotations {
        let id = NodeId::Annotation(*id);
        nodes.touched(&id, touched, AnnotationNode::properties);
    }
    for (id, hub) in &delta.hubs {
        nodes.now(id, hub.clone().map(|hub| hub.properties(id)));
    }
    let mut statements = Vec::new();
    for (kind, rows) in nodes.put {
        let kind = kind.as_str();
        let text =
            format!("UNWIND $rows AS row MERGE (n:`{label}` {{id: row.id}}) SET n:{kind}, n = row");
        statements.push(query(&text).param("rows", list(rows)));
    }
    edges(generation, &delta.edges, made, &mut statements);
    if !nodes.gone.is_empty() {
        let text = format!("UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) DETACH DELETE n");
        statements.push(query(&text).param("ids", list(nodes.gone)));
    }
    statements
}

/// Nodes to be written, by label, and those to be removed.
#[derive(Default)]
struct Nodes {
    put: BTreeMap<Label, Vec<BoltType>>,
    gone: Vec<BoltType>,
}

impl Nodes {
    fn touched<T: Clone + PartialEq>(
        &mut self,
        id: &NodeId,
        touched: &Touched<T>,
        properties: impl Fn(T, &NodeId) -> Properties,
    ) {
        if touched.before != touched.now {
            let now = touched.now.clone();
            self.now(id, now.map(|node| properties(node, id)));
        }
    }

    fn now(&mut self, id: &NodeId, properties: Option<Properties>) {
        match properties {
            None => self.gone.push(id.to_string().into()),
            Some(properties) => {
                let entries = properties.into_iter();
                let row = map(entries.map(|(key, property)| (key, bolt(property))));
                self.put.entry(id.label()).or_default().push(row);
            }
        }
    }
}

/// Whether relationships of a type may lead to a resource that is not there.
const fn may_wait(edge_type: EdgeType) -> bool {
    matches!(
        edge_type,
        EdgeType::DerivedFrom | EdgeType::RefersTo | EdgeType::Targets
    )
}

fn edges(
    generation: &Generation,
    edges: &[(Edge, bool)],
    made: Vec<BoltType>,
    statements: &mut Vec<Query>,
) {
    let (label, waiting) = (&generation.label, generation.waiting());
    let mut rows: BTreeMap<(bool, EdgeType), Vec<BoltType>> = BTreeMap::new();
    for (edge, is_there) in edges {
        let ends = [
            ("from", edge.from.to_string().into()),
            ("to", edge.to.to_string().into()),
        ];
        let kind = (*is_there, edge.edge_type);
        rows.entry(kind).or_default().push(map(ends));
    }
    let ends = format!(
        "UNWIND $rows AS row MATCH (a:`{label}` {{id: row.from}}) MATCH (b:`{label}` {{id: row.to}})"
    );
    // Those that go first: they may have waited for a resource that is made in this batch.
    let is_any_made = !made.is_empty();
    let made = list(made);
    let (gone, come): (Vec<_>, Vec<_>) = rows.into_iter().partition(|((there, _), _)| !there);
    for ((_, edge_type), rows) in gone {
        let kind = edge_type.as_str();
        let rows = list(rows);
        let text = format!("{ends} MATCH (a)-[e:{kind}]->(b) DELETE e");
        statements.push(query(&text).param("rows", rows.clone()));
        if may_wait(edge_type) {
            let text = format!(
                "UNWIND $rows AS row MATCH (w:`{waiting}` {{from: row.from}}) \
                 WHERE w.to = row.to AND w.type = '{kind}' DELETE w"
            );
            statements.push(query(&text).param("rows", rows));
        }
    }
    let waited_for = EdgeType::ALL
        .into_iter()
        .filter(|kind| is_any_made && may_wait(*kind));
    for edge_type in waited_for {
        let kind = edge_type.as_str();
        let text = format!(
            "UNWIND $made AS id MATCH (w:`{waiting}` {{to: id}}) WHERE w.type = '{kind}' \
             MATCH (a:`{label}` {{id: w.from}}) MATCH (b:`{label}` {{id: id}}) \
             MERGE (a)-[:{kind}]->(b) DELETE w"
        );
        statements.push(query(&text).param("made", made.clone()));
    }
    for ((_, edge_type), rows) in come {
        let kind = edge_type.as_str();
        let text = if may_wait(edge_type) {
            format!(
                "UNWIND $rows AS row MATCH (a:`{label}` {{id: row.from}}) \
                 OPTIONAL MATCH (b:`{label}` {{id: row.to}}) \
                 FOREACH (_ IN CASE WHEN b IS NULL THEN [] ELSE [1] END | MERGE (a)-[:{kind}]->(b)) \
                 FOREACH (_ IN CASE WHEN b IS NULL THEN [1] ELSE [] END | \
                     MERGE (:`{waiting}` {{from: row.from, type: '{kind}', to: row.to}}))"
            )
        } else {
            format!("{ends} MERGE (a)-[:{kind}]->(b)")
        };
        statements.push(query(&text).param("rows", list(rows)));
    }
}
