//! Opening views: whatever is in the way is moved aside, never repaired.
//!
//! Invariant: after an open the rows are of one log up to `end`, or there are none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::key;
use crate::row::FORMAT_VERSION;
use crate::store::{self, Engine, Store, StoreError};
use crate::views::Views;

/// How views are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The engine, sled by default.
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

/// Why no views could be opened, not even empty ones.
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
    /// The engine does not open an empty directory.
    #[error("open empty views")]
    Store(#[from] StoreError),
}

impl Views {
    /// Opens the views in a directory, making it when it is not there.
    ///
    /// An engine that fails or panics, and rows of another form, have the directory renamed to
    /// `<dir>.unusable-<n>`; the views are empty then, to be filled from the log.
    ///
    /// # Errors
    /// [`OpenError`] when not even empty views can be had.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
        let failed = |source| OpenError::Directory { dir: dir.to_path_buf(), source };
        let existed = dir.exists();
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match try_open(dir, options) {
            Ok(store) => {
                let views = Views::over(store, options)?;
                let state = if existed { OpenState::Existing } else { OpenState::Fresh };
                Ok(Opened { views, state })
            }
            Err(reason) => {
                let kept_as = move_aside(dir).map_err(failed)?;
                let store = store::open(options.engine, dir, options.cache_bytes)?;
                write_format(store.as_ref())?;
                let views = Views::over(store, options)?;
                Ok(Opened { views, state: OpenState::Replaced { reason, kept_as } })
            }
        }
    }
}

fn try_open(dir: &Path, options: &Options) -> Result<Arc<dyn Store>, String> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let store = store::open(options.engine, dir, options.cache_bytes)?;
        let format = store.get(key::FORMAT)?;
        let is_empty = store.get(key::END)?.is_none();
        Ok::<_, StoreError>((store, format, is_empty))
    }));
    let (store, format, is_empty) = match opened {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(told(&error)),
        Err(_) => return Err(format!("{} panicked while opening", options.engine)),
    };
    match format.as_deref() {
        Some([FORMAT_VERSION]) => Ok(store),
        None if is_empty => {
            write_format(store.as_ref()).map_err(|error| told(&error))?;
            Ok(store)
        }
        other => Err(format!("rows of form {other:?}, not {FORMAT_VERSION}")),
    }
}

fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn write_format(store: &dyn Store) -> Result<(), StoreError> {
    store.commit(vec![(key::FORMAT.to_vec(), Some(vec![FORMAT_VERSION]))])
}

/// Derived state: no directory sync is owed to it.
#[allow(clippy::disallowed_methods)]
fn move_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = (1u32..).map(|n| dir.with_file_name(format!("{name}.unusable-{n}")));
    let kept_as = free.into_iter().find(|path| !path.exists()).expect("numbers do not run out");
    std::fs::rename(dir, &kept_as)?;
    Ok(kept_as)
}
