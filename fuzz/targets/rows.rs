//! Fuzzes rows, keys and cursors of the views.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_views::fuzzing::rows(data));
