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
use crate::scan::{Group, Place, Scan, Step};
use crate::segment::Seal;
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
    /// What does not fit, and where in the group or seal that stands at the end. The next frame can
    /// start at `resume` or later.
    Bad {
        kind: DamageKind,
        place: Place,
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
            let place = Place {
                offset,
                position: chain.end,
            };
            let end = match scan.step()? {
                Step::Group(group) if self.is_to_go(&group) => TipEnd::Stopped,
                Step::Group(group) => {
                    entries.clear();
                    match self.take_up(&group, &key, chain, &mut entries) {
                        Ok(()) => {
                            entries.drain(..).for_each(&mut *on_entry);
                            last = Some((offset, group.bytes));
                            continue;
                        }
                        Err((place, kind)) => TipEnd::Bad {
                            kind,
                            place,
                            resume: scan.at(),
                        },
                    }
                }
                Step::Seal(seal) if self.is_sealed_by(&seal, chain) => {
                    last = Some((offset, seal.encode(tag, offset).into()));
                    TipEnd::Sealed
                }
                Step::Seal(seal) => TipEnd::Bad {
                    kind: DamageKind::Root,
                    place: Place {
                        position: seal.end.min(chain.end),
                        ..place
                    },
                    resume: scan.at(),
                },
                Step::End => TipEnd::Zeros,
                Step::Bad { kind, resume } => TipEnd::Bad {
                    kind,
                    place,
                    resume,
                },
            };
            let offset = if end == TipEnd::Sealed {
                scan.at()
            } else {
                offset
            };
            return Ok(TipScan { end, offset, last });
        }
    }

    /// Whether nothing is kept from this group on.
    fn is_to_go(&self, group: &Group) -> bool {
        self.keep_end
            .is_some_and(|keep_end| group.header.first >= keep_end)
    }

    fn is_sealed_by(&self, seal: &Seal, chain: &Chain) -> bool {
        let matches = seal.end == chain.end && seal.digest == chain.digest;
        matches && (self.check == Check::Checksum || seal.root == chain.merkle.root())
    }

    /// Takes up a group whose records all continue the chain, which else stays as it was.
    ///
    /// # Errors
    /// What does not fit first, and where.
    fn take_up(
        &self,
        group: &Group,
        key: &[u8; 32],
        chain: &mut Chain,
        entries: &mut Vec<Entry>,
    ) -> Result<(), (Place, DamageKind)> {
        if group.header.first != chain.end {
            let place = Place {
                offset: group.offset,
                position: group.header.first.min(chain.end),
            };
            return Err((place, DamageKind::Chain));
        }
        let before = chain.clone();
        let mut fault = None;
        group.walk(self.check, &mut |place, record| {
            let entry = record.and_then(|record| {
                chain.accept(&record, self.check)?;
                Entry::of(&record, place.offset, key).ok_or(DamageKind::RecordFields)
            });
            match entry {
                Ok(entry) => entries.push(entry),
                Err(kind) => fault = Some((place, kind)),
            }
            fault.is_none()
        });
        let Some(fault) = fault else { return Ok(()) };
        *chain = before;
        Err(fault)
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
