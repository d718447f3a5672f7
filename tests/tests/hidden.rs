//! Where many things are told of at once, nobody learns of what they may not see: lists, counts,
//! hits, graph answers, events, streams, and what is found to be there already (row E1).

use serde_json::{Value, json};
use stemma_tests::{Client, SseReader, Upload};

use crate::documents::text_of;
use crate::grants::{House, bring, make, private, shared};
use crate::graph::caught_up;

/// Everything that tells of many things at once.
async fn told_of_all(client: &Client) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    for path in [
        "/api/resources",
        "/api/resources?sort=-created_at&archived=any",
        "/api/resources?sort=name",
        "/api/resources?entity_type=OpenType",
        "/api/resources?entity_type=VaultType",
        "/api/resources?collection=Vault-collection",
        "/api/resources?q=stands",
        "/api/entity_types",
        "/api/jobs",
        "/api/jobs?status=completed",
        "/api/search?q=stands&mode=text",
        "/api/search?q=Vault&mode=text",
        "/api/search?q=observatory+of+Samarkand&mode=vector",
        "/api/search?q=observatory+of+Samarkand&mode=hybrid",
        "/api/graph/nodes/person:olga/neighbors?depth=3",
        "/api/graph/nodes/entity_type:VaultType/neighbors",
        "/api/graph/nodes/collection:Vault-collection/neighbors",
        "/api/graph/path?from=person:olga&to=collection:Vault-collection",
        "/api/graph/stats",
        "/api/traces/the-vaults-trace",
        // Full pages: whether there is another tells of what is there.
        "/api/resources?limit=1&archived=any",
        "/api/resources?limit=2&archived=any",
        "/api/resources?limit=3&archived=any",
        "/api/resources?limit=1&entity_type=OpenType",
        "/api/resources?limit=2&entity_type=OpenType",
        "/api/entity_types?limit=1",
        "/api/jobs?limit=1",
    ] {
        let mut answer = client.get(path).await.text();
        if let Ok(mut value) = serde_json::from_str::<Value>(&answer) {
            for differs in ["trace_id", "position", "lag"] {
                if let Some(fields) = value.as_object_mut() {
                    fields.remove(differs);
                }
            }
            // Sealed at random, but of search: only whether there is one may tell.
            let is_sealed = !path.starts_with("/api/search");
            let cursor = value.get_mut("next_cursor").filter(|c| c.is_string());
            if let Some(cursor) = cursor.filter(|_| is_sealed) {
                *cursor = Value::from("there are more");
            }
            // How rare a word is taken to be is a matter of all texts.
            for hit in value["items"].as_array_mut().into_iter().flatten() {
                if let Some(fields) = hit.as_object_mut() {
                    fields.remove("score");
                }
            }
            answer = value.to_string();
        }
        told.push((path.to_owned(), Value::String(answer)));
    }
    for query in [
        "MATCH (n) RETURN n ORDER BY n.id",
        "MATCH (n) RETURN count(n)",
        "MATCH (a)-[r]->(b) RETURN a.id, type(r), b.id ORDER BY a.id, type(r), b.id",
        "MATCH (c:Collection) RETURN c.name ORDER BY c.name",
        "MATCH (t:EntityType {name: 'VaultType'})<-[r]-() RETURN count(r)",
    ] {
        let answer = client
            .post("/api/graph/query", &json!({ "query": query }))
            .await;
        let rows = answer.expect(200)["rows"].clone();
        told.push((query.to_owned(), rows));
    }
    told
}

/// Its owner and an admin find it everywhere.
async fn assert_found_by(house: &House, resource: &str, document: &str) {
    for client in [&house.olga, &house.boss] {
        let told = told_of_all(client).await;
        let missing = |path: &str, answer: &Value| {
            let is_about = path.contains("Vault") || path == "/api/resources";
            is_about && answer.to_string().contains("NOT_FOUND")
        };
        for (path, answer) in &told {
            assert!(!missing(path, answer), "{path}: {answer}");
        }
        assert!(told[0].1.to_string().contains(resource));
        assert!(told[10].1.to_string().contains(resource), "{}", told[10].1);
        assert!(told[12].1.to_string().contains(document), "{}", told[12].1);
    }
}

#[tokio::test]
async fn lists_counts_hits_and_graph_answers_are_as_if_it_had_never_been() {
    let house = House::open().await;
    let open = json!({ "visibility": "tenant" });
    make(&house.olga, &open, "Open").await;
    bring(&house.olga, &open, "Open").await;
    caught_up(&house.boss).await;
    let before = told_of_all(&house.nina).await;
    let resource = make(&house.olga, &private(), "Vault").await;
    let document = bring(&house.olga, &private(), "Vault").await;
    let rename = json!({ "name": "Vault renamed" });
    let path = format!("/api/resources/{}", resource.0);
    let traced = house
        .olga
        .request("PATCH", &path)
        .header("x-request-id", "the-vaults-trace");
    house.olga.send(traced.json(&rename)).await.expect(200);
    caught_up(&house.boss).await;
    let position = house.boss.get("/api/resources").await.position();
    let indexed = format!("/api/search?q=Vault&min_position={position}&timeout_ms=60000");
    assert!(
        house
            .boss
            .get(&indexed)
            .await
            .expect(200)
            .to_string()
            .contains("Vault")
    );
    let after = told_of_all(&house.nina).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
        let told = after.1.to_string();
        for word in [
            "Vault ",
            "Vault.",
            &resource.0,
            &resource.1,
            &document.0,
            &document.1,
        ] {
            assert!(!told.contains(word), "{}: {told}", after.0);
        }
    }
    assert_found_by(&house, &resource.0, &document.0).await;
    // Made open, it is there for all.
    let access = format!("{path}/access");
    house.olga.json("PUT", &access, &open).await.expect(200);
    let found = house.nina.get("/api/resources?q=Vault").await.expect(200);
    assert_eq!(found["items"][0]["id"], resource.0);
    let types = house.nina.get("/api/entity_types").await.expect(200);
    assert!(types.to_string().contains("VaultType"));
}

/// All events of a page and of a stream from the start, as they go over the wire.
async fn events_of(client: &Client) -> (String, String) {
    let page = client.get("/api/events?after=start&limit=500").await;
    let mut stream = SseReader::open(client.request("GET", "/api/events/stream?after=start")).await;
    let mut streamed = String::new();
    loop {
        let frame = stream.next().await.expect("the stream goes on");
        if frame.event.as_deref() == Some("stemma.live") {
            return (page.text(), streamed);
        }
        streamed.push_str(frame.data.as_deref().unwrap_or_default());
    }
}

#[tokio::test]
async fn no_page_and_no_stream_of_events_tells_of_what_is_hidden() {
    let house = House::open().await;
    let mut live = SseReader::open(house.nina.request("GET", "/api/events/stream")).await;
    live.until("stemma.live").await;
    let resource = make(&house.olga, &private(), "Vault").await;
    let document = bring(&house.olga, &private(), "Vault").await;
    let (open, _) = make(&house.olga, &json!({ "visibility": "tenant" }), "Open").await;
    // What is hidden is passed over; the next that comes is the next that is seen.
    let next = live.next_event().await.expect("an event");
    assert_eq!(next.json()["stream"], format!("resource-{open}"));
    let seen = events_of(&house.nina).await;
    for told in [&seen.0, &seen.1] {
        for word in ["Vault", &resource.0, &resource.1, &document.0, &document.1] {
            assert!(!told.contains(word), "{word}: {told}");
        }
        assert!(told.contains(&open));
    }
    let all = events_of(&house.olga).await;
    for told in [&all.0, &all.1] {
        for id in [&resource.0, &document.0, &document.1] {
            assert!(told.contains(id.as_str()), "{id}");
        }
    }
    // One who comes back behind the hidden events is given what came since, and nothing of them.
    let back = house
        .nina
        .request("GET", "/api/events/stream")
        .header("last-event-id", "0");
    let mut back = SseReader::open(back).await;
    let first = back.next_event().await.expect("an event");
    assert_eq!(first.json()["stream"], format!("resource-{open}"));
    // One event by its digest, and a stream by its name.
    let events = house
        .olga
        .get(&format!("/api/resources/{}/events", resource.0))
        .await;
    let digest = text_of(&events.expect(200)["items"][0]["id"]).to_owned();
    house
        .olga
        .get(&format!("/api/events/{digest}"))
        .await
        .expect(200);
    let hidden = house.nina.get(&format!("/api/events/{digest}")).await;
    hidden.expect_problem(404, "EVENT_NOT_FOUND");
    for stream in [
        format!("resource-{}", resource.0),
        format!("document-{}", document.0),
        format!("job-{}", document.1),
    ] {
        let path = format!("/api/events?after=start&stream={stream}");
        let empty = house.nina.get(&path).await.expect(200);
        assert_eq!(
            empty,
            json!({ "items": [], "next_cursor": null }),
            "{stream}"
        );
    }
}

#[tokio::test]
async fn a_stream_of_a_resource_ends_for_those_who_lose_it_and_goes_on_for_the_others() {
    let house = House::open().await;
    let (id, _) = make(&house.olga, &shared(), "Quill").await;
    let path = format!("/api/resources/{id}/events/stream");
    let open = async |client: &Client, path: &str| {
        let mut stream = SseReader::open(client.request("GET", path)).await;
        stream.until("stemma.live").await;
        stream
    };
    let mut reader = open(&house.rita, &path).await;
    let mut of_all = open(&house.rita, "/api/events/stream").await;
    let mut owner = open(&house.olga, &path).await;
    let rename = async |name: &str| {
        let path = format!("/api/resources/{id}");
        house
            .olga
            .json("PATCH", &path, &json!({ "name": name }))
            .await
            .expect(200);
    };
    rename("told").await;
    for stream in [&mut reader, &mut of_all, &mut owner] {
        let told = stream.next_event().await.expect("an event");
        assert_eq!(told.json()["data"]["name"], "told");
    }
    let at = format!("/api/resources/{id}/access");
    house.olga.json("PUT", &at, &private()).await.expect(200);
    rename("untold").await;
    house.olga.create("after", "open").await;
    let told = owner.next_event().await.expect("an event").json();
    assert_eq!(told["data"]["access"], private());
    assert_eq!(
        owner.next_event().await.expect("an event").json()["data"]["name"],
        "untold"
    );
    assert_eq!(reader.next_event().await, None, "the stream has ended");
    let next = of_all.next_event().await.expect("an event").json();
    assert_eq!(next["data"]["name"], "after", "{next}");
}

#[tokio::test]
async fn equal_bytes_tell_nobody_that_somebody_has_them_in_secret() {
    let house = House::open().await;
    let upload = |access: &Value| {
        Upload::of("same.txt", "the very same bytes").with("access", &access.to_string())
    };
    let open = json!({ "visibility": "tenant" });
    let secret = house.olga.upload(&upload(&private())).await.expect(202);
    let again = house.olga.upload(&upload(&private())).await.expect(202);
    assert_eq!(again["deduplicated"], true);
    assert_eq!(again["document_id"], secret["document_id"]);
    let other = house.will.upload(&upload(&open)).await.expect(202);
    assert_eq!(other["deduplicated"], false, "{other}");
    assert_ne!(other["document_id"], secret["document_id"]);
    // What is open is one document for all, as ever, and a secret one is not part of it.
    let third = house.nina.upload(&upload(&open)).await.expect(202);
    assert_eq!(third["deduplicated"], true);
    assert_eq!(third["document_id"], other["document_id"]);
    let own = house.nina.upload(&upload(&private())).await.expect(202);
    assert_eq!(own["deduplicated"], false);
    assert!(
        ![&secret, &other]
            .iter()
            .any(|told| told["document_id"] == own["document_id"])
    );
    // Hidden since, it is not what the next upload finds.
    let at = format!("/api/resources/{}/access", text_of(&other["document_id"]));
    house.will.json("PUT", &at, &private()).await.expect(200);
    let late = house.rita.get(&at.replace("/access", "")).await;
    late.expect_problem(404, "RESOURCE_NOT_FOUND");
    // They would be her own, which is secret: she is not told that they are open now.
    let late = house.olga.upload(&upload(&open)).await;
    let late = late.expect_problem(409, "ALREADY_EXISTS");
    let own = text_of(&secret["document_id"]);
    assert!(text_of(&late["detail"]).contains(own), "{late}");
    let wrong = Upload::of("a.txt", "x").with("access", "secret");
    let problem = house
        .olga
        .upload(&wrong)
        .await
        .expect_problem(422, "INVALID_FIELDS");
    assert_eq!(problem["errors"][0]["pointer"], "/access");
}

/// Ids of documents are made of their bytes and, where they are secret, of their owner: whoever
/// made a resource of such an id was told by a 409 whether Olga has the bytes, or took her place.
#[tokio::test]
async fn nobody_chooses_an_id_that_is_made_of_bytes() {
    let house = House::open().await;
    let (secret, _) = bring(&house.olga, &private(), "Vault").await;
    let (open, _) = make(&house.nina, &json!({ "visibility": "tenant" }), "Open").await;
    for id in [&secret, "00000000-0000-8000-8000-000000000001"] {
        let new =
            json!({ "id": id, "name": "n", "media_type": "text/plain", "content": "squatted" });
        let mut operation = new.clone();
        operation["op"] = json!("create_resource");
        let mut named = operation.clone();
        let fields = named.as_object_mut().expect("an object");
        fields.remove("id");
        named["resource_id"] = json!(id);
        for (path, body, pointer) in [
            ("/api/resources".to_owned(), new, "/id"),
            (
                "/api/batch".to_owned(),
                json!({ "operations": [operation] }),
                "/operations/0/id",
            ),
            (
                "/api/batch".to_owned(),
                json!({ "operations": [named] }),
                "/operations/0/resource_id",
            ),
            (
                format!("/api/resources/{open}/clone"),
                json!({ "id": id }),
                "/id",
            ),
        ] {
            let refused = house.nina.post(&path, &body).await;
            let refused = refused.expect_problem(422, "INVALID_FIELDS");
            assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
        }
    }
}

/// What was asked for was passed over: a document that had been opened since was named, as if it
/// were as secret as its sender asked once more.
#[tokio::test]
async fn an_upload_is_refused_that_asks_for_other_grants_than_its_document_has() {
    let house = House::open().await;
    let upload = Upload::of("same.txt", "the very same bytes");
    let secret = upload.clone().with("access", &private().to_string());
    let told = house.olga.upload(&secret).await.expect(202);
    let id = text_of(&told["document_id"]).to_owned();
    house.olga.ended(text_of(&told["job_id"])).await;
    let at = format!("/api/resources/{id}/access");
    let open = json!({ "visibility": "tenant" });
    house.olga.json("PUT", &at, &open).await.expect(200);
    let refused = house.olga.upload(&secret).await;
    let refused = refused.expect_problem(409, "ALREADY_EXISTS");
    assert!(text_of(&refused["detail"]).contains(&at), "{refused}");
    house.olga.json("PUT", &at, &private()).await.expect(200);
    let again = house.olga.upload(&secret).await.expect(202);
    assert_eq!(
        (&again["deduplicated"], &again["document_id"]),
        (&json!(true), &json!(id))
    );
}

/// A page ends behind so many rows, at one that may be hidden: its name stood in the cursor.
#[tokio::test]
async fn cursors_tell_whoever_does_not_see_everything_nothing_of_the_rows_they_are_of() {
    let mut house = House::open().await;
    for word in ["Alder", "Birch", "Cedar"] {
        make(&house.olga, &shared(), word).await;
    }
    let names = |page: &Value| {
        let items = page["items"].as_array().expect("a page").iter();
        let names: Vec<String> = items
            .map(|item| text_of(&item["name"]).to_owned())
            .collect();
        names
    };
    let first = "/api/resources?sort=name&limit=1";
    // "alder".
    let hex = "616c646572";
    let admins = house.boss.get(first).await.expect(200);
    let plain = text_of(&admins["next_cursor"]).to_owned();
    assert!(plain.contains(hex), "{plain}");

    let page = house.will.get(first).await.expect(200);
    assert_eq!(names(&page), ["Alder name"]);
    let sealed = text_of(&page["next_cursor"]).to_owned();
    assert!(!sealed.contains(hex), "{sealed}");
    for cursor in [&plain, &sealed] {
        let path = format!("{first}&cursor={cursor}");
        let next = house.will.get(&path).await.expect(200);
        assert_eq!(names(&next), ["Birch name"]);
    }
    // With other filters it is refused, and so it is once it was changed.
    let other = format!("/api/resources?limit=1&cursor={sealed}");
    let other = house.will.raw("GET", &other, &[], "").await;
    other.expect_problem(422, "INVALID_CURSOR");
    let (begin, last) = sealed.split_at(sealed.len() - 1);
    let changed = if last == "0" { "1" } else { "0" };
    let changed = format!("{first}&cursor={begin}{changed}");
    let changed = house.will.raw("GET", &changed, &[], "").await;
    changed.expect_problem(422, "INVALID_CURSOR");
    // Whoever pages goes on after a restart.
    let will = house.restarted_for("will", "writer").await;
    let next = will.get(&format!("{first}&cursor={sealed}")).await;
    assert_eq!(names(&next.expect(200)), ["Birch name"]);
}

/// What an upload found under its key was told to the whole tenant: that somebody has a document,
/// by an id that is made of its bytes.
#[tokio::test]
async fn an_answer_that_names_a_document_is_told_to_those_who_see_the_document() {
    let house = House::open().await;
    let mut live = SseReader::open(house.nina.request("GET", "/api/events/stream")).await;
    live.until("stemma.live").await;
    let upload = Upload::of("same.txt", "the very same bytes");
    let upload = upload.with("access", &private().to_string());
    let told = house.olga.upload(&upload).await.expect(202);
    house.olga.ended(text_of(&told["job_id"])).await;
    let document = text_of(&told["document_id"]);
    let again = house.olga.uploading(&upload);
    let again = again.header("Idempotency-Key", "once more");
    let again = house.olga.send(again).await.expect(202);
    assert_eq!(
        (&again["deduplicated"], text_of(&again["document_id"])),
        (&json!(true), document)
    );
    let nothing = json!({ "items": [], "next_cursor": null });
    let pages = ["type=request.answered", "stream=requests-answered"];
    let pages = pages.map(|asked| format!("/api/events?after=start&{asked}"));
    let mut digest = String::new();
    for page in &pages {
        let own = house.olga.get(page).await.expect(200);
        assert_eq!(own["items"][0]["data"]["document_id"], document, "{own}");
        text_of(&own["items"][0]["id"]).clone_into(&mut digest);
        assert_eq!(house.nina.get(page).await.expect(200), nothing, "{page}");
    }
    let one = format!("/api/events/{digest}");
    house.olga.get(&one).await.expect(200);
    let hidden = house.nina.get(&one).await;
    hidden.expect_problem(404, "EVENT_NOT_FOUND");
    // Live, it is passed over; the next that comes is the next that is seen.
    let open = json!({ "visibility": "tenant" });
    let (other, _) = make(&house.olga, &open, "Open").await;
    let next = live.next_event().await.expect("an event");
    assert_eq!(next.json()["stream"], format!("resource-{other}"));
    let (_, streamed) = events_of(&house.nina).await;
    assert!(!streamed.contains(document), "{streamed}");
    let (_, streamed) = events_of(&house.olga).await;
    assert!(streamed.contains("request.answered"), "{streamed}");
    // Made open, it is there for all.
    let access = format!("/api/resources/{document}/access");
    house.olga.json("PUT", &access, &open).await.expect(200);
    for page in &pages {
        let found = house.nina.get(page).await.expect(200);
        assert_eq!(found["items"][0]["id"], digest, "{found}");
    }
}
