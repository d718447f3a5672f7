//! The content store as others use it.
//!
//! Invariant: what `put` and `finish` return is durable, and while a returned [`Pin`] is held no
//! collection takes the blob.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::load::{Access, load};
use crate::queue::{Queue, Reply};
use crate::storage::{FileStorage, Storage};
use crate::vault::{Presence, Vault, lock};
use crate::verify::{VerifyProgress, VerifyReport, verify};
use crate::writer::{Task, Writer};
use crate::{
    Blob, CollectError, Collected, ContentStats, Digest, Ingest, OpenError, OpenReport, Options,
    Pin, PutError, ReadError, VerifyError, collect,
};

/// Immutable bytes by digest. Clones share one store; the last to go closes it.
#[derive(Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

struct Inner {
    vault: Arc<Vault>,
    /// Absent when the store is open for reading only.
    writing: Option<Writing>,
}

struct Writing {
    queue: Arc<Queue<Task>>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    _lock: Box<dyn Send + Sync>,
}

/// A blob that is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: u64,
    /// Whether it was not there before.
    pub new: bool,
    /// Keeps it from collection; hold it until the event that names it is applied.
    pub pin: Pin,
}

/// Whether a store takes blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreStatus {
    /// It does.
    Writable,
    /// It is open for reading only.
    ReadOnly,
    /// A write or sync failed; it must be opened again.
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// It was closed.
    Closed,
}

impl ContentStore {
    /// Opens the store in a directory for writing, makes it when there is none, and recovers it
    /// after a crash. Damage does not keep it from opening: see [`OpenReport::damage`].
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has it; nothing was touched then.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, OpenReport), OpenError> {
        let storage = FileStorage::create(dir).map_err(|source| OpenError::Io {
            file: String::new(),
            source,
        })?;
        Self::open_on(Arc::new(storage), options)
    }

    /// Opens the store in a directory for reading, also beside a process that writes to it. It
    /// shows what was there at the open and at each [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// When there is no such directory, or it cannot be read.
    pub fn open_read_only(dir: &Path, options: Options) -> Result<(Self, OpenReport), OpenError> {
        let storage = FileStorage::open(dir).map_err(|source| OpenError::Io {
            file: String::new(),
            source,
        })?;
        Self::open_read_only_on(Arc::new(storage), options)
    }

    /// [`open`](Self::open) on any storage.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<(Self, OpenReport), OpenError> {
        options.validate()?;
        let lock_file = storage.lock().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked {
                pid: source.to_string().parse().ok(),
            },
            _ => OpenError::Io {
                file: "lock".to_owned(),
                source,
            },
        })?;
        let mut loaded = load(&*storage, Access::Write)?;
        let (queue, taker) = Queue::new(options.queue_max);
        let queue = Arc::new(queue);
        let report = loaded.report.clone();
        let tail = std::mem::take(&mut loaded.tail);
        let vault = Arc::new(Vault::new(storage, options, loaded));
        let handle = Writer::new(&vault, (&queue, taker), tail).start();
        let handle = handle.map_err(|source| OpenError::Io {
            file: String::new(),
            source,
        })?;
        let thread = Mutex::new(Some(Thread {
            handle,
            _lock: lock_file,
        }));
        Ok((
            Self {
                inner: Arc::new(Inner {
                    vault,
                    writing: Some(Writing { queue, thread }),
                }),
            },
            report,
        ))
    }

    /// [`open_read_only`](Self::open_read_only) on any storage.
    ///
    /// # Errors
    /// As there.
    pub fn open_read_only_on(
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<(Self, OpenReport), OpenError> {
        options.validate()?;
        let loaded = load(&*storage, Access::ReadOnly)?;
        let report = loaded.report.clone();
        let vault = Arc::new(Vault::new(storage, options, loaded));
        Ok((
            Self {
                inner: Arc::new(Inner {
                    vault,
                    writing: None,
                }),
            },
            report,
        ))
    }

    /// Looks at the directory again, if the store is open for reading only.
    ///
    /// # Errors
    /// When it cannot be read; what was known stays.
    pub fn refresh(&self) -> Result<(), OpenError> {
        if self.inner.writing.is_none() {
            let vault = self.vault();
            vault.reload(load(&*vault.storage, Access::ReadOnly)?);
        }
        Ok(())
    }

    /// Stores a blob and returns once it is durable. A small one shares its sync with all that are
    /// put at the same time. A large one is written on a thread for blocking work.
    ///
    /// # Errors
    /// The blob was not acknowledged; it may be there all the same, as an orphan.
    pub async fn put(&self, bytes: Bytes) -> Result<Stored, PutError> {
        let len = size(&bytes);
        let options = &self.vault().options;
        if len > options.upload_bytes_max {
            return Err(PutError::TooLarge {
                bytes_max: options.upload_bytes_max,
            });
        }
        if len > options.pack_blob_bytes_max {
            return self.put_large(bytes).await;
        }
        let started = Instant::now();
        let queue = self.queue()?;
        let (digest, pin, present) = self.look(&bytes);
        let mut new = false;
        if !present {
            let (sender, answer) = oneshot::channel();
            let task = Task::Append {
                digest,
                bytes,
                from: None,
                reply: Reply::Task(sender),
            };
            queue.push(task).await.map_err(|_| PutError::Closed)?;
            new = answer.await.map_err(|_| PutError::Closed)??;
        }
        self.vault().counters.put_latency.add(started.elapsed());
        self.count_put(new);
        Ok(Stored {
            digest,
            len,
            new,
            pin,
        })
    }

    /// Begins to take in a blob piece by piece.
    ///
    /// # Errors
    /// When the store takes no blobs.
    pub fn begin(&self) -> Result<Ingest, PutError> {
        self.queue()?;
        Ok(Ingest::new(self.clone()))
    }

    /// Keeps a blob from collection that is stored already or may be soon.
    pub fn pin(&self, digest: &Digest) -> Pin {
        self.vault().pins.pin(*digest)
    }

    /// Whether a blob is stored. Its bytes are not read, so they may be damaged.
    ///
    /// # Errors
    /// When the place where it should be cannot be read or is damaged.
    pub fn contains(&self, digest: &Digest) -> Result<bool, ReadError> {
        self.vault().contains(digest)
    }

    /// Opens a blob for reading; none when it is not stored.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when it is there but not whole, as far as opening can tell: of a
    /// small one all was read, of a large one the table.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, ReadError> {
        self.vault().open(digest)
    }

    /// Reads a whole blob of at most `bytes_max` bytes; none when it is not stored.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] when it is longer; [`ReadError::Damaged`] when it is not whole.
    pub fn read_all(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Bytes>, ReadError> {
        let Some(blob) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let bytes = blob.len();
        match usize::try_from(bytes) {
            Ok(len) if bytes <= bytes_max => blob.read_at(0, len).map(Some),
            _ => Err(ReadError::TooLarge {
                digest: *digest,
                bytes,
                bytes_max,
            }),
        }
    }

    /// Reads a blob to its end without keeping it; false when it is not stored.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when it is not whole.
    pub fn check(&self, digest: &Digest) -> Result<bool, ReadError> {
        const STEP_BYTES: usize = 1 << 20;
        let Some(blob) = self.open_blob(digest)? else {
            return Ok(false);
        };
        let mut offset = 0;
        while offset < blob.len() {
            let read = blob.read_at(offset, STEP_BYTES)?;
            assert!(!read.is_empty(), "a read before the end gives something");
            offset += size(&read);
        }
        Ok(true)
    }

    /// Removes the blobs that are neither live nor pinned, and rewrites packs with much that is
    /// dead. `is_live` must say yes to every blob that an event names, unless the blob was pinned
    /// at some time since this was called. Blocks; one runs at a time; reads and puts go on.
    ///
    /// # Errors
    /// What was removed before stays removed. Nothing live was touched.
    pub fn collect(&self, is_live: &dyn Fn(&Digest) -> bool) -> Result<Collected, CollectError> {
        self.collect_after(&|| Ok(()), is_live)
    }

    /// The same, where what is live must first be found out: `settle` is called once every pin is
    /// being watched, and before `is_live` is asked. Whatever is not pinned by then was named by an
    /// event already or never will be, so when `settle` has waited for all events so far to be
    /// applied, `is_live` may ask what they were applied to.
    ///
    /// # Errors
    /// [`CollectError::Unsettled`] with what `settle` said; nothing was removed then.
    pub fn collect_after(
        &self,
        settle: &dyn Fn() -> Result<(), String>,
        is_live: &dyn Fn(&Digest) -> bool,
    ) -> Result<Collected, CollectError> {
        self.collect_while(settle, is_live, &|| true)
    }

    /// The same, for as long as `goes_on` says so, which is asked before each pack and each large
    /// blob.
    ///
    /// # Errors
    /// [`CollectError::Stopped`] as well.
    pub fn collect_while(
        &self,
        settle: &dyn Fn() -> Result<(), String>,
        is_live: &dyn Fn(&Digest) -> bool,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Collected, CollectError> {
        let queue = self.queue()?;
        let asks = collect::Asks {
            settle,
            is_live,
            goes_on,
        };
        collect::collect(self.vault(), queue, &asks)
    }

    /// Reads everything and hashes it again. All damage is reported, in whatever file it is;
    /// `on_blob` gets each blob that is whole and found by who reads it, with its length, once for
    /// each copy; `progress` may break it off. Blocks; reads and puts go on.
    ///
    /// # Errors
    /// When the directory cannot be listed, or it was broken off.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
        on_blob: &mut dyn FnMut(&Digest, u64),
    ) -> Result<VerifyReport, VerifyError> {
        let access = if self.inner.writing.is_some() {
            Access::Write
        } else {
            Access::ReadOnly
        };
        verify(self.vault(), access, progress, on_blob)
    }

    /// What the store counts of itself.
    pub fn stats(&self) -> ContentStats {
        let vault = self.vault();
        let counters = &vault.counters;
        let packs = vault.packs.states();
        ContentStats {
            blobs: u64::try_from(vault.index.len()).expect("a length in memory fits 64 bits"),
            bytes: counters.packed_bytes.get() + counters.large_bytes.get(),
            pack_files: u64::try_from(packs.len()).expect("a length in memory fits 64 bits"),
            pack_bytes: packs.iter().map(|pack| pack.disk_bytes).sum(),
            dead_bytes: packs.iter().map(|pack| pack.dead_bytes).sum(),
            large_files: counters.large_files.get(),
            large_bytes: counters.large_bytes.get(),
            damaged: vault.damaged_count(),
            puts: counters.puts.get(),
            duplicates: counters.duplicates.get(),
            groups: counters.groups.get(),
            group_bytes: counters.group_bytes.get(),
            reads: counters.reads.get(),
            put_latency: counters.put_latency.snapshot(),
            sync_time: counters.sync_time.snapshot(),
        }
    }

    /// Whether the store takes blobs.
    pub fn status(&self) -> StoreStatus {
        match self.queue() {
            Ok(_) => StoreStatus::Writable,
            Err(PutError::ReadOnly) => StoreStatus::ReadOnly,
            Err(PutError::Poisoned { reason }) => StoreStatus::Poisoned { reason },
            Err(_) => StoreStatus::Closed,
        }
    }

    /// Finishes what was put before, leaves the mark of a proper close, and gives up the lock.
    /// Reads go on; puts are refused. Blocks until done; a second call does nothing.
    pub fn close(&self) {
        self.inner.close();
    }

    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.inner.vault
    }

    pub(crate) fn count_put(&self, new: bool) {
        let counters = &self.vault().counters;
        counters.puts.add(1);
        if !new {
            counters.duplicates.add(1);
        }
    }

    /// Stores a small blob from a thread that may block.
    pub(crate) fn put_packed_blocking(&self, bytes: Bytes) -> Result<Stored, PutError> {
        let started = Instant::now();
        let queue = self.queue()?;
        let len = size(&bytes);
        let (digest, pin, present) = self.look(&bytes);
        let mut new = false;
        if !present {
            let (sender, answer) = mpsc::channel();
            let task = Task::Append {
                digest,
                bytes,
                from: None,
                reply: Reply::Thread(sender),
            };
            queue.push_blocking(task).map_err(|_| PutError::Closed)?;
            new = answer.recv().map_err(|_| PutError::Closed)??;
        }
        self.vault().counters.put_latency.add(started.elapsed());
        self.count_put(new);
        Ok(Stored {
            digest,
            len,
            new,
            pin,
        })
    }

    /// Pins a blob and then sees whether it is stored; in this order, so that a collection cannot
    /// come between.
    fn look(&self, bytes: &Bytes) -> (Digest, Pin, bool) {
        let digest = Digest::of(bytes);
        let pin = self.pin(&digest);
        let present = matches!(self.vault().presence(&digest), Presence::Intact);
        (digest, pin, present)
    }

    async fn put_large(&self, bytes: Bytes) -> Result<Stored, PutError> {
        let store = self.clone();
        let work = move || {
            let mut ingest = store.begin()?;
            ingest.write(&bytes)?;
            ingest.finish()
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(work)
                .await
                .map_err(|_| PutError::Closed)?,
            Err(_) => work(),
        }
    }

    /// The line before the writer, while the store takes blobs.
    pub(crate) fn queue(&self) -> Result<&Queue<Task>, PutError> {
        let Some(writing) = &self.inner.writing else {
            return Err(PutError::ReadOnly);
        };
        if let Some(error) = self.vault().poisoned() {
            return Err(error);
        }
        if writing.queue.is_closed() {
            return Err(PutError::Closed);
        }
        Ok(&writing.queue)
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

impl Inner {
    fn close(&self) {
        let Some(writing) = &self.writing else { return };
        writing.queue.close();
        if let Some(thread) = lock(&writing.thread).take()
            && thread.handle.join().is_err()
        {
            tracing::error!("content writer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for ContentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentStore")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
