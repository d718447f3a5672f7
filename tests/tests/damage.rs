//! A log that is not as it was written: refused, found behind the start, and never written over
//! (`cli.md`, E2).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use stemma_tests::{Client, Server, ServerBuilder, run};

const RESOURCES: usize = 40;

/// A server whose log fills a segment with every few events.
fn with_small_segments() -> ServerBuilder {
    Server::builder().env("STEMMA_LOG__SEGMENT_BYTES_MAX", "8192")
}

/// A stopped server's directory whose log has several segments.
async fn written() -> Server {
    let mut server = with_small_segments().start();
    let client = server.client();
    for number in 0..RESOURCES {
        client
            .create(&format!("name of number {number}."), "x")
            .await;
    }
    assert_eq!(server.stop(), Some(0));
    assert!(segments(server.data()).len() > 2);
    server
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(data.join("tenants/default/log")).expect("a log");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "segment"))
        .collect();
    paths.sort();
    paths
}

/// Turns one bit of where this name stands in the first segment.
fn flip(data: &Path, name: &str) {
    let path = &segments(data)[0];
    let mut bytes = std::fs::read(path).expect("the segment");
    // Its first letter may have been turned before.
    let like = |window: &[u8]| window[1..] == name.as_bytes()[1..];
    let at = bytes.windows(name.len()).position(like);
    let at = at.expect("the name stands there");
    let file = std::fs::File::options().write(true).open(path);
    bytes[at] ^= 4;
    std::os::unix::fs::FileExt::write_all_at(
        &file.expect("the file is ours"),
        &bytes[at..=at],
        at as u64,
    )
    .expect("the file can be written");
}

#[tokio::test]
async fn every_command_ends_with_3_on_damage_in_a_sealed_segment_and_says_what_is_whole() {
    let server = written().await;
    let data = server.data().to_str().expect("UTF-8").to_owned();
    flip(server.data(), "name of number 7.");
    let first = segments(server.data())[0]
        .file_name()
        .expect("a name")
        .to_owned();
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["import", "/proc/self/status"],
        &["rebuild", "views"],
        &["events"],
        &["stats", "--json"],
        &["verify", "--json"],
    ] {
        let output = run(&[args, &["--data", &data][..]].concat());
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {stderr}");
        let told = format!("{stdout}{stderr}");
        assert!(told.contains(&*first.to_string_lossy()), "{args:?}: {told}");
        match args[0] {
            "events" => assert_eq!(stdout.lines().count(), 7, "{stdout}"),
            "stats" => {
                let stats: Value = serde_json::from_str(&stdout).expect("JSON");
                assert_eq!(
                    (&stats["events"], &stats["resources"]),
                    (&RESOURCES.into(), &7.into())
                );
            }
            _ => {}
        }
    }
}

/// `serve` told the beginning of the group that a damaged record stands in, `verify` the record's.
#[tokio::test]
async fn a_server_that_does_not_start_and_a_verification_tell_one_place() {
    let mut server = Server::start();
    let names = ["a name", "name of number 7.", "another name"];
    for name in names {
        server.client().create(name, "x").await;
    }
    assert_eq!(server.stop(), Some(0));
    let data = server.data().to_str().expect("UTF-8").to_owned();
    // The only segment, which every start reads.
    flip(server.data(), "name of number 7.");
    let found = verified(server.data(), &["--quick"], 3);
    let damage = &found["damage"][0];
    assert_eq!(damage["kind"], "record_checksum", "{found}");
    assert_eq!(damage["position"], 1, "{found}");
    let file = damage["file"].as_str().expect("a file");
    let file = file.strip_prefix("log/").expect("of the log");
    let place = format!("{file} at {}, position 1: ", damage["offset"]);
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["stats"],
        &["rebuild", "views"],
    ] {
        let output = run(&[args, &["--data", &data][..]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {stderr}");
        assert!(stderr.contains(&place), "{args:?}: {place}: {stderr}");
    }
}

/// The damage was met where the missing index was made from the records, and was told as that of an
/// index: the command failed, and showed nothing of what is whole.
#[tokio::test]
async fn damage_that_is_met_where_an_index_is_missing_ends_with_3_and_shows_what_is_whole() {
    let server = written().await;
    let data = server.data().to_str().expect("UTF-8").to_owned();
    flip(server.data(), "name of number 7.");
    let index = server.data().join("tenants/default/log/index");
    std::fs::remove_dir_all(index).expect("it is derived");
    let output = run(&["events", "--data", &data]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout.lines().count(), 7, "{stdout}");
}

/// Asks for the health of the log until it is down; gives the reason.
async fn log_is_down(client: &Client) -> String {
    let begun = Instant::now();
    loop {
        let health = client.get("/api/health").await.json();
        let log = &health["parts"]["log"];
        if log["status"] == "down" {
            return log["reason"].as_str().expect("a reason").to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{health}");
    }
}

#[tokio::test]
async fn a_log_too_large_to_be_read_at_start_takes_no_writes_once_damage_is_found() {
    let written = written().await;
    flip(written.data(), "name of number 7.");
    let server = with_small_segments()
        .env("STEMMA_LOG__CHECK_AT_OPEN_BYTES_MAX", "0")
        .data(written.data())
        .start();
    let client = server.client();
    let reason = log_is_down(&client).await;
    assert!(
        reason.contains("position 7") || reason.contains("record 7"),
        "{reason}"
    );
    let entity_type = serde_json::json!({ "name": "T" });
    client
        .post("/api/entity_types", &entity_type)
        .await
        .expect_problem(503, "LOG_REFUSES_WRITES");
    // Reads go on, all but of what is damaged.
    client.get("/api/resources").await.expect(200);
    client.get("/api/events?after=30").await.expect(200);
    let metrics = client.get("/metrics").await.text();
    assert!(metrics.contains("stemma_log_writable 0"), "{metrics}");
    let reopen = || client.raw("POST", "/api/admin/reopen/log", &[], "");
    reopen().await.expect_problem(503, "LOG_REFUSES_WRITES");
    // Put right from a copy, say.
    flip(written.data(), "name of number 7.");
    reopen().await.expect(200);
    client
        .post("/api/entity_types", &entity_type)
        .await
        .expect(201);
    client.get("/api/health").await.expect(200);
}

#[tokio::test]
async fn a_running_server_that_finds_its_log_damaged_takes_no_more_writes() {
    let written = written().await;
    let server = with_small_segments().data(written.data()).start();
    let client = server.client();
    flip(written.data(), "name of number 7.");
    let is_writable = async || {
        let metrics = client.get("/metrics").await.text();
        !metrics.contains("\nstemma_log_writable 0")
    };
    verified_by(&client).await;
    assert!(!is_writable().await);
    client
        .post("/api/entity_types", &serde_json::json!({ "name": "T" }))
        .await
        .expect_problem(503, "LOG_REFUSES_WRITES");
}

/// Has a server verify itself; gives the job once it has ended.
async fn verified_by(client: &Client) -> Value {
    let job = client.raw("POST", "/api/admin/verify", &[], "").await;
    let job = job.expect(202)["id"].as_str().expect("an id").to_owned();
    let begun = Instant::now();
    loop {
        let job = client.get(&format!("/api/jobs/{job}")).await.json();
        if !job["completed_at"].is_null() {
            return job;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{job}");
    }
}

#[tokio::test]
async fn a_running_server_that_finds_an_index_damaged_tells_so_and_takes_writes() {
    let written = written().await;
    let server = with_small_segments().data(written.data()).start();
    let client = server.client();
    let index = written.data().join("tenants/default/log/index");
    let mut files = std::fs::read_dir(index).expect("indexes");
    let streams = files.find_map(|file| {
        let path = file.expect("a file").path();
        path.to_str()
            .is_some_and(|path| path.contains("streams-"))
            .then_some(path)
    });
    let streams = streams.expect("an index of streams");
    let mut bytes = std::fs::read(&streams).expect("it is read");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    std::fs::write(&streams, bytes).expect("it is written");
    let job = verified_by(&client).await;
    assert!(job.to_string().contains("streams-"), "{job}");
    let made = client
        .post("/api/entity_types", &serde_json::json!({ "name": "T" }))
        .await;
    made.expect(201);
}

#[tokio::test]
async fn the_loss_of_the_logs_last_segment_is_noticed_and_nothing_is_made_anew() {
    let server = written().await;
    let data = server.data().to_str().expect("UTF-8").to_owned();
    let last = segments(server.data()).pop().expect("a segment");
    std::fs::remove_file(last).expect("it can be lost");
    // As after kill -9, nothing else vouches for the log's end.
    let log = server.data().join("tenants/default/log");
    std::fs::remove_file(log.join("head")).expect("a clean stop left it");
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["import", "/proc/self/status"],
        &["rebuild", "views"],
        &["verify"],
    ] {
        let output = run(&[args, &["--data", &data][..]].concat());
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {told}");
        assert!(told.contains("lost events"), "{args:?}: {told}");
    }
    // Whoever accepts the loss says so by taking away what shows it.
    std::fs::remove_dir_all(server.data().join("tenants/default/views")).expect("derived");
    let server = with_small_segments().data(server.data()).start();
    let listed = server.client().get("/api/resources").await.expect(200);
    assert!(!listed["items"].as_array().expect("items").is_empty());
}

/// What `verify` with these arguments finds.
fn verified(data: &Path, args: &[&str], status: i32) -> Value {
    let data = data.to_str().expect("UTF-8");
    let output = run(&[&["verify", "--json", "--data", data], args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn one_record_is_verified_whatever_has_become_of_others() {
    let mut server = Server::start();
    for number in 0..10 {
        server
            .client()
            .create(&format!("name of number {number}."), "x")
            .await;
    }
    assert_eq!(server.stop(), Some(0));
    // In the last segment, so that the log cannot be opened as a whole.
    flip(server.data(), "name of number 7.");
    let whole = verified(server.data(), &["--position", "3"], 0);
    assert_eq!(whole["verdict"], "intact");
    for position in ["7", "8"] {
        let damaged = verified(server.data(), &["--position", position], 3);
        assert_eq!(damaged["damage"][0]["kind"], "record_checksum", "{damaged}");
    }
}

#[tokio::test]
async fn a_mark_of_another_version_is_damage_and_keeps_nothing_from_starting() {
    let mut server = Server::start();
    server.client().create("a", "x").await;
    assert_eq!(server.stop(), Some(0));
    let mark = server.data().join("tenants/default/content/mark");
    let mut bytes = std::fs::read(&mark).expect("a clean stop left it");
    bytes[8] ^= 0x40;
    std::fs::write(&mark, bytes).expect("the file is ours");
    let found = verified(server.data(), &[], 3);
    let damage = &found["damage"][0];
    assert_eq!(
        (&damage["file"], &damage["kind"]),
        (&"content/mark".into(), &"version".into())
    );
    server.start_again();
    server.client().create("b", "y").await;
    assert_eq!(server.stop(), Some(0));
    verified(server.data(), &[], 0);
}

#[tokio::test]
async fn content_that_is_gone_as_a_whole_is_named_blob_by_blob_and_no_new_store_is_made() {
    let mut server = Server::start();
    let mut made = Vec::new();
    for content in ["one", "two"] {
        made.push(server.client().create("a", content).await);
    }
    assert_eq!(server.stop(), Some(0));
    let content = server.data().join("tenants/default/content");
    std::fs::remove_dir_all(&content).expect("it can be lost");
    let found = verified(server.data(), &[], 3);
    let missing = found["damage"].as_array().expect("a list");
    let places: Vec<_> = missing
        .iter()
        .map(|d| (&d["part"], &d["kind"], &d["position"]))
        .collect();
    let place = |position: u64| {
        (
            Value::from("content"),
            Value::from("missing"),
            Value::from(position),
        )
    };
    let expected = [place(0), place(1)];
    assert!(
        places
            .into_iter()
            .eq(expected.iter().map(|(a, b, c)| (a, b, c))),
        "{found}"
    );
    for (damage, resource) in missing.iter().zip(&made) {
        assert_eq!(damage["digest"], resource["digest"], "{found}");
        assert_eq!(damage["file"], "content", "{found}");
    }
    let one = verified(server.data(), &["--position", "1"], 3);
    assert_eq!(one["damage"][0]["kind"], "missing", "{one}");
    assert_eq!(one["damage"][0]["digest"], missing[1]["digest"], "{one}");
    let data = server.data().to_str().expect("UTF-8");
    let served = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(served.status.code(), Some(3));
    assert!(!content.exists());
}

#[tokio::test]
async fn views_that_cannot_be_read_are_named_by_their_generation() {
    for (engine, file) in [("sled", "conf"), ("lsm-tree", "tree/current")] {
        let builder = Server::builder().env("STEMMA_VIEWS__ENGINE", engine);
        let mut server = builder.start();
        server.client().create("a", "x").await;
        assert_eq!(server.stop(), Some(0));
        let rows = format!("views/gen-000001/{engine}");
        let path = server.data().join("tenants/default").join(&rows).join(file);
        std::fs::write(&path, [7; 40]).expect("the file is ours");
        let settings = format!("[views]\nengine = \"{engine}\"\n");
        std::fs::write(server.data().join("stemma.toml"), settings).expect("a file");
        let found = verified(server.data(), &[], 3);
        assert_eq!(found["damage"][0]["file"], rows, "{found}");
    }
}

/// Every file and directory below, with its bytes and when it was changed.
fn state_of(dir: &Path) -> std::collections::BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut state = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("it is there");
        let bytes = if metadata.is_dir() {
            state.extend(state_of(&entry.path()));
            Vec::new()
        } else {
            std::fs::read(entry.path()).expect("a file")
        };
        let changed = metadata.modified().expect("a time");
        state.insert(entry.path(), (bytes, changed));
    }
    state
}

/// Engines write as soon as they open: a medium that cannot be written could not be verified.
#[tokio::test]
async fn a_verification_writes_nothing_where_the_data_is() {
    for engine in ["sled", "lsm-tree"] {
        let builder = Server::builder().env("STEMMA_VIEWS__ENGINE", engine);
        let mut server = builder.start();
        for content in ["one", "two", "three"] {
            server.client().create("a", content).await;
        }
        assert_eq!(server.stop(), Some(0));
        let before = state_of(server.data());
        for path in before.keys() {
            let metadata = std::fs::metadata(path).expect("it is there");
            let mut permissions = metadata.permissions();
            permissions.set_readonly(true);
            std::fs::set_permissions(path, permissions).expect("it is ours");
        }
        let data = server.data().to_str().expect("UTF-8").to_owned();
        let verified = std::process::Command::new(stemma_tests::binary())
            .args(["verify", "--json", "--data", &data])
            .env("STEMMA_VIEWS__ENGINE", engine)
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&verified.stderr);
        assert_eq!(verified.status.code(), Some(0), "{engine}: {stderr}");
        let found: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
        assert_eq!(found["notes"], serde_json::json!([]));
        let after = state_of(server.data());
        let changed: Vec<_> = after
            .iter()
            .filter(|(path, state)| before.get(*path) != Some(state))
            .map(|(path, _)| path)
            .collect();
        for path in before.keys() {
            let metadata = std::fs::metadata(path).expect("it is there");
            let mut permissions = metadata.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
            std::fs::set_permissions(path, permissions).expect("it is ours");
        }
        assert!(
            changed.is_empty() && after.len() == before.len(),
            "{engine}: {changed:?}"
        );
    }
}

/// What `verify` says when all that is temporary has so much room.
fn verified_with_room(data: &Path, engine: &str, kib: u32) -> std::process::Output {
    let room = tempfile::tempdir().expect("a directory");
    // A file system of its own, which goes with the process.
    let script = r#"mount -t tmpfs -o size="$1k" none "$2" && TMPDIR="$2" exec "$3" verify --json --data "$4""#;
    let us = std::fs::metadata("/proc/self").expect("a process");
    let is_root = std::os::unix::fs::MetadataExt::uid(&us) == 0;
    let to_be_root: &[&str] = if is_root {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    std::process::Command::new("unshare")
        .args(to_be_root)
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(kib.to_string())
        .args([room.path(), &stemma_tests::binary(), data])
        .env("STEMMA_VIEWS__ENGINE", engine)
        .output()
        .expect("unshare is there")
}

#[tokio::test]
async fn a_full_disk_beside_the_views_is_a_failure_and_never_damage() {
    for engine in ["sled", "lsm-tree"] {
        let mut server = Server::builder()
            .env("STEMMA_VIEWS__ENGINE", engine)
            .start();
        for number in 0..RESOURCES {
            server.client().create(&format!("a {number}"), "x").await;
        }
        assert_eq!(server.stop(), Some(0));
        let mut failed = 0;
        for kib in [4, 16, 64, 128, 256, 384, 512, 640, 768, 1024, 1536, 2048] {
            let output = verified_with_room(server.data(), engine, kib);
            let stderr = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => assert!(output.stderr.is_empty(), "{engine}, {kib} KiB: {stderr}"),
                Some(1) => {
                    assert!(stderr.contains("TMPDIR"), "{engine}, {kib} KiB: {stderr}");
                    failed += 1;
                }
                other => panic!("{engine}, {kib} KiB: {other:?} {stderr}"),
            }
        }
        assert!(failed > 1, "{engine} needs room: {failed}");
        let whole = verified_with_room(server.data(), engine, 256 << 10);
        assert_eq!(whole.status.code(), Some(0));
        // Damage that was found is told of all the same.
        std::fs::remove_dir_all(server.data().join("tenants/default/content")).expect("ours");
        let damaged = verified_with_room(server.data(), engine, 16);
        assert_eq!(damaged.status.code(), Some(3));
        let found: Value = serde_json::from_slice(&damaged.stdout).expect("JSON");
        let note = found["notes"][0].as_str().expect("a note");
        assert!(
            note.starts_with("views and graph were not verified"),
            "{found}"
        );
    }
}
