//! Appends over HTTP (measures P1, P1b, P1c, P1d, P2), each beside the floor and a probe of the disk,
//! in turns in one run; Redis, PostgreSQL and UmaDB beside them where they are to be had.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::server::resource;
use super::table::{Table, count, share};
use super::{postgres, probe, redis, server, umadb};

/// How to measure appends.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each load, behind one that is not measured.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

/// One load.
struct Run {
    name: &'static str,
    what: &'static str,
    writers: usize,
    events: usize,
    path: &'static str,
    body: String,
}

/// What a load came to.
#[derive(serde::Deserialize)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Resources that the loads write to.
const RESOURCES: usize = 256;
/// Events of one request of P1c.
const BATCH: usize = 100;

const COLUMNS: [&str; 8] = [
    "measure",
    "what",
    "who",
    "events/s",
    "p50 µs",
    "p99 µs",
    "flushes/s",
    "× floor",
];

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binaries = server::build()?;
    let dir = server::directory()?;
    let floor = server::Server::floor(&binaries, dir.path())?;
    let stack = server::Server::stack(&binaries)?;
    let data = dir.path().join("data");
    let server = server::Server::start(&binaries.stemma, &data, &args.engine)?;
    server.fill_for_bench(RESOURCES)?;
    let redis = peer("Redis", redis::Redis::start(dir.path()));
    let postgres = peer("PostgreSQL", postgres::Postgres::start(dir.path()));
    let umadb = peer("UmaDB", umadb::Umadb::start(dir.path()));
    let mut table = Table::new("append", &COLUMNS);
    for one in runs() {
        let probed = probe::sync(dir.path(), std::time::Duration::from_secs(1))?;
        let probe_name = "4 KiB and a sync, one after the other";
        let figures = Figures {
            per_second: probed.per_second,
            p50_us: probed.p50_us,
            p99_us: probed.p99_us,
        };
        row(&mut table, &one, probe_name, &figures, None, None);
        let mut floor_rate = None;
        // The same bytes, of which only Stemma knows what they say.
        for (who, host, path) in [
            ("floor", &floor.host, "/"),
            ("actix-web, nothing kept", &stack.host, "/"),
            ("Stemma", &server.host, one.path),
        ] {
            let before = flushes();
            let figures = generate(&binaries.bench, host, path, &one, args.seconds)?;
            // The load warms up for a second.
            let flushed = (flushes() - before) as f64 / (args.seconds as f64 + 1.0);
            row(&mut table, &one, who, &figures, Some(flushed), floor_rate);
            floor_rate.get_or_insert(figures.per_second);
        }
        // Redis has no batch under one sync but a transaction, which its own load does not make.
        if let Some(redis) = redis.as_ref().filter(|_| one.events == 1) {
            let figures = redis.append(one.writers, args.seconds)?;
            row(
                &mut table,
                &one,
                "Redis, fsync always",
                &figures,
                None,
                floor_rate,
            );
        }
        if let Some(postgres) = &postgres {
            let figures = postgres.append(one.writers, one.events, args.seconds)?;
            row(
                &mut table,
                &one,
                "PostgreSQL (mean)",
                &figures,
                None,
                floor_rate,
            );
        }
        if let Some(umadb) = &umadb {
            let figures = umadb.append(one.writers, one.events, args.seconds)?;
            row(&mut table, &one, "UmaDB", &figures, None, floor_rate);
        }
    }
    eprintln!("peak resident memory: {} MiB", server.peak_kib() / 1024);
    floor.stop()?;
    stack.stop()?;
    server.stop()?;
    table.keep(keep)
}

/// A peer, or a word that it is missing.
pub(crate) fn peer<T>(name: &str, started: anyhow::Result<T>) -> Option<T> {
    started
        .map_err(|missing| eprintln!("without {name}: {missing:#}"))
        .ok()
}

fn runs() -> Vec<Run> {
    let annotation = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"VALUE"},"target":"http://example.org/page"}"#
        .replace("VALUE", &"{U}".repeat(24));
    let operation = format!(
        r#"{{"op":"add_annotation","resource_id":"{}","annotation":{annotation}}}"#,
        resource(0)
    );
    let batch = format!(r#"{{"operations":[{}]}}"#, vec![operation; BATCH].join(","));
    let create = format!(
        r#"{{"name":"n","media_type":"text/plain","content":"{}"}}"#,
        "{U}".repeat(30)
    );
    let spread = "/api/resources/019a0000-0000-7000-8000-{W}/annotations";
    let one = "/api/resources/019a0000-0000-7000-8000-000000000000/annotations";
    let run = |name, what, writers, events, path, body: &String| Run {
        name,
        what,
        writers,
        events,
        path,
        body: body.clone(),
    };
    vec![
        run("P2", "annotate, 1 client", 1, 1, spread, &annotation),
        run("P1", "annotate, 32 clients", 32, 1, spread, &annotation),
        run(
            "P1",
            "the same, all on one resource",
            32,
            1,
            one,
            &annotation,
        ),
        run("P1b", "annotate, 256 clients", 256, 1, spread, &annotation),
        run(
            "P1c",
            "100 annotations a request, 1 client",
            1,
            BATCH,
            "/api/batch",
            &batch,
        ),
        run(
            "P1d",
            "create with 480 B, 32 clients",
            32,
            1,
            "/api/resources",
            &create,
        ),
    ]
}

fn generate(
    bench: &Path,
    host: &str,
    path: &str,
    run: &Run,
    seconds: u64,
) -> anyhow::Result<Figures> {
    let output = Command::new(bench)
        .args(["load", "--host", host, "--path", path, "--body", &run.body])
        .args(["--writers", &run.writers.to_string()])
        .args(["--events", &run.events.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {told}", run.what);
    serde_json::from_slice(&output.stdout).context("figures")
}

fn row(
    table: &mut Table,
    run: &Run,
    who: &str,
    figures: &Figures,
    flushes: Option<f64>,
    floor: Option<f64>,
) {
    let p99 = Some(figures.p99_us).filter(|p99| *p99 > 0);
    table.row(&[
        &run.name,
        &run.what,
        &who,
        &count(figures.per_second),
        &figures.p50_us,
        &p99.map_or(String::new(), |p99| p99.to_string()),
        &flushes.map_or(String::new(), count),
        &floor.map_or(String::new(), |floor| share(figures.per_second, floor)),
    ]);
}

/// How often the disks of this machine were asked to flush since they are up.
fn flushes() -> u64 {
    let disks = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    let count = |disk: std::fs::DirEntry| -> Option<u64> {
        let stat = std::fs::read_to_string(disk.path().join("stat")).ok()?;
        // The sixteenth field: flush requests completed.
        stat.split_whitespace().nth(15)?.parse().ok()
    };
    disks.filter_map(count).sum()
}
