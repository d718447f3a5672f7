//! Holding the tree's hashes on disk against the records.
//!
//! Invariant: only a hash that no crash can have left so is called wrong. Behind the last sync but
//! one, a hash of zeros was not written yet (`docs/format/proofs.md`).

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{DamageKind, VerifyError};
use crate::proof_tree::{
    HASH_BYTES, LEAVES, LEVELS, TILE_BITS, leaves_held, name_of, synced_leaves,
};
use crate::storage::{Access, Storage, StorageFile, is_short, read_bytes};

/// Hashes that are read at a time.
const READ_HASHES: u64 = 2048;

/// The files of the tree, compared while the records are read in order.
pub(crate) struct TreeCheck {
    /// From level 1 on; the leaves have no file.
    levels: Vec<Level>,
    /// Leaves whose hashes were synced, so that they cannot be missing.
    synced: u64,
}

struct Level {
    file: Arc<dyn StorageFile>,
    /// What was read last, and the number of its first hash.
    read: Bytes,
    first: u64,
    /// Whether the hash before was wrong: the first of a run of wrong ones is told.
    is_wrong: bool,
}

/// A hash on disk that is not that of the records, or cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongHash {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) kind: DamageKind,
}

impl TreeCheck {
    /// Opens what is there; a tree that was never asked for has no files. Also tells the first
    /// file that cannot be opened; nothing is compared with it and those above. Fails where the
    /// system is short of what it needs to open it.
    pub(crate) fn open(storage: &dyn Storage) -> Result<(Self, Option<WrongHash>), VerifyError> {
        let (mut levels, mut hashes, mut unreadable) = (Vec::new(), Vec::new(), None);
        for level in LEAVES + 1..LEVELS {
            let opened = storage.open(&name_of(level), Access::Read);
            match opened.and_then(|file| Ok((file.bytes()?, file))) {
                Ok((bytes, file)) => {
                    hashes.push(bytes / HASH_BYTES);
                    levels.push(Level::new(file));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(source) if is_short(&source) => {
                    return Err(VerifyError::Io {
                        operation: "open",
                        file: name_of(level),
                        source,
                    });
                }
                Err(_) => {
                    unreadable = Some(WrongHash {
                        file: name_of(level),
                        offset: 0,
                        kind: DamageKind::Unreadable,
                    });
                    break;
                }
            }
        }
        let synced = synced_leaves(leaves_held(&hashes));
        Ok((Self { levels, synced }, unreadable))
    }

    /// Compares the hash over the `2^height` leaves that end with `leaf`, if the tree keeps it.
    /// Of wrong ones that follow each other only the first is told.
    pub(crate) fn compare(&mut self, height: u32, leaf: u64, hash: &[u8; 32]) -> Option<WrongHash> {
        if !height.is_multiple_of(TILE_BITS) {
            return None;
        }
        let (level, number) = (height / TILE_BITS, leaf >> height);
        let may_be_missing = leaf >= self.synced;
        let index = level.checked_sub(LEAVES + 1)?;
        let kept = self.levels.get_mut(index as usize)?;
        // What a running server wrote meanwhile is read again before it is called wrong.
        let found = match kept.holds(number, hash, may_be_missing, false) {
            Ok(false) => kept.holds(number, hash, may_be_missing, true),
            found => found,
        };
        let is_told = !kept.is_wrong;
        kept.is_wrong = !matches!(found, Ok(true));
        let kind = match found {
            Ok(true) => return None,
            Ok(false) => DamageKind::Index,
            Err(_) => DamageKind::Unreadable,
        };
        is_told.then(|| WrongHash {
            file: name_of(level),
            offset: number * HASH_BYTES,
            kind,
        })
    }
}

impl Level {
    fn new(file: Arc<dyn StorageFile>) -> Self {
        Self {
            file,
            read: Bytes::new(),
            first: 0,
            is_wrong: false,
        }
    }

    fn holds(
        &mut self,
        number: u64,
        hash: &[u8; 32],
        may_be_missing: bool,
        again: bool,
    ) -> io::Result<bool> {
        let read = self.read.len() as u64 / HASH_BYTES;
        if again || number < self.first || number >= self.first + read {
            let bytes = usize::try_from(READ_HASHES * HASH_BYTES).unwrap_or(usize::MAX);
            self.read = read_bytes(&*self.file, number * HASH_BYTES, bytes)?;
            self.first = number;
        }
        let at = usize::try_from((number - self.first) * HASH_BYTES).unwrap_or(usize::MAX);
        Ok(match self.read.get(at..at + hash.len()) {
            Some(kept) => kept == hash || may_be_missing && kept.iter().all(|byte| *byte == 0),
            // The file ends before it: it is made when a proof is asked for.
            None => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn only_hashes_behind_the_last_sync_but_one_may_be_zeros() {
        const TILES: u64 = (3 << 16) >> TILE_BITS;
        const SYNCED: u64 = (1 << 17) >> TILE_BITS;
        let right = |tile: u64| *blake3::hash(&tile.to_le_bytes()).as_bytes();
        for zeroed in [0, SYNCED / 2, SYNCED - 1, SYNCED, TILES - 1] {
            let storage = MemoryStorage::new();
            let hashes = |tile| if tile == zeroed { [0; 32] } else { right(tile) };
            storage.put_file(&name_of(1), (0..TILES).flat_map(hashes).collect());
            storage.put_file(&name_of(2), vec![0; (TILES >> TILE_BITS) as usize * 32]);
            let (mut tree, unreadable) = TreeCheck::open(&storage).unwrap();
            assert_eq!(unreadable, None);
            let last_leaf = |tile: u64| ((tile + 1) << TILE_BITS) - 1;
            let wrong = (0..TILES + 9)
                .filter_map(|tile| tree.compare(TILE_BITS, last_leaf(tile), &right(tile)));
            let expected = WrongHash {
                file: name_of(1),
                offset: zeroed * 32,
                kind: DamageKind::Index,
            };
            let expected = (zeroed < SYNCED).then_some(expected);
            assert!(wrong.eq(expected), "zeros at {zeroed}");
        }
    }
}
