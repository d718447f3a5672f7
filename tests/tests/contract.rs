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

#[tokio::test]
async fn every_answer_is_as_the_served_document_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join("../target/schemathesis/bin/schemathesis");
    assert!(
        program.is_file(),
        "schemathesis is missing: cargo xtask test installs it into target/schemathesis"
    );
    let data = tempfile::tempdir().expect("a directory");
    let token = create_token(data.path(), "admin", &[]);
    let builder = Server::builder().data(data.path()).arg("--demo");
    let server = builder.start();
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let output = Command::new(program)
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(format!("{}/api/openapi.json", server.url()))
        // All checks are on by default; asked for by name they would be on where the file says no.
        .args(["--continue-on-failure", "--no-color"])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", text_of(&token["token"])),
        ])
        // A live stream never ends; tests of their own read them.
        .args(["--exclude-path-regex", "stream$"])
        .args(["--request-timeout", "20", "--workers", "1"])
        // What one run found is not tried again by the next: the seed alone decides.
        .args(["--generation-database", "none"])
        .args(["--seed", &set("STEMMA_TEST_SCHEMATHESIS_SEED", "1")])
        .arg("--max-examples")
        .arg(set("STEMMA_TEST_SCHEMATHESIS_EXAMPLES", EXAMPLES))
        .current_dir(folder.join("schemathesis"))
        .output()
        .expect("it was installed");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    // All of them: a document that could not be read would be no failure of any route.
    let document = server.client().get("/api/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    // It leaves the route out from which it read the document.
    let tested = paths.iter().filter(|(path, _)| !path.ends_with("stream"));
    let count: usize = tested
        .map(|(_, methods)| methods.as_object().map_or(0, Map::len))
        .sum();
    let tested = format!("Tested: {}\n", count - 1);
    assert!(told.contains(&tested), "{tested}{told}");
}
