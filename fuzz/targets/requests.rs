//! Fuzzes bodies, queries, ranges and tags of requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stemma_api::fuzzing::requests(data));
