//! Annotations of the W3C model over HTTP: their shapes, and where they hold on (row A3).

use serde_json::{Value, json};
use stemma_tests::{Client, Server};

const TEXT: &str = "Jupiter has four large moons, and 🪐 Saturn has rings.";

fn annotations(resource: &Value) -> String {
    format!(
        "/api/resources/{}/annotations",
        resource["id"].as_str().expect("an id")
    )
}

async fn anchoring(client: &Client, resource: &Value) -> Value {
    let page = client.get(&annotations(resource)).await.expect(200);
    page["items"][0]["anchoring"][0].clone()
}

async fn revise(client: &Client, resource: &Value, text: &str) {
    let path = format!(
        "/api/resources/{}/content",
        resource["id"].as_str().expect("an id")
    );
    client
        .raw("PUT", &path, &[("content-type", "text/plain")], text)
        .await
        .expect(200);
}

fn quote(exact: &str) -> Value {
    json!({ "target": { "selector": { "type": "TextQuoteSelector", "exact": exact } } })
}

#[tokio::test]
async fn every_valid_shape_is_taken_and_extensions_come_back() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let own = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    let shapes = [
        json!({ "target": own }),
        json!({ "body": "http://example.org/b", "target": format!("{}{own}", server.url()) }),
        json!({ "body": ["http://example.org/a", { "type": "TextualBody", "value": "v", "x:colour": { "deep": [1, 2.5, null] } }], "target": [own, "http://example.org/elsewhere"] }),
        json!({ "bodyValue": "plain", "target": { "source": own } }),
        json!({ "x:rating": 5, "motivation": ["tagging", "linking"], "target": { "source": own, "selector": [
            { "type": "CssSelector", "value": "p" },
            { "type": "XPathSelector", "value": "/p[1]", "refinedBy": { "type": "TextQuoteSelector", "exact": "four" } },
            { "type": "FragmentSelector", "value": "char=0,7", "conformsTo": "http://tools.ietf.org/rfc/rfc5147" },
            { "type": "DataPositionSelector", "start": 0, "end": 7 },
            { "type": "SvgSelector", "value": "<svg/>" },
            { "type": "RangeSelector", "startSelector": { "type": "XPathSelector", "value": "/p" }, "endSelector": { "type": "XPathSelector", "value": "/q" } },
        ] } }),
        json!({ "body": { "type": "Choice", "items": ["http://example.org/1", "http://example.org/2"] }, "target": own,
            "creator": { "id": "http://example.org/me", "type": "Person", "name": "Me" },
            "generator": "http://example.org/tool", "rights": "http://example.org/rights" }),
    ];
    for shape in shapes {
        let answer = client.post(&annotations(&made), &shape).await;
        let stored = answer.expect(201);
        for (key, value) in shape.as_object().expect("an object") {
            if key != "target" {
                assert_eq!(&stored[key], value, "{key}");
            }
        }
        let one = client.get(answer.header("location")).await.expect(200);
        assert_eq!(one["id"], stored["id"]);
        assert_eq!(one["@context"], "http://www.w3.org/ns/anno.jsonld");
        assert_eq!(one["type"], "Annotation");
    }
    let count = client.get(&own).await.expect(200)["annotation_count"].clone();
    assert_eq!(count, 6);
}

#[tokio::test]
async fn what_the_model_forbids_is_refused_with_pointers() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let selector = |selector: Value| json!({ "target": { "selector": selector } });
    for (wrong, pointer) in [
        (json!({ "body": 5, "target": {} }), "/body"),
        (
            json!({ "bodyValue": "a", "body": "http://example.org/b", "target": {} }),
            "/bodyValue",
        ),
        (json!({ "target": [] }), "/target"),
        (json!({ "target": "not an iri" }), "/target"),
        (json!({ "type": "Note", "target": {} }), "/type"),
        (
            selector(json!({ "type": "TextQuoteSelector" })),
            "/target/selector/exact",
        ),
        (
            selector(json!({ "type": "TextPositionSelector", "start": 5, "end": 2 })),
            "/target/selector",
        ),
        (
            selector(json!({ "type": "TextPositionSelector", "start": 0, "end": 9999 })),
            "/target/selector",
        ),
        (
            selector(json!({ "type": "TextQuoteSelector", "exact": "five small moons" })),
            "/target/selector",
        ),
        (
            selector(json!([
                { "type": "TextQuoteSelector", "exact": "four" },
                { "type": "TextPositionSelector", "start": 0, "end": 7 },
            ])),
            "/target/selector",
        ),
        // Two quotes each, and a thousand is the most.
        (
            json!({ "target": { "type": "Choice", "items": vec![json!({ "selector": [
                { "type": "TextQuoteSelector", "exact": "four" },
                { "type": "TextQuoteSelector", "exact": "moons" },
            ] }); 501] } }),
            "/target",
        ),
    ] {
        let answer = client.post(&annotations(&made), &wrong).await;
        let problem = answer.expect_problem(422, "INVALID_ANNOTATION");
        let errors = problem["errors"].as_array().expect("errors");
        let is_named = errors.iter().any(|e| {
            e["pointer"]
                .as_str()
                .is_some_and(|at| at.starts_with(pointer))
        });
        assert!(is_named, "{pointer} in {problem} for {wrong}");
    }
    let page = client.get(&annotations(&made)).await.expect(200);
    assert_eq!(page["items"], json!([]));
}

#[tokio::test]
async fn positions_count_code_points_and_utf16_on_request() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let at = TEXT.chars().position(|c| c == 'S').expect("Saturn");
    let by_position = json!({ "target": { "selector": { "type": "TextPositionSelector", "start": at, "end": at + 6 } } });
    let stored = client
        .post(&annotations(&made), &by_position)
        .await
        .expect(201);
    let selectors = stored["target"]["selector"]
        .as_array()
        .expect("position and quote");
    let quote = selectors
        .iter()
        .find(|s| s["type"] == "TextQuoteSelector")
        .expect("a quote");
    assert_eq!(
        (&quote["exact"], &quote["suffix"]),
        (&json!("Saturn"), &json!(" has rings."))
    );
    let utf16 = format!("{}?offsets=utf16", annotations(&made));
    let page = client.get(&utf16).await.expect(200);
    assert_eq!(
        page["items"][0]["anchoring"][0]["start"],
        at + 1,
        "the planet takes two units"
    );
    // It is looked for where it is stored to be, whatever the unit of the answer.
    assert_eq!(page["items"][0]["anchoring"][0]["status"], "exact");
    let units = json!({ "target": { "selector": { "type": "TextPositionSelector", "start": at + 1, "end": at + 7 } } });
    let stored = client.post(&utf16, &units).await.expect(201);
    assert_eq!(stored["anchoring"][0]["status"], "exact");
    let id = stored["annotation_id"].as_str().expect("an id");
    let read = client
        .get(&format!("{}/{id}", annotations(&made)))
        .await
        .expect(200);
    assert_eq!(read["anchoring"][0]["start"], at);
}

#[tokio::test]
async fn anchors_move_fade_are_orphaned_and_come_back() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    client
        .post(&annotations(&made), &quote("four large moons"))
        .await
        .expect(201);
    let exact = anchoring(&client, &made).await;
    assert_eq!(
        (&exact["status"], &exact["start"], &exact["score"]),
        (&json!("exact"), &json!(12), &json!(1.0))
    );
    revise(&client, &made, &format!("Galileo saw that {TEXT}")).await;
    let moved = anchoring(&client, &made).await;
    assert_eq!(
        (&moved["status"], &moved["start"]),
        (&json!("moved"), &json!(29))
    );
    revise(
        &client,
        &made,
        "Jupiter has four largest moons, and Saturn has rings.",
    )
    .await;
    let fuzzy = anchoring(&client, &made).await;
    assert_eq!(fuzzy["status"], "fuzzy");
    assert!(fuzzy["score"].as_f64().expect("a score") < 1.0);
    revise(&client, &made, "Nothing of the kind is said here any more.").await;
    let orphaned = anchoring(&client, &made).await;
    assert_eq!(orphaned["status"], "orphaned");
    assert!(orphaned["start"].is_null() && orphaned["end"].is_null());
    revise(&client, &made, TEXT).await;
    assert_eq!(anchoring(&client, &made).await["status"], "exact");
}

#[tokio::test]
async fn a_body_is_changed_item_by_item_and_an_annotation_is_removed() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let stored = client
        .post(&annotations(&made), &quote("four"))
        .await
        .expect(201);
    let id = stored["annotation_id"].as_str().expect("an id");
    let one = format!("{}/{id}", annotations(&made));
    let item = json!({ "type": "TextualBody", "value": "seen in 1610" });
    let patch = async |operations: Value| {
        client
            .json(
                "PATCH",
                &format!("{one}/body"),
                &json!({ "operations": operations }),
            )
            .await
    };
    patch(json!([{ "op": "add", "item": item }]))
        .await
        .expect(200);
    let other = json!({ "value": "seen in 1611", "type": "TextualBody" });
    patch(json!([{ "op": "replace", "old_item": item, "new_item": other }]))
        .await
        .expect(200);
    patch(json!([{ "op": "remove", "item": item }]))
        .await
        .expect_problem(422, "ITEM_NOT_IN_BODY");
    patch(json!([{ "op": "paint", "item": item }]))
        .await
        .expect_problem(422, "INVALID_FIELDS");
    let read = client.get(&one).await.expect(200);
    assert!(read["body"].to_string().contains("1611"), "{read}");
    let history = client.get(&format!("{one}/history")).await.expect(200);
    assert_eq!(history["items"].as_array().expect("items").len(), 3);
    let removed = client.raw("DELETE", &one, &[], "").await;
    assert!([200, 204].contains(&removed.status), "{}", removed.text());
    client
        .get(&one)
        .await
        .expect_problem(404, "ANNOTATION_NOT_FOUND");
    client
        .raw("DELETE", &one, &[], "")
        .await
        .expect_problem(404, "ANNOTATION_NOT_FOUND");
    let history = client.get(&format!("{one}/history")).await.expect(200);
    assert_eq!(history["items"].as_array().expect("items").len(), 4);
}

#[tokio::test]
async fn what_names_a_resource_in_any_spelling_is_found_from_it() {
    let server = Server::start();
    let client = server.client();
    let moon = client.create("Io", "a moon").await;
    let id = moon["id"].as_str().expect("an id");
    let article = client.create("moons", TEXT).await;
    let spellings = [
        format!("/api/resources/{id}"),
        format!("{}/api/resources/{id}", server.url()),
        format!("urn:uuid:{id}"),
    ];
    for iri in &spellings {
        let linking = json!({ "motivation": "linking", "body": iri, "target": { "selector": { "type": "TextQuoteSelector", "exact": "moons" } } });
        let stored = client
            .post(&annotations(&article), &linking)
            .await
            .expect(201);
        assert_eq!(&stored["body"], iri, "kept as given");
    }
    let page = client
        .get(&format!("/api/resources/{id}/referenced_by"))
        .await
        .expect(200);
    let items = page["items"].as_array().expect("items");
    assert_eq!(items.len(), 3);
    for item in items {
        assert_eq!(
            (&item["relation"], &item["name"], &item["resource_id"]),
            (&json!("body"), &json!("moons"), &article["id"])
        );
        assert!(item["annotation_id"].is_string());
    }
}

#[tokio::test]
async fn an_id_that_a_client_sends_moves_to_via() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let sent = json!({ "id": "http://example.org/anno1", "target": {} });
    let stored = client.post(&annotations(&made), &sent).await.expect(201);
    assert!(
        stored["via"]
            .to_string()
            .contains("http://example.org/anno1"),
        "{stored}"
    );
    assert_ne!(stored["id"], sent["id"]);
}

/// Annotations were resolved by whatever host the reader used, so that the same annotation was
/// anchored for one and not for another.
#[tokio::test]
async fn what_an_iri_named_when_it_was_written_it_names_for_every_reader() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let other = client.create("other", "x").await;
    let id = |made: &Value| made["id"].as_str().expect("an id").to_owned();
    let absolute = |made: &Value| format!("http://archive.localhost/api/resources/{}", id(made));
    let sent = json!({
        "body": absolute(&other),
        "target": { "source": absolute(&made), "selector": { "type": "TextQuoteSelector", "exact": "four" } },
    });
    let host = ("host", "archive.localhost");
    let json_type = ("content-type", "application/json");
    let path = annotations(&made);
    let stored = client
        .raw("POST", &path, &[host, json_type], sent.to_string())
        .await
        .expect(201);
    assert_eq!(stored["anchoring"][0]["status"], "exact", "{stored}");
    let read = client.get(&path).await.expect(200)["items"][0].clone();
    assert_eq!(read["anchoring"], stored["anchoring"]);
    assert_eq!(read["body"], sent["body"], "it is kept as it was sent");
    let body = format!(
        "{path}/{}/body",
        stored["annotation_id"].as_str().expect("an id")
    );
    let item =
        json!({ "operations": [{ "op": "add", "item": { "type": "TextualBody", "value": "v" } }] });
    client.json("PATCH", &body, &item).await.expect(200);
    let naming = format!("/api/resources/{}/referenced_by", id(&other));
    let named = client.get(&naming).await.expect(200);
    assert_eq!(named["items"][0]["relation"], "body", "{named}");
    let read = client.get(&path).await.expect(200)["items"][0].clone();
    assert_eq!(read["anchoring"][0]["status"], "exact", "{read}");
    // A foreign IRI that looks alike names nothing.
    let foreign = json!({ "target": absolute(&other) });
    client.post(&path, &foreign).await.expect(201);
    let named = client.get(&naming).await.expect(200);
    assert_eq!(named["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn a_passage_of_what_is_no_longer_text_is_orphaned_until_it_is_text_again() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let quote =
        json!({ "target": { "selector": { "type": "TextQuoteSelector", "exact": "four" } } });
    client.post(&annotations(&made), &quote).await.expect(201);
    let content = format!(
        "/api/resources/{}/content",
        made["id"].as_str().expect("an id")
    );
    let status = async |kind: &str, bytes: &[u8]| {
        client
            .raw("PUT", &content, &[("content-type", kind)], bytes)
            .await
            .expect(200);
        client.get(&annotations(&made)).await.expect(200)["items"][0]["anchoring"].clone()
    };
    let orphaned = status("application/octet-stream", b"\x00\x01").await;
    assert_eq!(orphaned[0]["status"], "orphaned", "{orphaned}");
    assert!(orphaned[0].get("start").is_none());
    assert_eq!(
        status("text/plain", TEXT.as_bytes()).await[0]["status"],
        "exact"
    );
}

#[tokio::test]
async fn positions_in_utf16_count_in_the_text_that_they_were_made_in() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("planets", "\u{1fa90} Saturn has rings").await;
    let quote =
        json!({ "target": { "selector": { "type": "TextQuoteSelector", "exact": "Saturn" } } });
    client.post(&annotations(&made), &quote).await.expect(201);
    let content = format!(
        "/api/resources/{}/content",
        made["id"].as_str().expect("an id")
    );
    let revised = "Saturn, \u{1fa90}, has rings";
    client
        .raw("PUT", &content, &[("content-type", "text/plain")], revised)
        .await
        .expect(200);
    let page = client
        .get(&format!("{}?offsets=utf16", annotations(&made)))
        .await
        .expect(200);
    let annotation = &page["items"][0];
    let position = &annotation["target"]["selector"][1];
    assert_eq!(
        (&position["start"], &position["end"]),
        (&json!(3), &json!(9)),
        "{annotation}"
    );
    assert_eq!(
        (
            &annotation["anchoring"][0]["start"],
            &annotation["anchoring"][0]["end"]
        ),
        (&json!(0), &json!(6))
    );
}

#[tokio::test]
async fn each_annotation_of_a_page_counts_in_the_text_that_it_was_made_in() {
    let server = Server::start();
    let client = server.client();
    let text = |planets: usize| format!("{} Saturn", "\u{1fa90}".repeat(planets));
    let made = client.create("planets", &text(1)).await;
    let path = annotations(&made);
    let utf16 = format!("{path}?offsets=utf16");
    let starts = |annotation: &Value| {
        let own = annotation["target"]["selector"][1]["start"].as_u64();
        let now = annotation["anchoring"][0]["start"].as_u64();
        (own.expect("a start"), now.expect("a start"))
    };
    let mut ids = Vec::new();
    // The text with two planets is the one that none was made in.
    for planets in [1, 2, 3, 4] {
        if planets > 1 {
            revise(&client, &made, &text(planets)).await;
        }
        if planets == 2 {
            continue;
        }
        for _ in 0..2 {
            let stored = client.post(&utf16, &quote("Saturn")).await.expect(201);
            let start = 2 * planets as u64 + 1;
            assert_eq!(starts(&stored), (start, start), "{stored}");
            ids.push(stored["annotation_id"].clone());
        }
    }
    let page = client.get(&utf16).await.expect(200);
    let items = page["items"].as_array().expect("a page");
    let found: Vec<_> = items.iter().map(starts).collect();
    assert_eq!(found, [(3, 9), (3, 9), (7, 9), (7, 9), (9, 9), (9, 9)]);
    let listed = items.iter().map(|item| &item["annotation_id"]);
    assert!(listed.eq(&ids), "in their order: {page}");
    for (id, expected) in ids.iter().zip(found) {
        let id = id.as_str().expect("an id");
        let one = client.get(&format!("{path}/{id}?offsets=utf16")).await;
        assert_eq!(starts(&one.expect(200)), expected);
    }
}

/// In a long text it is looked for on another thread, and is decided there with the resource locked.
#[tokio::test]
async fn an_annotation_of_a_long_text_is_decided_as_one_of_a_short_text() {
    let server = Server::start();
    let client = server.client();
    for before in [1, 1 << 20] {
        let made = client
            .create("a text", &format!("{}{TEXT}", "x".repeat(before)))
            .await;
        let path = annotations(&made);
        let stored = client.post(&path, &quote("four")).await.expect(201);
        let start = TEXT.find("four").expect("four") + before;
        assert_eq!(stored["target"]["selector"][1]["start"], start);
        let anchor = &stored["anchoring"][0];
        assert_eq!(
            (&anchor["status"], &anchor["start"]),
            (&json!("exact"), &json!(start))
        );
        let problem = client.post(&path, &quote("five")).await;
        let problem = problem.expect_problem(422, "INVALID_ANNOTATION");
        let error = &problem["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!("/target/selector/exact"), &json!("QUOTE_NOT_FOUND"))
        );
        // What else is refused of it comes first.
        let stale = [
            ("if-match", "\"r99\""),
            ("content-type", "application/json"),
        ];
        let refused = client
            .raw("POST", &path, &stale, quote("five").to_string())
            .await;
        refused.expect_problem(412, "PRECONDITION_FAILED");
        // In a batch each sees what those before it did, and one that is refused undoes them all.
        let add = |exact: &str| json!({ "op": "add_annotation", "resource_id": made["id"], "annotation": quote(exact) });
        let batch = json!({ "operations": [add("moons"), add("five")] });
        let problem = client.post("/api/batch", &batch).await;
        let problem = problem.expect_problem(422, "INVALID_ANNOTATION");
        assert_eq!(
            problem["errors"][0]["pointer"],
            "/operations/1/annotation/target/selector/exact"
        );
        let batch = json!({ "operations": [add("moons"), add("rings")] });
        client.post("/api/batch", &batch).await.expect(200);
        let page = client.get(&path).await.expect(200);
        assert_eq!(page["items"].as_array().expect("a page").len(), 3);
    }
}

#[tokio::test]
async fn extension_properties_come_back_as_they_were_sent_whatever_their_names_and_numbers() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("moons", TEXT).await;
    let sent = json!({
        "target": {}, "revision": "of the author", "annotation_id": [1], "resource_id": null,
        "x:weight": 0.1, "x:long": 9_007_199_254_740_993_u64, "x:small": 5e-324,
    });
    let mut sent = sent;
    // Any double, from bits that are as good as random.
    let doubles = (1..500_u64).map(|n| f64::from_bits(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    sent["x:doubles"] = doubles.filter(|double| double.is_finite()).collect();
    client.post(&annotations(&made), &sent).await.expect(201);
    let read = client.get(&annotations(&made)).await.expect(200)["items"][0].clone();
    for (key, value) in sent.as_object().expect("an object") {
        if key != "target" {
            assert_eq!(&read[key], value, "{key}");
        }
    }
}

/// A copy of an annotation kept the identifiers of what it was copied from.
#[tokio::test]
async fn an_annotation_that_was_read_is_sent_back_to_another_resource() {
    let server = Server::start();
    let client = server.client();
    let (from, to) = (
        client.create("a", TEXT).await,
        client.create("b", TEXT).await,
    );
    client
        .post(&annotations(&from), &json!({ "target": {}, "x:own": 1 }))
        .await
        .expect(201);
    let mut read = client.get(&annotations(&from)).await.expect(200)["items"][0].clone();
    read["target"]["source"] =
        format!("/api/resources/{}", to["id"].as_str().expect("an id")).into();
    let copy = client.post(&annotations(&to), &read).await.expect(201);
    assert_eq!(
        (&copy["resource_id"], &copy["x:own"]),
        (&to["id"], &json!(1))
    );
    assert_ne!(copy["annotation_id"], read["annotation_id"]);
    assert_eq!(copy["via"], read["id"]);
    let reserved = client
        .post(
            &annotations(&to),
            &json!({ "target": {}, "anchoring": "mine" }),
        )
        .await;
    reserved.expect_problem(422, "INVALID_ANNOTATION");
    let linked = client
        .get_with(&annotations(&to), &[("accept", "application/ld+json")])
        .await;
    assert_eq!(
        (linked.status, linked.header("content-type")),
        (200, "application/ld+json")
    );
    let refused = client
        .get_with("/api/resources", &[("accept", "text/xml")])
        .await;
    refused.expect_problem(406, "NOT_ACCEPTABLE");
}

/// A resource with this text; gives the path of its annotations.
async fn annotated(client: &Client, text: &str) -> (String, String) {
    let made = client.create("a text", text).await;
    let id = made["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/resources/{id}/annotations");
    (id, path)
}

#[tokio::test]
async fn targets_within_a_choice_and_ranges_are_anchored_and_follow_new_content() {
    let server = Server::start();
    let client = server.client();
    let (id, path) = annotated(&client, "from here to there").await;
    let quote = |exact: &str| json!({ "type": "TextQuoteSelector", "exact": exact });
    let range = json!({ "type": "RangeSelector", "startSelector": quote("here"), "endSelector": quote("there") });
    let annotation = json!({ "target": { "type": "Choice", "items": [
        // Without a source it is part of this resource, as a target that stands alone is.
        { "selector": quote("to") },
        { "source": format!("/api/resources/{id}"), "selector": range },
        "https://example.org/elsewhere",
    ] } });
    let made = client.post(&path, &annotation).await.expect(201);
    let anchoring = |annotation: &Value| -> Vec<Value> {
        let all = annotation["anchoring"].as_array().expect("a list").clone();
        all.iter()
            .map(|a| json!([a["target"], a["pointer"], a["status"], a["start"], a["end"]]))
            .collect()
    };
    let first = ["/target/items/0", "/target/items/1"];
    let expected = [
        json!([0, first[0], "exact", 10, 12]),
        json!([0, first[1], "exact", 5, 13]),
    ];
    assert_eq!(anchoring(&made), expected);
    let content = format!("/api/resources/{id}/content");
    let put =
        |text: &'static str| client.raw("PUT", &content, &[("content-type", "text/plain")], text);
    put("now from here on to there").await.expect(200);
    let annotation_id = made["annotation_id"].as_str().expect("an id");
    let one = format!("{path}/{annotation_id}");
    let read = client.get(&one).await.expect(200);
    let expected = [
        json!([0, first[0], "moved", 17, 19]),
        json!([0, first[1], "moved", 9, 20]),
    ];
    assert_eq!(anchoring(&read), expected);
    put("there, then here, to").await.expect(200);
    let read = client.get(&one).await.expect(200);
    assert_eq!(read["anchoring"][1]["status"], "orphaned");
    let wrong = json!({ "target": { "selector": { "type": "RangeSelector",
        "startSelector": quote("here"), "endSelector": quote("there") } } });
    let problem = client
        .post(&path, &wrong)
        .await
        .expect_problem(422, "INVALID_ANNOTATION");
    assert_eq!(
        problem["errors"][0]["pointer"], "/target/selector/endSelector",
        "{problem}"
    );
}

#[tokio::test]
async fn a_wrong_item_is_named_where_the_client_sent_it() {
    let server = Server::start();
    let client = server.client();
    let (_, path) = annotated(&client, "text").await;
    let annotation = json!({ "body": ["urn:a", "urn:b"], "target": "urn:c" });
    let made = client.post(&path, &annotation).await.expect(201);
    let body = format!(
        "{path}/{}/body",
        made["annotation_id"].as_str().expect("an id")
    );
    let operations = json!({ "operations": [
        { "op": "remove", "item": "urn:a" },
        { "op": "add", "item": { "type": "TextualBody" } },
        { "op": "replace", "old_item": "urn:b", "new_item": { "type": "TextualBody", "value": 7 } },
    ] });
    let problem = client
        .json("PATCH", &body, &operations)
        .await
        .expect_problem(422, "INVALID_ANNOTATION");
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["pointer"])
        .collect();
    assert_eq!(
        pointers,
        ["/operations/1/item/value", "/operations/2/new_item/value"]
    );
}
