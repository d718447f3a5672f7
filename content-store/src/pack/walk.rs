//! Going through a pack's entries in order, header by header, in bounded memory.
//!
//! Invariant: an entry that is handed out lies wholly within the file and continues the group
//! before it or begins one of its own.

use std::io;

use super::format::{EntryHeader, HeaderFault, PACK_HEADER_BYTES};
use crate::storage::StorageFile;

const WINDOW_BYTES: u64 = 256 * 1024;

/// What stands at a place.
pub(crate) enum Step {
    Entry {
        offset: u64,
        header: EntryHeader,
    },
    /// No entry begins here; without a reason when there are only zeros, or the end.
    Stop {
        offset: u64,
        reason: Option<&'static str>,
    },
}

/// A walk through a pack.
pub(crate) struct Walker<'a> {
    file: &'a dyn StorageFile,
    pack: u32,
    /// Where the next entry should begin.
    at: u64,
    /// Where the group of the last entry began; 0 before the first.
    group: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Walker<'a> {
    /// A walk from the first entry to `end`, or to the end of the file.
    pub(crate) fn new(file: &'a dyn StorageFile, pack: u32, end: Option<u64>) -> io::Result<Self> {
        let len = file.len()?;
        let end = end.map_or(len, |end| end.min(len));
        Ok(Self {
            file,
            pack,
            at: PACK_HEADER_BYTES,
            group: 0,
            end,
            window: Vec::new(),
            window_start: 0,
        })
    }

    /// Where the next entry should begin.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next entry; after a stop it stays where it is.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let offset = self.at;
        if offset >= self.end {
            return Ok(Step::Stop {
                offset,
                reason: None,
            });
        }
        let pack = self.pack;
        let header = match EntryHeader::decode(self.window_at(offset)?, pack, offset) {
            Ok(header) => header,
            Err(HeaderFault::Blank) => {
                return Ok(Step::Stop {
                    offset,
                    reason: None,
                });
            }
            Err(HeaderFault::Bad(_)) if self.window_at(offset)?.iter().all(|byte| *byte == 0) => {
                return Ok(Step::Stop {
                    offset,
                    reason: None,
                });
            }
            Err(HeaderFault::Bad(reason)) => {
                return Ok(Step::Stop {
                    offset,
                    reason: Some(reason),
                });
            }
        };
        if header.group != offset && header.group != self.group {
            return Ok(Step::Stop {
                offset,
                reason: Some("entry belongs to another group"),
            });
        }
        if offset + header.entry_bytes() > self.end {
            return Ok(Step::Stop {
                offset,
                reason: Some("entry runs past the end"),
            });
        }
        self.accept(offset, &header);
        Ok(Step::Entry { offset, header })
    }

    /// Looks behind a stop for the next place where an entry begins that `fits`, and goes on there.
    pub(crate) fn resume(&mut self, fits: impl Fn(&EntryHeader) -> bool) -> io::Result<bool> {
        let mut offset = self.at + 8;
        while offset < self.end {
            let (pack, end) = (self.pack, self.end);
            let window = self.window_at(offset)?;
            if window.len() < 64 {
                return Ok(false);
            }
            // All that begins in this window, but for the last few, whose bytes it may not hold.
            let places = (window.len() - 64) / 8 + 1;
            for place in 0..places {
                let bytes = &window[place * 8..];
                let here = offset + u64::try_from(place * 8).expect("a window is small");
                let Ok(header) = EntryHeader::decode(bytes, pack, here) else {
                    continue;
                };
                if here + header.entry_bytes() <= end && fits(&header) {
                    self.at = here;
                    self.group = header.group;
                    return Ok(true);
                }
            }
            offset += u64::try_from(places * 8).expect("a window is small");
        }
        Ok(false)
    }

    fn accept(&mut self, offset: u64, header: &EntryHeader) {
        self.at = offset + header.entry_bytes();
        self.group = header.group;
    }

    /// The bytes from `offset` on, at least 64 of them unless the end comes before.
    fn window_at(&mut self, offset: u64) -> io::Result<&[u8]> {
        let have = self.window_start + u64::try_from(self.window.len()).expect("a window is small");
        let needed = (offset + 64).min(self.end);
        if offset < self.window_start || needed > have {
            let len = WINDOW_BYTES.min(self.end - offset);
            self.window
                .resize(usize::try_from(len).expect("a window is small"), 0);
            let read = self.file.read_at(&mut self.window, offset)?;
            self.window.truncate(read);
            self.window_start = offset;
        }
        let from = usize::try_from(offset - self.window_start).expect("a window is small");
        Ok(self.window.get(from..).unwrap_or_default())
    }
}
