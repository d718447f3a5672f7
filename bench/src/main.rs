//! What `cargo xtask bench` runs beside Stemma, built as a release: a load of HTTP writers, and the
//! floor, which is the least server that does to a write what makes it durable and chained. Writers, readers
//! and listeners share one thread.

// A program whose figures are for reading.
#![allow(clippy::print_stdout)]
#![allow(clippy::cast_precision_loss)]

mod fan_out;
mod floor;
mod http;
mod jobs;
mod load;
mod replay;
mod soak;
mod stack;
mod upload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Parts of the benchmarks.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve writes with nothing but a hash chain, group commit and a sync.
    Floor {
        /// Where its log goes.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Answer writes with the HTTP server that Stemma has, and keep nothing.
    Stack,
    /// Write, and tell writes a second and their times as one line of JSON.
    Load(load::Args),
    /// Write while many listen, and tell how long until the last has seen it.
    FanOut(fan_out::Args),
    /// Read a log from its beginning, and tell events a second.
    Replay(replay::Args),
    /// Send small files, and tell how long until they are accepted.
    Upload(upload::Args),
    /// Queue, claim and complete jobs.
    Jobs {
        #[command(subcommand)]
        command: jobs::Command,
    },
    /// Write, read and listen for long, and tell every so often how the server does.
    Soak(soak::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floor { dir } => floor::serve(&dir),
        Command::Stack => stack::serve(),
        Command::Load(args) => load::run(&args),
        Command::FanOut(args) => fan_out::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Upload(args) => upload::run(&args),
        Command::Jobs { command } => jobs::run(&command),
        Command::Soak(args) => soak::run(&args),
    }
}
