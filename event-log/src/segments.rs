//! All segments of a log, each leading up to the next.
//!
//! Invariant: every segment but the last is sealed, and its seal is what the next one starts from.

use std::io;
use std::sync::Arc;

use crate::error::{DamageKind, OpenError};
use crate::id::Position;
use crate::index::Sealed;
use crate::scan::{Scan, Step};
use crate::segment::{HEADER_BYTES, SEAL_BYTES, Seal, SegmentHeader, segment_first, segment_name};
use crate::storage::{Access, Storage, StoredFile, read_bytes};

/// What is remembered of a segment while the log is open.
#[derive(Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) first: u64,
    pub(crate) name: String,
    /// Recorded time of the record before its first.
    pub(crate) before_recorded_at_us: i64,
}

pub(crate) type Headers = Vec<(Arc<SegmentInfo>, SegmentHeader)>;

/// Names the file and the operation in an error.
pub(crate) fn failed(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |source| OpenError::Io {
        operation,
        file,
        source,
    }
}

pub(crate) fn damaged(file: &str, offset: u64, position: u64, kind: DamageKind) -> OpenError {
    OpenError::Damaged {
        file: file.to_owned(),
        offset,
        position: Position::new(position),
        kind,
    }
}

/// Reads every header and checks that each segment leads up to the next.
pub(crate) fn check_segments(
    storage: &dyn Storage,
    listing: &[StoredFile],
) -> Result<(Headers, Vec<Sealed>), OpenError> {
    let mut names: Vec<(u64, &StoredFile)> = listing
        .iter()
        .filter_map(|file| Some((segment_first(&file.name)?, file)))
        .collect();
    names.sort_by_key(|(first, _)| *first);
    let mut headers: Headers = Vec::with_capacity(names.len());
    let mut sealed = Vec::new();
    for (first, stored) in names {
        let name = &stored.name;
        let file = storage
            .open(name, Access::Read)
            .map_err(failed("open", name))?;
        let bytes = read_bytes(&*file, 0, HEADER_BYTES).map_err(failed("read", name))?;
        let header = SegmentHeader::decode(&bytes).map_err(|kind| damaged(name, 0, first, kind))?;
        if header.before.end != first {
            return Err(damaged(name, 0, first, DamageKind::SegmentHeader));
        }
        match headers.last() {
            None if first != 0 => {
                return Err(damaged(&segment_name(0), 0, 0, DamageKind::SegmentMissing));
            }
            None => {}
            Some((_, before)) if before.log_id != header.log_id => {
                return Err(damaged(name, 0, first, DamageKind::ForeignSegment));
            }
            Some((before, _)) => {
                check_seal(storage, before, &header)?;
                sealed.push(Sealed {
                    name: before.name.clone(),
                    first: before.first,
                    end: first,
                    end_digest: header.before.digest,
                });
            }
        }
        let info = SegmentInfo {
            first,
            name: name.clone(),
            before_recorded_at_us: header.before.recorded_at_us,
        };
        headers.push((Arc::new(info), header));
    }
    Ok((headers, sealed))
}

/// Checks that a segment's seal is what the next one starts from.
pub(crate) fn check_seal(
    storage: &dyn Storage,
    info: &SegmentInfo,
    next: &SegmentHeader,
) -> Result<(), OpenError> {
    let name = &info.name;
    let file = storage
        .open(name, Access::Read)
        .map_err(failed("open", name))?;
    let expected = Seal::of(info.first, &next.before);
    let tag = next.log_id.tag();
    let bytes = file.bytes().map_err(failed("read", name))?;
    if let Some(at) = bytes.checked_sub(SEAL_BYTES as u64) {
        let end = read_bytes(&*file, at, SEAL_BYTES).map_err(failed("read", name))?;
        if Seal::decode(&end, tag, at) == Some(expected) {
            return Ok(());
        }
    }
    // The crash may have come before the file was cut to its size; else tell where it is wrong.
    let mut scan = Scan::new(&*file, tag, HEADER_BYTES as u64).map_err(failed("read", name))?;
    let mut position = info.first;
    loop {
        let at = scan.at();
        match scan.step().map_err(failed("read", name))? {
            Step::Group(group) => {
                position = group
                    .header
                    .first
                    .saturating_add(u64::from(group.header.count));
            }
            Step::Seal(seal) if seal == expected => return Ok(()),
            Step::Seal(seal) if seal.end < next.before.end => {
                let missing = segment_name(seal.end);
                return Err(damaged(&missing, 0, seal.end, DamageKind::SegmentMissing));
            }
            Step::Seal(_) | Step::End => {
                return Err(damaged(name, at, position, DamageKind::Seal));
            }
            Step::Bad { kind, .. } => return Err(damaged(name, at, position, kind)),
        }
    }
}
