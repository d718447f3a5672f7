//! Resources with more events than a page looks at (rows A5, A8, measure P9).

use serde_json::{Value, json};
use stemma_tests::{Client, Server, SseReader};

use crate::graph::caught_up;

/// Events that a page looks at, at the most; the long resource has more.
const LOOKED_AT: usize = 10_000;
/// Batches of annotations, and how many of each go to the long resource; the rest go to another.
const BATCHES: usize = 12;
const OF_EACH: usize = 900;

fn annotate(id: &str, n: usize) -> Value {
    let annotation = json!({
        "motivation": "commenting", "target": "http://example.org/",
        "body": { "type": "TextualBody", "value": format!("remark {n}") },
    });
    json!({ "op": "add_annotation", "resource_id": id, "annotation": annotation })
}

/// A resource with many events among those of another, and the positions of its own.
async fn long_one(client: &Client) -> (String, Vec<u64>) {
    let [long, other] = ["long", "other"].map(|name| client.create(name, "text"));
    let (long, other) = (long.await, other.await);
    let [long, other] = [long, other].map(|made| made["id"].as_str().expect("an id").to_owned());
    let mut positions = vec![0];
    for batch in 0..BATCHES {
        let of = |n| if n % 10 == 9 { &other } else { &long };
        let operations: Vec<_> = (0..1000).map(|n| annotate(of(n), n)).collect();
        let batch_of = json!({ "operations": operations });
        client
            .json("POST", "/api/batch", &batch_of)
            .await
            .expect(200);
        let first = 2 + batch * 1000;
        let own = (0..1000).filter(|n| n % 10 != 9);
        positions.extend(own.map(|n| (first + n) as u64));
    }
    assert_eq!(positions.len(), 1 + BATCHES * OF_EACH);
    (long, positions)
}

fn positions_of(page: &Value) -> impl Iterator<Item = u64> + '_ {
    let items = page["items"].as_array().expect("a page").iter();
    items.map(|item| item["position"].as_u64().expect("a position"))
}

#[tokio::test]
async fn a_long_stream_is_paged_from_anywhere_and_a_page_looks_at_so_many() {
    let server = Server::start();
    let client = server.client();
    let (id, positions) = long_one(&client).await;
    let stream = format!("/api/events?stream=resource-{id}");
    for from in [0, 1, 899, 900, 901, positions.len() - 300] {
        let after = positions[from];
        let path = format!("{stream}&after={after}&limit=200");
        let page = client.get(&path).await.expect(200);
        let found: Vec<u64> = positions_of(&page).collect();
        assert_eq!(found, positions[from + 1..from + 201], "after {after}");
        let cursor = page["next_cursor"].as_str().expect("there are more");
        let path = format!("{stream}&cursor={cursor}&limit=50");
        let next: Vec<u64> = positions_of(&client.get(&path).await.expect(200)).collect();
        assert_eq!(next, positions[from + 201..from + 251]);
    }
    // Of what nobody did a page looks at so many events, and says where to go on.
    let nothing = client.get(&format!("{stream}&actor=nobody")).await;
    let nothing = nothing.expect(200);
    assert_eq!(positions_of(&nothing).count(), 0);
    let cursor = nothing["next_cursor"].as_str().expect("not all was seen");
    assert_eq!(cursor, positions[LOOKED_AT - 1].to_string());
    let rest = format!("{stream}&actor=nobody&cursor={cursor}");
    let rest = client.get(&rest).await.expect(200);
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_long_resource_is_followed_from_anywhere() {
    let server = Server::start();
    let client = server.client();
    let (id, positions) = long_one(&client).await;
    let path = format!("/api/resources/{id}/events/stream");
    for from in [0, 1, 899, 5000, positions.len() - 3, positions.len() - 1] {
        // Also after what is another resource's.
        for after in [positions[from], positions[from] + 1] {
            let request = client.request("GET", &format!("{path}?after={after}"));
            let mut reader = SseReader::open(request).await;
            let behind = positions.iter().filter(|position| **position > after);
            for expected in behind.take(5) {
                let event = reader.next_event().await.expect("it goes on");
                assert_eq!(event.position(), *expected, "after {after}");
            }
        }
    }
    let last = positions.last().expect("some");
    let request = client.request("GET", &format!("{path}?after={last}"));
    let mut reader = SseReader::open(request).await;
    reader.until("stemma.live").await;
    let path = format!("/api/resources/{id}");
    let renamed = json!({ "name": "renamed" });
    client.json("PATCH", &path, &renamed).await.expect(200);
    let event = reader.next_event().await.expect("what was just written");
    assert_eq!(event.event.as_deref(), Some("resource.renamed"));
}

#[tokio::test]
async fn an_annotation_among_many_has_its_own_history() {
    let server = Server::start();
    let client = server.client();
    let (id, _) = long_one(&client).await;
    let path = format!("/api/resources/{id}/annotations");
    let late = json!({
        "motivation": "commenting", "target": "http://example.org/",
        "body": { "type": "TextualBody", "value": "late" },
    });
    let added = client.json("POST", &path, &late).await;
    let location = added.header("location").to_owned();
    let types = async || {
        let history = client.get(&format!("{location}/history")).await.expect(200);
        let items = history["items"].as_array().expect("a page").iter();
        let types = items.map(|item| item["type"].as_str().expect("a type").to_owned());
        types.collect::<Vec<_>>()
    };
    assert_eq!(types().await, ["annotation.added"]);
    client.raw("DELETE", &location, &[], "").await.expect(204);
    assert_eq!(types().await, ["annotation.added", "annotation.removed"]);
}

/// Bytes of each of a few annotations; three of them fill a page.
const LARGE_BYTES: usize = 6 << 20;

/// A page of 500 of what one request may write were 8 GB.
#[tokio::test]
async fn a_page_is_full_once_it_has_so_many_bytes_and_the_next_goes_on() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("few and large", "text").await;
    let id = made["id"].as_str().expect("an id").to_owned();
    let annotations = format!("/api/resources/{id}/annotations");
    for letter in ["a", "b", "c", "d"] {
        let annotation = json!({
            "motivation": "commenting", "target": "http://example.org/",
            "body": { "type": "TextualBody", "value": letter.repeat(LARGE_BYTES) },
        });
        client.post(&annotations, &annotation).await.expect(201);
    }
    let history = format!("/api/resources/{id}/events");
    // Each page as the number of its items; of the events the first one made the resource.
    for (path, expected) in [
        (annotations, [3, 1]),
        ("/api/events".to_owned(), [4, 1]),
        (format!("/api/events?stream=resource-{id}"), [4, 1]),
        (format!("{history}?order=asc"), [4, 1]),
        (format!("{history}?order=desc"), [3, 2]),
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut sizes, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("{path}{joint}limit=50{cursor}")).await;
            let page = page.expect(200);
            sizes.push(page["items"].as_array().expect("a page").len());
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(sizes, expected, "{path}");
    }
}

/// Resources whose metadata is as large as it may be, of which a page of their type is not full by
/// their number.
const LARGE: usize = 70;

#[tokio::test]
async fn a_page_of_the_graph_that_would_be_too_large_is_left_to_the_views() {
    let server = Server::start();
    let client = server.client();
    let text = "x".repeat(250 << 10);
    for number in 0..LARGE {
        let body = json!({
            "name": format!("r{number}"), "media_type": "text/plain", "content": "text",
            "entity_types": ["Heavy"], "metadata": { "text": text },
        });
        client.post("/api/resources", &body).await.expect(201);
    }
    caught_up(&client).await;
    let listed = "/api/resources?entity_type=Heavy";
    let few = client.get(&format!("{listed}&limit=3")).await;
    assert_eq!(few.header("stemma-source"), "graph");
    let (mut found, mut sources, mut cursor) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{listed}&limit=100{cursor}")).await;
        sources.push(page.header("stemma-source").to_owned());
        let page = page.expect(200);
        let items = page["items"].as_array().expect("a page");
        found.extend(items.iter().map(|item| item["name"].to_string()));
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    // The first page is full by its bytes; the rest is small enough for the graph.
    assert_eq!(sources, ["views", "graph"]);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), LARGE);
}
