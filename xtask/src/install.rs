//! What the tests need beyond Rust and a C compiler, installed when it is missing.
//!
//! Only the distribution's package manager and the language registries are used.

use anyhow::bail;

use crate::run::{command, is_there, run};

/// Programs from the distribution: the program, how it is probed, its package.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("chromium", "--version", "chromium"),
    ("node", "--version", "nodejs"),
    ("npm", "--version", "npm"),
    ("curl", "--version", "curl"),
];

/// Installs what is missing.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, probe, _)| !is_there(program, probe))
        .map(|(_, _, package)| *package)
        .collect();
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    if !is_there("cargo-deny", "--version") {
        run(command("cargo", &["install", "--locked", "cargo-deny"]))?;
    }
    run(command(
        "npm",
        &[
            "ci",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            "tests/browser",
        ],
    ))
}

fn install_packages(missing: &[&str]) -> anyhow::Result<()> {
    if !is_there("apt-get", "--version") {
        bail!("install these with your package manager, then run this again: {missing:?}");
    }
    let sudo: &[&str] = if is_there("sudo", "--version") {
        &["sudo"]
    } else {
        &[]
    };
    let with_sudo = |args: &[&str]| {
        let all: Vec<&str> = sudo.iter().chain(args).copied().collect();
        command(all[0], &all[1..])
    };
    run(with_sudo(&["apt-get", "update", "-qq"]))?;
    let mut args = vec!["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    args.extend(missing);
    run(with_sudo(&args))
}
