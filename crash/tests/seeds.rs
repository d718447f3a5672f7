//! The seeds that every run of the tests goes through (row E2).

#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

use stemma_crash::Pace;

/// Whatever the disk does, what was acknowledged is there after the next start, whole and once.
#[test]
fn a_thousand_seeds_of_crashes_and_faults_break_no_promise() {
    let (figures, failures) = stemma_crash::run_all(0..1_000, Pace::Even, false);
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

/// The same where threads come in other orders than on an idle machine.
#[test]
fn seeds_on_disks_of_uneven_pace_break_no_promise() {
    let (figures, failures) = stemma_crash::run_all(1_000..1_300, Pace::Uneven, false);
    if let Some(failure) = failures.first() {
        panic!("{failure}");
    }
    assert_eq!(figures.seeds, 300);
}
