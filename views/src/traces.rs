//! Which records belong to a trace.
//!
//! A trace id that Stemma made is a UUID of version 7 and tells when it was made, so records that
//! came soon after are found in the log by their time, and need no row. All others have one for
//! each batch. Invariant: by [`told_time`] and [`Views::traced`] together every record of a trace is
//! found.

use stemma_event_log::Record;
use uuid::Uuid;

use crate::key;
use crate::store::{Direction, StoreError};
use crate::views::Views;

/// How long behind the moment that a trace id tells its records stand in the log without a row, in
/// microseconds.
pub const TRACE_WINDOW_US: i64 = 2_000_000;

/// The moment that a trace id tells, in microseconds since 1970; none of most that clients made.
pub fn told_time(trace_id: &str) -> Option<i64> {
    let is_plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    // The digit of the version is looked at first: it rules most others out.
    if trace_id.len() != 32 || trace_id.as_bytes()[12] != b'7' || !trace_id.bytes().all(is_plain) {
        return None;
    }
    let id = Uuid::parse_str(trace_id).ok()?;
    let millis = id.as_u128() >> 80;
    i64::try_from(millis).ok()?.checked_mul(1000)
}

/// The key of the row that tells of a batch's trace, where one is needed; `record` is any of the
/// batch.
pub(crate) fn row_of(record: &Record) -> Option<Vec<u8>> {
    if record.batch_index() != 0 {
        return None;
    }
    let trace_id = record.trace_id();
    if trace_id.is_empty() {
        return None;
    }
    if let Some(told) = told_time(&trace_id) {
        let since = record.recorded_at_us().checked_sub(told);
        if since.is_some_and(|since| (0..TRACE_WINDOW_US).contains(&since)) {
            return None;
        }
    }
    Some(key::trace(&trace_id, record.position().get()))
}

impl Views {
    /// Positions of the first records of batches that belong to a trace and have a row, in order,
    /// at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn traced(&self, trace_id: &str, limit: usize) -> Result<Vec<u64>, StoreError> {
        let _moment = self.moment();
        let prefix = key::traces(trace_id);
        let to = key::after_prefix(&prefix);
        let rows = self.store().scan(&prefix, &to, Direction::Forward);
        let position = |pair: Result<(Vec<u8>, Vec<u8>), StoreError>| {
            let (key, _) = pair?;
            let position = key.last_chunk().copied().unwrap_or_default();
            Ok(u64::from_be_bytes(position))
        };
        rows.take(limit).map(position).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_id_of_version_7_tells_a_time() {
        assert_eq!(
            told_time(
                "01a2216cf18c77578520 93c487f5a90f"
                    .replace(' ', "")
                    .as_str()
            ),
            Some(0x01a2_216c_f18c * 1000)
        );
        for other in [
            "",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "01A2216CF18C7757852093C487F5A90F",
            "01a2216cf18c7757852093c487f5a9",
            "\u{e4}1a2216cf18c775785209 3c487f5a9",
        ] {
            assert_eq!(told_time(other), None, "{other}");
        }
    }
}
