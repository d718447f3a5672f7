//! The same bytes once more: of a document that nothing came of they begin it anew, of any other they
//! name it; and what was answered under a key is answered so again.

use serde_json::{Value, json};
use stemma_tests::{Answer, Client, Server, Upload};

use crate::documents::{TEXT, assert_whole, text_of};

async fn send(client: &Client, key: &str, upload: &Upload) -> Answer {
    let request = client.uploading(upload).header("Idempotency-Key", key);
    client.send(request).await
}

/// The types of a document's own events, in their order.
async fn story(client: &Client, id: &str) -> Vec<String> {
    let path = format!("/api/events?after=start&limit=500&stream=document-{id}");
    let events = client.every(&path).await;
    let types = events
        .iter()
        .map(|event| text_of(&event["type"]).to_owned());
    types.collect()
}

async fn jobs_of(client: &Client, document: &str) -> Vec<Value> {
    let path = format!("/api/jobs?document_id={document}&limit=100");
    client.every(&path).await
}

/// A text with the name of something else, which no try makes a document.
async fn failed(client: &Client, name: &str) -> (Value, Value) {
    let (job, document) = client.processed(&Upload::of(name, TEXT)).await;
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(job["error"]["code"], "TYPE_MISMATCH");
    (job, document)
}

#[tokio::test]
async fn a_document_that_failed_for_its_name_begins_anew_under_the_right_one() {
    let server = Server::start();
    let client = server.client();
    let (first, document) = failed(&client, "notes.pdf").await;
    let id = text_of(&document["id"]);
    let right = Upload::of("notes.md", TEXT).typed("text/markdown");
    let right = right.with("chunk_size", "60");
    let told = client.upload(&right).await.expect(202);
    assert_eq!(told["document_id"], document["id"]);
    assert_ne!(told["job_id"], first["id"]);
    assert_eq!(told["deduplicated"], false);
    assert!(text_of(&told["message"]).contains("begun anew"), "{told}");
    let job = client.ended(text_of(&told["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_whole(&client, id).await;
    let now = client.document(id).await;
    assert_eq!(
        (&now["file_name"], &now["name"], &now["media_type"]),
        (
            &json!("notes.md"),
            &json!("notes.md"),
            &json!("text/markdown")
        )
    );
    assert_eq!(now["chunking"]["size"], 60);
    assert_eq!(now.get("failures"), None, "{now}");
    // What was is told by the events, and by the job that failed.
    let story = story(&client, id).await;
    assert_eq!(
        story[..3],
        [
            "document.uploaded",
            "document.stage_failed",
            "document.uploaded"
        ]
    );
    assert_eq!(client.job(text_of(&first["id"])).await, first);
    // It is fine now: the same bytes name it, whatever they are called.
    let told = client.upload(&Upload::of("x.txt", TEXT)).await.expect(202);
    assert_eq!(
        (&told["deduplicated"], &told["job_id"]),
        (&json!(true), &job["id"])
    );
    assert_eq!(client.document(id).await["file_name"], "notes.md");
}

#[tokio::test]
async fn a_name_that_a_person_gave_stays_and_a_document_that_was_never_processed_is() {
    let server = Server::start();
    let client = server.client();
    let waits = Upload::of("a.bin", TEXT).with("steps", "none");
    let told = client.upload(&waits).await.expect(202);
    let id = text_of(&told["document_id"]);
    let renamed = json!({ "name": "The catalogue" });
    let path = format!("/api/resources/{id}");
    client.json("PATCH", &path, &renamed).await.expect(200);
    let told = client.upload(&Upload::of("a.md", TEXT)).await.expect(202);
    assert_eq!(told["deduplicated"], false);
    let job = client.ended(text_of(&told["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let now = client.document(id).await;
    assert_eq!(
        (&now["file_name"], &now["name"]),
        (&json!("a.md"), &json!("The catalogue"))
    );
    // Steps that the client runs are the client's: one that is done is not thrown away.
    let other = Upload::of("b.md", format!("{TEXT}b")).with("steps", "none");
    let told = client.upload(&other).await.expect(202);
    let id = text_of(&told["document_id"]);
    let step = format!("/api/documents/{id}/steps/validate");
    let job = client.post(&step, &json!({})).await.expect(202);
    client.ended(text_of(&job["id"])).await;
    let again = client.upload(&other).await.expect(202);
    assert_eq!(again["deduplicated"], true);
    assert_eq!(
        client.document(id).await["steps"]["validate"]["status"],
        "completed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_begin_a_document_anew_at_once_one_does() {
    let server = Server::start();
    let client = server.client();
    let (_, document) = failed(&client, "notes.pdf").await;
    let uploads = (0..8).map(|n| {
        let (client, upload) = (client.clone(), Upload::of(&format!("{n}.md"), TEXT));
        async move { client.upload(&upload).await.expect(202) }
    });
    let told = futures_util::future::join_all(uploads).await;
    let begun: Vec<&Value> = told.iter().filter(|t| t["deduplicated"] == false).collect();
    assert_eq!(begun.len(), 1, "{told:?}");
    for each in &told {
        assert_eq!(each["document_id"], document["id"]);
        assert_eq!(each["job_id"], begun[0]["job_id"]);
    }
    let job = client.ended(text_of(&begun[0]["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let id = text_of(&document["id"]);
    assert_eq!(jobs_of(&client, id).await.len(), 2);
    assert_whole(&client, id).await;
}

/// The key was not kept where nothing was written: a repetition told of the job that was the newest
/// by then.
#[tokio::test]
async fn an_answer_that_named_a_document_is_given_again_under_its_key_as_it_was() {
    let server = Server::start();
    let client = server.client();
    let upload = Upload::of("a.md", TEXT);
    let (job, document) = client.processed(&upload).await;
    let first = send(&client, "k", &upload).await;
    let told = first.expect(202);
    assert_eq!(
        (&told["deduplicated"], &told["job_id"]),
        (&json!(true), &job["id"])
    );
    // Another job about it comes.
    let id = text_of(&document["id"]);
    let step = format!("/api/documents/{id}/steps/chunk");
    let newer = client
        .post(&step, &json!({ "chunk_size": 60 }))
        .await
        .expect(202);
    client.ended(text_of(&newer["id"])).await;
    let unkeyed = client.upload(&upload).await.expect(202);
    assert_eq!(unkeyed["job_id"], newer["id"]);
    let again = send(&client, "k", &upload).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(
        (
            again.expect(202),
            again.position(),
            again.header("location").to_owned()
        ),
        (told, first.position(), first.header("location").to_owned())
    );
    let other = send(&client, "k", &Upload::of("b.md", TEXT)).await;
    other.expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_begins_anew_is_answered_the_same_again_across_a_restart() {
    let mut server = Server::start();
    let client = server.client();
    let (_, document) = failed(&client, "notes.pdf").await;
    let right = Upload::of("notes.md", TEXT);
    let sent = (0..8).map(|_| send(&client, "k", &right));
    let answers = futures_util::future::join_all(sent).await;
    let bodies: Vec<Value> = answers.iter().map(|answer| answer.expect(202)).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(bodies[0]["deduplicated"], false);
    let job = client.ended(text_of(&bodies[0]["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    server.kill();
    server.start_again();
    let client = server.client();
    let again = send(&client, "k", &right).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(202), bodies[0]);
    let id = text_of(&document["id"]);
    assert_eq!(jobs_of(&client, id).await.len(), 2);
}
