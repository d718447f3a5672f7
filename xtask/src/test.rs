//! Every check and every test, in the order in which they fail fastest.

use anyhow::bail;

use crate::run::{command, run};
use crate::{install, tidy};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the installation of missing programs out.
    #[arg(long)]
    no_install: bool,
}

/// The binary and what tests it, in one graph: built by itself, the binary would have a part of the
/// libraries compiled a second time, with the features that it alone asks of them.
pub(crate) const BUILD_OF_TESTS: [&str; 6] = [
    "build",
    "--workspace",
    "--bin",
    "stemma",
    "--tests",
    "--locked",
];

/// Runs them.
fn run_steps(steps: &[&[&str]]) -> anyhow::Result<()> {
    steps
        .iter()
        .try_for_each(|step| run(command("cargo", step)))
}

/// Runs everything.
pub(crate) fn run_all(args: &Args) -> anyhow::Result<()> {
    if !args.no_install {
        install::run_all()?;
    }
    run_steps(&[&["fmt", "--all", "--check"]])?;
    tidy::run()?;
    run_steps(&[
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        &["deny", "check", "bans", "licenses", "sources"],
    ])?;
    advisories()?;
    let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--locked"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)?;
    run_steps(&[
        // As users build it, without what only our tests ask of libraries.
        &["check", "--package", "stemma", "--locked"],
        &BUILD_OF_TESTS,
    ])?;
    let mut tests = command("cargo", &["test", "--workspace", "--locked"]);
    if std::env::var_os("RUST_TEST_THREADS").is_none()
        && let Ok(processors) = std::thread::available_parallelism()
    {
        // Those over HTTP wait for half of their time: for a process, a disk, a deadline.
        let at_once = processors.get() + 1;
        tests.env("RUST_TEST_THREADS", at_once.to_string());
    }
    run(tests)?;
    eprintln!("all checks and tests passed");
    Ok(())
}

/// The advisory database comes over the network; where it cannot be had, that is said.
fn advisories() -> anyhow::Result<()> {
    let output = command("cargo", &["deny", "check", "advisories"]).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    if told.contains("failed to fetch advisory database") {
        eprintln!("warning: the advisory database cannot be reached; advisories were not checked");
        return Ok(());
    }
    bail!("cargo deny check advisories:\n{told}")
}
