//! Tenants stand apart, are opened when they are asked for, and leave nothing behind (row C5).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{
    Answer, Client, DIMENSION, ModelServer, Server, ServerBuilder, SseReader, Upload, command,
};

use crate::access::create_token;
use crate::bad_input::{connect, rest};
use crate::documents::{TEXT, text_of};
use crate::graph::caught_up;

/// How long what a thread of the server does by itself may take.
const PATIENCE: Duration = Duration::from_mins(1);

fn stemma(data: &Path, args: &[&str]) -> String {
    let output = command(args)
        .arg("--data")
        .arg(data)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const BODY: &[u8] = br#"{"name":"Moon"}"#;

const GO_ON: &[u8; 25] = b"HTTP/1.1 100 Continue\r\n\r\n";

struct Town {
    server: Server,
    operator: Client,
    /// Two tenants, an admin each.
    north: Client,
    south: Client,
    north_token: String,
    data: tempfile::TempDir,
}

fn town(set: impl Fn(ServerBuilder) -> ServerBuilder) -> Town {
    let data = tempfile::tempdir().expect("a directory");
    for tenant in ["north", "south"] {
        stemma(data.path(), &["tenant", "create", tenant]);
    }
    let token = |role: &str, tenant: &str| {
        let made = create_token(data.path(), role, &["--tenant", tenant]);
        text_of(&made["token"]).to_owned()
    };
    let [operator, north, south] = [
        token("operator", "default"),
        token("admin", "north"),
        token("admin", "south"),
    ];
    let server = set(Server::builder().data(data.path())).start();
    let client = |token: &str| Client::showing(server.url(), Some(token));
    Town {
        operator: client(&operator),
        north: client(&north),
        south: client(&south),
        north_token: north,
        server,
        data,
    }
}

impl Town {
    async fn is_open(&self, name: &str) -> bool {
        let all = self
            .operator
            .get("/api/admin/tenants?limit=100")
            .await
            .expect(200);
        let all = all["items"].as_array().expect("a list");
        let found = all.iter().find(|tenant| tenant["name"] == name);
        found.expect("a tenant")["is_open"] == true
    }

    fn place(&self, path: &str) -> std::path::PathBuf {
        self.data.path().join("tenants").join(path)
    }

    /// Waits until a file or directory is no more.
    async fn until_gone(&self, path: &str) {
        let gone = async {
            while self.place(path).exists() {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(PATIENCE, gone).await;
        gone.unwrap_or_else(|_| panic!("{path} is still there"));
    }

    async fn delete(&self, name: &str) -> Answer {
        let path = format!("/api/admin/tenants/{name}");
        let request = self.operator.request("DELETE", &path);
        self.operator.send(request).await
    }

    /// Deletes a tenant that nobody works on, until it is not known any more: that may take longer
    /// than an answer is waited for.
    async fn delete_wholly(&self, name: &str) {
        let is_gone = async {
            loop {
                match self.delete(name).await.status {
                    404 => return,
                    status => assert!(matches!(status, 202 | 204), "{status}"),
                }
            }
        };
        let is_gone = tokio::time::timeout(PATIENCE, is_gone).await;
        is_gone.unwrap_or_else(|_| panic!("{name} is still there"));
    }

    /// A request of north that is sent but for the last byte; it is worked on when this returns.
    async fn half_sent(&self) -> TcpStream {
        // It is open by then, and counts its users as they come.
        self.north.get("/api/resources").await.expect(200);
        let mut half = connect(&self.server);
        let head = format!(
            "POST /api/entity_types HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
            self.north_token,
            BODY.len()
        );
        half.write_all(head.as_bytes()).expect("it is sent");
        let mut going_on = [0; GO_ON.len()];
        half.read_exact(&mut going_on).expect("it is answered");
        assert_eq!(going_on, *GO_ON);
        let sent = half.write_all(&BODY[..BODY.len() - 1]);
        sent.expect("it is sent");
        half
    }

    fn restarted(&mut self, server: Server) {
        let url = server.url().to_owned();
        self.server = server;
        self.operator = self.operator.at(&url);
        self.north = self.north.at(&url);
        self.south = self.south.at(&url);
    }

    /// Waits until a tenant is open, or closed.
    async fn until_open(&self, name: &str, is_open: bool) {
        let changed = async {
            while self.is_open(name).await != is_open {
                tokio::task::yield_now().await;
            }
        };
        let changed = tokio::time::timeout(PATIENCE, changed).await;
        changed.unwrap_or_else(|_| panic!("{name} is not {is_open}"));
    }
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("a list");
    items.iter().map(|item| text_of(&item["id"])).collect()
}

#[tokio::test]
async fn what_is_of_one_tenant_is_in_no_answer_to_another() {
    let town = town(|builder| builder);
    let (job, document) = town.north.processed(&Upload::of("a.md", TEXT)).await;
    assert_eq!(job["status"], "completed", "{job}");
    let id = text_of(&document["id"]);
    caught_up(&town.north).await;
    for path in [
        format!("/api/resources/{id}"),
        format!("/api/resources/{id}/content"),
        format!("/api/resources/{id}/annotations"),
        format!("/api/resources/{id}/events"),
        format!("/api/documents/{id}"),
        format!("/api/documents/{id}/text"),
        format!("/api/jobs/{}", text_of(&job["id"])),
        format!("/api/graph/nodes/{id}/neighbors"),
    ] {
        assert_eq!(town.north.get(&path).await.status, 200, "{path}");
        assert_eq!(town.south.get(&path).await.status, 404, "{path}");
    }
    for path in [
        "/api/resources",
        "/api/jobs",
        "/api/events?after=start",
        "/api/entity_types",
        "/api/search?q=Zij",
    ] {
        assert_ne!(ids_or_items(&town.north, path).await, 0, "{path}");
        assert_eq!(ids_or_items(&town.south, path).await, 0, "{path}");
    }
    // The same bytes are new to another tenant.
    let told = town
        .south
        .upload(&Upload::of("a.md", TEXT))
        .await
        .expect(202);
    assert_eq!(told["deduplicated"], false, "{told}");
    let ended = town.south.ended(text_of(&told["job_id"])).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let unsaid = json!({ "principal": "eve", "role": "admin" });
    let own = town
        .north
        .post("/api/admin/tokens", &unsaid)
        .await
        .expect(201);
    assert_eq!(
        own["tenant"], "north",
        "an admin gives out tokens of the own tenant"
    );
    // An operator sees neither.
    assert_eq!(town.operator.get("/api/resources").await.status, 403);
}

/// The index of a tenant that was just opened may still be opened itself.
async fn ids_or_items(client: &Client, path: &str) -> usize {
    let since = Instant::now();
    let page = loop {
        let answer = client.get(path).await;
        let is_opening = answer.status == 503 && answer.json()["code"] == "SEARCH_UNAVAILABLE";
        if !is_opening || since.elapsed() > PATIENCE {
            break answer.expect(200);
        }
        tokio::task::yield_now().await;
    };
    page["items"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_tenant_that_nobody_uses_is_closed_and_opened_again_with_all_that_it_had() {
    let town = town(|builder| builder.env("STEMMA_TENANTS__IDLE_CLOSE_MS", "100"));
    assert!(
        !town.is_open("north").await,
        "it is opened when it is asked for"
    );
    let made = town.north.create("a note", "Jupiter").await;
    let stream = town.south.request("GET", "/api/events/stream");
    let mut stream = SseReader::open(stream).await;
    assert!(stream.next().await.is_some());
    town.until_open("north", false).await;
    assert!(town.is_open("south").await, "a stream keeps it open");
    let read = town.north.get("/api/resources").await.expect(200);
    assert_eq!(ids(&read), [text_of(&made["id"])]);
    drop(stream);
    town.until_open("south", false).await;
}

#[tokio::test]
async fn as_many_tenants_as_may_be_are_open_and_one_in_use_is_not_closed_for_another() {
    let town = town(|builder| builder.env("STEMMA_TENANTS__OPEN_MAX", "1"));
    for _ in 0..3 {
        for client in [&town.north, &town.south] {
            assert_eq!(client.get("/api/resources").await.status, 200);
        }
    }
    let stream = town.south.request("GET", "/api/events/stream");
    let mut stream = SseReader::open(stream).await;
    assert!(stream.next().await.is_some());
    let refused = town.north.get("/api/resources").await;
    refused.expect_problem(503, "TOO_MANY_TENANTS");
    assert_eq!(town.south.get("/api/resources").await.status, 200);
}

#[tokio::test]
async fn a_tenant_that_is_deleted_is_gone_and_its_tokens_open_nothing_again() {
    let town = town(|builder| builder);
    town.north.create("a note", "Jupiter").await;
    let mut stream = SseReader::open(town.north.request("GET", "/api/events/stream")).await;
    assert!(stream.next().await.is_some());
    assert!(matches!(town.delete("north").await.status, 202 | 204));
    town.delete_wholly("north").await;
    while stream.next().await.is_some() {}
    town.north
        .get("/api/resources")
        .await
        .expect_problem(401, "TOKEN_INVALID");
    assert!(!town.data.path().join("tenants/north").exists());
    let again = town.delete("north").await;
    again.expect_problem(404, "TENANT_NOT_FOUND");
    let own = town.delete("default").await;
    own.expect_problem(409, "TENANT_IN_USE");
    let new = json!({ "name": "north" });
    town.operator
        .post("/api/admin/tenants", &new)
        .await
        .expect(201);
    let twice = town.operator.post("/api/admin/tenants", &new).await;
    twice.expect_problem(409, "ALREADY_EXISTS");
    town.north
        .get("/api/resources")
        .await
        .expect_problem(401, "TOKEN_INVALID");
    let token = json!({ "principal": "ada", "role": "reader", "tenant": "north" });
    let token = town
        .operator
        .post("/api/admin/tokens", &token)
        .await
        .expect(201);
    let ada = Client::showing(town.server.url(), Some(text_of(&token["token"])));
    let read = ada.get("/api/resources").await.expect(200);
    assert_eq!(read["items"], json!([]));
}

#[tokio::test]
async fn jobs_of_a_tenant_go_on_after_a_crash_without_anybody_asking() {
    let mut town = town(|builder| builder.env("STEMMA_JOBS__RETRY_BASE_MS", "20"));
    let told = town
        .north
        .upload(&Upload::of("a.md", TEXT))
        .await
        .expect(202);
    town.server.kill();
    town.server.start_again();
    let url = town.server.url().to_owned();
    let (operator, north) = (town.operator.at(&url), town.north.at(&url));
    (town.operator, town.north) = (operator, north);
    town.until_open("north", true).await;
    let ended = town.north.ended(text_of(&told["job_id"])).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert!(!town.is_open("south").await, "it had nothing to do");
}

/// It answered 409 then, and left the tenant with streams that had ended and no tokens.
#[tokio::test]
async fn a_tenant_that_requests_work_on_is_deleted_once_they_have_ended() {
    let town = town(|builder| builder);
    let mut half = town.half_sent().await;
    assert_eq!(town.delete("north").await.status, 202);
    let gone = town.north.get("/api/resources").await;
    gone.expect_problem(401, "TOKEN_INVALID");
    let new = json!({ "name": "north" });
    let early = town.operator.post("/api/admin/tenants", &new).await;
    early.expect_problem(409, "TENANT_IN_USE");
    let token = json!({ "principal": "ada", "role": "reader", "tenant": "north" });
    let early = town.operator.post("/api/admin/tokens", &token).await;
    early.expect_problem(404, "TENANT_NOT_FOUND");
    assert_eq!(town.delete("north").await.status, 202);
    half.write_all(&BODY[BODY.len() - 1..]).expect("it is sent");
    // Its token was taken back before the rest came.
    let answer = rest(&mut half);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    town.until_gone("north").await;
    // The directory goes a moment before the deletion has ended.
    town.delete_wholly("north").await;
    let again = town.delete("north").await;
    again.expect_problem(404, "TENANT_NOT_FOUND");
    town.operator
        .post("/api/admin/tenants", &new)
        .await
        .expect(201);
}

#[tokio::test]
async fn a_deletion_that_was_begun_goes_on_after_a_crash() {
    let mut town = town(|builder| builder);
    let half = town.half_sent().await;
    assert_eq!(town.delete("north").await.status, 202);
    town.server.kill();
    let builder = Server::builder().data(town.data.path());
    town.restarted(builder.start());
    drop(half);
    town.until_gone("north").await;
    let gone = town.north.get("/api/resources").await;
    gone.expect_problem(401, "TOKEN_INVALID");
    assert_eq!(town.south.get("/api/resources").await.status, 200);
}

/// The threads that were begun went on, and the log was in use until the server ended.
#[tokio::test]
async fn a_tenant_that_could_not_be_opened_is_opened_once_the_cause_is_gone() {
    let town = town(|builder| builder);
    for cause in ["north/search", "north/unfinished"] {
        let place = town.place(cause);
        if cause.ends_with("search") {
            std::fs::write(&place, "in the way").expect("a file");
        } else {
            let _ = std::fs::remove_file(&place);
            std::fs::create_dir(&place).expect("a directory");
        }
        let failed = town.north.get("/api/resources").await;
        failed.expect_problem(503, "TENANT_UNAVAILABLE");
        if cause.ends_with("search") {
            std::fs::remove_file(&place).expect("it was there");
        } else {
            std::fs::remove_dir(&place).expect("it was there");
        }
    }
    assert_eq!(town.north.get("/api/resources").await.status, 200);
}

#[tokio::test]
async fn a_job_that_no_worker_in_here_does_keeps_no_tenant_open() {
    let town = town(|builder| builder.env("STEMMA_TENANTS__OPEN_MAX", "1"));
    let job = json!({ "type": "weather.report", "payload": {} });
    let made = town.north.post("/api/jobs", &job).await;
    assert!((200..300).contains(&made.status), "{}", made.text());
    assert_eq!(town.south.get("/api/resources").await.status, 200);
}

/// It stayed open for as long as there was no room for jobs that embed its documents anew.
#[tokio::test]
async fn documents_that_wait_for_room_behind_what_others_are_to_do_keep_no_tenant_open() {
    let model = ModelServer::start();
    let embedding_by = |builder: ServerBuilder, name: &str| {
        builder
            .env("STEMMA_EMBED__URL", &model.url())
            .env("STEMMA_EMBED__MODEL", name)
            .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
            .env("STEMMA_JOBS__QUEUED_MAX", "10")
    };
    let mut town = town(|builder| embedding_by(builder, "first"));
    let (done, _) = town.north.processed(&Upload::of("a.md", TEXT)).await;
    assert_eq!(done["status"], "completed", "{done}");
    // A tenth of the queue is for such documents.
    let job = json!({ "type": "weather.report", "payload": {} });
    let made = town.north.post("/api/jobs", &job).await;
    assert!((200..300).contains(&made.status), "{}", made.text());
    assert_eq!(town.server.stop(), Some(0));
    let builder = embedding_by(Server::builder().data(town.data.path()), "second")
        .env("STEMMA_TENANTS__IDLE_CLOSE_MS", "100");
    town.restarted(builder.start());
    town.north.get("/api/resources").await.expect(200);
    town.until_open("north", false).await;
    assert!(town.place("north/unfinished").exists());
}

/// Those that did not fit were left lying until somebody asked for them.
#[tokio::test]
async fn tenants_with_jobs_are_opened_in_turns_after_a_crash_where_not_all_fit() {
    let mut town = town(|builder| builder);
    let mut jobs = Vec::new();
    for client in [&town.north, &town.south] {
        let told = client.upload(&Upload::of("a.md", TEXT)).await.expect(202);
        jobs.push(text_of(&told["job_id"]).to_owned());
    }
    town.server.kill();
    let builder = Server::builder()
        .data(town.data.path())
        .env("STEMMA_TENANTS__OPEN_MAX", "1")
        .env("STEMMA_TENANTS__IDLE_CLOSE_MS", "100")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20");
    town.restarted(builder.start());
    town.until_gone("north/unfinished").await;
    town.until_gone("south/unfinished").await;
    for (client, job) in [&town.north, &town.south].into_iter().zip(jobs) {
        let ended = client.ended(&job).await;
        assert_eq!(ended["status"], "completed", "{ended}");
    }
}

#[test]
fn tenants_are_made_listed_and_deleted_where_no_server_runs() {
    let data = tempfile::tempdir().expect("a directory");
    for tenant in ["b", "a"] {
        stemma(data.path(), &["tenant", "create", tenant]);
    }
    assert_eq!(stemma(data.path(), &["tenant", "list"]), "a\nb\n");
    create_token(data.path(), "reader", &["--tenant", "a"]);
    stemma(data.path(), &["tenant", "delete", "a"]);
    assert_eq!(stemma(data.path(), &["tenant", "list"]), "b\n");
    let tokens = stemma(data.path(), &["token", "list"]);
    assert!(tokens.contains("revoked"), "{tokens}");
    let twice = command(&["tenant", "create", "b", "--data"])
        .arg(data.path())
        .output();
    assert_eq!(twice.expect("it runs").status.code(), Some(1));
    let bad = command(&["tenant", "create", "../b", "--data"])
        .arg(data.path())
        .output();
    assert_eq!(bad.expect("it runs").status.code(), Some(2));
}

/// The tenant was gone, and the command failed as if nothing had been done.
#[test]
fn a_tenant_whose_graph_cannot_be_asked_for_is_not_deleted() {
    let data = tempfile::tempdir().expect("a directory");
    stemma(data.path(), &["tenant", "create", "north"]);
    let delete = |password_file: &Path| {
        command(&["tenant", "delete", "north", "--data"])
            .arg(data.path())
            .env("STEMMA_GRAPH__MODE", "neo4j")
            .env("STEMMA_GRAPH__URI", "bolt://127.0.0.1:1")
            .env("STEMMA_GRAPH__PASSWORD_FILE", password_file)
            .output()
            .expect("it runs")
    };
    let password_file = data.path().join("password");
    let refused = delete(&password_file);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("graph.password_file"), "{told}");
    assert_eq!(stemma(data.path(), &["tenant", "list"]), "north\n");
    std::fs::write(&password_file, "secret\n").expect("there is room");
    let deleted = delete(&password_file);
    let told = String::from_utf8_lossy(&deleted.stderr);
    assert_eq!(deleted.status.code(), Some(0), "{told}");
    assert_eq!(stemma(data.path(), &["tenant", "list"]), "");
}

#[tokio::test]
async fn the_graph_of_the_past_of_one_tenant_is_not_that_of_another() {
    let town = town(|builder| builder);
    town.north.create("north", "Jupiter").await;
    town.south.create("south", "Saturn").await;
    let ask = json!({ "query": "MATCH (r:Resource) RETURN r.name" });
    for _ in 0..2 {
        for (client, name) in [(&town.north, "north"), (&town.south, "south")] {
            let path = "/api/graph/query?as_of_position=0";
            let answer = client.post(path, &ask).await.expect(200);
            assert!(answer.to_string().contains(name), "{answer}");
        }
    }
    for tenant in ["north", "south"] {
        let dir = town
            .data
            .path()
            .join("tenants")
            .join(tenant)
            .join("graph-past");
        assert!(dir.is_dir(), "{}", dir.display());
    }
    assert!(
        !town
            .data
            .path()
            .join("tenants/default/graph-past")
            .join("0")
            .exists()
    );
}
