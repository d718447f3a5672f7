//! The file of a large blob: its bytes, and reading them checked.
//!
//! Invariant: no byte leaves here that was not hashed against the digest in the file's name.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::tree::{BLOCK_BYTES, block_value, root};
use crate::storage::{MemoryStorage, Storage, StorageFile};
use crate::{DamageKind, Digest, ReadError};

const MAGIC: [u8; 8] = *b"STEMBLOB";
const VERSION: u32 = 1;
const FOOTER_BYTES: u64 = 64;
const VALUE_BYTES: u64 = 32;
/// A read of at most so many bytes leaves its last block behind for the next one.
const KEEP_BYTES_MAX: u64 = 4 * BLOCK_BYTES;

/// The directory of a large blob's file.
pub(crate) fn large_dir(digest: &Digest) -> String {
    format!("blobs/{}", &digest.to_hex()[..2])
}

/// The name of a large blob's file.
pub(crate) fn large_name(digest: &Digest) -> String {
    let hex = digest.to_hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

/// The digest that a file's name in a directory of `blobs/` says.
pub(crate) fn large_digest(dir: &str, name: &str) -> Option<Digest> {
    Digest::from_hex(name)
        .ok()
        .filter(|digest| large_dir(digest) == dir)
}

/// What follows the content: the table and the footer.
pub(crate) fn encode_trailer(digest: &Digest, len: u64, values: &[[u8; 32]]) -> Vec<u8> {
    let mut bytes = values.concat();
    let start = bytes.len();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(
        &u32::try_from(BLOCK_BYTES)
            .expect("131072 fits")
            .to_le_bytes(),
    );
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(digest.as_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let checksum = crc32c::crc32c(&bytes[start..]);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Takes bytes as a large blob's file that is named by what its table proves, and reads from it.
pub(crate) fn try_large(bytes: &[u8]) {
    let (content, table) = bytes.split_at(bytes.len() / 2);
    let (values, _) = table.as_chunks::<32>();
    let len = content.len() as u64;
    let digest = root(values, len).unwrap_or_else(|| Digest::of(bytes));
    let mut whole = content.to_vec();
    whole.extend(encode_trailer(&digest, len, values));
    for bytes in [whole.as_slice(), bytes] {
        let storage = MemoryStorage::default();
        storage
            .make_dir(&large_dir(&digest))
            .expect("memory takes a directory");
        let file = storage.create(&large_name(&digest));
        let file = file.expect("memory takes a file");
        file.write_at(bytes, 0).expect("memory takes bytes");
        if let Ok(Some(large)) = LargeFile::open(&storage, &digest) {
            // Only what hashes to the table is given out.
            if let Ok(read) = large.read_at(0, large.len()) {
                assert_eq!(read, content);
            }
        }
    }
}

/// A large blob, open, its table proved.
pub(crate) struct LargeFile {
    file: Arc<dyn StorageFile>,
    name: String,
    digest: Digest,
    len: u64,
    values: Vec<[u8; 32]>,
    /// The block that the last read ended in.
    last: Mutex<Option<(u64, Bytes)>>,
}

impl LargeFile {
    /// Opens a blob's file and proves its table; none when there is no such file.
    pub(crate) fn open(storage: &dyn Storage, digest: &Digest) -> Result<Option<Self>, ReadError> {
        let name = large_name(digest);
        let file = match storage.open(&name) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(None),
            other => other.map_err(|source| ReadError::io(&name, source))?,
        };
        let file_len = file.len().map_err(|source| ReadError::io(&name, source))?;
        let damaged = |offset, kind| ReadError::Damaged {
            digest: *digest,
            file: name.clone(),
            offset,
            kind,
        };
        let Some(footer_at) = file_len.checked_sub(FOOTER_BYTES) else {
            return Err(damaged(0, DamageKind::Truncated));
        };
        let footer = read(&*file, &name, footer_at, FOOTER_BYTES)?;
        let len = match decode_footer(&footer, digest) {
            Footer::Good { len } => len,
            Footer::Unknown { version } => {
                return Err(ReadError::Unsupported {
                    file: name,
                    version,
                });
            }
            Footer::Bad => return Err(damaged(footer_at, DamageKind::Footer)),
        };
        let n_blocks = len.div_ceil(BLOCK_BYTES).max(1);
        let table_bytes = n_blocks.checked_mul(VALUE_BYTES);
        let planned =
            table_bytes.and_then(|table| table.checked_add(len)?.checked_add(FOOTER_BYTES));
        if planned != Some(file_len) {
            return Err(damaged(footer_at, DamageKind::Footer));
        }
        let table = read(&*file, &name, len, n_blocks * VALUE_BYTES)?;
        let (values, _) = table.as_chunks::<32>();
        if root(values, len) != Some(*digest) {
            return Err(damaged(len, DamageKind::Table));
        }
        let values = values.to_vec();
        Ok(Some(Self {
            file,
            name,
            digest: *digest,
            len,
            values,
            last: Mutex::new(None),
        }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn n_blocks(&self) -> u64 {
        u64::try_from(self.values.len()).expect("values fit memory")
    }

    /// Reads at most `len` bytes from an offset, fewer only at the end.
    pub(crate) fn read_at(&self, offset: u64, len: u64) -> Result<Bytes, ReadError> {
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let (first, last) = (offset / BLOCK_BYTES, (end - 1) / BLOCK_BYTES);
        let start = first * BLOCK_BYTES;
        let (from, to) = (place(offset - start), place(end - start));
        if first == last
            && let Some((index, block)) = &*self.kept()
            && *index == first
        {
            return Ok(block.slice(from..to));
        }
        let span = Bytes::from(self.read_blocks(first, last)?);
        if end - start <= KEEP_BYTES_MAX {
            let tail = place((last - first) * BLOCK_BYTES);
            *self.kept() = Some((last, span.slice(tail..)));
        }
        Ok(span.slice(from..to))
    }

    /// Reads and checks one block.
    pub(crate) fn check_block(&self, block_index: u64) -> Result<(), ReadError> {
        self.read_blocks(block_index, block_index).map(|_| ())
    }

    fn read_blocks(&self, first: u64, last: u64) -> Result<Vec<u8>, ReadError> {
        let start = first * BLOCK_BYTES;
        let end = ((last + 1) * BLOCK_BYTES).min(self.len);
        let span = read(&*self.file, &self.name, start, end - start)?;
        for (block_index, block) in (first..=last).zip(chunks(&span, end - start)) {
            let expected = self.values[place(block_index)];
            let found = match self.values.len() {
                1 => *Digest::of(block).as_bytes(),
                _ if block.is_empty() => [0; 32],
                _ => block_value(block, block_index),
            };
            if found != expected {
                let (offset, kind) = (block_index * BLOCK_BYTES, DamageKind::Block);
                return Err(ReadError::Damaged {
                    digest: self.digest,
                    file: self.name.clone(),
                    offset,
                    kind,
                });
            }
        }
        Ok(span)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<(u64, Bytes)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks of a span that should have `len` bytes, an empty one for each that is not there.
fn chunks(span: &[u8], len: u64) -> impl Iterator<Item = &[u8]> {
    let n_blocks = len.div_ceil(BLOCK_BYTES).max(1);
    span.chunks(place(BLOCK_BYTES))
        .chain(std::iter::repeat(&[][..]))
        .take(place(n_blocks))
}

enum Footer {
    Good { len: u64 },
    Unknown { version: u32 },
    Bad,
}

fn decode_footer(bytes: &[u8], digest: &Digest) -> Footer {
    let Ok(bytes) = <&[u8; 64]>::try_from(bytes) else {
        return Footer::Bad;
    };
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if bytes[0..8] != MAGIC || word(60) != crc32c::crc32c(&bytes[..60]) {
        return Footer::Bad;
    }
    if word(8) != VERSION || u64::from(word(12)) != BLOCK_BYTES {
        return Footer::Unknown { version: word(8) };
    }
    if bytes[24..56] != *digest.as_bytes() {
        return Footer::Bad;
    }
    Footer::Good {
        len: u64::from(word(16)) | (u64::from(word(20)) << 32),
    }
}

fn place(n: u64) -> usize {
    usize::try_from(n).expect("no more than fits memory is asked for at once")
}

fn read(file: &dyn StorageFile, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; place(len)];
    let read = file
        .read_at(&mut bytes, offset)
        .map_err(|source| ReadError::io(name, source))?;
    bytes.truncate(read);
    Ok(bytes)
}
