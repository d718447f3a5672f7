//! What the disk can do: 4 KiB written over prepared bytes, then synced, again and again.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that are prepared, and written over in turn.
const PREPARED_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: u64 = 4096;

/// Syncs a second, and the median and 99th percentile of one in microseconds.
pub(crate) struct Probe {
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Syncs for `time` in a file of this directory.
pub(crate) fn sync(dir: &Path, time: Duration) -> anyhow::Result<Probe> {
    let path = dir.join("probe");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let mebibyte = vec![1; 1 << 20];
    for index in 0..PREPARED_BYTES >> 20 {
        file.write_all_at(&mebibyte, index << 20)?;
    }
    file.sync_all()?;
    let block = vec![2; BLOCK_BYTES as usize];
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        let offset = times.len() as u64 * BLOCK_BYTES % PREPARED_BYTES;
        let begun = Instant::now();
        file.write_all_at(&block, offset)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    let (p50_us, p99_us) = percentiles(&mut times);
    Ok(Probe {
        per_second,
        p50_us,
        p99_us,
    })
}

/// The median and the 99th percentile, in microseconds.
fn percentiles(times: &mut [Duration]) -> (u64, u64) {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    (at(50).as_micros() as u64, at(99).as_micros() as u64)
}
