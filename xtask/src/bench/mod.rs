//! Measurements: each figure beside what the machine itself can do, in one run.
//!
//! Nothing here passes or fails. Figures are for `docs/performance.md`; compare ratios, since the
//! absolute numbers move with the machine.

mod append;
mod load;
mod probe;
mod rebuild;
mod redis;
mod server;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(clap::Subcommand)]
enum Measure {
    /// Durable writes over HTTP, one event a request, beside the floor, the disk and Redis.
    Append(append::Args),
    /// Views folded from the log again, beside reading the log alone.
    Rebuild(rebuild::Args),
}

/// Measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.measure {
        Measure::Append(args) => append::run(args),
        Measure::Rebuild(args) => rebuild::run(args),
    }
}
