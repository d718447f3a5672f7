//! A log as it is up to a position, hashed while it is read.
//!
//! Invariant: what is shown never changes, whatever is appended meanwhile. Whoever reads a segment
//! from its beginning to its end has had all of it hashed, as it was read.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use stemma_event_log::{Access, Extent, LockOutcome, Storage, StorageFile, StoredFile};

/// Bytes read at a time, where nobody else read them.
const STEP_BYTES: usize = 1 << 20;

/// The segments of a log up to a position.
pub(crate) struct Clipped {
    source: Arc<dyn Storage>,
    segments: BTreeMap<String, Arc<Clip>>,
}

/// What of a segment is shown.
struct Clip {
    /// Bytes that count; zeros follow.
    bytes: u64,
    /// Length that is shown.
    shown_bytes: u64,
    hashed: Mutex<Hashed>,
}

struct Hashed {
    /// Bytes that were hashed.
    at: u64,
    /// Where the second part begins.
    mark: u64,
    whole: blake3::Hasher,
    /// The bytes behind the mark.
    tail: blake3::Hasher,
    /// Of the bytes before the mark.
    before: Option<blake3::Hash>,
}

/// The hashes of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashes {
    /// Of the bytes before the mark.
    pub(crate) before: blake3::Hash,
    /// Of those behind it.
    pub(crate) tail: blake3::Hash,
    /// Of all.
    pub(crate) whole: blake3::Hash,
}

impl Clipped {
    /// A log's segments, each with the place that a copy had come to.
    pub(crate) fn new(source: Arc<dyn Storage>, segments: &[(Extent, u64)]) -> Self {
        let clip = |(extent, mark): &(Extent, u64)| {
            let clip = Clip {
                bytes: extent.bytes,
                shown_bytes: extent.planned_bytes.unwrap_or(extent.bytes),
                hashed: Mutex::new(Hashed::new(*mark)),
            };
            (extent.file.clone(), Arc::new(clip))
        };
        Self {
            source,
            segments: segments.iter().map(clip).collect(),
        }
    }

    /// The hashes of a segment. What was not read yet is read now.
    pub(crate) fn hashes(&self, name: &str) -> io::Result<Hashes> {
        let clip = self.segments.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = self.open(name, Access::Read)?;
        let mut bytes = vec![0; STEP_BYTES];
        loop {
            let at = clip.hashed().at;
            if at >= clip.bytes {
                return Ok(clip.hashed().finish());
            }
            let step = (clip.bytes - at).min(STEP_BYTES as u64);
            let step = usize::try_from(step).expect("a step is small");
            if file.read_at(&mut bytes[..step], at)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Clip {
    fn hashed(&self) -> std::sync::MutexGuard<'_, Hashed> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hashed {
    fn new(mark: u64) -> Self {
        Self {
            at: 0,
            mark,
            whole: blake3::Hasher::new(),
            tail: blake3::Hasher::new(),
            before: (mark == 0).then(|| blake3::hash(&[])),
        }
    }

    /// Takes up what of these bytes was not seen before.
    fn see(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        if offset > self.at || end <= self.at {
            return;
        }
        let fresh = &bytes[usize::try_from(self.at - offset).expect("it is within the bytes")..];
        if self.before.is_some() {
            self.take(fresh);
            return;
        }
        let left = usize::try_from(self.mark - self.at).unwrap_or(usize::MAX);
        let (before, behind) = fresh.split_at(left.min(fresh.len()));
        self.whole.update(before);
        self.at += before.len() as u64;
        if self.at == self.mark {
            self.before = Some(self.whole.finalize());
            self.take(behind);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        // Without anything before the mark both are the same.
        if self.mark > 0 {
            self.tail.update(bytes);
        }
        self.at += bytes.len() as u64;
    }

    fn finish(&self) -> Hashes {
        let whole = self.whole.finalize();
        Hashes {
            before: self.before.unwrap_or(whole),
            tail: if self.mark == 0 {
                whole
            } else {
                self.tail.finalize()
            },
            whole,
        }
    }
}

impl Storage for Clipped {
    fn create_dirs(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn StorageFile>> {
        Err(read_only())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        if access == Access::Write {
            return Err(read_only());
        }
        // Marks, indexes and the tree are not part of a copy.
        let clip = self.segments.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(ClippedFile {
            file: self.source.open(name, Access::Read)?,
            clip: Arc::clone(clip),
        }))
    }

    fn list(&self) -> io::Result<Vec<StoredFile>> {
        let stored = |(name, clip): (&String, &Arc<Clip>)| StoredFile {
            name: name.clone(),
            bytes: clip.shown_bytes,
        };
        Ok(self.segments.iter().map(stored).collect())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn lock(&self, _: &str, _: &str) -> io::Result<LockOutcome> {
        Err(read_only())
    }
}

struct ClippedFile {
    file: Arc<dyn StorageFile>,
    clip: Arc<Clip>,
}

impl StorageFile for ClippedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let within = |end: u64| {
            let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            left.min(bytes.len())
        };
        let (counted, shown) = (within(self.clip.bytes), within(self.clip.shown_bytes));
        let read = self.file.read_at(&mut bytes[..counted], offset)?;
        self.clip.hashed().see(&bytes[..read], offset);
        if read < counted {
            return Ok(read);
        }
        bytes[counted..shown].fill(0);
        Ok(shown)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.clip.shown_bytes)
    }
}

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8], mark: u64, reads: &[(usize, usize)]) -> Hashes {
        let mut hashed = Hashed::new(mark);
        for (from, to) in reads {
            hashed.see(&bytes[*from..*to], *from as u64);
        }
        assert_eq!(hashed.at, bytes.len() as u64);
        hashed.finish()
    }

    #[test]
    fn each_byte_is_hashed_once_however_it_is_read() {
        let bytes: Vec<u8> = (0..200).collect();
        for mark in [0, 1, 50, 99, 100, 150, 200] {
            let (before, tail) = bytes.split_at(usize::try_from(mark).unwrap());
            for reads in [
                &[(0, 200)][..],
                &[(0, 100), (100, 200)],
                &[(0, 10), (0, 60), (50, 150), (20, 30), (120, 200), (0, 200)],
            ] {
                let hashes = hash(&bytes, mark, reads);
                assert_eq!(hashes.whole, blake3::hash(&bytes), "{mark} {reads:?}");
                assert_eq!(hashes.before, blake3::hash(before), "{mark} {reads:?}");
                assert_eq!(hashes.tail, blake3::hash(tail), "{mark} {reads:?}");
            }
        }
    }
}
