//! How long to wait before another try: exponential, capped, with full jitter.
//!
//! Full jitter draws between nothing and the exponential wait, so that many jobs that failed
//! together do not come back together (Brooker, "Exponential Backoff And Jitter", 2015).

use std::time::Duration;

use crate::options::Options;

/// The wait before retry `retry`, the first being 0; `dice` is any number, evenly drawn.
pub(crate) fn wait(options: &Options, retry: u32, dice: u64) -> Duration {
    let doubled = options
        .retry_base_ms
        .saturating_mul(1_u64.checked_shl(retry).unwrap_or(u64::MAX));
    let most = doubled.min(options.retry_cap_ms);
    Duration::from_millis(dice % (most + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_three_seconds_up_to_five_minutes_and_are_drawn_below_that() {
        let options = Options::default();
        let most = |retry| {
            let waits = (0..400_000)
                .step_by(7)
                .map(|dice| wait(&options, retry, dice));
            waits.max().unwrap().as_millis()
        };
        for (retry, expected) in [
            (0, 3000),
            (1, 6000),
            (2, 12_000),
            (7, 300_000),
            (200, 300_000),
        ] {
            assert!(
                (expected - 7..=expected).contains(&most(retry)),
                "retry {retry}: {}",
                most(retry)
            );
        }
        assert_eq!(wait(&options, 0, 0), Duration::ZERO);
    }
}
