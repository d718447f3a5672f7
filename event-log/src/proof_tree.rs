//! The tree's hashes on disk, so that a proof at any size takes a few reads.
//!
//! One file a level (`docs/format/proofs.md`). Derived: made from the log behind its writer, never
//! in the path of a write. Invariant: no proof is given that does not lead to the root of the log's
//! head, which the log itself keeps; hashes that do not are made anew.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::{EventDigest, RootHash};
use crate::error::ReadError;
use crate::fetch::ReadLimit;
use crate::id::Position;
use crate::merkle::{leaf, node};
use crate::proof::{self, TreeHash, is_consistent, is_included};
use crate::reader::Reader;
use crate::storage::{Access, Storage, StorageFile};

/// Leaves below one hash of the next level, as a power of two; and hashes of a tile.
pub(crate) const TILE_BITS: u32 = 8;
/// Hashes of a full tile.
pub const TILE_HASHES: u64 = 1 << TILE_BITS;
/// Levels of the largest tree.
pub(crate) const LEVELS: u32 = u64::BITS / TILE_BITS;
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
                levels.step(&self.shared.reader, end)?;
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
        match (first, below) {
            (Some(first), Some(below)) if (1..=TILE_HASHES).contains(&width) && below <= held => {
                self.with_root(end, |levels, _| levels.read(level, first, width))
            }
            _ => {
                let asked =
                    format!("there are not {width} hashes of tile {index} at level {level}");
                Err(ProofError::OutOfRange { asked, end })
            }
        }
    }

    /// Works with a tree that holds the log, and the root of its first `size` events. Where they do
    /// not lead to the log's own root, the tree is made anew, once.
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
                levels.step(&self.shared.reader, end)?;
            }
            let root = levels.checked_root(size, end, &head)?;
            work(levels, &root)
        };
        match self.with_levels(attempt) {
            Err(ProofError::Damaged) => {
                tracing::warn!("hashes of the tree are wrong; they are made anew");
                self.with_levels(|levels| {
                    levels.size = 0;
                    levels.edges.clear();
                    attempt(levels)
                })
            }
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
            None => Levels::open(&shared.storage, shared.reader.end().get())?,
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
    /// Leaves.
    size: u64,
    files: Vec<Arc<dyn StorageFile>>,
    /// Of each level, the hashes behind its last full tile.
    edges: Vec<Vec<TreeHash>>,
}

impl Levels {
    fn open(storage: &Arc<dyn Storage>, end: u64) -> Result<Self, ProofError> {
        let mut levels = Self {
            storage: Arc::clone(storage),
            size: 0,
            files: Vec::new(),
            edges: Vec::new(),
        };
        let mut hashes = Vec::new();
        for level in 0..LEVELS {
            let file = match storage.open(&name_of(level), Access::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                file => file?,
            };
            hashes.push(file.bytes()? / HASH_BYTES);
            levels.files.push(file);
        }
        if levels.files.is_empty() {
            return Ok(levels);
        }
        levels.size = synced_leaves(leaves_held(&hashes).min(end));
        for level in 0..levels.files.len() {
            let level = u32::try_from(level).unwrap_or(LEVELS);
            let count = levels.size >> (TILE_BITS * level);
            let first = count & !(TILE_HASHES - 1);
            let bytes = levels.read(level, first, count - first)?;
            levels.edges.push(split(&bytes));
        }
        Ok(levels)
    }

    /// Takes up the next records below `end`.
    fn step(&mut self, reader: &Reader, end: u64) -> Result<(), ProofError> {
        let left = usize::try_from(end - self.size).unwrap_or(usize::MAX);
        let limit = ReadLimit {
            records: STEP.records.min(left),
            ..STEP
        };
        let records = reader.read(Position::new(self.size), limit)?;
        let mut written: Vec<Vec<u8>> = Vec::new();
        let before = self.size;
        for record in &records {
            self.push(leaf(record.digest().as_bytes()), &mut written);
        }
        for (level, bytes) in written.iter().enumerate() {
            let offset = (before >> (TILE_BITS as usize * level)) * HASH_BYTES;
            self.file(level)?.write_at(bytes, offset)?;
        }
        if before / SYNC_LEAVES < self.size / SYNC_LEAVES {
            self.files.iter().try_for_each(|file| file.sync_data())?;
        }
        Ok(())
    }

    fn push(&mut self, leaf: TreeHash, written: &mut Vec<Vec<u8>>) {
        let mut hash = leaf;
        for level in 0.. {
            if written.len() == level {
                written.push(Vec::new());
            }
            if self.edges.len() == level {
                self.edges.push(Vec::new());
            }
            written[level].extend_from_slice(&hash);
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

    fn file(&mut self, level: usize) -> io::Result<&Arc<dyn StorageFile>> {
        while self.files.len() <= level {
            let level = u32::try_from(self.files.len()).unwrap_or(LEVELS);
            self.files.push(self.storage.create(&name_of(level))?);
        }
        Ok(&self.files[level])
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
        let bytes = self.read(tiles, index << above, 1 << above)?;
        Ok(fold(&split(&bytes)))
    }

    fn read(&self, level: u32, first: u64, count: u64) -> Result<Vec<u8>, ProofError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let file = self.files.get(level as usize).ok_or(ProofError::Damaged)?;
        let bytes = usize::try_from(count * HASH_BYTES).map_err(|_| ProofError::Damaged)?;
        let mut into = vec![0; bytes];
        let mut taken = 0;
        while taken < bytes {
            let read = file.read_at(&mut into[taken..], first * HASH_BYTES + taken as u64)?;
            if read == 0 {
                return Err(ProofError::Damaged);
            }
            taken += read;
        }
        Ok(into)
    }
}

/// Leaves that the levels all hold, by the number of hashes in each file; none when a level is
/// missing.
pub(crate) fn leaves_held(hashes: &[u64]) -> u64 {
    let below = |(level, hashes): (u32, &u64)| {
        // So many leaves at most are below a level with so many hashes.
        (hashes + 1).saturating_mul(1 << (TILE_BITS * level)) - 1
    };
    let held = (0..LEVELS).zip(hashes).map(below).min().unwrap_or(0);
    let next = TILE_BITS * u32::try_from(hashes.len()).unwrap_or(LEVELS);
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
