//! Several writes at once, all or none (rows A1, A11).

use serde_json::{Value, json};
use stemma_tests::Server;

const FIRST: &str = "019a0000-0000-7000-8000-000000000001";
const SECOND: &str = "019a0000-0000-7000-8000-000000000002";

fn create(id: &str) -> Value {
    json!({ "op": "create_resource", "id": id, "name": "n", "media_type": "text/plain", "content": "some text" })
}

#[expect(clippy::needless_pass_by_value, reason = "called with json!")]
fn batch(operations: Value) -> Value {
    json!({ "operations": operations })
}

#[tokio::test]
async fn every_operation_works_in_one_batch_and_results_are_in_order() {
    let server = Server::start();
    let client = server.client();
    let annotation = json!({ "target": { "selector": { "type": "TextQuoteSelector", "exact": "new" } }, "body": format!("/api/resources/{FIRST}") });
    let answer = client
        .post("/api/batch", &batch(json!([
            create(FIRST),
            create(SECOND),
            { "op": "revise_content", "resource_id": SECOND, "content": "new text", "expected_revision": 0 },
            { "op": "patch_resource", "resource_id": SECOND, "patch": { "name": "second" }, "expected_revision": 1 },
            { "op": "add_entity_type", "resource_id": SECOND, "entity_type": "Note" },
            { "op": "add_entity_type", "resource_id": SECOND, "entity_type": "Gone" },
            { "op": "remove_entity_type", "resource_id": SECOND, "entity_type": "Gone" },
            { "op": "add_annotation", "resource_id": SECOND, "annotation": annotation, "expected_revision": 5 },
        ])))
        .await;
    let result = answer.expect(200);
    assert_eq!(result["position"].as_u64(), Some(answer.position()));
    let results = result["results"].as_array().expect("results");
    let revisions: Vec<_> = results
        .iter()
        .map(|r| r["revision"].as_u64().expect("a revision"))
        .collect();
    assert_eq!(revisions, [0, 0, 1, 2, 3, 4, 5, 6]);
    let read = client
        .get(&format!("/api/resources/{SECOND}"))
        .await
        .expect(200);
    assert_eq!(
        (
            &read["name"],
            &read["entity_types"],
            &read["annotation_count"]
        ),
        (&json!("second"), &json!(["Note"]), &json!(1))
    );
    let annotation_id = results[7]["annotation_id"].as_str().expect("an id");
    let removed = batch(
        json!([{ "op": "remove_annotation", "resource_id": SECOND, "annotation_id": annotation_id }]),
    );
    client.post("/api/batch", &removed).await.expect(200);
    let read = client
        .get(&format!("/api/resources/{SECOND}"))
        .await
        .expect(200);
    assert_eq!(read["annotation_count"], 0);
}

#[tokio::test]
async fn one_failure_refuses_all_with_the_status_it_would_have_had_alone() {
    let server = Server::start();
    let client = server.client();
    client
        .post("/api/batch", &batch(json!([create(FIRST)])))
        .await
        .expect(200);
    let head = client.get("/api/events?after=start").await.position();
    let unknown = "019a0000-0000-7000-8000-00000000dead";
    let tag =
        |id: &str| json!({ "op": "add_entity_type", "resource_id": id, "entity_type": "Note" });
    for (operation, status, code, pointer) in [
        (create(FIRST), 409, "ALREADY_EXISTS", "/operations/1/id"),
        (
            tag(unknown),
            404,
            "RESOURCE_NOT_FOUND",
            "/operations/1/resource_id",
        ),
        // Found: what the client believed of it was answered as a conflict with nothing.
        (
            json!({ "op": "patch_resource", "resource_id": unknown, "patch": { "name": "x" }, "expected_revision": 0 }),
            404,
            "RESOURCE_NOT_FOUND",
            "/operations/1/resource_id",
        ),
        (
            json!({ "op": "patch_resource", "resource_id": FIRST, "patch": { "name": "x" }, "expected_revision": 7 }),
            409,
            "REVISION_CONFLICT",
            "/operations/1/expected_revision",
        ),
        (
            json!({ "op": "explode", "resource_id": FIRST }),
            422,
            "INVALID_FIELDS",
            "/operations/1/op",
        ),
        (
            json!({ "op": "revise_content", "resource_id": FIRST }),
            422,
            "INVALID_FIELDS",
            "/operations/1/content",
        ),
        (
            json!({ "op": "add_annotation", "resource_id": FIRST, "annotation": { "target": 5 } }),
            422,
            "INVALID_ANNOTATION",
            "/operations/1/annotation/target",
        ),
        (
            json!({ "op": "remove_annotation", "resource_id": FIRST, "annotation_id": unknown }),
            404,
            "ANNOTATION_NOT_FOUND",
            "/operations/1/annotation_id",
        ),
    ] {
        let answer = client
            .post("/api/batch", &batch(json!([create(SECOND), operation])))
            .await;
        let problem = answer.expect_problem(status, code);
        let errors = problem["errors"].as_array().expect("errors");
        assert!(
            errors.iter().any(|e| e["pointer"] == pointer),
            "{pointer} in {problem}"
        );
    }
    assert_eq!(client.get("/api/events?after=start").await.position(), head);
    client
        .get(&format!("/api/resources/{SECOND}"))
        .await
        .expect_problem(404, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn an_empty_batch_and_one_that_is_too_long_are_refused() {
    let server = Server::start();
    let client = server.client();
    client
        .post("/api/batch", &batch(json!([])))
        .await
        .expect_problem(422, "INVALID_FIELDS");
    let many = vec![create(FIRST); 1001];
    client
        .post("/api/batch", &batch(json!(many)))
        .await
        .expect_problem(422, "INVALID_FIELDS");
}

#[tokio::test]
async fn a_batch_sent_again_with_its_key_is_not_repeated() {
    let server = Server::start();
    let client = server.client();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "b-1"),
    ];
    let body = batch(json!([create(FIRST), create(SECOND)])).to_string();
    let first = client
        .raw("POST", "/api/batch", &headers, body.clone())
        .await;
    let again = client.raw("POST", "/api/batch", &headers, body).await;
    assert_eq!(
        (again.expect(200), again.header("idempotency-replayed")),
        (first.expect(200), "true")
    );
}

#[tokio::test]
async fn what_a_request_asks_for_in_vain_is_refused_and_not_passed_over() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let id = made["id"].as_str().expect("an id");
    let rename = json!({ "operations": [{ "op": "patch_resource", "resource_id": id, "patch": { "name": "b" } }] });
    let kind = ("content-type", "application/json");
    let stale = client
        .raw(
            "POST",
            "/api/batch",
            &[kind, ("if-match", "\"r99\"")],
            rename.to_string(),
        )
        .await;
    stale.expect_problem(400, "MALFORMED_HEADER");
    let path = format!("/api/resources/{id}");
    let coded = [("content-encoding", "gzip"), ("content-type", "text/plain")];
    let coded = client
        .raw("PUT", &format!("{path}/content"), &coded, "x")
        .await;
    coded.expect_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    client
        .raw("PUT", &format!("{path}/entity_types/%ff"), &[], "")
        .await
        .expect_problem(422, "INVALID_PARAMETERS");
    for query in ["q=%zz", "q=%", "q=a%2"] {
        client
            .get(&format!("/api/resources?{query}"))
            .await
            .expect_problem(400, "MALFORMED_QUERY");
    }
    let unchanged = client.get(&path).await.expect(200);
    assert_eq!(
        (&unchanged["name"], &unchanged["revision"]),
        (&json!("a"), &json!(0))
    );
}
