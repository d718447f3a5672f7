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
    ("go", "version", "golang-go"),
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
            "--loglevel=error",
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
    // Nobody may be there to answer what a package asks.
    let mut apt_get = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    if is_there("sudo", "--version") {
        apt_get.insert(0, "sudo");
    }
    let run_apt_get = |args: &[&str]| {
        let all = [&apt_get[1..], args].concat();
        run(command(apt_get[0], &all))
    };
    run_apt_get(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    run_apt_get(&[&install, missing].concat())
}
