//! The graph with a million relations: feeding, rebuilding, the common questions, Cypher, and the
//! same lists from the views.

use std::process::Command;
use std::time::Instant;

use anyhow::Context;
use serde_json::Value;

use super::load::Connection;
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
    #[arg(long, default_value = "fjall")]
    engine: String,
}

/// Events of one request, and of one resource with the annotations in it.
const BATCH: usize = 500;
const GROUP: usize = 5;
/// Relations of such a group: two of the resource, three of each annotation.
const GROUP_RELATIONS: usize = 2 + 3 * (GROUP - 1);
/// Questions of which the median is taken.
const SAMPLES: usize = 1000;

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
            .env("STEMMA_VIEWS__ENGINE", &args.engine);
        Server::of(serve)
    };
    let mut table = Table::new("graph", &["what", "figure"]);
    let server = start("embedded")?;
    let mut connection = Connection::open(&server.host)?;
    let started = Instant::now();
    for batch in 0..groups * GROUP / BATCH {
        connection.send("POST", "/api/batch", &operations(batch, groups))?;
    }
    let written = started.elapsed().as_secs_f64();
    let events = (groups * GROUP) as f64;
    table.row(&[&"events written, a second", &count(events / written)]);
    // Whatever the graph lacks by now it takes up while this waits.
    let position = groups * GROUP - 1;
    let caught_up = Instant::now();
    let path = format!("/api/graph/stats?min_position={position}&timeout_ms=60000");
    let stats = connection.get(&path).context("the graph follows")?;
    let stats: Value = serde_json::from_str(&stats)?;
    let late = caught_up.elapsed().as_millis();
    table.row(&[&"the graph had them so many ms after the last", &late]);
    let relations: u64 = stats["edges"]
        .as_object()
        .into_iter()
        .flat_map(|edges| edges.values().filter_map(Value::as_u64))
        .sum();
    table.row(&[&"relations", &count(relations as f64)]);
    questions(&mut connection, groups, &mut table)?;
    table.row(&[&"resident, MiB", &(server.resident_kib() / 1024)]);
    server.stop()?;
    let server = start("none")?;
    let mut connection = Connection::open(&server.host)?;
    median(
        &mut table,
        "page of 50 of an entity type, from the views, p50 µs",
        |_| connection.get("/api/resources?entityType=T0&limit=50"),
    )?;
    server.stop()?;
    let mut rebuild = command(&binaries.stemma.to_string_lossy(), &["rebuild", "graph"]);
    rebuild
        .arg("--data")
        .arg(&data)
        .env("STEMMA_VIEWS__ENGINE", &args.engine);
    let started = Instant::now();
    run_command(rebuild)?;
    let took = started.elapsed().as_secs_f64();
    table.row(&[&"rebuilt and compared, events/s", &count(events / took)]);
    table.row(&[&"the same, relations/s", &count(relations as f64 / took)]);
    if keep {
        place("machine", &super::machine::described())?;
    }
    table.keep(keep)
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

fn questions(connection: &mut Connection, groups: usize, table: &mut Table) -> anyhow::Result<()> {
    let node = |index: usize| id(index * 7_919_003 % groups);
    median(table, "neighbors of a resource, p50 µs", |index| {
        connection.get(&format!("/api/graph/nodes/{}/neighbors", node(index)))
    })?;
    median(table, "the same, three hops, 100 nodes, p50 µs", |index| {
        connection.get(&format!(
            "/api/graph/nodes/{}/neighbors?depth=3",
            node(index)
        ))
    })?;
    median(table, "neighbors of who made everything, p50 µs", |_| {
        connection.get("/api/graph/nodes/person:anonymous/neighbors")
    })?;
    median(table, "path between two resources, p50 µs", |index| {
        let (from, to) = (node(index), node(index + 1));
        connection.get(&format!("/api/graph/path?from={from}&to={to}"))
    })?;
    median(
        table,
        "page of 50 of an entity type, from the graph, p50 µs",
        |_| connection.get("/api/resources?entityType=T0&limit=50"),
    )?;
    let mut cypher = |table: &mut Table, what: &str, query: &dyn Fn(usize) -> String| {
        median(table, what, |index| {
            let query = serde_json::json!({ "query": query(index) }).to_string();
            connection.send("POST", "/api/graph/query", &query)
        })
    };
    cypher(table, "Cypher: one node by its id, p50 µs", &|index| {
        format!("MATCH (r {{id: '{}'}}) RETURN r.name", node(index))
    })?;
    cypher(table, "Cypher: what a resource names, p50 µs", &|index| {
        let id = node(index);
        format!(
            "MATCH ({{id: '{id}'}})<-[:ANNOTATES]-()-[:REFERS_TO]->(r) RETURN r.name ORDER BY r.name"
        )
    })?;
    let started = Instant::now();
    let count_all = r#"{"query":"MATCH (r:Resource) RETURN count(r)"}"#;
    connection.send("POST", "/api/graph/query", count_all)?;
    table.row(&[
        &"Cypher: all resources counted, ms",
        &started.elapsed().as_millis(),
    ]);
    Ok(())
}

fn median(
    table: &mut Table,
    what: &str,
    mut ask: impl FnMut(usize) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut times = Vec::with_capacity(SAMPLES);
    for index in 0..SAMPLES {
        let asked = Instant::now();
        ask(index)?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    table.row(&[&what, &times[SAMPLES / 2].as_micros()]);
    Ok(())
}
