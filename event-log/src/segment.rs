//! The frames of a segment file: its header, the head of a group, the seal.
//!
//! Invariant: each carries its own checksum and says where it stands, so that a stray or old
//! block is never taken for a live one.

use crate::chain::Chain;
use crate::codec::{Fields, to_u32};
use crate::error::DamageKind;
use crate::id::LogId;
use crate::merkle::{Merkle, PEAKS_MAX};

/// Version of the layout of segment files.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header; the first group follows.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Bytes of a group's header; its first record follows.
pub(crate) const GROUP_HEADER_BYTES: usize = 40;
/// Bytes of a seal.
pub(crate) const SEAL_BYTES: usize = 120;
/// Groups and seals start at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;
/// Name of a segment file while it is being prepared.
pub(crate) const SPARE_NAME: &str = "next.segment";

const SEGMENT_MAGIC: &[u8; 8] = b"STEMMALG";
pub(crate) const GROUP_MAGIC: &[u8; 4] = b"SGRP";
pub(crate) const SEAL_MAGIC: &[u8; 4] = b"SEAL";
const SUFFIX: &str = ".segment";

/// The name of the segment whose first record has this position.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The first position of the segment with this name.
pub(crate) fn segment_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let numeric = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then(|| digits.parse().ok()).flatten()
}

/// What a segment says of itself and of all that came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: LogId,
    /// Bytes of the file when it was prepared.
    pub(crate) planned_bytes: u64,
    /// State of the log before the segment's first record.
    pub(crate) before: Chain,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&to_u32(HEADER_BYTES).to_le_bytes());
        out.extend_from_slice(self.log_id.as_bytes());
        out.extend_from_slice(&self.planned_bytes.to_le_bytes());
        encode_chain(&mut out, &self.before);
        out.resize(HEADER_BYTES - 4, 0);
        finish(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamageKind> {
        if bytes.len() < HEADER_BYTES {
            return Err(DamageKind::Truncated);
        }
        let bytes = &bytes[..HEADER_BYTES];
        let mut fields = Fields::new(bytes);
        let magic = fields.array::<8>().ok_or(DamageKind::Truncated)?;
        let version = fields.u32().ok_or(DamageKind::Truncated)?;
        if &magic != SEGMENT_MAGIC || !has_checksum(bytes) {
            return Err(DamageKind::SegmentHeader);
        }
        if version != FORMAT_VERSION {
            return Err(DamageKind::FormatVersion(version));
        }
        let read = |fields: &mut Fields<'_>| {
            let length = fields.u32()?;
            let log_id = LogId::from_bytes(fields.array()?);
            let planned_bytes = fields.u64()?;
            let before = decode_chain(fields)?;
            (length as usize == HEADER_BYTES).then_some(Self {
                log_id,
                planned_bytes,
                before,
            })
        };
        read(&mut fields).ok_or(DamageKind::SegmentHeader)
    }
}

/// Bytes that [`encode_chain`] writes.
pub(crate) const CHAIN_BYTES: usize = 8 + 8 + 32 + 32 + 32 * PEAKS_MAX;

/// Writes end, time, digest, root and the tree's peaks, padded to [`PEAKS_MAX`].
pub(crate) fn encode_chain(out: &mut Vec<u8>, chain: &Chain) {
    let end = out.len() + CHAIN_BYTES;
    out.extend_from_slice(&chain.end.to_le_bytes());
    out.extend_from_slice(&chain.recorded_at_us.to_le_bytes());
    out.extend_from_slice(&chain.digest);
    out.extend_from_slice(&chain.merkle.root());
    for peak in chain.merkle.peaks() {
        out.extend_from_slice(peak);
    }
    out.resize(end, 0);
}

pub(crate) fn decode_chain(fields: &mut Fields<'_>) -> Option<Chain> {
    let end = fields.u64()?;
    let recorded_at_us = fields.i64()?;
    let digest = fields.array()?;
    let root = fields.array::<32>()?;
    let mut peaks = Vec::new();
    for index in 0..PEAKS_MAX {
        let peak = fields.array()?;
        if index < end.count_ones() as usize {
            peaks.push(peak);
        }
    }
    let merkle = Merkle::from_peaks(end, peaks)?;
    (merkle.root() == root).then_some(Chain {
        end,
        digest,
        recorded_at_us,
        merkle,
    })
}

/// The head of a group: everything that one write made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Bytes of the group from its header on, without the padding behind it.
    pub(crate) bytes: u32,
    /// Records in it.
    pub(crate) count: u32,
    /// Position of its first record: all before it were durable when it was written.
    pub(crate) first: u64,
}

impl GroupHeader {
    pub(crate) fn encode(&self, tag: [u8; 4], offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(GROUP_HEADER_BYTES);
        out.extend_from_slice(GROUP_MAGIC);
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&tag);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        finish(out)
    }

    /// The header, if these bytes are one of this log that belongs at `offset`.
    pub(crate) fn decode(bytes: &[u8], tag: [u8; 4], offset: u64) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        let mut fields = Fields::new(bytes);
        let magic = fields.array::<4>()?;
        let length = fields.u32()?;
        let count = fields.u32()?;
        let own_tag = fields.array::<4>()?;
        let first = fields.u64()?;
        let own_offset = fields.u64()?;
        let reserved = fields.u32()?;
        let fits = &magic == GROUP_MAGIC
            && own_tag == tag
            && own_offset == offset
            && reserved == 0
            && count > 0
            && length as usize > GROUP_HEADER_BYTES
            && has_checksum(bytes);
        fits.then_some(Self {
            bytes: length,
            count,
            first,
        })
    }
}

/// The end of a full segment: what it leads up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Position of the segment's first record.
    pub(crate) first: u64,
    /// Records of the log up to here.
    pub(crate) end: u64,
    pub(crate) recorded_at_us: i64,
    pub(crate) digest: [u8; 32],
    pub(crate) root: [u8; 32],
}

impl Seal {
    pub(crate) fn of(first: u64, chain: &Chain) -> Self {
        Self {
            first,
            end: chain.end,
            recorded_at_us: chain.recorded_at_us,
            digest: chain.digest,
            root: chain.merkle.root(),
        }
    }

    pub(crate) fn encode(&self, tag: [u8; 4], offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEAL_BYTES);
        out.extend_from_slice(SEAL_MAGIC);
        out.extend_from_slice(&tag);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&self.recorded_at_us.to_le_bytes());
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&self.root);
        out.resize(SEAL_BYTES - 4, 0);
        finish(out)
    }

    /// The seal, if these bytes are one of this log that belongs at `offset`.
    pub(crate) fn decode(bytes: &[u8], tag: [u8; 4], offset: u64) -> Option<Self> {
        let bytes = bytes.get(..SEAL_BYTES)?;
        let mut fields = Fields::new(bytes);
        let magic = fields.array::<4>()?;
        let own_tag = fields.array::<4>()?;
        let first = fields.u64()?;
        let end = fields.u64()?;
        let own_offset = fields.u64()?;
        let recorded_at_us = fields.i64()?;
        let digest = fields.array()?;
        let root = fields.array()?;
        let fits =
            &magic == SEAL_MAGIC && own_tag == tag && own_offset == offset && has_checksum(bytes);
        fits.then_some(Self {
            first,
            end,
            recorded_at_us,
            digest,
            root,
        })
    }
}

/// Adds the checksum over all that is there.
pub(crate) fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// Whether the last four bytes are the checksum over those before.
pub(crate) fn has_checksum(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(content, checksum)| crc32c::crc32c(content).to_le_bytes() == *checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(records: u8) -> Chain {
        let mut chain = Chain::default();
        for n in 0..records {
            chain.push(*blake3::hash(&[n]).as_bytes(), i64::from(n));
        }
        chain
    }

    #[test]
    fn frames_read_back_and_a_flip_of_any_byte_is_noticed() {
        let log_id = LogId::from_bytes([9; 16]);
        let header = SegmentHeader {
            log_id,
            planned_bytes: 1 << 20,
            before: chain(11),
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1;
            assert!(
                SegmentHeader::decode(&bytes).is_err(),
                "header byte {index}"
            );
        }
        let group = GroupHeader {
            bytes: 900,
            count: 3,
            first: 11,
        };
        let bytes = group.encode(log_id.tag(), 4096);
        assert_eq!(bytes.len(), GROUP_HEADER_BYTES);
        assert_eq!(GroupHeader::decode(&bytes, log_id.tag(), 4096), Some(group));
        assert_eq!(GroupHeader::decode(&bytes, log_id.tag(), 4104), None);
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1;
            assert_eq!(
                GroupHeader::decode(&bytes, log_id.tag(), 4096),
                None,
                "byte {index}"
            );
        }
        let seal = Seal::of(3, &chain(11));
        let bytes = seal.encode(log_id.tag(), 8192);
        assert_eq!(bytes.len(), SEAL_BYTES);
        assert_eq!(Seal::decode(&bytes, log_id.tag(), 8192), Some(seal));
    }

    #[test]
    fn only_twenty_digits_and_the_suffix_name_a_segment() {
        assert_eq!(segment_first(&segment_name(42)), Some(42));
        assert_eq!(segment_first("42.segment"), None);
        assert_eq!(segment_first(SPARE_NAME), None);
        assert_eq!(segment_first("+0000000000000000042.segment"), None);
    }
}
