//! Cutting a torn tail from a pack, and what follows a seal.
//!
//! Invariant: what is cut is kept in a file of its own, durably, before a byte of it is overwritten.

use std::io;

use crate::pack::{Subject, Survey, last_nonzero};
use crate::storage::Storage;

const STRIDE_BYTES: u64 = 1024 * 1024;

/// A torn tail that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file, relative to the store's directory.
    pub file: String,
    /// Where the tail began.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// The file that keeps it.
    pub kept: String,
}

/// Leaves behind a pack's end only zeros or, behind a seal, nothing.
pub(crate) fn settle(
    storage: &dyn Storage,
    subject: &Subject<'_>,
    found: &Survey,
) -> io::Result<Option<Cut>> {
    if found.seal.is_some() {
        if subject.file.len()? > found.end {
            subject.file.set_len(found.end)?;
            subject.file.sync()?;
        }
        return Ok(None);
    }
    let Some(to) = found.torn_to else {
        return Ok(None);
    };
    let bytes = to + 1 - found.end;
    let packs = storage.open_dir("packs")?;
    let kept = free_name(storage, subject.number, found.end)?;
    let copy = storage.create(&kept)?;
    let mut done = 0;
    let mut stride = vec![0; usize::try_from(STRIDE_BYTES.min(bytes)).expect("a stride is small")];
    while done < bytes {
        let read = subject.file.read_at(&mut stride, found.end + done)?;
        copy.write_at(&stride[..read], done)?;
        done += count(read);
        if read == 0 {
            break;
        }
    }
    copy.sync()?;
    packs.sync()?;
    stride.fill(0);
    let mut done = 0;
    while done < bytes {
        let n = count(stride.len()).min(bytes - done);
        subject.file.write_at(
            &stride[..usize::try_from(n).expect("a stride is small")],
            found.end + done,
        )?;
        done += n;
    }
    subject.file.sync()?;
    assert_eq!(
        last_nonzero(subject.file, found.end)?,
        None,
        "what is cut leaves zeros"
    );
    tracing::warn!(
        file = subject.name,
        offset = found.end,
        bytes,
        kept,
        "cut a torn tail"
    );
    let cut = Cut {
        file: subject.name.to_owned(),
        offset: found.end,
        bytes,
        kept,
    };
    Ok(Some(cut))
}

/// A name that nothing has yet: what an earlier open kept of the same place may be more than what
/// is left of it now.
fn free_name(storage: &dyn Storage, number: u32, offset: u64) -> io::Result<String> {
    let taken = storage.list("packs")?;
    let name = (1..=u32::MAX)
        .map(|n| match n {
            1 => format!("cut-{number:010}-{offset}.bytes"),
            n => format!("cut-{number:010}-{offset}-{n}.bytes"),
        })
        .find(|name| taken.iter().all(|file| file.name != *name));
    Ok(format!(
        "packs/{}",
        name.expect("there are fewer files than numbers")
    ))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a count in memory fits 64 bits")
}
