//! What the figures were measured on.

use std::path::Path;

/// The machine in one sentence.
pub(crate) fn described() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor".to_owned(), |(_, model)| plain(model));
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
    // What distributions and hosts add to the version says nothing of the kernel.
    let version = kernel.trim().split('-').next().unwrap_or_default();
    let mounts = read("/proc/self/mounts");
    format!(
        "{count} × {model}, {} GiB of memory, Linux {version}, {} on a virtual disk.",
        kib.div_ceil(1 << 20),
        file_system(&mounts, &crate::run::root()).unwrap_or("an unknown file system")
    )
}

/// A processor's name without marks of trade.
fn plain(model: &str) -> String {
    let plain = model.replace("(R)", "").replace("(TM)", "");
    let words = plain.split_whitespace();
    let words: Vec<&str> = words.filter(|word| *word != "Processor").collect();
    words.join(" ")
}

/// The file system that a directory lies on, of those that are mounted: the last of those with the
/// longest way in common.
fn file_system<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (Path::new(fields.next()?), fields.next()?);
        dir.starts_with(place)
            .then(|| (place.components().count(), kind))
    });
    above.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_without_what_only_its_owner_calls_it() {
        assert_eq!(plain(" Intel(R) Xeon(R) Processor"), "Intel Xeon");
        assert_eq!(plain("AMD EPYC 7763"), "AMD EPYC 7763");
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n/dev/b /data xfs rw 0 0\n";
        let of = |dir: &str| file_system(mounts, Path::new(dir));
        assert_eq!(of("/data/stemma"), Some("xfs"));
        assert_eq!(of("/database"), Some("ext4"));
        assert_eq!(file_system("", Path::new("/")), None);
    }
}
