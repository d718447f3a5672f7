//! Sorted entries written as differences, as the blocks of an index file hold them.
//!
//! Format: `docs/format/event-log.md`, "Indexes". Numbers are LEB128, as in the DWARF standard
//! (version 5, section 7.6). Invariant: reading never panics on outside bytes; it ends where an
//! entry is not whole.

use super::run::{RunEntry, RunKind};

/// Most bytes of one number.
const NUMBER_BYTES_MAX: usize = 10;

/// Writes entries of one block, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Packer {
    last: Option<RunEntry>,
}

impl Packer {
    /// Writes the next entry, which is not before the one before it.
    pub(super) fn push(&mut self, kind: RunKind, entry: &RunEntry, out: &mut Vec<u8>) {
        let low = kind.left_out_bits();
        match self.last.replace(*entry) {
            Some(last) if last.key == entry.key => {
                write(0, out);
                if kind.has_revisions() {
                    write(u64::from(entry.revision - last.revision), out);
                }
                write(folded(i64::from(entry.at) - i64::from(last.at)), out);
            }
            last => {
                let before = last.map_or(0, |last| last.key >> low);
                // The first key of a block may be zero; none of the others can differ by it.
                let step = (entry.key >> low) - before;
                write(step, out);
                if kind.has_revisions() {
                    write(u64::from(entry.revision), out);
                }
                write(u64::from(entry.at), out);
            }
        }
    }
}

/// Reads the entries of a block.
pub(super) struct Unpacker<'a> {
    kind: RunKind,
    bytes: &'a [u8],
    left: usize,
    last: Option<RunEntry>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(kind: RunKind, bytes: &'a [u8], count: usize) -> Self {
        Self {
            kind,
            bytes,
            left: count,
            last: None,
        }
    }

    fn read(&mut self) -> Option<RunEntry> {
        let low = self.kind.left_out_bits();
        let step = self.number()?;
        let same = self.last.filter(|_| step == 0);
        let revision = if self.kind.has_revisions() {
            u32::try_from(self.number()?).ok()?
        } else {
            0
        };
        let at = self.number()?;
        Some(if let Some(last) = same {
            let at = i64::from(last.at).checked_add(unfolded(at))?;
            RunEntry {
                key: last.key,
                revision: last.revision.checked_add(revision)?,
                at: u32::try_from(at).ok()?,
            }
        } else {
            let before = self.last.map_or(0, |last| last.key >> low);
            let key = before.checked_add(step)?;
            RunEntry {
                key: (key << low >> low == key).then_some(key << low)?,
                revision,
                at: u32::try_from(at).ok()?,
            }
        })
    }

    fn number(&mut self) -> Option<u64> {
        let length = self.bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (digits, rest) = self.bytes.split_at_checked(length)?;
        if length > NUMBER_BYTES_MAX || (length == NUMBER_BYTES_MAX && digits[length - 1] > 1) {
            return None;
        }
        self.bytes = rest;
        let digits = digits.iter().rev();
        Some(digits.fold(0, |number, digit| number << 7 | u64::from(digit & 0x7f)))
    }
}

impl Iterator for Unpacker<'_> {
    type Item = RunEntry;

    fn next(&mut self) -> Option<RunEntry> {
        self.left = self.left.checked_sub(1)?;
        let read = self.read();
        if read.is_none() {
            self.left = 0;
        }
        self.last = read;
        read
    }
}

fn write(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// A signed number so that small ones of either sign are small.
fn folded(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unfolded(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(kind: RunKind, entries: &[RunEntry]) -> Vec<u8> {
        let (mut packer, mut bytes) = (Packer::default(), Vec::new());
        for entry in entries {
            packer.push(kind, entry, &mut bytes);
        }
        bytes
    }

    const KINDS: [RunKind; 3] = [RunKind::Streams, RunKind::Digests, RunKind::Keys];

    /// Keys that are often the same, and others that are far apart.
    fn entries(kind: RunKind) -> impl Strategy<Value = Vec<RunEntry>> {
        let key = prop_oneof![Just(0), 0..4_u64, any::<u64>(), Just(u64::MAX)];
        let entry =
            (key, any::<u32>(), any::<u32>()).prop_map(move |(key, revision, at)| RunEntry {
                key: kind.kept(key),
                revision: if kind.has_revisions() { revision } else { 0 },
                at,
            });
        prop::collection::vec(entry, 0..60).prop_map(|mut entries| {
            entries.sort_unstable();
            entries
        })
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back((kind, entries) in (0..3_usize).prop_flat_map(|index| {
            (Just(KINDS[index]), entries(KINDS[index]))
        })) {
            let bytes = packed(kind, &entries);
            let back: Vec<RunEntry> = Unpacker::new(kind, &bytes, entries.len()).collect();
            prop_assert_eq!(back, entries);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in KINDS {
                prop_assert!(Unpacker::new(kind, &bytes, 1000).count() <= bytes.len());
            }
        }
    }

    #[test]
    fn revisions_of_one_stream_take_three_bytes_each() {
        let revision = |revision: u32| RunEntry {
            key: 7 << 60,
            revision,
            at: 1000 + 20 * revision,
        };
        let one = packed(RunKind::Streams, &[revision(0)]).len();
        let ten: Vec<RunEntry> = (0..10).map(revision).collect();
        assert_eq!(packed(RunKind::Streams, &ten).len(), one + 9 * 3);
    }
}
