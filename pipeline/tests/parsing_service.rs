//! A parsing service is asked as described, against a real server on this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use stemma_pipeline::service::ParsingService;
use stemma_pipeline::validate::{Declared, Format, Validated};
use stemma_pipeline::{DocumentError, Limits};

/// A server that gives each request the next of its answers and tells what it was asked.
struct Server {
    url: String,
    serving: JoinHandle<Vec<Request>>,
}

#[derive(Debug)]
struct Request {
    line: String,
    headers: String,
    body: Vec<u8>,
}

fn serve(answers: Vec<&'static str>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a test's own connection");
    let url = format!(
        "http://{}/v1/documents",
        listener.local_addr().expect("a test's own connection")
    );
    let serving = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().expect("a test's own connection");
            let mut reader = BufReader::new(stream);
            requests.push(receive(&mut reader));
            let (status, body) = answer.split_once('|').expect("a test's own connection");
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            reader
                .get_mut()
                .write_all(text.as_bytes())
                .expect("a test's own connection");
        }
        requests
    });
    Server { url, serving }
}

fn receive(reader: &mut impl BufRead) -> Request {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .expect("a test's own connection");
    let mut headers = String::new();
    while reader
        .read_line(&mut headers)
        .expect("a test's own connection")
        > 2
    {}
    let headers = headers.to_ascii_lowercase();
    let mut body = Vec::new();
    if headers.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader
                .read_line(&mut size)
                .expect("a test's own connection");
            let size = u64::from_str_radix(size.trim(), 16).expect("a test's own connection");
            reader
                .by_ref()
                .take(size)
                .read_to_end(&mut body)
                .expect("a test's own connection");
            reader
                .read_line(&mut String::new())
                .expect("a test's own connection");
            if size == 0 {
                break;
            }
        }
    }
    Request {
        line: line.trim().to_owned(),
        headers,
        body,
    }
}

fn ask(url: &str, limits: &Limits) -> Result<String, DocumentError> {
    let service = ParsingService {
        token: Some("secret".to_owned()),
        poll_interval_ms: 1,
        retry_interval_ms: 1,
        ..ParsingService::new(url.to_owned())
    };
    let declared = Declared {
        file_name: "Über.pdf",
        media_type: None,
    };
    let validated = Validated {
        format: Format::Pdf,
        media_type: "application/pdf".to_owned(),
        encoding: None,
        byte_order_mark: false,
        page_count: None,
        warnings: Vec::new(),
    };
    let open = || Ok(&b"%PDF-1.4 content"[..]);
    let parsed = service.parse(open, &declared, &validated, limits, &AtomicBool::new(false))?;
    Ok(parsed.text)
}

const DONE: &str = r#"200 OK|{"status":"done","document":{"text":"Hello.",
    "pages":[{"number":1,"start":0,"end":6}]}}"#;

#[test]
fn a_document_is_sent_and_its_job_asked_for_until_it_is_done() {
    let server = serve(vec![
        r#"202 Accepted|{"status":"pending","job":"/jobs/7"}"#,
        r#"200 OK|{"status":"processing"}"#,
        DONE,
    ]);
    assert_eq!(ask(&server.url, &Limits::default()).unwrap(), "Hello.");
    let requests = server.serving.join().unwrap();
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
    let server = serve(vec![
        "503 Service Unavailable\r\nRetry-After: 0|busy",
        "429 Too Many Requests|slow down",
        DONE,
    ]);
    assert_eq!(ask(&server.url, &Limits::default()).unwrap(), "Hello.");
    let requests = server.serving.join().unwrap();
    assert_eq!(requests[2].body, b"%PDF-1.4 content");
}

#[test]
fn a_time_that_is_not_left_is_not_waited_for() {
    let server = serve(vec!["503 Service Unavailable\r\nRetry-After: 86400|busy"]);
    let error = ask(&server.url, &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "PARSER_TIMEOUT");
    server.serving.join().unwrap();
}

#[test]
fn a_service_that_keeps_failing_is_unavailable() {
    let server = serve(vec!["500 Internal Server Error|no"; 5]);
    let error = ask(&server.url, &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "PARSER_UNAVAILABLE");
    assert!(error.transient());
    assert_eq!(server.serving.join().unwrap().len(), 5);
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
        let server = serve(vec![answer]);
        let error = ask(&server.url, &limits).unwrap_err();
        assert_eq!(error.code(), code, "{answer}: {error}");
        server.serving.join().unwrap();
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let server = serve(vec![
        r#"200 OK|{"status":"done","document":{"text":"longer than ten"}}"#,
    ]);
    let limits = Limits {
        text_bytes_max: 10,
        ..Limits::default()
    };
    let error = ask(&server.url, &limits).unwrap_err();
    assert_eq!(error, DocumentError::TextTooLarge { text_bytes_max: 10 });
    server.serving.join().unwrap();
}
