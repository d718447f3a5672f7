//! Rebuilding views from a log of many events, and verifying it.

use std::time::Instant;

use super::table::{Table, count};
use super::{load, server};
use crate::run::{command, run as run_command};

/// Operations of one request while the log is filled.
pub(crate) const BATCH: usize = 500;

/// How to measure rebuilding.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events to fill the log with.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binary = server::build()?.stemma;
    let dir = server::directory()?;
    let data = dir.path().join("data");
    let server = server::Server::start(&binary, &data, &args.engine)?;
    let mut connection = load::Connection::open(&server.host)?;
    let started = Instant::now();
    for batch in 0..args.events / BATCH {
        connection.send("POST", "/api/batch", &operations(batch))?;
    }
    let events = args.events / BATCH * BATCH;
    let filled = started.elapsed().as_secs_f64();
    server.stop()?;
    let mut table = Table::new("rebuild", &["what", "events/s", "seconds"]);
    let what = "write, 500 operations a request, 1 client";
    row(&mut table, what, events, filled);
    for arguments in [
        &["verify", "--quick"][..],
        &["rebuild", "views"],
        &["verify"],
    ] {
        let mut stemma = command(&binary.to_string_lossy(), arguments);
        stemma
            .arg("--data")
            .arg(&data)
            .env("STEMMA_VIEWS__ENGINE", &args.engine);
        let started = Instant::now();
        run_command(stemma)?;
        row(
            &mut table,
            &format!("stemma {}", arguments.join(" ")),
            events,
            started.elapsed().as_secs_f64(),
        );
    }
    table.keep(keep)
}

/// A resource for every ten events, and nine annotations of it.
pub(crate) fn operations(batch: usize) -> String {
    let mut operations = Vec::with_capacity(BATCH);
    for index in 0..BATCH {
        let number = batch * BATCH + index;
        let id = format!("019b0000-0000-7000-8000-{:012x}", number / 10);
        let filler = format!("{number:016x}").repeat(18);
        operations.push(if number.is_multiple_of(10) {
            format!(
                r#"{{"op":"create_resource","resource_id":"{id}","name":"r{number}","media_type":"text/plain","content":"{filler}","entity_types":["T{}"]}}"#,
                number % 70
            )
        } else {
            format!(
                r#"{{"op":"add_annotation","resource_id":"{id}","annotation":{{"motivation":"commenting","body":{{"type":"TextualBody","value":"{filler}"}},"target":"http://example.org/page"}}}}"#
            )
        });
    }
    format!(r#"{{"operations":[{}]}}"#, operations.join(","))
}

fn row(table: &mut Table, what: &str, events: usize, seconds: f64) {
    let rate = count(events as f64 / seconds);
    table.row(&[&what, &rate, &format!("{seconds:.2}")]);
}
