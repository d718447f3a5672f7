//! Cypher over HTTP, on everything that keeps a graph: the questions of the documentation, what is
//! answered, refused or stopped (rows A4, A7).

use serde_json::{Value, json};
use stemma_tests::{Client, Server};

use crate::graph::{Corpus, annotate, caught_up, on_all, resource};

/// The questions of docs/graph.md: each with its query and the rows of its answer.
fn questions() -> Vec<(String, String, Vec<Value>)> {
    let document = include_str!("../../docs/graph.md");
    let mut questions = Vec::new();
    for section in document.split("\n### ").skip(1) {
        let block = |kind: &str| {
            let found = section.split(&format!("```{kind}\n")).nth(1);
            found
                .and_then(|rest| rest.split("```").next())
                .expect("a block")
        };
        let rows = block("text").lines();
        let rows = rows.map(|row| serde_json::from_str(row).expect("a row of JSON"));
        let title = section.lines().next().expect("a title").to_owned();
        questions.push((title, block("cypher").to_owned(), rows.collect()));
    }
    questions
}

#[tokio::test]
async fn every_question_of_the_documentation_has_the_answer_that_stands_there() {
    let questions = questions();
    assert_eq!(questions.len(), 10);
    for (backend, server) in on_all() {
        let server = server.arg("--demo").start();
        let client = server.client();
        caught_up(&client).await;
        for (title, query, rows) in &questions {
            let answer = client
                .post("/api/graph/query", &json!({ "query": query }))
                .await;
            let expected = Value::from(rows.clone());
            assert_eq!(answer.expect(200)["rows"], expected, "{title} on {backend}");
        }
    }
}

#[tokio::test]
async fn cypher_is_answered_refused_or_stopped() {
    for (_, server) in on_all() {
        let server = server.start();
        ask_in_cypher(&server.client()).await;
    }
}

async fn ask_in_cypher(client: &Client) {
    let Corpus { ada, moons, .. } = Corpus::write(client).await;
    caught_up(client).await;
    let ask = async |body: Value| client.post("/api/graph/query", &body).await;
    let query = "MATCH (r:Resource {id: $id})<-[:ANNOTATES]-(a)-[e]->(x:Resource) WHERE x.id <> $id RETURN r.name AS name, e, x, 1.0/0 AS big";
    let answer = ask(json!({ "query": query, "parameters": { "id": moons } })).await;
    let body = answer.expect(200);
    assert_eq!(body["columns"], json!(["name", "e", "x", "big"]));
    assert_eq!(body["truncated"], false);
    let row = body["rows"][0].as_array().expect("a row");
    assert_eq!((&row[0], &row[3]), (&json!("Moons"), &json!("Infinity")));
    assert_eq!(
        (&row[1]["type"], &row[1]["end"]),
        (&json!("REFERS_TO"), &json!(ada))
    );
    assert_eq!(
        (&row[2]["id"], &row[2]["labels"]),
        (&json!(ada), &json!(["Resource"]))
    );
    assert_eq!(row[2]["properties"]["name"], "Ada");
    // What is written is in the next answer, also of a query that was asked before.
    let count = json!({ "query": "MATCH (r:Resource) RETURN count(r)" });
    assert_eq!(ask(count.clone()).await.expect(200)["rows"], json!([[3]]));
    let made = resource(client, "One more", &[], json!({})).await;
    let position = client
        .get(&format!("/api/resources/{made}"))
        .await
        .position();
    let after = client
        .post(
            &format!("/api/graph/query?min_position={position}&timeout_ms=60000"),
            &count,
        )
        .await;
    assert_eq!(after.expect(200)["rows"], json!([[4]]));
    assert!(after.position() >= position);
    ask_what_is_refused(client).await;
}

async fn ask_what_is_refused(client: &Client) {
    let ask = async |body: Value| client.post("/api/graph/query", &body).await;
    for (query, code) in [
        ("CREATE (n)", "CYPHER_WRITE_REFUSED"),
        (
            "MATCH (n) CALL { CREATE (m) } RETURN n",
            "CYPHER_WRITE_REFUSED",
        ),
        ("RETURN date()", "CYPHER_UNSUPPORTED"),
        ("RETURN", "CYPHER_SYNTAX"),
        ("RETURN 1/0", "CYPHER_RUNTIME"),
        ("RETURN range(1, 1000000000)", "QUERY_LIMIT"),
        (
            "MATCH (a), (b), (c), (d), (e), (f), (g), (h), (i), (j) RETURN count(*)",
            "QUERY_LIMIT",
        ),
    ] {
        ask(json!({ "query": query }))
            .await
            .expect_problem(422, code);
    }
    for body in [
        json!({}),
        json!({ "query": 1 }),
        json!({ "query": "RETURN 1", "limit": 0 }),
    ] {
        ask(body).await.expect_problem(422, "INVALID_FIELDS");
    }
    let beyond =
        json!({ "query": "RETURN $n", "parameters": { "n": 9_223_372_036_854_775_808_u64 } });
    ask(beyond)
        .await
        .expect_problem(422, "INTEGER_OUT_OF_RANGE");
    let limited = ask(json!({ "query": "UNWIND [1, 2] AS x RETURN x", "limit": 1 }))
        .await
        .expect(200);
    assert_eq!(
        (&limited["rows"], &limited["truncated"]),
        (&json!([[1]]), &json!(true))
    );
    let metrics = client.get("/metrics").await.text();
    assert!(
        metrics.contains("stemma_graph_queries_stopped_total 2"),
        "{metrics}"
    );
}

/// What nobody should ask, and how it is refused.
const HOSTILE: &[(&str, &str)] = &[
    (
        "MATCH (a), (b), (c), (d), (e), (f), (g), (h) RETURN count(*)",
        "QUERY_LIMIT",
    ),
    ("MATCH p = ()-[*1..1000]-() RETURN count(p)", "QUERY_LIMIT"),
    (
        "RETURN reduce(s = 0, x IN range(1, 1000000000) | s + x)",
        "QUERY_LIMIT",
    ),
    (
        "UNWIND range(1, 100000000) AS x RETURN collect(x)",
        "QUERY_LIMIT",
    ),
    ("RETURN range(1, 10000000)", "QUERY_LIMIT"),
    (
        "MATCH p = (a)-[*1..15]-(b) RETURN [p, p, p, p, p, p, p, p] AS all",
        "QUERY_LIMIT",
    ),
    (
        "MATCH (n) CALL { WITH n DETACH DELETE n } RETURN 1",
        "CYPHER_WRITE_REFUSED",
    ),
    (
        "MATCH (n) WHERE EXISTS { CREATE (m) } RETURN n",
        "CYPHER_WRITE_REFUSED",
    ),
    (
        "CALL apoc.load.json('file:///etc/passwd')",
        "CYPHER_WRITE_REFUSED",
    ),
    (
        "LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "CYPHER_WRITE_REFUSED",
    ),
];

#[tokio::test]
async fn hostile_queries_are_refused_or_stopped_while_others_are_answered() {
    for (_, server) in on_all() {
        let server = server.start();
        ask_with_malice(&server.client()).await;
    }
}

async fn ask_with_malice(client: &Client) {
    // Paths without end need something to go round in.
    let mut before = resource(client, "r", &["Note"], json!({})).await;
    for number in 0..12 {
        let more = json!({ "derived_from": before });
        let made = resource(client, &format!("r{number}"), &["Note", "Place"], more).await;
        annotate(client, &made, &before).await;
        before = made;
    }
    caught_up(client).await;
    let nested = format!("RETURN {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let literal = format!("RETURN '{}'", "x".repeat(70_000));
    // Values that are too deep or too large for whoever walks through them, and a match without an
    // end: the first one ended the server, the others outlived their time.
    let deep = format!(
        "WITH reduce(l = [], i IN range(1, 2600) | {}l{}) AS x RETURN x = x",
        "[".repeat(90),
        "]".repeat(90)
    );
    let doubled = format!("WITH [1] AS x {} RETURN x", "WITH [x, x] AS x ".repeat(45));
    let matched = "RETURN reduce(s = 'a', x IN range(1, 20) | s + s) =~ '(a?){2000}b'";
    let long = [&nested, &literal, &deep, &doubled, matched];
    let long = long.map(|query: &str| (query, "QUERY_LIMIT"));
    let hostile = HOSTILE.iter().copied().chain(long);
    let asking = hostile.map(|(query, code)| async move {
        let asked = client
            .post("/api/graph/query", &json!({ "query": query }))
            .await;
        asked.expect_problem(422, code);
    });
    let mut all = std::pin::pin!(futures_util::future::join_all(asking));
    // Whoever writes and reads meanwhile does so, again and again.
    let mut rounds = 0;
    let others = async {
        loop {
            client.create("meanwhile", "x").await;
            let list = client.get("/api/resources?entityType=Note").await;
            assert_eq!(list.expect(200)["items"].as_array().map(Vec::len), Some(13));
            rounds += 1;
        }
    };
    tokio::select! {
        _ = &mut all => {}
        () = others => {}
    }
    assert!(rounds > 10, "{rounds} rounds while queries ran");
    let after = client
        .post("/api/graph/query", &json!({ "query": "RETURN 1" }))
        .await;
    assert_eq!(after.expect(200)["rows"], json!([[1]]));
}

/// A stop waited as long as it waits for anything, and whoever asked got no answer.
#[tokio::test]
async fn a_query_that_is_under_way_ends_with_the_server_and_says_so() {
    let mut server = Server::start();
    let client = server.client();
    for name in ["a", "b", "c"] {
        client.create(name, "text").await;
    }
    caught_up(&client).await;
    let query = "MATCH (a), (b), (c), (d), (e), (f), (g), (h), (i), (j), (k), (l), (m) \
                 RETURN count(*)";
    let body = json!({ "query": query });
    // Its thread is there once it runs.
    let threads = format!("/proc/{}/task", server.pid());
    let runs = || {
        let threads = std::fs::read_dir(&threads).expect("the server's threads");
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        let mut names = threads.flatten().filter_map(|thread| name(thread).ok());
        names.any(|name| name.trim() == "graph-query")
    };
    let stopped = async {
        while !runs() {
            tokio::task::yield_now().await;
        }
        let stopped = tokio::task::spawn_blocking(move || server.stop());
        stopped.await.expect("it is waited for")
    };
    let (answer, stopped) = tokio::join!(client.post("/api/graph/query", &body), stopped);
    assert_eq!(stopped, Some(0));
    answer.expect_problem(503, "SHUTTING_DOWN");
}
