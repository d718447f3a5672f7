//! Fuzzes packs, their indexes, marks, large blobs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_content_store::fuzzing::content(data));
