//! Fuzzes payloads of events.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_domain::fuzzing::events(data));
