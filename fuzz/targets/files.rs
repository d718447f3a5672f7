//! Fuzzes a whole small log, its indexes and the hashes of its tree, by changes to their files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_event_log::fuzzing::files(data));
