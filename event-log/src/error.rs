//! What can go wrong, one enum per family of operations.
//!
//! Invariant: each variant of [`AppendError`] says whether anything was written.

use std::io;
use std::sync::Arc;

use crate::batch::ExpectedRevision;
use crate::id::{Position, Revision};
use crate::options::OptionsError;
use crate::storage::is_full;
use crate::stream::StreamId;

/// Why a batch was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A stream is not where the writer believed. Nothing of the batch was written.
    #[error("stream {stream} is at {actual:?}, expected {expected:?}")]
    Conflict {
        /// The first stream of the batch's conditions that did not hold.
        stream: StreamId,
        /// What the batch asked for.
        expected: ExpectedRevision,
        /// The stream's last revision; none when it has no record.
        actual: Option<Revision>,
    },
    /// The idempotency key came before with another request. Nothing was written.
    #[error("idempotency key was used by another request at position {position}")]
    KeyReused {
        /// First record of the batch that used the key.
        position: Position,
    },
    /// The batch is larger than the log takes. Nothing was written.
    #[error("batch of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// Bytes the batch's records could take.
        bytes: u64,
        /// The limit, `Options::batch_bytes_max`.
        bytes_max: u64,
    },
    /// The batch cannot be stored as it is. Nothing was written.
    #[error("invalid batch")]
    Invalid {
        /// What is wrong with it.
        #[source]
        reason: InvalidBatch,
    },
    /// An index or a record that admission needs could not be read. Nothing was written.
    #[error("read while admitting the batch")]
    Read {
        /// What failed.
        #[source]
        source: ReadError,
    },
    /// The disk has no room. Nothing of the batch stays in the log and the log goes on: the same
    /// batch may be sent again once there is room.
    #[error("no room on the disk")]
    Full {
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write failed. The batch is not acknowledged; whether its bytes are on disk is unknown
    /// until the log is reopened, when they are cut or kept whole.
    #[error("write to the log")]
    Write {
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A sync failed. The outcome is unknown until the log is reopened.
    #[error("sync of the log")]
    Sync {
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// An earlier write or sync failed. Nothing was written; `Appender::reopen` recovers.
    #[error("log refuses writes since an earlier write or sync failed; reopen it")]
    Poisoned,
    /// Durable records were found damaged. Nothing was written; `Appender::reopen` reads all of the
    /// log again and takes batches when nothing is wrong with it.
    #[error("log refuses writes since durable records were found damaged")]
    Damaged,
    /// The log was closed. Nothing was written.
    #[error("log is closed")]
    Closed,
    /// The log was opened for reading only. Nothing was written.
    #[error("log is open for reading only")]
    ReadOnly,
}

/// Why a batch cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBatch {
    /// It has no event.
    #[error("batch has no event")]
    Empty,
    /// It has more events than the log takes in one batch.
    #[error("batch has {count} events, the limit is {count_max}")]
    TooManyEvents {
        /// Events of the batch.
        count: usize,
        /// The limit, `Options::batch_events_max`.
        count_max: usize,
    },
    /// It names more conditions than the log checks for one batch.
    #[error("batch has {count} conditions, the limit is {count_max}")]
    TooManyConditions {
        /// Conditions of the batch.
        count: usize,
        /// The limit, `Options::batch_events_max`.
        count_max: usize,
    },
    /// A field of the metadata is too long.
    #[error("{field} of {bytes} bytes, the limit is {bytes_max}")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A stream has as many records as the indexes can count.
    #[error("stream {stream} has no revisions left")]
    StreamFull {
        /// The stream.
        stream: StreamId,
    },
}

/// Why a read gave no answer. A read changes nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system could not read a file.
    #[error("read {file}")]
    Io {
        /// The file in the log's directory.
        file: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The bytes of a record are not what was written.
    #[error("record {position} is damaged in {file} at {offset}: {kind}")]
    Damaged {
        /// The file in the log's directory.
        file: String,
        /// Where the record starts in it.
        offset: u64,
        /// The record's position.
        position: Position,
        /// What does not fit.
        kind: DamageKind,
    },
}

/// Why a log could not be opened. Nothing was changed, except as the variant says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process holds the log.
    #[error("log is held by process {pid:?}")]
    Locked {
        /// The process that the lock file names.
        pid: Option<u32>,
    },
    /// There is no log to read.
    #[error("no log here")]
    Missing,
    /// An option is outside its range.
    #[error("options of the log")]
    Options(#[from] OptionsError),
    /// Bytes that were durable are gone or wrong; nothing was cut.
    #[error("log is damaged in {file} at {offset}, position {position}: {kind}")]
    Damaged {
        /// The file in the log's directory.
        file: String,
        /// Where in it.
        offset: u64,
        /// The first position that is affected.
        position: Position,
        /// What does not fit.
        kind: DamageKind,
    },
    /// The system refused an operation; recovery may have been left half-way and is taken up
    /// again by the next open.
    #[error("{operation} {file}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file in the log's directory.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A derived index could not be read or built from the segments.
    #[error("build the indexes")]
    Index(#[source] ReadError),
    /// Damage was met while the log was reopened, perhaps where it had been read already. Its tail
    /// was recovered, and it takes no batches.
    #[error("log was found damaged while it was reopened: {damage}")]
    DamagedMeanwhile {
        /// What was found last.
        damage: String,
    },
    /// The log was closed before.
    #[error("log is closed")]
    Closed,
}

impl OpenError {
    /// Why the indexes could not be had. A damaged record that one is made from is damage of the
    /// log like any other.
    pub(crate) fn of_index(error: ReadError) -> Self {
        match error {
            ReadError::Damaged {
                file,
                offset,
                position,
                kind,
            } => Self::Damaged {
                file,
                offset,
                position,
                kind,
            },
            error @ ReadError::Io { .. } => Self::Index(error),
        }
    }

    /// Whether there was no room for what an open writes.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

/// Why a log was not closed cleanly. It is closed all the same; the next open recovers it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The log refused writes, so its tail is not known to be whole.
    #[error("log was poisoned")]
    Poisoned,
    /// The head mark could not be written.
    #[error("write the head mark")]
    Mark(#[source] io::Error),
    /// The writer ended by a defect of ours.
    #[error("writer thread ended early")]
    WriterGone,
}

/// Why a log could not be verified at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no log to verify.
    #[error("no log here")]
    Missing,
    /// It was told to stop; this says nothing about what it did not reach.
    #[error("verification was stopped")]
    Stopped,
    /// The directory itself could not be read, or the system was short of memory or file handles:
    /// the log could not be checked, which is no damage.
    #[error("{operation} {file}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file in the log's directory.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What does not fit at a damaged place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// The system could not read the bytes.
    #[error("unreadable")]
    Unreadable,
    /// The file is shorter than it was when its bytes were durable.
    #[error("file is too short")]
    Truncated,
    /// A segment that the others point to is not there.
    #[error("segment is missing")]
    SegmentMissing,
    /// The header of a segment is wrong.
    #[error("segment header is wrong")]
    SegmentHeader,
    /// The segment belongs to another log.
    #[error("segment belongs to another log")]
    ForeignSegment,
    /// A segment's format version is not known to this program.
    #[error("format version {0} is not known")]
    FormatVersion(u32),
    /// The header of a group is wrong though good groups follow or a clean stop vouched for it.
    #[error("group header is wrong")]
    GroupHeader,
    /// The records of a group do not fill it, or its padding is not zero.
    #[error("group does not fit its records")]
    GroupShape,
    /// The seal of a segment is missing or wrong.
    #[error("seal is missing or wrong")]
    Seal,
    /// A seal, header or head mark names another digest or root than the records give.
    #[error("root or digest differs from the records")]
    Root,
    /// A record's length is impossible.
    #[error("record length is impossible")]
    RecordLength,
    /// A record's checksum does not fit its bytes.
    #[error("record checksum does not fit")]
    RecordChecksum,
    /// A record's digest does not fit its bytes.
    #[error("record digest does not fit")]
    RecordDigest,
    /// A record's fields cannot be read.
    #[error("record fields are malformed")]
    RecordFields,
    /// A record of a version that this program does not know.
    #[error("record version {0} is not known")]
    RecordVersion(u8),
    /// A record with an encrypted payload, which this version cannot read.
    #[error("record payload is encrypted, which this version does not support")]
    RecordEncrypted,
    /// A record stands at another position than it names, or names another predecessor.
    #[error("record does not continue the chain")]
    Chain,
    /// A record does not continue its stream.
    #[error("record does not continue its stream")]
    StreamChain,
    /// The recorded time goes back.
    #[error("recorded time goes back")]
    Time,
    /// The head mark is wrong.
    #[error("head mark is wrong")]
    HeadMark,
    /// The log ends before the place that the head mark names, or behind it.
    #[error("log does not end where its head mark says")]
    HeadMismatch,
    /// Bytes behind the end of the log are not zero.
    #[error("bytes behind the end are not zero")]
    AfterEnd,
    /// A derived index file is wrong; it is rebuilt when it is met.
    #[error("derived index is wrong")]
    Index,
}

impl DamageKind {
    /// A stable name, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Truncated => "truncated",
            Self::SegmentMissing => "segment_missing",
            Self::SegmentHeader => "segment_header",
            Self::ForeignSegment => "foreign_segment",
            Self::FormatVersion(_) => "format_version",
            Self::GroupHeader => "group_header",
            Self::GroupShape => "group_shape",
            Self::Seal => "seal",
            Self::Root => "root",
            Self::RecordLength => "record_length",
            Self::RecordChecksum => "record_checksum",
            Self::RecordDigest => "record_digest",
            Self::RecordFields => "record_fields",
            Self::RecordVersion(_) => "record_version",
            Self::RecordEncrypted => "record_encrypted",
            Self::Chain => "chain",
            Self::StreamChain => "stream_chain",
            Self::Time => "time",
            Self::HeadMark => "head_mark",
            Self::HeadMismatch => "head_mismatch",
            Self::AfterEnd => "after_end",
            Self::Index => "index",
        }
    }
}
