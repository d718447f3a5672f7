//! The graph with a million relations, in rows and in Neo4j: feeding, rebuilding, the common
//! questions, Cypher, and the same lists from the views.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::load::Connection;
use super::neo4j::{Neo4j, PASSWORD};
use super::server::{Server, build, directory};
use super::table::{Table, count, place};
use crate::run::{command, run as run_command};

/// How to measure the graph.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Relations, about.
    #[arg(long, default_value_t = 1_000_000)]
    relations: usize,
    /// Engine of views and graph.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

/// Events of one request, and of one resource with the annotations in it.
const BATCH: usize = 500;
const GROUP: usize = 5;
/// Relations of such a group: two of the resource, three of each annotation.
const GROUP_RELATIONS: usize = 2 + 3 * (GROUP - 1);
/// Questions of which the median is taken.
const SAMPLES: usize = 1000;
/// How long Neo4j may take to be fed.
const FEEDING: Duration = Duration::from_mins(15);
/// How long they are asked at the most: of slow ones there are fewer.
const ASKING: Duration = Duration::from_secs(10);

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binaries = build()?;
    let dir = directory()?;
    let data = dir.path().join("data");
    let groups = args.relations / GROUP_RELATIONS / (BATCH / GROUP) * (BATCH / GROUP);
    let start = |graph: &str| {
        let mut serve = Command::new(&binaries.stemma);
        serve
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--graph",
                graph,
                "--data",
            ])
            .arg(&data)
            .env("STEMMA_GRAPH__PASSWORD", PASSWORD)
            .env("STEMMA_VIEWS__ENGINE", &args.engine);
        Server::of(serve)
    };
    let mut table = Table::new("graph", &["what", "in rows", "in Neo4j"]);
    let server = start("embedded")?;
    let mut connection = Connection::open(&server.host)?;
    let relations = write(&mut connection, groups, &mut table)?;
    let in_rows = questions(&mut connection, groups)?;
    let resident = server.resident_kib() / 1024;
    server.stop()?;
    let server = start("none")?;
    let mut connection = Connection::open(&server.host)?;
    let page = median(|_| connection.get("/api/resources?entityType=T0&limit=50"))?;
    server.stop()?;
    let mut rebuild = command(&binaries.stemma.to_string_lossy(), &["rebuild", "graph"]);
    rebuild
        .arg("--data")
        .arg(&data)
        .env("STEMMA_VIEWS__ENGINE", &args.engine);
    let started = Instant::now();
    run_command(rebuild)?;
    let took = started.elapsed().as_secs_f64();
    let there = in_neo4j(dir.path(), groups, &start)?;
    let fed = there.as_ref().map(|there| relations as f64 / there.fed_s);
    table.row(&[
        &"taken up from nothing (in rows: and compared), relations/s",
        &count(relations as f64 / took),
        &fed.map_or_else(missing, count),
    ]);
    for (index, (what, figure)) in in_rows.iter().enumerate() {
        let other = there.as_ref().map(|there| there.questions[index].1);
        let other = other.map_or_else(missing, |figure| figure.to_string());
        table.row(&[what, figure, &other]);
    }
    let what = "page of 50 of an entity type, from the views, p50 µs";
    table.row(&[&what, &page, &"the same"]);
    let memory = there.map(|there| there.resident_mib);
    let memory = memory.map_or_else(missing, |memory| memory.to_string());
    table.row(&[&"resident (Stemma alone), MiB", &resident, &memory]);
    if keep {
        place("machine", &super::machine::described())?;
    }
    table.keep(keep)
}

/// Writes all events, and waits for the graph; gives how many relations there are.
fn write(connection: &mut Connection, groups: usize, table: &mut Table) -> anyhow::Result<u64> {
    let started = Instant::now();
    for batch in 0..groups * GROUP / BATCH {
        connection.send("POST", "/api/batch", &operations(batch, groups))?;
    }
    let written = started.elapsed().as_secs_f64();
    let events = (groups * GROUP) as f64;
    table.row(&[&"events written, a second", &count(events / written), &""]);
    // Whatever the graph lacks by now it takes up while this waits.
    let position = groups * GROUP - 1;
    let caught_up = Instant::now();
    let path = format!("/api/graph/stats?min_position={position}&timeout_ms=60000");
    let stats = connection.get(&path).context("the graph follows")?;
    let stats: Value = serde_json::from_str(&stats)?;
    let late = caught_up.elapsed().as_millis();
    table.row(&[&"the graph had them so many ms after the last", &late, &""]);
    let relations: u64 = stats["edges"]
        .as_object()
        .into_iter()
        .flat_map(|edges| edges.values().filter_map(Value::as_u64))
        .sum();
    table.row(&[&"relations", &count(relations as f64), &"the same"]);
    Ok(relations)
}

fn missing() -> String {
    "Neo4j is not installed".to_owned()
}

/// What was measured of the graph in Neo4j.
struct There {
    fed_s: f64,
    questions: Figures,
    resident_mib: u64,
}

/// Takes the same log up into Neo4j, and asks it the same; none where there is no Neo4j.
fn in_neo4j(
    dir: &std::path::Path,
    groups: usize,
    start: &dyn Fn(&str) -> anyhow::Result<Server>,
) -> anyhow::Result<Option<There>> {
    let Some(neo4j) = Neo4j::start(&dir.join("neo4j"))? else {
        return Ok(None);
    };
    let server = start(&neo4j.uri())?;
    let started = Instant::now();
    let mut connection = Connection::open(&server.host)?;
    let position = groups * GROUP - 1;
    let path = format!("/api/graph/stats?min_position={position}&timeout_ms=60000");
    while let Err(error) = connection.get(&path) {
        if started.elapsed() > FEEDING {
            return Err(error.context("Neo4j takes the log up"));
        }
        connection = Connection::open(&server.host)?;
    }
    let fed_s = started.elapsed().as_secs_f64();
    let questions = questions(&mut connection, groups)?;
    let resident_mib = server.resident_kib() / 1024;
    server.stop()?;
    Ok(Some(There {
        fed_s,
        questions,
        resident_mib,
    }))
}

fn id(group: usize) -> String {
    format!("019c0000-0000-7000-8000-{group:012x}")
}

/// A resource of one of seventy types, and annotations in it that name resources far and near.
fn operations(batch: usize, groups: usize) -> String {
    let mut operations = Vec::with_capacity(BATCH);
    for index in 0..BATCH {
        let number = batch * BATCH + index;
        let (group, within) = (number / GROUP, number % GROUP);
        let own = id(group);
        operations.push(if within == 0 {
            format!(
                r#"{{"op":"create_resource","resource_id":"{own}","name":"r{group}","media_type":"text/plain","content":"c","entity_types":["T{}"]}}"#,
                group % 70
            )
        } else {
            let named = id((group * 31 + within * 7_919) % groups);
            format!(
                r#"{{"op":"add_annotation","resource_id":"{own}","annotation":{{"motivation":"linking","body":"urn:uuid:{named}","target":"urn:uuid:{own}"}}}}"#
            )
        });
    }
    format!(r#"{{"operations":[{}]}}"#, operations.join(","))
}

/// What was asked, and the figure for it.
type Figures = Vec<(&'static str, u128)>;

fn questions(connection: &mut Connection, groups: usize) -> anyhow::Result<Figures> {
    let node = |index: usize| id(index * 7_919_003 % groups);
    let mut figures = Figures::new();
    let mut get = |what, path: &dyn Fn(usize) -> String| -> anyhow::Result<()> {
        figures.push((what, median(|index| connection.get(&path(index)))?));
        Ok(())
    };
    get("neighbors of a resource, p50 µs", &|index| {
        format!("/api/graph/nodes/{}/neighbors", node(index))
    })?;
    get("the same, three hops, 100 nodes, p50 µs", &|index| {
        format!("/api/graph/nodes/{}/neighbors?depth=3", node(index))
    })?;
    get("neighbors of who made everything, p50 µs", &|_| {
        "/api/graph/nodes/person:anonymous/neighbors".to_owned()
    })?;
    get("path between two resources, p50 µs", &|index| {
        let (from, to) = (node(index), node(index + 1));
        format!("/api/graph/path?from={from}&to={to}")
    })?;
    get(
        "page of 50 of an entity type, from the graph, p50 µs",
        &|_| "/api/resources?entityType=T0&limit=50".to_owned(),
    )?;
    let mut cypher = |what, query: &dyn Fn(usize) -> String| -> anyhow::Result<()> {
        let median = median(|index| {
            let query = serde_json::json!({ "query": query(index) }).to_string();
            connection.send("POST", "/api/graph/query", &query)
        });
        figures.push((what, median?));
        Ok(())
    };
    cypher("Cypher: one node by its id, p50 µs", &|index| {
        format!("MATCH (r {{id: '{}'}}) RETURN r.name", node(index))
    })?;
    cypher("Cypher: what a resource names, p50 µs", &|index| {
        let id = node(index);
        format!(
            "MATCH ({{id: '{id}'}})<-[:ANNOTATES]-()-[:REFERS_TO]->(r) RETURN r.name ORDER BY r.name"
        )
    })?;
    let started = Instant::now();
    let count_all = r#"{"query":"MATCH (r:Resource) RETURN count(r)"}"#;
    connection.send("POST", "/api/graph/query", count_all)?;
    figures.push((
        "Cypher: all resources counted, ms",
        started.elapsed().as_millis(),
    ));
    Ok(figures)
}

fn median(mut ask: impl FnMut(usize) -> anyhow::Result<String>) -> anyhow::Result<u128> {
    let mut times = Vec::with_capacity(SAMPLES);
    let started = Instant::now();
    for index in 0..SAMPLES {
        let asked = Instant::now();
        ask(index)?;
        times.push(asked.elapsed());
        if started.elapsed() > ASKING {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_micros())
}
