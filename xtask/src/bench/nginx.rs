//! nginx: what a server of files reads at, and `wrk`, which asks.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A running nginx, ended by its process id when it is dropped.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) host: String,
}

impl Nginx {
    /// Serves the files of `dir/www`.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let host = free.local_addr()?.to_string();
        drop(free);
        let mut config = String::from("daemon off; worker_processes 2; error_log /dev/null;\n");
        let place = dir.display();
        writeln!(
            config,
            "pid {place}/nginx.pid; events {{ worker_connections 1024; }}"
        )?;
        write!(
            config,
            "http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; open_file_cache max=100;"
        )?;
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            write!(config, " {name}_temp_path {place}/{name};")?;
        }
        writeln!(
            config,
            " server {{ listen {host} reuseport; root {place}/www; }} }}"
        )?;
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config)?;
        // Its workers may belong to another user.
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-g")
            .arg(if is_root() { "user root;" } else { "" })
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nginx is not installed")?;
        let nginx = Self { child, host };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::net::TcpStream::connect(&nginx.host).is_err() {
            anyhow::ensure!(std::time::Instant::now() < until, "nginx does not start");
            std::thread::yield_now();
        }
        Ok(nginx)
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
    }
}

/// Asks for a URL with so many clients; gives answers a second and bytes a second.
pub(crate) fn wrk(url: &str, clients: usize, seconds: u64) -> anyhow::Result<(f64, f64)> {
    let output = Command::new("wrk")
        .args([
            "-t2",
            &format!("-c{clients}"),
            &format!("-d{seconds}s"),
            url,
        ])
        .output()
        .context("wrk is not installed")?;
    let told = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "wrk: {told}");
    anyhow::ensure!(!told.contains("Non-2xx"), "wrk: {told}");
    let figure = |name: &str| {
        let line = told.lines().find_map(|line| line.trim().strip_prefix(name));
        line.map(str::trim).map(str::to_owned)
    };
    let answers = figure("Requests/sec:").and_then(|text| text.parse().ok());
    let bytes = figure("Transfer/sec:").and_then(|text| {
        let units = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0)];
        units.iter().find_map(|(unit, size)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(number * size)
        })
    });
    answers.zip(bytes).with_context(|| format!("wrk: {told}"))
}
