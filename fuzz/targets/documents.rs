//! Fuzzes files of every format.
#![no_main]

use std::panic;

/// Lets the parsers' libraries panic where we expect it of them and go on. libFuzzer's own hook ends
/// the process at each panic, also at one that is caught; what is not caught still ends it.
fn expect_panics_of_libraries() {
    let at_once = panic::take_hook();
    panic::set_hook(Box::new(move |told| {
        let file = told.location().map_or("", panic::Location::file);
        if !file.contains("/registry/src/") {
            at_once(told);
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: expect_panics_of_libraries(), |data: &[u8]| {
    stemma_pipeline::fuzzing::documents(data);
});
