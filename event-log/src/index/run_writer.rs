//! Writing an index file.
//!
//! Invariant: the header is written last, so that half a run is never a run.

use std::io;

use super::bloom::Bloom;
use super::packed::Packer;
use super::run::{
    BLOCK_BYTES, BLOCK_FRAME_BYTES, BLOCK_OFFSETS, HEADER_BYTES, INDEX_VERSION, MAGIC, RunEntry,
    RunHeader, RunKind, Size,
};
use crate::segment::finish;
use crate::storage::StorageFile;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a run from entries that come sorted.
pub(crate) struct RunWriter<'a> {
    file: &'a dyn StorageFile,
    header: RunHeader,
    buffer: Vec<u8>,
    written: u64,
    block: BlockWriter,
    size: Size,
    fences: Vec<u8>,
    bloom: Option<Bloom>,
}

/// The block that is being filled.
#[derive(Default)]
struct BlockWriter {
    bytes: Vec<u8>,
    count: u16,
    packer: Packer,
    /// The next entry, packed, before it is known whether it fits.
    next: Vec<u8>,
}

impl<'a> RunWriter<'a> {
    pub(crate) fn new(file: &'a dyn StorageFile, header: RunHeader) -> Self {
        let bloom = header
            .kind
            .has_bloom()
            .then(|| Bloom::for_keys(header.n_keys));
        Self {
            file,
            header,
            buffer: Vec::with_capacity(BUFFER_BYTES + BLOCK_BYTES),
            written: HEADER_BYTES as u64,
            block: BlockWriter::default(),
            size: Size {
                n_entries: 0,
                n_blocks: 0,
            },
            fences: Vec::new(),
            bloom,
        }
    }

    /// Adds an entry, whose key is as it is kept.
    pub(crate) fn push(&mut self, entry: RunEntry) -> io::Result<()> {
        if !self.block.takes(self.header.kind, &entry) {
            self.end_block()?;
            let taken = self.block.takes(self.header.kind, &entry);
            assert!(taken, "an empty block has room for an entry");
        }
        if self.block.count == 1 {
            self.fences.extend_from_slice(&entry.key.to_le_bytes());
            self.fences.extend_from_slice(&entry.revision.to_le_bytes());
        }
        if let Some(bloom) = &mut self.bloom {
            bloom.insert(entry.key);
        }
        self.size.n_entries += 1;
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let start = self.buffer.len();
        if self.header.kind != RunKind::Offsets {
            self.buffer.extend_from_slice(&block.count.to_le_bytes());
        }
        self.buffer.extend_from_slice(&block.bytes);
        self.buffer.resize(start + BLOCK_BYTES - 4, 0);
        let checksum = crc32c::crc32c(&self.buffer[start..]);
        self.buffer.extend_from_slice(&checksum.to_le_bytes());
        self.size.n_blocks += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left; the header comes last, so that half a run is never a run.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.block.count > 0 {
            self.end_block()?;
        }
        self.flush()?;
        let mut tail = std::mem::take(&mut self.fences);
        if let Some(bloom) = &self.bloom {
            bloom.encode(&mut tail);
        }
        self.file.write_at(&finish(tail), self.written)?;
        self.file
            .write_at(&encode_header(&self.header, self.size), 0)
    }
}

impl BlockWriter {
    /// Takes an entry if there is room for it; else the block is to be ended.
    fn takes(&mut self, kind: RunKind, entry: &RunEntry) -> bool {
        if kind == RunKind::Offsets {
            if usize::from(self.count) == BLOCK_OFFSETS {
                return false;
            }
            self.bytes.extend_from_slice(&entry.at.to_le_bytes());
        } else {
            self.next.clear();
            self.packer.push(kind, entry, &mut self.next);
            if self.bytes.len() + self.next.len() > BLOCK_BYTES - BLOCK_FRAME_BYTES {
                return false;
            }
            self.bytes.append(&mut self.next);
        }
        self.count += 1;
        true
    }
}

fn encode_header(header: &RunHeader, size: Size) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&INDEX_VERSION.to_le_bytes());
    out.extend_from_slice(&header.kind.number().to_le_bytes());
    out.extend_from_slice(header.log_id.as_bytes());
    out.extend_from_slice(&header.first.to_le_bytes());
    out.extend_from_slice(&header.end.to_le_bytes());
    out.extend_from_slice(&size.n_entries.to_le_bytes());
    out.extend_from_slice(&size.n_blocks.to_le_bytes());
    out.extend_from_slice(&header.n_keys.to_le_bytes());
    out.extend_from_slice(&header.level.to_le_bytes());
    out.extend_from_slice(&header.end_digest);
    out.resize(HEADER_BYTES - 4, 0);
    finish(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop at what should not be")]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::files::Files;
    use crate::id::LogId;
    use crate::index::build::merge;
    use crate::index::run::{Run, run_name};
    use crate::index::runs::Place;
    use crate::storage::{MemoryStorage, Scratch};

    const LOG: [u8; 16] = *b"stemma test log!";

    fn files() -> Files {
        Files::new(Arc::new(MemoryStorage::new()), 8)
    }

    /// A run over these entries, sorted, of `count` positions from `first` on.
    fn run_of(kind: RunKind, first: u64, count: u64, entries: &[RunEntry]) -> Arc<Run> {
        let header = RunHeader {
            kind,
            log_id: LogId::from_bytes(LOG),
            first,
            end: first + count,
            end_digest: [7; 32],
            level: 0,
            n_keys: count,
        };
        let file = Scratch::default();
        let mut writer = RunWriter::new(&file, header);
        entries
            .iter()
            .try_for_each(|entry| writer.push(*entry))
            .unwrap();
        writer.finish().unwrap();
        let file: Arc<dyn StorageFile> = Arc::new(file);
        let name = run_name(kind, first, first + count);
        Arc::new(Run::open(&file, name, true).unwrap().unwrap())
    }

    /// Entries of `count` positions, of few streams and many, in no order of their own.
    fn entries(kind: RunKind, count: u32, keys: u64) -> Vec<RunEntry> {
        let mut entries: Vec<RunEntry> = (0..count)
            .map(|at| {
                let number = u64::from(at).wrapping_mul(0x9e37_79b9) % keys;
                let hash = *blake3::hash(&number.to_le_bytes()).as_bytes();
                RunEntry {
                    key: kind.kept(crate::codec::prefix_u64(&hash)),
                    revision: if kind.has_revisions() { at / 3 } else { 0 },
                    at,
                }
            })
            .collect();
        entries.sort_unstable();
        entries
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10))]

        #[test]
        fn every_entry_of_many_blocks_is_found_and_no_other(
            which in 0..3_usize, count in 1..6_000_u32, keys in prop_oneof![1..4_u64, 5..20_000_u64],
        ) {
            let kind = [RunKind::Streams, RunKind::Digests, RunKind::Keys][which];
            let parts = [0, 1, 2].map(|part| entries(kind, count + part, keys));
            let files = files();
            let (mut first, mut runs, mut all) = (0, Vec::new(), Vec::new());
            for part in &parts {
                runs.push(run_of(kind, first, part.len() as u64, part));
                let shift = u32::try_from(first).unwrap();
                all.extend(part.iter().map(|e| RunEntry { at: e.at + shift, ..*e }));
                first += part.len() as u64;
            }
            all.sort_unstable();
            let merged = Arc::new(merge(&files, Place::Memory, &runs).unwrap());
            for (run, entries) in runs.iter().zip(&parts).chain([(&merged, &all)]) {
                prop_assert_eq!(run.wrong_blocks(&files), (Vec::new(), true));
                for probe in entries.iter().step_by(97) {
                    let of_key = entries.iter().filter(|entry| entry.key == probe.key);
                    let within = |entry: &&RunEntry| {
                        (probe.revision..=probe.revision + 5).contains(&entry.revision)
                    };
                    let expected: Vec<(u32, u64)> = of_key
                        .clone()
                        .filter(within)
                        .map(|e| (e.revision, run.header.first + u64::from(e.at)))
                        .collect();
                    let mut found = Vec::new();
                    let revisions = probe.revision..=probe.revision + 5;
                    run.range(&files, probe.key, revisions, &mut found).unwrap();
                    prop_assert_eq!(found, expected);
                    let bound = probe.revision + 1;
                    let last = of_key.map(|e| e.revision).filter(|r| *r <= bound).max();
                    prop_assert_eq!(run.last(&files, probe.key, bound).unwrap(), last);
                }
                let mut found = Vec::new();
                run.range(&files, 1 << 40, 0..=u32::MAX, &mut found).unwrap();
                prop_assert!(found.is_empty());
            }
        }
    }

    #[test]
    fn offsets_are_found_across_blocks() {
        let count = 3 * crate::codec::to_u32(BLOCK_OFFSETS);
        let entries: Vec<RunEntry> = (0..=count)
            .map(|index| RunEntry {
                key: 0,
                revision: 0,
                at: 4096 + 700 * index,
            })
            .collect();
        let run = run_of(RunKind::Offsets, 10, u64::from(count), &entries);
        for (from, many) in [(0, 1), (1_000, 50), (0, 4_000), (3_068, 1), (2_000, 9_000)] {
            let expected = entries[from..].iter().take(many + 1).map(|entry| entry.at);
            let found = run.offsets(&files(), 10 + from as u64, many).unwrap();
            assert!(found.iter().copied().eq(expected), "{from} {many}");
        }
    }
}
