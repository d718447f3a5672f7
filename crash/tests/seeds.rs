//! The seeds that every run of the tests goes through (row E2).

use std::ops::Range;

use stemma_crash::{Figures, Pace};

/// Runs seeds, of which each must keep what was promised.
fn kept(seeds: Range<u64>, pace: Pace) -> Figures {
    let count = seeds.end - seeds.start;
    let (figures, failures) = stemma_crash::run_all(seeds, pace, false);
    if let Some(failure) = failures.first() {
        panic!("{failure}");
    }
    assert_eq!(figures.seeds, count);
    figures
}

/// Whatever the disk does, what was acknowledged is there after the next start, whole and once.
#[test]
fn a_thousand_seeds_of_crashes_and_faults_break_no_promise() {
    let figures = kept(0..1_000, Pace::Even);
    assert!(
        figures.power_losses > 2_000 && figures.kills > 500,
        "{figures}"
    );
    assert!(figures.unknown_done > 0 && figures.cuts > 0, "{figures}");
}

/// The same where threads come in other orders than on an idle machine.
#[test]
fn seeds_on_disks_of_uneven_pace_break_no_promise() {
    kept(1_000..1_300, Pace::Uneven);
}
