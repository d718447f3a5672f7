//! Fuzzes segment headers, groups, records, seals, head marks, index files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_event_log::fuzzing::log(data));
