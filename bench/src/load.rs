//! A load of writers: each has one connection and one request under way.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::Messages;

/// Of a run, what is not measured at its beginning.
const WARM_UP: Duration = Duration::from_secs(1);

/// What to send.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address and port of the server.
    #[arg(long)]
    host: String,
    /// Path of the requests; `{W}` becomes the writer's number in twelve digits.
    #[arg(long)]
    path: String,
    /// Body of the requests; `{U}` becomes sixteen digits that differ each time. Without one they
    /// are `GET`.
    #[arg(long)]
    body: Option<String>,
    /// Writers at the same time.
    #[arg(long)]
    writers: usize,
    /// Events that one request makes.
    #[arg(long, default_value_t = 1)]
    events: usize,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// Runs the load and tells its figures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let end = WARM_UP + Duration::from_secs(args.seconds);
    let mut times = on_one_thread(args.writers, |number| {
        let path = args.path.replace("{W}", &format!("{number:012}"));
        write(args.host.clone(), path, args.body.clone(), (started, end))
    })?;
    if times.is_empty() {
        bail!("nothing was answered");
    }
    let rate = (times.len() * args.events) as f64 / args.seconds as f64;
    figures(&mut times, rate);
    Ok(())
}

/// Runs so many clients on one thread, and gives how long all that they measured took.
pub(crate) fn on_one_thread<F>(
    clients: usize,
    client: impl Fn(usize) -> F,
) -> anyhow::Result<Vec<Duration>>
where
    F: Future<Output = anyhow::Result<Vec<Duration>>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let all: Vec<_> = (0..clients)
            .map(|number| tokio::task::spawn_local(client(number)))
            .collect();
        let mut times = Vec::new();
        for one in all {
            times.extend(one.await??);
        }
        Ok(times)
    })
}

/// Prints a rate, and what the times come to, as one line of JSON.
pub(crate) fn figures(times: &mut [Duration], per_second: f64) {
    println!(
        r#"{{"per_second":{per_second:.0},"p50_us":{},"p99_us":{},"max_us":{}}}"#,
        percentile(times, 0.5),
        percentile(times, 0.99),
        percentile(times, 1.0)
    );
}

/// How long this share of them took at most, in microseconds.
pub(crate) fn percentile(times: &mut [Duration], share: f64) -> u128 {
    times.sort_unstable();
    let index = times.len().saturating_sub(1) as f64 * share;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    times.get(index as usize).map_or(0, Duration::as_micros)
}

async fn write(
    host: String,
    path: String,
    body: Option<String>,
    (started, end): (Instant, Duration),
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(&host).await.context(host.clone())?;
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.split();
    let mut answers = Messages::new(from);
    let mut times = Vec::new();
    let mut state = path.len() as u64 ^ u64::from(started.elapsed().subsec_nanos()) | 1;
    while started.elapsed() < end {
        let request = match &body {
            Some(body) => post(&host, &path, &fill(body, &mut state)),
            None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        };
        let sent = Instant::now();
        to.write_all(request.as_bytes()).await?;
        let answer = answers.next().await?.context("the server closed")?;
        if !answer.head.starts_with("HTTP/1.1 2") {
            bail!("{}{}", answer.head, String::from_utf8_lossy(answer.body));
        }
        if started.elapsed() >= WARM_UP {
            times.push(sent.elapsed());
        }
    }
    Ok(times)
}

/// A request that writes.
pub(crate) fn post(host: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

pub(crate) fn fill(body: &str, state: &mut u64) -> String {
    let mut filled = String::with_capacity(body.len() + 512);
    let mut parts = body.split("{U}");
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        filled.push_str(&format!("{state:016x}"));
        filled.push_str(part);
    }
    filled
}
