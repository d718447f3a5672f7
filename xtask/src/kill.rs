//! Killing a loaded server and its workers again and again, and looking for what was acknowledged.

use crate::run::{command, run};

/// How often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of load, kill and look
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// The dice by which documents and jobs are sent and processes killed; another each time if not
    /// said, and printed
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the rounds on the binary as the tests have it.
pub(crate) fn run_all(args: &Args) -> anyhow::Result<()> {
    let (binary, tests) = (["--bin", "stemma"], ["--test", "end_to_end"]);
    let build = ["build", "--workspace", "--locked"];
    run(command("cargo", &[&build[..], &binary, &tests].concat()))?;
    let test = [
        "test",
        "--workspace",
        "--test",
        "end_to_end",
        "--locked",
        "--",
        "--nocapture",
        "survives_a_kill_under_load",
        "however_often_server_and_workers_are_killed",
    ];
    let mut test = command("cargo", &test);
    test.env("STEMMA_TEST_KILL_ROUNDS", args.rounds.to_string());
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    test.env("STEMMA_TEST_KILL_SEED", seed.to_string());
    run(test)
}
