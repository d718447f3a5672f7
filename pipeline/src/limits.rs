//! How much of anything a document may ask for.

use serde::{Deserialize, Serialize};

/// The limits that a document is validated and parsed within.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a file (`documents.bytes_max`); 25 MiB by default.
    pub bytes_max: u64,
    /// Pages of a document that has pages; 2,000 by default.
    pub pages_max: u32,
    /// Bytes of the text that parsing puts out, in UTF-8; 256 MiB by default.
    pub text_bytes_max: u64,
    /// Headings, tables and pages that are noted of one document, each; 200,000 by default. What
    /// comes after them is text like any other, and a warning says so.
    pub spans_max: u32,
    /// Entries of an archive (DOCX); 10,000 by default.
    pub archive_entries_max: u32,
    /// Bytes that an archive inflates to, all entries together; 256 MiB by default.
    pub archive_bytes_max: u64,
    /// How many times its own size an archive may inflate to, once it inflates to more than
    /// [`ARCHIVE_RATIO_FLOOR_BYTES`](Self::ARCHIVE_RATIO_FLOOR_BYTES); 200 by default.
    pub archive_ratio_max: u32,
    /// Address space of the parser's process in bytes (`parser_memory_bytes_max`); 512 MiB by
    /// default.
    pub parser_memory_bytes_max: u64,
    /// Seconds of processor time that the parser's process may use; 90 by default.
    pub parser_cpu_seconds_max: u64,
    /// Milliseconds from the start of the parser's process to its answer (`parser_timeout_ms`);
    /// 120,000 by default.
    pub parser_timeout_ms: u64,
}

impl Limits {
    /// Up to this many bytes, how well an archive is compressed says nothing: 8 MiB.
    pub const ARCHIVE_RATIO_FLOOR_BYTES: u64 = 8 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 25 << 20,
            pages_max: 2_000,
            text_bytes_max: 256 << 20,
            spans_max: 200_000,
            archive_entries_max: 10_000,
            archive_bytes_max: 256 << 20,
            archive_ratio_max: 200,
            parser_memory_bytes_max: 512 << 20,
            parser_cpu_seconds_max: 90,
            parser_timeout_ms: 120_000,
        }
    }
}
