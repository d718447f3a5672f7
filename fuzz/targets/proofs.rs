//! Fuzzes signed checkpoints, keys, proof files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_event_log::fuzzing::proofs(data));
