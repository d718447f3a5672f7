//! Going through a segment from one place to its end, group by group.
//!
//! Invariant: bytes are believed only after the checksum over them; nothing here judges whether
//! a bad group is a torn tail or damage, but [`good_frame_behind`] tells what decides it.

use std::io;

use bytes::Bytes;

use crate::codec::{round_up, to_usize};
use crate::error::DamageKind;
use crate::frame::{Check, decode, frame_bytes};
use crate::record::Record;
use crate::segment::{
    ALIGNMENT, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, SEAL_BYTES, SEAL_MAGIC, Seal,
};
use crate::storage::{StorageFile, read_bytes};

/// Bytes read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// A walk over a segment file.
pub(crate) struct Scan<'a> {
    file: &'a dyn StorageFile,
    tag: [u8; 4],
    /// Length of the file.
    bytes: u64,
    at: u64,
    window: Bytes,
    window_at: u64,
}

/// What stands at a place of a segment.
pub(crate) enum Step {
    /// A group whose header is right.
    Group(Group),
    /// The seal.
    Seal(Seal),
    /// Zeros where a header would stand, or the end of the file.
    End,
    /// Something else. The next frame can start at `resume` or later.
    Bad { kind: DamageKind, resume: u64 },
}

/// A group whose header is right; its records are not looked at yet.
pub(crate) struct Group {
    pub(crate) offset: u64,
    pub(crate) header: GroupHeader,
    /// The group from its header on, without padding.
    pub(crate) bytes: Bytes,
}

/// Where a record or a frame stands, or should stand: all that reads a log tells damage by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the record begins with its length, or the frame with its first letter.
    pub(crate) offset: u64,
    /// The position of the record, or of the first that is to stand here.
    pub(crate) position: u64,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(file: &'a dyn StorageFile, tag: [u8; 4], from: u64) -> io::Result<Self> {
        let bytes = file.bytes()?;
        Ok(Self {
            file,
            tag,
            bytes,
            at: from,
            window: Bytes::new(),
            window_at: 0,
        })
    }

    /// Where the next step is taken.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Length of the file when the walk began.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn go_to(&mut self, offset: u64) {
        self.at = offset;
    }

    /// Forgets what was read ahead, to look at the file anew.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.window = Bytes::new();
        self.bytes = self.file.bytes()?;
        Ok(())
    }

    /// Looks at the next frame and steps over it if it is good.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let offset = self.at;
        let head = self.view(offset, GROUP_HEADER_BYTES)?;
        if head.iter().all(|byte| *byte == 0) {
            return Ok(Step::End);
        }
        if head.starts_with(SEAL_MAGIC) {
            let seal = Seal::decode(&self.view(offset, SEAL_BYTES)?, self.tag, offset);
            let Some(seal) = seal else {
                return Ok(Step::Bad {
                    kind: DamageKind::Seal,
                    resume: offset + ALIGNMENT,
                });
            };
            self.at = offset + SEAL_BYTES as u64;
            return Ok(Step::Seal(seal));
        }
        let Some(header) = GroupHeader::decode(&head, self.tag, offset) else {
            return Ok(Step::Bad {
                kind: DamageKind::GroupHeader,
                resume: offset + ALIGNMENT,
            });
        };
        let length = header.bytes as usize;
        let padded = round_up(u64::from(header.bytes), ALIGNMENT);
        let resume = offset + padded;
        let bytes = self.view(offset, to_usize(padded))?;
        if (bytes.len() as u64) < padded || bytes[length..].iter().any(|byte| *byte != 0) {
            return Ok(Step::Bad {
                kind: DamageKind::GroupShape,
                resume,
            });
        }
        self.at = resume;
        Ok(Step::Group(Group {
            offset,
            header,
            bytes: bytes.slice(..length),
        }))
    }

    /// The bytes at a place, fewer at the end of the file.
    fn view(&mut self, offset: u64, count: usize) -> io::Result<Bytes> {
        let available = to_usize(self.bytes.saturating_sub(offset));
        let count = count.min(available);
        let within = offset >= self.window_at
            && offset + count as u64 <= self.window_at + self.window.len() as u64;
        if !within {
            self.window = read_bytes(self.file, offset, count.max(WINDOW_BYTES).min(available))?;
            self.window_at = offset;
        }
        let from = to_usize(offset - self.window_at);
        Ok(self
            .window
            .slice(from..(from + count).min(self.window.len())))
    }
}

impl Group {
    /// Visits each record, bad ones too, for as long as `visit` returns true.
    pub(crate) fn walk(
        &self,
        check: Check,
        visit: &mut dyn FnMut(Place, Result<Record, DamageKind>) -> bool,
    ) {
        let mut at = GROUP_HEADER_BYTES;
        for index in 0..u64::from(self.header.count) {
            let position = self.header.first.saturating_add(index);
            let place = Place {
                offset: self.offset + at as u64,
                position,
            };
            let rest = self.bytes.slice(at..);
            let length = frame_bytes(&rest).filter(|length| *length <= rest.len());
            let record = decode(&rest, Some(check)).and_then(|record| {
                let in_place = record.position().get() == position;
                in_place.then_some(record).ok_or(DamageKind::Chain)
            });
            if !visit(place, record) {
                return;
            }
            // Without a length there is no telling where the next record starts.
            let Some(length) = length else { return };
            at += length;
        }
        if at != self.bytes.len() {
            let position = self
                .header
                .first
                .saturating_add(u64::from(self.header.count));
            visit(
                Place {
                    offset: self.offset + at as u64,
                    position,
                },
                Err(DamageKind::GroupShape),
            );
        }
    }
}

/// Where a group or seal of this log stands, at `from` or behind it.
pub(crate) fn good_frame_behind(
    file: &dyn StorageFile,
    tag: [u8; 4],
    from: u64,
) -> io::Result<Option<u64>> {
    let bytes = file.bytes()?;
    let mut at = round_up(from, ALIGNMENT);
    while at < bytes {
        // Windows overlap by a seal so that no frame is cut by their edge.
        let window = read_bytes(file, at, WINDOW_BYTES + SEAL_BYTES)?;
        let mut within = 0;
        while within < WINDOW_BYTES && within + GROUP_HEADER_BYTES <= window.len() {
            let candidate = &window[within..];
            let offset = at + within as u64;
            let good = (candidate.starts_with(GROUP_MAGIC)
                && GroupHeader::decode(candidate, tag, offset).is_some())
                || (candidate.starts_with(SEAL_MAGIC)
                    && Seal::decode(candidate, tag, offset).is_some());
            if good {
                return Ok(Some(offset));
            }
            within += to_usize(ALIGNMENT);
        }
        at += WINDOW_BYTES as u64;
    }
    Ok(None)
}

/// The place right behind the last byte at or behind `from` that is not zero.
pub(crate) fn end_of_bytes(file: &dyn StorageFile, from: u64) -> io::Result<Option<u64>> {
    let bytes = file.bytes()?;
    let mut at = from;
    let mut found = None;
    while at < bytes {
        let window = read_bytes(file, at, WINDOW_BYTES)?;
        if window.is_empty() {
            break;
        }
        if !is_zero(&window) {
            let last = window.iter().rposition(|byte| *byte != 0);
            found = last.map(|last| at + last as u64 + 1);
        }
        at += window.len() as u64;
    }
    Ok(found)
}

fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|b| *b == 0)
}
