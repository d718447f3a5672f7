//! Following a log that another process writes.
//!
//! Invariant: only whole, right groups are taken up; what is half there is left for the next look.

use std::io;
use std::sync::{Arc, PoisonError};

use crate::error::OpenError;
use crate::frame::Check;
use crate::index::Sealed;
use crate::recovery::Tip;
use crate::segment::{HEADER_BYTES, SegmentHeader, segment_name};
use crate::segments::{SegmentInfo, failed};
use crate::shared::{Follower, Shared};
use crate::storage::{Access, read_bytes};
use crate::walk::{TipEnd, Walk};

/// Takes up what was written since the last look.
pub(crate) fn refresh(shared: &Shared) -> Result<(), OpenError> {
    let mut follower = shared
        .follower
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Some(follower) = &mut *follower else {
        return Ok(());
    };
    loop {
        if follower.tip.is_none() && !open_next(shared, follower)? {
            return Ok(());
        }
        if !read_tip(shared, follower)? {
            return Ok(());
        }
    }
}

/// Reads on in the segment at the end; true when it turned out to be full.
fn read_tip(shared: &Shared, follower: &mut Follower) -> Result<bool, OpenError> {
    let Follower { chain, tip } = follower;
    let Some(at) = tip else { return Ok(false) };
    let walk = Walk {
        file: &*at.file,
        log_id: shared.log_id,
        check: Check::Digest,
        keep_end: None,
    };
    let mut entries = Vec::new();
    let scan = walk
        .to_end(at.offset, chain, &mut |entry| entries.push(entry))
        .map_err(failed("read", &at.info.name))?;
    at.offset = scan.offset;
    if !entries.is_empty() {
        shared.publish(chain, &entries, None);
    }
    if scan.end != TipEnd::Sealed {
        if chain.end == at.info.first {
            // An empty segment may be replaced by a larger one of the same name.
            *tip = None;
        }
        return Ok(false);
    }
    let (name, first) = (at.info.name.clone(), at.info.first);
    let sealed = Sealed {
        name,
        first,
        end: chain.end,
        end_digest: chain.digest,
    };
    shared.index.freeze(sealed);
    shared.index.write_out();
    *tip = None;
    Ok(true)
}

fn open_next(shared: &Shared, follower: &mut Follower) -> Result<bool, OpenError> {
    let name = segment_name(follower.chain.end);
    let file = match shared.files.storage().open(&name, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed("open", &name))?,
    };
    let bytes = read_bytes(&*file, 0, HEADER_BYTES).map_err(failed("read", &name))?;
    let header = SegmentHeader::decode(&bytes)
        .ok()
        .filter(|header| header.log_id == shared.log_id && header.before == follower.chain);
    let Some(header) = header else {
        return Ok(false);
    };
    let info = Arc::new(SegmentInfo {
        first: follower.chain.end,
        name,
        before_recorded_at_us: follower.chain.recorded_at_us,
    });
    shared.add_segment(Arc::clone(&info));
    follower.tip = Some(Tip {
        info,
        file,
        offset: HEADER_BYTES as u64,
        planned_bytes: header.planned_bytes,
    });
    Ok(true)
}
