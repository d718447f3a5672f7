//! Documents and jobs: uploads beside long queues (P8), claims, jobs a second, the whole pipeline,
//! searching. Each beside what the disk, the floor, or a plain request does in the same run.

mod journey;
mod pdf;
mod pipeline;
mod prose;
mod queue;
mod searching;

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::server::{Binaries, Server, build};

/// How to measure documents.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Parts to measure; all of them where none is named.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Jobs that wait in the longest queue.
    #[arg(long, default_value_t = 100_000)]
    waiting: usize,
    /// Chunks that are searched, about.
    #[arg(long, default_value_t = 100_000)]
    chunks: usize,
    /// Engine of the views.
    #[arg(long, default_value = "lsm-tree")]
    engine: String,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    /// Uploads and claims beside long queues.
    Uploads,
    /// Jobs a second.
    Jobs,
    /// Large documents through all stages, and the memory that they take.
    Pipeline,
    /// Searching.
    Search,
}

/// Measures.
pub(crate) fn run(args: &Args, keep: bool) -> anyhow::Result<()> {
    let bench = Bench {
        binaries: build()?,
        engine: args.engine.clone(),
    };
    let all = [Part::Uploads, Part::Jobs, Part::Pipeline, Part::Search];
    let is_asked = |part: &Part| args.parts.is_empty() || args.parts.contains(part);
    for part in all.iter().filter(|part| is_asked(part)) {
        match part {
            Part::Uploads => queue::uploads(&bench, args.waiting, keep)?,
            Part::Jobs => queue::jobs(&bench, keep)?,
            Part::Pipeline => pipeline::run(&bench, keep)?,
            Part::Search => searching::run(&bench, args.chunks, keep)?,
        }
        println!();
    }
    Ok(())
}

/// The release binaries, and how servers are started.
struct Bench {
    binaries: Binaries,
    engine: String,
}

/// What a load came to.
#[derive(serde::Deserialize)]
struct Figures {
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Bench {
    /// Starts a server over `data`, with settings of the environment.
    fn serve(&self, data: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        let mut serve = Command::new(&self.binaries.stemma);
        serve
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("STEMMA_VIEWS__ENGINE", &self.engine)
            .envs(settings.iter().copied());
        Server::of(serve)
    }

    /// Runs a part of the load generator.
    fn load(&self, host: &str, args: &[&str]) -> anyhow::Result<Figures> {
        let mut load = Command::new(&self.binaries.bench);
        let output = load.args(args).args(["--host", host]).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{args:?}: {told}");
        serde_json::from_slice(&output.stdout).context("figures")
    }
}
