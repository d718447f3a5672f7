//! Clients that are slow, silent or many: each has its limit, and costs nobody else anything
//! (row A12).

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use stemma_tests::Server;

use super::bad_input::{assert_problem, connect, rest};

/// Idle connections that are opened, where the system lets this process have so many.
const IDLE: u64 = 10_000;

/// The figure of a metric without labels.
pub(crate) async fn metric(server: &Server, name: &str) -> u64 {
    let told = server.client().get("/metrics").await.text();
    let mut lines = told.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let figure = line.unwrap_or_else(|| panic!("{name} in {told}"));
    figure
        .split('.')
        .next()
        .and_then(|whole| whole.parse().ok())
        .expect("a whole number")
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_nobody_else_anything() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may use what it may have");
    let room = limit.maximum.unwrap_or(u64::MAX).saturating_sub(500);
    let server = Server::builder()
        .env("STEMMA_HTTP__HEAD_MS", "600000")
        .start();
    let client = server.client();
    let made = client.create("before", "text").await;
    let id = made["id"].as_str().expect("an id");
    let mut idle: Vec<TcpStream> = (0..IDLE.min(room)).map(|_| connect(&server)).collect();
    // Every other one has had an answer, and stays open.
    for stream in idle.iter_mut().step_by(2) {
        let get = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(get).expect("it is sent");
    }
    for stream in idle.iter_mut().step_by(2) {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    let open = metric(&server, "stemma_http_connections_open").await;
    assert!(open >= idle.len() as u64, "{open}");
    for number in 0..50 {
        client.create(&format!("number {number}"), "text").await;
        let answer = client.get(&format!("/api/resources/{id}/content")).await;
        assert_eq!(answer.text(), "text");
    }
    drop(idle);
    while metric(&server, "stemma_http_connections_open").await > 10 {}
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_with_a_problem_and_writes_nothing() {
    let server = Server::builder().env("STEMMA_HTTP__BODY_MS", "200").start();
    let client = server.client();
    let before = client.get("/api/health").await.json();
    let id = client.create("a resource", "text").await["id"].clone();
    let path = format!("/api/resources/{}/content", id.as_str().expect("an id"));
    let multipart = "multipart/form-data; boundary=b";
    let requests = [
        ("POST", "/api/resources", "application/json", "{\"name\": "),
        (
            "POST",
            "/api/batch",
            "application/json",
            "{\"operations\": [",
        ),
        ("PUT", path.as_str(), "text/plain", "half of"),
        (
            "POST",
            "/api/resources",
            multipart,
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhalf",
        ),
    ];
    for (method, path, media_type, half) in requests {
        let mut stream = connect(&server);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: 100000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        stream.write_all(half.as_bytes()).expect("it is sent");
        // Others are served meanwhile.
        client
            .get(&format!("/api/resources/{}", id.as_str().expect("an id")))
            .await
            .expect(200);
        assert_problem(&rest(&mut stream), 408, "REQUEST_TIMEOUT");
    }
    let document = client.get("/api/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = paths
        .values()
        .filter_map(|methods| methods.as_object())
        .flatten();
    let mut taking = operations
        .by_ref()
        .filter(|(_, o)| !o["requestBody"].is_null());
    assert!(taking.all(|(_, operation)| operation["responses"]["408"].is_object()));
    let after = client.get("/api/health").await.json();
    assert_eq!(before["status"], after["status"]);
    let resources = client.get("/api/resources").await.expect(200);
    assert_eq!(resources["items"].as_array().map(Vec::len), Some(1));
    let content = client.get(&path).await;
    assert_eq!(content.text(), "text");
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_within_its_pace_is_taken() {
    let server = Server::start();
    let body = json!({"name": "slow", "media_type": "text/plain", "content": "a"}).to_string();
    let mut stream = connect(&server);
    stream.set_nodelay(true).expect("an option");
    let head = format!(
        "POST /api/resources HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for byte in head.bytes().chain(body.bytes()) {
        stream.write_all(&[byte]).expect("it is sent");
    }
    assert!(rest(&mut stream).starts_with("HTTP/1.1 201 "));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off_and_others_are_served() {
    let server = Server::builder()
        .env("STEMMA_HTTP__WRITE_STALL_MS", "300")
        .start();
    let client = server.client();
    let id = client.create("large", "text").await["id"].clone();
    let path = format!("/api/resources/{}/content", id.as_str().expect("an id"));
    let large = vec![b'x'; 64 << 20];
    let headers = [("content-type", "text/plain"), ("if-match", "*")];
    let answer = client.raw("PUT", &path, &headers, large.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut stream = connect(&server);
    let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(get.as_bytes()).expect("it is sent");
    let mut first = [0];
    while metric(&server, "stemma_http_connections_cut_off_total").await == 0 {
        // One byte now and then is too little to make room for more.
        let _ = stream.read(&mut first);
    }
    let (mut got, mut chunk) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        got += count;
    }
    assert!(got < large.len(), "{got}");
    assert_eq!(client.get(&path).await.bytes.len(), large.len());
}
