//! Growth (measures P3b, P3c, P6, P7, P9): a log that grows, and at each size a copy of it.
//!
//! One event of ten makes a resource with a little content, the others annotate it. What is on the
//! disk and how it starts is measured as it grows; what requests take, on the copies in turns.

mod turns;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context;

use super::load::Connection;
use super::rebuild::{BATCH, operations};
use super::server::{Binaries, Server, build, directory};
use super::table::{Table, count, place};
use crate::run::{command, run as run_command};

/// How to measure growth.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events of the log at which all is measured, smallest first.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000, 10_000_000])]
    events: Vec<usize>,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

/// Most events that are read from the beginning.
const REPLAYED_MAX: usize = 1_000_000;

/// What was measured at one size, by name.
type Figures = Vec<(&'static str, f64)>;

struct Growth<'a> {
    binaries: &'a Binaries,
    data: PathBuf,
    engine: &'a str,
}

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binaries = build()?;
    let dir = directory()?;
    let growth = Growth {
        binaries: &binaries,
        data: dir.path().join("data"),
        engine: &args.engine,
    };
    let (mut from, mut all, mut copies) = (0, Vec::new(), Vec::new());
    for events in &args.events {
        let filled = growth.fill(from, *events)?;
        let mut figures = vec![("filling, events/s", filled)];
        figures.extend(growth.measure(*events)?);
        all.push(figures);
        copies.push(dir.path().join(format!("of-{events}")));
        // A log that is measured is written to, and the next size is to have no more than was filled.
        run_command(command(
            "cp",
            &["-a", &text(&growth.data), &text(&copies[copies.len() - 1])],
        ))?;
        from = *events;
    }
    std::fs::remove_dir_all(&growth.data)?;
    let sizes = args.events.iter().copied().zip(copies);
    for (figures, turns) in all.iter_mut().zip(turns::measure(&growth, sizes)?) {
        figures.extend(turns);
    }
    let sizes = args.events.iter().map(|events| count(*events as f64));
    let mut columns = vec!["what".to_owned()];
    columns.extend(sizes.map(|size| format!("{size} events")));
    columns.push("last by first".to_owned());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new("growth", &columns);
    for (index, (name, first)) in all[0].iter().enumerate() {
        let figures = all.iter().map(|figures| figures[index].1);
        let last = figures.clone().next_back().unwrap_or(*first);
        let mut cells = vec![(*name).to_owned()];
        cells.extend(figures.map(shown));
        cells.push(format!("{:.2}", last / first));
        let cells: Vec<&dyn std::fmt::Display> = cells.iter().map(|cell| cell as _).collect();
        table.row(&cells);
    }
    if keep {
        place("machine", &super::machine::described())?;
    }
    table.keep(keep)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn shown(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.2}")
    } else {
        count(figure)
    }
}

impl Growth<'_> {
    fn start(&self, data: &Path) -> anyhow::Result<(Server, f64)> {
        let started = Instant::now();
        let server = Server::start(&self.binaries.stemma, data, self.engine)?;
        Ok((server, started.elapsed().as_secs_f64() * 1000.0))
    }

    /// Grows the log; gives events a second.
    fn fill(&self, from: usize, to: usize) -> anyhow::Result<f64> {
        let (server, _) = self.start(&self.data)?;
        let mut connection = Connection::open(&server.host)?;
        let started = Instant::now();
        for batch in from / BATCH..to / BATCH {
            connection.send("POST", "/api/batch", &operations(batch))?;
        }
        let rate = (to - from) as f64 / started.elapsed().as_secs_f64();
        server.stop()?;
        Ok(rate)
    }

    /// What is on the disk, how long a start takes, and how fast all of it is read.
    fn measure(&self, events: usize) -> anyhow::Result<Figures> {
        let tenant = self.data.join("tenants/default");
        let log = bytes_of(&tenant.join("log"))?;
        let views = bytes_of(&tenant.join("views"))?;
        let (server, clean) = self.start(&self.data)?;
        let held = events_held(&server)? as f64;
        let mut figures = vec![
            ("P6: log with indexes and tree, bytes an event", log / held),
            ("views, bytes an event", views / held),
        ];
        figures.push(("P3c: start after a clean stop, ms", clean));
        let resident = server.resident_kib() as f64 / 1024.0;
        figures.push(("resident after the start, MiB", resident));
        drop(server);
        let (server, killed) = self.start(&self.data)?;
        figures.push(("P3c: start after kill -9, ms", killed));
        let replayed = events.min(REPLAYED_MAX);
        for (name, path) in [
            (
                "P3b: a stream from the beginning, events/s",
                "/api/events/stream?after=start",
            ),
            (
                "P3b: pages of 500, events/s",
                "/api/events?limit=500{CURSOR}",
            ),
        ] {
            figures.push((name, self.replay(&server, path, replayed)?));
        }
        server.stop()?;
        Ok(figures)
    }

    fn replay(&self, server: &Server, path: &str, events: usize) -> anyhow::Result<f64> {
        let told = self.bench(
            server,
            &["replay", "--path", path, "--events", &events.to_string()],
        )?;
        told["per_second"].as_f64().context("a figure")
    }

    fn bench(&self, server: &Server, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let output = Command::new(&self.binaries.bench)
            .args(arguments)
            .args(["--host", &server.host])
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{told}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// How many events the log has.
fn events_held(server: &Server) -> anyhow::Result<u64> {
    let mut connection = Connection::open(&server.host)?;
    let checkpoint = connection.get("/api/log/checkpoint")?;
    let size = checkpoint.lines().nth(1).context("the number of events")?;
    Ok(size.parse()?)
}

/// Bytes of all files below a directory, as they are counted by their lengths, without the room at
/// the end of a segment that is prepared and not used yet.
fn bytes_of(dir: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let (entry, path) = entry.map(|entry| (entry.metadata(), entry.path()))?;
        bytes += match path.extension() {
            _ if entry.as_ref().is_ok_and(std::fs::Metadata::is_dir) => bytes_of(&path)?,
            Some(kind) if kind == "segment" => used(&path)?,
            _ => entry?.len() as f64,
        };
    }
    Ok(bytes)
}

/// Bytes of a file up to the zeros at its end.
fn used(path: &Path) -> anyhow::Result<f64> {
    const STEP: u64 = 1 << 20;
    let file = std::fs::File::open(path)?;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        let mut part = vec![0; usize::try_from(end - begin)?];
        file.read_exact_at(&mut part, begin)?;
        if let Some(at) = part.iter().rposition(|byte| *byte != 0) {
            return Ok((begin + at as u64 + 1) as f64);
        }
        end = begin;
    }
    Ok(0.0)
}
