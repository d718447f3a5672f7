//! Tenants stand apart, are opened when they are asked for, and leave nothing behind (row C5).

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stemma_tests::{Client, Server, ServerBuilder, SseReader, Upload, command};

use crate::access::create_token;
use crate::documents::{TEXT, text_of};

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

struct Town {
    server: Server,
    operator: Client,
    /// Two tenants, an admin each.
    north: Client,
    south: Client,
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

async fn ids_or_items(client: &Client, path: &str) -> usize {
    let page = client.get(path).await.expect(200);
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
    let delete = |name: &str| {
        let path = format!("/api/admin/tenants/{name}");
        town.operator.request("DELETE", &path)
    };
    assert_eq!(town.operator.send(delete("north")).await.status, 204);
    while stream.next().await.is_some() {}
    town.north
        .get("/api/resources")
        .await
        .expect_problem(401, "TOKEN_INVALID");
    assert!(!town.data.path().join("tenants/north").exists());
    let again = town.operator.send(delete("north")).await;
    again.expect_problem(404, "TENANT_NOT_FOUND");
    let own = town.operator.send(delete("default")).await;
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
