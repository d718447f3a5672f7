//! What browsers are told: whose pages may ask us, and what an answer may do in one (row E1).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use stemma_tests::{Answer, Server};

use crate::documents::text_of;

const PAGE: &str = "https://app.example";

fn expect_guarded(answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
}

#[tokio::test]
async fn every_answer_tells_a_browser_what_it_may_not_do() {
    let server = Server::start();
    let client = server.client();
    for path in [
        "/api/resources",
        "/docs",
        "/docs/page.js",
        "/api/openapi.json",
        "/nothing",
        "/metrics",
        "/api/resources?limit=x",
        "/api/health",
    ] {
        expect_guarded(&client.get(path).await);
    }
    expect_guarded(&client.raw("PATCH", "/api/resources", &[], "").await);
    expect_guarded(&client.raw("POST", "/api/resources", &[], "{").await);
    let stream = client.request("GET", "/api/events/stream").send().await;
    let stream = stream.expect("it answers");
    assert_eq!(stream.headers()["x-frame-options"], "DENY");
    // An answer to what is not even a request.
    let address = server.url().trim_start_matches("http://");
    let mut raw = TcpStream::connect(address).expect("it listens");
    raw.write_all(b"NO SUCH THING\r\n\r\n")
        .expect("it takes bytes");
    let mut told = String::new();
    raw.read_to_string(&mut told).expect("it answers");
    assert!(told.contains("x-frame-options: DENY"), "{told}");
}

#[tokio::test]
async fn a_page_that_was_stored_runs_nothing_where_it_is_served_from() {
    let server = Server::start();
    let client = server.client();
    for media_type in [
        "text/html",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/xml",
    ] {
        let body = json!({
            "name": "page", "media_type": media_type, "content": "<script>alert(1)</script>",
        });
        let made = client.post("/api/resources", &body).await.expect(201);
        let path = format!("/api/resources/{}/content", text_of(&made["id"]));
        let answer = client.get(&path).await;
        expect_guarded(&answer);
        let policy = answer.header("content-security-policy");
        assert!(policy.split("; ").any(|rule| rule == "sandbox"), "{policy}");
        assert!(
            answer
                .header("content-disposition")
                .starts_with("attachment")
        );
    }
    // The page of the documentation may run what is ours, and nothing else.
    let docs = client.get("/docs").await;
    let policy = docs.header("content-security-policy");
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
}

const ASKS: [(&str, &str); 3] = [
    ("origin", PAGE),
    ("access-control-request-method", "POST"),
    (
        "access-control-request-headers",
        "authorization,content-type",
    ),
];

#[tokio::test]
async fn pages_of_others_are_let_in_where_they_are_named() {
    let server = Server::builder()
        .env(
            "STEMMA_HTTP__CORS_ORIGINS",
            "https://app.example, http://localhost:3000",
        )
        .start();
    let client = server.client();
    let asked = client.raw("OPTIONS", "/api/resources", &ASKS, "").await;
    assert_eq!(asked.status, 204, "{}", asked.text());
    assert_eq!(asked.header("access-control-allow-origin"), PAGE);
    assert_eq!(asked.header("access-control-allow-credentials"), "true");
    assert!(
        asked
            .header("access-control-allow-methods")
            .contains("POST")
    );
    assert!(
        asked
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    let answer = client.get_with("/api/resources", &[("origin", PAGE)]).await;
    assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("stemma-position")
    );
    assert!(answer.header("vary").contains("origin"));
    // It may change something too.
    let headers = [("origin", PAGE), ("content-type", "application/json")];
    let body = json!({ "name": "Moon", "media_type": "text/plain", "content": "far" });
    let made = client
        .raw("POST", "/api/resources", &headers, body.to_string())
        .await;
    made.expect(201);
    for stranger in [
        "https://app.example.evil",
        "http://app.example",
        "null",
        "https://app.example:8443",
    ] {
        let asks = [("origin", stranger), ASKS[1], ASKS[2]];
        let asked = client.raw("OPTIONS", "/api/resources", &asks, "").await;
        assert_eq!(
            asked.header("access-control-allow-origin"),
            "",
            "{stranger}"
        );
        assert_ne!(asked.status, 204);
        let answer = client
            .get_with("/api/resources", &[("origin", stranger)])
            .await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            "",
            "{stranger}"
        );
        // A cache must not give a stranger what it keeps for another.
        assert!(answer.header("vary").contains("origin"));
        let headers = [("origin", stranger), ("content-type", "application/json")];
        let made = client
            .raw("POST", "/api/resources", &headers, body.to_string())
            .await;
        made.expect_problem(403, "ORIGIN_REFUSED");
    }
}

#[tokio::test]
async fn nobody_is_let_in_by_default_and_all_are_by_token_alone() {
    let closed = Server::start();
    let answer = closed
        .client()
        .get_with("/api/resources", &[("origin", PAGE)])
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(answer.header("vary"), "");
    let asked = closed
        .client()
        .raw("OPTIONS", "/api/resources", &ASKS, "")
        .await;
    assert_eq!(asked.status, 405);
    let data = tempfile::tempdir().expect("a directory");
    let all = |data: &std::path::Path| {
        let all = Server::builder().env("STEMMA_HTTP__CORS_ORIGINS", "*");
        all.data(data).start()
    };
    // While nobody is asked for a token, every page could read everything.
    let open = all(data.path());
    let answer = open
        .client()
        .get_with("/api/resources", &[("origin", PAGE)])
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    drop(open);
    crate::access::create_token(data.path(), "reader", &[]);
    let open = all(data.path());
    let answer = open
        .client()
        .get_with("/api/resources", &[("origin", PAGE)])
        .await;
    answer.expect_problem(401, "TOKEN_MISSING");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}
