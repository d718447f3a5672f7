//! The served OpenAPI document held against what is answered, by schemathesis (row A12).
//!
//! Requests are made from the document, valid ones and others that break it in one place: none is
//! answered with 5xx, with a status or a shape that the document does not have, or against what it
//! says of the request. tests/schemathesis/ tells what the document cannot say.

use std::path::Path;
use std::process::Command;

use serde_json::Map;
use stemma_tests::Server;

use crate::access::create_token;
use crate::documents::text_of;

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
