//! Many tenants on one machine: what those cost that nobody uses, and how long the first request of
//! one takes that is not open (C5).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::load::Connection;
use super::server::{self, Server, status_of};
use super::table::Table;
use crate::run::command;

/// How to measure tenants.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many tenants are known, one measure after the other.
    #[arg(long, default_values_t = [20, 200, 2000])]
    known: Vec<usize>,
    /// How many of them are in use at a time.
    #[arg(long, default_value_t = 20)]
    active: usize,
    /// First requests that are timed, where there are as many tenants.
    #[arg(long, default_value_t = 90)]
    cold: usize,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<std::path::PathBuf>,
}

/// After how long tenants that nobody uses are closed.
const IDLE_CLOSE_MS: &str = "2000";
/// How long that may take to come about.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a process takes.
struct Taken {
    resident_kib: u64,
    anonymous_kib: u64,
    files: usize,
}

fn taken(server: &Server) -> anyhow::Result<Taken> {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.id()))?.count();
    Ok(Taken {
        resident_kib: server.resident_kib(),
        anonymous_kib: status_of(server.id(), "RssAnon:"),
        files,
    })
}

fn mib(kib: u64) -> String {
    format!("{:.0}", kib as f64 / 1024.0)
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// A server with tenants, and what opens each.
struct Town {
    server: Server,
    operator: String,
    tokens: Vec<String>,
    /// Those that hold something, by their places among the tokens.
    written: BTreeSet<usize>,
}

impl Town {
    fn begin(binary: &Path, data: &Path) -> anyhow::Result<Self> {
        let text = data.display().to_string();
        let args = [
            "token", "create", "--json", "--name", "bench", "--role", "operator",
        ];
        let program = binary.display().to_string();
        let made = command(&program, &[&args[..], &["--data", &text]].concat()).output()?;
        let made: Value = serde_json::from_slice(&made.stdout).context("a token")?;
        let token = made["token"].as_str().context("a token")?.to_owned();
        let mut serve = Command::new(binary);
        serve
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("STEMMA_TENANTS__IDLE_CLOSE_MS", IDLE_CLOSE_MS);
        let server = Server::of(serve)?;
        Ok(Self {
            server,
            operator: token,
            tokens: Vec::new(),
            written: BTreeSet::new(),
        })
    }

    /// Makes tenants until there are so many, each with a token, and those that are asked something
    /// later with a resource in it: a tenant that is made and never used is a directory.
    fn grow(&mut self, known: usize, args: &Args) -> anyhow::Result<()> {
        let mut operator = self.as_operator()?;
        while self.tokens.len() < known {
            let name = format!("t{:05}", self.tokens.len());
            let body = format!(r#"{{"name":"{name}"}}"#);
            operator.send("POST", "/api/admin/tenants", &body)?;
            let body = format!(r#"{{"principal":"bench","role":"admin","tenant":"{name}"}}"#);
            let made = operator.send("POST", "/api/admin/tokens", &body)?;
            let made: Value = serde_json::from_str(&made)?;
            let token = made["token"].as_str().context("a token")?;
            self.tokens.push(token.to_owned());
        }
        let asked: Vec<usize> = self
            .sampled(args.cold)
            .chain(0..args.active.min(known))
            .collect();
        let body = r#"{"name":"moons","media_type":"text/plain","content":"Jupiter has four large moons."}"#;
        for place in asked {
            if self.written.insert(place) {
                let token = &self.tokens[place];
                let mut connection = Connection::showing(&self.server.host, token)?;
                connection.send("POST", "/api/resources", body)?;
            }
        }
        Ok(())
    }

    /// The places of so many tenants, from all over.
    fn sampled(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let step = self.tokens.len().div_ceil(count.max(1)).max(1);
        (0..self.tokens.len()).step_by(step)
    }

    /// The operator's connection, made anew: one that rests is closed.
    fn as_operator(&self) -> anyhow::Result<Connection> {
        Connection::showing(&self.server.host, &self.operator)
    }

    fn n_open(&self) -> anyhow::Result<usize> {
        let metrics = self.as_operator()?.get("/metrics")?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("stemma_tenants_open "));
        let open = line.context("how many are open")?;
        let open: usize = open.split('.').next().unwrap_or_default().parse()?;
        // The one that the server was started for is open too.
        Ok(open.saturating_sub(1))
    }

    fn until_all_are_closed(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        while self.n_open()? > 0 {
            if begun.elapsed() > PATIENCE {
                bail!("tenants stay open");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(begun.elapsed())
    }

    /// The times of the first requests of tenants that are not open, shortest first.
    fn cold(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        for place in self.sampled(count) {
            let mut connection = Connection::showing(&self.server.host, &self.tokens[place])?;
            let begun = Instant::now();
            connection.get("/api/resources?limit=1")?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Uses so many tenants at a time for a moment.
    fn use_some(&self, active: usize) -> anyhow::Result<()> {
        let body = r#"{"name":"more","media_type":"text/plain","content":"Saturn has rings."}"#;
        for _ in 0..10 {
            for token in self.tokens.iter().take(active) {
                let mut connection = Connection::showing(&self.server.host, token)?;
                connection.send("POST", "/api/resources", body)?;
                connection.get("/api/resources?limit=10")?;
            }
        }
        Ok(())
    }
}

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => server::build()?.stemma,
    };
    let dir = server::directory()?;
    let columns = [
        "tenants known",
        "state",
        "resident, MiB",
        "of no file, MiB",
        "open files",
        "first request p50, ms",
        "p99, ms",
    ];
    let mut table = Table::new("tenants", &columns);
    let mut town = Town::begin(&binary, &dir.path().join("data"))?;
    let row = |table: &mut Table, known: usize, state: &str, taken: &Taken, times: &[Duration]| {
        let of = |percent: usize| {
            let place = times.len() * percent / 100;
            let time = times.get(place.min(times.len().saturating_sub(1)));
            time.map_or(String::new(), |time| ms(*time))
        };
        let (resident, anonymous) = (mib(taken.resident_kib), mib(taken.anonymous_kib));
        let (p50, p99) = (of(50), of(99));
        table.row(&[
            &known,
            &state,
            &resident,
            &anonymous,
            &taken.files,
            &p50,
            &p99,
        ]);
    };
    row(&mut table, 0, "started", &taken(&town.server)?, &[]);
    for known in &args.known {
        town.grow(*known, args)?;
        town.until_all_are_closed()?;
        row(&mut table, *known, "all closed", &taken(&town.server)?, &[]);
        let times = town.cold(args.cold)?;
        let state = format!("{} opened one after the other", times.len());
        row(&mut table, *known, &state, &taken(&town.server)?, &times);
        town.until_all_are_closed()?;
        town.use_some(args.active)?;
        let state = format!("{} in use", args.active.min(*known));
        row(&mut table, *known, &state, &taken(&town.server)?, &[]);
        town.until_all_are_closed()?;
        row(
            &mut table,
            *known,
            "all closed again",
            &taken(&town.server)?,
            &[],
        );
    }
    town.server.stop()?;
    table.keep(keep)
}
