//! Jobs of a type that only this program knows: queued, claimed beside a long queue, and worked on
//! by many at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::http::Client;
use crate::load::{figures, on_one_thread};

/// What to do with jobs.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Queue so many jobs.
    Queue {
        /// Address and port of the server.
        #[arg(long)]
        host: String,
        /// Jobs.
        #[arg(long)]
        count: usize,
        /// Clients that queue them.
        #[arg(long, default_value_t = 32)]
        clients: usize,
    },
    /// Claim, complete and queue another, again and again; the claims are measured.
    Claim {
        /// Address and port of the server.
        #[arg(long)]
        host: String,
        /// Claims.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Queue jobs while workers claim and complete them.
    Work(Work),
}

/// Who does how much.
#[derive(clap::Args)]
pub(crate) struct Work {
    /// Address and port of the server.
    #[arg(long)]
    host: String,
    /// Workers, each with one connection.
    #[arg(long)]
    workers: usize,
    /// Clients that queue.
    #[arg(long)]
    clients: usize,
    /// Jobs that wait at most.
    #[arg(long)]
    waiting_max: usize,
    /// Seconds that are measured, behind one that is not.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// The type of the jobs.
const KIND: &str = "bench.nothing";
/// How long a worker waits for a job that is not there.
const WAIT_MS: u64 = 1000;
const WARM_UP: Duration = Duration::from_secs(1);

/// Does it, and tells the figures.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Queue {
            host,
            count,
            clients,
        } => {
            let started = Instant::now();
            let mut times = on_one_thread(*clients, |number| {
                let share = count / clients + usize::from(number < count % clients);
                queue_all(host.clone(), share, started)
            })?;
            let rate = times.len() as f64 / started.elapsed().as_secs_f64();
            figures(&mut times, rate);
        }
        Command::Claim { host, count } => {
            let started = Instant::now();
            let mut times = on_one_thread(1, |_| claim_all(host.clone(), *count, started))?;
            let rate = times.len() as f64 / started.elapsed().as_secs_f64();
            figures(&mut times, rate);
        }
        Command::Work(work) => work_on(work)?,
    }
    Ok(())
}

async fn post(client: &mut Client, path: &str, body: &Value) -> anyhow::Result<Value> {
    let body = body.to_string();
    let body = Some(("application/json", body.as_bytes()));
    let answer = client.ask("POST", path, body).await?;
    // A claim for which there is nothing has no body.
    if answer.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(answer)?)
}

/// Queues a job that says when it was sent.
async fn queue(client: &mut Client, started: Instant) -> anyhow::Result<()> {
    let sent_us = u64::try_from(started.elapsed().as_micros())?;
    let job = json!({ "type": KIND, "payload": { "sent_us": sent_us } });
    post(client, "/api/jobs", &job).await.map(drop)
}

/// A job that was claimed.
struct Claimed {
    id: String,
    token: u64,
    sent: Duration,
}

/// Claims a job; none when there is none.
async fn claim(client: &mut Client, wait_ms: u64) -> anyhow::Result<Option<Claimed>> {
    let asked = json!({ "worker": "bench", "types": [KIND], "wait_ms": wait_ms });
    let claimed = post(client, "/api/workers/claim", &asked).await?;
    if claimed.is_null() {
        return Ok(None);
    }
    let id = claimed["job"]["id"].as_str().context("an id")?;
    let token = claimed["fencing_token"].as_u64().context("a token")?;
    let sent_us = claimed["job"]["payload"]["sent_us"].as_u64();
    Ok(Some(Claimed {
        id: id.to_owned(),
        token,
        sent: Duration::from_micros(sent_us.context("when it was sent")?),
    }))
}

async fn complete(client: &mut Client, claimed: &Claimed) -> anyhow::Result<()> {
    let path = format!("/api/workers/jobs/{}/complete", claimed.id);
    let done = json!({ "fencing_token": claimed.token, "result": { "words": 5 } });
    post(client, &path, &done).await.map(drop)
}

async fn queue_all(host: String, count: usize, started: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::open(&host).await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let sent = Instant::now();
        queue(&mut client, started).await?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

async fn claim_all(host: String, count: usize, started: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::open(&host).await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let sent = Instant::now();
        let claimed = claim(&mut client, 0).await?;
        times.push(sent.elapsed());
        let claimed = claimed.context("a job that waits")?;
        complete(&mut client, &claimed).await?;
        queue(&mut client, started).await?;
    }
    Ok(times)
}

/// What queueing clients and workers have in common.
struct Shared {
    started: Instant,
    end: Duration,
    waiting_max: usize,
    /// Jobs that were queued, or are about to be, and are not claimed.
    waiting: Cell<usize>,
    claimed: Notify,
    /// From the sending of a job to the answer of its claim.
    until_claimed: RefCell<Vec<Duration>>,
    completed: Cell<usize>,
    is_over: Cell<bool>,
}

fn work_on(work: &Work) -> anyhow::Result<()> {
    let shared = Rc::new(Shared {
        started: Instant::now(),
        end: WARM_UP + Duration::from_secs(work.seconds),
        waiting_max: work.waiting_max,
        waiting: Cell::new(0),
        claimed: Notify::new(),
        until_claimed: RefCell::default(),
        completed: Cell::new(0),
        is_over: Cell::new(false),
    });
    on_one_thread(work.workers + work.clients, |number| {
        let (host, shared) = (work.host.clone(), Rc::clone(&shared));
        let is_worker = number < work.workers;
        async move {
            if is_worker {
                do_jobs(&host, &shared).await?;
            } else {
                queue_jobs(&host, &shared).await?;
            }
            Ok(Vec::new())
        }
    })?;
    let mut times = shared.until_claimed.take();
    figures(
        &mut times,
        shared.completed.get() as f64 / work.seconds as f64,
    );
    Ok(())
}

async fn queue_jobs(host: &str, shared: &Shared) -> anyhow::Result<()> {
    let mut client = Client::open(host).await?;
    while !shared.is_over.get() {
        if shared.waiting.get() >= shared.waiting_max {
            shared.claimed.notified().await;
            continue;
        }
        shared.waiting.set(shared.waiting.get() + 1);
        queue(&mut client, shared.started).await?;
    }
    Ok(())
}

async fn do_jobs(host: &str, shared: &Shared) -> anyhow::Result<()> {
    let mut client = Client::open(host).await?;
    while shared.started.elapsed() < shared.end {
        let Some(claimed) = claim(&mut client, WAIT_MS).await? else {
            continue;
        };
        let waited = shared.started.elapsed().saturating_sub(claimed.sent);
        shared.waiting.set(shared.waiting.get().saturating_sub(1));
        shared.claimed.notify_one();
        complete(&mut client, &claimed).await?;
        if shared.started.elapsed() >= WARM_UP {
            shared.completed.set(shared.completed.get() + 1);
            shared.until_claimed.borrow_mut().push(waited);
        }
    }
    shared.is_over.set(true);
    shared.claimed.notify_waiters();
    Ok(())
}
