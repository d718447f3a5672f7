//! `stemma`: the one binary. It wires the crates together and decides nothing itself.

mod api_client;
mod backups;
mod cli;
mod clock;
mod command;
mod config;
mod demo;
mod exit;
mod figures;
mod gone;
mod interrupt;
mod issuer;
mod jobs_thread;
mod keys;
mod lease;
mod lock_file;
mod log_check;
mod logging;
mod open_files;
mod opened;
mod processing;
mod progress;
mod reembed;
mod remote_desk;
mod slots;
mod spans;
mod targets;
mod tenant_files;
mod tenants;
mod tools;
mod tree_thread;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

/// Chosen by measurement: docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(code) => code.into(),
        Err(error) => exit::report(&error),
    }
}
