//! The bytes of a pack: header, entries, seal, as `docs/format/content-store.md` lays them out.

use crate::{DamageKind, Digest};

pub(crate) const PACK_HEADER_BYTES: u64 = 64;
pub(crate) const ENTRY_HEADER_BYTES: u64 = 64;
pub(crate) const ALIGN_BYTES: u64 = 8;
/// A seal with its header.
pub(crate) const SEAL_BYTES: u64 = ENTRY_HEADER_BYTES + SEAL_PAYLOAD_BYTES;
/// Where in an entry its state stands.
pub(crate) const STATE_OFFSET: u64 = 56;
pub(crate) const STATE_LIVE: [u8; 8] = *b"liveblob";
pub(crate) const STATE_DEAD: [u8; 8] = *b"deadblob";

const SEAL_PAYLOAD_BYTES: u64 = 40;
const PACK_MAGIC: [u8; 8] = *b"STEMPACK";
const ENTRY_MAGIC: [u8; 4] = *b"BLOB";
const VERSION: u32 = 1;
const CODEC_PLAIN: u8 = 0;
const PACK_SUFFIX: &str = ".pack";

/// The name of a pack's file.
pub(crate) fn pack_name(number: u32) -> String {
    format!("packs/{number:010}{PACK_SUFFIX}")
}

/// The number of the pack whose file has this name in `packs/`.
pub(crate) fn pack_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(PACK_SUFFIX)?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    (pack_name(number).strip_prefix("packs/") == Some(name)).then_some(number)
}

/// The name of the file that says where a sealed pack's blobs stand.
pub(crate) fn run_name(number: u32) -> String {
    format!("index/{number:010}.run")
}

/// The number of the pack whose run has this name in `index/`.
pub(crate) fn run_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".run")?.parse().ok()?;
    (run_name(number).strip_prefix("index/") == Some(name)).then_some(number)
}

/// Bytes of an entry with a payload of `len` bytes.
pub(crate) fn entry_bytes(len: u64) -> u64 {
    ENTRY_HEADER_BYTES + len.next_multiple_of(ALIGN_BYTES)
}

/// A fixed part of a header.
pub(crate) fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

/// What a pack's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackHeader {
    pub(crate) number: u32,
    pub(crate) planned_bytes: u64,
}

impl PackHeader {
    pub(crate) fn encode(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..8].copy_from_slice(&PACK_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.planned_bytes.to_le_bytes());
        let checksum = Self::checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads it; a version that is not known comes with its number.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, (DamageKind, u32)> {
        if bytes.len() < 64 || bytes[0..8] != PACK_MAGIC {
            return Err((DamageKind::PackHeader, 0));
        }
        if u32::from_le_bytes(part(bytes, 12)) != Self::checksum(bytes) {
            return Err((DamageKind::PackHeader, 0));
        }
        let version = u32::from_le_bytes(part(bytes, 8));
        if version != VERSION {
            return Err((DamageKind::Version, version));
        }
        let number = u32::from_le_bytes(part(bytes, 16));
        Ok(Self {
            number,
            planned_bytes: u64::from_le_bytes(part(bytes, 24)),
        })
    }

    pub(crate) fn checksum(bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[0..12]), &bytes[16..64])
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob,
    Seal,
}

/// Whether an entry's blob counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    Dead,
    Unknown,
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) len: u32,
    pub(crate) digest: Digest,
    pub(crate) state: State,
}

/// Why bytes are no entry header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// All of them are zero.
    Blank,
    /// They are something else.
    Bad(&'static str),
}

impl EntryHeader {
    /// The bytes of a header at an offset of a pack.
    pub(crate) fn encode(&self, pack: u32, offset: u64) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..4].copy_from_slice(&ENTRY_MAGIC);
        bytes[8..16].copy_from_slice(&self.group.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.len.to_le_bytes());
        bytes[20] = match self.kind {
            Kind::Blob => 1,
            Kind::Seal => 2,
        };
        bytes[21] = CODEC_PLAIN;
        bytes[24..56].copy_from_slice(self.digest.as_bytes());
        bytes[56..64].copy_from_slice(match self.state {
            State::Dead => &STATE_DEAD,
            State::Live | State::Unknown => &STATE_LIVE,
        });
        let checksum = entry_checksum(&bytes, pack, offset);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header at an offset of a pack.
    pub(crate) fn decode(bytes: &[u8], pack: u32, offset: u64) -> Result<Self, HeaderFault> {
        if bytes.len() < 64 {
            return Err(HeaderFault::Bad("cut short"));
        }
        if bytes[0..4] != ENTRY_MAGIC {
            let blank = bytes[..64].iter().all(|byte| *byte == 0);
            return Err(if blank {
                HeaderFault::Blank
            } else {
                HeaderFault::Bad("no entry begins here")
            });
        }
        if u32::from_le_bytes(part(bytes, 4)) != entry_checksum(bytes, pack, offset) {
            return Err(HeaderFault::Bad("header does not match its checksum"));
        }
        let kind = match bytes[20] {
            1 => Kind::Blob,
            2 => Kind::Seal,
            _ => return Err(HeaderFault::Bad("kind is not known")),
        };
        if bytes[21] != CODEC_PLAIN {
            return Err(HeaderFault::Bad("codec is not known"));
        }
        let group = u64::from_le_bytes(part(bytes, 8));
        if group > offset || group < PACK_HEADER_BYTES {
            return Err(HeaderFault::Bad("group begins where it cannot"));
        }
        let state = match part::<8>(bytes, 56) {
            STATE_LIVE => State::Live,
            STATE_DEAD => State::Dead,
            _ => State::Unknown,
        };
        let len = u32::from_le_bytes(part(bytes, 16));
        Ok(Self {
            kind,
            group,
            len,
            digest: Digest::from_bytes(part(bytes, 24)),
            state,
        })
    }

    pub(crate) fn entry_bytes(&self) -> u64 {
        entry_bytes(u64::from(self.len))
    }
}

/// The checksum of an entry's header at its place.
pub(crate) fn entry_checksum(bytes: &[u8], pack: u32, offset: u64) -> u32 {
    let checksum = crc32c::crc32c(&bytes[8..56]);
    let checksum = crc32c::crc32c_append(checksum, &pack.to_le_bytes());
    crc32c::crc32c_append(checksum, &offset.to_le_bytes())
}

/// Appends an entry to `buffer`, padded.
pub(crate) fn encode_entry(
    buffer: &mut Vec<u8>,
    header: &EntryHeader,
    payload: &[u8],
    pack: u32,
    offset: u64,
) {
    assert_eq!(
        usize::try_from(header.len),
        Ok(payload.len()),
        "a header says how long its payload is"
    );
    buffer.extend_from_slice(&header.encode(pack, offset));
    buffer.extend_from_slice(payload);
    buffer.resize(buffer.len().next_multiple_of(8), 0);
}

/// What ends a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) count: u64,
    /// The digest of the digests of all blob entries, in order.
    pub(crate) chain: [u8; 32],
}

impl Seal {
    pub(crate) fn encode(&self, pack: u32, offset: u64) -> Vec<u8> {
        let mut payload = self.count.to_le_bytes().to_vec();
        payload.extend_from_slice(&self.chain);
        let header = EntryHeader {
            kind: Kind::Seal,
            group: offset,
            len: u32::try_from(SEAL_PAYLOAD_BYTES).expect("40 fits"),
            digest: Digest::of(&payload),
            state: State::Live,
        };
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, &header, &payload, pack, offset);
        bytes
    }

    /// Reads a seal, header included, at an offset of a pack.
    pub(crate) fn decode(bytes: &[u8], pack: u32, offset: u64) -> Option<Self> {
        let header = EntryHeader::decode(bytes, pack, offset).ok()?;
        let payload = bytes.get(64..64 + 40)?;
        let fits = header.kind == Kind::Seal && u64::from(header.len) == SEAL_PAYLOAD_BYTES;
        if !fits || header.state != State::Live || Digest::of(payload) != header.digest {
            return None;
        }
        Some(Self {
            count: u64::from_le_bytes(part(payload, 0)),
            chain: part(payload, 8),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> EntryHeader {
        EntryHeader {
            kind: Kind::Blob,
            group: 64,
            len: 5,
            digest: Digest::of(b"comet"),
            state: State::Live,
        }
    }

    #[test]
    fn an_entry_header_is_read_back_at_its_own_place_only() {
        let bytes = header().encode(3, 128);
        assert_eq!(EntryHeader::decode(&bytes, 3, 128), Ok(header()));
        assert!(EntryHeader::decode(&bytes, 3, 136).is_err());
        assert!(EntryHeader::decode(&bytes, 4, 128).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_header_shows() {
        let good = header().encode(3, 128);
        for bit in 0..64 * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = EntryHeader::decode(&bytes, 3, 128);
            assert!(
                read.is_err() || read.unwrap().state == State::Unknown,
                "bit {bit}"
            );
        }
        let good = PackHeader {
            number: 3,
            planned_bytes: 4096,
        }
        .encode();
        for bit in 0..64 * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(PackHeader::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_seal_is_read_back_and_a_changed_one_is_none() {
        let seal = Seal {
            count: 9,
            chain: [4; 32],
        };
        let bytes = seal.encode(1, 640);
        assert_eq!(u64::try_from(bytes.len()).unwrap(), SEAL_BYTES);
        assert_eq!(Seal::decode(&bytes, 1, 640), Some(seal));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(Seal::decode(&wrong, 1, 640), None, "byte {at}");
        }
    }

    #[test]
    fn only_exact_pack_names_are_packs() {
        assert_eq!(pack_number("0000000012.pack"), Some(12));
        for name in [
            "0000000000.pack",
            "12.pack",
            "cut-1-64.bytes",
            "+000000012.pack",
            "99999999999.pack",
        ] {
            assert_eq!(pack_number(name), None, "{name}");
        }
    }
}
