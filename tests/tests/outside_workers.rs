//! Documents that workers outside the server process, stage by stage (row B6).

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use stemma_tests::{Answer, Behaviour, Client, DIMENSION, ModelServer, Server, Upload};

use crate::bad_input::connect;
use crate::documents::{assert_whole, text_of};
use crate::documents_cli::{Program, worker};

/// How long something may take that has only to come about.
const PATIENCE: Duration = Duration::from_mins(1);
const TEXT: &str = "Zīj. Ulugh Beg saw the stars. Ulugh Beg wrote.";

/// A document whose job is with a worker of ours.
struct Held {
    client: Client,
    job: String,
    document: String,
    token: Value,
}

impl Held {
    /// Uploads a text and claims its job; the server does none itself.
    async fn new(client: Client) -> Self {
        let told = client.upload(&Upload::of("a.txt", TEXT)).await.expect(202);
        let asked = json!({ "worker": "w", "types": ["document.process"], "wait_ms": 10_000 });
        let claimed = client.post("/api/workers/claim", &asked).await.expect(200);
        assert_eq!(claimed["job"]["id"], told["job_id"]);
        assert_eq!(claimed["job"]["document_id"], told["document_id"]);
        Self {
            client,
            job: text_of(&told["job_id"]).to_owned(),
            document: text_of(&told["document_id"]).to_owned(),
            token: claimed["fencing_token"].clone(),
        }
    }

    async fn tell(&self, call: &str, mut body: Value) -> Answer {
        body["fencing_token"] = self.token.clone();
        let path = format!("/api/workers/jobs/{}/{call}", self.job);
        self.client.post(&path, &body).await
    }

    async fn hand_in(&self, stage: &str, output: &Value) -> Answer {
        self.tell(&format!("stages/{stage}"), json!({ "output": output }))
            .await
    }
}

/// Asks for a step of a document by hand, and claims its job.
async fn claim_step(client: &Client, document: &str, step: &str, settings: &Value) -> Held {
    let path = format!("/api/documents/{document}/steps/{step}");
    let queued = client.post(&path, settings).await.expect(202);
    let asked = json!({ "worker": "by hand", "types": ["document.step"], "wait_ms": 10_000 });
    let claimed = client.post("/api/workers/claim", &asked).await.expect(200);
    assert_eq!(claimed["job"]["id"], queued["id"]);
    assert_eq!(claimed["job"]["max_retries"], 0);
    Held {
        client: client.clone(),
        job: text_of(&queued["id"]).to_owned(),
        document: document.to_owned(),
        token: claimed["fencing_token"].clone(),
    }
}

/// Does a step by hand, from the asking to the end of its job.
async fn do_step(client: &Client, document: &str, settings: &Value, output: (&str, &Value)) {
    let held = claim_step(client, document, output.0, settings).await;
    held.hand_in(output.0, output.1).await.expect(200);
    held.tell("complete", json!({})).await.expect(200);
}

/// Has a document cut anew, into two chunks again, at another place.
async fn cut_anew(client: &Client, document: &str, at: u64) {
    let chunks = json!({ "chunks": [{ "start": 0, "end": at }, { "start": at, "end": 46 }] });
    let settings = json!({ "chunking_strategy": "size", "chunk_size": at, "chunk_overlap": 0 });
    do_step(client, document, &settings, ("chunk", &chunks)).await;
}

/// The tag that something of a document is read with.
async fn tag_of(held: &Held, what: &str) -> String {
    let path = format!("/api/documents/{}/{what}", held.document);
    let answer = held.client.get(&path).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.header("etag").to_owned()
}

fn without_workers() -> Server {
    Server::builder().env("STEMMA_JOBS__WORKERS", "0").start()
}

/// What each stage puts out for the text.
fn outputs() -> [(&'static str, Value); 6] {
    let vectors = json!([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]]);
    [
        (
            "validate",
            json!({ "format": "plain_text", "media_type": "text/plain", "encoding": "UTF-8",
                "byte_order_mark": false, "page_count": null, "warnings": [] }),
        ),
        (
            "parse",
            json!({ "text": TEXT, "title": null, "headings": [], "pages": [], "tables": [],
                "warnings": ["read by hand"] }),
        ),
        (
            "chunk",
            json!({ "chunks": [{ "start": 0, "end": 29 }, { "start": 30, "end": 46 }] }),
        ),
        (
            "embed",
            json!({ "model": "m", "dimension": 3, "vectors": vectors }),
        ),
        (
            "detect",
            json!({ "detector": "by hand", "version": 2, "entities": [
                { "text": "Ulugh Beg", "type": "Person", "start": 5, "end": 14 },
                { "text": "Ulugh Beg", "type": "Person", "start": 30, "end": 39 } ] }),
        ),
        ("index", json!({})),
    ]
}

async fn events_of(client: &Client) -> Vec<Value> {
    client.every("/api/events?after=start&limit=500").await
}

#[tokio::test]
async fn stages_handed_in_by_hand_make_a_document_whole_each_with_its_effect_once() {
    let server = without_workers();
    let held = Held::new(server.client()).await;
    for (stage, output) in outputs() {
        held.hand_in(stage, &output).await.expect(200);
        let events = events_of(&held.client).await;
        let again = held.hand_in(stage, &output).await;
        again.expect(200);
        assert_eq!(
            events_of(&held.client).await,
            events,
            "{stage} has its effect once"
        );
        let document = held.client.document(&held.document).await;
        assert_eq!(document["steps"][stage]["status"], "completed");
    }
    let done = held
        .tell("complete", json!({ "result": { "pages": 1 } }))
        .await
        .expect(200);
    assert_eq!(done["status"], "completed");
    assert_whole(&held.client, &held.document).await;
    let document = held.client.document(&held.document).await;
    assert_eq!(document["annotation_count"], 2);
    assert_eq!(document["entity_types"], json!(["Person"]));
    let text = held
        .client
        .get(&format!("/api/documents/{}/text", held.document))
        .await;
    assert_eq!(text.text(), TEXT);
    let late = held.hand_in("index", &json!({})).await;
    late.expect_problem(409, "LEASE_LOST");
}

/// Outputs that are none, by stage.
#[expect(clippy::too_many_lines, reason = "one table")]
fn wrong_outputs() -> Vec<(&'static str, Value)> {
    let spans = |start: u64, end: u64| {
        json!({ "text": TEXT, "title": null, "tables": [], "pages": [], "warnings": [],
            "headings": [{ "level": 1, "start": start, "end": end }] })
    };
    let chunk = |start: u64, end: u64| json!({ "chunks": [{ "start": start, "end": end }] });
    let entity = |text: &str, start: u64, end: u64, kind: &str| {
        json!({ "detector": "d", "entities": [
            { "text": text, "type": kind, "start": start, "end": end }] })
    };
    let more = |output: &Value, place: &str| {
        let mut output = output.clone();
        output.pointer_mut(place).expect("a place")["more"] = json!(1);
        output
    };
    let long_name = "m".repeat(5000);
    vec![
        ("validate", json!([])),
        ("validate", json!({ "format": "odt" })),
        ("parse", json!("text")),
        ("parse", more(&spans(0, 3), "/headings/0")),
        ("parse", more(&spans(0, 3), "")),
        ("validate", more(&outputs()[0].1, "")),
        ("parse", spans(0, 4700)),
        ("parse", spans(9, 3)),
        ("chunk", json!({})),
        ("chunk", json!({ "chunks": [], "more": 1 })),
        ("chunk", chunk(0, 47)),
        ("chunk", chunk(5, 5)),
        ("chunk", chunk(0, 20_001)),
        (
            "chunk",
            json!({ "chunks": [{ "start": 0, "end": 3, "headings": ["1", "2", "3", "4", "5", "6", "7"] }] }),
        ),
        ("chunk", chunk(u64::MAX, 0)),
        ("chunk", chunk(0, u64::MAX)),
        (
            "embed",
            json!({ "model": "m", "dimension": 2, "vectors": [[1.0, 2.0]] }),
        ),
        (
            "embed",
            json!({ "model": "m", "dimension": 0, "vectors": [[], []] }),
        ),
        (
            "embed",
            json!({ "model": "m", "dimension": 8193, "vectors": [vec![0.5; 8193], vec![0.5; 8193]] }),
        ),
        (
            "embed",
            json!({ "model": "m", "dimension": 1, "vectors": [[1.0], [1.0, 2.0]] }),
        ),
        (
            "embed",
            json!({ "model": "m", "dimension": 1, "vectors": [[1.0], [1e39]] }),
        ),
        (
            "embed",
            json!({ "model": "m", "dimension": 1, "vectors_base64": "AAAA" }),
        ),
        (
            "embed",
            json!({ "model": long_name, "dimension": 1, "vectors": [[1.0], [1.0]] }),
        ),
        (
            "embed",
            json!({ "model": "", "dimension": 1, "vectors": [[1.0], [1.0]] }),
        ),
        ("detect", entity("Ulugh Beg", 6, 15, "Person")),
        ("detect", entity("Nobody", 5, 11, "Person")),
        ("detect", entity("Ulugh Beg", 5, 13, "Person")),
        ("detect", entity("", 5, 5, "Person")),
        ("detect", entity("Ulugh Beg", 5, 14, "")),
        (
            "detect",
            more(&entity("Ulugh Beg", 5, 14, "Person"), "/entities/0"),
        ),
        ("detect", json!({ "detector": "", "entities": [] })),
        ("detect", json!({ "detector": long_name, "entities": [] })),
        ("detect", json!({ "detector": "d\n", "entities": [] })),
        ("index", json!([1])),
        ("index", json!({ "indexed": true })),
    ]
}

#[tokio::test]
async fn wrong_outputs_are_refused_and_nothing_of_them_is_recorded() {
    let server = without_workers();
    let held = Held::new(server.client()).await;
    let mut n_wrong = 0;
    for (stage, output) in outputs() {
        let before = events_of(&held.client).await;
        for (_, wrong) in wrong_outputs().iter().filter(|(of, _)| *of == stage) {
            let answer = held.hand_in(stage, wrong).await;
            let problem = answer.expect(422);
            assert_eq!(
                problem["code"], "INVALID_OUTPUT",
                "{stage} {wrong}: {problem}"
            );
            n_wrong += 1;
        }
        let missing = held.tell(&format!("stages/{stage}"), json!({})).await;
        missing.expect_problem(422, "INVALID_FIELDS");
        assert_eq!(events_of(&held.client).await, before, "{stage}");
        for (later, output) in outputs().iter().skip_while(|(of, _)| *of != stage).skip(1) {
            let early = held.hand_in(later, output).await;
            early.expect_problem(409, "STAGE_MISSING");
        }
        held.hand_in(stage, &output).await.expect(200);
    }
    assert_eq!(n_wrong, wrong_outputs().len());
    held.hand_in("polish", &json!({}))
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
    held.tell("complete", json!({})).await.expect(200);
    assert_whole(&held.client, &held.document).await;
}

/// A server whose directory for temporary files was full told the worker that its output was wrong,
/// and the document failed for good.
#[tokio::test]
async fn a_server_that_cannot_make_a_file_for_an_output_says_nothing_against_it() {
    let place = tempfile::tempdir().expect("a directory");
    let files = place.path().join("files");
    let server = Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("TMPDIR", files.to_str().expect("a plain path"))
        .start();
    let held = Held::new(server.client()).await;
    let [validate, parse, chunk, (embed, vectors), ..] = outputs();
    for (stage, output) in [validate, parse, chunk] {
        held.hand_in(stage, &output).await.expect(200);
    }
    let refused = held.hand_in(embed, &vectors).await;
    refused.expect_problem(503, "STORAGE_UNAVAILABLE");
    std::fs::create_dir(&files).expect("a directory");
    held.hand_in(embed, &vectors).await.expect(200);
}

/// A worker whose own disk was full fetched its document again and again, and held the job by its
/// heartbeats for as long as it ran.
#[tokio::test]
async fn a_worker_that_cannot_make_a_file_gives_its_job_up_for_another_try() {
    let place = tempfile::tempdir().expect("a directory");
    let files = place.path().join("files");
    let server = Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("STEMMA_JOBS__RETRIES_MAX", "100")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "200")
        .env("STEMMA_JOBS__RETRY_CAP_MS", "200")
        .start();
    let client = server.client();
    let told = client.upload(&Upload::of("a.txt", TEXT)).await.expect(202);
    let id = text_of(&told["job_id"]);
    let _worker = Program::start(worker(&server, "full").env("TMPDIR", &files));
    let has_failed = |job: &Value| job["error"].is_object();
    let job = client.reaches(id, has_failed).await;
    assert_eq!(job["error"]["code"], "STORAGE_UNAVAILABLE", "{job}");
    assert_eq!(job["error"]["transient"], true, "{job}");
    std::fs::create_dir(&files).expect("a directory");
    let job = client.ended(id).await;
    assert_eq!(job["status"], "completed", "{job}");
}

#[tokio::test]
async fn a_detector_that_looks_again_adds_what_is_new_and_takes_away_what_is_gone() {
    let server = without_workers();
    let held = Held::new(server.client()).await;
    for (stage, output) in outputs() {
        held.hand_in(stage, &output).await.expect(200);
    }
    // What a person said stays.
    let path = format!("/api/resources/{}/annotations", held.document);
    let note = json!({ "body": { "type": "TextualBody", "value": "mine" },
        "target": { "selector": { "type": "TextQuoteSelector", "exact": "stars" } } });
    held.client.post(&path, &note).await.expect(201);
    let found = json!({ "detector": "by hand", "version": 3, "entities": [
        { "text": "Ulugh Beg", "type": "Person", "start": 5, "end": 14 },
        { "text": "stars", "type": "Thing", "start": 23, "end": 28 } ] });
    held.hand_in("detect", &found).await.expect(200);
    let annotations = held.client.every(&format!("{path}?limit=100")).await;
    let mut values: Vec<String> = annotations
        .iter()
        .map(|a| a["body"].get(1).unwrap_or(&a["body"])["value"].to_string())
        .collect();
    values.sort();
    assert_eq!(values, ["\"Ulugh Beg\"", "\"mine\"", "\"stars\""]);
    let figures = held.client.document(&held.document).await["steps"]["detect"]["figures"].clone();
    assert_eq!(
        (
            &figures["annotations_added"],
            &figures["annotations_removed"]
        ),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn a_worker_that_says_a_document_is_done_before_it_is_is_not_believed() {
    let server = without_workers();
    let held = Held::new(server.client()).await;
    let mut last = None;
    for (stage, output) in outputs() {
        let early = held.tell("complete", json!({})).await;
        early.expect_problem(409, "STAGE_MISSING");
        last = Some(held.hand_in(stage, &output).await.expect(200));
    }
    assert!(last.is_some());
    held.tell("complete", json!({})).await.expect(200);
}

#[tokio::test]
async fn a_failed_stage_is_told_of_the_document_and_the_next_worker_goes_on_from_there() {
    let server = Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "10")
        .start();
    let mut held = Held::new(server.client()).await;
    for (stage, output) in &outputs()[..2] {
        held.hand_in(stage, output).await.expect(200);
    }
    let error = json!({ "error": { "code": "NO_KNIFE", "message": "none to be had",
        "stage": "chunk", "transient": true } });
    let told = held.tell("fail", error).await.expect(200);
    assert_eq!(told["status"], "retrying");
    let document = held.client.document(&held.document).await;
    assert_eq!(document["steps"]["chunk"]["status"], "failed");
    assert_eq!(document["failures"][0]["error"]["code"], "NO_KNIFE");
    let late = held.hand_in("chunk", &outputs()[2].1).await;
    late.expect_problem(409, "LEASE_LOST");
    let asked = json!({ "worker": "v", "types": ["document.process"], "wait_ms": 10_000 });
    let claimed = held
        .client
        .post("/api/workers/claim", &asked)
        .await
        .expect(200);
    held.token = claimed["fencing_token"].clone();
    for (stage, output) in &outputs()[2..] {
        held.hand_in(stage, output).await.expect(200);
    }
    held.tell("complete", json!({})).await.expect(200);
    assert_whole(&held.client, &held.document).await;
}

/// An output was once taken whole, and made into values, before anybody looked whose it was: half
/// a gigabyte of memory for a few bytes of a job that does not exist.
#[tokio::test]
async fn an_output_is_not_read_before_it_is_known_that_its_job_is_the_workers() {
    let server = Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("STEMMA_DOCUMENTS__OUTPUT_BYTES_MAX", &(1 << 20).to_string())
        .start();
    let held = Held::new(server.client()).await;
    let send = async |job: &str, body: String| {
        let path = format!("/api/workers/jobs/{job}/stages/validate");
        let request = held.client.request("POST", &path);
        let request = request.header("content-type", "application/json");
        held.client.send(request.body(body)).await
    };
    let nobody = "019a0000-0000-7000-8000-00000000dead";
    let refused = send(nobody, "no JSON".to_owned()).await;
    refused.expect_problem(404, "JOB_NOT_FOUND");
    let whole = json!({ "fencing_token": held.token, "output": outputs()[0].1 }).to_string();
    let room = (1 << 20) - whole.len();
    let longer = send(&held.job, format!("{whole}{}", " ".repeat(room + 1))).await;
    longer.expect_problem(413, "BODY_TOO_LARGE");
    for (body, status, code) in [
        ("no JSON", 400, "MALFORMED_JSON"),
        (
            r#"{"fencing_token": 1, "fencing_token": 1, "output": {}}"#,
            422,
            "REPEATED_KEY",
        ),
        (
            r#"{"fencing_token": 1, "output": {}, "more": 1}"#,
            422,
            "INVALID_FIELDS",
        ),
        (r#"{"fencing_token": 99, "output": {}}"#, 409, "LEASE_LOST"),
    ] {
        let answer = send(&held.job, body.to_owned()).await;
        let problem = answer.expect(status);
        assert_eq!(problem["code"], code, "{body}");
    }
    let fits = send(&held.job, format!("{whole}{}", " ".repeat(room))).await;
    fits.expect(200);
    held.tell("release", json!({})).await.expect(200);
    let late = send(&held.job, whole).await;
    late.expect_problem(409, "LEASE_LOST");
}

/// A worker whose output comes in slowly: it has its room from the moment that its head is there.
fn begin_slowly(held: &Held, server: &Server, bytes: usize) -> std::net::TcpStream {
    let mut stream = connect(server);
    let path = format!("/api/workers/jobs/{}/stages/validate", held.job);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {bytes}\r\nConnection: close\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
    stream
}

/// A document at a server without room for outputs, the slow one that has all of it, and how the
/// next was refused.
async fn without_room() -> (Server, Held, std::net::TcpStream, Answer) {
    const ROOM: usize = 1 << 20;
    let server = Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("STEMMA_DOCUMENTS__OUTPUTS_BYTES_MAX", &ROOM.to_string())
        .start();
    let held = Held::new(server.client()).await;
    let (stage, output) = &outputs()[0];
    let holding = async {
        loop {
            // One that comes beside another is refused itself, and is begun anew.
            let slow = begin_slowly(&held, &server, 2 * ROOM);
            for _ in 0..20 {
                let answer = held.hand_in(stage, output).await;
                if answer.status != 200 {
                    return (slow, answer);
                }
            }
        }
    };
    let holding = tokio::time::timeout(PATIENCE, holding).await;
    let (slow, refused) = holding.expect("the slow one has its room at last");
    (server, held, slow, refused)
}

#[tokio::test]
async fn outputs_beyond_what_the_server_holds_in_memory_are_to_come_later() {
    let (_server, held, slow, refused) = without_room().await;
    let (stage, output) = &outputs()[0];
    refused.expect_problem(503, "TOO_MANY_OUTPUTS");
    assert_eq!(refused.header("retry-after"), "2");
    // The lease goes on meanwhile.
    held.tell("heartbeat", json!({})).await.expect(200);
    drop(slow);
    let taken = async {
        while held.hand_in(stage, output).await.status == 503 {
            tokio::task::yield_now().await;
        }
        held.hand_in(stage, output).await.expect(200)
    };
    let taken = tokio::time::timeout(PATIENCE, taken);
    taken
        .await
        .expect("room comes free when the slow one leaves");
}

/// How many outputs were refused for want of room, of what workers handed in.
async fn n_refused(client: &Client) -> usize {
    let told = client.get("/metrics").await.text();
    let is_meant = |line: &&str| {
        let is_of_route =
            line.starts_with("stemma_http_answers_total") && line.contains("/stages/");
        is_of_route && line.contains("status=\"503\"")
    };
    let figure = told.lines().find(is_meant);
    let figure = figure.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    figure.unwrap_or_default()
}

#[tokio::test]
async fn the_example_in_python_sends_again_what_there_was_no_room_for() {
    /// A call as the example makes them.
    const CALL: &str = "import json, sys\nsys.path.insert(0, sys.argv[1])\nimport worker\n\
        print(json.dumps(worker.post(sys.argv[2], json.loads(sys.argv[3]))))";
    let (server, held, slow, _) = without_room().await;
    let (stage, output) = &outputs()[0];
    let before = n_refused(&held.client).await;
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");
    let url = format!(
        "{}/api/workers/jobs/{}/stages/{stage}",
        server.url(),
        held.job
    );
    let body = json!({ "fencing_token": held.token, "output": output }).to_string();
    let example = Command::new("python3")
        .args(["-B", "-c", CALL, examples, &url, &body])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let is_refused = async {
        while n_refused(&held.client).await == before {
            tokio::task::yield_now().await;
        }
    };
    let is_refused = tokio::time::timeout(PATIENCE, is_refused).await;
    drop(slow);
    let ended = tokio::task::spawn_blocking(|| example.wait_with_output());
    let ended = ended.await.expect("no panic").expect("it ends");
    let told = String::from_utf8_lossy(&ended.stdout);
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert!(
        is_refused.is_ok(),
        "it was never refused: {told}{complaints}"
    );
    assert_eq!(told.trim(), r#"{"recorded": true}"#, "{complaints}");
    let document = held.client.document(&held.document).await;
    assert_eq!(
        document["steps"][stage]["status"], "completed",
        "{document}"
    );
}

/// A claimed step of a document that was uploaded for its steps to be run by hand, with all before
/// it done.
async fn claim_embed(client: &Client) -> Held {
    let upload = Upload::of("a.txt", TEXT).with("steps", "none");
    let told = client.upload(&upload).await.expect(202);
    let document = text_of(&told["document_id"]);
    for (stage, output) in &outputs()[..3] {
        do_step(client, document, &json!({}), (stage, output)).await;
    }
    claim_step(client, document, "embed", &json!({})).await
}

/// Vectors of chunks that were cut anew meanwhile were recorded as those of the new chunks, if only
/// there were as many.
#[tokio::test]
async fn vectors_that_name_chunks_which_were_cut_anew_are_refused_and_the_job_goes_on() {
    let server = without_workers();
    let held = claim_embed(&server.client()).await;
    let [.., (_, vectors), (_, entities), _] = outputs();
    let hand_in = async |tag: &str| {
        let body = json!({ "output": vectors, "made_from": { "chunks": tag } });
        held.tell("stages/embed", body).await
    };
    let (read, text) = (tag_of(&held, "chunks").await, tag_of(&held, "text").await);
    assert_eq!(tag_of(&held, "chunks?limit=1").await, read);
    cut_anew(&held.client, &held.document, 20).await;
    let before = events_of(&held.client).await;
    let refused = hand_in(&read).await;
    let problem = refused.expect_problem(409, "INPUT_CHANGED");
    let detail = text_of(&problem["detail"]);
    assert!(detail.contains("chunk") && detail.contains("read it again"));
    assert_eq!(events_of(&held.client).await, before);
    let path = format!("/api/jobs/{}", held.job);
    let job = held.client.get(&path).await.expect(200);
    assert_eq!(job["status"], "processing", "{job}");
    let now = tag_of(&held, "chunks").await;
    assert_ne!(now, read);
    assert_eq!(tag_of(&held, "text").await, text);
    hand_in(&now).await.expect(200);
    // Without its quotes, and once more, as if the answer had been lost.
    hand_in(now.trim_matches('"')).await.expect(200);
    held.tell("complete", json!({})).await.expect(200);
    let detect = claim_step(&held.client, &held.document, "detect", &json!({})).await;
    let body = json!({ "output": entities, "made_from": { "text": text } });
    detect.tell("stages/detect", body).await.expect(200);
    detect.tell("complete", json!({})).await.expect(200);
    let index = ("index", &json!({}));
    do_step(&held.client, &held.document, &json!({}), index).await;
    assert_whole(&held.client, &held.document).await;
}

#[tokio::test]
async fn an_output_that_names_nothing_is_taken_and_one_that_names_what_nobody_reads_is_not() {
    let server = without_workers();
    let held = claim_embed(&server.client()).await;
    let [.., (_, vectors), _, _] = outputs();
    cut_anew(&held.client, &held.document, 20).await;
    for wrong in [json!({ "vectors": "" }), json!({ "chunks": "r0" })] {
        let body = json!({ "output": vectors, "made_from": wrong });
        let refused = held.tell("stages/embed", body).await;
        refused.expect_problem(422, "INVALID_FIELDS");
    }
    held.hand_in("embed", &vectors).await.expect(200);
    held.tell("complete", json!({})).await.expect(200);
}

#[tokio::test]
async fn chunks_that_name_another_text_than_there_is_are_refused_until_that_is_read() {
    let server = without_workers();
    let held = Held::new(server.client()).await;
    let [(_, validated), (_, parsed), (_, chunks), ..] = outputs();
    held.hand_in("validate", &validated).await.expect(200);
    held.hand_in("parse", &parsed).await.expect(200);
    let read = async || {
        let (text, structure) = (
            tag_of(&held, "text").await,
            tag_of(&held, "structure").await,
        );
        json!({ "output": chunks, "made_from": { "text": text, "structure": structure } })
    };
    let first = read().await;
    // The text is what it was, the headings are not.
    let mut anew = parsed.clone();
    anew["headings"] = json!([{ "level": 1, "start": 0, "end": 3 }]);
    held.hand_in("parse", &anew).await.expect(200);
    let refused = held.tell("stages/chunk", first).await;
    refused.expect_problem(409, "INPUT_CHANGED");
    held.tell("stages/chunk", read().await).await.expect(200);
}

/// A worker of ours failed the step for good, of which no second attempt is made.
#[tokio::test]
async fn a_worker_of_ours_reads_chunks_again_that_were_cut_anew_and_does_its_step() {
    let server = without_workers();
    let held = claim_embed(&server.client()).await;
    held.tell("release", json!({})).await.expect(200);
    let model = ModelServer::start();
    model.behave(Behaviour::Late);
    let _worker = Program::start(
        worker(&server, "ours")
            .env("STEMMA_EMBED__URL", model.url())
            .env("STEMMA_EMBED__MODEL", "late")
            .env("STEMMA_EMBED__DIMENSION", DIMENSION.to_string()),
    );
    model.wait_until_asked(1);
    cut_anew(&held.client, &held.document, 20).await;
    model.behave(Behaviour::Well);
    let job = held.client.ended(&held.job).await;
    assert_eq!(job["status"], "completed", "{job}");
    let chunks = format!("/api/documents/{}/chunks?limit=9", held.document);
    let chunks = held.client.every(&chunks).await;
    let asked = model.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(
        asked[1].body["input"],
        json!([chunks[0]["text"], chunks[1]["text"]])
    );
    let document = held.client.document(&held.document).await;
    assert_eq!(document["steps"]["embed"]["status"], "completed");
    assert_eq!(document["failures"], Value::Null, "{document}");
}
