//! Models that fail, hang and lie: what is tried again, what is given up, what is let go of
//! (rows B3, B5).

use serde_json::{Value, json};
use stemma_tests::{Behaviour, Client, DIMENSION, ModelServer, Server, ServerBuilder, Upload};

use crate::documents::{TEXT, assert_whole, text_of};

/// A server that embeds by a model of ours, and does not wait long between tries.
fn embedding_by(model: &ModelServer) -> ServerBuilder {
    Server::builder()
        .env("STEMMA_EMBED__URL", &model.url())
        .env("STEMMA_EMBED__MODEL", "stand-in")
        .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
}

fn status(status: u16, headers: &[(&str, &str)]) -> Behaviour {
    let headers = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Behaviour::Status(status, headers.collect(), "{}".to_owned())
}

fn is_retrying(job: &Value) -> bool {
    job["status"] == "retrying"
}

async fn post(client: &Client, path: &str) -> Value {
    client.raw("POST", path, &[], "").await.expect(202)
}

#[tokio::test]
async fn the_jobs_of_a_request_are_found_by_its_trace_with_why_they_failed() {
    let server = Server::start();
    let client = server.client();
    let traced = |trace: &str, text: &'static str| {
        let upload = client.uploading(&Upload::of("a.txt", text));
        client.send(upload.header("X-Request-ID", trace))
    };
    let broken = traced("night-run:7", " \n ").await.expect(202);
    let whole = traced("night-run:71", "Tables of the planets.")
        .await
        .expect(202);
    for told in [&broken, &whole] {
        client.ended(text_of(&told["job_id"])).await;
    }
    let page = client
        .get("/api/jobs?trace_id=night-run:7")
        .await
        .expect(200);
    let found = page["items"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{page}");
    assert_eq!(found[0]["id"], broken["job_id"]);
    assert_eq!(found[0]["error"]["code"], "EMPTY");
    assert_eq!(found[0]["error"]["stage"], "validate");
    assert_eq!(found[0]["trace_id"], "night-run:7");
    let both = "/api/jobs?trace_id=night-run:71&status=failed";
    assert_eq!(client.get(both).await.expect(200)["items"], json!([]));
    let none = client.get("/api/jobs?trace_id=a%20b").await;
    none.expect_problem(422, "INVALID_PARAMETERS");
}

#[tokio::test]
async fn a_model_that_fails_for_a_while_is_asked_again_until_it_answers() {
    let model = ModelServer::start();
    // Many retries: how often it is asked before it is well again is chance.
    let server = embedding_by(&model)
        .env("STEMMA_JOBS__RETRIES_MAX", "100")
        .env("STEMMA_JOBS__RETRY_CAP_MS", "40")
        .start();
    let client = server.client();
    let ways = [
        status(429, &[("Retry-After", "1")]),
        status(500, &[]),
        status(503, &[]),
        Behaviour::Closing,
        Behaviour::HalfBody,
        Behaviour::Body(b"<html>starting\x07 up</html>".to_vec()),
        Behaviour::Raw(b"no HTTP at all".to_vec()),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        model.behave(way.clone());
        let upload = Upload::of("a.md", format!("{TEXT}{number}"));
        let told = client.upload(&upload).await.expect(202);
        let job_id = text_of(&told["job_id"]);
        let job = client.reaches(job_id, is_retrying).await;
        assert!(is_retrying(&job), "{way:?}: {job}");
        assert_eq!(job["error"]["stage"], "embed", "{way:?}: {job}");
        assert_eq!(job["error"]["transient"], true);
        assert!(job["retry_at"].is_string());
        model.behave(Behaviour::Well);
        let job = client.ended(job_id).await;
        assert_eq!(job["status"], "completed", "{way:?}: {job}");
        assert!(job["retry_count"].as_u64() > Some(0), "{job}");
        assert!(job.get("error").is_none_or(Value::is_null), "{job}");
        let id = text_of(&told["document_id"]);
        assert_whole(&client, id).await;
        let document = client.document(id).await;
        assert!(
            !document["failures"]
                .as_array()
                .expect("failures")
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_model_that_stays_broken_makes_a_dead_letter_which_a_person_can_have_tried_anew() {
    let model = ModelServer::start();
    let server = embedding_by(&model).start();
    let client = server.client();
    model.behave(status(500, &[]));
    let (job, document) = client.processed(&Upload::of("a.md", TEXT)).await;
    let id = text_of(&document["id"]);
    assert_eq!(
        (&job["status"], &job["retry_count"]),
        (&json!("failed"), &json!(3))
    );
    let attempts = job["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 4, "{job}");
    for (attempt, number) in attempts.iter().zip(1..) {
        assert_eq!(attempt["attempt"], number);
        assert_eq!(attempt["error"]["stage"], "embed");
    }
    assert_eq!(document["failures"].as_array().map(Vec::len), Some(4));
    assert_eq!(document["steps"]["embed"]["status"], "failed");
    assert_eq!(document["steps"]["chunk"]["status"], "completed");
    let failed = client.get("/api/jobs?status=failed").await.expect(200);
    assert_eq!(failed["items"][0]["id"], job["id"]);
    let asked = model.asked().len();
    model.behave(Behaviour::Well);
    let job_id = text_of(&job["id"]);
    let retried = post(&client, &format!("/api/jobs/{job_id}/retry")).await;
    assert_eq!(retried["retry_count"], 0);
    let done = client.ended(job_id).await;
    assert_eq!(done["status"], "completed", "{done}");
    let after = done["attempts"].as_array().expect("attempts");
    assert_eq!(&after[..4], attempts.as_slice(), "its history is kept");
    assert_eq!((after.len(), &after[4]["attempt"]), (5, &json!(5)));
    assert!(model.asked().len() > asked);
    assert_whole(&client, id).await;
    client
        .raw("POST", &format!("/api/jobs/{job_id}/retry"), &[], "")
        .await
        .expect_problem(409, "JOB_NOT_RETRYABLE");
    client
        .raw("POST", &format!("/api/jobs/{job_id}/cancel"), &[], "")
        .await
        .expect_problem(409, "JOB_FINISHED");
    let failed = client.get("/api/jobs?status=failed").await.expect(200);
    assert_eq!(failed["items"], json!([]));
}

#[tokio::test]
async fn a_model_that_refuses_for_good_is_asked_once() {
    let model = ModelServer::start();
    let server = embedding_by(&model).start();
    let client = server.client();
    model.behave(status(401, &[]));
    let (job, _) = client.processed(&Upload::of("a.md", TEXT)).await;
    assert_eq!(
        (&job["status"], &job["retry_count"]),
        (&json!("failed"), &json!(0))
    );
    assert_eq!(
        (&job["error"]["transient"], model.asked().len()),
        (&json!(false), 1)
    );
}

#[tokio::test]
async fn what_is_cancelled_while_its_model_keeps_it_waiting_stops() {
    let model = ModelServer::start();
    let server = embedding_by(&model).start();
    let client = server.client();
    for hanging in [Behaviour::Silent, Behaviour::Stalling, Behaviour::Endless] {
        let asked = model.asked().len();
        model.behave(hanging.clone());
        let upload = Upload::of("a.md", format!("{TEXT}{hanging:?}"));
        let told = client.upload(&upload).await.expect(202);
        let job_id = text_of(&told["job_id"]);
        model.wait_until_asked(asked + 1);
        let job = post(&client, &format!("/api/jobs/{job_id}/cancel")).await;
        let is_told = job["cancel_requested"] == true || job["status"] == "cancelled";
        assert!(is_told, "{job}");
        let job = client.ended(job_id).await;
        assert_eq!(job["status"], "cancelled", "{hanging:?}: {job}");
        let document = client.document(text_of(&told["document_id"])).await;
        assert_eq!(document["steps"]["chunk"]["status"], "completed");
        assert_eq!(document["steps"]["embed"]["status"], "pending");
        assert_eq!(document["active_jobs"], json!([]));
        // It is tried anew from where it stood.
        model.behave(Behaviour::Well);
        post(&client, &format!("/api/jobs/{job_id}/retry")).await;
        assert_eq!(client.ended(job_id).await["status"], "completed");
        assert_whole(&client, text_of(&told["document_id"])).await;
    }
}

#[tokio::test]
async fn a_job_that_waits_for_its_next_try_is_cancelled_at_once() {
    let model = ModelServer::start();
    let server = embedding_by(&model)
        .env("STEMMA_JOBS__RETRY_BASE_MS", "3600000")
        .env("STEMMA_JOBS__RETRY_CAP_MS", "3600000")
        .start();
    let client = server.client();
    model.behave(status(500, &[]));
    let told = client.upload(&Upload::of("a.md", TEXT)).await.expect(202);
    let job_id = text_of(&told["job_id"]);
    assert!(is_retrying(&client.reaches(job_id, is_retrying).await));
    let job = post(&client, &format!("/api/jobs/{job_id}/cancel")).await;
    assert_eq!(job["status"], "cancelled", "{job}");
}

/// Vectors that are being made of chunks which are cut anew meanwhile were once recorded as those
/// of the new chunks, if only there were as many of them.
#[tokio::test]
async fn vectors_of_chunks_that_were_cut_anew_meanwhile_are_not_taken_for_those_of_the_new() {
    let model = ModelServer::start();
    let server = embedding_by(&model).start();
    let client = server.client();
    model.behave(Behaviour::Late);
    // Two chunks, whichever way.
    let text = format!("{}\n\n{}", "a".repeat(40), "b".repeat(40));
    let upload = Upload::of("a.txt", text)
        .with("chunking_strategy", "size")
        .with("chunk_size", "60")
        .with("chunk_overlap", "0");
    let told = client.upload(&upload).await.expect(202);
    let id = text_of(&told["document_id"]);
    model.wait_until_asked(1);
    let settings = json!({ "chunking_strategy": "size", "chunk_size": 50, "chunk_overlap": 0 });
    let path = format!("/api/documents/{id}/steps/chunk");
    let cut = client.post(&path, &settings).await.expect(202);
    let cut = client.ended(text_of(&cut["id"])).await;
    assert_eq!(
        (&cut["status"], &cut["result"]["chunk_count"]),
        (&json!("completed"), &json!(2))
    );
    model.behave(Behaviour::Well);
    let job = client.ended(text_of(&told["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_whole(&client, id).await;
    let chunks = client
        .every(&format!("/api/documents/{id}/chunks?limit=50"))
        .await;
    let texts: Vec<&Value> = chunks.iter().map(|chunk| &chunk["text"]).collect();
    let asked = model.asked();
    let last = asked.last().expect("it was asked");
    assert_eq!(
        json!(texts),
        last.body["input"],
        "its vectors are of the chunks that it has"
    );
}

#[tokio::test]
async fn what_a_detector_makes_up_is_dropped_and_counted() {
    let model = ModelServer::start();
    let server = Server::builder()
        .env("STEMMA_DETECT__URL", &model.url())
        .env("STEMMA_DETECT__MODEL", "stand-in")
        .start();
    let client = server.client();
    model.behave(Behaviour::Hallucinating);
    let (job, document) = client.processed(&Upload::of("a.md", TEXT)).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["result"]["dropped_spans"], 1, "{job}");
    assert!(job["result"]["entity_count"].as_u64() > Some(5), "{job}");
    let id = text_of(&document["id"]);
    assert_whole(&client, id).await;
    assert_eq!(document["entity_types"], json!(["Person"]));
    let annotations = client
        .every(&format!("/api/resources/{id}/annotations?limit=100"))
        .await;
    assert!(
        annotations
            .iter()
            .all(|a| a["body"][1]["value"] != "Nowhere Man")
    );
    assert!(
        annotations
            .iter()
            .any(|a| a["body"][1]["value"] == "Huygens")
    );
}
