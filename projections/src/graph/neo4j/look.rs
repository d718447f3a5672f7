//! Neo4j as what Cypher is run over.
//!
//! Queries run here, by the same code as over rows of our own, so that both graphs have the same
//! answers and the same limits. A look at one node is a look at those that will be asked for next
//! as well: nodes that were given together are fetched together, more at a time the longer a query
//! goes on. What was fetched is kept for the query alone, within a budget.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neo4rs::{Query, Row, query};
use stemma_cypher::{Direction, Error, Graph, Relationship, Value};
use stemma_views::graph::{EdgeType, Label, NodeId};

use super::client::{Client, Neo4jError, Reading, list};
use super::nodes::{Stored, alternatives};
use crate::graph::queried::{found, labels, types, values};

/// How long one look may take; the query's own limits are looked at between two.
const LOOK: Duration = Duration::from_secs(5);
/// How long a query may look at all, what it shows included.
const ALL: Duration = Duration::from_secs(15);
/// How long the end of a query's reading is waited for.
const END: Duration = Duration::from_secs(1);
/// Nodes that are fetched together, at the most.
const TOGETHER_MAX: usize = 256;
/// Relationships up to which a node's are fetched before they are asked for.
const FEW: usize = 256;
/// Nodes whose properties are kept.
const NODES_MAX: usize = 100_000;
/// Relationships that are kept, and most of one node.
const RELATIONSHIPS_MAX: usize = 1_000_000;

/// Properties of a node by their names; none of one that is not there.
type Found = Option<BTreeMap<Arc<str>, Value>>;
/// A node, the direction, and the types of relationships that were asked for.
type Around = (Arc<str>, Direction, Vec<EdgeType>);

/// Nodes that were given together, and where among them one stands.
type Given = (Arc<[Arc<str>]>, usize);

/// A graph to run one query over.
pub(super) struct Look {
    client: Client,
    label: String,
    kept: RefCell<Kept>,
    /// What is read in, once something was.
    reading: RefCell<Option<Reading>>,
    until: Instant,
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.end(END);
        }
    }
}

#[derive(Default)]
struct Kept {
    nodes: HashMap<Arc<str>, Found>,
    relationships: HashMap<Around, Arc<[Relationship]>>,
    /// How many relationships are kept.
    count: usize,
    /// Names of a label in the order in which they are given.
    names: HashMap<Label, Arc<[Arc<str>]>>,
    /// Nodes that were given together, and where among them each stands.
    given: HashMap<Arc<str>, Given>,
    /// Whose relationships were given last, and up to where.
    page: Option<(Around, usize)>,
    /// How many nodes the next look fetches.
    together: usize,
}

impl Kept {
    fn keep_node(&mut self, id: Arc<str>, found: Found) {
        if self.nodes.len() >= NODES_MAX {
            self.nodes.clear();
        }
        self.nodes.insert(id, found);
    }

    fn keep_relationships(&mut self, around: Around, found: Arc<[Relationship]>) {
        if self.count + found.len() > RELATIONSHIPS_MAX {
            self.relationships.clear();
            self.count = 0;
        }
        self.count += found.len() + 1;
        self.relationships.insert(around, found);
    }

    /// Notes that nodes were given together.
    fn give(&mut self, ids: Vec<Arc<str>>) {
        let ids: Arc<[Arc<str>]> = ids.into();
        if self.given.len() + ids.len() > NODES_MAX {
            self.given.clear();
        }
        for (place, id) in ids.iter().enumerate() {
            let given = (Arc::clone(&ids), place);
            self.given.insert(Arc::clone(id), given);
        }
    }

    /// A node and those that were given behind it, of which `is_known` says that they are not.
    fn together(&mut self, id: &str, is_known: impl Fn(&Self, &Arc<str>) -> bool) -> Vec<Arc<str>> {
        let most = self.together.clamp(1, TOGETHER_MAX);
        self.together = (4 * most).min(TOGETHER_MAX);
        let mut ids = vec![Arc::from(id)];
        if let Some((given, place)) = self.given.get(id) {
            let behind = given[place + 1..].iter();
            let unknown = behind.filter(|id| !is_known(self, id));
            ids.extend(unknown.take(most - 1).cloned());
        }
        ids
    }
}

fn failed(error: Neo4jError) -> Error {
    match error {
        // A look that had all the time that one may have: it is not the query that takes long.
        Neo4jError::Slow(within) if within < LOOK => Error::Limit {
            what: "the query's time",
            limit: format!("{} s", ALL.as_secs()),
        },
        error => Error::Graph(format!("Neo4j: {error}")),
    }
}

impl Look {
    pub(super) fn at(client: Client, label: String) -> Self {
        Self {
            client,
            label,
            kept: RefCell::default(),
            reading: RefCell::new(None),
            until: Instant::now() + ALL,
        }
    }

    fn rows(&self, query: Query) -> Result<Vec<Row>, Error> {
        let within = LOOK.min(self.until.saturating_duration_since(Instant::now()));
        let begun = self.reading.take();
        let mut reading = match begun {
            Some(reading) => reading,
            None => self.client.reading(within).map_err(failed)?,
        };
        let rows = reading.rows(query, within).map_err(failed)?;
        self.reading.replace(Some(reading));
        Ok(rows)
    }

    /// Fetches a node and some that will be asked for next.
    fn fetch_nodes(&self, id: &str) -> Result<Found, Error> {
        let is_known = |kept: &Kept, id: &Arc<str>| kept.nodes.contains_key(id);
        let ids = self.kept.borrow_mut().together(id, is_known);
        let label = &self.label;
        let text =
            format!("UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) RETURN properties(n) AS p");
        let rows = self.rows(query(&text).param("ids", texts(&ids)))?;
        let mut kept = self.kept.borrow_mut();
        let mut wanted = None;
        for other in ids {
            kept.keep_node(other, None);
        }
        for row in &rows {
            let stored = Stored::of(row, "p").and_then(Stored::properties);
            let (found, properties) = stored.map_err(failed)?;
            let properties = values(properties);
            let found = Arc::from(found.to_string());
            if *found == *id {
                wanted = Some(properties.clone());
            }
            kept.keep_node(found, Some(properties));
        }
        Ok(wanted)
    }

    /// Fetches the relationships of a node, and of some that will be asked for next.
    fn fetch_relationships(&self, around: &Around) -> Result<Arc<[Relationship]>, Error> {
        let (node, direction, kinds) = around;
        let of = |id: &Arc<str>| (Arc::clone(id), *direction, kinds.clone());
        let is_known = |kept: &Kept, id: &Arc<str>| kept.relationships.contains_key(&of(id));
        let ids = self.kept.borrow_mut().together(node, is_known);
        let label = &self.label;
        let names = alternatives(kinds);
        let side = |left: &str, right: &str| {
            format!(
                "CASE WHEN COUNT {{ (n){left}[:{names}]{right}() }} <= $most \
                 THEN [(n){left}[e:{names}]{right}(m:`{label}`) | [type(e), m.id]] END"
            )
        };
        let (out, into) = (side("-", "->"), side("<-", "-"));
        let (out, into) = match direction {
            Direction::Outgoing => (out, "[]".to_owned()),
            Direction::Incoming => ("[]".to_owned(), into),
            Direction::Either => (out, into),
        };
        let text = format!(
            "UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) \
             WHERE id = $wanted OR COUNT {{ (n)--() }} <= $few \
             RETURN id, {out} AS out, {into} AS into"
        );
        let asked = query(&text)
            .param("ids", texts(&ids))
            .param("wanted", &**node)
            .param("most", i64::try_from(RELATIONSHIPS_MAX).unwrap_or(i64::MAX))
            .param("few", i64::try_from(FEW).unwrap_or(i64::MAX));
        let rows = self.rows(asked)?;
        let mut kept = self.kept.borrow_mut();
        // One that is not there has none.
        let mut wanted: Arc<[Relationship]> = Arc::new([]);
        let mut others: Vec<Arc<str>> = Vec::new();
        kept.keep_relationships(of(node), Arc::clone(&wanted));
        for row in rows {
            let unread = |error: neo4rs::DeError| failed(error.into());
            let id: String = row.get("id").map_err(unread)?;
            let id: Arc<str> = Arc::from(id);
            // None where there are too many to be fetched.
            let out: Option<Vec<(String, String)>> = row.get("out").map_err(unread)?;
            let into: Option<Vec<(String, String)>> = row.get("into").map_err(unread)?;
            let (Some(out), Some(into)) = (out, into) else {
                return Err(Error::Limit {
                    what: "the relationships of one node",
                    limit: RELATIONSHIPS_MAX.to_string(),
                });
            };
            let found: Arc<[Relationship]> = in_order(&id, kinds, out, into).into();
            if id == *node {
                wanted = Arc::clone(&found);
            }
            if found.len() <= FEW {
                others.extend(found.iter().map(|edge| other_end(edge, &id)));
            }
            kept.keep_relationships(of(&id), found);
        }
        // Whoever goes on from one goes on from all.
        kept.give(others);
        Ok(wanted)
    }

    /// The names of a label, by their length first.
    fn names(&self, label: Label) -> Result<Arc<[Arc<str>]>, Error> {
        if let Some(names) = self.kept.borrow().names.get(&label) {
            return Ok(Arc::clone(names));
        }
        let (own, kind) = (&self.label, label.as_str());
        let text = format!("MATCH (n:`{own}`:{kind}) RETURN n.id AS id LIMIT $most");
        let most = i64::try_from(RELATIONSHIPS_MAX + 1).unwrap_or(i64::MAX);
        let rows = self.rows(query(&text).param("most", most))?;
        if rows.len() > RELATIONSHIPS_MAX {
            return Err(Error::Limit {
                what: "the nodes of one label",
                limit: RELATIONSHIPS_MAX.to_string(),
            });
        }
        let mut names = Vec::new();
        for row in rows {
            let id: String = row.get("id").map_err(|error| failed(error.into()))?;
            names.push(Arc::from(id));
        }
        names.sort_unstable_by(by_length);
        let names: Arc<[Arc<str>]> = names.into();
        let mut kept = self.kept.borrow_mut();
        kept.names.insert(label, Arc::clone(&names));
        Ok(names)
    }

    /// The next nodes of a label that are named by UUIDs.
    fn numbered(
        &self,
        label: Label,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, Error> {
        let (own, kind) = (&self.label, label.as_str());
        let text = format!(
            "MATCH (n:{kind}) USING INDEX n:{kind}(id) WHERE n.id > $after AND n:`{own}` \
             RETURN n.id AS id ORDER BY n.id LIMIT $limit"
        );
        let asked = query(&text)
            .param("after", after.unwrap_or_default())
            .param("limit", i64::try_from(limit).unwrap_or(i64::MAX));
        let mut found = Vec::new();
        for row in self.rows(asked)? {
            let id: String = row.get("id").map_err(|error| failed(error.into()))?;
            found.push(Arc::from(id));
        }
        Ok(found)
    }
}

fn other_end(edge: &Relationship, node: &str) -> Arc<str> {
    let other = if *edge.from == *node {
        &edge.to
    } else {
        &edge.from
    };
    Arc::clone(other)
}

fn by_length(one: &Arc<str>, other: &Arc<str>) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Relationships in the order in which every graph gives them: those that start at the node first,
/// by type, and then as keys of rows stand.
fn in_order(
    id: &Arc<str>,
    types: &[EdgeType],
    out: Vec<(String, String)>,
    into: Vec<(String, String)>,
) -> Vec<Relationship> {
    let kinds: Vec<Arc<str>> = types.iter().map(|kind| Arc::from(kind.as_str())).collect();
    let sorted = |side: Vec<(String, String)>| {
        let known = |(kind, other): (String, String)| {
            // Whatever else others keep there is none of the graph.
            let place = kinds.iter().position(|known| **known == *kind)?;
            let label = other.parse().ok().map(|id: NodeId| id.label())?;
            Some((place, label, Arc::<str>::from(other)))
        };
        let mut side: Vec<_> = side.into_iter().filter_map(known).collect();
        // As rows of our own stand: by type, by label, and names by their length first.
        side.sort_unstable_by(|(kind, label, one), (kinds, labels, other)| {
            let before = (kind, label).cmp(&(kinds, labels));
            before.then_with(|| by_length(one, other))
        });
        side.into_iter()
    };
    let out = sorted(out).map(|(kind, _, other)| Relationship {
        kind: Arc::clone(&kinds[kind]),
        from: Arc::clone(id),
        to: other,
    });
    let into = sorted(into).map(|(kind, _, other)| Relationship {
        kind: Arc::clone(&kinds[kind]),
        from: other,
        to: Arc::clone(id),
    });
    let out: Vec<Relationship> = out.collect();
    let is_both = !out.is_empty();
    // One that leads back to the node was met on the way out.
    let into = into.filter(|edge| !is_both || edge.from != edge.to);
    let into: Vec<Relationship> = into.collect();
    [out, into].concat()
}

fn texts<'t>(ids: impl IntoIterator<Item = &'t Arc<str>>) -> neo4rs::BoltType {
    list(ids.into_iter().map(|id| (&**id).into()))
}

impl Graph for Look {
    fn nodes(
        &self,
        label: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, Error> {
        // By label, as rows of our own stand.
        let labels = match label.map(str::parse::<Label>) {
            None => Label::ALL.to_vec(),
            Some(Ok(label)) => vec![label],
            // No node has a label that is none of the graph's.
            Some(Err(_)) => return Ok(Vec::new()),
        };
        let behind = after.and_then(|id| id.parse().ok());
        let behind = behind.map(|id: NodeId| id.label());
        let mut found: Vec<Arc<str>> = Vec::new();
        for label in labels {
            if behind.is_some_and(|behind| label < behind) || found.len() == limit {
                continue;
            }
            let after = after.filter(|_| behind == Some(label));
            let left = limit - found.len();
            match label {
                Label::Annotation | Label::Resource => {
                    found.extend(self.numbered(label, after, left)?);
                }
                Label::Collection | Label::EntityType | Label::Person => {
                    let names = self.names(label)?;
                    let after = after.map(Arc::from);
                    let start = after.map_or(0, |after| {
                        names.partition_point(|name| by_length(name, &after).is_le())
                    });
                    found.extend(names[start..].iter().take(left).cloned());
                }
            }
        }
        self.kept.borrow_mut().give(found.clone());
        Ok(found)
    }

    fn find(
        &self,
        label: Option<&str>,
        key: &str,
        value: &Value,
    ) -> Result<Option<Vec<Arc<str>>>, Error> {
        found(label, key, value, |id| {
            Ok(self.properties(&id.to_string())?.is_some())
        })
    }

    fn labels(&self, id: &str) -> Vec<Arc<str>> {
        labels(id)
    }

    fn properties(&self, id: &str) -> Result<Option<BTreeMap<Arc<str>, Value>>, Error> {
        if let Some(found) = self.kept.borrow().nodes.get(id) {
            return Ok(found.clone());
        }
        self.fetch_nodes(id)
    }

    fn relationships(
        &self,
        node: &str,
        direction: Direction,
        kinds: &[Arc<str>],
        after: Option<&Relationship>,
        limit: usize,
    ) -> Result<Vec<Relationship>, Error> {
        let types = if kinds.is_empty() {
            EdgeType::ALL.to_vec()
        } else {
            types(kinds)
        };
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let around = (Arc::from(node), direction, types);
        let known = self.kept.borrow().relationships.get(&around).cloned();
        let found = match known {
            Some(known) => known,
            None => self.fetch_relationships(&around)?,
        };
        let mut kept = self.kept.borrow_mut();
        let start = after.map_or(0, |after| {
            let page = kept.page.as_ref().filter(|(of, _)| *of == around);
            let page = page.map(|(_, end)| *end);
            page.filter(|end| found.get(end.wrapping_sub(1)) == Some(after))
                .or_else(|| Some(1 + found.iter().position(|edge| edge == after)?))
                .unwrap_or(found.len())
        });
        let end = found.len().min(start.saturating_add(limit));
        let page = &found[start..end];
        if found.len() > FEW {
            let others = page.iter().map(|edge| other_end(edge, node));
            kept.give(others.collect());
        }
        kept.page = Some((around, end));
        Ok(page.to_vec())
    }
}
