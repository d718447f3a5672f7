//! Fuzzes annotations and what is done with them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_domain::fuzzing::annotations(data));
