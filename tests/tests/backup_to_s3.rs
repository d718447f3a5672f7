//! Backups in a store of objects that speaks S3: as good as those in a directory (row E5).

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{ObjectStore, Proxy, command};

use crate::backup::{done, stderr, with_small_segments, written};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// A lease of which a quarter, the time for one try, is enough on a machine that is busy.
const LOCK_MS: (&str, &str) = ("STEMMA_BACKUP__S3_LOCK_MS", "8000");

fn at(data: &Path, address: &str, args: &[&str]) -> std::process::Command {
    let mut command = command(args);
    let variables = ObjectStore::variables(address);
    command
        .arg("--data")
        .arg(data)
        .envs(variables)
        .envs([LOCK_MS]);
    command
}

/// Runs a command to its end, without keeping the store's side waiting.
async fn ended(mut command: std::process::Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.expect("it is waited for").expect("it runs")
}

/// What a command gave that ended well, and told nobody the secret.
async fn well(data: &Path, store: &ObjectStore, args: &[&str]) -> Value {
    let output = ended(at(data, store.address(), &[args, &["--json"]].concat())).await;
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {told}");
    assert!(!told.contains(ObjectStore::SECRET), "{told}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_in_a_bucket_takes_what_is_new_and_comes_back_byte_for_byte() {
    let mut server = written(30).await;
    let store = ObjectStore::start().await;
    let target = ObjectStore::target("nightly/one");
    let first = well(server.data(), &store, &["backup", &target]).await;
    assert_eq!(first["copied_bytes"], first["bytes"]);
    let again = well(server.data(), &store, &["backup", &target]).await;
    assert_eq!(again["copied_files"], 0);
    let before = store.objects().await;
    server.start_again();
    // Larger than what is sent in one request, so that it goes in parts.
    let numbers: Vec<String> = (0..4_000_000).map(|n: u32| format!("{n:09}")).collect();
    let large = numbers.join(" ");
    let made = server.client().create("large", "to be more").await;
    let path = format!(
        "/api/resources/{}/content",
        made["id"].as_str().expect("an id")
    );
    let plain = [("content-type", "text/plain")];
    let put = server
        .client()
        .raw("PUT", &path, &plain, large.clone())
        .await;
    put.expect(200);
    assert_eq!(server.stop(), Some(0));
    let later = well(server.data(), &store, &["backup", &target]).await;
    let after = store.objects().await;
    for (name, etag) in &before {
        let may_change = name.ends_with("/manifest.json") || name.ends_with("/lock");
        assert!(may_change || after.get(name) == Some(etag), "{name}");
        assert!(name.starts_with("nightly/one/"), "{name}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let restored = dir.path().join("restored");
    let found = well(&restored, &store, &["restore", &target]).await;
    assert_eq!(found["tenants"], later["tenants"]);
    let verified = done(&restored, &["verify"]);
    assert_eq!(verified["root"], later["tenants"][0]["root"]);
    let server = with_small_segments().data(&restored).start();
    let content = server.client().get(&path).await;
    assert!(content.text() == large, "the content came back otherwise");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_backs_up_to_a_bucket_and_says_nothing_of_its_keys() {
    let store = ObjectStore::start().await;
    let mut builder = with_small_segments().env("STEMMA_LOG", "trace");
    for (name, value) in ObjectStore::variables(store.address()) {
        builder = builder.env(name, &value);
    }
    builder = builder.env(LOCK_MS.0, LOCK_MS.1);
    let target = format!("off-site={}", ObjectStore::target("a"));
    let server = builder.env("STEMMA_BACKUP__TARGETS", &target).start();
    let client = server.client();
    client.create("one", "content").await;
    let wanted = json!({ "target": "off-site" });
    let asked = client.post("/api/admin/backup", &wanted).await;
    let job = crate::operation::outcome(&client, &asked.expect(202)).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert!(store.objects().await.contains_key("a/manifest.json"));
    assert!(!server.told().contains(ObjectStore::SECRET));
    assert!(!server.told().contains("X-Amz-Signature"));
    let told = ended(at(server.data(), store.address(), &["config"])).await;
    let told = String::from_utf8(told.stdout).expect("text");
    assert!(told.contains("backup.s3_secret_key") && !told.contains(ObjectStore::SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_killed_leaves_the_bucket_as_it_was_and_the_next_goes_on() {
    let mut server = written(20).await;
    let store = ObjectStore::start().await;
    let target = ObjectStore::target("a");
    let first = well(server.data(), &store, &["backup", &target]).await;
    let before = store.objects().await.len();
    server.start_again();
    for number in 0..60 {
        let content = format!("later {number} ").repeat(300);
        server.client().create("later", &content).await;
    }
    assert_eq!(server.stop(), Some(0));
    let mut backup = at(server.data(), store.address(), &["backup", &target]);
    let mut child = backup.stderr(Stdio::null()).spawn().expect("it starts");
    while store.objects().await.len() < before + 2 {
        let has_ended = child.try_wait().expect("the process is ours");
        assert!(has_ended.is_none(), "it ended before it was killed");
    }
    child.kill().expect("the process is ours");
    child.wait().expect("the process is ours");
    let dir = tempfile::tempdir().expect("a directory");
    let found = well(&dir.path().join("a"), &store, &["restore", &target]).await;
    assert_eq!(found["tenants"], first["tenants"]);
    // The lock of the one that was killed holds for a while.
    let begun = Instant::now();
    let made = loop {
        let args = ["backup", &target, "--json"];
        let output = ended(at(server.data(), store.address(), &args)).await;
        if output.status.success() {
            break output;
        }
        let told = stderr(&output);
        assert!(told.contains("is being written to by process"), "{told}");
        assert!(begun.elapsed() < PATIENCE, "it is never taken over");
    };
    let made: Value = serde_json::from_slice(&made.stdout).expect("one object");
    let found = well(&dir.path().join("b"), &store, &["restore", &target]).await;
    assert_eq!(found["tenants"], made["tenants"]);
    done(&dir.path().join("b"), &["verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_breaks_off_is_asked_again_and_one_that_is_gone_leaves_the_backup() {
    let server = written(20).await;
    let store = ObjectStore::start().await;
    let proxy = Proxy::to(store.address()).await;
    let target = ObjectStore::target("a");
    for bytes in [200, 3000, 20_000] {
        proxy.cut_after(bytes);
        let args = ["backup", &target, "--json"];
        let output = ended(at(server.data(), proxy.address(), &args)).await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let made = well(server.data(), &store, &["backup", &target]).await;
    let before = store.objects().await;
    let gone = "127.0.0.1:1";
    let output = ended(at(server.data(), gone, &["backup", &target])).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!stderr(&output).contains(ObjectStore::SECRET));
    let mut after = store.objects().await;
    after.insert("a/lock".to_owned(), before["a/lock"].clone());
    assert_eq!(after, before);
    let dir = tempfile::tempdir().expect("a directory");
    let found = well(&dir.path().join("a"), &store, &["restore", &target]).await;
    assert_eq!(found["tenants"], made["tenants"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_write_to_a_bucket_one_is_refused() {
    let server = written(3).await;
    let store = ObjectStore::start().await;
    let target = ObjectStore::target("a");
    let held = "3600000\n77 (another)\n".as_bytes().to_vec();
    store.put("a/lock", held).await;
    let output = ended(at(server.data(), store.address(), &["backup", &target])).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let expected = "is being written to by process 77";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    assert_eq!(store.objects().await.len(), 1);
    store.put("a/lock", b"free".to_vec()).await;
    well(server.data(), &store, &["backup", &target]).await;
    assert_eq!(store.get("a/lock").await.as_deref(), Some(&b"free"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_damaged_is_told_and_nothing_is_restored() {
    let server = written(20).await;
    let store = ObjectStore::start().await;
    let target = ObjectStore::target("a");
    well(server.data(), &store, &["backup", &target]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let restored = dir.path().join("restored");
    let objects = store.objects().await;
    for end in [".part", ".blobs", ".index", "manifest.json"] {
        let name = objects.keys().find(|name| name.ends_with(end));
        let name = name.expect("there is one");
        let whole = store.get(name).await.expect("it is there");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 4;
        let short = whole[..whole.len() - 1].to_vec();
        for bytes in [damaged, short] {
            store.put(name, bytes).await;
            let output = ended(at(&restored, store.address(), &["restore", &target])).await;
            assert_eq!(output.status.code(), Some(3), "{name}: {}", stderr(&output));
            assert!(!restored.join("tenants").exists(), "{name}");
        }
        store.put(name, whole).await;
    }
    let is_part = |name: &&String| Path::new(name).extension().is_some_and(|e| e == "part");
    let part = objects.keys().find(is_part);
    let part = part.expect("there is one");
    store.delete(part).await;
    let output = ended(at(server.data(), store.address(), &["backup", &target])).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("is not there"),
        "{}",
        stderr(&output)
    );
}
