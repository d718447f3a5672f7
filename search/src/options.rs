//! How an index is kept: memory and limits, checked once.

use std::time::Duration;

use crate::error::OptionsError;

/// Least memory that a writer works with.
const WRITER_BYTES_MIN: usize = 16 << 20;

/// How an index is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes that the one writing thread gathers before it writes a segment; 32 MiB by default,
    /// at least 16 MiB.
    pub writer_bytes: usize,
    /// Bytes of vectors that are kept decoded in memory; 256 MiB by default, which is 340,000
    /// vectors of 384 dimensions. Vectors of a segment that does not fit are read from disk by
    /// every query.
    pub vector_cache_bytes: usize,
    /// Most passages whose vectors one query compares, counted after filters; 200,000 by default.
    /// A query that would compare more is refused.
    pub vectors_scanned_max: usize,
    /// Decompressed blocks of 16 KiB that are kept of each segment's rows; 16 by default.
    pub row_cache_blocks: usize,
    /// How long changes are committed before a commit is brought to the medium, with the change
    /// behind that; a minute by default.
    pub sync_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            writer_bytes: 32 << 20,
            vector_cache_bytes: 256 << 20,
            vectors_scanned_max: 200_000,
            row_cache_blocks: 16,
            sync_every: Duration::from_mins(1),
        }
    }
}

impl Options {
    /// Whether the options can be worked with.
    pub(crate) fn checked(&self) -> Result<(), OptionsError> {
        let most = (u32::MAX as usize) - (1 << 20);
        if !(WRITER_BYTES_MIN..most).contains(&self.writer_bytes) {
            return Err(OptionsError::WriterBytes {
                bytes: self.writer_bytes,
                bytes_min: WRITER_BYTES_MIN,
            });
        }
        if self.row_cache_blocks == 0 {
            return Err(OptionsError::RowCacheBlocks);
        }
        Ok(())
    }
}
