//! Documents that a service outside parses (row B2), as `docs/parsing-service.md` describes it.

use stemma_tests::{ParsingServer, Server, Upload};

use crate::documents::text_of;

fn server_with(service: &ParsingServer) -> Server {
    Server::builder()
        .env("STEMMA_DOCUMENTS__PARSER_URL", service.url())
        .env("STEMMA_DOCUMENTS__PARSER_TOKEN", "secret")
        .start()
}

#[tokio::test]
async fn a_document_is_validated_here_parsed_by_the_service_and_found_by_what_it_read() {
    let service = ParsingServer::answering(vec![
        "503 Service Unavailable\r\nRetry-After: 0|busy",
        r#"202 Accepted|{"status":"pending","job":"/jobs/7"}"#,
        r#"200 OK|{"status":"processing"}"#,
        r##"200 OK|{"status":"done","document":{"text":"# Zij\n\nTables of the planets.",
            "headings":[{"level":1,"start":2,"end":5}],"pages":[{"number":1,"start":0,"end":29}]}}"##,
    ]);
    let server = server_with(&service);
    let client = server.client();
    let (job, document) = client
        .processed(&Upload::of("scan.html", "<p>a scan</p>"))
        .await;
    assert_eq!(job["status"], "completed", "{job}");
    let id = text_of(&document["id"]);
    let text = client.get(&format!("/api/documents/{id}/text")).await;
    assert_eq!(text.text(), "# Zij\n\nTables of the planets.");
    let chunks = client.get(&format!("/api/documents/{id}/chunks")).await;
    assert_eq!(chunks.expect(200)["items"][0]["page"], 1);
    let hits = client.get("/api/search?q=planets").await.expect(200);
    assert_eq!(hits["items"][0]["document_id"], id, "{hits}");
    let asked = service.asked();
    assert_eq!(asked[1].body, b"<p>a scan</p>");
    assert!(asked[1].headers.contains("content-type: text/html"));
    assert!(asked[1].headers.contains("authorization: bearer secret"));
    assert_eq!(asked[3].line, "GET /jobs/7 HTTP/1.1");
}

#[tokio::test]
async fn what_the_service_refuses_fails_once_and_what_is_refused_here_is_never_sent() {
    let service = ParsingServer::answering(vec![
        r#"200 OK|{"status":"failed","error":{"message":"the page is torn"}}"#,
    ]);
    let server = server_with(&service);
    let client = server.client();
    let (job, _) = client.processed(&Upload::of("empty.txt", "")).await;
    assert_eq!(job["error"]["code"], "EMPTY", "{job}");
    let (job, document) = client.processed(&Upload::of("torn.txt", "torn")).await;
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(job["error"]["code"], "SERVICE_REFUSED");
    assert_eq!(job["error"]["stage"], "parse");
    assert_eq!(job["retry_count"], 0);
    let failure = &document["failures"][0];
    assert!(
        failure.to_string().contains("the page is torn"),
        "{document}"
    );
    assert_eq!(service.asked()[0].body, b"torn");
}
