//! Opening views: whatever is in the way is moved aside, never repaired.
//!
//! Invariant: after an open the rows are of one log up to `end`, or there are none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::key;
use crate::row::{self, FORMAT_VERSION};
use crate::store::{self, Engine, StoreError};
use crate::views::Views;

/// How long an open waits for a handle that is being closed elsewhere.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// How views are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The engine, fjall by default.
    pub engine: Engine,
    /// Bytes of the engine's cache, 64 MiB by default.
    pub cache_bytes: u64,
    /// Resources whose descriptors are kept decoded, 16,384 by default.
    pub descriptors_max: usize,
    /// Most rows that one page of a list looks at, 10,000 by default; a page that found less
    /// than asked by then ends early, with a cursor.
    pub page_rows_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Engine::Sled,
            cache_bytes: 64 << 20,
            descriptors_max: 16_384,
            page_rows_max: 10_000,
        }
    }
}

/// Views, and what was found where they were opened.
#[derive(Debug)]
pub struct Opened {
    /// The views.
    pub views: Views,
    /// What was found.
    pub state: OpenState,
}

/// What stood in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenState {
    /// Nothing: the views are empty.
    Fresh,
    /// Views, to go on with.
    Existing,
    /// Something that cannot be used; it was moved aside and the views are empty.
    Replaced {
        /// Why it cannot be used.
        reason: String,
        /// Where it is now.
        kept_as: PathBuf,
    },
}

/// Why no views could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made or moved.
    #[error("prepare {}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There are none, and none were to be made.
    #[error("no views in {}", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process, or another handle in this one, has them open. Nothing was changed.
    #[error("the views in {} are open elsewhere", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// What is there cannot be used; or, when they were to be made, not even empty ones can.
    #[error("the views in {} cannot be used: {reason}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a directory's views are not to be had.
enum Refused {
    Locked,
    Full,
    Unusable(String),
}

impl Refused {
    fn told(self, dir: &Path) -> OpenError {
        let dir = dir.to_path_buf();
        match self {
            Self::Locked => OpenError::Locked { dir },
            Self::Full => {
                let source = std::io::ErrorKind::StorageFull.into();
                OpenError::Directory { dir, source }
            }
            Self::Unusable(reason) => OpenError::Unusable { dir, reason },
        }
    }
}

impl Views {
    /// Opens the views in a directory, making it when it is not there.
    ///
    /// An engine that fails or panics, and rows of another form, have the directory renamed to
    /// `<dir>.unusable-<n>`; the views are empty then, to be filled from the log. What another
    /// engine left in the directory is removed.
    ///
    /// # Errors
    /// [`OpenError`] when not even empty views can be had, or when they are open elsewhere.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
        let failed = |source| OpenError::Directory {
            dir: dir.to_path_buf(),
            source,
        };
        let existed = store_dir(dir, options.engine).exists();
        std::fs::create_dir_all(dir).map_err(failed)?;
        let reason = match try_open(dir, options) {
            Ok(views) => {
                remove_other_engines(dir, options.engine);
                let state = if existed {
                    OpenState::Existing
                } else {
                    OpenState::Fresh
                };
                return Ok(Opened { views, state });
            }
            // Neither tells anything of what is there.
            Err(refused @ (Refused::Locked | Refused::Full)) => return Err(refused.told(dir)),
            Err(Refused::Unusable(reason)) => reason,
        };
        let kept_as = move_aside(dir).map_err(failed)?;
        std::fs::create_dir_all(dir).map_err(failed)?;
        let views = try_open(dir, options).map_err(|refused| refused.told(dir))?;
        let state = OpenState::Replaced { reason, kept_as };
        Ok(Opened { views, state })
    }

    /// Opens views that are there, and moves nothing aside.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_existing(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        if !store_dir(dir, options.engine).exists() {
            let dir = dir.to_path_buf();
            return Err(OpenError::Missing { dir });
        }
        try_open(dir, options).map_err(|refused| refused.told(dir))
    }
}

/// Each engine has a directory of its own, so that none meets another's files.
fn store_dir(dir: &Path, engine: Engine) -> PathBuf {
    dir.join(engine.to_string())
}

fn try_open(dir: &Path, options: &Options) -> Result<Views, Refused> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match catch_unwind(AssertUnwindSafe(|| open_store(dir, options))) {
            Ok(Ok(views)) => return Ok(views),
            Ok(Err(StoreError::Locked { .. })) if Instant::now() < until => {
                // An engine's own threads may hold a directory a moment longer than its handle.
                std::thread::sleep(LOCK_LOOK);
            }
            Ok(Err(StoreError::Locked { .. })) => return Err(Refused::Locked),
            Ok(Err(StoreError::Full { .. })) => return Err(Refused::Full),
            Ok(Err(error)) => return Err(Refused::Unusable(told(&error))),
            Err(_) => {
                let reason = format!("{} panicked while opening", options.engine);
                return Err(Refused::Unusable(reason));
            }
        }
    }
}

fn open_store(dir: &Path, options: &Options) -> Result<Views, StoreError> {
    let place = store_dir(dir, options.engine);
    let store = store::open(options.engine, &place, options.cache_bytes)?;
    let is_empty = store.get(key::END)?.is_none();
    match store.get(key::FORMAT)?.as_deref() {
        Some([FORMAT_VERSION]) => {}
        None if is_empty => {
            store.commit(vec![(key::FORMAT.to_vec(), Some(vec![FORMAT_VERSION]))])?;
        }
        other => {
            let problem = format!("rows of form {other:?}, not {FORMAT_VERSION}");
            return Err(row::unreadable(key::FORMAT, &problem));
        }
    }
    Views::over(store, dir, options)
}

fn remove_other_engines(dir: &Path, engine: Engine) {
    for other in Engine::ALL.into_iter().filter(|other| *other != engine) {
        let left = store_dir(dir, other);
        if left.exists()
            && let Err(error) = std::fs::remove_dir_all(&left)
        {
            tracing::warn!(%error, path = %left.display(), "rows of another engine stay on disk");
        }
    }
}

fn told(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Derived state: no directory sync is owed to it.
#[allow(clippy::disallowed_methods)]
fn move_aside(dir: &Path) -> std::io::Result<PathBuf> {
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
