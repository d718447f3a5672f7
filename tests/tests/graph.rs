//! The graph over HTTP (rows A4, A6, A7), on everything that keeps one: lists by entity type,
//! neighbors, paths, sizes, Cypher; what it says after changes; with the graph gone, off, or made
//! anew.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{Answer, Client, Neo4j, Server, ServerBuilder, run};

use crate::operation::outcome;

/// How long a graph may take to be found well again.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const NEVER: &str = "019a0000-0000-7000-8000-00000000ffff";

/// Servers that keep their graphs in each of the ways there are.
pub(crate) fn on_all() -> [(&'static str, ServerBuilder); 2] {
    let in_neo4j = Server::builder().graph_in(Neo4j::shared());
    [("embedded", Server::builder()), ("neo4j", in_neo4j)]
}

pub(crate) async fn resource(client: &Client, name: &str, types: &[&str], more: Value) -> String {
    let mut body = json!({
        "name": name, "media_type": "text/plain", "content": name, "entity_types": types,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    let made = client.post("/api/resources", &body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

pub(crate) async fn annotate(client: &Client, id: &str, names: &str) -> String {
    let iri = |id: &str| format!("/api/resources/{id}");
    let body = json!({ "motivation": "linking", "body": iri(names), "target": iri(id) });
    let path = format!("/api/resources/{id}/annotations");
    let made = client.post(&path, &body).await.expect(201);
    let id = made["id"].as_str().expect("an id");
    format!("annotation:{}", id.trim_start_matches("urn:uuid:"))
}

/// Waits until the graph holds all that the views do.
pub(crate) async fn caught_up(client: &Client) {
    let position = client.get("/api/resources?limit=1").await.position();
    let path = format!("/api/graph/stats?min_position={position}&timeout_ms=60000");
    let since = Instant::now();
    loop {
        let answer = client.get(&path).await;
        // One elsewhere that is busy with others may be out of reach for a moment.
        if answer.status != 503 {
            answer.expect(200);
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{}", answer.text());
        tokio::task::yield_now().await;
    }
}

/// A question for a list, answered by the graph. A graph elsewhere may be busy with others: then
/// the views answer for a while.
pub(crate) async fn answered_by_the_graph(client: &Client, path: &str) -> Answer {
    let since = Instant::now();
    loop {
        let answer = client.get(path).await;
        answer.expect(200);
        if answer.header("stemma-source") == "graph" {
            return answer;
        }
        let warning = answer.header("stemma-warning");
        assert!(since.elapsed() < PATIENCE, "{path}: {warning}");
        tokio::task::yield_now().await;
    }
}

/// The same, once the graph holds all that the views do.
async fn listed(client: &Client, query: &str) -> Answer {
    caught_up(client).await;
    answered_by_the_graph(client, &format!("/api/resources?{query}")).await
}

pub(crate) fn ids(list: &Value, field: &str) -> Vec<String> {
    let items = list[field].as_array().expect("a list").iter();
    items
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

pub(crate) async fn neighbors(client: &Client, node: &str, query: &str) -> Value {
    let node = node.replace(' ', "%20").replace('/', "%2F");
    let path = format!("/api/graph/nodes/{node}/neighbors?{query}");
    caught_up(client).await;
    client.get(&path).await.expect(200)
}

#[tokio::test]
async fn resources_of_entity_types_are_listed_by_the_graph_page_by_page() {
    for (_, server) in on_all() {
        let server = server.start();
        list_by_type(&server.client()).await;
    }
}

async fn list_by_type(client: &Client) {
    let mut people = Vec::new();
    for n in 0..5 {
        let types: &[&str] = if n % 2 == 0 {
            &["Person", "Poet"]
        } else {
            &["Person"]
        };
        people.push(resource(client, &format!("p{n}"), types, json!({})).await);
    }
    resource(client, "no person", &["Place"], json!({})).await;
    let mut found = Vec::new();
    let mut query = "entityType=Person&limit=2".to_owned();
    loop {
        let page = listed(client, &query).await.json();
        found.extend(ids(&page, "items"));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("entityType=Person&limit=2&cursor={cursor}");
    }
    assert_eq!(found, people);
    let both = listed(
        client,
        "entityType=Person&entity_type=Poet&sort=-created_at",
    )
    .await;
    let poets: Vec<String> = [4, 2, 0].map(|n: usize| people[n].clone()).into();
    assert_eq!(ids(&both.json(), "items"), poets);
    // What is written is in the list that is read next, by whichever answers.
    let path = format!("/api/resources/{}", people[0]);
    let archived = client
        .json("PATCH", &path, &json!({ "archived": true }))
        .await;
    let after = listed(client, "entityType=Poet").await;
    assert_eq!(
        ids(&after.json(), "items"),
        [people[2].clone(), people[4].clone()]
    );
    assert!(after.position() >= archived.position());
    let archived = listed(client, "entityType=Poet&archived=true").await;
    assert_eq!(ids(&archived.json(), "items"), [people[0].clone()]);
    assert_eq!(
        listed(client, "entityType=Nobody").await.json()["items"],
        json!([])
    );
    let refused = client
        .get("/api/resources?entityType=Person&cursor=00")
        .await;
    refused.expect_problem(422, "INVALID_CURSOR");
}

/// Someone in a collection, a note that an annotation links to her, and a copy of the note.
pub(crate) struct Corpus {
    pub(crate) ada: String,
    pub(crate) moons: String,
    pub(crate) copy: String,
    pub(crate) link: String,
}

impl Corpus {
    pub(crate) async fn write(client: &Client) -> Self {
        let letters = json!({ "collection": "letters/1781" });
        let ada = resource(client, "Ada", &["Person"], letters).await;
        let moons = resource(client, "Moons", &["Note"], json!({})).await;
        let copy = resource(client, "Copy", &[], json!({ "derived_from": moons })).await;
        let link = annotate(client, &moons, &ada).await;
        Self {
            ada,
            moons,
            copy,
            link,
        }
    }
}

#[tokio::test]
async fn neighbors_are_all_that_a_node_hangs_together_with() {
    for (_, server) in on_all() {
        let server = server.start();
        look_around(&server.client()).await;
    }
}

async fn look_around(client: &Client) {
    let Corpus {
        ada,
        moons,
        copy,
        link,
    } = Corpus::write(client).await;
    let around = neighbors(client, &moons, "").await;
    assert_eq!(around["truncated"], false);
    let mut near = vec![
        copy.clone(),
        link.clone(),
        "entity_type:Note".to_owned(),
        "person:anonymous".to_owned(),
    ];
    near.sort();
    assert_eq!(ids(&around, "nodes"), near);
    assert!(
        around["nodes"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|n| n["depth"] == 1)
    );
    let edge = |kind: &str, from: &str, to: &str| json!({ "type": kind, "from": from, "to": to });
    assert_eq!(
        around["edges"],
        json!([
            edge("ANNOTATES", &link, &moons),
            edge("CREATED", "person:anonymous", &moons),
            edge("DERIVED_FROM", &copy, &moons),
            edge("HAS_TYPE", &moons, "entity_type:Note"),
        ])
    );
    let along = neighbors(client, &moons, "relation=DERIVED_FROM&depth=5").await;
    assert_eq!(ids(&along, "nodes"), std::slice::from_ref(&copy));
    let few = neighbors(client, &moons, "limit=1").await;
    assert_eq!(
        (ids(&few, "nodes").len(), &few["truncated"]),
        (1, &json!(true))
    );
    let in_collection = neighbors(client, "collection:letters/1781", "").await;
    assert_eq!(ids(&in_collection, "nodes"), std::slice::from_ref(&ada));
    assert_eq!(in_collection["nodes"][0]["name"], "Ada");
}

#[tokio::test]
async fn paths_and_sizes_follow_what_is_written_and_taken_away() {
    for (backend, server) in on_all() {
        let server = server.start();
        write_and_take_away(backend, &server.client()).await;
    }
}

async fn write_and_take_away(backend: &str, client: &Client) {
    let Corpus {
        ada,
        moons,
        copy,
        link,
    } = Corpus::write(client).await;
    let path = format!("/api/graph/path?from={moons}&to={ada}");
    caught_up(client).await;
    let way = client.get(&path).await.expect(200);
    // Over the annotation and over who made both there are two edges; its id sorts first.
    let between = std::cmp::min(link.as_str(), "person:anonymous");
    assert_eq!(ids(&way, "nodes"), [&*moons, between, &*ada]);
    assert_eq!(way["length"], 2);
    assert_eq!(way["edges"][1]["type"], "REFERS_TO");

    let stats = client.get("/api/graph/stats").await.expect(200);
    assert_eq!(
        stats["nodes"],
        json!({ "Annotation": 1, "Collection": 1, "EntityType": 2, "Person": 1, "Resource": 3 })
    );
    assert_eq!(stats["edges"]["CREATED"], 4);
    assert_eq!(
        (&stats["backend"], &stats["lag"]["positions"]),
        (&json!(backend), &json!(0))
    );

    // What is taken away is gone, and what led to it.
    let aid = link.trim_start_matches("annotation:");
    let path = format!("/api/resources/{moons}/annotations/{aid}");
    client.raw("DELETE", &path, &[], "").await;
    let path = format!("/api/resources/{moons}/entity_types/Note");
    client.raw("DELETE", &path, &[], "").await.expect(200);
    let path = format!("/api/resources/{copy}");
    client
        .json("PATCH", &path, &json!({ "archived": true }))
        .await
        .expect(200);
    let around = neighbors(client, &moons, "").await;
    assert_eq!(ids(&around, "nodes"), ["person:anonymous"]);
    let all = neighbors(client, &moons, "archived=any").await;
    assert_eq!(ids(&all, "nodes").len(), 2);
    for gone in [&*link, "entity_type:Note", NEVER, "person:nobody"] {
        let path = format!("/api/graph/nodes/{gone}/neighbors");
        client
            .get(&path)
            .await
            .expect_problem(404, "NODE_NOT_FOUND");
    }
}

/// Row E6: the graph as of a position, or of a time.
#[tokio::test]
async fn the_graph_is_answered_of_as_it_was() {
    for (_, server) in on_all() {
        let server = server.env("STEMMA_GRAPH__PAST_EVENTS_MAX", "9").start();
        look_back(&server.client()).await;
    }
}

async fn look_back(client: &Client) {
    let Corpus {
        ada, moons, link, ..
    } = Corpus::write(client).await;
    let then = client.get(&format!("/api/resources/{moons}")).await;
    let position = then.position();
    let path = format!("/api/events?after={}", position - 1);
    let time = client.get(&path).await.expect(200)["items"][0]["recorded_at"].clone();
    let time = time.as_str().expect("a time").to_owned();
    // What was is taken away, and something else is made.
    let aid = link.trim_start_matches("annotation:");
    let path = format!("/api/resources/{moons}/annotations/{aid}");
    client.raw("DELETE", &path, &[], "").await;
    let path = format!("/api/resources/{ada}");
    let archived = json!({ "archived": true });
    client.json("PATCH", &path, &archived).await.expect(200);
    resource(client, "Later", &["Person"], json!({})).await;
    let query = json!({ "query": "MATCH (r:Resource {archived: false}) RETURN count(r)" });
    for moment in [
        format!("as_of_position={position}"),
        format!("as_of={time}"),
    ] {
        let path = format!("/api/graph/path?from={link}&to={ada}&{moment}");
        let way = client.get(&path).await;
        assert_eq!(ids(&way.expect(200), "nodes"), [&*link, &*ada]);
        assert_eq!(way.position(), position);
        let path = format!("/api/graph/nodes/entity_type:Person/neighbors?{moment}");
        let people = client.get(&path).await.expect(200);
        assert_eq!(ids(&people, "nodes"), std::slice::from_ref(&ada));
        let path = format!("/api/graph/stats?{moment}");
        let stats = client.get(&path).await.expect(200);
        assert_eq!(
            (&stats["position"], &stats["nodes"]["Annotation"]),
            (&json!(position), &json!(1))
        );
        let path = format!("/api/graph/query?{moment}");
        let asked = client.post(&path, &query).await.expect(200);
        assert_eq!(asked["rows"], json!([[3]]));
    }
    caught_up(client).await;
    let path = format!("/api/graph/nodes/{link}/neighbors");
    client
        .get(&path)
        .await
        .expect_problem(404, "NODE_NOT_FOUND");
    for (moment, code) in [
        ("as_of_position=99999", "NOT_HAPPENED_YET"),
        ("as_of=2999-01-01T00:00:00Z", "NOT_HAPPENED_YET"),
        (
            "as_of_position=1&as_of=2020-01-01T00:00:00Z",
            "INVALID_PARAMETERS",
        ),
        ("as_of=yesterday", "INVALID_PARAMETERS"),
    ] {
        let path = format!("/api/graph/stats?{moment}");
        client.get(&path).await.expect_problem(422, code);
    }
    let before_all = client
        .get("/api/graph/stats?as_of=2020-01-01T00:00:00Z")
        .await
        .expect(200);
    assert_eq!(before_all["nodes"]["Resource"], json!(0));
    // More lies before it than is folded for a question here.
    for number in 0..3 {
        resource(client, &format!("n{number}"), &[], json!({})).await;
    }
    let path = "/api/graph/stats?as_of_position=9";
    client.get(path).await.expect_problem(422, "QUERY_LIMIT");
}

#[tokio::test]
async fn wrong_questions_to_the_graph_are_told_what_is_taken() {
    for (_, server) in on_all() {
        let server = server.start();
        ask_wrongly(&server.client()).await;
    }
}

async fn ask_wrongly(client: &Client) {
    let one = resource(client, "one", &[], json!({ "collection": "c" })).await;
    caught_up(client).await;
    for (path, status, code) in [
        ("/api/graph/nodes/ada/neighbors", 422, "INVALID_ID"),
        ("/api/graph/nodes/thing:1/neighbors", 422, "INVALID_ID"),
        (
            "/api/graph/nodes/person:anonymous/neighbors?depth=6",
            422,
            "INVALID_PARAMETERS",
        ),
        (
            "/api/graph/nodes/person:anonymous/neighbors?depth=0",
            422,
            "INVALID_PARAMETERS",
        ),
        (
            "/api/graph/nodes/person:anonymous/neighbors?limit=1001",
            422,
            "INVALID_PARAMETERS",
        ),
        (
            "/api/graph/nodes/person:anonymous/neighbors?relation=LIKES",
            422,
            "INVALID_PARAMETERS",
        ),
        (
            "/api/graph/nodes/person:anonymous/neighbors?cursor=00",
            422,
            "INVALID_PARAMETERS",
        ),
        ("/api/graph/path", 422, "INVALID_PARAMETERS"),
        (
            "/api/graph/path?from=person:anonymous&to=x",
            422,
            "INVALID_PARAMETERS",
        ),
        (
            "/api/graph/path?from=person:anonymous&to=person:b",
            404,
            "NODE_NOT_FOUND",
        ),
        ("/api/graph/stats?x=1", 422, "INVALID_PARAMETERS"),
        (
            "/api/graph/stats?min_position=999&timeout_ms=1",
            503,
            "NOT_YET",
        ),
    ] {
        client.get(path).await.expect_problem(status, code);
    }
    // Two that only the one who made both connects, which is further than one edge.
    let other = resource(client, "other", &[], json!({})).await;
    let path = format!("/api/graph/path?from={one}&to={other}&max_depth=1");
    caught_up(client).await;
    client.get(&path).await.expect_problem(404, "NO_PATH");
}

#[tokio::test]
async fn a_graph_that_is_deleted_comes_back_equal_offline_and_online() {
    let mut server = Server::start();
    let (before, moons) = {
        let client = server.client();
        let moons = resource(&client, "Moons", &["Note"], json!({ "collection": "c" })).await;
        annotate(&client, &moons, &moons).await;
        let job = client
            .raw("POST", "/api/admin/rebuild/graph", &[], "")
            .await;
        let job = job.expect(202);
        assert_eq!(job["type"], "rebuild.graph");
        let done = outcome(&client, &job).await;
        assert_eq!(done["status"], "completed", "{done}");
        assert_eq!(
            (&done["result"]["equal"], &done["result"]["swapped"]),
            (&json!(true), &json!(true))
        );
        (neighbors(&client, &moons, "depth=3").await, moons)
    };
    assert_eq!(server.stop(), Some(0));
    let data = server.data().to_str().expect("UTF-8").to_owned();
    let rebuilt = |args: &[&str]| {
        let output = run(&[&["rebuild"], args, &["--json", "--data", &data]].concat());
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let again = rebuilt(&["graph"]);
    assert_eq!(
        (&again["model"], &again["equal"]),
        (&json!("graph"), &json!(true))
    );
    std::fs::remove_dir_all(server.data().join("tenants/default/graph")).expect("it is there");
    assert_eq!(
        rebuilt(&["graph"])["digest_rebuilt"],
        again["digest_rebuilt"]
    );
    std::fs::remove_dir_all(server.data().join("tenants/default/graph")).expect("it is there");
    server.start_again();
    let client = server.client();
    let position = client
        .get(&format!("/api/resources/{moons}"))
        .await
        .position();
    let after = neighbors(&client, &moons, &format!("depth=3&min_position={position}")).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn without_a_graph_the_views_answer_and_say_why() {
    let mut server = Server::start();
    let made = resource(&server.client(), "Moons", &["Note"], json!({})).await;
    assert_eq!(server.stop(), Some(0));
    // Nothing can be opened where a file is.
    let graph = server.data().join("tenants/default/graph");
    std::fs::remove_dir_all(&graph).expect("it is there");
    std::fs::write(&graph, "in the way").expect("a file");
    server.start_again();
    let client = server.client();
    client
        .get("/api/graph/stats")
        .await
        .expect_problem(503, "GRAPH_UNAVAILABLE");
    let answer = client.get("/api/resources?entityType=Note").await;
    assert_eq!(
        ids(&answer.expect(200), "items"),
        std::slice::from_ref(&made)
    );
    assert_eq!(answer.header("stemma-source"), "views");
    let warning = answer.header("stemma-warning");
    assert!(warning.starts_with("the graph cannot be had"), "{warning}");
    // A write does not care, and the whole is degraded but up.
    client.create("b", "y").await;
    let health = client.get("/api/health").await.expect(200);
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["parts"]["graph"]["status"], "degraded");
    assert_eq!(server.stop(), Some(0));

    let off = Server::builder().arg("--graph").arg("none").start();
    let client = off.client();
    resource(&client, "Moons", &["Note"], json!({})).await;
    let answer = client.get("/api/resources?entityType=Note").await;
    answer.expect(200);
    assert_eq!(answer.header("stemma-source"), "views");
    for path in [
        "stats",
        "path?from=person:a&to=person:b",
        "nodes/person:a/neighbors",
    ] {
        let answer = client.get(&format!("/api/graph/{path}")).await;
        answer.expect_problem(503, "GRAPH_OFF");
    }
    let health = client.get("/api/health").await.expect(200);
    assert_eq!(
        (&health["status"], &health["parts"]["graph"]["status"]),
        (&json!("ok"), &json!("off"))
    );
    assert!(!off.data().join("tenants/default/graph").exists());
}
