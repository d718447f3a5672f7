//! Bringing content back into a store of its own.
//!
//! Invariant: each blob is stored under the digest that its bytes have, and that is the one that the
//! index names.

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use futures_util::future::join_all;
use stemma_content_store::{ContentStore, Digest, Options as ContentOptions, Stored};
use tokio::runtime::Runtime;

use crate::archive::{Entry, read_index};
use crate::checked::Checked;
use crate::error::RestoreError;
use crate::log_restore::at;
use crate::manifest::Archive;
use crate::restore::Bringing;

/// Blobs up to this length are stored several at a time, so that they share their syncs.
const SMALL_BYTES: u64 = 1 << 16;
/// The most that a content store can be opened with.
const BLOB_BYTES_MAX: u64 = 1 << 40;
/// Blobs, and bytes of blobs, that are stored at a time.
const AT_A_TIME: usize = 512;
const AT_A_TIME_BYTES: u64 = 16 << 20;

/// Brings content back; gives what is there afterwards.
pub(crate) fn bring(
    archives: &[Archive],
    dir: &Path,
    options: &ContentOptions,
    bringing: &mut Bringing<'_>,
) -> Result<HashSet<Digest>, RestoreError> {
    // The largest blob was taken in under whatever limit held then.
    let options = ContentOptions {
        upload_bytes_max: BLOB_BYTES_MAX,
        ..options.clone()
    };
    let opened = ContentStore::open(dir, options);
    let (store, _) = opened.map_err(RestoreError::ContentStore)?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.build().map_err(at("start a runtime for", dir))?;
    let mut storing = Storing {
        store,
        runtime,
        small: Vec::new(),
        small_bytes: 0,
        held: HashSet::new(),
    };
    for archive in archives {
        storing.archive(archive, bringing)?;
    }
    let Storing { store, held, .. } = storing;
    store.close();
    Ok(held)
}

struct Storing {
    store: ContentStore,
    runtime: Runtime,
    small: Vec<(Digest, Bytes)>,
    small_bytes: u64,
    held: HashSet<Digest>,
}

impl Storing {
    fn archive(
        &mut self,
        archive: &Archive,
        bringing: &mut Bringing<'_>,
    ) -> Result<(), RestoreError> {
        let entries = read_index(bringing.target, archive);
        let entries = entries.map_err(|error| bringing.refused(error))?;
        bringing.advance(archive.index.bytes, "content")?;
        let opened = Checked::open(bringing.target, &archive.data);
        let mut checked = opened.map_err(|error| bringing.refused(error))?;
        for entry in entries {
            let stored = if entry.len <= SMALL_BYTES {
                self.small(&entry, &mut checked, bringing)
            } else {
                self.large(&entry, &mut checked, bringing)
            };
            if !stored? {
                let problem = format!("does not hold {} where its index says", entry.digest);
                return Err(bringing.damaged(&archive.data.name, &problem));
            }
            self.held.insert(entry.digest);
        }
        // At its end the file is held against its own digest.
        let rest = checked.next(1).map_err(|error| bringing.refused(error))?;
        assert!(rest.is_empty(), "an index adds up to its blobs");
        self.settle()
    }

    /// Takes a small blob; false when it is another one.
    fn small(
        &mut self,
        entry: &Entry,
        checked: &mut Checked<'_>,
        bringing: &mut Bringing<'_>,
    ) -> Result<bool, RestoreError> {
        let bytes = if entry.len == 0 {
            Bytes::new()
        } else {
            let bytes = checked.next(entry.len);
            Bytes::copy_from_slice(bytes.map_err(|error| bringing.refused(error))?)
        };
        bringing.advance(entry.len, "content")?;
        if Digest::of(&bytes) != entry.digest {
            return Ok(false);
        }
        self.small.push((entry.digest, bytes));
        self.small_bytes += entry.len;
        if self.small.len() >= AT_A_TIME || self.small_bytes >= AT_A_TIME_BYTES {
            self.settle()?;
        }
        Ok(true)
    }

    /// Stores the small blobs that were taken.
    fn settle(&mut self) -> Result<(), RestoreError> {
        let small = std::mem::take(&mut self.small);
        self.small_bytes = 0;
        let puts = small.iter().map(|(_, bytes)| self.store.put(bytes.clone()));
        let stored = self.runtime.block_on(join_all(puts));
        for (stored, (digest, _)) in stored.into_iter().zip(&small) {
            let stored: Stored = stored.map_err(RestoreError::Content)?;
            assert!(
                stored.digest == *digest,
                "a blob is stored under its own digest"
            );
        }
        Ok(())
    }

    /// Stores a large blob as it is read; false when it is another one.
    fn large(
        &mut self,
        entry: &Entry,
        checked: &mut Checked<'_>,
        bringing: &mut Bringing<'_>,
    ) -> Result<bool, RestoreError> {
        let mut ingest = self.store.begin().map_err(RestoreError::Content)?;
        let mut left = entry.len;
        while left > 0 {
            let bytes = checked.next(left);
            let bytes = bytes.map_err(|error| bringing.refused(error))?;
            if bytes.is_empty() {
                return Ok(false);
            }
            ingest.write(bytes).map_err(RestoreError::Content)?;
            left -= bytes.len() as u64;
            bringing.advance(bytes.len() as u64, "content")?;
        }
        let stored = ingest.finish().map_err(RestoreError::Content)?;
        Ok(stored.digest == entry.digest)
    }
}
