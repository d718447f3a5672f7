//! Small files that keep the parser busy for minutes or make it eat all memory that it may have:
//! others are processed meanwhile, and the server answers (rows B2, B5).

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stemma_tests::{Client, Server, Upload, command};

use crate::document_failures::answers_others;
use crate::documents::{TEXT, assert_whole, text_of};
use crate::written;

/// How long the parser may take where it is to run out of time.
const TIMEOUT_MS: u64 = 3_000;
const OTHERS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(30);

/// A PDF of so many pages, each of which goes through the same content so many times.
fn pdf_again_and_again(content: &str, times: usize, pages: usize) -> Vec<u8> {
    const BEFORE: usize = 6;
    let kids = (0..pages).map(|page| format!("{} 0 R ", BEFORE + 1 + page));
    let kids = kids.collect::<Vec<_>>().concat();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{kids}] /Count {pages} >>"),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_owned(),
        "<< /Title (Again) >>".to_owned(),
        format!("[{}]", "6 0 R ".repeat(times)),
        format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ),
    ];
    assert_eq!(objects.len(), BEFORE);
    let page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R \
                /Resources << /Font << /F1 3 0 R >> >> >>";
    objects.extend(std::iter::repeat_n(page.to_owned(), pages));
    written::pdf_of(&objects, "")
}

/// Some 300 KB that stand for a gigabyte of drawing, and no word.
fn keeps_the_parser_busy() -> Upload {
    let drawing = "q 1 0 0 1 0 0 cm Q\n".repeat(100);
    Upload::of("busy.pdf", pdf_again_and_again(&drawing, 300, 2000))
}

/// Some 70 KB that stand for three million words on each page.
fn eats_memory() -> Upload {
    let words = "(Galileo) Tj 0 -1 Td\n".repeat(3000);
    let words = format!("BT /F1 12 Tf 72 720 Td\n{words}ET");
    Upload::of("hungry.pdf", pdf_again_and_again(&words, 1000, 2))
}

fn small(number: usize) -> Upload {
    let text = format!("{TEXT}\nChristiaan Huygens drew ring {number}.\n");
    Upload::of(&format!("{number}.md"), text)
}

/// Takes a job to where its document is being parsed.
async fn is_parsing(client: &Client, upload: &Upload) -> Value {
    let told = client.upload(upload).await.expect(202);
    let id = text_of(&told["job_id"]).to_owned();
    let job = client.reaches(&id, |job| job["message"] == "parsing").await;
    assert_eq!(job["status"], "processing", "{job}");
    job
}

/// The processes that a process has started and that have not ended.
fn children_of(pid: u32) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    let processes = processes.filter_map(Result::ok);
    // What ends meanwhile is none.
    let status = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("status"));
    let parent = format!("PPid:\t{pid}");
    let statuses = processes.filter_map(|entry| status(entry).ok());
    statuses
        .filter(|status| status.lines().any(|line| line == parent))
        .collect()
}

#[tokio::test]
async fn others_are_processed_while_files_keep_the_parser_busy_and_eat_its_memory() {
    let server = Server::start();
    let client = server.client();
    let busy = is_parsing(&client, &keeps_the_parser_busy()).await;
    let hungry = client.upload(&eats_memory()).await.expect(202);
    let mut others = Vec::new();
    for number in 0..OTHERS {
        others.push(client.upload(&small(number)).await.expect(202));
        answers_others(&client).await;
    }
    for other in &others {
        let job = client.ended(text_of(&other["job_id"])).await;
        assert_eq!(job["status"], "completed", "{job}");
        assert_whole(&client, text_of(&other["document_id"])).await;
        answers_others(&client).await;
    }
    let hungry = client.ended(text_of(&hungry["job_id"])).await;
    assert_eq!(hungry["error"]["code"], "PARSER_MEMORY", "{hungry}");
    assert_eq!(hungry["error"]["transient"], false);
    assert_eq!(
        (&hungry["status"], &hungry["retry_count"]),
        (&json!("failed"), &json!(0))
    );
    // All the while.
    let id = text_of(&busy["id"]);
    let now = client.job(id).await;
    assert_eq!(
        (&now["status"], &now["message"]),
        (&json!("processing"), &json!("parsing")),
        "{now}"
    );
    assert_eq!(
        children_of(server.pid()).len(),
        1,
        "the parser that is busy"
    );
    is_cancelled_with_its_parser(&server, &client, id).await;
}

async fn is_cancelled_with_its_parser(server: &Server, client: &Client, id: &str) {
    let path = format!("/api/jobs/{id}/cancel");
    let told = client.raw("POST", &path, &[], "").await.expect(202);
    assert_eq!(told["cancel_requested"], true, "{told}");
    let job = client.ended(id).await;
    assert_eq!(job["status"], "cancelled", "{job}");
    assert_eq!(children_of(server.pid()), Vec::<String>::new());
    let document = client.document(text_of(&job["document_id"])).await;
    assert_eq!(document["steps"]["validate"]["status"], "completed");
    assert_ne!(
        document["steps"]["parse"]["status"], "completed",
        "{document}"
    );
    assert_eq!(document["active_jobs"], json!([]), "{document}");
    let (job, _) = client.processed(&small(OTHERS)).await;
    assert_eq!(job["status"], "completed", "{job}");
}

#[tokio::test]
async fn a_file_that_keeps_the_parser_busy_runs_out_of_time_and_of_tries() {
    let server = Server::builder()
        .env(
            "STEMMA_DOCUMENTS__PARSER_TIMEOUT_MS",
            &TIMEOUT_MS.to_string(),
        )
        .env("STEMMA_JOBS__RETRIES_MAX", "1")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
        .start();
    let client = server.client();
    let busy = is_parsing(&client, &keeps_the_parser_busy()).await;
    answers_others(&client).await;
    let job = client.ended(text_of(&busy["id"])).await;
    assert_eq!(
        (&job["status"], &job["retry_count"]),
        (&json!("failed"), &json!(1)),
        "{job}"
    );
    let error = &job["error"];
    assert_eq!(
        (&error["code"], &error["stage"]),
        (&json!("PARSER_TIMEOUT"), &json!("parse"))
    );
    let attempts = job["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2);
    assert!(
        attempts.iter().all(|attempt| attempt["error"] == *error),
        "{job}"
    );
    assert_eq!(children_of(server.pid()), Vec::<String>::new());
    let document = client.document(text_of(&job["document_id"])).await;
    assert_eq!(document["steps"]["parse"]["status"], "failed");
    assert_eq!(document["failures"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_server_that_is_stopped_or_killed_leaves_no_parser_behind() {
    let mut server = Server::start();
    let client = server.client();
    let busy = is_parsing(&client, &keeps_the_parser_busy()).await;
    parser_of(&server).await;
    assert_eq!(server.stop(), Some(0));
    server.start_again();
    let client = server.client();
    let id = text_of(&busy["id"]);
    let job = client.reaches(id, |job| job["message"] == "parsing").await;
    assert_eq!(
        (&job["status"], &job["retry_count"]),
        (&json!("processing"), &json!(0))
    );
    let parser = parser_of(&server).await;
    server.kill();
    // The system ends it with the thread that started it.
    while std::path::Path::new(&format!("/proc/{parser}/fd/0")).exists() {
        tokio::task::yield_now().await;
    }
    server.start_again();
    let client = server.client();
    let job = client.reaches(id, |job| job["message"] == "parsing").await;
    assert_eq!(job["retry_count"], 1, "{job}");
    is_cancelled_with_its_parser(&server, &client, id).await;
}

/// The id of the one process that the server has started, or is about to.
async fn parser_of(server: &Server) -> u32 {
    let mut children = children_of(server.pid());
    while children.is_empty() {
        tokio::task::yield_now().await;
        children = children_of(server.pid());
    }
    assert_eq!(children.len(), 1, "{children:?}");
    let mut lines = children[0].lines();
    let pid = lines.find_map(|line| line.strip_prefix("Pid:\t"));
    pid.and_then(|pid| pid.parse().ok()).expect("an id")
}

/// Stopping a service sends SIGTERM to all of its processes, and Ctrl-C reaches all of a terminal's:
/// documents that were just being read failed for good (rows B2, E2).
#[test]
fn a_parser_that_is_asked_to_end_leaves_that_to_the_server() {
    let parser = command(&["parse-document"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut parser = parser.expect("the binary starts");
    let status = format!("/proc/{}/status", parser.id());
    let is_caught = |signal: Signal| {
        let told = std::fs::read_to_string(&status).expect("it runs");
        let caught = told.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.expect("a line").trim(), 16);
        caught.expect("a mask") >> (signal.as_raw() - 1) & 1 == 1
    };
    let pid = Pid::from_child(&parser);
    let asks = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
    let until = Instant::now() + PATIENCE;
    while !asks.iter().all(|signal| is_caught(*signal)) {
        assert!(Instant::now() < until, "it is ended by signals");
        std::thread::yield_now();
    }
    for signal in asks {
        kill_process(pid, signal).expect("it runs");
    }
    // It goes on until there is nothing more to read.
    drop(parser.stdin.take());
    let ended = parser.wait().expect("it is ours");
    assert_eq!(ended.signal(), None, "{ended}");
}
