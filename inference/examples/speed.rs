//! Prints how fast the built-in detector and embedder are: `cargo run --release -p
//! stemma-inference --example speed -- FILE...`. The files are repeated up to 25 MB.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints measurements"
)]

use std::time::Instant;

use stemma_inference::{Detector, Embedder, RulesDetector, StaticEmbedder, Stop};

const BYTES: usize = 25 << 20;
const CHUNK_BYTES: usize = 1500;

fn main() {
    let mut text = String::new();
    let files: Vec<String> = std::env::args()
        .skip(1)
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    while text.len() < BYTES {
        files.iter().for_each(|file| text.push_str(file));
    }
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let megabytes = text.len() as f64 / 1e6;
    let started = Instant::now();
    let detected = RulesDetector::new().detect(&text, &Stop::new()).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "rules: {megabytes:.1} MB in {seconds:.2} s, {:.1} MB/s, {} entities, {} dropped",
        megabytes / seconds,
        detected.entities.len(),
        detected.dropped
    );
    let started = Instant::now();
    let embedder = StaticEmbedder::open().unwrap();
    println!(
        "table opened in {:.0} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    let (mut chunks, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let end = text.floor_char_boundary(start + CHUNK_BYTES);
        chunks.push(&text[start..end]);
        start = end;
    }
    let started = Instant::now();
    for batch in chunks.chunks(256) {
        embedder.embed(batch, &Stop::new()).unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "embedder: {} chunks, {seconds:.2} s, {:.1} MB/s",
        chunks.len(),
        megabytes / seconds
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    println!("{peak} (of which {megabytes:.0} MB are the text)");
}
