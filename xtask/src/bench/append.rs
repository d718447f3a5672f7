//! Appends over HTTP: an annotation of some 500 bytes a request, everything on.

use std::time::Duration;

use super::{load, probe, server};

/// How to measure appends.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Clients of the runs.
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    clients: Vec<usize>,
    /// Engine of the views.
    #[arg(long, default_value = "sled")]
    engine: String,
    /// Resources that the writers share.
    #[arg(long, default_value_t = 1)]
    resources: usize,
}

/// Measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = server::build()?;
    let dir = tempfile::tempdir_in(crate::run::root().join("target"))?;
    let time = Duration::from_secs(args.seconds);
    println!("| what | clients | events/s | p50 µs | p99 µs | x sync probe |");
    println!("|---|---|---|---|---|---|");
    let server = server::Server::start(&binary, &dir.path().join("data"), &args.engine)?;
    let mut connection = load::Connection::open(&server.host)?;
    for index in 0..args.resources {
        let id = resource(index);
        let text = "Jupiter has four large moons. ".repeat(10);
        let body = format!(
            r#"{{"id":"{id}","name":"bench","media_type":"text/plain","content":"{text}"}}"#
        );
        connection.send("POST", "/api/resources", &body)?;
    }
    for clients in &args.clients {
        let probed = probe::sync(dir.path(), Duration::from_secs(1))?;
        row(
            "4 KiB sync probe",
            1,
            probed.per_second,
            probed.p50_us,
            probed.p99_us,
            1.0,
        );
        let annotate = |client: usize, n: usize| {
            let id = resource((client + n) % args.resources);
            (
                "POST",
                format!("/api/resources/{id}/annotations"),
                annotation(client, n),
            )
        };
        let annotated = load::run(&server.host, *clients, time, annotate)?;
        let share = annotated.per_second / probed.per_second;
        row(
            "annotate",
            *clients,
            annotated.per_second,
            annotated.p50_us,
            annotated.p99_us,
            share,
        );
        let create = |client: usize, n: usize| {
            let content = format!("{client} {n} {}", "x".repeat(480));
            let body = format!(r#"{{"name":"n","media_type":"text/plain","content":"{content}"}}"#);
            ("POST", "/api/resources".to_owned(), body)
        };
        let created = load::run(&server.host, *clients, time, create)?;
        let share = created.per_second / probed.per_second;
        row(
            "create, 500 B content",
            *clients,
            created.per_second,
            created.p50_us,
            created.p99_us,
            share,
        );
    }
    eprintln!("peak resident memory: {} MiB", server.peak_kib() / 1024);
    server.stop()
}

fn resource(index: usize) -> String {
    format!("019a0000-0000-7000-8000-{index:012x}")
}

fn annotation(client: usize, n: usize) -> String {
    let filler = format!("{client:08x}{n:08x}").repeat(18);
    format!(
        r#"{{"motivation":"commenting","body":{{"type":"TextualBody","value":"{filler}"}},"target":"http://example.org/page"}}"#
    )
}

fn row(what: &str, clients: usize, per_second: f64, p50_us: u64, p99_us: u64, share: f64) {
    println!("| {what} | {clients} | {per_second:.0} | {p50_us} | {p99_us} | {share:.2} |");
}
