//! The served OpenAPI document held against what is answered: by schemathesis (row A12), and read by
//! read where each is to tell its position.
//!
//! Requests are made from the document, valid ones and others that break it in one place: none is
//! answered with 5xx, with a status or a shape that the document does not have, or against what it
//! says of the request. tests/schemathesis/ tells what the document cannot say.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};
use stemma_tests::{Server, Upload};

use crate::access::create_token;
use crate::documents::{TEXT, text_of};

/// Examples of each route in the test; `STEMMA_TEST_SCHEMATHESIS_EXAMPLES` asks for more.
const EXAMPLES: &str = "10";
/// The same for those whose roles open less.
const EXAMPLES_OF_OTHERS: &str = "4";

#[tokio::test]
async fn every_answer_is_as_the_served_document_says() {
    let (server, tokens) = demo(&["admin"]);
    let told = run(&server, &tokens[0], EXAMPLES, &[]);
    expect_all_tested(&server, &told).await;
}

#[tokio::test]
async fn whoever_asks_is_answered_as_the_served_document_says() {
    let roles = ["reader", "writer", "worker", "operator"];
    let (server, tokens) = demo(&roles);
    for token in &tokens {
        // Who may change nothing is told so before being told that nothing is changed that way.
        let but = ["--exclude-checks", "unsupported_method"];
        // Each bound of each field is tried by who may do everything: thousands of requests, which
        // the others are refused, or answered alike.
        let phases = ["--phases", "examples,fuzzing,stateful"];
        let told = run(&server, token, EXAMPLES_OF_OTHERS, &[but, phases].concat());
        expect_all_tested(&server, &told).await;
    }
}

/// What is read by `GET` but is of no position of a log: streams, whose frames tell it, what is of
/// the whole server, and what no event changes.
const OF_NO_POSITION: [&str; 13] = [
    "/api/admin/backup",
    "/api/admin/tenants",
    "/api/admin/tokens",
    "/api/events/stream",
    "/api/health",
    "/api/health/live",
    "/api/health/ready",
    "/api/jobs/{id}/events/stream",
    "/api/log/key",
    "/api/openapi.json",
    "/api/resources/{id}/events/stream",
    "/docs",
    "/metrics",
];

/// Found: jobs, traces, failures, checkpoints, proofs and tiles told none.
#[tokio::test]
async fn each_read_tells_the_position_that_it_reflects_as_the_served_document_says() {
    let server = Server::start();
    let client = server.client();
    let upload = client.uploading(&Upload::of("moons.md", TEXT));
    let upload = client.send(upload.header("x-request-id", "a-trace")).await;
    let upload = upload.expect(202);
    let [job, document] = ["job_id", "document_id"].map(|name| text_of(&upload[name]));
    client.ended(job).await;
    let annotations = format!("/api/resources/{document}/annotations");
    let annotation = json!({ "target": { "selector": { "type": "TextQuoteSelector",
        "exact": "four moons" } } });
    let written = client.post(&annotations, &annotation).await;
    let annotation = text_of(&written.expect(201)["annotation_id"]).to_owned();
    let head = written.position();
    let digest = client.get(&format!("/api/events?after={}", head - 1)).await;
    let digest = digest.expect(200)["items"][0]["id"].clone();
    let concrete = |path: &str| {
        let id = if path.contains("/jobs/") {
            job
        } else {
            document
        };
        let path = path
            .replace("{id}", id)
            .replace("{aid}", &annotation)
            .replace("{digest}", text_of(&digest))
            .replace("{trace_id}", "a-trace")
            .replace("{node}", document)
            .replace("{level}/{tile}", &format!("0/000.p/{}", head + 1));
        let asked = match path.as_str() {
            "/api/search" => "&q=moons".to_owned(),
            "/api/graph/path" => format!("&from={document}&to=annotation:{annotation}"),
            "/api/log/proof/inclusion" => "&position=0".to_owned(),
            "/api/log/proof/consistency" => "&from=1".to_owned(),
            _ => String::new(),
        };
        format!("{path}?min_position={head}{asked}")
    };
    let served = client.get("/api/openapi.json").await.expect(200);
    let paths = served["paths"].as_object().expect("paths");
    let mut of_no_position = Vec::new();
    for (path, methods) in paths
        .iter()
        .filter(|(_, methods)| methods["get"].is_object())
    {
        let answer = |method: &str| &methods[method]["responses"]["200"]["headers"];
        assert_eq!(answer("get"), answer("head"), "{path}");
        if answer("get")["Stemma-Position"] == Value::Null {
            of_no_position.push(path.as_str());
            continue;
        }
        let asked = concrete(path);
        for method in ["GET", "HEAD"] {
            let answer = client.raw(method, &asked, &[], "").await;
            assert_eq!(answer.status, 200, "{method} {asked} {}", answer.text());
            assert_eq!(answer.position(), head, "{method} {asked}");
        }
    }
    assert_eq!(of_no_position, OF_NO_POSITION);
}

/// A server with the sample corpus, and a token of each role.
fn demo(roles: &[&str]) -> (Demo, Vec<String>) {
    let data = tempfile::tempdir().expect("a directory");
    let token = |role: &&str| {
        let made = create_token(data.path(), role, &[]);
        text_of(&made["token"]).to_owned()
    };
    let tokens = roles.iter().map(token).collect();
    let builder = Server::builder().data(data.path()).arg("--demo");
    // Tokens that do not hold are sent as fast as may be.
    let builder = builder.env("STEMMA_LIMITS__FAILURES_PER_S", "0");
    let server = builder.start();
    let demo = Demo {
        server,
        _data: data,
    };
    (demo, tokens)
}

struct Demo {
    server: Server,
    _data: tempfile::TempDir,
}

/// Runs schemathesis with a token, and gives what it told.
fn run(demo: &Demo, token: &str, examples: &str, more: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join("../target/schemathesis/bin/schemathesis");
    assert!(
        program.is_file(),
        "schemathesis is missing: cargo xtask test installs it into target/schemathesis"
    );
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let output = Command::new(program)
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(format!("{}/api/openapi.json", demo.server.url()))
        // All checks are on by default; asked for by name they would be on where the file says no.
        .args(["--continue-on-failure", "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // A live stream never ends; tests of their own read them.
        .args(["--exclude-path-regex", "stream$"])
        .args(["--request-timeout", "20", "--workers", "1"])
        // What one run found is not tried again by the next: the seed alone decides.
        .args(["--generation-database", "none"])
        .args(["--seed", &set("STEMMA_TEST_SCHEMATHESIS_SEED", "1")])
        .arg("--max-examples")
        .arg(set("STEMMA_TEST_SCHEMATHESIS_EXAMPLES", examples))
        .args(more)
        .current_dir(folder.join("schemathesis"))
        .output()
        .expect("it was installed");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

/// All of them: a document that could not be read would be no failure of any route.
async fn expect_all_tested(demo: &Demo, told: &str) {
    let document = demo
        .server
        .client()
        .get("/api/openapi.json")
        .await
        .expect(200);
    let paths = document["paths"].as_object().expect("paths");
    // It leaves the route out from which it read the document.
    let tested = paths.iter().filter(|(path, _)| !path.ends_with("stream"));
    let count: usize = tested
        .map(|(_, methods)| methods.as_object().map_or(0, Map::len))
        .sum();
    let tested = format!("Tested: {}\n", count - 1);
    assert!(told.contains(&tested), "{tested}{told}");
}
