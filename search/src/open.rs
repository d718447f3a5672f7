//! Opening an index: what cannot be used is put out of the way, never repaired.
//!
//! The engine keeps a checksum with each file but looks at none; here all are verified before
//! anything is read, so that damage shows when a process starts and not in the middle of a query.
//! Where the newest commit is not whole, since the machine stopped before it was on the medium, the
//! index goes back to the last one that was brought there.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tantivy::directory::error::LockError;
use tantivy::{Directory as _, Index, IndexReader, IndexSettings, ReloadPolicy, TantivyError};

use crate::checkpoint::{Checkpoint, PayloadError};
use crate::engine::panic_message;
use crate::error::{OpenError, SearchError};
use crate::fields::Fields;
use crate::index::{SearchIndex, Shared, Writing, read_commit};
use crate::matrix::Matrices;
use crate::medium::{self, Disk, LIST, SystemDisk, UNFINISHED};
use crate::options::Options;
use crate::owned::OwnedDirectory;
use crate::rank::Places;
use crate::write::open_writer;

/// How long an open waits for a handle that is being closed elsewhere.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(10);
/// Files that stand in a directory in which an index was begun to be made.
const BEGUN: [&str; 4] = [
    ".tantivy-writer.lock",
    ".tantivy-meta.lock",
    UNFINISHED[0],
    UNFINISHED[1],
];

/// An index, and what was found where it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub index: SearchIndex,
    /// What was found.
    pub state: OpenState,
}

/// What stood in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenState {
    /// Nothing: the index is empty.
    Fresh,
    /// An index, to go on with.
    Existing,
    /// An index whose newest commit is not whole: it is as of the last one that was brought to the
    /// medium.
    WentBack {
        /// What is wrong with the newest.
        reason: String,
    },
    /// Something that cannot be used; the index is empty.
    Replaced {
        /// Why it cannot be used.
        reason: String,
        /// Where it is now; none if it was sound but of another format, and removed.
        kept_as: Option<PathBuf>,
    },
}

/// Why what is in a directory is not to be had.
enum Refused {
    Locked,
    /// The system's own trouble, which tells nothing of what is there.
    System(io::Error),
    OtherFormat(String),
    Damaged(String),
}

impl From<TantivyError> for Refused {
    fn from(error: TantivyError) -> Self {
        match &error {
            TantivyError::LockFailure(LockError::LockBusy, _) => Self::Locked,
            _ => system_trouble(&error).map_or_else(|| Self::Damaged(told(&error)), Self::System),
        }
    }
}

impl From<SearchError> for Refused {
    fn from(error: SearchError) -> Self {
        system_trouble(&error).map_or_else(|| Self::Damaged(told(&error)), Self::System)
    }
}

/// Of whatever is no reading of what is there.
impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// See [`SearchIndex::open`].
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    open_on(dir, options, &(Arc::new(SystemDisk) as Arc<dyn Disk>))
}

/// The same, where files get to their medium some other way than the system's.
pub(crate) fn open_on(
    dir: &Path,
    options: &Options,
    disk: &Arc<dyn Disk>,
) -> Result<Opened, OpenError> {
    let failed = |source| OpenError::Directory {
        dir: dir.to_path_buf(),
        source,
    };
    let (reason, kept_as) = match try_open(dir, options, disk) {
        Ok(opened) => return Ok(opened),
        Err(Refused::Locked) => {
            let dir = dir.to_path_buf();
            return Err(OpenError::Locked { dir });
        }
        Err(Refused::System(source)) => return Err(failed(source)),
        Err(Refused::OtherFormat(reason)) => {
            std::fs::remove_dir_all(dir).map_err(failed)?;
            (reason, None)
        }
        Err(Refused::Damaged(reason)) => match open_earlier(dir, options, disk) {
            Ok(Opened { index, .. }) => {
                let state = OpenState::WentBack { reason };
                return Ok(Opened { index, state });
            }
            Err(Refused::Damaged(_) | Refused::OtherFormat(_)) => {
                (reason, Some(move_aside(dir).map_err(failed)?))
            }
            Err(refused) => return Err(refused.told(dir)),
        },
    };
    let opened = try_open(dir, options, disk).map_err(|refused| refused.told(dir))?;
    Ok(Opened {
        state: OpenState::Replaced { reason, kept_as },
        ..opened
    })
}

impl Refused {
    fn told(self, dir: &Path) -> OpenError {
        let dir = dir.to_path_buf();
        match self {
            Self::Locked => OpenError::Locked { dir },
            Self::System(source) => OpenError::Directory { dir, source },
            Self::OtherFormat(reason) | Self::Damaged(reason) => {
                OpenError::Unusable { dir, reason }
            }
        }
    }
}

/// Opens the index as of the commit that was last brought to the medium.
fn open_earlier(dir: &Path, options: &Options, disk: &Arc<dyn Disk>) -> Result<Opened, Refused> {
    let owned = OwnedDirectory::take(dir, disk)?;
    let went_back = medium::go_back(dir)?;
    drop(owned);
    if went_back {
        try_open(dir, options, disk)
    } else {
        Err(Refused::Damaged("there is no earlier commit".into()))
    }
}

fn try_open(dir: &Path, options: &Options, disk: &Arc<dyn Disk>) -> Result<Opened, Refused> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| open_once(dir, options, disk)));
        match opened {
            Ok(Err(Refused::Locked)) if Instant::now() < until => {
                // The engine's own threads may hold a directory a moment longer than its handle.
                std::thread::sleep(LOCK_LOOK);
            }
            Ok(opened) => return opened,
            Err(panic) => return Err(Refused::Damaged(panic_message(panic.as_ref()))),
        }
    }
}

fn open_once(dir: &Path, options: &Options, disk: &Arc<dyn Disk>) -> Result<Opened, Refused> {
    std::fs::create_dir_all(dir)?;
    let fields = Fields::new();
    let settings = IndexSettings {
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    // Before anything is read or judged: another process may be writing.
    let directory = OwnedDirectory::take(dir, disk)?;
    let (index, state) = if Index::exists(&directory).map_err(TantivyError::from)? {
        refuse_older_form(dir)?;
        (Index::open(directory.clone())?, OpenState::Existing)
    } else if is_begun(dir)? {
        let (schema, settings) = (fields.schema.clone(), settings.clone());
        let index = Index::create(directory.clone(), schema, settings)?;
        (index, OpenState::Fresh)
    } else {
        return Err(Refused::Damaged("the list of segments is missing".into()));
    };
    fields.register(&index);
    if index.schema() != fields.schema || *index.settings() != settings {
        return Err(Refused::OtherFormat("fields of another format".into()));
    }
    let payload = index.load_metas()?.payload;
    match Checkpoint::from_payload(payload.as_deref()) {
        Ok(_) => {}
        Err(error @ PayloadError::Format { .. }) => {
            return Err(Refused::OtherFormat(error.to_string()));
        }
        Err(error @ PayloadError::Unreadable) => return Err(Refused::Damaged(error.to_string())),
    }
    verify_files(&index)?;
    let reader = index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .doc_store_cache_num_blocks(options.row_cache_blocks)
        .try_into()?;
    verify_counts(&index, &reader)?;
    // Only now: it removes what the list does not name.
    let writer = open_writer::<Refused>(&index, &directory, options)?;
    let commit = Arc::new(read_commit(&index, &reader)?);
    let shared = Shared {
        dir: dir.to_path_buf(),
        options: options.clone(),
        fields,
        index,
        reader,
        matrices: Matrices::new(options.vector_cache_bytes),
        commit: RwLock::new(commit),
        writing: Mutex::new(Writing {
            writer: Some(writer),
            directory,
            synced_at: Instant::now(),
            is_discarded: false,
        }),
    };
    let index = SearchIndex {
        shared: Arc::new(shared),
    };
    Ok(Opened { index, state })
}

/// Whether a directory holds nothing, or an index that was begun and never finished.
fn is_begun(dir: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        if !BEGUN
            .iter()
            .any(|begun| entry.as_ref().is_ok_and(|e| e.file_name() == *begun))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a list of segments is of a form from before it had a seal.
fn refuse_older_form(dir: &Path) -> Result<(), Refused> {
    #[derive(serde::Deserialize)]
    struct Unsealed {
        payload: Option<String>,
    }
    let list = std::fs::read(dir.join(LIST)).map_err(TantivyError::from)?;
    let Ok(Unsealed { payload }) = serde_json::from_slice(&list) else {
        return Ok(());
    };
    let format = Checkpoint::from_payload(payload.as_deref());
    if let Err(error @ PayloadError::Format { .. }) = format {
        return Err(Refused::OtherFormat(error.to_string()));
    }
    Ok(())
}

/// Every file of every segment has the checksum that it was written with.
fn verify_files(index: &Index) -> Result<(), Refused> {
    let directory = index.directory();
    for path in index.load_metas()?.list_segment_files() {
        let exists = directory.exists(&path).map_err(TantivyError::from)?;
        // Deletions stand in a file only if there are some, and opening reads it then.
        let may_miss = path
            .extension()
            .is_some_and(|kind| kind == "del" || kind == "temp");
        if !exists && may_miss {
            continue;
        }
        if !exists
            || !directory
                .validate_checksum(&path)
                .map_err(TantivyError::from)?
        {
            let reason = format!("{} is missing or damaged", path.display());
            return Err(Refused::Damaged(reason));
        }
    }
    Ok(())
}

/// What the list of segments says is held against the files.
fn verify_counts(index: &Index, reader: &IndexReader) -> Result<(), Refused> {
    let wrong = || Refused::Damaged("segments are not what their list says".into());
    let searcher = reader.searcher();
    let metas = index.searchable_segment_metas()?;
    if metas.len() != searcher.segment_readers().len() {
        return Err(wrong());
    }
    for meta in metas {
        let readers = searcher.segment_readers().iter();
        let mut readers = readers.filter(|reader| reader.segment_id() == meta.id());
        let reader = readers.next().ok_or_else(wrong)?;
        let is_sound = reader.num_docs() == meta.num_docs()
            && Places::of(reader)?.count() == meta.max_doc()
            && reader
                .alive_bitset()
                .is_none_or(|alive| alive.bitset().max_value() == meta.max_doc());
        if !is_sound {
            return Err(wrong());
        }
    }
    Ok(())
}

/// The system's trouble behind an error, if it tells nothing of what is on disk.
fn system_trouble(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(TantivyError::SystemError(told)) = error.downcast_ref() {
            return Some(io::Error::other(told.clone()));
        }
        // No lock tells of what is locked.
        if let Some(TantivyError::LockFailure(LockError::IoError(io), _)) = error.downcast_ref() {
            return Some(again(io));
        }
        let direct = error.downcast_ref::<io::Error>();
        let shared = error.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref);
        if let Some(io) = direct.or(shared).or_else(|| behind(error)) {
            return (!tells_of_damage(io)).then(|| again(io));
        }
        next = error.source();
    }
    None
}

/// Whether an error says that what is on disk is not what was written. Of the system's own those
/// alone that can have no other cause: a file that is not there, and one that cannot be read.
fn tells_of_damage(error: &io::Error) -> bool {
    /// The medium's trouble.
    const EIO: i32 = 5;
    match error.raw_os_error() {
        Some(code) => code == EIO || error.kind() == ErrorKind::NotFound,
        // Whoever decodes a file says so in these.
        None => matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::UnexpectedEof
                | ErrorKind::Other
        ),
    }
}

/// An error that is shared, for one who wants it for himself.
fn again(error: &io::Error) -> io::Error {
    let code = error.raw_os_error();
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The engine hides some of the system's errors in fields.
fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    use tantivy::directory::error::{OpenDirectoryError, OpenReadError, OpenWriteError};
    match error.downcast_ref::<TantivyError>()? {
        TantivyError::IoError(io)
        | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error: io, .. })
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. })
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: io, .. }) => Some(io),
        _ => None,
    }
}

fn told(error: &dyn Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Derived state: no directory sync is owed to it.
#[allow(clippy::disallowed_methods)]
fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let mut free = (1_u32..).map(|n| dir.with_file_name(format!("{name}.unusable-{n}")));
    let kept_as = free
        .find(|path| !path.exists())
        .expect("numbers do not run out");
    std::fs::rename(dir, &kept_as)?;
    Ok(kept_as)
}

#[cfg(test)]
mod tests {
    use tantivy::directory::error::OpenReadError;

    use super::*;

    /// A process that had too many files open took its index for damaged, and moved it aside.
    #[test]
    fn only_what_reading_found_wrong_is_damage() {
        const EIO: i32 = 5;
        const OF_THE_SYSTEM: [i32; 5] = [12, 13, 23, 24, 28];
        let of_reading = |error| {
            let read = OpenReadError::wrap_io_error(error, PathBuf::from("a"));
            Refused::from(TantivyError::from(read))
        };
        for code in OF_THE_SYSTEM {
            let refused = of_reading(io::Error::from_raw_os_error(code));
            assert!(matches!(refused, Refused::System(io) if io.raw_os_error() == Some(code)));
        }
        let damage = [
            io::Error::from_raw_os_error(EIO),
            ErrorKind::NotFound.into(),
            ErrorKind::UnexpectedEof.into(),
            io::Error::new(ErrorKind::InvalidData, "a bad length"),
            io::Error::other("a bad length"),
        ];
        for error in damage {
            assert!(matches!(of_reading(error), Refused::Damaged(_)));
        }
        let lock = LockError::wrap_io_error(io::Error::from_raw_os_error(EIO));
        let refused = Refused::from(TantivyError::from(lock));
        assert!(matches!(refused, Refused::System(_)));
        let unsaid = Refused::from(TantivyError::InternalError("a checksum".into()));
        assert!(matches!(unsaid, Refused::Damaged(_)));
    }

    #[test]
    fn an_earlier_commit_that_cannot_be_read_now_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("search");
        drop(open(&place, &Options::default()).unwrap());
        let synced = place.join(medium::SYNCED);
        let list = std::fs::read(&synced).unwrap();
        std::fs::remove_file(&synced).unwrap();
        std::fs::create_dir(&synced).unwrap();
        std::fs::write(place.join(LIST), "torn").unwrap();
        let refused = open(&place, &Options::default());
        assert!(matches!(refused, Err(OpenError::Directory { .. })));
        assert_eq!(std::fs::read(place.join(LIST)).unwrap(), b"torn");
        std::fs::remove_dir(&synced).unwrap();
        std::fs::write(&synced, list).unwrap();
        let opened = open(&place, &Options::default()).unwrap();
        assert!(matches!(opened.state, OpenState::WentBack { .. }));
    }
}
