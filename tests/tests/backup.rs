//! Backups: of a server at work, as of a position, and back byte for byte (rows E5, C5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use stemma_tests::{Client, Server, ServerBuilder, command};

use crate::access::create_token;
use crate::documents::text_of;
use crate::operation::outcome;

/// A server whose log fills a segment with every few events.
pub(crate) fn with_small_segments() -> ServerBuilder {
    Server::builder().env("STEMMA_LOG__SEGMENT_BYTES_MAX", "8192")
}

/// Runs a command on a data directory to its end.
pub(crate) fn stemma(data: &Path, args: &[&str]) -> Output {
    let mut command = command(args);
    command.arg("--data").arg(data).output().expect("it runs")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command gave that ended well.
pub(crate) fn done(data: &Path, args: &[&str]) -> Value {
    let output = stemma(data, &[args, &["--json"]].concat());
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    serde_json::from_slice(&output.stdout).expect("one object")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// All files below a directory, by their names in it.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let name = path.strip_prefix(dir).expect("it is below");
                found.insert(text(name).to_owned(), bytes);
            }
        }
    }
    found
}

/// A backup's files, without the lock.
pub(crate) fn backup_files(target: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(target);
    files.remove("lock");
    files
}

fn manifest(target: &Path) -> Value {
    let bytes = std::fs::read(target.join("manifest.json")).expect("a manifest");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The segments of a tenant's log, by name.
fn segments(data: &Path, tenant: &str) -> BTreeMap<String, Vec<u8>> {
    let log = data.join("tenants").join(tenant).join("log");
    let mut files = files(&log);
    files.retain(|name, _| name.ends_with(".segment") && !name.starts_with("next"));
    files
}

/// Holds a restored log to be what a backup took of the source: its bytes are the source's.
fn assert_same_log(target: &Path, source: &Path, restored: &Path) {
    let manifest = manifest(target);
    for tenant in manifest["body"]["tenants"].as_array().expect("a list") {
        let name = text_of(&tenant["name"]);
        let (source, restored) = (segments(source, name), segments(restored, name));
        let taken = tenant["log"]["segments"].as_array().expect("a list");
        assert_eq!(restored.len(), taken.len());
        for segment in taken {
            let file = text_of(&segment["name"]);
            let bytes = segment["bytes"].as_u64().expect("a length");
            let bytes = usize::try_from(bytes).expect("it fits");
            let (source, restored) = (&source[file], &restored[file]);
            assert!(source[..bytes] == restored[..bytes], "{file} differs");
            assert!(restored[bytes..].iter().all(|byte| *byte == 0), "{file}");
        }
    }
}

fn events(data: &Path) -> Vec<String> {
    let output = stemma(data, &["events", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    stdout.lines().map(str::to_owned).collect()
}

/// Writes until it is told to stop; keeps the last position that was acknowledged.
async fn write(client: Client, number: usize, is_over: Arc<AtomicBool>, told: Arc<AtomicU64>) {
    let mut count = 0;
    while !is_over.load(Ordering::Acquire) {
        let content = format!("{number}-{count} ").repeat(count % 50 + 1);
        let body = json!({ "name": "n", "media_type": "text/plain", "content": content });
        let answer = client.post("/api/resources", &body).await;
        answer.expect(201);
        told.fetch_max(answer.position(), Ordering::AcqRel);
        count += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_under_load_hold_all_that_was_acknowledged_and_come_back_byte_for_byte() {
    let mut server = with_small_segments().start();
    let dir = tempfile::tempdir().expect("a directory");
    let (is_over, told) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (is_over, told) = (Arc::clone(&is_over), Arc::clone(&told));
        writers.spawn(write(server.client(), number, is_over, told));
    }
    let target = dir.path().join("target");
    let mut last = 0;
    for round in 0..6 {
        while told.load(Ordering::Acquire) < last + 50 {
            tokio::task::yield_now().await;
        }
        let acknowledged = told.load(Ordering::Acquire);
        let (data, into) = (server.data().to_path_buf(), target.clone());
        let made = tokio::task::spawn_blocking(move || done(&data, &["backup", text(&into)]));
        let made = made.await.expect("it ends");
        let position = made["tenants"][0]["position"].as_u64().expect("a position");
        assert!(position >= acknowledged, "{position} {acknowledged}");
        last = position;
        let restored = dir.path().join(format!("restored-{round}"));
        done(&restored, &["restore", text(&target)]);
        assert_same_log(&target, server.data(), &restored);
        let found = done(&restored, &["verify"]);
        assert_eq!(found["events"], position + 1);
        assert_eq!(found["root"], made["tenants"][0]["root"]);
        assert_eq!(found["head"], made["tenants"][0]["head"]);
    }
    is_over.store(true, Ordering::Release);
    writers.join_all().await;
    assert_eq!(server.stop(), Some(0));
    let all = events(server.data());
    let restored = dir.path().join("restored-5");
    let found = events(&restored);
    assert_eq!(found.len() as u64, last + 1);
    assert_eq!(found, all[..found.len()]);
    // What came back is a server's data as any other: its checkpoints are signed by the same key.
    let key = std::fs::read(server.data().join("tenants/default/signing-key"));
    let again = std::fs::read(restored.join("tenants/default/signing-key"));
    assert_eq!(key.expect("a key"), again.expect("a key"));
    let server = with_small_segments().data(&restored).start();
    let page = server
        .client()
        .get("/api/resources?limit=1")
        .await
        .expect(200);
    let id = text_of(&page["items"][0]["id"]);
    let client = server.client();
    let content = client.get(&format!("/api/resources/{id}/content")).await;
    assert_eq!(content.status, 200);
    client.create("after", "it goes on").await;
}

/// A stopped server's directory: a log of several segments, content in packs and in a file.
pub(crate) async fn written(resources: usize) -> Server {
    let mut server = with_small_segments().start();
    let client = server.client();
    for number in 0..resources {
        client
            .create("a name", &format!("content of number {number}."))
            .await;
    }
    client.create("large", &"large ".repeat(40_000)).await;
    assert_eq!(server.stop(), Some(0));
    server
}

#[tokio::test]
async fn a_second_backup_copies_what_is_new_and_nothing_else() {
    let mut server = written(60).await;
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    let first = done(server.data(), &["backup", text(&target)]);
    assert_eq!(first["copied_bytes"], first["bytes"]);
    let before = backup_files(&target);
    let again = done(server.data(), &["backup", text(&target)]);
    assert_eq!(
        (&again["copied_bytes"], &again["copied_files"]),
        (&0.into(), &0.into())
    );
    server.start_again();
    for number in 0..20 {
        server
            .client()
            .create("later", &format!("later {number}"))
            .await;
    }
    let later = done(server.data(), &["backup", "--quick", text(&target)]);
    let bytes = |told: &Value, field: &str| told[field].as_u64().expect("a number");
    assert_eq!(
        bytes(&later, "bytes"),
        bytes(&first, "bytes") + bytes(&later, "copied_bytes")
    );
    // Twenty events of some 500 bytes, their content, and headers of segments.
    assert!(bytes(&later, "copied_bytes") < 60_000, "{later}");
    let after = backup_files(&target);
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "manifest.json") {
        assert!(after.get(name) == Some(bytes), "{name} was changed");
    }
    let restored = dir.path().join("restored");
    done(&restored, &["restore", text(&target)]);
    assert_same_log(&target, server.data(), &restored);
    done(&restored, &["verify"]);
}

/// Turns one bit of a file where these bytes stand, or else in its middle.
fn flip(path: &Path, bytes: Option<&str>) {
    let mut held = std::fs::read(path).expect("a file");
    let stands = |text: &str| {
        let at = held
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        at.expect("it stands there")
    };
    let at = bytes.map_or(held.len() / 2, stands);
    held[at] ^= 4;
    std::fs::write(path, held).expect("the file is ours");
}

fn only_file(dir: &Path, end: &str) -> PathBuf {
    let found = files(dir);
    let mut names = found.keys().filter(|name| name.ends_with(end));
    let name = names.next().unwrap_or_else(|| panic!("no {end}"));
    dir.join(name)
}

/// Damages a data directory; gives the place as it is to be told.
type Damage = fn(&Path, &dyn Fn(&Path) -> PathBuf) -> String;

#[tokio::test]
async fn a_damaged_source_is_told_by_its_place_and_leaves_the_last_backup() {
    let content = |data: &Path| data.join("tenants/default/content");
    let cases: [(&str, Damage); 6] = [
        ("a sealed segment", |data, _| {
            let log = data.join("tenants/default/log");
            flip(&log.join(format!("{:020}.segment", 0)), Some("a name"));
            format!("tenants/default/log/{:020}.segment at ", 0)
        }),
        ("a pack", |data, content| {
            flip(
                &only_file(&content(data), ".pack"),
                Some("content of number 7."),
            );
            "tenants/default/content/packs/0000000001.pack at ".to_owned()
        }),
        ("a large blob", |data, content| {
            flip(&only_file(&content(data).join("blobs"), ""), None);
            "tenants/default/content/blobs/".to_owned()
        }),
        ("content that is gone", |data, content| {
            let large = only_file(&content(data).join("blobs"), "");
            std::fs::remove_file(large).expect("the file is ours");
            "tenants/default/content at ".to_owned()
        }),
        ("a log that is gone", |data, _| {
            std::fs::remove_dir_all(data.join("tenants/default")).expect("the directory is ours");
            done(data, &["tenant", "create", "default"]);
            "tenants/default/log/ at ".to_owned()
        }),
        ("the last segment that is gone", |data, _| {
            let log = data.join("tenants/default/log");
            let segments = segments(data, "default");
            let last = segments.keys().next_back().expect("a segment");
            std::fs::remove_file(log.join(last)).expect("the file is ours");
            // Nor is the mark there, so that nothing here tells of it.
            std::fs::remove_file(log.join("head")).expect("the file is ours");
            format!("tenants/default/log/{last} at ")
        }),
    ];
    for (what, damage) in cases {
        let server = written(40).await;
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("target");
        done(server.data(), &["backup", text(&target)]);
        let before = backup_files(&target);
        let place = damage(server.data(), &content);
        let output = stemma(server.data(), &["backup", text(&target)]);
        assert_eq!(output.status.code(), Some(3), "{what}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(&place),
            "{what}: {}",
            stderr(&output)
        );
        assert!(
            backup_files(&target) == before,
            "{what}: the backup was changed"
        );
        let restored = dir.path().join("restored");
        done(&restored, &["restore", text(&target)]);
        assert_eq!(done(&restored, &["verify"])["events"], 41, "{what}");
    }
}

#[tokio::test]
async fn a_target_is_of_one_directory_and_of_one_kind() {
    let (one, other) = (written(3).await, written(4).await);
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    done(one.data(), &["backup", text(&target)]);
    let before = backup_files(&target);
    for (data, args) in [
        (other.data(), &["backup", text(&target)][..]),
        (one.data(), &["tenant", "export", "default", text(&target)]),
    ] {
        let output = stemma(data, args);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("backup of other data"));
    }
    assert!(backup_files(&target) == before);
    // A restored directory is the same data, and goes on with the same target.
    let restored = dir.path().join("restored");
    done(&restored, &["restore", text(&target)]);
    let again = done(&restored, &["backup", text(&target)]);
    assert_eq!(again["copied_files"], 0, "{again}");
}

/// A data directory that was taken for a target lost its logs, and so did what others had there.
#[tokio::test]
async fn a_target_with_files_of_others_is_refused_and_nothing_in_it_is_removed() {
    let (one, other) = (written(3).await, written(4).await);
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    done(other.data(), &["backup", text(&dir.path().join("first"))]);
    done(&data, &["restore", text(&dir.path().join("first"))]);
    let before = files(&data);
    let output = stemma(one.data(), &["backup", text(&data)]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("which is of no backup; name an empty target"));
    assert!(files(&data) == before);
    assert_eq!(done(&data, &["verify"])["events"], 5);

    // What others put beside a backup stays there.
    let target = dir.path().join("target");
    done(one.data(), &["backup", text(&target)]);
    for place in ["tenants/default/notes.txt", "access/report.pdf"] {
        let place = target.join(place);
        std::fs::create_dir_all(place.parent().expect("a directory")).expect("room");
        std::fs::write(place, "of others").expect("room");
    }
    let before = files(&target).len();
    done(one.data(), &["backup", text(&target)]);
    assert_eq!(files(&target).len(), before);
}

/// A directory of others was taken for a target as long as they had nothing where a backup's files go.
#[tokio::test]
async fn a_directory_of_others_is_refused_and_what_a_system_puts_there_is_not() {
    let server = written(3).await;
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    std::fs::create_dir(&target).expect("the directory is ours");
    for name in ["thesis.pdf", "photos", "access"] {
        let place = target.join(name);
        match name {
            "photos" => std::fs::create_dir(&place).expect("room"),
            _ => std::fs::write(&place, "of others").expect("room"),
        }
        let before = files(&target);
        for args in [
            &["backup", text(&target)][..],
            &["tenant", "export", "default", text(&target)],
        ] {
            let output = stemma(server.data(), args);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
            let why = format!("holds {name}, which is of no backup; name an empty target");
            assert!(told.contains(&why), "{args:?}: {told}");
        }
        assert!(files(&target) == before, "{:?}", files(&target).keys());
        let removed = std::fs::remove_file(&place);
        removed
            .or_else(|_| std::fs::remove_dir(&place))
            .expect("it is ours");
    }
    // What a fresh file system has, and a desktop; and what a backup leaves that is killed at once.
    std::fs::create_dir(target.join("lost+found")).expect("room");
    std::fs::write(target.join(".DS_Store"), "of a desktop").expect("room");
    std::fs::write(target.join("lock"), "77\n").expect("room");
    std::fs::write(target.join("manifest.json.new"), "{").expect("room");
    done(server.data(), &["backup", text(&target)]);
    // A backup is gone on with, whatever others put beside it.
    std::fs::write(target.join("thesis.pdf"), "of others").expect("room");
    done(server.data(), &["backup", text(&target)]);
    let restored = dir.path().join("restored");
    done(&restored, &["restore", text(&target)]);
    let left = [target.join(".DS_Store"), target.join("thesis.pdf")];
    assert!(left.iter().all(|path| path.is_file()));
}

#[tokio::test]
async fn a_file_of_a_backup_that_was_changed_is_named_and_nothing_is_restored() {
    let server = written(40).await;
    create_token(server.data(), "admin", &[]);
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    done(server.data(), &["backup", text(&target)]);
    let all = backup_files(&target);
    assert!(all.len() > 6, "{:?}", all.keys());
    for name in all.keys() {
        let path = target.join(name);
        let restored = dir.path().join("restored");
        let refused = || {
            let output = stemma(&restored, &["restore", text(&target)]);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(3), "{name}: {told}");
            assert!(told.contains(name.as_str()), "{name}: {told}");
            assert!(
                files(&restored).is_empty(),
                "{name}: {:?}",
                files(&restored).keys()
            );
        };
        flip(&path, None);
        refused();
        if name != "manifest.json" {
            std::fs::write(&path, &all[name][1..]).expect("the file is ours");
            refused();
            std::fs::remove_file(&path).expect("the file is ours");
            refused();
            // Nor is anything added to what is not whole.
            let output = stemma(server.data(), &["backup", text(&target)]);
            assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
            assert!(
                stderr(&output).contains(name.as_str()),
                "{}",
                stderr(&output)
            );
        }
        std::fs::write(&path, &all[name]).expect("the file is ours");
    }
}

#[tokio::test]
async fn a_tenant_moves_to_another_server_that_goes_on_serving() {
    let data = tempfile::tempdir().expect("a directory");
    let (here, there) = (data.path().join("here"), data.path().join("there"));
    done(&here, &["tenant", "create", "north"]);
    let own = create_token(&here, "admin", &["--tenant", "north"]);
    let source = Server::builder().data(&here).start();
    let north = Client::showing(source.url(), Some(text_of(&own["token"])));
    let made = north.create("a name", "a text that moves").await;
    let id = text_of(&made["id"]);
    let target = data.path().join("target");
    let told = done(&here, &["tenant", "export", "north", text(&target)]);
    assert_eq!(told["tenants"][0]["name"], "north");
    assert!(
        !target.join("access").exists(),
        "tokens stay where they are"
    );

    let operator = create_token(&there, "operator", &[]);
    let moved = create_token(&there, "admin", &["--tenant", "south"]);
    let destination = Server::builder().data(&there).start();
    let operator = Client::showing(destination.url(), Some(text_of(&operator["token"])));
    let south = Client::showing(destination.url(), Some(text_of(&moved["token"])));
    assert_eq!(south.get("/api/resources").await.status, 403);
    let told = done(
        &there,
        &["tenant", "import", text(&target), "--name", "south"],
    );
    assert_eq!(told["tenants"][0]["name"], "south");
    let all = operator.get("/api/admin/tenants").await.expect(200);
    let names: Vec<&str> = all["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| text_of(&t["name"]))
        .collect();
    assert_eq!(names, ["default", "south"]);
    let content = south.get(&format!("/api/resources/{id}/content")).await;
    assert_eq!(content.text(), "a text that moves");
    let history = |client: Client| async move {
        let page = client.get("/api/events?after=start&type=resource.*").await;
        page.expect(200)["items"].clone()
    };
    assert_eq!(history(north.clone()).await, history(south.clone()).await);
    south.create("another", "it goes on").await;
    // Once it is there it is not replaced.
    let output = stemma(
        &there,
        &["tenant", "import", text(&target), "--name", "south"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("there is a tenant south"),
        "{}",
        stderr(&output)
    );
    let names: Vec<_> = std::fs::read_dir(there.join("tenants"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn an_operator_has_backups_made_in_the_targets_of_the_configuration_and_nowhere_else() {
    let data = tempfile::tempdir().expect("a directory");
    let target = data.path().join("backups/nightly");
    let own = data.path().join("data");
    for tenant in ["north", "south"] {
        done(&own, &["tenant", "create", tenant]);
    }
    let [operator, admin] =
        ["operator", "admin"].map(|role| create_token(&own, role, &["--tenant", "north"]));
    let reader = create_token(&own, "reader", &[]);
    let named = format!("nightly={}", text(&target));
    let server = Server::builder()
        .env("STEMMA_BACKUP__TARGETS", &named)
        .data(&own)
        .start();
    let client = |made: &Value| Client::showing(server.url(), Some(text_of(&made["token"])));
    let (operator, admin) = (client(&operator), client(&admin));
    admin.create("a name", "a text").await;
    let told = operator.get("/api/admin/backup").await.expect(200);
    assert_eq!(told, json!({ "targets": ["nightly"], "job": null }));
    for body in [
        json!({ "target": text(&target) }),
        json!({ "target": "weekly" }),
        json!({ "target": "../nightly" }),
        json!({}),
    ] {
        let refused = operator.post("/api/admin/backup", &body).await;
        assert_eq!(refused.status, 422, "{body}");
    }
    let body = json!({ "target": "nightly" });
    assert_eq!(admin.post("/api/admin/backup", &body).await.status, 403);
    assert!(!target.exists());
    let stop = async |by: &Client| by.raw("DELETE", "/api/admin/backup", &[], "").await;
    assert_eq!(stop(&admin).await.status, 403);
    stop(&operator).await.expect_problem(404, "JOB_NOT_FOUND");
    let job = operator.post("/api/admin/backup", &body).await;
    assert_eq!(job.header("location"), "/api/admin/backup");
    let job = job.expect(202);
    assert_eq!(job["type"], "backup");
    let ended = loop {
        let told = operator.get("/api/admin/backup").await.expect(200);
        assert_eq!(told["job"]["id"], job["id"]);
        if told["job"]["status"] != "processing" {
            break told["job"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(ended["status"], "completed", "{ended}");
    stop(&operator).await.expect_problem(409, "JOB_FINISHED");
    let tenants = ended["result"]["tenants"].as_array().expect("a list");
    let names: Vec<&str> = tenants
        .iter()
        .map(|tenant| text_of(&tenant["name"]))
        .collect();
    assert_eq!(names, ["default", "north", "south"]);
    // Which tenants there are is nothing that the first one's users are told.
    let path = format!("/api/jobs/{}", text_of(&job["id"]));
    let first = client(&reader);
    for told in ["/api/jobs", "/api/events?after=start"] {
        let told = first.get(told).await.expect(200);
        assert_eq!(told["items"], json!([]), "{told}");
    }
    for path in [path.clone(), format!("{path}/events/stream")] {
        first.get(&path).await.expect_problem(404, "JOB_NOT_FOUND");
    }
    let restored = data.path().join("restored");
    done(&restored, &["restore", text(&target)]);
    // The tokens are part of it.
    let server = Server::builder().data(&restored).start();
    let again = admin.at(server.url());
    let found = again.get("/api/resources").await.expect(200);
    assert_eq!(found["items"][0]["name"], "a name");
    assert_eq!(server.client().get("/api/resources").await.status, 401);
}

#[tokio::test]
async fn a_server_without_tokens_tells_of_a_backup_as_of_any_job() {
    let data = tempfile::tempdir().expect("a directory");
    let target = data.path().join("target");
    let named = format!("here={}", text(&target));
    let server = Server::builder()
        .env("STEMMA_BACKUP__TARGETS", &named)
        .start();
    let client = server.client();
    client.create("a name", "a text").await;
    let body = json!({ "target": "here", "quick": true });
    let job = client.post("/api/admin/backup", &body).await.expect(202);
    let ended = outcome(&client, &job).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert!(target.join("manifest.json").is_file());
}

#[tokio::test]
async fn a_tenant_that_is_deleted_leaves_the_backup_and_one_made_anew_needs_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, target) = (dir.path().join("data"), dir.path().join("target"));
    let file = dir.path().join("a.txt");
    std::fs::write(&file, "a text").expect("the directory is ours");
    for tenant in ["default", "north"] {
        done(&data, &["import", text(&file), "--tenant", tenant]);
    }
    let whole = done(&data, &["backup", text(&target)]);
    assert_eq!(whole["tenants"].as_array().map(Vec::len), Some(2));
    // Tenants on a disk that is not mounted: the backup is left alone.
    let aside = dir.path().join("aside");
    move_to(&data.join("tenants"), &aside);
    std::fs::create_dir(data.join("tenants")).expect("the directory is ours");
    let output = stemma(&data, &["backup", text(&target)]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    std::fs::remove_dir(data.join("tenants")).expect("it is empty");
    move_to(&aside, &data.join("tenants"));
    assert_eq!(done(&data, &["backup", text(&target)])["copied_files"], 0);

    done(&data, &["tenant", "delete", "north"]);
    done(&data, &["import", text(&file), "--tenant", "north"]);
    let output = stemma(&data, &["backup", text(&target)]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("tenants/north/log/"),
        "{}",
        stderr(&output)
    );
    done(&data, &["tenant", "delete", "north"]);
    let left = done(&data, &["backup", text(&target)]);
    assert_eq!(left["tenants"].as_array().map(Vec::len), Some(1));
    let names = backup_files(&target);
    assert!(
        names.keys().all(|name| !name.contains("north")),
        "{:?}",
        names.keys()
    );
    // One of several is had by its name.
    let output = stemma(
        &data,
        &["tenant", "import", text(&target), "--name", "default"],
    );
    assert!(
        stderr(&output).contains("there is a tenant default"),
        "{}",
        stderr(&output)
    );
}

fn move_to(from: &Path, to: &Path) {
    let moved = std::process::Command::new("mv").args([from, to]).status();
    assert!(moved.expect("mv is there").success());
}

/// What is made anew at each start stopped backups until there was one.
#[test]
fn a_damaged_run_of_a_pack_stops_no_backup() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, source) = (dir.path().join("data"), dir.path().join("files"));
    std::fs::create_dir(&source).expect("a directory");
    // More than the first pack takes.
    for number in 0..20 {
        let bytes = format!("{number:08}").repeat(7_500);
        std::fs::write(source.join(number.to_string()), bytes).expect("a file");
    }
    done(&data, &["import", text(&source)]);
    let run = data.join("tenants/default/content/index/0000000001.run");
    std::fs::write(&run, "damaged").expect("the file is ours");
    let found = stemma(&data, &["verify", "--json"]);
    assert_eq!(found.status.code(), Some(3), "{}", stderr(&found));
    done(&data, &["backup", text(&dir.path().join("target"))]);
}
