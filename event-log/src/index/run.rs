//! A run: the entries of a span of positions, sorted, in one file that never changes.
//!
//! Layout (`docs/format/event-log.md`, *Index*): header, for each kind its entries of 20 bytes,
//! then for each kind fences (every 128th hash) and a Bloom filter, then a checksum over all of it,
//! which is checked when the run is opened.

use std::io;
use std::sync::Arc;

use super::{Entry, KINDS, Kind};
use crate::storage::{Storage, StorageFile};

/// What a run's name ends with.
pub(crate) const RUN_SUFFIX: &str = ".run";
const MAGIC: &[u8; 8] = b"STEMRUN1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 20;
/// Entries between two fences.
const FENCE_ENTRIES: usize = 128;
/// Bits of the Bloom filter for each entry, and probes: one false hit in a hundred.
const BLOOM_BITS: usize = 10;
const BLOOM_PROBES: u64 = 7;
/// Bytes written or read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// An open run.
pub(crate) struct Run {
    first: u64,
    end: u64,
    bytes: u64,
    file: Arc<dyn StorageFile>,
    sections: [Section; 3],
}

/// The entries of one kind.
#[derive(Default)]
struct Section {
    offset: u64,
    count: usize,
    fences: Vec<u64>,
    bloom: Bloom,
}

#[derive(Default)]
struct Bloom {
    words: Vec<u64>,
}

impl Bloom {
    fn sized_for(count: usize) -> Self {
        Self { words: vec![0; (count * BLOOM_BITS).div_ceil(64).max(1)] }
    }

    fn bits(&self, hash: u64) -> impl Iterator<Item = usize> {
        let bits = self.words.len() as u64 * 64;
        let step = (hash >> 32) | 1;
        (0..BLOOM_PROBES).map(move |probe| {
            let bit = hash.wrapping_add(probe.wrapping_mul(step).wrapping_mul(0x9e37_79b9_7f4a_7c15)) % bits;
            usize::try_from(bit).expect("fewer bits than bytes of memory")
        })
    }

    fn add(&mut self, hash: u64) {
        let bits: Vec<usize> = self.bits(hash).collect();
        bits.into_iter().for_each(|bit| self.words[bit / 64] |= 1 << (bit % 64));
    }

    fn may_have(&self, hash: u64) -> bool {
        self.bits(hash).all(|bit| self.words[bit / 64] & (1 << (bit % 64)) != 0)
    }
}

fn encode(entry: &Entry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&entry.hash.to_le_bytes());
    bytes[8..16].copy_from_slice(&entry.position.to_le_bytes());
    bytes[16..].copy_from_slice(&entry.revision.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Entry {
    Entry {
        hash: u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")),
        position: u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")),
        revision: u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")),
    }
}

fn name(first: u64, end: u64) -> String {
    format!("index/{first:020}-{end:020}{RUN_SUFFIX}")
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Run {
    pub(crate) fn name(&self) -> String {
        name(self.first, self.end)
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens a run and checks all of it.
    ///
    /// # Errors
    /// `InvalidData` when it is not what was written.
    pub(crate) fn open(storage: &dyn Storage, file_name: &str) -> io::Result<Self> {
        let file = storage.open(file_name)?;
        let bytes = file.len()?;
        let length = usize::try_from(bytes).map_err(|_| malformed("too long"))?;
        if length < HEADER_BYTES + 4 {
            return Err(malformed("too short"));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(&mut header, 0)?;
        if &header[..8] != MAGIC {
            return Err(malformed("not a run"));
        }
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (first, end) = (number(8), number(16));
        let mut offset = HEADER_BYTES as u64;
        let mut sections: [Section; 3] = Default::default();
        for (index, section) in sections.iter_mut().enumerate() {
            section.offset = offset;
            section.count = usize::try_from(number(24 + 8 * index)).map_err(|_| malformed("too long"))?;
            offset += (section.count * ENTRY_BYTES) as u64;
        }
        if offset > bytes || name(first, end) != file_name {
            return Err(malformed("does not fit its name or its length"));
        }
        checked_whole(file.as_ref(), length)?;
        for section in &mut sections {
            section.fences = read_words(file.as_ref(), &mut offset, section.count.div_ceil(FENCE_ENTRIES))?;
            let bloom = Bloom::sized_for(section.count).words.len();
            section.bloom.words = read_words(file.as_ref(), &mut offset, bloom)?;
        }
        Ok(Self { first, end, bytes, file, sections })
    }

    /// Adds the entries with this hash, oldest first.
    pub(crate) fn find(&self, kind: Kind, hash: u64, found: &mut Vec<Entry>) -> io::Result<()> {
        let section = &self.sections[kind as usize];
        if section.count == 0 || !section.bloom.may_have(hash) {
            return Ok(());
        }
        // The block before the first fence at or above the hash may end in entries with it.
        let mut block = section.fences.partition_point(|fence| *fence < hash).saturating_sub(1);
        while section.fences.get(block).is_some_and(|fence| *fence <= hash) {
            for entry in self.block(section, block)? {
                if entry.hash == hash {
                    found.push(entry);
                }
            }
            block += 1;
        }
        Ok(())
    }

    fn block(&self, section: &Section, block: usize) -> io::Result<Vec<Entry>> {
        let start = block * FENCE_ENTRIES;
        let count = FENCE_ENTRIES.min(section.count - start);
        let mut bytes = vec![0; count * ENTRY_BYTES];
        self.file.read_at(&mut bytes, section.offset + (start * ENTRY_BYTES) as u64)?;
        Ok(bytes.chunks_exact(ENTRY_BYTES).map(decode).collect())
    }

    /// All entries of a kind, block by block.
    fn entries(&self, kind: Kind) -> impl Iterator<Item = io::Result<Entry>> + '_ {
        let section = &self.sections[kind as usize];
        let blocks = 0..section.count.div_ceil(FENCE_ENTRIES);
        blocks.flat_map(move |block| match self.block(section, block) {
            Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn checked_whole(file: &dyn StorageFile, length: usize) -> io::Result<()> {
    let (mut checksum, mut at) = (0, 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    while at < length - 4 {
        let count = CHUNK_BYTES.min(length - 4 - at);
        file.read_at(&mut chunk[..count], at as u64)?;
        checksum = crc32c::crc32c_append(checksum, &chunk[..count]);
        at += count;
    }
    let mut stored = [0; 4];
    file.read_at(&mut stored, at as u64)?;
    if u32::from_le_bytes(stored) == checksum { Ok(()) } else { Err(malformed("checksum")) }
}

fn read_words(file: &dyn StorageFile, offset: &mut u64, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    file.read_at(&mut bytes, *offset)?;
    *offset += bytes.len() as u64;
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    Ok(bytes.chunks_exact(8).map(word).collect())
}

/// Writes a run of entries that are sorted.
pub(crate) fn write(storage: &dyn Storage, first: u64, end: u64, entries: &[Vec<Entry>; 3]) -> io::Result<Run> {
    let counts = [entries[0].len(), entries[1].len(), entries[2].len()];
    let sorted = |kind: Kind| entries[kind as usize].iter().copied().map(Ok);
    write_from(storage, first, end, counts, sorted)
}

/// Merges runs that follow one another.
pub(crate) fn merge(storage: &dyn Storage, runs: &[Arc<Run>]) -> io::Result<Run> {
    let counts = [0, 1, 2].map(|kind| runs.iter().map(|run| run.sections[kind].count).sum());
    let (first, end) = (runs[0].first, runs[runs.len() - 1].end);
    write_from(storage, first, end, counts, |kind| Merged {
        heads: runs.iter().map(|run| run.entries(kind).peekable()).collect(),
    })
}

/// Sorted entries of several runs in one order.
struct Merged<I: Iterator<Item = io::Result<Entry>>> {
    heads: Vec<std::iter::Peekable<I>>,
}

impl<I: Iterator<Item = io::Result<Entry>>> Iterator for Merged<I> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut least: Option<(usize, Entry)> = None;
        for (index, head) in self.heads.iter_mut().enumerate() {
            match head.peek() {
                Some(Ok(entry)) if least.is_none_or(|(_, least)| *entry < least) => {
                    least = Some((index, *entry));
                }
                Some(Err(_)) => return head.next(),
                _ => {}
            }
        }
        self.heads[least?.0].next()
    }
}

fn write_from<I: Iterator<Item = io::Result<Entry>>>(
    storage: &dyn Storage,
    first: u64,
    end: u64,
    counts: [usize; 3],
    entries: impl Fn(Kind) -> I,
) -> io::Result<Run> {
    let (final_name, unfinished) = (name(first, end), format!("{}.tmp", name(first, end)));
    if storage.list()?.contains(&unfinished) {
        storage.remove(&unfinished)?;
    }
    let mut out = Output { file: storage.create(&unfinished)?, buffer: Vec::new(), at: 0, checksum: 0 };
    out.buffer.extend_from_slice(MAGIC);
    let numbers = [first, end].into_iter().chain(counts.map(|count| count as u64));
    numbers.for_each(|number| out.buffer.extend_from_slice(&number.to_le_bytes()));
    let mut behind = Vec::new();
    for kind in KINDS {
        let mut bloom = Bloom::sized_for(counts[kind as usize]);
        for (index, entry) in entries(kind).enumerate() {
            let entry = entry?;
            if index % FENCE_ENTRIES == 0 {
                behind.extend_from_slice(&entry.hash.to_le_bytes());
            }
            bloom.add(entry.hash);
            out.push(&encode(&entry))?;
        }
        bloom.words.iter().for_each(|word| behind.extend_from_slice(&word.to_le_bytes()));
    }
    out.push(&behind)?;
    out.finish()?;
    storage.rename(&unfinished, &final_name)?;
    Run::open(storage, &final_name)
}

struct Output {
    file: Arc<dyn StorageFile>,
    buffer: Vec<u8>,
    at: u64,
    checksum: u32,
}

impl Output {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.file.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Not synced: a run that a crash tears is found out by its checksum and made again.
    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.file.write_at(&self.checksum.to_le_bytes(), self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_written_and_merged_find_just_what_was_put_in(
            parts in prop::collection::vec(prop::collection::vec((0u64..50, any::<u32>()), 0..400), 1..5),
        ) {
            let storage = MemoryStorage::default();
            let (mut runs, mut all, mut first) = (Vec::new(), Vec::new(), 0);
            for part in &parts {
                let mut entries: Vec<Entry> = part.iter().enumerate().map(|(index, (hash, revision))| {
                    Entry { hash: hash << 58 | hash, position: first + index as u64, revision: *revision }
                }).collect();
                entries.sort_unstable();
                let end = first + part.len() as u64;
                let run = write(&storage, first, end, &[entries.clone(), vec![], entries.clone()]).unwrap();
                runs.push(Arc::new(run));
                all.extend(entries);
                first = end;
            }
            let merged = merge(&storage, &runs).unwrap();
            for hash in 0..51u64 {
                let hash = hash << 58 | hash;
                let mut expected: Vec<Entry> = all.iter().filter(|e| e.hash == hash).copied().collect();
                expected.sort_unstable();
                let mut found = Vec::new();
                merged.find(Kind::Stream, hash, &mut found).unwrap();
                prop_assert_eq!(&found, &expected);
                merged.find(Kind::Digest, hash, &mut found).unwrap();
                prop_assert_eq!(found.len(), expected.len());
            }
        }
    }

    #[test]
    fn a_run_with_a_flipped_byte_does_not_open() {
        let storage = MemoryStorage::default();
        let entries = vec![Entry { hash: 1, position: 0, revision: 0 }];
        let run = write(&storage, 0, 1, &[entries, vec![], vec![]]).unwrap();
        let whole = storage.read(&run.name()).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            storage.put(&run.name(), bytes);
            assert!(Run::open(&storage, &run.name()).is_err(), "byte {at}");
        }
    }
}
