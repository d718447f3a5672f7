//! The mark of a proper close: where the last pack ended.
//!
//! Invariant: while the mark is there, nothing was written since. It is removed, durably, before the
//! first write after an open.

use std::io;

use crate::storage::{Storage, remove_if_there};

pub(crate) const MARK: &str = "mark";

const MAGIC: [u8; 8] = *b"STEMMARK";
const VERSION: u32 = 1;

/// Where the last pack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its number, 0 when there was none.
    pub(crate) pack: u32,
    pub(crate) end: u64,
    pub(crate) chain: [u8; 32],
}

/// What is found in the mark's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marking {
    Absent,
    Present(Mark),
    Unknown { version: u32 },
    Damaged,
}

impl Mark {
    pub(crate) fn encode(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.pack.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.end.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.chain);
        let checksum = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Marking {
        let Ok(bytes) = <&[u8; 64]>::try_from(bytes) else {
            return Marking::Damaged;
        };
        let [a, b, c, d] = [bytes[8], bytes[9], bytes[10], bytes[11]];
        let version = u32::from_le_bytes([a, b, c, d]);
        let stored = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        if bytes[0..8] != MAGIC || stored != crc32c::crc32c(&bytes[16..]) {
            return Marking::Damaged;
        }
        if version != VERSION {
            return Marking::Unknown { version };
        }
        let pack = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let mut end = [0; 8];
        end.copy_from_slice(&bytes[24..32]);
        let mut chain = [0; 32];
        chain.copy_from_slice(&bytes[32..64]);
        Marking::Present(Self {
            pack,
            end: u64::from_le_bytes(end),
            chain,
        })
    }

    /// What stands in the mark's place.
    pub(crate) fn load(storage: &dyn Storage) -> io::Result<Marking> {
        let file = match storage.open(MARK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Marking::Absent),
            other => other?,
        };
        let mut bytes = [0; 65];
        let read = file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(&bytes[..read]))
    }

    /// Writes it durably.
    pub(crate) fn save(&self, storage: &dyn Storage, temporary: &str) -> io::Result<()> {
        let root = storage.open_dir("")?;
        let file = storage.create(temporary)?;
        file.write_at(&self.encode(), 0)?;
        file.sync()?;
        storage.rename(temporary, MARK)?;
        root.sync()
    }

    /// Removes it durably; none need be there.
    pub(crate) fn remove(storage: &dyn Storage) -> io::Result<()> {
        let root = storage.open_dir("")?;
        remove_if_there(storage, MARK)?;
        // It may have been removed before without that being durable.
        root.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_changed_one_is_damaged() {
        let mark = Mark {
            pack: 7,
            end: 640,
            chain: [9; 32],
        };
        let good = mark.encode();
        assert_eq!(Mark::decode(&good), Marking::Present(mark));
        for at in 12..64 {
            let mut bytes = good;
            bytes[at] ^= 1;
            assert_eq!(Mark::decode(&bytes), Marking::Damaged, "byte {at}");
        }
        assert_eq!(Mark::decode(&good[..63]), Marking::Damaged);
    }
}
