//! Crashing log and content store on a simulated disk, and looking for what was acknowledged.

use crate::run::{command, run};

/// Which seeds.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 10_000)]
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

/// Runs the seeds on the crates as the tests have them.
pub(crate) fn run_all(args: &Args) -> anyhow::Result<()> {
    let (seeds, from) = (args.seeds.to_string(), args.from.to_string());
    let mut simulation = command(
        "cargo",
        &["run", "--package", "stemma-crash", "--locked", "--"],
    );
    simulation.args(["--seeds", &seeds, "--from", &from]);
    if args.all {
        simulation.arg("--all");
    }
    if args.uneven {
        simulation.arg("--uneven");
    }
    run(simulation)
}
