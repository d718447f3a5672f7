//! Reading (measures P5, P5b): documents and large content, beside nginx with the same bytes.

use super::append::peer;
use super::load::Connection;
use super::nginx::{Nginx, wrk};
use super::server;
use super::table::{Table, count, share};

/// How to measure reading.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each load.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

const SMALL_BYTES: usize = 10_000;
const LARGE_BYTES: usize = 10_000_000;

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let binary = server::build()?.stemma;
    let dir = server::directory()?;
    let server = server::Server::start(&binary, &dir.path().join("data"), &args.engine)?;
    server.fill_for_bench(2)?;
    let www = dir.path().join("www");
    std::fs::create_dir(&www)?;
    let mut connection = Connection::open(&server.host)?;
    for (index, bytes) in [SMALL_BYTES, LARGE_BYTES].into_iter().enumerate() {
        let content = "0123456789".repeat(bytes / 10);
        std::fs::write(www.join(index.to_string()), &content)?;
        let path = format!("/api/resources/{}/content", server::resource(index));
        connection.put(&path, "text/plain", content.as_bytes())?;
    }
    let nginx = peer("nginx", Nginx::start(dir.path()));
    let columns = ["measure", "what", "who", "answers/s", "MB/s", "× nginx"];
    let mut table = Table::new("read", &columns);
    let of = |index: usize, part: &str| format!("/api/resources/{}{part}", server::resource(index));
    let runs = [
        (
            "P5",
            "GET content of 10 KB, 32 clients",
            32,
            of(0, "/content"),
            0,
        ),
        (
            "P5",
            "GET the resource's description, 32 clients",
            32,
            of(0, ""),
            0,
        ),
        (
            "P5b",
            "GET content of 10 MB, 8 clients",
            8,
            of(1, "/content"),
            1,
        ),
    ];
    for (measure, what, clients, path, index) in runs {
        let mut best = None;
        if let Some(nginx) = &nginx {
            let url = format!("http://{}/{index}", nginx.host);
            let (answers, bytes) = wrk(&url, clients, args.seconds)?;
            table.row(&[
                &measure,
                &what,
                &"nginx",
                &count(answers),
                &count(bytes / 1e6),
                &"",
            ]);
            best = Some(answers);
        }
        let url = format!("http://{}{path}", server.host);
        let (answers, bytes) = wrk(&url, clients, args.seconds)?;
        let ratio = best.map_or(String::new(), |best| share(answers, best));
        table.row(&[
            &measure,
            &what,
            &"Stemma",
            &count(answers),
            &count(bytes / 1e6),
            &ratio,
        ]);
    }
    server.stop()?;
    table.keep(keep)
}
