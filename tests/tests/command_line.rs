//! The command line: answers on stdout, exit statuses, what is refused (`cli.md`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use stemma_tests::{Server, binary, run};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// What a command that succeeds says as JSON.
fn answer(args: &[&str]) -> Value {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON on stdout")
}

/// A directory tree with two equal files, one nested, one link.
fn tree(dir: &Path) {
    std::fs::create_dir_all(dir.join("sub")).expect("a directory");
    for (name, content) in [
        ("a.txt", "first"),
        ("sub/b.md", "# second"),
        ("sub/c.txt", "first"),
    ] {
        std::fs::write(dir.join(name), content).expect("a file");
    }
    std::os::unix::fs::symlink("a.txt", dir.join("link.txt")).expect("a link");
}

fn counts(report: &Value, names: &[&str]) -> Vec<u64> {
    names
        .iter()
        .map(|name| {
            report[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name} in {report}"))
        })
        .collect()
}

#[test]
fn a_tree_is_imported_once_and_again_only_what_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (files, data) = (dir.path().join("files"), dir.path().join("data"));
    tree(&files);
    let import = || {
        answer(&[
            "import",
            text(&files),
            "--data",
            text(&data),
            "--json",
            "--collection",
            "docs",
        ])
    };
    let names = [
        "files",
        "created",
        "revised",
        "unchanged",
        "duplicates",
        "links",
        "unreadable",
        "gone",
        "events",
    ];
    assert_eq!(counts(&import(), &names), [3, 3, 0, 0, 1, 1, 0, 0, 3]);
    assert_eq!(counts(&import(), &names), [3, 0, 0, 3, 0, 1, 0, 0, 0]);
    std::fs::write(files.join("a.txt"), "changed").expect("a file");
    std::fs::remove_file(files.join("sub/c.txt")).expect("a file");
    std::fs::write(files.join("d.txt"), "new").expect("a file");
    assert_eq!(counts(&import(), &names), [3, 1, 1, 1, 0, 1, 0, 1, 2]);
    let verified = answer(&["verify", "--data", text(&data), "--json"]);
    assert_eq!(
        (&verified["verdict"], &verified["damage"]),
        (&json!("intact"), &json!([]))
    );
}

#[test]
fn an_import_that_cannot_be_is_refused_before_any_data_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let (files, data) = (dir.path().join("files"), dir.path().join("data"));
    tree(&files);
    let import = |path: &Path, collection: &[&str]| {
        let args = ["import", text(path), "--data", text(&data)];
        run(&[&args, collection].concat())
    };
    for name in ["", "a\nb"] {
        let refused = import(&files, &["--collection", name]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    }
    assert!(!data.exists(), "nothing was made");
    let one = import(&files.join("a.txt"), &[]);
    assert_eq!(one.status.code(), Some(0));
    assert!(
        stdout(&one).starts_with("1 file, 5 bytes"),
        "{}",
        stdout(&one)
    );
    for path in [&data, &data.join("tenants/default/log"), dir.path()] {
        let refused = import(path, &[]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("would take in itself"));
    }
}

#[test]
fn a_server_that_is_not_there_or_no_stemma_is_told_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = BufReader::new(stream.try_clone().expect("a handle")).lines();
        while request
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>";
        stream
            .write_all(answer.as_bytes())
            .expect("the client reads");
    });
    let other = run(&["events", "--server", &url]);
    answering.join().expect("it answered");
    assert_eq!(other.status.code(), Some(1));
    assert!(
        stderr(&other).contains("no Stemma server"),
        "{}",
        stderr(&other)
    );
    let nobody = run(&["events", "--server", &url]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        stderr(&nobody).contains("stemma serve"),
        "{}",
        stderr(&nobody)
    );
}

/// Two packages' documentation both have a file `copyright`: once, the second one revised the first.
#[test]
fn files_of_the_same_path_in_two_trees_are_two_resources() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    for tree in ["one", "two"] {
        std::fs::create_dir(dir.path().join(tree)).expect("a directory");
        std::fs::write(dir.path().join(tree).join("copyright"), tree).expect("a file");
    }
    let import = |trees: &[&str]| {
        let paths: Vec<_> = trees.iter().map(|tree| dir.path().join(tree)).collect();
        let mut args = vec!["import", "--data", text(&data), "--json"];
        args.extend(paths.iter().map(|path| text(path)));
        let told = answer(&args);
        counts(&told, &["files", "created", "revised", "unchanged", "gone"])
    };
    assert_eq!(import(&["one"]), [1, 1, 0, 0, 0]);
    assert_eq!(import(&["two"]), [1, 1, 0, 0, 0]);
    assert_eq!(import(&["one", "two"]), [2, 0, 0, 2, 0]);
    let (one, moved) = (dir.path().join("one"), dir.path().join("moved"));
    let sent = std::process::Command::new("mv").args([one, moved]).status();
    assert!(sent.expect("mv is there").success());
    assert_eq!(
        import(&["moved"]),
        [1, 0, 0, 1, 0],
        "a moved tree is known again"
    );
    std::fs::remove_file(dir.path().join("two/copyright")).expect("it is ours");
    assert_eq!(import(&["two"]), [0, 0, 0, 0, 1]);
}

/// A new, empty log was made beside the content, which was then collected as named by nothing.
#[tokio::test]
async fn content_without_its_log_is_damage_and_not_a_new_store() {
    let mut server = Server::start();
    server.client().create("a", "x").await;
    assert_eq!(server.stop(), Some(0));
    let data = text(server.data()).to_owned();
    let log = server.data().join("tenants/default/log");
    std::fs::remove_dir_all(&log).expect("it is ours");
    let served = run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]);
    assert_eq!(served.status.code(), Some(3), "{}", stderr(&served));
    assert!(!log.exists(), "nothing was made");
}

#[tokio::test]
async fn a_command_that_is_interrupted_ends_with_130() {
    let server = Server::start();
    server.client().create("a", "x").await;
    let data = text(server.data()).to_owned();
    let url = server.url().to_owned();
    for args in [["--data", data.as_str()], ["--server", url.as_str()]] {
        let mut following = std::process::Command::new(binary());
        following.args(["events", "--follow"]).args(args);
        let mut following = following
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let mut out = BufReader::new(following.stdout.take().expect("it is piped"));
        out.read_line(&mut line).expect("an event is printed");
        let pid = following.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status();
        assert!(sent.expect("kill is there").success());
        assert_eq!(
            following.wait().expect("it ends").code(),
            Some(130),
            "{args:?}"
        );
    }
}

#[tokio::test]
async fn one_position_is_verified_with_its_links_and_its_content() {
    let mut server = Server::start();
    server
        .client()
        .create("a", "the content of the first")
        .await;
    server.client().create("b", "another").await;
    assert_eq!(server.stop(), Some(0));
    let data = text(server.data()).to_owned();
    let one = |position: &str| run(&["verify", "--position", position, "--data", &data, "--json"]);
    let told: Value = serde_json::from_str(&stdout(&one("1"))).expect("JSON");
    assert_eq!(told["verdict"], "intact");
    assert_eq!(
        one("2").status.code(),
        Some(1),
        "what is not there is not damaged"
    );
    let pack = server
        .data()
        .join("tenants/default/content/packs/0000000001.pack");
    flip(&pack, "the content of the first");
    assert_eq!(one("1").status.code(), Some(0));
    let damaged = one("0");
    assert_eq!(damaged.status.code(), Some(3));
    let told: Value = serde_json::from_str(&stdout(&damaged)).expect("JSON");
    assert_eq!(
        (&told["damage"][0]["part"], &told["damage"][0]["position"]),
        (&json!("content"), &json!(0))
    );
}

#[tokio::test]
async fn a_tree_is_imported_through_a_running_server() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("a directory");
    tree(dir.path());
    let url = server.url().to_owned();
    let files = text(dir.path()).to_owned();
    let import = move || answer(&["import", &files, "--server", &url, "--json"]);
    let mut imported = tokio::task::spawn_blocking(move || (import(), import()));
    let client = server.client();
    // What others write meanwhile is no event of the import.
    let (first, again) = loop {
        tokio::select! {
            done = &mut imported => break done.expect("it runs"),
            _ = client.create("z", "of somebody else") => {}
        }
    };
    let names = ["files", "created", "links", "duplicates", "events"];
    assert_eq!(counts(&first, &names), [3, 3, 1, 1, 3]);
    assert_eq!(
        counts(&again, &["files", "created", "unchanged", "events"]),
        [3, 0, 3, 0]
    );
    let listed = client.get("/api/resources?sort=name").await.expect(200);
    let items = listed["items"].as_array().expect("items");
    let paths: Vec<_> = items
        .iter()
        .take(3)
        .map(|item| item["metadata"]["source_path"].clone())
        .collect();
    assert_eq!(paths, ["a.txt", "sub/b.md", "sub/c.txt"]);
    assert_eq!(items[1]["media_type"], "text/markdown");
}

#[tokio::test]
async fn events_stats_and_verify_work_on_a_directory_that_a_server_uses() {
    let server = Server::start();
    let client = server.client();
    client.create("a", "x").await;
    client.create("b", "x").await;
    let data = text(server.data()).to_owned();
    let stats = answer(&["stats", "--data", &data, "--json"]);
    assert_eq!(
        (&stats["events"], &stats["resources"]),
        (&json!(2), &json!(2))
    );
    assert!(stats["bytes"]["search"].is_u64(), "{stats}");
    let verified = answer(&["verify", "--data", &data, "--json"]);
    assert_eq!(
        (&verified["verdict"], &verified["events"]),
        (&json!("intact"), &json!(2))
    );
    let printed = run(&["events", "--data", &data, "--json", "--after", "0"]);
    let lines: Vec<Value> = stdout(&printed)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let page = client.get("/api/events?after=0").await.expect(200);
    assert_eq!(json!(lines), page["items"]);
    let remote = run(&["events", "--server", server.url(), "--json"]);
    assert_eq!(stdout(&remote).lines().count(), 2);
    for place in [["--data", &data], ["--server", server.url()]] {
        let all = run(&[&["events", "--after", "start"][..], &place].concat());
        assert_eq!(stdout(&all).lines().count(), 2, "{place:?}");
    }
    let refused = run(&["stats", "--server", server.url()]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let refused = run(&["rebuild", "views", "--data", &data]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains(&server.pid().to_string()),
        "{}",
        stderr(&refused)
    );
    let refused = run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(1));
}

/// Changes a bit of the first place where a text stands; gives the bytes as they were, and the place.
fn flip(path: &Path, needle: &str) -> (Vec<u8>, usize) {
    let whole = std::fs::read(path).expect("the file");
    let mut bytes = whole.clone();
    let needle = needle.as_bytes();
    let at = bytes.windows(needle.len()).position(|w| w == needle);
    let at = at.expect("it stands there");
    bytes[at] ^= 4;
    std::fs::write(path, bytes).expect("the file is ours");
    (whole, at)
}

#[tokio::test]
async fn damage_of_each_part_is_named_and_exits_with_3() {
    let mut server = Server::start();
    let client = server.client();
    for number in 0..20 {
        client
            .create(
                &format!("name of number {number}"),
                &format!("content of number {number}"),
            )
            .await;
    }
    assert_eq!(server.stop(), Some(0));
    let default = server.data().join("tenants/default");
    let data = text(server.data()).to_owned();
    for (file, needle, part) in [
        (
            "log/00000000000000000000.segment",
            "name of number 7",
            "log",
        ),
        (
            "content/packs/0000000001.pack",
            "content of number 7",
            "content",
        ),
    ] {
        let path = default.join(file);
        let (whole, at) = flip(&path, needle);
        let output = run(&["verify", "--data", &data, "--json"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(told["verdict"], "damaged");
        let of_part = told["damage"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|d| d["part"] == part);
        let damage = of_part.unwrap_or_else(|| panic!("{part} in {told}"));
        assert!(
            damage["file"]
                .as_str()
                .is_some_and(|name| name.ends_with(file.rsplit('/').next().expect("a name"))),
            "{damage}"
        );
        assert!(
            damage["offset"]
                .as_u64()
                .is_some_and(|offset| offset <= at as u64),
            "{damage}"
        );
        if part == "log" {
            assert_eq!(damage["position"], 7);
            let served = run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]);
            assert_eq!(served.status.code(), Some(3), "{}", stderr(&served));
            assert!(
                stderr(&served).contains("--read-only"),
                "{}",
                stderr(&served)
            );
            what_is_whole_is_served(server.data()).await;
        }
        std::fs::write(&path, whole).expect("the file is ours");
    }
    assert_eq!(
        answer(&["verify", "--data", &data, "--json"])["verdict"],
        "intact"
    );
}

/// `serve --read-only` on a log that is damaged at position 7.
async fn what_is_whole_is_served(data: &Path) {
    let before = files_of(&data.join("tenants/default"));
    let mut server = Server::builder().data(data).arg("--read-only").start();
    let client = server.client();
    let listed = client
        .get("/api/resources?sort=created_at")
        .await
        .expect(200);
    assert_eq!(listed["items"].as_array().expect("items").len(), 7);
    let content = listed["items"][6]["id"].as_str().expect("an id");
    let content = client
        .get(&format!("/api/resources/{content}/content"))
        .await;
    assert_eq!(content.text(), "content of number 6");
    assert_eq!(
        client.get("/api/events?after=start").await.expect(200)["items"]
            .as_array()
            .expect("items")
            .len(),
        7
    );
    let made = json!({ "name": "n", "media_type": "text/plain", "content": "x" });
    client
        .post("/api/resources", &made)
        .await
        .expect_problem(503, "READ_ONLY");
    let entity_type = json!({ "name": "T" });
    client
        .post("/api/entity_types", &entity_type)
        .await
        .expect_problem(503, "READ_ONLY");
    client
        .raw("POST", "/api/admin/collect", &[], "")
        .await
        .expect_problem(503, "READ_ONLY");
    let health = client.get("/api/health").await.expect(503);
    assert_eq!(health["parts"]["log"]["status"], "degraded", "{health}");
    assert_eq!(server.stop(), Some(0));
    assert_eq!(files_of(&data.join("tenants/default")), before);
}

/// Every file below a directory with its bytes, the lock left out.
fn files_of(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else if !path.ends_with("lock") {
            let bytes = std::fs::read(&path).expect("a file");
            files.insert(path, bytes);
        }
    }
    files
}

#[tokio::test]
async fn views_are_rebuilt_offline_on_either_engine() {
    let mut server = Server::start();
    let made = server.client().create("a", "x").await;
    assert_eq!(server.stop(), Some(0));
    let data = text(server.data()).to_owned();
    let rebuilt = answer(&["rebuild", "views", "--data", &data, "--json"]);
    assert_eq!(
        (&rebuilt["equal"], &rebuilt["swapped"]),
        (&json!(true), &json!(true)),
        "{rebuilt}"
    );
    std::fs::remove_dir_all(server.data().join("tenants/default/views")).expect("derived");
    let server = Server::builder()
        .data(server.data())
        .env("STEMMA_VIEWS__ENGINE", "lsm-tree")
        .start();
    let path = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    assert_eq!(server.client().get(&path).await.expect(200), made);
}

#[test]
fn wrong_usage_and_configuration_exit_with_2_and_name_the_nearest() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("stemma.toml");
    std::fs::write(&file, "[views]\nengin = \"sled\"\n").expect("a file");
    let refused = run(&["config", "--config", text(&file)]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("views.engine"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(run(&["explode"]).status.code(), Some(2));
    for listen in ["nowhere", "127.0.0.1", "127.0.0.1:99999", "localhost:x"] {
        let refused = run(&["serve", "--listen", listen]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("expected ADDR:PORT"), "{listen}");
    }
    let refused = run(&["serve", "--listen", "192.0.2.1:80"]);
    assert!(stderr(&refused).contains("only loopback"));
    for server in ["foo", "http://", "ftp://localhost"] {
        let refused = run(&["events", "--server", server]);
        assert_eq!(refused.status.code(), Some(2), "{server}");
        assert!(stderr(&refused).contains("http://127.0.0.1:8470"));
    }
    let missing = run(&["stats", "--data", text(&dir.path().join("none"))]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(!dir.path().join("none").exists());
}

#[test]
fn settings_tell_where_they_came_from() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("stemma.toml"), "[log]\nqueue_max = 99\n").expect("a file");
    let settings = answer(&["config", "--data", text(dir.path()), "--json"]);
    assert_eq!(settings["log.queue_max"]["value"], 99);
    assert!(
        settings["log.queue_max"]["source"]
            .as_str()
            .is_some_and(|s| s.contains("stemma.toml")),
        "{settings}"
    );
    assert_eq!(
        settings["views.engine"],
        json!({ "value": "lsm-tree", "source": "default", "default": "lsm-tree" })
    );
}

#[test]
fn help_and_completions_are_there_for_every_command() {
    let help = stdout(&run(&["help"]));
    for command in [
        "serve",
        "import",
        "events",
        "stats",
        "verify",
        "rebuild",
        "config",
        "completions",
    ] {
        assert!(help.contains(command), "{command} in {help}");
        assert_eq!(run(&["help", command]).status.code(), Some(0));
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&["completions", shell])).contains("stemma"));
    }
}

#[tokio::test]
async fn the_sample_corpus_is_served_and_its_five_lines_work() {
    let server = Server::builder().arg("--demo").start();
    let client = server.client();
    let people = client
        .get("/api/resources?entity_type=Person&limit=500")
        .await
        .expect(200);
    assert!(people["items"].as_array().expect("items").len() > 10);
    // The lines are printed on stderr beside the log; each is a URL in quotes.
    let mut urls = Vec::new();
    while urls.len() < 5 {
        let told = server.told();
        let lines = told
            .lines()
            .filter(|line| line.trim_start().starts_with("curl "));
        urls = lines
            .filter_map(|line| line.split('\'').nth(1))
            .map(str::to_owned)
            .collect();
        tokio::task::yield_now().await;
    }
    for url in &urls {
        if url.contains("/stream") {
            let mut reader = stemma_tests::SseReader::open(client.request("GET", url)).await;
            assert!(reader.next_event().await.is_some());
        } else {
            assert_eq!(client.get(url).await.status, 200, "{url}");
        }
    }
    let annotations = client.get("/api/resources?q=Uranus").await.expect(200);
    assert!(!annotations["items"].as_array().expect("items").is_empty());
}

#[tokio::test]
async fn following_a_server_goes_on_when_it_comes_back_and_fails_when_it_does_not() {
    let mut server = Server::start();
    server.client().create("before", "x").await;
    let mut following = std::process::Command::new(binary())
        .args(["events", "--follow", "--json", "--server", server.url()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(following.stdout.take().expect("it is piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("another event").expect("UTF-8");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next()["data"]["name"], "before");
    server.kill();
    server.start_again();
    server.client().create("after", "y").await;
    let event = next();
    assert_eq!(
        (&event["position"], &event["data"]["name"]),
        (&json!(1), &json!("after"))
    );
    server.kill();
    assert_eq!(following.wait().expect("it ends").code(), Some(1));
}

#[tokio::test]
async fn a_type_and_a_stream_that_can_be_none_are_wrong_usage() {
    let server = Server::start();
    server.client().create("a", "x").await;
    let data = text(server.data());
    for (option, name, status) in [
        ("--type", "resource.*", 0),
        ("--type", "*", 0),
        ("--type", "Resource Created", 2),
        ("--stream", "a stream", 2),
        ("--stream", "", 2),
    ] {
        let output = run(&["events", "--data", data, option, name]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{option} {name:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_server_and_an_address_that_are_none_are_wrong_usage() {
    let data = tempfile::tempdir().expect("a directory");
    let data = text(data.path());
    for args in [
        &["events", "--server", "foo"][..],
        &["import", "/proc/self/status", "--server", "ftp://a"],
        &["serve", "--listen", "8470", "--data", data],
        &["serve", "--listen", "localhost:x", "--data", data],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("127.0.0.1:8470"),
            "{}",
            stderr(&output)
        );
    }
}
