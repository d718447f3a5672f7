//! The project's own commands: `cargo xtask test`, `install`, `tidy`, `kill`, `crash`, `fuzz`, `bench`.
//!
//! `test` is the one command that passes every test on a fresh machine; CI runs the same.

// A program for a terminal, whose figures are for reading.
#![allow(clippy::print_stderr, clippy::print_stdout)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod bench;
mod crash;
mod fuzz;
mod install;
mod kill;
mod run;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// Commands for working on Stemma.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, then run every check and every test.
    Test(test::Args),
    /// Install what the tests need, and nothing more.
    Install,
    /// Check the house rules: crate table, file headers, glossary, generated documents.
    Tidy,
    /// Kill a loaded server and its workers again and again, and look for what was acknowledged.
    Kill(kill::Args),
    /// Crash log and content store on a simulated disk, by seed, and look for what was acknowledged.
    Crash(crash::Args),
    /// Fuzz the decoders of every format.
    Fuzz(fuzz::Args),
    /// Measure, each figure beside the machine's own limit.
    Bench(bench::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Test(args) => test::run_all(&args),
        Command::Install => install::run_all(),
        Command::Tidy => tidy::run(),
        Command::Kill(args) => kill::run_all(&args),
        Command::Crash(args) => crash::run_all(&args),
        Command::Fuzz(args) => fuzz::run_all(&args),
        Command::Bench(args) => bench::run(args),
    }
}
