//! What was acknowledged is there after the process was killed, whatever it was doing (row E2).
//!
//! `STEMMA_TEST_KILL_ROUNDS` says how often; `cargo xtask kill --rounds N` runs it so.

use std::sync::{Arc, Mutex};

use serde_json::json;
use stemma_tests::{Answer, Client, Server, run};
use tokio::task::JoinSet;

const ROUNDS: usize = 10;
const WRITERS: u64 = 6;
/// Writes that are acknowledged before a round's kill, and some more each round, so that kills come
/// at other moments.
const WRITES: usize = 60;
/// Writes of earlier rounds that are looked at in each round; the last looks at all.
const LOOKS: usize = 50;
/// Rounds between two verifications from the command line.
const VERIFY_EVERY: usize = 10;
/// Content that is large enough for a file of its own.
const LARGE_BYTES: usize = 1 << 20;

/// A write as it was sent, under an idempotency key that is its id.
#[derive(Debug, Clone)]
struct Sent {
    id: String,
    text: String,
}

/// What the writers of a round know.
#[derive(Debug, Default)]
struct Known {
    /// With the position that each was acknowledged at.
    acknowledged: Vec<(Sent, u64)>,
    /// Sent, and the server was gone before it answered.
    unanswered: Vec<Sent>,
}

type Shared = Arc<Mutex<Known>>;

fn send(client: &Client, sent: &Sent) -> reqwest::RequestBuilder {
    let body =
        json!({ "id": sent.id, "name": "n", "media_type": "text/plain", "content": sent.text });
    client
        .request("POST", "/api/resources")
        .header("Idempotency-Key", &sent.id)
        .json(&body)
}

/// Writes until the server is gone; one of the writers writes large content.
async fn write(client: Client, round: usize, writer: u64, known: Shared) {
    for number in 0_u64.. {
        let mut text = format!("text {round} {writer} {number} ");
        if writer == 0 {
            text = text.repeat(LARGE_BYTES / text.len() + 1);
        }
        let id = format!(
            "019a0000-{round:04x}-7000-{:04x}-{number:012x}",
            0x8000 + writer
        );
        let sent = Sent { id, text };
        let answered = send(&client, &sent).send().await;
        let mut known = known.lock().expect("no panic");
        match answered {
            Ok(answer) if answer.status().as_u16() == 201 => {
                let position = answer.headers()["stemma-position"].to_str();
                let position = position.expect("ASCII").parse().expect("a position");
                known.acknowledged.push((sent, position));
            }
            _ => return known.unanswered.push(sent),
        }
    }
}

/// Has the server rebuild, verify and collect until it is gone.
async fn administer(client: Client) {
    for task in ["rebuild/views", "verify", "collect"].into_iter().cycle() {
        let path = format!("/api/admin/{task}");
        if client.request("POST", &path).send().await.is_err() {
            return;
        }
    }
}

async fn holds(client: &Client, (sent, position): &(Sent, u64)) {
    let content = client
        .get(&format!("/api/resources/{}/content", sent.id))
        .await;
    assert_eq!((content.status, content.text()), (200, sent.text.clone()));
    let again = client.send(send(client, sent)).await;
    assert_eq!(
        (again.status, again.position()),
        (201, *position),
        "{sent:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr)] // figures for whoever runs many rounds
async fn what_was_acknowledged_survives_a_kill_under_load() {
    let rounds = std::env::var("STEMMA_TEST_KILL_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let dir = tempfile::tempdir().expect("a directory");
    let start = || {
        Server::builder()
            .data(&dir.path().join("data"))
            .env("STEMMA_LOG__SEGMENT_BYTES_MAX", "262144")
            .start()
    };
    let mut server = start();
    let mut kept: Vec<(Sent, u64)> = Vec::new();
    for round in 0..rounds {
        let known = play(&mut server, round).await;
        server = start();
        let client = server.client();
        let earlier = kept.iter().step_by(kept.len() / LOOKS + 1);
        for write in known.acknowledged.iter().chain(earlier) {
            holds(&client, write).await;
        }
        kept.extend(known.acknowledged);
        // Whole or not at all: sent again it is there once, whether or not it was before.
        for sent in known.unanswered {
            let answer: Answer = client.send(send(&client, &sent)).await;
            answer.expect(201);
            let position = answer.position();
            holds(&client, &(sent.clone(), position)).await;
            kept.push((sent, position));
        }
        if (round + 1) % VERIFY_EVERY == 0 {
            verify(&server);
        }
    }
    let client = server.client();
    for write in &kept {
        holds(&client, write).await;
    }
    assert_eq!(server.stop(), Some(0));
    verify(&server);
    eprintln!("{rounds} kills, {} writes kept", kept.len());
}

/// Loads the server and kills it; gives what was acknowledged, and what was not answered.
async fn play(server: &mut Server, round: usize) -> Known {
    let known = Shared::default();
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        tasks.spawn(write(server.client(), round, writer, Arc::clone(&known)));
    }
    tasks.spawn(administer(server.client()));
    while known.lock().expect("no panic").acknowledged.len() < WRITES + round % 37 {
        tokio::task::yield_now().await;
    }
    server.kill();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }
    std::mem::take(&mut *known.lock().expect("no panic"))
}

fn verify(server: &Server) {
    let data = server.data().to_str().expect("a path in UTF-8");
    let verified = run(&["verify", "--data", data]);
    let told = String::from_utf8_lossy(&verified.stdout);
    assert_eq!(verified.status.code(), Some(0), "{told}");
}
