//! No upload that was acknowledged is lost or done twice, however often the server is killed or
//! stopped while it works (rows B4, E2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stemma_tests::{Behaviour, Client, DIMENSION, ModelServer, Server, SseReader, Upload};
use tokio::task::JoinSet;

use crate::documents::{TEXT, assert_whole, text_of};

const ROUNDS: u64 = 12;
/// Documents that are sent in each round.
const DOCUMENTS: u64 = 4;
/// Most events that a round sees before its kill.
const EVENTS_MAX: u64 = 70;
/// How long a round lasts at most, where fewer events come.
const ROUND: Duration = Duration::from_secs(20);

/// Numbers that are the same in each run (Knuth's MMIX generator).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Uploads by number: what was answered, or nothing yet.
pub(crate) type Sent = Arc<Mutex<BTreeMap<u64, Option<Value>>>>;

fn upload(number: u64) -> Upload {
    let text = format!("{TEXT}\nJohannes Hevelius drew map {number}.\n").repeat(3);
    Upload::of(&format!("{number}.md"), text)
}

fn sending(client: &Client, number: u64) -> reqwest::RequestBuilder {
    let request = client.uploading(&upload(number));
    // Every other one relies on its bytes alone.
    match number % 2 {
        0 => request,
        _ => request.header("Idempotency-Key", format!("upload-{number}")),
    }
}

/// Sends what has no answer yet, until the server is gone.
pub(crate) async fn send(client: Client, sent: Sent) {
    let open: Vec<u64> = {
        let sent = sent.lock().expect("no panic");
        sent.iter()
            .filter(|(_, told)| told.is_none())
            .map(|(number, _)| *number)
            .collect()
    };
    for number in open {
        let Ok(answer) = sending(&client, number).send().await else {
            return;
        };
        let status = answer.status().as_u16();
        let Ok(told) = answer.json::<Value>().await else {
            return;
        };
        assert_eq!(status, 202, "{told}");
        sent.lock().expect("no panic").insert(number, Some(told));
    }
}

/// Reads so many events of the log, and a little more.
pub(crate) async fn watch(client: &Client, n_events: u64, spin: u64) {
    let stream = client.request("GET", "/api/events/stream");
    let mut frames = SseReader::open(stream).await;
    for _ in 0..n_events {
        if frames.next_event().await.is_none() {
            return;
        }
    }
    for _ in 0..spin {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_uploaded_is_processed_once_however_often_the_server_is_killed() {
    let mut server = Server::builder()
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
        .env("STEMMA_LOG__SEGMENT_BYTES_MAX", "262144")
        .start();
    let client = server.client();
    let (sent, mut dice) = (Sent::default(), Dice(7));
    for round in 0..ROUNDS {
        let fresh = round * DOCUMENTS..(round + 1) * DOCUMENTS;
        sent.lock()
            .expect("no panic")
            .extend(fresh.map(|number| (number, None)));
        let mut tasks = JoinSet::new();
        tasks.spawn(send(client.clone(), Arc::clone(&sent)));
        for task in ["collect", "rebuild/views"] {
            let asked = client.request("POST", &format!("/api/admin/{task}"));
            tasks.spawn(async move { drop(asked.send().await) });
        }
        let (n_events, spin) = (1 + dice.below(EVENTS_MAX), dice.below(3000));
        drop(tokio::time::timeout(ROUND, watch(&client, n_events, spin)).await);
        server.kill();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task panics");
        }
        server.start_again();
    }
    send(client.clone(), Arc::clone(&sent)).await;
    let told: Vec<Value> = {
        let sent = sent.lock().expect("no panic");
        sent.values()
            .map(|told| told.clone().expect("an answer"))
            .collect()
    };
    for each in &told {
        let job = client.ended(text_of(&each["job_id"])).await;
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["document_id"], each["document_id"]);
        assert_whole(&client, text_of(&each["document_id"])).await;
    }
    let jobs = client.every("/api/jobs?limit=100").await;
    let jobs: Vec<&Value> = jobs
        .iter()
        .filter(|job| job["type"] == "document.process")
        .collect();
    assert_eq!(
        jobs.len() as u64,
        ROUNDS * DOCUMENTS,
        "one job for each document"
    );
    let was_lost = |job: &&&Value| job["retry_count"].as_u64() > Some(0);
    assert!(
        jobs.iter().filter(was_lost).count() > 0,
        "no kill came while a job ran"
    );
    assert_nothing_is_doubled(&client, told.len()).await;
    assert_views_are_as_made_anew(&client).await;
}

pub(crate) async fn assert_nothing_is_doubled(client: &Client, n_documents: usize) {
    let events = client.every("/api/events?after=start&limit=500").await;
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (event, position) in events.iter().zip(0_u64..) {
        assert_eq!(event["position"], position);
        let (name, data) = (text_of(&event["type"]), &event["data"]);
        let what = match name {
            "annotation.added" => text_of(&data["annotation_id"]).to_owned(),
            "document.stage_completed" => {
                format!(
                    "{} {} {}",
                    data["document_id"], data["stage"], data["input"]
                )
            }
            "resource.created" | "document.uploaded" | "job.queued" => data["id"].to_string(),
            "job.completed" => event["stream"].to_string(),
            "entity_type.added" => format!("{} {data}", event["stream"]),
            _ => continue,
        };
        *counts.entry((name.to_owned(), what)).or_default() += 1;
    }
    let doubled: BTreeSet<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    let of = |name: &str| counts.keys().filter(|(of, _)| of == name).count();
    assert_eq!(of("document.uploaded"), n_documents);
    assert_eq!(of("document.stage_completed"), 6 * n_documents);
    assert!(of("annotation.added") >= 3 * n_documents);
}

pub(crate) async fn assert_views_are_as_made_anew(client: &Client) {
    let answer = client
        .raw("POST", "/api/admin/rebuild/views", &[], "")
        .await;
    let job = client.ended(text_of(&answer.expect(202)["id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["result"]["equal"], true, "{job}");
}

/// A server whose model keeps it waiting.
fn embedding_by(model: &ModelServer) -> Server {
    model.behave(Behaviour::Silent);
    Server::builder()
        .env("STEMMA_EMBED__URL", &model.url())
        .env("STEMMA_EMBED__MODEL", "stand-in")
        .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
        .start()
}

#[tokio::test]
async fn a_server_that_is_stopped_gives_its_job_back_and_goes_on_with_it_after_the_restart() {
    let model = ModelServer::start();
    let mut server = embedding_by(&model);
    let client = server.client();
    let told = client.upload(&Upload::of("a.md", TEXT)).await.expect(202);
    model.wait_until_asked(1);
    assert_eq!(server.stop(), Some(0));
    model.behave(Behaviour::Well);
    server.start_again();
    let client = server.client();
    let job = client.ended(text_of(&told["job_id"])).await;
    assert_eq!(
        (&job["status"], &job["retry_count"]),
        (&json!("completed"), &json!(0)),
        "{job}"
    );
    let stream = format!("/api/events?after=start&stream=job-{}", text_of(&job["id"]));
    let events = client.get(&stream).await.expect(200);
    let events = events["items"].as_array().expect("events").clone();
    let names: Vec<&str> = events.iter().map(|event| text_of(&event["type"])).collect();
    let expected = [
        "job.queued",
        "job.claimed",
        "job.released",
        "job.claimed",
        "job.completed",
    ];
    assert_eq!(names, expected);
    assert_eq!(events[1]["data"]["attempt"], 1);
    assert_eq!(
        events[3]["data"]["attempt"], 1,
        "what was given back does not count"
    );
    assert_whole(&client, text_of(&told["document_id"])).await;
}

#[tokio::test]
async fn a_step_without_retries_survives_a_stop_and_a_worker_keeps_its_lease_over_it() {
    let model = ModelServer::start();
    let mut server = embedding_by(&model);
    let client = server.client();
    let upload = Upload::of("a.md", TEXT).with("steps", "none");
    let told = client.upload(&upload).await.expect(202);
    let id = text_of(&told["document_id"]);
    let step = async |name: &str| {
        let path = format!("/api/documents/{id}/steps/{name}");
        client.post(&path, &json!({})).await.expect(202)
    };
    for name in ["validate", "parse", "chunk"] {
        client.ended(text_of(&step(name).await["id"])).await;
    }
    let embedding = step("embed").await;
    model.wait_until_asked(1);
    client
        .post("/api/jobs", &json!({ "type": "ocr" }))
        .await
        .expect(201);
    let asked = json!({ "worker": "w", "types": ["ocr"] });
    let claimed = client.post("/api/workers/claim", &asked).await.expect(200);
    assert_eq!(server.stop(), Some(0));
    model.behave(Behaviour::Well);
    server.start_again();
    let client = server.client();
    let job = client.ended(text_of(&embedding["id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let call = format!(
        "/api/workers/jobs/{}/complete",
        text_of(&claimed["job"]["id"])
    );
    let done = json!({ "fencing_token": claimed["fencing_token"], "result": { "n": 1 } });
    let done = client.post(&call, &done).await.expect(200);
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("completed"), &json!(0))
    );
}
