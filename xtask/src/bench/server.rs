//! The server that is measured: the release build, started in a directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::load::Connection;
use crate::run::{command, root, run};

/// Milliseconds of a tick in `/proc`, which are a hundredth of a second on Linux.
const MS_A_TICK: u64 = 10;

/// A running server, ended by its process id when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) host: String,
}

/// The release binaries.
pub(crate) struct Binaries {
    pub(crate) stemma: PathBuf,
    /// The load generator and the floor.
    pub(crate) bench: PathBuf,
}

/// Builds the release binaries and says where they are.
pub(crate) fn build() -> anyhow::Result<Binaries> {
    let packages = ["--package", "stemma", "--package", "stemma-bench"];
    let build = [&["build", "--release", "--locked"], &packages[..]].concat();
    run(command("cargo", &build))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    Ok(Binaries {
        stemma: target.join("release/stemma"),
        bench: target.join("release/stemma-bench"),
    })
}

/// A directory for a run, on the disk that the project lies on.
pub(crate) fn directory() -> anyhow::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir_in(root().join("target"))?;
    // A peer may run as a user of its own.
    let permissions = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(dir.path(), permissions)?;
    Ok(dir)
}

/// The id of a resource that the loads write to.
pub(crate) fn resource(index: usize) -> String {
    format!("019a0000-0000-7000-8000-{index:012}")
}

impl Server {
    /// Makes the resources that the loads write to.
    pub(crate) fn fill_for_bench(&self, resources: usize) -> anyhow::Result<()> {
        let mut connection = Connection::open(&self.host)?;
        for index in 0..resources {
            let body = format!(
                r#"{{"id":"{}","name":"bench","media_type":"text/plain","content":"Jupiter has four large moons."}}"#,
                resource(index)
            );
            connection.send("POST", "/api/resources", &body)?;
        }
        Ok(())
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it has resident now, in kibibytes.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    pub(crate) fn start(binary: &Path, data: &Path, engine: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("STEMMA_VIEWS__ENGINE", engine);
        Self::of(command)
    }

    /// The floor, with its log below `dir`.
    pub(crate) fn floor(binaries: &Binaries, dir: &Path) -> anyhow::Result<Self> {
        let mut floor = Command::new(&binaries.bench);
        floor.arg("floor").arg("--dir").arg(dir.join("floor"));
        Self::of(floor)
    }

    /// The HTTP server that Stemma is built on, which keeps nothing.
    pub(crate) fn stack(binaries: &Binaries) -> anyhow::Result<Self> {
        let mut stack = Command::new(&binaries.bench);
        stack.arg("stack");
        Self::of(stack)
    }

    /// The server that a command starts, which tells its address on its first line.
    pub(crate) fn of(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the server")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its stdout")?).read_line(&mut line)?;
        let host = line
            .trim()
            .strip_prefix("listening on http://")
            .context("an address")?;
        Ok(Self {
            host: host.to_owned(),
            child,
        })
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        run(command("kill", &["-TERM", &self.child.id().to_string()]))?;
        self.child.wait()?;
        Ok(())
    }

    /// The processor time that it has taken.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        // Behind the name, which may hold anything, its state is the third field of all.
        let stat = stat.unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * MS_A_TICK)
    }

    /// The most memory that it has had resident, in kibibytes.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        status_of(self.child.id(), name)
    }
}

/// A figure of a process's status, such as `VmHWM:` in kibibytes; 0 where it is not to be had.
pub(crate) fn status_of(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
