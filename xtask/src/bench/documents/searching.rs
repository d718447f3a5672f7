//! Searching in a hundred thousand chunks, brought in by uploads, beside a plain GET; and uploads
//! while two workers have their hands full.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::Bench;
use super::prose::{Prose, made_up};
use crate::bench::load::Connection;
use crate::bench::server::{Server, directory};
use crate::bench::table::{Table, count};

/// Bytes of a document, about a hundred chunks.
const DOCUMENT_BYTES: usize = 90_000;
/// Chunks of such a document, for finding out how many documents there must be.
const DOCUMENT_CHUNKS: usize = 100;
/// How long all may take to be completed.
const PATIENCE: Duration = Duration::from_mins(15);
/// How often it is looked whether they are.
const LOOK: Duration = Duration::from_millis(200);
/// How many of a kind of question are asked one after the other, and by each of many.
const ASKED: usize = 400;
const ASKED_EACH: usize = 100;
const CLIENTS: usize = 8;

/// Measures.
pub(super) fn run(bench: &Bench, chunks: usize, keep: bool) -> anyhow::Result<()> {
    let dir = directory()?;
    let server = bench.serve(&dir.path().join("data"), &[])?;
    let columns = [
        "what",
        "clients",
        "a second",
        "p50 ms",
        "p99 ms",
        "p50 × GET",
    ];
    let mut table = Table::new("search", &columns);
    let ids = fill(bench, &server, chunks, &mut table)?;
    for clients in [1, CLIENTS] {
        let get = |number: u64| {
            let id = &ids[usize::try_from(number).unwrap_or(0) % ids.len()];
            format!("/api/resources/{id}")
        };
        let got = ask(&server.host, clients, &get)?;
        row(&mut table, "GET a resource", clients, &got, None);
        for (what, path) in questions() {
            let asked = ask(&server.host, clients, &path)?;
            row(&mut table, what, clients, &asked, Some(got.p50));
        }
    }
    eprintln!("peak resident memory: {} MiB", server.peak_kib() / 1024);
    server.stop()?;
    table.keep(keep)
}

/// Uploads the documents, and more while they are worked on; gives their ids once all are there.
fn fill(
    bench: &Bench,
    server: &Server,
    chunks: usize,
    table: &mut Table,
) -> anyhow::Result<Vec<String>> {
    let mut prose = Prose::new(2)?;
    let mut connection = Connection::open(&server.host)?;
    let (mut ids, mut bytes) = (Vec::new(), 0);
    let started = Instant::now();
    for index in 0..chunks.div_ceil(DOCUMENT_CHUNKS) {
        let text = prose.text(DOCUMENT_BYTES);
        bytes += text.len();
        let answer = connection.upload(&format!("{index}.txt"), "text/plain", text.as_bytes())?;
        let answer: Value = serde_json::from_str(&answer)?;
        ids.push(answer["document_id"].as_str().context("an id")?.to_owned());
    }
    let args = ["upload", "--kind", "document", "--count", "300"];
    let uploaded = bench.load(&server.host, &args)?;
    let waiting = waiting(&mut connection)?;
    let what = format!("upload of 2 KB, to its 202, two workers at work, {waiting} jobs or more");
    let ms = |us: u64| format!("{:.2}", us as f64 / 1e3);
    let (p50, p99) = (ms(uploaded.p50_us), ms(uploaded.p99_us));
    table.row(&[&what, &1, &count(uploaded.per_second), &p50, &p99, &""]);
    completed(&mut connection)?;
    let took = started.elapsed().as_secs_f64();
    let mut found = 0;
    for id in &ids {
        let document = connection.get(&format!("/api/documents/{id}"))?;
        let document: Value = serde_json::from_str(&document)?;
        found += document["chunk_count"].as_u64().context("its chunks")?;
    }
    let what = format!(
        "{} chunks of {} documents, {:.0} MB, from their upload to completed: chunks",
        count(found as f64),
        count(ids.len() as f64),
        bytes as f64 / 1e6
    );
    table.row(&[&what, &1, &count(found as f64 / took), &"", &"", &""]);
    Ok(ids)
}

/// Waits until no job waits or is worked on.
fn completed(connection: &mut Connection) -> anyhow::Result<()> {
    let started = Instant::now();
    while waiting(connection)? > 0 {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the documents take too long");
        std::thread::sleep(LOOK);
    }
    let failed = connection.get("/api/jobs?status=failed")?;
    let failed: Value = serde_json::from_str(&failed)?;
    anyhow::ensure!(failed["items"] == serde_json::json!([]), "{failed}");
    Ok(())
}

/// How many jobs are not ended; of many, as many as a page holds.
fn waiting(connection: &mut Connection) -> anyhow::Result<usize> {
    let mut sum = 0;
    for status in ["queued", "processing", "retrying"] {
        let page = connection.get(&format!("/api/jobs?limit=500&status={status}"))?;
        let page: Value = serde_json::from_str(&page)?;
        sum += page["items"].as_array().context("jobs")?.len();
    }
    Ok(sum)
}

/// A kind of question, and the path of the question of a number.
type Question = (&'static str, fn(u64) -> String);

fn questions() -> [Question; 6] {
    // Few know a word of a high rank, nearly all one of a low rank.
    fn rare(number: u64) -> String {
        made_up(5000 + number * 37 % 40_000)
    }
    fn common(number: u64) -> String {
        const WORDS: [&str; 8] = [
            "star",
            "telescope",
            "orbit",
            "moon",
            "light",
            "sky",
            "planet",
            "year",
        ];
        let at = |number: u64| WORDS[usize::try_from(number).unwrap_or(0) % WORDS.len()];
        format!("{}+{}", at(number), at(number / 8 + number + 1))
    }
    [
        ("text, a rare word", |n| {
            format!("/api/search?mode=text&q={}", rare(n))
        }),
        ("text, two common words", |n| {
            format!("/api/search?mode=text&q={}", common(n))
        }),
        ("text, two common words and a rare one", |n| {
            format!("/api/search?mode=text&q={}+{}", common(n), rare(n))
        }),
        ("vector", |n| {
            format!("/api/search?mode=vector&q={}+{}", common(n), rare(n))
        }),
        ("hybrid", |n| {
            format!("/api/search?mode=hybrid&q={}+{}", common(n), rare(n))
        }),
        ("hybrid, 10 hits", |n| {
            format!("/api/search?limit=10&q={}+{}", common(n), rare(n))
        }),
    ]
}

/// What a kind of question came to.
struct Asked {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// Asks with so many clients at once.
fn ask(host: &str, clients: usize, path: &(dyn Fn(u64) -> String + Sync)) -> anyhow::Result<Asked> {
    let each = if clients == 1 { ASKED } else { ASKED_EACH };
    let one = |client: usize| -> anyhow::Result<Vec<Duration>> {
        let mut connection = Connection::open(host)?;
        let mut times = Vec::with_capacity(each);
        for index in 0..each {
            let path = path((client * each + index) as u64);
            let sent = Instant::now();
            connection.get(&path)?;
            times.push(sent.elapsed());
        }
        Ok(times)
    };
    let started = Instant::now();
    let mut times = std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients)
            .map(|client| scope.spawn(move || one(client)))
            .collect();
        let mut times = Vec::new();
        for one in all {
            let done = one.join();
            times.extend(done.map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        anyhow::Ok(times)
    })?;
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok(Asked {
        per_second,
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    })
}

fn row(table: &mut Table, what: &str, clients: usize, asked: &Asked, by: Option<Duration>) {
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
    let ratio = by.map_or(String::new(), |by| {
        count(asked.p50.as_secs_f64() / by.as_secs_f64())
    });
    table.row(&[
        &what,
        &clients,
        &count(asked.per_second),
        &ms(asked.p50),
        &ms(asked.p99),
        &ratio,
    ]);
}
