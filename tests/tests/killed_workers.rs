//! Server and workers killed together, at random moments of a load of documents and jobs: nothing
//! is lost, done twice or stuck (rows B4, B6, E2).
//!
//! `STEMMA_TEST_KILL_ROUNDS` says how often, `STEMMA_TEST_KILL_SEED` by which dice;
//! `cargo xtask kill` runs it so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stemma_tests::{Client, Server};
use tokio::task::JoinSet;

use crate::documents::{assert_whole, text_of};
use crate::documents_cli::{Program, worker};
use crate::killed_jobs::{
    Dice, Sent, assert_nothing_is_doubled, assert_views_are_as_made_anew, send, watch,
};

const ROUNDS: u64 = 10;
const SEED: u64 = 20;
/// Documents and jobs of our own that are sent in each round.
const DOCUMENTS: u64 = 3;
const JOBS: u64 = 2;
/// Processes of `stemma worker`.
const WORKERS: [&str; 2] = ["first", "second"];
const LEASE_MS: u64 = 1_000;
/// Most events that a round sees before its kill, and how long it lasts at most.
const EVENTS_MAX: u64 = 60;
const ROUND: Duration = Duration::from_secs(20);
/// How long all may take that is left at the end.
const PATIENCE: Duration = Duration::from_mins(5);

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let told = std::env::var(name);
    told.map_or(otherwise, |told| told.parse().expect("a number"))
}

/// The server, which works as well, and the workers beside it.
struct Processes {
    // In this order: nobody is left to look for the server.
    workers: Vec<Program>,
    server: Server,
}

impl Processes {
    fn start() -> Self {
        let server = Server::builder()
            .env("STEMMA_JOBS__WORKERS", "1")
            .env("STEMMA_JOBS__LEASE_MS", &LEASE_MS.to_string())
            .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
            .env("STEMMA_LOG__SEGMENT_BYTES_MAX", "262144")
            .start();
        let workers = WORKERS.iter().map(|name| start_worker(&server, name));
        let workers = workers.collect();
        Self { workers, server }
    }

    /// Kills some of them, as the bits say, the server last or first.
    fn kill(&mut self, victims: u64, is_server_first: bool) {
        let is_chosen = |index: usize| victims & (1 << index) != 0;
        let is_server = is_chosen(WORKERS.len());
        if is_server && is_server_first {
            self.server.kill();
        }
        for (index, worker) in self.workers.iter_mut().enumerate() {
            if is_chosen(index) {
                worker.0.kill().expect("the process is ours");
                worker.0.wait().expect("the process is ours");
            }
        }
        if is_server && !is_server_first {
            self.server.kill();
        }
    }

    fn start_again(&mut self, victims: u64) {
        if victims & (1 << WORKERS.len()) != 0 {
            self.server.start_again();
        }
        for (index, name) in WORKERS.iter().enumerate() {
            if victims & (1 << index) != 0 {
                self.workers[index] = start_worker(&self.server, name);
            }
        }
    }
}

/// A worker that tells of nothing but what it cannot mend: the rest is the test's own doing.
fn start_worker(server: &Server, name: &str) -> Program {
    Program::start(worker(server, name).env("STEMMA_LOG", "error"))
}

/// Queues jobs of our own, each under its key, until the server is gone; true when all are there.
async fn queue(client: &Client, numbers: std::ops::Range<u64>) -> bool {
    for number in numbers {
        let job = json!({ "type": "ocr", "payload": { "n": number } });
        let request = client.request("POST", "/api/jobs").json(&job);
        let request = request.header("Idempotency-Key", format!("job-{number}"));
        let Ok(answer) = request.send().await else {
            return false;
        };
        assert_eq!(answer.status().as_u16(), 201);
    }
    true
}

/// A call to the server, which may go at any moment.
async fn call(client: &Client, path: &str, body: &Value) -> Option<(u16, Value)> {
    let answer = client.request("POST", path).json(body).send().await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.ok()?;
    Some((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Does our own jobs for as long as there are any, and the server is there.
async fn work(client: Client, wait_ms: u64) {
    let asked = json!({ "worker": "third", "types": ["ocr"], "wait_ms": wait_ms });
    while let Some((200, claimed)) = call(&client, "/api/workers/claim", &asked).await {
        let path = format!(
            "/api/workers/jobs/{}/complete",
            text_of(&claimed["job"]["id"])
        );
        let result = json!({ "n": claimed["job"]["payload"]["n"] });
        let done = json!({ "fencing_token": claimed["fencing_token"], "result": result });
        // Where the answer is lost the lease is as well, or the job is done.
        let told = call(&client, &path, &done).await;
        assert!(
            told.as_ref()
                .is_none_or(|(status, _)| [200, 409].contains(status)),
            "{told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr)] // the dice, and figures for whoever runs many rounds
async fn documents_and_jobs_are_done_once_however_often_server_and_workers_are_killed() {
    let rounds = from_environment("STEMMA_TEST_KILL_ROUNDS", ROUNDS);
    let seed = from_environment("STEMMA_TEST_KILL_SEED", SEED);
    eprintln!("seed {seed}, {rounds} rounds");
    let mut processes = Processes::start();
    let client = processes.server.client();
    let (sent, mut dice) = (Sent::default(), Dice(seed));
    let mut kills = [0; WORKERS.len() + 1];
    for round in 0..rounds {
        let fresh = round * DOCUMENTS..(round + 1) * DOCUMENTS;
        let fresh = fresh.map(|number| (number, None));
        sent.lock().expect("no panic").extend(fresh);
        let mut tasks = JoinSet::new();
        tasks.spawn(send(client.clone(), Arc::clone(&sent)));
        let ours = client.clone();
        tasks.spawn(async move {
            // Those before, as well: their answers may have been lost.
            let first = (round * JOBS).saturating_sub(3 * JOBS);
            if queue(&ours, first..(round + 1) * JOBS).await {
                work(ours, 0).await;
            }
        });
        let (n_events, spin) = (1 + dice.below(EVENTS_MAX), dice.below(3000));
        drop(tokio::time::timeout(ROUND, watch(&client, n_events, spin)).await);
        // Each in its turn, and perhaps others with it.
        let victims = (1 << (round % kills.len() as u64)) | dice.below(1 << kills.len());
        processes.kill(victims, dice.below(2) == 0);
        for (index, count) in kills.iter_mut().enumerate() {
            *count += u64::from(victims & (1 << index) != 0);
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task panics");
        }
        processes.start_again(victims);
    }
    send(client.clone(), Arc::clone(&sent)).await;
    assert!(queue(&client, 0..rounds * JOBS).await);
    work(client.clone(), 2 * LEASE_MS).await;
    let lost = assert_all_is_done(&client, &sent, rounds).await;
    eprintln!("kills of workers and server: {kills:?}; lost in the middle: {lost:?}");
    assert_views_are_as_made_anew(&client).await;
}

/// Holds every document and job to be done, and once; gives who was lost over one.
async fn assert_all_is_done(client: &Client, sent: &Sent, rounds: u64) -> BTreeSet<String> {
    let told: Vec<Value> = {
        let sent = sent.lock().expect("no panic");
        sent.values()
            .map(|told| told.clone().expect("an answer"))
            .collect()
    };
    for each in &told {
        let id = text_of(&each["job_id"]);
        let job = client.ended_within(id, PATIENCE).await;
        assert_eq!(job["status"], "completed", "{job}");
        assert_whole(client, text_of(&each["document_id"])).await;
    }
    let jobs = client.every("/api/jobs?limit=100").await;
    let (ours, documents): (Vec<&Value>, Vec<&Value>) =
        jobs.iter().partition(|job| job["type"] == "ocr");
    let numbers: BTreeSet<u64> = ours
        .iter()
        .filter_map(|job| job["result"]["n"].as_u64())
        .collect();
    assert_eq!(ours.len() as u64, rounds * JOBS, "one job under each key");
    assert_eq!(numbers, (0..rounds * JOBS).collect());
    assert_eq!(documents.len() as u64, rounds * DOCUMENTS);
    assert!(jobs.iter().all(|job| job["status"] == "completed"));
    assert_nothing_is_doubled(client, told.len()).await;
    let attempts = jobs.iter().filter_map(|job| job["attempts"].as_array());
    let lost = attempts
        .flatten()
        .filter(|attempt| attempt["error"]["code"] == "WORKER_LOST");
    let lost: BTreeSet<String> = lost.map(|a| text_of(&a["worker"]).to_owned()).collect();
    assert!(!lost.is_empty(), "no kill came while a job ran");
    lost
}
