//! What the figures were measured on.

/// The machine in one sentence.
pub(crate) fn described() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, model)| model.trim());
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{count} × {model}, {} GiB of memory, Linux {}, {} on a virtual disk.",
        kib.div_ceil(1 << 20),
        kernel.trim(),
        file_system()
    )
}

/// The file system that the project lies on.
fn file_system() -> String {
    let root = crate::run::root();
    let output = std::process::Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(root)
        .output();
    let told = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    told.unwrap_or_else(|_| "an unknown file system".to_owned())
}
