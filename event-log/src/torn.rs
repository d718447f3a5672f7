//! Taking a torn tail out of the log.
//!
//! Invariant: the bytes are durable in a file of their own before they are cleared.

use crate::codec::to_usize;
use crate::error::OpenError;
use crate::id::Position;
use crate::prepare::{COPY_BYTES, clear};
use crate::segments::failed;
use crate::storage::{Storage, StorageFile, read_bytes};

/// Bytes of a torn tail that were taken out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file that keeps them.
    pub file: String,
    /// The segment they were cut from.
    pub segment: String,
    /// Where they started in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The position that their first record would have had.
    pub position: Position,
}

/// Copies the bytes of a torn tail to a file of their own, then clears them.
pub(crate) fn cut_tail(
    storage: &dyn Storage,
    file: &dyn StorageFile,
    segment: &str,
    range: std::ops::Range<u64>,
    position: u64,
) -> Result<Cut, OpenError> {
    let taken: Vec<String> = storage
        .list()
        .map_err(failed("list", ""))?
        .into_iter()
        .map(|file| file.name)
        .collect();
    let named = |n: u64| format!("cut-{position}-{n}.bytes");
    let mut n = 0;
    while taken.contains(&named(n)) {
        n += 1;
    }
    let name = named(n);
    let copy = || {
        let kept = storage.create(&name)?;
        let mut at = range.start;
        while at < range.end {
            let count = COPY_BYTES.min(to_usize(range.end - at));
            let bytes = read_bytes(file, at, count)?;
            kept.write_at(&bytes, at - range.start)?;
            at += count as u64;
        }
        kept.sync_data()?;
        storage.sync_dir()
    };
    copy().map_err(failed("write", &name))?;
    let cleared = clear(file, range.start, range.end).and_then(|()| file.sync_data());
    cleared.map_err(failed("clear", segment))?;
    let bytes = range.end - range.start;
    tracing::warn!(
        segment,
        offset = range.start,
        bytes,
        position,
        file = name,
        "torn tail cut"
    );
    Ok(Cut {
        file: name,
        segment: segment.to_owned(),
        offset: range.start,
        bytes,
        position: Position::new(position),
    })
}
