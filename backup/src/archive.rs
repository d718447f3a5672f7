//! The files that content is in: blobs one behind the other, and an index that says which.
//!
//! Invariant: an index and the blobs beside it belong together: the lengths in it add up to them.

use stemma_content_store::Digest;

use crate::checked::{CheckError, damaged, read_whole};
use crate::error::TargetError;
use crate::manifest::Archive;
use crate::names::archive_stem;
use crate::target::Target;
use crate::work::{HashedDraft, Work};

const MAGIC: &[u8; 8] = b"STEMBIDX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 40;
/// A file takes further blobs until it has so many bytes.
const ARCHIVE_BYTES: u64 = 256 << 20;
/// Most blobs in a file.
const BLOBS_MAX: u64 = 1 << 20;

/// A blob in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) len: u64,
}

/// Reads which blobs are in an archive.
pub(crate) fn read_index(target: &dyn Target, archive: &Archive) -> Result<Vec<Entry>, CheckError> {
    let bytes = read_whole(target, &archive.index)?;
    let entries = decode(&bytes).map_err(|problem| damaged(&archive.index, problem))?;
    let sum = entries
        .iter()
        .try_fold(0_u64, |sum, entry| sum.checked_add(entry.len));
    if sum != Some(archive.data.bytes) || entries.len() as u64 != archive.blobs {
        let problem = "lists other blobs than those beside it".to_owned();
        return Err(damaged(&archive.index, problem));
    }
    Ok(entries)
}

fn decode(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let Some((header, entries)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err("is too short".to_owned());
    };
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if !header.starts_with(MAGIC) {
        return Err("is no index".to_owned());
    }
    if version != VERSION {
        return Err(format!("has version {version}, which is not known"));
    }
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err("ends within an entry".to_owned());
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let (mut digest, mut len) = ([0; 32], [0; 8]);
        digest.copy_from_slice(&bytes[..32]);
        len.copy_from_slice(&bytes[32..]);
        Entry {
            digest: Digest::from_bytes(digest),
            len: u64::from_le_bytes(len),
        }
    };
    Ok(entries.iter().map(entry).collect())
}

fn header() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

fn encode(entry: Entry, index: &mut Vec<u8>) {
    index.extend_from_slice(entry.digest.as_bytes());
    index.extend_from_slice(&entry.len.to_le_bytes());
}

/// Writes archives, one after another, as they fill.
pub(crate) struct Archives {
    dir: String,
    /// Those that are finished.
    done: Vec<Archive>,
}

/// The archive that takes blobs.
pub(crate) struct Filling<'a> {
    stem: String,
    data: HashedDraft<'a>,
    index: Vec<u8>,
    blobs: u64,
}

impl Archives {
    /// Goes on behind those that are there.
    pub(crate) fn behind(dir: &str, done: Vec<Archive>) -> Self {
        let dir = dir.to_owned();
        Self { dir, done }
    }

    pub(crate) fn into_done(self) -> Vec<Archive> {
        self.done
    }

    /// Begins the next one.
    pub(crate) fn begin<'a>(&self, work: &Work<'a>) -> Result<Filling<'a>, TargetError> {
        let stem = archive_stem(&self.dir, self.done.len() as u64 + 1);
        Ok(Filling {
            data: work.begin(&format!("{stem}.blobs"))?,
            stem,
            index: header(),
            blobs: 0,
        })
    }

    /// Finishes one.
    pub(crate) fn finish(
        &mut self,
        filling: Filling<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), TargetError> {
        let Filling {
            stem,
            data,
            index,
            blobs,
        } = filling;
        let data = work.finish(data)?;
        let index = work.write(&format!("{stem}.index"), &index)?;
        self.done.push(Archive { blobs, data, index });
        Ok(())
    }
}

impl Filling<'_> {
    /// Takes further bytes of the blob that is named next.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), TargetError> {
        self.data.write(bytes)
    }

    /// Names the blob whose bytes were written since the last one was named.
    pub(crate) fn name(&mut self, entry: Entry) {
        encode(entry, &mut self.index);
        self.blobs += 1;
    }

    /// Whether it takes no more.
    pub(crate) fn is_full(&self) -> bool {
        self.data.bytes() >= ARCHIVE_BYTES || self.blobs >= BLOBS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_back_and_a_changed_one_is_refused() {
        let entries = [
            Entry {
                digest: Digest::of(b"a"),
                len: 1,
            },
            Entry {
                digest: Digest::of(b""),
                len: 0,
            },
            Entry {
                digest: Digest::of(b"b"),
                len: u64::MAX,
            },
        ];
        let mut bytes = header();
        entries.iter().for_each(|entry| encode(*entry, &mut bytes));
        assert_eq!(decode(&bytes).unwrap(), entries);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&bytes[..8]).is_err());
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert!(decode(&newer).unwrap_err().contains("version 2"));
        bytes[0] = b'X';
        assert!(decode(&bytes).is_err());
    }
}
