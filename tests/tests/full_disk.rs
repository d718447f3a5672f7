//! A disk that is really full: writes are refused and nothing else is, and what was acknowledged is
//! there (rows E2, A12).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{Answer, Client, Server, SmallDisk, SseReader};

/// The disk, and what of it is taken up by a file that goes later.
const DISK_KIB: u32 = 16 << 10;
const FILLER_BYTES: usize = 4 << 20;
/// How long writes may take to be taken again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Content that cannot be made smaller, and differs for each number.
fn content(number: usize) -> String {
    let mut state = number as u64 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    (0..800).map(|_| next()).collect()
}

/// A write that is not repeated when it is sent again.
async fn post(client: &Client, path: &str, number: usize, body: &Value) -> Answer {
    let request = client.request("POST", path).json(body);
    let key = format!("write {number}");
    client.send(request.header("Idempotency-Key", key)).await
}

async fn create(client: &Client, number: usize) -> Answer {
    let body = json!({ "name": format!("n{number}"), "media_type": "text/plain", "content": content(number) });
    post(client, "/api/resources", number, &body).await
}

async fn annotate(client: &Client, id: &str, number: usize) -> Answer {
    let body = json!({
        "target": "http://example.org/",
        "body": { "type": "TextualBody", "value": content(number) },
    });
    let path = format!("/api/resources/{id}/annotations");
    post(client, &path, number, &body).await
}

async fn write(client: &Client, kind: &str, first: &str, number: usize) -> Answer {
    match kind {
        "contents" => create(client, number).await,
        _ => annotate(client, first, number).await,
    }
}

fn id_of(answer: &Answer, field: &str) -> String {
    answer.json()[field].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_only_these_and_they_go_on_once_there_is_room() {
    for engine in ["lsm-tree", "sled"] {
        for kind in ["contents", "events"] {
            fill_and_make_room(engine, kind).await;
        }
    }
}

async fn fill_and_make_room(engine: &str, kind: &str) {
    let disk = SmallDisk::of(DISK_KIB);
    std::fs::write(disk.outside("filler"), vec![7; FILLER_BYTES]).expect("there is room");
    // The index of search would take up the little room that is made.
    let builder = Server::builder()
        .env("STEMMA_VIEWS__ENGINE", engine)
        .env("STEMMA_SEARCH__MODE", "none");
    let mut server = builder.on(&disk).start();
    let client = server.client();
    let first = id_of(&create(&client, 0).await, "id");
    let mut acknowledged = vec![(first.clone(), 0)];
    let mut number = 0;
    let refused = loop {
        number += 1;
        let answer = write(&client, kind, &first, number).await;
        match (answer.status, kind) {
            (201, "contents") => acknowledged.push((id_of(&answer, "id"), number)),
            (201, _) => {}
            _ => break answer,
        }
    };
    let problem = refused.json();
    match refused.status {
        507 => assert_eq!(problem["code"], "STORAGE_FULL", "{engine}: {problem}"),
        // The views had no room: the write is in the log, and says so.
        _ => assert_eq!(
            problem["code"], "WRITTEN_NOT_VISIBLE",
            "{engine}: {problem}"
        ),
    }
    assert!(problem["detail"].is_string() && problem["trace_id"].is_string());
    reads_go_on(&server, &acknowledged).await;

    std::fs::remove_file(disk.outside("filler")).expect("it is there");
    if engine == "sled" {
        // sled 0.34 takes nothing after a write that failed: its word is a restart.
        server.kill();
        server.start_again();
    }
    writes_go_on(&server.client(), kind, &first, number + 1).await;
    reads_go_on(&server, &acknowledged).await;
    server.kill();
    server.start_again();
    reads_go_on(&server, &acknowledged).await;
    assert_eq!(server.stop(), Some(0));
    let entrance = disk.entrance();
    let verified = std::process::Command::new(&entrance[0])
        .args(&entrance[1..])
        .arg(stemma_tests::binary())
        .args(["verify", "--data"])
        .arg(disk.data())
        .env("STEMMA_VIEWS__ENGINE", engine)
        .output()
        .expect("nsenter is there");
    let told = String::from_utf8_lossy(&verified.stderr);
    assert_eq!(verified.status.code(), Some(0), "{engine}, {kind}: {told}");
}

/// Every resource with its content, the list of events, and a stream.
async fn reads_go_on(server: &Server, acknowledged: &[(String, usize)]) {
    let client = server.client();
    for (id, number) in acknowledged {
        let read = client.get(&format!("/api/resources/{id}/content")).await;
        assert_eq!(read.status, 200);
        assert_eq!(read.bytes, content(*number).as_bytes());
    }
    assert_eq!(client.get("/api/events?limit=5").await.status, 200);
    let request = client.request("GET", "/api/events/stream?after=start");
    let mut stream = SseReader::open(request).await;
    assert_eq!(stream.next_event().await.expect("an event").position(), 0);
}

async fn writes_go_on(client: &Client, kind: &str, first: &str, number: usize) {
    let started = Instant::now();
    loop {
        let answer = write(client, kind, first, number).await;
        if answer.status == 201 {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{}", answer.json());
    }
}
