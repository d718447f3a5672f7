//! The limits of a log, each with its default.
//!
//! Invariant: options that [`Options::check`] passed keep every offset in a segment below 4 GiB.

use crate::id::LogId;

/// Limits and sizes of a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Identity of a log that is created; random when none is given. An existing log keeps its own.
    pub log_id: Option<LogId>,
    /// Bytes of the first segment file, 1 MiB by default; each next one is twice as large.
    pub segment_bytes_first: u64,
    /// Most bytes of a segment file, 64 MiB by default. A single larger group gets a file of its
    /// own size.
    pub segment_bytes_max: u64,
    /// Most bytes the records of one batch may take, 16 MiB by default.
    pub batch_bytes_max: u64,
    /// Most events, and most conditions, of one batch; 65,535 by default.
    pub batch_events_max: usize,
    /// Most batches that wait for the writer, 16,384 by default; further ones wait for a place. One
    /// of more than 16 KiB counts for each 16 KiB or part of them.
    pub queue_max: usize,
    /// Bytes after which a group takes no further batch, 4 MiB by default.
    pub group_bytes_max: usize,
    /// Bytes of recent groups kept in memory for followers, 8 MiB by default.
    pub tail_bytes_max: usize,
    /// Streams whose last record the writer remembers, 65,536 by default.
    pub stream_heads_max: usize,
    /// Segment and table files that readers keep open, 64 by default.
    pub files_open_max: usize,
    /// Bytes of sealed segments up to which opening for writing reads all of them, 16 MiB by
    /// default. Of larger logs only the last segment is read, so that opening stays quick.
    pub check_bytes_max: u64,
    /// Index runs of one level that are merged into one of the next, 8 by default.
    pub merge_runs_min: usize,
}

/// An option outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, allowed are {min} to {max}")]
pub struct OptionsError {
    /// The option.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// The least that is allowed.
    pub min: u64,
    /// The most that is allowed.
    pub max: u64,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl Default for Options {
    fn default() -> Self {
        Self {
            log_id: None,
            segment_bytes_first: MIB,
            segment_bytes_max: 64 * MIB,
            batch_bytes_max: 16 * MIB,
            batch_events_max: 65_535,
            queue_max: 16_384,
            group_bytes_max: 4 * 1024 * 1024,
            tail_bytes_max: 8 * 1024 * 1024,
            stream_heads_max: 65_536,
            files_open_max: 64,
            check_bytes_max: 16 * MIB,
            merge_runs_min: 8,
        }
    }
}

impl Options {
    /// Tells whether every option is in its range.
    pub fn check(&self) -> Result<(), OptionsError> {
        let within = |name, value, min, max| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(OptionsError {
                    name,
                    value,
                    min,
                    max,
                })
            }
        };
        within(
            "segment_bytes_max",
            self.segment_bytes_max,
            8 * KIB,
            1024 * MIB,
        )?;
        within(
            "segment_bytes_first",
            self.segment_bytes_first,
            8 * KIB,
            self.segment_bytes_max,
        )?;
        within("batch_bytes_max", self.batch_bytes_max, KIB, 256 * MIB)?;
        within(
            "batch_events_max",
            self.batch_events_max as u64,
            1,
            u64::from(u16::MAX),
        )?;
        within("queue_max", self.queue_max as u64, 1, 1 << 20)?;
        within(
            "group_bytes_max",
            self.group_bytes_max as u64,
            KIB,
            256 * MIB,
        )?;
        within(
            "tail_bytes_max",
            self.tail_bytes_max as u64,
            0,
            16 * 1024 * MIB,
        )?;
        within("stream_heads_max", self.stream_heads_max as u64, 2, 1 << 30)?;
        within("files_open_max", self.files_open_max as u64, 2, 1 << 16)?;
        within("merge_runs_min", self.merge_runs_min as u64, 2, 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_a_bad_value_is_named() {
        assert_eq!(Options::default().check(), Ok(()));
        let options = Options {
            queue_max: 0,
            ..Options::default()
        };
        assert_eq!(options.check().unwrap_err().name, "queue_max");
    }
}
