//! The log over HTTP: pages, one event, a resource's history, CloudEvents (rows A5, A8).

use serde_json::{Value, json};
use stemma_tests::{Client, Server};

async fn with_events() -> (Server, Client, Value) {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "text").await;
    client.create("b", "text").await;
    let path = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    client
        .json("PATCH", &path, &json!({ "name": "a2" }))
        .await
        .expect(200);
    client
        .raw("PUT", &format!("{path}/entity_types/Note"), &[], "")
        .await
        .expect(200);
    (server, client, made)
}

fn positions(page: &Value) -> Vec<u64> {
    let items = page["items"].as_array().expect("a page");
    items
        .iter()
        .map(|item| item["position"].as_u64().expect("a position"))
        .collect()
}

#[tokio::test]
async fn the_log_is_paged_filtered_and_chained() {
    let (_server, client, made) = with_events().await;
    let all = client.get("/api/events?after=start").await.expect(200);
    let items = all["items"].as_array().expect("a page");
    assert_eq!(positions(&all), (0..items.len() as u64).collect::<Vec<_>>());
    for pair in items.windows(2) {
        assert_eq!(pair[1]["previous"], pair[0]["id"]);
        assert!(pair[1]["recorded_at"].as_str() >= pair[0]["recorded_at"].as_str());
    }
    let page = client
        .get("/api/events?after=start&limit=2")
        .await
        .expect(200);
    let next = page["next_cursor"].as_str().expect("a cursor");
    let rest = client
        .get(&format!("/api/events?limit=2&cursor={next}"))
        .await
        .expect(200);
    assert_eq!(
        (positions(&page), positions(&rest)),
        (vec![0, 1], vec![2, 3])
    );
    assert_eq!(
        positions(&client.get("/api/events?after=1").await.expect(200))[0],
        2
    );
    let stream = format!("resource-{}", made["id"].as_str().expect("an id"));
    let of_stream = client
        .get(&format!("/api/events?after=start&stream={stream}"))
        .await
        .expect(200);
    let types: Vec<_> = of_stream["items"]
        .as_array()
        .expect("a page")
        .iter()
        .map(|e| e["type"].clone())
        .collect();
    assert_eq!(
        types,
        ["resource.created", "resource.renamed", "entity_type.added"]
    );
    let created = client
        .get("/api/events?after=start&type=resource.created")
        .await
        .expect(200);
    assert_eq!(positions(&created).len(), 2);
    let prefixed = client
        .get("/api/events?after=start&type=resource.*")
        .await
        .expect(200);
    assert_eq!(positions(&prefixed).len(), 3);
    for no_type in [
        "1",
        "resource",
        "*",
        "resource.",
        ".created",
        "resource.*.*",
        "Resource.created",
    ] {
        client
            .get(&format!("/api/events?type={no_type}"))
            .await
            .expect_problem(422, "INVALID_PARAMETERS");
    }
    client
        .get("/api/events?after=soon")
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
}

#[tokio::test]
async fn an_event_is_found_by_its_digest_and_told_alike_everywhere() {
    let (_server, client, made) = with_events().await;
    let path = format!(
        "/api/resources/{}/events",
        made["id"].as_str().expect("an id")
    );
    let history = client.get(&path).await.expect(200);
    for event in history["items"].as_array().expect("a page") {
        let digest = event["id"].as_str().expect("a digest");
        assert_eq!(
            &client
                .get(&format!("/api/events/{digest}"))
                .await
                .expect(200),
            event
        );
    }
    let newest = client
        .get(&format!("{path}?order=desc&limit=1"))
        .await
        .expect(200);
    assert_eq!(newest["items"][0]["revision"], 2);
    let later = client
        .get(&format!("{path}?after_revision=0"))
        .await
        .expect(200);
    assert_eq!(later["items"][0]["revision"], 1);
    let unknown = format!("/api/events/blake3:{}", "0".repeat(64));
    client
        .get(&unknown)
        .await
        .expect_problem(404, "EVENT_NOT_FOUND");
    client
        .get("/api/events/blake3:xyz")
        .await
        .expect_problem(422, "INVALID_ID");
}

#[tokio::test]
async fn cloud_events_are_given_when_asked_for() {
    let (_server, client, _) = with_events().await;
    let kind = "application/cloudevents-batch+json";
    let answer = client
        .get_with("/api/events?after=start", &[("accept", kind)])
        .await;
    assert!(answer.header("content-type").starts_with(kind));
    let events = answer.expect(200);
    for event in events.as_array().expect("a batch") {
        assert_eq!(event["specversion"], "1.0");
        for field in ["id", "source", "type", "time"] {
            assert!(event[field].is_string(), "{field} in {event}");
        }
    }
}
