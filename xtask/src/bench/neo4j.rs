//! Neo4j as the tests run it, for the graph that is kept there.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::run::root;

/// The password of its user `neo4j`.
pub(crate) const PASSWORD: &str = "of the benchmark";
/// Its heap.
const HEAP: &str = "-Xmx2g";

/// A running Neo4j, ended by its process id when it is dropped.
pub(crate) struct Neo4j {
    child: Child,
    port: u16,
}

impl Neo4j {
    /// Starts one over a directory; none where its parts were not installed.
    pub(crate) fn start(data: &Path) -> anyhow::Result<Option<Self>> {
        let library = root().join("target/neo4j/lib");
        if !library.is_dir() {
            return Ok(None);
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new("java")
            .args([HEAP, "-cp"])
            .arg(library.join("*"))
            .arg(root().join("tests/neo4j/Neo4jServer.java"))
            .arg(data)
            .args([&port.to_string(), PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start java")?;
        let mut told = String::new();
        let stdout = child.stdout.take().context("stdout is piped")?;
        BufReader::new(stdout).read_line(&mut told)?;
        if told.trim() != "ready" {
            bail!("Neo4j said {told:?}");
        }
        Ok(Some(Self { child, port }))
    }

    pub(crate) fn uri(&self) -> String {
        format!("neo4j://127.0.0.1:{}", self.port)
    }
}

impl Drop for Neo4j {
    fn drop(&mut self) {
        // It may have gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
