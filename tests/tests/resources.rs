//! Resources over HTTP: their lives from creation to archive, and what is refused (row A1).

use serde_json::{Value, json};
use stemma_tests::{Client, Server};

const UNKNOWN: &str = "/api/resources/019a0000-0000-7000-8000-00000000ffff";

fn path(resource: &Value) -> String {
    format!("/api/resources/{}", resource["id"].as_str().expect("an id"))
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("a page");
    let name = |item: &Value| item["name"].as_str().expect("a name").to_owned();
    items.iter().map(name).collect()
}

#[tokio::test]
async fn a_resource_is_created_read_renamed_tagged_and_archived() {
    let server = Server::start();
    let client = server.client();
    let body = json!({
        "name": "Moons", "media_type": "text/plain", "content": "four moons",
        "entity_types": ["Note"], "language": "en", "collection": "letters",
        "metadata": { "year": 1610, "big": 9_007_199_254_740_993_i64 },
    });
    let created = client.post("/api/resources", &body).await;
    let descriptor = created.expect(201);
    assert_eq!(created.header("location"), path(&descriptor));
    assert_eq!(created.header("etag"), "\"r0\"");
    assert_eq!(descriptor["metadata"]["big"], 9_007_199_254_740_993_i64);
    assert_eq!(descriptor["byte_size"], 10);
    assert_eq!(descriptor["revision"], 0);
    let read = client.get(&path(&descriptor)).await;
    assert_eq!(read.expect(200), descriptor);
    assert!(read.position() >= created.position());

    let patch = json!({ "name": "Medicean stars", "metadata": { "year": null, "checked": true }, "archived": true });
    let patched = client.json("PATCH", &path(&descriptor), &patch).await;
    let now = patched.expect(200);
    assert_eq!(now["name"], "Medicean stars");
    assert_eq!(
        now["metadata"],
        json!({ "big": 9_007_199_254_740_993_i64, "checked": true })
    );
    assert_eq!(now["archived"], true);
    assert_eq!(now["revision"], 3, "one event for each kind of change");
    assert_eq!(patched.header("etag"), "\"r3\"");

    let tag = format!("{}/entity_types/Discovery", path(&descriptor));
    assert_eq!(
        client.raw("PUT", &tag, &[], "").await.expect(200)["revision"],
        4
    );
    assert_eq!(
        client.raw("PUT", &tag, &[], "").await.expect(200)["revision"],
        4
    );
    let untagged = client.raw("DELETE", &tag, &[], "").await.expect(200);
    assert_eq!(untagged["entity_types"], json!(["Note"]));

    assert!(names(&client.get("/api/resources").await.expect(200)).is_empty());
    let archived = client.get("/api/resources?archived=true").await.expect(200);
    assert_eq!(names(&archived), ["Medicean stars"]);
    let back = json!({ "archived": false });
    client
        .json("PATCH", &path(&descriptor), &back)
        .await
        .expect(200);
    assert_eq!(
        names(&client.get("/api/resources").await.expect(200)),
        ["Medicean stars"]
    );
}

#[tokio::test]
async fn an_id_of_the_clients_own_is_taken_once() {
    let server = Server::start();
    let client = server.client();
    let body = json!({ "id": "00000000-0000-4000-8000-000000000001", "name": "n", "media_type": "text/plain", "content": "" });
    assert_eq!(
        client.post("/api/resources", &body).await.expect(201)["id"],
        body["id"]
    );
    client
        .post("/api/resources", &body)
        .await
        .expect_problem(409, "ALREADY_EXISTS");
}

#[tokio::test]
async fn every_wrong_field_is_named_by_a_pointer() {
    let server = Server::start();
    let client = server.client();
    let body = json!({ "name": "", "media_type": "no type", "content": "a", "content_base64": "YQ==", "colour": 1, "metadata": [] });
    let problem = client
        .post("/api/resources", &body)
        .await
        .expect_problem(422, "INVALID_FIELDS");
    let errors = problem["errors"].as_array().expect("errors");
    let mut pointers: Vec<_> = errors
        .iter()
        .map(|e| e["pointer"].as_str().expect("a pointer"))
        .collect();
    pointers.sort_unstable();
    pointers.dedup();
    for pointer in ["/colour", "/media_type", "/metadata", "/name"] {
        assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_or_too_much_are_refused() {
    let server = Server::builder()
        .env("STEMMA_HTTP__BODY_BYTES_MAX", "2048")
        .start();
    let client = server.client();
    let json_type = [("content-type", "application/json")];
    let post = async |body: &str| client.raw("POST", "/api/resources", &json_type, body).await;
    post("{\"name\": ")
        .await
        .expect_problem(400, "MALFORMED_JSON");
    post("").await.expect_problem(400, "MALFORMED_JSON");
    post("[]").await.expect_problem(422, "INVALID_FIELDS");
    post(&format!("{{\"name\": \"{}\"}}", "n".repeat(4000)))
        .await
        .expect_problem(413, "BODY_TOO_LARGE");
    post("{\"name\":\"a\",\"name\":\"b\"}")
        .await
        .expect_problem(422, "REPEATED_KEY");
    post("{\"name\":\"a\",\"media_type\":\"text/plain\",\"content\":\"\",\"metadata\":{\"n\":18446744073709551616}}")
        .await
        .expect_problem(422, "INTEGER_OUT_OF_RANGE");
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(500), "]".repeat(500));
    post(&deep).await.expect_problem(422, "TOO_DEEP");
    let wrong = [("content-type", "application/xml")];
    let answer = client.raw("POST", "/api/resources", &wrong, "<a/>").await;
    answer.expect_problem(415, "UNSUPPORTED_MEDIA_TYPE");
}

#[tokio::test]
async fn unknown_routes_methods_ids_and_parameters_get_problems() {
    let server = Server::start();
    let client = server.client();
    client
        .get("/api/nothing")
        .await
        .expect_problem(404, "ROUTE_NOT_FOUND");
    client.get("/").await;
    let wrong = client.raw("DELETE", "/api/resources", &[], "").await;
    wrong.expect_problem(405, "METHOD_NOT_ALLOWED");
    assert!(
        wrong.header("allow").contains("POST"),
        "{:?}",
        wrong.headers
    );
    client
        .get(UNKNOWN)
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
    client
        .get(&format!("{UNKNOWN}/content"))
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
    client
        .get(&format!("{UNKNOWN}/events"))
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
    client
        .get(&format!("{UNKNOWN}/annotations"))
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
    client
        .get("/api/resources/nonsense")
        .await
        .expect_problem(422, "INVALID_ID");
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "colour=red",
        "sort=size",
        "archived=maybe",
        "created_after=yesterday",
    ] {
        let answer = client.get(&format!("/api/resources?{query}")).await;
        answer.expect_problem(422, "INVALID_PARAMETERS");
    }
    client
        .get("/api/resources?cursor=zz")
        .await
        .expect_problem(422, "INVALID_CURSOR");
    client
        .get("/api/resources?q=%ff")
        .await
        .expect_problem(400, "MALFORMED_QUERY");
    let accept = [("accept", "image/png")];
    client
        .get_with("/api/resources", &accept)
        .await
        .expect_problem(406, "NOT_ACCEPTABLE");
}

#[tokio::test]
async fn if_match_guards_a_write_by_revision_or_by_digest() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("guarded", "one").await;
    let patch = async |tag: &str, name: &str| {
        let headers = [
            ("if-match", tag),
            ("content-type", "application/merge-patch+json"),
        ];
        let body = json!({ "name": name }).to_string();
        client.raw("PATCH", &path(&made), &headers, body).await
    };
    patch("\"r0\"", "by revision").await.expect(200);
    patch("\"r0\"", "too late")
        .await
        .expect_problem(412, "PRECONDITION_FAILED");
    let digest = format!("\"{}\"", made["digest"].as_str().expect("a digest"));
    patch(&digest, "by digest").await.expect(200);
    patch(&format!("\"r9\", {digest}"), "by either")
        .await
        .expect(200);
    patch("*", "by any").await.expect(200);
    patch("r0", "unquoted")
        .await
        .expect_problem(400, "MALFORMED_HEADER");
    assert_eq!(client.get(&path(&made)).await.expect(200)["name"], "by any");
    let tag = client.get(&path(&made)).await.header("etag").to_owned();
    let fresh = client
        .get_with(&path(&made), &[("if-none-match", &tag)])
        .await;
    assert_eq!((fresh.status, fresh.bytes.len()), (304, 0));
}

#[tokio::test]
async fn lists_are_paged_without_gaps_while_others_write() {
    let server = Server::start();
    let client = server.client();
    for number in 0..25 {
        client.create(&format!("n{number:02}"), "text").await;
    }
    for sort in ["created_at", "-created_at", "name"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let query = format!("/api/resources?sort={sort}&limit=4{cursor}");
            let page = client.get(&query).await.expect(200);
            seen.extend(names(&page));
            if sort == "-created_at" {
                client.create("later", "text").await;
            }
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        let seen: Vec<_> = seen.into_iter().filter(|name| name != "later").collect();
        let mut expected: Vec<_> = (0..25).map(|number| format!("n{number:02}")).collect();
        if sort == "-created_at" {
            expected.reverse();
        }
        assert_eq!(seen, expected, "sorted by {sort}");
    }
}

#[tokio::test]
async fn lists_are_filtered_by_type_collection_name_and_time() {
    let server = Server::start();
    let client = server.client();
    let make = async |name: &str, types: &[&str], collection: &str| {
        let body = json!({ "name": name, "media_type": "text/plain", "content": name, "entity_types": types, "collection": collection });
        client.post("/api/resources", &body).await.expect(201)
    };
    make("Kepler", &["Person"], "people").await;
    make("Io", &["Moon", "Place"], "bodies").await;
    let last = make("Europa", &["Moon"], "bodies").await;
    let list = async |query: &str| {
        let answer = client
            .get(&format!("/api/resources?sort=name&{query}"))
            .await;
        assert_eq!(answer.header("stemma-source"), "views");
        names(&answer.expect(200))
    };
    assert_eq!(list("entity_type=Moon").await, ["Europa", "Io"]);
    assert_eq!(list("entityType=Moon&entity_type=Place").await, ["Io"]);
    assert_eq!(list("collection=bodies").await, ["Europa", "Io"]);
    assert_eq!(list("collection=people&entity_type=Moon").await, [""; 0]);
    assert_eq!(list("q=kep").await, ["Kepler"]);
    assert_eq!(list("q=NOTHING%20LIKE").await, Vec::<String>::new());
    let created = last["created_at"].as_str().expect("a time");
    assert_eq!(list(&format!("created_after={created}")).await, [""; 0]);
    let types = client.get("/api/entity_types").await.expect(200);
    let count = |name: &str| {
        let items = types["items"].as_array().expect("items");
        items
            .iter()
            .find(|item| item["name"] == name)
            .map(|item| item["count"].clone())
    };
    assert_eq!(
        (count("Moon"), count("Person")),
        (Some(json!(2)), Some(json!(1)))
    );
    let registered = json!({ "name": "Comet", "description": "A body with a tail" });
    client
        .post("/api/entity_types", &registered)
        .await
        .expect(201);
    let types = client.get("/api/entity_types").await.expect(200);
    let comet = types["items"]
        .as_array()
        .expect("items")
        .iter()
        .find(|item| item["name"] == "Comet")
        .cloned();
    assert_eq!(comet.expect("registered")["count"], 0);
}

#[tokio::test]
async fn a_clone_shares_the_content_and_names_its_source() {
    let server = Server::start();
    let client = server.client();
    let source = client.create("source", "shared bytes").await;
    let annotation = json!({ "body": "http://example.org/b", "target": { "selector": { "type": "TextQuoteSelector", "exact": "shared" } } });
    client
        .post(&format!("{}/annotations", path(&source)), &annotation)
        .await
        .expect(201);
    let clone = client
        .raw("POST", &format!("{}/clone", path(&source)), &[], "")
        .await
        .expect(201);
    assert_eq!(
        (&clone["digest"], &clone["derived_from"]),
        (&source["digest"], &source["id"])
    );
    assert_eq!(clone["annotation_count"], 0);
    let body = json!({ "name": "copy", "with_annotations": true });
    let copy = client
        .post(&format!("{}/clone", path(&source)), &body)
        .await
        .expect(201);
    assert_eq!(
        (copy["name"].as_str(), copy["annotation_count"].as_u64()),
        (Some("copy"), Some(1))
    );
    let referenced = client
        .get(&format!("{}/referenced_by", path(&source)))
        .await
        .expect(200);
    let relations: Vec<_> = referenced["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["relation"].clone())
        .collect();
    assert_eq!(relations, ["derived_from", "derived_from"]);
}

#[tokio::test]
async fn the_past_of_a_resource_is_there_to_be_read() {
    let server = Server::start();
    let client = server.client();
    let made = client
        .post(
            "/api/resources",
            &json!({ "name": "first", "media_type": "text/plain", "content": "a" }),
        )
        .await;
    let descriptor = made.expect(201);
    client.create("in between", "b").await;
    let renamed = client
        .json("PATCH", &path(&descriptor), &json!({ "name": "second" }))
        .await;
    let renamed_at = renamed.expect(200)["updated_at"]
        .as_str()
        .expect("a time")
        .to_owned();
    let name = async |query: String| {
        client
            .get(&format!("{}?{query}", path(&descriptor)))
            .await
            .expect(200)["name"]
            .clone()
    };
    assert_eq!(name("as_of_revision=0".into()).await, "first");
    assert_eq!(name("as_of_revision=1".into()).await, "second");
    assert_eq!(
        name(format!("as_of_position={}", made.position() + 1)).await,
        "first"
    );
    assert_eq!(
        name(format!("as_of_position={}", renamed.position())).await,
        "second"
    );
    assert_eq!(name(format!("as_of={renamed_at}")).await, "second");
    let created_at = descriptor["created_at"].as_str().expect("a time");
    assert_eq!(name(format!("as_of={created_at}")).await, "first");
    let at = async |query: &str| client.get(&format!("{}?{query}", path(&descriptor))).await;
    at("as_of_revision=2")
        .await
        .expect_problem(422, "NOT_HAPPENED_YET");
    at("as_of_position=99")
        .await
        .expect_problem(422, "NOT_HAPPENED_YET");
    at("as_of=2999-01-01T00:00:00Z")
        .await
        .expect_problem(422, "NOT_HAPPENED_YET");
    at("as_of=1999-01-01T00:00:00Z")
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
    at("as_of=soon")
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
    at("as_of_revision=0&as_of_position=0")
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
}

#[tokio::test]
async fn json_ld_is_given_when_asked_for() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("linked", "data").await;
    let answer = client
        .get_with(&path(&made), &[("accept", "application/ld+json")])
        .await;
    let linked = answer.expect(200);
    assert_eq!(answer.header("content-type"), "application/ld+json");
    assert!(
        linked["@context"].is_object()
            || linked["@context"].is_string()
            || linked["@context"].is_array()
    );
    assert!(linked["@id"].is_string() || linked["id"].is_string());
}

/// Row A11: the first answer again, across restarts.
#[tokio::test]
async fn the_same_key_gives_the_first_answer_again_even_after_a_restart() {
    let mut server = Server::start();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k-1"),
    ];
    let body = json!({ "name": "once", "media_type": "text/plain", "content": "x" }).to_string();
    let post = async |client: &Client, body: String| {
        client.raw("POST", "/api/resources", &headers, body).await
    };
    let client = server.client();
    let first = post(&client, body.clone()).await;
    let made = first.expect(201);
    client
        .json("PATCH", &path(&made), &json!({ "name": "changed since" }))
        .await
        .expect(200);
    let hold = |again: &stemma_tests::Answer| {
        assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.position(), first.position());
    };
    hold(&post(&client, body.clone()).await);
    server.kill();
    let server = Server::builder().data(server.data()).start();
    let client = server.client();
    hold(&post(&client, body.clone()).await);
    let other = json!({ "name": "other", "media_type": "text/plain", "content": "x" }).to_string();
    post(&client, other)
        .await
        .expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
    let listed = client.get("/api/resources?archived=any").await.expect(200);
    assert_eq!(names(&listed), ["changed since"]);
}

#[tokio::test]
async fn a_read_waits_for_the_position_it_names() {
    let server = Server::start();
    let client = server.client();
    let made = client
        .post(
            "/api/resources",
            &json!({ "name": "n", "media_type": "text/plain", "content": "" }),
        )
        .await;
    let at = made.position();
    let answer = client
        .get(&format!("/api/resources?min_position={at}"))
        .await;
    assert!(answer.position() >= at);
    let ahead = client
        .get(&format!(
            "/api/resources?min_position={}&timeout_ms=1",
            at + 1
        ))
        .await;
    ahead.expect_problem(503, "NOT_YET");
    assert!(!ahead.header("retry-after").is_empty());
}

#[tokio::test]
async fn the_trace_of_a_request_is_given_back_and_stands_in_its_events() {
    let server = Server::start();
    let client = server.client();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = json!({ "name": "n", "media_type": "text/plain", "content": "" }).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", parent),
    ];
    let made = client.raw("POST", "/api/resources", &headers, body).await;
    let descriptor = made.expect(201);
    assert_eq!(
        made.header("x-request-id"),
        "0af7651916cd43dd8448eb211c80319c"
    );
    let events = client
        .get(&format!("{}/events", path(&descriptor)))
        .await
        .expect(200);
    assert_eq!(
        events["items"][0]["trace_id"],
        "0af7651916cd43dd8448eb211c80319c"
    );
    let named = client
        .get_with("/api/resources", &[("x-request-id", "my-id.1")])
        .await;
    assert_eq!(named.header("x-request-id"), "my-id.1");
}

#[tokio::test]
async fn a_list_is_narrowed_by_a_text_in_names_or_content_page_by_page() {
    let server = Server::start();
    let client = server.client();
    for number in 0..7 {
        let text = if number % 2 == 0 {
            "He saw the \u{c4}ther."
        } else {
            "Nothing here."
        };
        client.create(&format!("n{number}"), text).await;
    }
    client.create("On \u{e4}ther", "x").await;
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client
            .get(&format!("/api/resources?q=%C3%84THER&limit=2{cursor}"))
            .await
            .expect(200);
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        found.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().expect("a name").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["n0", "n2", "n4", "n6", "On \u{e4}ther"]);
    let first = client
        .get("/api/resources?q=%C3%84THER&limit=2")
        .await
        .expect(200);
    let next = first["next_cursor"].as_str().expect("there is more");
    let other = client
        .get(&format!("/api/resources?q=nothing&limit=2&cursor={next}"))
        .await;
    other.expect_problem(422, "INVALID_CURSOR");
}

#[tokio::test]
async fn a_clone_of_what_has_moved_on_is_refused() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let path = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    client
        .json("PATCH", &path, &json!({ "name": "b" }))
        .await
        .expect(200);
    let clone = format!("{path}/clone");
    let refused = client
        .raw("POST", &clone, &[("if-match", "\"r0\"")], "")
        .await;
    refused.expect_problem(412, "PRECONDITION_FAILED");
    client
        .raw("POST", &clone, &[("if-match", "\"r1\"")], "")
        .await
        .expect(201);
}

#[tokio::test]
async fn an_entity_type_is_registered_once_and_keeps_what_was_said_of_it() {
    let server = Server::start();
    let client = server.client();
    let register = async |body: Value| client.post("/api/entity_types", &body).await.expect(201);
    let count = async || {
        let page = client.get("/api/events").await.expect(200);
        page["items"].as_array().expect("events").len()
    };
    let moon = json!({ "name": "Moon", "description": "It goes round a planet" });
    for _ in 0..2 {
        assert_eq!(
            register(moon.clone()).await["description"],
            moon["description"]
        );
        assert_eq!(count().await, 1);
    }
    let silent = register(json!({ "name": "Moon" })).await;
    assert_eq!(silent["description"], moon["description"]);
    assert_eq!(count().await, 1);
    let erased = register(json!({ "name": "Moon", "description": null })).await;
    assert_eq!((erased.get("description"), count().await), (None, 2));
    // A type that is only used is registered by this for the first time.
    let made = client.create("a", "x").await;
    let tag = format!("{}/entity_types/Star", path(&made));
    client.raw("PUT", &tag, &[], "").await.expect(200);
    assert_eq!(register(json!({ "name": "Star" })).await["count"], 1);
    assert_eq!(count().await, 5);
    // The same again under a key, and the key again.
    let again = json!({ "name": "Star", "description": "It shines" });
    for replayed in ["", "true"] {
        let key = [
            ("idempotency-key", "k"),
            ("content-type", "application/json"),
        ];
        let body = again.to_string();
        let answer = client.raw("POST", "/api/entity_types", &key, body).await;
        assert_eq!(answer.expect(201)["description"], again["description"]);
        assert_eq!(answer.header("idempotency-replayed"), replayed);
    }
    let other = [
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    let refused = client
        .raw("POST", "/api/entity_types", &other, moon.to_string())
        .await;
    refused.expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
    // The first answer, whatever others said of the type since.
    register(json!({ "name": "Star", "description": "It burns" })).await;
    let first = client
        .raw("POST", "/api/entity_types", &other, again.to_string())
        .await;
    assert_eq!(first.expect(201)["description"], again["description"]);
    assert_eq!(first.header("idempotency-replayed"), "true");
}
