//! The questions that every graph is asked, put to Neo4j.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neo4rs::{Query, Row, query};
use stemma_cypher::Patience;
use stemma_domain::id::ResourceId;
use stemma_domain::time::Timestamp;
use stemma_domain::value::EntityType;
use stemma_views::graph::{
    Edge, EdgeType, GraphError, GraphStats, Label, ListedResources, Neighborhood, NeighborsQuery,
    Node, NodeId, PathQuery, ShortestPath,
};
use stemma_views::{Archived, Page, ResourceQuery, Sort};

use super::client::{Client, Neo4jError, list};
use super::generation::{Generation, Owner, Use, all};
use super::look::Look;
use super::nodes::{Stored, alternatives, edge_type, id, resource_id};
use crate::graph::store::GraphStore;
use crate::progress::Progress;

/// How long a list may take: the views can answer it too.
const LIST: Duration = Duration::from_millis(500);
/// How long a question may take that only the graph can answer.
const QUESTION: Duration = Duration::from_secs(5);
/// Resources that are looked at together, where not all of them are wanted.
const CHUNK: usize = 500;
/// Resources that one page looks at.
const PAGE_ROWS_MAX: usize = 100_000;
/// Members of a type up to which sorting them is faster than walking all resources in order.
const SORTED_MAX: i64 = 20_000;

/// The graph in Neo4j, as it is asked; clones share its connections.
#[derive(Clone)]
pub(in crate::graph) struct Neo4jStore {
    pub(super) client: Client,
    pub(super) owner: Owner,
    /// The label of the generation in use.
    pub(super) label: String,
    pub(super) progress: Arc<Progress>,
}

impl std::fmt::Debug for Neo4jStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neo4jStore")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl GraphStore for Neo4jStore {
    fn backend(&self) -> &'static str {
        "neo4j"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn end(&self) -> u64 {
        self.progress.end()
    }

    fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError> {
        self.asking(QUESTION).neighbors(query)
    }

    fn shortest_path(&self, query: &PathQuery) -> Result<Option<ShortestPath>, GraphError> {
        self.asking(QUESTION).shortest_path(query)
    }

    fn resources(&self, query: &ResourceQuery) -> Result<ListedResources, GraphError> {
        self.asking(LIST).resources(query)
    }

    fn stats(&self) -> Result<GraphStats, GraphError> {
        let generations = all(&self.owner, &self.client, QUESTION)?;
        let current = generations.into_iter().find(|one| one.is == Use::Current);
        let none = || Neo4jError::Unreadable("the graph there is gone".to_owned());
        let Generation { end, counts, .. } = current.ok_or_else(none)?;
        Ok(GraphStats {
            end,
            nodes: Label::ALL.into_iter().zip(counts.nodes).collect(),
            edges: EdgeType::ALL.into_iter().zip(counts.edges).collect(),
            disk_bytes: 0,
        })
    }

    fn queried(&self, _patience: &Patience) -> Box<dyn stemma_cypher::Graph + Send> {
        Box::new(Look::at(self.client.clone(), self.label.clone()))
    }
}

/// One question, which is to be answered by a moment.
struct Asking<'a> {
    client: &'a Client,
    label: &'a str,
    until: Instant,
}

impl Neo4jStore {
    fn asking(&self, within: Duration) -> Asking<'_> {
        Asking {
            client: &self.client,
            label: &self.label,
            until: Instant::now() + within,
        }
    }
}

impl Asking<'_> {
    fn rows(&self, query: Query) -> Result<Vec<Row>, Neo4jError> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.client.rows(query, left)
    }

    fn neighbors(&self, query: &NeighborsQuery) -> Result<Neighborhood, GraphError> {
        self.must_have(&query.of)?;
        let mut seen = HashMap::from([(query.of.to_string(), 0)]);
        let mut frontier = vec![query.of.to_string()];
        let (mut nodes, mut is_truncated) = (Vec::new(), false);
        // How far the nodes are whose relationships were looked at.
        let mut looked_at = 0;
        for depth in 1..=query.depth {
            let left = query.limit - nodes.len();
            let level = self.level(query, &frontier, &seen, left + 1)?;
            looked_at = depth;
            frontier.clear();
            is_truncated = level.len() > left;
            for node in level.into_iter().take(left) {
                let name = node.id.to_string();
                seen.insert(name.clone(), depth);
                frontier.push(name);
                nodes.push((node, depth));
            }
            if is_truncated || frontier.is_empty() {
                break;
            }
        }
        let edges = self.edges_among(&seen, looked_at, query.relation)?;
        Ok(Neighborhood {
            nodes,
            edges,
            is_truncated,
        })
    }

    fn shortest_path(&self, asked: &PathQuery) -> Result<Option<ShortestPath>, GraphError> {
        for end in [&asked.from, &asked.to] {
            self.must_have(end)?;
        }
        let ids = if asked.from == asked.to {
            Some(vec![asked.from.to_string()])
        } else {
            self.first_way(asked)?
        };
        let Some(ids) = ids else { return Ok(None) };
        let nodes = self.nodes_of(&ids)?;
        let edges = self.edges_along(&ids)?;
        Ok(Some(ShortestPath { nodes, edges }))
    }

    fn resources(&self, query: &ResourceQuery) -> Result<ListedResources, GraphError> {
        let mut place = query.created_place()?;
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let Some((rarest, members)) = self.rarest(query)? else {
            return Ok(page);
        };
        let (mut looked_at, mut is_full) = (0, false);
        loop {
            let found = self.members(query, (&rarest, members), place)?;
            let is_last = found.len() < CHUNK;
            for stored in found {
                if is_full {
                    page.next = place.map(|(at, id)| query.created_cursor(at, id));
                    return Ok(page);
                }
                let id = resource_id(&stored.id)?;
                let resource = stored.resource(None)?;
                place = Some((Timestamp::from_micros(resource.created_at), id));
                looked_at += 1;
                if resource.is_taken_by(query) {
                    page.items.push(id);
                }
                is_full = page.items.len() == query.limit || looked_at == PAGE_ROWS_MAX;
            }
            if is_last {
                return Ok(page);
            }
        }
    }

    fn must_have(&self, node: &NodeId) -> Result<(), GraphError> {
        let found = self.nodes_of(&[node.to_string()])?;
        if found.is_empty() {
            return Err(GraphError::NoNode(node.clone()));
        }
        Ok(())
    }

    /// Nodes that are there, in the order in which they are asked for.
    fn nodes_of(&self, ids: &[String]) -> Result<Vec<Node>, Neo4jError> {
        let label = self.label;
        let text =
            format!("UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) RETURN properties(n) AS p");
        let rows = self.rows(query(&text).param("ids", texts(ids)))?;
        let mut found = HashMap::new();
        for row in &rows {
            let stored = Stored::of(row, "p")?;
            found.insert(stored.id.clone(), stored.node()?);
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// The next nodes around those of a frontier, by their ids, at most so many.
    fn level(
        &self,
        asked: &NeighborsQuery,
        frontier: &[String],
        seen: &HashMap<String, u32>,
        limit: usize,
    ) -> Result<Vec<Node>, Neo4jError> {
        let label = self.label;
        let kinds = kinds(asked.relation);
        let archived = archived(asked.archived, "m");
        let text = format!(
            "MATCH (n:`{label}`)-[:{kinds}]-(m:`{label}`) \
             WHERE n.id IN $frontier AND (m.archived IS NULL OR {archived}) \
             WITH DISTINCT m WHERE NOT m.id IN $seen \
             WITH m ORDER BY m.id LIMIT $limit RETURN properties(m) AS p"
        );
        let asked = query(&text)
            .param("frontier", texts(frontier))
            .param("seen", texts(seen.keys()))
            .param("limit", count(limit));
        let rows = self.rows(asked)?;
        let stored = rows.iter().map(|row| Stored::of(row, "p"));
        stored.map(|stored| stored?.node()).collect()
    }

    /// The relationships among nodes, of which one end is nearer than `looked_at`.
    fn edges_among(
        &self,
        seen: &HashMap<String, u32>,
        looked_at: u32,
        relation: Option<EdgeType>,
    ) -> Result<Vec<Edge>, Neo4jError> {
        let label = self.label;
        // Every relationship begins or ends at a resource or an annotation, and these have few.
        let is_thing = |id: &&String| {
            let read = id.parse::<NodeId>();
            read.is_ok_and(|id| id.name().is_none())
        };
        let things: Vec<&String> = seen.keys().filter(is_thing).collect();
        let kinds = kinds(relation);
        let mut texts_of = vec![format!(
            "UNWIND $ids AS id MATCH (a:`{label}` {{id: id}})-[e:{kinds}]->(b:`{label}`) \
             RETURN type(e) AS kind, a.id AS from, b.id AS to"
        )];
        if relation.is_none_or(|relation| relation == EdgeType::Created) {
            texts_of.push(format!(
                "UNWIND $ids AS id MATCH (b:`{label}` {{id: id}})<-[e:CREATED]-(a:`{label}`) \
                 RETURN type(e) AS kind, a.id AS from, b.id AS to"
            ));
        }
        let mut edges = BTreeSet::new();
        for text in texts_of {
            let asked = query(&text).param("ids", texts(things.iter().copied()));
            for row in self.rows(asked)? {
                let (from, to): (String, String) = (row.get("from")?, row.get("to")?);
                let ends = (seen.get(&from), seen.get(&to));
                let (Some(one), Some(other)) = ends else {
                    continue;
                };
                if looked_at > *one.min(other) {
                    let kind = edge_type(&row.get::<String>("kind")?)?;
                    edges.insert((kind, from, to));
                }
            }
        }
        let edges = edges.into_iter();
        edges
            .map(|(edge_type, from, to)| {
                Ok(Edge {
                    edge_type,
                    from: id(&from)?,
                    to: id(&to)?,
                })
            })
            .collect()
    }

    /// Of the shortest ways, the nodes of the one whose ids sort first.
    fn first_way(&self, asked: &PathQuery) -> Result<Option<Vec<String>>, GraphError> {
        let (label, kinds, depth) = (self.label, kinds(None), asked.depth_max);
        let text = format!(
            "MATCH (a:`{label}` {{id: $from}}) MATCH (b:`{label}` {{id: $to}}) \
             MATCH p = allShortestPaths((a)-[:{kinds}*..{depth}]-(b)) \
             RETURN [n IN nodes(p) | n.id] AS ids ORDER BY ids LIMIT 1"
        );
        let question = query(&text)
            .param("from", asked.from.to_string())
            .param("to", asked.to.to_string());
        let rows = match self.rows(question) {
            Err(Neo4jError::Slow(_)) => {
                let rows_max = asked.rows_max;
                return Err(GraphError::TooFar { rows_max });
            }
            rows => rows?,
        };
        let ids = rows.first().map(|row| row.get("ids"));
        Ok(ids.transpose().map_err(Neo4jError::from)?)
    }

    /// Between each two nodes of a way the relationship whose type sorts first, and of two of a
    /// type the one along the way.
    fn edges_along(&self, ids: &[String]) -> Result<Vec<Edge>, Neo4jError> {
        let (label, kinds) = (self.label, kinds(None));
        let text = format!(
            "UNWIND range(0, size($ids) - 2) AS place \
             MATCH (a:`{label}` {{id: $ids[place]}}) MATCH (b:`{label}` {{id: $ids[place + 1]}}) \
             MATCH (a)-[e:{kinds}]-(b) \
             RETURN place, type(e) AS kind, startNode(e).id AS from, endNode(e).id AS to"
        );
        let rows = self.rows(query(&text).param("ids", texts(ids)))?;
        let mut first: HashMap<usize, (EdgeType, bool, Edge)> = HashMap::new();
        for row in rows {
            let place: i64 = row.get("place")?;
            let place = usize::try_from(place).unwrap_or_default();
            let (from, to): (String, String) = (row.get("from")?, row.get("to")?);
            let edge_type = edge_type(&row.get::<String>("kind")?)?;
            let is_back = ids.get(place) != Some(&from);
            let edge = Edge {
                edge_type,
                from: id(&from)?,
                to: id(&to)?,
            };
            let found = (edge_type, is_back, edge);
            match first.get(&place) {
                Some((kind, back, _)) if (*kind, *back) <= (edge_type, is_back) => {}
                _ => {
                    first.insert(place, found);
                }
            }
        }
        let places = 0..ids.len().saturating_sub(1);
        let edges = places.filter_map(|place| first.remove(&place));
        Ok(edges.map(|(_, _, edge)| edge).collect())
    }

    /// The type with the fewest resources, and how many; none when one has none.
    fn rarest(&self, asked: &ResourceQuery) -> Result<Option<(String, i64)>, Neo4jError> {
        let label = self.label;
        let text = format!(
            "UNWIND $ids AS id MATCH (t:`{label}` {{id: id}}) \
             WITH id, COUNT {{ (t)<-[:HAS_TYPE]-() }} AS members WHERE members > 0 \
             RETURN id, members ORDER BY members"
        );
        let names: BTreeSet<&str> = asked.entity_types.iter().map(EntityType::as_str).collect();
        let ids = names.iter().map(|name| format!("entity_type:{name}"));
        let rows = self.rows(query(&text).param("ids", list(ids.map(Into::into))))?;
        if rows.len() < names.len() {
            return Ok(None);
        }
        let rarest = rows.first().map(|row| {
            let id: String = row.get("id")?;
            let members: i64 = row.get("members")?;
            Ok::<_, Neo4jError>((id, members))
        });
        rarest.transpose()
    }

    /// The next resources of a type, behind a place, in the order that is asked for.
    fn members(
        &self,
        asked: &ResourceQuery,
        (of, members): (&str, i64),
        place: Option<(Timestamp, ResourceId)>,
    ) -> Result<Vec<Stored>, Neo4jError> {
        let label = self.label;
        let is_back = asked.sort == Sort::CreatedDescending;
        let (sign, order) = if is_back { ("<", "DESC") } else { (">", "ASC") };
        let mut conditions = vec![archived(asked.archived, "r")];
        if place.is_some() {
            conditions.push(format!(
                "r.created_at {sign}= $at AND (r.created_at {sign} $at OR r.id {sign} $id)"
            ));
        }
        if asked.created_after.is_some() {
            conditions.push("r.created_at > $after".to_owned());
        }
        let from = if members <= SORTED_MAX {
            format!("MATCH (:`{label}` {{id: $of}})<-[:HAS_TYPE]-(r:`{label}`)")
        } else {
            // In the order of the index, so that a page ends where it is full.
            conditions.push("r.created_at >= '' AND $name IN r.entity_types".to_owned());
            format!("MATCH (r:`{label}`) USING INDEX r:`{label}`(created_at)")
        };
        let conditions = conditions.join(" AND ");
        let text = format!(
            "{from} WHERE {conditions} \
             RETURN properties(r) AS p ORDER BY r.created_at {order}, r.id {order} LIMIT {CHUNK}"
        );
        let name = of.strip_prefix("entity_type:").unwrap_or(of);
        let mut question: Query = query(&text).param("of", of).param("name", name);
        if let Some((at, id)) = place {
            question = question
                .param("at", at.to_string())
                .param("id", id.to_string());
        }
        if let Some(after) = asked.created_after {
            question = question.param("after", after.to_string());
        }
        let rows = self.rows(question)?;
        rows.iter().map(|row| Stored::of(row, "p")).collect()
    }
}

/// The one type that is asked for, or every type of the graph's: whatever else others keep there is
/// none of it.
fn kinds(relation: Option<EdgeType>) -> String {
    match relation {
        Some(relation) => relation.as_str().to_owned(),
        None => alternatives(&EdgeType::ALL),
    }
}

fn archived(wanted: Archived, name: &str) -> String {
    match wanted {
        Archived::Any => "true".to_owned(),
        Archived::Yes => format!("{name}.archived = true"),
        Archived::No => format!("{name}.archived = false"),
    }
}

fn texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> neo4rs::BoltType {
    list(texts.into_iter().map(|text| text.as_str().into()))
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
