//! Growth (measures P3b, P3c, P6, P7, P9): one server whose log grows, measured at each size.
//!
//! One event of ten makes a resource with a little content, the others annotate it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::load::Connection;
use super::rebuild::{BATCH, operations};
use super::server::{Binaries, Server, build, directory};
use super::table::{Table, count, place};

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

/// Requests of which the median is taken.
const SAMPLES: usize = 2000;
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
    let (mut from, mut all) = (0, Vec::new());
    for events in &args.events {
        let filled = growth.fill(from, *events)?;
        let mut figures = vec![("filling, events/s", filled)];
        figures.extend(growth.measure(*events)?);
        for (name, figure) in &figures {
            eprintln!("{events}: {name}: {figure:.1}");
        }
        all.push(figures);
        from = *events;
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

fn shown(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.2}")
    } else {
        count(figure)
    }
}

impl Growth<'_> {
    fn start(&self) -> anyhow::Result<(Server, f64)> {
        let started = Instant::now();
        let server = Server::start(&self.binaries.stemma, &self.data, self.engine)?;
        Ok((server, started.elapsed().as_secs_f64() * 1000.0))
    }

    /// Grows the log; gives events a second.
    fn fill(&self, from: usize, to: usize) -> anyhow::Result<f64> {
        let (server, _) = self.start()?;
        let mut connection = Connection::open(&server.host)?;
        let started = Instant::now();
        for batch in from / BATCH..to / BATCH {
            connection.send("POST", "/api/batch", &operations(batch))?;
        }
        let rate = (to - from) as f64 / started.elapsed().as_secs_f64();
        server.stop()?;
        Ok(rate)
    }

    fn measure(&self, events: usize) -> anyhow::Result<Figures> {
        let tenant = self.data.join("tenants/default");
        let log = bytes_of(&tenant.join("log"))?;
        let views = bytes_of(&tenant.join("views"))?;
        let (server, clean) = self.start()?;
        // More than were filled in: what was measured at a smaller size appended too.
        let held = events_held(&server)?;
        let mut figures = vec![
            ("P6: log with indexes and tree, bytes an event", log / held),
            ("views, bytes an event", views / held),
        ];
        figures.push(("P3c: start after a clean stop, ms", clean));
        let resident = server.resident_kib() as f64 / 1024.0;
        figures.push(("resident after the start, MiB", resident));
        drop(server);
        let (server, killed) = self.start()?;
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
        Self::reads(&server, events, &mut figures)?;
        figures.push(("append, 1 client, p50 µs", self.append(&server, 1)?.1));
        figures.push(("append, 32 clients, events/s", self.append(&server, 32)?.0));
        let resident = server.resident_kib() as f64 / 1024.0;
        figures.push(("P7: resident after all of it, MiB", resident));
        server.stop()?;
        Ok(figures)
    }

    fn reads(server: &Server, events: usize, figures: &mut Figures) -> anyhow::Result<()> {
        let resources = (events / 10) as u64;
        // Far from each other, and each but once where there are enough.
        let number = |index: usize| (index as u64 * 7_919_003) % resources;
        let one = |index| {
            format!(
                "/api/resources/019b0000-0000-7000-8000-{:012x}",
                number(index)
            )
        };
        let mut connection = Connection::open(&server.host)?;
        let deep = Self::deep_page(&mut connection)?;
        let mut median = |name, path: &dyn Fn(usize) -> String| -> anyhow::Result<()> {
            let mut times = Vec::with_capacity(SAMPLES);
            for index in 0..SAMPLES {
                let path = path(index);
                let asked = Instant::now();
                connection.get(&path)?;
                times.push(asked.elapsed());
            }
            times.sort_unstable();
            figures.push((name, times[SAMPLES / 2].as_secs_f64() * 1e6));
            Ok(())
        };
        median("GET a resource, p50 µs", &one)?;
        median("GET its content, p50 µs", &|index| {
            format!("{}/content", one(index))
        })?;
        median("GET its annotations, p50 µs", &|index| {
            format!("{}/annotations", one(index))
        })?;
        median("first page of resources, p50 µs", &|_| {
            "/api/resources?limit=50".to_owned()
        })?;
        median("a page further in, p50 µs", &|_| deep.clone())?;
        median("page of an entity type, p50 µs", &|_| {
            "/api/resources?entityType=T0&limit=50".to_owned()
        })?;
        let mut starts: Vec<Duration> = (0..50)
            .map(|_| first_event(&server.host, events))
            .collect::<anyhow::Result<_>>()?;
        starts.sort_unstable();
        let start = starts[starts.len() / 2].as_secs_f64() * 1e6;
        figures.push((
            "a stream from 100 before the end, to its first event, p50 µs",
            start,
        ));
        Ok(())
    }

    /// The twentieth page of the list.
    fn deep_page(connection: &mut Connection) -> anyhow::Result<String> {
        let mut path = "/api/resources?limit=50".to_owned();
        for _ in 0..20 {
            let page: serde_json::Value = serde_json::from_str(&connection.get(&path)?)?;
            let cursor = page["next_cursor"].as_str().context("a page behind it")?;
            path = format!("/api/resources?limit=50&cursor={cursor}");
        }
        Ok(path)
    }

    fn replay(&self, server: &Server, path: &str, events: usize) -> anyhow::Result<f64> {
        let told = self.bench(
            server,
            &["replay", "--path", path, "--events", &events.to_string()],
        )?;
        told["per_second"].as_f64().context("a figure")
    }

    /// Appends; gives events a second and the median in microseconds.
    fn append(&self, server: &Server, writers: usize) -> anyhow::Result<(f64, f64)> {
        let body = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"VALUE"},"target":"http://example.org/page"}"#
            .replace("VALUE", &"{U}".repeat(24));
        let path = "/api/resources/019b0000-0000-7000-8000-{W}/annotations";
        let writers = writers.to_string();
        let arguments = [
            "load",
            "--path",
            path,
            "--body",
            &body,
            "--writers",
            &writers,
        ];
        let told = self.bench(server, &arguments)?;
        let figure = |name: &str| told[name].as_f64().context("a figure");
        Ok((figure("per_second")?, figure("p50_us")?))
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
fn events_held(server: &Server) -> anyhow::Result<f64> {
    let mut connection = Connection::open(&server.host)?;
    let checkpoint = connection.get("/api/log/checkpoint")?;
    let size = checkpoint.lines().nth(1).context("the number of events")?;
    Ok(size.parse()?)
}

/// How long until a stream that begins near the end shows its first event.
fn first_event(host: &str, events: usize) -> anyhow::Result<Duration> {
    use std::io::{Read, Write};
    let begun = Instant::now();
    let mut stream = std::net::TcpStream::connect(host)?;
    let after = events.saturating_sub(100);
    let request = format!("GET /api/events/stream?after={after} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut told, mut chunk) = (Vec::new(), [0; 4096]);
    while !told.windows(7).any(|part| part == b"\ndata: ") {
        let count = stream.read(&mut chunk)?;
        anyhow::ensure!(count > 0, "the stream ended");
        told.extend_from_slice(&chunk[..count]);
    }
    Ok(begun.elapsed())
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
