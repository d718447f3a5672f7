//! Rebuilding views from a log of many events, and verifying it.

use std::time::Instant;

use super::{load, server};
use crate::run::{command, run as run_command};

/// Operations of one request while the log is filled.
const BATCH: usize = 500;

/// How to measure rebuilding.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events to fill the log with.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Engine of the views.
    #[arg(long, default_value = "fjall")]
    engine: String,
}

/// Measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = server::build()?.stemma;
    let dir = tempfile::tempdir_in(crate::run::root().join("target"))?;
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
    println!("| what | events/s | seconds |");
    println!("|---|---|---|");
    row("write, 500 operations a request, 1 client", events, filled);
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
            &format!("stemma {}", arguments.join(" ")),
            events,
            started.elapsed().as_secs_f64(),
        );
    }
    Ok(())
}

/// A resource for every ten events, and nine annotations of it.
fn operations(batch: usize) -> String {
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

fn row(what: &str, events: usize, seconds: f64) {
    println!("| {what} | {:.0} | {seconds:.2} |", events as f64 / seconds);
}
