//! The frames around records: segment header, group header, seal, head mark. No I/O.
//!
//! `docs/format/event-log.md` draws each of them. Invariant: every byte of a frame stands under a
//! checksum of the frame's own.

use crate::id::{EventDigest, LogId, RootHash};
use crate::merkle::{Merkle, PEAKS_MAX};

pub(crate) const HEADER_BYTES: usize = 4096;
pub(crate) const GROUP_BYTES: usize = 40;
pub(crate) const SEAL_BYTES: usize = 96;
pub(crate) const MARK_BYTES: usize = 160;
/// Groups and seals begin at a multiple of this.
pub(crate) const ALIGNMENT: u64 = 8;
/// The file that a clean stop leaves.
pub(crate) const MARK_NAME: &str = "head";

const VERSION: u32 = 1;
const HEADER_MAGIC: &[u8; 8] = b"STEMSEG1";
const GROUP_MAGIC: &[u8; 4] = b"GRP1";
const SEAL_MAGIC: &[u8; 8] = b"STEMSEAL";
const MARK_MAGIC: &[u8; 8] = b"STEMHEAD";

/// The name of the segment whose first record has this position.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}.segment")
}

/// The first position of the segment with this name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The next place at or after `offset` where a group may begin.
pub(crate) fn align(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

/// What a segment begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) log_id: LogId,
    pub(crate) first: u64,
    pub(crate) previous: EventDigest,
    pub(crate) merkle: Merkle,
}

/// What a group begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// Bytes of the records' frames behind the header.
    pub(crate) bytes: u32,
    pub(crate) records: u32,
    pub(crate) first: u64,
    /// How many records were durable when the group was written.
    pub(crate) durable: u64,
}

/// What stands behind the last group of a full segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) end: u64,
    pub(crate) last: EventDigest,
    pub(crate) root: RootHash,
}

/// What a clean stop leaves: where the log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadMark {
    pub(crate) log_id: LogId,
    pub(crate) end: u64,
    pub(crate) last: EventDigest,
    pub(crate) root: RootHash,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// Puts the checksum of all before them into the last four bytes.
fn finish<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    let checksum = crc32c::crc32c(&bytes[..N - 4]);
    bytes[N - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    let (body, checksum) = bytes.split_at(bytes.len() - 4);
    crc32c::crc32c(body).to_le_bytes() == checksum
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn digest_at(bytes: &[u8], at: usize) -> [u8; 32] {
    bytes[at..at + 32].try_into().expect("32 bytes")
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(HEADER_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let peaks = u32::try_from(self.merkle.peaks().len()).expect("at most 64 peaks");
        bytes[12..16].copy_from_slice(&peaks.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..72].copy_from_slice(self.previous.as_bytes());
        for (index, peak) in self.merkle.peaks().iter().enumerate() {
            bytes[72 + 32 * index..104 + 32 * index].copy_from_slice(peak);
        }
        finish(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        if &bytes[..8] != HEADER_MAGIC {
            return Err("not the header of a segment");
        }
        if !is_whole(bytes) {
            return Err("the segment header's checksum does not fit its bytes");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("a version of the segment that is not known here");
        }
        let (peaks, first) = (u32_at(bytes, 12) as usize, u64_at(bytes, 32));
        if peaks > PEAKS_MAX {
            return Err("the segment header has too many peaks");
        }
        let peaks = (0..peaks).map(|index| digest_at(bytes, 72 + 32 * index)).collect();
        let merkle = Merkle::from_parts(first, peaks).ok_or("the peaks do not fit the position")?;
        Ok(Self {
            log_id: LogId::from_bytes(bytes[16..32].try_into().expect("16 bytes")),
            first,
            previous: EventDigest::from_bytes(digest_at(bytes, 40)),
            merkle,
        })
    }
}

impl Group {
    pub(crate) fn encode(&self) -> [u8; GROUP_BYTES] {
        let mut bytes = [0; GROUP_BYTES];
        bytes[..4].copy_from_slice(GROUP_MAGIC);
        bytes[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        finish(bytes)
    }

    /// None where no group begins.
    pub(crate) fn decode(bytes: &[u8; GROUP_BYTES]) -> Option<Self> {
        let is_group = &bytes[..4] == GROUP_MAGIC && is_whole(bytes);
        is_group.then(|| Self {
            bytes: u32_at(bytes, 4),
            records: u32_at(bytes, 8),
            first: u64_at(bytes, 16),
            durable: u64_at(bytes, 24),
        })
    }
}

impl Seal {
    pub(crate) fn encode(&self) -> [u8; SEAL_BYTES] {
        let mut bytes = [0; SEAL_BYTES];
        bytes[..8].copy_from_slice(SEAL_MAGIC);
        bytes[8..16].copy_from_slice(&self.end.to_le_bytes());
        bytes[16..48].copy_from_slice(self.last.as_bytes());
        bytes[48..80].copy_from_slice(self.root.as_bytes());
        finish(bytes)
    }

    /// None where no seal stands.
    pub(crate) fn decode(bytes: &[u8; SEAL_BYTES]) -> Option<Self> {
        let is_seal = &bytes[..8] == SEAL_MAGIC && is_whole(bytes);
        is_seal.then(|| Self {
            end: u64_at(bytes, 8),
            last: EventDigest::from_bytes(digest_at(bytes, 16)),
            root: RootHash::from_bytes(digest_at(bytes, 48)),
        })
    }
}

impl HeadMark {
    pub(crate) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(MARK_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.end.to_le_bytes());
        bytes[40..72].copy_from_slice(self.last.as_bytes());
        bytes[72..104].copy_from_slice(self.root.as_bytes());
        bytes[104..112].copy_from_slice(&self.segment.to_le_bytes());
        bytes[112..120].copy_from_slice(&self.offset.to_le_bytes());
        finish(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Self> {
        let is_mark = &bytes[..8] == MARK_MAGIC && is_whole(bytes) && u32_at(bytes, 8) == VERSION;
        is_mark.then(|| Self {
            log_id: LogId::from_bytes(bytes[16..32].try_into().expect("16 bytes")),
            end: u64_at(bytes, 32),
            last: EventDigest::from_bytes(digest_at(bytes, 40)),
            root: RootHash::from_bytes(digest_at(bytes, 72)),
            segment: u64_at(bytes, 104),
            offset: u64_at(bytes, 112),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_reads_back_and_every_flipped_bit_of_it_is_found() {
        let mut merkle = Merkle::default();
        (0..5).for_each(|n| merkle.push(&EventDigest::from_bytes([n; 32])));
        let log_id = LogId::from_bytes([9; 16]);
        let last = EventDigest::from_bytes([7; 32]);
        let header = Header { log_id, first: 5, previous: last, merkle: merkle.clone() };
        let group = Group { bytes: 100, records: 2, first: 5, durable: 5 };
        let seal = Seal { end: 7, last, root: merkle.root() };
        let mark =
            HeadMark { log_id, end: 7, last, root: merkle.root(), segment: 5, offset: 4096 };
        assert_eq!(Header::decode(&header.encode()), Ok(header.clone()));
        assert_eq!(Group::decode(&group.encode()), Some(group));
        assert_eq!(Seal::decode(&seal.encode()), Some(seal.clone()));
        assert_eq!(HeadMark::decode(&mark.encode()), Some(mark.clone()));
        for bit in 0..8 * HEADER_BYTES {
            let flip = |bytes: &mut [u8]| {
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            };
            let (mut h, mut g, mut s, mut m) =
                (header.encode(), group.encode(), seal.encode(), mark.encode());
            flip(&mut h);
            flip(&mut g);
            flip(&mut s);
            flip(&mut m);
            assert!(Header::decode(&h).is_err());
            assert!(Group::decode(&g).is_none() || bit >= 8 * GROUP_BYTES);
            assert!(Seal::decode(&s).is_none() || bit >= 8 * SEAL_BYTES);
            assert!(HeadMark::decode(&m).is_none() || bit >= 8 * MARK_BYTES);
        }
    }

    #[test]
    fn a_segment_is_named_by_its_first_position() {
        assert_eq!(first_of(&name(42)), Some(42));
        assert!(["head", "42.segment", "x0000000000000000042.segment"].iter().all(|n| first_of(n).is_none()));
    }
}
