//! What an operator does over HTTP: health, metrics, documents, rebuild, verify, collect
//! (rows A6, A13).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use stemma_tests::{Client, Server, SseReader};
use tokio::task::JoinSet;

/// Follows a job's stream to its end.
pub(crate) async fn outcome(client: &Client, job: &Value) -> Value {
    let id = job["id"].as_str().expect("an id");
    let stream = format!("/api/jobs/{id}/events/stream");
    let mut reader = SseReader::open(client.request("GET", &stream)).await;
    while let Some(frame) = reader.next().await {
        match frame.event.as_deref() {
            Some("completed" | "failed") => break,
            Some("progress") => assert_eq!(frame.json()["id"], job["id"]),
            _ => {}
        }
    }
    client.get(&format!("/api/jobs/{id}")).await.expect(200)
}

async fn rename(client: &Client, resource: &Value, name: &str) {
    let path = format!("/api/resources/{}", resource["id"].as_str().expect("an id"));
    client
        .json("PATCH", &path, &json!({ "name": name }))
        .await
        .expect(200);
}

#[tokio::test]
async fn health_names_each_part_and_metrics_count() {
    let server = Server::start();
    let client = server.client();
    client.create("a", "x").await;
    client.get("/api/graph/stats").await.expect(200);
    let health = client.get("/api/health").await.expect(200);
    assert_eq!(health["status"], "ok");
    for part in ["log", "content", "views", "graph"] {
        assert_eq!(health["parts"][part]["status"], "ok", "{health}");
    }
    assert_eq!(client.get("/api/health/live").await.status, 200);
    assert_eq!(client.get("/api/health/ready").await.status, 200);
    let metrics = client.get("/metrics").await.text();
    for family in [
        "le=\"+Inf\"",
        "stemma_log_batches_total",
        "stemma_log_append_seconds",
        "stemma_log_group_events",
        "stemma_log_sync_seconds",
        "stemma_views_apply_seconds",
        "stemma_views_lag_events",
        "stemma_graph_lag_seconds",
        "stemma_sse_streams_open",
        "stemma_cache_aggregates_hits_total",
    ] {
        assert!(metrics.contains(family), "{family} in\n{metrics}");
    }
}

#[tokio::test]
async fn the_document_of_the_api_and_its_page_are_served() {
    let server = Server::start();
    let client = server.client();
    let document = client.get("/api/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/resources/{id}"]["patch"].is_object());
    let page = client.get("/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!page.text().contains("//cdn") && !page.text().contains("https://"));
}

/// Built beside the live views while reads and writes go on, compared, swapped in one step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_rebuilt_while_clients_read_and_write() {
    for engine in ["sled", "lsm-tree"] {
        let server = Server::builder()
            .env("STEMMA_VIEWS__ENGINE", engine)
            .start();
        let client = server.client();
        let mut made = Vec::new();
        for number in 0..100 {
            made.push(client.create(&format!("n{number}"), "x").await);
        }
        let (is_over, writes) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = JoinSet::new();
        for resource in made.iter().take(4) {
            let resource = resource.clone();
            let (client, is_over, writes) =
                (client.clone(), Arc::clone(&is_over), Arc::clone(&writes));
            tasks.spawn(async move {
                while !is_over.load(Ordering::Acquire) {
                    let number = writes.fetch_add(1, Ordering::AcqRel);
                    rename(&client, &resource, &format!("r{number}")).await;
                    let page = client.get("/api/resources?limit=500").await.expect(200);
                    assert_eq!(page["items"].as_array().expect("items").len(), 100);
                }
            });
        }
        for _ in 0..3 {
            let answer = client
                .raw("POST", "/api/admin/rebuild/views", &[], "")
                .await;
            let job = answer.expect(202);
            assert_eq!(job["type"], "rebuild.views");
            assert_eq!(
                answer.header("location"),
                format!("/api/jobs/{}", job["id"].as_str().expect("an id"))
            );
            let done = outcome(&client, &job).await;
            assert_eq!(
                (&done["status"], &done["progress"]),
                (&json!("completed"), &json!(100)),
                "{done}"
            );
            let result = &done["result"];
            assert_eq!(
                (&result["equal"], &result["swapped"]),
                (&json!(true), &json!(true)),
                "{done}"
            );
            assert_eq!(result["digest_live"], result["digest_rebuilt"]);
        }
        is_over.store(true, Ordering::Release);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("readers and writers never notice");
        }
        assert!(writes.load(Ordering::Acquire) > 4);
    }
}

#[tokio::test]
async fn a_rebuild_that_is_killed_leaves_the_live_views_as_they_were() {
    let mut server = Server::start();
    let client = server.client();
    let made = client.create("kept", "x").await;
    for number in 0..40 {
        let rename = |n: u32| json!({ "op": "patch_resource", "resource_id": made["id"], "patch": { "name": format!("n{number} {n}") } });
        let operations: Vec<_> = (0..250).map(rename).collect();
        client
            .post("/api/batch", &json!({ "operations": operations }))
            .await
            .expect(200);
    }
    let before = client.get("/api/resources").await.expect(200);
    client
        .raw("POST", "/api/admin/rebuild/views", &[], "")
        .await
        .expect(202);
    server.kill();
    let server = Server::builder().data(server.data()).start();
    let client = server.client();
    assert_eq!(client.get("/api/resources").await.expect(200), before);
    let views = server.data().join("tenants/default/views");
    let generations = std::fs::read_dir(views)
        .expect("the views")
        .filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().starts_with("gen-")
        });
    assert_eq!(generations.count(), 1);
}

#[tokio::test]
async fn verify_and_collect_run_beside_the_work() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "some text").await;
    let job = client
        .raw("POST", "/api/admin/verify", &[], "")
        .await
        .expect(202);
    let done = outcome(&client, &job).await;
    assert_eq!(
        (&done["status"], &done["result"]["verdict"]),
        (&json!("completed"), &json!("intact")),
        "{done}"
    );
    let collected = client.raw("POST", "/api/admin/collect", &[], "").await;
    assert!(
        [200, 202].contains(&collected.status),
        "{}",
        collected.text()
    );
    let content = format!(
        "/api/resources/{}/content",
        made["id"].as_str().expect("an id")
    );
    assert_eq!(client.get(&content).await.text(), "some text");
    let listed = client.get("/api/jobs").await.expect(200);
    assert!(
        listed["items"]
            .as_array()
            .expect("items")
            .iter()
            .any(|item| item["id"] == job["id"])
    );
    client
        .get("/api/jobs/019a0000-0000-7000-8000-00000000ffff")
        .await
        .expect_problem(404, "JOB_NOT_FOUND");
}

/// A verification could be neither cancelled nor stopped: the server took as long to end as it did.
#[tokio::test]
async fn a_verification_under_way_is_cancelled_or_ends_with_the_server() {
    let mut server = Server::start();
    let client = server.client();
    let megabytes = vec![7; 8 << 20];
    for number in 0..24_u8 {
        let made = client.create(&format!("n{number}"), "x").await;
        let path = format!(
            "/api/resources/{}/content",
            made["id"].as_str().expect("an id")
        );
        let mut bytes = megabytes.clone();
        bytes[0] = number;
        client
            .raw(
                "PUT",
                &path,
                &[("content-type", "application/octet-stream")],
                bytes,
            )
            .await
            .expect(200);
    }
    let job = client
        .raw("POST", "/api/admin/verify", &[], "")
        .await
        .expect(202);
    let id = job["id"].as_str().expect("an id");
    client
        .raw("POST", &format!("/api/jobs/{id}/cancel"), &[], "")
        .await
        .expect(202);
    let stream = format!("/api/jobs/{id}/events/stream");
    let mut reader = SseReader::open(client.request("GET", &stream)).await;
    while reader.next().await.is_some() {}
    let ended = client.get(&format!("/api/jobs/{id}")).await.expect(200);
    assert_eq!(ended["status"], "cancelled", "{ended}");
    client
        .raw("POST", "/api/admin/verify", &[], "")
        .await
        .expect(202);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn damaged_content_is_not_served_and_degrades_health() {
    let server = Server::start();
    let client = server.client();
    let needle = "a text that is easily found again";
    let made = client.create("a", needle).await;
    flip(
        &server
            .data()
            .join("tenants/default/content/packs/0000000001.pack"),
        needle.as_bytes(),
    );
    let content = format!(
        "/api/resources/{}/content",
        made["id"].as_str().expect("an id")
    );
    client
        .get(&content)
        .await
        .expect_problem(500, "CONTENT_DAMAGED");
    let health = client.get("/api/health").await;
    assert_ne!(
        health.json()["parts"]["content"]["status"],
        "ok",
        "{}",
        health.text()
    );
}

/// Changes one bit of the first place where these bytes stand.
fn flip(file: &std::path::Path, needle: &[u8]) {
    let mut bytes = std::fs::read(file).expect("the file");
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .expect("the bytes stand there");
    bytes[at] ^= 1;
    std::fs::write(file, bytes).expect("the file is ours");
}
