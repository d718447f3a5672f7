//! Where a blob stands and how it is got, for readers, the writer and the collection alike.
//!
//! Invariant: a slot is only believed when the entry it leads to names the digest that is looked
//! for, and a payload only when it has that digest.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::blob::{Blob, Source};
use crate::index::{Index, Slot};
use crate::large::LargeFile;
use crate::load::Loaded;
use crate::pack::{ENTRY_HEADER_BYTES, EntryHeader, Packs, State, pack_name};
use crate::pin::Pins;
use crate::stats::Counters;
use crate::storage::{Storage, StorageFile};
use crate::{DamageKind, Digest, Options, PutError, ReadError};

/// Read at once in the hope that the whole entry is in it.
const FIRST_READ_BYTES: usize = 16 * 1024;
/// How often a blob that moved while it was looked for is looked for again.
const LOOK_COUNT_MAX: usize = 4;

/// What all parts of a store share.
pub(crate) struct Vault {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) index: Index,
    pub(crate) packs: Packs,
    pub(crate) pins: Arc<Pins>,
    pub(crate) counters: Counters,
    /// Held while a large blob gets its name or loses it.
    pub(crate) naming: Mutex<()>,
    /// Held while a collection or a verification runs.
    pub(crate) sweeping: Mutex<()>,
    /// Held while a run is made from the index and saved, or removed, so that none is older than
    /// what a collection did.
    pub(crate) run_files: Mutex<()>,
    poison: OnceLock<String>,
    damaged: Mutex<HashSet<Digest>>,
}

/// Temporary files that this process has named, of all stores together.
static TEMPORARY_NAMED: AtomicU64 = AtomicU64::new(0);

/// What a slot leads to.
pub(crate) enum Found {
    Blob(Bytes),
    /// The entry is of another blob.
    Other,
    /// There is no such entry any more.
    Gone,
}

/// Whether a blob need not be stored again.
pub(crate) enum Presence {
    Intact,
    /// It is not there, or not whole; these slots lead to what is left of it.
    Absent {
        damaged: Vec<Slot>,
    },
}

impl Vault {
    pub(crate) fn new(storage: Arc<dyn Storage>, options: Options, loaded: Loaded) -> Self {
        let open_max = options.open_packs_max;
        let vault = Self {
            storage,
            options,
            index: Index::new(loaded.slots),
            packs: Packs::new(loaded.packs, open_max),
            pins: Arc::default(),
            counters: Counters::default(),
            naming: Mutex::default(),
            sweeping: Mutex::default(),
            run_files: Mutex::default(),
            poison: OnceLock::new(),
            damaged: Mutex::default(),
        };
        vault.set_levels(loaded.packed_bytes, loaded.large_files, loaded.large_bytes);
        vault.drop_superseded(&loaded.equal_prefixes);
        vault
    }

    /// Takes over what a second look at the directory found.
    pub(crate) fn reload(&self, loaded: Loaded) {
        self.set_levels(loaded.packed_bytes, loaded.large_files, loaded.large_bytes);
        self.packs.replace_all(loaded.packs);
        self.index.replace_all(loaded.slots);
        self.drop_superseded(&loaded.equal_prefixes);
    }

    /// Opens a blob, wherever it stands.
    pub(crate) fn open(self: &Arc<Self>, digest: &Digest) -> Result<Option<Blob>, ReadError> {
        let found = self.look(digest);
        match &found {
            Ok(_) => self.counters.reads.add(1),
            Err(error) => self.note_damage(digest, error),
        }
        let blob = |source| Blob {
            digest: *digest,
            source,
            vault: Arc::clone(self),
        };
        Ok(found?.map(blob))
    }

    fn look(&self, digest: &Digest) -> Result<Option<Source>, ReadError> {
        for _ in 0..LOOK_COUNT_MAX {
            let mut moved = false;
            let mut failure = None;
            for slot in self
                .index
                .find(digest)
                .into_iter()
                .filter(|slot| !slot.is_large())
            {
                match self.read_slot(&slot, digest) {
                    Ok(Found::Blob(bytes)) => return Ok(Some(Source::Packed(bytes))),
                    Ok(Found::Other) => {}
                    // Only a slot that is gone from the index by now can have led nowhere rightly.
                    Ok(Found::Gone) => moved |= !self.index.contains(&slot),
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(file) = LargeFile::open(&*self.storage, digest)? {
                return Ok(Some(Source::Large(file)));
            }
            if !moved {
                return failure.map_or_else(|| self.missing(digest), Err);
            }
        }
        Ok(None)
    }

    /// Nothing was found: right, unless a large blob is known to be here.
    fn missing(&self, digest: &Digest) -> Result<Option<Source>, ReadError> {
        let _names = lock(&self.naming);
        if !self.index.contains(&Slot::large(digest)) {
            return Ok(None);
        }
        match LargeFile::open(&*self.storage, digest)? {
            Some(file) => Ok(Some(Source::Large(file))),
            None => Err(ReadError::Damaged {
                digest: *digest,
                file: crate::large::large_name(digest),
                offset: 0,
                kind: DamageKind::Missing,
            }),
        }
    }

    /// Whether a blob is stored and whole, as far as a look without reading a large one can tell.
    pub(crate) fn presence(&self, digest: &Digest) -> Presence {
        let mut damaged = Vec::new();
        let suspected = lock(&self.damaged).contains(digest);
        for slot in self.index.find(digest) {
            if slot.is_large() {
                let whole = matches!(LargeFile::open(&*self.storage, digest), Ok(Some(_)));
                if whole && !suspected {
                    return Presence::Intact;
                }
                continue;
            }
            match self.read_slot(&slot, digest) {
                Ok(Found::Blob(_)) => return Presence::Intact,
                Ok(Found::Other | Found::Gone) => {}
                Err(_) => damaged.push(slot),
            }
        }
        Presence::Absent { damaged }
    }

    /// Whether a blob is stored; its payload is not read.
    pub(crate) fn contains(&self, digest: &Digest) -> Result<bool, ReadError> {
        for slot in self
            .index
            .find(digest)
            .into_iter()
            .filter(|slot| !slot.is_large())
        {
            if let Some(header) = self.read_header(&slot, digest)?
                && header.digest == *digest
                && header.state != State::Dead
            {
                return Ok(true);
            }
        }
        if self.index.contains(&Slot::large(digest)) {
            return Ok(LargeFile::open(&*self.storage, digest)?.is_some());
        }
        // A slot that was moved between the look and the read is found by the full way.
        Ok(!self.index.find(digest).is_empty() && self.look(digest)?.is_some())
    }

    /// Reads and checks what a slot leads to.
    pub(crate) fn read_slot(&self, slot: &Slot, digest: &Digest) -> Result<Found, ReadError> {
        let name = || pack_name(slot.pack);
        let offset = slot.offset();
        let Some(file) = self.pack(slot.pack)? else {
            return Ok(Found::Gone);
        };
        let mut bytes = vec![0; FIRST_READ_BYTES];
        let read = read_at(&*file, &mut bytes, offset, slot.pack)?;
        let damaged = |kind| ReadError::Damaged {
            digest: *digest,
            file: name(),
            offset,
            kind,
        };
        let Ok(header) = EntryHeader::decode(&bytes[..read], slot.pack, offset) else {
            return Err(damaged(DamageKind::EntryHeader));
        };
        if header.digest != *digest {
            return Ok(Found::Other);
        }
        if header.state == State::Dead {
            return Ok(Found::Gone);
        }
        let start = usize::try_from(ENTRY_HEADER_BYTES).expect("64 fits");
        let total = start + usize::try_from(header.len).expect("32 bits fit");
        let mut have = read;
        if total > bytes.len() {
            // The header is sound, so its length is one that was written.
            bytes.resize(total, 0);
            let more = offset + u64::try_from(have).expect("a read is small");
            have += read_at(&*file, &mut bytes[read..], more, slot.pack)?;
        }
        if have < total {
            return Err(damaged(DamageKind::Truncated));
        }
        let payload = &bytes[start..total];
        if Digest::of(payload) != *digest {
            return Err(damaged(DamageKind::Payload));
        }
        if total < bytes.len() / 2 {
            return Ok(Found::Blob(Bytes::copy_from_slice(payload)));
        }
        Ok(Found::Blob(Bytes::from(bytes).slice(start..total)))
    }

    fn read_header(&self, slot: &Slot, digest: &Digest) -> Result<Option<EntryHeader>, ReadError> {
        let Some(file) = self.pack(slot.pack)? else {
            return Ok(None);
        };
        let mut bytes = [0; 64];
        let read = read_at(&*file, &mut bytes, slot.offset(), slot.pack)?;
        match EntryHeader::decode(&bytes[..read], slot.pack, slot.offset()) {
            Ok(header) => Ok(Some(header)),
            Err(_) => Err(ReadError::Damaged {
                digest: *digest,
                file: pack_name(slot.pack),
                offset: slot.offset(),
                kind: DamageKind::EntryHeader,
            }),
        }
    }

    fn pack(&self, number: u32) -> Result<Option<Arc<dyn StorageFile>>, ReadError> {
        self.packs
            .file(&*self.storage, number)
            .map_err(|source| ReadError::io(&pack_name(number), source))
    }

    /// Of two entries with one digest, as a crash during a rewrite leaves them, forgets the older.
    fn drop_superseded(&self, equal_prefixes: &BTreeSet<Slot>) {
        let mut newest: Option<(Slot, Digest)> = None;
        let mut superseded = Vec::new();
        for slot in equal_prefixes.iter().rev() {
            let any = Digest::from_bytes([0; 32]);
            let Ok(Some(header)) = self.read_header(slot, &any) else {
                continue;
            };
            match &newest {
                Some((kept, digest)) if kept.prefix == slot.prefix && *digest == header.digest => {
                    self.counters.packed_bytes.take(u64::from(header.len));
                    // Only for a newer one that is whole is the older one given up.
                    if matches!(self.read_slot(kept, digest), Ok(Found::Blob(_))) {
                        superseded.push(*slot);
                    } else {
                        superseded.push(*kept);
                        newest = Some((*slot, header.digest));
                    }
                }
                _ => newest = Some((*slot, header.digest)),
            }
        }
        self.index.change(&[], &superseded);
    }

    fn set_levels(&self, packed_bytes: u64, large_files: u64, large_bytes: u64) {
        self.counters.packed_bytes.set(packed_bytes);
        self.counters.large_files.set(large_files);
        self.counters.large_bytes.set(large_bytes);
    }

    /// Remembers that a blob was found damaged, so that the next put stores it anew.
    pub(crate) fn note_damage(&self, digest: &Digest, error: &ReadError) {
        if let ReadError::Damaged {
            file, offset, kind, ..
        } = error
            && lock(&self.damaged).insert(*digest)
        {
            tracing::error!(%digest, file, offset, %kind, "blob is damaged");
        }
    }

    /// Forgets that a blob was damaged, for it was stored anew.
    pub(crate) fn note_healed(&self, digest: &Digest) {
        lock(&self.damaged).remove(digest);
    }

    pub(crate) fn damaged_count(&self) -> u64 {
        u64::try_from(lock(&self.damaged).len()).expect("a length in memory fits 64 bits")
    }

    /// A name in `tmp/` that nobody else has, nor gets: an ingest may outlive its store, and removes
    /// its file from a directory that was opened again.
    pub(crate) fn temporary() -> String {
        let number = TEMPORARY_NAMED.fetch_add(1, Ordering::Relaxed);
        format!("tmp/{:08x}-{number:016x}", std::process::id())
    }

    /// Refuses all writes from now on.
    pub(crate) fn poison(&self, what: &str, source: &io::Error) {
        let reason = format!("{what}: {source}");
        tracing::error!(
            reason,
            "content store refuses writes until it is opened again"
        );
        let _ = self.poison.set(reason);
    }

    pub(crate) fn poisoned(&self) -> Option<PutError> {
        self.poison.get().map(|reason| PutError::Poisoned {
            reason: reason.clone(),
        })
    }

    pub(crate) fn poison_reason(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_at(
    file: &dyn StorageFile,
    bytes: &mut [u8],
    offset: u64,
    pack: u32,
) -> Result<usize, ReadError> {
    file.read_at(bytes, offset)
        .map_err(|source| ReadError::io(&pack_name(pack), source))
}
