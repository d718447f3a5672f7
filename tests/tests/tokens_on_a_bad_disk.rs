//! The log of tokens on a disk that fails: nobody is let in by half a token, and whoever was let in
//! stays in (row E1).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use stemma_tests::{Answer, Client, Server, SmallDisk, command};

use crate::access::create_token;
use crate::documents::text_of;

/// Takes up all room that there is.
fn fill(disk: &SmallDisk) {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(disk.outside("filler"));
    let mut file = file.expect("a file");
    for size in [64 << 10, 4 << 10] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

fn make_room(disk: &SmallDisk) {
    std::fs::remove_file(disk.outside("filler")).expect("it is there");
}

/// Gives the room back that the log's segment has and does not need yet, as a copy of its
/// directory may: from here on its writes need room of their own.
fn make_sparse(log: &Path) {
    let files = std::fs::read_dir(log).expect("the log of tokens");
    let files = files.map(|file| file.expect("a file").path());
    for segment in files.filter(|path| path.is_file()) {
        let dug = Command::new("fallocate")
            .arg("--dig-holes")
            .arg(segment)
            .status();
        assert!(dug.expect("fallocate is there").success());
    }
}

/// A client that shows a token that was made.
fn showing(server: &Server, made: &Value) -> Client {
    Client::showing(server.url(), Some(text_of(&made["token"])))
}

async fn issue(client: &Client, principal: &str) -> Answer {
    let asked = json!({ "principal": principal, "role": "reader", "tenant": "default" });
    client.post("/api/admin/tokens", &asked).await
}

/// The principals of all tokens that are told.
async fn principals(client: &Client) -> Vec<String> {
    let told = client.every("/api/admin/tokens").await;
    let name = |token: &Value| text_of(&token["principal"]).to_owned();
    told.iter().map(name).collect()
}

async fn part(client: &Client) -> Value {
    client.get("/api/health").await.json()["parts"]["tokens"].clone()
}

#[tokio::test]
async fn a_poisoned_log_of_tokens_lets_in_whoever_had_one_until_it_is_reopened() {
    let disk = SmallDisk::of(16 << 10);
    let made = create_token(&disk.outside("data"), "operator", &[]);
    let mut server = Server::builder()
        .env("STEMMA_SEARCH__MODE", "none")
        .on(&disk)
        .start();
    let operator = showing(&server, &made);
    let first = issue(&operator, "ada").await.expect(201);
    make_sparse(&disk.outside("data/access"));
    fill(&disk);
    let mut told = vec!["the-operator".to_owned(), "ada".to_owned()];
    let refused = loop {
        let name = format!("p{}", told.len());
        let answer = issue(&operator, &name).await;
        if answer.status != 201 {
            break answer;
        }
        told.push(name);
        assert!(told.len() < 100, "the disk is full");
    };
    refused.expect_problem(503, "OUTCOME_UNKNOWN");

    // Nothing more is given out or taken back, and that is said.
    let again = issue(&operator, "eve").await;
    again.expect_problem(503, "LOG_REFUSES_WRITES");
    let of_ada = format!("/api/admin/tokens/{}", text_of(&first["id"]));
    let kept = operator.raw("DELETE", &of_ada, &[], "").await;
    kept.expect_problem(503, "LOG_REFUSES_WRITES");
    let tokens = part(&operator).await;
    assert_eq!(tokens["status"], "degraded", "{tokens}");
    assert!(text_of(&tokens["reason"]).contains("until it is reopened"));
    let asked = ["token", "create", "--server", server.url(), "--name", "eve"];
    let by_hand = command(&asked)
        .args(["--role", "reader"])
        .env("STEMMA_TOKEN", text_of(&made["token"]))
        .output()
        .expect("it runs");
    assert_eq!(by_hand.status.code(), Some(1));
    assert!(by_hand.stdout.is_empty(), "no token is told");

    // Those that hold do so still, and there are no others.
    let ada = showing(&server, &first);
    ada.get("/api/resources").await.expect(200);
    assert_eq!(principals(&operator).await, told);

    // Room alone is not enough: what lies behind the last token that was told is unknown.
    make_room(&disk);
    let again = issue(&operator, "eve").await;
    again.expect_problem(503, "LOG_REFUSES_WRITES");
    let reopen = operator.raw("POST", "/api/admin/reopen/tokens", &[], "");
    reopen.await.expect(200);
    assert_eq!(part(&operator).await["status"], "ok");
    assert_eq!(principals(&operator).await, told, "none was made after all");
    issue(&operator, "eve").await.expect(201);
    told.push("eve".to_owned());
    assert_eq!(operator.raw("DELETE", &of_ada, &[], "").await.status, 204);
    server.kill();
    server.start_again();
    assert_eq!(principals(&showing(&server, &made)).await, told);
    let gone = showing(&server, &first).get("/api/resources").await;
    assert_eq!(gone.status, 401);
}

#[tokio::test]
async fn a_first_token_without_room_for_its_log_leaves_the_server_as_it_was() {
    let disk = SmallDisk::of(16 << 10);
    let mut server = Server::builder()
        .env("STEMMA_SEARCH__MODE", "none")
        .on(&disk)
        .start();
    let anybody = server.client();
    fill(&disk);
    for _ in 0..2 {
        issue(&anybody, "ada")
            .await
            .expect_problem(507, "STORAGE_FULL");
    }
    // Nobody has a token, so nobody is asked for one.
    anybody.get("/api/resources").await.expect(200);
    assert_eq!(principals(&anybody).await, [""; 0]);
    make_room(&disk);
    server.kill();
    server.start_again();
    let anybody = server.client();
    anybody.get("/api/resources").await.expect(200);
    let asked = json!({ "principal": "ada", "role": "operator" });
    let made = anybody.post("/api/admin/tokens", &asked).await.expect(201);
    assert_eq!(anybody.get("/api/resources").await.status, 401);
    assert_eq!(principals(&showing(&server, &made)).await, ["ada"]);
    server.kill();
    server.start_again();
    assert_eq!(principals(&showing(&server, &made)).await, ["ada"]);
}
