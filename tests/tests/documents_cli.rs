//! Documents and jobs from the command line, and workers outside the server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{Behaviour, Client, DIMENSION, ModelServer, Server, command, run};

use crate::access::create_token;

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_mins(1);

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command says as JSON, once its exit status is right.
fn answer(args: &[&str], status: i32) -> Value {
    let output = run(args);
    assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON on stdout")
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}"))
}

/// A directory with a file of each kind that is text, one of them of a strange name.
fn library(dir: &Path) -> PathBuf {
    let files = dir.join("library");
    std::fs::create_dir_all(files.join("maps")).expect("a directory");
    let lines = (0..200).map(|n| format!("In line {n} the catalogue names a star of Orion. "));
    let long = lines.collect::<Vec<_>>().concat();
    for (name, content) in [
        (
            "zij.md",
            "# Zij\n\nUlugh Beg made it in Samarkand in 1437.\n",
        ),
        (
            "maps/moon.html",
            "<h1>The Moon</h1><p>Drawn by Hevelius in 1647.</p>",
        ),
        ("maps/a \"strange\" nämé.txt", long.as_str()),
    ] {
        std::fs::write(files.join(name), content).expect("a file");
    }
    files
}

/// Processes that end with the test, by their own ids.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.spawn().expect("the program starts"))
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.expect("kill is there").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that leaves all work to workers outside.
fn server_without_workers(lease_ms: u64) -> Server {
    Server::builder()
        .env("STEMMA_JOBS__WORKERS", "0")
        .env("STEMMA_JOBS__LEASE_MS", &lease_ms.to_string())
        .start()
}

pub(crate) fn worker(server: &Server, name: &str) -> Command {
    command(&[
        "worker",
        "--server",
        server.url(),
        "--name",
        name,
        "--slots",
        "1",
    ])
}

/// A job, once it fits.
async fn job_that(client: &Client, id: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let job = client.get(&format!("/api/jobs/{id}")).await.expect(200);
        if fits(&job) {
            return job;
        }
        assert!(since.elapsed() < PATIENCE, "{job}");
        tokio::task::yield_now().await;
    }
}

async fn ended(client: &Client, id: &str) -> Value {
    let is_ended = |job: &Value| {
        ["completed", "failed", "cancelled"]
            .map(Value::from)
            .contains(&job["status"])
    };
    job_that(client, id, is_ended).await
}

/// Uploads one file without waiting; gives the ids of its job and document.
fn upload_one(server: &Server, path: &Path) -> (String, String) {
    let args = [
        "upload",
        text(path),
        "--no-wait",
        "--json",
        "--server",
        server.url(),
    ];
    let told = answer(&args, 0);
    let document = &told["documents"][0];
    (
        string(&document["job_id"]).to_owned(),
        string(&document["document_id"]).to_owned(),
    )
}

#[tokio::test]
async fn a_directory_is_uploaded_and_processed_and_again_it_is_there_already() {
    let server = Server::start();
    let client = server.client();
    let dir = tempfile::tempdir().expect("a directory");
    let files = library(dir.path());
    let args = [
        "upload",
        text(&files),
        "--collection",
        "sky",
        "--chunking-strategy",
        "size",
        "--chunk-size",
        "400",
        "--chunk-overlap",
        "40",
        "--json",
        "--server",
        server.url(),
    ];
    let told = answer(&args, 0);
    let counts = |told: &Value| {
        ["files", "uploaded", "deduplicated", "completed", "failed"].map(|name| told[name].clone())
    };
    assert_eq!(counts(&told), [3, 3, 0, 3, 0].map(Value::from), "{told}");
    for document in told["documents"].as_array().expect("a list") {
        assert_eq!(document["status"], "completed", "{document}");
        let id = string(&document["document_id"]);
        let known = client
            .get(&format!("/api/documents/{id}"))
            .await
            .expect(200);
        assert_eq!(known["collection"], "sky");
        assert_eq!(known["steps"]["index"]["status"], "completed", "{known}");
        assert_eq!(known["chunking"]["size"], 400, "{known}");
        if string(&document["path"]).contains("strange") {
            // What a shell or a browser takes for more than a name is made plain by the server.
            assert_eq!(known["name"], "a _strange_ nämé.txt");
            assert!(
                known["chunk_count"]
                    .as_u64()
                    .is_some_and(|count| count > 20),
                "{known}"
            );
        }
    }
    let again = answer(&args, 0);
    assert_eq!(counts(&again), [3, 0, 3, 3, 0].map(Value::from), "{again}");
}

/// Where requests had a limit, a document whose job was asked for beyond it was told as not
/// uploaded, though it was there and was processed; so were files that were imported.
#[tokio::test]
async fn a_limit_of_requests_makes_an_upload_and_an_import_wait_and_no_file_fail() {
    let data = tempfile::tempdir().expect("a directory");
    let made = create_token(data.path(), "writer", &[]);
    let server = Server::builder()
        .data(data.path())
        .env("STEMMA_LIMITS__TOKEN_PER_S", "1")
        .env("STEMMA_LIMITS__BURST_S", "2")
        .start();
    let dir = tempfile::tempdir().expect("a directory");
    let files = library(dir.path());
    for (name, counts) in [
        ("upload", ["uploaded", "completed"]),
        ("import", ["files", "created"]),
    ] {
        let args = [name, text(&files), "--json", "--server", server.url()];
        let output = command(&args)
            .env("STEMMA_TOKEN", string(&made["token"]))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
        for count in counts {
            assert_eq!(told[count], 3, "{told}");
        }
    }
}

#[tokio::test]
async fn a_broken_file_fails_with_its_reason_and_exit_status_1() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("a directory");
    let files = library(dir.path());
    std::fs::write(files.join("torn.pdf"), "%PDF-1.7\nand nothing more").expect("a file");
    let args = ["upload", text(&files), "--server", server.url()];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stderr(&output);
    let reason = told.lines().find(|line| line.contains("torn.pdf"));
    assert!(
        reason.is_some_and(|line| line.starts_with("failed: ") && line.contains("BROKEN at ")),
        "{told}"
    );
    // What failed before is begun anew, and fails again; what went well is not.
    let again = answer(&[&args[..], &["--json"]].concat(), 1);
    let torn = again["documents"].as_array().expect("a list").iter();
    let torn = torn.filter(|document| document["status"] == "failed");
    let torn: Vec<&Value> = torn.collect();
    assert_eq!((torn.len(), &again["uploaded"]), (1, &json!(1)), "{again}");
    assert_eq!(torn[0]["error"]["code"], "BROKEN");
    let id = string(&torn[0]["job_id"]);
    let followed = run(&["jobs", "follow", id, "--server", server.url()]);
    assert_eq!(followed.status.code(), Some(1));
    assert!(
        stderr(&followed).contains("BROKEN"),
        "{}",
        stderr(&followed)
    );
}

#[tokio::test]
async fn what_needs_a_server_says_so_and_settings_that_cannot_be_are_wrong_usage() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = library(dir.path());
    for args in [
        &["upload", text(&files)][..],
        &["jobs"],
        &["worker"],
        &["worker", "--server", "ftp://a"],
    ] {
        let refused = run(args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&refused).contains("--server"),
            "{}",
            stderr(&refused)
        );
    }
    let server = "http://127.0.0.1:9";
    for args in [
        &[
            "upload",
            text(&files),
            "--chunk-size",
            "100",
            "--chunk-overlap",
            "100",
        ][..],
        &["upload", text(&files), "--chunking-strategy", "words"],
        &["upload", text(&files), "--collection", "a\nb"],
        &["worker", "--slots", "0"],
        &["worker", "--name", ""],
        &["jobs", "show", "the-last"],
        &["jobs", "--status", "tired"],
    ] {
        let refused = run(&[args, &["--server", server]].concat());
        assert_eq!(
            refused.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&refused)
        );
    }
    let unreached = run(&["upload", text(&files), "--server", server]);
    assert_eq!(unreached.status.code(), Some(1));
    assert!(
        stderr(&unreached).contains("stemma serve"),
        "{}",
        stderr(&unreached)
    );
}

#[tokio::test]
async fn jobs_are_listed_shown_cancelled_and_tried_anew() {
    let server = server_without_workers(30_000);
    let client = server.client();
    let dir = tempfile::tempdir().expect("a directory");
    let (id, document_id) = upload_one(&server, &library(dir.path()).join("zij.md"));
    let jobs = |args: &[&str]| {
        let args = [&["jobs"], args, &["--json", "--server", server.url()]].concat();
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let jobs = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        jobs.collect::<Vec<Value>>()
    };
    let own = json!({ "type": "word.count", "payload": { "text": "a b" } });
    client.post("/api/jobs", &own).await.expect(201);
    assert_eq!(jobs(&[]).len(), 2);
    assert_eq!(jobs(&["list", "--limit", "1"]).len(), 1);
    assert_eq!(jobs(&["--type", "word.count"])[0]["type"], "word.count");
    let found = jobs(&["list", "--status", "queued", "--document", &document_id]);
    assert_eq!((found.len(), &found[0]["id"]), (1, &json!(id)));
    assert_eq!(jobs(&["show", &id])[0]["document_id"], json!(document_id));
    assert_eq!(jobs(&["cancel", &id])[0]["status"], "cancelled");
    let twice = run(&["jobs", "cancel", &id, "--server", server.url()]);
    assert_eq!(twice.status.code(), Some(1), "{}", stderr(&twice));
    assert!(
        stderr(&twice).contains("cancelled already"),
        "{}",
        stderr(&twice)
    );
    assert_eq!(jobs(&["retry", &id])[0]["status"], "queued");
    let table = run(&["jobs", "--server", server.url()]);
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(
        rows[0].starts_with("ID ") && rows[2].contains("document.process"),
        "{table}"
    );
    let unknown = "01900000-0000-7000-8000-000000000000";
    let missing = run(&["jobs", "show", unknown, "--server", server.url()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("404"), "{}", stderr(&missing));
}

#[tokio::test]
async fn a_worker_that_is_killed_in_the_middle_has_its_document_finished_by_another() {
    let server = server_without_workers(500);
    let client = server.client();
    let dir = tempfile::tempdir().expect("a directory");
    let (id, document_id) = upload_one(&server, &library(dir.path()).join("zij.md"));
    // It gets as far as its model, which says nothing.
    let model = ModelServer::start();
    model.behave(Behaviour::Silent);
    let mut first = Program::start(
        worker(&server, "first")
            .env("STEMMA_EMBED__URL", model.url())
            .env("STEMMA_EMBED__MODEL", "silent")
            .env("STEMMA_EMBED__DIMENSION", DIMENSION.to_string()),
    );
    tokio::task::spawn_blocking(move || {
        model.wait_until_asked(1);
        model
    })
    .await
    .map(|model| {
        first.0.kill().expect("the process is ours");
        first.0.wait().expect("the process is ours");
        drop(model);
    })
    .expect("waiting does not panic");
    let _second = Program::start(&mut worker(&server, "second"));
    let job = ended(&client, &id).await;
    assert_eq!(job["status"], "completed", "{job}");
    let attempts = job["attempts"].as_array().expect("a list");
    let told = |attempt: &Value| (attempt["worker"].clone(), attempt["error"]["code"].clone());
    assert_eq!(told(&attempts[0]), (json!("first"), json!("WORKER_LOST")));
    assert_eq!(told(&attempts[1]), (json!("second"), Value::Null));
    assert_eq!(job["result"]["document_id"], json!(document_id));
    for figure in [
        "chunk_count",
        "vector_count",
        "model",
        "entity_count",
        "processing_time_ms",
    ] {
        assert!(!job["result"][figure].is_null(), "{figure} in {job}");
    }
    let document = client
        .get(&format!("/api/documents/{document_id}"))
        .await
        .expect(200);
    for (step, state) in document["steps"].as_object().expect("steps") {
        assert_eq!(state["status"], "completed", "{step}: {state}");
    }
    // What the first one had done was not done again.
    let events = client
        .get("/api/events?type=document.stage_completed&limit=100")
        .await
        .expect(200);
    assert_eq!(
        events["items"].as_array().expect("items").len(),
        6,
        "{events}"
    );
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_gives_its_job_back_and_one_that_is_cancelled_ends_it() {
    let server = server_without_workers(60_000);
    let client = server.client();
    let dir = tempfile::tempdir().expect("a directory");
    let (id, _) = upload_one(&server, &library(dir.path()).join("zij.md"));
    let model = ModelServer::start();
    model.behave(Behaviour::Silent);
    let with_model = |name: &str| {
        let mut command = worker(&server, name);
        command
            .env("STEMMA_EMBED__URL", model.url())
            .env("STEMMA_EMBED__MODEL", "silent")
            .env("STEMMA_EMBED__DIMENSION", DIMENSION.to_string());
        command
    };
    let is_embedding = |job: &Value| {
        job["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("embedding"))
    };
    let mut asked = Program::start(&mut with_model("asked"));
    job_that(&client, &id, is_embedding).await;
    asked.signal("-TERM");
    assert_eq!(asked.0.wait().expect("it ends").code(), Some(0));
    let job = client.get(&format!("/api/jobs/{id}")).await.expect(200);
    // Its lease, of a minute, need not run out.
    assert_eq!(
        (&job["status"], &job["retry_count"]),
        (&json!("queued"), &json!(0)),
        "{job}"
    );
    let _cancelled = Program::start(&mut with_model("cancelled"));
    job_that(&client, &id, is_embedding).await;
    let told = run(&["jobs", "cancel", &id, "--server", server.url()]);
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    assert_eq!(ended(&client, &id).await["status"], "cancelled");
}

#[tokio::test]
async fn a_worker_waits_for_a_server_that_is_away_and_does_one_step() {
    let mut server = server_without_workers(1_000);
    let client = server.client();
    let dir = tempfile::tempdir().expect("a directory");
    let (id, document_id) = upload_one(&server, &library(dir.path()).join("maps/moon.html"));
    server.kill();
    let _worker = Program::start(&mut worker(&server, "patient"));
    server.start_again();
    let job = ended(&client, &id).await;
    assert_eq!(
        (&job["status"], &job["attempts"][0]["worker"]),
        (&json!("completed"), &json!("patient")),
        "{job}"
    );
    let path = format!("/api/documents/{document_id}/steps/chunk");
    let asked = json!({ "chunking_strategy": "size", "chunk_size": 12, "chunk_overlap": 0 });
    let step = client.post(&path, &asked).await.expect(202);
    let step = ended(&client, string(&step["id"])).await;
    assert_eq!(step["status"], "completed", "{step}");
    let count = step["result"]["chunk_count"].as_u64();
    assert!(count.is_some_and(|count| count > 1), "{step}");
}

#[tokio::test]
async fn an_upload_that_is_interrupted_says_that_the_jobs_go_on() {
    let server = server_without_workers(30_000);
    let client = server.client();
    let dir = tempfile::tempdir().expect("a directory");
    let files = library(dir.path());
    let mut uploading = Program(
        command(&["upload", text(&files), "--server", server.url()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts"),
    );
    let since = Instant::now();
    loop {
        let jobs = client.get("/api/jobs").await.expect(200);
        if jobs["items"]
            .as_array()
            .is_some_and(|items| items.len() == 3)
        {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{jobs}");
        tokio::task::yield_now().await;
    }
    uploading.signal("-INT");
    let mut told = String::new();
    let mut pipe = uploading.0.stderr.take().expect("it is piped");
    std::io::Read::read_to_string(&mut pipe, &mut told).expect("UTF-8");
    assert_eq!(
        uploading.0.wait().expect("it ends").code(),
        Some(130),
        "{told}"
    );
    assert!(told.contains("the server goes on with"), "{told}");
    let queued = client.get("/api/jobs?status=queued").await.expect(200);
    assert_eq!(queued["items"].as_array().expect("items").len(), 3);
}

#[tokio::test]
async fn the_example_in_python_does_jobs_of_its_own_type() {
    let server = Server::start();
    let client = server.client();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the root");
    let example = root.join("docs/examples/worker.py");
    let _worker = Program::start(Command::new("python3").arg(example).arg(server.url()));
    for (payload, status, outcome) in [
        (
            json!({ "text": "to be or\nnot to be" }),
            "completed",
            "/result/words",
        ),
        (json!({ "words": 3 }), "failed", "/error/code"),
    ] {
        let asked = json!({ "type": "word.count", "payload": payload });
        let made = client.post("/api/jobs", &asked).await.expect(201);
        let job = ended(&client, string(&made["id"])).await;
        assert_eq!(job["status"], status, "{job}");
        let expected = if status == "completed" {
            json!(6)
        } else {
            json!("INVALID_PAYLOAD")
        };
        assert_eq!(job.pointer(outcome), Some(&expected), "{job}");
    }
}

#[test]
fn a_list_of_jobs_that_cannot_be_had_has_no_head_either() {
    // Nothing listens there.
    let listed = command(&["jobs", "--server", "http://127.0.0.1:1"]).output();
    let listed = listed.expect("it runs");
    assert_eq!(listed.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
}

#[tokio::test]
async fn a_document_is_uploaded_for_those_who_are_named_or_for_its_uploader_alone() {
    let data = tempfile::tempdir().expect("a directory");
    let token = |name: &str| {
        let whose = [
            "token", "create", "--json", "--role", "writer", "--name", name,
        ];
        let made = answer(&[&whose[..], &["--data", text(data.path())]].concat(), 0);
        string(&made["token"]).to_owned()
    };
    let [olga, vera, walt] = ["olga", "vera", "walt"].map(token);
    let server = Server::builder().data(data.path()).start();
    let [vera, walt] = [vera, walt].map(|token| Client::showing(server.url(), Some(&token)));
    let file = data.path().join("moons.md");
    for (content, options, expected) in [
        ("Of all.", &[][..], [200, 200]),
        ("Of two.", &["--reader", "vera"], [200, 404]),
        ("Of one.", &["--private"], [404, 404]),
    ] {
        std::fs::write(&file, content).expect("it is written");
        let path = text(&file);
        let args = [
            &["upload", path, "--json", "--server", server.url()],
            options,
        ]
        .concat();
        let uploaded = command(&args).env("STEMMA_TOKEN", &olga).output();
        let uploaded = uploaded.expect("it runs");
        let told = String::from_utf8_lossy(&uploaded.stderr);
        assert!(uploaded.status.success(), "{told}");
        let told: Value = serde_json::from_slice(&uploaded.stdout).expect("one object");
        let id = string(&told["documents"][0]["document_id"]);
        let path = format!("/api/documents/{id}/text");
        let seen = [vera.get(&path).await.status, walt.get(&path).await.status];
        assert_eq!(seen, expected, "{options:?}");
    }
    let both = ["upload", ".", "--private", "--reader", "vera"];
    let both = command(&both).output().expect("it runs");
    assert_eq!(both.status.code(), Some(2));
}
