//! Redis with its append-only file synced at each write: a peer that is durable and fast.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use super::append::Figures;

/// A running Redis, ended by its process id when it is dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts one with its files below `dir`.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let place = dir.join("redis");
        std::fs::create_dir_all(&place)?;
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ])
            .arg("--dir")
            .arg(&place)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server is not installed")?;
        let redis = Self { child, port };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(
                std::time::Instant::now() < until,
                "redis-server does not start"
            );
            std::thread::yield_now();
        }
        Ok(redis)
    }

    /// Appends of 500 bytes to a stream, by Redis's own load generator.
    pub(crate) fn append(&self, writers: usize, seconds: u64) -> anyhow::Result<Figures> {
        let (port, writers) = (self.port.to_string(), writers.to_string());
        let data = "x".repeat(500);
        let measure = |count: u64| -> anyhow::Result<Figures> {
            let output = Command::new("redis-benchmark")
                .args([
                    "-p",
                    &port,
                    "-c",
                    &writers,
                    "-n",
                    &count.to_string(),
                    "--csv",
                ])
                .args(["XADD", "events", "*", "data", &data])
                .output()
                .context("redis-benchmark is not installed")?;
            let told = String::from_utf8_lossy(&output.stdout);
            let line = told.lines().last().context("figures")?;
            // "test","rps","avg","min","p50","p95","p99","max", times in milliseconds.
            let fields: Vec<f64> = line
                .rsplit("\",\"")
                .filter_map(|field| field.trim_matches('"').parse().ok())
                .collect();
            let [_max, p99, _p95, p50, _min, _average, per_second] = fields[..] else {
                anyhow::bail!("not what redis-benchmark tells: {line}");
            };
            #[expect(clippy::cast_sign_loss)]
            let micros = |millis: f64| (millis * 1000.0) as u64;
            Ok(Figures {
                per_second,
                p50_us: micros(p50),
                p99_us: micros(p99),
            })
        };
        // A short run tells how many make a long one.
        let guess = measure(2000)?.per_second;
        #[expect(clippy::cast_sign_loss)]
        measure(((guess * seconds as f64) as u64).max(2000))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
