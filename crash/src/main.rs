//! Runs seeds of the crash simulation and tells what they did.

// A program for a terminal, whose figures are for reading.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use clap::Parser;
use stemma_crash::Pace;

/// Crash log and content store again and again and hold them against a model
#[derive(Parser)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Go on behind a seed that fails
    #[arg(long)]
    all: bool,
    /// On disks whose changes take longer now and then
    #[arg(long)]
    uneven: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let started = std::time::Instant::now();
    let seeds = args.from..args.from.saturating_add(args.seeds);
    let pace = if args.uneven {
        Pace::Uneven
    } else {
        Pace::Even
    };
    let (figures, failures) = stemma_crash::run_all(seeds, pace, args.all);
    print!("{figures}");
    println!(
        "{:<40} {:>12.1}",
        "seconds",
        started.elapsed().as_secs_f64()
    );
    for failure in &failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{} seeds failed", failures.len());
    ExitCode::FAILURE
}
