//! Generations: each is one whole graph, by a label that all its nodes have, and a node that says
//! how far it is.
//!
//! `docs/format/neo4j.md` describes both. Invariant: the node of a generation changes in one
//! transaction with what it speaks of, and at most one generation of a log is the current one.

use std::time::Duration;

use neo4rs::{Row, query};
use stemma_event_log::{EventDigest, Reader};
use stemma_views::graph::Counts;

use super::client::{Client, Neo4jError};

/// The form of what is written; another one means a rebuild.
pub(super) const FORMAT: i64 = 1;
/// How long a statement about one node may take.
pub(super) const SHORT: Duration = Duration::from_secs(10);
/// How long an index may take to come about, or a step of removing.
const LONG: Duration = Duration::from_mins(1);
/// How Neo4j tells that an index is there.
const ALREADY_THERE: &str = "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists";
/// Relationships, or nodes, that are removed at a time.
const REMOVED_AT_ONCE: i64 = 5000;

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is what is asked.
    Current,
    /// It is being made.
    Building,
    /// Another one took its place.
    Retired,
}

impl Use {
    fn of(text: &str) -> Self {
        match text {
            "current" => Self::Current,
            "building" => Self::Building,
            _ => Self::Retired,
        }
    }
}

/// Which log's generations are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    tenant: String,
    log: String,
}

impl Owner {
    pub(super) fn of(tenant: &str, reader: &Reader) -> Self {
        Self::named(tenant, &reader.log_id().to_string())
    }

    /// By the name of the tenant and the id of its log.
    pub(super) fn named(tenant: &str, log: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            log: log.to_owned(),
        }
    }

    fn label(&self, number: i64) -> String {
        // Twelve digits tell logs of one tenant's name apart.
        let log = self.log.get(..12).unwrap_or(&self.log);
        format!("stemma_{}_{log}_{number}", self.tenant)
    }
}

/// A generation, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Generation {
    /// The label of its nodes.
    pub(super) label: String,
    /// What it is for.
    pub(super) is: Use,
    /// Records applied.
    pub(super) end: u64,
    /// The digest of the last of them.
    pub(super) last: Option<EventDigest>,
    /// How much there is.
    pub(super) counts: Counts,
    number: i64,
    format: i64,
}

impl Generation {
    fn read(row: &Row, owner: &Owner) -> Result<Self, Neo4jError> {
        let wrong = |what: &str| Neo4jError::Unreadable(format!("a generation's {what}"));
        let counted = |numbers: Vec<i64>| -> Vec<u64> {
            let counts = numbers.into_iter();
            counts
                .map(|n| u64::try_from(n).unwrap_or_default())
                .collect()
        };
        let (label, number): (String, i64) = (row.get("label")?, row.get("number")?);
        // It becomes a part of statements.
        if label != owner.label(number) {
            return Err(wrong("label"));
        }
        let end: i64 = row.get("end")?;
        let last: String = row.get("last")?;
        let nodes = counted(row.get("nodes")?);
        let edges = counted(row.get("edges")?);
        Ok(Self {
            label,
            is: Use::of(&row.get::<String>("state")?),
            end: u64::try_from(end).map_err(|_| wrong("end"))?,
            last: Some(last)
                .filter(|last| !last.is_empty())
                .map(|last| last.parse().map_err(|_| wrong("last")))
                .transpose()?,
            counts: Counts {
                nodes: nodes.try_into().map_err(|_| wrong("nodes"))?,
                edges: edges.try_into().map_err(|_| wrong("edges"))?,
            },
            number,
            format: row.get("format")?,
        })
    }

    /// Fails where it was written in another form.
    pub(super) fn must_be_known(&self) -> Result<(), Neo4jError> {
        if self.format == FORMAT {
            return Ok(());
        }
        let (found, known) = (self.format, FORMAT);
        Err(Neo4jError::Unreadable(format!(
            "the graph there has form {found} and this program writes {known}; `stemma rebuild graph` makes it anew"
        )))
    }

    /// The label of relationships whose end is not there yet.
    pub(super) fn waiting(&self) -> String {
        waiting(&self.label)
    }

    /// Puts it to use in the place of whatever was, in one step.
    pub(super) fn replace_all(&self, client: &Client) -> Result<(), Neo4jError> {
        let text = "MATCH (this:StemmaGraph {label: $label}) \
                    MATCH (g:StemmaGraph {tenant: this.tenant, log: this.log}) \
                    WHERE g.state <> 'building' OR g = this \
                    SET g.state = CASE WHEN g = this THEN 'current' ELSE 'retired' END";
        client.run(query(text).param("label", self.label.as_str()), SHORT)
    }

    /// Removes some of what is in it, or in the end the generation itself; says whether that is done.
    /// Broken off, the next try goes on.
    pub(super) fn remove_some(&self, client: &Client) -> Result<bool, Neo4jError> {
        let (label, waiting) = (&self.label, self.waiting());
        for text in [
            format!("MATCH (:`{label}`)-[e]->() WITH e LIMIT $most DELETE e RETURN count(*) AS n"),
            format!("MATCH (n:`{label}`) WITH n LIMIT $most DETACH DELETE n RETURN count(*) AS n"),
            format!("MATCH (n:`{waiting}`) WITH n LIMIT $most DELETE n RETURN count(*) AS n"),
        ] {
            let some = query(&text).param("most", REMOVED_AT_ONCE);
            if client.number(some, LONG)? > 0 {
                return Ok(false);
            }
        }
        for text in [
            format!("DROP CONSTRAINT `{label}_id` IF EXISTS"),
            format!("DROP INDEX `{label}_created_at` IF EXISTS"),
            format!("DROP INDEX `{waiting}_from` IF EXISTS"),
            format!("DROP INDEX `{waiting}_to` IF EXISTS"),
        ] {
            client.run(query(&text), LONG)?;
        }
        let gone = query("MATCH (g:StemmaGraph {label: $label}) DELETE g");
        client.run(gone.param("label", label.as_str()), SHORT)?;
        Ok(true)
    }
}

fn waiting(label: &str) -> String {
    format!("{label}_waiting")
}

/// All generations of a log, the oldest first.
pub(super) fn all(
    owner: &Owner,
    client: &Client,
    within: Duration,
) -> Result<Vec<Generation>, Neo4jError> {
    let text = "MATCH (g:StemmaGraph {tenant: $tenant, log: $log}) \
                RETURN g.label AS label, g.state AS state, g.end AS end, g.last AS last, \
                       g.nodes AS nodes, g.edges AS edges, g.number AS number, g.format AS format \
                ORDER BY g.number";
    let asked = query(text)
        .param("tenant", owner.tenant.as_str())
        .param("log", owner.log.as_str());
    let rows = client.rows(asked, within)?;
    rows.iter()
        .map(|row| Generation::read(row, owner))
        .collect()
}

/// Makes an empty generation, with what finds its nodes.
pub(super) fn make(owner: &Owner, is: Use, client: &Client) -> Result<Generation, Neo4jError> {
    for text in [
        "CREATE CONSTRAINT stemma_graph IF NOT EXISTS FOR (g:StemmaGraph) REQUIRE g.label IS UNIQUE",
        // For whoever asks Neo4j itself.
        "CREATE INDEX stemma_resource_id IF NOT EXISTS FOR (n:Resource) ON (n.id)",
        "CREATE INDEX stemma_resource_name IF NOT EXISTS FOR (n:Resource) ON (n.name)",
        "CREATE INDEX stemma_annotation_id IF NOT EXISTS FOR (n:Annotation) ON (n.id)",
        "CREATE INDEX stemma_entity_type_name IF NOT EXISTS FOR (n:EntityType) ON (n.name)",
        "CREATE INDEX stemma_person_name IF NOT EXISTS FOR (n:Person) ON (n.name)",
        "CREATE INDEX stemma_collection_name IF NOT EXISTS FOR (n:Collection) ON (n.name)",
    ] {
        ensure(text, client)?;
    }
    let last = all(owner, client, SHORT)?.pop();
    // One that was begun as the first and never finished is gone on with.
    let begun = last
        .as_ref()
        .filter(|last| is == Use::Current && last.is == Use::Building && last.end == 0);
    let number = match (begun, &last) {
        (Some(begun), _) => begun.number,
        (None, last) => 1 + last.as_ref().map_or(0, |last| last.number),
    };
    let label = owner.label(number);
    if begun.is_none() {
        name(owner, &label, number, client)?;
    }
    let waiting = waiting(&label);
    for text in [
        format!(
            "CREATE CONSTRAINT `{label}_id` IF NOT EXISTS FOR (n:`{label}`) REQUIRE n.id IS UNIQUE"
        ),
        format!(
            "CREATE INDEX `{label}_created_at` IF NOT EXISTS FOR (n:`{label}`) ON (n.created_at)"
        ),
        format!("CREATE INDEX `{waiting}_from` IF NOT EXISTS FOR (n:`{waiting}`) ON (n.from)"),
        format!("CREATE INDEX `{waiting}_to` IF NOT EXISTS FOR (n:`{waiting}`) ON (n.to)"),
        "CALL db.awaitIndexes(60)".to_owned(),
    ] {
        ensure(&text, client)?;
    }
    let made = Generation {
        label,
        is,
        end: 0,
        last: None,
        counts: Counts::default(),
        number,
        format: FORMAT,
    };
    if is == Use::Current {
        made.replace_all(client)?;
    }
    Ok(made)
}

/// Has an index or a constraint be there. Of two who make it at the same time one is told that it
/// is, though it was asked for only where it is not.
fn ensure(text: &str, client: &Client) -> Result<(), Neo4jError> {
    match client.run(query(text), LONG) {
        Err(Neo4jError::Refused(why)) if why.starts_with(ALREADY_THERE) => Ok(()),
        other => other,
    }
}

/// Writes the node of a generation, before anything else of it: what is begun and left is found by
/// that.
fn name(owner: &Owner, label: &str, number: i64, client: &Client) -> Result<(), Neo4jError> {
    let text = "CREATE (g:StemmaGraph {label: $label, tenant: $tenant, log: $log, number: $number, \
                state: 'building', format: $format, end: 0, last: '', \
                nodes: [0, 0, 0, 0, 0], edges: [0, 0, 0, 0, 0, 0, 0]})";
    let made = query(text)
        .param("label", label)
        .param("tenant", owner.tenant.as_str())
        .param("log", owner.log.as_str())
        .param("number", number)
        .param("format", FORMAT);
    client.run(made, SHORT)
}
