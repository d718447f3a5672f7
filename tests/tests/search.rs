//! Search over HTTP: by words, by meaning, by both; filters, positions, rebuilds (rows B3, C6, A6).

use serde_json::Value;
use stemma_tests::{Client, Server, Upload};

use crate::documents::text_of;

const TIDES: &str = "# Tides\n\nThe pull of the Moon raises the sea twice a day.";
const LENSES: &str = "# Lenses\n\nA grinder of glass in Munich made telescopes for observatories.";

async fn upload(client: &Client, name: &str, text: &str, collection: &str) -> String {
    // Without a media type, as curl sends a file of a kind that it does not know.
    let file = Upload::of(name, text)
        .typed("application/octet-stream")
        .with("collection", collection);
    let sent = client.upload(&file).await.expect(202);
    let job = client.ended(text_of(&sent["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    text_of(&sent["document_id"]).to_owned()
}

async fn hits(client: &Client, query: &str) -> Vec<Value> {
    let page = client
        .get(&format!("/api/search?{query}"))
        .await
        .expect(200);
    page["items"].as_array().expect("items").clone()
}

#[tokio::test]
async fn a_document_is_found_by_words_and_by_meaning_as_soon_as_its_job_is_done() {
    let server = Server::start();
    let client = server.client();
    let tides = upload(&client, "tides.md", TIDES, "sea").await;
    let lenses = upload(&client, "lenses.md", LENSES, "glass").await;
    let found = hits(&client, "q=pull+moon&mode=text").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let hit = &found[0];
    assert_eq!(hit["document_id"], *tides);
    assert_eq!(hit["name"], "tides.md");
    let snippet: Vec<char> = text_of(&hit["snippet"]).chars().collect();
    let highlights = hit["highlights"].as_array().expect("highlights");
    let place = |value: &Value| usize::try_from(value.as_u64().expect("a place")).expect("small");
    let marked: Vec<String> = highlights
        .iter()
        .map(|span| snippet[place(&span[0])..place(&span[1])].iter().collect())
        .collect();
    assert!(marked.contains(&"Moon".to_owned()), "{marked:?}");
    let chunks = client.get(&format!("/api/documents/{tides}/chunks")).await;
    let chunks = chunks.expect(200);
    assert_eq!(hit["chunk_id"], chunks["items"][0]["id"]);
    assert_eq!(hit["start"], chunks["items"][0]["start"]);
    // No word of the question stands in the text.
    for mode in ["vector", "hybrid"] {
        let query = format!("q=optician+manufacturing+astronomical+instruments&mode={mode}");
        let found = hits(&client, &query).await;
        assert_eq!(found[0]["document_id"], *lenses, "{mode}: {found:?}");
    }
    assert!(
        hits(&client, "q=moon&collection=glass&mode=text")
            .await
            .is_empty()
    );
    assert_eq!(
        hits(&client, "q=moon&collection=sea&mode=text").await.len(),
        1
    );
}

#[tokio::test]
async fn plain_resources_are_found_and_a_search_can_be_made_to_include_a_write() {
    let server = Server::start();
    let client = server.client();
    let note = serde_json::json!({
        "name": "A note", "media_type": "text/plain", "content": "The nebula in Orion glows.",
        "entity_types": ["Note"],
    });
    let written = client.post("/api/resources", &note).await;
    let position = written.header("stemma-position").to_owned();
    let query = format!("q=nebula&mode=text&entity_type=Note&min_position={position}");
    let found = hits(&client, &query).await;
    assert_eq!(found.len(), 1);
    assert!(found[0]["chunk_id"].is_null());
    let ahead = client
        .get("/api/search?q=nebula&min_position=99999&timeout_ms=50")
        .await;
    ahead.expect_problem(503, "NOT_YET");
    let nothing = client.get("/api/search?q=%20").await;
    nothing.expect_problem(422, "INVALID_PARAMETERS");
}

#[tokio::test]
async fn the_index_is_rebuilt_beside_the_live_one_and_is_the_same() {
    let server = Server::start();
    let client = server.client();
    upload(&client, "tides.md", TIDES, "sea").await;
    let asked = client.request("POST", "/api/admin/rebuild/search");
    let job = client.send(asked).await.expect(202);
    let job = client.ended(text_of(&job["id"])).await;
    assert_eq!(job["result"]["equal"], true, "{job}");
    assert_eq!(job["result"]["swapped"], true, "{job}");
    assert_eq!(hits(&client, "q=moon&mode=text").await.len(), 1);
}

#[tokio::test]
async fn a_document_whose_content_is_replaced_and_put_back_is_found_as_it_was() {
    let server = Server::start();
    let client = server.client();
    let tides = upload(&client, "tides.md", TIDES, "sea").await;
    let found = hits(&client, "q=moon&mode=vector").await;
    let put = async |content: &'static str| {
        let path = format!("/api/resources/{tides}/content");
        let request = client.request("PUT", &path);
        let request = request.header("Content-Type", "text/markdown");
        let written = client.send(request.body(content)).await;
        let position = written.header("stemma-position").to_owned();
        written.expect(200);
        format!("min_position={position}&timeout_ms=60000")
    };
    let after = put(LENSES).await;
    assert!(
        hits(&client, &format!("q=moon&mode=text&{after}"))
            .await
            .is_empty()
    );
    assert_eq!(hits(&client, "q=grinder&mode=text").await.len(), 1);
    let after = put(TIDES).await;
    assert_eq!(
        hits(&client, &format!("q=moon&mode=vector&{after}")).await,
        found
    );
    assert!(found[0]["chunk_id"].is_string(), "{found:?}");
}
