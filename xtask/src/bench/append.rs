//! Appends over HTTP (measures P1, P1b, P1c, P1d, P2), each beside the floor and a probe of the disk,
//! in turns in one run; Redis beside them where it is installed.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{load, probe, redis, server};

/// How to measure appends.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each load, behind one that is not measured.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Engine of the views.
    #[arg(long, default_value = "fjall")]
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

/// Measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binaries = server::build()?;
    let dir = tempfile::tempdir_in(crate::run::root().join("target"))?;
    let mut floor = Command::new(&binaries.bench);
    floor
        .arg("floor")
        .arg("--dir")
        .arg(dir.path().join("floor"));
    let floor = server::Server::of(floor)?;
    let data = dir.path().join("data");
    let server = server::Server::start(&binaries.stemma, &data, &args.engine)?;
    let mut connection = load::Connection::open(&server.host)?;
    for index in 0..RESOURCES {
        let body = format!(
            r#"{{"id":"{}","name":"bench","media_type":"text/plain","content":"Jupiter has four large moons."}}"#,
            resource(index)
        );
        connection.send("POST", "/api/resources", &body)?;
    }
    let redis = redis::Redis::start(dir.path());
    if let Err(missing) = &redis {
        eprintln!("without Redis: {missing}");
    }
    println!("| measure | what | who | events/s | p50 µs | p99 µs | flushes/s | × floor |");
    println!("|---|---|---|---|---|---|---|---|");
    for one in runs() {
        let probed = probe::sync(dir.path(), std::time::Duration::from_secs(1))?;
        println!(
            "| {} | {} | sync of 4 KiB, one after the other | {:.0} | {} | {} | | |",
            one.name, one.what, probed.per_second, probed.p50_us, probed.p99_us
        );
        let measured = |host: &str, path: &str, body: &str, who: &str, floor: Option<f64>| {
            let flushes = flushes();
            let figures = generate(&binaries.bench, host, path, body, &one, args.seconds)?;
            let seconds = args.seconds as f64 + 1.0;
            let flushed = flushes_since(flushes) as f64 / seconds;
            row(&one, who, &figures, flushed, floor);
            anyhow::Ok(figures)
        };
        // The same bytes, of which the floor knows nothing.
        let least = measured(&floor.host, "/", &one.body, "floor", None)?;
        measured(
            &server.host,
            one.path,
            &one.body,
            "Stemma",
            Some(least.per_second),
        )?;
        if let Ok(redis) = &redis
            && one.events == 1
        {
            let figures = redis.append(one.writers, args.seconds)?;
            row(
                &one,
                "Redis, fsync always",
                &figures,
                0.0,
                Some(least.per_second),
            );
        }
    }
    eprintln!("peak resident memory: {} MiB", server.peak_kib() / 1024);
    floor.stop()?;
    server.stop()
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

fn resource(index: usize) -> String {
    format!("019a0000-0000-7000-8000-{index:012}")
}

fn generate(
    bench: &Path,
    host: &str,
    path: &str,
    body: &str,
    run: &Run,
    seconds: u64,
) -> anyhow::Result<Figures> {
    let output = Command::new(bench)
        .args(["load", "--host", host, "--path", path, "--body", body])
        .args(["--writers", &run.writers.to_string()])
        .args(["--events", &run.events.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {told}", run.what);
    serde_json::from_slice(&output.stdout).context("figures")
}

fn row(run: &Run, who: &str, figures: &Figures, flushes: f64, floor: Option<f64>) {
    let share = floor.map_or(String::new(), |floor| {
        format!("{:.2}", figures.per_second / floor)
    });
    println!(
        "| {} | {} | {who} | {:.0} | {} | {} | {flushes:.0} | {share} |",
        run.name, run.what, figures.per_second, figures.p50_us, figures.p99_us
    );
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

fn flushes_since(before: u64) -> u64 {
    flushes().saturating_sub(before)
}
