//! A parsing service is asked as described, against a real server on this machine.

#[path = "../../tests/src/parsing_server.rs"]
#[allow(unreachable_pub)] // it is public where the tests of the binary use it
mod parsing_server;

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parsing_server::ParsingServer;
use stemma_inference::Secret;
use stemma_pipeline::service::ParsingService;
use stemma_pipeline::validate::Declared;
use stemma_pipeline::{DocumentError, Limits};

fn ask(url: &str, limits: &Limits) -> Result<String, DocumentError> {
    let service = ParsingService {
        token: Some(Secret::new("secret")),
        poll_interval_ms: 1,
        retry_interval_ms: 1,
        ..ParsingService::new(url.to_owned())
    };
    let declared = Declared {
        file_name: "Über.pdf",
        media_type: None,
    };
    let open = || Ok(&b"%PDF-1.4 content"[..]);
    let parsed = service.parse(open, &declared, "application/pdf", limits, &Arc::default())?;
    Ok(parsed.text)
}

const DONE: &str = r#"200 OK|{"status":"done","document":{"text":"Hello.",
    "pages":[{"number":1,"start":0,"end":6}]}}"#;

#[test]
fn a_document_is_sent_and_its_job_asked_for_until_it_is_done() {
    let server = ParsingServer::answering(vec![
        r#"202 Accepted|{"status":"pending","job":"/jobs/7"}"#,
        r#"200 OK|{"status":"processing"}"#,
        DONE,
    ]);
    assert_eq!(ask(server.url(), &Limits::default()).unwrap(), "Hello.");
    let requests = server.asked();
    assert_eq!(requests[0].line, "POST /v1/documents HTTP/1.1");
    assert_eq!(requests[0].body, b"%PDF-1.4 content");
    for header in [
        "content-type: application/pdf",
        "x-file-name: %c3%9cber%2epdf",
        "authorization: bearer secret",
    ] {
        assert!(
            requests[0].headers.contains(header),
            "{}",
            requests[0].headers
        );
    }
    assert_eq!(requests[2].line, "GET /jobs/7 HTTP/1.1");
}

#[test]
fn what_may_pass_is_tried_again_when_the_service_says() {
    let server = ParsingServer::answering(vec![
        "503 Service Unavailable\r\nRetry-After: 0|busy",
        "429 Too Many Requests|slow down",
        DONE,
    ]);
    assert_eq!(ask(server.url(), &Limits::default()).unwrap(), "Hello.");
    let requests = server.asked();
    assert_eq!(requests[2].body, b"%PDF-1.4 content");
}

#[test]
fn a_time_that_is_not_left_is_not_waited_for() {
    let server =
        ParsingServer::answering(vec!["503 Service Unavailable\r\nRetry-After: 86400|busy"]);
    let error = ask(server.url(), &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "PARSER_TIMEOUT");
    server.asked();
}

#[test]
fn a_service_that_keeps_failing_is_unavailable() {
    let server = ParsingServer::answering(vec!["500 Internal Server Error|no"; 5]);
    let error = ask(server.url(), &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "PARSER_UNAVAILABLE");
    assert!(error.transient());
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn refusals_and_nonsense_are_told_apart() {
    let limits = Limits::default();
    let cases = [
        ("415 Unsupported Media Type|not me", "SERVICE_REFUSED"),
        (
            r#"200 OK|{"status":"failed","error":{"message":"torn"}}"#,
            "SERVICE_REFUSED",
        ),
        (
            r#"200 OK|{"status":"failed","error":{"message":"later","transient":true}}"#,
            "PARSER_UNAVAILABLE",
        ),
        ("200 OK|<html>", "PARSER_CRASHED"),
        (r#"202 Accepted|{"status":"pending"}"#, "PARSER_CRASHED"),
        (
            r#"202 Accepted|{"status":"pending","job":"http://169.254.1.1/x"}"#,
            "PARSER_CRASHED",
        ),
        (
            "302 Found\r\nLocation: http://127.0.0.1:1/|",
            "SERVICE_REFUSED",
        ),
        (
            r#"200 OK|{"status":"done","document":{"text":"a","pages":[{"number":1,"start":0,"end":9}]}}"#,
            "PARSER_CRASHED",
        ),
        (
            r#"200 OK|{"status":"done","document":{"text":" "}}"#,
            "NO_TEXT",
        ),
    ];
    for (answer, code) in cases {
        let server = ParsingServer::answering(vec![answer]);
        let error = ask(server.url(), &limits).unwrap_err();
        assert_eq!(error.code(), code, "{answer}: {error}");
        server.asked();
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let server = ParsingServer::answering(vec![
        r#"200 OK|{"status":"done","document":{"text":"longer than ten"}}"#,
    ]);
    let limits = Limits {
        text_bytes_max: 10,
        ..Limits::default()
    };
    let error = ask(server.url(), &limits).unwrap_err();
    assert_eq!(error, DocumentError::TextTooLarge { text_bytes_max: 10 });
    server.asked();
}

/// A server that was to stop waited for as long as the service may take.
#[test]
fn a_service_that_does_not_answer_is_given_up_once_nobody_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/documents", listener.local_addr().unwrap());
    let cancelled = Arc::new(AtomicBool::new(false));
    let cancel = Arc::clone(&cancelled);
    let silent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        cancel.store(true, Ordering::Release);
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let declared = Declared {
        file_name: "a.pdf",
        media_type: None,
    };
    let limits = Limits {
        parser_timeout_ms: 120_000,
        ..Limits::default()
    };
    let open = || Ok(&b"%PDF-1.4 content"[..]);
    let began = Instant::now();
    let asked = ParsingService::new(url);
    let asked = asked.parse(open, &declared, "application/pdf", &limits, &cancelled);
    assert_eq!(asked.unwrap_err(), DocumentError::Cancelled);
    // Not a measure of speed: it did not wait for the limit.
    assert!(began.elapsed() < Duration::from_mins(1));
    silent.join().unwrap();
}
