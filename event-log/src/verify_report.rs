//! What verification tells.
//!
//! Invariant: every damage has a file and an offset.

use crate::digest::RootHash;
use crate::error::DamageKind;
use crate::id::{LogId, Position};
use crate::reader::Head;
use crate::storage::StoredFile;

/// One place where the log is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The part of the store: always `log` here.
    pub part: &'static str,
    /// What does not fit.
    pub kind: DamageKind,
    /// The file in the log's directory.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// The position that is affected, where one can be told.
    pub position: Option<Position>,
    /// The same in words.
    pub detail: String,
}

/// How far verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of segments and indexes that were read.
    pub bytes_done: u64,
    /// Bytes of all segments and indexes, as they were listed when it began.
    pub bytes_total: u64,
    /// Records that were read and found right.
    pub records: u64,
}

/// Bytes behind the last whole group of a log that was not closed: what a crash leaves, or what a
/// writer is writing now. The next open for writing cuts them, if no writer finishes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: String,
    /// Where they start.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Which log it is, when any of its headers could be read.
    pub log_id: Option<LogId>,
    /// Records that were read and found right.
    pub records: u64,
    /// Segment files.
    pub segments: usize,
    /// Bytes of segment files.
    pub bytes: u64,
    /// The last good record.
    pub head: Option<Head>,
    /// The Merkle root over all records; none when some are lost.
    pub root: Option<RootHash>,
    /// Whether a head mark vouches for the end.
    pub clean: bool,
    /// What stands behind the last whole group.
    pub torn_tail: Option<TornTail>,
    /// Torn tails that were cut at earlier opens, and their bytes.
    pub cut_files: Vec<StoredFile>,
    /// Index files that were read.
    pub index_files: usize,
    /// Every damage, up to 10,000.
    pub damages: Vec<Damage>,
    /// Damages beyond those.
    pub damages_left_out: u64,
    /// What the system refused, where it was short of memory or file handles once damage had been
    /// found: the log was read no further.
    pub ended: Option<String>,
}
