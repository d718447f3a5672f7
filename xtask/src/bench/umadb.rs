//! UmaDB, another event store: its server from PyPI, its own client built beside the workspace.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use super::append::Figures;
use crate::run::root;

const VERSION: &str = "umadb==0.7.8";

/// A running UmaDB, ended by its process id when it is dropped.
pub(crate) struct Umadb {
    child: Child,
    url: String,
}

fn quietly(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| what.to_owned())?;
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}

fn client() -> std::path::PathBuf {
    root().join("target/umadb-client/release/stemma-bench-umadb")
}

impl Umadb {
    /// Installs it below `target` where it is not yet, and starts one with its file below `dir`.
    ///
    /// # Errors
    /// When it cannot be had, or does not start.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let venv = root().join("target/umadb");
        if !venv.join("bin/umadb").exists() {
            quietly(
                Command::new("python3").args(["-m", "venv"]).arg(&venv),
                "make a venv for it",
            )?;
            quietly(
                Command::new(venv.join("bin/pip")).args(["install", VERSION]),
                "install it",
            )?;
        }
        quietly(
            Command::new("cargo")
                .args(["build", "--release", "--manifest-path"])
                .arg(root().join("bench/umadb/Cargo.toml"))
                .arg("--target-dir")
                .arg(root().join("target/umadb-client")),
            "build its client, which wants protoc",
        )?;
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let child = Command::new(venv.join("bin/umadb"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--db-path"])
            .arg(dir.join("umadb.db"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start it")?;
        let umadb = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(std::time::Instant::now() < until, "it does not start");
            std::thread::yield_now();
        }
        Ok(umadb)
    }

    /// Appends of so many events of 500 bytes, through its own client.
    pub(crate) fn append(
        &self,
        writers: usize,
        events: usize,
        seconds: u64,
    ) -> anyhow::Result<Figures> {
        let output = Command::new(client())
            .arg(&self.url)
            .args([writers, events].map(|number| number.to_string()))
            .arg(seconds.to_string())
            .output()
            .context("run its client")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "its client: {told}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Umadb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
