//! Killing a loaded server again and again, and looking for what it had acknowledged.

use crate::run::{command, run};

/// How often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of load, kill and look
    #[arg(long, default_value_t = 200)]
    rounds: usize,
}

/// Runs the rounds on the binary as the tests have it.
pub(crate) fn run_all(args: &Args) -> anyhow::Result<()> {
    run(command(
        "cargo",
        &["build", "--package", "stemma", "--locked"],
    ))?;
    let test = [
        "test",
        "--package",
        "stemma-tests",
        "--locked",
        "--",
        "--nocapture",
        "survives_a_kill_under_load",
    ];
    let mut test = command("cargo", &test);
    test.env("STEMMA_TEST_KILL_ROUNDS", args.rounds.to_string());
    run(test)
}
