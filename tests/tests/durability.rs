//! What was acknowledged is there after the process was killed (row E2).

use std::sync::{Arc, Mutex};

use serde_json::json;
use stemma_tests::{Client, Server, run};
use tokio::task::JoinSet;

/// Writes until the server is gone; keeps what was acknowledged.
async fn write(client: Client, writer: u64, acknowledged: Arc<Mutex<Vec<(String, String)>>>) {
    for number in 0_u64.. {
        let text = format!("text {writer} {number}");
        let id = format!("019a0000-0000-7000-{:04x}-{number:012x}", 0x8000 + writer);
        let body = json!({ "id": id, "name": "n", "media_type": "text/plain", "content": text });
        let sent = client
            .request("POST", "/api/resources")
            .json(&body)
            .send()
            .await;
        match sent {
            Ok(answer) if answer.status().as_u16() == 201 => {
                acknowledged.lock().expect("no panic").push((id, text));
            }
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = || Server::builder().data(&dir.path().join("data")).start();
    let mut server = start();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut least = 100;
    for round in 0..5 {
        let mut tasks = JoinSet::new();
        for writer in 0..8 {
            tasks.spawn(write(
                server.client(),
                round * 8 + writer,
                Arc::clone(&acknowledged),
            ));
        }
        while acknowledged.lock().expect("no panic").len() < least {
            tokio::task::yield_now().await;
        }
        least += 100;
        server.kill();
        while tasks.join_next().await.is_some() {}
        server = start();
        let client = server.client();
        let kept = acknowledged.lock().expect("no panic").clone();
        for (id, text) in kept {
            let content = client.get(&format!("/api/resources/{id}/content")).await;
            assert_eq!((content.status, content.text()), (200, text));
        }
    }
    assert_eq!(server.stop(), Some(0));
    let data = server.data().to_str().expect("a path in UTF-8").to_owned();
    let verified = run(&["verify", "--data", &data]);
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}
