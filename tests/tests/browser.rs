//! The event stream in a browser and in Node: programs of `tests/browser` against the real binary.
//!
//! A program talks over its standard streams: it says `kill`, `stop`, `empty` or `start`, the
//! server is dealt with, and it is told `… done`. Its standard error is shown when it fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use stemma_tests::Server;

#[test]
fn a_browser_sees_every_position_once_across_a_crash_and_a_stop() {
    play("reconnect", Needs::Browser);
}

#[test]
fn a_browser_follows_one_resource_some_types_or_only_what_is_new() {
    play("filters", Needs::Browser);
}

#[test]
fn a_browser_comes_back_near_the_head_though_its_filter_let_nothing_through() {
    // What the browser receives is looked at, so nothing but events may come.
    play_with_heartbeat("near", Needs::Browser, "3600000");
}

#[test]
fn a_browser_is_told_of_a_gap_and_goes_on() {
    play("gap", Needs::Browser);
}

#[test]
fn the_docs_page_shows_every_route_and_loads_nothing_from_outside() {
    play("docs", Needs::Browser);
}

#[test]
fn an_uploaded_page_does_not_run_its_script() {
    play("untrusted", Needs::Browser);
}

#[test]
fn an_event_source_in_node_sees_every_position_once_across_a_crash() {
    play("node-event-source", Needs::Node);
}

#[test]
fn a_fetch_in_node_goes_on_from_the_last_event_id() {
    play("node-fetch", Needs::Node);
}

/// What a program needs to be installed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Node,
    Browser,
}

/// Runs a program to its end, while streams carry heartbeats all the time.
fn play(scenario: &str, needs: Needs) {
    play_with_heartbeat(scenario, needs, "50");
}

/// Runs a program to its end, and does to the server what it says.
fn play_with_heartbeat(scenario: &str, needs: Needs, heartbeat_ms: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let mut command = Command::new(installed("node", "nodejs"));
    if needs == Needs::Browser {
        command.env("CHROMIUM", installed("chromium", "chromium"));
    }
    assert!(
        folder.join("node_modules").is_dir(),
        "the Node packages are missing: npm ci --prefix tests/browser, or cargo xtask test"
    );
    let mut server = Server::builder()
        .env("STEMMA_SSE__HEARTBEAT_MS", heartbeat_ms)
        .start();
    // Whatever a browser leaves behind goes with this directory.
    let scratch = tempfile::tempdir().expect("a temporary directory");
    command
        .args(["run.mjs", scenario])
        .env("SERVER_URL", server.url())
        .env("HOME", scratch.path())
        .env("TMPDIR", scratch.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        .current_dir(folder);
    let mut program = Program::start(&mut command);
    while let Some(word) = program.next_word() {
        obey(&mut server, &word);
        program.answer(&format!("{word} done\n"));
    }
    let (status, told) = program.end();
    assert!(
        status.success(),
        "node run.mjs {scenario}: {status}\n{told}"
    );
}

/// Where a program of the distribution is.
fn installed(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("{program} is missing: apt-get install {package}, or cargo xtask test")
        })
}

fn obey(server: &mut Server, word: &str) {
    match word {
        "kill" => server.kill(),
        "stop" => assert_eq!(server.stop(), Some(0), "the server's exit status"),
        "empty" => std::fs::remove_dir_all(server.data()).expect("the data can be removed"),
        "start" => server.start_again(),
        other => panic!("the program said {other:?}"),
    }
}

/// A program that ends by itself: at its end, after its own longest time, or when its input ends.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
    told: Option<JoinHandle<String>>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node starts");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let told = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("stdout is piped")),
            told: Some(told),
            child,
        }
    }

    /// What it says next; none when it has no more to say.
    fn next_word(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self
            .output
            .read_line(&mut line)
            .expect("its output is text");
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// A program that has ended meanwhile is found out by its exit status.
    fn answer(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open until the end");
        let _ = input.write_all(line.as_bytes());
    }

    fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("the process is ours");
        let told = self.told.take().expect("it is taken once");
        (status, told.join().expect("reading does not panic"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
