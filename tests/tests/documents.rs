//! Documents: uploaded, processed, read again; sent twice, processed once (rows B1, B4).

use serde_json::{Value, json};
use stemma_tests::{Client, Server, SseReader, Upload};

use crate::written;

pub(crate) const TEXT: &str = "# Moons\n\nGalileo Galilei saw four moons of Jupiter in 1610.\n\n\
    ## Rings 🪐\n\nChristiaan Huygens saw the rings of Saturn in 1655. Zīj-i Sultani is older.\n";
const STEPS: [&str; 6] = ["validate", "parse", "chunk", "embed", "detect", "index"];

pub(crate) fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// One file of each format that is read, all with the same names in them.
fn files() -> Vec<Upload> {
    let html = "<!doctype html><title>t</title><h1>Moons</h1><p>Galileo Galilei saw four moons of \
        Jupiter in 1610.</p><script>no()</script><p>Zīj &amp; 🪐</p>";
    let body = [
        written::paragraph(r#"<w:pStyle w:val="Heading1"/>"#, "Moons"),
        written::paragraph(
            "",
            "Galileo Galilei saw four moons of Jupiter in 1610. Zīj 🪐",
        ),
    ];
    let pages = [
        "Galileo Galilei saw four moons of Jupiter in 1610.",
        "Christiaan Huygens saw the rings of Saturn in 1655.",
    ];
    vec![
        Upload::of("moons.md", TEXT).typed("text/markdown"),
        Upload::of("moons.txt", TEXT.replace('#', "*")).typed("text/plain"),
        Upload::of("moons.html", html).typed("text/html"),
        Upload::of("moons.docx", written::docx(&body.concat())),
        Upload::of("moons.pdf", written::pdf(&pages, "")).typed("application/pdf"),
    ]
}

/// A part of a text, by its characters.
pub(crate) fn slice(text: &[char], start: &Value, end: &Value) -> String {
    let place = |value: &Value| usize::try_from(value.as_u64().expect("a place")).expect("small");
    text[place(start)..place(end)].iter().collect()
}

/// Holds a document to be whole: each step done, its chunks and annotations where they say.
pub(crate) async fn assert_whole(client: &Client, id: &str) {
    let document = client.document(id).await;
    for step in STEPS {
        let step = &document["steps"][step];
        assert_eq!(step["status"], "completed", "{document}");
        assert!(step["started_at"].is_string() && step["completed_at"].is_string());
    }
    assert_eq!(document["active_jobs"], json!([]), "{document}");
    let text = client.get(&format!("/api/documents/{id}/text")).await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    let text: Vec<char> = text.text().chars().collect();
    // Page by page, but not a thousand of them.
    let is_short = document["chunk_count"].as_u64() < Some(20);
    let limit = if is_short { 2 } else { 100 };
    let chunks = client
        .every(&format!("/api/documents/{id}/chunks?limit={limit}"))
        .await;
    assert_eq!(document["chunk_count"], chunks.len(), "{document}");
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk["index"], index);
        let there = slice(&text, &chunk["start"], &chunk["end"]);
        assert_eq!(chunk["text"], there);
        assert!(!there.trim().is_empty(), "{chunk}");
    }
    assert_annotations_stand(client, &document, &text).await;
}

async fn assert_annotations_stand(client: &Client, document: &Value, text: &[char]) {
    let id = text_of(&document["id"]);
    let annotations = client
        .every(&format!("/api/resources/{id}/annotations?limit=100"))
        .await;
    let figures = &document["steps"]["detect"]["figures"];
    assert_eq!(annotations.len(), figures["entity_count"], "{document}");
    for annotation in &annotations {
        let selectors = annotation["target"]["selector"].as_array();
        let selectors = selectors.expect("position and quote");
        let of = |kind: &str| {
            let found = selectors.iter().find(|s| s["type"] == kind);
            found.unwrap_or_else(|| panic!("no {kind}: {annotation}"))
        };
        let (position, quote) = (of("TextPositionSelector"), of("TextQuoteSelector"));
        let there = slice(text, &position["start"], &position["end"]);
        assert_eq!(quote["exact"], there, "{annotation}");
        let kind = &annotation["body"][0]["value"];
        let types = document["entity_types"].as_array().expect("types");
        assert!(types.contains(kind), "{kind} of {document}");
    }
}

#[tokio::test]
async fn each_format_is_taken_at_once_processed_and_read_again() {
    let server = Server::start();
    let client = server.client();
    let mut taken = Vec::new();
    for upload in files() {
        let answer = client.upload(&upload).await;
        let told = answer.expect(202);
        assert_eq!(told["deduplicated"], false);
        assert_eq!(told["status"], "queued");
        assert!(told["message"].is_string() && told["created_at"].is_string());
        let place = format!("/api/jobs/{}", text_of(&told["job_id"]));
        assert_eq!(answer.header("location"), place);
        assert!(answer.position() > 0);
        taken.push((upload, told));
    }
    for (upload, told) in taken {
        let job = client.ended(text_of(&told["job_id"])).await;
        assert_eq!(job["status"], "completed", "{}: {job}", upload.name);
        assert_eq!(job["document_id"], told["document_id"]);
        assert_eq!(job["type"], "document.process");
        assert_eq!(
            (&job["progress"], &job["retry_count"]),
            (&json!(100), &json!(0))
        );
        assert!(job["started_at"].is_string() && job["completed_at"].is_string());
        let id = text_of(&told["document_id"]);
        assert_whole(&client, id).await;
        let document = client.document(id).await;
        assert_eq!(document["file_name"], upload.name);
        assert!(
            text_of(&document["steps"]["detect"]["figures"]["detector"]).len() > 1
                && document["annotation_count"].as_u64() >= Some(2),
            "{document}"
        );
        let content = client.get(&format!("/api/resources/{id}/content")).await;
        assert_eq!(content.bytes, upload.bytes);
        assert_eq!(client.job(text_of(&job["id"])).await, job);
    }
}

#[tokio::test]
async fn a_job_tells_of_itself_by_stream_and_by_being_asked() {
    let server = Server::start();
    let client = server.client();
    let long = TEXT.repeat(400);
    let told = client
        .upload(&Upload::of("long.md", long))
        .await
        .expect(202);
    let id = text_of(&told["job_id"]);
    let path = format!("/api/jobs/{id}");
    let stream = client.request("GET", &format!("{path}/events/stream"));
    let mut frames = SseReader::open(stream).await;
    let (mut names, mut percents) = (Vec::new(), Vec::new());
    while let Some(frame) = frames.next().await {
        let Some(name) = frame.event.clone() else {
            continue;
        };
        let job = frame.json();
        assert_eq!(job["id"], id);
        names.push(name);
        percents.push(job["progress"].as_u64().expect("a percentage"));
        let asked = client.get(&format!("{path}/status")).await.expect(200);
        assert_eq!(asked["id"], id);
    }
    let (last, before) = names.split_last().expect("it told of itself");
    assert_eq!(last, "completed");
    assert!(
        before.iter().all(|name| name == "progress") && before.len() > 2,
        "{names:?}"
    );
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(percents.last(), Some(&100));
    // Who comes late is told the end at once.
    let stream = client.request("GET", &format!("{path}/events/stream"));
    let mut frames = SseReader::open(stream).await;
    assert_eq!(
        frames.until("completed").await.json()["status"],
        "completed"
    );
    assert_eq!(frames.next().await, None);
    assert_whole(&client, text_of(&told["document_id"])).await;
}

async fn jobs_of(client: &Client, document: &str) -> Vec<Value> {
    let path = format!("/api/jobs?document_id={document}&limit=100");
    client.every(&path).await
}

#[tokio::test]
async fn the_same_bytes_name_the_same_document_and_queue_nothing() {
    let server = Server::start();
    let client = server.client();
    let upload = Upload::of("a.md", TEXT);
    let (job, document) = client.processed(&upload).await;
    let id = text_of(&document["id"]);
    let before = client
        .every("/api/events?after=start&limit=500")
        .await
        .len();
    let again = [
        upload.clone(),
        Upload::of("other-name.txt", TEXT),
        upload.clone().with("chunk_size", "50"),
        upload.clone().with("steps", "none"),
    ];
    for upload in again {
        let told = client.upload(&upload).await.expect(202);
        assert_eq!(told["document_id"], id);
        assert_eq!(told["job_id"], job["id"]);
        assert_eq!(
            (&told["deduplicated"], &told["status"]),
            (&json!(true), &json!("completed"))
        );
    }
    let after = client
        .every("/api/events?after=start&limit=500")
        .await
        .len();
    assert_eq!(before, after);
    assert_eq!(jobs_of(&client, id).await.len(), 1);
    let other = upload.with("collection", "papers");
    let told = client.upload(&other).await.expect(202);
    assert_eq!(told["deduplicated"], false);
    assert_ne!(told["document_id"], id);
    client.ended(text_of(&told["job_id"])).await;
    let other = client.document(text_of(&told["document_id"])).await;
    assert_eq!(
        (&other["collection"], &other["digest"]),
        (&json!("papers"), &document["digest"])
    );
    assert_whole(&client, text_of(&told["document_id"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_uploads_of_the_same_bytes_at_once_are_one_document_and_one_job() {
    let server = Server::start();
    let client = server.client();
    let uploads = (0..16).map(|n| {
        let (client, upload) = (client.clone(), Upload::of(&format!("{n}.md"), TEXT));
        async move { client.upload(&upload).await.expect(202) }
    });
    let told = futures_util::future::join_all(uploads).await;
    let first: Vec<&Value> = told.iter().filter(|t| t["deduplicated"] == false).collect();
    assert_eq!(first.len(), 1, "{told:?}");
    for each in &told {
        assert_eq!(each["document_id"], first[0]["document_id"]);
        assert_eq!(each["job_id"], first[0]["job_id"]);
    }
    let id = text_of(&first[0]["document_id"]);
    let job = client.ended(text_of(&first[0]["job_id"])).await;
    assert_eq!(job["status"], "completed");
    assert_eq!(jobs_of(&client, id).await.len(), 1);
    assert_whole(&client, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_repeated_gives_the_first_answer() {
    let server = Server::start();
    let client = server.client();
    let upload = Upload::of("a.md", TEXT);
    let send = async |key: &str, upload: &Upload| {
        let request = client.uploading(upload).header("Idempotency-Key", key);
        client.send(request).await
    };
    let first = send("k1", &upload).await;
    let told = first.expect(202);
    client.ended(text_of(&told["job_id"])).await;
    let again = send("k1", &upload).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(
        (again.expect(202), again.position()),
        (told.clone(), first.position())
    );
    let other = Upload::of("a.md", format!("{TEXT}more"));
    let refused = send("k1", &other).await;
    refused.expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
    let elsewhere = Upload::of("a.md", TEXT).with("collection", "drafts");
    let refused = send("k1", &elsewhere).await;
    refused.expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
    let deduplicated = send("k2", &upload).await.expect(202);
    assert_eq!(deduplicated["deduplicated"], true);
    assert_eq!(deduplicated["document_id"], told["document_id"]);
    // Sixteen times at once under one key: sixteen times the one answer.
    let fresh = Upload::of("b.md", format!("{TEXT}fresh"));
    let sent = (0..16).map(|_| send("k3", &fresh));
    let answers = futures_util::future::join_all(sent).await;
    let bodies: Vec<Value> = answers.iter().map(|answer| answer.expect(202)).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let jobs = jobs_of(&client, text_of(&bodies[0]["document_id"])).await;
    assert_eq!(jobs.len(), 1);
}

async fn step(client: &Client, id: &str, step: &str, settings: &Value) -> stemma_tests::Answer {
    let path = format!("/api/documents/{id}/steps/{step}");
    client.post(&path, settings).await
}

#[tokio::test]
async fn steps_by_hand_run_in_order_once_each() {
    let server = Server::start();
    let client = server.client();
    let upload = Upload::of("a.md", TEXT).with("steps", "none");
    let told = client.upload(&upload).await.expect(202);
    assert_eq!(told["status"], "completed");
    let id = text_of(&told["document_id"]);
    let document = client.document(id).await;
    for step in STEPS {
        assert_eq!(document["steps"][step], json!({ "status": "pending" }));
    }
    for path in ["text", "chunks", "structure"] {
        let early = client.get(&format!("/api/documents/{id}/{path}")).await;
        early.expect_problem(409, "STAGE_MISSING");
    }
    let nothing = json!({});
    for (index, name) in STEPS.iter().enumerate() {
        for later in &STEPS[index + 1..] {
            let early = step(&client, id, later, &nothing).await;
            early.expect_problem(409, "STAGE_MISSING");
        }
        let path = format!("/api/documents/{id}/steps/{name}");
        let answer = client.raw("POST", &path, &[], "").await;
        let job = client.ended(text_of(&answer.expect(202)["id"])).await;
        assert_eq!(job["status"], "completed", "{name}: {job}");
        assert_eq!(
            (&job["type"], &job["max_retries"]),
            (&json!("document.step"), &json!(0))
        );
        let again = step(&client, id, name, &nothing).await.expect(200);
        assert_eq!(again, job, "{name}");
    }
    assert_whole(&client, id).await;
    assert_eq!(jobs_of(&client, id).await.len(), 1 + STEPS.len());
    step(&client, id, "polish", &nothing)
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
    let elsewhere = "019a0000-0000-7000-8000-000000000000";
    step(&client, elsewhere, "parse", &nothing)
        .await
        .expect_problem(404, "DOCUMENT_NOT_FOUND");
}

#[tokio::test]
async fn chunks_are_cut_anew_on_request_and_what_rests_on_them_is_to_be_done_again() {
    let server = Server::start();
    let client = server.client();
    let (_, document) = client.processed(&Upload::of("a.md", TEXT.repeat(9))).await;
    let id = text_of(&document["id"]);
    let page = client
        .get(&format!("/api/documents/{id}/chunks?limit=1"))
        .await
        .expect(200);
    let settings = json!({ "chunking_strategy": "size", "chunk_size": 60, "chunk_overlap": 7 });
    let job = step(&client, id, "chunk", &settings).await.expect(202);
    let job = client.ended(text_of(&job["id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let now = client.document(id).await;
    assert!(now["chunk_count"].as_u64() > document["chunk_count"].as_u64());
    assert_eq!(
        now["chunking"],
        json!({ "strategy": "size", "size": 60, "overlap": 7 })
    );
    for (name, status) in [
        ("chunk", "completed"),
        ("embed", "pending"),
        ("index", "pending"),
    ] {
        assert_eq!(now["steps"][name]["status"], status, "{name} of {now}");
    }
    for name in ["validate", "parse", "detect"] {
        assert_eq!(now["steps"][name], document["steps"][name]);
    }
    // A cursor of the chunks as they were is none of theirs now.
    let cursor = text_of(&page["next_cursor"]);
    client
        .get(&format!(
            "/api/documents/{id}/chunks?limit=1&cursor={cursor}"
        ))
        .await
        .expect_problem(422, "INVALID_CURSOR");
    step(&client, id, "index", &json!({}))
        .await
        .expect_problem(409, "STAGE_MISSING");
    for name in ["embed", "index"] {
        let job = step(&client, id, name, &json!({})).await.expect(202);
        client.ended(text_of(&job["id"])).await;
    }
    assert_whole(&client, id).await;
    // The same settings again: nothing to do.
    step(&client, id, "chunk", &settings).await.expect(200);
    for (field, value) in [
        ("chunk_size", json!(0)),
        ("chunk_overlap", json!(60)),
        ("chunking_strategy", json!("words")),
        ("size", json!(5)),
    ] {
        let mut wrong = settings.clone();
        wrong[field] = value;
        step(&client, id, "chunk", &wrong)
            .await
            .expect_problem(422, "INVALID_FIELDS");
    }
    let embed = step(&client, id, "embed", &settings).await;
    embed.expect_problem(422, "INVALID_FIELDS");
}

#[tokio::test]
async fn a_step_asked_for_again_under_its_key_gives_the_first_answer_and_is_done_once() {
    let server = Server::start();
    let client = server.client();
    let upload = Upload::of("a.md", TEXT).with("steps", "none");
    let told = client.upload(&upload).await.expect(202);
    let id = text_of(&told["document_id"]);
    let path = format!("/api/documents/{id}/steps/validate");
    let keyed = [("Idempotency-Key", "step-1")];
    let first = client.raw("POST", &path, &keyed, "").await;
    let job = first.expect(202);
    client.ended(text_of(&job["id"])).await;
    let again = client.raw("POST", &path, &keyed, "").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(
        again.expect(202),
        job,
        "as it was then, though it is done by now"
    );
    assert_eq!(jobs_of(&client, id).await.len(), 2);
}

#[tokio::test]
async fn a_step_that_is_under_way_is_not_queued_twice() {
    // Nobody is there to do it.
    let server = Server::builder().env("STEMMA_JOBS__WORKERS", "0").start();
    let client = server.client();
    let upload = Upload::of("a.md", TEXT).with("steps", "none");
    let told = client.upload(&upload).await.expect(202);
    let id = text_of(&told["document_id"]);
    let first = step(&client, id, "validate", &json!({})).await.expect(202);
    let again = step(&client, id, "validate", &json!({})).await.expect(202);
    assert_eq!(again["id"], first["id"]);
    client
        .raw(
            "POST",
            &format!("/api/jobs/{}/cancel", text_of(&first["id"])),
            &[],
            "",
        )
        .await
        .expect(202);
    let anew = step(&client, id, "validate", &json!({})).await.expect(202);
    assert_ne!(anew["id"], first["id"]);
}

#[tokio::test]
async fn collecting_content_leaves_what_documents_rest_on() {
    let server = Server::start();
    let client = server.client();
    let (_, document) = client.processed(&Upload::of("a.md", TEXT.repeat(3))).await;
    let id = text_of(&document["id"]);
    let settings = json!({ "chunking_strategy": "size", "chunk_size": 50 });
    let job = step(&client, id, "chunk", &settings).await.expect(202);
    client.ended(text_of(&job["id"])).await;
    let collected = client.raw("POST", "/api/admin/collect", &[], "").await;
    assert_eq!(collected.expect(200)["blobs_removed"], 0);
    for name in ["embed", "index"] {
        let job = step(&client, id, name, &json!({})).await.expect(202);
        client.ended(text_of(&job["id"])).await;
    }
    assert_whole(&client, id).await;
}
