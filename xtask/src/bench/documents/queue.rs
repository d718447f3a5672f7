//! What a long queue costs who uploads and who claims, and how many jobs pass through it.

use std::time::Duration;

use super::{Bench, Figures};
use crate::bench::probe;
use crate::bench::server::{Server, directory};
use crate::bench::table::{Table, count, share};

/// Uploads of one client, and of each of many.
const UPLOADS: &str = "1000";
const UPLOADS_EACH: &str = "60";
const CLIENTS: &str = "32";
/// Nobody takes jobs but who is measured.
const NO_WORKERS: [(&str, &str); 1] = [("STEMMA_JOBS__WORKERS", "0")];
/// All jobs are of one user here, of whom as many may be worked on as there are workers.
const MANY_OF_ONE_USER: [(&str, &str); 2] = [
    ("STEMMA_JOBS__WORKERS", "0"),
    ("STEMMA_JOBS__ACTIVE_MAX", "0"),
];
/// Durable writes of a job: queued, claimed, completed.
const WRITES_OF_A_JOB: f64 = 3.0;

/// Uploads and claims beside queues of one job, of a thousand, and of `longest` (P8).
pub(super) fn uploads(bench: &Bench, longest: usize, keep: bool) -> anyhow::Result<()> {
    let dir = directory()?;
    let server = bench.serve(&dir.path().join("data"), &NO_WORKERS)?;
    let columns = [
        "jobs that wait",
        "what",
        "a second",
        "p50 µs",
        "p99 µs",
        "max µs",
        "p50 × create",
    ];
    let mut table = Table::new("uploads", &columns);
    let mut waiting = 0;
    for wanted in [1, 1000, longest] {
        let more = (wanted - waiting).to_string();
        let queued = bench.load(&server.host, &["jobs", "queue", "--count", &more])?;
        waiting = wanted;
        let probed = probe::sync(dir.path(), Duration::from_secs(1))?;
        table.row(&[
            &count(wanted as f64),
            &"4 KiB and a sync, one after the other",
            &count(probed.per_second),
            &probed.p50_us,
            &probed.p99_us,
            &"",
            &"",
        ]);
        beside(bench, &server, wanted, &mut table)?;
        if wanted == longest {
            let what = format!("POST /api/jobs, {CLIENTS} clients, until so many wait");
            row(&mut table, wanted, &what, &queued, None);
        }
    }
    eprintln!("peak resident memory: {} MiB", server.peak_kib() / 1024);
    server.stop()?;
    table.keep(keep)
}

/// What is sent beside a queue.
fn beside(bench: &Bench, server: &Server, waiting: usize, table: &mut Table) -> anyhow::Result<()> {
    let upload = |kind, count, clients| {
        let args = [
            "upload",
            "--kind",
            kind,
            "--count",
            count,
            "--clients",
            clients,
        ];
        bench.load(&server.host, &args)
    };
    for (count, clients) in [(UPLOADS, "1"), (UPLOADS_EACH, CLIENTS)] {
        let clients_of = |what: &str| match clients {
            "1" => format!("{what}, 1 client"),
            many => format!("{what}, {many} clients"),
        };
        let created = upload("resource", count, clients)?;
        let what = clients_of("create with content of 2 KB");
        row(table, waiting, &what, &created, None);
        let uploaded = upload("document", count, clients)?;
        let what = clients_of("P8: upload of 2 KB, to its 202");
        row(table, waiting, &what, &uploaded, Some(&created));
    }
    let claimed = bench.load(&server.host, &["jobs", "claim", "--count", UPLOADS])?;
    row(table, waiting, "claim, 1 worker", &claimed, None);
    Ok(())
}

fn row(table: &mut Table, waiting: usize, what: &str, figures: &Figures, by: Option<&Figures>) {
    let ratio = by.map_or(String::new(), |by| {
        share(figures.p50_us as f64, by.p50_us as f64)
    });
    table.row(&[
        &count(waiting as f64),
        &what,
        &count(figures.per_second),
        &figures.p50_us,
        &figures.p99_us,
        &figures.max_us,
        &ratio,
    ]);
}

/// Jobs a second of workers that do nothing but claim and complete, beside a third of what the
/// floor writes.
pub(super) fn jobs(bench: &Bench, keep: bool) -> anyhow::Result<()> {
    let dir = directory()?;
    let floor = Server::floor(&bench.binaries, dir.path())?;
    let columns = [
        "workers",
        "clients that queue",
        "jobs that wait at most",
        "who",
        "jobs/s",
        "queued until claimed, p50 µs",
        "p99 µs",
        "× floor",
    ];
    let mut table = Table::new("jobs", &columns);
    for (workers, clients, waiting) in [(1, 1, 1), (4, 4, 100), (16, 16, 1000), (64, 32, 1000)] {
        let writers = (workers + clients).to_string();
        let of_floor = [
            "load",
            "--path",
            "/",
            "--body",
            r#"{"type":"bench.nothing","payload":{"text":"{U}{U}"}}"#,
            "--writers",
            &writers,
        ];
        let written = bench.load(&floor.host, &of_floor)?;
        let at_most = written.per_second / WRITES_OF_A_JOB;
        let mut row = |who: &str, rate: f64, times: [String; 2], ratio: String| {
            table.row(&[
                &workers,
                &clients,
                &waiting,
                &who,
                &count(rate),
                &times[0],
                &times[1],
                &ratio,
            ]);
        };
        row(
            "floor, three writes a job",
            at_most,
            Default::default(),
            String::new(),
        );
        let args = [
            "jobs",
            "work",
            "--workers",
            &workers.to_string(),
            "--clients",
            &clients.to_string(),
            "--waiting-max",
            &waiting.to_string(),
        ];
        // A server of its own, in which no jobs of another round are left.
        let data = dir.path().join(format!("data-{workers}"));
        let server = bench.serve(&data, &MANY_OF_ONE_USER)?;
        let done = bench.load(&server.host, &args)?;
        server.stop()?;
        let times = [done.p50_us.to_string(), done.p99_us.to_string()];
        row(
            "Stemma",
            done.per_second,
            times,
            share(done.per_second, at_most),
        );
    }
    floor.stop()?;
    table.keep(keep)
}
