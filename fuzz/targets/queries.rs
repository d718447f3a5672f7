//! Fuzzes what reads and runs Cypher.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_cypher::fuzzing::queries(data));
