//! A wall clock that jumps loses no job, has none done twice and leaves none waiting: leases and
//! retries go by the monotonic clock (rows B3, B4).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{Client, Server, ServerBuilder, SseReader, Upload, WallClock};

use crate::documents::{TEXT, assert_whole, text_of};
use crate::jobs::{HAD_AGAIN, claim, queue, tell};
use crate::killed_jobs::{assert_nothing_is_doubled, assert_views_are_as_made_anew};

/// Where the clock jumps to, in days from the machine's: ahead and back, from both sides.
const JUMPS: [i64; 6] = [1, 0, -1, 0, -1, 1];
/// A lease that outlasts the test, but none of the jumps.
const LONG_LEASE_MS: u64 = 600_000;
const SHORT_LEASE_MS: u64 = 1_500;
/// The wait before a retry.
const WAIT: Duration = Duration::from_millis(1_500);
/// Two clocks count the same second not quite alike.
const SLACK: Duration = Duration::from_millis(20);
const DOCUMENTS: usize = 8;

fn server_by(clock: &WallClock) -> ServerBuilder {
    Server::builder()
        .by(clock)
        .env("STEMMA_JOBS__RETRY_BASE_MS", "1")
}

async fn events(client: &Client, stream: &str) -> Vec<Value> {
    client
        .every(&format!("/api/events?after=start&limit=500{stream}"))
        .await
}

async fn names_of(client: &Client, job: &Value) -> Vec<String> {
    let events = events(client, &format!("&stream=job-{}", text_of(&job["id"]))).await;
    let names = events
        .iter()
        .map(|event| text_of(&event["type"]).to_owned());
    names.collect()
}

/// Recorded time does not go back, wherever the clock went.
async fn assert_time_goes_on(client: &Client) {
    let events = events(client, "").await;
    let times: Vec<&str> = events.iter().map(|e| text_of(&e["recorded_at"])).collect();
    assert!(times.is_sorted(), "{times:?}");
    let (first, last) = (&times[0][..10], &times[times.len() - 1][..10]);
    assert!(first < last, "the clock did not go ahead: {times:?}");
}

#[tokio::test]
async fn an_event_is_recorded_by_the_clock_where_it_went_ahead_and_never_before_the_last_one() {
    let clock = WallClock::new();
    let mut server = server_by(&clock).start();
    let client = server.client();
    let mut days = Vec::new();
    for to in [0, 1, -1, 2] {
        clock.jump_to(to, &client).await;
        let made = client.create("n", &format!("text {to}")).await;
        let at = text_of(&made["created_at"]);
        // All that is there can be asked for at the time at which it was recorded.
        let past = format!("/api/resources/{}?as_of={at}", text_of(&made["id"]));
        assert_eq!(client.get(&past).await.expect(200)["created_at"], at);
        days.push(at[..10].to_owned());
    }
    assert!(
        days[0] < days[1] && days[1] == days[2] && days[2] < days[3],
        "{days:?}"
    );
    assert_time_goes_on(&client).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_lease_is_not_lost_because_the_wall_clock_jumped() {
    let clock = WallClock::new();
    let mut server = server_by(&clock)
        .env("STEMMA_JOBS__LEASE_MS", &LONG_LEASE_MS.to_string())
        .start();
    let client = server.client();
    let job = queue(&client, &json!({ "type": "ocr" })).await;
    let claimed = claim(&client, "w", 0).await.expect(200);
    for days in JUMPS {
        clock.jump_to(days, &client).await;
        // The ticker has looked at the time meanwhile: it does five times a second.
        assert_eq!(claim(&client, "other", 500).await.status, 204);
        let beat = tell(&client, &claimed, "heartbeat", json!({})).await;
        assert_eq!(beat.expect(200)["cancelled"], false);
    }
    let done = tell(&client, &claimed, "complete", json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("completed"), &json!(0))
    );
    assert_eq!(
        names_of(&client, &job).await,
        ["job.queued", "job.claimed", "job.completed"]
    );
    assert_time_goes_on(&client).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_lease_runs_out_in_its_own_time_wherever_the_wall_clock_went() {
    let clock = WallClock::new();
    let lease = Duration::from_millis(SHORT_LEASE_MS);
    let mut server = server_by(&clock)
        .env("STEMMA_JOBS__LEASE_MS", &SHORT_LEASE_MS.to_string())
        .start();
    let client = server.client();
    for days in JUMPS {
        let job = queue(&client, &json!({ "type": "ocr" })).await;
        let since = Instant::now();
        let lost = claim(&client, "slow", 0).await.expect(200);
        clock.jump_to(days, &client).await;
        let taken = claim(&client, "quick", 60_000).await.expect(200);
        assert_eq!(taken["job"]["id"], job["id"]);
        let waited = since.elapsed();
        assert!(waited + SLACK >= lease, "{days}: {waited:?}");
        assert!(waited < lease + HAD_AGAIN + HAD_AGAIN, "{days}: {waited:?}");
        let late = tell(&client, &lost, "complete", json!({})).await;
        late.expect_problem(409, "LEASE_LOST");
        tell(&client, &taken, "complete", json!({}))
            .await
            .expect(200);
        let names = [
            "job.queued",
            "job.claimed",
            "job.retry_scheduled",
            "job.claimed",
            "job.completed",
        ];
        assert_eq!(names_of(&client, &job).await, names);
    }
    assert_time_goes_on(&client).await;
    assert_eq!(server.stop(), Some(0));
}

/// A job that waits for its next try, as its worker asked.
async fn failed_job(client: &Client) -> (Value, Instant) {
    let job = queue(client, &json!({ "type": "ocr" })).await;
    let claimed = claim(client, "w", 0).await.expect(200);
    assert_eq!(claimed["job"]["id"], job["id"]);
    let error = json!({ "code": "BUSY", "message": "later", "transient": true });
    let since = Instant::now();
    let wait_ms = u64::try_from(WAIT.as_millis()).expect("a short wait");
    let told = json!({ "error": error, "retry_after_ms": wait_ms });
    let told = tell(client, &claimed, "fail", told).await.expect(200);
    assert_eq!(told["status"], "retrying");
    (job, since)
}

async fn is_tried_again(client: &Client, job: &Value) {
    let claimed = claim(client, "w", 60_000).await.expect(200);
    assert_eq!(claimed["job"]["id"], job["id"]);
    tell(client, &claimed, "complete", json!({}))
        .await
        .expect(200);
    let names = [
        "job.queued",
        "job.claimed",
        "job.retry_scheduled",
        "job.claimed",
        "job.completed",
    ];
    assert_eq!(names_of(client, job).await, names);
}

#[tokio::test]
async fn a_retry_comes_within_its_wait_wherever_the_wall_clock_went() {
    let clock = WallClock::new();
    let mut server = server_by(&clock).start();
    let client = server.client();
    for days in JUMPS {
        let (job, since) = failed_job(&client).await;
        clock.jump_to(days, &client).await;
        is_tried_again(&client, &job).await;
        let waited = since.elapsed();
        assert!(waited + SLACK >= WAIT, "{days}: {waited:?}");
        assert!(waited < WAIT + HAD_AGAIN + HAD_AGAIN, "{days}: {waited:?}");
    }
    assert_time_goes_on(&client).await;
    assert_eq!(server.stop(), Some(0));
}

/// A server that starts knows only the wall clock's word for when a retry is due.
#[tokio::test]
async fn a_retry_comes_within_its_wait_after_a_start_under_another_wall_clock() {
    let clock = WallClock::new();
    let mut server = server_by(&clock).start();
    for days in JUMPS {
        let (job, _) = failed_job(&server.client()).await;
        assert_eq!(server.stop(), Some(0));
        clock.set(days);
        let since = Instant::now();
        server.start_again();
        let client = server.client();
        is_tried_again(&client, &job).await;
        let waited = since.elapsed();
        // The start is within it.
        assert!(waited < WAIT + 10 * HAD_AGAIN, "{days}: {waited:?}");
    }
    assert_time_goes_on(&server.client()).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn documents_are_each_processed_once_while_the_wall_clock_jumps() {
    let clock = WallClock::new();
    let mut server = server_by(&clock).start();
    let client = server.client();
    let mut jumps = JUMPS.into_iter().cycle();
    let mut frames = SseReader::open(client.request("GET", "/api/events/stream")).await;
    let mut jobs = Vec::new();
    for number in 0..DOCUMENTS {
        let text = format!("{TEXT}\nJohannes Hevelius drew map {number}.\n").repeat(3);
        let upload = Upload::of(&format!("{number}.md"), text);
        jobs.push(client.upload(&upload).await.expect(202));
    }
    let mut n_completed = 0;
    while n_completed < DOCUMENTS {
        let event = frames
            .next_event()
            .await
            .expect("the stream goes on")
            .json();
        match text_of(&event["type"]) {
            // In the middle of a document, between any two of its stages.
            "document.stage_completed" => clock.set(jumps.next().expect("it is endless")),
            "job.completed" => n_completed += 1,
            name => assert!(!name.starts_with("job.fail"), "{event}"),
        }
    }
    for told in &jobs {
        let job = client.job(text_of(&told["job_id"])).await;
        assert_eq!(
            (&job["status"], &job["retry_count"]),
            (&json!("completed"), &json!(0)),
            "{job}"
        );
        assert_whole(&client, text_of(&told["document_id"])).await;
    }
    assert_nothing_is_doubled(&client, DOCUMENTS).await;
    assert_time_goes_on(&client).await;
    assert_views_are_as_made_anew(&client).await;
    assert_eq!(server.stop(), Some(0));
}
