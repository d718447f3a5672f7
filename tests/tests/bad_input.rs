//! Bytes that are no request: each gets its problem, and costs nobody else anything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use stemma_tests::Server;

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(20);

pub(crate) fn connect(server: &Server) -> TcpStream {
    let address = server.url().strip_prefix("http://").expect("plain HTTP");
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    stream
}

/// All that comes until the connection ends. The end may be a reset: the rest of the request was
/// not read.
pub(crate) fn rest(stream: &mut TcpStream) -> String {
    let mut told = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        told.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(told).expect("UTF-8")
}

/// One answer with a problem, whole, by its head and its body.
pub(crate) fn assert_problem(answer: &str, status: u16, code: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{answer}");
    assert!(
        head.contains("\r\ncontent-type: application/problem+json\r\n"),
        "{answer}"
    );
    assert!(
        head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
        "{answer}"
    );
    let problem: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (&problem["status"], &problem["code"]),
        (&status.into(), &code.into())
    );
    let trace = problem["trace_id"].as_str().expect("a trace id");
    assert!(
        head.contains(&format!("\r\nx-request-id: {trace}\r\n")),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_a_problem() {
    let server = Server::start();
    let broken = [
        "no request at all\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET /api/health HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        "POST /api/resources HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        "POST /api/resources HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        "POST /api/resources HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: tea\r\n\r\n",
        "\u{0}\u{1}\u{2}\r\n\r\n",
    ];
    for request in broken {
        let mut stream = connect(&server);
        stream.write_all(request.as_bytes()).expect("it is sent");
        assert_problem(&rest(&mut stream), 400, "MALFORMED_REQUEST");
    }
    server.client().get("/api/health").await.expect(200);
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_answered_with_a_problem() {
    let server = Server::start();
    let mut stream = connect(&server);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    // The server may have answered, and hung up, before all of it was sent.
    let _ = stream.write_all(head.as_bytes());
    assert_problem(&rest(&mut stream), 431, "HEAD_TOO_LARGE");
    server.client().get("/api/health").await.expect(200);
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_answered_with_a_problem() {
    let server = Server::builder().env("STEMMA_HTTP__HEAD_MS", "100").start();
    let mut stream = connect(&server);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost:")
        .expect("it is sent");
    assert_problem(&rest(&mut stream), 408, "REQUEST_TIMEOUT");
}

#[tokio::test]
async fn the_answers_before_a_broken_request_are_as_they_would_be() {
    let server = Server::start();
    let needle = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let made = server.client().create("looks like an answer", needle).await;
    let path = format!(
        "/api/resources/{}/content",
        made["id"].as_str().expect("an id")
    );
    let mut stream = connect(&server);
    let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for _ in 0..3 {
        stream.write_all(get.as_bytes()).expect("it is sent");
        let mut told = String::new();
        while !told.ends_with(needle) || told.len() < needle.len() + 20 {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).expect("an answer");
            assert_ne!(count, 0, "{told}");
            told.push_str(std::str::from_utf8(&chunk[..count]).expect("UTF-8"));
        }
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    }
    stream.write_all(b"broken\r\n\r\n").expect("it is sent");
    assert_problem(&rest(&mut stream), 400, "MALFORMED_REQUEST");
}
