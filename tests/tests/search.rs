//! Search over HTTP: by words, by meaning, by both; filters, positions, rebuilds (rows B3, C6, A6).

use serde_json::{Value, json};
use stemma_tests::{
    Answer, Behaviour, Client, DIMENSION, ModelServer, Server, Upload, command, vector,
};

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

/// A server whose vectors are made elsewhere, with two documents that have a word in common.
async fn two_of_the_moon(model: &ModelServer) -> Server {
    let server = Server::builder()
        .env("STEMMA_EMBED__URL", &model.url())
        .env("STEMMA_EMBED__MODEL", "elsewhere")
        .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
        .start();
    let client = server.client();
    upload(&client, "tides.md", TIDES, "sea").await;
    upload(&client, "moon.md", "# Moon\n\nThe Moon has seas.", "sea").await;
    server
}

/// The first page, of one hit, and the next one once something else is so.
async fn pages(client: &Client, query: &str, between: impl FnOnce()) -> (Answer, Answer) {
    let path = format!("/api/search?q=moon&limit=1{query}");
    let first = client.get(&path).await;
    let page = first.expect(200);
    between();
    let cursor = text_of(&page["next_cursor"]);
    let next = client.get(&format!("{path}&cursor={cursor}")).await;
    (first, next)
}

/// The document of a page of one hit.
fn only_hit(page: &Answer) -> String {
    let page = page.expect(200);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    text_of(&page["items"][0]["document_id"]).to_owned()
}

/// The server refused its own cursor: models elsewhere seldom give the same numbers twice.
#[tokio::test]
async fn a_list_goes_on_where_the_model_gives_slightly_other_numbers_for_the_next_page() {
    let model = ModelServer::start();
    let server = two_of_the_moon(&model).await;
    let slightly: Vec<f32> = vector("moon").iter().map(|one| one * 1.01).collect();
    let data = json!([{ "object": "embedding", "index": 0, "embedding": slightly }]);
    let answer = json!({ "object": "list", "data": data, "model": "elsewhere" });
    for query in ["", "&mode=hybrid"] {
        model.behave(Behaviour::Well);
        let (first, next) = pages(&server.client(), query, || {
            model.behave(Behaviour::Body(answer.to_string().into_bytes()));
        })
        .await;
        assert_ne!(only_hit(&first), only_hit(&next));
        assert_eq!(next.header("stemma-warning"), "");
    }
}

/// The next page of a list that was begun without the model was refused when the model was back.
#[tokio::test]
async fn a_list_goes_on_by_words_alone_where_it_was_begun_so_and_only_there() {
    let model = ModelServer::start();
    let server = two_of_the_moon(&model).await;
    let client = server.client();
    let away = || model.behave(Behaviour::Status(400, Vec::new(), "{}".to_owned()));
    away();
    let (first, next) = pages(&client, "", || model.behave(Behaviour::Well)).await;
    let warning = first.header("stemma-warning");
    assert_eq!(warning, "found by words alone: MODEL_UNAVAILABLE");
    assert_ne!(only_hit(&first), only_hit(&next));
    let warning = next.header("stemma-warning");
    assert_eq!(warning, "found by words alone, as the page before");
    // The other way round it can be tried again.
    let (_, next) = pages(&client, "", away).await;
    next.expect_problem(503, "MODEL_UNAVAILABLE");
}

#[tokio::test]
async fn words_alone_answer_where_nothing_was_chosen_and_there_are_too_many_vectors() {
    let limit = ("STEMMA_SEARCH__VECTORS_SCANNED_MAX", "1");
    let server = Server::builder().env(limit.0, limit.1).start();
    let client = server.client();
    upload(&client, "tides.md", TIDES, "sea").await;
    upload(&client, "lenses.md", LENSES, "glass").await;
    let found = client.get("/api/search?q=moon").await;
    only_hit(&found);
    let warning = found.header("stemma-warning");
    assert_eq!(warning, "found by words alone: QUERY_LIMIT");
    let chosen = client.get("/api/search?q=moon&mode=hybrid").await;
    chosen.expect_problem(422, "QUERY_LIMIT");
}

/// Documents with longer vectors were taken, and no search by meaning was ever answered.
#[test]
fn a_model_whose_vectors_the_index_does_not_take_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    for (dimension, status) in [("4096", 0), ("4097", 2)] {
        let mut config = command(&["config", "--data"]);
        let config = config.arg(data.path());
        let told = config.env("STEMMA_EMBED__DIMENSION", dimension).output();
        let told = told.expect("it runs");
        assert_eq!(told.status.code(), Some(status), "{dimension}: {told:?}");
    }
}
