//! Who may read and write a resource by its id: its owner, those whom it is shared with, everybody;
//! for the others it was never there (row E1).

use serde_json::{Value, json};
use stemma_tests::{Answer, Client, Server, ServerBuilder, Upload, command};

use crate::access::create_token;
use crate::documents::text_of;
use crate::graph::caught_up;

/// An id that was never there.
const NEVER: &str = "019a0000-0000-7000-8000-00000000dead";

/// A server and its people: an owner, one who is named to read, one who is named to write, one who
/// is not named, and an admin.
pub(crate) struct House {
    server: Server,
    pub(crate) olga: Client,
    pub(crate) rita: Client,
    pub(crate) will: Client,
    pub(crate) nina: Client,
    pub(crate) boss: Client,
    _data: tempfile::TempDir,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_by(Server::builder()).await
    }

    pub(crate) async fn open_by(builder: ServerBuilder) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let made = create_token(data.path(), "admin", &[]);
        let server = builder.data(data.path()).start();
        let boss = Client::showing(server.url(), Some(text_of(&made["token"])));
        let person = async |name: &str, role: &str| {
            let asked = json!({ "principal": name, "role": role });
            let made = boss.post("/api/admin/tokens", &asked).await.expect(201);
            Client::showing(server.url(), Some(text_of(&made["token"])))
        };
        Self {
            olga: person("olga", "writer").await,
            rita: person("rita", "reader").await,
            will: person("will", "writer").await,
            nina: person("nina", "writer").await,
            boss,
            server,
            _data: data,
        }
    }

    async fn made_token(&self, principal: &str, role: &str) -> Value {
        let asked = json!({ "principal": principal, "role": role });
        let made = self.boss.post("/api/admin/tokens", &asked).await;
        made.expect(201)["token"].take()
    }

    /// Shows a new token of a principal.
    pub(crate) async fn token(&self, principal: &str, role: &str) -> Client {
        let token = self.made_token(principal, role).await;
        Client::showing(self.server.url(), Some(text_of(&token)))
    }

    /// Kills the server and starts it again where it was; shows a new token of a principal then,
    /// since all connections are gone.
    pub(crate) async fn restarted_for(&mut self, principal: &str, role: &str) -> Client {
        let token = self.made_token(principal, role).await;
        self.server.kill();
        self.server.start_again();
        Client::showing(self.server.url(), Some(text_of(&token)))
    }

    /// Everybody, and whether they read and write what is shared with Rita and Will.
    fn people(&self) -> [(&'static str, &Client, bool, bool); 5] {
        [
            ("olga", &self.olga, true, true),
            ("boss", &self.boss, true, true),
            ("will", &self.will, true, true),
            ("rita", &self.rita, true, false),
            ("nina", &self.nina, false, false),
        ]
    }
}

pub(crate) fn shared() -> Value {
    json!({ "visibility": "shared", "readers": ["rita"], "writers": ["will"] })
}

pub(crate) fn private() -> Value {
    json!({ "visibility": "private" })
}

/// Makes a resource of a kind of its own, with an annotation; gives the ids of both.
pub(crate) async fn make(client: &Client, access: &Value, word: &str) -> (String, String) {
    let body = json!({
        "name": format!("{word} name"), "media_type": "text/plain",
        "content": format!("The {word} stands here."), "access": access,
        "entity_types": [format!("{word}Type")], "collection": format!("{word}-collection"),
    });
    let made = client.post("/api/resources", &body).await.expect(201);
    let id = text_of(&made["id"]).to_owned();
    let note = json!({ "motivation": "tagging", "target": format!("/api/resources/{id}"),
        "body": { "type": "TextualBody", "value": format!("{word} tag") } });
    let path = format!("/api/resources/{id}/annotations");
    let note = client.post(&path, &note).await.expect(201);
    let annotation = text_of(&note["id"]).trim_start_matches("urn:uuid:");
    (id, annotation.rsplit('/').next().expect("an id").to_owned())
}

/// Uploads a document and waits for its job; gives the ids of both.
pub(crate) async fn bring(client: &Client, access: &Value, word: &str) -> (String, String) {
    let text = format!("# {word} heading\n\nUlugh Beg wrote of the {word} in Samarkand.\n");
    let upload = Upload::of(&format!("{word}.md"), text)
        .typed("text/markdown")
        .with("access", &access.to_string());
    let told = client.upload(&upload).await.expect(202);
    let job = text_of(&told["job_id"]).to_owned();
    assert_eq!(client.ended(&job).await["status"], "completed");
    (text_of(&told["document_id"]).to_owned(), job)
}

/// What can be read by the id of a resource with an annotation, `{id}` and `{aid}`.
const OF_RESOURCE: [&str; 15] = [
    "/api/resources/{id}",
    "/api/resources/{id}?as_of_revision=0",
    "/api/resources/{id}?as_of_position=0",
    "/api/resources/{id}?as_of_position=999999999",
    "/api/resources/{id}/content",
    "/api/resources/{id}/content?revision=0",
    "/api/resources/{id}/annotations",
    "/api/resources/{id}/annotations/{aid}",
    "/api/resources/{id}/annotations/{aid}/history",
    "/api/resources/{id}/events",
    "/api/resources/{id}/events?order=desc",
    "/api/resources/{id}/events/stream?after=start",
    "/api/resources/{id}/referenced_by",
    "/api/graph/nodes/{id}/neighbors",
    "/api/graph/nodes/annotation:{aid}/neighbors",
];

/// What can be read by the id of a document, `{id}`, and of its job, `{aid}`.
const OF_DOCUMENT: [&str; 7] = [
    "/api/documents/{id}",
    "/api/documents/{id}/text",
    "/api/documents/{id}/structure",
    "/api/documents/{id}/chunks",
    "/api/jobs/{aid}",
    "/api/jobs/{aid}/status",
    "/api/jobs/{aid}/events/stream",
];

fn path_of(pattern: &str, (id, aid): &(String, String)) -> String {
    pattern.replace("{id}", id).replace("{aid}", aid)
}

/// The status of an answer, whose body may have no end.
async fn status_of(client: &Client, path: &str) -> u16 {
    let response = client.request("GET", path).send().await;
    response.expect("an answer").status().as_u16()
}

/// An answer without what differs between any two.
fn comparable(answer: &Answer, ids: &(String, String)) -> (u16, String, String) {
    let mut body = answer.text();
    for id in [&ids.0, &ids.1] {
        body = body.replace(id.as_str(), NEVER);
    }
    if let Ok(mut problem) = serde_json::from_str::<Value>(&body) {
        problem["trace_id"] = Value::Null;
        body = problem.to_string();
    }
    let kind = answer.header("content-type").to_owned();
    (answer.status, kind, body)
}

/// Holds what somebody is told of these ids against what they are told of ids of nothing.
async fn assert_never_there(
    client: &Client,
    method: &str,
    pattern: &str,
    ids: &(String, String),
    body: Option<&Value>,
) {
    let ask = async |ids: &(String, String)| {
        let mut request = client.request(method, &path_of(pattern, ids));
        if let Some(body) = body {
            let body = body
                .to_string()
                .replace("{id}", &ids.0)
                .replace("{aid}", &ids.1);
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        comparable(&client.send(request).await, ids)
    };
    let told = ask(ids).await;
    let nothing = ask(&(NEVER.to_owned(), NEVER.to_owned())).await;
    assert_eq!(told, nothing, "{method} {pattern}");
    assert!((404..500).contains(&told.0), "{method} {pattern}: {told:?}");
}

#[tokio::test]
async fn a_resource_is_read_by_those_who_may_and_was_never_there_for_the_others() {
    let house = House::open().await;
    // What comes first stands at the first position.
    house.olga.create("the first", "of all").await;
    for (access, is_shared) in [(shared(), true), (private(), false)] {
        let word = if is_shared { "Quill" } else { "Vault" };
        let resource = make(&house.olga, &access, word).await;
        let document = bring(&house.olga, &access, word).await;
        caught_up(&house.boss).await;
        for (name, client, reads, _) in house.people() {
            let reads = reads && (is_shared || ["olga", "boss"].contains(&name));
            for (ids, patterns) in [(&resource, &OF_RESOURCE[..]), (&document, &OF_DOCUMENT[..])] {
                for pattern in patterns {
                    if reads {
                        let status = status_of(client, &path_of(pattern, ids)).await;
                        let is_ahead = pattern.ends_with("999999999");
                        let was_not = pattern.ends_with("as_of_position=0");
                        let expected =
                            [200, 404, 422][usize::from(was_not) + 2 * usize::from(is_ahead)];
                        assert_eq!(status, expected, "{name}: {pattern}");
                    } else {
                        assert_never_there(client, "GET", pattern, ids, None).await;
                    }
                }
            }
        }
    }
}

/// What can be changed of a resource, with what is sent and what is answered where it is done.
fn changes() -> Vec<(&'static str, &'static str, Option<Value>, u16)> {
    let annotation =
        json!({ "target": "/api/resources/{id}", "body": { "type": "TextualBody", "value": "x" } });
    let operations =
        json!({ "operations": [{ "op": "add", "item": { "type": "TextualBody", "value": "y" } }] });
    let batch = |operation: Value| Some(json!({ "operations": [operation] }));
    vec![
        (
            "PATCH",
            "/api/resources/{id}",
            Some(json!({ "name": "n" })),
            200,
        ),
        (
            "PUT",
            "/api/resources/{id}/content",
            Some(json!({ "a": 1 })),
            200,
        ),
        ("PUT", "/api/resources/{id}/entity_types/Moon", None, 200),
        ("DELETE", "/api/resources/{id}/entity_types/Moon", None, 200),
        (
            "POST",
            "/api/resources/{id}/annotations",
            Some(annotation),
            201,
        ),
        (
            "PATCH",
            "/api/resources/{id}/annotations/{aid}/body",
            Some(operations),
            200,
        ),
        ("DELETE", "/api/resources/{id}/annotations/{aid}", None, 204),
        (
            "POST",
            "/api/batch",
            batch(
                json!({ "op": "patch_resource", "resource_id": "{id}", "patch": { "language": "en" } }),
            ),
            200,
        ),
        (
            "POST",
            "/api/batch",
            batch(
                json!({ "op": "add_entity_type", "resource_id": "{id}", "entity_type": "Sun",
                "expected_revision": 0 }),
            ),
            409,
        ),
    ]
}

#[tokio::test]
async fn a_change_takes_a_writers_grant_and_what_is_hidden_is_not_there_to_be_changed() {
    let house = House::open().await;
    for (name, client, reads, writes) in house.people() {
        let resource = make(&house.olga, &shared(), "Quill").await;
        for (method, pattern, body, status) in changes() {
            if !reads {
                assert_never_there(client, method, pattern, &resource, body.as_ref()).await;
                continue;
            }
            let body = body.map(|body| body.to_string().replace("{id}", &resource.0));
            let mut request = client.request(method, &path_of(pattern, &resource));
            if let Some(body) = body {
                request = request
                    .header("content-type", "application/json")
                    .body(body);
            }
            let answer = client.send(request).await;
            if writes {
                assert_eq!(
                    answer.status,
                    status,
                    "{name}: {method} {pattern} {}",
                    answer.text()
                );
            } else {
                // Rita's role changes nothing at all.
                answer.expect_problem(403, "ROLE_MISSING");
            }
        }
    }
}

#[tokio::test]
async fn a_writer_who_is_named_to_read_alone_reads_and_clones_and_changes_nothing() {
    let house = House::open().await;
    let access = json!({ "visibility": "shared", "readers": ["nina"] });
    let resource = make(&house.olga, &access, "Quill").await;
    let path = format!("/api/resources/{}", resource.0);
    house.nina.get(&path).await.expect(200);
    for (method, pattern, body, _) in changes() {
        let mut request = house.nina.request(method, &path_of(pattern, &resource));
        if let Some(body) = body {
            let body = body.to_string().replace("{id}", &resource.0);
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        house
            .nina
            .send(request)
            .await
            .expect_problem(403, "GRANT_MISSING");
    }
    let clone = format!("{path}/clone");
    let cloned = house.nina.post(&clone, &json!({})).await.expect(201);
    // The clone is hers alone, and tells her nothing of whom its source is shared with.
    let cloned = format!("/api/resources/{}", text_of(&cloned["id"]));
    let told = house.nina.get(&cloned).await.expect(200);
    assert_eq!(told["access"], private());
    for client in [&house.olga, &house.will] {
        let hidden = client.get(&cloned).await;
        hidden.expect_problem(404, "RESOURCE_NOT_FOUND");
    }
    let body = json!({});
    let hidden = (resource.0.clone(), NEVER.to_owned());
    assert_never_there(
        &house.will,
        "POST",
        "/api/resources/{id}/clone",
        &hidden,
        Some(&body),
    )
    .await;
    let detect = "/api/resources/{id}/detect-annotations-stream";
    assert_never_there(&house.will, "POST", detect, &hidden, None).await;
    let document = bring(&house.olga, &private(), "Vault").await;
    let step = "/api/documents/{id}/steps/chunk";
    assert_never_there(&house.will, "POST", step, &document, None).await;
    for call in ["/api/jobs/{aid}/cancel", "/api/jobs/{aid}/retry"] {
        assert_never_there(&house.will, "POST", call, &document, None).await;
    }
}

/// A clone had the grants of its source, and whoever made it owned it and was told of them.
#[tokio::test]
async fn a_clone_is_open_if_its_source_is_and_else_private_to_who_made_it() {
    let house = House::open().await;
    let open = json!({ "visibility": "tenant" });
    for (access, expected) in [(&open, &open), (&shared(), &private())] {
        let (id, _) = make(&house.olga, access, "Quill").await;
        let path = format!("/api/resources/{id}/clone");
        let cloned = house.will.post(&path, &json!({})).await.expect(201);
        assert_eq!(&cloned["access"], expected);
        let events = format!("/api/resources/{}/events", text_of(&cloned["id"]));
        let told = house.will.get(&events).await.expect(200);
        assert!(!told.to_string().contains("rita"), "{told}");
    }
}

/// A document of which nothing came is begun anew by whoever sends its bytes again, and whoever was
/// named to read it alone could do that.
#[tokio::test]
async fn whoever_only_reads_a_document_does_not_begin_it_anew() {
    let house = House::open().await;
    // No PDF, so nothing comes of it; open at first, so that its id is that of the bytes alone.
    let upload = Upload::of("quill.pdf", "Ulugh Beg wrote of the quill.\n");
    let (job, document) = house.olga.processed(&upload).await;
    assert_eq!(job["status"], "failed", "{job}");
    let id = text_of(&document["id"]);
    let at = format!("/api/resources/{id}/access");
    let access = json!({ "visibility": "shared", "readers": ["nina"], "writers": ["will"] });
    house.olga.json("PUT", &at, &access).await.expect(200);
    let story = format!("/api/events?after=start&stream=document-{id}");
    let jobs = format!("/api/jobs?document_id={id}");
    let told = async || {
        let [story, jobs] = [&story, &jobs].map(|path| house.boss.get(path));
        (story.await.expect(200), jobs.await.expect(200))
    };
    let before = told().await;
    house
        .nina
        .upload(&upload)
        .await
        .expect_problem(403, "GRANT_MISSING");
    let named = Upload::of("quill.md", "Ulugh Beg wrote of the quill.\n");
    house
        .nina
        .upload(&named)
        .await
        .expect_problem(403, "GRANT_MISSING");
    assert_eq!(told().await, before);
    let begun = house.will.upload(&upload).await.expect(202);
    assert_eq!(
        (&begun["deduplicated"], &begun["document_id"]),
        (&json!(false), &document["id"])
    );
}

/// A job that somebody asks to be tried anew; the route takes no body.
async fn tried(who: &Client, retry: &str) -> Answer {
    who.send(who.request("POST", retry)).await
}

/// Whoever had queued a job about a document had it tried anew, whatever was granted to them since.
#[tokio::test]
async fn a_job_is_tried_anew_by_those_who_may_still_write_to_its_document() {
    let house = House::open().await;
    let upload = Upload::of("quill.pdf", "Ulugh Beg wrote of the quill.\n");
    let (_, document) = house.olga.processed(&upload).await;
    let at = format!("/api/resources/{}/access", text_of(&document["id"]));
    house.olga.json("PUT", &at, &shared()).await.expect(200);
    let begun = house.will.upload(&upload).await.expect(202);
    let job = text_of(&begun["job_id"]).to_owned();
    let retry = format!("/api/jobs/{job}/retry");
    assert_eq!(house.will.ended(&job).await["status"], "failed");
    tried(&house.will, &retry).await.expect(202);
    assert_eq!(house.will.ended(&job).await["status"], "failed");
    let reads = json!({ "visibility": "shared", "readers": ["will"] });
    for (access, status, code) in [
        (reads, 403, "GRANT_MISSING"),
        (private(), 404, "JOB_NOT_FOUND"),
    ] {
        house.olga.json("PUT", &at, &access).await.expect(200);
        let refused = tried(&house.will, &retry).await;
        refused.expect_problem(status, code);
    }
    tried(&house.boss, &retry).await.expect(202);
}

/// The admin of the tenant that the server was started for was told of all of them.
#[tokio::test]
async fn tenants_are_told_of_to_whoever_operates_the_server_alone() {
    let data = tempfile::tempdir().expect("a directory");
    let made = command(&["tenant", "create", "north"])
        .arg("--data")
        .arg(data.path())
        .output();
    assert!(made.expect("it runs").status.success());
    let token = |role: &str, tenant: &str| {
        let made = create_token(data.path(), role, &["--tenant", tenant]);
        text_of(&made["token"]).to_owned()
    };
    let tokens = [
        token("operator", "default"),
        token("admin", "default"),
        token("admin", "north"),
    ];
    let server = Server::builder().data(data.path()).start();
    let [operator, first, north] = tokens.map(|token| Client::showing(server.url(), Some(&token)));
    north.create("one", "content").await;
    let told = operator.get("/api/health").await.expect(200);
    assert_eq!(told["tenants"]["open"], 1, "{told}");
    let told = operator.get("/metrics").await.text();
    assert!(told.contains("tenant=\"north\""), "{told}");
    let told = first.get("/api/health").await.expect(200);
    assert_eq!(told.get("tenants"), None, "{told}");
    let told = first.get("/metrics").await.text();
    assert!(!told.contains("stemma_tenant"), "{told}");
}

#[tokio::test]
async fn its_owner_and_admins_say_who_may_and_are_told_and_nobody_else() {
    let house = House::open().await;
    let (id, _) = make(&house.olga, &shared(), "Quill").await;
    let path = format!("/api/resources/{id}");
    let at = format!("{path}/access");
    for client in [&house.olga, &house.boss] {
        assert_eq!(client.get(&path).await.expect(200)["access"], shared());
        let told = client.get(&format!("{path}/events")).await.expect(200);
        assert_eq!(told["items"][0]["data"]["access"], shared());
    }
    for client in [&house.rita, &house.will] {
        assert!(client.get(&path).await.expect(200).get("access").is_none());
        let told = client.get(&format!("{path}/events")).await.expect(200);
        assert!(told["items"][0]["data"].get("access").is_none(), "{told}");
        assert_eq!(told["items"][0]["data"]["byte_size"], 22);
    }
    let refused = house.will.json("PUT", &at, &private()).await;
    refused.expect_problem(403, "GRANT_MISSING");
    let never = ("PUT", "/api/resources/{id}/access", Some(private()));
    let ids = (id.clone(), NEVER.to_owned());
    assert_never_there(&house.nina, never.0, never.1, &ids, never.2.as_ref()).await;
}

#[tokio::test]
async fn grants_are_checked_kept_as_they_are_and_changed_at_a_revision() {
    let house = House::open().await;
    let (id, _) = make(&house.olga, &shared(), "Quill").await;
    let path = format!("/api/resources/{id}");
    let at = format!("{path}/access");
    for (field, wrong) in [
        ("visibility", json!({})),
        ("visibility", json!({ "visibility": "all" })),
        (
            "readers",
            json!({ "visibility": "private", "readers": ["rita"] }),
        ),
        (
            "writers",
            json!({ "visibility": "tenant", "writers": ["rita"] }),
        ),
        (
            "readers/0",
            json!({ "visibility": "shared", "readers": ["a b"] }),
        ),
        ("owner", json!({ "visibility": "shared", "owner": "will" })),
    ] {
        let problem = house.olga.json("PUT", &at, &wrong).await;
        let problem = problem.expect_problem(422, "INVALID_FIELDS");
        assert_eq!(
            problem["errors"][0]["pointer"],
            format!("/{field}"),
            "{problem}"
        );
    }
    let stale = [("if-match", "\"r0\""), ("content-type", "application/json")];
    let moved = house
        .olga
        .raw("PUT", &at, &stale, private().to_string())
        .await;
    moved.expect_problem(412, "PRECONDITION_FAILED");
    let keyed = [
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    let first = house
        .olga
        .raw("PUT", &at, &keyed, private().to_string())
        .await;
    assert_eq!(first.expect(200)["access"], private());
    house
        .rita
        .get(&path)
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
    let again = house
        .olga
        .raw("PUT", &at, &keyed, private().to_string())
        .await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(200), first.expect(200));
    // As it is already: nothing happens.
    let same = house.boss.json("PUT", &at, &private()).await;
    assert_eq!(same.header("etag"), first.header("etag"));
    let open = house
        .boss
        .json("PUT", &at, &json!({ "visibility": "tenant" }))
        .await;
    open.expect(200);
    let told = house
        .nina
        .get(&format!("{path}/events?order=desc"))
        .await
        .expect(200);
    assert_eq!(told["items"][0]["type"], "resource.access_changed");
    assert_eq!(told["items"][0]["data"], json!({}));
    assert!(!told.to_string().contains("rita"), "{told}");
}

#[tokio::test]
async fn what_was_written_is_not_told_again_to_whoever_lost_the_resource() {
    let house = House::open().await;
    let (id, _) = make(&house.olga, &shared(), "Quill").await;
    let path = format!("/api/resources/{id}");
    let headers = [
        ("idempotency-key", "k1"),
        ("content-type", "application/json"),
    ];
    let rename = json!({ "name": "by will" }).to_string();
    let first = house
        .will
        .raw("PATCH", &path, &headers, rename.clone())
        .await;
    assert!(first.expect(200).get("access").is_none());
    let again = house
        .will
        .raw("PATCH", &path, &headers, rename.clone())
        .await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    let at = format!("{path}/access");
    house.olga.json("PUT", &at, &private()).await.expect(200);
    let lost = house.will.raw("PATCH", &path, &headers, rename).await;
    lost.expect_problem(404, "RESOURCE_NOT_FOUND");
    // A worker reads what jobs are about, whose ever it is, and nothing else.
    let made = json!({ "principal": "walt", "role": "worker" });
    let made = house
        .boss
        .post("/api/admin/tokens", &made)
        .await
        .expect(201);
    let walt = Client::showing(house.server.url(), Some(text_of(&made["token"])));
    assert_eq!(walt.get(&format!("{path}/content")).await.status, 200);
    walt.get(&path).await.expect_problem(403, "ROLE_MISSING");
}

#[tokio::test]
async fn without_tokens_everybody_is_as_an_admin() {
    let server = Server::start();
    let client = server.client();
    let (id, _) = make(&client, &private(), "Vault").await;
    let path = format!("/api/resources/{id}");
    assert_eq!(client.get(&path).await.expect(200)["access"], private());
    let open = client.create("open", "text").await;
    assert_eq!(open["access"], json!({ "visibility": "tenant" }));
    assert!(client.get("/api/graph/stats").await.expect(200)["nodes"].is_object());
    let listed = client
        .get("/api/resources?entity_type=VaultType")
        .await
        .expect(200);
    assert_eq!(listed["items"][0]["id"], id);
}
