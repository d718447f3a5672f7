//! A real Neo4j Community server, from the artifacts that its makers publish.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

const PASSWORD: &str = "of the tests";

/// A Neo4j server that runs until it is dropped, or the process that started it ends.
#[derive(Debug)]
pub struct Neo4j {
    child: Child,
    port: u16,
    data: TempDir,
    /// Where its key and certificate are, if it is talked to over TLS.
    tls: Option<PathBuf>,
}

impl Neo4j {
    /// One for all tests that leave it as it is: what is theirs there they name themselves.
    ///
    /// # Panics
    /// When it does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Neo4j> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server of one's own.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        Self::with(None)
    }

    /// The same, over TLS alone, with `private.key` and `public.crt` of a directory.
    ///
    /// # Panics
    /// When it does not start.
    pub fn over_tls(keys: &Path) -> Self {
        Self::with(Some(keys.to_path_buf()))
    }

    fn with(tls: Option<PathBuf>) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let child = launch(data.path(), port, tls.as_deref());
        Self {
            child,
            port,
            data,
            tls,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How it is named on the command line.
    pub fn uri(&self) -> String {
        format!("neo4j://{}", self.address())
    }

    /// The password of its user `neo4j`.
    pub const fn password() -> &'static str {
        PASSWORD
    }

    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Starts it again: same port, same data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.child = launch(self.data.path(), self.port, self.tls.as_deref());
    }
}

impl Drop for Neo4j {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(data: &Path, port: u16, tls: Option<&Path>) -> Child {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("the workspace's root");
    let library = root.join("target/neo4j/lib");
    assert!(
        library.is_dir(),
        "{} is missing: cargo xtask install",
        library.display()
    );
    let mut command = Command::new("java");
    command
        .arg("-Xmx512m")
        .arg("-cp")
        .arg(library.join("*"))
        .arg(tests.join("neo4j/Neo4jServer.java"))
        .arg(data)
        .args([&port.to_string(), PASSWORD])
        .args(tls)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("java starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("stdout can be read");
    if line.trim() != "ready" {
        let mut told = String::new();
        let stderr = child.stderr.as_mut().expect("stderr is piped");
        // Whatever can be read helps.
        let _ = stderr.read_to_string(&mut told);
        panic!("Neo4j said {line:?}:\n{told}");
    }
    let mut stderr = child.stderr.take().expect("stderr is piped");
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    child
}
