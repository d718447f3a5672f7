//! What the log shows to those who trust nothing but a key (E3).

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use stemma_tests::{Client, Server};

/// Makes more events than a tile has hashes.
async fn fill(client: &Client) {
    for batch in 0..4 {
        let operations: Vec<Value> = (0..80)
            .map(|number| {
                let name = format!("resource {batch} {number}");
                json!({ "op": "create_resource", "name": name, "media_type": "text/plain", "content": name })
            })
            .collect();
        client
            .post("/api/batch", &json!({ "operations": operations }))
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn verifiers_that_are_not_ours_find_every_event_in_the_signed_tree() {
    let mut server = Server::start();
    fill(&server.client()).await;
    interop(server.url());
    // The same key and the same tree, after a crash and with more events.
    let key = server.client().get("/api/log/key").await.text();
    server.kill();
    server.start_again();
    assert_eq!(server.client().get("/api/log/key").await.text(), key);
    server.client().create("one more", "x").await;
    interop(server.url());
}

/// Runs the program in Go.
fn interop(url: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let output = Command::new("go")
        .args(["run", ".", url])
        .current_dir(dir)
        .output();
    let output = output.expect("go is installed (cargo xtask test installs it)");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

#[tokio::test]
async fn what_cannot_be_proved_is_refused() {
    let server = Server::start();
    let client = server.client();
    let empty = client.get("/api/log/checkpoint").await.text();
    assert_eq!(empty.lines().nth(1), Some("0"), "{empty}");
    for _ in 0..3 {
        client.create("a", "x").await;
    }
    for path in [
        "/api/log/proof/inclusion?position=3",
        "/api/log/proof/inclusion?position=1&size=1",
        "/api/log/proof/inclusion?position=1&size=4",
        "/api/log/proof/inclusion?position=18446744073709551615",
        "/api/log/proof/consistency?from=0",
        "/api/log/proof/consistency?from=3&to=2",
        "/api/log/proof/consistency?from=1&to=4",
        "/api/log/checkpoint?size=4",
    ] {
        client.get(path).await.expect_problem(422, "NO_SUCH_PROOF");
    }
    for path in [
        "/api/log/proof/inclusion",
        "/api/log/proof/inclusion?position=-1",
        "/api/log/proof/consistency?from=1&to=x",
        "/api/log/checkpoint?size=1&size=2",
    ] {
        client
            .get(path)
            .await
            .expect_problem(422, "INVALID_PARAMETERS");
    }
    for (tile, status, code) in [
        ("0/000.p/4", 404, "TILE_NOT_FOUND"),
        ("0/000", 404, "TILE_NOT_FOUND"),
        ("1/000.p/1", 404, "TILE_NOT_FOUND"),
        ("0/0", 422, "INVALID_ID"),
        ("x/000", 422, "INVALID_ID"),
        ("0/..%2F..", 422, "INVALID_ID"),
    ] {
        let path = format!("/api/log/tile/{tile}");
        client.get(&path).await.expect_problem(status, code);
    }
    let consistent = client
        .get("/api/log/proof/consistency?from=3&to=3")
        .await
        .expect(200);
    assert_eq!(consistent, json!({ "from": 3, "to": 3, "path": [] }));
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_told_and_costs_nothing_else() {
    let mut server = Server::start();
    server.client().create("a", "x").await;
    assert_eq!(server.stop(), Some(0));
    let path = server.data().join("tenants/default/signing-key");
    std::fs::write(&path, "PRIVATE+KEY+no").expect("the file is ours");
    server.start_again();
    let client = server.client();
    for path in ["/api/log/checkpoint", "/api/log/key"] {
        client
            .get(path)
            .await
            .expect_problem(503, "SIGNING_KEY_UNUSABLE");
    }
    client
        .get("/api/log/proof/inclusion?position=0")
        .await
        .expect(200);
    client.create("b", "y").await;
    assert_eq!(
        std::fs::read_to_string(&path).expect("it is there"),
        "PRIVATE+KEY+no"
    );
}
