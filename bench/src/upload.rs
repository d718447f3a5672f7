//! Small files that are sent one after the other, as documents or as plain resources: how long
//! until each is accepted.
//!
//! The job of a document is cancelled as soon as it is accepted, which is not measured: so the
//! queue stays as long as it is.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::http::Client;
use crate::load::{figures, fill, on_one_thread};

/// What to send.
#[derive(Clone, clap::Args)]
pub(crate) struct Args {
    /// Address and port of the server.
    #[arg(long)]
    host: String,
    /// What the files become.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Files that each client sends.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Clients at the same time, each with one connection.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Bytes of a file, about.
    #[arg(long, default_value_t = 2000)]
    bytes: usize,
}

/// What a file becomes.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// A document, with a job that processes it.
    Document,
    /// A resource with its content, and nothing else.
    Resource,
}

const BOUNDARY: &str = "part-of-a-file";

/// Sends the files and tells the figures; the rate is that of what is measured alone.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut times = on_one_thread(args.clients, |number| send(args.clone(), number))?;
    let busy: Duration = times.iter().sum();
    let rate = (times.len() * args.clients) as f64 / busy.as_secs_f64();
    figures(&mut times, rate);
    Ok(())
}

async fn send(args: Args, number: usize) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::open(&args.host).await?;
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1) ^ clock_bits();
    let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let mut times = Vec::with_capacity(args.count);
    for _ in 0..args.count {
        let text = "{U} ".repeat(args.bytes.div_ceil(17));
        let body = form(args.kind, &fill(&text, &mut state));
        let path = match args.kind {
            Kind::Document => "/api/documents/upload",
            Kind::Resource => "/api/resources",
        };
        let sent = Instant::now();
        let part = Some((media_type.as_str(), body.as_bytes()));
        let answer = client.ask("POST", path, part).await?;
        times.push(sent.elapsed());
        if matches!(args.kind, Kind::Document) {
            let accepted: serde_json::Value = serde_json::from_slice(answer)?;
            let id = accepted["job_id"].as_str().context("the id of a job")?;
            let cancel = format!("/api/jobs/{id}/cancel");
            let nothing = Some(("application/json", b"".as_slice()));
            client.ask("POST", &cancel, nothing).await?;
        }
    }
    Ok(times)
}

/// Differs from run to run, so that no file is there already.
fn clock_bits() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(BOUNDARY)
}

fn form(kind: Kind, text: &str) -> String {
    let described = match kind {
        Kind::Document => String::new(),
        Kind::Resource => format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n{}\r\n",
            r#"{"name":"a.txt","media_type":"text/plain"}"#
        ),
    };
    format!(
        "{described}--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--{BOUNDARY}--\r\n"
    )
}
