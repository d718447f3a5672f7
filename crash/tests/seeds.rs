//! The seeds that every run of the tests goes through (row E2).

#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

/// Whatever the disk does, what was acknowledged is there after the next start, whole and once.
#[test]
fn a_thousand_seeds_of_crashes_and_faults_break_no_promise() {
    let (figures, failures) = stemma_crash::run_all(0..1_000, false);
    if let Some(failure) = failures.first() {
        panic!("{failure}");
    }
    assert_eq!(figures.seeds, 1_000);
    assert!(
        figures.power_losses > 2_000 && figures.kills > 500,
        "{figures}"
    );
    assert!(figures.unknown_done > 0 && figures.cuts > 0, "{figures}");
}
