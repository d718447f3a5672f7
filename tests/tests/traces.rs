//! The story of a trace, from the request to what failed at the end (row C4).

use serde_json::{Value, json};
use stemma_tests::{Client, Server, Upload};

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
        assert!(job["steps"]["parse"]["completed_at"].is_string(), "{story}");
        assert_eq!(story["is_complete"], true);
    }
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
