//! The real binary, started and ended.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::{Client, Neo4j, SmallDisk};

/// The binary under test; `cargo xtask test` builds it first.
///
/// # Panics
/// When it has not been built.
pub fn binary() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace's root");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let binary = target.join(profile).join("stemma");
    assert!(
        binary.is_file(),
        "{} is missing: cargo build -p stemma",
        binary.display()
    );
    binary
}

/// Runs the binary to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(args: &[&str]) -> Output {
    command(args).output().expect("the binary starts")
}

/// The binary with these arguments, to be started otherwise.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    clean(command.args(args));
    command
}

/// No setting of the machine's reaches the binary under test.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEMMA") {
            command.env_remove(name);
        }
    }
    command
}

/// How a server is to be started.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    data: Option<PathBuf>,
    /// The command that the binary is started through.
    through: Vec<String>,
}

impl ServerBuilder {
    /// Keeps the data on a disk of its own, which the server alone sees by this path.
    #[must_use]
    pub fn on(mut self, disk: &SmallDisk) -> Self {
        self.data = Some(disk.data());
        self.through = disk.entrance();
        self
    }

    /// Keeps the graph in Neo4j.
    #[must_use]
    pub fn graph_in(self, neo4j: &Neo4j) -> Self {
        self.graph_at(&neo4j.uri())
    }

    /// Keeps the graph in the Neo4j at an address.
    #[must_use]
    pub fn graph_at(self, uri: &str) -> Self {
        let password = Neo4j::password();
        self.env("STEMMA_GRAPH__PASSWORD", password)
            .arg("--graph")
            .arg(uri)
    }

    /// Adds an argument of `serve`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Sets a variable, such as `STEMMA_SSE__HEARTBEAT_MS`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses a directory that is there already.
    #[must_use]
    pub fn data(mut self, data: &Path) -> Self {
        self.data = Some(data.to_path_buf());
        self
    }

    /// Starts the server and waits until it takes requests.
    ///
    /// # Panics
    /// When it does not come to take requests; its log is printed then.
    pub fn start(self) -> Server {
        let (own, data) = match &self.data {
            Some(data) => (None, data.clone()),
            None => {
                let own = tempfile::tempdir().expect("a temporary directory");
                let data = own.path().join("data");
                (Some(own), data)
            }
        };
        let told = Arc::default();
        let (child, url) = self.launch("127.0.0.1:0", &data, &told);
        Server {
            child,
            url,
            data,
            _own: own,
            told,
            builder: self,
        }
    }

    /// Starts the process and waits until it says where it listens.
    fn launch(&self, listen: &str, data: &Path, told: &Arc<Mutex<String>>) -> (Child, String) {
        let mut command = match self.through.split_first() {
            None => Command::new(binary()),
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(binary());
                command
            }
        };
        clean(&mut command)
            .arg("serve")
            .args(["--listen", listen, "--data"])
            .arg(data)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let sink = Arc::clone(told);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut told = sink.lock().expect("nobody panics while holding it");
                told.push_str(&line);
                told.push('\n');
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout can be read");
        let Some(url) = line.trim().strip_prefix("listening on ") else {
            let status = child.wait();
            let told = told.lock().expect("nobody panics while holding it");
            panic!("the server said {line:?} and ended with {status:?}:\n{told}");
        };
        let url = url.to_owned();
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        (child, url)
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    data: PathBuf,
    _own: Option<TempDir>,
    told: Arc<Mutex<String>>,
    builder: ServerBuilder,
}

impl Server {
    /// A server with everything at its default.
    pub fn start() -> Self {
        ServerBuilder::default().start()
    }

    /// How to start one otherwise.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of this server.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub fn told(&self) -> String {
        self.told
            .lock()
            .expect("nobody panics while holding it")
            .clone()
    }

    /// Ends it as a power cut would end the process: no handler runs.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Starts it again after it was killed or stopped: same port, same directory, same settings.
    ///
    /// # Panics
    /// When it does not come to take requests; its log is printed then.
    pub fn start_again(&mut self) {
        let listen = self.url.trim_start_matches("http://");
        let (child, url) = self.builder.launch(listen, &self.data, &self.told);
        assert_eq!(url, self.url, "the server came back elsewhere");
        self.child = child;
    }

    /// Asks it to stop, and gives its exit status.
    ///
    /// # Panics
    /// When the process cannot be signalled or waited for.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill is there");
        assert!(
            sent.success(),
            "the server was gone already:\n{}",
            self.told()
        );
        self.child.wait().expect("the process is ours").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprint_log(&self.told());
        }
    }
}

#[allow(clippy::print_stderr)]
fn eprint_log(told: &str) {
    eprintln!("--- the server's log\n{told}---");
}
