//! What only a graph elsewhere can meet: it is killed, cut off, silent, another one's, made anew
//! (rows A6, A7, A9).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{Client, Neo4j, Proxy, Server, binary, run};
use tempfile::TempDir;

use crate::access::create_token;
use crate::backup::{stderr, stemma};
use crate::graph::{PATIENCE, answered_by_the_graph, caught_up, resource};
use crate::graph_conformance::{Dice, Made};
use crate::operation::outcome;

/// Asks for health until the graph is as it is wanted; gives what is said of it.
async fn health(client: &Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        // It is never so ill that the whole is.
        let health = client.get("/api/health").await.expect(200);
        let graph = health["parts"]["graph"].clone();
        if wanted(&graph) {
            return graph;
        }
        assert!(since.elapsed() < PATIENCE, "{health}");
        tokio::task::yield_now().await;
    }
}

fn is_well(graph: &Value) -> bool {
    graph["status"] == "ok" && graph["lag"] == 0
}

/// A rebuild through the server; gives what it came to.
async fn rebuilt(client: &Client) -> Value {
    let job = client
        .raw("POST", "/api/admin/rebuild/graph", &[], "")
        .await;
    outcome(client, &job.expect(202)).await
}

/// Fails unless a fresh replay comes to what is there.
async fn must_equal_a_replay(client: &Client) {
    let done = rebuilt(client).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["result"]["equal"], json!(true), "{done}");
}

/// One statement straight to Neo4j, which gives one number.
async fn number(neo4j: &Neo4j, statement: &str) -> i64 {
    let graph = neo4rs::Graph::new(
        format!("bolt://{}", neo4j.address()),
        "neo4j",
        Neo4j::password(),
    );
    let graph = graph.expect("an address");
    let mut rows = graph.execute(statement).await.expect("a statement");
    let row = rows.next().await.expect("rows").expect("a row");
    row.get("n").expect("a number")
}

#[tokio::test]
async fn a_neo4j_that_is_killed_and_comes_back_is_not_noticed_by_writes_and_lacks_nothing() {
    let mut neo4j = Neo4j::start();
    let server = Server::builder().graph_in(&neo4j).start();
    let client = server.client();
    let (mut dice, mut made) = (Dice(3), Made::default());
    let mut write = async |client: &Client| {
        let operations = made.operations(&mut dice, 20);
        let since = Instant::now();
        let answer = client
            .post("/api/batch", &json!({ "operations": operations }))
            .await;
        made.learn(&operations, &answer.expect(200));
        since.elapsed()
    };
    for _ in 0..10 {
        write(&client).await;
    }
    caught_up(&client).await;
    neo4j.kill();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        slowest = slowest.max(write(&client).await);
    }
    assert!(slowest < Duration::from_secs(5), "a write took {slowest:?}");
    let told = health(&client, |graph| graph["status"] == "degraded").await;
    let reason = told["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("out of reach: "), "{reason}");
    assert!(told["lag"].as_u64() > Some(0), "{told}");
    assert!(told["lag_seconds"].is_f64(), "{told}");
    // The views answer at once what they can, and say why; what they cannot is refused at once.
    let since = Instant::now();
    let list = client.get("/api/resources?entityType=Note").await;
    list.expect(200);
    assert_eq!(list.header("stemma-source"), "views");
    let warning = list.header("stemma-warning");
    assert!(warning.contains("out of reach"), "{warning}");
    for path in ["stats", "nodes/person:anonymous/neighbors"] {
        let answer = client.get(&format!("/api/graph/{path}")).await;
        answer.expect_problem(503, "GRAPH_UNAVAILABLE");
    }
    let query = json!({ "query": "MATCH (n) RETURN count(n)" });
    let asked = client.post("/api/graph/query", &query).await;
    asked.expect_problem(503, "GRAPH_UNAVAILABLE");
    assert!(since.elapsed() < Duration::from_secs(5), "somebody waited");
    let metrics = client.get("/metrics").await.text();
    let lag = metrics
        .lines()
        .find(|line| line.starts_with("stemma_graph_lag_events "));
    assert!(
        lag.is_some_and(|lag| !lag.ends_with(" 0")),
        "{lag:?}: the lag is in the metrics"
    );
    neo4j.start_again();
    for _ in 0..10 {
        write(&client).await;
    }
    health(&client, is_well).await;
    answered_by_the_graph(&client, "/api/resources?entityType=Note").await;
    must_equal_a_replay(&client).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_anywhere_leaves_the_graph_as_a_replay_makes_it() {
    let neo4j = Neo4j::shared();
    let proxy = Proxy::to(&neo4j.address()).await;
    let mut server = Server::builder()
        .graph_at(&format!("neo4j://{}", proxy.address()))
        .start();
    let (mut dice, mut made, mut cuts) = (Dice(11), Made::default(), 0);
    for round in 0..24 {
        let client = server.client();
        proxy.cut_after(u32::try_from(dice.roll(25_000)).expect("few"));
        for _ in 0..3 {
            let operations = made.operations(&mut dice, 15);
            let answer = client
                .post("/api/batch", &json!({ "operations": operations }))
                .await;
            made.learn(&operations, &answer.expect(200));
            // The way there is to be used; whether it holds is another question.
            let position = answer.position();
            let path = format!("/api/graph/stats?min_position={position}&timeout_ms=1000");
            cuts += usize::from(client.get(&path).await.status != 200);
        }
        // Now and then the server itself goes in the middle of it.
        if round % 6 == 5 {
            server.kill();
            server.start_again();
        }
    }
    assert!(cuts > 5, "{cuts} questions fell into a cut");
    let client = server.client();
    health(&client, is_well).await;
    must_equal_a_replay(&client).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn rows_of_a_server_that_is_killed_anywhere_are_as_a_replay_makes_them() {
    let mut server = Server::start();
    let (mut dice, mut made) = (Dice(5), Made::default());
    for _ in 0..15 {
        let client = server.client();
        for _ in 0..dice.roll(6) {
            let operations = made.operations(&mut dice, 25);
            let answer = client
                .post("/api/batch", &json!({ "operations": operations }))
                .await;
            made.learn(&operations, &answer.expect(200));
        }
        server.kill();
        server.start_again();
    }
    let client = server.client();
    caught_up(&client).await;
    must_equal_a_replay(&client).await;
}

#[tokio::test]
async fn a_neo4j_that_does_not_answer_is_waited_for_by_nobody_for_long() {
    let proxy = Proxy::to(&Neo4j::shared().address()).await;
    let server = Server::builder()
        .graph_at(&format!("neo4j://{}", proxy.address()))
        .start();
    let client = server.client();
    resource(&client, "Moons", &["Note"], json!({})).await;
    caught_up(&client).await;
    proxy.be_silent(true);
    // The first waits for as long as a list is worth; the next are answered without asking it.
    for (number, why) in [
        "cannot be read",
        "failed to answer a moment ago",
        "failed to answer a moment ago",
    ]
    .into_iter()
    .enumerate()
    {
        let list = client.get("/api/resources?entityType=Note").await;
        list.expect(200);
        assert_eq!(list.header("stemma-source"), "views");
        let warning = list.header("stemma-warning");
        // By then it may have been found out.
        assert!(
            warning.contains(why) || (number > 0 && warning.contains("out of reach")),
            "{warning}"
        );
    }
    health(&client, |graph| graph["status"] == "degraded").await;
    resource(&client, "More moons", &["Note"], json!({})).await;
    proxy.be_silent(false);
    health(&client, is_well).await;
    caught_up(&client).await;
    let list = answered_by_the_graph(&client, "/api/resources?entityType=Note").await;
    assert_eq!(list.json()["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_graph_in_neo4j_is_made_anew_beside_the_live_one_and_survives_being_killed_half_way() {
    let neo4j = Neo4j::start();
    let mut server = Server::builder().graph_in(&neo4j).start();
    {
        let client = server.client();
        let (mut dice, mut made) = (Dice(23), Made::default());
        for _ in 0..10 {
            let operations = made.operations(&mut dice, 50);
            let answer = client
                .post("/api/batch", &json!({ "operations": operations }))
                .await;
            made.learn(&operations, &answer.expect(200));
        }
        caught_up(&client).await;
        must_equal_a_replay(&client).await;
        // Begun, and killed before it is done.
        loop {
            let job = client
                .raw("POST", "/api/admin/rebuild/graph", &[], "")
                .await
                .expect(202);
            let building = "MATCH (g:StemmaGraph {state: 'building'}) RETURN count(g) AS n";
            let mut is_half_way = false;
            let is_over = async |job: &Value| {
                let id = job["id"].as_str().expect("an id");
                let job = client.get(&format!("/api/jobs/{id}")).await.expect(200);
                job["status"] == "completed" || job["status"] == "failed"
            };
            while !is_half_way && !is_over(&job).await {
                is_half_way = number(&neo4j, building).await > 0;
            }
            if is_half_way {
                break;
            }
        }
        server.kill();
    }
    server.start_again();
    let client = server.client();
    health(&client, is_well).await;
    // What was replaced and what was left half made goes by itself.
    let since = Instant::now();
    while number(&neo4j, "MATCH (g:StemmaGraph) RETURN count(g) AS n").await > 1 {
        assert!(since.elapsed() < PATIENCE, "generations are left");
        tokio::task::yield_now().await;
    }
    let stats = client.get("/api/graph/stats").await.expect(200);
    let resources = number(&neo4j, "MATCH (r:Resource) RETURN count(r) AS n").await;
    assert_eq!(stats["nodes"]["Resource"], json!(resources));
    // What somebody changed there is found by a rebuild, and gone after it.
    let spoiled =
        "MATCH (r:Resource) WITH r ORDER BY r.id LIMIT 1 SET r.name = 'spoiled' RETURN 1 AS n";
    number(&neo4j, spoiled).await;
    let query = json!({ "query": "MATCH (r:Resource {name: 'spoiled'}) RETURN count(r)" });
    let asked = client.post("/api/graph/query", &query).await.expect(200);
    assert_eq!(asked["rows"], json!([[1]]));
    let done = rebuilt(&client).await;
    assert_eq!(
        (&done["result"]["equal"], &done["result"]["swapped"]),
        (&json!(false), &json!(true)),
        "{done}"
    );
    let asked = client.post("/api/graph/query", &query).await.expect(200);
    assert_eq!(asked["rows"], json!([[0]]));
    assert_eq!(server.stop(), Some(0));
    let offline = rebuild_offline(server.data(), &neo4j);
    assert_eq!(offline["equal"], json!(true), "{offline}");
}

/// `stemma rebuild graph`, with the graph in Neo4j.
fn rebuild_offline(data: &Path, neo4j: &Neo4j) -> Value {
    let output = Command::new(binary())
        .args(["rebuild", "graph", "--json", "--data"])
        .arg(data)
        .env("STEMMA_GRAPH__MODE", "neo4j")
        .env("STEMMA_GRAPH__URI", neo4j.uri())
        .env("STEMMA_GRAPH__PASSWORD", Neo4j::password())
        .output()
        .expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn a_graph_that_knows_more_than_the_log_is_refused_until_it_is_made_anew() {
    let neo4j = Neo4j::shared();
    let mut server = Server::builder().graph_in(neo4j).start();
    resource(&server.client(), "Moons", &["Note"], json!({})).await;
    caught_up(&server.client()).await;
    assert_eq!(server.stop(), Some(0));
    let kept = tempfile::tempdir().expect("a directory");
    let copied = |from: &Path, to: &Path| {
        let status = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(status.expect("cp is there").success());
    };
    let before = kept.path().join("before");
    copied(server.data(), &before);
    server.start_again();
    resource(&server.client(), "Lost", &["Note"], json!({})).await;
    caught_up(&server.client()).await;
    drop(server);
    // The log as it was: what came since is lost.
    let mut server = Server::builder().data(&before).graph_in(neo4j).start();
    let client = server.client();
    let told = health(&client, |graph| graph["status"] == "degraded").await;
    let reason = told["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("does not hold the last of them") && reason.contains("rebuild graph"),
        "{reason}"
    );
    let list = client.get("/api/resources?entityType=Note").await;
    assert_eq!(
        (
            list.header("stemma-source"),
            list.json()["items"].as_array().map(Vec::len)
        ),
        ("views", Some(1))
    );
    let done = rebuilt(&client).await;
    assert_eq!(done["result"]["swapped"], json!(true), "{done}");
    health(&client, is_well).await;
    answered_by_the_graph(&client, "/api/resources?entityType=Note").await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_batch_that_waited_for_a_lock_is_not_written_over_what_came_meanwhile() {
    let neo4j = Neo4j::start();
    let server = Server::builder().graph_in(&neo4j).start();
    let client = server.client();
    resource(&client, "Moons", &["Note"], json!({})).await;
    caught_up(&client).await;
    // Somebody else feeds the same graph, and has not committed yet.
    let other = neo4rs::Graph::new(
        format!("bolt://{}", neo4j.address()),
        "neo4j",
        Neo4j::password(),
    );
    let mut theirs = other
        .expect("an address")
        .start_txn()
        .await
        .expect("a transaction");
    let ahead = "MATCH (g:StemmaGraph) SET g.end = g.end + 5";
    theirs.run(ahead).await.expect("it is run");
    resource(&client, "More moons", &["Note"], json!({})).await;
    let blocked = "SHOW TRANSACTIONS YIELD status WHERE status STARTS WITH 'Blocked' \
                   RETURN count(*) AS n";
    let since = Instant::now();
    while number(&neo4j, blocked).await == 0 {
        assert!(since.elapsed() < PATIENCE, "nobody waits for the lock");
    }
    theirs.commit().await.expect("it is committed");
    // What was to be written at that place is not: the graph is another one's by now.
    let told = health(&client, |graph| graph["status"] == "degraded").await;
    let reason = told["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("does not hold the last of them"),
        "{reason}"
    );
    let written = "MATCH (r:Resource) RETURN count(r) AS n";
    assert_eq!(number(&neo4j, written).await, 1);
    let done = rebuilt(&client).await;
    assert_eq!(done["result"]["swapped"], json!(true), "{done}");
    health(&client, is_well).await;
    must_equal_a_replay(&client).await;
}

/// A key and a certificate for 127.0.0.1, which vouches for itself.
fn keys() -> TempDir {
    let keys = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        std::fs::write(keys.path().join(name), text).expect("a file");
    };
    write("private.key", made.signing_key.serialize_pem());
    write("public.crt", made.cert.pem());
    keys
}

#[tokio::test]
async fn neo4j_is_talked_to_over_tls_and_only_with_a_certificate_that_is_trusted() {
    let keys = keys();
    let neo4j = Neo4j::over_tls(keys.path());
    let uri = format!("neo4j+s://{}", neo4j.address());
    let certificate = keys.path().join("public.crt");
    let server = Server::builder()
        .graph_at(&uri)
        .env("STEMMA_GRAPH__CA_FILE", &certificate.display().to_string())
        .start();
    let client = server.client();
    resource(&client, "Moons", &["Note"], json!({})).await;
    caught_up(&client).await;
    let stats = client.get("/api/graph/stats").await.expect(200);
    assert_eq!(
        (&stats["backend"], &stats["nodes"]["Resource"]),
        (&json!("neo4j"), &json!(1))
    );
    // Nobody whom the system trusts vouches for it; and without TLS it says nothing.
    for uri in [uri, neo4j.uri()] {
        let wary = Server::builder().graph_at(&uri).start();
        let told = health(&wary.client(), |graph| graph["status"] == "degraded").await;
        assert!(told["reason"].as_str().is_some(), "{told}");
        wary.client().create("a", "x").await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_a_wrong_address_refused_without_either_being_shown() {
    let password = tempfile::tempdir().expect("a directory");
    let file = password.path().join("password");
    std::fs::write(&file, "not this one\n").expect("a file");
    let server = Server::builder()
        .arg("--graph")
        .arg(&Neo4j::shared().uri())
        .env("STEMMA_GRAPH__PASSWORD_FILE", &file.display().to_string())
        .start();
    let client = server.client();
    let told = health(&client, |graph| graph["status"] == "degraded").await;
    let reason = told["reason"].as_str().expect("a reason");
    assert!(reason.contains("authentication"), "{reason}");
    client.create("a", "x").await;
    assert!(!server.told().contains("not this one"), "{}", server.told());
    let data = password.path().join("data").display().to_string();
    for uri in ["neo4j://neo4j:secret@127.0.0.1", "http://127.0.0.1:7687"] {
        let output = run(&["serve", "--data", &data, "--graph", uri]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("expected neo4j://HOST:PORT"), "{told}");
        assert!(!told.contains("secret"), "{told}");
        assert!(!Path::new(&data).exists(), "data was made");
    }
    let shown = Command::new(binary())
        .args(["config", "--data", &data])
        .env("STEMMA_GRAPH__PASSWORD", "secret")
        .output();
    let shown = String::from_utf8_lossy(&shown.expect("it runs").stdout).into_owned();
    assert!(shown.contains("graph.password = (not shown)"), "{shown}");
}

/// A tenant that was deleted left its graph in Neo4j for ever (rows C5, A7).
#[tokio::test]
async fn the_graph_of_a_deleted_tenant_goes_as_soon_as_neo4j_is_there() {
    let mut neo4j = Neo4j::start();
    let data = tempfile::tempdir().expect("a directory");
    let token = |role: &str, tenant: &str| {
        let made = create_token(data.path(), role, &["--tenant", tenant]);
        made["token"].as_str().expect("a token").to_owned()
    };
    let (operator, admin) = (token("operator", "default"), token("admin", "north"));
    let created = stemma(data.path(), &["tenant", "create", "north"]);
    assert!(created.status.success(), "{}", stderr(&created));
    let builder = Server::builder().data(data.path());
    let mut server = builder.graph_in(&neo4j).start();
    let north = Client::showing(server.url(), Some(&admin));
    north.create("Galileo", "moons").await;
    caught_up(&north).await;
    let resources = "MATCH (n:Resource) RETURN count(n) AS n";
    let generations = "MATCH (g:StemmaGraph {tenant: 'north'}) RETURN count(g) AS n";
    assert_eq!(number(&neo4j, resources).await, 1);

    neo4j.kill();
    let operator = Client::showing(server.url(), Some(&operator));
    let since = Instant::now();
    let until = async |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(since.elapsed() < PATIENCE, "{}", server.told());
            tokio::task::yield_now().await;
        }
    };
    let path = "/api/admin/tenants/north";
    while operator.raw("DELETE", path, &[], "").await.status != 404 {
        assert!(since.elapsed() < PATIENCE, "{}", server.told());
    }
    // What people wrote goes at once; what is left says what else is to go.
    let left = data.path().join("tenants/.deleted-north-0");
    let files = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    until(&|| files(&left) == ["graph-in-neo4j"]).await;
    server.stop();
    assert_eq!(files(&left), ["graph-in-neo4j"]);

    neo4j.start_again();
    server.start_again();
    let since = Instant::now();
    while left.exists() {
        assert!(since.elapsed() < PATIENCE, "{}", server.told());
        tokio::task::yield_now().await;
    }
    assert_eq!(number(&neo4j, resources).await, 0);
    assert_eq!(number(&neo4j, generations).await, 0);
}

/// The server waited for Neo4j, for each tenant that was gone, before it took a request.
#[tokio::test]
async fn a_server_starts_and_stops_while_the_graph_of_a_deleted_tenant_cannot_be_removed() {
    // It is connected to, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let uri = format!("bolt://{}", silent.local_addr().expect("it is bound"));
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::builder().data(data.path()).start();
    server.client().create("Galileo", "moons").await;
    assert_eq!(server.stop(), Some(0));
    drop(server);
    // As a server leaves it that ended before nobody used the tenant any more.
    let tenants = data.path().join("tenants");
    std::fs::write(tenants.join("default/leaving"), "").expect("there is room");
    let since = Instant::now();
    let mut server = Server::builder().data(data.path()).graph_at(&uri).start();
    assert!(since.elapsed() < Duration::from_secs(8), "it waited");
    let list = server.client().get("/api/resources").await.expect(200);
    assert_eq!(list["items"], json!([]));
    let left = std::fs::read_dir(tenants.join(".deleted-default-0")).expect("its graph is left");
    let names = left.map(|entry| entry.expect("a file").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["graph-in-neo4j"]);
    let since = Instant::now();
    assert_eq!(server.stop(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(8), "it waited");
}
