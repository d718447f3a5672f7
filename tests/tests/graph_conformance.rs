//! The same log kept as a graph in rows and in Neo4j: every question has the same answer (row A7).

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use stemma_tests::{Client, Neo4j, Server};

use crate::graph::{PATIENCE, answered_by_the_graph};

/// Numbers that are the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let sides = u64::try_from(sides).expect("few sides");
        usize::try_from(self.0 % sides).expect("few sides")
    }

    fn one_of<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.roll(of.len())]
    }
}

const TYPES: [&str; 6] = ["Note", "Person", "Größe", "a/b c", "Place", "Rare"];
const COLLECTIONS: [&str; 3] = ["letters/1781", "c", "Sammlung zwei"];

fn id(number: usize) -> String {
    format!("019a0000-0000-7000-8000-{number:012x}")
}

/// What a random scenario has made so far.
#[derive(Default)]
pub(crate) struct Made {
    resources: Vec<usize>,
    /// Annotations, each with its resource.
    annotations: Vec<(String, String)>,
    count: usize,
}

impl Made {
    /// A batch of random operations. Some name what is not there, yet or ever.
    pub(crate) fn operations(&mut self, dice: &mut Dice, count: usize) -> Vec<Value> {
        let mut operations = Vec::new();
        while operations.len() < count {
            let known = self.resources.len();
            match dice.roll(if known < 5 { 1 } else { 20 }) {
                0..=4 => operations.push(self.create(dice)),
                5..=11 => {
                    let of = self.resources[dice.roll(known)];
                    operations.push(self.annotate(dice, of));
                }
                12 if !self.annotations.is_empty() => {
                    let place = dice.roll(self.annotations.len());
                    let (of, annotation) = self.annotations.swap_remove(place);
                    operations.push(json!({
                        "op": "remove_annotation", "resource_id": of, "annotation_id": annotation,
                    }));
                }
                kind => {
                    let of = id(self.resources[dice.roll(known)]);
                    operations.push(change(dice, kind, &of));
                }
            }
        }
        operations
    }

    /// Notes what the server called the annotations that were made.
    pub(crate) fn learn(&mut self, operations: &[Value], answer: &Value) {
        let results = answer["results"].as_array().expect("results");
        for (operation, result) in operations.iter().zip(results) {
            if let Some(annotation) = result["annotation_id"].as_str()
                && operation["op"] == "add_annotation"
            {
                let of = operation["resource_id"].as_str().expect("an id");
                self.annotations
                    .push((of.to_owned(), annotation.to_owned()));
            }
        }
    }

    fn create(&mut self, dice: &mut Dice) -> Value {
        // Some come later than those that name them.
        let number = self.count;
        self.count += 1 + dice.roll(2);
        let mut made = json!({
            "op": "create_resource", "id": id(number), "name": format!("thing {number}"),
            "media_type": "text/plain", "content": format!("thing {number} is here"),
        });
        let types: Vec<&str> = TYPES.into_iter().filter(|_| dice.roll(4) == 0).collect();
        made["entity_types"] = json!(types);
        if dice.roll(3) == 0 {
            made["collection"] = json!(dice.one_of(&COLLECTIONS));
        }
        if dice.roll(3) == 0 {
            made["language"] = json!(dice.one_of(&["en", "de"]));
        }
        if dice.roll(4) == 0 && !self.resources.is_empty() {
            let source = self.resources[dice.roll(self.resources.len())];
            made["derived_from"] = json!(id(source));
        }
        self.resources.push(number);
        made
    }

    fn annotate(&self, dice: &mut Dice, of: usize) -> Value {
        let names = id(dice.roll(self.count + 20));
        let iri = |id: &str| format!("/api/resources/{id}");
        let target = if dice.roll(4) == 0 {
            json!([iri(&id(of)), iri(&id(dice.roll(self.count)))])
        } else {
            json!({ "selector": { "type": "TextQuoteSelector", "exact": "thing" } })
        };
        json!({
            "op": "add_annotation", "resource_id": id(of), "annotation": {
                "motivation": dice.one_of(&["linking", "tagging", "commenting"]),
                "body": iri(&names), "target": target,
            },
        })
    }
}

fn change(dice: &mut Dice, kind: usize, of: &str) -> Value {
    let entity_type = dice.one_of(&TYPES);
    match kind {
        13 | 14 => {
            json!({ "op": "add_entity_type", "resource_id": of, "entity_type": entity_type })
        }
        15 => json!({ "op": "remove_entity_type", "resource_id": of, "entity_type": entity_type }),
        16 => {
            json!({ "op": "patch_resource", "resource_id": of, "patch": { "archived": dice.roll(3) > 0 } })
        }
        17 => {
            let collection = dice.one_of(&COLLECTIONS);
            json!({ "op": "patch_resource", "resource_id": of, "patch": { "collection": collection } })
        }
        18 => {
            json!({ "op": "revise_content", "resource_id": of, "content": format!("thing anew {}", dice.0) })
        }
        _ => {
            json!({ "op": "patch_resource", "resource_id": of, "patch": { "name": format!("name {}", dice.roll(9)) } })
        }
    }
}

/// Writes a random scenario; gives its last position.
async fn write(client: &Client, seed: u64) -> u64 {
    let (mut dice, mut made) = (Dice(seed), Made::default());
    for (name, description) in [("Place", "where"), ("Unused", "of nothing")] {
        let body = json!({ "name": name, "description": description });
        client.post("/api/entity_types", &body).await.expect(201);
    }
    let mut position = 0;
    for _ in 0..12 {
        let operations = made.operations(&mut dice, 40);
        let answer = client
            .post("/api/batch", &json!({ "operations": operations }))
            .await;
        made.learn(&operations, &answer.expect(200));
        position = answer.position();
    }
    position
}

/// Everything that is asked, each with its answer.
type Answers = BTreeMap<String, Value>;

/// The answers of a server, as of a position at least.
async fn answers(client: &Client, position: u64) -> Answers {
    let mut answers = Answers::new();
    let wait = format!("/api/graph/stats?min_position={position}&timeout_ms=60000");
    let mut stats = client.get(&wait).await.expect(200);
    for own in ["backend", "lag"] {
        stats.as_object_mut().expect("an object").remove(own);
    }
    answers.insert("stats".to_owned(), stats);
    let mut has_rows = 0;
    for (number, query) in queries().into_iter().enumerate() {
        let answer = told(asked_in_time(client, query).await);
        has_rows += usize::from(answer["rows"][0].is_array());
        answers.insert(format!("{number:02} {query}"), answer);
    }
    assert!(has_rows > 30, "{has_rows} queries found something");
    lists(client, &mut answers).await;
    let nodes = json!({ "query": "MATCH (n) RETURN n.id" });
    let nodes = client.post("/api/graph/query", &nodes).await.expect(200);
    let nodes: Vec<&str> = nodes["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row[0].as_str().expect("an id"))
        .collect();
    let mut dice = Dice(7);
    let encoded = |node: &str| {
        let escaped = [
            ("%", "%25"),
            ("/", "%2F"),
            (" ", "%20"),
            ("ö", "%C3%B6"),
            ("ß", "%C3%9F"),
        ];
        escaped
            .iter()
            .fold(node.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    // All of a small graph, some of a large one.
    for node in nodes.iter().step_by(1 + nodes.len() / 150) {
        for query in [
            "",
            "depth=2&limit=7",
            "archived=any&relation=REFERS_TO&depth=3",
        ] {
            let path = format!("/api/graph/nodes/{}/neighbors?{query}", encoded(node));
            answers.insert(path.clone(), client.get(&path).await.expect(200));
        }
    }
    for _ in 0..60 {
        let (from, to) = (nodes[dice.roll(nodes.len())], nodes[dice.roll(nodes.len())]);
        let path = format!(
            "/api/graph/path?from={}&to={}&max_depth=6",
            encoded(from),
            encoded(to)
        );
        answers.insert(path.clone(), told(client.get(&path).await.json()));
    }
    answers
}

/// An answer without what is different every time.
fn told(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("took_ms");
        fields.remove("trace_id");
    }
    answer
}

fn queries() -> Vec<&'static str> {
    let file = include_str!("../conformance/queries.cypher");
    let blocks = file.split("\n\n").map(str::trim);
    blocks.filter(|block| !block.starts_with("//")).collect()
}

async fn lists(client: &Client, answers: &mut Answers) {
    let kinds = [
        "Note",
        "Person",
        "Gr%C3%B6%C3%9Fe",
        "a%2Fb%20c",
        "Rare",
        "Nobody",
    ];
    let kinds = kinds.map(|kind| format!("entityType={kind}"));
    let several = [
        "entityType=Note&entityType=Person".to_owned(),
        "entityType=Note&collection=c".to_owned(),
        "entityType=Person&q=thing%201".to_owned(),
    ];
    for kind in kinds.into_iter().chain(several) {
        for more in ["", "&archived=any&sort=-created_at", "&archived=true"] {
            let asked = format!("/api/resources?limit=7&{kind}{more}");
            let (mut path, mut ids) = (asked.clone(), Vec::new());
            loop {
                // What a list is narrowed by beside its types is the views' own.
                let answer = if asked.contains("&q=") {
                    client.get(&path).await
                } else {
                    answered_by_the_graph(client, &path).await
                };
                let page = answer.expect(200);
                ids.extend(
                    page["items"]
                        .as_array()
                        .expect("items")
                        .iter()
                        .map(|i| i["id"].clone()),
                );
                let Some(cursor) = page["next_cursor"].as_str() else {
                    break;
                };
                path = format!("{asked}&cursor={cursor}");
            }
            answers.insert(asked, Value::from(ids));
        }
    }
}

/// What a query is answered. What took too long, since the machine was busy with others, is asked
/// again.
async fn asked_in_time(client: &Client, query: &str) -> Value {
    let since = Instant::now();
    loop {
        let body = json!({ "query": query });
        let answer = client.post("/api/graph/query", &body).await.json();
        let is_late = answer["detail"]
            .as_str()
            .is_some_and(|told| told.contains("query's time"));
        if !is_late || since.elapsed() > PATIENCE {
            return answer;
        }
    }
}

/// Fails with the first question that has two answers.
fn must_be_equal(one: &Answers, other: &Answers, what: &str) {
    assert_eq!(one.len(), other.len(), "{what}");
    for (asked, answer) in one {
        assert_eq!(Some(answer), other.get(asked), "{what}: {asked}");
    }
}

#[tokio::test]
async fn the_same_log_has_the_same_answers_in_rows_and_in_neo4j() {
    let mut in_rows = Server::start();
    let (position, embedded) = {
        let client = in_rows.client();
        let position = write(&client, 0x5eed).await;
        (position, answers(&client, position).await)
    };
    assert_eq!(in_rows.stop(), Some(0));
    let in_neo4j = Server::builder()
        .data(in_rows.data())
        .graph_in(Neo4j::shared())
        .start();
    let there = answers(&in_neo4j.client(), position).await;
    must_be_equal(&embedded, &there, "in rows and in Neo4j");
}
