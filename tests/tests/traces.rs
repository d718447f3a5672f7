//! The story of a trace, from the request to what failed at the end (row C4).

use serde_json::{Value, json};
use stemma_tests::{Behaviour, Client, DIMENSION, ModelServer, Server, Upload};

use crate::access::create_token;
use crate::documents::{TEXT, text_of};

async fn story(client: &Client, trace_id: &str) -> Value {
    client
        .get(&format!("/api/traces/{trace_id}"))
        .await
        .expect(200)
}

fn types(story: &Value) -> Vec<&str> {
    let events = story["events"].as_array().expect("events");
    events.iter().map(|event| text_of(&event["type"])).collect()
}

#[tokio::test]
async fn a_trace_tells_the_request_its_events_and_its_job_step_by_step() {
    let server = Server::start();
    let client = server.client();
    // One id of the client's, and one that the server makes.
    for own in [Some("night-run:7"), None] {
        let text = format!("{TEXT}\n\n{own:?}");
        let upload = client.uploading(&Upload::of("a.md", text));
        let upload = match own {
            Some(own) => upload.header("x-request-id", own),
            None => upload,
        };
        let answer = client.send(upload).await;
        let trace_id = answer.header("x-request-id").to_owned();
        assert!(own.is_none_or(|own| own == trace_id));
        let told = answer.expect(202);
        let job_id = text_of(&told["job_id"]);
        client.ended(job_id).await;
        // Somebody else's, at the same time.
        client.create("another", "Jupiter").await;
        let story = story(&client, &trace_id).await;
        let request = &story["requests"][0];
        assert_eq!(request["path"], "/api/documents/upload", "{story}");
        assert_eq!(
            (&request["method"], &request["status"]),
            (&json!("POST"), &json!(202))
        );
        let types = types(&story);
        for wanted in [
            "resource.created",
            "document.uploaded",
            "job.queued",
            "job.claimed",
        ] {
            assert!(types.contains(&wanted), "{wanted} {types:?}");
        }
        let stages = types
            .iter()
            .filter(|t| **t == "document.stage_completed")
            .count();
        assert_eq!(stages, 6, "{types:?}");
        let creations = types.iter().filter(|t| **t == "resource.created").count();
        assert_eq!(creations, 1, "{types:?}");
        assert_eq!(types.last(), Some(&"job.completed"));
        let positions = story["events"].as_array().expect("events");
        let positions: Vec<u64> = positions
            .iter()
            .filter_map(|e| e["position"].as_u64())
            .collect();
        assert!(positions.is_sorted());
        let job = &story["jobs"][0];
        assert_eq!(job["id"], job_id);
        assert_eq!(job["status"], "completed");
        assert_eq!(tries(job), ALL.map(|stage| format!("1 {stage} completed")));
        assert!(job["steps"]["parse"]["completed_at"].is_string(), "{story}");
        assert_eq!(story["is_complete"], true);
    }
}

/// The stages of a document.
const ALL: [&str; 6] = ["validate", "parse", "chunk", "embed", "detect", "index"];

/// The tries at stages that a job's story tells, each with its attempt and its outcome.
///
/// # Panics
/// When the times of one contradict each other, or those of another.
fn tries(job: &Value) -> Vec<String> {
    let mut ended_before = "";
    let tries = job["stages"].as_array().expect("stages").iter();
    let told = tries.map(|tried| {
        let (started, ended) = (text_of(&tried["started_at"]), text_of(&tried["ended_at"]));
        assert!(text_of(&job["started_at"]) <= ended, "{job}");
        assert!(started <= ended && ended_before <= ended, "{job}");
        ended_before = ended;
        let [stage, status] = ["stage", "status"].map(|field| text_of(&tried[field]));
        assert_eq!(tried["error"].is_object(), status == "failed", "{job}");
        assert!(!text_of(&tried["worker"]).is_empty());
        format!("{} {stage} {status}", tried["attempt"])
    });
    told.collect()
}

#[tokio::test]
async fn a_trace_tells_each_try_at_a_stage_with_its_times_and_what_failed() {
    let model = ModelServer::start();
    let server = Server::builder()
        .env("STEMMA_EMBED__URL", &model.url())
        .env("STEMMA_EMBED__MODEL", "stand-in")
        .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
        .env("STEMMA_JOBS__RETRIES_MAX", "1")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
        .start();
    let client = server.client();
    model.behave(Behaviour::Status(500, Vec::new(), "{}".to_owned()));
    let upload = client.uploading(&Upload::of("a.md", TEXT));
    let told = client.send(upload.header("x-request-id", "tried")).await;
    let told = told.expect(202);
    let job_id = text_of(&told["job_id"]);
    assert_eq!(client.ended(job_id).await["status"], "failed");
    // A person has it tried anew, under a trace of their own.
    model.behave(Behaviour::Well);
    let retry = format!("/api/jobs/{job_id}/retry");
    client.raw("POST", &retry, &[], "").await.expect(202);
    assert_eq!(client.ended(job_id).await["status"], "completed");
    let story = story(&client, "tried").await;
    let job = &story["jobs"][0];
    let expected = [
        "1 validate completed",
        "1 parse completed",
        "1 chunk completed",
        "1 embed failed",
        "2 embed failed",
        "3 embed completed",
        "3 detect completed",
        "3 index completed",
    ];
    assert_eq!(tries(job), expected, "{story}");
    let stages = job["stages"].as_array().expect("stages");
    assert!(
        stages.iter().all(|tried| tried["took_ms"].is_u64()),
        "{story}"
    );
    assert_eq!(stages[3]["error"]["stage"], "embed");
    assert_eq!(stages[3]["error"]["transient"], true);
    let failures = job["failures"].as_array().expect("failures");
    for (failure, tried) in failures.iter().zip(&stages[3..5]) {
        let of = |other: &str| (&failure[other], &tried[other]);
        assert_eq!(failure["failed_at"], tried["ended_at"]);
        for (remembered, told) in [of("stage"), of("attempt"), of("error")] {
            assert_eq!(remembered, told);
        }
    }
    assert_eq!(failures.len(), 2);
    assert_eq!(job["attempts"].as_array().map(Vec::len), Some(3), "{story}");
}

/// Nobody measured how long a worker outside was at a stage that it gave up.
#[tokio::test]
async fn a_stage_that_a_worker_outside_gave_up_began_behind_what_was_recorded_before_it() {
    let server = Server::builder().env("STEMMA_JOBS__WORKERS", "0").start();
    let client = server.client();
    let upload = client.uploading(&Upload::of("a.txt", "Stars."));
    let told = client.send(upload.header("x-request-id", "outside")).await;
    let told = told.expect(202);
    let asked = json!({ "worker": "w", "types": ["document.process"], "wait_ms": 10_000 });
    let claimed = client.post("/api/workers/claim", &asked).await.expect(200);
    let tell = |call: &str, mut body: Value| {
        body["fencing_token"] = claimed["fencing_token"].clone();
        let path = format!("/api/workers/jobs/{}/{call}", text_of(&told["job_id"]));
        let client = &client;
        async move { client.post(&path, &body).await.expect(200) }
    };
    let validated = json!({ "format": "plain_text", "media_type": "text/plain",
        "encoding": "UTF-8", "byte_order_mark": false, "page_count": null, "warnings": [] });
    tell("stages/validate", json!({ "output": validated })).await;
    let error =
        json!({ "code": "NO_TEXT", "message": "none", "stage": "parse", "transient": false });
    tell("fail", json!({ "error": error })).await;
    let story = story(&client, "outside").await;
    let job = &story["jobs"][0];
    assert_eq!(tries(job), ["1 validate completed", "1 parse failed"]);
    let (validate, parse) = (&job["stages"][0], &job["stages"][1]);
    assert_eq!(parse["started_at"], validate["ended_at"], "{story}");
    assert_eq!(parse.get("took_ms"), None, "{story}");
    assert_eq!(parse["error"], error);
}

#[tokio::test]
async fn what_failed_is_told_by_trace_and_in_one_list() {
    let server = Server::start();
    let client = server.client();
    let upload = client.uploading(&Upload::of("empty.txt", " "));
    let upload = upload.header("x-request-id", "broken-1");
    let told = client.send(upload).await.expect(202);
    client.ended(text_of(&told["job_id"])).await;
    let story = story(&client, "broken-1").await;
    let failure = &story["jobs"][0]["failures"][0];
    assert_eq!(failure["stage"], "validate", "{story}");
    assert_eq!(failure["error"]["code"], "EMPTY");
    let wrong = client
        .request("POST", "/api/resources")
        .json(&json!({ "name": 7 }));
    let wrong = client.send(wrong.header("x-request-id", "broken-2")).await;
    wrong.expect_problem(422, "INVALID_FIELDS");
    let all = client.get("/api/errors").await.expect(200);
    let all = all["items"].as_array().expect("a list");
    let of = |trace: &str| all.iter().find(|error| error["trace_id"] == trace);
    let request = of("broken-2").expect("it failed");
    assert_eq!(
        (&request["kind"], &request["status"]),
        (&json!("request"), &json!(422))
    );
    let job = of("broken-1").expect("it failed");
    assert_eq!(
        (&job["code"], &job["stage"]),
        (&json!("EMPTY"), &json!("validate"))
    );
    let jobs = client
        .get("/api/errors?kind=job&code=EMPTY")
        .await
        .expect(200);
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(1), "{jobs}");
    let none = client
        .get("/api/errors?before=2020-01-01T00:00:00Z")
        .await
        .expect(200);
    assert_eq!(none["items"], json!([]));
    let unknown = client.get("/api/traces/never-seen").await;
    unknown.expect_problem(404, "TRACE_NOT_FOUND");
}

/// Found: they told no position, so that nobody knew what a story or a list of failures holds.
#[tokio::test]
async fn a_story_and_what_failed_tell_the_position_that_they_reflect() {
    let server = Server::start();
    let client = server.client();
    let made = client
        .request("POST", "/api/entity_types")
        .json(&json!({ "name": "Moon" }));
    let made = client.send(made.header("x-request-id", "seen-at")).await;
    made.expect(201);
    let written = made.position();
    for path in ["/api/traces/seen-at", "/api/errors"] {
        let seen = client.get(&format!("{path}?min_position={written}")).await;
        seen.expect(200);
        assert_eq!(seen.position(), written, "{path}");
        let ahead = format!("{path}?min_position={}&timeout_ms=1", written + 1);
        client.get(&ahead).await.expect_problem(503, "NOT_YET");
    }
    let story = story(&client, "seen-at").await;
    assert_eq!(story["events"][0]["position"], written, "{story}");
    // What another wrote since moves it on.
    client.create("another", "Jupiter").await;
    let seen = client.get("/api/traces/seen-at").await;
    assert!(seen.position() > written);
}

#[tokio::test]
async fn a_trace_of_long_ago_and_of_before_a_restart_is_found() {
    let mut server = Server::start();
    let client = server.client();
    let made = client
        .request("POST", "/api/entity_types")
        .json(&json!({ "name": "Moon" }));
    // An id that looks like one of ours, and tells another time.
    let old = "01900000000070008000000000000001";
    client
        .send(made.header("x-request-id", old))
        .await
        .expect(201);
    let own = client
        .json("POST", "/api/entity_types", &json!({ "name": "Star" }))
        .await;
    let own = own.header("x-request-id").to_owned();
    server.stop();
    server.start_again();
    let client = server.client();
    for trace_id in [old, &own] {
        let story = story(&client, trace_id).await;
        assert_eq!(types(&story), ["entity_type.registered"], "{trace_id}");
        assert_eq!(story["requests"], json!([]), "requests end with the server");
    }
}

#[tokio::test]
async fn whoever_is_no_admin_is_told_of_their_own_traces() {
    let data = tempfile::tempdir().expect("a directory");
    let [writer, other, admin] = ["writer", "reader", "admin"].map(|role| {
        let made = create_token(data.path(), role, &[]);
        text_of(&made["token"]).to_owned()
    });
    let server = Server::builder().data(data.path()).start();
    let client = |token: &str| Client::showing(server.url(), Some(token));
    let upload = client(&writer).uploading(&Upload::of("a.md", TEXT));
    let told = client(&writer)
        .send(upload.header("x-request-id", "mine"))
        .await
        .expect(202);
    client(&writer).ended(text_of(&told["job_id"])).await;
    let own = story(&client(&writer), "mine").await;
    assert!(types(&own).contains(&"document.stage_completed"));
    assert_eq!(types(&own), types(&story(&client(&admin), "mine").await));
    let hidden = client(&other).get("/api/traces/mine").await;
    hidden.expect_problem(404, "TRACE_NOT_FOUND");
    assert_eq!(client(&writer).get("/api/errors").await.status, 403);
}

/// Found: while a model was away nothing was told to have failed.
#[tokio::test]
async fn a_job_that_waits_for_its_next_try_is_among_what_failed() {
    let model = ModelServer::start();
    model.behave(Behaviour::Status(500, Vec::new(), "{}".to_owned()));
    let server = Server::builder()
        .env("STEMMA_DETECT__URL", &model.url())
        .env("STEMMA_DETECT__MODEL", "stand-in")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "600000")
        .env("STEMMA_JOBS__RETRY_CAP_MS", "600000")
        .start();
    let client = server.client();
    let told = client.upload(&Upload::of("a.txt", "Ulugh Beg.")).await;
    let job = told.expect(202)["job_id"].clone();
    let is_retrying = |job: &Value| job["status"] == "retrying";
    client.reaches(text_of(&job), is_retrying).await;
    let errors = client.get("/api/errors?kind=job").await.expect(200);
    let failed = &errors["items"][0];
    assert_eq!(
        (&failed["job_id"], &failed["stage"]),
        (&job, &json!("detect")),
        "{errors}"
    );
}

/// Found: a story of a few hundred large batches was held in memory whole, and with it all that was
/// read beside them.
#[tokio::test]
async fn a_trace_of_many_large_events_is_told_as_far_as_there_is_room() {
    const BATCHES: usize = 4;
    const EVENTS: usize = 30;
    const BYTES: usize = 200_000;
    const ROOM: usize = 16 << 20;
    let server = Server::start();
    let client = server.client();
    let made = json!({ "op": "create_resource", "name": "n", "media_type": "text/plain",
        "content": "c", "metadata": { "text": "x".repeat(BYTES) } });
    let batch = json!({ "operations": vec![made; EVENTS] });
    for _ in 0..BATCHES {
        let request = client.request("POST", "/api/batch").json(&batch);
        let request = request.header("x-request-id", "large");
        client.send(request).await.expect(200);
        // Another's, which stands right behind it.
        client.create("another", "Jupiter").await;
    }
    let story = story(&client, "large").await;
    let events = story["events"].as_array().expect("events");
    let told: Vec<u64> = events
        .iter()
        .filter_map(|event| event["position"].as_u64())
        .collect();
    // The first of them, whole, and nothing in between that is not of it.
    let of_it = (0..BATCHES).flat_map(|batch| {
        let first = batch * (EVENTS + 1);
        first..first + EVENTS
    });
    let of_it: Vec<u64> = of_it.map(|position| position as u64).collect();
    assert_eq!(told, of_it[..told.len()]);
    assert!(
        (2 * EVENTS..=ROOM / BYTES + 1).contains(&told.len()),
        "{}",
        told.len()
    );
    assert_eq!(story["is_complete"], false);
}
