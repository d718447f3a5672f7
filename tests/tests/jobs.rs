//! Jobs of any type for workers outside: claimed by one at a time, never lost, never done by two
//! (rows B4, B6).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{Answer, Client, Server};

use crate::documents::text_of;

/// How long a lease lasts where it is to run out.
const LEASE_MS: u64 = 300;
/// How long a job whose lease ran out may take to be had again.
pub(crate) const HAD_AGAIN: Duration = Duration::from_secs(1);

fn of_short_leases() -> Server {
    Server::builder()
        .env("STEMMA_JOBS__LEASE_MS", &LEASE_MS.to_string())
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
        .env("STEMMA_JOBS__RETRY_CAP_MS", "20")
        .start()
}

pub(crate) async fn queue(client: &Client, job: &Value) -> Value {
    client.post("/api/jobs", job).await.expect(201)
}

pub(crate) async fn claim(client: &Client, worker: &str, wait_ms: u64) -> Answer {
    let asked = json!({ "worker": worker, "types": ["ocr"], "wait_ms": wait_ms });
    loop {
        let answer = client.post("/api/workers/claim", &asked).await;
        // A server that has just started looks the jobs of its log up, and says so.
        if answer.status != 503 {
            return answer;
        }
        answer.expect_problem(503, "QUEUE_NOT_READY");
    }
}

/// What a worker says of a job, with its token.
pub(crate) async fn tell(client: &Client, claimed: &Value, call: &str, more: Value) -> Answer {
    let id = text_of(&claimed["job"]["id"]);
    let mut body = more;
    body["fencing_token"] = claimed["fencing_token"].clone();
    client
        .post(&format!("/api/workers/jobs/{id}/{call}"), &body)
        .await
}

#[tokio::test]
async fn a_job_of_ones_own_type_is_queued_claimed_told_of_and_completed() {
    let server = Server::start();
    let client = server.client();
    assert_eq!(claim(&client, "w", 0).await.status, 204);
    let asked = json!({ "type": "ocr", "payload": { "page": 7, "deep": [1.5, null] } });
    let answer = client.post("/api/jobs", &asked).await;
    let job = answer.expect(201);
    assert_eq!(
        answer.header("location"),
        format!("/api/jobs/{}", text_of(&job["id"]))
    );
    assert_eq!(
        (&job["status"], &job["payload"]),
        (&json!("queued"), &asked["payload"])
    );
    assert_eq!(
        (&job["max_retries"], &job["priority"]),
        (&json!(3), &json!(0))
    );
    let claimed = claim(&client, "w", 0).await.expect(200);
    assert_eq!(claimed["job"]["id"], job["id"]);
    assert_eq!(
        (&claimed["job"]["status"], &claimed["job"]["worker"]),
        (&json!("processing"), &json!("w"))
    );
    assert!(claimed["lease_expires_at"].is_string() && claimed["fencing_token"].is_u64());
    assert_eq!(claim(&client, "w", 0).await.status, 204);
    let told = json!({ "progress": 40, "message": "page 3 of 7" });
    let beat = tell(&client, &claimed, "progress", told).await.expect(200);
    assert_eq!(beat["cancelled"], false);
    let seen = client.job(text_of(&job["id"])).await;
    assert_eq!(
        (&seen["progress"], &seen["message"]),
        (&json!(40), &json!("page 3 of 7"))
    );
    let warnings = json!(["page 5 is blank", "ī".repeat(1024)]);
    let done = json!({ "result": { "text": "Zīj" }, "warnings": warnings });
    let done = tell(&client, &claimed, "complete", done).await.expect(200);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("completed"), &json!({ "text": "Zīj" }))
    );
    assert_eq!(client.job(text_of(&job["id"])).await, done);
    assert_eq!(done["warnings"], warnings);
    for (call, body) in [
        ("complete", json!({})),
        ("heartbeat", json!({})),
        ("progress", json!({ "progress": 1 })),
        (
            "fail",
            json!({ "error": { "code": "X", "message": "m", "transient": true } }),
        ),
    ] {
        let late = tell(&client, &claimed, call, body).await;
        late.expect_problem(409, "LEASE_LOST");
    }
}

/// Found: reads of jobs told no position, so that nobody knew what such an answer holds.
#[tokio::test]
async fn each_read_of_a_job_tells_the_position_that_it_reflects() {
    let server = Server::start();
    let client = server.client();
    let none = client.get("/api/jobs").await;
    assert_eq!(none.header("stemma-position"), "", "the log is empty");
    let queued = client.post("/api/jobs", &json!({ "type": "ocr" })).await;
    let id = text_of(&queued.expect(201)["id"]).to_owned();
    let reads = async |written: u64, status: &str| {
        let job = format!("/api/jobs/{id}");
        for path in ["/api/jobs", &job, &format!("{job}/status")] {
            let seen = client.get(&format!("{path}?min_position={written}")).await;
            let told = seen.expect(200);
            assert_eq!(seen.position(), written, "{path}");
            let job = told["items"].get(0).unwrap_or(&told);
            assert_eq!(job["status"], status, "{path}");
        }
    };
    reads(queued.position(), "queued").await;
    let head = async || client.get("/api/events").await.position();
    let claimed = claim(&client, "w", 0).await.expect(200);
    reads(head().await, "processing").await;
    let done = tell(&client, &claimed, "complete", json!({})).await;
    done.expect(200);
    let last = head().await;
    assert!(last > queued.position());
    reads(last, "completed").await;
}

/// Its end is recorded before the thread that ran it says so: an answer that told the position of
/// that end said that the job was under way.
#[tokio::test]
async fn an_operators_job_whose_end_is_in_the_views_is_told_as_ended_and_can_be_begun_anew() {
    let server = Server::start();
    let client = server.client();
    client.create("a", "Jupiter").await;
    for _ in 0..10 {
        let begun = client.raw("POST", "/api/admin/verify", &[], "").await;
        let id = begun.expect(202)["id"].clone();
        let since = Instant::now();
        loop {
            let ended = client.get("/api/jobs?type=verify&status=completed").await;
            let ended = ended.expect(200);
            let ended = ended["items"].as_array().expect("a list");
            assert!(
                ended.iter().all(|job| job["status"] == "completed"),
                "{ended:?}"
            );
            if ended.iter().any(|job| job["id"] == id) {
                break;
            }
            assert!(since.elapsed() < Duration::from_mins(1), "{id}");
        }
    }
}

#[tokio::test]
async fn a_job_queued_again_under_its_key_is_one_job() {
    let server = Server::start();
    let client = server.client();
    let asked = json!({ "type": "ocr" });
    let send = async || {
        let request = client.request("POST", "/api/jobs").json(&asked);
        client.send(request.header("Idempotency-Key", "k")).await
    };
    let sent = (0..8).map(|_| send());
    let answers = futures_util::future::join_all(sent).await;
    let first = answers[0].expect(201);
    assert!(answers.iter().all(|answer| answer.expect(201) == first));
    let jobs = client.every("/api/jobs?limit=100").await;
    assert_eq!(jobs.len(), 1);
    let claimed = claim(&client, "w", 0).await.expect(200);
    tell(&client, &claimed, "complete", json!({}))
        .await
        .expect(200);
    assert_eq!(send().await.expect(201), first, "as it was then");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_claiming_at_once_never_get_the_same_job() {
    let server = Server::builder()
        .env("STEMMA_JOBS__ACTIVE_MAX", "0")
        .start();
    let client = server.client();
    for n in 0..12 {
        queue(&client, &json!({ "type": "ocr", "payload": { "n": n } })).await;
    }
    let workers = (0..8).map(|worker| {
        let client = client.clone();
        async move {
            let mut got = Vec::new();
            loop {
                let answer = claim(&client, &format!("w{worker}"), 0).await;
                if answer.status == 204 {
                    return got;
                }
                got.push(answer.expect(200));
            }
        }
    });
    let got = futures_util::future::join_all(workers).await.concat();
    let mut ids: Vec<&str> = got.iter().map(|c| text_of(&c["job"]["id"])).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((got.len(), ids.len()), (12, 12));
    for claimed in &got {
        let mut forged = claimed.clone();
        forged["fencing_token"] = json!(claimed["fencing_token"].as_u64().expect("a token") + 1);
        let answer = tell(&client, &forged, "complete", json!({})).await;
        answer.expect_problem(409, "LEASE_LOST");
        tell(&client, claimed, "complete", json!({}))
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn a_lease_that_runs_out_gives_the_job_to_another_and_the_late_result_is_refused() {
    let server = of_short_leases();
    let client = server.client();
    let job = queue(&client, &json!({ "type": "ocr" })).await;
    let lost = claim(&client, "slow", 0).await.expect(200);
    let since = Instant::now();
    let taken = claim(&client, "quick", 10_000).await.expect(200);
    let waited = since.elapsed();
    assert_eq!(taken["job"]["id"], job["id"]);
    let lease = Duration::from_millis(LEASE_MS);
    assert!(waited < lease + HAD_AGAIN, "{waited:?}");
    let attempts = taken["job"]["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["worker"], "slow");
    assert_eq!(attempts[0]["error"]["code"], "WORKER_LOST");
    for call in ["complete", "heartbeat"] {
        let late = tell(&client, &lost, call, json!({})).await;
        late.expect_problem(409, "LEASE_LOST");
    }
    let done = tell(
        &client,
        &taken,
        "complete",
        json!({ "result": { "by": "quick" } }),
    )
    .await;
    assert_eq!(done.expect(200)["result"], json!({ "by": "quick" }));
}

#[tokio::test]
async fn a_worker_that_is_heard_of_keeps_its_job_past_its_first_lease() {
    let server = of_short_leases();
    let client = server.client();
    queue(&client, &json!({ "type": "ocr" })).await;
    let claimed = claim(&client, "w", 0).await.expect(200);
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(4 * LEASE_MS) {
        // A long poll that finds nothing is a wait of a third of the lease.
        assert_eq!(claim(&client, "other", LEASE_MS / 3).await.status, 204);
        tell(&client, &claimed, "heartbeat", json!({}))
            .await
            .expect(200);
    }
    tell(&client, &claimed, "complete", json!({}))
        .await
        .expect(200);
}

#[tokio::test]
async fn more_urgent_jobs_come_first_and_equals_in_their_order() {
    let server = Server::start();
    let client = server.client();
    for (n, priority) in [(0, 0), (1, -5), (2, 10), (3, 0), (4, 10)] {
        let job = json!({ "type": "ocr", "priority": priority, "payload": { "n": n } });
        queue(&client, &job).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        let claimed = claim(&client, "w", 0).await.expect(200);
        order.push(claimed["job"]["payload"]["n"].as_u64().expect("a number"));
        tell(&client, &claimed, "complete", json!({}))
            .await
            .expect(200);
    }
    assert_eq!(order, [2, 4, 0, 3, 1]);
}

#[tokio::test]
async fn who_waits_for_a_job_is_woken_by_a_new_one() {
    let server = Server::start();
    let client = server.client();
    let since = Instant::now();
    let waiting = claim(&client, "w", 30_000);
    let queueing = async {
        // Of another type, which wakes nobody for good.
        queue(&client, &json!({ "type": "translate" })).await;
        queue(&client, &json!({ "type": "ocr" })).await
    };
    let (claimed, job) = tokio::join!(waiting, queueing);
    assert_eq!(claimed.expect(200)["job"]["id"], job["id"]);
    assert!(since.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_worker_learns_by_its_heartbeat_that_its_job_is_cancelled() {
    let server = Server::start();
    let client = server.client();
    let job = queue(&client, &json!({ "type": "ocr" })).await;
    let claimed = claim(&client, "w", 0).await.expect(200);
    let cancel = format!("/api/jobs/{}/cancel", text_of(&job["id"]));
    let told = client.raw("POST", &cancel, &[], "").await.expect(202);
    assert_eq!(
        (&told["status"], &told["cancel_requested"]),
        (&json!("processing"), &json!(true))
    );
    let beat = tell(&client, &claimed, "heartbeat", json!({}))
        .await
        .expect(200);
    assert_eq!(beat["cancelled"], true);
    let error = json!({ "error": { "code": "STOPPED", "message": "as asked", "transient": true } });
    let ended = tell(&client, &claimed, "fail", error).await.expect(200);
    assert_eq!(ended["status"], "cancelled");
    let late = tell(&client, &claimed, "complete", json!({})).await;
    late.expect_problem(409, "LEASE_LOST");
}

#[tokio::test]
async fn a_cancelled_job_whose_worker_is_silent_ends_with_its_lease() {
    let server = of_short_leases();
    let client = server.client();
    let job = queue(&client, &json!({ "type": "ocr" })).await;
    claim(&client, "w", 0).await.expect(200);
    let id = text_of(&job["id"]);
    client
        .raw("POST", &format!("/api/jobs/{id}/cancel"), &[], "")
        .await
        .expect(202);
    assert_eq!(client.ended(id).await["status"], "cancelled");
}

#[tokio::test]
async fn an_attempt_that_failed_is_tried_again_until_its_retries_are_used_up() {
    let server = of_short_leases();
    let client = server.client();
    let job = queue(&client, &json!({ "type": "ocr", "max_retries": 2 })).await;
    let id = text_of(&job["id"]);
    let failure = |transient: bool| json!({ "error": { "code": "NO_SCANNER", "message": "unplugged", "transient": transient } });
    for (retry, status) in [(1, "retrying"), (2, "retrying"), (2, "failed")] {
        let claimed = claim(&client, "w", 10_000).await.expect(200);
        let told = tell(&client, &claimed, "fail", failure(true))
            .await
            .expect(200);
        assert_eq!(
            (&told["status"], &told["retry_count"]),
            (&json!(status), &json!(retry))
        );
        assert_eq!(told["error"]["code"], "NO_SCANNER");
    }
    assert_eq!(claim(&client, "w", 100).await.status, 204);
    client
        .raw("POST", &format!("/api/jobs/{id}/retry"), &[], "")
        .await
        .expect(202);
    let claimed = claim(&client, "w", 0).await.expect(200);
    let told = tell(&client, &claimed, "fail", failure(false))
        .await
        .expect(200);
    assert_eq!(
        (&told["status"], &told["retry_count"]),
        (&json!("failed"), &json!(0))
    );
    assert_eq!(told["attempts"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn what_is_no_job_or_no_workers_call_is_refused() {
    let server = Server::start();
    let client = server.client();
    for wrong in [
        json!({}),
        json!({ "type": "" }),
        json!({ "type": "document.process" }),
        json!({ "type": "rebuild.views" }),
        json!({ "type": "backup" }),
        json!({ "type": "ocr", "priority": 1001 }),
        json!({ "type": "ocr", "max_retries": -1 }),
        json!({ "type": "ocr", "payload": [] }),
        json!({ "type": "ocr", "payload": { "a": "b".repeat(70_000) } }),
        json!({ "type": "ocr", "document_id": "019a0000-0000-7000-8000-000000000000" }),
    ] {
        let answer = client.post("/api/jobs", &wrong).await;
        answer.expect_problem(422, "INVALID_FIELDS");
    }
    for wrong in [
        json!({ "types": ["ocr"] }),
        json!({ "worker": "server:0", "types": ["ocr"] }),
        json!({ "worker": "w", "types": [] }),
        json!({ "worker": "w", "types": ["ocr"], "wait_ms": 60_001 }),
    ] {
        let answer = client.post("/api/workers/claim", &wrong).await;
        answer.expect_problem(422, "INVALID_FIELDS");
    }
    let nobody = "/api/workers/jobs/019a0000-0000-7000-8000-000000000000/heartbeat";
    let answer = client.post(nobody, &json!({ "fencing_token": 1 })).await;
    answer.expect_problem(404, "JOB_NOT_FOUND");
    queue(&client, &json!({ "type": "ocr" })).await;
    let claimed = claim(&client, "w", 0).await.expect(200);
    for (call, wrong) in [
        ("progress", json!({ "progress": 101 })),
        ("progress", json!({ "message": "m" })),
        (
            "complete",
            json!({ "result": { "a": "b".repeat(300_000) } }),
        ),
        ("complete", json!({ "outcome": {} })),
        ("fail", json!({})),
        (
            "fail",
            json!({ "error": { "code": "lower", "message": "m", "transient": true } }),
        ),
    ] {
        let answer = tell(&client, &claimed, call, wrong).await;
        answer.expect_problem(422, "INVALID_FIELDS");
    }
    // A job that is not about a document has no stages.
    let output = json!({ "output": { "text": "t" } });
    let answer = tell(&client, &claimed, "stages/parse", output).await;
    answer.expect_problem(404, "DOCUMENT_NOT_FOUND");
    tell(&client, &claimed, "complete", json!({}))
        .await
        .expect(200);
}

/// A retry whose time came was once noticed by a worker of other kinds, which told nobody.
#[tokio::test]
async fn a_retry_that_comes_due_wakes_who_waits_whoever_notices_it() {
    const RETRIES: u64 = 40;
    let server = of_short_leases();
    let client = server.client();
    queue(&client, &json!({ "type": "ocr", "max_retries": RETRIES })).await;
    let error = json!({ "error": { "code": "BUSY", "message": "later", "transient": true } });
    for retry in 1..=RETRIES {
        let answer = claim(&client, "w", 10_000).await;
        assert_eq!(answer.status, 200, "retry {retry} was not told of");
        let told = tell(&client, &answer.json(), "fail", error.clone()).await;
        assert_eq!(told.expect(200)["retry_count"], retry);
    }
}

/// Found: the key was passed over. A retry that was sent again, since its answer got lost, was
/// refused, or had the job tried once more than anybody wanted.
#[tokio::test]
async fn a_retry_and_a_cancel_under_a_key_are_carried_out_once_and_answered_alike() {
    let server = Server::start();
    let client = server.client();
    let job = queue(&client, &json!({ "type": "ocr" })).await;
    let id = text_of(&job["id"]);
    let ask = async |what: &str, key: &str| {
        let keyed = [("Idempotency-Key", key)];
        let path = format!("/api/jobs/{id}/{what}");
        client.raw("POST", &path, &keyed, "").await
    };
    let fail = async || {
        let claimed = claim(&client, "w", 0).await.expect(200);
        let error = json!({ "code": "NO_SCANNER", "message": "unplugged", "transient": false });
        let told = tell(&client, &claimed, "fail", json!({ "error": error })).await;
        assert_eq!(told.expect(200)["status"], "failed");
    };
    let assert_given_again = |first: &Answer, again: &Answer| {
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.expect(202), first.expect(202));
        assert_eq!(again.position(), first.position());
    };
    fail().await;
    let retried = ask("retry", "retry-1").await;
    assert_eq!(retried.expect(202)["status"], "queued");
    assert_given_again(&retried, &ask("retry", "retry-1").await);
    fail().await;
    assert_given_again(&retried, &ask("retry", "retry-1").await);
    assert_eq!(client.job(id).await["status"], "failed");
    assert_eq!(
        ask("retry", "retry-2").await.expect(202)["status"],
        "queued"
    );
    let claimed = claim(&client, "w", 0).await.expect(200);
    let told = json!({ "progress": 40, "message": "page 3 of 7" });
    tell(&client, &claimed, "progress", told).await.expect(200);
    let cancelled = ask("cancel", "cancel-1").await;
    assert_eq!(cancelled.expect(202)["cancel_requested"], true);
    tell(&client, &claimed, "release", json!({}))
        .await
        .expect(200);
    assert_given_again(&cancelled, &ask("cancel", "cancel-1").await);
    let late = ask("cancel", "cancel-2").await;
    late.expect_problem(409, "JOB_FINISHED");
    let other = ask("cancel", "retry-1").await;
    other.expect_problem(422, "IDEMPOTENCY_KEY_REUSED");
    // What the server does for its operator may stand nowhere in the log.
    let verify = client.raw("POST", "/api/admin/verify", &[], "").await;
    let path = format!("/api/jobs/{}/cancel", text_of(&verify.expect(202)["id"]));
    let keyed = [("Idempotency-Key", "cancel-3")];
    let refused = client.raw("POST", &path, &keyed, "").await;
    refused.expect_problem(400, "MALFORMED_HEADER");
}
