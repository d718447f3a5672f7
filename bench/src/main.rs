//! What `cargo xtask bench` runs beside Stemma, built as a release: a load of HTTP writers, and the
//! floor, which is the least server that does to a write what makes it durable and chained.

// A program whose figures are for reading.
#![allow(clippy::print_stdout)]
#![allow(clippy::cast_precision_loss)]

mod floor;
mod http;
mod load;

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
    /// Write, and tell writes a second and their times as one line of JSON.
    Load(load::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floor { dir } => floor::serve(&dir),
        Command::Load(args) => load::run(&args),
    }
}
