//! Another model for vectors: all documents get new ones, and people have the queue meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use stemma_tests::{Behaviour, Client, DIMENSION, ModelServer, Server, Upload};

use crate::documents::{TEXT, text_of};

/// How long all documents may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Jobs that may wait, and more documents than the queue and the workers of the server have.
const QUEUED_MAX: usize = 10;
const DOCUMENTS: usize = QUEUED_MAX + 4;

fn embedding_by(model: &ModelServer, name: &str, data: &Path) -> Server {
    Server::builder()
        .data(data)
        .env("STEMMA_EMBED__URL", &model.url())
        .env("STEMMA_EMBED__MODEL", name)
        .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
        .env("STEMMA_JOBS__QUEUED_MAX", &QUEUED_MAX.to_string())
        .start()
}

fn numbered(number: usize) -> Upload {
    Upload::of("a.md", format!("{TEXT}\nIt is number {number}.\n"))
}

/// The model that a document's vectors are of.
async fn model_of(client: &Client, id: &str) -> Value {
    client.document(id).await["steps"]["embed"]["figures"]["model"].clone()
}

/// With more documents than the queue has room for it was filled, uploads were refused meanwhile,
/// and the documents that had found no room kept the vectors of the model before.
#[tokio::test]
async fn another_model_takes_a_part_of_the_queue_and_goes_on_until_it_has_all_documents() {
    let data = tempfile::tempdir().expect("a directory");
    let model = ModelServer::start();
    let mut server = embedding_by(&model, "first", data.path());
    let client = server.client();
    let mut documents = Vec::new();
    for number in 0..DOCUMENTS {
        let (job, document) = client.processed(&numbered(number)).await;
        assert_eq!(job["status"], "completed", "{job}");
        documents.push(text_of(&document["id"]).to_owned());
    }
    assert_eq!(server.stop(), Some(0));
    drop(server);
    model.behave(Behaviour::Late);
    let n_asked = model.asked().len();
    let server = embedding_by(&model, "second", data.path());
    let client = server.client();
    model.wait_until_asked(n_asked + 1);
    let told = client.upload(&numbered(DOCUMENTS)).await.expect(202);
    model.behave(Behaviour::Well);
    let job = client.ended(text_of(&told["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let second = model_of(&client, text_of(&told["document_id"])).await;
    let since = Instant::now();
    for id in &documents {
        loop {
            let model = model_of(&client, id).await;
            if model == second {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{id} is of {model}");
            tokio::task::yield_now().await;
        }
    }
}
