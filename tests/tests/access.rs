//! Who is let in, and what for (row E1).

use std::path::Path;

use serde_json::{Map, Value, json};
use stemma_tests::{Answer, Client, Server, ServerBuilder, SseReader, Upload, command};

use crate::documents::text_of;
use crate::jobs::{claim, queue, tell};

const ROLES: [&str; 5] = ["reader", "writer", "worker", "admin", "operator"];

/// Makes a token in the data of a server that is down.
pub(crate) fn create_token(data: &Path, role: &str, more: &[&str]) -> Value {
    let data = data.to_str().expect("a plain path");
    let name = format!("the-{role}");
    let mut args = vec!["token", "create", "--json", "--data", data];
    args.extend(["--name", &name, "--role", role]);
    args.extend(more);
    let made = command(&args).output().expect("it runs");
    let told = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{told}");
    serde_json::from_slice(&made.stdout).expect("one object")
}

fn secret(made: &Value) -> &str {
    text_of(&made["token"])
}

struct Guarded {
    server: Server,
    /// A client of each role.
    clients: Vec<(&'static str, Client)>,
    _data: tempfile::TempDir,
}

/// A server with a token of each role.
fn guarded() -> Guarded {
    guarded_by(Server::builder())
}

fn guarded_by(builder: ServerBuilder) -> Guarded {
    let data = tempfile::tempdir().expect("a directory");
    let tokens = ROLES.map(|role| (role, create_token(data.path(), role, &[])));
    let server = builder.data(data.path()).start();
    let client = |(role, made): (&'static str, Value)| {
        (role, Client::showing(server.url(), Some(secret(&made))))
    };
    let clients = tokens.map(client).into();
    Guarded {
        server,
        clients,
        _data: data,
    }
}

impl Guarded {
    fn of(&self, role: &str) -> &Client {
        let found = self.clients.iter().find(|(name, _)| *name == role);
        &found.expect("a role").1
    }
}

/// Every route of the served document: method, path, and the roles that it is open to; none for
/// those that are open to all.
async fn routes(client: &Client) -> Vec<(String, String, Option<Vec<String>>)> {
    let document = client.get("/api/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let names = |roles: &Value| {
        let roles = roles.as_array()?;
        Some(roles.iter().map(|role| text_of(role).to_owned()).collect())
    };
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().cloned().unwrap_or_default();
        let path = path.clone();
        let of_method = move |(method, operation): (String, Value)| {
            (
                method.to_uppercase(),
                path.clone(),
                names(&operation["x-roles"]),
            )
        };
        methods.into_iter().map(of_method).collect::<Vec<_>>()
    };
    let all: Vec<_> = paths.iter().flat_map(of_path).collect();
    assert!(all.len() > 60, "{}", all.len());
    all
}

/// A path with ids of nothing in it: what is asked does not matter, who asks does.
fn filled(path: &str) -> String {
    let id = "019a0000-0000-7000-8000-00000000dead";
    let parts = path
        .split_inclusive('}')
        .map(|part| match part.split_once('{') {
            Some((before, "id}" | "aid}")) => format!("{before}{id}"),
            Some((before, "name}")) => format!("{before}nobody"),
            Some((before, "digest}")) => format!("{before}blake3:{}", "0".repeat(64)),
            Some((before, _)) => format!("{before}x"),
            None => part.to_owned(),
        });
    parts.collect()
}

fn code(answer: &Answer) -> String {
    let problem: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

async fn ask(client: &Client, method: &str, path: &str) -> Answer {
    let request = client.request(method, &filled(path));
    let request = match method {
        "POST" | "PUT" | "PATCH" => request.header("content-type", "application/json").body("?"),
        _ => request,
    };
    client.send(request).await
}

/// Who may ask what, said a second time and by hand: by the beginning of the path, the longest that
/// fits; for reading, and for everything else.
const TABLE: [(&str, &str, &str); 17] = [
    ("/api/", "reader writer admin", "writer admin"),
    ("/api/admin/", "-", "admin"),
    ("/api/admin/backup", "operator", "operator"),
    ("/api/admin/reopen/tokens", "-", "operator"),
    ("/api/admin/tenants", "operator", "operator"),
    ("/api/admin/tokens", "admin operator", "admin operator"),
    (
        "/api/documents/{id}",
        "reader writer worker admin",
        "writer admin",
    ),
    ("/api/errors", "admin", "-"),
    ("/api/graph/query", "-", "reader writer admin"),
    ("/api/health", "admin operator", "-"),
    ("/api/health/", "*", "-"),
    (
        "/api/jobs/{id}",
        "reader writer worker admin",
        "writer admin",
    ),
    ("/api/openapi.json", "*", "-"),
    (
        "/api/resources/{id}/content",
        "reader writer worker admin",
        "writer admin",
    ),
    ("/api/session", "-", "reader writer worker admin operator"),
    ("/api/tickets", "-", "reader writer worker admin operator"),
    ("/api/workers/", "-", "worker admin"),
];

fn by_hand(method: &str, path: &str) -> &'static str {
    if ["/", "/docs", "/docs/page.js", "/docs/page.css"].contains(&path)
        || (method, path) == ("DELETE", "/api/session")
    {
        return "*";
    }
    if path == "/metrics" {
        return "admin operator";
    }
    let rows = TABLE.iter().filter(|(start, _, _)| path.starts_with(start));
    let row = rows.max_by_key(|(start, _, _)| start.len());
    let (_, read, change) = row.unwrap_or_else(|| panic!("{path} is in no table"));
    match method {
        "GET" | "HEAD" => read,
        _ => change,
    }
}

#[tokio::test]
async fn the_document_says_of_every_route_what_the_table_says() {
    let server = Server::start();
    for (method, path, roles) in routes(&server.client()).await {
        let expected = by_hand(&method, &path);
        let told = roles.map_or("*".to_owned(), |roles| roles.join(" "));
        assert_eq!(told, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn no_way_of_writing_a_path_leads_past_its_door() {
    let guarded = guarded();
    for (method, path, roles) in routes(&guarded.server.client()).await {
        let Some(roles) = roles else { continue };
        // A letter of the second part in another notation.
        let filled = filled(&path);
        let at = filled
            .char_indices()
            .filter(|(_, c)| c.is_ascii_lowercase())
            .nth(3);
        let Some((at, letter)) = at else { continue };
        let encoded = format!(
            "{}%{:02x}{}",
            &filled[..at],
            letter as u32,
            &filled[at + 1..]
        );
        for (role, client) in &guarded.clients {
            if roles.iter().any(|open| open == role) {
                continue;
            }
            let answer = ask(client, &method, &encoded).await;
            assert!(
                [403, 404].contains(&answer.status),
                "{role}: {method} {encoded}"
            );
        }
        let stranger = guarded.server.client();
        let answer = ask(&stranger, &method, &encoded).await;
        assert_eq!(answer.status, 401, "{method} {encoded}");
    }
}

#[tokio::test]
async fn every_route_is_open_to_the_roles_that_it_names_and_to_nobody_else() {
    let guarded = guarded();
    let stranger = guarded.server.client();
    let forged = format!("stemma_{}_{}", "0".repeat(32), "A".repeat(43));
    let forger = Client::showing(guarded.server.url(), Some(&forged));
    for (method, path, roles) in routes(&stranger).await {
        // A live stream has no end; it is opened below.
        let is_live = path == "/api/events/stream";
        let Some(roles) = roles else {
            let open = ask(&stranger, &method, &path).await;
            assert!([200, 204].contains(&open.status), "{method} {path}");
            continue;
        };
        for (client, code_of) in [(&stranger, "TOKEN_MISSING"), (&forger, "TOKEN_INVALID")] {
            let answer = ask(client, &method, &path).await;
            assert_eq!(answer.status, 401, "{method} {path}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
            assert!(
                method == "HEAD" || code(&answer) == code_of,
                "{method} {path}"
            );
        }
        for (role, client) in &guarded.clients {
            let is_open = roles.iter().any(|open| open == role);
            if is_open && is_live {
                continue;
            }
            let answer = ask(client, &method, &path).await;
            if is_open {
                assert!(
                    ![401, 403].contains(&answer.status),
                    "{role}: {method} {path}"
                );
            } else {
                assert_eq!(answer.status, 403, "{role}: {method} {path}");
                assert!(method == "HEAD" || code(&answer) == "ROLE_MISSING");
            }
        }
    }
    // Whoever has no token is not told which routes there are.
    assert_eq!(stranger.get("/api/nothing").await.status, 401);
    assert_eq!(guarded.of("reader").get("/api/nothing").await.status, 404);
}

#[tokio::test]
async fn events_are_written_under_the_name_of_the_token() {
    let guarded = guarded();
    let made = guarded.of("writer").create("a note", "Jupiter").await;
    let path = format!("/api/resources/{}/events", text_of(&made["id"]));
    let events = guarded.of("reader").get(&path).await.expect(200);
    assert_eq!(events["items"][0]["actor"], "the-writer", "{events}");
}

/// The name that a worker gives itself in a claim was once the name that its events were written
/// under: anybody's.
#[tokio::test]
async fn what_a_worker_does_is_written_under_its_tokens_name_and_nobody_else_may_say_it() {
    let guarded = guarded_by(Server::builder().env("STEMMA_JOBS__WORKERS", "0"));
    let upload = Upload::of("a.txt", "Ulugh Beg");
    let told = guarded.of("writer").upload(&upload).await.expect(202);
    let worker = guarded.of("worker");
    let asked = json!({ "worker": "the-writer", "types": ["document.process"], "wait_ms": 10_000 });
    let claimed = worker.post("/api/workers/claim", &asked).await.expect(200);
    assert_eq!(claimed["job"]["worker"], "the-writer");
    let made = json!({ "principal": "ada", "role": "worker" });
    let made = guarded.of("admin").post("/api/admin/tokens", &made).await;
    let ada = Client::showing(guarded.server.url(), Some(secret(&made.expect(201))));
    let output = json!({ "output": { "format": "plain_text", "media_type": "text/plain",
        "encoding": "UTF-8", "byte_order_mark": false, "page_count": null, "warnings": [] } });
    let failed = json!({ "error": { "code": "X", "message": "m", "stage": "parse",
        "transient": false } });
    for (call, body) in [
        ("heartbeat", json!({})),
        ("progress", json!({ "progress": 1 })),
        ("stages/validate", output.clone()),
        ("complete", json!({})),
        ("release", json!({})),
        ("fail", failed.clone()),
    ] {
        let refused = tell(&ada, &claimed, call, body).await;
        refused.expect_problem(409, "LEASE_LOST");
    }
    tell(worker, &claimed, "stages/validate", output)
        .await
        .expect(200);
    tell(worker, &claimed, "fail", failed).await.expect(200);
    let events = guarded.of("reader");
    let events = events.every("/api/events?after=start&limit=500").await;
    let actor = |kind: &str| {
        let found = events.iter().find(|event| event["type"] == kind);
        found.map(|event| event["actor"].clone())
    };
    for kind in [
        "job.claimed",
        "document.stage_completed",
        "document.stage_failed",
        "job.failed",
    ] {
        assert_eq!(actor(kind), Some(json!("the-worker")), "{kind}");
    }
    assert_eq!(text_of(&told["job_id"]), text_of(&claimed["job"]["id"]));
}

/// A claim that waited was once given a job, payload and all, after its token was taken back.
#[tokio::test]
async fn a_claim_that_waits_ends_with_its_token_and_gets_no_job() {
    let guarded = guarded();
    let admin = guarded.of("admin");
    let asked = json!({ "principal": "ada", "role": "worker" });
    let made = admin.post("/api/admin/tokens", &asked).await.expect(201);
    let ada = Client::showing(guarded.server.url(), Some(secret(&made)));
    let asked = json!({ "worker": "w", "types": ["ocr"], "wait_ms": 60_000 });
    let take_back = async {
        // Other requests are answered meanwhile, so the claim waits by then.
        for _ in 0..8 {
            admin.get("/api/jobs").await.expect(200);
        }
        let path = format!("/api/admin/tokens/{}", text_of(&made["id"]));
        let revoked = admin.send(admin.request("DELETE", &path)).await;
        assert_eq!(revoked.status, 204);
        queue(guarded.of("writer"), &json!({ "type": "ocr" })).await
    };
    let (told, job) = tokio::join!(ada.post("/api/workers/claim", &asked), take_back);
    told.expect_problem(401, "TOKEN_INVALID");
    let claimed = claim(guarded.of("worker"), "w", 10_000).await.expect(200);
    assert_eq!(claimed["job"]["id"], job["id"]);
}

/// Each word that a client sent for a method was once a series of its own, for ever.
#[tokio::test]
async fn methods_that_strangers_make_up_are_counted_as_one() {
    let server = Server::start();
    let client = server.client();
    for n in 0..20 {
        client
            .send(client.request(&format!("MADEUP{n}"), "/"))
            .await;
    }
    let metrics = client.get("/metrics").await.text();
    assert!(!metrics.contains("MADEUP"), "{metrics}");
    let others = metrics.lines().filter(|line| line.contains("other"));
    let answers: Vec<_> = others.filter(|line| line.contains("answers")).collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers[0].ends_with(" 20"), "{answers:?}");
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_requests_and_its_streams_at_once() {
    let guarded = guarded();
    let admin = guarded.of("admin");
    let asked = json!({ "principal": "ada", "role": "reader" });
    let made = admin.post("/api/admin/tokens", &asked).await.expect(201);
    assert_eq!(made["tenant"], "default");
    let ada = Client::showing(guarded.server.url(), Some(secret(&made)));
    assert_eq!(ada.get("/api/resources").await.status, 200);
    let mut stream = SseReader::open(ada.request("GET", "/api/events/stream")).await;
    let mut live = stream.next().await.expect("the stream is open");
    while live.event.as_deref() != Some("stemma.live") {
        live = stream.next().await.expect("the stream is open");
    }
    let path = format!("/api/admin/tokens/{}", text_of(&made["id"]));
    let revoked = admin.send(admin.request("DELETE", &path)).await;
    assert_eq!(revoked.status, 204);
    while stream.next().await.is_some() {}
    let refused = ada.get("/api/resources").await;
    refused.expect_problem(401, "TOKEN_INVALID");
    let listed = admin.get("/api/admin/tokens?limit=100").await.expect(200);
    let listed = listed["items"].as_array().expect("a list");
    let found = listed.iter().find(|token| token["id"] == made["id"]);
    let found = found.expect("it is kept");
    assert!(found["revoked_at"].is_string() && found["token"].is_null());
    assert!(!json!(listed).to_string().contains(secret(&made)));
}

#[tokio::test]
async fn a_token_ends_when_it_was_said_and_its_stream_with_it() {
    let guarded = guarded();
    let admin = guarded.of("admin");
    let past =
        json!({ "principal": "ada", "role": "reader", "expires_at": "2020-01-01T00:00:00Z" });
    let refused = admin.post("/api/admin/tokens", &past).await;
    refused.expect_problem(422, "INVALID_FIELDS");
    let data = tempfile::tempdir().expect("a directory");
    let short = create_token(data.path(), "reader", &["--expires", "2s"]);
    let server = Server::builder().data(data.path()).start();
    let client = Client::showing(server.url(), Some(secret(&short)));
    let mut stream = SseReader::open(client.request("GET", "/api/events/stream")).await;
    assert!(
        stream.next().await.is_some(),
        "it is open while the token holds"
    );
    while stream.next().await.is_some() {}
    let refused = client.get("/api/resources").await;
    refused.expect_problem(401, "TOKEN_INVALID");
}

#[tokio::test]
async fn the_first_token_ends_what_was_open_to_everybody() {
    let server = Server::start();
    let everybody = server.client();
    let mut stream = SseReader::open(everybody.request("GET", "/api/events/stream")).await;
    assert!(stream.next().await.is_some());
    let first = json!({ "principal": "ops", "role": "operator" });
    let made = everybody
        .post("/api/admin/tokens", &first)
        .await
        .expect(201);
    while stream.next().await.is_some() {}
    assert_eq!(everybody.get("/api/resources").await.status, 401);
    let ops = Client::showing(server.url(), Some(secret(&made)));
    assert_eq!(ops.get("/api/health").await.status, 200);
    assert_eq!(ops.get("/api/resources").await.status, 403);
}

#[tokio::test]
async fn an_admin_gives_out_tokens_of_the_tenant_alone() {
    let guarded = guarded();
    let admin = guarded.of("admin");
    for beyond in [
        json!({ "principal": "a", "role": "operator" }),
        json!({ "principal": "a", "role": "reader", "tenant": "other" }),
    ] {
        let refused = admin.post("/api/admin/tokens", &beyond).await;
        refused.expect_problem(403, "ROLE_MISSING");
    }
    // Where none is said it is the own one, for an admin of another tenant too.
    let unsaid = json!({ "principal": "a", "role": "reader" });
    let own = admin.post("/api/admin/tokens", &unsaid).await.expect(201);
    assert_eq!(own["tenant"], "default");
    let operator = guarded.of("operator");
    let other = json!({ "principal": "a", "role": "reader", "tenant": "other" });
    let early = operator.post("/api/admin/tokens", &other).await;
    early.expect_problem(404, "TENANT_NOT_FOUND");
    let tenant = json!({ "name": "other" });
    operator
        .post("/api/admin/tenants", &tenant)
        .await
        .expect(201);
    let other = operator.post("/api/admin/tokens", &other).await.expect(201);
    let stranger = Client::showing(guarded.server.url(), Some(secret(&other)));
    assert_eq!(stranger.get("/api/resources").await.status, 200);
    let path = format!("/api/admin/tokens/{}", text_of(&other["id"]));
    let hidden = admin.send(admin.request("DELETE", &path)).await;
    hidden.expect_problem(404, "TOKEN_NOT_FOUND");
    let listed = admin.get("/api/admin/tokens?limit=100").await.expect(200);
    let is_own = |token: &Value| token["tenant"] == "default";
    assert!(
        listed["items"]
            .as_array()
            .expect("a list")
            .iter()
            .all(is_own)
    );
}

#[tokio::test]
async fn a_browser_has_its_token_in_a_cookie_and_opens_streams_by_ticket() {
    let guarded = guarded();
    let writer = guarded.of("writer");
    let begun = writer.send(writer.request("POST", "/api/session")).await;
    assert_eq!(begun.status, 204);
    let cookie = begun.header("set-cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("name and value").to_owned();
    let stranger = guarded.server.client();
    let by_cookie =
        |method: &str, path: &str| stranger.request(method, path).header("cookie", &pair);
    let read = stranger.send(by_cookie("GET", "/api/resources")).await;
    assert_eq!(read.status, 200);
    let page = by_cookie("POST", "/api/entity_types").json(&json!({ "name": "Moon" }));
    let own = page
        .try_clone()
        .expect("a body")
        .header("origin", guarded.server.url());
    assert_eq!(stranger.send(own).await.status, 201);
    let foreign = page.header("origin", "http://evil.example");
    stranger
        .send(foreign)
        .await
        .expect_problem(403, "ORIGIN_REFUSED");
    let ticket = writer
        .send(writer.request("POST", "/api/tickets"))
        .await
        .expect(201);
    let ticket = text_of(&ticket["ticket"]).to_owned();
    let path = format!("/api/events/stream?after=start&ticket={ticket}");
    let mut stream = SseReader::open(stranger.request("GET", &path)).await;
    assert!(stream.next().await.is_some());
    let elsewhere = stranger
        .get(&format!("/api/resources?ticket={ticket}"))
        .await;
    elsewhere.expect_problem(401, "TOKEN_MISSING");
    let wrong = stranger.get("/api/events/stream?ticket=AAAA").await;
    wrong.expect_problem(401, "TOKEN_INVALID");
}

#[tokio::test]
async fn while_nobody_is_asked_for_a_token_no_page_of_a_stranger_reaches_the_server() {
    let server = Server::start();
    let client = server.client();
    let upload = || client.uploading(&Upload::of("a.txt", "hello"));
    let foreign = upload().header("origin", "http://evil.example");
    client
        .send(foreign)
        .await
        .expect_problem(403, "ORIGIN_REFUSED");
    let rebound = client
        .request("GET", "/api/resources")
        .header("host", "evil.example");
    client
        .send(rebound)
        .await
        .expect_problem(421, "HOST_REFUSED");
    assert_eq!(client.send(upload()).await.status, 202);
    let refused = command(&["serve", "--listen", "0.0.0.0:0", "--data"])
        .arg(tempfile::tempdir().expect("a directory").path())
        .output()
        .expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("stemma token create"), "{told}");
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_owner_or_an_admin() {
    let guarded = guarded();
    let writer = guarded.of("writer");
    let queue = json!({ "type": "word.count", "payload": Map::new() });
    let own = writer.post("/api/jobs", &queue).await.expect(201);
    let others = guarded
        .of("admin")
        .post("/api/jobs", &queue)
        .await
        .expect(201);
    let cancel = async |client: &Client, job: &Value| {
        let path = format!("/api/jobs/{}/cancel", text_of(&job["id"]));
        client.send(client.request("POST", &path)).await
    };
    cancel(writer, &others)
        .await
        .expect_problem(403, "ROLE_MISSING");
    assert_eq!(cancel(writer, &own).await.status, 202);
    assert_eq!(cancel(guarded.of("admin"), &others).await.status, 202);
}

#[tokio::test]
async fn the_command_line_shows_a_token_and_tells_what_is_missing() {
    let data = tempfile::tempdir().expect("a directory");
    let made = create_token(data.path(), "admin", &[]);
    let server = Server::builder().data(data.path()).start();
    let with = |token: Option<&str>, args: &[&str]| {
        let mut command = command(args);
        command.args(["--server", server.url()]);
        command.env_remove("STEMMA_TOKEN");
        command.envs(token.map(|token| ("STEMMA_TOKEN", token)));
        command.output().expect("it runs")
    };
    let refused = with(None, &["jobs"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stemma token create"));
    assert!(with(Some(secret(&made)), &["jobs"]).status.success());
    let file = data.path().join("token");
    std::fs::write(&file, secret(&made)).expect("it is written");
    let file = file.to_str().expect("a plain path");
    let listed = with(None, &["token", "list", "--json", "--token-file", file]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("the-admin"));
    let create = ["token", "create", "--name", "bob", "--role", "reader"];
    let bob = with(Some(secret(&made)), &create);
    let bob = String::from_utf8_lossy(&bob.stdout).trim().to_owned();
    let bob = Client::showing(server.url(), Some(&bob));
    assert_eq!(bob.get("/api/resources").await.status, 200);
    let id = text_of(&made["id"]);
    assert!(
        with(Some(secret(&made)), &["token", "revoke", id])
            .status
            .success()
    );
    assert_eq!(with(Some(secret(&made)), &["jobs"]).status.code(), Some(1));
    // Beside a server, the data is its own.
    let beside = command(&["token", "list", "--data"])
        .arg(data.path())
        .output();
    let beside = beside.expect("it runs");
    assert!(String::from_utf8_lossy(&beside.stderr).contains("--server"));
}

#[tokio::test]
async fn a_body_that_was_begun_before_its_token_was_taken_back_comes_to_nothing() {
    let guarded = guarded();
    let admin = guarded.of("admin");
    let asked = json!({ "principal": "thief", "role": "admin" });
    let made = admin.post("/api/admin/tokens", &asked).await.expect(201);
    let (id, thief) = (text_of(&made["id"]).to_owned(), secret(&made).to_owned());
    let body = json!({ "principal": "ghost", "role": "admin" }).to_string();
    let (first, rest) = body.split_at(10);
    let (first, rest) = (first.to_owned(), rest.to_owned());
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let (revoked, is_revoked) = tokio::sync::oneshot::channel::<()>();
    let chunks = async_stream(first, rest, begun, is_revoked);
    let client = Client::showing(guarded.server.url(), Some(&thief));
    let request = client.request("POST", "/api/admin/tokens");
    let request = request
        .header("content-type", "application/json")
        .body(chunks);
    let take_back = async {
        is_begun.await.expect("it is sent");
        let path = format!("/api/admin/tokens/{id}");
        assert_eq!(admin.send(admin.request("DELETE", &path)).await.status, 204);
        revoked.send(()).expect("it waits");
    };
    let (answer, ()) = tokio::join!(client.send(request), take_back);
    answer.expect_problem(401, "TOKEN_INVALID");
    let listed = admin.get("/api/admin/tokens?limit=100").await.expect(200);
    assert!(!listed.to_string().contains("ghost"), "{listed}");
}

/// A body whose rest is sent once it is told to.
fn async_stream(
    first: String,
    rest: String,
    begun: tokio::sync::oneshot::Sender<()>,
    go_on: tokio::sync::oneshot::Receiver<()>,
) -> reqwest::Body {
    let (sender, mut chunks) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(2);
    let feed = async move {
        let _ = sender.send(Ok(first)).await;
        let _ = begun.send(());
        let _ = go_on.await;
        let _ = sender.send(Ok(rest)).await;
    };
    let mut feed = Box::pin(feed);
    let mut is_fed = false;
    reqwest::Body::wrap_stream(futures_util::stream::poll_fn(move |context| {
        if !is_fed {
            is_fed = feed.as_mut().poll(context).is_ready();
        }
        chunks.poll_recv(context)
    }))
}

#[tokio::test]
async fn beside_a_server_without_tokens_none_are_made_in_its_data() {
    let server = Server::start();
    let beside = command(&[
        "token", "create", "--name", "me", "--role", "admin", "--data",
    ])
    .arg(server.data())
    .output()
    .expect("it runs");
    assert_eq!(beside.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&beside.stderr).contains("--server"));
    assert_eq!(server.client().get("/api/resources").await.status, 200);
}

#[tokio::test]
async fn what_is_open_to_all_is_open_to_those_whose_token_is_over_too() {
    let guarded = guarded();
    let stranger = guarded.server.client();
    let stale = |method: &str, path: &str| {
        stranger
            .request(method, path)
            .header("cookie", "stemma_session=over")
    };
    for path in ["/api/health/live", "/", "/docs", "/api/openapi.json"] {
        assert_eq!(
            stranger.send(stale("GET", path)).await.status,
            200,
            "{path}"
        );
    }
    let ended = stranger.send(stale("DELETE", "/api/session")).await;
    assert_eq!(ended.status, 204);
    assert!(
        ended.header("set-cookie").contains("Max-Age=0"),
        "{:?}",
        ended.headers
    );
    stranger
        .send(stale("GET", "/api/resources"))
        .await
        .expect_problem(401, "TOKEN_INVALID");
}
