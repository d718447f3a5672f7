//! Making a segment file ready before it takes its first group.
//!
//! Invariant: a file gets a segment's name only after its zeros and its header are durable.

use std::io;
use std::sync::Arc;

use crate::codec::{round_up, to_usize};
use crate::segment::{HEADER_BYTES, SEAL_BYTES, SPARE_NAME, SegmentHeader, segment_name};
use crate::storage::{Storage, StorageFile};

/// Bytes handled at a time where a region is copied or cleared.
pub(crate) const COPY_BYTES: usize = 1 << 20;
/// Bytes of a file written ahead that are synced at a time: a sync of the group that is being
/// appended meanwhile waits for those that the disk has before it.
const AHEAD_BYTES: u64 = 4 << 20;

/// Writes a file of zeros that is to become a segment.
pub(crate) fn prewrite(storage: &dyn Storage, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
    let write = || {
        let file = storage.create(SPARE_NAME)?;
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + AHEAD_BYTES);
            clear(&*file, at, end)?;
            file.sync_data()?;
            at = end;
        }
        Ok(file)
    };
    let written = write();
    if written.is_err() {
        // Half a file is of no use, and may be what fills the disk. It need not be there.
        let _ = storage.remove(SPARE_NAME);
    }
    written
}

/// Writes zeros between two places.
pub(crate) fn clear(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; COPY_BYTES.min(to_usize(to.saturating_sub(from)))];
    let mut at = from;
    while at < to {
        let count = zeros.len().min(to_usize(to - at));
        file.write_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Writes a segment's header into a prepared file and makes it durable.
pub(crate) fn write_header(file: &dyn StorageFile, header: &SegmentHeader) -> io::Result<()> {
    file.write_at(&header.encode(), 0)?;
    file.sync_data()
}

/// Gives the prepared file its name as a segment.
pub(crate) fn name_segment(storage: &dyn Storage, first: u64) -> io::Result<()> {
    storage.rename(SPARE_NAME, &segment_name(first))?;
    storage.sync_dir()
}

/// Bytes a segment needs to take one group of this size and its seal.
pub(crate) fn segment_bytes_for(group_bytes: u64) -> u64 {
    let header = HEADER_BYTES as u64;
    round_up(header + group_bytes + SEAL_BYTES as u64, header)
}
