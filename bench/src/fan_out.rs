//! One writer and many that listen: how long until the last of them has seen a write.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::http::{Chunks, Messages, events};
use crate::load::{fill, percentile, post};

/// Longest wait for one write to reach all.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to send and to whom.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address and port of the server.
    #[arg(long)]
    host: String,
    /// Path of the stream.
    #[arg(long)]
    stream: String,
    /// Path of the requests that write.
    #[arg(long)]
    path: String,
    /// Their body; each `{U}` becomes sixteen digits that differ each time.
    #[arg(long)]
    body: String,
    /// Clients that listen.
    #[arg(long, default_value_t = 1000)]
    listeners: usize,
    /// Writes.
    #[arg(long, default_value_t = 200)]
    writes: usize,
    /// Milliseconds from one write to the next; 0 for as soon as the last one was seen by all.
    #[arg(long, default_value_t = 0)]
    gap_ms: u64,
}

/// What the listeners know of.
#[derive(Default)]
struct Seen {
    /// Writes that each listener was shown.
    counts: RefCell<Vec<u64>>,
    /// Listeners that were shown as many as were written.
    reached: Cell<usize>,
    written: Cell<u64>,
    first: Cell<Option<Instant>>,
    all: Notify,
}

/// Runs the load and tells its figures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure(args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let seen = Rc::new(Seen::default());
    *seen.counts.borrow_mut() = vec![0; args.listeners];
    for number in 0..args.listeners {
        let mut stream = TcpStream::connect(&args.host).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
            args.stream, args.host
        );
        stream.write_all(request.as_bytes()).await?;
        let chunks = Chunks::open(stream).await?;
        tokio::task::spawn_local(listen(chunks, number, Rc::clone(&seen)));
    }
    let mut stream = TcpStream::connect(&args.host).await?;
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.split();
    let mut answers = Messages::new(from);
    let (mut last, mut answered, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    let (mut state, mut lost) = (u64::from(Instant::now().elapsed().subsec_nanos()) | 1, 0);
    let started = Instant::now();
    for number in 0..args.writes {
        let request = post(&args.host, &args.path, &fill(&args.body, &mut state));
        seen.reached.set(0);
        seen.first.set(None);
        seen.written.set(number as u64 + 1);
        let sent = Instant::now();
        to.write_all(request.as_bytes()).await?;
        let answer = answers.next().await?.context("the server closed")?;
        anyhow::ensure!(answer.head.starts_with("HTTP/1.1 2"), "{}", answer.head);
        let acknowledged = Instant::now();
        answered.push(acknowledged - sent);
        let waiting = async {
            while seen.reached.get() < args.listeners {
                seen.all.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            lost += args.listeners - seen.reached.get();
        }
        last.push(sent.elapsed());
        let first = seen.first.get().unwrap_or_else(Instant::now);
        behind.push(first.saturating_duration_since(acknowledged));
        let gap = Duration::from_millis(args.gap_ms).saturating_sub(sent.elapsed());
        if !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
    }
    let deliveries = (args.listeners * args.writes) as f64 / started.elapsed().as_secs_f64();
    println!(
        r#"{{"per_second":{deliveries:.0},"p50_us":{},"p99_us":{},"answered_p50_us":{},"behind_p50_us":{},"lost":{lost}}}"#,
        percentile(&mut last, 0.5),
        percentile(&mut last, 0.99),
        percentile(&mut answered, 0.5),
        percentile(&mut behind, 0.5),
    );
    Ok(())
}

/// Counts what a listener is shown.
async fn listen(
    mut chunks: Chunks<TcpStream>,
    number: usize,
    seen: Rc<Seen>,
) -> anyhow::Result<()> {
    loop {
        let chunk = chunks.next().await?;
        let events = events(chunk) as u64;
        if events == 0 {
            continue;
        }
        let mut counts = seen.counts.borrow_mut();
        counts[number] += events;
        if seen.first.get().is_none() {
            seen.first.set(Some(Instant::now()));
        }
        if counts[number] == seen.written.get() {
            seen.reached.set(seen.reached.get() + 1);
            if seen.reached.get() == counts.len() {
                seen.all.notify_one();
            }
        }
    }
}
