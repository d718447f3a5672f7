//! The runs: where the live blobs of a sealed pack stand, so that opening need not read the pack.
//!
//! Derived: a run that does not fit its pack's seal is made again.

use std::io;

use super::format::{part, run_name};
use crate::index::Slot;
use crate::storage::{Storage, StorageFile};

const MAGIC: [u8; 8] = *b"STEMRUNS";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const SLOT_BYTES: usize = 12;

/// A run in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) pack: u32,
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    /// The first half of the seal's chain, which tells this pack from any other of its number.
    pub(crate) seal: [u8; 16],
    pub(crate) slots: Vec<Slot>,
}

impl Run {
    /// The bytes of its file.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        self.slots.sort_unstable();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.slots.len() * SLOT_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.pack.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let count = u64::try_from(self.slots.len()).expect("slots fit memory");
        for field in [count, self.live_bytes, self.dead_bytes] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.seal);
        for slot in &self.slots {
            assert_eq!(slot.pack, self.pack, "a run is of one pack");
            bytes.extend_from_slice(&slot.prefix.to_le_bytes());
            bytes.extend_from_slice(&slot.unit.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a run, or nothing when the bytes are no run.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES || bytes[0..8] != MAGIC {
            return None;
        }
        let version = u32::from_le_bytes(part(bytes, 8));
        if version != VERSION || u32::from_le_bytes(part(bytes, 12)) != crc32c::crc32c(&bytes[16..])
        {
            return None;
        }
        let pack = u32::from_le_bytes(part(bytes, 16));
        let body = &bytes[HEADER_BYTES..];
        let count = usize::try_from(u64::from_le_bytes(part(bytes, 24))).ok()?;
        if count.checked_mul(SLOT_BYTES)? != body.len() {
            return None;
        }
        let slot = |bytes: &[u8]| Slot {
            prefix: u64::from_le_bytes(part(bytes, 0)),
            pack,
            unit: u32::from_le_bytes(part(bytes, 8)),
        };
        Some(Self {
            pack,
            live_bytes: u64::from_le_bytes(part(bytes, 32)),
            dead_bytes: u64::from_le_bytes(part(bytes, 40)),
            seal: part(bytes, 48),
            slots: body.chunks_exact(SLOT_BYTES).map(slot).collect(),
        })
    }

    /// Reads a pack's run, when it is there, whole, and of the pack with this seal.
    pub(crate) fn load(storage: &dyn Storage, pack: u32, chain: &[u8; 32]) -> Option<Self> {
        let file = storage.open(&run_name(pack)).ok()?;
        Self::of_file(&*file, pack, chain)
    }

    /// The same of its file.
    pub(crate) fn of_file(file: &dyn StorageFile, pack: u32, chain: &[u8; 32]) -> Option<Self> {
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        let read = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(read);
        Self::decode(&bytes).filter(|run| run.pack == pack && run.seal == chain[..16])
    }

    /// Writes the run beside its place and renames it; not synced, for it can be made again.
    pub(crate) fn save(&mut self, storage: &dyn Storage, temporary: &str) -> io::Result<()> {
        let written = storage
            .create(temporary)
            .and_then(|file| file.write_at(&self.encode(), 0));
        written
            .and_then(|()| storage.rename(temporary, &run_name(self.pack)))
            .inspect_err(|_| {
                let _ = storage.remove(temporary);
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_back_and_any_changed_byte_makes_it_none() {
        let slot = |prefix, unit| Slot {
            prefix,
            pack: 5,
            unit,
        };
        let mut run = Run {
            pack: 5,
            live_bytes: 10,
            dead_bytes: 20,
            seal: [3; 16],
            slots: vec![slot(9, 8), slot(2, 40)],
        };
        let bytes = run.encode();
        assert_eq!(Run::decode(&bytes), Some(run));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            assert_eq!(Run::decode(&wrong), None, "byte {at}");
        }
        assert_eq!(Run::decode(&bytes[..bytes.len() - 1]), None);
    }
}
