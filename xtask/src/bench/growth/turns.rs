//! What requests take (measure P9): a server over each copy of the log, asked in turns.
//!
//! Machines change their pace from minute to minute, more than any of these figures does with the
//! size. So every size is asked in every round, all servers are at rest before each load, and a
//! figure is the median of the rounds.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Figures, Growth, events_held};
use crate::bench::load::Connection;
use crate::bench::server::Server;

/// Rounds, of which the median is taken.
const ROUNDS: usize = 7;
/// Requests of which a round takes the median, and those before them that are not counted: what
/// rested comes back to its pace.
const SAMPLES: usize = 1500;
const WARM_UP: usize = 500;
/// Streams of which a round takes the median.
const STREAMS: usize = 50;
/// Seconds of each load of appends.
const SECONDS: &str = "4";
/// How long all servers are looked at together, and how often.
const LOOK: Duration = Duration::from_millis(500);
/// Processor time of all of them within one look, at the most, when they are at rest.
const AT_REST: Duration = Duration::from_millis(20);
/// Looks until they are to be at rest: what merges and checks ten million events has an end.
const LOOKS_MAX: usize = 1200;

/// One size.
struct Grown {
    events: usize,
    server: Server,
    deep: String,
    rounds: Vec<Figures>,
}

/// Measures all sizes; gives the figures of each.
pub(super) fn measure(
    growth: &Growth<'_>,
    sizes: impl Iterator<Item = (usize, PathBuf)>,
) -> anyhow::Result<Vec<Figures>> {
    let grown = sizes.map(|(events, data)| Grown::open(growth, events, &data));
    let mut grown: Vec<Grown> = grown.collect::<anyhow::Result<_>>()?;
    for round in 0..ROUNDS {
        for index in 0..grown.len() {
            rest(&grown)?;
            // None is always the first or behind the same one.
            let at = if round % 2 == 0 {
                index
            } else {
                grown.len() - 1 - index
            };
            let mut figures = grown[at].reads()?;
            rest(&grown)?;
            let one = append(growth, &grown[at].server, 1)?.1;
            figures.push(("append, 1 client, p50 µs", one));
            rest(&grown)?;
            let many = append(growth, &grown[at].server, 32)?.0;
            figures.push(("append, 32 clients, events/s", many));
            eprintln!("{} of {}: {figures:.1?}", grown[at].events, round + 1);
            grown[at].rounds.push(figures);
        }
    }
    grown.into_iter().map(Grown::told).collect()
}

/// Waits until no server has anything left to do.
fn rest(grown: &[Grown]) -> anyhow::Result<()> {
    let used = || grown.iter().map(|grown| grown.server.processor_time());
    let mut before: Duration = used().sum();
    for _ in 0..LOOKS_MAX {
        sleep(LOOK);
        let now: Duration = used().sum();
        if now.saturating_sub(before) <= AT_REST {
            return Ok(());
        }
        before = now;
    }
    anyhow::bail!("a server does not come to rest")
}

impl Grown {
    fn open(growth: &Growth<'_>, events: usize, data: &Path) -> anyhow::Result<Self> {
        let (server, _) = growth.start(data)?;
        let mut connection = Connection::open(&server.host)?;
        Ok(Self {
            events,
            deep: deep_page(&mut connection)?,
            server,
            rounds: Vec::new(),
        })
    }

    fn reads(&self) -> anyhow::Result<Figures> {
        let resources = (self.events / 10) as u64;
        let first = self.rounds.len() * (WARM_UP + SAMPLES);
        let mut figures = Figures::new();
        // Far from each other, and each but once where there are enough.
        let one = |index: usize| {
            let number = (first + index) as u64 * 7_919_003 % resources;
            format!("/api/resources/019b0000-0000-7000-8000-{number:012x}")
        };
        let mut connection = Connection::open(&self.server.host)?;
        let mut asked = |name, path: &dyn Fn(usize) -> String| -> anyhow::Result<()> {
            let mut times = Vec::with_capacity(SAMPLES);
            for index in 0..WARM_UP + SAMPLES {
                let path = path(index);
                let asked = Instant::now();
                connection.get(&path)?;
                if index >= WARM_UP {
                    times.push(asked.elapsed().as_secs_f64() * 1e6);
                }
            }
            figures.push((name, median(times)));
            Ok(())
        };
        let page = |path: &str| format!("/api/resources?{path}limit=50");
        asked("GET a resource, p50 µs", &one)?;
        asked("GET its content, p50 µs", &|index| one(index) + "/content")?;
        asked("GET its annotations, p50 µs", &|index| {
            one(index) + "/annotations"
        })?;
        asked("first page of resources, p50 µs", &|_| page(""))?;
        asked("a page further in, p50 µs", &|_| self.deep.clone())?;
        asked("page of an entity type, p50 µs", &|_| {
            page("entityType=T0&")
        })?;
        let end = events_held(&self.server)?;
        let starts = (0..STREAMS).map(|_| self.first_event(end.saturating_sub(100)));
        figures.push((
            "a stream from 100 before the end, to its first event, p50 µs",
            median(starts.collect::<anyhow::Result<_>>()?),
        ));
        Ok(figures)
    }

    /// How many microseconds until a stream that begins behind a position shows its first event.
    fn first_event(&self, after: u64) -> anyhow::Result<f64> {
        let host = &self.server.host;
        let begun = Instant::now();
        let mut stream = std::net::TcpStream::connect(host)?;
        let request =
            format!("GET /api/events/stream?after={after} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let (mut told, mut chunk) = (Vec::new(), [0; 4096]);
        while !told.windows(7).any(|part| part == b"\ndata: ") {
            let count = stream.read(&mut chunk)?;
            anyhow::ensure!(count > 0, "the stream ended");
            told.extend_from_slice(&chunk[..count]);
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6)
    }

    /// The medians of the rounds, and what is resident after them.
    fn told(self) -> anyhow::Result<Figures> {
        let names = self.rounds[0].iter().map(|(name, _)| *name);
        let figures = names.enumerate().map(|(index, name)| {
            let figures = self.rounds.iter().map(|figures| figures[index].1);
            (name, median(figures.collect()))
        });
        let mut figures: Figures = figures.collect();
        let resident = self.server.resident_kib() as f64 / 1024.0;
        figures.push(("P7: resident after all of it, MiB", resident));
        self.server.stop()?;
        Ok(figures)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
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

/// Appends; gives events a second and the median in microseconds.
fn append(growth: &Growth<'_>, server: &Server, writers: usize) -> anyhow::Result<(f64, f64)> {
    let body = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"VALUE"},"target":"http://example.org/page"}"#
        .replace("VALUE", &"{U}".repeat(24));
    let path = "/api/resources/019b0000-0000-7000-8000-{W}/annotations";
    let writers = writers.to_string();
    let load = ["load", "--path", path, "--body", &body];
    let how = ["--writers", &writers, "--seconds", SECONDS];
    let told = growth.bench(server, &[&load[..], &how[..]].concat())?;
    let figure = |name: &str| told[name].as_f64().context("a figure");
    Ok((figure("per_second")?, figure("p50_us")?))
}
