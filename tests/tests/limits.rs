//! How much one may ask for: requests a second, and open streams (row C5).

use serde_json::json;
use stemma_tests::{Answer, Client, Server, SseReader, Upload, command};

use crate::access::create_token;
use crate::documents::text_of;
use crate::jobs::claim;

/// Most requests that are sent to meet a limit of one a second.
const TRIES_MAX: usize = 10_000;

/// Asks until a limit is met.
async fn refused(client: &Client, path: &str) -> Answer {
    for _ in 0..TRIES_MAX {
        let answer = client.get(path).await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("{path} was answered {TRIES_MAX} times");
}

fn after_s(refused: &Answer) -> u64 {
    refused.expect_problem(429, "TOO_MANY_REQUESTS");
    refused.header("retry-after").parse().expect("seconds")
}

#[tokio::test]
async fn a_token_beyond_its_rate_waits_and_others_do_not() {
    let data = tempfile::tempdir().expect("a directory");
    let [busy, calm] = ["reader", "admin"].map(|role| create_token(data.path(), role, &[]));
    let server = Server::builder()
        .data(data.path())
        .env("STEMMA_LIMITS__TOKEN_PER_S", "1")
        .env("STEMMA_LIMITS__BURST_S", "20")
        .start();
    let client =
        |made: &serde_json::Value| Client::showing(server.url(), Some(text_of(&made["token"])));
    let (busy, calm) = (client(&busy), client(&calm));
    let too_many = refused(&busy, "/api/resources").await;
    assert!((1..=20).contains(&after_s(&too_many)));
    // A balancer is told how the server is, not how busy somebody is.
    assert_eq!(busy.get("/api/health/live").await.status, 200);
    calm.get("/api/resources").await.expect(200);
    server
        .client()
        .get("/api/resources")
        .await
        .expect_problem(401, "TOKEN_MISSING");
    let metrics = calm.get("/metrics").await.text();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("stemma_http_refused_total"));
    assert!(
        counted.is_some_and(|line| line.contains("limit=\"token\"")),
        "{counted:?}"
    );
    // After the wait that it was told of, it is served again.
    while busy.get("/api/resources").await.status == 429 {}
}

#[tokio::test]
async fn without_tokens_an_address_has_a_rate() {
    let server = Server::builder()
        .env("STEMMA_LIMITS__ADDRESS_PER_S", "1")
        .env("STEMMA_LIMITS__BURST_S", "5")
        .start();
    let too_many = refused(&server.client(), "/api/resources").await;
    assert!((1..=5).contains(&after_s(&too_many)));
    // What is refused is not done.
    let body = json!({ "name": "Moon", "media_type": "text/plain", "content": "far" });
    let made = server.client().post("/api/resources", &body).await;
    assert_eq!(made.status, 429, "{}", made.text());
}

#[tokio::test]
async fn tokens_that_do_not_hold_are_told_apart_from_those_that_do() {
    let data = tempfile::tempdir().expect("a directory");
    let made = create_token(data.path(), "reader", &[]);
    let server = Server::builder()
        .data(data.path())
        .env("STEMMA_LIMITS__FAILURES_PER_S", "1")
        .env("STEMMA_LIMITS__BURST_S", "3")
        .start();
    let wrong = Client::showing(server.url(), Some("stemma_guess"));
    after_s(&refused(&wrong, "/api/resources").await);
    let right = Client::showing(server.url(), Some(text_of(&made["token"])));
    for _ in 0..20 {
        right.get("/api/resources").await.expect(200);
    }
}

#[tokio::test]
async fn a_token_has_as_many_streams_as_are_set_and_another_once_one_ends() {
    let data = tempfile::tempdir().expect("a directory");
    let made = create_token(data.path(), "reader", &[]);
    let server = Server::builder()
        .data(data.path())
        .env("STEMMA_SSE__TOKEN_STREAMS_MAX", "2")
        .start();
    let client = Client::showing(server.url(), Some(text_of(&made["token"])));
    let open = || SseReader::open(client.request("GET", "/api/events/stream"));
    let (first, second) = (open().await, open().await);
    let third = client.get("/api/events/stream").await;
    third.expect_problem(429, "STREAMS_EXCEEDED");
    assert!(!third.header("retry-after").is_empty());
    // What is no stream does not count.
    client.get("/api/resources").await.expect(200);
    drop(first);
    let again = loop {
        let answer = client.request("GET", "/api/events/stream").send().await;
        let answer = answer.expect("the server answers");
        if answer.status() == 200 {
            break answer;
        }
    };
    drop((second, again));
}

#[tokio::test]
async fn one_of_several_tenants_does_not_take_all_streams() {
    let data = tempfile::tempdir().expect("a directory");
    let data = data.path();
    for tenant in ["north", "south"] {
        let made = command(&["tenant", "create", tenant, "--data"])
            .arg(data)
            .output();
        assert!(made.expect("it runs").status.success());
    }
    let [north, south] =
        ["north", "south"].map(|tenant| create_token(data, "reader", &["--tenant", tenant]));
    let server = Server::builder()
        .data(data)
        .env("STEMMA_SSE__STREAMS_MAX", "4")
        .start();
    let client =
        |made: &serde_json::Value| Client::showing(server.url(), Some(text_of(&made["token"])));
    let (north, south) = (client(&north), client(&south));
    let open = |client: &Client| SseReader::open(client.request("GET", "/api/events/stream"));
    let half = [open(&north).await, open(&north).await];
    let third = north.get("/api/events/stream").await;
    third.expect_problem(429, "STREAMS_EXCEEDED");
    let other = [open(&south).await, open(&south).await];
    drop((half, other));
}

#[tokio::test]
async fn routes_that_keep_no_conditions_refuse_them_and_do_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let made = create_token(data.path(), "operator", &[]);
    let server = Server::builder().data(data.path()).start();
    let operator = Client::showing(server.url(), Some(text_of(&made["token"])));
    let token = json!({ "principal": "ada", "role": "reader", "tenant": "default" });
    let tenant = json!({ "name": "north" });
    for (path, body) in [("/api/admin/tokens", token), ("/api/admin/tenants", tenant)] {
        for header in [("idempotency-key", "k"), ("if-match", "\"r1\"")] {
            let headers = [("content-type", "application/json"), header];
            let refused = operator.raw("POST", path, &headers, body.to_string()).await;
            let problem = refused.expect_problem(400, "MALFORMED_HEADER");
            assert!(text_of(&problem["detail"]).contains(header.0), "{problem}");
        }
    }
    let tokens = operator.get("/api/admin/tokens").await.expect(200);
    assert_eq!(tokens["items"].as_array().map(Vec::len), Some(1));
    // The log of tokens can be opened anew, and is told of in health.
    let reopen = operator.request("POST", "/api/admin/reopen/tokens");
    operator.send(reopen).await.expect(200);
    let health = operator.get("/api/health").await.expect(200);
    assert_eq!(health["parts"]["tokens"]["status"], "ok");
}

fn assert_given_again(first: &Answer, again: &Answer) {
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((again.status, again.text()), (first.status, first.text()));
    assert_eq!(again.position(), first.position());
}

/// Found: a client whose answer got lost sent its request again, and was told that nothing was
/// written, though all of it was.
#[tokio::test]
async fn what_was_answered_under_a_key_is_answered_again_whatever_limit_is_met_by_now() {
    let server = Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("STEMMA_JOBS__QUEUED_MAX", "2")
        .env("STEMMA_JOBS__UPLOADS_PER_DAY_MAX", "1")
        .start();
    let client = server.client();
    let upload = async |key: &str, text: &str| {
        let request = client.uploading(&Upload::of("a.txt", text));
        client.send(request.header("Idempotency-Key", key)).await
    };
    let queue = async |key: &str| {
        let request = client.request("POST", "/api/jobs");
        let request = request.json(&json!({ "type": "translate" }));
        client.send(request.header("Idempotency-Key", key)).await
    };
    // How many wait is known by then.
    assert_eq!(claim(&client, "w", 0).await.status, 204);
    let document = upload("upload-1", "Stars.").await;
    document.expect(202);
    let job = queue("job-1").await;
    job.expect(201);
    let full = queue("job-2").await;
    full.expect_problem(429, "QUEUE_FULL");
    let exceeded = upload("upload-2", "Moons.").await;
    exceeded.expect_problem(429, "UPLOADS_EXCEEDED");
    assert_given_again(&document, &upload("upload-1", "Stars.").await);
    assert_given_again(&job, &queue("job-1").await);
    // A key that came before is no way past a limit.
    for key in ["upload-1", "job-1"] {
        let other = upload(key, "Moons.").await;
        other.expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
    }
    let jobs = client.get("/api/jobs").await.expect(200);
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(2), "{jobs}");
}

/// Found: the job was queued all the same, and whoever asked again had another one.
#[tokio::test]
async fn where_no_stream_is_taken_any_more_no_job_is_queued_to_be_followed() {
    let server = Server::builder()
        .env("STEMMA_SSE__STREAMS_MAX", "1")
        .start();
    let client = server.client();
    let made = client.create("a", "Galileo Galilei saw Jupiter.").await;
    let id = text_of(&made["id"]);
    let path = format!("/api/resources/{id}/detect-annotations-stream");
    let open = SseReader::open(client.request("GET", "/api/events/stream")).await;
    let refused = client.raw("POST", &path, &[], "").await;
    refused.expect_problem(503, "TOO_MANY_STREAMS");
    let jobs = client.get("/api/jobs").await.expect(200);
    assert_eq!(jobs["items"], json!([]));
    drop(open);
    // Told to its end; there is room once the server has noticed that the one before has ended.
    let followed = async || loop {
        let keyed = [("Idempotency-Key", "detect-1")];
        let answer = client.raw("POST", &path, &keyed, "").await;
        if answer.status != 503 {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.text().contains("event: completed"));
            return answer;
        }
    };
    let first = followed().await;
    assert_eq!(first.header("idempotency-replayed"), "");
    let again = followed().await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.position(), first.position());
    let jobs = client.get("/api/jobs").await.expect(200);
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(1), "{jobs}");
}
