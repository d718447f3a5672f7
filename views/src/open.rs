//! Opening a model: whatever is in the way is moved aside, never repaired.
//!
//! Invariant: after an open the rows are of one log up to `end`, or there are none.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkpointed::CheckpointedStore;
use crate::job_feed::JobFeed;
use crate::key;
use crate::model::Model;
use crate::row;
use crate::store::{self, Engine, StoreError};

/// How long an open waits for a handle that is being closed elsewhere.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Directories of engines that earlier releases had.
const FORMER_ENGINES: [&str; 1] = ["fjall"];
/// How often it looks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// How a model's rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The engine, sled by default; the setting `views.engine` is lsm-tree by default.
    pub engine: Engine,
    /// Bytes of the engine's cache, 64 MiB by default.
    pub cache_bytes: u64,
    /// Bytes of rows that lsm-tree gathers in memory before it writes a table, 32 MiB by default. Two
    /// or three times that is resident while much is written.
    pub memtable_bytes: u64,
    /// Whether merging is held from the opening on, as by
    /// [`hold_merging`](crate::CheckpointedStore::hold_merging); false by default.
    pub holds_merging: bool,
    /// Resources whose descriptors are kept decoded, 16,384 by default; one whose row is larger
    /// than 4 KiB counts as so many more.
    pub descriptors_max: usize,
    /// Most rows that one page of a list looks at, 10,000 by default; a page that found less
    /// than asked by then ends early, with a cursor.
    pub page_rows_max: usize,
    /// Bytes of rows that fill a page of a list, 16 MiB by default, however few items they are; one
    /// is always given.
    pub page_bytes_max: usize,
    /// Who is told of jobs that change; nobody by default.
    pub job_feed: JobFeed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Engine::Sled,
            cache_bytes: 64 << 20,
            memtable_bytes: 32 << 20,
            holds_merging: false,
            descriptors_max: 16_384,
            page_rows_max: 10_000,
            page_bytes_max: 16 << 20,
            job_feed: JobFeed::default(),
        }
    }
}

/// A model, and what was found where it was opened.
#[derive(Debug)]
pub struct Opened<M> {
    /// The model.
    pub model: M,
    /// What was found.
    pub state: OpenState,
}

/// What stood in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenState {
    /// Nothing: the model is empty.
    Fresh,
    /// Rows, to go on with.
    Existing,
    /// Something that cannot be used; it was moved aside and the model is empty.
    Replaced {
        /// Why it cannot be used.
        reason: String,
        /// Where it is now.
        kept_as: PathBuf,
    },
}

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made or moved, or the system does not let what is there be opened,
    /// which tells nothing of it. Nothing was moved.
    #[error("open {}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is nothing, and nothing was to be made.
    #[error("nothing in {}", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process, or another handle in this one, has it open. Nothing was changed.
    #[error("{} is open elsewhere", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// What is there cannot be used; or, when it was to be made, not even an empty one can.
    #[error("{} cannot be used: {reason}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why what is in a directory is not to be had.
enum Refused {
    Locked,
    Full,
    /// The system's own trouble.
    System(io::Error),
    Unusable(String),
}

impl Refused {
    fn told(self, dir: &Path) -> OpenError {
        let dir = dir.to_path_buf();
        match self {
            Self::Locked => OpenError::Locked { dir },
            Self::Full => {
                let source = io::ErrorKind::StorageFull.into();
                OpenError::Directory { dir, source }
            }
            Self::System(source) => OpenError::Directory { dir, source },
            Self::Unusable(reason) => OpenError::Unusable { dir, reason },
        }
    }
}

/// See [`Model::open`].
pub(crate) fn open<M: Model>(dir: &Path, options: &Options) -> Result<Opened<M>, OpenError> {
    let failed = |source| OpenError::Directory {
        dir: dir.to_path_buf(),
        source,
    };
    let existed = store_dir(dir, options.engine).exists();
    std::fs::create_dir_all(dir).map_err(failed)?;
    let reason = match try_open(dir, options) {
        Ok(model) => {
            remove_other_engines(dir, options.engine);
            let state = if existed {
                OpenState::Existing
            } else {
                OpenState::Fresh
            };
            return Ok(Opened { model, state });
        }
        Err(Refused::Unusable(reason)) => reason,
        // None of them tells anything of what is there.
        Err(refused) => return Err(refused.told(dir)),
    };
    let kept_as = move_aside(dir).map_err(failed)?;
    std::fs::create_dir_all(dir).map_err(failed)?;
    let model = try_open(dir, options).map_err(|refused| refused.told(dir))?;
    let state = OpenState::Replaced { reason, kept_as };
    Ok(Opened { model, state })
}

/// See [`Model::open_existing`].
pub(crate) fn open_existing<M: Model>(dir: &Path, options: &Options) -> Result<M, OpenError> {
    if !store_dir(dir, options.engine).exists() {
        let dir = dir.to_path_buf();
        return Err(OpenError::Missing { dir });
    }
    try_open(dir, options).map_err(|refused| refused.told(dir))
}

/// Each engine has a directory of its own, so that none meets another's files.
fn store_dir(dir: &Path, engine: Engine) -> PathBuf {
    dir.join(engine.to_string())
}

fn try_open<M: Model>(dir: &Path, options: &Options) -> Result<M, Refused> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match catch_unwind(AssertUnwindSafe(|| open_store(dir, options))) {
            Ok(Ok(model)) => return Ok(model),
            Ok(Err(StoreError::Locked { .. })) if Instant::now() < until => {
                // An engine's own threads may hold a directory a moment longer than its handle.
                std::thread::sleep(LOCK_LOOK);
            }
            Ok(Err(StoreError::Locked { .. })) => return Err(Refused::Locked),
            Ok(Err(StoreError::Full { .. })) => return Err(Refused::Full),
            Ok(Err(error)) => {
                let unusable = || Refused::Unusable(told(&error));
                return Err(system_trouble(&error).map_or_else(unusable, Refused::System));
            }
            Err(_) => {
                let reason = format!("{} panicked while opening", options.engine);
                return Err(Refused::Unusable(reason));
            }
        }
    }
}

/// The system's trouble behind an error, if it tells nothing of what is on disk: that something may
/// not be done (EPERM, EACCES), that threads or memory are short (EAGAIN, ENOMEM), or that too many
/// files are open (ENFILE, EMFILE). Any other may come of damage.
fn system_trouble(error: &(dyn Error + 'static)) -> Option<io::Error> {
    const CODES: [i32; 6] = [1, 11, 12, 13, 23, 24];
    let mut causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| {
        (*error).source()
    });
    let io = causes.find_map(|error| error.downcast_ref::<io::Error>())?;
    let code = io.raw_os_error().filter(|code| CODES.contains(code))?;
    Some(io::Error::from_raw_os_error(code))
}

fn open_store<M: Model>(dir: &Path, options: &Options) -> Result<M, StoreError> {
    let place = store_dir(dir, options.engine);
    let store = store::open(
        options.engine,
        &place,
        options.cache_bytes,
        options.memtable_bytes,
        options.holds_merging,
    )?;
    let is_empty = store.get(key::END)?.is_none();
    match store.get(key::FORMAT)?.as_deref() {
        Some([form]) if *form == M::FORM => {}
        None if is_empty => {
            store.commit(vec![(key::FORMAT.to_vec(), Some(vec![M::FORM]))])?;
        }
        other => {
            let problem = format!("rows of form {other:?}, not {}", M::FORM);
            return Err(row::unreadable(key::FORMAT, &problem));
        }
    }
    Ok(M::over(CheckpointedStore::over(store, dir)?, options))
}

fn remove_other_engines(dir: &Path, engine: Engine) {
    let others = Engine::ALL.into_iter().filter(|other| *other != engine);
    let dirs = others.map(|other| store_dir(dir, other));
    for left in dirs.chain(FORMER_ENGINES.map(|name| dir.join(name))) {
        if left.exists()
            && let Err(error) = std::fs::remove_dir_all(&left)
        {
            tracing::warn!(%error, path = %left.display(), "rows of another engine stay on disk");
        }
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
    let name = dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut free = (1_u32..).map(|n| dir.with_file_name(format!("{name}.unusable-{n}")));
    let kept_as = free
        .find(|path| !path.exists())
        .expect("numbers do not run out");
    std::fs::rename(dir, &kept_as)?;
    Ok(kept_as)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that were sound were moved aside, and folded again from the first event on, since too
    /// many files were open when a tenant was opened.
    #[test]
    fn the_systems_trouble_says_nothing_against_rows_and_all_else_does() {
        const EIO: i32 = 5;
        const EMFILE: i32 = 24;
        let engine = Engine::LsmTree;
        let failed = |error: lsm_tree::Error| StoreError::Engine {
            engine,
            source: error.into(),
        };
        let of_system = |code| failed(io::Error::from_raw_os_error(code).into());
        let found = system_trouble(&of_system(EMFILE)).unwrap();
        assert_eq!(found.raw_os_error(), Some(EMFILE));
        for damage in [
            of_system(EIO),
            failed(io::Error::from(io::ErrorKind::InvalidData).into()),
            failed(lsm_tree::Error::Unrecoverable),
        ] {
            assert!(system_trouble(&damage).is_none(), "{damage:?}");
        }
    }
}
