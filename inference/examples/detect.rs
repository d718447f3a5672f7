//! Prints what the built-in detector finds in files.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints what it finds"
)]

use stemma_inference::{Detector, RulesDetector, Stop};

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap();
        println!("{path}");
        for entity in RulesDetector::new()
            .detect(&text, &Stop::new())
            .unwrap()
            .entities
        {
            println!("  {:14} {}", entity.entity_type, entity.text);
        }
    }
}
