//! Fuzzes files of every format.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_pipeline::fuzzing::documents(data));
