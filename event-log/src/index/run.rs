//! One immutable index file: entries in checked blocks, found by fences.
//!
//! Invariant: entries are sorted; every block carries a checksum, so that a wrong byte is noticed
//! where it is read and never becomes a wrong answer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::bloom::Bloom;
use super::packed::Unpacker;
use crate::codec::{Fields, to_u32, to_usize};
use crate::files::Files;
use crate::id::LogId;
use crate::segment::{finish, has_checksum};
use crate::storage::{Storage, StorageFile, read_bytes};

/// Version of the layout of index files.
pub(super) const INDEX_VERSION: u32 = 2;
pub(super) const MAGIC: &[u8; 8] = b"STEMINDX";
pub(super) const HEADER_BYTES: usize = 128;
pub(super) const BLOCK_BYTES: usize = 4096;
/// Offsets of a block, each of four bytes.
pub(super) const BLOCK_OFFSETS: usize = (BLOCK_BYTES - 4) / 4;
/// Bytes of packed entries before and behind them: their number, and the checksum.
pub(super) const BLOCK_FRAME_BYTES: usize = 2 + 4;
const FENCE_BYTES: usize = 12;
/// Longest part behind the blocks that is believed: fences and filter of four billion entries.
const TAIL_BYTES_MAX: u64 = 8 << 30;

/// What an index file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RunKind {
    /// Position to offset, one more entry than there are records: the end of the last.
    Offsets,
    /// Stream hash and revision to position.
    Streams,
    /// Digest prefix to position.
    Digests,
    /// Idempotency key prefix to position.
    Keys,
}

impl RunKind {
    pub(crate) const ALL: [Self; 4] = [Self::Offsets, Self::Streams, Self::Digests, Self::Keys];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Offsets => 1,
            Self::Streams => 2,
            Self::Digests => 3,
            Self::Keys => 4,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Offsets => "offsets",
            Self::Streams => "streams",
            Self::Digests => "digests",
            Self::Keys => "keys",
        }
    }

    pub(super) fn has_revisions(self) -> bool {
        self == Self::Streams
    }

    /// Low bits of a key that are not kept: what is found is held against the record anyhow, and
    /// forty bits of a digest seldom let in another one.
    pub(super) fn left_out_bits(self) -> u32 {
        match self {
            Self::Digests | Self::Keys => 24,
            Self::Offsets | Self::Streams => 0,
        }
    }

    /// A key as it is kept and looked for.
    pub(super) fn kept(self, key: u64) -> u64 {
        key >> self.left_out_bits() << self.left_out_bits()
    }

    pub(super) fn has_bloom(self) -> bool {
        matches!(self, Self::Streams | Self::Keys)
    }
}

/// One entry; the kinds leave out what they do not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunEntry {
    pub(crate) key: u64,
    pub(crate) revision: u32,
    /// Place behind the run's first position; an offset in a run of offsets.
    pub(crate) at: u32,
}

/// What a run covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunHeader {
    pub(crate) kind: RunKind,
    pub(crate) log_id: LogId,
    /// Positions from here.
    pub(crate) first: u64,
    /// Up to, not including, here.
    pub(crate) end: u64,
    /// Digest of the last record covered: tells a run of another history of the same log.
    pub(crate) end_digest: [u8; 32],
    /// How often its entries were merged.
    pub(crate) level: u32,
    /// Different keys, for the size of the filter.
    pub(crate) n_keys: u64,
}

/// How much a run holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) n_entries: u64,
    pub(super) n_blocks: u64,
}

/// A run's file is wrong, or gone since it was merged into another.
#[derive(Debug)]
pub(crate) struct RunFault {
    pub(crate) run: Arc<Run>,
    pub(crate) source: Option<io::Error>,
}

/// An index file that was opened.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) header: RunHeader,
    pub(crate) name: String,
    size: Size,
    fences: Vec<(u64, u32)>,
    bloom: Option<Bloom>,
    /// Set for a run that has no file.
    pinned: Option<Pinned>,
}

struct Pinned(Arc<dyn StorageFile>);

impl std::fmt::Debug for Pinned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pinned")
    }
}

/// Where a block starts.
pub(crate) fn block_offset(index: usize) -> u64 {
    (HEADER_BYTES + index * BLOCK_BYTES) as u64
}

/// Where fences and filter start: behind the blocks.
fn tail_offset(size: Size) -> u64 {
    (HEADER_BYTES as u64).saturating_add(size.n_blocks.saturating_mul(BLOCK_BYTES as u64))
}

/// The name of a run's file.
pub(crate) fn run_name(kind: RunKind, first: u64, end: u64) -> String {
    format!("index/{}-{first:020}-{end:020}.run", kind.word())
}

/// What the name of a run's file says of it.
pub(crate) fn parse_run_name(name: &str) -> Option<(RunKind, u64, u64)> {
    let rest = name.strip_prefix("index/")?.strip_suffix(".run")?;
    let (word, range) = rest.split_once('-')?;
    let (first, end) = range.split_once('-')?;
    let kind = RunKind::ALL.into_iter().find(|kind| kind.word() == word)?;
    let (first, end) = (first.parse().ok()?, end.parse().ok()?);
    (run_name(kind, first, end) == name && first < end).then_some((kind, first, end))
}

impl Run {
    /// Opens a run and reads what it keeps in memory; none when it is not a whole run.
    pub(crate) fn open(
        file: &Arc<dyn StorageFile>,
        name: String,
        pin: bool,
    ) -> io::Result<Option<Self>> {
        let head = read_bytes(&**file, 0, HEADER_BYTES)?;
        let Some((header, size)) = decode_header(&head) else {
            return Ok(None);
        };
        let tail_at = tail_offset(size);
        let Some(tail_bytes) = file.bytes()?.checked_sub(tail_at) else {
            return Ok(None);
        };
        let fences_bytes = size.n_blocks * FENCE_BYTES as u64;
        if tail_bytes < fences_bytes + 4 || tail_bytes > TAIL_BYTES_MAX {
            return Ok(None);
        }
        let tail = read_bytes(&**file, tail_at, to_usize(tail_bytes))?;
        if !has_checksum(&tail) {
            return Ok(None);
        }
        let (fences, bloom) = tail[..tail.len() - 4].split_at(to_usize(fences_bytes));
        let mut fields = Fields::new(fences);
        let fence = |fields: &mut Fields<'_>| Some((fields.u64()?, fields.u32()?));
        let fences = std::iter::from_fn(|| fence(&mut fields)).collect();
        let bloom = Bloom::decode(bloom);
        if header.kind.has_bloom() != bloom.is_some() {
            return Ok(None);
        }
        let pinned = pin.then(|| Pinned(Arc::clone(file)));
        Ok(Some(Self {
            header,
            name,
            size,
            fences,
            bloom,
            pinned,
        }))
    }

    /// Where a file that is not a whole run is wrong: in its header, or in what stands behind the
    /// blocks.
    pub(crate) fn wrong_at(file: &dyn StorageFile) -> io::Result<u64> {
        let head = read_bytes(file, 0, HEADER_BYTES)?;
        let tail = decode_header(&head).map(|(_, size)| tail_offset(size));
        Ok(tail.unwrap_or(0))
    }

    /// Whether a file is an index of another version: thrown away when the log is opened.
    pub(crate) fn is_of_another_version(file: &dyn StorageFile) -> io::Result<bool> {
        let head = read_bytes(file, 0, HEADER_BYTES)?;
        let is_header = head.len() == HEADER_BYTES && has_checksum(&head);
        Ok(is_header && head.starts_with(MAGIC) && head[8..12] != INDEX_VERSION.to_le_bytes())
    }

    pub(crate) fn may_hold(&self, key: u64) -> bool {
        let key = self.header.kind.kept(key);
        self.bloom.as_ref().is_none_or(|bloom| bloom.may_hold(key))
    }

    /// The blocks that are wrong, and whether there are as many entries as the header says.
    pub(crate) fn wrong_blocks(self: &Arc<Self>, files: &Files) -> (Vec<usize>, bool) {
        let (mut wrong, mut count, mut last) = (Vec::new(), 0, None);
        for index in 0..self.n_blocks() {
            let block = self.block(files, index).ok();
            let found = block.and_then(|block| match block.kind {
                RunKind::Offsets => Some(block.count),
                _ => block.sorted_behind(last).map(|entries| {
                    last = entries.last().copied().or(last);
                    entries.len()
                }),
            });
            match found {
                Some(found) => count += found as u64,
                None => wrong.push(index),
            }
        }
        let is_whole = count == self.size.n_entries;
        (wrong, is_whole)
    }

    /// Reads one block and checks it.
    pub(crate) fn block(self: &Arc<Self>, files: &Files, index: usize) -> Result<Block, RunFault> {
        let fault = |source| RunFault {
            run: Arc::clone(self),
            source,
        };
        let file = match &self.pinned {
            Some(Pinned(file)) => Arc::clone(file),
            None => files.open(&self.name).map_err(|error| fault(Some(error)))?,
        };
        let bytes = read_bytes(&*file, block_offset(index), BLOCK_BYTES)
            .map_err(|error| fault(Some(error)))?;
        if bytes.len() != BLOCK_BYTES || !has_checksum(&bytes) {
            return Err(fault(None));
        }
        let kind = self.header.kind;
        let count = if kind == RunKind::Offsets {
            let before = index as u64 * BLOCK_OFFSETS as u64;
            to_usize((self.size.n_entries - before).min(BLOCK_OFFSETS as u64))
        } else {
            usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))
        };
        Ok(Block { bytes, kind, count })
    }

    pub(crate) fn n_blocks(&self) -> usize {
        to_usize(self.size.n_blocks)
    }

    /// Entries of one key between two revisions, both included.
    pub(crate) fn range(
        self: &Arc<Self>,
        files: &Files,
        key: u64,
        revisions: std::ops::RangeInclusive<u32>,
        found: &mut Vec<(u32, u64)>,
    ) -> Result<(), RunFault> {
        if !self.may_hold(key) {
            return Ok(());
        }
        let key = self.header.kind.kept(key);
        let from = (key, *revisions.start());
        let mut index = self
            .fences
            .partition_point(|fence| *fence < from)
            .saturating_sub(1);
        while index < self.fences.len() {
            for entry in self.block(files, index)?.entries() {
                if (entry.key, entry.revision) < from {
                    continue;
                }
                if entry.key != key || entry.revision > *revisions.end() {
                    return Ok(());
                }
                found.push((entry.revision, self.header.first + u64::from(entry.at)));
            }
            index += 1;
        }
        Ok(())
    }

    /// The highest revision of a key that is not above `bound`.
    pub(crate) fn last(
        self: &Arc<Self>,
        files: &Files,
        key: u64,
        bound: u32,
    ) -> Result<Option<u32>, RunFault> {
        if !self.may_hold(key) {
            return Ok(None);
        }
        let key = self.header.kind.kept(key);
        let behind = self.fences.partition_point(|fence| *fence <= (key, bound));
        let Some(index) = behind.checked_sub(1) else {
            return Ok(None);
        };
        let block = self.block(files, index)?;
        let last = block
            .entries()
            .take_while(|e| (e.key, e.revision) <= (key, bound))
            .last();
        Ok(last
            .filter(|entry| entry.key == key)
            .map(|entry| entry.revision))
    }

    /// Offsets of up to `count` records from `position`, and the end of the last.
    pub(crate) fn offsets(
        self: &Arc<Self>,
        files: &Files,
        position: u64,
        count: usize,
    ) -> Result<Vec<u32>, RunFault> {
        let from = to_usize(position - self.header.first);
        let last = from
            .saturating_add(count)
            .min(to_usize(self.size.n_entries) - 1);
        let mut offsets = Vec::with_capacity(last + 1 - from);
        let mut at = from;
        while at <= last {
            let block = self.block(files, at / BLOCK_OFFSETS)?;
            let within = at % BLOCK_OFFSETS;
            let to = block.count.min(within + last + 1 - at);
            offsets.extend(&block.offsets()[within..to]);
            at += to - within;
        }
        Ok(offsets)
    }
}

/// A block whose checksum fits.
pub(crate) struct Block {
    bytes: Bytes,
    kind: RunKind,
    count: usize,
}

impl Block {
    fn offsets(&self) -> Vec<u32> {
        let (offsets, _) = self.bytes.as_chunks::<4>();
        let offsets = offsets[..self.count].iter().copied();
        offsets.map(u32::from_le_bytes).collect()
    }

    /// The entries of a block that is not of offsets, if they are as many as it says, sorted, and
    /// none before `last`.
    pub(crate) fn sorted_behind(&self, last: Option<RunEntry>) -> Option<Vec<RunEntry>> {
        let entries: Vec<RunEntry> = self.entries().collect();
        let is_behind = entries.first().is_none_or(|first| last <= Some(*first));
        let is_right = is_behind && entries.len() == self.count && entries.is_sorted();
        is_right.then_some(entries)
    }

    /// The entries of a block of any kind but offsets.
    pub(crate) fn entries(&self) -> impl Iterator<Item = RunEntry> {
        let packed = &self.bytes[2..self.bytes.len() - 4];
        Unpacker::new(self.kind, packed, self.count)
    }
}

fn decode_header(bytes: &[u8]) -> Option<(RunHeader, Size)> {
    if bytes.len() != HEADER_BYTES || !has_checksum(bytes) {
        return None;
    }
    let mut fields = Fields::new(bytes);
    let magic = fields.array::<8>()?;
    let version = fields.u32()?;
    let number = fields.u32()?;
    let kind = RunKind::ALL
        .into_iter()
        .find(|kind| kind.number() == number)?;
    let log_id = LogId::from_bytes(fields.array()?);
    let (first, end) = (fields.u64()?, fields.u64()?);
    let (n_entries, n_blocks, n_keys) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let level = fields.u32()?;
    let end_digest = fields.array()?;
    let covers = end.checked_sub(first).is_some_and(|count| {
        (1..u64::from(u32::MAX)).contains(&count)
            && match kind {
                RunKind::Offsets => {
                    n_entries == count + 1 && n_blocks == n_entries.div_ceil(BLOCK_OFFSETS as u64)
                }
                RunKind::Streams | RunKind::Digests => n_entries == count,
                RunKind::Keys => n_entries <= count,
            }
            && n_blocks <= n_entries
            && (n_blocks == 0) == (n_entries == 0)
    });
    let size = Size {
        n_entries,
        n_blocks,
    };
    let known = &magic == MAGIC && version == INDEX_VERSION && covers;
    known.then_some((
        RunHeader {
            kind,
            log_id,
            first,
            end,
            end_digest,
            level,
            n_keys,
        },
        size,
    ))
}

/// Takes bytes as an index file whose checksums are right, and asks all that can be asked of it.
pub(crate) fn try_run(storage: &dyn Storage, files: &Files, bytes: &[u8]) {
    let checked = |part: &[u8], length: usize| {
        let mut part = part[..part.len().min(length - 4)].to_vec();
        part.resize(length - 4, 0);
        finish(part)
    };
    let (head, mut rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - 4));
    let mut whole = checked(head, HEADER_BYTES);
    let blocks = decode_header(&whole).map_or(0, |(_, size)| size.n_blocks.min(4));
    for _ in 0..blocks {
        let block;
        (block, rest) = rest.split_at(rest.len().min(BLOCK_BYTES - 4));
        whole.extend(checked(block, BLOCK_BYTES));
    }
    whole.extend(finish(rest.to_vec()));
    let name = run_name(RunKind::Streams, 0, 1);
    let file = storage.create(&name).expect("memory takes a file");
    file.write_at(&whole, 0).expect("memory takes bytes");
    let Some(run) = Run::open(&file, name, false).expect("memory is read") else {
        return;
    };
    let run = Arc::new(run);
    for index in 0..run.n_blocks() {
        let read = run.block(files, index).map(|block| match run.header.kind {
            RunKind::Offsets => block.offsets().len(),
            _ => block.entries().count(),
        });
        if read.is_err() {
            break;
        }
    }
    // Wrong answers are possible here, since all checksums were made to fit; panics are not.
    let fences: Vec<(u64, u32)> = run.fences.iter().copied().take(4).collect();
    for (key, revision) in fences {
        let _ = run.range(files, key, 0..=u32::MAX, &mut Vec::new());
        let _ = run.last(files, key, revision);
    }
    if run.header.kind == RunKind::Offsets {
        let _ = run.offsets(files, run.header.first, 8);
    }
}

/// A position in a segment or run as the run stores it.
pub(crate) fn relative(position: u64, first: u64) -> u32 {
    to_u32(to_usize(position - first))
}
