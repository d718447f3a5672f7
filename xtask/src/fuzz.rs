//! Fuzzing the decoders, one target after the other.

use anyhow::Context;

use crate::run::{command, root, run};

/// What to fuzz and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this target
    target: Option<String>,
}

/// Builds the targets without a sanitizer, which the stable compiler can, and runs them.
pub(crate) fn run_all(args: &Args) -> anyhow::Result<()> {
    let fuzz = root().join("fuzz");
    let targets = std::fs::read_dir(fuzz.join("targets"))?
        .map(|entry| Ok(entry?.path().with_extension("")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut names: Vec<String> = targets
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| args.target.as_ref().is_none_or(|target| target == name))
        .collect();
    names.sort();
    anyhow::ensure!(!names.is_empty(), "no such target; see fuzz/targets");
    for name in names {
        let time = format!("-max_total_time={}", args.seconds);
        let arguments = ["fuzz", "run", "--sanitizer", "none", &name, "--", &time];
        let mut fuzzed = command("cargo", &arguments);
        fuzzed.current_dir(&fuzz);
        run(fuzzed).with_context(|| {
            format!("fuzzing {name}; cargo-fuzz is had with `cargo install cargo-fuzz`")
        })?;
    }
    Ok(())
}
