//! Taking in a blob piece by piece, in bounded memory.
//!
//! Invariant: a digest is returned only when the blob is durable under it, and an ingest that ends
//! in any other way leaves no file behind. At most one block is held in memory, and 32 bytes for
//! each block that is on disk.

use std::io;
use std::sync::Arc;

use crate::error::is_full;
use crate::index::Slot;
use crate::large::{BLOCK_BYTES, block_value, encode_trailer, large_dir, large_name, root};
use crate::storage::StorageFile;
use crate::vault::{Presence, Vault, lock};
use crate::{ContentStore, Digest, PutError, Stored};

/// A blob on its way in. Dropped before it is finished, it leaves nothing.
pub struct Ingest {
    store: ContentStore,
    /// What is not yet a whole block.
    block: Vec<u8>,
    len: u64,
    file: Option<Temporary>,
    values: Vec<[u8; 32]>,
    failed: Option<PutError>,
}

/// A file in `tmp/`, removed when it is dropped unless it got its name.
struct Temporary {
    vault: Arc<Vault>,
    file: Arc<dyn StorageFile>,
    name: String,
    written: u64,
    synced: u64,
    named: bool,
}

fn place(n: u64) -> usize {
    usize::try_from(n).expect("a block is small")
}

fn size(n: usize) -> u64 {
    u64::try_from(n).expect("a length in memory fits 64 bits")
}

impl Ingest {
    pub(crate) fn new(store: ContentStore) -> Self {
        Self {
            store,
            block: Vec::new(),
            len: 0,
            file: None,
            values: Vec::new(),
            failed: None,
        }
    }

    /// Bytes taken in so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was taken in so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes in more bytes; blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The ingest is then over, and its temporary file is removed: it repeats its error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PutError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take(bytes).inspect_err(|error| {
            self.failed = Some(error.clone());
            self.file = None;
            self.block = Vec::new();
        })
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), PutError> {
        let bytes_max = self.store.vault().options.upload_bytes_max;
        self.len = self.len.saturating_add(size(bytes.len()));
        if self.len > bytes_max {
            return Err(PutError::TooLarge { bytes_max });
        }
        while !bytes.is_empty() {
            let room = place(BLOCK_BYTES) - self.block.len();
            if room == 0 {
                self.flush_block()?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the block, of which it is known that others follow or came before.
    fn flush_block(&mut self) -> Result<(), PutError> {
        let value = block_value(&self.block, size(self.values.len()));
        self.write_out()?;
        self.values.push(value);
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), PutError> {
        let vault = self.store.vault();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Temporary::new(vault).map_err(PutError::from_io)?),
        };
        file.append(&self.block, vault.options.ingest_sync_bytes)
            .map_err(PutError::from_io)?;
        self.block.clear();
        Ok(())
    }

    /// Makes the blob durable; blocks until it is.
    ///
    /// # Errors
    /// Nothing is left behind but, after a failure that came late, an orphan.
    pub fn finish(mut self) -> Result<Stored, PutError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let packed_max = self.store.vault().options.pack_blob_bytes_max;
        if self.file.is_none() && self.len <= packed_max {
            let block = std::mem::take(&mut self.block);
            return self.store.put_packed_blocking(block.into());
        }
        let digest = if self.values.is_empty() {
            let digest = Digest::of(&self.block);
            self.values.push(*digest.as_bytes());
            digest
        } else {
            // The last block is never empty: a full one is only written when more bytes come.
            self.values
                .push(block_value(&self.block, size(self.values.len())));
            root(&self.values, self.len).expect("one value was made for each block")
        };
        // Pinned before the look, so that a collection cannot come between.
        let pin = self.store.vault().pins.pin(digest);
        let new = match self.store.vault().presence(&digest) {
            Presence::Intact => false,
            Presence::Absent { .. } => {
                self.write_out()?;
                self.name(&digest)?
            }
        };
        self.store.count_put(new);
        Ok(Stored {
            digest,
            len: self.len,
            new,
            pin,
        })
    }

    /// Gives the finished file its name, unless another ingest of the same bytes was first.
    fn name(&mut self, digest: &Digest) -> Result<bool, PutError> {
        let vault = self.store.vault();
        let file = self.file.as_mut().expect("its content was written");
        let trailer = encode_trailer(digest, self.len, &self.values);
        file.append(&trailer, u64::MAX)
            .and_then(|()| file.file.sync())
            .map_err(PutError::from_io)?;
        let _names = lock(&vault.naming);
        // Also when the store was closed since it was begun: the mark of the close says that nothing
        // came later, and another process may have the directory by now.
        self.store.queue()?;
        if matches!(vault.presence(digest), Presence::Intact) {
            return Ok(false);
        }
        let dir = large_dir(digest);
        let storage = &vault.storage;
        // Both directories are opened before a name in them is changed: where no file handle is to
        // be had the blob is refused, and nothing else has come of it.
        let parent = storage.open_dir("blobs").map_err(PutError::from_io)?;
        if let Err(error) = storage.make_dir(&dir).and_then(|()| parent.sync()) {
            // It may be there and not be durable, which a later sync would not tell.
            if !is_full(&error) {
                vault.poison("make a directory of large blobs", &error);
            }
            return Err(PutError::from_io(error));
        }
        let names = storage.open_dir(&dir).map_err(PutError::from_io)?;
        let named = storage.rename(&file.name, &large_name(digest));
        // Also when it failed, for it may have been carried out: whoever puts the blob again after
        // a proper close finds the name and is told that it is there.
        if let Err(error) = names.sync() {
            // The name may be lost in a crash, and a later sync of the directory would not tell.
            vault.poison("sync a directory of large blobs", &error);
            return Err(PutError::from_io(error));
        }
        named.map_err(PutError::from_io)?;
        file.named = true;
        let slot = Slot::large(digest);
        if !vault.index.contains(&slot) {
            vault.index.change(&[slot], &[]);
            vault.counters.large_files.add(1);
            vault.counters.large_bytes.add(file.written);
        }
        vault.note_healed(digest);
        Ok(true)
    }
}

impl Temporary {
    fn new(vault: &Arc<Vault>) -> io::Result<Self> {
        let name = Vault::temporary();
        let file = vault.storage.create(&name)?;
        Ok(Self {
            vault: Arc::clone(vault),
            file,
            name,
            written: 0,
            synced: 0,
            named: false,
        })
    }

    fn append(&mut self, bytes: &[u8], sync_bytes: u64) -> io::Result<()> {
        self.file.write_at(bytes, self.written)?;
        self.written += size(bytes.len());
        if self.written - self.synced >= sync_bytes {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.named {
            return;
        }
        if let Err(error) = self.vault.storage.remove(&self.name) {
            tracing::warn!(file = self.name, %error, "temporary file stays until the next open");
        }
    }
}
