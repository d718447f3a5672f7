//! The directory of an index as one writer owns it: from taking its lock until releasing it.
//!
//! A writer that is dropped leaves its merges at work, and the engine asks only before it begins
//! to write whether it was dropped. One that ends late would write its list of segments over what
//! the next owner has read, whose first act is to remove files that no list names: the list would
//! name files that are gone. So whoever releases the lock waits first for what is being written.
//!
//! Invariant: after the lock is released, no file is made, replaced or removed by way of this
//! directory or its clones. Reading goes on. A directory has one writer ever; the next one opens
//! its own, and reads the list of segments and that of files under the lock.
//!
//! Nothing is synced by what the engine asks for: when that is done is decided by [`Medium`]. The
//! engine's list of the files that it made is what stands in the directory.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, INDEX_WRITER_LOCK, Lock, MmapDirectory,
    TerminatingWrite, WatchCallback, WatchHandle, WritePtr,
};

use crate::medium::{self, Disk, LIST, Medium};

/// The engine's list of the files that it made.
const FILES: &str = ".managed.json";

/// Files that are opened between two times that the engine forgets those that nobody has open: it
/// keeps the name of each until it is asked how many there are.
const FORGET_EVERY: usize = 1024;

/// How long after a write that failed what there is of the file is looked for: the engine gives it up
/// behind that.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(1);

/// A directory whose lock is held. Clones share it.
#[derive(Clone)]
pub(crate) struct OwnedDirectory {
    dir: PathBuf,
    files: MmapDirectory,
    ownership: Arc<RwLock<Ownership>>,
    medium: Arc<Mutex<Medium>>,
    disk: Arc<dyn Disk>,
    known: Arc<Known>,
}

/// What is known of the lists and files that this owner wrote and opened.
#[derive(Default)]
struct Known {
    /// Whether a list could not be written: the engine has its segments all the same, and would name
    /// them in the list of the next merge, as if they were of the commit before.
    have_failed: AtomicBool,
    opened: AtomicUsize,
    /// When a file could not be written to its end, and what there is of it was not removed since.
    left_over_at: Mutex<Option<Instant>>,
}

impl Known {
    fn left_over_at(&self) -> MutexGuard<'_, Option<Instant>> {
        let left_over = self.left_over_at.lock();
        left_over.unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a directory is on its way from owner to owner. Changes are made under the shared guard.
enum Ownership {
    /// The lock waits for the writer.
    Taken(DirectoryLock),
    /// The writer has it.
    Writing,
    /// The writer was dropped.
    Over,
}

/// The lock as the writer has it. Dropped last of all that it has, its own threads being joined.
struct WriterLock {
    ownership: Arc<RwLock<Ownership>>,
    /// Released after [`drop`](Drop::drop) has run.
    _lock: DirectoryLock,
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        let ownership = self.ownership.write();
        *ownership.unwrap_or_else(PoisonError::into_inner) = Ownership::Over;
    }
}

impl OwnedDirectory {
    /// Takes the lock of a directory that is there.
    ///
    /// # Errors
    /// [`LockFailure`](tantivy::TantivyError::LockFailure) with `LockBusy` if it has an owner.
    pub(crate) fn take(dir: &Path, disk: &Arc<dyn Disk>) -> tantivy::Result<Self> {
        let files = MmapDirectory::open(dir)?;
        let lock = files.acquire_lock(&INDEX_WRITER_LOCK)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            files,
            ownership: Arc::new(RwLock::new(Ownership::Taken(lock))),
            medium: Arc::new(Mutex::new(Medium::of(dir)?)),
            disk: Arc::clone(disk),
            known: Arc::default(),
        })
    }

    /// Takes it once more, after its writer was dropped.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) fn take_again(&self) -> tantivy::Result<Self> {
        let taken = Self::take(&self.dir, &self.disk)?;
        let lost = self.medium().lost();
        taken.medium().remember(lost);
        Ok(taken)
    }

    /// Has the names in the directory be those on the medium: a list that was replaced is replaced
    /// there, and a file that was removed does not come back.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        medium::sync_dir(&self.dir, &*self.disk)
    }

    /// Makes good what the owner before left, before anything is written: files that were removed
    /// since the directory was taken are gone for good. The commit that is there is brought to the
    /// medium if that can be done; if not, it is there all the same.
    ///
    /// # Errors
    /// The system's, if removed files could come back.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.sync_names()?;
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "the search index is not brought to the medium");
        }
        Ok(())
    }

    /// Whether a file could not be written to its end, so long ago that whoever wrote it knows. Once.
    pub(crate) fn takes_left_over(&self) -> bool {
        let is_known = |at: &mut Instant| at.elapsed() >= LEFT_OVER_AFTER;
        self.known.left_over_at().take_if(is_known).is_some()
    }

    /// Brings the newest commit to the medium, and removes what waited for that.
    ///
    /// # Errors
    /// The system's; also when the writer was dropped, and where a file of the commit was lost.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let synced = self.change(|_| {
            let mut batch = self.medium().begin()?;
            let synced = batch.sync(&self.dir, &*self.disk);
            let gone = self.medium().end(batch);
            // One that stays takes its room, and the next owner removes it.
            for path in gone {
                if let Err(error) = std::fs::remove_file(self.dir.join(&path)) {
                    tracing::warn!(%error, path = %path.display(), "a file of the search index is left over");
                }
            }
            synced
        });
        synced.unwrap_or_else(|| Err(over()))
    }

    fn medium(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what changes files, unless that is over; then nothing.
    fn change<T>(&self, work: impl FnOnce(&MmapDirectory) -> T) -> Option<T> {
        let ownership = self.ownership.read();
        let ownership = ownership.unwrap_or_else(PoisonError::into_inner);
        (!matches!(*ownership, Ownership::Over)).then(|| work(&self.files))
    }

    /// Whether a list could not be written, after which none is.
    pub(crate) fn has_failed(&self) -> bool {
        self.known.have_failed.load(Ordering::Acquire)
    }

    /// Writes the list, unless one before could not be written.
    fn write_list(&self, data: &[u8]) -> io::Result<()> {
        if self.has_failed() {
            return Err(io::Error::other("a list before could not be written"));
        }
        let written = medium::write_list(&self.dir, data);
        self.known
            .have_failed
            .store(written.is_err(), Ordering::Release);
        written
    }

    fn hand_over(&self) -> Result<DirectoryLock, LockError> {
        let ownership = self.ownership.write();
        let mut ownership = ownership.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *ownership, Ownership::Writing) {
            Ownership::Taken(lock) => Ok(DirectoryLock::from(Box::new(WriterLock {
                ownership: Arc::clone(&self.ownership),
                _lock: lock,
            }))),
            other => {
                *ownership = other;
                Err(LockError::LockBusy)
            }
        }
    }
}

/// A file that is being written.
struct Growing {
    file: File,
    path: PathBuf,
    medium: Arc<Mutex<Medium>>,
    known: Arc<Known>,
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|_| {
            let mut left_over = self.known.left_over_at();
            left_over.get_or_insert_with(Instant::now);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for Growing {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.file.flush()?;
        let medium = self.medium.lock();
        medium
            .unwrap_or_else(PoisonError::into_inner)
            .written(&self.path);
        Ok(())
    }
}

impl fmt::Debug for OwnedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl Directory for OwnedDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        if self.known.opened.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            // What it remembers of files that nobody has open any more goes with being asked for.
            self.files.get_cache_info();
        }
        self.files.get_file_handle(path)
    }

    /// When all is over, says that there is no such file: of any other answer the engine makes an
    /// error in the log.
    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        let deleted = self.change(|files| {
            let mut medium = self.medium();
            if medium.lets_go(path) {
                files.delete(path)
            } else {
                Ok(())
            }
        });
        deleted.unwrap_or_else(|| Err(DeleteError::FileDoesNotExist(path.to_path_buf())))
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.files.exists(path)
    }

    /// A file that was made is written to its end even if all is over meanwhile: it stands in the
    /// directory, no list names it, and so the next owner removes it.
    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let failed = |error| match io::Error::kind(&error) {
            ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_path_buf()),
            _ => OpenWriteError::wrap_io_error(error, path.to_path_buf()),
        };
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true);
        let made = self.change(|_| options.open(self.dir.join(path)));
        let file = made.unwrap_or_else(|| Err(over())).map_err(failed)?;
        Ok(BufWriter::new(Box::new(Growing {
            file,
            path: path.to_path_buf(),
            medium: Arc::clone(&self.medium),
            known: Arc::clone(&self.known),
        })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let failed = |error| match io::Error::kind(&error) {
            ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_path_buf()),
            _ => OpenReadError::wrap_io_error(error, path.to_path_buf()),
        };
        if path == Path::new(FILES) {
            let names = medium::names(&self.dir).map_err(failed)?;
            return Ok(serde_json::to_vec(&names).expect("texts are JSON"));
        }
        if path == Path::new(LIST) {
            return medium::read_list(&self.dir).map_err(failed);
        }
        self.files.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let written = self.change(|files| match path.to_str() {
            Some(FILES) => Ok(()),
            Some(LIST) => self.write_list(data),
            _ => files.atomic_write(path, data),
        });
        written.unwrap_or_else(|| Err(over()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        if lock.filepath == INDEX_WRITER_LOCK.filepath {
            self.hand_over()
        } else {
            self.files.acquire_lock(lock)
        }
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.files.watch(watch_callback)
    }
}

fn over() -> io::Error {
    io::Error::other("the writer of this directory was closed")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use stemma_domain::id::ResourceId;
    use stemma_domain::value::ResourceName;
    use tantivy::directory::TerminatingWrite as _;
    use tantivy::indexer::NoMergePolicy;
    use tantivy::{Index, IndexWriter};

    use super::*;
    use crate::fields::Fields;
    use crate::medium::SystemDisk;
    use crate::{Change, Checkpoint, Facets, OpenState, Options, Passages, SearchIndex};

    const LIST: &str = "list";

    fn take(dir: &Path) -> tantivy::Result<OwnedDirectory> {
        OwnedDirectory::take(dir, &(Arc::new(SystemDisk) as Arc<dyn Disk>))
    }

    fn is_busy(taken: &tantivy::Result<OwnedDirectory>) -> bool {
        use tantivy::TantivyError::LockFailure;
        matches!(taken, Err(LockFailure(LockError::LockBusy, _)))
    }

    #[test]
    fn a_directory_has_one_owner_until_its_writer_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path()).unwrap();
        assert!(is_busy(&take(dir.path())));
        let lock = first.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
        assert!(first.acquire_lock(&INDEX_WRITER_LOCK).is_err());
        assert!(is_busy(&take(dir.path())));
        drop(lock);
        let second = take(dir.path()).unwrap();
        assert!(first.acquire_lock(&INDEX_WRITER_LOCK).is_err());
        second.atomic_write(Path::new(LIST), b"new").unwrap();
        drop(second);
        // One that no writer ever had is free as well.
        take(dir.path()).unwrap();
    }

    /// What a merge had written on a disk that became full took the room of the log's writes, until
    /// something new was indexed, which nothing could be.
    #[test]
    fn what_a_merge_left_that_could_not_be_written_goes_without_another_commit() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("search");
        let index = SearchIndex::open(&place, &Options::default())
            .unwrap()
            .index;
        let left = place.join("half.store");
        let of_engine = index.shared.index.directory();
        drop(of_engine.open_write(Path::new("half.store")).unwrap());
        index.remove_left_over().unwrap();
        assert!(left.exists(), "nothing failed");
        let known = Arc::clone(&index.writing().directory.known);
        *known.left_over_at() = Some(Instant::now());
        index.remove_left_over().unwrap();
        assert!(left.exists(), "it may be written yet");
        *known.left_over_at() = Instant::now().checked_sub(LEFT_OVER_AFTER);
        index.remove_left_over().unwrap();
        assert!(!left.exists());
    }

    /// A merge that ended right behind a commit that had failed wrote its list with the segments of
    /// that commit, and the checkpoint of the one before.
    #[test]
    fn an_owner_that_could_not_write_a_list_writes_none_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let list = Path::new(medium::LIST);
        let unfinished = dir.path().join(medium::UNFINISHED[0]);
        let first = take(dir.path()).unwrap();
        fs::create_dir(&unfinished).unwrap();
        first.atomic_write(list, b"of a commit").unwrap_err();
        fs::remove_dir(&unfinished).unwrap();
        first.atomic_write(list, b"of a merge").unwrap_err();
        assert!(!dir.path().join(list).exists());
        drop(first);
        let next = take(dir.path()).unwrap();
        next.atomic_write(list, b"{}").unwrap();
        assert!(dir.path().join(list).exists());
    }

    #[test]
    fn nothing_is_changed_after_the_writer_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let owned = take(dir.path()).unwrap();
        let clone = Box::new(owned.clone()) as Box<dyn Directory>;
        let lock = owned.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
        clone.atomic_write(Path::new(LIST), b"old").unwrap();
        let mut begun = clone.open_write(Path::new("begun")).unwrap();
        drop(lock);
        for late in [&*clone, &owned] {
            assert!(late.atomic_write(Path::new(LIST), b"late").is_err());
            assert!(late.delete(Path::new(LIST)).is_err());
            assert!(late.open_write(Path::new("late")).is_err());
            assert_eq!(late.atomic_read(Path::new(LIST)).unwrap(), b"old");
        }
        begun.write_all(b"to its end").unwrap();
        begun.terminate().unwrap();
        let names = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".tantivy-writer.lock", "begun", LIST]);
    }

    #[test]
    fn letting_go_waits_for_what_is_being_changed() {
        let dir = tempfile::tempdir().unwrap();
        let owned = take(dir.path()).unwrap();
        let lock = owned.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
        let (is_in, when_in) = sync_channel(0);
        let (go_on, when_told) = sync_channel::<()>(0);
        let clone = owned.clone();
        let change = std::thread::spawn(move || {
            clone.change(|files| {
                is_in.send(()).unwrap();
                when_told.recv().unwrap();
                files.atomic_write(Path::new(LIST), b"in flight").unwrap();
            })
        });
        when_in.recv().unwrap();
        let let_go = std::thread::spawn(move || drop(lock));
        assert!(is_busy(&take(dir.path())));
        go_on.send(()).unwrap();
        let_go.join().unwrap();
        assert_eq!(fs::read(dir.path().join(LIST)).unwrap(), b"in flight");
        assert!(change.join().unwrap().is_some());
        take(dir.path()).unwrap();
    }

    /// Stops at the list of segments, before it is written, and goes on when it is told.
    #[derive(Clone, Debug)]
    struct Stopping {
        owned: OwnedDirectory,
        stop: Arc<Mutex<Option<Stop>>>,
    }

    #[derive(Debug)]
    struct Stop {
        is_there: SyncSender<()>,
        when_told: Receiver<()>,
    }

    impl Directory for Stopping {
        fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
            self.owned.get_file_handle(path)
        }

        fn delete(&self, path: &Path) -> Result<(), DeleteError> {
            self.owned.delete(path)
        }

        fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
            self.owned.exists(path)
        }

        fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
            self.owned.open_write(path)
        }

        fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
            self.owned.atomic_read(path)
        }

        fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
            if path == Path::new("meta.json")
                && let Some(stop) = self.stop.lock().unwrap().take()
            {
                stop.is_there.send(()).unwrap();
                stop.when_told.recv().unwrap();
            }
            self.owned.atomic_write(path, data)
        }

        fn sync_directory(&self) -> io::Result<()> {
            self.owned.sync_directory()
        }

        fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
            self.owned.acquire_lock(lock)
        }

        fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
            self.owned.watch(watch_callback)
        }
    }

    fn put(index: &SearchIndex, number: u64) {
        let facets = Facets {
            name: ResourceName::new("name").unwrap(),
            collection: None,
            entity_types: std::collections::BTreeSet::new(),
            archived: false,
            note: Vec::new(),
        };
        let put = Change::Put {
            resource: ResourceId::new(uuid::Uuid::from_u128(number.into())),
            facets,
            passages: Passages::Text("some words".to_owned()),
        };
        let checkpoint = Checkpoint {
            end: number,
            last: None,
        };
        index.apply(vec![put], checkpoint).unwrap();
    }

    /// A merge had asked whether its writer was still there, and wrote the list of segments when
    /// the next owner had removed the files that this list names: the index was moved aside as
    /// damaged, and was empty.
    #[test]
    fn a_merge_that_ends_after_the_next_open_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("search");
        let open = || SearchIndex::open(&dir, &Options::default()).unwrap();
        let index = open().index;
        (1..=3).for_each(|number| put(&index, number));
        let digest = index.digest().unwrap();
        drop(index);

        let stop = Arc::<Mutex<Option<Stop>>>::default();
        let stopping = Stopping {
            owned: take(&dir).unwrap(),
            stop: Arc::clone(&stop),
        };
        let index = Index::open(stopping).unwrap();
        Fields::new().register(&index);
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let (is_there, when_there) = sync_channel(0);
        let (go_on, when_told) = sync_channel(0);
        *stop.lock().unwrap() = Some(Stop {
            is_there,
            when_told,
        });
        let segments = index.searchable_segment_ids().unwrap();
        assert_eq!(segments.len(), 3);
        let merge = writer.merge(&segments);
        when_there.recv().unwrap();
        drop(writer);

        let opened = open();
        assert_eq!(opened.state, OpenState::Existing);
        go_on.send(()).unwrap();
        let merged = merge.wait();
        assert_eq!(opened.index.digest().unwrap(), digest);
        put(&opened.index, 4);
        let digest = opened.index.digest().unwrap();
        drop(opened);
        let opened = open();
        assert_eq!(opened.state, OpenState::Existing);
        assert_eq!(opened.index.digest().unwrap(), digest);
        assert!(merged.is_err());
    }
}
