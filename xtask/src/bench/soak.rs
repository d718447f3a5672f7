//! A mixed load for an hour, with thousands of listeners that come and go, shown as plots.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::plot::{Line, draw};
use super::table::{Table, count};
use super::{machine, server, table};
use crate::run::root;

/// How long, and how much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Clients that listen.
    #[arg(long, default_value_t = 2000)]
    listeners: usize,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

const RESOURCES: usize = 256;

/// What is taken of a line.
type Figure = fn(&Sample) -> f64;

/// One line of figures.
#[derive(serde::Deserialize)]
struct Sample {
    second: u64,
    writes: f64,
    write_p50_us: f64,
    write_p99_us: f64,
    reads: f64,
    read_p50_us: f64,
    read_p99_us: f64,
    deliveries: f64,
    arrivals: f64,
    listening: f64,
    resident_kib: f64,
    open_files: f64,
}

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binaries = server::build()?;
    let dir = server::directory()?;
    let data = dir.path().join("data");
    let server = server::Server::start(&binaries.stemma, &data, &args.engine)?;
    server.fill_for_bench(RESOURCES)?;
    let mut load = Command::new(&binaries.bench)
        .args(["soak", "--host", &server.host])
        .args(["--process", &server.id().to_string()])
        .args(["--resources", &RESOURCES.to_string()])
        .args(["--listeners", &args.listeners.to_string()])
        .args(["--seconds", &args.seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(load.stdout.take().context("its stdout")?).lines();
    let mut samples = Vec::new();
    for line in lines {
        let line = line?;
        println!("{line}");
        samples.push(serde_json::from_str(&line)?);
    }
    let ended = load.wait()?;
    anyhow::ensure!(ended.success(), "the load ended with {ended}");
    server.stop()?;
    if keep {
        table::place("machine", &machine::described())?;
        plots(&samples)?;
    }
    summary(&samples).keep(keep)
}

/// The first quarter beside the last.
fn summary(samples: &[Sample]) -> Table {
    let quarter = (samples.len() / 4).max(1);
    let first = &samples[..quarter];
    let last = &samples[samples.len() - quarter..];
    let mut table = Table::new("soak", &["what", "first quarter", "last quarter"]);
    let rows: [(&str, Figure); 11] = [
        ("writes a line", |s| s.writes),
        ("write p50, µs", |s| s.write_p50_us),
        ("write p99, µs", |s| s.write_p99_us),
        ("reads a line", |s| s.reads),
        ("read p50, µs", |s| s.read_p50_us),
        ("read p99, µs", |s| s.read_p99_us),
        ("deliveries a line", |s| s.deliveries),
        ("listeners that came, a line", |s| s.arrivals),
        ("listeners", |s| s.listening),
        ("resident, MiB", |s| s.resident_kib / 1024.0),
        ("open files", |s| s.open_files),
    ];
    for (name, figure) in rows {
        let mean = |part: &[Sample]| part.iter().map(figure).sum::<f64>() / part.len() as f64;
        table.row(&[&name, &count(mean(first)), &count(mean(last))]);
    }
    table
}

fn plots(samples: &[Sample]) -> anyhow::Result<()> {
    let dir = root().join("docs/plots");
    std::fs::create_dir_all(&dir)?;
    let line = |name, figure: Figure| Line {
        name,
        points: samples
            .iter()
            .map(|sample| (sample.second as f64 / 60.0, figure(sample)))
            .collect(),
    };
    draw(
        &dir.join("soak-memory.svg"),
        ("Resident memory", "minutes", "MiB"),
        &[line("resident", |s| s.resident_kib / 1024.0)],
    )?;
    draw(
        &dir.join("soak-files.svg"),
        (
            "Open files, and listeners that are connected",
            "minutes",
            "",
        ),
        &[
            line("open files", |s| s.open_files),
            line("listeners", |s| s.listening),
        ],
    )?;
    draw(
        &dir.join("soak-latency.svg"),
        ("Latency", "minutes", "µs"),
        &[
            line("write p50", |s| s.write_p50_us),
            line("write p99", |s| s.write_p99_us),
            line("read p50", |s| s.read_p50_us),
            line("read p99", |s| s.read_p99_us),
        ],
    )
}
