//! The tree's hashes on disk, so that a proof at any size takes a few reads.
//!
//! One file a level (`docs/format/proofs.md`), but for the leaves, which are made from the records
//! again. Derived: made from the log behind its writer, never in the path of a write. Invariant: no
//! proof is given that does not lead to the root of the log's head, which the log itself keeps;
//! hashes that do not are made anew, once.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::to_usize;
use crate::digest::{EventDigest, RootHash};
use crate::error::ReadError;
use crate::fetch::ReadLimit;
use crate::frame::Check;
use crate::id::Position;
use crate::merkle::{leaf, node};
use crate::proof::{self, TreeHash, is_consistent, is_included};
use crate::reader::Reader;
use crate::storage::{Access, Storage, StorageFile, read_bytes};

/// Leaves below one hash of the next level, as a power of two; and hashes of a tile.
pub(crate) const TILE_BITS: u32 = 8;
/// Hashes of a full tile.
pub const TILE_HASHES: u64 = 1 << TILE_BITS;
/// Levels of the largest tree.
pub(crate) const LEVELS: u32 = u64::BITS / TILE_BITS;
/// The lowest level, which has no file: a leaf is the hash of a record's digest.
pub(crate) const LEAVES: u32 = 0;
pub(crate) const HASH_BYTES: u64 = 32;
/// Leaves after which the files are synced; so many may be wrong after a crash.
const SYNC_LEAVES: u64 = 1 << 16;
/// How much of the log is taken up at a time.
const STEP: ReadLimit = ReadLimit {
    records: 16_384,
    bytes: 8 << 20,
};

/// Why there is no proof.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// No such proof can be, whatever the tree.
    #[error("{asked}, and the log has {end} events")]
    OutOfRange {
        /// What was asked.
        asked: String,
        /// Events of the log.
        end: u64,
    },
    /// A record cannot be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// The files of the tree cannot be read or written.
    #[error("files of the tree")]
    Io(#[source] Arc<io::Error>),
    /// The tree does not lead to the log's own root, though it was made anew.
    #[error("the records do not lead to the root that the log keeps; run a verification")]
    Damaged,
}

impl From<io::Error> for ProofError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// That an event is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Where it stands.
    pub position: u64,
    /// How many events the tree has that the proof leads to.
    pub size: u64,
    /// The event.
    pub digest: EventDigest,
    /// Its leaf in the tree.
    pub leaf_hash: TreeHash,
    /// From the leaf to the root, lowest first.
    pub path: Vec<TreeHash>,
    /// The root of the first `size` events.
    pub root: RootHash,
}

/// Gives proofs; cheap to clone.
#[derive(Clone)]
pub struct ProofTree {
    shared: Arc<Shared>,
}

struct Shared {
    reader: Reader,
    storage: Arc<dyn Storage>,
    /// None until it was opened, and again after a failure.
    levels: Mutex<Option<Levels>>,
}

impl std::fmt::Debug for ProofTree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ProofTree")
            .field("reader", &self.shared.reader)
            .finish_non_exhaustive()
    }
}

impl ProofTree {
    /// A tree over a log, its files in `storage`: the log's own, or another that is there for
    /// reading a log that is not to be written to. Nothing is done before it is asked.
    pub fn new(reader: Reader, storage: Arc<dyn Storage>) -> Self {
        Self {
            shared: Arc::new(Shared {
                reader,
                storage,
                levels: Mutex::default(),
            }),
        }
    }

    /// Takes up some of what the log has and the tree has not; says whether that was all.
    ///
    /// # Errors
    /// [`ProofError`]; it goes on where it was.
    pub fn advance(&self) -> Result<bool, ProofError> {
        let end = self.shared.reader.end().get();
        self.with_levels(|levels| {
            if levels.size < end {
                levels.step(end)?;
            }
            Ok(levels.size >= end)
        })
    }

    /// The root of the first `size` events.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn root_at(&self, size: u64) -> Result<RootHash, ProofError> {
        let (end, root) = self.shared.reader.root();
        if size == end {
            return Ok(root);
        }
        self.with_root(size, |_, root| Ok(*root))
    }

    /// That the event at `position` is among the first `size`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn inclusion(&self, position: u64, size: u64) -> Result<Inclusion, ProofError> {
        let end = self.shared.reader.end().get();
        if position >= size {
            let asked = format!("position {position} is not among the first {size} events");
            return Err(ProofError::OutOfRange { asked, end });
        }
        self.with_root(size, |levels, root| {
            let record = self.shared.reader.read_one(Position::new(position))?;
            let digest = record.ok_or(ProofError::Damaged)?.digest();
            let subtree = |level, index| levels.subtree(level, index);
            let path = proof::inclusion(&subtree, position, size)?;
            if !is_included(&digest, position, size, &path, root) {
                return Err(ProofError::Damaged);
            }
            Ok(Inclusion {
                position,
                size,
                digest,
                leaf_hash: leaf(digest.as_bytes()),
                path,
                root: *root,
            })
        })
    }

    /// That the first `to` events go on from the first `from`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<TreeHash>, ProofError> {
        let end = self.shared.reader.end().get();
        if from == 0 || from > to {
            let asked = format!("no {to} events go on from the first {from}");
            return Err(ProofError::OutOfRange { asked, end });
        }
        self.with_root(to, |levels, root| {
            let subtree = |level, index| levels.subtree(level, index);
            let path = proof::consistency(&subtree, from, to)?;
            let before = RootHash::from_bytes(proof::hash_of(&subtree, 0..from)?);
            if !is_consistent((from, &before), (to, root), &path) {
                return Err(ProofError::Damaged);
            }
            Ok(path)
        })
    }

    /// The first `width` hashes of a tile, one after the other.
    ///
    /// # Errors
    /// [`ProofError`], also while the log has not so many.
    pub fn tile(&self, level: u32, index: u64, width: u64) -> Result<Vec<u8>, ProofError> {
        let end = self.shared.reader.end().get();
        let first = index.checked_mul(TILE_HASHES);
        let below = first.and_then(|first| first.checked_add(width));
        let held = end
            .checked_shr(level.saturating_mul(TILE_BITS))
            .unwrap_or(0);
        let is_width = (1..=TILE_HASHES).contains(&width);
        if !is_width || below.is_none_or(|below| below > held) {
            let asked = format!("there are not {width} hashes of tile {index} at level {level}");
            return Err(ProofError::OutOfRange { asked, end });
        }
        self.with_root(end, |levels, _| {
            let hashes = levels.tile(level, index)?;
            let hashes = hashes.get(..to_usize(width));
            hashes.map(<[_]>::concat).ok_or(ProofError::Damaged)
        })
    }

    /// Works with a tree that holds the log, and the root of its first `size` events. Where they do
    /// not lead to the log's own root, the tree is made anew; where that does not help it is the
    /// records that are wrong, and it is not tried again.
    fn with_root<T>(
        &self,
        size: u64,
        work: impl Fn(&Levels, &RootHash) -> Result<T, ProofError>,
    ) -> Result<T, ProofError> {
        let (end, head) = self.shared.reader.root();
        if size > end || size == 0 {
            let asked = format!("a tree of {size} events was asked for");
            return Err(ProofError::OutOfRange { asked, end });
        }
        let attempt = |levels: &mut Levels| {
            while levels.size < end {
                levels.step(end)?;
            }
            let root = levels.checked_root(size, end, &head)?;
            work(levels, &root)
        };
        match self.with_levels(attempt) {
            Err(ProofError::Damaged) => self.with_levels(|levels| {
                if levels.is_made_anew {
                    return Err(ProofError::Damaged);
                }
                tracing::warn!("hashes of the tree are wrong; they are made anew");
                levels.forget();
                let done = attempt(levels);
                levels.is_made_anew = matches!(done, Err(ProofError::Damaged));
                done
            }),
            done => done,
        }
    }

    fn with_levels<T>(
        &self,
        work: impl FnOnce(&mut Levels) -> Result<T, ProofError>,
    ) -> Result<T, ProofError> {
        let shared = &*self.shared;
        let mut levels = shared.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match levels.take() {
            Some(opened) => opened,
            None => Levels::open(&shared.storage, &shared.reader)?,
        };
        let opened = levels.insert(opened);
        let done = work(opened);
        if matches!(done, Err(ProofError::Io(_))) {
            // What was written of it shows when it is opened again.
            *levels = None;
        }
        done
    }
}

/// The files, and how far they are written.
struct Levels {
    storage: Arc<dyn Storage>,
    reader: Reader,
    /// Leaves.
    size: u64,
    /// Those of the levels from 1 on.
    files: Vec<Arc<dyn StorageFile>>,
    /// Of each level, the hashes behind its last full tile.
    edges: Vec<Vec<TreeHash>>,
    /// The whole tile of leaves that was wanted last, by its number.
    last_leaves: RefCell<Option<(u64, Vec<TreeHash>)>>,
    /// Whether hashes that are all of the records do not lead to the root.
    is_made_anew: bool,
}

impl Levels {
    fn open(storage: &Arc<dyn Storage>, reader: &Reader) -> Result<Self, ProofError> {
        let mut levels = Self {
            storage: Arc::clone(storage),
            reader: reader.clone(),
            size: 0,
            files: Vec::new(),
            edges: Vec::new(),
            last_leaves: RefCell::default(),
            is_made_anew: false,
        };
        // Versions before kept it; nothing reads it.
        if let Err(error) = storage.remove(&name_of(LEAVES))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = name_of(LEAVES), %error, "unused file stays");
        }
        let mut hashes = Vec::new();
        for level in LEAVES + 1..LEVELS {
            let file = match storage.open(&name_of(level), Access::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                file => file?,
            };
            hashes.push(file.bytes()? / HASH_BYTES);
            levels.files.push(file);
        }
        levels.size = synced_leaves(leaves_held(&hashes).min(reader.end().get()));
        for level in (LEAVES..LEVELS).take(1 + levels.files.len()) {
            let count = levels.size >> (TILE_BITS * level);
            let first = count & !(TILE_HASHES - 1);
            let edge = levels.read(level, first, count - first)?;
            levels.edges.push(edge);
        }
        Ok(levels)
    }

    /// Begins anew.
    fn forget(&mut self) {
        self.size = 0;
        self.edges.clear();
        self.last_leaves.take();
    }

    /// Takes up the next records below `end`.
    fn step(&mut self, end: u64) -> Result<(), ProofError> {
        let left = usize::try_from(end - self.size).unwrap_or(usize::MAX);
        let limit = ReadLimit {
            records: STEP.records.min(left),
            ..STEP
        };
        let records = self.reader.read(Position::new(self.size), limit)?;
        let mut written: Vec<Vec<u8>> = Vec::new();
        let before = self.size;
        for record in &records {
            self.push(leaf(record.digest().as_bytes()), &mut written);
        }
        for (level, bytes) in (LEAVES + 1..).zip(&written) {
            let offset = (before >> (TILE_BITS * level)) * HASH_BYTES;
            self.file(level)?.write_at(bytes, offset)?;
        }
        if before / SYNC_LEAVES < self.size / SYNC_LEAVES {
            self.files.iter().try_for_each(|file| file.sync_data())?;
        }
        Ok(())
    }

    /// Adds a leaf; what the files of the levels above the leaves get is added to `written`.
    fn push(&mut self, leaf: TreeHash, written: &mut Vec<Vec<u8>>) {
        let mut hash = leaf;
        for level in 0.. {
            if self.edges.len() == level {
                self.edges.push(Vec::new());
            }
            if let Some(above) = level.checked_sub(1) {
                if written.len() == above {
                    written.push(Vec::new());
                }
                written[above].extend_from_slice(&hash);
            }
            let edge = &mut self.edges[level];
            edge.push(hash);
            if (edge.len() as u64) < TILE_HASHES {
                break;
            }
            hash = fold(edge);
            edge.clear();
        }
        self.size += 1;
    }

    fn file(&mut self, level: u32) -> io::Result<&Arc<dyn StorageFile>> {
        let index = (level - LEAVES - 1) as usize;
        for level in (LEAVES + 1..=level).skip(self.files.len()) {
            self.files.push(self.storage.create(&name_of(level))?);
        }
        Ok(&self.files[index])
    }

    /// The root of the first `size` leaves, if it leads to the head's.
    fn checked_root(&self, size: u64, end: u64, head: &RootHash) -> Result<RootHash, ProofError> {
        let subtree = |level, index| self.subtree(level, index);
        let root = RootHash::from_bytes(proof::hash_of(&subtree, 0..size)?);
        let path = proof::consistency(&subtree, size, end)?;
        if is_consistent((size, &root), (end, head), &path) {
            Ok(root)
        } else {
            Err(ProofError::Damaged)
        }
    }

    /// The hash of a complete subtree.
    fn subtree(&self, level: u32, index: u64) -> Result<TreeHash, ProofError> {
        let (tiles, above) = (level / TILE_BITS, level % TILE_BITS);
        Ok(fold(&self.read(tiles, index << above, 1 << above)?))
    }

    /// The hashes of a tile, as many as there are. Those of a whole one lead to their hash on the
    /// level above, and so on up to a tile that is not whole, all of whose hashes lead to the root.
    fn tile(&self, level: u32, index: u64) -> Result<Vec<TreeHash>, ProofError> {
        let held = self.size >> (TILE_BITS * level);
        let first = index << TILE_BITS;
        let hashes = self.read(level, first, TILE_HASHES.min(held - first))?;
        if hashes.len() as u64 == TILE_HASHES && level + 1 < LEVELS {
            let above = self.tile(level + 1, index >> TILE_BITS)?;
            if above[to_usize(index % TILE_HASHES)] != fold(&hashes) {
                return Err(ProofError::Damaged);
            }
        }
        Ok(hashes)
    }

    /// Hashes of one tile.
    fn read(&self, level: u32, first: u64, count: u64) -> Result<Vec<TreeHash>, ProofError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let Some(index) = level.checked_sub(LEAVES + 1) else {
            return self.leaves(first, to_usize(count));
        };
        let file = self.files.get(index as usize).ok_or(ProofError::Damaged)?;
        let bytes = to_usize(count * HASH_BYTES);
        let read = read_bytes(&**file, first * HASH_BYTES, bytes)?;
        if read.len() < bytes {
            return Err(ProofError::Damaged);
        }
        Ok(split(&read))
    }

    /// Leaves of one tile.
    fn leaves(&self, first: u64, count: usize) -> Result<Vec<TreeHash>, ProofError> {
        let (tile, from) = (first / TILE_HASHES, to_usize(first % TILE_HASHES));
        let part = |leaves: &[TreeHash]| {
            let part = leaves.get(from..from + count);
            part.map(<[_]>::to_vec).ok_or(ProofError::Damaged)
        };
        if tile == self.size / TILE_HASHES {
            return part(self.edges.first().map_or(&[], Vec::as_slice));
        }
        let mut last = self.last_leaves.borrow_mut();
        let (_, leaves) = match last.take().filter(|(number, _)| *number == tile) {
            Some(kept) => last.insert(kept),
            None => last.insert((tile, self.whole_tile_of_leaves(tile)?)),
        };
        part(leaves)
    }

    /// The leaves of a whole tile, which lead to their hash on the level above; else the record
    /// that was changed is told, or that the hash was.
    fn whole_tile_of_leaves(&self, tile: u64) -> Result<Vec<TreeHash>, ProofError> {
        let above = self.read(LEAVES + 1, tile, 1)?;
        let lead_up =
            |leaves: &Vec<TreeHash>| leaves.len() as u64 == TILE_HASHES && fold(leaves) == above[0];
        let first = tile * TILE_HASHES;
        let digests = self.reader.digests(Position::new(first), TILE_HASHES)?;
        let leaves = digests.iter().map(|digest| leaf(digest.as_bytes()));
        let leaves = Some(leaves.collect()).filter(lead_up);
        if let Some(leaves) = leaves {
            return Ok(leaves);
        }
        let leaves = Some(self.leaves_of_records(first)?).filter(lead_up);
        leaves.ok_or(ProofError::Damaged)
    }

    /// The leaves of a whole tile, from records that are held against their digests, and each
    /// against the digest that the one behind it names.
    fn leaves_of_records(&self, first: u64) -> Result<Vec<TreeHash>, ProofError> {
        let (mut leaves, mut before) = (Vec::new(), None);
        // One before and one behind, which vouch for the tile's ends.
        let (mut at, to) = (first.saturating_sub(1), first + TILE_HASHES + 1);
        while at < to {
            let limit = ReadLimit {
                records: to_usize(to - at),
                ..STEP
            };
            let records = self
                .reader
                .read_checked(Position::new(at), limit, Check::Digest)?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                if before.is_some_and(|before| record.previous() != before) {
                    return Err(self.reader.broken_link(Position::new(at - 1))?.into());
                }
                before = Some(record.digest());
                if (first..first + TILE_HASHES).contains(&at) {
                    leaves.push(leaf(record.digest().as_bytes()));
                }
                at += 1;
            }
        }
        Ok(leaves)
    }
}

/// Leaves that the levels all hold, by the number of hashes in each file, the first that of level
/// 1; none when a level is missing.
pub(crate) fn leaves_held(hashes: &[u64]) -> u64 {
    let mut levels = LEAVES + 1..LEVELS;
    let below = |(level, hashes): (u32, &u64)| {
        // So many leaves at most are below a level with so many hashes.
        (hashes + 1).saturating_mul(1 << (TILE_BITS * level)) - 1
    };
    let held = levels.clone().zip(hashes).map(below).min().unwrap_or(0);
    let next = levels.nth(hashes.len()).unwrap_or(LEVELS) * TILE_BITS;
    let is_level_missing = next < u64::BITS && held >> next > 0;
    if is_level_missing { 0 } else { held }
}

/// Leaves of so many whose hashes are on disk: what was written since the last sync but one may
/// not be.
pub(crate) fn synced_leaves(leaves: u64) -> u64 {
    (leaves / SYNC_LEAVES).saturating_sub(1) * SYNC_LEAVES
}

pub(crate) fn name_of(level: u32) -> String {
    format!("index/tree-{level}.hashes")
}

fn split(bytes: &[u8]) -> Vec<TreeHash> {
    let (hashes, _) = bytes.as_chunks::<32>();
    hashes.to_vec()
}

/// The hash over hashes whose number is a power of two.
fn fold(hashes: &[TreeHash]) -> TreeHash {
    let mut hashes = hashes.to_vec();
    while hashes.len() > 1 {
        let (pairs, _) = hashes.as_chunks::<2>();
        hashes = pairs
            .iter()
            .map(|[left, right]| node(left, right))
            .collect();
    }
    hashes[0]
}
