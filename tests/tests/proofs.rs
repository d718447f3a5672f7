//! What the log shows to those who trust nothing but a key (E3).

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use stemma_tests::{Client, Server, run};

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

/// Runs a command; gives its status and all that it says.
fn told(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    let told = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&told).into_owned(),
    )
}

#[tokio::test]
async fn a_proof_is_checked_with_a_key_and_nothing_else() {
    let mut server = Server::start();
    let client = server.client();
    fill(&client).await;
    let beside = tempfile::tempdir().expect("a directory");
    let file = |name: &str| beside.path().join(name).to_str().expect("UTF-8").to_owned();
    let (key, proof) = (file("key"), file("proof"));
    std::fs::write(&key, client.get("/api/log/key").await.text()).expect("the file is ours");
    let url = server.url().to_owned();
    let data = server.data().to_str().expect("UTF-8").to_owned();
    let by_server = run(&[
        "prove",
        "--position",
        "7",
        "--size",
        "300",
        "--server",
        &url,
    ]);
    let by_directory = run(&["prove", "--position", "7", "--size", "300", "--data", &data]);
    assert_eq!(by_server.status.code(), Some(0));
    assert_eq!(by_server.stdout, by_directory.stdout);
    assert_eq!(server.stop(), Some(0));
    std::fs::write(&proof, &by_server.stdout).expect("the file is ours");
    let (status, said) = told(&["check", &proof, "--key", &key]);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.starts_with("valid: ") && said.contains("position 7 of the 300 events"),
        "{said}"
    );
    // Another position, another key, and what is no proof.
    let text = String::from_utf8(by_server.stdout).expect("UTF-8");
    std::fs::write(&proof, text.replace("index 7\n", "index 8\n")).expect("the file is ours");
    assert_eq!(told(&["check", &proof, "--key", &key]).0, Some(3));
    let other = Server::start().client().get("/api/log/key").await.text();
    let other_key = file("other");
    std::fs::write(&other_key, other).expect("the file is ours");
    std::fs::write(&proof, &text).expect("the file is ours");
    assert_eq!(told(&["check", &proof, "--key", &other_key]).0, Some(3));
    std::fs::write(&proof, "no proof").expect("the file is ours");
    assert_eq!(told(&["check", &proof, "--key", &key]).0, Some(1));
    assert_eq!(
        told(&["prove", "--position", "900", "--data", &data]).0,
        Some(2)
    );
}

#[tokio::test]
async fn a_log_that_was_cut_back_or_rewritten_since_a_checkpoint_is_found() {
    let mut server = Server::start();
    for number in 0..3 {
        server
            .client()
            .create(&format!("first {number}"), "x")
            .await;
    }
    assert_eq!(server.stop(), Some(0));
    let log = server.data().join("tenants/default");
    let earlier = tempfile::tempdir().expect("a directory");
    copy(&log, &earlier.path().join("tenants/default"));
    server.start_again();
    server.client().create("second", "x").await;
    let checkpoint = earlier.path().join("checkpoint");
    let checkpoint = checkpoint.to_str().expect("UTF-8");
    let signed = server.client().get("/api/log/checkpoint").await.text();
    std::fs::write(checkpoint, signed).expect("the file is ours");
    let verify = |data: &Path| {
        let data = data.to_str().expect("UTF-8");
        told(&["verify", "--quick", "--data", data, "--against", checkpoint])
    };
    server.client().create("third", "x").await;
    let (status, said) = verify(server.data());
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("goes on from the checkpoint of 4 events"),
        "{said}"
    );
    // The log as it was before, and then with other events: whole in themselves, both.
    let (status, said) = verify(earlier.path());
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("cut back"), "{said}");
    let mut rewritten = Server::builder().data(earlier.path()).start();
    for _ in 0..3 {
        rewritten.client().create("another", "y").await;
    }
    assert_eq!(rewritten.stop(), Some(0));
    let (status, said) = verify(earlier.path());
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("not those that were signed for"), "{said}");
}

/// Copies a directory with all below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a file");
        }
    }
}
