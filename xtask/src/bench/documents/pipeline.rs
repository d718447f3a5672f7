//! Large documents through the whole pipeline: how long until each is how far, and the memory that
//! it takes; reading a PDF beside `pdftotext`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Bench;
use super::journey::{File, Journey, Worker, take};
use super::pdf::pdf;
use super::prose::Prose;
use crate::bench::load::Connection;
use crate::bench::server::{directory, status_of};
use crate::bench::table::{Table, count, share};

/// Bytes of a large document, a little below what is let in by default.
const LARGE_BYTES: usize = 26_000_000;
/// Bytes of one that comes first, so that models are loaded and files are open.
const FIRST_BYTES: usize = 20_000;

/// Who works on the documents.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    /// The server, with two workers.
    Server,
    /// A process of its own, over HTTP; the server has no workers.
    Worker,
}

/// Measures both documents with both.
pub(super) fn run(bench: &Bench, keep: bool) -> anyhow::Result<()> {
    let mut prose = Prose::new(1)?;
    let made = pdf(&mut prose, LARGE_BYTES, "zzyzxpdf");
    let mut text = prose.text(LARGE_BYTES);
    text.push_str("zzyzxtext\n");
    let files = [
        File {
            name: "dense.pdf",
            media_type: "application/pdf",
            bytes: made.bytes,
            last_word: "zzyzxpdf",
        },
        File {
            name: "long.txt",
            media_type: "text/plain",
            bytes: text.into_bytes(),
            last_word: "zzyzxtext",
        },
    ];
    let columns = [
        "what",
        "PDF, by the server",
        "PDF, by a worker",
        "text, by the server",
        "text, by a worker",
    ];
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    let mut parse_ms = 0;
    for (file, pages) in files.iter().zip([Some(made.pages), None]) {
        for who in [Who::Server, Who::Worker] {
            let (journey, memory) = one(bench, &mut prose, file, who)?;
            if pages.is_some() && who == Who::Server {
                parse_ms = journey.stages_ms.get("parse").copied().unwrap_or(0);
            }
            let column = column(file, pages, &journey, &memory);
            for (index, (what, figure)) in column.into_iter().enumerate() {
                if rows.len() == index {
                    rows.push((what, Vec::new()));
                }
                rows[index].1.push(figure);
            }
        }
    }
    let mut table = Table::new("pipeline", &columns);
    for (what, figures) in rows {
        table.row(&[&what, &figures[0], &figures[1], &figures[2], &figures[3]]);
    }
    table.keep(keep)?;
    beside_pdftotext(&files[0], made.pages, Duration::from_millis(parse_ms), keep)
}

/// Resident memory in kibibytes: before the document, and the most since.
struct Memory {
    before: u64,
    peak: u64,
    peak_of_server: u64,
}

/// One document in a server of its own.
fn one(
    bench: &Bench,
    prose: &mut Prose,
    file: &File,
    who: Who,
) -> anyhow::Result<(Journey, Memory)> {
    eprintln!("{} …", file.name);
    let dir = directory()?;
    let workers = if who == Who::Server { "2" } else { "0" };
    let settings = [("STEMMA_JOBS__WORKERS", workers)];
    let server = bench.serve(&dir.path().join("data"), &settings)?;
    let worker = (who == Who::Worker)
        .then(|| Worker::start(bench, &server))
        .transpose()?;
    let id = worker.as_ref().map_or(server.id(), Worker::id);
    let mut connection = Connection::open(&server.host)?;
    let first = File {
        name: "first.txt",
        media_type: "text/plain",
        bytes: (prose.text(FIRST_BYTES) + "zzyzxfirst\n").into_bytes(),
        last_word: "zzyzxfirst",
    };
    take(&mut connection, &first, &[])?;
    let before = status_of(id, "VmRSS:");
    let journey = take(&mut connection, file, &[id])?;
    let memory = Memory {
        before,
        peak: status_of(id, "VmHWM:"),
        peak_of_server: server.peak_kib(),
    };
    if let Some(worker) = worker {
        worker.stop()?;
    }
    server.stop()?;
    Ok((journey, memory))
}

fn column(
    file: &File,
    pages: Option<usize>,
    journey: &Journey,
    memory: &Memory,
) -> Vec<(&'static str, String)> {
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    let took = journey.completed.as_secs_f64();
    let mib = |kib: u64| (kib / 1024).to_string();
    let stage = |name: &str| {
        let took = journey.stages_ms.get(name).copied().unwrap_or(0);
        seconds(Duration::from_millis(took))
    };
    let rate = pages.map_or(String::new(), |pages| count(pages as f64 / took));
    vec![
        ("bytes, MB", format!("{:.1}", file.bytes.len() as f64 / 1e6)),
        (
            "pages",
            pages.map_or(String::new(), |pages| pages.to_string()),
        ),
        ("chunks", count(journey.chunks as f64)),
        ("accepted, ms", journey.accepted.as_millis().to_string()),
        ("parsed, s", seconds(journey.parsed)),
        ("found by text, s", seconds(journey.found_by_text)),
        ("found by vector, s", seconds(journey.found_by_vector)),
        ("completed, s", seconds(journey.completed)),
        (
            "MB/s",
            format!("{:.2}", file.bytes.len() as f64 / 1e6 / took),
        ),
        ("pages/s", rate),
        ("of it: validate, s", stage("validate")),
        ("of it: parse, s", stage("parse")),
        ("of it: chunk, s", stage("chunk")),
        ("of it: embed, s", stage("embed")),
        ("of it: detect, s", stage("detect")),
        ("resident before, MiB", mib(memory.before)),
        ("peak, MiB", mib(memory.peak)),
        ("peak of the server, MiB", mib(memory.peak_of_server)),
        ("peak of the parser's process, MiB", mib(journey.parser_kib)),
    ]
}

/// The stage `parse` of the PDF, beside `pdftotext` over the same file.
fn beside_pdftotext(file: &File, pages: usize, parse: Duration, keep: bool) -> anyhow::Result<()> {
    let megabytes = file.bytes.len() as f64 / 1e6;
    let columns = ["who", "seconds", "pages/s", "MB/s", "× pdftotext"];
    let mut table = Table::new("parsing", &columns);
    let mut row = |who: &str, time: Duration, by: Option<Duration>| {
        let seconds = time.as_secs_f64();
        let ratio = by.map_or(String::new(), |by| share(by.as_secs_f64(), seconds));
        table.row(&[
            &who,
            &format!("{seconds:.2}"),
            &count(pages as f64 / seconds),
            &format!("{:.1}", megabytes / seconds),
            &ratio,
        ]);
    };
    let peer = crate::bench::append::peer("pdftotext", pdftotext(file));
    if let Some(time) = peer {
        row("pdftotext", time, None);
    }
    row("Stemma, its process included", parse, peer);
    table.keep(keep)
}

/// How long `pdftotext` takes, and that it reads the same.
fn pdftotext(file: &File) -> anyhow::Result<Duration> {
    let dir = directory()?;
    let (from, to) = (dir.path().join(file.name), dir.path().join("text"));
    std::fs::write(&from, &file.bytes)?;
    let started = Instant::now();
    let status = Command::new("pdftotext").arg(&from).arg(&to).status();
    let status = status.context("it is not installed (Debian: poppler-utils)")?;
    let took = started.elapsed();
    anyhow::ensure!(status.success(), "{status}");
    let text = std::fs::read_to_string(to)?;
    anyhow::ensure!(text.contains(file.last_word), "it reads something else");
    Ok(took)
}
