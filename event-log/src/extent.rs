//! How far the files of a log reach: what a copy of it takes.
//!
//! Invariant: an extent ends behind a whole group or a seal, and its bytes are synced and never
//! change again.

use std::io;

use crate::error::{DamageKind, OpenError};
use crate::id::{LogId, Position};
use crate::options::Options;
use crate::recovery::{Loaded, Mode, load};
use crate::scan::{Scan, Step};
use crate::segment::{HEADER_BYTES, SEAL_BYTES, Seal};
use crate::segments::{damaged, failed};
use crate::storage::{Access, Storage, StorageFile, read_bytes};

/// The bytes of a log's segments up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents {
    /// Which log it is.
    pub log_id: LogId,
    /// Records in these bytes, which is the position of the next.
    pub end: Position,
    /// The segments in order; none while the log has no record.
    pub segments: Vec<Extent>,
}

/// The bytes of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The segment's file.
    pub file: String,
    /// How many bytes from its beginning on.
    pub bytes: u64,
    /// Length of the file while it takes records, in bytes, zeros behind those above; none when
    /// the segment is sealed.
    pub planned_bytes: Option<u64>,
}

/// Finds how far a log reaches, also while another process writes to it. What is told of is on
/// disk: the last segment is synced, for its writer may not have come to that.
///
/// # Errors
/// [`OpenError::Missing`] when there is no log; [`OpenError::Damaged`] as for a reader. Nothing is
/// written.
pub fn extents(storage: &dyn Storage) -> Result<Extents, OpenError> {
    let loaded = load(storage, &Options::default(), Mode::Read)?;
    let mut segments = Vec::with_capacity(loaded.segments.len());
    let last = loaded.segments.len() - 1;
    for (index, info) in loaded.segments.iter().enumerate() {
        let name = &info.name;
        let file = storage
            .open(name, Access::Read)
            .map_err(failed("open", name))?;
        if index < last {
            let end = seal_end(&*file, &loaded).map_err(failed("read", name))?;
            let bytes = end.ok_or_else(|| damaged(name, 0, info.first, DamageKind::Seal))?;
            segments.push(Extent {
                file: name.clone(),
                bytes,
                planned_bytes: None,
            });
            continue;
        }
        file.sync_data().map_err(failed("sync", name))?;
        // An empty one may yet be replaced by a larger one of the same name.
        if loaded.chain.end > info.first {
            segments.push(Extent {
                file: name.clone(),
                bytes: loaded.offset,
                planned_bytes: loaded.tip.as_ref().map(|tip| tip.planned_bytes),
            });
        }
    }
    Ok(Extents {
        log_id: loaded.log_id,
        end: Position::new(loaded.chain.end),
        segments,
    })
}

/// Where the seal of a segment ends. Zeros follow it when a crash came before the file was cut.
fn seal_end(file: &dyn StorageFile, loaded: &Loaded) -> io::Result<Option<u64>> {
    let tag = loaded.log_id.tag();
    let bytes = file.bytes()?;
    if let Some(at) = bytes.checked_sub(SEAL_BYTES as u64) {
        let seal = read_bytes(file, at, SEAL_BYTES)?;
        if Seal::decode(&seal, tag, at).is_some() {
            return Ok(Some(bytes));
        }
    }
    let mut scan = Scan::new(file, tag, HEADER_BYTES as u64)?;
    loop {
        match scan.step()? {
            Step::Group(_) => {}
            Step::Seal(_) => return Ok(Some(scan.at())),
            Step::End | Step::Bad { .. } => return Ok(None),
        }
    }
}
