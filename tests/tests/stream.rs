//! Live streams over SSE: catch-up, following, reconnects, gaps, filters (row A8).

use std::io::Write;

use serde_json::json;
use stemma_tests::{Client, Server, SseEvent, SseReader};
use tokio::task::JoinSet;

use crate::bad_input::{connect, rest};
use crate::connections::metric;

async fn open(client: &Client, path: &str) -> SseReader {
    SseReader::open(client.request("GET", path)).await
}

async fn open_after(client: &Client, path: &str, last: &str) -> SseReader {
    SseReader::open(client.request("GET", path).header("last-event-id", last)).await
}

async fn positions(reader: &mut SseReader, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(
            reader
                .next_event()
                .await
                .expect("the stream goes on")
                .position(),
        );
    }
    seen
}

#[tokio::test]
async fn a_stream_catches_up_tells_that_it_is_live_and_follows() {
    let server = Server::start();
    let client = server.client();
    client.create("a", "x").await;
    client.create("b", "x").await;
    let mut reader = open(&client, "/api/events/stream?after=start").await;
    assert_eq!(positions(&mut reader, 2).await, [0, 1]);
    let live = reader.until("stemma.live").await;
    assert_eq!(
        (live.position(), live.json()["position"].as_u64()),
        (1, Some(1))
    );
    client.create("c", "x").await;
    let event = reader.next_event().await.expect("the new event");
    let page = client.get("/api/events?after=1").await.expect(200);
    assert_eq!(event.json(), page["items"][0]);
    assert_eq!(
        (event.position(), event.event.as_deref()),
        (2, Some("resource.created"))
    );
}

#[tokio::test]
async fn without_a_start_a_stream_is_live_at_once() {
    let server = Server::start();
    let client = server.client();
    let empty = open(&client, "/api/events/stream")
        .await
        .until("stemma.live")
        .await;
    assert_eq!(empty.json()["position"], json!(null));
    client.create("a", "x").await;
    // A client that was cut off before there was any event misses none.
    let id = empty.id.as_deref().expect("an id");
    let mut back = open_after(&client, "/api/events/stream", id).await;
    assert_eq!(positions(&mut back, 1).await, [0]);
    let mut reader = open(&client, "/api/events/stream").await;
    assert_eq!(reader.until("stemma.live").await.position(), 0);
    client.create("b", "x").await;
    assert_eq!(positions(&mut reader, 1).await, [1]);
}

#[tokio::test]
async fn a_reconnect_goes_on_behind_the_last_event_id_byte_for_byte() {
    let mut server = Server::start();
    let client = server.client();
    for name in ["a", "b", "c"] {
        client.create(name, "x").await;
    }
    let mut reader = open(&client, "/api/events/stream?after=start").await;
    let mut before: Vec<SseEvent> = Vec::new();
    for _ in 0..3 {
        before.push(reader.next_event().await.expect("an event"));
    }
    server.kill();
    let server = Server::builder().data(server.data()).start();
    let client = server.client();
    // The header holds over the query, as with a browser that reconnects.
    let mut reader = open_after(&client, "/api/events/stream?after=start", "0").await;
    for event in &before[1..] {
        assert_eq!(reader.next_event().await.as_ref(), Some(event));
    }
}

#[tokio::test]
async fn a_start_that_cannot_be_is_told_as_a_gap_and_a_bad_after_is_refused() {
    let server = Server::start();
    let client = server.client();
    client.create("a", "x").await;
    for last in ["99", "nonsense", "-1"] {
        let mut reader = open_after(&client, "/api/events/stream", last).await;
        let gap = reader.until("stemma.gap").await.json();
        assert!(gap["reason"].is_string(), "{gap}");
        let head = client.get("/api/events?after=start").await.position();
        assert_eq!(gap["head"], head, "{gap}");
        assert_eq!(gap["position"], head, "{gap}");
        reader.until("stemma.live").await;
        client.create("more", "x").await;
        let next = reader.next_event().await.expect("the stream goes on");
        assert_eq!(next.position(), head + 1);
    }
    let mut reader = open(&client, "/api/events/stream?after=1000").await;
    reader.until("stemma.gap").await;
    client
        .get("/api/events/stream?after=soon")
        .await
        .expect_problem(400, "INVALID_POSITION");
    client
        .get("/api/events/stream?colour=red")
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
}

#[tokio::test]
async fn filters_pass_what_they_name_and_tell_how_far_they_have_come() {
    let server = Server::builder()
        .env("STEMMA_SSE__HEARTBEAT_MS", "50")
        .start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let path = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    client
        .json("PATCH", &path, &json!({ "name": "a2" }))
        .await
        .expect(200);
    client
        .raw("PUT", &format!("{path}/entity_types/Star"), &[], "")
        .await
        .expect(200);
    client
        .json("PATCH", &path, &json!({ "name": "a3" }))
        .await
        .expect(200);
    client
        .raw("DELETE", &format!("{path}/entity_types/Star"), &[], "")
        .await
        .expect(200);
    client
        .json("PATCH", &path, &json!({ "name": "a4" }))
        .await
        .expect(200);
    let all = async |query: &str| {
        let mut reader = open(&client, &format!("/api/events/stream?after=start&{query}")).await;
        let mut seen = Vec::new();
        loop {
            let frame = reader.next().await.expect("the stream goes on");
            if frame.event.as_deref() == Some("stemma.live") {
                return (seen, reader);
            }
            if frame.is_event() {
                seen.push(frame.position());
            }
        }
    };
    let types = client.get("/api/events?after=start").await.expect(200);
    let at = |kind: &str| -> Vec<u64> {
        let items = types["items"].as_array().expect("a page").iter();
        items
            .filter(|e| e["type"] == kind)
            .map(|e| e["position"].as_u64().expect("a position"))
            .collect()
    };
    let renamed = at("resource.renamed");
    assert_eq!(all("type=resource.renamed").await.0, renamed);
    let (tagged, mut reader) = all("entity_type=Star").await;
    assert!(tagged.contains(&renamed[1]), "{tagged:?}");
    assert!(
        !tagged.contains(&renamed[0]) && !tagged.contains(&renamed[2]),
        "{tagged:?}"
    );
    client.create("passed over", "x").await;
    let head = client.get("/api/events?after=start").await.position();
    loop {
        let frame = reader.next().await.expect("the stream goes on");
        if frame.event.is_none() && frame.id.as_deref() == Some(&head.to_string()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_quiet_stream_has_a_heartbeat_and_a_retry_hint() {
    let server = Server::builder()
        .env("STEMMA_SSE__HEARTBEAT_MS", "20")
        .start();
    let client = server.client();
    let mut reader = open(&client, "/api/events/stream").await;
    let (mut beats, mut has_retry) = (0, false);
    while beats < 3 || !has_retry {
        let frame = reader.next().await.expect("the stream goes on");
        beats += frame.comments.len();
        has_retry |= frame.retry.is_some();
    }
}

#[tokio::test]
async fn one_resources_stream_holds_its_own_events_only() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    client.create("b", "x").await;
    let path = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    let mut reader = open(&client, &format!("{path}/events/stream?after=start")).await;
    assert_eq!(positions(&mut reader, 1).await, [0]);
    reader.until("stemma.live").await;
    client.create("c", "x").await;
    client
        .json("PATCH", &path, &json!({ "name": "a2" }))
        .await
        .expect(200);
    assert_eq!(positions(&mut reader, 1).await, [3]);
    let unknown = "/api/resources/019a0000-0000-7000-8000-00000000ffff/events/stream";
    client
        .get(unknown)
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
}

async fn until_no_stream_is_open(server: &Server) {
    while metric(server, "stemma_sse_streams_open").await > 0 {
        tokio::task::yield_now().await;
    }
}

/// Who passes events on stops following the log where nobody listens.
#[tokio::test]
async fn streams_that_begin_where_nobody_listened_for_a_while_miss_nothing() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let path = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    let of_one = format!("{path}/events/stream");
    let patch = async |name: String| {
        let told = json!({ "name": name });
        client.json("PATCH", &path, &told).await.expect(200);
    };
    for round in 0..20 {
        let mut all = open(&client, "/api/events/stream").await;
        let mut one = open(&client, &of_one).await;
        all.until("stemma.live").await;
        one.until("stemma.live").await;
        patch(format!("b{round}")).await;
        patch(format!("c{round}")).await;
        // One event before all rounds, and three in each.
        let first = 1 + 3 * round;
        assert_eq!(positions(&mut all, 2).await, [first, first + 1]);
        assert_eq!(positions(&mut one, 2).await, [first, first + 1]);
        // The last two streams go, and nobody hears of this.
        drop((all, one));
        until_no_stream_is_open(&server).await;
        patch("unheard".to_owned()).await;
    }
}

#[tokio::test]
async fn streams_of_resources_miss_nothing_of_bursts_that_are_larger_than_they_are_behind() {
    let server = Server::start();
    let client = server.client();
    let id = |number: u64| format!("019a0000-0000-7000-8000-{number:012}");
    let mut readers = Vec::new();
    for number in 0..3 {
        let create = json!({ "op": "create_resource", "id": id(number), "name": "n", "media_type": "text/plain", "content": "x" });
        let body = json!({ "operations": [create] });
        client.post("/api/batch", &body).await.expect(200);
        // One starts live, one at the beginning, one behind what there is.
        let from = match number {
            0 => "",
            1 => "?after=start",
            _ => "?after=2",
        };
        let path = format!("/api/resources/{}/events/stream{from}", id(number));
        let mut reader = open(&client, &path).await;
        if number == 1 {
            assert_eq!(positions(&mut reader, 1).await, [1]);
        }
        reader.until("stemma.live").await;
        readers.push(reader);
    }
    // Three bursts, each with the events of all three in turns, and single events between them.
    for burst in 0..3 {
        let rename = |n: u64| json!({ "op": "patch_resource", "resource_id": id(n % 3), "patch": { "name": format!("{burst} {n}") } });
        let operations: Vec<_> = (0..300).map(rename).collect();
        let body = json!({ "operations": operations });
        client.post("/api/batch", &body).await.expect(200);
        for number in 0..3 {
            let body = json!({ "name": format!("{burst} single") });
            let path = format!("/api/resources/{}", id(number));
            client.json("PATCH", &path, &body).await.expect(200);
        }
    }
    for (number, reader) in readers.iter_mut().enumerate() {
        for revision in 1..=303 {
            let event = reader.next_event().await.expect("the stream goes on");
            let event = event.json();
            assert_eq!(event["revision"], revision);
            assert_eq!(event["stream"], format!("resource-{}", id(number as u64)));
        }
    }
}

#[tokio::test]
async fn streams_are_limited_and_end_when_the_server_stops() {
    let mut server = Server::builder()
        .env("STEMMA_SSE__STREAMS_MAX", "2")
        .start();
    let client = server.client();
    let mut first = open(&client, "/api/events/stream").await;
    let mut second = open(&client, "/api/events/stream").await;
    let third = client.get("/api/events/stream").await;
    third.expect_problem(503, "TOO_MANY_STREAMS");
    assert!(!third.header("retry-after").is_empty());
    let stopped = tokio::task::spawn_blocking(move || server.stop());
    while first.next().await.is_some() {}
    while second.next().await.is_some() {}
    assert_eq!(stopped.await.expect("it stops"), Some(0));
}

/// Each of 200 clients is cut at random and comes back with `Last-Event-ID`, while 50,000 events
/// are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_cut_at_random_see_every_position_once_in_order() {
    const CLIENTS: u64 = 200;
    const EVENTS: u64 = 50_000;
    // So many clients in one process may take long to send what they ask.
    let server = Server::builder()
        .env("STEMMA_HTTP__HEAD_MS", "600000")
        .start();
    let url = server.url().to_owned();
    let mut tasks = JoinSet::new();
    for number in 0..CLIENTS {
        tasks.spawn(read_with_cuts(url.clone(), number, EVENTS));
    }
    for number in 0..10 {
        tasks.spawn(write_batches(url.clone(), number, EVENTS / 10));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("nobody misses or repeats a position");
    }
}

async fn write_batches(url: String, writer: u64, events: u64) {
    let client = Client::new(&url);
    let id = format!("019a0000-0000-7000-8000-{writer:012}");
    let create = json!({ "operations": [{ "op": "create_resource", "id": id, "name": "n", "media_type": "text/plain", "content": "x" }] });
    client.post("/api/batch", &create).await.expect(200);
    let mut left = events - 1;
    while left > 0 {
        let count = left.min(250);
        let rename = |n: u64| json!({ "op": "patch_resource", "resource_id": id, "patch": { "name": format!("{left} {n}") } });
        let operations: Vec<_> = (0..count).map(rename).collect();
        client
            .post("/api/batch", &json!({ "operations": operations }))
            .await
            .expect(200);
        left -= count;
    }
}

/// Reads all events over one connection after the other.
async fn read_with_cuts(url: String, seed: u64, events: u64) {
    let client = Client::new(&url);
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = 0;
    while next < events {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut reader = match next.checked_sub(1) {
            None => open(&client, "/api/events/stream?after=start").await,
            Some(last) => open_after(&client, "/api/events/stream", &last.to_string()).await,
        };
        let until = (next + 1 + random % 20_000).min(events);
        while next < until {
            let event = reader.next_event().await.expect("the stream goes on");
            assert_eq!(event.position(), next);
            next += 1;
        }
    }
}

/// What has no end would else be read to it, in one go, on a thread that others wait for.
#[tokio::test]
async fn the_head_of_a_stream_is_told_without_reading_any_of_it() {
    let server = Server::start();
    server.client().create("a", "x").await;
    for path in ["/api/events/stream?after=start", "/api/events/stream"] {
        let mut stream = connect(&server);
        let both = format!(
            "HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n\
             GET /api/resources HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(both.as_bytes()).expect("it is sent");
        let told = rest(&mut stream);
        let (head, next) = told.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("text/event-stream"), "{told}");
        assert!(next.starts_with("HTTP/1.1 200"), "{told}");
    }
}
