//! PostgreSQL: a table of events, an insert and a commit for each, by its own `pgbench`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use super::append::Figures;

const SCHEMA: &str = "CREATE TABLE events(seq bigserial PRIMARY KEY, stream_id text NOT NULL, version int NOT NULL, at timestamptz NOT NULL DEFAULT now(), data jsonb NOT NULL, UNIQUE(stream_id, version))";

/// A running PostgreSQL, ended by its process id when it is dropped.
pub(crate) struct Postgres {
    child: Child,
    port: String,
    dir: PathBuf,
}

/// A command as the user that a database may belong to: it refuses to be run by root.
fn command(program: &str) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--clear-groups",
        program,
    ]);
    command
}

impl Postgres {
    /// Starts one with its files in a directory of its own.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("postgres");
        std::fs::create_dir(&dir)?;
        // Its user has to get there, and to own it.
        if command("true").get_program() == "setpriv" {
            let owned = Command::new("chown")
                .arg("postgres:postgres")
                .arg(&dir)
                .status()?;
            anyhow::ensure!(owned.success(), "there is no user postgres");
        }
        let made = command("initdb")
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
            .arg(&dir)
            .current_dir("/")
            .output()
            .context("PostgreSQL is not installed")?;
        let told = String::from_utf8_lossy(&made.stderr);
        anyhow::ensure!(made.status.success(), "initdb: {told}");
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = free.local_addr()?.port().to_string();
        drop(free);
        let child = command("postgres")
            .arg("-D")
            .arg(&dir)
            .args([
                "-p",
                &port,
                "-h",
                "127.0.0.1",
                "-k",
                "",
                "-c",
                "max_connections=400",
            ])
            .args(["-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB"])
            .args(["-c", "fsync=on", "-c", "synchronous_commit=on"])
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let postgres = Self { child, port, dir };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while postgres.execute("SELECT 1").is_err() {
            anyhow::ensure!(std::time::Instant::now() < until, "postgres does not start");
        }
        postgres.execute(SCHEMA)?;
        Ok(postgres)
    }

    fn execute(&self, statement: &str) -> anyhow::Result<()> {
        let done = Command::new("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &self.port,
                "-qc",
                statement,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("psql is not installed")?;
        anyhow::ensure!(done.success(), "psql: {done}");
        Ok(())
    }

    /// Inserts of 500 bytes, `events` in one statement and one transaction.
    pub(crate) fn append(
        &self,
        writers: usize,
        events: usize,
        seconds: u64,
    ) -> anyhow::Result<Figures> {
        let data = "x".repeat(470);
        let script = self.dir.join("append.sql");
        std::fs::write(
            &script,
            format!(
                "\\set stream random(1, 9000000000000000)\nINSERT INTO events(stream_id, version, data) SELECT :stream::text, v, '{{\"time\": 1, \"value\": \"{data}\"}}'::jsonb FROM generate_series(1, {events}) AS v;\n"
            ),
        )?;
        let output = Command::new("pgbench")
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port])
            .args([
                "-n",
                "-M",
                "prepared",
                "-j",
                "1",
                "-c",
                &writers.to_string(),
            ])
            .args(["-T", &seconds.to_string(), "-f"])
            .arg(&script)
            .arg("postgres")
            .output()
            .context("pgbench is not installed")?;
        let told = String::from_utf8_lossy(&output.stdout);
        let figure = |name: &str| -> Option<f64> {
            let line = told.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let per_second = figure("tps = ").with_context(|| format!("pgbench: {told}"))?;
        let average = figure("latency average = ").unwrap_or(0.0);
        #[expect(clippy::cast_sign_loss)]
        let average_us = (average * 1000.0) as u64;
        Ok(Figures {
            per_second: per_second * events as f64,
            // It tells the mean only.
            p50_us: average_us,
            p99_us: 0,
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Asked to end at once, it ends its own children too.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &id]).status();
        let _ = self.child.wait();
    }
}
