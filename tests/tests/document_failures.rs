//! Files that cannot be documents: each says why, once, and nobody else waits for it (row B2).

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use stemma_tests::{Client, Server, Upload};

use crate::bad_input::{assert_problem, connect};
use crate::documents::{TEXT, text_of};
use crate::written;

/// A file, the stage that refuses it, and how that is called.
type Wrong = (Upload, &'static str, &'static str);

fn wrong_files() -> Vec<Wrong> {
    let key = "0".repeat(64);
    let encrypt = format!(
        "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{key}> /U <{key}> >> /ID [<00> <00>]"
    );
    let encrypted = written::pdf(&["secret"], &encrypt);
    let mut truncated = written::docx(&written::paragraph("", "Body"));
    truncated.truncate(truncated.len() / 2);
    let zeros = vec![b' '; 64 << 20];
    let types: &[u8] = b"<Types/>";
    let bomb = written::archive(&[
        ("[Content_Types].xml", types),
        ("word/document.xml", &zeros),
    ]);
    vec![
        (Upload::of("a.pdf", encrypted), "validate", "ENCRYPTED"),
        (Upload::of("a.docx", truncated), "validate", "BROKEN"),
        (Upload::of("a.pdf", TEXT), "validate", "TYPE_MISMATCH"),
        (
            Upload::of("a.md", b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff".as_slice()),
            "validate",
            "TYPE_MISMATCH",
        ),
        (Upload::of("a.txt", ""), "validate", "EMPTY"),
        (Upload::of("b.txt", " \n\t "), "validate", "EMPTY"),
        (Upload::of("bomb.docx", bomb), "validate", "BOMB"),
        (
            Upload::of("blank.pdf", written::pdf(&["", ""], "")),
            "parse",
            "NO_TEXT",
        ),
        (Upload::of("empty.html", "<p></p><br>"), "parse", "NO_TEXT"),
    ]
}

pub(crate) async fn answers_others(client: &Client) {
    for path in ["/api/health/ready", "/api/jobs", "/api/resources"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_document_fails_once_and_says_where_and_why() {
    let server = Server::start();
    let client = server.client();
    let mut taken = Vec::new();
    for (upload, stage, code) in wrong_files() {
        let told = client.upload(&upload).await.expect(202);
        taken.push((upload.name, told, stage, code));
        answers_others(&client).await;
    }
    for (name, told, stage, code) in &taken {
        let job = client.ended(text_of(&told["job_id"])).await;
        let error = &job["error"];
        assert_eq!(job["status"], "failed", "{name}: {job}");
        assert_eq!(
            (&error["code"], &error["stage"]),
            (&json!(code), &json!(stage)),
            "{name}: {job}"
        );
        assert_eq!(error["transient"], false);
        assert!(!text_of(&error["message"]).is_empty());
        assert_eq!(job["retry_count"], 0, "what no try mends is tried once");
        assert_eq!(job["attempts"].as_array().map(Vec::len), Some(1));
        let document = client.document(text_of(&told["document_id"])).await;
        let step = &document["steps"][stage];
        assert_eq!((&step["status"], &step["error"]), (&json!("failed"), error));
        let failures = document["failures"].as_array().expect("failures");
        assert_eq!(failures.len(), 1, "{document}");
        assert_eq!(
            (&failures[0]["stage"], &failures[0]["error"]),
            (&json!(stage), error)
        );
        assert_eq!(failures[0]["job_id"], job["id"]);
        assert_eq!(document["active_jobs"], json!([]));
        answers_others(&client).await;
    }
    let failed = client.every("/api/jobs?status=failed&limit=3").await;
    let ids = |of: &[Value], field: &str| -> Vec<String> {
        let mut ids: Vec<_> = of.iter().map(|v| text_of(&v[field]).to_owned()).collect();
        ids.sort();
        ids
    };
    let told: Vec<Value> = taken.into_iter().map(|(_, told, ..)| told).collect();
    assert_eq!(ids(&failed, "id"), ids(&told, "job_id"));
}

#[tokio::test]
async fn html_nested_a_million_deep_is_read_or_refused_and_the_server_goes_on() {
    let server = Server::start();
    let client = server.client();
    let deep = format!(
        "{}Galileo{}",
        "<div>".repeat(1_000_000),
        "</div>".repeat(1_000_000)
    );
    let tables = "<table><tr><td>".repeat(200_000) + "Galileo";
    let mut attributes = "<p ".to_owned();
    for n in 0..20_000 {
        write!(attributes, "a{n}={n} ").expect("a string takes all");
    }
    attributes.push_str(">Galileo</p>");
    for (name, html) in [
        ("deep", deep),
        ("tables", tables),
        ("attributes", attributes),
    ] {
        let upload = Upload::of(&format!("{name}.html"), html);
        let told = client.upload(&upload).await.expect(202);
        answers_others(&client).await;
        let job = client.ended(text_of(&told["job_id"])).await;
        match text_of(&job["status"]) {
            "completed" => {
                let id = text_of(&told["document_id"]);
                let text = client
                    .get(&format!("/api/documents/{id}/text"))
                    .await
                    .text();
                assert!(text.contains("Galileo"));
            }
            _ => assert_eq!(job["error"]["stage"], "parse", "{name}: {job}"),
        }
    }
    answers_others(&client).await;
}

#[tokio::test]
async fn a_truncated_pdf_is_read_with_a_warning_or_refused() {
    let server = Server::start();
    let client = server.client();
    let whole = written::pdf(&["Galileo saw Jupiter.", "Huygens saw Saturn."], "");
    for part in [3, 2] {
        let half = whole[..whole.len() * (part - 1) / part].to_vec();
        let (job, document) = client.processed(&Upload::of("half.pdf", half)).await;
        match text_of(&job["status"]) {
            "completed" => assert_ne!(job["warnings"], json!([]), "{document}"),
            _ => assert_eq!(job["error"]["transient"], false, "{job}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_upload_is_refused_and_leaves_nothing() {
    let server = Server::builder()
        .env("STEMMA_DOCUMENTS__BYTES_MAX", "2000")
        .start();
    let client = server.client();
    let large = Upload::of("a.txt", "a".repeat(2001));
    client
        .upload(&large)
        .await
        .expect_problem(413, "CONTENT_TOO_LARGE");
    let good = Upload::of("a.txt", "a".repeat(2000));
    for (field, value) in [
        ("chunk_size", "0"),
        ("chunk_size", "20001"),
        ("chunk_size", "a"),
        ("chunk_overlap", "1000"),
        ("chunking_strategy", "words"),
        ("steps", "some"),
        ("collection", ""),
        ("unknown", "1"),
    ] {
        let answer = client.upload(&good.clone().with(field, value)).await;
        let problem = answer.expect_problem(422, "INVALID_FIELDS");
        assert!(problem["errors"][0]["pointer"].is_string(), "{problem}");
    }
    let twice = good.clone().with("steps", "auto").with("steps", "none");
    client
        .upload(&twice)
        .await
        .expect_problem(422, "INVALID_FIELDS");
    let none = client.post("/api/documents/upload", &json!({})).await;
    none.expect_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let empty = client
        .raw("POST", "/api/documents/upload", &kind, "--b--\r\n")
        .await;
    empty.expect_problem(422, "INVALID_FIELDS");
    let broken = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let broken = client
        .raw("POST", "/api/documents/upload", &kind, broken)
        .await;
    broken.expect_problem(400, "MALFORMED_MULTIPART");
    let events = client.get("/api/events?after=start").await.expect(200);
    assert_eq!(events["items"], json!([]));
    client.processed(&good).await;
}

#[tokio::test]
async fn a_step_that_fails_is_failed_at_once_and_may_be_asked_for_again() {
    let server = Server::start();
    let client = server.client();
    let upload = Upload::of("blank.pdf", written::pdf(&[""], "")).with("steps", "none");
    let told = client.upload(&upload).await.expect(202);
    let id = text_of(&told["document_id"]);
    let run = async |step: &str| {
        let path = format!("/api/documents/{id}/steps/{step}");
        let job = client.post(&path, &json!({})).await.expect(202);
        client.ended(text_of(&job["id"])).await
    };
    assert_eq!(run("validate").await["status"], "completed");
    for tries in 1..=2 {
        let job = run("parse").await;
        assert_eq!(
            (&job["status"], &job["retry_count"]),
            (&json!("failed"), &json!(0))
        );
        let document = client.document(id).await;
        assert_eq!(document["steps"]["parse"]["status"], "failed");
        assert_eq!(document["failures"].as_array().map(Vec::len), Some(tries));
    }
    let path = format!("/api/documents/{id}/steps/chunk");
    let chunk = client.post(&path, &json!({})).await;
    let problem = chunk.expect_problem(409, "STAGE_MISSING");
    assert!(text_of(&problem["detail"]).contains("parse"), "{problem}");
}

/// The head of a form of a million bytes, most of which never come.
const LONG_FORM: &str = "POST /api/documents/upload HTTP/1.1\r\nHost: localhost\r\n\
    Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n";

/// The answer to a request whose end did not come.
fn early_answer(stream: &mut TcpStream) -> String {
    let mut told = String::new();
    let is_whole = |told: &str| {
        let body = told.split_once("\r\n\r\n").map(|(_, body)| body);
        body.is_some_and(|body| serde_json::from_str::<Value>(body).is_ok())
    };
    while !is_whole(&told) {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).expect("an answer in time");
        assert_ne!(count, 0, "{told}");
        told.push_str(std::str::from_utf8(&chunk[..count]).expect("UTF-8"));
    }
    told
}

/// Found: each part was read and kept, whatever it was called, and refused once all had come. Parts
/// with ever new names filled the memory.
#[test]
fn a_part_that_no_upload_has_or_that_came_before_is_refused_when_it_begins() {
    let server = Server::start();
    for (names, code) in [
        (&["steps", "no-such"][..], "UNKNOWN_FIELD"),
        (&["steps", "steps"], "REPEATED_FIELD"),
        (&["file", "file"], "REPEATED_FIELD"),
    ] {
        let mut stream = connect(&server);
        let part = |name: &&str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nauto\r\n")
        };
        let parts: String = names.iter().map(part).collect();
        let sent = stream.write_all(format!("{LONG_FORM}{parts}").as_bytes());
        sent.expect("it is sent");
        let answer = early_answer(&mut stream);
        assert_problem(&answer, 422, "INVALID_FIELDS");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        let problem: Value = serde_json::from_str(body).expect("JSON");
        let place = &problem["errors"][0];
        assert_eq!(place["pointer"], format!("/{}", names[1]), "{problem}");
        assert_eq!(place["code"], code, "{problem}");
    }
}

/// Found: what was no UTF-8 was stored with other characters in its place, and a media type that is
/// none was passed over.
#[tokio::test]
async fn what_cannot_be_read_of_a_form_is_refused_by_its_name_and_not_made_up() {
    let server = Server::start();
    let client = server.client();
    let part = |head: &str, body: &[u8]| {
        let head = format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        [head.as_bytes(), body, b"\r\n"].concat()
    };
    let file = |more: &str| {
        let head = format!("name=\"file\"; filename=\"a.txt\"{more}");
        part(&head, b"Stars.")
    };
    let long = format!("\r\nContent-Type: text/plain; a={}", "b".repeat(300));
    for (parts, pointer) in [
        (
            [part("name=\"collection\"", b"caf\xe9"), file("")],
            "/collection",
        ),
        ([part("name=\"access\"", b"\xff"), file("")], "/access"),
        ([file("\r\nContent-Type: text"), Vec::new()], "/file"),
        ([file(&long), Vec::new()], "/file"),
    ] {
        let form = [&parts.concat()[..], b"--b--\r\n"].concat();
        let kind = [("content-type", "multipart/form-data; boundary=b")];
        let answer = client
            .raw("POST", "/api/documents/upload", &kind, form)
            .await;
        let problem = answer.expect_problem(422, "INVALID_FIELDS");
        let errors = problem["errors"].as_array().expect("places");
        assert_eq!(errors.len(), 1, "{problem}");
        assert_eq!(errors[0]["pointer"], pointer, "{problem}");
        assert_eq!(errors[0]["code"], "INVALID_VALUE", "{problem}");
    }
    let events = client.get("/api/events?after=start").await.expect(200);
    assert_eq!(events["items"], json!([]));
}
