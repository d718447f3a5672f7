//! Live streams (measures P4, P4b): a durable write until the last of a thousand has seen it.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::server;
use super::table::{Table, count, share};

/// How to measure live streams.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Clients that listen.
    #[arg(long, default_value_t = 1000)]
    listeners: usize,
    /// Writes of each run.
    #[arg(long, default_value_t = 300)]
    writes: usize,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

#[derive(serde::Deserialize)]
struct Figures {
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    answered_p50_us: u64,
    behind_p50_us: u64,
    lost: u64,
}

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binaries = server::build()?;
    let dir = server::directory()?;
    let floor = server::Server::floor(&binaries, dir.path())?;
    let data = dir.path().join("data");
    let server = server::Server::start(&binaries.stemma, &data, &args.engine)?;
    server.fill_for_bench(1)?;
    let path = format!("/api/resources/{}/annotations", server::resource(0));
    let columns = [
        "measure",
        "who",
        "listeners",
        "deliveries/s",
        "last reached, p50 µs",
        "p99 µs",
        "acknowledged, p50 µs",
        "from there to the first, p50 µs",
        "lost",
        "× floor",
    ];
    let mut table = Table::new("live", &columns);
    for (measure, listeners, gap) in [("P4", args.listeners, 0), ("P4b", 1, 5)] {
        let mut least = None;
        for (who, host, stream, path) in [
            ("floor", &floor.host, "/", "/"),
            ("Stemma", &server.host, "/api/events/stream", path.as_str()),
        ] {
            let load = (host.as_str(), stream, path);
            let figures = generate(&binaries.bench, load, listeners, args.writes, gap)?;
            table.row(&[
                &measure,
                &who,
                &listeners,
                &count(figures.per_second),
                &figures.p50_us,
                &figures.p99_us,
                &figures.answered_p50_us,
                &figures.behind_p50_us,
                &figures.lost,
                &least.map_or(String::new(), |least| share(figures.per_second, least)),
            ]);
            least.get_or_insert(figures.per_second);
        }
    }
    floor.stop()?;
    server.stop()?;
    table.keep(keep)
}

fn generate(
    bench: &Path,
    (host, stream, path): (&str, &str, &str),
    listeners: usize,
    writes: usize,
    gap_ms: u64,
) -> anyhow::Result<Figures> {
    let body = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"VALUE"},"target":"http://example.org/page"}"#
        .replace("VALUE", &"{U}".repeat(24));
    let output = Command::new(bench)
        .args(["fan-out", "--host", host, "--stream", stream])
        .args(["--path", path, "--body", &body])
        .args(["--listeners", &listeners.to_string()])
        .args(["--writes", &writes.to_string()])
        .args(["--gap-ms", &gap_ms.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).context("figures")
}
