//! Walking to the end of the last segment, taking up what is whole.
//!
//! Invariant: a group is taken up as a whole or not at all.

use std::io;

use bytes::Bytes;

use crate::chain::Chain;
use crate::error::DamageKind;
use crate::frame::Check;
use crate::id::LogId;
use crate::index::{Entry, log_key};
use crate::scan::{Scan, Step};
use crate::storage::StorageFile;

/// How a walk to the end of the last segment ended.
pub(crate) struct TipScan {
    pub(crate) end: TipEnd,
    pub(crate) offset: u64,
    /// The last good frame, to be written again.
    pub(crate) last: Option<(u64, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TipEnd {
    Zeros,
    Sealed,
    /// The first group that must not be kept.
    Stopped,
    Bad {
        kind: DamageKind,
        resume: u64,
    },
}

/// A walk over a segment to its end that checks what it passes.
pub(crate) struct Walk<'a> {
    pub(crate) file: &'a dyn StorageFile,
    pub(crate) log_id: LogId,
    pub(crate) check: Check,
    pub(crate) keep_end: Option<u64>,
}

impl Walk<'_> {
    /// Takes up whole groups from `from` on for as long as they are good.
    pub(crate) fn to_end(
        &self,
        from: u64,
        chain: &mut Chain,
        on_entry: &mut dyn FnMut(Entry),
    ) -> io::Result<TipScan> {
        let key = log_key(self.log_id);
        let tag = self.log_id.tag();
        let mut scan = Scan::new(self.file, tag, from)?;
        let mut last = None;
        let mut entries = Vec::new();
        loop {
            let offset = scan.at();
            let end = match scan.step()? {
                Step::Group(group) => {
                    let first = group.header.first;
                    if self.keep_end.is_some_and(|keep_end| first >= keep_end) {
                        TipEnd::Stopped
                    } else {
                        let before = chain.clone();
                        let mut fault = None;
                        entries.clear();
                        group.walk(self.check, &mut |place, record| {
                            let entry = record.and_then(|record| {
                                chain.accept(&record, self.check)?;
                                Entry::of(&record, place.offset, &key)
                                    .ok_or(DamageKind::RecordFields)
                            });
                            match entry {
                                Ok(entry) => entries.push(entry),
                                Err(kind) => fault = Some(kind),
                            }
                            fault.is_none()
                        });
                        match fault {
                            None => {
                                entries.drain(..).for_each(&mut *on_entry);
                                last = Some((offset, group.bytes));
                                continue;
                            }
                            Some(kind) => {
                                *chain = before;
                                TipEnd::Bad {
                                    kind,
                                    resume: scan.at(),
                                }
                            }
                        }
                    }
                }
                Step::Seal(seal) => {
                    let matches = seal.end == chain.end && seal.digest == chain.digest;
                    let root = self.check == Check::Checksum || seal.root == chain.merkle.root();
                    if matches && root {
                        last = Some((offset, seal.encode(tag, offset).into()));
                        TipEnd::Sealed
                    } else {
                        TipEnd::Bad {
                            kind: DamageKind::Root,
                            resume: scan.at(),
                        }
                    }
                }
                Step::End => TipEnd::Zeros,
                Step::Bad { kind, resume } => TipEnd::Bad { kind, resume },
            };
            let offset = if end == TipEnd::Sealed {
                scan.at()
            } else {
                offset
            };
            return Ok(TipScan { end, offset, last });
        }
    }
}

pub(crate) fn is_good_now(walk: &Walk<'_>, offset: u64) -> io::Result<bool> {
    let mut scan = Scan::new(walk.file, walk.log_id.tag(), offset)?;
    Ok(match scan.step()? {
        Step::Group(group) => {
            let mut good = true;
            group.walk(Check::Digest, &mut |_, record| {
                good &= record.is_ok();
                good
            });
            good
        }
        Step::Seal(_) => true,
        Step::End | Step::Bad { .. } => false,
    })
}
